//! Miners that are connected already: moved to another account, or each with an upstream session of its own.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use agent::proxy::{Account, UpstreamState};
use model::ledger::ShareEnd;
use serde_json::json;
use sim::pool::Pool;
use stratum::keepalive;

use super::plain::Plain;
use super::pools::{another_pool, listener};
use super::rig::{Rig, until};

/// Two accounts of weights as given, each with a pool, and both pools are there.
async fn two_accounts(weights: (u32, u32)) -> (Rig, Pool) {
    let other = another_pool().await;
    let address = other.handle().address().to_string();
    let rig = Rig::with(-20, |config| {
        config.upstreams.weight = weights.0;
        config.upstreams.keep_alive = keepalive::Config { after_ms: 300, rotate_ms: 60_000 };
        let second =
            Account { name: "second".into(), password: "x".into(), weight: weights.1, pools: vec![address] };
        config.upstreams.others = vec![second];
    })
    .await;
    until("both accounts have a job", || {
        rig.handle().detail().upstreams.iter().all(|upstream| upstream.difficulty.is_some())
    })
    .await;
    (rig, other)
}

fn split(rig: &Rig) -> Vec<u32> {
    rig.handle().detail().upstreams.iter().map(|upstream| upstream.miners).collect()
}

/// Reads on until the miner was given another extranonce and a job for it; `false` when it was disconnected instead.
async fn is_moved(plain: &mut Plain) -> bool {
    let before = plain.extranonce1.clone();
    while plain.extranonce1 == before {
        if plain.hear().await.is_none() {
            return false;
        }
    }
    let told = plain.notifications;
    while plain.notifications == told {
        plain.hear().await.expect("a job follows the extranonce");
    }
    true
}

#[tokio::test]
async fn miners_follow_weights_that_change_and_each_share_is_its_accounts() {
    let (rig, other) = two_accounts((1, 0)).await;
    let mut miners = Vec::new();
    for index in 0..4 {
        miners.push(listener(&rig, &format!("acct.m1-a-{index}")).await);
    }
    assert_eq!(split(&rig), [4, 0]);
    assert!(!rig.handle().set_weights(&[1]), "there are two accounts");
    assert!(rig.handle().set_weights(&[0, 1]));
    // One a second, so that the load does not fall at once.
    for plain in &mut miners {
        assert!(is_moved(plain).await, "it listens to changes, so it stays connected");
        assert_eq!(plain.submit_one(0).await["result"], json!(true));
    }
    until("all have moved", || split(&rig) == [0, 4]).await;
    until("the other pool has all", || other.handle().total().accepted == 4).await;
    assert_eq!(rig.pool.handle().total().accepted, 0);
    assert_eq!((rig.handle().stats().connected, rig.handle().stats().connections), (4, 4));
    assert!(
        rig.ledger.all().iter().all(|(share, end)| &*share.worker == "second" && *end == ShareEnd::Accepted)
    );
}

#[tokio::test]
async fn a_miner_that_cannot_be_told_is_disconnected_and_comes_back_to_the_right_account() {
    let (rig, _other) = two_accounts((1, 0)).await;
    let mut plain = Plain::ready(rig.handle().address(), "acct.m1-a-0").await;
    rig.handle().set_weights(&[0, 1]);
    assert!(!is_moved(&mut plain).await);
    until("it is gone", || split(&rig) == [0, 0]).await;
    let _again = Plain::ready(rig.handle().address(), "acct.m1-a-0").await;
    assert_eq!(split(&rig), [0, 1]);
}

#[tokio::test]
async fn miners_leave_an_account_whose_pools_are_away_and_return_when_they_are_back() {
    let (rig, other) = two_accounts((1, 1)).await;
    let mut miners = Vec::new();
    for index in 0..2 {
        miners.push(listener(&rig, &format!("acct.m1-a-{index}")).await);
    }
    assert_eq!(split(&rig), [1, 1]);
    rig.pool.handle().go_away(Duration::from_secs(3_600));
    until("both work for the pool that is there", || split(&rig) == [0, 2]).await;
    let detail = rig.handle().detail();
    assert_eq!(
        (detail.upstreams[0].state, detail.upstreams[1].state),
        (UpstreamState::KeepAlive, UpstreamState::Up)
    );
    assert!(detail.upstreams[0].trouble.is_some());
    let moved = miners.iter_mut().find(|plain| plain.worker.ends_with("-0")).unwrap();
    assert!(is_moved(moved).await);
    assert_eq!(moved.submit_one(0).await["result"], json!(true));
    until("it pays", || other.handle().total().accepted == 1).await;
    rig.pool.handle().come_back();
    until("one has returned", || split(&rig) == [1, 1]).await;
    assert_eq!((rig.handle().stats().connected, rig.handle().stats().connections), (2, 2));
}

#[tokio::test]
async fn with_pass_through_each_miner_has_a_session_and_all_of_what_the_pool_gives() {
    let rig = Rig::with(-20, |config| config.upstreams.pass_through = true).await;
    let mut miners = Vec::new();
    for index in 0..3 {
        miners.push(Plain::ready(rig.handle().address(), &format!("acct.m1-a-{index}")).await);
    }
    let mut extranonces: Vec<&str> = miners.iter().map(|plain| plain.extranonce1.as_str()).collect();
    extranonces.sort_unstable();
    extranonces.dedup();
    assert_eq!(extranonces.len(), 3);
    assert!(
        miners.iter().all(|plain| plain.extranonce1.len() == 8),
        "the pool's four bytes and none of ours"
    );
    for plain in &mut miners {
        assert_eq!(plain.submit_one(0).await["result"], json!(true));
    }
    until("the pool has all", || rig.pool.handle().total().accepted == 3).await;
    assert_eq!(rig.handle().stats().pool_sessions, 3);
    assert!(rig.handle().detail().upstreams.iter().all(|upstream| upstream.private && upstream.miners == 1));
    miners.pop();
    until("its session went with it", || rig.handle().detail().upstreams.len() == 2).await;
    let _another = Plain::ready(rig.handle().address(), "acct.m1-a-3").await;
    assert_eq!((rig.handle().detail().upstreams.len(), rig.handle().stats().pool_sessions), (3, 4));
    assert!(rig.handle().stats().balanced);
}

#[tokio::test]
async fn with_pass_through_miners_stay_while_the_pool_is_away_and_search_apart() {
    let rig = Rig::with(-20, |config| {
        config.upstreams.pass_through = true;
        config.upstreams.keep_alive = keepalive::Config { after_ms: 300, rotate_ms: 60_000 };
    })
    .await;
    rig.pool.handle().go_away(Duration::from_secs(3_600));
    let mut one = Plain::ready(rig.handle().address(), "acct.m1-a-0").await;
    let two = Plain::ready(rig.handle().address(), "acct.m1-a-1").await;
    assert_ne!(one.extranonce1, two.extranonce1);
    assert_eq!(one.submit_one(0).await["result"], json!(true));
    assert_eq!(rig.ledger.ends(), [(ShareEnd::KeepAlive, 1)].into());
}
