//! Both twins against a model so plain that it is right by inspection.
//!
//! The model counts revisions from its own 1; on an etcd that has seen other cases its 1 is whatever the server stands at.
//! Assumes: random steps over few keys meet each other often. proptest prints what failed, shrunk.
//! Read next: `faults.rs`.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use store::{
    Change, Compare, Entry, Key, LeaseId, Op, Revision, Store, Txn, TxnOutcome, WatchEvent, embedded,
};

use crate::twins::{DrivenClock, TempDir, next};
use crate::{all, k};

/// Leases that live beside each other in the model.
const LEASES: usize = 3;
/// Long enough that none expires by itself.
const TTL: std::time::Duration = std::time::Duration::from_secs(600);

#[derive(Clone, Debug)]
enum Step {
    /// A transaction whose compares count revisions as the model does, and the slots of the leases of its puts, in order.
    Txn(Txn, Vec<Option<usize>>),
    Compact(u64),
    /// Grants a lease in a slot, and revokes the one before.
    Grant(usize),
    Revoke(usize),
    /// Only the embedded twin is started again.
    Restart,
}

/// What a store is, without any of what makes it fast or safe.
struct Model {
    entries: BTreeMap<String, Entry>,
    revision: u64,
    compacted: u64,
    /// What each revision since the first changed, for watches.
    history: BTreeMap<u64, Vec<Change>>,
}

impl Model {
    fn txn(&mut self, txn: &Txn) -> TxnOutcome {
        let succeeded = txn.compares.iter().all(|compare| self.holds(compare));
        let (mut gets, mut changes) = (Vec::new(), Vec::new());
        let next = Revision(self.revision + 1);
        for op in if succeeded { &txn.then } else { &txn.otherwise } {
            let name = op.key().to_string();
            match op {
                Op::Get { .. } => gets.push(self.entries.get(&name).cloned()),
                Op::Delete { key } => {
                    changes.extend(self.entries.remove(&name).map(|_| Change::Delete(key.clone())))
                }
                Op::Put { key, value, lease } => {
                    let old = self.entries.get(&name);
                    let entry = Entry {
                        key: key.clone(),
                        value: value.clone(),
                        create_revision: old.map_or(next, |old| old.create_revision),
                        mod_revision: next,
                        version: old.map_or(1, |old| old.version + 1),
                        lease: *lease,
                    };
                    changes.push(Change::Put(entry.clone()));
                    self.entries.insert(name, entry);
                }
            }
        }
        self.took(changes);
        TxnOutcome { succeeded, revision: Revision(self.revision), gets }
    }

    fn end_lease(&mut self, lease: LeaseId) {
        let held: Vec<Key> = self
            .entries
            .values()
            .filter(|entry| entry.lease == Some(lease))
            .map(|entry| entry.key.clone())
            .collect();
        let delete = |key: Key| {
            self.entries.remove(key.as_str());
            Change::Delete(key)
        };
        let changes = held.into_iter().map(delete).collect();
        self.took(changes);
    }

    fn took(&mut self, changes: Vec<Change>) {
        if !changes.is_empty() {
            self.revision += 1;
            self.history.insert(self.revision, changes);
        }
    }

    fn holds(&self, compare: &Compare) -> bool {
        let entry = self.entries.get(compare.key().as_str());
        match compare {
            Compare::Absent(_) => entry.is_none(),
            Compare::Exists(_) => entry.is_some(),
            Compare::CreateRevision { is, .. } => entry.map_or(0, |entry| entry.create_revision.0) == is.0,
            Compare::ModRevision { is, .. } => entry.map_or(0, |entry| entry.mod_revision.0) == is.0,
            Compare::Version { is, .. } => entry.map_or(0, |entry| entry.version) == *is,
        }
    }
}

fn key() -> impl Strategy<Value = Key> {
    (0..5).prop_map(k)
}

fn compare() -> impl Strategy<Value = Compare> {
    let revision = || (0..12_u64).prop_map(Revision);
    prop_oneof![
        key().prop_map(Compare::Absent),
        key().prop_map(Compare::Exists),
        (key(), revision()).prop_map(|(key, is)| Compare::CreateRevision { key, is }),
        (key(), revision()).prop_map(|(key, is)| Compare::ModRevision { key, is }),
        (key(), 0..4_u64).prop_map(|(key, is)| Compare::Version { key, is }),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => (key(), any::<[u8; 2]>()).prop_map(|(key, value)| Op::Put { key, value: value.into(), lease: None }),
        2 => key().prop_map(|key| Op::Delete { key }),
        1 => key().prop_map(|key| Op::Get { key }),
    ]
}

fn txn() -> impl Strategy<Value = Txn> {
    let ops = || prop::collection::vec(op(), 0..5);
    (prop::collection::vec(compare(), 0..3), ops(), ops())
        .prop_map(|(compares, then, otherwise)| Txn { compares, then, otherwise })
        .prop_filter("no key is written twice", |txn| txn.check().is_ok())
}

fn step() -> impl Strategy<Value = Step> {
    let slots = || prop::collection::vec(prop::option::weighted(0.3, 0..LEASES), 10);
    prop_oneof![
        20 => (txn(), slots()).prop_map(|(txn, slots)| Step::Txn(txn, slots)),
        2 => (0..30_u64).prop_map(Step::Compact),
        2 => (0..LEASES).prop_map(Step::Grant),
        1 => (0..LEASES).prop_map(Step::Revoke),
        1 => Just(Step::Restart),
    ]
}

/// A store beside its model.
struct Pair {
    store: Store,
    model: Model,
    /// The store's revision that the model calls 0.
    base: u64,
    leases: [Option<LeaseId>; LEASES],
}

impl Pair {
    /// On a store under whose prefix nothing is.
    async fn new(store: Store) -> Self {
        let present = store.range(&all()).await.unwrap();
        assert_eq!(present.entries, []);
        // An etcd that others used forgets what was before, as a fresh store has nothing to forget. Somebody may have done it.
        let _ = store.compact(present.revision).await;
        let model = Model { entries: BTreeMap::new(), revision: 1, compacted: 1, history: BTreeMap::new() };
        Self { store, model, base: present.revision.0 - 1, leases: [None; LEASES] }
    }

    async fn run(&mut self, step: Step) {
        match step {
            Step::Txn(txn, slots) => self.txn(txn, &slots).await,
            Step::Compact(to) => {
                let done = self.store.compact(Revision(to + self.base)).await.is_ok();
                assert_eq!(done, to > self.model.compacted && to <= self.model.revision);
                self.model.compacted = if done { to } else { self.model.compacted };
            }
            Step::Grant(slot) => {
                self.revoke(slot).await;
                self.leases[slot] = Some(self.store.lease_grant(TTL).await.unwrap().id);
            }
            Step::Revoke(slot) => self.revoke(slot).await,
            Step::Restart => {}
        }
        self.check_range().await;
    }

    async fn txn(&mut self, mut txn: Txn, slots: &[Option<usize>]) {
        let mut slots = slots.iter();
        for op in txn.then.iter_mut().chain(&mut txn.otherwise) {
            if let Op::Put { lease, .. } = op {
                *lease = slots.next().copied().flatten().and_then(|slot| self.leases[slot]);
            }
        }
        let expected = self.model.txn(&txn);
        for compare in &mut txn.compares {
            if let Compare::CreateRevision { is, .. } | Compare::ModRevision { is, .. } = compare {
                is.0 += if is.0 == 0 { 0 } else { self.base };
            }
        }
        let mut outcome = self.store.txn(txn).await.unwrap();
        outcome.revision.0 -= self.base;
        outcome.gets.iter_mut().flatten().for_each(|entry| shift(entry, self.base));
        assert_eq!(outcome, expected);
    }

    async fn revoke(&mut self, slot: usize) {
        if let Some(lease) = self.leases[slot].take() {
            self.store.lease_revoke(lease).await.unwrap();
            self.model.end_lease(lease);
        }
    }

    async fn check_range(&self) {
        let mut range = self.store.range(&all()).await.unwrap();
        assert_eq!(range.revision.0 - self.base, self.model.revision);
        range.entries.iter_mut().for_each(|entry| shift(entry, self.base));
        assert_eq!(range.entries, self.model.entries.values().cloned().collect::<Vec<_>>());
    }

    /// A watch from each revision tells the rest of the history, or starts over where that is compacted.
    async fn check_watches(&self) {
        for from in 1..=self.model.revision {
            let mut watch = self.store.watch(&all(), Some(Revision(from + self.base)));
            if from <= self.model.compacted {
                let event = next(&mut watch).await;
                assert!(matches!(event, WatchEvent::Snapshot(_)), "from {from}: {event:?}");
                continue;
            }
            for (revision, changes) in self.model.history.range(from..) {
                let WatchEvent::Commit(mut commit) = next(&mut watch).await else { panic!("from {from}") };
                for change in &mut commit.changes {
                    if let Change::Put(entry) = change {
                        shift(entry, self.base);
                    }
                }
                assert_eq!(
                    (commit.revision.0 - self.base, &commit.changes),
                    (*revision, changes),
                    "from {from}"
                );
            }
        }
    }
}

fn shift(entry: &mut Entry, base: u64) {
    entry.create_revision.0 -= base;
    entry.mod_revision.0 -= base;
}

fn run(cases: u32, check: impl Fn(Vec<Step>)) {
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    let outcome = TestRunner::new(config).run(&prop::collection::vec(step(), 1..40), |steps| {
        check(steps);
        Ok(())
    });
    outcome.unwrap_or_else(|error| panic!("{error}"));
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

#[test]
fn the_embedded_twin_equals_the_model() {
    let runtime = runtime();
    run(64, |steps| {
        runtime.block_on(async {
            let (dir, driven) = (TempDir::new("model"), DrivenClock::default());
            let open = || embedded::open_with_clock(dir.path(), driven.clock()).unwrap();
            let mut pair = Pair::new(open()).await;
            for step in steps {
                if matches!(step, Step::Restart) {
                    // Opened elsewhere for a moment, so that the directory is free.
                    let elsewhere = TempDir::new("model-elsewhere");
                    drop(std::mem::replace(&mut pair.store, embedded::open(elsewhere.path()).unwrap()));
                    pair.store = open();
                }
                pair.run(step).await;
            }
            pair.check_watches().await;
        });
    });
}

#[cfg(feature = "etcd")]
#[test]
fn the_etcd_twin_equals_the_model() {
    let Some(server) = crate::twins::Etcd::start_or_skip() else { return };
    let runtime = runtime();
    // Each step waits for a disk.
    run(20, |steps| {
        runtime.block_on(async {
            let store = server.store().await;
            // On an etcd without any past a watch from its very first revision has nothing to miss.
            crate::txn::put(&store, Key::for_test("before"), "x").await;
            let mut pair = Pair::new(store).await;
            for step in steps {
                pair.run(step).await;
            }
            pair.check_watches().await;
        });
    });
}
