//! Starts: pending workloads by promise, then by worth a kilowatt, each where it fits tightest.
//!
//! A spot run starts only where it is worth more than the mining it displaces and where the forecast lets it run long enough to pay
//! its restart: switching is credited over six steps. A stronger promise may take the GPUs of spot runs; it then waits until they
//! are gone. Read next: `mining`.

use std::cmp::Reverse;

use model::plan::{ReasonCode, STEP};
use model::workload::{GpuTime, Placement, Tier, Workload};
use model::{MicroDollars, ModuleId, PoolId, SiteId, Span, Time, Watts, WorkloadId};

use crate::assign::{Book, Verdict, busy, lost_work};
use crate::horizon;
use crate::island::Short;
use crate::pack;
use crate::slot::Slot;
use crate::worth;

/// Over how long a switch is credited: six steps. Against one step nothing would ever be switched on.
pub(crate) const DWELL: Span = Span::new(6 * STEP.get());

/// The order of starts: fields in order of importance.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Turn {
    tier: Tier,
    /// Price of a GPU-hour over the watts of the most frugal pool of its type, in micro-dollars a kilowatt-hour.
    worth: Reverse<MicroDollars>,
    created: Time,
    id: WorkloadId,
}

/// Where a workload could go. Ordered from the best place to the worst.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    /// The parent plan chose it already.
    moved: bool,
    /// Dearer gas is worse.
    fuel: MicroDollars,
    /// Servers opened.
    servers: usize,
    /// GPUs left free in the pool: tight pools first, large holes stay whole.
    left: u64,
    site: SiteId,
    module: ModuleId,
    pool: PoolId,
    taken: Vec<(u32, u32)>,
}

impl Book<'_> {
    /// Starts what may start.
    pub(crate) fn start(&mut self) {
        let mut turns: Vec<Turn> = self
            .input
            .workloads
            .values()
            .filter(|w| !self.verdicts.contains_key(&w.id))
            .map(|w| self.turn(w))
            .collect();
        turns.sort();
        for turn in turns {
            let workload = &self.input.workloads[&turn.id];
            let verdict = self.try_start(workload);
            self.verdicts.insert(turn.id, verdict);
        }
    }

    /// Starts nothing: the fast load that is drawn now would not cover it.
    pub(crate) fn refuse_starts(&mut self) {
        for id in self.input.workloads.keys() {
            if !self.verdicts.contains_key(id) {
                let mut verdict = Verdict::of(ReasonCode::StepLimited);
                verdict.binding = Some("fast reserve now drawn".into());
                self.verdicts.insert(id.clone(), verdict);
            }
        }
    }

    fn turn(&self, workload: &Workload) -> Turn {
        let spec = &workload.spec;
        let pools = self.input.modules.values().flat_map(|module| module.module.pools.values());
        let watts = pools.filter(|pool| pool.gpu == spec.gpu).map(|pool| pool.per_gpu()).min();
        let worth = spec.price.fraction(1_000, watts.map_or(1, |watts| watts.get().max(1)));
        Turn { tier: spec.tier, worth: Reverse(worth), created: workload.created, id: workload.id.clone() }
    }

    fn try_start(&mut self, workload: &Workload) -> Verdict {
        if !self.exists(&workload.spec.gpu) {
            let mut verdict = Verdict::of(ReasonCode::NoSuchGpu);
            verdict.binding = Some(format!("no module has a GPU of type {}", workload.spec.gpu));
            return verdict;
        }
        let mut places = self.places(workload, false);
        places.sort();
        let mut refusal = Verdict::of(ReasonCode::NoGpus);
        for place in &places {
            match self.refuses(place, workload) {
                None => return self.run(place, workload, places.get(1)),
                Some(verdict) => refusal = verdict,
            }
        }
        self.wait_or_preempt(workload).unwrap_or(refusal)
    }

    fn exists(&self, gpu: &str) -> bool {
        self.input
            .modules
            .values()
            .flat_map(|module| module.module.pools.values())
            .any(|pool| pool.gpu == gpu)
    }

    /// All pools with enough free GPUs; with `freeing`, those that will have them once stopped runs are gone.
    fn places(&self, workload: &Workload, freeing: bool) -> Vec<Place> {
        let parent = self.input.parent.as_ref().and_then(|parent| parent.placement(&workload.id));
        let mut places = Vec::new();
        for (site, island) in &self.islands {
            for (module, slot) in island.slots.iter().filter(|(_, slot)| slot.accepts) {
                let pools = slot.module().pools.iter().filter(|(_, pool)| pool.gpu == workload.spec.gpu);
                for (pool, _) in pools {
                    let free = free(slot, pool, freeing);
                    let Some(taken) = pack::pack(&free, workload.spec.gpus) else { continue };
                    places.push(Place {
                        moved: parent.is_none_or(|parent| parent.module != *module || parent.pool != *pool),
                        fuel: worth::fuel_per_hour(&island.input.site, Watts::kilo(1_000)),
                        servers: taken.len(),
                        left: pack::total(&free) - u64::from(workload.spec.gpus),
                        site: site.clone(),
                        module: module.clone(),
                        pool: pool.clone(),
                        taken,
                    });
                }
            }
        }
        places
    }

    /// Why a place with free GPUs is no place for it all the same.
    fn refuses(&self, place: &Place, workload: &Workload) -> Option<Verdict> {
        let island = &self.islands[&place.site];
        let slot = &island.slots[&place.module];
        let watts = busy(slot, workload, &placement(place, workload));
        let (before, after) = (slot.fixed_ceiling(island.leaving_counts), slot.kept_load() + watts);
        let after = slot.ceiling_for(after + if island.leaving_counts { slot.leaving } else { Watts::ZERO });
        let more = after - before;
        let refuse = |reason, binding: String| {
            Some(Verdict {
                reason,
                binding: Some(binding),
                rejected: Some(format!("module {}", place.module)),
            })
        };
        if after > slot.limit {
            return refuse(
                ReasonCode::NoPower,
                format!("module {}: its limit of {}", place.module, slot.limit),
            );
        }
        if more > island.block() {
            let block = island.block();
            return refuse(ReasonCode::StepLimited, format!("site {}: block load of {block}", place.site));
        }
        if let Err(short) = island.admits(more, workload.spec.tier, Watts::ZERO) {
            return refuse(short_reason(short), short_binding(short, &place.site));
        }
        if workload.spec.tier == Tier::Spot {
            let hourly = workload.spec.price.times(workload.spec.gpus.into());
            let mined = worth::mining_per_hour(island, &self.input.market, more);
            if hourly < mined.max(worth::fuel_per_hour(&island.input.site, more)) {
                return refuse(
                    ReasonCode::NoPower,
                    format!("site {}: mining or gas is worth {mined} an hour", place.site),
                );
            }
        }
        self.too_short(place, workload, more)
    }

    /// Do not start what the forecast would stop before it has paid its restart twice over.
    fn too_short(&self, place: &Place, workload: &Workload, more: Watts) -> Option<Verdict> {
        if workload.spec.tier == Tier::Firm {
            return None;
        }
        let island = &self.islands[&place.site];
        let load = island.fixed(true, island.leaving_counts) + more;
        let lasts = horizon::lasts(island, load);
        let least = Span::new(workload.spec.restart.get().saturating_mul(2)).min(DWELL);
        (lasts < least).then(|| Verdict {
            reason: ReasonCode::NoThrash,
            binding: Some(format!("site {}: gas lasts {lasts} of {least}", place.site)),
            rejected: Some(format!("module {}", place.module)),
        })
    }

    fn run(&mut self, place: &Place, workload: &Workload, second: Option<&Place>) -> Verdict {
        let placement = placement(place, workload);
        if let Some(slot) = self.slot_mut(&place.module) {
            let watts = busy(slot, workload, &placement);
            *slot.busy.entry(workload.spec.tier).or_default() += watts;
            if let Some(free) = slot.free.get_mut(&place.pool) {
                pack::take(free, &place.taken);
            }
            slot.runs.insert(workload.id.clone(), placement);
        }
        let mut verdict = Verdict::of(ReasonCode::Placed);
        verdict.rejected =
            second.map(|second| format!("module {}, which it fits less tightly", second.module));
        verdict
    }

    /// Waits for GPUs that are being freed already, or has spot runs stopped for a stronger promise that pays more.
    fn wait_or_preempt(&mut self, workload: &Workload) -> Option<Verdict> {
        let mut waiting = self.places(workload, true);
        waiting.sort();
        let waits = waiting.into_iter().find(|place| {
            let island = &self.islands[&place.site];
            let slot = &island.slots[&place.module];
            let watts = slot.ceiling_for(busy(slot, workload, &placement(place, workload)));
            let leaving = slot.ceiling_for(slot.leaving);
            let relieved = if island.leaving_counts { leaving } else { Watts::ZERO };
            slot.leaving > Watts::ZERO && island.admits(watts, workload.spec.tier, relieved).is_ok()
        });
        if let Some(place) = waits {
            self.reserve(&place);
            let mut verdict = Verdict::of(ReasonCode::AwaitingMeter);
            verdict.binding = Some(format!("module {}: runs that are being stopped", place.module));
            return Some(verdict);
        }
        if workload.spec.tier == Tier::Spot {
            return None;
        }
        let (place, victims) = self.cheapest_preemption(workload)?;
        for victim in &victims {
            self.stop(victim, ReasonCode::Preempted);
        }
        self.reserve(&place);
        self.count_leaving(&place.site);
        let mut verdict = Verdict::of(ReasonCode::AwaitingMeter);
        verdict.binding =
            Some(format!("module {}: {} spot runs are being stopped", place.module, victims.len()));
        Some(verdict)
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

    /// The place where the least is lost by stopping spot runs, if the newcomer gains more than that over the dwell.
    fn cheapest_preemption(&self, workload: &Workload) -> Option<(Place, Vec<WorkloadId>)> {
        let gain = GpuTime::of(workload.spec.gpus, DWELL).cost(workload.spec.price);
        let mut best: Option<(MicroDollars, Place, Vec<WorkloadId>)> = None;
        for (site, island) in &self.islands {
            for (module, slot) in island.slots.iter().filter(|(_, slot)| slot.accepts) {
                for pool in slot.module().pools.keys() {
                    let Some((cost, place, victims)) = self.preempt_in(workload, (site, module, pool)) else {
                        continue;
                    };
                    let better = best.as_ref().is_none_or(|(least, ..)| cost < *least);
                    if cost < gain && better {
                        best = Some((cost, place, victims));
                    }
                }
            }
        }
        best.map(|(_, place, victims)| (place, victims))
    }

    fn preempt_in(
        &self,
        workload: &Workload,
        (site, module, pool): (&SiteId, &ModuleId, &PoolId),
    ) -> Option<(MicroDollars, Place, Vec<WorkloadId>)> {
        let island = &self.islands[site];
        let slot = &island.slots[module];
        let config = slot.module().pools.get(pool).filter(|config| config.gpu == workload.spec.gpu)?;
        let mut free = free(slot, pool, true);
        let gone = if island.leaving_counts { slot.leaving } else { Watts::ZERO };
        let (mut cost, mut victims, mut relieved) = (MicroDollars::ZERO, Vec::new(), gone);
        for (loss, id) in self.spot_runs(slot, pool) {
            let run = &slot.runs[&id];
            pack::give(&mut free, &run.servers);
            relieved += config.per_gpu().times(run.servers.iter().map(|&(_, gpus)| i64::from(gpus)).sum());
            cost += loss;
            victims.push(id);
            let Some(taken) = pack::pack(&free, workload.spec.gpus) else { continue };
            let watts = slot.ceiling_for(config.per_gpu().times(workload.spec.gpus.into()));
            if island.admits(watts, workload.spec.tier, slot.ceiling_for(relieved)).is_ok() {
                let (moved, fuel, servers) = (true, MicroDollars::ZERO, taken.len());
                let (site, module, pool) = (site.clone(), module.clone(), pool.clone());
                let place = Place { moved, fuel, servers, left: 0, site, module, pool, taken };
                return Some((cost, place, victims));
            }
        }
        None
    }

    /// Spot runs of a pool that may be stopped by choice, those that lose least first: what they would pay over the dwell and
    /// what they would lose.
    fn spot_runs(&self, slot: &Slot<'_>, pool: &PoolId) -> Vec<(MicroDollars, WorkloadId)> {
        let runs = slot.runs.iter().filter(|(_, placement)| placement.pool == *pool);
        let mut spot: Vec<_> = runs
            .filter_map(|(id, _)| self.input.workloads.get(id))
            .filter(|run| run.spec.tier == Tier::Spot && !run.made_no_progress_since_preemption())
            .filter(|run| {
                self.verdicts.get(&run.id).is_some_and(|verdict| verdict.reason == ReasonCode::Kept)
            })
            .map(|run| {
                let paid = GpuTime::of(run.spec.gpus, DWELL).cost(run.spec.price);
                (paid + lost_work(run), run.status.preempted, run.id.clone())
            })
            .collect();
        spot.sort();
        spot.into_iter().map(|(loss, _, id)| (loss, id)).collect()
    }
}

fn free(slot: &Slot<'_>, pool: &PoolId, freeing: bool) -> Vec<u32> {
    let mut free = slot.free.get(pool).cloned().unwrap_or_default();
    if let Some(more) = slot.freeing.get(pool).filter(|_| freeing) {
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

fn short_reason(short: Short) -> ReasonCode {
    match short {
        Short::Power => ReasonCode::NoPower,
        Short::Firm => ReasonCode::NoFirmCapacity,
        Short::Reserve => ReasonCode::StepLimited,
    }
}

fn short_binding(short: Short, site: &SiteId) -> String {
    match short {
        Short::Power => format!("site {site}: power"),
        Short::Firm => format!("site {site}: N-1 capacity"),
        Short::Reserve => format!("site {site}: fast reserve now drawn"),
    }
}
