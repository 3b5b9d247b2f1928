//! What energy was used for, second by second: from the feeders' meters, the pools' and the runs', and the module's description.
//!
//! Pure. It assumes that powers are means since the reading before. Read next: [`super::page`], which adds this up.

use std::collections::BTreeMap;

use control::port::Slow;
use model::ledger::Use;
use model::module::{GpuPool, Module};
use model::report::RunPhase;
use model::{PoolId, SoldBy, Span, WattSeconds, Watts, WorkloadId};

use super::Owner;

/// Energy by use between two readings `dt` apart: feeders and pools are read as means since the reading before.
pub(super) fn attribute(
    module: &Module,
    owners: &BTreeMap<WorkloadId, Owner>,
    before: &Slow,
    slow: &Slow,
    dt: Span,
) -> BTreeMap<Use, WattSeconds> {
    let mut uses = BTreeMap::new();
    for group in module.groups.keys() {
        if let Some(power) = slow.groups.get(group).and_then(|reading| reading.power) {
            uses.insert(Use::Mining { group: group.clone() }, power.for_span(dt));
        }
    }
    for (id, pool) in &module.pools {
        if let Some(power) = slow.pools.get(id).and_then(|reading| reading.power) {
            uses.extend(split_pool(id, pool, power.for_span(dt), owners, slow, dt));
        }
    }
    let auxiliary = auxiliary(module, before, slow, dt, uses.values().copied().sum());
    if auxiliary > WattSeconds::ZERO {
        uses.insert(Use::Auxiliary, auxiliary);
    }
    let load: WattSeconds = uses.values().copied().sum();
    uses.insert(Use::Loss, load.fraction(module.loss_permille.into(), 1_000));
    uses
}

/// What fans and controls drew. They have no meter: with power they draw what the description says. When power came or went since
/// the reading before, nobody saw at which moment: then it is what the register counted beyond the metered uses and their loss.
fn auxiliary(module: &Module, before: &Slow, slow: &Slow, dt: Span, metered: WattSeconds) -> WattSeconds {
    let whole = module.auxiliary.for_span(dt);
    let has_power = |slow: &Slow| slow.meter.is_some_and(|meter| meter > Watts::ZERO);
    let changed = before.meter.is_some() && has_power(before) != has_power(slow);
    match before.register.zip(slow.register).filter(|_| changed) {
        Some((begin, end)) => {
            let behind_loss = (end - begin).fraction(1_000, 1_000 + i64::from(module.loss_permille));
            (behind_loss - metered).at_least_zero().min(whole)
        }
        None if has_power(slow) => whole,
        None => WattSeconds::ZERO,
    }
}

/// Splits a pool's energy: each run bears what its own GPUs drew, and what is left is idle. Where a pool's runs are not metered
/// one by one, whoever holds GPUs bears their share of the servers' idle power, and those that run share the swing above it.
fn split_pool(
    id: &PoolId,
    pool: &GpuPool,
    energy: WattSeconds,
    owners: &BTreeMap<WorkloadId, Owner>,
    slow: &Slow,
    dt: Span,
) -> BTreeMap<Use, WattSeconds> {
    let up = slow.pools.get(id).map_or(pool.servers, |reading| reading.up);
    let base = energy.min(pool.idle.times(up.into()).for_span(dt));
    let total = i64::from(up) * i64::from(pool.gpus);
    let own = owners.iter().filter(|(_, owner)| owner.pool == *id);
    // A tenant's own machines draw until their feeder opens.
    let shell = SoldBy::of(&pool.gpu) == SoldBy::Kilowatt;
    let seen = |phase| if shell && phase == RunPhase::Stopping { RunPhase::Running } else { phase };
    let runs: Vec<(&WorkloadId, &Owner, Option<RunPhase>)> = own
        .map(|(workload, owner)| (workload, owner, slow.runs.get(workload).map(|run| seen(run.phase))))
        .collect();
    let running = runs.iter().filter(|run| run.2 == Some(RunPhase::Running));
    let running: i64 = running.map(|(_, owner, _)| i64::from(owner.gpus)).sum();
    let mut uses = BTreeMap::new();
    for (workload, owner, phase) in runs {
        let gpus = i64::from(owner.gpus);
        let part = match (slow.drawn.get(workload), phase) {
            (Some(drawn), _) => drawn.for_span(dt),
            (None, Some(RunPhase::Running)) => {
                base.fraction(gpus, total) + (energy - base).fraction(gpus, running)
            }
            (None, Some(RunPhase::Starting | RunPhase::Stopping)) => base.fraction(gpus, total),
            (None, _) => continue,
        };
        let usage = Use::Workload { tenant: owner.tenant.clone(), workload: workload.clone() };
        uses.insert(usage, part);
    }
    let given: WattSeconds = uses.values().copied().sum();
    uses.insert(Use::Idle { pool: id.clone() }, energy - given);
    uses
}
