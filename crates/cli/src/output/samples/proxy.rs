//! Samples of a proxy's books.

use api::convert::field::wire_span;
use model::Span;

use super::verified;

fn tally(shares: u64) -> Option<api::proxy::Tally> {
    // Shares of difficulty 65,536.
    Some(api::proxy::Tally { shares, work_hashes: (u128::from(shares) << 48).to_string() })
}

fn books(accepted: u64, refused: u64, rejected: u64) -> api::proxy::Books {
    let reasons = |reason: &str, shares: u64| {
        if shares == 0 { Default::default() } else { [(reason.to_owned(), shares)].into() }
    };
    api::proxy::Books {
        received: tally(accepted + refused + rejected + 10),
        in_flight: tally(1),
        accepted: tally(accepted),
        refused: tally(refused),
        counted: tally(4),
        keep_alive: tally(3),
        rejected: tally(rejected),
        unknown: tally(2),
        rejected_by_reason: reasons("low-difficulty", rejected),
        refused_by_reason: reasons("stale", refused),
    }
}

/// A proxy with two accounts, one of them without a pool.
pub fn proxy_stats() -> api::proxy::Stats {
    let upstream = |account: &str, state: api::proxy::UpstreamState| api::proxy::Upstream {
        account: account.into(),
        weight: 3,
        miners: 2,
        state: state.into(),
        pool: "stratum+tcp://pool.example:3333".into(),
        difficulty: None,
        trouble: None,
        private: false,
    };
    let up = api::proxy::Upstream {
        difficulty: Some(65_536.0),
        ..upstream("farm", api::proxy::UpstreamState::Up)
    };
    let trouble = Some("the pool cannot be reached: Connection refused".into());
    let away = api::proxy::Upstream { trouble, ..upstream("partner", api::proxy::UpstreamState::KeepAlive) };
    let worker = |name: &str, books| api::proxy::Worker { worker: name.into(), books: Some(books) };
    let verified = Some(verified());
    api::proxy::Stats {
        agent_version: "1.2.3".into(),
        listens: "127.0.0.1:3333".into(),
        uptime: wire_span(Span::minutes(90)),
        connections: 4,
        max_connections: 1_024,
        connected: 9,
        turned_away: 0,
        pool_sessions: 3,
        journal_failures: 0,
        upstreams: vec![up, away],
        total: Some(books(900, 5, 7)),
        workers: vec![worker("farm.rig1", books(890, 5, 0)), worker("farm.rig2", books(0, 0, 7))],
        groups: vec![api::proxy::Group { group: "outside".into(), connections: 4, verified }],
        balanced: true,
        refusals: [("stale".to_owned(), "job not found".to_owned())].into(),
        unclaimed: Some(3),
        refused: 12,
        bans: vec![api::proxy::Ban { peer: "192.0.2.7".into(), left: wire_span(Span::minutes(7)) }],
    }
}
