//! The etcd twin against an etcd that is away, killed, or behind a network that fell silent.
//!
//! Assumes: as `twins.rs`. The silent network is a small proxy that stops forwarding but closes nothing, as a
//! half-open connection does.
//! Read next: `cluster.rs`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use store::{Election, Error, Store, Txn, WatchEvent, key};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::twins::{Etcd, free_address, next, ready};
use crate::txn::put;
use crate::{all, k};

#[tokio::test]
async fn an_etcd_that_is_not_there_says_what_to_check() {
    let address = free_address();
    let store = store::open(&format!("etcd://{address}")).await.unwrap();
    let errors = [
        store.get(&k("a")).await.unwrap_err(),
        store.range(&all()).await.unwrap_err(),
        store.lease_grant(Duration::from_secs(5)).await.map(drop).unwrap_err(),
        store.txn(Txn::new().put(k("a"), vec![])).await.unwrap_err(),
    ];
    for error in errors {
        assert!(error.is_retryable(), "{error:?}");
        let text = error.to_string();
        assert!(text.contains(&address) && text.contains("check that etcd runs there"), "{text}");
    }
}

#[tokio::test]
async fn installations_do_not_see_each_other() {
    let Some(server) = Etcd::start_or_skip() else { return };
    let (one, two) = (server.store().await, server.store().await);
    put(&one, k("a"), "one").await;
    assert_eq!(two.get(&k("a")).await.unwrap(), None);
    assert_eq!(two.range(&store::Prefix::all()).await.unwrap().entries, []);
}

#[tokio::test]
async fn a_watch_and_a_leader_survive_a_restart_of_etcd() {
    let Some(server) = Etcd::start_or_skip() else { return };
    let store = server.store().await;
    let clock = store::Clock::boot();
    let election = Election::new(store.clone(), key::leader(), clock.clone());
    let leadership = election.campaign(b"me".to_vec(), Duration::from_secs(20)).await.unwrap();
    let mut watch = store.watch(&all(), None);
    next(&mut watch).await;
    let before = put(&store, k("a"), "1").await;
    server.kill();
    let error = store.get(&k("a")).await.unwrap_err();
    assert!(error.is_retryable(), "{error:?}");
    server.start();
    ready(&store).await;
    let after =
        store.txn(Txn::new().when(leadership.fence_compare()).put(k("a"), b"2".to_vec())).await.unwrap();
    assert!(after.succeeded, "the leader still leads");
    for revision in [before, after.revision] {
        let event = next(&mut watch).await;
        assert!(matches!(event, WatchEvent::Commit(_)), "no need to start over: {event:?}");
        assert_eq!(event.revision(), revision);
    }
    assert!(!leadership.may_be_gone(clock.now()));
}

#[tokio::test]
async fn an_idle_watch_is_not_interrupted() {
    let Some(server) = Etcd::start_or_skip() else { return };
    let proxy = Proxy::start(server.endpoint.clone()).await;
    let store = proxy.store().await;
    let mut watch = store.watch(&all(), None);
    next(&mut watch).await;
    let connections = proxy.connections();
    // A server loses patience at the fourth ping that comes too early: four times six seconds, and two to see it.
    assert!(tokio::time::timeout(Duration::from_secs(26), watch.next()).await.is_err());
    assert_eq!(proxy.connections(), connections, "the server closed the connection");
}

#[tokio::test]
async fn a_network_that_falls_silent_is_noticed_and_healed() {
    let Some(server) = Etcd::start_or_skip() else { return };
    let proxy = Proxy::start(server.endpoint.clone()).await;
    let store = proxy.store().await;
    let direct = store::open(&format!("etcd://{}/proxied", server.endpoint)).await.unwrap();
    let mut watch = store.watch(&all(), None);
    next(&mut watch).await;
    proxy.silent.send_replace(true);
    let started = Instant::now();
    let error = store.txn(Txn::new().put(k("a"), vec![])).await.unwrap_err();
    assert!(matches!(error, Error::UnknownOutcome { .. }), "{error:?}");
    assert!(store.get(&k("a")).await.unwrap_err().is_retryable());
    assert!(started.elapsed() < Duration::from_secs(20), "no call hangs");
    let revision = put(&direct, k("b"), "meanwhile").await;
    proxy.silent.send_replace(false);
    ready(&store).await;
    while next(&mut watch).await.revision() < revision {}
}

/// Forwards to `target`; while `silent`, bytes are swallowed in both directions and nothing is closed; while it is cut, every
/// connection is closed and none is taken.
pub struct Proxy {
    pub address: String,
    pub silent: Arc<watch::Sender<bool>>,
    cut: Arc<watch::Sender<bool>>,
    connections: Arc<watch::Sender<usize>>,
}

impl Proxy {
    pub async fn start(target: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let proxy = Self {
            address,
            silent: Arc::new(watch::Sender::new(false)),
            cut: Arc::new(watch::Sender::new(false)),
            connections: Arc::new(watch::Sender::new(0)),
        };
        let (silent, cut, connections) = (proxy.silent.clone(), proxy.cut.clone(), proxy.connections.clone());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                connections.send_modify(|count| *count += 1);
                let (target, silent, mut cut) = (target.clone(), silent.subscribe(), cut.subscribe());
                tokio::spawn(async move {
                    let Ok(server) = TcpStream::connect(&target).await else { return };
                    let (client_read, client_write) = client.into_split();
                    let (server_read, server_write) = server.into_split();
                    tokio::select! {
                        _ = cut.wait_for(|cut| *cut) => {}
                        () = forward(client_read, server_write, silent.clone()) => {}
                        () = forward(server_read, client_write, silent) => {}
                    }
                });
            }
        });
        proxy
    }

    pub fn cut(&self, cut: bool) {
        self.cut.send_replace(cut);
    }

    pub fn connections(&self) -> usize {
        *self.connections.borrow()
    }

    pub async fn store(&self) -> Store {
        let store = store::open(&format!("etcd://{}/proxied", self.address)).await.unwrap();
        ready(&store).await;
        store
    }
}

async fn forward(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    silent: watch::Receiver<bool>,
) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        if !*silent.borrow() && to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}
