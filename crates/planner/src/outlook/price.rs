//! What power, GPUs and running sets are worth ahead: opportunity prices at the median.
//!
//! A watt is worth what the miners would make of it that it wakes, less its gas; nothing where no miner is left to wake. Read next:
//! `drain`, whose loads these are.

use std::collections::BTreeMap;

use model::{GensetId, MicroDollars, Watts};

use super::drain::Loads;
use super::{Assumptions, gas};
use crate::input::SiteInput;

/// The hour that follows the two hours of a plan.
const AFTER_THE_PLAN: usize = 2;

/// What one more megawatt-hour would earn, less its gas.
pub(super) fn megawatt_hour(loads: &Loads, power: Watts) -> MicroDollars {
    let mut left = loads.left(power, None);
    let mut miners: Vec<(MicroDollars, Watts)> =
        loads.modules.values().map(|load| (load.earns, load.miners)).collect();
    miners.sort_by_key(|&(earns, _)| std::cmp::Reverse(earns));
    for (earns, watts) in miners {
        if left < watts {
            return (earns - loads.fuel).at_least_zero();
        }
        left -= watts;
    }
    MicroDollars::ZERO
}

/// What the power of one GPU costs in an hour: its gas, and the mining that it displaces.
pub(super) fn gpu_hour(loads: &Loads, power: Watts, gpu: Watts) -> MicroDollars {
    (loads.fuel + megawatt_hour(loads, power)).fraction(gpu.get(), 1_000_000)
}

/// What it is worth that each set still runs after the plan: its start, where the median of gas carries it among those before it.
pub(super) fn set_on(given: &SiteInput, assumed: &Assumptions) -> BTreeMap<GensetId, MicroDollars> {
    let power = given.site.electric(gas::flow(given, AFTER_THE_PLAN, assumed).p50);
    let mut least = Watts::ZERO;
    let mut worth: BTreeMap<GensetId, MicroDollars> =
        given.site.gensets.keys().map(|id| (id.clone(), MicroDollars::ZERO)).collect();
    for (id, set) in gas::sets(given, AFTER_THE_PLAN, assumed).p50 {
        least += set.min_load;
        if least <= power {
            worth.insert(id.clone(), set.start_cost);
        }
    }
    worth
}
