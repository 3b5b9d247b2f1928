//! Cases at the edges: odd keys and values, page borders, limits, races for a lease and for the office.
//!
//! Assumes: as `txn.rs`.
//! Read next: `model.rs`.

use std::time::Duration;

use store::port::{MAX_RANGE_ENTRIES, MAX_TXN_OPS, MIN_LEASE_TTL};
use store::{
    Change, Compare, Election, Error, Key, LeaseId, Op, Prefix, Revision, Store, Txn, WatchEvent, key,
};

use crate::twins::next;
use crate::txn::{delete, put};
use crate::{Case, Ctx, all, case, k};

pub const CASES: &[Case] = &[
    case("keys_sort_by_bytes_whatever_their_script", |ctx| Box::pin(unicode_order(ctx))),
    case("a_prefix_may_end_inside_a_character_of_no_key", |ctx| Box::pin(unicode_prefix(ctx))),
    case("a_prefix_that_ends_in_the_last_character_covers_its_own", |ctx| Box::pin(last_character(ctx))),
    case("odd_keys_come_back_through_a_watch", |ctx| Box::pin(odd_keys_watched(ctx))),
    case("the_largest_value_comes_back_through_a_watch", |ctx| Box::pin(large_watched(ctx))),
    case("a_page_as_long_as_the_range_has_no_more", |ctx| Box::pin(exact_page(ctx))),
    case("a_page_after_the_last_key_is_empty", |ctx| Box::pin(page_after_last(ctx))),
    case("a_page_goes_on_where_its_last_key_was_deleted", |ctx| Box::pin(page_after_deleted(ctx))),
    case("a_page_after_a_key_before_the_prefix_begins_there", |ctx| Box::pin(page_after_before(ctx))),
    case("a_page_longer_than_a_range_may_be_is_refused", |ctx| Box::pin(page_too_long(ctx))),
    case("a_limit_names_the_largest_key", |ctx| Box::pin(limit_names_key(ctx))),
    case("as_many_reads_as_allowed_pass", |ctx| Box::pin(most_reads(ctx))),
    case("a_range_is_of_one_revision_under_writes", |ctx| Box::pin(range_is_consistent(ctx))),
    case("a_lease_revoked_while_it_is_written_to_leaves_no_orphan", |ctx| Box::pin(revoke_race(ctx))),
    case("keep_alives_of_a_lease_that_expired_do_not_revive_it", |ctx| Box::pin(no_revival(ctx))),
    case("an_expired_lease_cannot_be_bound", |ctx| Box::pin(expired_binding(ctx))),
    case("a_key_deleted_and_made_anew_is_free_of_the_old_lease", |ctx| Box::pin(reborn_free(ctx))),
    case("a_candidate_that_gives_up_leaves_no_trace", |ctx| Box::pin(gives_up(ctx))),
    case("fences_grow_from_leader_to_leader", |ctx| Box::pin(fences_grow(ctx))),
    case("the_office_is_taken_at_once_when_the_key_is_deleted", |ctx| Box::pin(key_deleted(ctx))),
    case("a_watch_from_the_present_revision_replays_it", |ctx| Box::pin(from_present(ctx))),
    case("a_watch_during_compactions_ends_with_the_truth", |ctx| Box::pin(compacted_under_watch(ctx))),
];

const ODD: [&str; 8] = [" ", "a b", "a\tb", "ä", "電力", "⚡️", "\u{10ffff}", "%2F\"'\\"];

async fn keys(store: &Store, prefix: &Prefix) -> Vec<String> {
    let range = store.range(prefix).await.unwrap();
    range.entries.iter().map(|entry| entry.key.to_string()).collect()
}

async fn unicode_order(ctx: Ctx) {
    for name in ODD {
        put(&ctx.store, k(name), name).await;
    }
    let mut expected: Vec<String> = ODD.iter().map(|name| format!("t/{name}")).collect();
    expected.sort();
    assert_eq!(keys(&ctx.store, &all()).await, expected);
}

async fn unicode_prefix(ctx: Ctx) {
    for name in ["é", "é1", "è", "e"] {
        put(&ctx.store, k(name), name).await;
    }
    assert_eq!(keys(&ctx.store, &Prefix::for_test("t/é")).await, ["t/é", "t/é1"]);
}

async fn last_character(ctx: Ctx) {
    let highest = "\u{10ffff}";
    for name in [highest.to_owned(), format!("{highest}{highest}"), "z".into()] {
        put(&ctx.store, k(name), "x").await;
    }
    put(&ctx.store, Key::for_test("u"), "x").await;
    let expected = [format!("t/{highest}"), format!("t/{highest}{highest}")];
    assert_eq!(keys(&ctx.store, &Prefix::for_test(format!("t/{highest}"))).await, expected);
}

async fn odd_keys_watched(ctx: Ctx) {
    let mut watch = ctx.store.watch(&all(), None);
    next(&mut watch).await;
    let txn = ODD.iter().fold(Txn::new(), |txn, name| txn.put(k(name), Vec::new()));
    ctx.store.txn(txn).await.unwrap();
    let WatchEvent::Commit(commit) = next(&mut watch).await else { panic!("a commit was expected") };
    let seen: Vec<Key> = commit.changes.iter().map(Change::key).cloned().collect();
    assert_eq!(seen, ODD.map(k));
}

async fn large_watched(ctx: Ctx) {
    let mut watch = ctx.store.watch(&all(), None);
    next(&mut watch).await;
    let value: Vec<u8> = (0..1_500_000_u32).map(|i| (i % 251) as u8).collect();
    ctx.store.txn(Txn::new().put(k("a"), value.clone())).await.unwrap();
    let WatchEvent::Commit(commit) = next(&mut watch).await else { panic!("a commit was expected") };
    let [Change::Put(entry)] = &commit.changes[..] else { panic!("one put was expected") };
    assert!(entry.value == value);
}

async fn fill(store: &Store, count: usize) {
    let txn = (0..count).fold(Txn::new(), |txn, index| txn.put(k(format!("{index:03}")), Vec::new()));
    store.txn(txn).await.unwrap();
}

async fn exact_page(ctx: Ctx) {
    fill(&ctx.store, 10).await;
    let page = ctx.store.page(&all(), None, 10).await.unwrap();
    assert_eq!((page.entries.len(), page.more), (10, false));
    let page = ctx.store.page(&all(), None, 9).await.unwrap();
    assert_eq!((page.entries.len(), page.more), (9, true));
}

async fn page_after_last(ctx: Ctx) {
    fill(&ctx.store, 3).await;
    let page = ctx.store.page(&all(), Some(&k("002")), 10).await.unwrap();
    assert_eq!((page.entries.len(), page.more), (0, false));
}

async fn page_after_deleted(ctx: Ctx) {
    fill(&ctx.store, 5).await;
    delete(&ctx.store, k("001")).await;
    let page = ctx.store.page(&all(), Some(&k("001")), 2).await.unwrap();
    let names: Vec<_> = page.entries.iter().map(|entry| entry.key.as_str()).collect();
    assert_eq!((names, page.more), (vec!["t/002", "t/003"], true));
}

async fn page_after_before(ctx: Ctx) {
    fill(&ctx.store, 2).await;
    let page = ctx.store.page(&all(), Some(&Key::for_test("a")), 1).await.unwrap();
    assert_eq!(page.entries[0].key, k("000"));
}

async fn page_too_long(ctx: Ctx) {
    let error = ctx.store.page(&all(), None, MAX_RANGE_ENTRIES + 1).await.unwrap_err();
    assert!(matches!(error, Error::Refused { .. }), "{error:?}");
}

async fn limit_names_key(ctx: Ctx) {
    let txn = Txn::new().put(k("small"), vec![0; 100]).put(k("huge"), vec![0; 1_600_000]).put(k("b"), vec![]);
    let text = ctx.store.txn(txn).await.unwrap_err().to_string();
    assert!(text.contains("for t/huge") && text.contains("the limit is 1572864"), "{text}");
}

async fn most_reads(ctx: Ctx) {
    fill(&ctx.store, MAX_TXN_OPS).await;
    let get = |index| Op::Get { key: k(format!("{index:03}")) };
    let txn = (0..MAX_TXN_OPS).fold(Txn::new(), |txn, index| txn.then(get(index)));
    let outcome = ctx.store.txn(txn).await.unwrap();
    assert_eq!(outcome.gets.iter().flatten().count(), MAX_TXN_OPS);
}

async fn range_is_consistent(ctx: Ctx) {
    // Each transaction writes its number to both ends of a range that takes two pages.
    for chunk in 0..6 {
        let txn =
            (0..100).fold(Txn::new(), |txn, i| txn.put(k(format!("{:04}", chunk * 100 + i)), b"0".to_vec()));
        ctx.store.txn(txn).await.unwrap();
    }
    let (store, (first, last)) = (ctx.store.clone(), (k("0000"), k("0599")));
    let writer = tokio::spawn(async move {
        for round in 1..=40_u32 {
            let value = round.to_string().into_bytes();
            store.txn(Txn::new().put(first.clone(), value.clone()).put(last.clone(), value)).await.unwrap();
        }
    });
    while !writer.is_finished() {
        let range = ctx.store.range(&all()).await.unwrap();
        let (first, last) = (&range.entries[0], &range.entries[599]);
        assert_eq!(first.value, last.value, "two ends of different revisions");
        assert!(first.mod_revision <= range.revision);
        // A read of the embedded twin never waits: let the writer have its turn.
        tokio::task::yield_now().await;
    }
    writer.await.unwrap();
}

async fn revoke_race(ctx: Ctx) {
    for round in 0..10 {
        let lease = ctx.store.lease_grant(Duration::from_secs(60)).await.unwrap().id;
        let store = ctx.store.clone();
        let writer = tokio::spawn(async move {
            let mut written = 0;
            while store
                .txn(Txn::new().put_leased(k(format!("{round}-{written}")), vec![], lease))
                .await
                .is_ok()
            {
                written += 1;
            }
            written
        });
        tokio::task::yield_now().await;
        ctx.store.lease_revoke(lease).await.unwrap();
        let written = writer.await.unwrap();
        assert_eq!(keys(&ctx.store, &all()).await, [""; 0], "of {written} some outlived the lease");
    }
}

async fn granted(ctx: &Ctx) -> LeaseId {
    ctx.store.lease_grant(MIN_LEASE_TTL).await.unwrap().id
}

/// Lets a lease of the shortest time run out.
async fn expire(ctx: &Ctx, lease: LeaseId) {
    let mut watch = ctx.store.watch(&all(), None);
    next(&mut watch).await;
    ctx.store.txn(Txn::new().put_leased(k("witness"), vec![], lease)).await.unwrap();
    next(&mut watch).await;
    ctx.pass(MIN_LEASE_TTL).await;
    let WatchEvent::Commit(commit) = next(&mut watch).await else { panic!("a commit was expected") };
    assert_eq!(commit.changes, [Change::Delete(k("witness"))]);
}

async fn no_revival(ctx: Ctx) {
    let lease = granted(&ctx).await;
    expire(&ctx, lease).await;
    let error = ctx.store.lease_keep_alive(lease).await.unwrap_err();
    assert!(matches!(error, Error::LeaseNotFound { .. }), "{error:?}");
}

async fn expired_binding(ctx: Ctx) {
    let lease = granted(&ctx).await;
    expire(&ctx, lease).await;
    let error = ctx.store.txn(Txn::new().put_leased(k("a"), vec![], lease)).await.unwrap_err();
    assert!(matches!(error, Error::LeaseNotFound { .. }), "{error:?}");
    assert_eq!(ctx.store.get(&k("a")).await.unwrap(), None);
}

async fn reborn_free(ctx: Ctx) {
    let lease = ctx.store.lease_grant(Duration::from_secs(60)).await.unwrap().id;
    ctx.store.txn(Txn::new().put_leased(k("a"), vec![], lease)).await.unwrap();
    delete(&ctx.store, k("a")).await;
    put(&ctx.store, k("a"), "free").await;
    ctx.store.lease_revoke(lease).await.unwrap();
    assert!(ctx.store.get(&k("a")).await.unwrap().is_some());
}

fn election(ctx: &Ctx) -> Election {
    Election::new(ctx.store.clone(), key::leader(), ctx.clock.clone())
}

async fn gives_up(ctx: Ctx) {
    const LONG: Duration = Duration::from_secs(60);
    let first = election(&ctx).campaign(b"one".to_vec(), LONG).await.unwrap();
    let election = election(&ctx);
    let late = tokio::time::timeout(Duration::from_millis(200), election.campaign(b"two".to_vec(), LONG));
    assert!(late.await.is_err(), "the office is taken");
    first.resign().await.unwrap();
    assert_eq!(election.leader().await.unwrap(), None);
}

async fn fences_grow(ctx: Ctx) {
    let mut last = Revision(0);
    for _ in 0..5 {
        let leader = election(&ctx).campaign(b"x".to_vec(), Duration::from_secs(60)).await.unwrap();
        assert!(leader.create_revision() > last);
        last = leader.create_revision();
        leader.resign().await.unwrap();
    }
}

async fn key_deleted(ctx: Ctx) {
    let first = election(&ctx).campaign(b"one".to_vec(), Duration::from_secs(60)).await.unwrap();
    delete(&ctx.store, key::leader()).await;
    let second = election(&ctx).campaign(b"two".to_vec(), Duration::from_secs(60)).await.unwrap();
    let write = |fence: Compare| Txn::new().when(fence).put(k("a"), vec![]);
    assert!(!ctx.store.txn(write(first.fence_compare())).await.unwrap().succeeded);
    assert!(ctx.store.txn(write(second.fence_compare())).await.unwrap().succeeded);
}

async fn from_present(ctx: Ctx) {
    let last = put(&ctx.store, k("a"), "x").await;
    let mut watch = ctx.store.watch(&all(), Some(last));
    assert_eq!(next(&mut watch).await.revision(), last);
    let after = put(&ctx.store, k("a"), "y").await;
    assert_eq!(next(&mut watch).await.revision(), after);
}

async fn compacted_under_watch(ctx: Ctx) {
    let mut watch = ctx.store.watch(&all(), None);
    let mut copy = std::collections::BTreeMap::new();
    let store = ctx.store.clone();
    let writer = tokio::spawn(async move {
        let mut last = Revision(0);
        for round in 0..60_u32 {
            last = put(&store, k(round % 7), &round.to_string()).await;
            if round % 10 == 9 {
                store.compact(last).await.unwrap();
            }
        }
        last
    });
    let mut seen = Revision(0);
    while !writer.is_finished() || seen < ctx.store.get(&k(3)).await.unwrap().unwrap().mod_revision {
        let Ok(event) = tokio::time::timeout(Duration::from_millis(500), watch.next()).await else {
            continue;
        };
        let event = event.unwrap();
        assert!(event.revision() > seen);
        seen = event.revision();
        match event {
            WatchEvent::Snapshot(range) => {
                copy = range.entries.into_iter().map(|entry| (entry.key, entry.value)).collect();
            }
            WatchEvent::Commit(commit) => {
                for change in commit.changes {
                    let Change::Put(entry) = change else { panic!("nothing was deleted") };
                    copy.insert(entry.key, entry.value);
                }
            }
        }
    }
    let truth = ctx.store.range(&all()).await.unwrap().entries;
    assert_eq!(copy, truth.into_iter().map(|entry| (entry.key, entry.value)).collect());
}
