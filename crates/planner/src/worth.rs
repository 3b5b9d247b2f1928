//! Money by the hour: fuel, mining, and what a kilowatt would earn.
//!
//! Integer micro-dollars throughout. Gas has a price per thousand cubic feet, which may be negative. Read next: `mining`.

use model::market::Market;
use model::module::MinerGroup;
use model::site::Site;
use model::{Hashrate, MicroDollars, Watts};

use crate::island::Island;

/// What the gas for `power` costs in an hour.
pub(crate) fn fuel_per_hour(site: &Site, power: Watts) -> MicroDollars {
    // scf a day ÷ 24 ÷ 1,000 = MCF an hour.
    site.gas_price.fraction(site.gas_for(power).get(), 24_000)
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

/// What a group earns in an hour, before fuel and wear.
pub(crate) fn group_per_hour(group: &MinerGroup, market: &Market, awake: u32, point: usize) -> MicroDollars {
    let rate = group.points.get(point).map_or(Hashrate::ZERO, |point| point.rate);
    market.hashprice().per_hour(rate.times(awake.into()))
}
