//! Miners whose work nobody pays, because every pool is away: how far they come down, and when they come up again.
//!
//! Down by the same steps as everything goes up: in the module's turn, by its share, in calm, each step only after the one before
//! shows. Two things stay awake: ballast, which the sets need as minimum load, and reserve, which is dropped when a set is lost so
//! that firm AI need not be. Up again, by regulation's own steps, when a pool is there, or where ballast or reserve lack. It assumes
//! one call a second, and sets of the whole site in the readings. Read next: [`crate::regulation`], which follows the targets.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use model::envelope::{Arming, Grant, RungLoad, Share};
use model::module::{MinerGroup, Module};
use model::plan::GroupTarget;
use model::{GensetId, MinerGroupId, Span, Time, Watts};

use crate::group::{Group, MARGIN, setting};
use crate::island::Island;
use crate::port::Breaker;
use crate::share::Budget;

/// Sets that have just closed carry little until they took their share, within seconds: only what lasts so long is a lack of ballast.
/// Those who judge a set's minimum load wait for a minute.
const LACKS_FOR: Span = Span::secs(10);
/// Miners that were let go to be ballast have so long to show: a usual cycle of 20 s until the module's turn, 10 s to wake, and as
/// much again. Where they do not, because dwell holds them, others are let go.
const LETS_GO_EVERY: Span = Span::secs(45);
/// Reserve is kept with this much to spare, for draws that are not quite what was planned: 5 %.
const SPARE_PERMILLE: i64 = 50;

/// What it is decided on in one second.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// The module.
    pub module: &'a Module,
    /// The facts of its site.
    pub island: &'a Island,
    /// The sets of the site.
    pub gensets: &'a BTreeMap<GensetId, Breaker>,
    /// What the module was granted; without it nothing comes down.
    pub grant: Option<&'a Grant>,
    /// What the groups shall do by the plan.
    pub targets: &'a BTreeMap<MinerGroupId, GroupTarget>,
    /// What they were told.
    pub groups: &'a BTreeMap<MinerGroupId, Group>,
    /// The island is at rest.
    pub calm: bool,
    /// Site time, for turns.
    pub now: Time,
    /// Boot time.
    pub at: Span,
}

/// How far the miners are held below their targets.
#[derive(Clone, Debug, Default)]
pub struct Unpaid {
    held: Watts,
    budget: Budget,
    // When the last step down was taken, or was not followed yet.
    moved: Option<Span>,
    // Since when a set lacks load; later, while miners are on their way.
    lacking: Option<Span>,
}

impl Unpaid {
    /// Watts of miners that are held down, of those that the targets would have awake.
    pub fn held(&self) -> Watts {
        self.held
    }

    /// One second in which nobody pays: the targets, as far as they are to be followed. Begin with a new one each time.
    pub fn second(&mut self, view: View<'_>) -> BTreeMap<MinerGroupId, GroupTarget> {
        match view.grant {
            Some(grant) => self.hold(view, grant),
            None => *self = Self::default(),
        }
        lowered(view, self.held)
    }

    fn hold(&mut self, view: View<'_>, grant: &Grant) {
        let most = (planned(view, view.targets) - reserve(view, grant)).at_least_zero();
        // Filled every second, whether it is used or not.
        let budget = self.budget.available(&grant.share, view.now, view.at);
        self.held = self.held.min(most);
        // What is not known makes no room, and takes none away.
        let Some(room) = view.island.room_down(view.gensets) else { return };
        if room < Watts::ZERO {
            let since = *self.lacking.get_or_insert(view.at);
            if view.at - since >= LACKS_FOR {
                self.held = (self.held + room).at_least_zero();
                self.lacking = Some(view.at + LETS_GO_EVERY - LACKS_FOR);
            }
            return;
        }
        self.lacking = None;
        if !is_followed(view, self.held) {
            self.moved = Some(view.at);
        }
        let shown = self.moved.is_none_or(|moved| view.at - moved >= shows_after(view.module));
        if !view.calm || !shown {
            return;
        }
        let step = budget.min(room - under_way(&grant.share)).min(most - self.held);
        if step <= Watts::ZERO || step < largest(view) {
            return;
        }
        // Whole miners, lest what a step leaves over makes the next one larger.
        let held = planned(view, view.targets) - planned(view, &lowered(view, self.held + step));
        self.budget.spend(held - self.held);
        (self.held, self.moved) = (held, Some(view.at));
    }
}

/// The targets less `held` watts of miners. Those that are no reserve come first, then those that the ladder drops last.
fn lowered(view: View<'_>, held: Watts) -> BTreeMap<MinerGroupId, GroupTarget> {
    let mut targets = view.targets.clone();
    let place = |id: &MinerGroupId| {
        let of = |grant: &Grant| {
            grant.ladder.iter().position(|rung| matches!(&rung.load, RungLoad::Miners(group) if group == id))
        };
        view.grant.and_then(of)
    };
    let mut order: Vec<&MinerGroupId> = view.targets.keys().collect();
    order.sort_by_key(|id| (place(id).is_some(), Reverse(place(id)), *id));
    let mut left = held;
    for id in order {
        let (Some(config), Some(target)) = (view.module.groups.get(id), targets.get_mut(id)) else {
            continue;
        };
        let each = each(config, *target);
        let awake = target.awake.min(config.count);
        let fewer = u32::try_from(left.whole_times(each)).unwrap_or(u32::MAX).min(awake);
        target.awake = awake - fewer;
        left -= each.times(fewer.into());
    }
    targets
}

/// What the miners would draw by these targets, beyond standby.
fn planned(view: View<'_>, targets: &BTreeMap<MinerGroupId, GroupTarget>) -> Watts {
    let groups = targets.iter().filter_map(|(id, target)| Some((view.module.groups.get(id)?, target)));
    groups.map(|(config, target)| each(config, *target).times(target.awake.min(config.count).into())).sum()
}

fn each(config: &MinerGroup, target: GroupTarget) -> Watts {
    (setting(config, target.point).power - config.standby).at_least_zero()
}

/// One miner, of the group with the largest.
fn largest(view: View<'_>) -> Watts {
    let groups = view.targets.iter().filter_map(|(id, target)| Some((view.module.groups.get(id)?, target)));
    groups.map(|(config, target)| each(config, *target)).max().unwrap_or(Watts::ZERO)
}

/// What of this module's miners must be there to be dropped when a set is lost: its part of what the island would have to shed for
/// the set that needs most, at what that set delivers now.
fn reserve(view: View<'_>, grant: &Grant) -> Watts {
    let kept = grant.armed.values().map(|arming| kept_for(view, grant, arming)).max().unwrap_or(Watts::ZERO);
    // A miner too many is a smaller fault than a watt too few.
    if kept > Watts::ZERO { kept + largest(view) } else { kept }
}

fn kept_for(view: View<'_>, grant: &Grant, arming: &Arming) -> Watts {
    let rungs = arming.rungs.iter().filter_map(|rung| grant.ladder.get(*rung as usize));
    let miners = rungs.filter(|rung| matches!(rung.load, RungLoad::Miners(_)));
    let own: Watts = miners.map(|rung| rung.watts).sum();
    let set = view.gensets.get(&arming.source).copied().unwrap_or_default();
    let (closed, power) = match (set.closed, set.power) {
        (Some(false), _) => return Watts::ZERO,
        (closed, power) => (closed.is_some(), power),
    };
    // A set of which nothing is known may be lost with all it was planned to deliver.
    let Some(power) = power.filter(|_| closed) else { return own };
    let need = (power - arming.absorbed).at_least_zero();
    let need = need + need.fraction(SPARE_PERMILLE, 1_000);
    if need >= arming.island_shed { own } else { own.fraction(need.get(), arming.island_shed.get()) }
}

/// Load of the site that may be on its way down and not show yet: a step of every module, of which each has one turn a cycle and
/// waits for its own to show.
fn under_way(share: &Share) -> Watts {
    let turn = share.turn.get().max(1);
    let modules = (share.cycle.get().max(0) + turn - 1) / turn;
    share.step.times(modules.max(1))
}

/// Time until a step down shows at every meter.
fn shows_after(module: &Module) -> Span {
    module.groups.values().map(|group| group.sleep).max().unwrap_or(Span::ZERO) + MARGIN
}

/// Whether dwell let regulation follow what was held so far: else steps would add up, and fall at once when dwell is over.
fn is_followed(view: View<'_>, held: Watts) -> bool {
    let told = |id: &MinerGroupId| view.groups.get(id).map_or(0, |group| group.awake);
    lowered(view, held).iter().all(|(id, target)| told(id) <= target.awake)
}

#[cfg(test)]
mod tests;
