//! The recorder against an embedded store's cache: what is joined, what goes out at once, what is lost and what is not.
#![allow(clippy::unwrap_used)]

use model::Time;
use model::event::{What, Who};
use store::Change;
use store::record::decode_entry;

use super::*;
use crate::cache::Stored;
use crate::records::ModuleRecord;
use crate::testing::{self, TestDir, module_id};

fn lost(at: i64) -> Event {
    Event::new(Time(at), What::Lost, Who::Controller)
}

fn of(module: &str) -> Subject {
    Subject::Module(module_id(module))
}

/// A cache that knows so many modules.
fn fleet(modules: usize) -> Cache {
    let one = testing::fleet().modules.remove(0);
    let mut cache = Cache::default();
    for index in 0..modules {
        let record = ModuleRecord { module: one.clone(), cordoned: false, draining: false };
        let stored = Stored { value: Arc::new(record), revision: Revision(1) };
        cache.put_module(module_id(&format!("m{index}")), stored);
    }
    cache
}

/// Does to the cache what a store does with a transaction.
async fn carry_out(store: &store::Store, txn: Txn, cache: &mut Cache) -> bool {
    let keys: Vec<Key> = txn.then.iter().map(|op| op.key().clone()).collect();
    let outcome = store.txn(txn).await.unwrap();
    if outcome.succeeded {
        let mut changes = Vec::new();
        for key in keys {
            let entry = store.get(&key).await.unwrap();
            changes.push(entry.map_or(Change::Delete(key), Change::Put));
        }
        cache.apply(&store::WatchEvent::Commit(store::Commit { revision: outcome.revision, changes }));
    }
    outcome.succeeded
}

fn times(history: &History) -> Vec<u32> {
    history.events.iter().map(|event| event.times).collect()
}

#[tokio::test]
async fn ten_thousand_modules_lost_at_once_are_a_hundred_transactions() {
    let dir = TestDir::new("events-burst");
    let (store, events, mut cache) = (dir.store(), Recorder::default(), fleet(10_000));
    for round in 0..3 {
        for index in 0..10_000 {
            events.note(of(&format!("m{index}")), lost(round));
        }
    }
    let mut transactions = 0;
    while let Some(txn) = events.next(&cache).unwrap() {
        assert!(txn.check().is_ok());
        assert!(carry_out(&store, txn, &mut cache).await);
        events.settled(true);
        transactions += 1;
    }
    assert_eq!((transactions, cache.histories.len(), events.dropped()), (100, 10_000, 0));
    assert!(cache.histories.values().all(|stored| times(&stored.value) == [3]));
    let bytes: usize =
        store.range(&key::events()).await.unwrap().entries.iter().map(|entry| entry.value.len()).sum();
    assert!(bytes < 10_000 * 200, "{bytes} bytes");
}

#[tokio::test]
async fn full_histories_fit_a_transaction_and_are_read_back() {
    let dir = TestDir::new("events-full");
    let (store, events, mut cache) = (dir.store(), Recorder::default(), fleet(BATCH));
    for index in 0..BATCH {
        for at in 0..100 {
            // Quotes are two bytes each in JSON.
            let text = "\"".repeat(model::event::MAX_TEXT - usize::try_from(at % 2).unwrap());
            events.note(of(&format!("m{index}")), lost(at).saying(&text));
        }
    }
    let txn = events.next(&cache).unwrap().unwrap();
    assert_eq!((txn.then.len(), txn.check().is_ok()), (BATCH, true));
    assert!(carry_out(&store, txn, &mut cache).await);
    let entry = store.get(&key(&of("m7"))).await.unwrap().unwrap();
    let HistoryRecord(history) = decode_entry(&entry).unwrap();
    assert_eq!(history.older + events_in(&history), 100);
    assert!(entry.value.len() < 2 * model::event::MAX_BYTES, "{}", entry.value.len());
}

fn events_in(history: &History) -> u64 {
    super::events(history)
}

#[tokio::test]
async fn whoever_describes_an_object_sees_each_event_once_at_any_time() {
    let dir = TestDir::new("events-read");
    let (store, events, mut cache) = (dir.store(), Recorder::default(), fleet(2));
    let seen = |cache: &Cache| {
        let history = events.history(cache, &of("m1"));
        history.events.iter().map(|event| event.at.0).collect::<Vec<i64>>()
    };
    let note = |at: i64| events.note(of("m1"), lost(at).saying(&at.to_string()));
    note(1);
    assert_eq!(seen(&cache), [1]);
    let txn = events.next(&cache).unwrap().unwrap();
    note(2);
    assert_eq!(seen(&cache), [1, 2], "sent, and noted since");
    assert!(carry_out(&store, txn, &mut cache).await);
    assert_eq!(seen(&cache), [1, 2], "stored, before it is known to be");
    events.settled(true);
    assert_eq!(seen(&cache), [1, 2]);
    let again = events.next(&cache).unwrap().unwrap();
    assert!(carry_out(&store, again, &mut cache).await);
    events.settled(true);
    assert_eq!(seen(&cache), [1, 2]);
    assert!(events.next(&cache).unwrap().is_none());
}

#[tokio::test]
async fn a_write_that_is_repeated_is_refused_and_changes_nothing() {
    let dir = TestDir::new("events-again");
    let (store, events, mut cache) = (dir.store(), Recorder::default(), fleet(2));
    events.note(of("m1"), lost(1));
    let txn = events.next(&cache).unwrap().unwrap();
    assert!(carry_out(&store, txn.clone(), &mut cache).await);
    assert!(!carry_out(&store, txn, &mut cache).await);
    assert_eq!(times(&cache.histories[&of("m1")].value), [1]);
}

#[tokio::test]
async fn what_is_gone_has_no_history_left_and_gets_none() {
    let dir = TestDir::new("events-gone");
    let (store, events, mut cache) = (dir.store(), Recorder::default(), fleet(3));
    (0..3).for_each(|index| events.note(of(&format!("m{index}")), lost(1)));
    let txn = events.next(&cache).unwrap().unwrap();
    carry_out(&store, txn, &mut cache).await;
    events.settled(true);
    let gone = key::module("m1");
    cache.apply(&store::WatchEvent::Commit(store::Commit {
        revision: Revision(9),
        changes: vec![Change::Delete(gone)],
    }));
    events.note(of("m1"), lost(2));
    let txn = events.next(&cache).unwrap().unwrap();
    assert!(matches!(&txn.then[..], [Op::Delete { key }] if key.as_str() == "event/module/m1"), "{txn:?}");
    carry_out(&store, txn, &mut cache).await;
    assert!(store.get(&key(&of("m1"))).await.unwrap().is_none());
    assert_eq!(cache.histories.len(), 2);
    assert!(events.next(&cache).unwrap().is_none());
}

#[test]
fn more_objects_than_may_wait_are_counted_and_so_is_what_a_former_leader_leaves() {
    let events = Recorder::default();
    for index in 0..MOST_WAITING + 5 {
        events.note(of(&format!("m{index}")), lost(1));
    }
    events.note(of("m7"), lost(2));
    assert_eq!(events.dropped(), 5);
    events.give_up();
    assert_eq!(events.dropped(), 5 + MOST_WAITING as u64 + 1);
    assert!(events.next(&fleet(1)).unwrap().is_none());
}

#[test]
fn each_kind_of_object_has_a_key_that_leads_back_to_it() {
    let subjects = [
        Subject::Site(model::SiteId::new("a").unwrap()),
        of("a"),
        Subject::Workload(model::WorkloadId::new("a").unwrap()),
    ];
    for expected in subjects {
        let rest = key(&expected).id_under(&key::events()).unwrap();
        assert_eq!(subject(&rest).unwrap(), expected);
    }
    for bad in ["module", "planet/a", "module/a b", "module/a/b"] {
        assert!(subject(bad).is_err(), "{bad}");
    }
}
