//! How much may hang on one module's main breaker while firm work runs beside it.
//!
//! Where a whole module is lost at once frequency rises until governors have unloaded the sets; above what they can reject
//! ([`crate::security::Security::most_rejected`]) they trip, and the island is dark. A module's own loss ends its own runs whatever is
//! done, so a module is held to that only where a firm run stands, or is started, on *another* one of its island. Nobody is stopped for
//! it: a module whose runs alone are above keeps them, mines nothing and starts nothing, and nothing firm starts beside it.
//!
//! Runs in place bound [`crate::slot::Slot::limit`] before anything is decided; what a firm start takes from its neighbours the
//! dispatch weighs (`dispatch/guard.rs`). Read next: `slot`.

use std::collections::BTreeMap;

use model::workload::{Tier, Workload};
use model::{ModuleId, Watts, WorkloadId};

use crate::input::Link;
use crate::island::Island;
use crate::slot::Slot;

type Workloads = BTreeMap<WorkloadId, Workload>;

impl Island<'_> {
    /// Holds each module beside firm work to what the sets can reject, or to what it runs already.
    pub(crate) fn hold_beside_firm(&mut self, workloads: &Workloads) {
        let firm = self.firm_modules(workloads);
        let stays = self.slots.values().map(staying).sum();
        self.stays = stays;
        let (security, leaving) = (&self.capacity.security, self.leaving_counts);
        for (id, slot) in &mut self.slots {
            let most = security.most_rejected(stays - staying(slot));
            let held = is_beside(&firm, id) && slot.potential() > most;
            slot.limit = if held { slot.open.min(most.max(slot.fixed_ceiling(leaving))) } else { slot.open };
        }
    }

    /// Modules whose runs alone draw more than the sets can reject, beside firm work.
    pub(crate) fn oversized(&self, workloads: &Workloads) -> Vec<&ModuleId> {
        let firm = self.firm_modules(workloads);
        let large = self
            .slots
            .iter()
            .filter(|(id, slot)| is_beside(&firm, id) && slot.fixed_ceiling(false) > self.rejectable(slot));
        large.map(|(id, _)| id).collect()
    }

    /// What a module may draw at most while something firm runs beside it, where it could draw more.
    pub(crate) fn most_beside_firm(&self, slot: &Slot<'_>) -> Option<Watts> {
        let most = self.rejectable(slot);
        (slot.limit.min(slot.potential().max(slot.fixed_ceiling(true))) > most).then_some(most)
    }

    /// Whether a module out of touch may draw more than the sets can reject: nobody can tell it to draw less.
    pub(crate) fn has_silent_giant(&self) -> bool {
        let silent = |slot: &&Slot<'_>| slot.frozen.is_some();
        self.slots.values().filter(silent).any(|slot| slot.fixed_ceiling(true) > self.rejectable(slot))
    }

    /// The most that a module may draw for its sets to outlive its loss.
    fn rejectable(&self, slot: &Slot<'_>) -> Watts {
        self.capacity.security.most_rejected(self.stays - staying(slot))
    }

    /// Modules with a firm run; whether one of them has it or all is the same for a third.
    fn firm_modules(&self, workloads: &Workloads) -> Vec<ModuleId> {
        let firm = self.slots.iter().filter(|(_, slot)| has_firm(slot, workloads));
        firm.take(2).map(|(id, _)| id.clone()).collect()
    }
}

/// What a module surely draws: its base, once it was heard of (a lost link is no lost power), and half of the GPUs in use, since those need
/// not be busy. Runs that start or may be stopped by choice, miners, and load that is not ours might be gone when it counts.
fn staying(slot: &Slot<'_>) -> Watts {
    let base = if slot.input.link == Link::Never { Watts::ZERO } else { slot.module().base_draw() };
    base + slot.lasting.fraction(1, 2)
}

/// Whether one of these is another module.
fn is_beside(firm: &[ModuleId], id: &ModuleId) -> bool {
    firm.iter().any(|other| other != id)
}

fn has_firm(slot: &Slot<'_>, workloads: &Workloads) -> bool {
    let Some(frozen) = &slot.frozen else { return slot.firm > 0 };
    let mut runs = frozen.runs.keys().filter_map(|id| workloads.get(id));
    runs.any(|run| run.spec.tier == Tier::Firm)
}
