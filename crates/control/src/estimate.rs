//! What the module draws and will draw: the figures that regulation holds against the ceiling.
//!
//! All figures of an [`Estimate`] stand behind the distribution loss, those of a [`Headroom`] at the meter unless they say
//! otherwise. It assumes that a reading which is missing may be anything up to what was commanded, so that an unknown never
//! makes room. [`crate::regulation`] and [`crate::runs`] decide by it.

use std::collections::BTreeMap;

use model::module::Module;
use model::{MinerGroupId, PoolId, Watts};

use crate::group::Group;
use crate::port::Slow;

/// GPUs at work in each pool, and what caps on their runs spare.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Busy {
    /// GPUs.
    pub gpus: BTreeMap<PoolId, u32>,
    /// Watts by which runs under a cap draw less than they could.
    pub spared: BTreeMap<PoolId, Watts>,
}

impl Busy {
    /// Adds the GPUs of a run and what its cap spares.
    pub fn add(&mut self, pool: &PoolId, gpus: u32, spared: Watts) {
        *self.gpus.entry(pool.clone()).or_default() += gpus;
        if spared > Watts::ZERO {
            *self.spared.entry(pool.clone()).or_default() += spared;
        }
    }

    /// Draw of one pool with these GPUs at work under the pool's cap.
    pub fn draw(&self, module: &Module, pool: &PoolId, cap: Option<Watts>) -> Watts {
        let gpus = self.gpus.get(pool).copied().unwrap_or(0);
        let spared = self.spared.get(pool).copied().unwrap_or_default();
        let draw = module.pools.get(pool).map_or(Watts::ZERO, |config| config.draw(gpus) - spared);
        cap.map_or(draw, |cap| draw.min(cap))
    }
}

/// What is known for an estimate.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// The module.
    pub module: &'a Module,
    /// The last slow readings.
    pub slow: &'a Slow,
    /// What was commanded of each group.
    pub groups: &'a BTreeMap<MinerGroupId, Group>,
    /// Caps in force; absent = none.
    pub caps: &'a BTreeMap<PoolId, Watts>,
    /// GPUs of the runs that hold some.
    pub active: &'a Busy,
    /// The same with those that are assigned and not started yet.
    pub assigned: &'a Busy,
}

/// Draws behind the distribution loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Estimate {
    /// When all miners have done what they were told and the rest stays as it is.
    pub settled: Watts,
    /// Most it is or becomes by what was told so far: miners still falling asleep count as awake, runs at full draw.
    pub present: Watts,
    /// When miners have settled and all assigned runs draw in full.
    pub reserved: Watts,
}

impl Estimate {
    /// Makes the estimate.
    pub fn of(known: Known<'_>) -> Self {
        let Known { module, slow, groups, .. } = known;
        let (mut read, mut set, mut most) = (Watts::ZERO, Watts::ZERO, Watts::ZERO);
        for (id, config) in &module.groups {
            let told = groups.get(id).map_or(config.draw_full(), |group| group.draw(config));
            let now = slow.groups.get(id).and_then(|reading| reading.power).unwrap_or(told);
            read += now;
            set += told;
            most += told.max(now);
        }
        let by_model = |busy: &Busy| module.auxiliary + pools(module, busy, known.caps);
        let (active, assigned) = (by_model(known.active), by_model(known.assigned));
        let rest = slow.meter.map(|meter| (module.behind_loss(meter) - read).at_least_zero());
        let rest_at_most = rest.map_or(active, |rest| rest.max(active));
        Self {
            settled: rest.unwrap_or(active) + set,
            present: rest_at_most + most,
            reserved: rest_at_most + (assigned - active).at_least_zero() + set,
        }
    }
}

fn pools(module: &Module, busy: &Busy, caps: &BTreeMap<PoolId, Watts>) -> Watts {
    module.pools.keys().map(|id| busy.draw(module, id, caps.get(id).copied())).sum()
}

/// What up-moves may still take in one second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Headroom {
    /// Whether anything may go up at all.
    pub open: bool,
    /// The ceiling in force, at the meter.
    pub ceiling: Watts,
    /// What the share allows now, at the meter.
    pub budget: Watts,
    /// The share's whole step, at the meter.
    pub step: Watts,
    /// The estimate, raised by what was taken.
    pub estimate: Estimate,
    /// What was taken, at the meter.
    pub taken: Watts,
}

impl Headroom {
    /// How many units of `load` watts fit under the ceiling and into the budget, with room kept for all assigned runs.
    pub fn fits(&self, module: &Module, load: Watts) -> u32 {
        let base = self.estimate.present.max(self.estimate.reserved);
        let metered = module.with_loss(load);
        if !self.open || load <= Watts::ZERO || module.with_loss(base + load) > self.ceiling {
            return 0;
        }
        // Rounding loss down and up again may cost a watt, which must not cost a miner: try one more than the division says.
        let under = (module.behind_loss(self.ceiling) - base).at_least_zero().whole_times(load) + 1;
        let under =
            if module.with_loss(base + load.times(under)) <= self.ceiling { under } else { under - 1 };
        u32::try_from(under.min((self.budget - self.taken).whole_times(metered)).max(0)).unwrap_or(u32::MAX)
    }

    /// Whether an indivisible run of `load` watts may start. Where it is larger than a whole step, it takes a whole step's
    /// budget: what a gang may swing at once is the planner's to bound.
    pub fn admits_run(&self, module: &Module, load: Watts) -> bool {
        let metered = module.with_loss(load).min(self.step);
        self.open
            && self.step > Watts::ZERO
            && metered <= self.budget - self.taken
            && module.with_loss(self.estimate.present + load) <= self.ceiling
    }

    /// Takes a run's draw, for which `reserved` has room already.
    pub fn take_run(&mut self, module: &Module, load: Watts) {
        self.estimate.present += load;
        self.taken += module.with_loss(load).min(self.step);
    }

    /// Takes any other draw.
    pub fn take(&mut self, module: &Module, load: Watts) {
        self.estimate.present += load;
        self.estimate.reserved += load;
        self.taken += module.with_loss(load);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use model::Span;

    use super::*;
    use crate::bench::{Bench, id, module};

    /// The bench's module with 10 miners awake in each group, told `told` in group a, and 8 GPUs at work of 16 assigned.
    fn check(told: u32, change: impl FnOnce(&mut Bench, &mut Slow), expected: (i64, i64, i64)) {
        let mut bench = Bench::new(10);
        let mut slow = bench.readings().slow.unwrap();
        change(&mut bench, &mut slow);
        let book = |name: &str| {
            (id(name), Group::found(&bench.module.groups[&id(name)], &slow.groups[&id(name)], None))
        };
        let mut groups: BTreeMap<MinerGroupId, Group> = [book("a"), book("b")].into();
        groups.get_mut(&id("a")).unwrap().set(&id("a"), told, 1, Span::ZERO);
        let busy = |gpus| Busy { gpus: [(id("p"), gpus)].into(), spared: BTreeMap::new() };
        let (active, assigned) = (busy(8), busy(16));
        let caps = BTreeMap::new();
        let known = Known {
            module: &bench.module,
            slow: &slow,
            groups: &groups,
            caps: &caps,
            active: &active,
            assigned: &assigned,
        };
        let estimate = Estimate::of(known);
        let kilo = |watts: Watts| watts.get() / 1_000;
        assert_eq!((kilo(estimate.settled), kilo(estimate.present), kilo(estimate.reserved)), expected);
    }

    #[test]
    fn unknowns_never_make_room() {
        // A group with 10 of 40 awake draws 35.75 kW; auxiliaries 5, an idle pool 8, 8 busy GPUs 8 more.
        let idle = |_: &mut Bench, _: &mut Slow| {};
        check(10, idle, (84, 92, 100));
        check(0, idle, (49, 92, 65));
        check(20, idle, (119, 127, 135));
        check(10, |_, slow| slow.meter = None, (92, 92, 100));
        let blind = |_: &mut Bench, slow: &mut Slow| slow.groups.get_mut(&id("a")).unwrap().power = None;
        check(10, blind, (84, 92, 100));
        let more =
            |_: &mut Bench, slow: &mut Slow| slow.meter = slow.meter.map(|meter| meter + Watts::kilo(50));
        check(10, more, (133, 133, 141));
    }

    #[test]
    fn what_a_cap_on_a_run_spares_is_not_drawn() {
        let module = module();
        let mut busy = Busy::default();
        busy.add(&id("p"), 8, Watts::ZERO);
        assert_eq!((busy.draw(&module, &id("p"), None), busy.spared.len()), (Watts::kilo(16), 0));
        busy.add(&id("p"), 8, Watts::kilo(3));
        assert_eq!(busy.draw(&module, &id("p"), None), Watts::kilo(21));
        assert_eq!(busy.draw(&module, &id("p"), Some(Watts::kilo(18))), Watts::kilo(18));
        assert_eq!(Busy::default().draw(&module, &id("p"), None), Watts::kilo(8), "idle servers");
    }

    fn headroom(ceiling: i64, budget: i64) -> Headroom {
        let load = Watts::kilo(100);
        Headroom {
            open: true,
            ceiling: Watts::new(ceiling),
            budget: Watts::new(budget),
            step: Watts::kilo(50),
            estimate: Estimate { settled: load, present: load, reserved: load },
            taken: Watts::ZERO,
        }
    }

    #[test]
    fn as_many_fit_as_ceiling_and_budget_allow_to_the_watt() {
        let module = module();
        let unit = Watts::kilo(3);
        let full = module.with_loss(Watts::kilo(130)).get();
        assert_eq!(headroom(full, 1_000_000).fits(&module, unit), 10);
        assert_eq!(headroom(full - 1, 1_000_000).fits(&module, unit), 9);
        assert_eq!(headroom(full, 3 * module.with_loss(unit).get()).fits(&module, unit), 3);
        assert_eq!(headroom(50_000, 1_000_000).fits(&module, unit), 0);
        assert_eq!(Headroom { open: false, ..headroom(full, 1_000_000) }.fits(&module, unit), 0);
        let mut taken = headroom(full, 1_000_000);
        taken.take(&module, Watts::kilo(9));
        assert_eq!(taken.fits(&module, unit), 7);
    }

    #[test]
    fn a_run_larger_than_a_step_takes_a_whole_one() {
        let module = module();
        let run = Watts::kilo(64);
        assert!(headroom(400_000, 50_000).admits_run(&module, run));
        assert!(!headroom(400_000, 49_999).admits_run(&module, run));
        assert!(!headroom(160_000, 50_000).admits_run(&module, run));
        let mut first = headroom(400_000, 50_000);
        first.take_run(&module, run);
        assert!(!first.admits_run(&module, Watts::kilo(1)));
    }
}
