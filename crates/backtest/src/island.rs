//! One simulated island for one step: does it survive what happens, and what of the planned load do sets and gas carry.
//!
//! A set that breaks down is answered as the agents' reflex would: first the rungs armed for it, then all fast ones; the rest of the
//! sets takes its block-load steps at once, and where that does not suffice the island goes dark. What gas and sets do not carry is
//! shed in the ladder's order: miners, then spot, on-demand and firm runs. Energies are those of whole steps; frequency and
//! transients inside a step are the simulator's business (crate `sim`). Read next: [`crate::engine`].

use model::fuel::Fuel;
use model::plan::STEP;
use model::site::{GasFlow, GasVolume, Genset, Site};
use model::{GensetId, MinerGroupId, ModuleId, Watts, WorkloadId};

/// Everything an island is asked to carry, at the sets' terminals.
#[derive(Clone, Debug, Default)]
pub(crate) struct Load {
    pub(crate) unmanaged: Watts,
    /// Auxiliaries, standby, idle servers.
    pub(crate) base: Watts,
    /// In the ladder's order.
    pub(crate) groups: Vec<GroupLoad>,
    /// Those that are shed first stand first.
    pub(crate) runs: Vec<RunLoad>,
}

/// A miner group above standby.
#[derive(Clone, Debug)]
pub(crate) struct GroupLoad {
    pub(crate) key: (ModuleId, MinerGroupId),
    pub(crate) asked: Watts,
    pub(crate) served: Watts,
    /// Its feeder counts as fast.
    pub(crate) fast: bool,
    /// Sets for whose loss it is armed.
    pub(crate) armed: Vec<GensetId>,
}

/// A run.
#[derive(Clone, Debug)]
pub(crate) struct RunLoad {
    pub(crate) id: WorkloadId,
    pub(crate) watts: Watts,
    /// Lost power.
    pub(crate) cut: bool,
}

impl Load {
    pub(crate) fn total(&self) -> Watts {
        let groups: Watts = self.groups.iter().map(|group| group.served).sum();
        let runs: Watts = self.runs.iter().filter(|run| !run.cut).map(|run| run.watts).sum();
        self.unmanaged + self.base + groups + runs
    }

    /// Answers the loss of `lost` out of `online`, itself included. False when the island goes dark.
    pub(crate) fn ride_through(&mut self, online: &[(&GensetId, &Genset)], lost: &GensetId) -> bool {
        let rating: Watts = online.iter().map(|(_, set)| set.rating).sum();
        let Some((_, set)) = online.iter().find(|(id, _)| *id == lost) else { return true };
        let others = || online.iter().filter(|(id, _)| *id != lost);
        if others().next().is_none() {
            return false;
        }
        let total = self.total();
        let carried = total.fraction(set.rating.get(), rating.get().max(1));
        let steps: Watts = others().map(|(_, other)| other.step).sum();
        let headroom = (rating - set.rating - (total - carried)).at_least_zero();
        let missing = carried - steps.min(headroom);
        // Sets that break down together are met one after the other, each with what is drawn by then.
        self.drop_feeders(missing, |group| group.armed.contains(lost))
            || self.drop_feeders(missing, |group| group.fast)
    }

    /// Opens feeders until `missing` is covered; opens none and answers false where they do not suffice.
    fn drop_feeders(&mut self, missing: Watts, counts: impl Fn(&GroupLoad) -> bool) -> bool {
        let there: Watts = self.groups.iter().filter(|group| counts(group)).map(|group| group.served).sum();
        if there < missing {
            return false;
        }
        let mut missing = missing;
        for group in self.groups.iter_mut().filter(|group| counts(group)) {
            if missing <= Watts::ZERO {
                break;
            }
            missing -= group.served;
            group.served = Watts::ZERO;
        }
        true
    }

    /// Sheds in the ladder's order until `limit` carries the rest. False when it does not carry even what nobody can shed.
    pub(crate) fn shed(&mut self, limit: Watts) -> bool {
        let mut over = self.total() - limit;
        for group in &mut self.groups {
            let less = group.served.min(over.at_least_zero());
            group.served -= less;
            over -= less;
        }
        for run in self.runs.iter_mut().filter(|run| !run.cut) {
            if over <= Watts::ZERO {
                break;
            }
            run.cut = true;
            over -= run.watts;
        }
        over <= Watts::ZERO
    }

    /// Nothing is served.
    pub(crate) fn darken(&mut self) {
        (self.unmanaged, self.base) = (Watts::ZERO, Watts::ZERO);
        self.groups.iter_mut().for_each(|group| group.served = Watts::ZERO);
        self.runs.iter_mut().for_each(|run| run.cut = true);
    }
}

/// Power that sets with this fuel line sustain on this gas for a step.
pub(crate) fn sustains(fuel: &Fuel, gas: GasVolume) -> Watts {
    fuel.electric(GasFlow::new(gas.get().saturating_mul(86_400_000 / STEP.get())))
}

/// Turns flows into whole cubic feet step by step; what rounding leaves is carried on, so that a year loses none of it.
#[derive(Clone, Copy, Debug, Default)]
struct Meter {
    /// In scf/d × ms, less than a cubic foot.
    carried: i64,
}

impl Meter {
    /// What flows in one step.
    fn step(&mut self, flow: GasFlow) -> GasVolume {
        const DAY: i64 = 86_400_000;
        // A flow of 10^9 scf/d for 300,000 ms is 3 × 10^14, far inside 64 bits.
        let flowed = flow.get().saturating_mul(STEP.get()).saturating_add(self.carried);
        self.carried = flowed.rem_euclid(DAY);
        GasVolume::new(flowed.div_euclid(DAY))
    }
}

/// The gas of one island.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tank {
    /// In the buffer.
    pub(crate) held: GasVolume,
    wells: Meter,
    sets: Meter,
}

/// What became of the gas of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Burnt {
    pub(crate) burnt: GasVolume,
    pub(crate) flared: GasVolume,
    /// What the buffer gained.
    pub(crate) stored: GasVolume,
}

impl Tank {
    pub(crate) fn new(held: GasVolume) -> Self {
        Self { held, wells: Meter::default(), sets: Meter::default() }
    }

    /// What the wells send in one step.
    pub(crate) fn supply(&mut self, flow: GasFlow) -> GasVolume {
        self.wells.step(flow)
    }

    /// Burns `gas` as far as it is there; what the buffer does not hold is flared.
    pub(crate) fn burn(&mut self, site: &Site, supplied: GasVolume, gas: GasFlow) -> Burnt {
        let there = self.held + supplied;
        let burnt = self.sets.step(gas).min(there);
        let left = there - burnt;
        let held = left.min(site.buffer.capacity.at_least_zero());
        let stored = held - self.held;
        self.held = held;
        Burnt { burnt, flared: left - held, stored }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use model::fuel::NO_LOAD_PERMILLE;
    use model::site::HeatingBasis;
    use model::{Id, MicroDollars, Span, WattsPerSecond};

    fn set() -> Genset {
        Genset {
            rating: Watts::kilo(250),
            min_load: Watts::kilo(75),
            step: Watts::kilo(60),
            ramp: WattsPerSecond::new(1_250),
            start: Span::secs(90),
            min_run: Span::minutes(30),
            min_off: Span::minutes(10),
            heat_rate: 9_500,
            basis: HeatingBasis::Higher,
            no_load_permille: NO_LOAD_PERMILLE,
            inertia: Span::new(1_200),
            start_cost: MicroDollars::dollars(3),
            hour_cost: MicroDollars::dollars(4),
        }
    }

    fn load(groups: &[(i64, bool)], runs: &[i64]) -> Load {
        let group = |(index, (kilowatts, armed)): (usize, &(i64, bool))| GroupLoad {
            key: (Id::new("m").unwrap(), Id::new(&format!("g{index}")).unwrap()),
            asked: Watts::kilo(*kilowatts),
            served: Watts::kilo(*kilowatts),
            fast: true,
            armed: if *armed { vec![Id::new("g1").unwrap()] } else { Vec::new() },
        };
        let run = |(index, kilowatts): (usize, &i64)| RunLoad {
            id: Id::new(&format!("r{index}")).unwrap(),
            watts: Watts::kilo(*kilowatts),
            cut: false,
        };
        Load {
            unmanaged: Watts::kilo(10),
            base: Watts::kilo(90),
            groups: groups.iter().enumerate().map(group).collect(),
            runs: runs.iter().enumerate().map(run).collect(),
        }
    }

    fn check_shed(limit: i64, served: &[i64], cut: &[bool], holds: bool) {
        let mut load = load(&[(200, false), (100, false)], &[50, 80]);
        assert_eq!(load.shed(Watts::kilo(limit)), holds, "{limit} kW");
        let found: Vec<i64> = load.groups.iter().map(|group| group.served.get() / 1_000).collect();
        assert_eq!(found, served, "{limit} kW");
        assert_eq!(load.runs.iter().map(|run| run.cut).collect::<Vec<_>>(), cut, "{limit} kW");
    }

    #[test]
    fn miners_are_shed_first_then_runs_then_the_island_is_dark() {
        check_shed(530, &[200, 100], &[false, false], true);
        check_shed(500, &[170, 100], &[false, false], true);
        check_shed(300, &[0, 70], &[false, false], true);
        check_shed(229, &[0, 0], &[true, false], true);
        check_shed(100, &[0, 0], &[true, true], true);
        check_shed(99, &[0, 0], &[true, true], false);
    }

    fn check_loss(sets: usize, groups: &[(i64, bool)], survives: bool, served: &[i64]) {
        let sets: Vec<(GensetId, Genset)> =
            (1..=sets).map(|n| (Id::new(&format!("g{n}")).unwrap(), set())).collect();
        let online: Vec<(&GensetId, &Genset)> = sets.iter().map(|(id, set)| (id, set)).collect();
        let mut load = load(groups, &[300]);
        assert_eq!(load.ride_through(&online, &Id::new("g1").unwrap()), survives, "{groups:?}");
        let found: Vec<i64> = load.groups.iter().map(|group| group.served.get() / 1_000).collect();
        assert_eq!(found, served, "{groups:?}");
    }

    #[test]
    fn a_lost_set_is_answered_by_armed_rungs_then_by_all_fast_ones_or_not_at_all() {
        // 800 kW on four sets: 200 kW are lost; headroom of 750 − 600 = 150 kW and three steps of 60 kW: 50 kW are missing.
        check_loss(4, &[(300, true), (100, true)], true, &[0, 100]);
        check_loss(4, &[(300, false), (100, true)], true, &[300, 0]);
        check_loss(4, &[(400, false)], true, &[0]);
        // 400 kW, 100 lost, all of it within the steps of the others.
        check_loss(4, &[], true, &[]);
        // Two sets at 470 kW: 235 lost, 15 kW of headroom, 70 kW of miners.
        check_loss(2, &[(70, true)], false, &[70]);
        check_loss(1, &[(100, true)], false, &[100]);
    }

    #[test]
    fn a_dark_island_serves_nothing() {
        let mut load = load(&[(200, true)], &[50]);
        load.darken();
        assert_eq!(load.total(), Watts::ZERO);
    }

    #[test]
    fn what_rounding_leaves_of_a_step_is_not_lost() {
        let mut tank = Tank::new(GasVolume::ZERO);
        let day: GasVolume = (0..288).map(|_| tank.supply(GasFlow::new(100_001))).sum();
        assert_eq!(day, GasVolume::new(100_001));
    }
}
