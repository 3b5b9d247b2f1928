//! Orders that wait: how they come, when they are withdrawn, and which of them `greedy` looks at.
//!
//! Used by [`crate::engine`].

use std::collections::BTreeMap;

use model::fleet::Fleet;
use model::tenant::Offering;
use model::workload::{Phase, Spec, Tier, Workload};
use model::{Id, ModuleId, PoolId, Span, TenantId, Time, WorkloadId};

use crate::track::Track;
use crate::world::Order;

/// Checkpoints, saves and restarts of every order: an hour's training job as the field knows it (restart 2 to 10 min).
const CHECKPOINT: Span = Span::minutes(10);
const SAVE: Span = Span::secs(30);
const RESTART: Span = Span::minutes(4);

/// The workload of an order; `None` where no offering has its tier.
pub(crate) fn workload(
    order: &Order,
    number: usize,
    offerings: &[Offering],
    price: model::MicroDollars,
) -> Option<Workload> {
    let offering = offerings.iter().find(|offering| offering.tier == order.tier)?;
    let spec = Spec {
        offering: offering.id.clone(),
        tier: order.tier,
        gpu: offering.gpu.clone(),
        gpus: order.gpus,
        amount: Some(order.amount),
        price,
        checkpoint: CHECKPOINT,
        save: SAVE,
        restart: RESTART,
    };
    let id: WorkloadId = Id::new(&format!("job-{number:07}")).ok()?;
    let tenant: TenantId = Id::new("replay").ok()?;
    Some(Workload::accepted(id, tenant, spec, order.at))
}

/// Orders that have waited too long.
pub(crate) fn withdrawn(
    workloads: &BTreeMap<WorkloadId, Workload>,
    tracks: &BTreeMap<WorkloadId, Track>,
    patience: Span,
    now: Time,
) -> Vec<WorkloadId> {
    let waits = workloads.iter().filter(|(_, workload)| workload.status.phase == Phase::Pending);
    let long =
        waits.filter(|(id, _)| tracks.get(*id).is_some_and(|track| now.since(track.waits_since) >= patience));
    long.map(|(id, _)| id.clone()).collect()
}

/// What `greedy` shows to the planner: of the waiting orders the dearest first, as long as each fits into GPUs that are free now.
/// The others stay hidden, so that nobody gives way to them.
pub(crate) fn dearest(
    fleet: &Fleet,
    shown: &mut BTreeMap<WorkloadId, Workload>,
    hidden: &mut BTreeMap<WorkloadId, Workload>,
) {
    let waiting: Vec<WorkloadId> = shown
        .iter()
        .filter(|(_, workload)| workload.status.phase == Phase::Pending)
        .map(|(id, _)| id.clone())
        .collect();
    for id in waiting {
        if let Some(workload) = shown.remove(&id) {
            hidden.insert(id, workload);
        }
    }
    let mut free = free(fleet, shown);
    let mut order: Vec<(std::cmp::Reverse<i64>, Tier, WorkloadId)> = hidden
        .iter()
        .map(|(id, work)| (std::cmp::Reverse(work.spec.price.get()), work.spec.tier, id.clone()))
        .collect();
    order.sort();
    for (_, _, id) in order {
        let Some(wanted) = hidden.get(&id).map(|work| work.spec.gpus) else { continue };
        let Some(room) = free.values_mut().filter(|room| **room >= wanted).min() else { continue };
        *room -= wanted;
        if let Some(workload) = hidden.remove(&id) {
            shown.insert(id, workload);
        }
    }
}

fn free(fleet: &Fleet, shown: &BTreeMap<WorkloadId, Workload>) -> BTreeMap<(ModuleId, PoolId), u32> {
    let pools = fleet.modules.iter().flat_map(|module| {
        module.pools.iter().map(|(id, pool)| ((module.id.clone(), id.clone()), pool.total_gpus()))
    });
    let mut free: BTreeMap<(ModuleId, PoolId), u32> = pools.collect();
    for workload in shown.values().filter(|workload| workload.status.phase.holds()) {
        let Some(placement) = &workload.status.placement else { continue };
        if let Some(room) = free.get_mut(&(placement.module.clone(), placement.pool.clone())) {
            *room = room.saturating_sub(workload.spec.gpus);
        }
    }
    free
}
