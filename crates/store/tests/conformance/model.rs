//! The embedded twin against a model so plain that it is right by inspection.
//!
//! Assumes: random steps over few keys meet each other often. proptest prints what failed, shrunk.
//! Read next: `faults.rs`.

use std::collections::BTreeMap;

use proptest::prelude::*;
use store::{Compare, Entry, Op, Revision, Store, Txn, TxnOutcome, embedded};

use crate::twins::TempDir;
use crate::{all, k};

#[derive(Clone, Debug)]
enum Step {
    Txn(Txn),
    Compact(u64),
    Restart,
}

/// What a store is, without any of what makes it fast or safe.
struct Model {
    entries: BTreeMap<String, Entry>,
    revision: u64,
    compacted: u64,
}

impl Model {
    fn txn(&mut self, txn: &Txn) -> TxnOutcome {
        let succeeded = txn.compares.iter().all(|compare| self.holds(compare));
        let (mut gets, mut changed) = (Vec::new(), false);
        let next = Revision(self.revision + 1);
        for op in if succeeded { &txn.then } else { &txn.otherwise } {
            let name = op.key().to_string();
            match op {
                Op::Get { .. } => gets.push(self.entries.get(&name).cloned()),
                Op::Delete { .. } => changed |= self.entries.remove(&name).is_some(),
                Op::Put { key, value, .. } => {
                    changed = true;
                    let old = self.entries.get(&name);
                    let entry = Entry {
                        key: key.clone(),
                        value: value.clone(),
                        create_revision: old.map_or(next, |old| old.create_revision),
                        mod_revision: next,
                        version: old.map_or(1, |old| old.version + 1),
                        lease: None,
                    };
                    self.entries.insert(name, entry);
                }
            }
        }
        self.revision += u64::from(changed);
        TxnOutcome { succeeded, revision: Revision(self.revision), gets }
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

fn key() -> impl Strategy<Value = store::Key> {
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
    prop_oneof![
        20 => txn().prop_map(Step::Txn),
        2 => (0..30_u64).prop_map(Step::Compact),
        1 => Just(Step::Restart),
    ]
}

async fn check(steps: Vec<Step>) {
    let dir = TempDir::new("model");
    let open = || embedded::open(dir.path()).unwrap();
    let mut store: Option<Store> = Some(open());
    let mut model = Model { entries: BTreeMap::new(), revision: 1, compacted: 1 };
    for step in steps {
        match step {
            Step::Txn(txn) => {
                let expected = model.txn(&txn);
                assert_eq!(store.as_ref().unwrap().txn(txn).await.unwrap(), expected);
            }
            Step::Compact(to) => {
                let done = store.as_ref().unwrap().compact(Revision(to)).await.is_ok();
                assert_eq!(done, to > model.compacted && to <= model.revision);
                model.compacted = if done { to } else { model.compacted };
            }
            Step::Restart => {
                drop(store.take());
                store = Some(open());
            }
        }
        let range = store.as_ref().unwrap().range(&all()).await.unwrap();
        assert_eq!(range.revision.0, model.revision);
        assert_eq!(range.entries, model.entries.values().cloned().collect::<Vec<_>>());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_embedded_twin_equals_the_model(steps in prop::collection::vec(step(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(check(steps));
    }
}
