//! Cases: watches, their order, and what compaction does to them.
//!
//! Assumes: nobody else writes under `t/` while a case runs.
//! Read next: `lease.rs`.

use std::collections::BTreeMap;

use store::{Change, Commit, Error, Key, Prefix, Range, Revision, Txn, WatchEvent};

use crate::twins::next;
use crate::txn::{delete, put};
use crate::{Case, Ctx, all, case, k};

pub const CASES: &[Case] = &[
    case("a_watch_begins_with_a_snapshot", |ctx| Box::pin(snapshot(ctx))),
    case("a_watch_on_nothing_begins_with_an_empty_snapshot", |ctx| Box::pin(empty_snapshot(ctx))),
    case("puts_and_deletes_arrive_in_order", |ctx| Box::pin(order(ctx))),
    case("a_transaction_arrives_as_one_commit", |ctx| Box::pin(one_commit(ctx))),
    case("a_watch_keeps_to_its_prefix", |ctx| Box::pin(prefix(ctx))),
    case("a_watch_on_one_key_sees_that_key", |ctx| Box::pin(single_key(ctx))),
    case("a_watch_from_a_revision_replays_the_past", |ctx| Box::pin(replay(ctx))),
    case("a_watch_from_the_future_waits_for_it", |ctx| Box::pin(future(ctx))),
    case("a_watch_from_a_compacted_revision_starts_over", |ctx| Box::pin(compacted(ctx))),
    case("a_delete_at_the_compacted_revision_is_not_lost", |ctx| Box::pin(compacted_delete(ctx))),
    case("a_watch_right_after_the_compacted_revision_replays", |ctx| Box::pin(after_compacted(ctx))),
    case("compaction_keeps_the_present", |ctx| Box::pin(compaction_keeps(ctx))),
    case("a_revision_is_compacted_once", |ctx| Box::pin(compact_twice(ctx))),
    case("the_future_cannot_be_compacted", |ctx| Box::pin(compact_future(ctx))),
    case("two_watches_see_the_same", |ctx| Box::pin(two_watches(ctx))),
    case("a_dropped_next_loses_nothing", |ctx| Box::pin(dropped_next(ctx))),
    case("a_copy_kept_by_a_watch_equals_the_store", |ctx| Box::pin(copy(ctx))),
    case("a_slow_reader_ends_with_the_truth", |ctx| Box::pin(slow_reader(ctx))),
];

fn values(range: &Range) -> Vec<(String, Vec<u8>)> {
    range.entries.iter().map(|entry| (entry.key.to_string(), entry.value.clone())).collect()
}

async fn expect_snapshot(watch: &mut store::Watch) -> Range {
    match next(watch).await {
        WatchEvent::Snapshot(range) => range,
        WatchEvent::Commit(commit) => panic!("a snapshot was expected, not {commit:?}"),
    }
}

async fn expect_commit(watch: &mut store::Watch) -> Commit {
    match next(watch).await {
        WatchEvent::Commit(commit) => commit,
        WatchEvent::Snapshot(range) => panic!("a commit was expected, not {range:?}"),
    }
}

/// `+key` for a put, `-key` for a delete.
fn short(commit: &Commit) -> Vec<String> {
    let one = |change: &Change| match change {
        Change::Put(entry) => format!("+{}", entry.key),
        Change::Delete(key) => format!("-{key}"),
    };
    commit.changes.iter().map(one).collect()
}

async fn snapshot(ctx: Ctx) {
    put(&ctx.store, k("b"), "2").await;
    let last = put(&ctx.store, k("a"), "1").await;
    let mut watch = ctx.store.watch(&all(), None);
    let range = expect_snapshot(&mut watch).await;
    assert_eq!(values(&range), [("t/a".into(), b"1".to_vec()), ("t/b".into(), b"2".to_vec())]);
    assert_eq!(range.revision, last);
}

async fn empty_snapshot(ctx: Ctx) {
    let mut watch = ctx.store.watch(&all(), None);
    assert_eq!(expect_snapshot(&mut watch).await.entries, []);
    let revision = put(&ctx.store, k("a"), "1").await;
    assert_eq!(expect_commit(&mut watch).await.revision, revision);
}

async fn order(ctx: Ctx) {
    let mut watch = ctx.store.watch(&all(), None);
    let mut last = expect_snapshot(&mut watch).await.revision;
    for _ in 0..10 {
        put(&ctx.store, k("a"), "1").await;
        delete(&ctx.store, k("a")).await;
    }
    for _ in 0..10 {
        for expected in ["+t/a", "-t/a"] {
            let commit = expect_commit(&mut watch).await;
            assert_eq!((commit.revision, short(&commit)), (last.next(), vec![expected.to_owned()]));
            last = commit.revision;
        }
    }
}

async fn one_commit(ctx: Ctx) {
    put(&ctx.store, k("z"), "1").await;
    let mut watch = ctx.store.watch(&all(), None);
    expect_snapshot(&mut watch).await;
    let txn = Txn::new().put(k("c"), vec![]).delete(k("z")).put(k("a"), vec![]).delete(k("nobody"));
    let revision = ctx.store.txn(txn).await.unwrap().revision;
    let commit = expect_commit(&mut watch).await;
    assert_eq!(commit.revision, revision);
    assert_eq!(short(&commit), ["+t/c", "-t/z", "+t/a"]);
}

async fn prefix(ctx: Ctx) {
    let mut watch = ctx.store.watch(&all(), None);
    expect_snapshot(&mut watch).await;
    put(&ctx.store, Key::for_test("t"), "no").await;
    put(&ctx.store, Key::for_test("t0"), "no").await;
    let txn = Txn::new().put(Key::for_test("u/a"), vec![]).put(k("a"), vec![]);
    ctx.store.txn(txn).await.unwrap();
    assert_eq!(short(&expect_commit(&mut watch).await), ["+t/a"]);
}

async fn single_key(ctx: Ctx) {
    let mut watch = ctx.store.watch(&Prefix::of_key(&k("leader")), None);
    expect_snapshot(&mut watch).await;
    put(&ctx.store, k("lead"), "no").await;
    put(&ctx.store, k("leader"), "yes").await;
    assert_eq!(short(&expect_commit(&mut watch).await), ["+t/leader"]);
}

async fn replay(ctx: Ctx) {
    put(&ctx.store, k("a"), "1").await;
    let from = put(&ctx.store, k("b"), "1").await;
    put(&ctx.store, k("a"), "2").await;
    delete(&ctx.store, k("b")).await;
    let mut watch = ctx.store.watch(&all(), Some(from));
    for expected in ["+t/b", "+t/a", "-t/b"] {
        assert_eq!(short(&expect_commit(&mut watch).await), [expected]);
    }
}

async fn future(ctx: Ctx) {
    let now = put(&ctx.store, k("a"), "1").await;
    let mut watch = ctx.store.watch(&all(), Some(Revision(now.0 + 3)));
    for _ in 0..3 {
        put(&ctx.store, k("a"), "2").await;
    }
    assert_eq!(expect_commit(&mut watch).await.revision, Revision(now.0 + 3));
}

async fn compacted(ctx: Ctx) {
    let from = put(&ctx.store, k("a"), "1").await;
    put(&ctx.store, k("b"), "1").await;
    let last = delete(&ctx.store, k("a")).await;
    ctx.store.compact(last).await.unwrap();
    let mut watch = ctx.store.watch(&all(), Some(from));
    let range = expect_snapshot(&mut watch).await;
    assert_eq!(values(&range), [("t/b".into(), b"1".to_vec())]);
    put(&ctx.store, k("c"), "1").await;
    assert_eq!(short(&expect_commit(&mut watch).await), ["+t/c"]);
}

async fn compacted_delete(ctx: Ctx) {
    put(&ctx.store, k("a"), "1").await;
    let deleted = delete(&ctx.store, k("a")).await;
    put(&ctx.store, k("b"), "1").await;
    ctx.store.compact(deleted).await.unwrap();
    let mut watch = ctx.store.watch(&all(), Some(deleted));
    let range = expect_snapshot(&mut watch).await;
    assert_eq!(values(&range), [("t/b".into(), b"1".to_vec())]);
}

async fn after_compacted(ctx: Ctx) {
    let first = put(&ctx.store, k("a"), "1").await;
    put(&ctx.store, k("b"), "1").await;
    ctx.store.compact(first).await.unwrap();
    let mut watch = ctx.store.watch(&all(), Some(first.next()));
    assert_eq!(short(&expect_commit(&mut watch).await), ["+t/b"]);
}

async fn compaction_keeps(ctx: Ctx) {
    for round in 0..5 {
        put(&ctx.store, k("a"), &round.to_string()).await;
    }
    let last = put(&ctx.store, k("b"), "1").await;
    let before = ctx.store.range(&all()).await.unwrap();
    ctx.store.compact(last).await.unwrap();
    assert_eq!(ctx.store.range(&all()).await.unwrap(), before);
    put(&ctx.store, k("a"), "again").await;
    assert_eq!(ctx.store.get(&k("a")).await.unwrap().unwrap().version, 6);
}

async fn compact_twice(ctx: Ctx) {
    let last = put(&ctx.store, k("a"), "1").await;
    ctx.store.compact(last).await.unwrap();
    let error = ctx.store.compact(last).await.unwrap_err();
    assert!(matches!(error, Error::Compacted { asked } if asked == last), "{error:?}");
}

async fn compact_future(ctx: Ctx) {
    let last = put(&ctx.store, k("a"), "1").await;
    let error = ctx.store.compact(last.next()).await.unwrap_err();
    assert!(matches!(error, Error::Refused { .. }), "{error:?}");
}

async fn two_watches(ctx: Ctx) {
    let mut one = ctx.store.watch(&all(), None);
    let mut two = ctx.store.watch(&all(), None);
    assert_eq!(next(&mut one).await, next(&mut two).await);
    for index in 0..20 {
        put(&ctx.store, k(index % 3), "x").await;
    }
    for _ in 0..20 {
        assert_eq!(next(&mut one).await, next(&mut two).await);
    }
}

async fn dropped_next(ctx: Ctx) {
    let mut watch = ctx.store.watch(&all(), None);
    let mut last = expect_snapshot(&mut watch).await.revision;
    for _ in 0..20 {
        // Polled once and dropped, whether it was ready or not.
        tokio::select! {
            biased;
            event = watch.next() => last = check_next(last, event.unwrap().revision()),
            () = std::future::ready(()) => {}
        }
        put(&ctx.store, k("a"), "x").await;
    }
    let end = ctx.store.get(&k("a")).await.unwrap().unwrap().mod_revision;
    while last < end {
        last = check_next(last, next(&mut watch).await.revision());
    }
}

fn check_next(last: Revision, got: Revision) -> Revision {
    assert_eq!(got, last.next());
    got
}

/// A copy of the store as a watcher keeps it.
#[derive(Default)]
struct Copy(BTreeMap<Key, Vec<u8>>);

impl Copy {
    fn apply(&mut self, event: WatchEvent) {
        match event {
            WatchEvent::Snapshot(range) => {
                self.0 = range.entries.into_iter().map(|entry| (entry.key, entry.value)).collect();
            }
            WatchEvent::Commit(commit) => commit.changes.into_iter().for_each(|change| match change {
                Change::Put(entry) => drop(self.0.insert(entry.key, entry.value)),
                Change::Delete(key) => drop(self.0.remove(&key).expect("only what is there is deleted")),
            }),
        }
    }
}

/// Reads until `end` and compares the copy with the store.
async fn check_copy(ctx: &Ctx, watch: &mut store::Watch, end: Revision) {
    let (mut copy, mut last) = (Copy::default(), Revision(0));
    while last < end {
        let event = next(watch).await;
        assert!(event.revision() > last, "{:?} after {last}", event.revision());
        last = event.revision();
        copy.apply(event);
    }
    let range = ctx.store.range(&all()).await.unwrap();
    let truth: BTreeMap<_, _> = range.entries.into_iter().map(|entry| (entry.key, entry.value)).collect();
    assert_eq!(copy.0, truth);
}

async fn copy(ctx: Ctx) {
    let mut watch = ctx.store.watch(&all(), None);
    let writers: Vec<_> = (0..4)
        .map(|who| {
            let store = ctx.store.clone();
            tokio::spawn(async move {
                for step in 0..25 {
                    put(&store, k((who * 7 + step) % 10), &format!("{who}.{step}")).await;
                    delete(&store, k((who + step * 3) % 10)).await;
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    let end = put(&ctx.store, k("end"), "x").await;
    check_copy(&ctx, &mut watch, end).await;
}

async fn slow_reader(ctx: Ctx) {
    let mut watch = ctx.store.watch(&all(), None);
    expect_snapshot(&mut watch).await;
    for chunk in 0..8 {
        // Many commits of some size, and a compaction that takes them away from under the reader.
        for index in 0..40 {
            put(&ctx.store, k(index), &chunk.to_string().repeat(2000)).await;
        }
    }
    let end = put(&ctx.store, k("end"), "x").await;
    ctx.store.compact(end).await.unwrap();
    let mut copy = Copy::default();
    let mut last = Revision(0);
    while last < end {
        let event = next(&mut watch).await;
        assert!(event.revision() > last);
        last = event.revision();
        copy.apply(event);
    }
    assert_eq!(copy.0.len(), 41);
    assert_eq!(copy.0[&k(3)], "7".repeat(2000).into_bytes());
}
