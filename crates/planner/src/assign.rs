//! Which workload runs where: keep what runs, stop what no longer fits, start what is worth most.
//!
//! Sticky on purpose: a run is stopped only because power fell short (least price × lost work first) or because a stronger
//! promise needs its GPUs and pays more over the next half hour, and by choice never twice without progress. GPUs of a run that
//! is being stopped stay taken until its module says that it is gone. Read next: `start`, then `mining`.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use model::module::GpuPool;
use model::plan::ReasonCode;
use model::workload::{GpuTime, Phase, Placement, Tier, Workload};
use model::{MicroDollars, ModuleId, SiteId, SoldBy, Time, Watts, WorkloadId};

use crate::affinity::Groups;
use crate::commit::{self, Modules};
use crate::input::Input;
use crate::island::Island;
use crate::pack;
use crate::slot::Slot;

/// The whole fleet in the making.
#[derive(Clone, Debug)]
pub(crate) struct Book<'a> {
    pub(crate) input: &'a Input,
    pub(crate) islands: BTreeMap<SiteId, Island<'a>>,
    /// Who must stand together or apart.
    pub(crate) groups: Arc<Groups<'a>>,
    /// What became of each workload, and why.
    pub(crate) verdicts: BTreeMap<WorkloadId, Verdict>,
    /// What starts, waits and stops by choice are worth over the dwell, before gas and mining.
    pub(crate) gained: MicroDollars,
}

/// What became of one workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) reason: ReasonCode,
    /// What keeps it from running, for operators.
    pub(crate) binding: Option<String>,
    /// What was rejected in its favour or in its place, for operators.
    pub(crate) rejected: Option<String>,
}

impl Verdict {
    pub(crate) fn of(reason: ReasonCode) -> Self {
        Self { reason, binding: None, rejected: None }
    }
}

/// Who is stopped first when power is short: fields in order of importance.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Victim {
    tier: Reverse<Tier>,
    /// Price × progress since the last checkpoint we saw; progress never reported counts as none.
    lost: MicroDollars,
    /// Ties go to the least recently preempted.
    preempted: Option<Time>,
    id: WorkloadId,
}

impl<'a> Book<'a> {
    /// The fleet with everything that holds GPUs in its place, and nothing decided.
    pub(crate) fn open(input: &'a Input) -> Self {
        Self::open_with(input, Groups::of(input))
    }

    /// The same, where groups reach beyond the input.
    pub(crate) fn open_with(input: &'a Input, groups: Groups<'a>) -> Self {
        let mut modules = Modules::new();
        for (id, module) in &input.modules {
            modules.entry(&module.module.site).or_default().push((id, module));
        }
        let asked = commit::all(input, &modules);
        let islands = input.sites.iter().map(|(id, site)| {
            let here = modules.get(id).map_or(&[][..], Vec::as_slice);
            (id.clone(), Island::new(id, site, here, input, &asked[id]))
        });
        let (islands, groups) = (islands.collect(), Arc::new(groups));
        let mut book = Self { input, islands, groups, verdicts: BTreeMap::new(), gained: MicroDollars::ZERO };
        // Only modules out of touch are asked what they were told.
        let silent = |module: &ModuleId| input.modules.get(module).is_some_and(|m| !m.link.is_in_touch());
        let told =
            input.parent.iter().flat_map(|parent| parent.sites.values()).flat_map(|site| &site.modules);
        let told: BTreeMap<&WorkloadId, &Placement> =
            told.filter(|(id, _)| silent(id)).flat_map(|(_, module)| &module.runs).collect();
        for (id, workload) in &input.workloads {
            book.settle(id, workload, told.get(id).copied());
        }
        book
    }

    /// The module a placement names, if it is described.
    pub(crate) fn slot_mut(&mut self, module: &ModuleId) -> Option<&mut Slot<'a>> {
        let site = &self.input.modules.get(module)?.module.site;
        self.islands.get_mut(site)?.slots.get_mut(module)
    }

    /// Takes the GPUs that a workload holds, and decides what needs no comparison with others.
    fn settle(&mut self, id: &WorkloadId, workload: &Workload, told: Option<&Placement>) {
        let Some(placement) = held(workload, told) else {
            if workload.cancel || workload.status.phase.is_final() {
                let done = workload.status.phase == Phase::Completed;
                let reason = if done { ReasonCode::Completed } else { ReasonCode::Cancelled };
                self.verdicts.insert(id.clone(), Verdict::of(reason));
            }
            return;
        };
        let reason = match self.slot_mut(&placement.module) {
            Some(slot) => hold(slot, id, workload, placement),
            None => ReasonCode::LinkLost,
        };
        self.verdicts.insert(id.clone(), Verdict::of(reason));
    }

    /// Stops runs until what is left may go on.
    pub(crate) fn shed(&mut self) {
        let sites: Vec<SiteId> = self.islands.keys().cloned().collect();
        for site in &sites {
            self.hold_beside_firm(site);
            self.shed_modules(site);
            while self.islands.get(site).is_some_and(|island| !island.tolerable(false)) {
                let modules: Vec<ModuleId> = self.islands[site].slots.keys().cloned().collect();
                let real = self.islands[site].capacity.total;
                let short =
                    self.islands[site].fixed_ceilings(false) + self.islands[site].capacity.unmanaged > real;
                if !self.stop_one(&modules, short) {
                    break;
                }
            }
            // Who was stopped needs nothing any more, neither watts nor a light module beside it.
            self.hold_beside_firm(site);
            self.count_leaving(site);
            self.hold_beside_firm(site);
        }
    }

    fn hold_beside_firm(&mut self, site: &SiteId) {
        let workloads = &self.input.workloads;
        self.islands.get_mut(site).into_iter().for_each(|island| island.hold_beside_firm(workloads));
    }

    /// A module's own limit may have fallen below what runs in it.
    fn shed_modules(&mut self, site: &SiteId) {
        let modules: Vec<ModuleId> = self.islands[site].slots.keys().cloned().collect();
        for module in modules {
            while self.islands[site].slots.get(&module).is_some_and(|slot| {
                let most = slot.module().most().at_least_zero();
                slot.frozen.is_none() && slot.fixed_ceiling(false) > most
            }) {
                if !self.stop_one(std::slice::from_ref(&module), true) {
                    break;
                }
            }
        }
    }

    /// Stops the run that loses least; firm ones only where power itself is `short`.
    fn stop_one(&mut self, modules: &[ModuleId], short: bool) -> bool {
        let slots = modules.iter().filter_map(|id| {
            let site = &self.input.modules.get(id)?.module.site;
            self.islands.get(site)?.slots.get(id)
        });
        let victim = slots
            .filter(|slot| slot.frozen.is_none())
            .flat_map(|slot| slot.runs.keys())
            .filter_map(|id| self.input.workloads.get(id))
            .filter(|workload| short || workload.spec.tier != Tier::Firm)
            .map(victim)
            .min();
        let Some(victim) = victim else {
            return false;
        };
        self.stop(&victim.id, ReasonCode::PowerShort);
        true
    }

    /// Takes a run off its module; its GPUs stay taken until they are reported free.
    pub(crate) fn stop(&mut self, id: &WorkloadId, reason: ReasonCode) {
        let Some(workload) = self.input.workloads.get(id) else {
            return;
        };
        // Only what holds GPUs is stopped, and that stands in its status.
        let Some(placement) = workload.status.placement.clone() else {
            return;
        };
        if let Some(slot) = self.slot_mut(&placement.module) {
            slot.runs.remove(id);
            slot.elastic.remove(id);
            slot.firm = slot.firm.saturating_sub(u32::from(workload.spec.tier == Tier::Firm));
            let watts = busy(slot, workload, &placement);
            slot.lasting -= if lasts(workload) { watts } else { Watts::ZERO };
            if let Some(kept) = slot.busy.get_mut(&workload.spec.tier) {
                *kept = (*kept - watts).at_least_zero();
            }
            slot.leaving += draws_yet(slot, workload, &placement);
            if let Some(freeing) = slot.freeing.get_mut(&placement.pool) {
                pack::give(freeing, &placement.servers);
            }
        }
        let mut verdict = Verdict::of(reason);
        verdict.binding = Some(format!("module {}: {reason}", placement.module));
        self.verdicts.insert(id.clone(), verdict);
    }

    /// Runs that are being stopped keep their watts while there are any, so that they can save their work.
    pub(crate) fn count_leaving(&mut self, site: &SiteId) {
        if let Some(island) = self.islands.get_mut(site) {
            let modules = island.slots.values().all(|slot| slot.fixed_ceiling(true) <= slot.limit);
            island.leaving_counts = modules && island.tolerable(true);
        }
    }
}

/// Where a workload may be running: where its status says, or where a module out of touch was told to run it.
fn held(workload: &Workload, told: Option<&Placement>) -> Option<Placement> {
    if workload.status.phase.holds() {
        return workload.status.placement.clone();
    }
    told.filter(|_| !workload.status.phase.is_final()).cloned()
}

/// Whether a run draws now, as far as anybody knows, and is none that gives way by choice. A powered shell is held, drawn or not.
fn lasts(workload: &Workload) -> bool {
    let draws = matches!(workload.status.phase, Phase::Running | Phase::Unreachable);
    draws && workload.spec.tier != Tier::Spot && workload.sold_by() == SoldBy::Gpu
}

/// Busy watts of a placement, behind the module's loss: the least that its contract allows.
pub(crate) fn busy(slot: &Slot<'_>, workload: &Workload, placement: &Placement) -> Watts {
    let pool = slot.module().pools.get(&placement.pool);
    let least = |pool: &GpuPool| pool.least(workload.floor()).per_gpu;
    pool.map_or(Watts::ZERO, |pool| least(pool).times(workload.spec.gpus.into()))
}

/// What a run draws until it has gone: as it was told.
fn draws_yet(slot: &Slot<'_>, workload: &Workload, placement: &Placement) -> Watts {
    let pool = slot.module().pools.get(&placement.pool);
    let told = slot.told.get(&workload.id).copied();
    pool.map_or(Watts::ZERO, |pool| pool.run_draw(workload.spec.gpus, told))
}

/// What stopping a run throws away, by choice or not: price × progress since the last checkpoint that *we* observed, up to the
/// interval that was agreed. Without one observed it is zero, so that saving never makes a run likelier to be stopped than silence,
/// and the cap keeps a tenant from gaining by not saving.
pub(crate) fn lost_work(workload: &Workload) -> MicroDollars {
    if workload.status.saved <= GpuTime::ZERO {
        return MicroDollars::ZERO;
    }
    let since_checkpoint = (workload.status.progress - workload.status.saved).at_least_zero();
    let cap = GpuTime::of(workload.spec.gpus, workload.spec.checkpoint).at_least_zero();
    since_checkpoint.min(cap).cost(workload.spec.price)
}

fn victim(workload: &Workload) -> Victim {
    Victim {
        tier: Reverse(workload.spec.tier),
        lost: lost_work(workload),
        preempted: workload.status.preempted,
        id: workload.id.clone(),
    }
}

/// Enters a held workload into its module and says what becomes of it.
fn hold(slot: &mut Slot<'_>, id: &WorkloadId, workload: &Workload, placement: Placement) -> ReasonCode {
    let watts = busy(slot, workload, &placement);
    let lasting = if lasts(workload) { watts } else { Watts::ZERO };
    if let Some(frozen) = &mut slot.frozen {
        if workload.cancel {
            frozen.runs.remove(id);
            return ReasonCode::Cancelled;
        }
        frozen.runs.insert(id.clone(), placement);
        slot.lasting += lasting;
        return ReasonCode::LinkLost;
    }
    // What is held is held, even on a server that no longer answers.
    if let Some(free) = slot.free.get_mut(&placement.pool) {
        for &(server, gpus) in &placement.servers {
            if let Some(left) = free.get_mut(server as usize) {
                *left = left.saturating_sub(gpus);
            }
        }
    }
    let ends = [
        (workload.cancel, ReasonCode::Cancelled),
        (slot.input.draining, ReasonCode::Draining),
        (workload.status.phase == Phase::Stopping, workload.status.reason),
    ];
    if let Some((_, reason)) = ends.into_iter().find(|(applies, _)| *applies) {
        slot.leaving += draws_yet(slot, workload, &placement);
        if let Some(freeing) = slot.freeing.get_mut(&placement.pool) {
            pack::give(freeing, &placement.servers);
        }
        return reason;
    }
    *slot.busy.entry(workload.spec.tier).or_default() += watts;
    slot.firm += u32::from(workload.spec.tier == Tier::Firm);
    slot.lasting += lasting;
    slot.note_elastic(workload, &placement);
    slot.runs.insert(id.clone(), placement);
    ReasonCode::Kept
}
