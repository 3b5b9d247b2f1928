//! Who is promised what, where it runs, and where more could: the fleet as the plan on the same input leaves it.
//!
//! Promises with a level of availability rank first, then those that are placed, then by tier and age. Spot runs without a level give way
//! to what is stronger, as the planner would let them. On-demand runs give way where power falls short, never to a start: they hold
//! their GPUs and their watts against whoever comes. Read next: `draw`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use model::affinity::Sites;
use model::report::GensetState;
use model::site::GasFlow;
use model::workload::{GpuTime, Phase, Tier, Workload};
use model::{Span, Watts, WorkloadId};

use super::carry::{MAX_SETS, MAX_WELLS, Plant};
use super::draw::{Bay, Fleet, Isle, Promise};
use super::outage::Part;
use super::{Request, Risks};
use crate::assign::Book;
use crate::commit;
use crate::input::{Input, SiteInput};
use crate::island::Island;
use crate::outlook::{Ahead, Short};
use crate::security::Source;
use crate::slot::Slot;

/// The fleet without what gives way to the request.
pub(super) struct Scene {
    pub(super) input: Input,
    /// Who was promised something, by rank.
    ranked: Vec<WorkloadId>,
    /// GPU types, by name.
    kinds: BTreeSet<String>,
}

impl Scene {
    /// The fleet as the plan leaves it; nothing is planned anew for the request.
    pub(super) fn of(given: &Input, request: &Request) -> Self {
        let level = |run: &Workload| request.level_of(run);
        let ahead = Ahead::of(given);
        let mut input = given.clone();
        let mut placed: BTreeMap<WorkloadId, Workload> = ahead.runs.into_values().flatten().collect();
        for (id, workload) in &mut input.workloads {
            match placed.remove(id) {
                Some(run) => *workload = run,
                None => (workload.status.phase, workload.status.placement) = (Phase::Pending, None),
            }
        }
        let counts = |run: &Workload| run.spec.tier <= request.tier || level(run) > 0;
        let holds = |run: &Workload| run.spec.tier == Tier::OnDemand && run.status.placement.is_some();
        input.workloads.retain(|_, run| !run.cancel && (counts(run) || holds(run)));
        input.parent = Some(ahead.plan);
        let mut ranked: Vec<WorkloadId> = input.workloads.keys().cloned().collect();
        ranked.sort_by_key(|id| {
            let run = &input.workloads[id];
            (level(run) == 0, run.status.placement.is_none(), run.spec.tier, run.created, id.clone())
        });
        let pools = input.modules.values().flat_map(|given| given.module.pools.values());
        let kinds: BTreeSet<String> = pools.map(|pool| pool.gpu.clone()).collect();
        // GPUs that nobody has could not be served whatever happens.
        ranked.retain(|id| counts(&input.workloads[id]) && kinds.contains(&input.workloads[id].spec.gpu));
        Self { input, ranked, kinds }
    }

    /// A type's number; types that nobody has have none.
    pub(super) fn kind(&self, gpu: &str) -> Option<usize> {
        self.kinds.iter().position(|kind| kind == gpu)
    }

    /// Whose promise it is, by rank.
    pub(super) fn promised(&self, rank: usize) -> WorkloadId {
        self.ranked[rank].clone()
    }

    /// The islands, with what fails in them.
    pub(super) fn fleet(&self, risks: &Risks) -> Fleet<'_> {
        let book = Book::open(&self.input);
        let isles = self.input.sites.values().zip(book.islands.values());
        let mut isles: Vec<_> = isles.map(|(given, island)| self.isle(given, island, risks)).collect();
        let ranked: BTreeSet<&WorkloadId> = self.ranked.iter().collect();
        let others = self.input.workloads.iter().filter(|(id, _)| !ranked.contains(id));
        others.filter_map(|(_, run)| self.home(run)).for_each(|(site, watts)| isles[site].held += watts);
        Fleet { isles, common: Part::new(&["fleet"], risks.common, false) }
    }

    fn isle<'s>(&'s self, given: &'s SiteInput, island: &Island<'_>, risks: &Risks) -> Isle<'s> {
        let site = &given.site;
        let name = site.id.as_str();
        let mut sets: Vec<_> = site.gensets.iter().collect();
        sets.sort_by_key(|(id, set)| (std::cmp::Reverse(set.rating), *id));
        sets.truncate(MAX_SETS);
        let state = |id: &model::GensetId| {
            given.report.as_ref().and_then(|report| report.gensets.get(id)).map(|set| set.state)
        };
        let fails = |id: &model::GensetId| {
            let out = state(id).is_none_or(|state| state == GensetState::Tripped);
            let failure = Part::new(&[name, "set", id.as_str()], risks.set, out);
            [failure, Part::new(&[name, "service", id.as_str()], risks.service, false)]
        };
        let mut wells: Vec<_> = site.gas.iter().collect();
        wells.sort_by_key(|(id, well)| (std::cmp::Reverse(well.nominal), *id));
        wells.truncate(MAX_WELLS);
        let all = site.gas.values().map(|well| well.nominal.get().max(0)).sum::<i64>().max(1);
        let now = counted(given, risks);
        let flows = wells.iter().map(|(_, well)| now.fraction(well.nominal.get().max(0), all)).collect();
        let fast: Watts = island.slots.values().map(Slot::fast_full).sum();
        let groups = island.slots.values().flat_map(|slot| slot.fast_groups());
        let opens = groups.filter_map(|(_, group)| group.shed.opens).max().filter(|_| site.relay);
        let sources = sets.iter().map(|(id, set)| Source::new(id, set)).collect();
        let fast = if site.relay { fast } else { Watts::ZERO };
        Isle {
            silent: given.report.is_none(),
            plant: Plant::new(site, flows, sources, fast, opens),
            base: island.capacity.unmanaged + island.slots.values().map(|slot| base(slot, site.relay)).sum(),
            held: Watts::ZERO,
            compressor: Part::new(&[name, "compressor"], risks.compressor, false),
            wells: wells
                .iter()
                .map(|(id, _)| Part::new(&[name, "well", id.as_str()], risks.well, false))
                .collect(),
            sets: sets.iter().map(|(id, _)| fails(id)).collect(),
            bays: island.slots.values().flat_map(|slot| self.bays(slot)).collect(),
        }
    }

    /// By GPU type; a module that takes nothing new has none free.
    fn bays<'s>(&'s self, slot: &'s Slot<'_>) -> impl Iterator<Item = Bay> + 's {
        let room = slot.module().most() - slot.ceiling_for(slot.kept_load());
        self.kinds.iter().enumerate().filter_map(move |(kind, gpu)| {
            let pools = slot.module().pools.iter().filter(|(_, pool)| pool.gpu == *gpu);
            let free = pools.clone().map(|(id, _)| {
                slot.free.get(id).filter(|_| slot.accepts).map_or(0, |free| free.iter().sum())
            });
            let each = pools.clone().map(|(_, pool)| drawn(slot, pool.per_gpu())).max()?;
            Some(Bay { kind, free: free.collect(), room, each })
        })
    }

    /// All promises by rank; those that wait are given the first place that carries them now.
    pub(super) fn promises(&self, fleet: &mut Fleet<'_>, levels: &Request, hours: u32) -> Vec<Promise> {
        let mut made = Vec::new();
        for id in &self.ranked {
            let run = &self.input.workloads[id];
            let Some(kind) = self.kind(&run.spec.gpu) else { continue };
            let owed = run.remaining().map_or(hours, |left| left_hours(left, run.spec.gpus).min(hours));
            let mut promise = Promise {
                kind,
                gpus: run.spec.gpus,
                firm: run.spec.tier == Tier::Firm,
                home: self.home(run),
                runs: run.status.placement.is_some(),
                hours: owed,
                level: levels.level_of(run),
                sites: self.listed(run.spec.affinity.as_ref().and_then(|affinity| affinity.sites.as_ref())),
            };
            if promise.home.is_none() {
                promise.home = seat(fleet, &made, &promise)
                    .into_iter()
                    .find_map(Result::ok)
                    .map(|seat| seat.take(fleet));
            }
            made.push(promise);
        }
        made
    }

    /// The islands that a list of sites allows, by number.
    pub(super) fn listed(&self, sites: Option<&Sites>) -> Option<Arc<[usize]>> {
        let sites = sites?;
        let islands = self.input.sites.keys().enumerate();
        Some(islands.filter(|(_, site)| sites.contain(site)).map(|(nth, _)| nth).collect())
    }

    fn home(&self, run: &Workload) -> Option<(usize, Watts)> {
        let placement = run.status.placement.as_ref()?;
        let module = &self.input.modules.get(&placement.module)?.module;
        let pool = module.pools.get(&placement.pool)?;
        let site = self.input.sites.keys().position(|site| *site == module.site)?;
        Some((site, ceiling(module, pool.per_gpu().times(run.spec.gpus.into()))))
    }
}

/// A place for a gang.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seat {
    pub(super) site: usize,
    bay: usize,
    pool: usize,
    gpus: u32,
    pub(super) watts: Watts,
    /// What stays free on the island.
    pub(super) spare: Watts,
}

impl Seat {
    /// Takes the GPUs, and says where and what they draw.
    pub(super) fn take(self, fleet: &mut Fleet<'_>) -> (usize, Watts) {
        let bays = &mut fleet.isles[self.site].bays;
        bays[self.bay].free[self.pool] -= self.gpus;
        bays[self.bay].room -= self.watts;
        (self.site, self.watts)
    }
}

/// For each island that has GPUs of the type: the tightest place that a new gang could start in now, or what is short.
pub(super) fn seat(fleet: &mut Fleet<'_>, made: &[Promise], wanted: &Promise) -> Vec<Result<Seat, Short>> {
    let mut used = vec![Watts::ZERO; fleet.isles.len()];
    made.iter().filter_map(|promise| promise.home).for_each(|(site, watts)| used[site] += watts);
    let isles = fleet.isles.iter_mut().zip(used).enumerate();
    let with = isles
        .filter(|(_, (isle, _))| isle.bays.iter().any(|bay| bay.kind == wanted.kind))
        .filter(|(site, _)| wanted.may_run_on(*site));
    with.map(|(site, (isle, used))| place(isle, used, wanted, site)).collect()
}

fn place(isle: &mut Isle<'_>, used: Watts, wanted: &Promise, site: usize) -> Result<Seat, Short> {
    let sound = isle.sets.iter().enumerate().filter(|(_, set)| !set[0].is_out());
    let sets = sound.fold(0, |all, (nth, _)| all | 1u32 << nth);
    let carry = isle.plant.carry((1 << isle.wells.len()) - 1, sets);
    // An island that nothing may be started on takes no module's GPUs, so its own reasons come first.
    match () {
        () if isle.silent => return Err(Short::Silent),
        () if sets == 0 => return Err(Short::Sets),
        () if carry.go <= Watts::ZERO => return Err(Short::Gas),
        () if wanted.firm && sets.count_ones() < 2 => return Err(Short::OneSet),
        () => {}
    }
    let (bay, pool, watts) = tightest(&isle.bays, wanted)?;
    let limit = if wanted.firm { carry.secure } else { carry.other };
    let spare = limit - isle.base - isle.held - used - watts;
    match () {
        () if watts > carry.block => Err(Short::Reserve),
        () if spare < Watts::ZERO => Err(if wanted.firm { Short::FirmCapacity } else { Short::Power }),
        () => Ok(Seat { site, bay, pool, gpus: wanted.gpus, watts, spare }),
    }
}

/// The pool with the fewest free GPUs that are enough, by bay and pool, and what the gang draws there.
fn tightest(bays: &[Bay], wanted: &Promise) -> Result<(usize, usize, Watts), Short> {
    let (mut short, mut best): (_, Option<(u32, usize, usize, Watts)>) = (Short::Gpus, None);
    for (nth, bay) in bays.iter().enumerate().filter(|(_, bay)| bay.kind == wanted.kind) {
        let watts = bay.each.times(wanted.gpus.into());
        for (pool, &free) in bay.free.iter().enumerate().filter(|(_, free)| **free >= wanted.gpus) {
            if watts > bay.room {
                short = Short::ModuleLimit;
            } else if best.is_none_or(|(least, ..)| free < least) {
                best = Some((free, nth, pool, watts));
            }
        }
    }
    best.map(|(_, bay, pool, watts)| (bay, pool, watts)).ok_or(short)
}

/// The flow that is counted on while wells flow: the least of what is measured and forecast, less what is kept back.
fn counted(given: &SiteInput, risks: &Risks) -> GasFlow {
    let now = commit::flow_now(given);
    let least = given.forecast.iter().map(|step| step.p10.min(step.p50)).fold(now, GasFlow::min);
    least.at_least_zero().fraction(1_000 - i64::from(risks.kept_back.min(1_000)), 1_000)
}

/// What a module draws before any GPU works, and the loss and headroom of its miners, which no feeder drops.
fn base(slot: &Slot<'_>, relay: bool) -> Watts {
    let base = slot.ceiling_for(slot.base);
    let fast = if relay { slot.fast_full() } else { Watts::ZERO };
    base + slot.ceiling_for(fast) - slot.ceiling_for(Watts::ZERO) - fast
}

fn drawn(slot: &Slot<'_>, watts: Watts) -> Watts {
    ceiling(slot.module(), watts)
}

/// What a load adds to its module's ceiling: its loss, and 1 % for metering.
fn ceiling(module: &model::module::Module, watts: Watts) -> Watts {
    let metered = module.with_loss(watts);
    metered + metered.fraction(crate::slot::HEADROOM_PERMILLE, 1_000)
}

/// Whole hours for which GPU time lasts, rounded up.
fn left_hours(left: GpuTime, gpus: u32) -> u32 {
    let hour = GpuTime::of(gpus.max(1), Span::hours(1)).get();
    u32::try_from((left.get().max(0) + hour - 1) / hour).unwrap_or(u32::MAX)
}
