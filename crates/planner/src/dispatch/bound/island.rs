//! What one island sells at given prices: its pools packed with whole gangs, starts as long as they pay more than the mining that they
//! displace, and spot runs that give way where waiting gangs pay for their loss.
//!
//! A pool's worth by the GPUs that start in it is replaced by its concave hull, so that the island's part is a merge by density:
//! exact at the corners. Speed of power-elastic runs joins the merge as it is. Relaxed are the modules' limits on waiting gangs and on
//! speed, and the fast load that starts displace: the reserve is counted as if none were; and those who may start slower count as if
//! they started at full speed on watts that they save. Read next: [`super::later`], for who waits.

use super::super::problem::{LEVELS, Problem, Site};
use super::gangs::Packing;
use super::later::{self, Later};

/// In the place of a pool: speed of runs.
const SPEED: usize = usize::MAX;
/// Watts that rounding of ceilings may hide, a module and a pool.
const ROUNDED: f64 = 4.0;
/// Pools above this many GPUs are packed as if gangs could be split: tables grow with the square.
pub(super) const LARGE: usize = 512;

/// What everything costs.
pub(super) struct Prices<'p> {
    /// By shape: what gangs of any promise bring, firm ones, and those who wait.
    pub(super) packed: &'p [[Packing; 3]],
    /// A watt of this island that stands after stops.
    pub(super) watt: f64,
}

/// One island.
pub(super) struct Supply {
    /// By what it may sell: everything within the limit of all, or firm only within the limit of firm.
    limits: [f64; 2],
    /// Watts that seats may add after stops.
    after: f64,
    /// Whether anybody may wait for others to go.
    pub(super) yields: bool,
    /// Watts that rounding of ceilings may hide.
    rounded: f64,
    /// Watts that those who start may save, if all do who may.
    saved: f64,
    pub(super) pools: Vec<Pool>,
    /// Speed of runs: (watts, profit a watt), best first; and the watts that it may take where nothing starts.
    speeds: Vec<(f64, f64)>,
    spare: f64,
    /// Miners: (watts, profit a watt), best first, as far as they fill the island.
    mining: Vec<(f64, f64)>,
    /// Watts that neither miners nor GPUs use yet.
    slack: f64,
    /// Gas a watt.
    fuel: f64,
    /// What a watt of who waits will displace.
    displaced: f64,
    /// What miners earn less the gas of what is drawn, before anything is sold.
    rest: f64,
}

/// One pool.
pub(super) struct Pool {
    pub(super) shape: usize,
    /// Ceiling of one GPU.
    pub(super) each: f64,
    /// GPUs that may start, and that are free after stops by others.
    pub(super) most: usize,
    pub(super) free: usize,
    /// The least loss that frees so many GPUs; a single zero where nobody may be stopped.
    pub(super) covers: Vec<f64>,
    /// Spot runs: (GPUs, loss).
    pub(super) victims: Vec<(f64, f64)>,
}

/// What an island sold.
pub(super) struct Sold {
    pub(super) worth: f64,
    /// Watts after stops that it did not need.
    pub(super) spare: f64,
    /// (class, gangs).
    pub(super) starts: Vec<(usize, f64)>,
    pub(super) waits: Vec<(usize, f64)>,
}

/// How far a pool is sold: between two corners of its hull.
#[derive(Clone, Copy)]
struct Taken {
    from: usize,
    to: usize,
    share: f64,
}

/// A straight piece of a pool's hull.
struct Piece {
    density: f64,
    watts: f64,
    pool: usize,
    from: usize,
    to: usize,
}

impl Pool {
    /// A pool, and the largest gang whose step its island takes.
    pub(super) fn of(problem: &Problem, nth: usize, island: &Supply, victims: &[usize]) -> (Self, usize) {
        let (yields, rounded, saved) = (island.yields, island.rounded, island.saved);
        let config = &problem.pools[nth];
        let module = &problem.modules[config.module];
        let island = &problem.sites[module.site];
        let ceiling =
            |watts: i64| watts.max(1) as f64 * (1_000 + module.loss_permille) as f64 * 1.01 / 1_000.0;
        let each = ceiling(config.per_gpu);
        let least = config.curve.first().map_or(each, |&(least, _)| ceiling(least));
        let room = (module.limit - module.ceiling(module.load[0])).max(0) as f64 + rounded;
        let room = room + saved;
        let free = |at: usize| usize::try_from(config.free[at]).unwrap_or(0);
        let most = free(0).min(free(1)).min((room / each) as usize);
        let runs = victims.iter().filter(|_| yields).map(|&victim| &problem.victims[victim]);
        let victims: Vec<(f64, f64)> = runs.map(|run| (run.gpus as f64, run.cost.max(0) as f64)).collect();
        let freed = victims.iter().map(|(gpus, _)| *gpus).sum::<f64>() as usize;
        let large = most.max(free(1) + freed) > LARGE;
        let covers = if large { vec![0.0] } else { later::covers(&victims) };
        // The step of a gang that starts slower is smaller.
        let step = if saved > 0.0 { least } else { each };
        let cap = if island.opens { ((island.block + 4) as f64 / step) as usize } else { 0 };
        let free = if yields { free(1) } else { most };
        (Self { shape: 0, each, most, free, covers, victims }, cap)
    }

    /// GPUs that are free after all stops.
    pub(super) fn later(&self) -> usize {
        self.free + self.victims.iter().map(|(gpus, _)| *gpus).sum::<f64>() as usize
    }

    pub(super) fn is_large(&self) -> bool {
        self.most.max(self.later()) > LARGE
    }

    /// Cells of tables filled at each price.
    pub(super) fn cells(&self) -> usize {
        if self.is_large() {
            16
        } else {
            self.most + self.later() + (self.free + 1) * later::ways(&self.covers)
        }
    }
}

impl Supply {
    pub(super) fn of(problem: &Problem, site: usize, levels: &[bool; LEVELS], pools: usize) -> Self {
        let island = &problem.sites[site];
        let modules = &problem.modules[island.modules.0..island.modules.1];
        let rounded = ROUNDED * (modules.len() + pools) as f64;
        let fast = (modules.iter().map(|module| module.fast.max(0)).sum::<i64>() - island.grain).max(0);
        let covered = reserve(island, fast + rounded as i64);
        let saved = saved(problem, site);
        let most = |range: std::ops::Range<usize>, fixed: i64| {
            let present = range.filter(|&level| levels[level]).map(|level| island.limits[level]);
            let room = present.max().map_or(0.0, |limit| (limit as f64).min(covered) - fixed as f64);
            if island.opens { room.max(0.0) + rounded + saved } else { 0.0 }
        };
        let mut left = (island.mining_limit - island.drawn).max(0) as f64;
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
        let speeds = island.speeds.iter().filter(|speed| speed.watts > 0);
        let speeds = speeds.map(|speed| (speed.watts as f64, speed.profit as f64 / speed.watts as f64));
        Self {
            limits: [most(1..LEVELS, island.fixed[0]), most(0..1, island.fixed[0])],
            after: most(0..LEVELS, island.fixed[1]),
            yields: island.opens && island.yields,
            rounded,
            saved,
            pools: Vec::new(),
            rest: mined - fuel * island.drawn as f64 + fuel.max(0.0) * saved,
            speeds: speeds.collect(),
            spare: island.spare.map_or(0.0, |spare| spare as f64 + rounded),
            mining,
            slack: left + saved,
            fuel,
            displaced: island.displaced as f64 / 1e6,
        }
    }

    /// GPUs that it could sell, if they could be split.
    pub(super) fn gpus(&self) -> f64 {
        let gpus: f64 = self.pools.iter().map(|pool| pool.most as f64).sum();
        let watts: f64 = self.pools.iter().map(|pool| pool.most as f64 * pool.each).sum();
        let part = (self.limits[0].max(self.limits[1]) / watts.max(1.0)).min(1.0);
        gpus * part
    }

    /// The most that this island earns at given prices.
    pub(super) fn sell(&self, prices: &Prices<'_>) -> Sold {
        let watt = if self.yields { prices.watt } else { 0.0 };
        let later = |pool: &Pool| Later::of(pool, &prices.packed[pool.shape][2], watt, self.displaced);
        let laters: Vec<Option<Later>> =
            self.pools.iter().map(|pool| self.yields.then(|| later(pool))).collect();
        let (mut worth, mut taken) = self.serve(prices, watt, &laters, 0);
        let mut option = 0;
        if self.limits[1] > self.limits[0] {
            let firm = self.serve(prices, watt, &laters, 1);
            if firm.0 > worth {
                (worth, taken, option) = (firm.0, firm.1, 1);
            }
        }
        let worth = self.rest + worth + watt * self.after;
        let mut sold = Sold { worth, spare: 0.0, starts: Vec::new(), waits: Vec::new() };
        let mut drawn = 0.0;
        for ((pool, later), taken) in self.pools.iter().zip(&laters).zip(taken) {
            for (gpus, share) in [(taken.from, 1.0 - taken.share), (taken.to, taken.share)] {
                if share <= 0.0 {
                    continue;
                }
                let waits = &prices.packed[pool.shape][2];
                starts(pool, &prices.packed[pool.shape][option], gpus, share, &mut sold.starts);
                let net = later
                    .as_ref()
                    .map_or(0.0, |later| later.taken(pool, waits, (gpus, share), &mut sold.waits));
                drawn += pool.each * (share * gpus as f64 + net);
            }
        }
        sold.spare = if self.yields { self.after - drawn } else { 0.0 };
        sold
    }

    /// What GPUs add under one limit: best a watt first, as long as they pay more than the mining that they displace.
    fn serve(
        &self,
        prices: &Prices<'_>,
        watt: f64,
        laters: &[Option<Later>],
        option: usize,
    ) -> (f64, Vec<Taken>) {
        let mut pieces: Vec<Piece> = Vec::new();
        let mut gained = 0.0;
        for (nth, (pool, later)) in self.pools.iter().zip(laters).enumerate() {
            let packing = &prices.packed[pool.shape][option];
            let hull = hull(self.points(pool, packing, later.as_ref(), watt));
            gained += hull[0].1;
            pieces.extend(hull.windows(2).filter_map(|pair| {
                let watts = (pair[1].0 - pair[0].0) as f64 * pool.each;
                let density = (pair[1].1 - pair[0].1) / watts - self.fuel;
                let (from, to) = (pair[0].0, pair[1].0);
                (density > 0.0).then_some(Piece { density, watts, pool: nth, from, to })
            }));
        }
        let speed = |&(watts, density): &(f64, f64)| Piece { density, watts, pool: SPEED, from: 0, to: 0 };
        pieces.extend(self.speeds.iter().map(speed));
        // Stable: the pieces of one pool are steepest first already.
        pieces.sort_by(|a, b| b.density.total_cmp(&a.density));
        let mut taken = vec![Taken { from: 0, to: 0, share: 0.0 }; self.pools.len()];
        // Speed may take what starts may not, where nothing starts.
        let (mut left, mut both) = (self.limits[option], self.limits[option].max(self.spare));
        let mut power = Power { slack: self.slack, mining: self.mining.clone() };
        let mut is_over = false;
        for piece in &pieces {
            let starts = piece.pool != SPEED;
            if piece.density <= 0.0 || (starts && is_over) {
                continue;
            }
            let wanted = piece.watts.min(both).min(if starts { left } else { f64::MAX });
            let (got, earned) = power.take(wanted, piece.density);
            gained += earned;
            both -= got;
            if starts {
                left -= got;
                let share = if got >= piece.watts { 1.0 } else { got / piece.watts };
                taken[piece.pool] = Taken { from: piece.from, to: piece.to, share };
                is_over = got < piece.watts;
            }
        }
        (gained, taken)
    }

    /// What a pool is worth by the GPUs that start in it, where that changes.
    fn points(&self, pool: &Pool, packing: &Packing, later: Option<&Later>, watt: f64) -> Vec<(usize, f64)> {
        let worth = |gpus: usize, starts: f64| {
            let later = later.map_or(0.0, |later| later.worth(pool.free.saturating_sub(gpus)));
            (gpus, starts - watt * pool.each * gpus as f64 + later)
        };
        if pool.is_large() {
            let densest = packing.densest().map_or(0.0, |gang| gang.price / gang.gpus as f64);
            let all = (pool.most > 0).then(|| worth(pool.most, densest * pool.most as f64));
            return std::iter::once(worth(0, 0.0)).chain(all).collect();
        }
        if self.fuel < 0.0 {
            // Who pays nothing is welcome too: it burns gas that costs money to be rid of.
            return (0..=pool.most).map(|gpus| worth(gpus, packing.best[gpus])).collect();
        }
        let corners = packing.corners.iter().take_while(|&&gpus| gpus <= pool.most);
        corners.map(|&gpus| worth(gpus, packing.best[gpus])).collect()
    }
}

/// Power that nobody needs, and miners, the best first.
struct Power {
    slack: f64,
    mining: Vec<(f64, f64)>,
}

impl Power {
    /// Takes up to `wanted` watts that pay `density` each: (watts, what they earn beyond what they displace).
    fn take(&mut self, wanted: f64, density: f64) -> (f64, f64) {
        let free = wanted.min(self.slack);
        self.slack -= free;
        let (mut got, mut earned) = (free, free * density);
        while got < wanted {
            // The worst mining goes first: it stands last.
            let Some(last) = self.mining.last_mut() else {
                // No mining is left to displace: what gas the buffer holds serves AI alone.
                return (wanted, earned + (wanted - got) * density);
            };
            if last.1 >= density {
                return (got, earned);
            }
            let part = (wanted - got).min(last.0);
            earned += part * (density - last.1);
            got += part;
            last.0 -= part;
            if last.0 <= 0.0 {
                self.mining.pop();
            }
        }
        (wanted, earned)
    }
}

/// The most load that no feeder drops for which the loss of each set is covered, with all the fast load that is drawn now.
fn reserve(island: &Site, fast: i64) -> f64 {
    let limits = island.losses.iter().map(|loss| {
        let most = (i128::from(loss.rest) * i128::from(fast) + loss.base) / i128::from(loss.rating.max(1));
        most as f64 + 1.0
    });
    limits.fold(f64::MAX, f64::min)
}

/// The most that those save who start slower, over all pools of an island: whoever is asked for and may, on every free GPU.
fn saved(problem: &Problem, site: usize) -> f64 {
    let pools = problem.pools.iter().filter(|pool| problem.modules[pool.module].site == site);
    let of = |pool: &super::super::problem::Pool| {
        let jobs = problem.jobs.iter().filter(|job| job.gpu == pool.gpu && pool.least(job).is_some());
        let gpus: i64 = jobs.map(|job| job.gpus).sum();
        let least = pool.curve.first().map_or(pool.per_gpu, |&(least, _)| least);
        let module = &problem.modules[pool.module];
        let watts = (pool.per_gpu - least).max(0) * gpus.min(pool.free[0]).max(0);
        watts as f64 * (1_000 + module.loss_permille) as f64 * 1.01 / 1_000.0
    };
    pools.filter(|pool| !pool.curve.is_empty()).map(of).sum()
}

/// The corners of the upper hull, as far as it rises or falls to the right.
fn hull(points: Vec<(usize, f64)>) -> Vec<(usize, f64)> {
    let mut kept: Vec<(usize, f64)> = Vec::with_capacity(points.len());
    for point in points {
        let below = |a: (usize, f64), b: (usize, f64)| {
            (b.1 - a.1) * (point.0 - a.0) as f64 <= (point.1 - a.1) * (b.0 - a.0) as f64
        };
        while kept.len() >= 2 && below(kept[kept.len() - 2], kept[kept.len() - 1]) {
            kept.pop();
        }
        kept.push(point);
    }
    kept
}

/// The gangs that start in so many GPUs of a pool.
fn starts(pool: &Pool, packing: &Packing, gpus: usize, share: f64, into: &mut Vec<(usize, f64)>) {
    if pool.is_large() {
        into.extend(packing.densest().map(|gang| (gang.class, share * gpus as f64 / gang.gpus as f64)));
    } else {
        packing.taken(gpus, share, into);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn power_is_taken_from_slack_then_from_the_worst_miners() {
        let check = |wanted, density, expected| {
            let mut power = Power { slack: 10.0, mining: vec![(10.0, 3.0), (10.0, 1.0)] };
            assert_eq!(power.take(wanted, density), expected, "{wanted} W at {density}");
        };
        check(5.0, 2.0, (5.0, 10.0));
        check(15.0, 2.0, (15.0, 25.0));
        check(40.0, 2.0, (20.0, 30.0));
        check(25.0, 4.0, (25.0, 75.0));
        check(40.0, 4.0, (40.0, 120.0));
    }

    #[test]
    fn a_hull_leaves_out_what_lies_below() {
        assert_eq!(hull(vec![(0, 0.0), (1, 1.0), (2, 4.0), (4, 5.0)]), [(0, 0.0), (2, 4.0), (4, 5.0)]);
        assert_eq!(hull(vec![(0, 2.0)]), [(0, 2.0)]);
    }
}
