//! The store's one integration test: every promise of the port, on both twins, and what each twin promises beyond.
//!
//! `CASES` run on the embedded twin and on a real etcd that the test starts on loopback. Without an `etcd` on the
//! PATH that half is skipped with a line that says so, or fails if `FLARESHIFT_REQUIRE_ETCD=1`.
//! Read next: `twins.rs` (how the twins are made), `txn.rs`, `watch.rs`, `lease.rs`, `edge.rs` (the cases), `model.rs`
//! (both against a model), `crash.rs`, `damage.rs`, `faults.rs` (embedded alone), `etcd.rs`, `cluster.rs`, `secure.rs`
//! (etcd alone).

#![allow(clippy::unwrap_used)]

#[cfg(feature = "etcd")]
mod cluster;
mod crash;
mod damage;
mod edge;
#[cfg(feature = "etcd")]
mod etcd;
mod faults;
mod lease;
mod model;
#[cfg(feature = "etcd")]
mod secure;
mod twins;
mod txn;
mod watch;

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use store::{Key, Prefix};

pub use twins::Ctx;

/// One promise: its name and the code that tries to break it.
pub struct Case {
    name: &'static str,
    run: fn(Ctx) -> Pin<Box<dyn Future<Output = ()> + Send>>,
}

/// Names a case.
pub const fn case(name: &'static str, run: fn(Ctx) -> Pin<Box<dyn Future<Output = ()> + Send>>) -> Case {
    Case { name, run }
}

/// No case takes longer than this on a loaded machine; it only turns a hang into a failure.
const PATIENCE: Duration = Duration::from_secs(30);

fn cases() -> impl Iterator<Item = &'static Case> {
    txn::CASES.iter().chain(watch::CASES).chain(lease::CASES).chain(edge::CASES)
}

/// Runs all cases one after another and names those that failed.
async fn conform(twin: &str, make: impl AsyncFn() -> Ctx) {
    let mut failed = Vec::new();
    let mut count = 0;
    for case in cases() {
        count += 1;
        let ctx = make().await;
        let outcome = tokio::time::timeout(PATIENCE, tokio::spawn((case.run)(ctx))).await;
        if !matches!(outcome, Ok(Ok(()))) {
            failed.push(case.name);
        }
    }
    println!("{twin}: {count} cases, {} failed", failed.len());
    assert!(failed.is_empty(), "{twin} breaks: {failed:#?}");
    assert!(count >= 80, "the suite has shrunk to {count} cases");
}

/// A key under `t/`.
pub fn k(name: impl std::fmt::Display) -> Key {
    Key::for_test(format!("t/{name}"))
}

/// All keys of [`k`].
pub fn all() -> Prefix {
    Prefix::for_test("t/")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_embedded_twin_conforms() {
    conform("embedded", async || Ctx::embedded()).await;
}

#[cfg(feature = "etcd")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_etcd_twin_conforms() {
    let Some(server) = twins::Etcd::start_or_skip() else { return };
    let server = std::sync::Arc::new(server);
    conform("etcd", async || Ctx::etcd(server.clone()).await).await;
}

#[test]
fn case_names_are_unique() {
    let names: std::collections::BTreeSet<_> = cases().map(|case| case.name).collect();
    assert_eq!(names.len(), cases().count());
}
