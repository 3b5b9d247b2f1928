//! What the proxy is for: shares of many miners reach the pool once, and everybody's books say the same.
#![allow(clippy::unwrap_used)]

use agent::proxy::{Error, Proxy};
use model::ledger::ShareEnd;
use model::{Span, Work};
use serde_json::json;
use sim::hashing::Engine;
use sim::pool::Refusal;
use std::sync::Arc;

use super::plain::Plain;
use super::rig::{Ledger, Rig, config_for, credit, group_id, until};

#[tokio::test]
async fn the_pools_account_the_journal_and_the_miners_agree() {
    // The pool asks for twice what miners begin with: about half of the first shares are counted and not forwarded.
    let rig = Rig::new(-19).await;
    let engine = Engine::start().unwrap();
    let fleet = rig.fleet(&engine, &[("a", 6), ("b", 3)]).await;
    credit(&engine, &fleet, "a", 6, 40_000);
    credit(&engine, &fleet, "b", 3, 40_000);
    rig.drained(&engine, &fleet).await;
    rig.pool.handle().new_block();
    credit(&engine, &fleet, "a", 6, 40_000);
    rig.drained(&engine, &fleet).await;

    let (pool, stats, seen) = (rig.pool.handle().books(), rig.handle().stats(), fleet.total());
    let ends = rig.ledger.ends();
    let accepted = ends.get(&ShareEnd::Accepted).copied().unwrap_or(0);
    assert!(accepted > 20 && ends[&ShareEnd::Counted] > 5, "{ends:?}");
    assert_eq!(pool.total().accepted, accepted);
    assert_eq!(pool.total().work, rig.ledger.credited());
    // A share may be on its way upstream when the block comes; the pool refuses that one as stale, and nothing else.
    let late = pool.refused.get(&Refusal::Stale).copied().unwrap_or(0);
    assert_eq!(pool.refused_total(), late, "{:?}", pool.refused);
    let refused: u64 =
        ends.iter().filter(|(end, _)| matches!(end, ShareEnd::Refused(_))).map(|(_, n)| *n).sum();
    assert_eq!(refused, late);
    assert_eq!(pool.workers.keys().collect::<Vec<_>>(), ["acct"], "one account upstream");
    let mut paid: Vec<[u8; 32]> = pool.paid().copied().collect();
    paid.sort_unstable();
    assert_eq!(paid, rig.ledger.hashes(|end| *end == ShareEnd::Accepted));
    rig.ledger.check_claims();
    assert!(stats.balanced);
    assert_eq!(stats.received.shares, rig.ledger.all().len() as u64);
    assert_eq!((seen.submitted, seen.unanswered), (stats.received.shares, 0));
    // The only rejects are finds that were on their way when the block came, to the proxy or from it.
    let stale = stats.rejected.get("stale").copied().unwrap_or(0);
    assert!((stale..=stale + late).contains(&seen.rejected), "{:?} {late}", stats.rejected);
    assert_eq!((stats.connections, stats.connected, stats.pool_sessions), (9, 9, 1));
}

#[tokio::test]
async fn verified_work_over_simulated_time_is_the_hash_rate() {
    let rig = Rig::new(-20).await;
    let engine = Engine::start().unwrap();
    let fleet = rig.fleet(&engine, &[("a", 4), ("b", 1)]).await;
    credit(&engine, &fleet, "a", 4, 100_000);
    rig.drained(&engine, &fleet).await;
    rig.clock.advance(Span::secs(100));
    let status = rig.handle().verified();
    let a = status[&group_id("a")];
    let verified = a.verified.unwrap();
    let work: Work = rig.ledger.all().iter().map(|(share, _)| share.work.scaled(share.scale)).sum();
    assert_eq!(verified.rate.get(), (work.as_f64() / 100.0).round() as i64);
    assert_eq!(
        (a.connections, status[&group_id("b")].connections, status[&group_id("outside")].connections),
        (4, 1, 0)
    );
    // 400,000 hashes at scale 1000 in 100 s are 4 MH/s; of some 98 shares five sigma are a half.
    let expected = 4_000_000.0;
    assert!(
        (verified.rate.as_f64() / expected - 1.0).abs() < 5.0 * verified.relative_error(),
        "{verified:?}"
    );
    assert_eq!(status[&group_id("b")].verified.unwrap().shares, 0);
}

#[tokio::test]
async fn an_outside_miner_mines_through_with_scale_one() {
    let rig = Rig::new(-20).await;
    let mut plain = Plain::ready(rig.handle().address(), "bc1qstranger.rig0").await;
    let mut start = 0;
    for _ in 0..3 {
        let share = plain.mine(start);
        start = u32::from_str_radix(share[4].as_str().unwrap(), 16).unwrap() + 1;
        assert_eq!(plain.call("mining.submit", share).await["result"], json!(true));
    }
    until("the pool has answered", || rig.handle().stats().in_flight.shares == 0).await;
    assert_eq!(rig.pool.handle().total().accepted, 3);
    for (share, end) in rig.ledger.all() {
        assert_eq!((end, share.scale, share.group), (ShareEnd::Accepted, 1, group_id("outside")));
        assert_eq!((&*share.worker, &*share.miner), ("acct", "bc1qstranger.rig0"));
    }
}

#[tokio::test]
async fn miners_that_lose_power_go_and_come_back_with_another_slice() {
    let rig = Rig::new(-20).await;
    let engine = Engine::start().unwrap();
    let fleet = rig.fleet(&engine, &[("a", 3)]).await;
    let before = rig.handle().slice_counter();
    assert_eq!(before, 250 + 3);
    (0..3).for_each(|index| fleet.set_power(&group_id("a"), index, false));
    until("all are gone", || rig.handle().stats().connections == 0).await;
    assert_eq!(rig.handle().verified()[&group_id("a")].connections, 0);
    (0..2).for_each(|index| fleet.set_power(&group_id("a"), index, true));
    until("two are back", || fleet.total().connected == 2).await;
    assert_eq!(rig.handle().slice_counter(), before + 2);
    assert_eq!(fleet.claimed(&group_id("a")).get(), 2_000_000_000_000);
    fleet.shutdown().await;
    until("all are gone", || rig.handle().stats().connections == 0).await;
}

#[tokio::test]
async fn only_loopback_is_listened_on() {
    let mut config = config_for("127.0.0.1:9".into());
    config.listen = "0.0.0.0:0".parse().unwrap();
    let clock = Arc::clone(&Rig::new(-20).await.clock);
    let error = Proxy::start(config, clock, Box::new(Ledger::default())).await.unwrap_err();
    assert!(matches!(error, Error::NotLoopback(_)));
    assert!(error.to_string().contains("no authentication yet"), "{error}");
}

#[tokio::test]
async fn shares_recorded_twice_show_against_the_pools_account() {
    let rig = Rig::with(-20, |config| config.sabotage.count_twice = true).await;
    let mut plain = Plain::ready(rig.handle().address(), "acct.m1-a-0").await;
    assert_eq!(plain.submit_one(0).await["result"], json!(true));
    until("the pool has answered", || rig.handle().stats().in_flight.shares == 0).await;
    assert_eq!((rig.pool.handle().total().accepted, rig.ledger.ends()[&ShareEnd::Accepted]), (1, 2));
    let hashes = rig.ledger.hashes(|_| true);
    assert_eq!(hashes[0], hashes[1], "what the checker of the invariant looks for");
}

#[tokio::test]
async fn unverified_shares_show_in_the_pools_refusals() {
    let rig = Rig::with(-20, |config| config.sabotage.forward_unverified = true).await;
    let mut plain = Plain::ready(rig.handle().address(), "acct.m1-a-0").await;
    assert_eq!(plain.submit_one(0).await["result"], json!(true));
    assert!(plain.submit_one(0).await["error"].is_array(), "the same share again");
    until("the pool has answered both", || {
        let books = rig.pool.handle().books();
        books.total().accepted + books.refused_total() == 2
    })
    .await;
    assert_eq!(rig.pool.handle().total().accepted, 1);
}
