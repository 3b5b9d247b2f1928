//! An upper bound on what any strategy can earn in a world, whatever it knows: the upper side of the bracket around regret.
//!
//! It is a Lagrangian dual of a fluid relaxation. Relaxed: gangs may be split and served in any pieces, nothing is kept in reserve,
//! switching, credits, wear and set starts are free, the buffers are full at the begin. Kept, in every step: ratings of the sets that
//! are not out of order, gas and buffer, gas price, hours of sets by the share of their rating, auxiliaries and unmanaged load,
//! GPUs and their watts, what the miners' points give at the day's hash price, arrivals, lengths and restarts of orders. GPU time has a
//! price in each hour, gas one in each step: at given prices orders ([`orders`]) and islands ([`island`]) are closed forms or a small
//! dynamic programme. Any prices give a valid bound; good ones are searched by subgradients, bounded in rounds.
//!
//! An island may begin in any state, and earnings accrue step by step; so bounds of windows that follow each other add up to one of the
//! whole, if orders that came before a window are shown to it as [`Carried`].
//!
//! Invariant: no strategy's net money in the same world is above it (tests/backtest/bound.rs). Floats are used in a fixed order.

mod island;
mod orders;

use std::collections::BTreeMap;

use model::{MicroDollars, Time};

use crate::world::{STEPS_A_DAY, World};
use island::Island;
use orders::Book;

/// Steps that share a price of GPU time: an hour.
const BLOCK: usize = 12;
/// Prices of GPU time that are tried for the whole time, before they are refined hour by hour.
const FLAT: usize = 24;
/// Rounds of refinement: the bound rests after some forty.
const ROUNDS: usize = 60;
/// Rounds without a better bound after which steps are halved.
const PATIENCE: usize = 4;
/// Covers roundings of the books, in micro-dollars a site and step: each of gas, set hours, AI and mining is rounded by one at most.
const ROUNDING: f64 = 100.0;

/// Whether work that came before a window may be left to do in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carried {
    /// Nothing runs or waits when it begins, as in a replay.
    Nothing,
    /// Everything that came before it may still be to do, in full: for windows whose bounds shall add up.
    Everything,
}

/// Prices of GPU time in micro-dollars for a GPU and step, by GPU type and hour.
type Prices = Vec<Vec<f64>>;

/// No strategy earns more, net, in this world.
pub fn bound(world: &World, carried: Carried) -> MicroDollars {
    let kinds = kinds(world);
    let dual = Dual {
        blocks: world.steps().div_ceil(BLOCK),
        book: Book::of(world, &kinds, carried),
        islands: world.fleet.sites.iter().map(|site| Island::of(world, site, &kinds)).collect(),
        kinds: kinds.len(),
    };
    let rounding = ROUNDING * (world.steps() * world.fleet.sites.len() + world.orders.len()) as f64;
    MicroDollars::from_f64((dual.least() + rounding).ceil())
}

/// Numbers of the GPU types.
fn kinds(world: &World) -> BTreeMap<&str, usize> {
    let pools = world.fleet.modules.iter().flat_map(|module| module.pools.values());
    let names: std::collections::BTreeSet<&str> = pools.map(|pool| pool.gpu.as_str()).collect();
    names.into_iter().enumerate().map(|(number, name)| (name, number)).collect()
}

/// The first step that begins at or after `at`: before it nobody knows of what came then.
fn step_from(world: &World, at: Time) -> usize {
    let step = model::plan::STEP.get();
    let after = (at - world.start).get().max(0);
    usize::try_from((after + step - 1) / step).unwrap_or(usize::MAX)
}

struct Dual {
    kinds: usize,
    blocks: usize,
    book: Book,
    islands: Vec<Island>,
}

impl Dual {
    /// The least value found.
    fn least(&self) -> f64 {
        let flat = |price: f64| vec![vec![price; self.blocks]; self.kinds];
        let dearest = self.book.dearest();
        let mut prices = flat(0.0);
        let mut best = self.value(&prices).0;
        for nth in 1..=FLAT {
            let tried = flat(dearest * nth as f64 / FLAT as f64);
            let value = self.value(&tried).0;
            if value < best {
                (best, prices) = (value, tried);
            }
        }
        self.refine(prices, best)
    }

    /// Subgradient steps by Polyak, towards a guess of the optimum that comes nearer when nothing is gained.
    fn refine(&self, start: Prices, start_value: f64) -> f64 {
        let (mut best, mut best_at, mut at) = (start_value, start.clone(), start);
        let (mut aim, mut idle) = (0.05, 0);
        for _ in 0..ROUNDS {
            let (value, slope) = self.value(&at);
            if value < best {
                (best, best_at, idle) = (value, at.clone(), 0);
            } else {
                idle += 1;
            }
            if idle >= PATIENCE {
                (aim, idle, at) = (aim / 2.0, 0, best_at.clone());
                continue;
            }
            let steepness: f64 = slope.iter().flatten().map(|part| part * part).sum();
            if steepness <= 0.0 {
                break;
            }
            let length = (value - best + aim * best.abs()) / steepness;
            for (prices, slopes) in at.iter_mut().zip(&slope) {
                prices
                    .iter_mut()
                    .zip(slopes)
                    .for_each(|(price, slope)| *price = (*price - length * slope).max(0.0));
            }
        }
        best
    }

    /// The dual at some prices, and its subgradient: GPU steps that islands sell less those that orders buy.
    fn value(&self, prices: &Prices) -> (f64, Prices) {
        let mut slope = vec![vec![0.0; self.blocks]; self.kinds];
        let mut value = self.book.value(prices, &mut slope);
        for island in &self.islands {
            value += island.value(prices, &mut slope);
        }
        (value, slope)
    }
}

/// The day of a step.
const fn day(step: usize) -> usize {
    step / STEPS_A_DAY
}
