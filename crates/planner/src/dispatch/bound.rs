//! An upper bound on the worth of any solution, by the Lagrangian dual: every GPU has a price by type, promise and size of gang, jobs take what
//! pays at that price, islands sell what pays at it.
//!
//! At given prices both sides are closed forms: a job is taken where its value exceeds its GPUs' price; an island sells GPUs, best
//! first, as long as they pay more than the mining that they displace. Any prices give a valid bound; the best are searched for one
//! by one, since the dual is convex. Cost: jobs + pools for each trial. Floats are used in a fixed order, so the bound too is the
//! same for the same input; a thousandth of a dollar covers their rounding. Read next: `crate::plan`, which carries it.

use super::problem::{LEVELS, Pool, Problem};
use super::state::State;

/// Passes over the prices.
const PASSES: usize = 3;
/// Sections of a price's range: 0.618^30 of it, below a millionth.
const SECTIONS: usize = 30;
const GOLDEN: f64 = 0.618_033_988_749_894_9;
/// Covers rounding, in micro-dollars.
const ROUNDING: f64 = 1_000.0;
/// What is promised: firm, on demand, spot.
const PROMISES: usize = 3;
/// Gangs up to 16 GPUs, up to 32, and larger: a large one needs a pool that holds it whole and an island that takes its step.
const SIZES: [f64; 2] = [16.0, 32.0];
/// Prices for each GPU type.
const CLASSES: usize = PROMISES * (SIZES.len() + 1);

/// The bound, in micro-dollars over the dwell.
pub(crate) fn bound(problem: &Problem) -> i64 {
    let dual = Dual::of(problem);
    let mut prices = vec![0.0; dual.kinds * CLASSES];
    let mut best = dual.value(&prices);
    let groups = groups(dual.kinds);
    for _ in 0..PASSES {
        let before = best;
        for group in &groups {
            best = dual.descend(&mut prices, group, best);
        }
        if before - best <= before.abs() * 1e-6 {
            break;
        }
    }
    (best + ROUNDING).ceil() as i64
}

/// Which prices move together: all of a type, those of one promise, those of one size, and each alone. Alone they would get stuck at
/// the kinks of the dual.
fn groups(kinds: usize) -> Vec<Vec<usize>> {
    let mut groups = Vec::new();
    for kind in 0..kinds {
        let of = |keep: &dyn Fn(usize) -> bool| {
            (0..CLASSES)
                .filter(|&class| keep(class))
                .map(|class| kind * CLASSES + class)
                .collect::<Vec<usize>>()
        };
        groups.push(of(&|_| true));
        groups.extend((0..PROMISES).map(|promise| of(&|class| class % PROMISES == promise)));
        groups.extend((0..=SIZES.len()).map(|size| of(&|class| class / PROMISES == size)));
        groups.extend((0..CLASSES).map(|one| of(&|class| class == one)));
    }
    groups
}

struct Dual {
    kinds: usize,
    /// For each GPU type and promise: (value, GPUs) of the jobs.
    jobs: Vec<Vec<(f64, f64)>>,
    /// The least a GPU by which waiting is worth less than starting, for each class; infinite where nobody waits.
    later: Vec<f64>,
    islands: Vec<Supply>,
    /// Dearest GPU anybody pays for.
    most: f64,
}

/// What one island can sell.
struct Supply {
    /// By what it may sell: everything within the limit of all, or firm only within the limit of firm.
    limits: [f64; 2],
    pools: Vec<Offer>,
    /// Miners: (watts, profit a watt), best first, as far as they fill the island.
    mining: Vec<(f64, f64)>,
    /// Watts that neither miners nor GPUs use yet.
    slack: f64,
    /// Gas a watt.
    fuel: f64,
    /// What miners earn less the gas of what is drawn, before anything is sold.
    rest: f64,
    /// Spot runs that may give way: (type, size of the largest gang, GPUs, loss a GPU).
    victims: Vec<(usize, usize, f64, f64)>,
}

struct Offer {
    gpu: usize,
    /// Class of the largest gang it takes.
    size: usize,
    gpus: f64,
    /// Ceiling of one GPU.
    each: f64,
    room: f64,
}

impl Dual {
    fn of(problem: &Problem) -> Self {
        let kinds = problem.pools.iter().map(|pool| pool.gpu + 1).max().unwrap_or(0);
        let mut jobs = vec![Vec::new(); kinds * CLASSES];
        let mut later = vec![f64::INFINITY; kinds * CLASSES];
        let most_of = holds(problem);
        let mut largest = vec![0.0_f64; kinds];
        for (pool, config) in problem.pools.iter().enumerate() {
            largest[config.gpu] = largest[config.gpu].max(most_of[pool]);
        }
        let mut most: f64 = 0.0;
        let mut levels = [false; LEVELS];
        for job in problem.jobs.iter().filter(|job| job.gpu < kinds && job.gpus > 0) {
            let promise = if job.level == 0 { 0 } else { 2 - usize::from(job.wait.is_some()) };
            let class = promise + PROMISES * size(job.gpus as f64);
            if job.gpus as f64 > largest[job.gpu] {
                continue;
            }
            jobs[job.gpu * CLASSES + class].push((job.value as f64, job.gpus as f64));
            if let Some(wait) = job.wait {
                let less = (job.value - wait) as f64 / job.gpus as f64;
                later[job.gpu * CLASSES + class] = later[job.gpu * CLASSES + class].min(less);
            }
            most = most.max(job.value as f64 / job.gpus as f64);
            levels[job.level] = true;
        }
        let mut islands: Vec<Supply> =
            (0..problem.sites.len()).map(|site| Supply::of(problem, site, &levels)).collect();
        let state = State::new(problem);
        for (pool, config) in problem.pools.iter().enumerate() {
            let site = problem.site_of(pool);
            let module = &problem.modules[config.module];
            let gpus = state.free[pool][1].max(state.free[pool][0]) as f64;
            let each = config.per_gpu as f64 * (1_000 + module.loss_permille) as f64 * 1.01 / 1_000.0;
            let room = (module.limit - module.ceiling(module.load[1])).max(0) as f64 + 2.0;
            islands[site].pools.push(Offer { gpu: config.gpu, size: size(most_of[pool]), gpus, each, room });
        }
        for victim in &problem.victims {
            let Pool { gpu, module, per_gpu, .. } = problem.pools[victim.pool];
            let module = &problem.modules[module];
            // Who waits pays for what it will displace; roundings of ceilings never make that less than this.
            let each = per_gpu as f64 * (1_000 + module.loss_permille) as f64 * 1.01 / 1_000.0 - 1.0;
            let displaced = problem.sites[module.site].displaced.max(0) as f64 / 1e6 * each.max(0.0);
            let loss = victim.cost as f64 / victim.gpus.max(1) as f64 + displaced;
            let takes = size(most_of[victim.pool]);
            islands[module.site].victims.push((gpu, takes, victim.gpus as f64, loss));
        }
        Self { kinds, jobs, later, islands, most }
    }

    /// Lowers the dual by one price for a group of classes, by golden section; leaves the best prices in place.
    fn descend(&self, prices: &mut [f64], group: &[usize], best: f64) -> f64 {
        let start: Vec<f64> = group.iter().map(|&class| prices[class]).collect();
        let mut at = |price: f64| {
            group.iter().for_each(|&class| prices[class] = price);
            self.value(prices)
        };
        let (mut low, mut high) = (0.0, self.most);
        let (mut left, mut right) = (high - GOLDEN * high, GOLDEN * high);
        let (mut below, mut above) = (at(left), at(right));
        for _ in 0..SECTIONS {
            if below <= above {
                (high, right, above) = (right, left, below);
                left = high - GOLDEN * (high - low);
                below = at(left);
            } else {
                (low, left, below) = (left, right, above);
                right = low + GOLDEN * (high - low);
                above = at(right);
            }
        }
        let (found, price) = if below <= above { (below, left) } else { (above, right) };
        if found < best {
            group.iter().for_each(|&class| prices[class] = price);
            return found;
        }
        group.iter().zip(start).for_each(|(&class, price)| prices[class] = price);
        best
    }

    fn value(&self, prices: &[f64]) -> f64 {
        let bought: f64 = self
            .jobs
            .iter()
            .zip(prices)
            .flat_map(|(jobs, &price)| jobs.iter().map(move |(value, gpus)| (value - gpus * price).max(0.0)))
            .sum();
        let waits: Vec<f64> = prices.iter().zip(&self.later).map(|(price, later)| price - later).collect();
        let sold: f64 = self.islands.iter().map(|island| island.value(prices, &waits)).sum();
        bought + sold
    }
}

/// The class of a gang's size.
fn size(gpus: f64) -> usize {
    SIZES.iter().filter(|&&most| gpus > most).count()
}

/// The largest gang that each pool takes: what it has in all once spot runs are gone, within its island's block load.
fn holds(problem: &Problem) -> Vec<f64> {
    let mut most: Vec<f64> = problem.pools.iter().map(|pool| pool.free[0].max(pool.free[1]) as f64).collect();
    for victim in &problem.victims {
        most[victim.pool] += victim.gpus as f64;
    }
    for (pool, config) in problem.pools.iter().enumerate() {
        let module = &problem.modules[config.module];
        let each = config.per_gpu.max(1) as f64 * (1_000 + module.loss_permille) as f64 * 1.01 / 1_000.0;
        let island = &problem.sites[module.site];
        let step = if island.opens { (island.block + 4) as f64 / each } else { 0.0 };
        most[pool] = most[pool].min(step);
    }
    most
}

impl Supply {
    fn of(problem: &Problem, site: usize, levels: &[bool; LEVELS]) -> Self {
        let island = &problem.sites[site];
        let fixed = island.fixed[0].min(island.fixed[1]);
        let most = |range: std::ops::Range<usize>| {
            let present = range.filter(|&level| levels[level]).map(|level| island.limits[level]);
            let room = present.max().map_or(0, |limit| (limit - fixed).max(0));
            // Roundings of ceilings, two watts a pool.
            if island.opens { room as f64 + 2.0 * problem.pools.len() as f64 } else { 0.0 }
        };
        let room = (island.mining_limit - island.drawn).max(0) as f64;
        let mut left = room;
        let mut mining = Vec::new();
        for segment in &island.segments {
            let watts = (segment.watts as f64).min(left);
            if watts > 0.0 {
                mining.push((watts, segment.profit as f64 / segment.watts as f64));
                left -= watts;
            }
        }
        let mined: f64 = mining.iter().map(|(watts, each)| watts * each).sum();
        let fuel = island.fuel as f64 / 1e6;
        let rest = mined - fuel * island.drawn as f64;
        Self {
            limits: [most(1..LEVELS), most(0..1)],
            pools: Vec::new(),
            mining,
            slack: left,
            fuel,
            rest,
            victims: Vec::new(),
        }
    }

    /// The most this island earns at given prices, for who starts and for who waits.
    fn value(&self, prices: &[f64], waits: &[f64]) -> f64 {
        // The best price among some promises and all sizes that fit.
        let price = |of: &[f64], gpu: usize, takes: usize, promises: usize| {
            let classes =
                (0..=takes).flat_map(|size| (0..promises).map(move |promise| promise + PROMISES * size));
            classes.map(|class| of[gpu * CLASSES + class]).fold(0.0, f64::max)
        };
        let any = self.sold(self.limits[0], |offer| price(prices, offer.gpu, offer.size, PROMISES));
        let sold = any.max(self.sold(self.limits[1], |offer| price(prices, offer.gpu, offer.size, 1)));
        let freed = self
            .victims
            .iter()
            .map(|&(gpu, takes, gpus, loss)| (price(waits, gpu, takes, 2) - loss).max(0.0) * gpus);
        self.rest + sold + freed.sum::<f64>()
    }

    /// What GPUs add under one limit: best a watt first, as long as they pay more than the mining that they displace.
    fn sold(&self, limit: f64, price: impl Fn(&Offer) -> f64) -> f64 {
        let mut offers: Vec<(f64, f64)> = Vec::with_capacity(self.pools.len());
        for offer in &self.pools {
            let each = offer.each.max(1e-9);
            let watts = (offer.gpus * each).min(offer.room);
            let density = price(offer) / each - self.fuel;
            if density > 0.0 && watts > 0.0 {
                offers.push((density, watts));
            }
        }
        offers.sort_by(|a, b| b.0.total_cmp(&a.0));
        let mut left = limit;
        let mut slack = self.slack;
        // The worst mining goes first: it stands last.
        let mut displaced = self.mining.clone();
        let mut gained = 0.0;
        for (density, watts) in offers {
            let mut wanted = watts.min(left);
            let free = wanted.min(slack);
            gained += free * density;
            (slack, wanted, left) = (slack - free, wanted - free, left - free);
            while wanted > 0.0 {
                let Some(last) = displaced.last_mut() else {
                    // No mining is left to displace: what gas the buffer holds serves AI alone.
                    gained += wanted * density;
                    left -= wanted;
                    break;
                };
                if last.1 >= density {
                    return gained;
                }
                let part = wanted.min(last.0);
                gained += part * (density - last.1);
                last.0 -= part;
                (wanted, left) = (wanted - part, left - part);
                if last.0 <= 0.0 {
                    displaced.pop();
                }
            }
        }
        gained
    }
}
