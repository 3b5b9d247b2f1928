//! Writes a plan into the store: only the parts of sites that changed, and the target pointer in one transaction that compares
//! the leader's key and the parent plan. Reads the plan in force back.
//!
//! Assumes at most one leader believes in itself at a time; where two do, the compare lets one through. Read next: `cycle.rs`.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use model::SiteId;
use model::Watts;
use model::plan::Plan;
use service::traces::TARGET;
use store::port::MAX_TXN_OPS;
use store::record::{Versioned, decode_entry, encode};
use store::{Compare, Key, Op, Revision, Store, Txn, TxnOutcome, key};
use tokio::time::timeout;
use tracing::field::Empty;
use tracing::{Instrument, Span, info_span};

use crate::cache::Cache;
use crate::records::{PlanHead, PlanSiteRecord, TargetRecord};

/// Every call to the store ends after this: etcd elects a new leader of its own in 1.6 s, measured; three times that.
pub const STORE_TIMEOUT: Duration = Duration::from_secs(5);
/// Plans kept at most: at one every 30 s, two hours of them, the horizon of a plan.
const KEEP_PLANS: usize = 256;
/// And at least, of a fleet however large.
const KEEP_LEAST: usize = 4;
/// What kept plans weigh together, bytes: with everything else well within the 128 MiB that a controller reads when it starts.
const KEEP_BYTES: usize = 48 * 1024 * 1024;
/// Parts of sites in them: a fifth of the 100,000 entries that it reads then.
const KEEP_PARTS: usize = 20_000;
/// A module's share of a plan, bytes: 2.8 MB of 10,000 modules, less the head (docs/benchmarks.md).
const MODULE_BYTES: usize = 280;
/// A decision's, bytes.
const DECISION_BYTES: usize = 250;
/// Old plans and parts deleted with each transaction: more than one adds, so that pruning keeps up however large the plan.
const MAX_PRUNED: usize = 64;
/// Operations in one transaction of ours: the limit less the target, the head, the fence and what is pruned.
const OPS: usize = MAX_TXN_OPS - MAX_PRUNED - 4;
/// Bytes in one transaction of ours: two thirds of the limit of 1.5 MiB, the rest is for keys and the head.
const BYTES: usize = 1024 * 1024;
/// Decisions stored with a plan: 2,000 at about 250 bytes are 0.5 MB, inside one request together with the head.
const MAX_DECISIONS: usize = 2_000;

/// Why a plan was not committed, or not read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another controller leads: stop acting.
    #[error("another controller leads now; this one stands by")]
    NotLeader,
    /// The store holds a part of an import: what is missing may be grants that agents still act under.
    #[error(
        "an import into the store was left unfinished; run `flareshift store import` again with the same file"
    )]
    HalfImported,
    /// Somebody else moved the target, as an import does: read it again and plan again.
    #[error("the plan in force is no longer the parent of this plan; it is planned again")]
    Outrun,
    /// The store did not answer in time: try again.
    #[error("the store did not answer within {} s; it is tried again", STORE_TIMEOUT.as_secs())]
    Timeout,
    /// The store refused.
    #[error("the store failed while a plan was written or read")]
    Store(#[from] store::Error),
}

/// A plan in force, as stored.
#[derive(Clone, Debug)]
pub struct InForce {
    /// The plan.
    pub plan: Arc<Plan>,
    /// Its head.
    pub head: Arc<PlanHead>,
    /// When the target was last written.
    pub target: Revision,
}

/// Commits a plan on top of `parent`. `fence` is the leader's condition; `None` only in sabotaged runs.
pub async fn commit(
    store: &Store,
    fence: Option<Compare>,
    parent: Option<&InForce>,
    plan: Plan,
    prune: Vec<Key>,
) -> Result<InForce, Error> {
    let head = head(&plan, parent);
    let mut parts = batches(&plan, &head)?;
    let last = parts.pop().unwrap_or_default();
    let mut prune = prune.into_iter().map(|key| Op::Delete { key });
    let mut pruned = || prune.by_ref().take(MAX_PRUNED).collect::<Vec<Op>>();
    let mut txn = flip(&plan, &head, parent, fence.clone())?;
    txn.then.extend(pruned());
    // The last parts travel with the flip where they fit, so that most plans are one transaction.
    let whole = Txn { then: [last.clone(), txn.then.clone()].concat(), ..txn.clone() };
    let txn = if whole.check().is_ok() {
        whole
    } else {
        parts.push(last);
        txn
    };
    for then in parts {
        // What no kept plan uses may go before the new one is in force.
        let then = [then, pruned()].concat();
        let part = Txn { compares: fence.clone().into_iter().collect(), then, otherwise: Vec::new() };
        if !call(store, part).await?.succeeded {
            return Err(Error::NotLeader);
        }
    }
    let target = match call(store, txn).await {
        Ok(outcome) if outcome.succeeded => outcome.revision,
        Ok(_) => return Err(lost_or_outrun(store, fence).await?),
        Err(error) => committed_after_all(store, &head, error).await?,
    };
    Ok(InForce { plan: Arc::new(plan), head: Arc::new(head), target })
}

/// Reads the plan in force; `None` before the first.
pub async fn load(store: &Store) -> Result<Option<InForce>, Error> {
    let Some(target) = get(store, key::target()).await? else { return Ok(None) };
    let generation = decode_entry::<TargetRecord>(&target)?.generation;
    let plan = read_plan(store, generation).await?;
    Ok(plan.map(|(plan, head)| InForce { plan: plan.into(), head: head.into(), target: target.mod_revision }))
}

/// Reads one plan whole; `None` when it is not (or no longer) kept.
pub async fn read_plan(store: &Store, generation: u64) -> Result<Option<(Plan, PlanHead)>, Error> {
    let Some(entry) = get(store, key::plan(generation)).await? else { return Ok(None) };
    let head: PlanHead = decode_entry(&entry)?;
    let mut plan = Plan {
        generation,
        parent: head.parent,
        made: head.made,
        input: head.input.clone(),
        sites: Default::default(),
        worth: head.worth,
        bound: head.bound,
        decisions: head.decisions.clone(),
    };
    for (site, stored) in &head.sites {
        let Some(entry) = get(store, key::plan_site(*stored, site)).await? else { return Ok(None) };
        plan.sites.insert(site.clone(), decode_entry::<PlanSiteRecord>(&entry)?.0.into());
    }
    Ok(Some((plan, head)))
}

/// How many plans are kept: fewer where each weighs more.
pub fn kept(cache: &Cache) -> usize {
    let decisions = cache.plans.values().next_back().map_or(0, |head| head.decisions.len());
    let bytes = decisions * DECISION_BYTES + cache.modules.len() * MODULE_BYTES;
    let by_parts = KEEP_PARTS / cache.sites.len().max(1);
    (KEEP_BYTES / bytes.max(1)).min(by_parts).clamp(KEEP_LEAST, KEEP_PLANS)
}

/// Keys of plans that are no longer kept, and of parts that no kept plan uses.
pub fn prunable(cache: &Cache, keep: usize) -> Vec<Key> {
    let kept = cache.plans.keys().rev().take(keep).copied().collect::<BTreeSet<u64>>();
    let used: BTreeSet<(u64, &SiteId)> = kept
        .iter()
        .filter_map(|generation| cache.plans.get(generation))
        .flat_map(|head| head.sites.iter().map(|(site, stored)| (*stored, site)))
        .collect();
    let newest = kept.last().copied().unwrap_or_default();
    let heads = cache.plans.keys().filter(|generation| !kept.contains(generation)).map(|old| key::plan(*old));
    // A part above the newest plan belongs to one that is just being written.
    let parts =
        cache.parts.iter().filter(|(stored, site)| *stored < newest && !used.contains(&(*stored, site)));
    heads.chain(parts.map(|(stored, site)| key::plan_site(*stored, site))).collect()
}

/// One call with a deadline.
pub async fn call(store: &Store, txn: Txn) -> Result<TxnOutcome, Error> {
    let span = transaction(&txn);
    let outcome = timeout(STORE_TIMEOUT, store.txn(txn)).instrument(span.clone()).await;
    let outcome = outcome.map_err(|_| Error::Timeout).and_then(|outcome| outcome.map_err(Error::Store));
    match &outcome {
        Ok(outcome) => span.record("succeeded", outcome.succeeded),
        Err(_) => span.record("otel.status_code", "ERROR"),
    };
    outcome
}

/// A transaction's span: below what it is a part of, such as a round or a request. Alone it tells nobody anything.
fn transaction(txn: &Txn) -> Span {
    if Span::current().is_none() {
        return Span::none();
    }
    info_span!(
        target: TARGET,
        "transaction",
        otel.kind = "client",
        compares = txn.compares.len(),
        operations = txn.then.len(),
        succeeded = Empty,
        otel.status_code = Empty
    )
}

/// Splits operations into transactions within the store's limits.
pub fn split(ops: Vec<Op>) -> Vec<Vec<Op>> {
    let mut batches: Vec<Vec<Op>> = vec![Vec::new()];
    let mut bytes = 0;
    for op in ops {
        let weight = op.weight();
        let full = batches.last().is_none_or(|batch| batch.len() >= OPS || bytes + weight > BYTES);
        if full && bytes > 0 {
            batches.push(Vec::new());
            bytes = 0;
        }
        bytes += weight;
        if let Some(batch) = batches.last_mut() {
            batch.push(op);
        }
    }
    batches
}

/// A put of a record.
pub fn put<T: Versioned>(key: Key, record: &T) -> Result<Op, store::Error> {
    Ok(Op::Put { key, value: encode(record)?, lease: None })
}

fn head(plan: &Plan, parent: Option<&InForce>) -> PlanHead {
    let stored_at = |site: &SiteId| {
        let old =
            parent.and_then(|parent| Some((parent.plan.sites.get(site)?, *parent.head.sites.get(site)?)));
        old.filter(|(old, _)| plan.sites.get(site) == Some(old)).map_or(plan.generation, |(_, stored)| stored)
    };
    let modules = || plan.sites.values().flat_map(|site| site.modules.values());
    PlanHead {
        generation: plan.generation,
        parent: plan.parent,
        made: plan.made,
        input: plan.input.clone(),
        worth: plan.worth,
        sites: plan.sites.keys().map(|site| (site.clone(), stored_at(site))).collect(),
        runs: u32::try_from(modules().map(|module| module.runs.len()).sum::<usize>()).unwrap_or(u32::MAX),
        ceilings: modules().map(|module| module.ceiling).sum::<Watts>(),
        bound: plan.bound,
        decisions: plan.decisions.iter().take(MAX_DECISIONS).cloned().collect(),
    }
}

fn batches(plan: &Plan, head: &PlanHead) -> Result<Vec<Vec<Op>>, Error> {
    let changed = head.sites.iter().filter(|(_, stored)| **stored == plan.generation);
    let ops = changed.filter_map(|(site, _)| {
        let part = PlanSiteRecord(plan.sites.get(site)?.clone().take());
        Some(put(key::plan_site(plan.generation, site), &part))
    });
    let ops = ops.collect::<Result<Vec<Op>, store::Error>>()?;
    Ok(split(ops))
}

/// The step that puts a plan in force: head and target, on the condition that leader and parent are as they were. Parts that are
/// stored before it are of no plan yet, so nobody ever reads half of one.
fn flip(
    plan: &Plan,
    head: &PlanHead,
    parent: Option<&InForce>,
    fence: Option<Compare>,
) -> Result<Txn, Error> {
    let on_parent = match parent {
        Some(parent) => Compare::ModRevision { key: key::target(), is: parent.target },
        None => Compare::Absent(key::target()),
    };
    let then = vec![
        put(key::plan(plan.generation), head)?,
        put(key::target(), &TargetRecord { generation: plan.generation })?,
    ];
    Ok(Txn { compares: fence.into_iter().chain([on_parent]).collect(), then, otherwise: Vec::new() })
}

async fn get(store: &Store, key: Key) -> Result<Option<store::Entry>, Error> {
    Ok(timeout(STORE_TIMEOUT, store.get(&key)).await.map_err(|_| Error::Timeout)??)
}

async fn lost_or_outrun(store: &Store, fence: Option<Compare>) -> Result<Error, Error> {
    let Some(fence) = fence else { return Ok(Error::Outrun) };
    let present = get(store, fence.key().clone()).await?;
    Ok(if fence.holds(present.as_ref()) { Error::Outrun } else { Error::NotLeader })
}

/// A write whose answer never came may have taken place: the target tells.
async fn committed_after_all(store: &Store, head: &PlanHead, error: Error) -> Result<Revision, Error> {
    if !matches!(error, Error::Timeout | Error::Store(store::Error::UnknownOutcome { .. })) {
        return Err(error);
    }
    let Some(target) = get(store, key::target()).await? else { return Err(error) };
    let mine = decode_entry::<TargetRecord>(&target)?.generation == head.generation;
    let stored = get(store, key::plan(head.generation)).await?;
    let same = stored.map(|entry| decode_entry::<PlanHead>(&entry)).transpose()?.as_ref() == Some(head);
    if mine && same { Ok(target.mod_revision) } else { Err(error) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use model::plan::{Decision, ReasonCode, Subject};
    use store::{Clock, Election};

    use super::*;
    use crate::testing::{self, TestDir};

    fn plan(generation: u64, ceiling: i64) -> Plan {
        let workload = testing::workload("w", "t", 2);
        let mut plan = testing::plan_with(&workload.id, testing::placement("m1", 1));
        plan.generation = generation;
        plan.parent = (generation > 1).then(|| generation - 1);
        for module in plan.sites.values_mut().flat_map(|site| site.modules.values_mut()) {
            module.ceiling = Watts::kilo(ceiling);
        }
        plan
    }

    #[tokio::test]
    async fn a_plan_is_stored_where_it_changed_and_read_back_whole() {
        let dir = TestDir::new("commit");
        let store = dir.store();
        let first = commit(&store, None, None, plan(1, 100), Vec::new()).await.unwrap();
        let second = commit(&store, None, Some(&first), plan(2, 100), Vec::new()).await.unwrap();
        let third = commit(&store, None, Some(&second), plan(3, 90), Vec::new()).await.unwrap();
        let stored = |in_force: &InForce| *in_force.head.sites.values().next().unwrap();
        assert_eq!([stored(&first), stored(&second), stored(&third)], [1, 1, 3]);
        assert_eq!(read_plan(&store, 2).await.unwrap().unwrap().0, plan(2, 100));
        let loaded = load(&store).await.unwrap().unwrap();
        assert_eq!((&*loaded.plan, loaded.target), (&plan(3, 90), third.target));
        assert!(read_plan(&store, 9).await.unwrap().is_none());
        assert_eq!((third.head.runs, third.head.ceilings), (1, Watts::kilo(90)));
    }

    #[tokio::test]
    async fn a_plan_on_an_old_parent_is_refused_and_the_old_one_stays() {
        let dir = TestDir::new("outrun");
        let store = dir.store();
        let first = commit(&store, None, None, plan(1, 100), Vec::new()).await.unwrap();
        commit(&store, None, Some(&first), plan(2, 100), Vec::new()).await.unwrap();
        let error = commit(&store, None, Some(&first), plan(2, 50), Vec::new()).await.unwrap_err();
        assert!(matches!(error, Error::Outrun), "{error:?}");
        assert_eq!(*load(&store).await.unwrap().unwrap().plan, plan(2, 100));
    }

    #[tokio::test]
    async fn a_former_leader_cannot_commit_and_its_successor_can() {
        let dir = TestDir::new("fence");
        let store = dir.store();
        let election = Election::new(store.clone(), key::leader(), Clock::boot());
        let ttl = Duration::from_secs(60);
        let former = election.campaign(b"one".to_vec(), ttl).await.unwrap();
        let stale = former.fence_compare();
        former.resign().await.unwrap();
        let leader = election.campaign(b"two".to_vec(), ttl).await.unwrap();
        let error = commit(&store, Some(stale.clone()), None, plan(1, 100), Vec::new()).await.unwrap_err();
        assert!(matches!(error, Error::NotLeader), "{error:?}");
        assert!(load(&store).await.unwrap().is_none());
        commit(&store, Some(leader.fence_compare()), None, plan(1, 100), Vec::new()).await.unwrap();
        // What the fence guards against, shown by leaving it out: the former leader gets through.
        let in_force = load(&store).await.unwrap().unwrap();
        commit(&store, None, Some(&in_force), plan(2, 1), Vec::new()).await.unwrap();
    }

    /// A plan of many sites, each of whose parts is new.
    fn large(generation: u64, sites: usize, decisions: usize) -> Plan {
        let mut plan = plan(generation, 100 + i64::try_from(generation).unwrap());
        let part = plan.sites.values().next().unwrap().clone();
        let name = |index: usize| SiteId::new(&format!("well-{index:04}")).unwrap();
        plan.sites = (0..sites).map(|index| (name(index), part.clone())).collect();
        let decision = Decision {
            subject: Subject::Site(name(0)),
            reason: ReasonCode::NoPower,
            binding: Some("x".repeat(300)),
            shadow_price: None,
            rejected: None,
        };
        plan.decisions = vec![decision.into(); decisions];
        plan
    }

    /// Gives each site so many modules.
    fn widen(plan: &mut Plan, modules: usize) {
        for site in plan.sites.values_mut() {
            let module = site.modules.values().next().unwrap().clone();
            let name = |index: usize| model::ModuleId::new(&format!("m{index}")).unwrap();
            site.modules = (0..modules).map(|index| (name(index), module.clone())).collect();
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_plan_of_many_transactions_is_never_seen_by_half() {
        let dir = TestDir::new("large");
        let store = dir.store();
        let mut in_force = commit(&store, None, None, large(1, 300, 0), Vec::new()).await.unwrap();
        let reader = tokio::spawn({
            let store = store.clone();
            async move {
                let mut seen = BTreeSet::new();
                while seen.last() != Some(&4) {
                    let plan = load(&store).await.unwrap().expect("a plan is in force").plan;
                    let ceilings: BTreeSet<Watts> = plan
                        .sites
                        .values()
                        .flat_map(|site| site.modules.values())
                        .map(|m| m.ceiling)
                        .collect();
                    assert_eq!(
                        (plan.sites.len(), ceilings.len()),
                        (300, 1),
                        "half of plan {}",
                        plan.generation
                    );
                    seen.insert(plan.generation);
                    // Reads of the embedded twin never wait: the writer shall have its turn.
                    tokio::task::yield_now().await;
                }
            }
        });
        for generation in 2..=4 {
            let plan = large(generation, 300, 0);
            in_force = commit(&store, None, Some(&in_force), plan, Vec::new()).await.unwrap();
        }
        reader.await.unwrap();
        assert_eq!(in_force.head.sites.values().copied().collect::<BTreeSet<u64>>(), [4].into());
    }

    #[tokio::test]
    async fn the_largest_head_leaves_the_last_parts_to_a_transaction_of_their_own() {
        let dir = TestDir::new("head");
        let store = dir.store();
        let mut plan = large(1, 2, MAX_DECISIONS);
        widen(&mut plan, 2000);
        let head = head(&plan, None);
        let flip = flip(&plan, &head, None, None).unwrap();
        let last = batches(&plan, &head).unwrap().pop().unwrap();
        let whole = Txn { then: [last, flip.then.clone()].concat(), ..flip };
        assert!(whole.check().is_err(), "together they weigh {} bytes", whole.weight());
        commit(&store, None, None, plan.clone(), Vec::new()).await.unwrap();
        assert_eq!(*load(&store).await.unwrap().unwrap().plan, plan);
    }

    #[tokio::test]
    async fn a_part_that_no_transaction_can_hold_is_named() {
        let dir = TestDir::new("huge");
        let store = dir.store();
        let mut plan = plan(1, 100);
        widen(&mut plan, 9000);
        let error = commit(&store, None, None, plan, Vec::new()).await.unwrap_err();
        let Error::Store(error @ store::Error::Limit { .. }) = error else { panic!("{error:?}") };
        assert!(error.to_string().contains("plan/00000000000000000001/well-7"), "{error}");
        assert!(load(&store).await.unwrap().is_none());
    }

    #[test]
    fn batches_stay_within_the_limits_of_the_store() {
        let op = |bytes: usize| Op::Put { key: key::target(), value: vec![0; bytes], lease: None };
        let sizes = |ops: Vec<Op>| split(ops).iter().map(Vec::len).collect::<Vec<usize>>();
        assert_eq!(sizes(Vec::new()), [0]);
        assert_eq!(sizes(vec![op(10); OPS + 1]), [OPS, 1]);
        assert_eq!(sizes(vec![op(400_000); 5]), [2, 2, 1]);
        assert_eq!(sizes(vec![op(2 * BYTES), op(1)]), [1, 1]);
    }

    #[tokio::test]
    async fn pruning_keeps_up_with_plans_of_many_parts() {
        let dir = TestDir::new("prune");
        let store = dir.store();
        let mut in_force: Option<InForce> = None;
        let known = async || {
            let everything = store.range(&key::plans()).await.unwrap();
            let mut cache = Cache::default();
            cache.apply(&store::WatchEvent::Snapshot(everything));
            cache
        };
        for generation in 1..=12 {
            let prune = prunable(&known().await, KEEP_LEAST);
            let plan = large(generation, 300, 0);
            in_force = Some(commit(&store, None, in_force.as_ref(), plan, prune).await.unwrap());
        }
        let cache = known().await;
        // Those kept, and the one that was committed since.
        let plans: Vec<u64> = cache.plans.keys().copied().collect();
        assert_eq!((plans, cache.parts.len()), ((8..=12).collect(), 5 * 300));
        assert_eq!(*load(&store).await.unwrap().unwrap().plan, large(12, 300, 0));
    }

    #[test]
    fn a_large_fleet_keeps_fewer_plans() {
        let check = |sites: usize, modules: usize, decisions: usize, expected: usize| {
            let fleet = testing::cache(&testing::fleet());
            let (site, module) =
                (fleet.sites.values().next().unwrap(), fleet.modules.values().next().unwrap());
            let mut head = head(&large(1, 1, decisions), None);
            head.generation = 1;
            let mut cache = Cache::default();
            let site_name = |index: usize| SiteId::new(&format!("s{index}")).unwrap();
            let module_name = |index: usize| model::ModuleId::new(&format!("m{index}")).unwrap();
            cache.sites = (0..sites).map(|index| (site_name(index), site.clone())).collect();
            cache.modules = (0..modules).map(|index| (module_name(index), module.clone())).collect();
            cache.plans.insert(1, Arc::new(head));
            assert_eq!(kept(&cache), expected, "{sites} sites, {modules} modules, {decisions} decisions");
        };
        check(0, 0, 0, KEEP_PLANS);
        check(2, 6, 30, KEEP_PLANS);
        check(78, 312, 1_400, 115);
        check(250, 1_000, 2_000, 64);
        check(2_500, 10_000, 2_000, 8);
        check(10_000, 10_000, 2_000, KEEP_LEAST);
    }

    #[test]
    fn pruning_keeps_the_parts_that_kept_plans_use() {
        let mut cache = Cache::default();
        let site = SiteId::new("well-7").unwrap();
        for (generation, stored) in [(1, 1), (2, 1), (3, 3), (4, 3)] {
            let mut head = head(&plan(generation, 1), None);
            head.sites.insert(site.clone(), stored);
            cache.plans.insert(generation, Arc::new(head));
            cache.parts.insert((stored, site.clone()));
        }
        let check = |keep: usize, expected: &[Key]| assert_eq!(prunable(&cache, keep), expected, "{keep}");
        check(9, &[]);
        check(3, &[key::plan(1)]);
        check(2, &[key::plan(1), key::plan(2), key::plan_site(1, "well-7")]);
    }
}
