//! One island while a plan is being made: its capacity, its modules, and the two questions every step asks of them.
//!
//! *May what runs go on?* looks at the state the plan leads to. *May something start?* looks at the worst state on the way there:
//! all new load drawn, and of the fast load only what is drawn now. An island that has just lost a set may therefore go on while
//! its feeders close again, but nothing is added to it before they have. Read next: `assign`.

use std::collections::BTreeMap;

use model::report::GensetState;
use model::workload::{Tier, Workload};
use model::{MicroDollars, ModuleId, SiteId, Watts};

use crate::capacity::{self, Agents, Capacity};
use crate::commit::Asked;
use crate::input::{Input, Link, ModuleInput, SiteInput};
use crate::security::FAST;
use crate::slot::{Slot, is_fast};
use crate::tie::{self, Demand};
use crate::worth;

/// A start must leave this much of the firm capacity free, so that a breath of gas does not stop it again: 2 %.
const START_SLACK_PERMILLE: i64 = 20;

/// One island in the making.
#[derive(Clone, Debug)]
pub(crate) struct Island<'a> {
    pub(crate) input: &'a SiteInput,
    pub(crate) capacity: Capacity,
    pub(crate) slots: BTreeMap<ModuleId, Slot<'a>>,
    /// What its modules surely draw, set by `hold_beside_firm`.
    pub(crate) stays: Watts,
    /// Whether runs that are being stopped still have their watts.
    pub(crate) leaving_counts: bool,
    /// Nothing may be started after all: whole miners left too little fast load.
    pub(crate) closed: bool,
}

impl<'a> Island<'a> {
    /// An island with nothing placed on it yet.
    pub(crate) fn new(
        id: &'a SiteId,
        site: &'a SiteInput,
        modules: &[(&'a ModuleId, &'a ModuleInput)],
        input: &'a Input,
        asked: &Asked<'_>,
    ) -> Self {
        let parent = input.parent.as_ref().and_then(|parent| parent.sites.get(id)).map(|planned| &**planned);
        let reached = modules.iter().filter(|(_, module)| module.link.is_in_touch());
        let groups = reached.flat_map(|(_, module)| module.module.groups.values());
        let opens = groups.filter(|group| is_fast(group)).filter_map(|group| group.shed.opens).max();
        let wired = modules.iter().any(|(_, given)| given.module.wired && given.link == Link::Online);
        let reached = modules.iter().any(|(_, given)| given.module.wired && given.link.is_in_touch());
        let demand = Demand::of(site, modules, input);
        let agents = Agents { opens: opens.map(|opens| opens.min(FAST)), wired, reached, demand };
        let capacity = capacity::of(site, parent, agents, asked);
        let raise = capacity.may_raise();
        let slots = modules
            .iter()
            .map(|&(module, given)| {
                let granted = parent.and_then(|parent| parent.modules.get(module));
                (module.clone(), Slot::new(module, given, granted, raise))
            })
            .collect();
        let stays = Watts::ZERO;
        let mut island = Self { input: site, capacity, slots, stays, leaving_counts: true, closed: false };
        let megawatt = Watts::kilo(1_000);
        let earned = worth::mining_per_hour(&island, &input.market, megawatt);
        if let Some(tie) = &mut island.capacity.tie {
            tie.mining = earned > tie::cost(tie.price, megawatt);
        }
        island
    }

    /// Load that feeders cannot drop, without miners: what is kept, what must be counted as frozen, and what is not ours. A
    /// frozen module's own ladder goes on working without a link; `strict` gives it no credit all the same.
    pub(crate) fn fixed(&self, strict: bool, leaving: bool) -> Watts {
        let of = |slot: &Slot<'_>| {
            let credit = if strict || slot.frozen.is_none() { Watts::ZERO } else { slot.fast_target() };
            (slot.fixed_ceiling(leaving) - credit).at_least_zero()
        };
        self.capacity.unmanaged + self.overhead(leaving) + self.slots.values().map(of).sum()
    }

    /// Loss and headroom of all the miners that feeders could drop: no rung claims them, so they count as load that stays.
    fn overhead(&self, leaving: bool) -> Watts {
        // By the module's own limit, not by what is granted: old news must not change what was decided on them.
        let live = self.slots.values().filter(|slot| slot.frozen.is_none() && self.input.site.relay);
        live.map(|slot| {
            let before = slot.kept_load() + if leaving { slot.leaving } else { Watts::ZERO };
            let room = (slot.module().most() - slot.ceiling_for(before)).at_least_zero();
            let fast = slot.fast_full().min(slot.load_within(before, room));
            slot.ceiling_for(before + fast) - slot.ceiling_for(before) - fast
        })
        .sum()
    }

    /// Whether what runs may go on: within the limits of its modules and the island, and N-1 once the miners are back. Firm runs
    /// go on without N-1, since stopping them would be the very loss that N-1 guards against. `leaving` tells whether runs that
    /// are being stopped count.
    pub(crate) fn tolerable(&self, leaving: bool) -> bool {
        let total = self.fixed_ceilings(leaving) + self.capacity.unmanaged;
        if total > self.capacity.total {
            return false;
        }
        if !self.has_interruptible() {
            return true;
        }
        let fixed = self.fixed(false, leaving);
        let most = self.capacity.secure_total();
        let secure = self.capacity.security.need(fixed).is_some_and(|need| {
            let need = if need > Watts::ZERO { need + self.grain(false) } else { need };
            need <= self.fast_room() && total.max(fixed) + need <= most
        });
        secure && total <= most
    }

    /// Most load that no feeder drops once something of this tier is started: the N-1 capacity, less a little for what is not firm,
    /// and room for the fast load that must stand beside it.
    pub(crate) fn start_limit(&self, tier: Tier) -> Watts {
        let Capacity { security, own, firm, opened, secure, .. } = &self.capacity;
        let slack = |limit: Watts| limit - limit.fraction(START_SLACK_PERMILLE, 1_000);
        let promised = match (tier, security.has_contingencies()) {
            (Tier::Firm, _) => *firm,
            (_, true) => slack(*secure),
            (_, false) => slack(*opened),
        };
        let most = self.capacity.secure_total().min(if tier == Tier::Firm { *own } else { *opened });
        // The grain too, or what is started would be stopped again as intolerable.
        let beside = |need: Watts| if need > Watts::ZERO { need + self.grain(true) } else { need };
        let fits = |fixed: i64| {
            let need = security.need(Watts::new(fixed));
            need.is_some_and(|need| Watts::new(fixed) + beside(need) <= most)
        };
        if fits(promised.get()) {
            return promised;
        }
        // The need rises with the load, so the most that fits is found by bisection.
        let (mut low, mut high) = (0, promised.get().max(0));
        while low + 1 < high {
            let middle = low + (high - low) / 2;
            if fits(middle) { low = middle } else { high = middle }
        }
        Watts::new(low)
    }

    /// What whole miners may take off a fill: one miner a fast group. Groups that are `held` at their settings and filled to
    /// them lose nothing.
    pub(crate) fn grain(&self, held: bool) -> Watts {
        let live = self.slots.values().filter(|slot| slot.frozen.is_none() && (held || slot.held.is_none()));
        let groups = live.flat_map(|slot| slot.fast_groups());
        groups.map(|(_, group)| group.full().power).sum()
    }

    /// Whether new load may stand beside the loads now planned: with only the fast load that is drawn already.
    pub(crate) fn is_secure_for_starts(&self) -> bool {
        let live = || self.slots.values().filter(|slot| slot.frozen.is_none());
        let slow: Watts =
            live().map(|slot| crate::mining::ceiling(slot, self.leaving_counts) - slot.fast_target()).sum();
        let frozen: Watts =
            self.slots.values().filter_map(|slot| slot.frozen.as_ref()).map(|plan| plan.ceiling).sum();
        let fixed = self.capacity.unmanaged + slow + frozen;
        let relay = self.input.site.relay;
        let low: Watts = live().map(|slot| slot.fast_low()).filter(|_| relay).sum();
        let fixed = if relay { fixed } else { fixed + live().map(|slot| slot.fast_target()).sum() };
        self.capacity.security.need(fixed).is_some_and(|need| need <= low)
    }

    /// Largest block of load the island takes at once: half of what its sets take together.
    pub(crate) fn block(&self) -> Watts {
        self.capacity.security.steps().fraction(1, 2)
    }

    /// Ceilings without miners.
    pub(crate) fn fixed_ceilings(&self, leaving: bool) -> Watts {
        self.slots.values().map(|slot| slot.fixed_ceiling(leaving)).sum()
    }

    /// Gives a run of a module so many watts more and `steps` settings of speed.
    pub(crate) fn speed_up(&mut self, module: &ModuleId, run: &Workload, watts: Watts, steps: isize) {
        let Some(slot) = self.slots.get_mut(module) else { return };
        let Some(elastic) = slot.elastic.get_mut(&run.id) else { return };
        elastic.at = elastic.at.saturating_add_signed(steps);
        let sign = if steps < 0 { -1 } else { 1 };
        *slot.busy.entry(run.spec.tier).or_default() += watts.times(sign);
    }

    /// Whether the plan so far starts anything here.
    pub(crate) fn starts(&self, input: &Input) -> bool {
        let live = self.slots.values().filter(|slot| slot.frozen.is_none());
        let mut runs = live.flat_map(|slot| slot.runs.keys()).filter_map(|id| input.workloads.get(id));
        runs.any(|workload| !workload.status.phase.holds())
    }

    /// What the starts of sets cost that the plan asks for.
    pub(crate) fn start_costs(&self) -> MicroDollars {
        let state =
            |id| self.input.report.as_ref().and_then(|report| report.gensets.get(id)).map(|set| set.state);
        let wanted = self.capacity.schedule.now.iter().filter(|(_, wanted)| **wanted);
        let started = wanted.filter(|(id, _)| state(id) == Some(GensetState::Off));
        started.filter_map(|(id, _)| self.input.site.gensets.get(id)).map(|set| set.start_cost).sum()
    }

    fn has_interruptible(&self) -> bool {
        let other = |slot: &Slot<'_>| {
            slot.busy.iter().any(|(tier, &watts)| *tier != Tier::Firm && watts > Watts::ZERO)
        };
        self.slots.values().filter(|slot| slot.frozen.is_none()).any(other)
    }

    /// Fast load the modules have room for.
    fn fast_room(&self) -> Watts {
        self.counted(|slot| slot.fast_full())
    }

    fn counted(&self, fast: impl Fn(&Slot<'_>) -> Watts) -> Watts {
        if !self.input.site.relay {
            return Watts::ZERO;
        }
        let live = self.slots.values().filter(|slot| slot.frozen.is_none());
        live.map(|slot| {
            let room = (slot.limit - slot.fixed_ceiling(self.leaving_counts)).at_least_zero();
            let before = slot.kept_load() + if self.leaving_counts { slot.leaving } else { Watts::ZERO };
            fast(slot).min(slot.load_within(before, room))
        })
        .sum()
    }
}
