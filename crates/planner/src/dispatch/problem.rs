//! The dispatch as numbers: sites, modules, pools, pending jobs and spot runs by index, with everything the search needs precomputed.
//!
//! Money is micro-dollars over the dwell of half an hour, power is watts. Two moments count: *now*, while runs that are being
//! stopped still draw, and *after* they have gone, when those who wait for their GPUs start. It serialises, so that an outside
//! solver can be held against the planner. Read next: `state`.

use std::collections::BTreeMap;

use model::plan::{Plan, STEP};
use model::workload::{Phase, Tier, Workload};
use model::{MicroDollars, ModuleId, Pace, PoolId, SiteId, Span, Time, Watts, WorkloadId};
use serde::{Deserialize, Serialize};

use crate::assign::Book;
use crate::dispatch::bind::{Binding, Group};
use crate::dispatch::curve::{self, Segment};
use crate::dispatch::{ahead, pay};
use crate::horizon;
use crate::island::Island;
use crate::pack;
use crate::slot::Slot;
use crate::start::DWELL;
use crate::tie;
use crate::worth;

/// Classes of jobs by what limits a site that starts them: firm, and others by the steps for which the forecast must carry them.
pub(crate) const LEVELS: usize = 8;

/// One dispatch.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Problem {
    /// Islands in order of id.
    pub sites: Vec<Site>,
    /// Modules that take part, in order of site and id.
    pub modules: Vec<Module>,
    /// Their GPU pools, in order of module and id.
    pub pools: Vec<Pool>,
    /// Pending workloads, best first by the order of starts.
    pub jobs: Vec<Job>,
    /// Spot runs that may be stopped by choice, least loss first.
    pub victims: Vec<Victim>,
    /// What binds jobs to places; jobs that ask for the same share one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bindings: Vec<Binding>,
    /// The groups that bindings name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<Group>,
}

/// One island.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Site {
    /// Its id.
    pub id: SiteId,
    /// Its modules, as a range of indices.
    pub modules: (usize, usize),
    /// Whether something may be started there.
    pub opens: bool,
    /// Whether runs that are being stopped keep their watts, so that more may be stopped by choice.
    pub yields: bool,
    /// Load that no feeder drops, before anything is started: now, and after what is being stopped has gone.
    pub fixed: [i64; 2],
    /// Ceilings and unmanaged load now, which the miners' share is counted from.
    pub drawn: i64,
    /// Most load that no feeder drops, by class of what is started.
    pub limits: [i64; LEVELS],
    /// For each loss: (rating × load) may be at most (rest × fast load) + base.
    pub losses: Vec<Loss>,
    /// Fast load kept out of the count, for the grain of whole miners.
    pub grain: i64,
    /// Largest step of ceiling at once.
    pub block: i64,
    /// What miners may fill up to.
    pub mining_limit: i64,
    /// Gas for a megawatt over the dwell.
    pub fuel: i64,
    /// The most that a megawatt earns or burns otherwise, over the dwell: what one who waits displaces.
    pub displaced: i64,
    /// Miners as straight pieces, best first.
    pub segments: Vec<Segment>,
    /// Speed of runs that are counted at the least their contracts allow, as straight pieces, best first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub speeds: Vec<Segment>,
    /// Ceiling that is left for them where nothing starts; `None` = there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spare: Option<i64>,
}

/// The loss of one set, as a line through load and fast load.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Loss {
    /// Its rating.
    pub rating: i64,
    /// The other sets' rating.
    pub rest: i64,
    /// The other sets' steps × all ratings.
    pub base: i128,
}

/// One module.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Module {
    /// Its id.
    pub id: ModuleId,
    /// Its island.
    pub site: usize,
    /// Most its ceiling may be.
    pub limit: i64,
    /// Most its ceiling may be while a firm job sits on another module of the island; `None` = it could not draw more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub beside: Option<i64>,
    /// Load behind its loss without miners: now, and after what is being stopped has gone.
    pub load: [i64; 2],
    /// Distribution loss.
    pub loss_permille: i64,
    /// Fast load drawn now.
    pub fast: i64,
}

/// One GPU pool.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pool {
    /// Its id.
    pub id: PoolId,
    /// Its module.
    pub module: usize,
    /// Index of its GPU's type.
    pub gpu: usize,
    /// What one busy GPU adds.
    pub per_gpu: i64,
    /// Free GPUs: now, and after what is being stopped has gone.
    pub free: [i64; 2],
    /// What a busy GPU adds under a cap, and the pace that leaves in thousandths; least power first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub curve: Vec<(i64, i64)>,
}

/// One pending workload.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// Its id.
    pub id: WorkloadId,
    /// Index of the GPU's type it asks for.
    pub gpu: usize,
    /// Its gang.
    pub gpus: i64,
    /// Class of its site's limit.
    pub level: usize,
    /// What starting it now is worth, before gas and mining.
    pub value: i64,
    /// What starting it once others are gone is worth, before what it displaces; `None` where nobody is stopped for it.
    pub wait: Option<i64>,
    /// The least pace at which its contract lets it start; `None` = full speed alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub floor: Option<i64>,
    /// What binds it to places; `None` = it may start anywhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub binding: Option<usize>,
}

/// One spot run that may be stopped by choice.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Victim {
    /// Its id.
    pub id: WorkloadId,
    /// Where it runs.
    pub pool: usize,
    /// Its gang.
    pub gpus: i64,
    /// What it would pay over the dwell, what stopping throws away, and its restart when it comes back.
    pub cost: i64,
}

impl Problem {
    /// The dispatch that is left once runs in place are settled.
    pub(crate) fn of(book: &Book<'_>) -> Self {
        let mut problem = Self::default();
        let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
        for (id, island) in &book.islands {
            problem.add_island(id, island, book, &mut kinds);
        }
        problem.jobs = jobs(book, &problem, &mut kinds);
        problem.bind(book);
        problem.wait_in_turn(book);
        problem.victims = problem.victims_of(book);
        problem
    }

    fn add_island<'a>(
        &mut self,
        id: &SiteId,
        island: &Island<'a>,
        book: &Book<'_>,
        kinds: &mut BTreeMap<&'a str, usize>,
    ) {
        let first = self.modules.len();
        let site = self.sites.len();
        for (module, slot) in &island.slots {
            if slot.frozen.is_some() {
                continue;
            }
            let index = self.modules.len();
            self.modules.push(module_of(module, site, slot, island));
            // A pool where nothing may start takes no part.
            let pools = slot.module().pools.iter().filter(|_| slot.accepts);
            for (pool, config) in pools {
                let count = kinds.len();
                let gpu = *kinds.entry(config.gpu.as_str()).or_insert(count);
                let free = |of: &BTreeMap<PoolId, Vec<u32>>| of.get(pool).map_or(0, |free| pack::total(free));
                let now = i64::try_from(free(&slot.free)).unwrap_or(i64::MAX);
                let freeing = i64::try_from(free(&slot.freeing)).unwrap_or(0);
                let free = [now, now.saturating_add(freeing)];
                let per_gpu = config.per_gpu().get();
                let curve = config.curve.iter().map(|point| config.least(Some(point.pace)));
                let curve = curve.map(|setting| (setting.per_gpu.get(), setting.pace.get())).collect();
                self.pools.push(Pool { id: pool.clone(), module: index, gpu, per_gpu, free, curve });
            }
        }
        let modules = (first, self.modules.len());
        self.sites.push(site_of(id, island, modules, book));
    }

    /// What jobs gain by waiting for others to give way, where some runs end by themselves in the meantime.
    fn wait_in_turn(&mut self, book: &Book<'_>) {
        let now = book.input.now;
        let ends: Vec<ahead::End> = self
            .runs(book)
            .filter_map(|(pool, run)| {
                let step = ahead::step_after(pay::ends(run, now)?)?;
                Some((step, pool, i64::from(run.spec.gpus)))
            })
            .collect();
        let waits = |job: &Job| job.wait.is_some();
        if ends.is_empty() || !self.jobs.iter().any(waits) || !self.sites.iter().any(|site| site.yields) {
            return;
        }
        let workload = |job: &Job| book.input.workloads.get(&job.id);
        let lasts = |job: &Job| workload(job).and_then(pay::lasts).and_then(ahead::step_after);
        let lasts: Vec<Option<usize>> = self.jobs.iter().map(lasts).collect();
        let starts = ahead::starts(self, &ends, &lasts);
        for (job, step) in self.jobs.iter_mut().zip(starts).filter(|(job, _)| job.wait.is_some()) {
            let by_itself = step.map(|step| STEP.times(i64::try_from(step).unwrap_or(i64::MAX)));
            job.wait = book.input.workloads.get(&job.id).map(|workload| pay::waits(workload, by_itself));
        }
    }

    /// Runs in place, by pool, in order of pool and id.
    fn runs<'b>(&'b self, book: &'b Book<'_>) -> impl Iterator<Item = (usize, &'b Workload)> {
        self.pools.iter().enumerate().flat_map(move |(index, pool)| {
            let module = &self.modules[pool.module];
            let island = book.islands.get(&self.sites[module.site].id);
            let slot = island.and_then(|island| island.slots.get(&module.id));
            let runs = slot.into_iter().flat_map(|slot| &slot.runs);
            let runs = runs.filter(move |(_, placement)| placement.pool == pool.id);
            runs.filter_map(move |(id, _)| Some((index, book.input.workloads.get(id)?)))
        })
    }

    fn victims_of(&self, book: &Book<'_>) -> Vec<Victim> {
        let mut victims: Vec<(i64, Option<Time>, Victim)> = Vec::new();
        let runs = self.runs(book).filter(|(pool, _)| self.sites[self.site_of(*pool)].yields);
        for (pool, run) in runs.filter(|(_, run)| may_be_stopped(run, book)) {
            let cost = pay::stops(run, book.input.now);
            let victim = Victim { id: run.id.clone(), pool, gpus: run.spec.gpus.into(), cost };
            victims.push((cost, run.status.preempted, victim));
        }
        // Least loss first, then who was stopped least recently, then by id.
        victims.sort_by(|a, b| (a.0, a.1, &a.2.id).cmp(&(b.0, b.1, &b.2.id)));
        victims.into_iter().map(|(_, _, victim)| victim).collect()
    }

    /// Seats that a plan gave to jobs which are still pending, as (job, pool), in order of job.
    pub(crate) fn told(&self, plan: Option<&Plan>) -> Vec<(usize, usize)> {
        let Some(plan) = plan else { return Vec::new() };
        let pools: BTreeMap<_, _> = self
            .pools
            .iter()
            .enumerate()
            .map(|(nth, pool)| ((&self.modules[pool.module].id, &pool.id), nth))
            .collect();
        let runs = plan.sites.values().flat_map(|site| site.modules.values()).flat_map(|module| &module.runs);
        let runs: BTreeMap<&WorkloadId, &model::workload::Placement> = runs.collect();
        let seats = self.jobs.iter().enumerate().filter_map(|(nth, job)| {
            let at = runs.get(&job.id)?;
            Some((nth, *pools.get(&(&at.module, &at.pool))?))
        });
        seats.collect()
    }

    /// The site of a pool.
    pub(crate) fn site_of(&self, pool: usize) -> usize {
        self.modules[self.pools[pool].module].site
    }
}

impl Pool {
    /// What each GPU of a job adds that starts as slow as its contract allows, and its pace; `None` where it may not.
    pub(crate) fn least(&self, job: &Job) -> Option<(i64, i64)> {
        let floor = job.floor?;
        self.curve.iter().copied().find(|&(_, pace)| pace >= floor)
    }
}

impl Module {
    /// The ceiling for a load behind the loss; the same arithmetic as `Slot::ceiling_for`.
    pub(crate) fn ceiling(&self, load: i64) -> i64 {
        let metered =
            load + (load * self.loss_permille).div_euclid(1_000) + i64::from(self.loss_permille > 0);
        metered + metered * 10 / 1_000
    }
}

/// By choice only spot runs stop, and never twice without progress in between.
fn may_be_stopped(run: &Workload, book: &Book<'_>) -> bool {
    let kept = book.verdicts.get(&run.id).is_some_and(|v| v.reason == model::plan::ReasonCode::Kept);
    let running = matches!(run.status.phase, Phase::Starting | Phase::Running);
    // Who gives watts keeps its GPUs: power-elastic runs stop for want of power alone.
    let rigid = run.floor().is_none();
    run.spec.tier == Tier::Spot && rigid && kept && running && !run.made_no_progress_since_preemption()
}

fn module_of(id: &ModuleId, site: usize, slot: &Slot<'_>, island: &Island<'_>) -> Module {
    let leaving = if island.leaving_counts { slot.leaving } else { Watts::ZERO };
    let fast = if island.input.site.relay { slot.fast_now() } else { Watts::ZERO };
    Module {
        id: id.clone(),
        site,
        limit: slot.limit.get(),
        beside: island.most_beside_firm(slot).map(|most| most.get()),
        load: [(slot.kept_load() + leaving).get(), slot.kept_load().get()],
        loss_permille: slot.module().loss_permille.into(),
        fast: fast.get(),
    }
}

fn site_of(id: &SiteId, island: &Island<'_>, modules: (usize, usize), book: &Book<'_>) -> Site {
    let capacity = &island.capacity;
    let leaving = island.leaving_counts;
    let sources = capacity.security.sources.iter().filter(|_| capacity.security.has_contingencies());
    let losses = sources.map(|source| {
        let steps = i128::from(capacity.security.steps_without(source).get());
        let rating = capacity.security.rating;
        Loss {
            rating: source.rating.get(),
            rest: (rating - source.rating).get(),
            base: steps * i128::from(rating.get()),
        }
    });
    let fuel = half(tie::next_per_hour(island, Watts::kilo(1_000)));
    let mined = half(worth::mining_per_hour(island, &book.input.market, Watts::kilo(1_000)));
    let speeds = curve::speeds(island, book.input, (modules.0, fuel));
    let drawn = island.fixed_ceilings(leaving) + capacity.unmanaged;
    Site {
        id: id.clone(),
        modules,
        opens: capacity.may_raise() && !island.closed,
        yields: leaving && capacity.may_raise() && !island.closed,
        fixed: [island.fixed(true, leaving).get(), island.fixed(true, false).get()],
        drawn: drawn.get(),
        limits: limits(island),
        losses: losses.collect(),
        grain: island.grain(true).get(),
        block: island.block().get(),
        mining_limit: capacity.mining_most().get(),
        fuel,
        displaced: mined.max(fuel),
        segments: curve::segments(island, &book.input.market, modules.0),
        spare: (!speeds.is_empty()).then(|| (capacity.total - drawn).at_least_zero().get()),
        speeds,
    }
}

/// An hourly sum over the dwell.
fn half(hourly: MicroDollars) -> i64 {
    hourly.fraction(DWELL.get(), Span::hours(1).get()).get()
}

fn limits(island: &Island<'_>) -> [i64; LEVELS] {
    let mut limits = [0; LEVELS];
    let firm = if island.has_silent_giant() { Watts::ZERO } else { island.start_limit(Tier::Firm) };
    limits[0] = firm.get();
    let mut other = island.start_limit(Tier::OnDemand);
    for (step, limit) in limits.iter_mut().skip(1).enumerate() {
        if step > 0 {
            other = other.min(horizon::opened(island, step));
        }
        *limit = other.get();
    }
    limits
}

/// Pending workloads in the order of starts.
fn jobs<'a>(book: &Book<'a>, problem: &Problem, kinds: &mut BTreeMap<&'a str, usize>) -> Vec<Job> {
    let frugal = frugal(problem, kinds.len());
    let pending = book.input.workloads.values().filter(|w| !book.verdicts.contains_key(&w.id));
    let mut jobs: Vec<_> = pending
        .filter_map(|workload| {
            let gpu = *kinds.get(workload.spec.gpu.as_str())?;
            let job = job(workload, gpu);
            let watts = frugal[gpu].max(1).saturating_mul(job.gpus.max(1));
            // Worth a kilowatt; the promise stands first, then the price, then who came first.
            let density = i128::from(job.value) * 1_000 / i128::from(watts);
            Some(((workload.spec.tier, std::cmp::Reverse(density), workload.created), job))
        })
        .collect();
    jobs.sort_by(|a, b| (&a.0, &a.1.id).cmp(&(&b.0, &b.1.id)));
    jobs.into_iter().map(|(_, job)| job).collect()
}

/// Watts of the most frugal GPU of each type.
fn frugal(problem: &Problem, kinds: usize) -> Vec<i64> {
    let mut least = vec![i64::MAX; kinds];
    for pool in &problem.pools {
        least[pool.gpu] = least[pool.gpu].min(pool.per_gpu);
    }
    least
}

fn job(workload: &Workload, gpu: usize) -> Job {
    let spec = &workload.spec;
    let patience = Span::new(spec.restart.get().saturating_mul(2)).min(DWELL);
    // Steps 1, 2, … that begin before the run has paid its restart.
    let steps = usize::try_from((patience.get() - 1).max(0) / STEP.get()).unwrap_or(0);
    let level = if spec.tier == Tier::Firm { 0 } else { (steps + 1).min(LEVELS - 1) };
    Job {
        id: workload.id.clone(),
        gpu,
        gpus: spec.gpus.into(),
        level,
        value: pay::starts(workload),
        wait: (spec.tier != Tier::Spot).then(|| pay::waits(workload, None)),
        floor: workload.floor().map(Pace::get),
        // Which one is said once all jobs are there.
        binding: workload.spec.affinity.as_ref().map(|_| 0),
    }
}
