//! What an island earns in an hour with some of its sets carrying load: AI first, as far as N-1 carries it, then miners.
//!
//! A set more adds its rating, and reserve: what N-1 lets run beside miners. It takes its gas at no load. So the same figure says
//! whether a set pays for itself where gas is plenty, and whether it should stop where gas is short.

use model::fuel::Fuel;
use model::site::{GasFlow, Genset, Site};
use model::{GensetId, MicroDollars, Span, Watts};

use super::asked::{Asked, Work};
use crate::capacity::MARGIN_PERMILLE;
use crate::input::GasStep;
use crate::security::{Security, Source};
use crate::worth;

/// What AI is worth that goes on without N-1: a loss of a set ends it, so half (an engineering estimate). Firm runs do, and all runs on a
/// single set; other work is stopped.
const UNSECURED: (i64, i64) = (1, 2);
/// What it costs that sets run below their minimum load, or auxiliaries have no power: ten thousand dollars a megawatt-hour, more than
/// any work earns.
const SHORT_DOLLARS: i64 = 10_000;
/// A set is started only where the minimum loads of all take no more than this share of what may be drawn.
const START_PERMILLE: i64 = 950;

/// Some sets that carry an island's load together.
#[derive(Clone, Debug)]
pub(super) struct Choice {
    pub(super) security: Security,
    fuel: Fuel,
    least: Watts,
}

/// What an island draws with them.
struct Drawn {
    load: Watts,
    earned: MicroDollars,
    short: Watts,
}

impl Choice {
    pub(super) fn new(site: &Site, sets: &[(&GensetId, &Genset)], opens: Option<Span>) -> Self {
        let sources = sets.iter().map(|(id, set)| Source::new(id, set)).collect();
        let least = sets.iter().map(|(_, set)| set.min_load).sum();
        let fuel = Fuel::of(site, sets.iter().map(|(_, set)| *set));
        Self { security: Security::new(site, sources, opens), fuel, least }
    }

    /// What gas and ratings carry, less the margin, and as far as frequency outlives the loss of a set.
    pub(super) fn total(&self, flow: GasFlow) -> Watts {
        let power = self.fuel.electric(flow).min(self.security.rating);
        (power - power.fraction(MARGIN_PERMILLE, 1_000)).min(self.security.most_load())
    }

    /// The most that may stand beside miners, such that the loss of no set ends it; nothing on a single set.
    pub(super) fn secured(&self, flow: GasFlow, asked: &Asked<'_>) -> Watts {
        let total = self.total(flow);
        let remaining = self.security.remaining();
        let remaining = remaining - remaining.fraction(MARGIN_PERMILLE, 1_000);
        let by_itself = self.security.most_fixed(Watts::ZERO).min(total);
        let beside =
            self.security.most_beside(total - asked.grain, (asked.fast - asked.grain).at_least_zero());
        beside.max(by_itself).min(remaining).at_least_zero()
    }

    /// The most that the island can draw, with what the loss of a module at once may take from the sets.
    fn most(&self, asked: &Asked<'_>) -> Watts {
        asked.most(self.security.most_rejected(asked.base))
    }

    /// Whether the minimum loads leave enough to spare for a set to be started.
    pub(super) fn may_start(&self, asked: &Asked<'_>, flow: GasFlow) -> bool {
        self.least <= self.total(flow).min(self.most(asked)).fraction(START_PERMILLE, 1_000)
    }

    /// What an hour earns: work and mining, less gas. What the sets themselves cost is not in it.
    pub(super) fn hourly(&self, site: &Site, asked: &Asked<'_>, gas: GasStep) -> MicroDollars {
        let drawn = self.drawn(site, asked, gas);
        let burnt = self.fuel.gas_for(drawn.load);
        drawn.earned - worth::gas_per_hour(site, burnt) - short(drawn.short)
    }

    fn drawn(&self, site: &Site, asked: &Asked<'_>, gas: GasStep) -> Drawn {
        let total = self.total(gas.p50).min(self.most(asked));
        let secured = self.secured(gas.p10.min(gas.p50), asked).min(total);
        let base = asked.base.min(total);
        let mut drawn = Drawn { load: base, earned: MicroDollars::ZERO, short: asked.base - base };
        let block = self.security.steps().fraction(1, 2);
        let (mut safe, mut room) = ((secured - base).at_least_zero(), total - base);
        for work in &asked.work {
            // What waits is not started as a larger step than the sets take, nor without N-1.
            let kept = if work.runs || work.watts <= block { work.watts.min(safe) } else { Watts::ZERO };
            let stays = work.runs && (work.firm || !self.security.has_contingencies());
            let beyond = if stays { (work.watts - kept).min(room - kept) } else { Watts::ZERO };
            drawn.earned += part(work, kept) + part(work, beyond).fraction(UNSECURED.0, UNSECURED.1);
            drawn.load += kept + beyond;
            (safe, room) = ((safe - kept - beyond).at_least_zero(), room - kept - beyond);
        }
        for (watts, earns) in &asked.mining {
            let gas = worth::gas_per_hour(site, self.fuel.gas_above(*watts));
            let taken = (*watts).min(room);
            if *earns > gas {
                drawn.earned += earns.fraction(taken.get(), watts.get().max(1));
                drawn.load += taken;
                room -= taken;
            }
        }
        // One set runs whatever its load.
        let least = if self.security.has_contingencies() { self.least } else { Watts::ZERO };
        drawn.load +=
            (least - drawn.load).at_least_zero().min(site.load_bank.at_least_zero()).min(total - drawn.load);
        drawn.short += (least - drawn.load).at_least_zero();
        drawn
    }
}

fn part(work: &Work, watts: Watts) -> MicroDollars {
    work.hourly.fraction(watts.get(), work.watts.get().max(1))
}

fn short(watts: Watts) -> MicroDollars {
    MicroDollars::dollars(SHORT_DOLLARS).fraction(watts.get(), 1_000_000)
}
