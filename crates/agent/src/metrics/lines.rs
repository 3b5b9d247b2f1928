//! One agent's lines on the page: what it read, what it may draw, what its proxy did, what waits for the controller.
//!
//! Unknown readings stay away. A proxy alone shows the lines of its books and of its outbox. Assumes one call for each agent and page.

use std::sync::atomic::Ordering;

use control::reflex::Cause;
use model::report::{EnvelopeState, Report};
use model::{ModuleId, Time, Watts};
use service::page::{Metric, Page};
use stratum::account::End;

use super::Part;
use crate::proxy;

/// Why the reflex drops loads.
pub(super) const CAUSES: [&str; 6] = ["armed", "blackout", "ceiling", "collapse", "frequency", "switch"];

/// Messages of a session: direction and kind.
pub(super) const SORTS: [super::Sort; 15] = [
    ("down", "directive"),
    ("down", "ledger"),
    ("down", "other"),
    ("down", "report"),
    ("down", "share_challenge"),
    ("down", "share_note"),
    ("down", "share_verdict"),
    ("down", "welcome"),
    ("up", "directive"),
    ("up", "hello"),
    ("up", "ledger"),
    ("up", "report"),
    ("up", "share_answer"),
    ("up", "share_note"),
    ("up", "unchanged"),
];

const AGE: Metric =
    Metric::gauge("flareshift_agent_report_age_seconds", "Time since the devices were last read.");
const METER: Metric = Metric::gauge("flareshift_agent_meter_watts", "Power at the module's meter.");
const POWER: Metric = Metric::gauge(
    "flareshift_agent_power_watts",
    "Power of a module by use; rest is what the meter shows beyond miners and GPU servers.",
);
const CEILING: Metric =
    Metric::gauge("flareshift_agent_ceiling_watts", "Most that the module may draw by its envelope.");
const FREQUENCY: Metric =
    Metric::gauge("flareshift_agent_frequency_hertz", "The island's frequency, from its wired module.");
const ENVELOPE: Metric = Metric::gauge(
    "flareshift_agent_envelope_state",
    "1 for the state the envelope is in: none, valid, or fallback once it has expired.",
);
const ENVELOPE_AGE: Metric = Metric::gauge(
    "flareshift_agent_envelope_age_seconds",
    "Time since the report that the envelope in force answers; a new or renewed one begins anew.",
);
const FINDINGS: Metric =
    Metric::gauge("flareshift_agent_findings", "What the agent finds wrong with its module now.");
const PROVEN: Metric = Metric::gauge(
    "flareshift_agent_proven_hashes_per_second",
    "Hash rate that verified shares prove, times the scale of the groups.",
);
const SHEDS: Metric =
    Metric::counter("flareshift_agent_reflex_actions_total", "Loads that the reflex dropped, by cause.");
const LINK: Metric =
    Metric::gauge("flareshift_agent_link_up", "1 while a session with a controller is there.");
const LINK_ENDS: Metric = Metric::counter(
    "flareshift_agent_sessions_ended_total",
    "Sessions with controllers, and tries at one, that ended, by cause.",
);
const MESSAGES: Metric = Metric::counter(
    "flareshift_agent_session_messages_total",
    "Messages of sessions with controllers, by direction and kind; down are the answers to what goes up.",
);
const BYTES: Metric = Metric::counter(
    "flareshift_agent_session_bytes_total",
    "Bytes of these messages as encoded; frames, TLS and TCP come on top.",
);
const BACKLOG: Metric = Metric::gauge(
    "flareshift_agent_outbox_segments",
    "Sealed ledger segments that wait for the controller; for a proxy alone, those kept.",
);
const SHARES: Metric =
    Metric::counter("flareshift_agent_shares_total", "Shares by how they ended at the proxy.");
const IN_FLIGHT: Metric =
    Metric::gauge("flareshift_agent_shares_in_flight", "Shares forwarded to a pool without an answer yet.");
const REJECTED: Metric =
    Metric::counter("flareshift_agent_shares_rejected_total", "Shares refused at the edge, by code.");
const POOL_SHARES: Metric = Metric::counter(
    "flareshift_agent_pool_shares_total",
    "Forwarded shares by pool and by what came of them.",
);
const POOL_UP: Metric = Metric::gauge(
    "flareshift_agent_pool_up",
    "1 for a pool with which a session is there; pools that stand back for a better one show 0.",
);
const PAID: Metric =
    Metric::gauge("flareshift_agent_pools_reachable", "1 while a session with any pool is there.");
const MINERS: Metric = Metric::gauge("flareshift_agent_miners_connected", "Miners that are connected.");
const TURNED_AWAY: Metric =
    Metric::counter("flareshift_agent_miners_refused_total", "Connections of miners refused, by reason.");
const BALANCED: Metric = Metric::gauge(
    "flareshift_agent_books_balanced",
    "1 while every share received has one end or is in flight; 0 is a defect.",
);
const JOURNAL: Metric = Metric::counter(
    "flareshift_agent_journal_failures_total",
    "Shares that the outbox could not record; none was acknowledged.",
);

/// The word for a cause.
pub(super) fn cause(cause: &Cause) -> &'static str {
    match cause {
        Cause::Armed(_) => "armed",
        Cause::Frequency => "frequency",
        Cause::Collapse => "collapse",
        Cause::Switch => "switch",
        Cause::Blackout => "blackout",
        Cause::Ceiling => "ceiling",
    }
}

/// Puts one agent on a page.
pub(super) fn write(page: &mut Page, module: &ModuleId, part: &Part, now: Time) {
    let module = module.as_str();
    let Part { reports, directive, proxy, tallies } = part;
    let report = reports.as_ref().and_then(|reports| reports.borrow().clone());
    if let Some(report) = &report {
        page.add(&AGE, &[("module", module)], now.since(report.at).as_secs_f64());
        reported(page, module, report);
        let held = directive.as_ref().and_then(|directive| directive.borrow().clone());
        let age = held.and_then(|held| report.stamp.since(&held.envelope.answers));
        page.add_known(&ENVELOPE_AGE, &[("module", module)], age.map(|age| age.as_secs_f64()));
    }
    if reports.is_some() {
        page.add(&LINK, &[("module", module)], switch(tallies.linked.load(Ordering::Relaxed)));
        for (cause, count) in tallies.sheds.counts() {
            page.count(&SHEDS, &[("module", module), ("cause", cause)], count);
        }
        for (cause, count) in tallies.ended.counts() {
            page.count(&LINK_ENDS, &[("module", module), ("cause", cause)], count);
        }
        for (metric, counters) in [(&MESSAGES, &tallies.messages), (&BYTES, &tallies.bytes)] {
            for ((direction, kind), count) in counters.counts() {
                page.count(metric, &[("module", module), ("direction", direction), ("kind", kind)], count);
            }
        }
    }
    page.add(&BACKLOG, &[("module", module)], tallies.backlog.load(Ordering::Relaxed) as f64);
    if let Some(proxy) = proxy {
        books(page, module, &proxy.stats());
        pools(page, module, &proxy.pools());
    }
}

fn reported(page: &mut Page, module: &str, report: &Report) {
    let labels = [("module", module)];
    page.add_known(&METER, &labels, report.meter.map(Watts::as_f64));
    for (name, watts) in uses(report) {
        page.add_known(&POWER, &[("module", module), ("use", name)], watts.map(Watts::as_f64));
    }
    page.add(&CEILING, &labels, report.envelope.ceiling.as_f64());
    let frequency = report.site.as_ref().and_then(|site| site.frequency);
    page.add_known(&FREQUENCY, &labels, frequency.map(|frequency| frequency.as_f64() / 1_000.0));
    let states = [
        ("none", EnvelopeState::None),
        ("valid", EnvelopeState::Valid),
        ("fallback", EnvelopeState::Fallback),
    ];
    for (name, state) in states {
        let is_in = switch(report.envelope.state == state);
        page.add(&ENVELOPE, &[("module", module), ("state", name)], is_in);
    }
    page.add(&FINDINGS, &labels, report.findings.len() as f64);
    let proven: Vec<f64> =
        report.groups.values().filter_map(|group| group.verified).map(|proof| proof.rate.as_f64()).collect();
    page.add_known(&PROVEN, &labels, (!proven.is_empty()).then(|| proven.iter().sum()));
}

/// Power of miners, of GPU servers, and what else the meter shows; each known only where all of its readings are.
fn uses(report: &Report) -> [(&'static str, Option<Watts>); 3] {
    let mining: Option<Vec<Watts>> = report.groups.values().map(|group| group.power).collect();
    let ai: Option<Vec<Watts>> = report.pools.values().map(|pool| pool.power).collect();
    let [mining, ai] = [mining, ai].map(|parts| parts.map(|parts| parts.into_iter().sum::<Watts>()));
    let known = mining.zip(ai).map(|(mining, ai)| mining + ai);
    let rest = report.meter.zip(known).map(|(meter, known)| (meter - known).at_least_zero());
    [("mining", mining), ("ai", ai), ("rest", rest)]
}

fn books(page: &mut Page, module: &str, stats: &proxy::Stats) {
    let sum = |which: fn(&End) -> bool| -> u64 {
        stats.ends.iter().filter(|(end, _)| which(end)).map(|(_, tally)| tally.shares).sum()
    };
    let ends = [
        ("accepted", sum(|end| *end == End::ForwardedAccepted)),
        ("refused", sum(|end| matches!(end, End::ForwardedRejected(_)))),
        ("rejected", sum(|end| matches!(end, End::RejectedLocally(_)))),
        ("counted", sum(|end| *end == End::CountedBelowUpstream)),
        ("keep_alive", sum(|end| *end == End::CountedKeepAlive)),
        ("unknown", sum(|end| *end == End::Unknown)),
    ];
    for (end, count) in ends {
        page.count(&SHARES, &[("module", module), ("result", end)], count);
    }
    for (code, count) in &stats.rejected {
        page.count(&REJECTED, &[("module", module), ("code", code)], *count);
    }
    let labels = [("module", module)];
    page.add(&IN_FLIGHT, &labels, stats.in_flight.shares as f64);
    page.add(&PAID, &labels, switch(stats.pool_up));
    page.add(&MINERS, &labels, stats.connections as f64);
    page.count(&TURNED_AWAY, &[("module", module), ("reason", "full")], stats.turned_away);
    page.count(&TURNED_AWAY, &[("module", module), ("reason", "banned")], stats.refused);
    page.add(&BALANCED, &labels, switch(stats.balanced));
    page.count(&JOURNAL, &labels, stats.journal_failures);
}

fn pools(page: &mut Page, module: &str, pools: &[proxy::PoolStatus]) {
    for pool in pools {
        let labels = [("module", module), ("pool", pool.pool.as_str())];
        page.add(&POOL_UP, &labels, switch(pool.up));
        let results = [("accepted", pool.accepted), ("refused", pool.refused), ("unknown", pool.unknown)];
        for (result, count) in results {
            page.count(&POOL_SHARES, &[labels[0], labels[1], ("result", result)], count);
        }
    }
}

fn switch(on: bool) -> f64 {
    f64::from(u8::from(on))
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeMap;

    use model::report::{EnvelopeReport, FeederState, GroupReport, PoolReport, Switch, Verified};
    use model::{BootStamp, Hashrate, MinerGroupId, PoolId, Span};
    use stratum::account::Tally;
    use stratum::verify::Reject;

    use super::*;

    pub(in crate::metrics) fn report(at: Time) -> Report {
        Report {
            module: ModuleId::new("m").unwrap(),
            sequence: 1,
            stamp: BootStamp { boot_id: "boot".into(), at: Span::secs(60) },
            at,
            meter: Some(Watts::new(13_000)),
            switch: Switch::Remote,
            groups: BTreeMap::new(),
            pools: BTreeMap::new(),
            runs: BTreeMap::new(),
            envelope: EnvelopeReport {
                fence: Default::default(),
                generation: 3,
                state: EnvelopeState::Valid,
                ceiling: Watts::new(20_000),
                refused: None,
            },
            site: None,
            findings: Vec::new(),
        }
    }

    fn group(power: Option<i64>) -> GroupReport {
        let verified = Verified { rate: Hashrate::tera(200), shares: 9, window: Span::minutes(5) };
        GroupReport {
            feeder: FeederState::Closed,
            awake: 3,
            point: 1,
            power: power.map(Watts::new),
            claimed: None,
            verified: Some(verified),
            connections: 3,
        }
    }

    fn page(module: &str, part: &Part) -> String {
        let mut page = Page::default();
        write(&mut page, &ModuleId::new(module).unwrap(), part, Time(3_500));
        page.text()
    }

    fn check(text: &str, series: &[&str]) {
        for series in series {
            assert!(text.contains(&format!("\n{series}\n")), "{series} in {text}");
        }
    }

    #[test]
    fn an_agent_shows_what_it_read_and_what_it_may_draw() {
        let mut report = report(Time(2_000));
        report.groups.insert(MinerGroupId::new("a").unwrap(), group(Some(9_000)));
        report.pools.insert(PoolId::new("p").unwrap(), PoolReport { up: 2, power: Some(Watts::new(3_000)) });
        let (part, _sender) = super::super::tests::part(Some(report));
        part.tallies.link(true);
        part.tallies.backlog(4);
        check(
            &page("m", &part),
            &[
                "flareshift_agent_report_age_seconds{module=\"m\"} 1.5",
                "flareshift_agent_meter_watts{module=\"m\"} 13000",
                "flareshift_agent_power_watts{module=\"m\",use=\"mining\"} 9000",
                "flareshift_agent_power_watts{module=\"m\",use=\"ai\"} 3000",
                "flareshift_agent_power_watts{module=\"m\",use=\"rest\"} 1000",
                "flareshift_agent_ceiling_watts{module=\"m\"} 20000",
                "flareshift_agent_envelope_state{module=\"m\",state=\"valid\"} 1",
                "flareshift_agent_envelope_state{module=\"m\",state=\"fallback\"} 0",
                "flareshift_agent_proven_hashes_per_second{module=\"m\"} 200000000000000",
                "flareshift_agent_link_up{module=\"m\"} 1",
                "flareshift_agent_outbox_segments{module=\"m\"} 4",
                "flareshift_agent_reflex_actions_total{module=\"m\",cause=\"armed\"} 0",
            ],
        );
    }

    #[test]
    fn what_was_not_read_is_left_out_and_never_zero() {
        let mut report = report(Time(2_000));
        report.groups.insert(MinerGroupId::new("a").unwrap(), group(None));
        let (part, _sender) = super::super::tests::part(Some(report));
        let text = page("m", &part);
        for absent in ["use=\"mining\"", "use=\"rest\"", "frequency_hertz", "envelope_age"] {
            assert!(!text.contains(absent), "{absent} in {text}");
        }
        check(&text, &["flareshift_agent_power_watts{module=\"m\",use=\"ai\"} 0"]);
    }

    #[test]
    fn the_books_show_every_end_and_each_pool() {
        let tally = |shares| Tally { shares, ..Tally::default() };
        let stats = proxy::Stats {
            in_flight: tally(2),
            ends: [
                (End::ForwardedAccepted, tally(7)),
                (End::RejectedLocally(Reject::Duplicate), tally(1)),
                (End::Unknown, tally(3)),
            ]
            .into(),
            rejected: [("duplicate", 1)].into(),
            balanced: true,
            connections: 5,
            turned_away: 6,
            ..proxy::Stats::default()
        };
        let pool = |pool: &str, up, accepted| proxy::PoolStatus {
            pool: pool.into(),
            up,
            accepted,
            ..proxy::PoolStatus::default()
        };
        let mut shown = Page::default();
        books(&mut shown, "m", &stats);
        pools(&mut shown, "m", &[pool("stratum+tcp://a:1", true, 7), pool("stratum+tcp://b:1", false, 0)]);
        check(
            &shown.text(),
            &[
                "flareshift_agent_shares_total{module=\"m\",result=\"accepted\"} 7",
                "flareshift_agent_shares_total{module=\"m\",result=\"keep_alive\"} 0",
                "flareshift_agent_shares_rejected_total{module=\"m\",code=\"duplicate\"} 1",
                "flareshift_agent_shares_in_flight{module=\"m\"} 2",
                "flareshift_agent_miners_connected{module=\"m\"} 5",
                "flareshift_agent_miners_refused_total{module=\"m\",reason=\"full\"} 6",
                "flareshift_agent_books_balanced{module=\"m\"} 1",
                "flareshift_agent_pool_up{module=\"m\",pool=\"stratum+tcp://a:1\"} 1",
                "flareshift_agent_pool_up{module=\"m\",pool=\"stratum+tcp://b:1\"} 0",
                "flareshift_agent_pool_shares_total{module=\"m\",pool=\"stratum+tcp://a:1\",result=\"accepted\"} 7",
            ],
        );
    }
}
