//! Cases: leases, election and fencing.
//!
//! Assumes: the shortest lease lives two seconds; the embedded twin's time is driven, etcd's is waited for.
//! Read next: `crash.rs`.

use std::time::Duration;

use store::port::MIN_LEASE_TTL;
use store::{Change, Compare, Election, Error, LeaseId, Txn, WatchEvent, key};

use crate::twins::next;
use crate::txn::put;
use crate::{Case, Ctx, all, case, k};

pub const CASES: &[Case] = &[
    case("a_lease_gets_at_least_the_shortest_time", |ctx| Box::pin(shortest(ctx))),
    case("lease_times_are_whole_seconds", |ctx| Box::pin(whole_seconds(ctx))),
    case("a_lease_for_ever_is_refused", |ctx| Box::pin(too_long(ctx))),
    case("leases_have_names_of_their_own", |ctx| Box::pin(distinct(ctx))),
    case("revoking_deletes_what_the_lease_holds_in_one_revision", |ctx| Box::pin(revoke(ctx))),
    case("a_lease_that_holds_nothing_ends_quietly", |ctx| Box::pin(revoke_empty(ctx))),
    case("an_expired_lease_deletes_what_it_holds_in_one_revision", |ctx| Box::pin(expire(ctx))),
    case("a_lease_that_is_kept_alive_stays", |ctx| Box::pin(keep_alive(ctx))),
    case("a_lease_that_is_gone_cannot_be_used", |ctx| Box::pin(gone(ctx))),
    case("a_put_without_the_lease_sets_the_key_free", |ctx| Box::pin(set_free(ctx))),
    case("a_key_moves_from_lease_to_lease", |ctx| Box::pin(moves(ctx))),
    case("the_first_candidate_leads", |ctx| Box::pin(first_leads(ctx))),
    case("a_second_candidate_waits_until_the_first_resigns", |ctx| Box::pin(waits(ctx))),
    case("an_abandoned_office_is_taken_over", |ctx| Box::pin(takeover(ctx))),
    case("a_deposed_leader_cannot_write", |ctx| Box::pin(fencing(ctx))),
    case("a_fence_outlives_a_rewrite_of_the_leader_key", |ctx| Box::pin(rewrite(ctx))),
    case("a_leader_learns_that_it_was_deposed", |ctx| Box::pin(learns(ctx))),
    case("a_leader_knows_by_its_own_clock_when_to_stop", |ctx| Box::pin(own_clock(ctx))),
    case("of_many_candidates_one_leads_at_a_time", |ctx| Box::pin(one_at_a_time(ctx))),
];

const TTL: Duration = MIN_LEASE_TTL;
/// Long enough that nothing expires while a case runs.
const LONG: Duration = Duration::from_secs(60);

async fn shortest(ctx: Ctx) {
    assert_eq!(ctx.store.lease_grant(Duration::from_millis(1)).await.unwrap().ttl, TTL);
}

async fn whole_seconds(ctx: Ctx) {
    let lease = ctx.store.lease_grant(Duration::from_millis(4100)).await.unwrap();
    assert_eq!(lease.ttl, Duration::from_secs(5));
}

async fn too_long(ctx: Ctx) {
    let error = ctx.store.lease_grant(Duration::from_secs(1_000_000)).await.unwrap_err();
    assert!(matches!(error, Error::Refused { .. }), "{error:?}");
}

async fn distinct(ctx: Ctx) {
    let one = ctx.store.lease_grant(LONG).await.unwrap();
    let two = ctx.store.lease_grant(LONG).await.unwrap();
    assert_ne!(one.id, two.id);
}

async fn put_leased(ctx: &Ctx, name: &str, lease: LeaseId) {
    ctx.store.txn(Txn::new().put_leased(k(name), vec![1], lease)).await.unwrap();
}

/// The keys that the next commit deletes, if it does nothing else.
async fn deleted(watch: &mut store::Watch) -> Vec<String> {
    let WatchEvent::Commit(commit) = next(watch).await else { panic!("a commit was expected") };
    let one = |change: Change| match change {
        Change::Delete(key) => key.to_string(),
        Change::Put(entry) => panic!("{} was put", entry.key),
    };
    commit.changes.into_iter().map(one).collect()
}

async fn watching(ctx: &Ctx) -> store::Watch {
    let mut watch = ctx.store.watch(&all(), None);
    assert!(matches!(next(&mut watch).await, WatchEvent::Snapshot(_)));
    watch
}

async fn revoke(ctx: Ctx) {
    let lease = ctx.store.lease_grant(LONG).await.unwrap().id;
    put_leased(&ctx, "b", lease).await;
    put_leased(&ctx, "a", lease).await;
    put(&ctx.store, k("free"), "x").await;
    assert_eq!(ctx.store.get(&k("a")).await.unwrap().unwrap().lease, Some(lease));
    let mut watch = watching(&ctx).await;
    ctx.store.lease_revoke(lease).await.unwrap();
    assert_eq!(deleted(&mut watch).await, ["t/a", "t/b"]);
    assert!(ctx.store.get(&k("free")).await.unwrap().is_some());
}

async fn revoke_empty(ctx: Ctx) {
    let before = put(&ctx.store, k("a"), "x").await;
    let lease = ctx.store.lease_grant(LONG).await.unwrap().id;
    ctx.store.lease_revoke(lease).await.unwrap();
    assert_eq!(put(&ctx.store, k("a"), "x").await, before.next());
}

async fn expire(ctx: Ctx) {
    let lease = ctx.store.lease_grant(TTL).await.unwrap().id;
    let txn = Txn::new().put_leased(k("a"), vec![], lease).put_leased(k("b"), vec![], lease);
    ctx.store.txn(txn).await.unwrap();
    let mut watch = watching(&ctx).await;
    ctx.pass(TTL).await;
    assert_eq!(deleted(&mut watch).await, ["t/a", "t/b"]);
    assert_eq!(ctx.store.range(&all()).await.unwrap().entries, []);
}

async fn keep_alive(ctx: Ctx) {
    let kept = ctx.store.lease_grant(TTL).await.unwrap().id;
    let left = ctx.store.lease_grant(TTL).await.unwrap().id;
    put_leased(&ctx, "kept", kept).await;
    put_leased(&ctx, "left", left).await;
    let mut watch = watching(&ctx).await;
    // etcd looks for expired leases twice a second, hence the long wait in small steps.
    for _ in 0..8 {
        ctx.pass(TTL / 4).await;
        ctx.store.lease_keep_alive(kept).await.unwrap();
    }
    assert_eq!(deleted(&mut watch).await, ["t/left"]);
    assert!(ctx.store.get(&k("kept")).await.unwrap().is_some());
    ctx.pass(TTL).await;
    assert_eq!(deleted(&mut watch).await, ["t/kept"]);
}

async fn gone(ctx: Ctx) {
    let lease = ctx.store.lease_grant(LONG).await.unwrap().id;
    ctx.store.lease_revoke(lease).await.unwrap();
    let errors = [
        ctx.store.lease_keep_alive(lease).await.unwrap_err(),
        ctx.store.lease_revoke(lease).await.unwrap_err(),
        ctx.store.txn(Txn::new().put(k("b"), vec![]).put_leased(k("a"), vec![], lease)).await.unwrap_err(),
    ];
    for error in errors {
        assert!(matches!(error, Error::LeaseNotFound { lease: l } if l == lease), "{error:?}");
    }
    assert_eq!(ctx.store.range(&all()).await.unwrap().entries, []);
}

async fn set_free(ctx: Ctx) {
    let lease = ctx.store.lease_grant(LONG).await.unwrap().id;
    put_leased(&ctx, "a", lease).await;
    put(&ctx.store, k("a"), "free").await;
    ctx.store.lease_revoke(lease).await.unwrap();
    assert_eq!(ctx.store.get(&k("a")).await.unwrap().unwrap().lease, None);
}

async fn moves(ctx: Ctx) {
    let one = ctx.store.lease_grant(LONG).await.unwrap().id;
    let two = ctx.store.lease_grant(LONG).await.unwrap().id;
    put_leased(&ctx, "a", one).await;
    put_leased(&ctx, "a", two).await;
    ctx.store.lease_revoke(one).await.unwrap();
    assert!(ctx.store.get(&k("a")).await.unwrap().is_some());
    ctx.store.lease_revoke(two).await.unwrap();
    assert!(ctx.store.get(&k("a")).await.unwrap().is_none());
}

fn election(ctx: &Ctx) -> Election {
    Election::new(ctx.store.clone(), key::leader(), ctx.clock.clone())
}

async fn first_leads(ctx: Ctx) {
    let election = election(&ctx);
    assert_eq!(election.leader().await.unwrap(), None);
    let leadership = election.campaign(b"one".to_vec(), LONG).await.unwrap();
    let leader = election.leader().await.unwrap().unwrap();
    assert_eq!(
        (leader.value.as_slice(), leader.create_revision),
        (&b"one"[..], leadership.create_revision())
    );
    leadership.resign().await.unwrap();
    assert_eq!(election.leader().await.unwrap(), None);
}

async fn waits(ctx: Ctx) {
    let election = election(&ctx);
    let first = election.campaign(b"one".to_vec(), LONG).await.unwrap();
    let fence = first.create_revision();
    let second = tokio::spawn({
        let election = election.clone();
        async move { election.campaign(b"two".to_vec(), LONG).await.unwrap() }
    });
    put(&ctx.store, k("meanwhile"), "x").await;
    assert_eq!(election.leader().await.unwrap().unwrap().value, b"one");
    assert!(!second.is_finished());
    first.resign().await.unwrap();
    let second = second.await.unwrap();
    assert!(second.create_revision() > fence);
    assert_eq!(election.leader().await.unwrap().unwrap().value, b"two");
}

async fn takeover(ctx: Ctx) {
    let election = election(&ctx);
    let first = election.campaign(b"one".to_vec(), TTL).await.unwrap();
    // As a crash: nobody renews, nobody resigns.
    drop(first);
    let pass = async {
        ctx.pass(TTL).await;
    };
    let (second, ()) = tokio::join!(election.campaign(b"two".to_vec(), TTL), pass);
    assert_eq!(election.leader().await.unwrap().unwrap().create_revision, second.unwrap().create_revision());
}

async fn fencing(ctx: Ctx) {
    let election = election(&ctx);
    let stale = election.campaign(b"one".to_vec(), LONG).await.unwrap();
    let write = |fence: Compare, value: &str| Txn::new().when(fence).put(key::target(), value.into());
    assert!(ctx.store.txn(write(stale.fence_compare(), "one")).await.unwrap().succeeded);
    // The lease ends while the first leader is paused and believes in itself.
    ctx.store.lease_revoke(stale.lease().id).await.unwrap();
    assert!(
        !ctx.store.txn(write(stale.fence_compare(), "late")).await.unwrap().succeeded,
        "no leader at all"
    );
    let fresh = election.campaign(b"two".to_vec(), LONG).await.unwrap();
    assert!(!ctx.store.txn(write(stale.fence_compare(), "later")).await.unwrap().succeeded, "another leader");
    assert!(ctx.store.txn(write(fresh.fence_compare(), "two")).await.unwrap().succeeded);
    assert_eq!(ctx.store.get(&key::target()).await.unwrap().unwrap().value, b"two");
}

async fn rewrite(ctx: Ctx) {
    let leadership = election(&ctx).campaign(b"one".to_vec(), LONG).await.unwrap();
    let lease = leadership.lease().id;
    let txn = Txn::new().when(leadership.fence_compare()).put_leased(key::leader(), b"moved".to_vec(), lease);
    assert!(ctx.store.txn(txn).await.unwrap().succeeded);
    let txn = Txn::new().when(leadership.fence_compare()).put(k("a"), vec![]);
    assert!(ctx.store.txn(txn).await.unwrap().succeeded);
}

async fn learns(ctx: Ctx) {
    let leadership = election(&ctx).campaign(b"one".to_vec(), TTL).await.unwrap();
    assert!(!leadership.may_be_gone(ctx.clock.now()));
    ctx.store.lease_revoke(leadership.lease().id).await.unwrap();
    leadership.lost().await;
    assert!(leadership.may_be_gone(ctx.clock.now()));
}

async fn own_clock(ctx: Ctx) {
    let before = ctx.clock.now();
    let leadership = election(&ctx).campaign(b"one".to_vec(), LONG).await.unwrap();
    let after = ctx.clock.now();
    assert!(!leadership.may_be_gone(before + LONG - LONG / 500));
    assert!(leadership.may_be_gone(after + LONG), "not a moment longer than the lease itself");
}

async fn one_at_a_time(ctx: Ctx) {
    let candidates: Vec<_> = (0..4)
        .map(|who: u8| {
            let (election, store) = (election(&ctx), ctx.store.clone());
            tokio::spawn(async move {
                let leadership = election.campaign(vec![who], LONG).await.unwrap();
                let busy = Txn::new()
                    .when(leadership.fence_compare())
                    .when(Compare::Absent(k("in-office")))
                    .put(k("in-office"), vec![who]);
                assert!(store.txn(busy).await.unwrap().succeeded, "two lead at once");
                let done = Txn::new().when(leadership.fence_compare()).delete(k("in-office"));
                assert!(store.txn(done).await.unwrap().succeeded);
                let fence = leadership.create_revision();
                leadership.resign().await.unwrap();
                fence
            })
        })
        .collect();
    let mut fences = Vec::new();
    for candidate in candidates {
        fences.push(candidate.await.unwrap());
    }
    fences.sort();
    fences.dedup();
    assert_eq!(fences.len(), 4);
}
