//! The buying side of the dual: what orders gain at given prices of GPU time.
//!
//! An order holds its GPUs for its restart and its length; so a held GPU step pays its price × length ÷ (length + restart). It takes the
//! cheapest steps after it came, as many as it needs, and no more than are left. Used by [`super`].

use std::collections::BTreeMap;

use model::plan::STEP;
use model::workload::GpuTime;

use super::{BLOCK, Carried, Prices, step_from};
use crate::queue::RESTART;
use crate::world::{Order, World};

/// All orders of a world.
pub(super) struct Book {
    steps: usize,
    orders: Vec<Held>,
}

/// One order.
struct Held {
    kind: usize,
    /// The first step in which it can hold GPUs.
    from: usize,
    gpus: f64,
    /// Steps for which it wants to hold them.
    steps: f64,
    /// What a held GPU step pays.
    pays: f64,
}

impl Book {
    pub(super) fn of(world: &World, kinds: &BTreeMap<&str, usize>, carried: Carried) -> Self {
        let before = world.before.orders.iter().filter(|_| carried == Carried::Everything);
        let orders = before.chain(&world.orders).filter_map(|order| held(world, kinds, order));
        Self { steps: world.steps(), orders: orders.collect() }
    }

    /// The most that a GPU step pays.
    pub(super) fn dearest(&self) -> f64 {
        self.orders.iter().map(|order| order.pays).fold(0.0, f64::max)
    }

    /// What all gain; takes what they buy off `slope`.
    pub(super) fn value(&self, prices: &Prices, slope: &mut Prices) -> f64 {
        // The hours from cheap to dear, once for all orders of a type.
        let sorted: Vec<Vec<usize>> = prices
            .iter()
            .map(|hours| {
                let mut order: Vec<usize> = (0..hours.len()).collect();
                order.sort_by(|a, b| hours[*a].total_cmp(&hours[*b]).then(a.cmp(b)));
                order
            })
            .collect();
        let mut gained = 0.0;
        for order in &self.orders {
            let (hours, slope) = (&prices[order.kind], &mut slope[order.kind]);
            let mut left = order.steps;
            for &hour in &sorted[order.kind] {
                let gain = order.pays - hours[hour];
                if gain <= 0.0 || left <= 0.0 {
                    break;
                }
                let begin = (hour * BLOCK).max(order.from);
                let there = ((hour + 1) * BLOCK).min(self.steps).saturating_sub(begin) as f64;
                let taken = there.min(left);
                left -= taken;
                gained += gain * taken * order.gpus;
                slope[hour] -= taken * order.gpus;
            }
        }
        gained
    }
}

/// `None` for what nobody sells or nobody can serve.
fn held(world: &World, kinds: &BTreeMap<&str, usize>, order: &Order) -> Option<Held> {
    let price = world.price_of(order)?;
    let offering = world.fleet.offerings.iter().find(|offering| offering.tier == order.tier)?;
    let kind = *kinds.get(offering.gpu.as_str())?;
    let from = step_from(world, order.at);
    let left = world.steps().checked_sub(from).filter(|left| *left > 0)?;
    let gpus = f64::from(order.gpus.max(1));
    // What came before a window may run already, and then has no restart to pay.
    let restart = if order.at < world.start { 0.0 } else { RESTART.as_f64() / STEP.as_f64() };
    let length = order.amount.as_f64() / gpus / STEP.as_f64();
    let served = length.min(left as f64 - restart);
    if served <= 0.0 {
        return None;
    }
    let step_pays = GpuTime::of(1, STEP).cost(price).as_f64() + 1.0;
    Some(Held { kind, from, gpus, steps: served + restart, pays: step_pays * served / (served + restart) })
}
