//! Cases: transactions, reads, ranges, limits, lost updates.
//!
//! Assumes: each case starts with an empty store; on etcd the first revision is whatever the server stands at.
//! Read next: `watch.rs`.

use std::collections::BTreeSet;

use store::port::{MAX_KEY_BYTES, MAX_REQUEST_BYTES, MAX_TXN_OPS, OP_OVERHEAD_BYTES};
use store::{Compare, Entry, Error, Key, Op, Prefix, Revision, Store, Txn};

use crate::{Case, Ctx, all, case, k};

pub const CASES: &[Case] = &[
    case("a_key_that_was_never_written_is_absent", |ctx| Box::pin(absent(ctx))),
    case("a_put_is_read_back_whole", |ctx| Box::pin(put_and_get(ctx))),
    case("an_empty_value_is_a_value", |ctx| Box::pin(empty_value(ctx))),
    case("any_bytes_are_a_value", |ctx| Box::pin(any_bytes(ctx))),
    case("versions_count_up_and_the_create_revision_stays", |ctx| Box::pin(versions(ctx))),
    case("a_deleted_key_starts_a_new_life", |ctx| Box::pin(new_life(ctx))),
    case("each_write_takes_one_revision", |ctx| Box::pin(one_revision_each(ctx))),
    case("all_writes_of_a_transaction_share_a_revision", |ctx| Box::pin(shared_revision(ctx))),
    case("a_transaction_that_reads_takes_no_revision", |ctx| Box::pin(read_takes_none(ctx))),
    case("deleting_nothing_takes_no_revision", |ctx| Box::pin(delete_nothing(ctx))),
    case("an_empty_transaction_succeeds", |ctx| Box::pin(empty_txn(ctx))),
    case("every_compare_holds_when_it_should", |ctx| Box::pin(compares(ctx))),
    case("compares_on_an_absent_key_see_zero", |ctx| Box::pin(compares_absent(ctx))),
    case("all_compares_must_hold", |ctx| Box::pin(all_compares(ctx))),
    case("the_other_branch_runs_when_a_compare_fails", |ctx| Box::pin(otherwise(ctx))),
    case("reads_in_a_transaction_see_the_writes_before_them", |ctx| Box::pin(read_own_writes(ctx))),
    case("a_key_put_twice_in_one_transaction_is_refused", |ctx| Box::pin(put_twice(ctx))),
    case("a_key_put_and_deleted_in_one_transaction_is_refused", |ctx| Box::pin(put_and_delete(ctx))),
    case("a_key_may_be_put_in_both_branches", |ctx| Box::pin(put_in_both(ctx))),
    case("a_refused_transaction_changes_nothing", |ctx| Box::pin(refused_changes_nothing(ctx))),
    case("too_many_operations_are_refused", |ctx| Box::pin(too_many_ops(ctx))),
    case("as_many_operations_as_allowed_pass", |ctx| Box::pin(most_ops(ctx))),
    case("a_request_that_is_too_large_is_refused", |ctx| Box::pin(too_large(ctx))),
    case("a_request_as_large_as_allowed_passes", |ctx| Box::pin(largest(ctx))),
    case("keys_have_a_length", |ctx| Box::pin(key_length(ctx))),
    case("a_range_is_sorted_and_keeps_to_its_prefix", |ctx| Box::pin(range(ctx))),
    case("a_range_longer_than_a_page_comes_whole", |ctx| Box::pin(long_range(ctx))),
    case("a_range_of_large_values_comes_whole", |ctx| Box::pin(heavy_range(ctx))),
    case("pages_follow_each_other_without_gap_or_overlap", |ctx| Box::pin(pages(ctx))),
    case("a_page_must_have_a_size", |ctx| Box::pin(page_size(ctx))),
    case("one_of_many_creators_wins", |ctx| Box::pin(one_creator(ctx))),
    case("no_update_is_lost_under_contention", |ctx| Box::pin(no_lost_update(ctx))),
    case("transfers_keep_their_sum", |ctx| Box::pin(transfers(ctx))),
    case("concurrent_writers_get_revisions_of_their_own", |ctx| Box::pin(distinct_revisions(ctx))),
];

pub async fn put(store: &Store, key: Key, value: &str) -> Revision {
    store.txn(Txn::new().put(key, value.into())).await.unwrap().revision
}

pub async fn delete(store: &Store, key: Key) -> Revision {
    store.txn(Txn::new().delete(key)).await.unwrap().revision
}

async fn get(store: &Store, key: Key) -> Entry {
    store.get(&key).await.unwrap().expect("the key is there")
}

async fn revision(store: &Store) -> Revision {
    store.txn(Txn::new()).await.unwrap().revision
}

async fn absent(ctx: Ctx) {
    assert_eq!(ctx.store.get(&k("a")).await.unwrap(), None);
}

async fn put_and_get(ctx: Ctx) {
    let revision = put(&ctx.store, k("a"), "one").await;
    let expected = Entry {
        key: k("a"),
        value: b"one".to_vec(),
        create_revision: revision,
        mod_revision: revision,
        version: 1,
        lease: None,
    };
    assert_eq!(get(&ctx.store, k("a")).await, expected);
}

async fn empty_value(ctx: Ctx) {
    put(&ctx.store, k("a"), "").await;
    assert_eq!(get(&ctx.store, k("a")).await.value, b"");
}

async fn any_bytes(ctx: Ctx) {
    let value: Vec<u8> = (0..=255).collect();
    ctx.store.txn(Txn::new().put(k("ключ ⚡"), value.clone())).await.unwrap();
    assert_eq!(get(&ctx.store, k("ключ ⚡")).await.value, value);
}

async fn versions(ctx: Ctx) {
    let first = put(&ctx.store, k("a"), "1").await;
    put(&ctx.store, k("b"), "x").await;
    let last = put(&ctx.store, k("a"), "2").await;
    let entry = get(&ctx.store, k("a")).await;
    assert_eq!((entry.create_revision, entry.mod_revision, entry.version), (first, last, 2));
}

async fn new_life(ctx: Ctx) {
    put(&ctx.store, k("a"), "1").await;
    put(&ctx.store, k("a"), "2").await;
    delete(&ctx.store, k("a")).await;
    assert_eq!(ctx.store.get(&k("a")).await.unwrap(), None);
    let again = put(&ctx.store, k("a"), "3").await;
    let entry = get(&ctx.store, k("a")).await;
    assert_eq!((entry.create_revision, entry.version), (again, 1));
}

async fn one_revision_each(ctx: Ctx) {
    let start = revision(&ctx.store).await;
    for step in 1..=5 {
        assert_eq!(put(&ctx.store, k("a"), "x").await, Revision(start.0 + step));
    }
}

async fn shared_revision(ctx: Ctx) {
    put(&ctx.store, k("old"), "x").await;
    let before = revision(&ctx.store).await;
    let txn = Txn::new().put(k("a"), vec![1]).put(k("b"), vec![2]).delete(k("old"));
    let outcome = ctx.store.txn(txn).await.unwrap();
    assert_eq!(outcome.revision, before.next());
    assert_eq!(get(&ctx.store, k("a")).await.mod_revision, before.next());
    assert_eq!(get(&ctx.store, k("b")).await.mod_revision, before.next());
    assert_eq!(ctx.store.get(&k("old")).await.unwrap(), None);
}

async fn read_takes_none(ctx: Ctx) {
    let before = put(&ctx.store, k("a"), "x").await;
    let outcome = ctx.store.txn(Txn::new().then(Op::Get { key: k("a") })).await.unwrap();
    assert_eq!(outcome.revision, before);
    assert_eq!(put(&ctx.store, k("a"), "y").await, before.next());
}

async fn delete_nothing(ctx: Ctx) {
    let before = revision(&ctx.store).await;
    assert_eq!(delete(&ctx.store, k("nobody")).await, before);
}

async fn empty_txn(ctx: Ctx) {
    let outcome = ctx.store.txn(Txn::new()).await.unwrap();
    assert!(outcome.succeeded && outcome.gets.is_empty());
}

async fn holds(store: &Store, compare: Compare) -> bool {
    store.txn(Txn::new().when(compare)).await.unwrap().succeeded
}

async fn compares(ctx: Ctx) {
    let created = put(&ctx.store, k("a"), "1").await;
    let modified = put(&ctx.store, k("a"), "2").await;
    let key = || k("a");
    let cases = [
        (Compare::Absent(key()), false),
        (Compare::Exists(key()), true),
        (Compare::CreateRevision { key: key(), is: created }, true),
        (Compare::CreateRevision { key: key(), is: modified }, false),
        (Compare::ModRevision { key: key(), is: modified }, true),
        (Compare::ModRevision { key: key(), is: created }, false),
        (Compare::Version { key: key(), is: 2 }, true),
        (Compare::Version { key: key(), is: 1 }, false),
    ];
    for (compare, expected) in cases {
        assert_eq!(holds(&ctx.store, compare.clone()).await, expected, "{compare:?}");
    }
}

async fn compares_absent(ctx: Ctx) {
    let cases = [
        (Compare::Absent(k("a")), true),
        (Compare::Exists(k("a")), false),
        (Compare::CreateRevision { key: k("a"), is: Revision(0) }, true),
        (Compare::ModRevision { key: k("a"), is: Revision(0) }, true),
        (Compare::ModRevision { key: k("a"), is: Revision(1) }, false),
        (Compare::Version { key: k("a"), is: 0 }, true),
    ];
    for (compare, expected) in cases {
        assert_eq!(holds(&ctx.store, compare.clone()).await, expected, "{compare:?}");
    }
}

async fn all_compares(ctx: Ctx) {
    put(&ctx.store, k("a"), "1").await;
    let txn = Txn::new().when(Compare::Exists(k("a"))).when(Compare::Exists(k("b"))).put(k("c"), vec![]);
    assert!(!ctx.store.txn(txn).await.unwrap().succeeded);
    assert_eq!(ctx.store.get(&k("c")).await.unwrap(), None);
}

async fn otherwise(ctx: Ctx) {
    put(&ctx.store, k("a"), "here").await;
    let txn = Txn::new()
        .when(Compare::Absent(k("a")))
        .put(k("a"), b"mine".to_vec())
        .otherwise(Op::Get { key: k("a") })
        .otherwise(Op::Put { key: k("b"), value: b"loser".to_vec(), lease: None });
    let outcome = ctx.store.txn(txn).await.unwrap();
    assert!(!outcome.succeeded);
    assert_eq!(outcome.gets[0].as_ref().unwrap().value, b"here");
    assert_eq!(get(&ctx.store, k("b")).await.mod_revision, outcome.revision);
}

async fn read_own_writes(ctx: Ctx) {
    put(&ctx.store, k("b"), "old").await;
    let txn = Txn::new()
        .then(Op::Get { key: k("a") })
        .put(k("a"), b"new".to_vec())
        .then(Op::Get { key: k("a") })
        .delete(k("b"))
        .then(Op::Get { key: k("b") });
    let gets = ctx.store.txn(txn).await.unwrap().gets;
    let values: Vec<_> = gets.iter().map(|got| got.as_ref().map(|entry| entry.value.as_slice())).collect();
    assert_eq!(values, [None, Some(&b"new"[..]), None]);
}

async fn refused(store: &Store, txn: Txn) {
    let error = store.txn(txn).await.unwrap_err();
    assert!(matches!(error, Error::Refused { .. }), "{error:?}");
}

async fn put_twice(ctx: Ctx) {
    refused(&ctx.store, Txn::new().put(k("a"), vec![1]).put(k("a"), vec![2])).await;
}

async fn put_and_delete(ctx: Ctx) {
    refused(&ctx.store, Txn::new().put(k("a"), vec![1]).delete(k("a"))).await;
    refused(&ctx.store, Txn::new().delete(k("a")).put(k("a"), vec![1])).await;
}

async fn put_in_both(ctx: Ctx) {
    let other = Op::Put { key: k("a"), value: b"other".to_vec(), lease: None };
    let txn = Txn::new().when(Compare::Exists(k("a"))).put(k("a"), b"then".to_vec()).otherwise(other);
    ctx.store.txn(txn).await.unwrap();
    assert_eq!(get(&ctx.store, k("a")).await.value, b"other");
}

async fn refused_changes_nothing(ctx: Ctx) {
    let before = revision(&ctx.store).await;
    refused(&ctx.store, Txn::new().put(k("b"), vec![]).put(k("a"), vec![1]).put(k("a"), vec![2])).await;
    assert_eq!(revision(&ctx.store).await, before);
    assert_eq!(ctx.store.get(&k("b")).await.unwrap(), None);
}

fn puts(count: usize, value: &[u8]) -> Txn {
    (0..count).fold(Txn::new(), |txn, index| txn.put(k(format!("{index:06}")), value.to_vec()))
}

async fn limited(store: &Store, txn: Txn) {
    let before = revision(store).await;
    let error = store.txn(txn).await.unwrap_err();
    assert!(matches!(error, Error::Limit { .. }), "{error:?}");
    assert_eq!(revision(store).await, before);
}

async fn too_many_ops(ctx: Ctx) {
    limited(&ctx.store, puts(MAX_TXN_OPS + 1, b"")).await;
    let compares = vec![Compare::Absent(k("a")); MAX_TXN_OPS + 1];
    limited(&ctx.store, Txn { compares, ..Txn::default() }).await;
    let otherwise = puts(MAX_TXN_OPS + 1, b"").then;
    limited(&ctx.store, Txn { otherwise, ..Txn::default() }).await;
}

async fn most_ops(ctx: Ctx) {
    let compares = vec![Compare::Absent(k("a")); MAX_TXN_OPS];
    let txn = Txn { compares, ..puts(MAX_TXN_OPS, b"x") };
    assert!(ctx.store.txn(txn).await.unwrap().succeeded);
    assert_eq!(ctx.store.range(&all()).await.unwrap().entries.len(), MAX_TXN_OPS);
}

fn room() -> usize {
    MAX_REQUEST_BYTES - OP_OVERHEAD_BYTES - k("a").as_str().len()
}

async fn too_large(ctx: Ctx) {
    limited(&ctx.store, Txn::new().put(k("a"), vec![7; room() + 1])).await;
}

async fn largest(ctx: Ctx) {
    ctx.store.txn(Txn::new().put(k("a"), vec![7; room()])).await.unwrap();
    assert_eq!(get(&ctx.store, k("a")).await.value.len(), room());
    // The same in many small steps, where the wire's overhead is largest.
    let each = MAX_REQUEST_BYTES / MAX_TXN_OPS - OP_OVERHEAD_BYTES - k("000000").as_str().len();
    ctx.store.txn(puts(MAX_TXN_OPS, &vec![7; each])).await.unwrap();
}

async fn key_length(ctx: Ctx) {
    let longest = Key::for_test("x".repeat(MAX_KEY_BYTES));
    put(&ctx.store, longest.clone(), "x").await;
    assert_eq!(get(&ctx.store, longest).await.version, 1);
    limited(&ctx.store, Txn::new().put(Key::for_test("x".repeat(MAX_KEY_BYTES + 1)), vec![])).await;
    refused(&ctx.store, Txn::new().put(Key::for_test(""), vec![])).await;
}

async fn keys(store: &Store, prefix: &Prefix) -> Vec<String> {
    let range = store.range(prefix).await.unwrap();
    range.entries.iter().map(|entry| entry.key.to_string()).collect()
}

async fn range(ctx: Ctx) {
    for name in ["site/b", "site/a", "site", "site0", "sit", "site/a/x", "tenant/a"] {
        put(&ctx.store, Key::for_test(name), name).await;
    }
    let last = revision(&ctx.store).await;
    assert_eq!(keys(&ctx.store, &Prefix::for_test("site/")).await, ["site/a", "site/a/x", "site/b"]);
    assert_eq!(keys(&ctx.store, &Prefix::for_test("nothing/")).await, [""; 0]);
    assert_eq!(keys(&ctx.store, &Prefix::all()).await.len(), 7);
    assert_eq!(ctx.store.range(&Prefix::all()).await.unwrap().revision, last);
}

async fn long_range(ctx: Ctx) {
    for chunk in 0..10 {
        let txn = (0..120).fold(Txn::new(), |txn, i| txn.put(k(format!("{:04}", chunk * 120 + i)), vec![1]));
        ctx.store.txn(txn).await.unwrap();
    }
    let found = keys(&ctx.store, &all()).await;
    assert_eq!(found.len(), 1200);
    assert!(found.is_sorted());
}

async fn heavy_range(ctx: Ctx) {
    for index in 0..8 {
        ctx.store.txn(Txn::new().put(k(index), vec![index; 1024 * 1024])).await.unwrap();
    }
    let range = ctx.store.range(&all()).await.unwrap();
    assert_eq!(range.entries.iter().map(|entry| entry.value.len()).sum::<usize>(), 8 * 1024 * 1024);
}

async fn pages(ctx: Ctx) {
    ctx.store.txn(puts(25, b"x")).await.unwrap();
    let (mut seen, mut after, mut sizes) = (Vec::new(), None, Vec::new());
    loop {
        let page = ctx.store.page(&all(), after.as_ref(), 10).await.unwrap();
        sizes.push(page.entries.len());
        after = page.entries.last().map(|entry| entry.key.clone());
        seen.extend(page.entries.into_iter().map(|entry| entry.key.to_string()));
        if !page.more {
            break;
        }
    }
    assert_eq!(sizes, [10, 10, 5]);
    assert_eq!(seen, keys(&ctx.store, &all()).await);
}

async fn page_size(ctx: Ctx) {
    let error = ctx.store.page(&all(), None, 0).await.unwrap_err();
    assert!(matches!(error, Error::Refused { .. }), "{error:?}");
}

async fn one_creator(ctx: Ctx) {
    let tasks: Vec<_> = (0..32)
        .map(|who: u32| {
            let store = ctx.store.clone();
            tokio::spawn(async move {
                let txn = Txn::new().when(Compare::Absent(k("a"))).put(k("a"), who.to_string().into_bytes());
                store.txn(txn).await.unwrap().succeeded.then_some(who)
            })
        })
        .collect();
    let mut winners = Vec::new();
    for task in tasks {
        winners.extend(task.await.unwrap());
    }
    assert_eq!(winners.len(), 1);
    assert_eq!(get(&ctx.store, k("a")).await.value, winners[0].to_string().into_bytes());
}

fn number(entry: &Entry) -> i64 {
    std::str::from_utf8(&entry.value).unwrap().parse().unwrap()
}

/// Adds to a counter by compare-and-swap, as often as it takes.
async fn add(store: &Store, key: Key, amount: i64) {
    loop {
        let entry = get(store, key.clone()).await;
        let unchanged = Compare::ModRevision { key: key.clone(), is: entry.mod_revision };
        let value = (number(&entry) + amount).to_string().into_bytes();
        if store.txn(Txn::new().when(unchanged).put(key.clone(), value)).await.unwrap().succeeded {
            return;
        }
    }
}

async fn no_lost_update(ctx: Ctx) {
    put(&ctx.store, k("n"), "0").await;
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let store = ctx.store.clone();
            tokio::spawn(async move {
                for _ in 0..10 {
                    add(&store, k("n"), 1).await;
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let entry = get(&ctx.store, k("n")).await;
    assert_eq!((number(&entry), entry.version), (80, 81));
}

async fn transfers(ctx: Ctx) {
    ctx.store.txn(Txn::new().put(k("a"), b"100".to_vec()).put(k("b"), b"100".to_vec())).await.unwrap();
    let transfer = async |store: &Store, amount: i64| loop {
        let txn = Txn::new().then(Op::Get { key: k("a") }).then(Op::Get { key: k("b") });
        let gets = store.txn(txn).await.unwrap().gets;
        let (a, b) = (gets[0].as_ref().unwrap(), gets[1].as_ref().unwrap());
        assert_eq!(number(a) + number(b), 200, "a read saw half a transfer");
        let txn = Txn::new()
            .when(Compare::ModRevision { key: k("a"), is: a.mod_revision })
            .when(Compare::ModRevision { key: k("b"), is: b.mod_revision })
            .put(k("a"), (number(a) - amount).to_string().into_bytes())
            .put(k("b"), (number(b) + amount).to_string().into_bytes());
        if store.txn(txn).await.unwrap().succeeded {
            return;
        }
    };
    let (one, two) = (ctx.store.clone(), ctx.store.clone());
    let forth = async {
        for amount in 0..15 {
            transfer(&one, amount).await;
        }
    };
    let back = async {
        for amount in 0..15 {
            transfer(&two, -2 * amount).await;
        }
    };
    tokio::join!(forth, back);
    assert_eq!(number(&get(&ctx.store, k("a")).await), 100 - 105 + 210);
    assert_eq!(number(&get(&ctx.store, k("b")).await), 100 + 105 - 210);
}

async fn distinct_revisions(ctx: Ctx) {
    let start = revision(&ctx.store).await;
    let tasks: Vec<_> = (0..64)
        .map(|index| {
            let store = ctx.store.clone();
            tokio::spawn(async move { put(&store, k(index), "x").await })
        })
        .collect();
    let mut revisions = BTreeSet::new();
    for task in tasks {
        revisions.insert(task.await.unwrap());
    }
    let expected: BTreeSet<_> = (1..=64).map(|step| Revision(start.0 + step)).collect();
    assert_eq!(revisions, expected);
}
