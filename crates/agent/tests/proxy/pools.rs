//! Several pools and several accounts: falling back, keeping miners alive, splitting by weight, being sent elsewhere.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use agent::proxy::Account;
use model::ledger::ShareEnd;
use serde_json::json;
use sim::pool::{self, Pool};
use stratum::keepalive;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;

use super::plain::Plain;
use super::rig::{Rig, until};

pub async fn another_pool() -> Pool {
    let config = pool::Config {
        listen: "127.0.0.1:0".parse().unwrap(),
        seed: 8,
        mark: 0,
        difficulty: 2f64.powi(-20),
        job_every: Duration::from_secs(30),
        block_every: Duration::from_secs(36_000),
    };
    Pool::start(config).await.unwrap()
}

/// Connects, with an ear for changes of the extranonce.
pub async fn listener(rig: &Rig, worker: &str) -> Plain {
    let mut plain = Plain::ready(rig.handle().address(), worker).await;
    plain.call("mining.extranonce.subscribe", json!([])).await;
    plain
}

#[tokio::test]
async fn the_backup_is_used_while_the_first_pool_is_away() {
    let backup = another_pool().await;
    let address = backup.handle().address().to_string();
    let rig = Rig::with(-20, |config| config.upstreams.backups = vec![address]).await;
    let mut plain = listener(&rig, "acct.m1-a-0").await;
    assert_eq!(plain.submit_one(0).await["result"], json!(true));
    until("the first pool has it", || rig.pool.handle().total().accepted == 1).await;
    rig.pool.handle().go_away(Duration::from_secs(3_600));
    until("the backup is in use", || rig.handle().stats().pool_sessions >= 2 && rig.handle().stats().pool_up)
        .await;
    let before = plain.notifications;
    while plain.notifications == before {
        plain.hear().await.expect("the miner stays, and gets the backup's job");
    }
    assert_eq!(plain.submit_one(0).await["result"], json!(true));
    until("the backup has it", || backup.handle().total().accepted == 1).await;
    assert_eq!((rig.handle().stats().connected, rig.handle().stats().connections), (1, 1));
    assert_eq!(rig.pool.handle().total().accepted, 1);
}

#[tokio::test]
async fn when_all_pools_are_away_miners_get_jobs_of_ours_and_come_back_to_the_pools() {
    let rig = Rig::with(-20, |config| {
        config.upstreams.keep_alive = keepalive::Config { after_ms: 300, rotate_ms: 1_500 };
    })
    .await;
    let mut plain = listener(&rig, "acct.m1-a-0").await;
    let pools_own = plain.job[1].clone();
    rig.pool.handle().go_away(Duration::from_secs(3_600));
    let mut previous = vec![pools_own];
    // Two jobs of ours, on two previous hashes.
    while previous.len() < 3 {
        plain.hear().await.expect("the miner stays");
        if previous.last() != Some(&plain.job[1]) {
            previous.push(plain.job[1].clone());
            assert_eq!(plain.submit_one(0).await["result"], json!(true));
        }
    }
    assert!(rig.ledger.ends()[&ShareEnd::KeepAlive] >= 2, "verified, and unpaid: {:?}", rig.ledger.ends());
    assert_eq!(rig.ledger.intents(), 0, "nothing was to be forwarded");
    // And a newcomer gets one too.
    let mut late = Plain::ready(rig.handle().address(), "acct.m1-a-1").await;
    assert_eq!(late.submit_one(0).await["result"], json!(true));
    rig.pool.handle().come_back();
    until("the pool is back", || rig.handle().stats().pool_up).await;
    let before = plain.extranonce1.clone();
    while plain.extranonce1 == before {
        plain.hear().await.expect("the miner stays");
    }
    let told = plain.notifications;
    while plain.notifications == told {
        plain.hear().await.expect("a job for the new extranonce follows");
    }
    assert_eq!(plain.submit_one(0).await["result"], json!(true));
    until("the pool has it", || rig.pool.handle().total().accepted >= 1).await;
    assert!(rig.handle().stats().balanced);
}

#[tokio::test]
async fn miners_are_split_over_accounts_by_weight_and_each_pays_its_own() {
    let other = another_pool().await;
    let address = other.handle().address().to_string();
    let rig = Rig::with(-20, |config| {
        config.upstreams.weight = 3;
        let second = Account { name: "second".into(), password: "x".into(), weight: 1, pools: vec![address] };
        config.upstreams.others = vec![second];
    })
    .await;
    until("both pools are there", || rig.handle().stats().pool_sessions == 2).await;
    // Both must have given a job before weights can hold.
    tokio::time::timeout(Duration::from_secs(60), async {
        let mut probe = Vec::new();
        while other.handle().books().total().accepted == 0 {
            let mut plain = Plain::ready(rig.handle().address(), "acct.m1-a-9").await;
            plain.submit_one(0).await;
            probe.push(plain);
            if probe.len() > 8 {
                probe.clear();
            }
        }
    })
    .await
    .unwrap();
    until("nobody is there", || rig.handle().stats().connections == 0).await;
    let (first, second) = (rig.pool.handle().total().accepted, other.handle().total().accepted);
    let mut miners = Vec::new();
    for index in 0..8 {
        let mut plain = Plain::ready(rig.handle().address(), &format!("acct.m1-a-{index}")).await;
        assert_eq!(plain.submit_one(1).await["result"], json!(true));
        miners.push(plain);
    }
    until("all is answered", || rig.handle().stats().in_flight.shares == 0).await;
    assert_eq!(other.handle().total().accepted - second, 2, "one in four");
    assert_eq!(rig.pool.handle().total().accepted - first, 6);
    let accounts =
        rig.ledger.all().into_iter().filter(|(share, _)| &*share.worker == "second").count() as u64;
    assert_eq!(accounts, other.handle().total().accepted, "the ledger names the account");
    rig.ledger.check_claims();
}

/// Gives each connection one line, and counts them.
async fn sends_away(listener: TcpListener, line: String) {
    while let Ok((stream, _)) = listener.accept().await {
        let (reader, mut writer) = stream.into_split();
        let _ = BufReader::new(reader).lines().next_line().await;
        let _ = writer.write_all(format!("{line}\n").as_bytes()).await;
        tokio::time::sleep(Duration::from_secs(3_600)).await;
    }
}

#[tokio::test]
async fn a_pool_may_send_us_to_another_port_of_its_own_host() {
    let real = another_pool().await;
    let port = real.handle().address().port();
    let door = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = door.local_addr().unwrap().to_string();
    let line =
        json!({ "id": null, "method": "client.reconnect", "params": ["127.0.0.1", port, 0] }).to_string();
    let task = tokio::spawn(sends_away(door, line));
    let rig = Rig::with(-20, |config| config.pool = address).await;
    let mut plain = Plain::ready(rig.handle().address(), "acct.m1-a-0").await;
    assert_eq!(plain.submit_one(0).await["result"], json!(true));
    until("it was the other port", || real.handle().total().accepted == 1).await;
    task.abort();
}

#[tokio::test]
async fn to_another_domain_we_do_not_go() {
    let thief = another_pool().await;
    let port = thief.handle().address().port();
    let door = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = door.local_addr().unwrap().to_string();
    let line =
        json!({ "id": null, "method": "client.reconnect", "params": ["localhost", port, 0] }).to_string();
    let task = tokio::spawn(sends_away(door, line));
    let backup = another_pool().await;
    let second = backup.handle().address().to_string();
    let rig = Rig::with(-20, |config| {
        config.pool = address;
        config.upstreams.others =
            vec![Account { name: "b".into(), password: "x".into(), weight: 1, pools: vec![second] }];
    })
    .await;
    let mut plain = Plain::ready(rig.handle().address(), "acct.m1-a-0").await;
    assert_eq!(plain.submit_one(0).await["result"], json!(true));
    until("the other account has it", || backup.handle().total().accepted == 1).await;
    assert_eq!(thief.handle().total().accepted, 0);
    task.abort();
}

#[tokio::test]
async fn a_pool_that_does_not_speak_tls_is_not_talked_to_in_plain() {
    let backup = another_pool().await;
    let address = backup.handle().address().to_string();
    let rig = Rig::with(-20, |config| {
        config.pool = format!("stratum+ssl://{}", config.pool);
        config.upstreams.backups = vec![address];
    })
    .await;
    let mut plain = Plain::ready(rig.handle().address(), "acct.m1-a-0").await;
    assert_eq!(plain.submit_one(0).await["result"], json!(true));
    until("the backup has it", || backup.handle().total().accepted == 1).await;
    assert_eq!(rig.pool.handle().total().accepted, 0);
    let wrong = agent::proxy::Proxy::start(
        agent::proxy::Config {
            pool: "https://pool.example:1".into(),
            ..super::rig::config_for(String::new())
        },
        rig.clock.clone(),
        Box::new(rig.ledger.clone()),
    );
    assert!(wrong.await.unwrap_err().to_string().contains("is no address of a pool"));
}
