//! Pools that go away, come back, or never answer: nothing is counted twice and the miners stay.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use agent::proxy::Proxy;
use model::ledger::ShareEnd;
use serde_json::json;
use sim::hashing::Engine;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;

use super::plain::Plain;
use super::rig::{Ledger, Rig, config_for, credit, until};

#[tokio::test]
async fn a_pool_that_goes_and_comes_back_costs_no_miner_and_pays_nothing_twice() {
    let rig = Rig::new(-20).await;
    let engine = Engine::start().unwrap();
    let fleet = rig.fleet(&engine, &[("a", 5)]).await;
    credit(&engine, &fleet, "a", 5, 30_000);
    until("shares flow", || rig.pool.handle().total().accepted > 3).await;
    rig.pool.handle().go_away(Duration::from_secs(3_600));
    until("the proxy has seen it", || !rig.handle().stats().pool_up).await;
    rig.drained(&engine, &fleet).await;

    let unpaid = |rig: &Rig| rig.ledger.ends().get(&ShareEnd::KeepAlive).copied().unwrap_or(0);
    let before = unpaid(&rig);
    credit(&engine, &fleet, "a", 5, 30_000);
    rig.drained(&engine, &fleet).await;
    assert!(unpaid(&rig) > before + 3, "shares without a pool are verified and unpaid");
    assert_eq!(rig.handle().stats().connections, 5);

    let accepted = rig.pool.handle().total().accepted;
    rig.pool.handle().come_back();
    until("the session is new", || rig.handle().stats().pool_up).await;
    until("work of the new session pays", || {
        if engine.backlog() == 0 {
            credit(&engine, &fleet, "a", 5, 5_000);
        }
        rig.pool.handle().total().accepted > accepted + 3
    })
    .await;
    rig.drained(&engine, &fleet).await;
    rig.pool.handle().kill_connections();
    until("another session", || rig.handle().stats().pool_sessions >= 3 && rig.handle().stats().pool_up)
        .await;
    rig.drained(&engine, &fleet).await;

    let (stats, seen) = (rig.handle().stats(), fleet.total());
    assert_eq!((stats.connected, seen.connections, stats.connections), (5, 5, 5), "nobody had to reconnect");
    assert!(stats.balanced);
    check_payments(&rig);
}

/// The pool paid all that the journal calls accepted, nothing that it calls unpaid, and nothing twice; where no answer came it
/// may have paid.
fn check_payments(rig: &Rig) {
    let books = rig.pool.handle().books();
    let paid: BTreeSet<[u8; 32]> = books.paid().copied().collect();
    assert_eq!(paid.len() as u64, books.total().accepted, "none twice");
    assert_eq!(books.refused_total(), 0, "{:?}", books.refused);
    let accepted = rig.ledger.hashes(|end| *end == ShareEnd::Accepted);
    let unknown = rig.ledger.hashes(|end| *end == ShareEnd::Unknown);
    assert!(accepted.iter().all(|hash| paid.contains(hash)), "accepted is paid");
    let known: BTreeSet<[u8; 32]> = accepted.iter().chain(&unknown).copied().collect();
    assert!(paid.iter().all(|hash| known.contains(hash)), "paid is accepted or unknown");
    let all = rig.ledger.hashes(|_| true);
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len(), "one record a share");
    rig.ledger.check_claims();
}

/// Takes one session, and every share without an answer but for these words.
async fn mute_pool(listener: TcpListener, words: String) {
    let (stream, _) = listener.accept().await.unwrap();
    let (reader, mut writer) = stream.into_split();
    let mut lines = BufReader::new(reader).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let request: serde_json::Value = serde_json::from_str(&line).unwrap();
        let result = match request["method"].as_str() {
            Some("mining.configure") => json!({ "version-rolling": false }),
            Some("mining.subscribe") => json!([[], "0badcafe", 6]),
            Some("mining.submit") => {
                // The proxy may have left in the middle of them.
                let _ = writer.write_all(words.as_bytes()).await;
                continue;
            }
            _ => json!(true),
        };
        let mut reply = format!("{}\n", json!({ "id": request["id"], "result": result, "error": null }));
        if request["method"] == "mining.authorize" {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
            let ntime = format!("{now:08x}");
            let job = json!(["j", "11".repeat(32), "0100", "0200", [], "20000000", "1d00ffff", ntime, true]);
            let floor = 2f64.powi(-20);
            reply +=
                &format!("{}\n", json!({ "id": null, "method": "mining.set_difficulty", "params": [floor] }));
            reply += &format!("{}\n", json!({ "id": null, "method": "mining.notify", "params": job }));
        }
        writer.write_all(reply.as_bytes()).await.unwrap();
    }
}

#[tokio::test]
async fn shares_that_a_pool_never_answers_end_unknown_when_the_proxy_ends() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = config_for(listener.local_addr().unwrap().to_string());
    let pool = tokio::spawn(mute_pool(listener, String::new()));
    let ledger = Ledger::default();
    let clock = Arc::clone(&Rig::new(-20).await.clock);
    let proxy = Proxy::start(config, clock, Box::new(ledger.clone())).await.unwrap();
    let mut plain = Plain::ready(proxy.handle().address(), "acct.m1-a-0").await;
    assert_eq!(plain.submit_one(0).await["result"], json!(true), "the proxy's own word");
    assert_eq!(plain.submit_one(1 << 24).await["result"], json!(true));
    let stats = proxy.handle().stats();
    assert_eq!((stats.in_flight.shares, stats.balanced), (2, true));
    assert_eq!((ledger.intents(), ledger.all().len()), (2, 0), "intents stand before any outcome");
    proxy.shutdown().await;
    assert_eq!(ledger.ends(), [(ShareEnd::Unknown, 2)].into());
    pool.abort();
}

#[tokio::test]
async fn babble_of_a_pool_costs_its_session_and_no_miner() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = config_for(listener.local_addr().unwrap().to_string());
    let pool = tokio::spawn(mute_pool(listener, "babble\n".repeat(100)));
    let ledger = Ledger::default();
    let clock = Arc::clone(&Rig::new(-20).await.clock);
    let proxy = Proxy::start(config, clock, Box::new(ledger.clone())).await.unwrap();
    let mut plain = Plain::ready(proxy.handle().address(), "acct.m1-a-0").await;
    assert_eq!(plain.submit_one(0).await["result"], json!(true));
    until("the pool is given up", || !proxy.handle().stats().pool_up).await;
    assert_eq!(ledger.ends(), [(ShareEnd::Unknown, 1)].into());
    let told = || proxy.handle().detail().upstreams[0].trouble.clone();
    until("it says why", || told().is_some()).await;
    assert_eq!(plain.submit_one(1 << 24).await["result"], json!(true), "the miner is still there");
    let stats = proxy.handle().stats();
    assert_eq!((stats.connections, stats.connected, stats.balanced), (1, 1, true));
    pool.await.unwrap();
}

#[tokio::test]
async fn a_miner_that_comes_while_the_pool_is_away_gets_the_last_job() {
    let rig = Rig::new(-20).await;
    let _first = Plain::ready(rig.handle().address(), "acct.m1-a-0").await;
    rig.pool.handle().go_away(Duration::from_secs(3_600));
    until("the proxy has seen it", || !rig.handle().stats().pool_up).await;
    let mut late = Plain::ready(rig.handle().address(), "acct.m1-a-1").await;
    assert_eq!(late.submit_one(0).await["result"], json!(true));
    assert_eq!(rig.ledger.ends(), [(ShareEnd::KeepAlive, 1)].into());
}
