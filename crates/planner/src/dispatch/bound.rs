//! An upper bound on the worth of any solution, by the Lagrangian dual: every GPU has a price by type and promise, jobs take what
//! pays at that price, islands sell what pays at it.
//!
//! At given prices both sides are closed forms: a job is taken where its value exceeds its GPUs' price; an island sells GPUs, best
//! first, as long as they pay more than the mining that they displace. Any prices give a valid bound; the best are searched for one
//! by one, since the dual is convex. Cost: jobs + pools for each trial. Floats are used in a fixed order, so the bound too is the
//! same for the same input; a thousandth of a dollar covers their rounding. Read next: `crate::plan`, which carries it.

use super::problem::{LEVELS, Problem};
use super::state::State;

/// Passes over the prices.
const PASSES: usize = 3;
/// Bisections of a price: from 10^9 micro-dollars to one.
const BISECTIONS: usize = 34;
/// Covers rounding, in micro-dollars.
const ROUNDING: f64 = 1_000.0;
/// What is promised: firm, on demand, spot.
const CLASSES: usize = 3;

/// The bound, in micro-dollars over the dwell.
pub(crate) fn bound(problem: &Problem) -> i64 {
    let dual = Dual::of(problem);
    let mut prices = vec![0.0; dual.kinds * CLASSES];
    let mut best = dual.value(&prices);
    for _ in 0..PASSES {
        let before = best;
        for coordinate in 0..prices.len() {
            best = best.min(dual.descend(&mut prices, coordinate));
        }
        if before - best <= before.abs() * 1e-6 {
            break;
        }
    }
    (best + ROUNDING).ceil() as i64
}

struct Dual {
    kinds: usize,
    /// For each GPU type and promise: (value, GPUs) of the jobs.
    jobs: Vec<Vec<(f64, f64)>>,
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
    /// Spot runs that may give way: (type, GPUs, loss a GPU).
    victims: Vec<(usize, f64, f64)>,
}

struct Offer {
    gpu: usize,
    gpus: f64,
    /// Ceiling of one GPU.
    each: f64,
    room: f64,
}

impl Dual {
    fn of(problem: &Problem) -> Self {
        let kinds = problem.pools.iter().map(|pool| pool.gpu + 1).max().unwrap_or(0);
        let mut jobs = vec![Vec::new(); kinds * CLASSES];
        let mut most: f64 = 0.0;
        let mut levels = [false; LEVELS];
        for job in problem.jobs.iter().filter(|job| job.gpu < kinds && job.gpus > 0) {
            let class = if job.level == 0 { 0 } else { 2 - usize::from(job.wait.is_some()) };
            jobs[job.gpu * CLASSES + class].push((job.value as f64, job.gpus as f64));
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
            islands[site].pools.push(Offer { gpu: config.gpu, gpus, each, room });
        }
        for victim in &problem.victims {
            let loss = victim.cost as f64 / victim.gpus.max(1) as f64;
            let gpu = problem.pools[victim.pool].gpu;
            islands[problem.site_of(victim.pool)].victims.push((gpu, victim.gpus as f64, loss));
        }
        Self { kinds, jobs, islands, most }
    }

    /// Lowers the dual along one price; leaves the best one in place.
    fn descend(&self, prices: &mut [f64], coordinate: usize) -> f64 {
        let at = |prices: &mut [f64], price: f64| {
            prices[coordinate] = price;
            self.value(prices)
        };
        let start = prices[coordinate];
        let mut best = (at(prices, start), start);
        let (mut low, mut high) = (0.0, self.most);
        for _ in 0..BISECTIONS {
            let (left, right) = (low + (high - low) * 0.45, low + (high - low) * 0.55);
            let (below, above) = (at(prices, left), at(prices, right));
            for (value, price) in [(below, left), (above, right)] {
                if value < best.0 {
                    best = (value, price);
                }
            }
            if below <= above { high = right } else { low = left }
        }
        prices[coordinate] = best.1;
        best.0
    }

    fn value(&self, prices: &[f64]) -> f64 {
        let bought: f64 = self
            .jobs
            .iter()
            .zip(prices)
            .flat_map(|(jobs, &price)| jobs.iter().map(move |(value, gpus)| (value - gpus * price).max(0.0)))
            .sum();
        let sold: f64 = self.islands.iter().map(|island| island.value(prices)).sum();
        bought + sold
    }
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

    /// The most this island earns at given prices.
    fn value(&self, prices: &[f64]) -> f64 {
        let price = |gpu: usize, class: usize| prices[gpu * CLASSES + class];
        let any = |gpu: usize| price(gpu, 0).max(price(gpu, 1)).max(price(gpu, 2));
        let sold = self.sold(self.limits[0], any).max(self.sold(self.limits[1], |gpu| price(gpu, 0)));
        let freed = self
            .victims
            .iter()
            .map(|&(gpu, gpus, loss)| (price(gpu, 0).max(price(gpu, 1)) - loss).max(0.0) * gpus);
        self.rest + sold + freed.sum::<f64>()
    }

    /// What GPUs add under one limit: best a watt first, as long as they pay more than the mining that they displace.
    fn sold(&self, limit: f64, price: impl Fn(usize) -> f64) -> f64 {
        let mut offers: Vec<(f64, f64)> = Vec::with_capacity(self.pools.len());
        for offer in &self.pools {
            let each = offer.each.max(1e-9);
            let watts = (offer.gpus * each).min(offer.room);
            let density = price(offer.gpu) / each - self.fuel;
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
