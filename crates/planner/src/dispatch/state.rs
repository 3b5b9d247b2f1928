//! A solution in the making: who starts where, who waits, who gives way, and its exact worth after every change.
//!
//! Every change is checked first: GPUs, the module's limit, the island's limits for its class of work, and the fast load that must
//! be drawn beside it. Changes can be taken back exactly, so a search tries and undoes. Read next: `greedy`.

use std::sync::Arc;

use super::bind::{self, Group};
use super::curve;
use super::guard::is_firm;
use super::problem::{Job, LEVELS, Problem};

/// The two moments that count.
pub(crate) const NOW: usize = 0;
pub(crate) const AFTER: usize = 1;

/// Changes and trials after which a search ends: about a third of a second.
const WORK: u64 = 600_000;

/// Where a pending job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Seat {
    /// It starts now in this pool.
    Starts(usize),
    /// It waits for GPUs of this pool that are being freed.
    Waits(usize),
}

impl Seat {
    pub(crate) fn pool(self) -> usize {
        match self {
            Seat::Starts(pool) | Seat::Waits(pool) => pool,
        }
    }

    /// From which moment on it counts.
    pub(super) fn moments(self) -> std::ops::RangeInclusive<usize> {
        match self {
            Seat::Starts(_) => NOW..=AFTER,
            Seat::Waits(_) => AFTER..=AFTER,
        }
    }
}

/// Why a seat is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Too few free GPUs.
    Gpus,
    /// The module's limit.
    Module,
    /// The island's block load.
    Block,
    /// The island's power or N-1 capacity, or its gas ahead.
    Power,
    /// Fast load now drawn.
    Reserve,
    /// A module beside it draws more than the sets can reject at once.
    Beside,
    /// Its own list of sites.
    Sites,
    /// What holds in its group.
    Group,
}

/// A solution and its worth.
#[derive(Clone, Debug)]
pub(crate) struct State<'p> {
    pub(crate) problem: &'p Problem,
    pub(crate) seats: Vec<Option<Seat>>,
    pub(crate) stopped: Vec<bool>,
    /// Jobs that start as slow as their contracts allow.
    pub(crate) eased: Vec<bool>,
    /// Speed of runs is set by steps, no longer by the curve.
    is_settled: bool,
    /// Free GPUs of each pool.
    pub(crate) free: Vec<[i64; 2]>,
    /// Load behind the loss of each module.
    load: Vec<[i64; 2]>,
    /// Ceiling of each module without miners.
    pub(super) ceiling: Vec<[i64; 2]>,
    /// Most its ceiling may be beside the firm jobs that are seated.
    pub(super) limits: Vec<[i64; 2]>,
    /// Firm jobs seated in each module.
    pub(super) firm: Vec<[u32; 2]>,
    /// Load that no feeder drops, of each island.
    pub(crate) fixed: Vec<[i64; 2]>,
    /// Jobs of each class that are seated at each island.
    classes: Vec<[u32; LEVELS]>,
    /// Jobs that wait at each island.
    waiting: Vec<u32>,
    /// What each island's miners earn less the gas of its ceilings.
    power_worth: Vec<i64>,
    power_total: i64,
    /// What seats earn less what stops cost.
    pub(crate) seat_worth: i64,
    /// Changes and trials so far: searches end by this count, never by time.
    work: u64,
    /// Kept between fills.
    rooms: Vec<i64>,
    /// How each group stands.
    groups: Vec<Group>,
    /// Who has a seat in each pool.
    pub(crate) members: Vec<Vec<usize>>,
    /// Spot runs of each pool that may be stopped.
    pub(crate) victims_in: Vec<Vec<usize>>,
    /// Pools of each island.
    pub(crate) pools_of: Vec<(usize, usize)>,
    /// Pools of each GPU type.
    pub(crate) pools_by_gpu: Vec<Arc<[usize]>>,
}

impl<'p> State<'p> {
    /// Nobody starts, nobody stops.
    pub(crate) fn new(problem: &'p Problem) -> Self {
        let kinds = problem.pools.iter().map(|pool| pool.gpu + 1).max().unwrap_or(0);
        let mut pools_by_gpu: Vec<Vec<usize>> = vec![Vec::new(); kinds];
        let mut pools_of = vec![(usize::MAX, 0); problem.sites.len()];
        for (index, pool) in problem.pools.iter().enumerate() {
            pools_by_gpu[pool.gpu].push(index);
            let range = &mut pools_of[problem.site_of(index)];
            *range = (range.0.min(index), index + 1);
        }
        pools_of.iter_mut().filter(|range| range.0 == usize::MAX).for_each(|range| *range = (0, 0));
        let mut victims_in = vec![Vec::new(); problem.pools.len()];
        problem.victims.iter().enumerate().for_each(|(nth, victim)| victims_in[victim.pool].push(nth));
        let ceilings = problem.modules.iter().map(|module| module.load.map(|load| module.ceiling(load)));
        let mut state = Self {
            problem,
            seats: vec![None; problem.jobs.len()],
            stopped: vec![false; problem.victims.len()],
            eased: vec![false; problem.jobs.len()],
            is_settled: false,
            free: problem.pools.iter().map(|pool| pool.free).collect(),
            load: problem.modules.iter().map(|module| module.load).collect(),
            ceiling: ceilings.collect(),
            limits: problem.modules.iter().map(|module| [module.limit; 2]).collect(),
            firm: vec![[0; 2]; problem.modules.len()],
            fixed: problem.sites.iter().map(|site| site.fixed).collect(),
            classes: vec![[0; LEVELS]; problem.sites.len()],
            waiting: vec![0; problem.sites.len()],
            power_worth: vec![0; problem.sites.len()],
            power_total: 0,
            seat_worth: 0,
            work: 0,
            rooms: Vec::new(),
            groups: problem.groups.clone(),
            members: vec![Vec::new(); problem.pools.len()],
            victims_in,
            pools_of,
            pools_by_gpu: pools_by_gpu.into_iter().map(Arc::from).collect(),
        };
        (0..problem.sites.len()).for_each(|site| state.weigh(site));
        state
    }

    /// Everything together.
    pub(crate) fn worth(&self) -> i64 {
        self.seat_worth + self.power_total
    }

    /// Whether the search has done what it may.
    pub(crate) fn is_spent(&self) -> bool {
        self.work >= WORK
    }

    /// Counts a trial.
    pub(crate) fn charge(&mut self) {
        self.work += 1;
    }

    /// Whether a job may take a seat, and what the solution then gains.
    pub(crate) fn gain(&mut self, job: usize, seat: Seat) -> Option<i64> {
        self.refusal(job, seat).is_none().then(|| self.gain_unchecked(job, seat))
    }

    fn gain_unchecked(&mut self, job: usize, seat: Seat) -> i64 {
        let site = self.problem.site_of(seat.pool());
        if let Seat::Waits(_) = seat {
            return self.earns(job, seat);
        }
        let module = self.problem.pools[seat.pool()].module;
        let before = (self.load[module], self.ceiling[module], self.fixed[site]);
        self.shift(seat, self.watts(job, seat.pool()));
        self.guard(job, seat, true);
        let gain = self.earns(job, seat) + self.worth_of_power(site) - self.power_worth[site];
        self.guard(job, seat, false);
        (self.load[module], self.ceiling[module], self.fixed[site]) = before;
        gain
    }

    /// What keeps a job from a seat; `None` = it may have it.
    pub(crate) fn refusal(&self, job: usize, seat: Seat) -> Option<Refusal> {
        let wanted = &self.problem.jobs[job];
        let refusal = self.refuses_drawing(wanted, seat, self.watts(job, seat.pool()));
        refusal.or_else(|| self.binds(wanted, seat.pool()))
    }

    /// What keeps a job from a pool whatever is free there: its list of sites, or its group.
    pub(crate) fn binds(&self, wanted: &Job, pool: usize) -> Option<Refusal> {
        let binding = &self.problem.bindings[wanted.binding?];
        bind::refuses(binding, &self.groups, self.place(pool))
    }

    /// What a job would gain by a start in a pool that only its sites or its group keep from it, and which of both; `None` where
    /// anything else does, or nothing.
    pub(crate) fn kept_from(&mut self, job: usize, pool: usize) -> Option<(Refusal, i64)> {
        let wanted = &self.problem.jobs[job];
        let bound = self.binds(wanted, pool)?;
        let seat = Seat::Starts(pool);
        let free = self.refuses_drawing(wanted, seat, self.watts(job, pool)).is_none();
        free.then(|| (bound, self.gain_unchecked(job, seat)))
    }

    /// The island and the module of a pool.
    fn place(&self, pool: usize) -> (usize, usize) {
        let module = self.problem.pools[pool].module;
        (self.problem.modules[module].site, module)
    }

    /// Follows the group of a job that took a seat in a pool, or left it.
    fn regroup(&mut self, job: usize, pool: usize, sits: bool) {
        let Some(binding) = self.problem.jobs[job].binding else { return };
        let place = self.place(pool);
        let group = self.problem.bindings[binding].group.and_then(|nth| self.groups.get_mut(nth));
        group.into_iter().for_each(|group| group.seat(place, sits));
    }

    /// The same for a job that need not stand in the problem.
    pub(crate) fn refuses(&self, wanted: &Job, seat: Seat) -> Option<Refusal> {
        self.refuses_drawing(wanted, seat, self.problem.pools[seat.pool()].per_gpu * wanted.gpus)
    }

    fn refuses_drawing(&self, wanted: &Job, seat: Seat, watts: i64) -> Option<Refusal> {
        let pool = &self.problem.pools[seat.pool()];
        let site = self.problem.modules[pool.module].site;
        if pool.gpu != wanted.gpu || seat.moments().any(|at| self.free[seat.pool()][at] < wanted.gpus) {
            return Some(Refusal::Gpus);
        }
        let island = &self.problem.sites[site];
        if !island.opens || (matches!(seat, Seat::Waits(_)) && !island.yields) {
            return Some(Refusal::Power);
        }
        if self.is_beside_giant(wanted, seat) {
            return Some(Refusal::Beside);
        }
        let module = &self.problem.modules[pool.module];
        let firm = is_firm(wanted).then_some(pool.module);
        let limit = self.limit(site).min(island.limits[wanted.level]);
        let mut refusal = None;
        for at in NOW..=AFTER {
            // Now is always at least as full as later, unless somebody waits.
            let counts = seat.moments().contains(&at)
                && (at == NOW || self.waiting[site] > 0 || seat.moments().count() == 1);
            if !counts {
                continue;
            }
            let ceiling = module.ceiling(self.load[pool.module][at] + watts);
            let more = ceiling - self.ceiling[pool.module][at];
            let fixed = self.fixed[site][at] + more;
            refusal = if ceiling > self.limits[pool.module][at] {
                Some(Refusal::Module)
            } else if more > island.block {
                Some(Refusal::Block)
            } else if fixed > limit {
                Some(Refusal::Power)
            } else if self.is_uncovered((site, at), fixed, (pool.module, ceiling), firm) {
                Some(Refusal::Reserve)
            } else {
                continue;
            };
            break;
        }
        refusal
    }

    /// Most load that no feeder drops beside what is seated at an island.
    pub(crate) fn limit(&self, site: usize) -> i64 {
        let island = &self.problem.sites[site];
        let present = self.classes[site].iter().zip(island.limits).filter(|(count, _)| **count > 0);
        present.map(|(_, limit)| limit).min().unwrap_or(i64::MAX)
    }

    /// Seats a job that may have the seat.
    pub(crate) fn seat(&mut self, job: usize, seat: Seat) {
        debug_assert!(self.seats[job].is_none(), "a job has one seat");
        let site = self.problem.site_of(seat.pool());
        let gpus = self.problem.jobs[job].gpus;
        self.seats[job] = Some(seat);
        self.regroup(job, seat.pool(), true);
        self.members[seat.pool()].push(job);
        self.seat_worth += self.earns(job, seat);
        self.guard(job, seat, true);
        self.classes[site][self.problem.jobs[job].level] += 1;
        self.waiting[site] += u32::from(matches!(seat, Seat::Waits(_)));
        seat.moments().for_each(|at| self.free[seat.pool()][at] -= gpus);
        self.shift(seat, self.watts(job, seat.pool()));
        self.weigh(site);
    }

    /// Takes GPUs of a pool from now on, for whom it may concern.
    pub(crate) fn occupy(&mut self, pool: usize, gpus: i64) {
        self.free[pool].iter_mut().for_each(|free| *free -= gpus);
        self.shift(Seat::Starts(pool), self.problem.pools[pool].per_gpu * gpus);
    }

    /// Takes a job's seat away, and says which it was.
    pub(crate) fn unseat(&mut self, job: usize) -> Option<Seat> {
        let seat = self.seats[job].take()?;
        self.regroup(job, seat.pool(), false);
        self.members[seat.pool()].retain(|&other| other != job);
        let site = self.problem.site_of(seat.pool());
        let gpus = self.problem.jobs[job].gpus;
        self.seat_worth -= self.earns(job, seat);
        self.guard(job, seat, false);
        self.classes[site][self.problem.jobs[job].level] -= 1;
        self.waiting[site] -= u32::from(matches!(seat, Seat::Waits(_)));
        seat.moments().for_each(|at| self.free[seat.pool()][at] += gpus);
        self.shift(seat, -self.watts(job, seat.pool()));
        self.weigh(site);
        Some(seat)
    }

    /// Stops a spot run, or lets it go on after all.
    pub(crate) fn stop(&mut self, victim: usize, stops: bool) {
        if self.stopped[victim] == stops {
            return;
        }
        let run = &self.problem.victims[victim];
        let sign = if stops { 1 } else { -1 };
        self.stopped[victim] = stops;
        self.seat_worth -= sign * run.cost;
        self.free[run.pool][AFTER] += sign * run.gpus;
        let watts = self.problem.pools[run.pool].per_gpu * run.gpus;
        self.shift(Seat::Waits(run.pool), -sign * watts);
    }

    /// Whether everything fits where a victim runs, once it goes on.
    pub(crate) fn fits_after(&self, pool: usize) -> bool {
        let module = self.problem.pools[pool].module;
        let site = self.problem.modules[module].site;
        let ceiling = self.ceiling[module][AFTER];
        let fixed = self.fixed[site][AFTER];
        self.free[pool][AFTER] >= 0
            && ceiling <= self.limits[module][AFTER]
            && fixed <= self.limit(site)
            && !self.is_uncovered((site, AFTER), fixed, (module, ceiling), None)
    }

    /// Whether everything fits at these islands after what is being stopped has gone.
    pub(crate) fn is_sound(&self, sites: &[usize]) -> bool {
        sites.iter().all(|&site| {
            let (first, end) = self.pools_of[site];
            self.waiting[site] == 0 && !self.is_yielding(site)
                || (first..end).all(|pool| self.fits_after(pool))
        })
    }

    fn is_yielding(&self, site: usize) -> bool {
        let (first, end) = self.pools_of[site];
        (first..end).flat_map(|pool| &self.victims_in[pool]).any(|&victim| self.stopped[victim])
    }

    /// What a job draws in a pool.
    pub(crate) fn watts(&self, job: usize, pool: usize) -> i64 {
        let (wanted, config) = (&self.problem.jobs[job], &self.problem.pools[pool]);
        let least = if self.eased[job] { config.least(wanted) } else { None };
        least.map_or(config.per_gpu, |(per_gpu, _)| per_gpu) * wanted.gpus
    }

    /// What a seat earns before gas and mining.
    pub(crate) fn earns(&self, job: usize, seat: Seat) -> i64 {
        let wanted = &self.problem.jobs[job];
        match seat {
            Seat::Starts(pool) if self.eased[job] => {
                let least = self.problem.pools[pool].least(wanted);
                least.map_or(wanted.value, |(_, pace)| wanted.value.saturating_mul(pace) / 1_000)
            }
            Seat::Starts(_) => wanted.value,
            Seat::Waits(pool) => {
                let module = &self.problem.modules[self.problem.pools[pool].module];
                let displaced = self.problem.sites[module.site].displaced;
                let watts = module.ceiling(self.watts(job, pool));
                wanted.wait.unwrap_or(0) - per_megawatt(displaced, watts)
            }
        }
    }

    /// GPUs of one pool that its module and its island have watts for, under an island limit.
    pub(crate) fn headroom(&self, pool: usize, limit: i64) -> i64 {
        let config = &self.problem.pools[pool];
        let module = &self.problem.modules[config.module];
        let room = (limit - self.fixed[module.site][NOW])
            .min(self.limits[config.module][NOW] - self.ceiling[config.module][NOW]);
        let (each, loss) = (config.per_gpu.max(1), 1_000 + module.loss_permille);
        // Nearly always within 64 bits, where a division takes a third of the time.
        let short = each.checked_mul(loss * 1_010).zip(room.max(0).checked_mul(1_000_000));
        let gpus = short.map_or_else(
            || {
                let each = i128::from(each) * i128::from(loss) * 1_010;
                i64::try_from(i128::from(room.max(0)) * 1_000_000 / each.max(1)).unwrap_or(i64::MAX)
            },
            |(each, room)| room / each.max(1),
        );
        gpus.min(self.free[pool][NOW])
    }

    /// What mining and gas lose when a pool draws `watts` more now.
    pub(crate) fn cost_of_power(&mut self, pool: usize, watts: i64) -> i64 {
        let module = self.problem.pools[pool].module;
        let site = self.problem.modules[module].site;
        let before = (self.load[module], self.ceiling[module], self.fixed[site]);
        self.shift(Seat::Starts(pool), watts);
        let cost = self.power_worth[site] - { self.worth_of_power(site) };
        (self.load[module], self.ceiling[module], self.fixed[site]) = before;
        cost
    }

    /// From now on speed is set step by step: the curve no longer says what runs' speed earns.
    pub(crate) fn settle(&mut self) {
        self.is_settled = true;
        let elastic =
            (0..self.problem.sites.len()).filter(|&site| !self.problem.sites[site].speeds.is_empty());
        elastic.collect::<Vec<_>>().into_iter().for_each(|site| self.weigh(site));
    }

    /// What mining and gas lose when runs of a module draw `watts` more now.
    pub(crate) fn cost_of_raise(&mut self, module: usize, watts: i64) -> i64 {
        let site = self.problem.modules[module].site;
        let before = (self.load[module], self.ceiling[module], self.fixed[site]);
        self.draw(module, NOW, watts);
        let cost = self.power_worth[site] - { self.worth_of_power(site) };
        (self.load[module], self.ceiling[module], self.fixed[site]) = before;
        cost
    }

    /// Whether runs of a module may draw `watts` more now: as little may be risked for it as for a start.
    pub(crate) fn may_raise(&self, module: usize, watts: i64) -> bool {
        let config = &self.problem.modules[module];
        let island = &self.problem.sites[config.site];
        let ceiling = config.ceiling(self.load[module][NOW] + watts);
        let more = ceiling - self.ceiling[module][NOW];
        let fixed = self.fixed[config.site][NOW] + more;
        island.opens
            && ceiling <= self.limits[module][NOW]
            && more <= island.block
            && fixed <= self.speed_limit(config.site)
            && !self.is_uncovered((config.site, NOW), fixed, (module, ceiling), None)
    }

    /// Has runs of a module draw `watts` more now, for `value`.
    pub(crate) fn raise(&mut self, module: usize, watts: i64, value: i64) {
        self.draw(module, NOW, watts);
        self.seat_worth += value;
        self.weigh(self.problem.modules[module].site);
    }

    /// Most load that no feeder drops beside runs that are sped up: as for on-demand work that needs no forecast.
    fn speed_limit(&self, site: usize) -> i64 {
        self.limit(site).min(self.problem.sites[site].limits[1])
    }

    /// Ceiling that more speed of runs may take, as far as the curve is asked.
    fn speed_room(&self, site: usize) -> i64 {
        let island = &self.problem.sites[site];
        let strict = self.speed_limit(site) - self.fixed[site][NOW];
        let idle = self.classes[site].iter().all(|&count| count == 0);
        let spare = island.spare.unwrap_or(0) - (self.fixed[site][NOW] - island.fixed[NOW]);
        if idle { strict.max(spare) } else { strict }
    }

    /// Adds watts to a pool's module and island from the seat's moment on.
    fn shift(&mut self, seat: Seat, watts: i64) {
        let module = self.problem.pools[seat.pool()].module;
        seat.moments().for_each(|at| self.draw(module, at, watts));
    }

    fn draw(&mut self, module: usize, at: usize, watts: i64) {
        let config = &self.problem.modules[module];
        self.load[module][at] += watts;
        let ceiling = config.ceiling(self.load[module][at]);
        self.fixed[config.site][at] += ceiling - self.ceiling[module][at];
        self.ceiling[module][at] = ceiling;
    }

    /// Follows a change of an island's power.
    fn weigh(&mut self, site: usize) {
        let worth = self.worth_of_power(site);
        self.power_total += worth - self.power_worth[site];
        self.power_worth[site] = worth;
    }

    fn worth_of_power(&mut self, site: usize) -> i64 {
        self.work += 1;
        let island = &self.problem.sites[site];
        let (first, end) = island.modules;
        let drawn = island.drawn + self.fixed[site][NOW] - island.fixed[NOW];
        let mut rooms = std::mem::take(&mut self.rooms);
        rooms.clear();
        rooms.extend((first..end).map(|index| self.limits[index][NOW] - self.ceiling[index][NOW]));
        let room = island.mining_limit - drawn;
        let mined = if self.is_settled || island.speeds.is_empty() {
            curve::fill(&island.segments, room, &mut rooms, first)
        } else {
            let both = (island.speeds.as_slice(), island.segments.as_slice());
            curve::fill_both(both, (self.speed_room(site), room), &mut rooms, first)
        };
        self.rooms = rooms;
        mined - per_megawatt(island.fuel, drawn)
    }
}

/// Money for `watts` at a price a megawatt.
pub(crate) fn per_megawatt(price: i64, watts: i64) -> i64 {
    match price.checked_mul(watts) {
        Some(product) => product / 1_000_000,
        None => i64::try_from(i128::from(price) * i128::from(watts) / 1_000_000).unwrap_or(i64::MAX),
    }
}
