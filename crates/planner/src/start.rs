//! Starts: what the dispatch decided, written into the book; and why each job that does not start does not.
//!
//! A run starts only where it is worth more than the mining and gas it takes, and where the forecast lets it run long enough to pay
//! its restart: switching is credited over six steps. A stronger promise may take the place of spot runs; it then waits until they
//! are gone. Read next: `dispatch`, which decides, then `mining`.

use std::collections::{BTreeMap, BTreeSet};

use model::plan::{ReasonCode, STEP};
use model::workload::{Placement, Tier, Workload};
use model::{ModuleId, PoolId, SiteId, SoldBy, Span, Watts, WorkloadId};

use crate::assign::{Book, Verdict, busy};
use crate::dispatch;
use crate::dispatch::problem::Problem;
use crate::dispatch::state::{Refusal, Seat, State};
use crate::pack;
use crate::slot::Slot;

/// Over how long a switch is credited: six steps. Against one step nothing would ever be switched on.
pub(crate) const DWELL: Span = Span::new(6 * STEP.get());
/// Pools that are asked why they refuse a job, before the answer counts for all.
const ASKED: usize = 64;

/// A pool by name, and the GPUs taken in it.
struct Place {
    module: ModuleId,
    pool: PoolId,
    taken: Vec<(u32, u32)>,
}

impl Book<'_> {
    /// Starts what may start, and stops what gives way to it. Returns what the dispatch is worth.
    pub(crate) fn start(&mut self, problem: &Problem) -> i64 {
        let mut state = dispatch::solve(problem, &problem.told(self.input.parent.as_ref()));
        let gave_way = self.stop_victims(problem, &state);
        // The dispatch has room for those who give way until they are gone, so they keep their watts. In the order of starts, so
        // that tight gangs come first.
        let seats = || state.seats.iter().enumerate().filter_map(|(job, seat)| Some((job, (*seat)?)));
        let (starts, waits): (Vec<_>, Vec<_>) =
            seats().partition(|(_, seat)| matches!(seat, Seat::Starts(_)));
        // Who starts takes its GPUs first: who waits would claim some of those that are free now.
        for (job, seat) in starts.into_iter().chain(waits) {
            let Some(workload) = self.input.workloads.get(&problem.jobs[job].id) else { continue };
            let verdict = match seat {
                Seat::Starts(pool) => self.run(problem, (job, pool, state.eased[job]), workload),
                Seat::Waits(pool) => self.wait(problem, pool, workload, &gave_way),
            };
            debug_assert!(verdict.reason != ReasonCode::NoGpus, "the dispatch counts GPUs as the servers do");
            self.verdicts.insert(workload.id.clone(), verdict);
        }
        // A firm start takes miners beside it the room above what the sets can reject.
        let workloads = &self.input.workloads;
        self.islands.values_mut().for_each(|island| island.hold_beside_firm(workloads));
        self.refuse(problem, &mut state);
        self.raise(problem, &mut state);
        state.worth()
    }

    /// Starts nothing, and has what runs go on as fast as it may.
    pub(crate) fn rest(&mut self, problem: &Problem) {
        self.raise(problem, &mut State::new(problem));
    }

    /// Stops who gives way; how many at each island.
    fn stop_victims(&mut self, problem: &Problem, state: &State<'_>) -> BTreeMap<SiteId, usize> {
        let mut stopped: BTreeMap<SiteId, usize> = BTreeMap::new();
        let victims = problem.victims.iter().zip(&state.stopped).filter(|(_, stops)| **stops);
        for (victim, _) in victims {
            self.stop(&victim.id, ReasonCode::Preempted);
            *stopped.entry(problem.sites[problem.site_of(victim.pool)].id.clone()).or_default() += 1;
        }
        stopped
    }

    fn run(
        &mut self,
        problem: &Problem,
        (job, pool, eased): (usize, usize, bool),
        workload: &Workload,
    ) -> Verdict {
        let config = &problem.pools[pool];
        let module = &problem.modules[config.module].id;
        let taken =
            self.slot_mut(module).and_then(|slot| pack::pack(slot.free.get(&config.id)?, workload.spec.gpus));
        let Some(taken) = taken else {
            return Verdict::of(ReasonCode::NoGpus);
        };
        let place = Place { module: module.clone(), pool: config.id.clone(), taken };
        let placement = placement(&place, workload);
        if let Some(slot) = self.slot_mut(module) {
            slot.note_elastic(workload, &placement);
            let full = slot.elastic.get_mut(&workload.id).filter(|_| !eased);
            let full = full.map(|elastic| {
                elastic.at = elastic.settings.len() - 1;
                elastic.draw(elastic.at)
            });
            let watts = full.unwrap_or_else(|| busy(slot, workload, &placement));
            *slot.busy.entry(workload.spec.tier).or_default() += watts;
            if let Some(free) = slot.free.get_mut(&place.pool) {
                pack::take(free, &place.taken);
            }
            slot.firm += u32::from(workload.spec.tier == Tier::Firm);
            slot.runs.insert(workload.id.clone(), placement);
        }
        let mut verdict = Verdict::of(ReasonCode::Placed);
        let wanted = &problem.jobs[job];
        let other = problem.pools.iter().enumerate().take(ASKED).find(|(index, other)| {
            let fits = other.gpu == wanted.gpu && other.free[0] >= wanted.gpus;
            *index != pool && fits && wanted.binding.is_none()
        });
        verdict.rejected = other.map(|(_, other)| {
            format!("module {}, which it fits less tightly", problem.modules[other.module].id)
        });
        verdict
    }

    /// Waits for GPUs that are being freed.
    fn wait(
        &mut self,
        problem: &Problem,
        pool: usize,
        workload: &Workload,
        gave_way: &BTreeMap<SiteId, usize>,
    ) -> Verdict {
        let config = &problem.pools[pool];
        let module = problem.modules[config.module].id.clone();
        let taken =
            self.slot_mut(&module).and_then(|slot| pack::pack(&free(slot, &config.id), workload.spec.gpus));
        if let Some(taken) = taken {
            self.reserve(&Place { module: module.clone(), pool: config.id.clone(), taken });
        }
        let mut verdict = Verdict::of(ReasonCode::AwaitingMeter);
        let stopped = gave_way.get(&problem.sites[problem.site_of(pool)].id);
        verdict.binding = Some(match stopped {
            Some(count) => format!("module {module}: {count} spot runs are being stopped"),
            None => format!("module {module}: runs that are being stopped"),
        });
        verdict
    }

    /// Nobody else may have the GPUs that a waiting workload waits for.
    fn reserve(&mut self, place: &Place) {
        let Some(slot) = self.slot_mut(&place.module) else { return };
        let (Some(free), Some(freeing)) = (slot.free.get_mut(&place.pool), slot.freeing.get_mut(&place.pool))
        else {
            return;
        };
        for &(server, gpus) in &place.taken {
            let server = server as usize;
            let now = free[server].min(gpus);
            free[server] -= now;
            freeing[server] = freeing[server].saturating_sub(gpus - now);
        }
    }

    /// Says of everybody else why not.
    fn refuse(&mut self, problem: &Problem, state: &mut State<'_>) {
        let most = |pools: &std::sync::Arc<[usize]>| {
            pools.iter().map(|&pool| state.free[pool][0]).max().unwrap_or(0)
        };
        let most: Vec<i64> = state.pools_by_gpu.iter().map(most).collect();
        for (job, wanted) in problem.jobs.iter().enumerate() {
            if !self.verdicts.contains_key(&wanted.id) {
                let none = most.get(wanted.gpu).is_none_or(|&most| most < wanted.gpus);
                let verdict = match bound(problem, state, job).filter(|_| !none) {
                    Some(verdict) => verdict,
                    None if none => Verdict::of(ReasonCode::NoGpus),
                    None => self.why_not(problem, state, job),
                };
                self.verdicts.insert(wanted.id.clone(), verdict);
            }
        }
        let left: Vec<&WorkloadId> =
            self.input.workloads.keys().filter(|id| !self.verdicts.contains_key(*id)).collect();
        let pools = self.input.modules.values().flat_map(|given| given.module.pools.values());
        let gpus: BTreeSet<&str> = pools.map(|pool| pool.gpu.as_str()).collect();
        for id in left {
            let gpu = &self.input.workloads[id].spec.gpu;
            let exists = gpus.contains(gpu.as_str());
            let mut verdict = Verdict::of(if exists { ReasonCode::NoGpus } else { ReasonCode::NoSuchGpu });
            if !exists {
                let unit = SoldBy::of(gpu).pick("GPU", "bay");
                verdict.binding = Some(format!("no module has a {unit} of type {gpu}"));
            }
            self.verdicts.insert(id.clone(), verdict);
        }
    }

    /// What keeps a job from the last pool that has the GPUs for it.
    fn why_not(&self, problem: &Problem, state: &State<'_>, job: usize) -> Verdict {
        let wanted = &problem.jobs[job];
        let pools = state.pools_by_gpu.get(wanted.gpu).into_iter().flat_map(|pools| pools.iter().copied());
        let open = |pool: &usize| state.free[*pool][0] >= wanted.gpus && state.binds(wanted, *pool).is_none();
        let mut pools = pools.filter(open);
        let firm = wanted.level == 0;
        let Some(first) = pools.next() else {
            return Verdict::of(ReasonCode::NoGpus);
        };
        // A pool that lets it start would only lose by it.
        let others = std::iter::once(first).chain(pools.take(ASKED));
        let (pool, refusal) = others
            .map(|pool| (pool, state.refusal(job, Seat::Starts(pool))))
            .min_by_key(|(_, refusal)| refusal.is_some())
            .unwrap_or((first, None));
        let module = &problem.modules[problem.pools[pool].module];
        let site = &problem.sites[module.site];
        let island = &self.islands[&site.id];
        let (reason, binding) = match refusal {
            Some(Refusal::Gpus | Refusal::Sites | Refusal::Group) => {
                let units =
                    self.input.workloads.get(&wanted.id).map_or(SoldBy::Gpu, Workload::sold_by).units();
                (ReasonCode::NoGpus, format!("module {}: its {units}", module.id))
            }
            Some(Refusal::Module) => {
                (ReasonCode::NoPower, format!("module {}: its limit of {} W", module.id, module.limit))
            }
            Some(Refusal::Block) => {
                (ReasonCode::StepLimited, format!("site {}: block load of {} W", site.id, site.block))
            }
            Some(Refusal::Reserve) => {
                (ReasonCode::StepLimited, format!("site {}: fast reserve now drawn", site.id))
            }
            Some(Refusal::Beside) => (ReasonCode::NoFirmCapacity, beside(problem, state, pool)),
            Some(Refusal::Power) if island.closed => {
                (ReasonCode::StepLimited, format!("site {}: fast reserve now drawn", site.id))
            }
            Some(Refusal::Power) if firm => {
                (ReasonCode::NoFirmCapacity, format!("site {}: N-1 capacity", site.id))
            }
            Some(Refusal::Power) if site.limits[wanted.level] < site.limits[1] => {
                (ReasonCode::NoThrash, format!("site {}: gas would not last {DWELL}", site.id))
            }
            Some(Refusal::Power) => (ReasonCode::NoPower, format!("site {}: power", site.id)),
            None => (ReasonCode::NoPower, format!("site {}: mining or gas is worth more", site.id)),
        };
        Verdict { reason, binding: Some(binding), rejected: Some(format!("module {}", module.id)) }
    }
}

/// The module beside a pool that keeps firm work from it.
fn beside(problem: &Problem, state: &State<'_>, pool: usize) -> String {
    let module = problem.pools[pool].module;
    let site = &problem.sites[problem.modules[module].site].id;
    let giant = state.giant_beside(module, Seat::Starts(pool)).map(|giant| &problem.modules[giant]);
    giant.map_or(format!("site {site}"), |giant| {
        let most = Watts::new(giant.beside.unwrap_or(giant.limit));
        format!("site {site}: its sets could not reject module {}, which draws more than {most}", giant.id)
    })
}

/// What only its own sites or its group keep from a job: somewhere else it would start now and be worth it. The group comes first,
/// since it is there on sites that the job's list allows.
fn bound(problem: &Problem, state: &mut State<'_>, job: usize) -> Option<Verdict> {
    let wanted = &problem.jobs[job];
    wanted.binding?;
    let pools = state.pools_by_gpu.get(wanted.gpu).map(std::sync::Arc::clone)?;
    let mut found: Option<(Refusal, usize)> = None;
    let mut asked = 0;
    for &pool in pools.iter().filter(|&&pool| problem.pools[pool].free[0] >= wanted.gpus) {
        let Some((refusal, gain)) = state.kept_from(job, pool) else { continue };
        if gain > 0 && found.is_none_or(|(other, _)| other == Refusal::Sites && refusal == Refusal::Group) {
            found = Some((refusal, pool));
        }
        asked += 1;
        if asked >= ASKED || found.is_some_and(|(refusal, _)| refusal == Refusal::Group) {
            break;
        }
    }
    let (refusal, pool) = found?;
    let module = &problem.modules[problem.pools[pool].module];
    let site = &problem.sites[module.site].id;
    let (reason, binding) = match refusal {
        Refusal::Group => (ReasonCode::GroupBound, format!("its group's rule: site {site} has room for it")),
        _ => (ReasonCode::SitesBound, format!("its list of sites: site {site} has room for it")),
    };
    let rejected = Some(format!("module {}", module.id));
    Some(Verdict { reason, binding: Some(binding), rejected })
}

fn free(slot: &Slot<'_>, pool: &PoolId) -> Vec<u32> {
    let mut free = slot.free.get(pool).cloned().unwrap_or_default();
    if let Some(more) = slot.freeing.get(pool) {
        free.iter_mut().zip(more).for_each(|(free, more)| *free += more);
    }
    free
}

fn placement(place: &Place, workload: &Workload) -> Placement {
    let last = workload.status.placement.as_ref().map_or(0, |placement| placement.incarnation);
    Placement {
        module: place.module.clone(),
        pool: place.pool.clone(),
        servers: place.taken.clone(),
        incarnation: last + 1,
    }
}
