//! The etcd twin against a cluster of three whose members die, and against a compaction while its watch is cut off.
//!
//! Assumes: as `etcd.rs`.
//! Read next: `secure.rs`.

use std::time::{Duration, Instant};

use store::{Compare, Error, Store, Txn, WatchEvent, etcd};

use crate::etcd::Proxy;
use crate::twins::{Etcd, free_address, next, ready};
use crate::txn::{delete, put};
use crate::{all, k};

/// Writes one number after another, as a careful caller does: what surely failed is sent again, what may have happened is read
/// back first.
async fn write(store: &Store, number: u64) {
    let key = k(format!("{number:04}"));
    let txn =
        || Txn::new().when(Compare::Absent(key.clone())).put(key.clone(), number.to_string().into_bytes());
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        match store.txn(txn()).await {
            Ok(outcome) => {
                assert!(
                    outcome.succeeded,
                    "{number} was there already, though every earlier try surely failed"
                );
                return;
            }
            Err(Error::UnknownOutcome { .. }) if present(store, &key, deadline).await => return,
            Err(error) => {
                let again = error.is_retryable() || matches!(error, Error::UnknownOutcome { .. });
                assert!(again && Instant::now() < deadline, "{number}: {error:?}");
            }
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn present(store: &Store, key: &store::Key, deadline: Instant) -> bool {
    loop {
        match store.get(key).await {
            Ok(entry) => return entry.is_some(),
            Err(error) => assert!(error.is_retryable() && Instant::now() < deadline, "{error:?}"),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_member_of_three_dies_in_turn_and_nothing_is_lost_or_done_twice() {
    let Some(members) = Etcd::cluster_or_skip(&["one", "two", "three"]) else { return };
    let endpoints: Vec<&str> = members.iter().map(|member| member.endpoint.as_str()).collect();
    let store = store::open(&format!("etcd://{}/three", endpoints.join(","))).await.unwrap();
    ready(&store).await;
    let mut watch = store.watch(&all(), None);
    next(&mut watch).await;
    let mut number = 0;
    for member in &members {
        for _ in 0..5 {
            write(&store, number).await;
            number += 1;
        }
        member.kill();
        let killed = Instant::now();
        write(&store, number).await;
        println!(
            "a write went through {} ms after member {number} / 6 was killed",
            killed.elapsed().as_millis()
        );
        number += 1;
        member.start();
        ready(&store).await;
    }
    for member in &members[..2] {
        member.kill();
    }
    let error = store.txn(Txn::new().put(k("late"), vec![])).await.unwrap_err();
    assert!(error.is_retryable() || matches!(error, Error::UnknownOutcome { .. }), "{error:?}");
    for member in &members[..2] {
        member.start();
    }
    ready(&store).await;
    write(&store, number).await;
    let mut seen: Vec<String> = Vec::new();
    while seen.last() != Some(&format!("t/{number:04}")) {
        match next(&mut watch).await {
            WatchEvent::Commit(commit) => {
                seen.extend(commit.changes.iter().map(|change| change.key().to_string()));
            }
            // A member that has just come back lags behind what was delivered, so the watch starts over with what is true.
            WatchEvent::Snapshot(range) => {
                let keys: Vec<String> = range.entries.iter().map(|entry| entry.key.to_string()).collect();
                assert!(seen.iter().all(|key| keys.contains(key)), "lost on the way: {seen:?} and {keys:?}");
                seen = keys;
                seen.retain(|key| key != "t/late");
            }
        }
    }
    seen.retain(|key| key != "t/late");
    let expected: Vec<String> = (0..=number).map(|number| format!("t/{number:04}")).collect();
    assert_eq!(seen, expected, "each once and in order");
}

#[tokio::test]
async fn dead_endpoints_before_a_living_one_cost_no_call() {
    let Some(server) = Etcd::start_or_skip() else { return };
    let direct = server.store().await;
    put(&direct, k("up"), "x").await;
    let address = format!("etcd://{},{},{}/dead", free_address(), free_address(), server.endpoint);
    let store = store::open(&address).await.unwrap();
    for round in 0..20 {
        put(&store, k(round), "x").await;
        assert!(store.get(&k(round)).await.unwrap().is_some());
    }
}

#[tokio::test]
async fn a_compaction_while_the_watch_is_cut_off_leaves_no_gap() {
    let Some(server) = Etcd::start_or_skip() else { return };
    let proxy = Proxy::start(server.endpoint.clone()).await;
    let store = proxy.store().await;
    let direct = store::open(&format!("etcd://{}/proxied", server.endpoint)).await.unwrap();
    for name in ["stays", "changes", "goes"] {
        put(&direct, k(name), "old").await;
    }
    let mut watch = store.watch(&all(), None);
    assert!(matches!(next(&mut watch).await, WatchEvent::Snapshot(range) if range.entries.len() == 3));

    // Cut off, but nothing compacted: the past is replayed.
    proxy.cut(true);
    let changed = put(&direct, k("changes"), "new").await;
    proxy.cut(false);
    let event = next(&mut watch).await;
    assert!(matches!(&event, WatchEvent::Commit(commit) if commit.revision == changed), "{event:?}");

    // Cut off, and the past is compacted away, the deletion with it.
    proxy.cut(true);
    put(&direct, k("comes"), "new").await;
    let last = delete(&direct, k("goes")).await;
    direct.compact(last).await.unwrap();
    put(&direct, k("after"), "new").await;
    proxy.cut(false);
    let WatchEvent::Snapshot(range) = next(&mut watch).await else { panic!("a silent gap") };
    let names: Vec<_> = range.entries.iter().map(|entry| entry.key.as_str()).collect();
    assert_eq!(names, ["t/after", "t/changes", "t/comes", "t/stays"]);
    let on = put(&direct, k("on"), "x").await;
    assert_eq!(next(&mut watch).await.revision(), on);
}

#[tokio::test]
async fn short_pings_find_a_silent_network_sooner_where_the_server_allows_them() {
    let extra = vec!["--grpc-keepalive-min-time=500ms".to_owned()];
    let Some(server) = Etcd::start_with("http", extra) else { return };
    let proxy = Proxy::start(server.endpoint.clone()).await;
    let options = etcd::Options {
        prefix: "proxied/".into(),
        timeout: Duration::from_secs(1),
        keep_alive: (Duration::from_secs(1), Duration::from_secs(1)),
        ..etcd::Options::default()
    };
    let store = etcd::connect(std::slice::from_ref(&proxy.address), options).await.unwrap();
    ready(&store).await;
    let mut watch = store.watch(&all(), None);
    next(&mut watch).await;
    let before = proxy.connections();
    proxy.silent.send_replace(true);
    let noticed = async {
        while proxy.connections() == before {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let started = Instant::now();
    tokio::time::timeout(Duration::from_secs(10), noticed).await.expect("the silence is noticed");
    println!("a silent connection was given up after {} ms", started.elapsed().as_millis());
    let direct = store::open(&format!("etcd://{}/proxied", server.endpoint)).await.unwrap();
    let revision = put(&direct, k("meanwhile"), "x").await;
    proxy.silent.send_replace(false);
    while next(&mut watch).await.revision() < revision {}
}
