//! What a GPU-hour costs us: gas, mining and runs that give way, a margin, and for what is promised the credits that are expected.
//!
//! An opportunity price of now: what miners would make of the watts at today's hashprice, less their gas, where power is short of
//! miners; nothing where all of them are awake. Read next: `outlook::price`.

use model::workload::Tier;
use model::{MicroDollars, SiteId, Watts};
use serde::{Deserialize, Serialize};

use super::{Request, Risks};
use crate::input::Input;
use crate::outlook;

/// A price and what it is made of, for one GPU-hour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Price {
    /// The least we ask.
    pub gpu_hour: MicroDollars,
    /// Gas, and mining that its watts displace.
    pub power: MicroDollars,
    /// The dearest spot run that gives way, where no GPUs are free beside them.
    pub displaced: MicroDollars,
    /// Added to both.
    pub margin: MicroDollars,
    /// Expected credits.
    pub credits: MicroDollars,
}

/// Most of a price that expected credits may be: beyond it, no price makes a promise that is not kept worth giving.
const MOST_CREDITS: i64 = 900;

/// The price at a site for `watts` of `request.gpus`; `credits` is what draws cost in thousandths of the price, on average.
pub(super) fn price(
    input: &Input,
    site: &SiteId,
    request: &Request,
    watts: Watts,
    credits: i64,
    risks: &Risks,
) -> Price {
    let each = Watts::new(watts.get() / i64::from(request.gpus.max(1)));
    let power = outlook::power_price(input, site, watts, each).at_least_zero();
    let displaced = displaced(input, site, request);
    let margin = (power + displaced).fraction(risks.margin.into(), 1_000);
    let cost = power + displaced + margin;
    let credits = credits.clamp(0, MOST_CREDITS);
    let gpu_hour = cost.fraction(1_000, 1_000 - credits);
    Price { gpu_hour, power, displaced, margin, credits: gpu_hour - cost }
}

/// The dearest spot run of the type, where the island has too few free GPUs in one pool.
fn displaced(input: &Input, site: &SiteId, request: &Request) -> MicroDollars {
    if request.tier == Tier::Spot {
        return MicroDollars::ZERO;
    }
    let mut dearest = MicroDollars::ZERO;
    for (id, given) in input.modules_of(site) {
        for (pool, config) in given.module.pools.iter().filter(|(_, pool)| pool.gpu == request.gpu) {
            let held = input.workloads.values().filter(|run| {
                let at = run.status.placement.as_ref().filter(|_| run.status.phase.holds());
                at.is_some_and(|at| at.module == *id && at.pool == *pool)
            });
            let taken: u32 = held.clone().map(|run| run.spec.gpus).sum();
            if config.total_gpus().saturating_sub(taken) >= request.gpus {
                return MicroDollars::ZERO;
            }
            let spots = held.filter(|run| run.spec.tier == Tier::Spot);
            dearest = spots.map(|run| run.spec.price).fold(dearest, MicroDollars::max);
        }
    }
    dearest
}
