//! What each module may change at once: the island's block load and ramp, divided so that the parts add up to the whole.
//!
//! Modules have no common clock, so turns that must not overlap cannot be relied upon. Every module may therefore step once in a
//! cycle of [`CYCLE`], the time in which sets recover from a block, and even if all steps fall together their sum is within *half* of
//! what the sets take: two neighbouring cycles may touch. Read next: `grant`.

use model::envelope::Share;
use model::{ModuleId, Span, Watts, WattsPerSecond};

use crate::island::Island;

/// Time in which sets recover from a block load; vendors ask for 5 to 10 s.
pub(crate) const CYCLE: Span = Span::secs(10);

/// The share of one module: by its ceiling among the ceilings of all that are in touch.
pub(crate) fn of(island: &Island<'_>, module: &ModuleId, ceiling: Watts, ceilings: Watts) -> Share {
    let slot = island.slots.get(module);
    if let Some(frozen) = slot.and_then(|slot| slot.frozen.as_ref()) {
        return frozen.share;
    }
    let frozen = || island.slots.values().filter_map(|slot| slot.frozen.as_ref());
    let ramps: WattsPerSecond = island.capacity.security.sources.iter().map(|source| source.ramp).sum();
    let step = (island.block() - frozen().map(|plan| plan.share.step).sum()).at_least_zero();
    // Storage, grid tie and modules share one limit.
    let stored = island.capacity.store.as_ref().map_or(WattsPerSecond::ZERO, |store| store.ramp);
    let tied = island.capacity.tie.as_ref().map_or(WattsPerSecond::ZERO, |tie| tie.ramp);
    let ramp =
        (ramps.fraction(1, 2) - stored - tied - frozen().map(|plan| plan.share.ramp).sum()).at_least_zero();
    Share {
        step: step.fraction(ceiling.get(), ceilings.get()),
        ramp: ramp.fraction(ceiling.get(), ceilings.get()),
        cycle: CYCLE,
        offset: Span::ZERO,
        turn: CYCLE,
    }
}
