//! Money by the hour: fuel, mining, and what a kilowatt would earn.
//!
//! Integer micro-dollars throughout. Gas has a price per thousand cubic feet, which may be negative. Read next: `mining`.

use model::market::Market;
use model::module::{MinerGroup, Module};
use model::site::{GasFlow, Site};
use model::workload::{Tier, Workload};
use model::{Hashrate, MicroDollars, Watts};

use crate::dispatch::pay::FIRM_WEIGHT;
use crate::island::Island;

/// What the gas for `power` more costs in an hour, by the fuel line of all sets of the site: how many of them run shifts it, and hardly
/// turns it.
pub(crate) fn fuel_per_hour(site: &Site, power: Watts) -> MicroDollars {
    gas_per_hour(site, site.fuel().gas_above(power))
}

/// What so much gas costs in an hour.
pub(crate) fn gas_per_hour(site: &Site, gas: GasFlow) -> MicroDollars {
    // scf a day ÷ 24 ÷ 1,000 = MCF an hour.
    site.gas_price.fraction(gas.get(), 24_000)
}

/// What the best miners of an island would earn with `power` for an hour, before fuel.
pub(crate) fn mining_per_hour(island: &Island<'_>, market: &Market, power: Watts) -> MicroDollars {
    let groups = island.slots.values().flat_map(|slot| slot.module().groups.values());
    let earned = groups.flat_map(|group| group.points.iter().map(move |point| (group, point))).map(
        |(group, point)| {
            let above = (point.power - group.standby).get().max(1);
            Hashrate::new(point.rate.get()).fraction(power.get(), above)
        },
    );
    market.hashprice().per_hour(earned.max().unwrap_or(Hashrate::ZERO))
}

/// What a workload draws at the meter of a module; `None` where it has no such GPUs.
pub(crate) fn run_watts(one: &Workload, module: &Module) -> Option<Watts> {
    let pools = module.pools.values().filter(|pool| pool.gpu == one.spec.gpu);
    let each = pools.map(|pool| pool.per_gpu()).max()?;
    Some(module.with_loss(each.times(one.spec.gpus.into())))
}

/// What an hour of a workload is worth, firm work with the weight of a broken promise.
pub(crate) fn run_per_hour(one: &Workload) -> MicroDollars {
    let weight = if one.spec.tier == Tier::Firm { FIRM_WEIGHT } else { 1 };
    one.spec.price.times(i64::from(one.spec.gpus).saturating_mul(weight))
}

/// What a group earns in an hour, before fuel and wear.
pub(crate) fn group_per_hour(group: &MinerGroup, market: &Market, awake: u32, point: usize) -> MicroDollars {
    let rate = group.points.get(point).map_or(Hashrate::ZERO, |point| point.rate);
    market.hashprice().per_hour(rate.times(awake.into()))
}
