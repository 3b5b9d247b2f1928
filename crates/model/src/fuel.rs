//! What running sets burn: a straight line over their load, with what they burn at no load.
//!
//! Sets on one bus share the load by rating, so an island has one line. It is Willans' line: the fuel of a throttled engine grows
//! straight with its load. 12 % of the full-load fuel at no load gives heat rates of +4, +12 and +28 % at 75, 50 and 30 % load, where
//! engines are said to have +4, +12 and +25 % (an engineering estimate of the field): a little too much at the lowest loads, so that
//! gas is never promised twice.

use crate::site::{GasFlow, Genset, Site};
use crate::unit::Watts;

/// Gas that a set burns at no load, in thousandths of what it burns at full load, where nobody measured it.
pub const NO_LOAD_PERMILLE: u32 = 120;

/// The fuel line of some sets of a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fuel {
    /// Lower heating value of the gas, Btu a standard cubic foot; zero without gas.
    btu_per_scf: i128,
    rating: i128,
    /// At no load, in W × Btu/kWh ÷ 1,000.
    idle: i128,
    /// From no load to full load, in the same unit.
    loaded: i128,
}

impl Fuel {
    /// The line of sets that share the load of a site. Without sets nothing is burnt and nothing sustained.
    pub fn of<'a>(site: &Site, sets: impl IntoIterator<Item = &'a Genset>) -> Self {
        let mut fuel = Self { btu_per_scf: site.btu_per_scf().into(), rating: 0, idle: 0, loaded: 0 };
        for set in sets {
            let rating = i128::from(set.rating.get());
            let heat = rating * i128::from(set.basis.to_lower(set.heat_rate.into()));
            let idle = i128::from(set.no_load_permille.min(1_000));
            fuel.rating += rating;
            fuel.idle += heat * idle;
            fuel.loaded += heat * (1_000 - idle);
        }
        fuel
    }

    /// The load that `flow` sustains; zero where it does not even keep the sets turning.
    pub fn electric(&self, flow: GasFlow) -> Watts {
        if self.loaded == 0 {
            return Watts::ZERO;
        }
        // scf/day × Btu/scf ÷ 24 h = Btu/h, and 1 kW × Btu/kWh = 1 Btu/h.
        let heat = i128::from(flow.get()) * self.btu_per_scf * 1_000_000 / 24;
        watts((heat - self.idle).max(0) * self.rating / self.loaded)
    }

    /// Gas for `load`, with what is burnt at no load.
    pub fn gas_for(&self, load: Watts) -> GasFlow {
        self.flow(self.idle + self.loaded * i128::from(load.get()) / self.rating.max(1))
    }

    /// Gas that the sets burn without any load.
    pub fn at_no_load(&self) -> GasFlow {
        self.flow(self.idle)
    }

    /// Gas for `load` more.
    pub fn gas_above(&self, load: Watts) -> GasFlow {
        self.flow(self.loaded * i128::from(load.get()) / self.rating.max(1))
    }

    /// The load that `flow` sustains where no set runs at part load.
    pub fn at_full_load(&self, flow: GasFlow) -> Watts {
        let heat = i128::from(flow.get()) * self.btu_per_scf * 1_000_000 / 24;
        watts(heat * self.rating / (self.idle + self.loaded).max(1))
    }

    /// Gas for `load` where no set runs at part load.
    pub fn least_gas(&self, load: Watts) -> GasFlow {
        self.flow((self.idle + self.loaded) * i128::from(load.get()) / self.rating.max(1))
    }

    fn flow(&self, heat: i128) -> GasFlow {
        let flow = heat * 24 / (self.btu_per_scf * 1_000_000).max(1);
        GasFlow::new(i64::try_from(flow).unwrap_or(i64::MAX))
    }
}

fn watts(watts: i128) -> Watts {
    Watts::new(i64::try_from(watts).unwrap_or(i64::MAX))
}
