//! What is known of a time in which nobody read the meters: the register's difference, perhaps, and hardly ever the uses.
//!
//! Pure. Nothing is guessed: what the readings on both sides do not prove is unknown, and a gap line says so.

use std::collections::BTreeMap;

use model::ledger::Use;
use model::module::Module;
use model::workload::GpuTime;
use model::{Span, Time, WattSeconds, WorkloadId};

use super::Owner;
use super::page::GpuTimes;

/// A module that seems to have drawn more than this many times what its breaker carries has another meter than before.
const MOST_OF_LIMIT: i64 = 2;
/// Counters of GPU time and the agent's readings follow different clocks: so much of a hole may be missing from one, and not more
/// than a second.
const SLACK_PERMILLE: i64 = 100;
const SLACK: i64 = 1_000;

/// Why nobody read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The agent did not run.
    Restart,
    /// The agent ran in another simulation, whose meters are others.
    OtherWorld,
    /// It ran, and got no readings.
    NoReadings,
}

impl Why {
    pub(super) const fn text(self) -> &'static str {
        match self {
            Why::Restart => "the agent did not run",
            Why::OtherWorld => "the agent ran in another simulation",
            Why::NoReadings => "no readings came",
        }
    }
}

/// A register and when it was read.
pub type Reading = (Time, Option<WattSeconds>);

/// What the meter counted in a hole, or why nobody knows.
pub fn counted(module: &Module, before: Reading, after: Reading) -> Result<WattSeconds, &'static str> {
    let (Some(begin), Some(end)) = (before.1, after.1) else { return Err("a register was not readable") };
    let (counted, span) = (end - begin, after.0 - before.0);
    if span <= Span::ZERO {
        return Err("the clock was set back");
    }
    if counted < WattSeconds::ZERO {
        return Err("the register counts less than before");
    }
    if counted > module.limit.times(MOST_OF_LIMIT).for_span(span) {
        return Err("the register counts more than the module can draw");
    }
    Ok(counted)
}

/// The uses of a hole's energy, as far as they are proved. Only one case is: a module with one GPU pool and nothing else, and one
/// workload whose counter of GPU time says that it held every GPU all the time. Then power was there throughout, and what
/// auxiliaries and loss leave is the workload's. Feeders have no registers: of miners nothing is known.
pub fn uses(
    module: &Module,
    owners: &BTreeMap<WorkloadId, Owner>,
    held: &GpuTimes,
    counted: WattSeconds,
    span: Span,
) -> BTreeMap<Use, WattSeconds> {
    let Some(usage) = sole_user(module, owners, held, span) else { return BTreeMap::new() };
    let load = counted.fraction(1_000, 1_000 + i64::from(module.loss_permille));
    let auxiliary = module.auxiliary.for_span(span);
    if load < auxiliary {
        return BTreeMap::new();
    }
    [(usage, load - auxiliary), (Use::Auxiliary, auxiliary), (Use::Loss, counted - load)].into()
}

fn sole_user(
    module: &Module,
    owners: &BTreeMap<WorkloadId, Owner>,
    held: &GpuTimes,
    span: Span,
) -> Option<Use> {
    let (pool_id, pool) = module.pools.first_key_value()?;
    if !module.groups.is_empty() || module.pools.len() > 1 {
        return None;
    }
    let gpus = pool.servers * pool.gpus;
    let slack = Span::new((span.millis() * SLACK_PERMILLE / 1_000).min(SLACK));
    let all = GpuTime::of(gpus, span - slack);
    let whole = |(workload, _): &(WorkloadId, u64), held: GpuTime| {
        let owner = owners.get(workload).filter(|owner| owner.pool == *pool_id && owner.gpus == gpus)?;
        let usage = Use::Workload { tenant: owner.tenant.clone(), workload: workload.clone() };
        (held > GpuTime::ZERO && held >= all).then_some(usage)
    };
    held.iter().find_map(|(run, (held, _))| whole(run, *held))
}
