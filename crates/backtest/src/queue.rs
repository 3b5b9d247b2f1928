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
pub(crate) const RESTART: Span = Span::minutes(4);

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
        floor: None,
        affinity: None,
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use model::module::{GpuPool, Module};
    use model::workload::{GpuTime, Placement};
    use model::{MicroDollars, Watts};

    /// One module with a pool of 16 GPUs.
    fn fleet() -> Fleet {
        let pool = GpuPool {
            gpu: "h100".into(),
            servers: 2,
            gpus: 8,
            idle: Watts::kilo(2),
            active: Watts::kilo(10),
            cap_min: Watts::kilo(6),
            curve: Vec::new(),
        };
        let module = Module {
            id: Id::new("m").unwrap(),
            site: Id::new("s").unwrap(),
            wired: true,
            limit: Watts::kilo(100),
            cooling: Watts::kilo(100),
            auxiliary: Watts::ZERO,
            loss_permille: 0,
            groups: BTreeMap::new(),
            pools: [(Id::new("p").unwrap(), pool)].into(),
        };
        let offering = Offering {
            id: Id::new("spot").unwrap(),
            tier: Tier::Spot,
            gpu: "h100".into(),
            price: MicroDollars::cents(110),
            notice: Span::ZERO,
            sla_permille: 0,
            floor: None,
        };
        Fleet { sites: Vec::new(), modules: vec![module], offerings: vec![offering] }
    }

    fn made(number: usize, gpus: u32, cents: i64) -> Workload {
        let amount = GpuTime::of(gpus, Span::hours(1));
        let order = Order { at: Time(0), tier: Tier::Spot, gpus, amount, price: None };
        workload(&order, number, &fleet().offerings, MicroDollars::cents(cents)).unwrap()
    }

    /// Which of (GPUs, cents) are shown while `held` GPUs are taken.
    fn check(held: u32, orders: &[(u32, i64)], expected: &[usize]) {
        let mut shown = BTreeMap::new();
        let mut running = made(0, held, 1);
        running.status.phase = Phase::Running;
        let (module, pool) = (Id::new("m").unwrap(), Id::new("p").unwrap());
        running.status.placement = Some(Placement { module, pool, servers: Vec::new(), incarnation: 1 });
        shown.insert(running.id.clone(), running);
        for (index, (gpus, cents)) in orders.iter().enumerate() {
            let order = made(index + 1, *gpus, *cents);
            shown.insert(order.id.clone(), order);
        }
        let mut hidden = BTreeMap::new();
        dearest(&fleet(), &mut shown, &mut hidden);
        let found: Vec<usize> =
            (1..=orders.len()).filter(|number| shown.contains_key(&made(*number, 1, 1).id)).collect();
        assert_eq!(found, expected, "{held} held, {orders:?}");
        assert_eq!(shown.len() + hidden.len(), orders.len() + 1, "nobody is lost, and who runs is shown");
    }

    #[test]
    fn greedy_sees_the_dearest_that_fit_into_what_is_free() {
        check(0, &[(8, 100), (8, 200), (8, 300)], &[2, 3]);
        check(8, &[(8, 100), (8, 200), (8, 300)], &[3]);
        check(8, &[(16, 300), (4, 200), (8, 250), (2, 100)], &[3]);
        check(8, &[(16, 300), (4, 100), (4, 100), (4, 100)], &[2, 3]);
        check(16, &[(1, 900)], &[]);
    }

    #[test]
    fn who_waits_too_long_is_withdrawn_and_who_runs_is_not() {
        let (waiting, mut running) = (made(1, 1, 1), made(2, 1, 1));
        running.status.phase = Phase::Running;
        let tracks: BTreeMap<WorkloadId, Track> =
            [&waiting, &running].map(|work| (work.id.clone(), Track::new(Time(0)))).into();
        let first = waiting.id.clone();
        let open: BTreeMap<WorkloadId, Workload> =
            [waiting, running].map(|work| (work.id.clone(), work)).into();
        let after = |hours| withdrawn(&open, &tracks, Span::hours(24), Time(0) + Span::hours(hours));
        assert_eq!(after(23), Vec::new());
        assert_eq!(after(24), vec![first]);
    }

    #[test]
    fn a_tier_that_is_not_sold_makes_no_workload() {
        let amount = GpuTime::of(1, Span::hours(1));
        let order = Order { at: Time(0), tier: Tier::Firm, gpus: 1, amount, price: None };
        assert!(workload(&order, 1, &fleet().offerings, MicroDollars::ZERO).is_none());
    }
}
