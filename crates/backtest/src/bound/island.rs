//! The selling side of the dual: what one island gains at given prices of GPU time, with the best use of its gas and buffer.
//!
//! In each step it serves what pays best a watt until the sets' ratings are reached, or nothing at all, not even auxiliaries. Gas
//! moves between steps through the buffer only; its price by step is found by a dynamic programme over some levels of it, which is
//! again a dual: rising from one step to the next costs the buffer's capacity × the rise. Servers and miners that are not in use draw
//! nothing here, since a strategy may have switched them off for good. Used by [`super`].

use std::collections::BTreeMap;

use model::plan::STEP;
use model::site::Site;
use model::{Span, Watts};

use super::{BLOCK, Prices, day};
use crate::world::{STEPS_A_DAY, World};

/// Levels of the price of gas: none, then two halves that cover what miners and what GPUs can pay.
const LEVELS: usize = 33;
/// Set beside each flow and the full buffer, for the cubic feet that rounding moves between steps.
const ROUNDED: (f64, f64) = (0.01, 2.0);
/// Taken off every load, for the watts that rounding leaves out.
const LESS: f64 = 2.0;

/// One island.
pub(super) struct Island {
    /// Gas that arrives in each step, and ratings of the sets that are not out of order.
    supply: Vec<f64>,
    rating: Vec<f64>,
    /// Micro-dollars for a hash, day by day.
    hash: Vec<f64>,
    /// Load that is there whenever the island is.
    base: f64,
    buffer: f64,
    /// Cubic feet for a watt and step.
    gas: f64,
    /// Micro-dollars for a cubic foot.
    price: f64,
    /// Micro-dollars for a watt and step, for the hours of sets.
    hours: f64,
    /// Watts, and hashes for a watt and step; the best first within a group.
    miners: Vec<(f64, f64)>,
    pools: Vec<Pool>,
    /// Prices of gas that are tried, ascending from zero.
    levels: Vec<f64>,
}

struct Pool {
    kind: usize,
    gpus: f64,
    /// For one busy GPU.
    watts: f64,
}

/// One way to use watts in a step.
#[derive(Clone, Copy)]
struct Use {
    /// Micro-dollars for a watt and step, before gas and set hours.
    pays: f64,
    watts: f64,
    /// The pool, for GPUs.
    pool: Option<usize>,
}

impl Island {
    pub(super) fn of(world: &World, site: &Site, kinds: &BTreeMap<&str, usize>) -> Self {
        let modules = || world.fleet.modules_of(&site.id);
        let auxiliaries: Watts = modules().map(|module| module.with_loss(module.auxiliary)).sum();
        let base = site.unmanaged + auxiliaries - Watts::new(modules().count() as i64);
        let mut island = Self {
            supply: supply(world, site),
            rating: ratings(world, site),
            hash: world
                .markets
                .iter()
                .map(|market| market.hashprice().per_zettahash.as_f64() / 1e21)
                .collect(),
            base: base.at_least_zero().as_f64(),
            buffer: site.buffer.capacity.at_least_zero().as_f64() + ROUNDED.1,
            // For a gigawatt, so that rounding is far behind the point.
            gas: site.gas_for(Watts::kilo(1_000_000)).as_f64() / STEPS_A_DAY as f64 / 1e9,
            price: site.gas_price.as_f64() / 1_000.0,
            hours: set_hours(site),
            miners: modules()
                .flat_map(|module| module.groups.values().flat_map(|group| hull(group, module.loss_permille)))
                .collect(),
            pools: modules().flat_map(|module| pools(module, kinds)).collect(),
            levels: Vec::new(),
        };
        island.levels = island.levels(world);
        island
    }

    /// What it gains over all steps; adds the GPU steps that it sells to `slope`.
    pub(super) fn value(&self, prices: &Prices, slope: &mut Prices) -> f64 {
        let count = self.levels.len();
        let steps = self.supply.len();
        // The least of the sum so far for each level of this step's price, and the level before that it came from.
        let mut least: Vec<f64> = self.levels.iter().map(|level| self.buffer * level).collect();
        let mut came: Vec<u8> = Vec::with_capacity(steps * count);
        let mut uses = Vec::new();
        for step in 0..steps {
            if step.is_multiple_of(BLOCK) {
                self.uses(step, prices, &mut uses);
            }
            let reached =
                if step == 0 { least.iter().copied().zip(0..).collect() } else { self.cheapest(&least) };
            for (level, (before, from)) in reached.into_iter().enumerate() {
                least[level] =
                    before + self.served(step, level, &uses).0 + self.levels[level] * self.supply[step];
                came.push(from);
            }
        }
        let last = (0..count).min_by(|a, b| least[*a].total_cmp(&least[*b])).unwrap_or(0);
        self.sold(prices, slope, &came, last);
        least[last]
    }

    /// For each level the least sum over the levels of the step before, with what the buffer earns by a rise; and that level.
    fn cheapest(&self, least: &[f64]) -> Vec<(f64, u8)> {
        let count = least.len();
        let mut cheapest: Vec<(f64, u8)> = least.iter().copied().zip(0..).collect();
        // A fall is free.
        for level in (0..count - 1).rev() {
            if cheapest[level + 1].0 < cheapest[level].0 {
                cheapest[level] = cheapest[level + 1];
            }
        }
        for level in 1..count {
            let risen = cheapest[level - 1].0 + self.buffer * (self.levels[level] - self.levels[level - 1]);
            if risen < cheapest[level].0 {
                cheapest[level] = (risen, cheapest[level - 1].1);
            }
        }
        cheapest
    }

    /// Walks back along the best levels and books what is sold.
    fn sold(&self, prices: &Prices, slope: &mut Prices, came: &[u8], last: usize) {
        let count = self.levels.len();
        let steps = self.supply.len();
        let mut path = vec![last; steps];
        for step in (1..steps).rev() {
            path[step - 1] = usize::from(came[step * count + path[step]]);
        }
        let mut uses = Vec::new();
        for (step, level) in path.into_iter().enumerate() {
            if step.is_multiple_of(BLOCK) {
                self.uses(step, prices, &mut uses);
            }
            let (_, taken) = self.served(step, level, &uses);
            let mut left = taken;
            for of in &uses {
                let watts = of.watts.min(left.max(0.0));
                left -= watts;
                if let Some(pool) = of.pool.map(|pool| &self.pools[pool]) {
                    slope[pool.kind][step / BLOCK] += watts / pool.watts;
                }
            }
        }
    }

    /// The ways to use watts, best first. They are the same for all steps of a block: hash prices are those of a day.
    fn uses(&self, step: usize, prices: &Prices, uses: &mut Vec<Use>) {
        uses.clear();
        let hash = self.hash.get(day(step)).copied().unwrap_or(0.0);
        uses.extend(self.miners.iter().map(|(watts, hashes)| Use {
            pays: hashes * hash,
            watts: *watts,
            pool: None,
        }));
        uses.extend(self.pools.iter().enumerate().map(|(index, pool)| Use {
            pays: prices[pool.kind][step / BLOCK] / pool.watts,
            watts: pool.watts * pool.gpus,
            pool: Some(index),
        }));
        uses.sort_by(|a, b| b.pays.total_cmp(&a.pays));
    }

    /// What a step earns at most when gas has the price of a level, and the watts that are used for it above the base.
    fn served(&self, step: usize, level: usize, uses: &[Use]) -> (f64, f64) {
        let cost = self.hours + self.gas * (self.levels[level] + self.price);
        let room = self.rating[step] - self.base;
        if room < 0.0 {
            return (0.0, 0.0);
        }
        let (mut left, mut gained) = (room, -cost * self.base);
        for of in uses {
            if of.pays <= cost || left <= 0.0 {
                break;
            }
            let watts = of.watts.min(left);
            gained += (of.pays - cost) * watts;
            left -= watts;
        }
        let used = room - left;
        // Where gas is paid for being burnt, load banks earn.
        gained += (-cost).max(0.0) * left;
        if gained > 0.0 { (gained, used) } else { (0.0, 0.0) }
    }

    /// Prices of gas that may be the right ones: what the miners' watts and what GPUs' watts leave for it.
    fn levels(&self, world: &World) -> Vec<f64> {
        let dearest = world.prices.values().map(|price| price.as_f64() / BLOCK as f64).fold(0.0, f64::max);
        let gpus = self.pools.iter().map(|pool| dearest / pool.watts).fold(0.0, f64::max);
        let (least, most) = self
            .hash
            .iter()
            .fold((f64::MAX, 0.0_f64), |(least, most), hash| (least.min(*hash), most.max(*hash)));
        let best = self.miners.iter().map(|(_, hashes)| *hashes).fold(0.0, f64::max);
        let worst = self.miners.iter().map(|(_, hashes)| *hashes).fold(best, f64::min);
        let left = |pays: f64| ((pays - self.hours) / self.gas.max(1e-12) - self.price).max(0.0);
        let (low, high, top) = (left(worst * least.min(most)), left(best * most), left(gpus));
        let half = (LEVELS - 1) / 2;
        let mining = (0..half).map(|nth| low + (high - low) * nth as f64 / (half - 1) as f64);
        let selling = (1..=half).map(|nth| high + (top - high).max(0.0) * nth as f64 / half as f64);
        let mut levels: Vec<f64> = std::iter::once(0.0).chain(mining).chain(selling).collect();
        levels.sort_by(f64::total_cmp);
        levels.dedup();
        levels
    }
}

/// Gas that arrives in each step.
fn supply(world: &World, site: &Site) -> Vec<f64> {
    let flows = world.gas.get(&site.id).into_iter().flatten().take(world.steps());
    flows.map(|flow| flow.at_least_zero().as_f64() / STEPS_A_DAY as f64 + ROUNDED.0).collect()
}

/// Ratings of the sets that are not out of order.
fn ratings(world: &World, site: &Site) -> Vec<f64> {
    let mut out: BTreeMap<_, Vec<bool>> = BTreeMap::new();
    for outage in world.outages.iter().filter(|outage| outage.site == site.id) {
        let steps = out.entry(&outage.genset).or_insert_with(|| vec![false; world.steps()]);
        steps.iter_mut().take(outage.until).skip(outage.from).for_each(|step| *step = true);
    }
    let there = |step: usize, id| !out.get(id).is_some_and(|steps| steps[step]);
    let rating = |step: usize| -> Watts {
        site.gensets.iter().filter(|(id, _)| there(step, *id)).map(|(_, set)| set.rating).sum()
    };
    (0..world.steps()).map(|step| rating(step).as_f64()).collect()
}

/// The least that a watt and step costs in hours of sets, when each is loaded to its rating.
fn set_hours(site: &Site) -> f64 {
    let each =
        site.gensets.values().map(|set| set.hour_cost.as_f64().max(0.0) / set.rating.as_f64().max(1.0));
    let least = each.fold(f64::MAX, f64::min);
    if least < f64::MAX { least / BLOCK as f64 } else { 0.0 }
}

/// What a group's points can do together: the upper hull of (watts, hashes a step), as pieces, the best first.
fn hull(group: &model::module::MinerGroup, loss_permille: u32) -> Vec<(f64, f64)> {
    let loss = 1.0 + f64::from(loss_permille) / 1_000.0;
    let count = f64::from(group.count);
    let seconds = STEP.as_f64() / Span::secs(1).as_f64();
    let of = |point: &model::module::OperatingPoint| {
        let watts = (point.power.as_f64() * count * loss - LESS).max(1.0);
        (watts, point.rate.as_f64().max(0.0) * count * seconds)
    };
    let mut points: Vec<(f64, f64)> = group.points.iter().map(of).filter(|_| group.count > 0).collect();
    points.sort_by(|a, b| a.0.total_cmp(&b.0).then(b.1.total_cmp(&a.1)));
    let mut pieces = Vec::new();
    let mut at = (0.0, 0.0);
    // From each corner on to the point with the steepest rise.
    while let Some(next) = points
        .iter()
        .filter(|point| point.0 > at.0 && point.1 > at.1)
        .max_by(|a, b| slope(at, **a).total_cmp(&slope(at, **b)).then(a.0.total_cmp(&b.0)))
    {
        pieces.push((next.0 - at.0, slope(at, *next)));
        at = *next;
    }
    pieces
}

fn slope(from: (f64, f64), to: (f64, f64)) -> f64 {
    (to.1 - from.1) / (to.0 - from.0)
}

fn pools<'a>(
    module: &'a model::module::Module,
    kinds: &'a BTreeMap<&str, usize>,
) -> impl Iterator<Item = Pool> + 'a {
    let loss = 1.0 + f64::from(module.loss_permille) / 1_000.0;
    module.pools.values().filter(|pool| pool.total_gpus() > 0).filter_map(move |pool| {
        let watts = pool.per_gpu().as_f64() * loss + pool.idle.as_f64() * loss / f64::from(pool.gpus.max(1));
        let kind = *kinds.get(pool.gpu.as_str())?;
        Some(Pool { kind, gpus: f64::from(pool.total_gpus()), watts: (watts - LESS).max(1.0) })
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use model::module::{Actuator, MinerGroup, OperatingPoint, ShedPath};
    use model::{Hashrate, MicroDollars};

    fn group(points: &[(i64, i64)]) -> MinerGroup {
        MinerGroup {
            model: "m".into(),
            count: 10,
            points: points
                .iter()
                .map(|(watts, tera)| OperatingPoint {
                    power: Watts::new(*watts),
                    rate: Hashrate::tera(*tera),
                })
                .collect(),
            standby: Watts::new(25),
            wake: Span::secs(30),
            sleep: Span::secs(5),
            dwell: Span::minutes(10),
            wear: MicroDollars::cents(5),
            shed: ShedPath { actuator: Actuator::Feeder, opens: None, rearm: Span::secs(30) },
            scale: 1,
        }
    }

    /// Watts a miner of each piece.
    fn check(points: &[(i64, i64)], expected: &[i64]) {
        let pieces = hull(&group(points), 0);
        let found: Vec<i64> = pieces.iter().map(|(watts, _)| (watts / 10.0).round() as i64).collect();
        assert_eq!(found, expected, "{points:?}");
        assert!(pieces.windows(2).all(|pair| pair[0].1 >= pair[1].1), "{pieces:?} is not concave");
    }

    #[test]
    fn a_hull_takes_the_steepest_corner_and_leaves_out_what_lies_below() {
        check(&[(2_600, 163), (3_500, 200)], &[2_600, 900]);
        check(&[(2_600, 120), (3_500, 200)], &[3_500]);
        check(&[(1_000, 100), (2_000, 110), (3_000, 190)], &[1_000, 2_000]);
        check(&[(1_000, 0)], &[]);
        assert!(hull(&MinerGroup { count: 0, ..group(&[(1_000, 50)]) }, 0).is_empty());
    }

    #[test]
    fn a_rise_of_the_price_of_gas_is_paid_to_the_buffer_and_a_fall_is_free() {
        let island = Island {
            supply: Vec::new(),
            rating: Vec::new(),
            hash: Vec::new(),
            base: 0.0,
            buffer: 10.0,
            gas: 0.0,
            price: 0.0,
            hours: 0.0,
            miners: Vec::new(),
            pools: Vec::new(),
            levels: vec![0.0, 1.0, 3.0],
        };
        assert_eq!(island.cheapest(&[0.0, 100.0, 100.0]), vec![(0.0, 0), (10.0, 0), (30.0, 0)]);
        assert_eq!(island.cheapest(&[100.0, 100.0, 0.0]), vec![(0.0, 2); 3]);
        assert_eq!(island.cheapest(&[50.0, 0.0, 100.0]), vec![(0.0, 1), (0.0, 1), (20.0, 1)]);
    }
}
