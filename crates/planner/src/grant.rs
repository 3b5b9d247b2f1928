//! Ceilings, floors, fallback programmes: what each module of an island is granted.
//!
//! Ceilings add up to no more than the capacity, fallback ceilings to no more than the N-1 capacity. Where even the base draw does
//! not fit, it is granted in order of id until it is used up. Read next: `plan`.

use std::collections::BTreeMap;

use model::envelope::FallbackStep;
use model::plan::{ModulePlan, SitePlan};
use model::workload::Tier;
use model::{ModuleId, Span, Watts};

use crate::horizon;
use crate::input::Input;
use crate::island::Island;
use crate::mining;
use crate::reserve;
use crate::share;
use crate::slot::Slot;
use crate::storage;
use crate::tie;

/// The decision for one island, once runs and miners are set.
pub(crate) fn site(island: &Island<'_>, input: &Input) -> SitePlan {
    let ladders = island.slots.iter().map(|(id, slot)| (id.clone(), reserve::ladder(slot, island, input)));
    let ladders = ladders.collect();
    let mut arming = reserve::arm(island, &ladders);
    let ceilings = ceilings(island);
    let fallbacks = fallbacks(island, &ceilings);
    let live = |id: &ModuleId| island.slots.get(id).is_some_and(|slot| slot.frozen.is_none());
    let shared: Watts = ceilings.iter().filter(|(id, _)| live(id)).map(|(_, &ceiling)| ceiling).sum();
    let modules = island.slots.iter().map(|(id, slot)| {
        if let Some(frozen) = &slot.frozen {
            return (id.clone(), frozen.clone());
        }
        let ceiling = ceilings.get(id).copied().unwrap_or_default();
        let fallback = fallbacks.get(id).copied().unwrap_or_default();
        let plan = ModulePlan {
            ceiling,
            ai_floor: slot.firm_ceiling().min(ceiling),
            share: share::of(island, id, ceiling, shared),
            ladder: ladders.get(id).cloned().unwrap_or_default(),
            armed: arming.rungs.remove(id).unwrap_or_default(),
            fallback: vec![FallbackStep { after: Span::ZERO, ceiling: fallback }],
            miners: slot.miners.clone(),
            caps: BTreeMap::new(),
            runs: slot.runs.clone(),
            slowed: slot.slowed(),
        };
        (id.clone(), plan)
    });
    let (storage, import) = (storage::target(island), tie::target(island));
    let delivered = storage.map_or(Watts::ZERO, |target| target.power.at_least_zero());
    let imported = import.map_or(Watts::ZERO, |target| target.power);
    SitePlan {
        capacity: (island.capacity.own + delivered + imported).min(island.capacity.rated),
        firm_capacity: island.capacity.firm,
        gensets: island.capacity.schedule.now.clone(),
        later: island.capacity.schedule.later.clone(),
        modules: modules.collect(),
        contingencies: arming.contingencies,
        storage,
        import,
        steps: horizon::steps(island, input),
    }
}

/// What each module may draw now, cut to what there is.
fn ceilings(island: &Island<'_>) -> BTreeMap<ModuleId, Watts> {
    let frozen: Watts =
        island.slots.values().filter_map(|slot| slot.frozen.as_ref()).map(|plan| plan.ceiling).sum();
    let budget = island.capacity.total - island.capacity.unmanaged - frozen;
    let wanted = |slot: &Slot<'_>| mining::ceiling(slot, island.leaving_counts).min(slot.limit);
    grant(island, budget, [&|slot: &Slot<'_>| slot.firm_ceiling().min(wanted(slot)), &wanted])
}

/// What each module may draw when its envelope has expired: base and firm AI first, then on-demand AI where it fits.
fn fallbacks(island: &Island<'_>, ceilings: &BTreeMap<ModuleId, Watts>) -> BTreeMap<ModuleId, Watts> {
    let frozen = island.slots.values().filter_map(|slot| slot.frozen.as_ref());
    let kept: Watts = frozen.filter_map(|plan| plan.fallback.iter().map(|step| step.ceiling).max()).sum();
    let budget = island.capacity.firm - island.capacity.unmanaged - kept;
    let most = |slot: &Slot<'_>| ceilings.get(slot.id).copied().unwrap_or_default();
    let firm = |slot: &Slot<'_>| slot.firm_ceiling().min(most(slot));
    let promised = |slot: &Slot<'_>| {
        let of = |tier| slot.busy.get(&tier).copied().unwrap_or_default();
        slot.ceiling_for(slot.base + of(Tier::Firm) + of(Tier::OnDemand)).min(most(slot))
    };
    grant(island, budget, [&firm, &promised])
}

/// Grants every live module its first wish, then its second, in order of id, until the budget is used up.
fn grant(
    island: &Island<'_>,
    budget: Watts,
    wishes: [&dyn Fn(&Slot<'_>) -> Watts; 2],
) -> BTreeMap<ModuleId, Watts> {
    let mut left = budget.at_least_zero();
    let mut granted: BTreeMap<ModuleId, Watts> = BTreeMap::new();
    for wish in wishes {
        for (id, slot) in island.slots.iter().filter(|(_, slot)| slot.frozen.is_none()) {
            let has = granted.entry(id.clone()).or_default();
            let more = (wish(slot) - *has).at_least_zero().min(left);
            *has += more;
            left -= more;
        }
    }
    granted
}
