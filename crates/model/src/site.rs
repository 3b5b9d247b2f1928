//! A site: one electrical island with its gas, generator sets, storage and grid tie. Configuration only; what a site *does*
//! stands in [`crate::report::SiteReport`].

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::fuel::{Fuel, NO_LOAD_PERMILLE};
use crate::id::{GasSourceId, GensetId, SiteId};
use crate::time::Span;
use crate::unit::{MicroDollars, Quantity, Unit, WattSeconds, Watts, WattsPerSecond};

/// Marker of [`GasFlow`].
#[derive(Debug)]
pub enum CubicFootPerDay {}
/// Marker of [`GasVolume`].
#[derive(Debug)]
pub enum CubicFoot {}
/// Marker of [`Frequency`].
#[derive(Debug)]
pub enum Millihertz {}

impl Unit for CubicFootPerDay {
    const SYMBOL: &'static str = "scf/d";
}
impl Unit for CubicFoot {
    const SYMBOL: &'static str = "scf";
}
impl Unit for Millihertz {
    const SYMBOL: &'static str = "mHz";
}

/// Gas a day, in standard cubic feet. 1 MCF/day is 1,000 of these.
pub type GasFlow = Quantity<CubicFootPerDay>;
/// An amount of gas, in standard cubic feet.
pub type GasVolume = Quantity<CubicFoot>;
/// Electrical frequency in millihertz: 60 Hz is 60,000.
pub type Frequency = Quantity<Millihertz>;

impl GasFlow {
    /// A flow in thousand cubic feet a day, the field's usual unit.
    pub const fn mcf(mcf_per_day: i64) -> Self {
        Self::new(mcf_per_day.saturating_mul(1_000))
    }

    /// The gas that flows in `span`, rounded toward zero.
    pub const fn for_span(self, span: Span) -> GasVolume {
        GasVolume::new(self.get()).fraction(span.millis(), 86_400_000)
    }
}

/// One electrical island.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Site {
    /// Its id, unique in the fleet.
    pub id: SiteId,
    /// Nominal frequency: 60,000 mHz or 50,000 mHz.
    pub nominal: Frequency,
    /// How its governors share load.
    pub governor: Governor,
    /// The wells or pipes that feed it.
    pub gas: BTreeMap<GasSourceId, GasSource>,
    /// The vessel or line pack between wells and engines.
    pub buffer: GasBuffer,
    /// The generator sets.
    pub gensets: BTreeMap<GensetId, Genset>,
    /// Battery storage, where there is one.
    #[serde(default)]
    pub storage: Option<Storage>,
    /// A tie to a grid, where there is one.
    #[serde(default)]
    pub grid: Option<GridTie>,
    /// What a load bank takes by itself where the sets would run below their minimum load, at most; zero where there is none.
    #[serde(default)]
    pub load_bank: Watts,
    /// Load of the pad that Flareshift does not manage (compressors, lights), at most.
    pub unmanaged: Watts,
    /// What a thousand cubic feet cost; negative where the producer pays to be rid of them.
    pub gas_price: MicroDollars,
    /// An independent under-frequency relay guards the feeders. Without one, fast reserve earns no credit.
    pub relay: bool,
    /// The site exists only in a simulator. A controller that is not told to accept such sites refuses them.
    #[serde(default)]
    pub simulated: bool,
}

/// How governors hold frequency.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "mode")]
pub enum Governor {
    /// One common set point: frequency returns to nominal.
    Isochronous,
    /// Frequency falls with load: `permille` of nominal from no load to full (40 to 50 are usual).
    Droop {
        /// Frequency droop from no load to full load, in thousandths of nominal.
        permille: u32,
    },
}

/// A well or pipe.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GasSource {
    /// Flow on an ordinary day.
    pub nominal: GasFlow,
    /// Heating value in Btu a standard cubic foot.
    pub btu_per_scf: u32,
    /// Whether that is the higher or the lower heating value. Mixing the two flatters capacity by a tenth.
    pub basis: HeatingBasis,
}

/// The basis of a heating value or heat rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HeatingBasis {
    /// Higher heating value (gross): pipeline gas has about 1,020 Btu/scf.
    Higher,
    /// Lower heating value (net), as engine vendors quote: about 920 Btu/scf.
    Lower,
}

impl HeatingBasis {
    /// Converts Btu on this basis to Btu on the lower basis by the ratio of pipeline gas, 920 to 1,020.
    pub const fn to_lower(self, btu: i64) -> i64 {
        match self {
            HeatingBasis::Lower => btu,
            HeatingBasis::Higher => btu.saturating_mul(920) / 1_020,
        }
    }
}

/// Gas held between wells and engines.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GasBuffer {
    /// Usable gas when full. What comes in beyond it is flared.
    pub capacity: GasVolume,
}

/// One generator set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Genset {
    /// Continuous rating at site conditions.
    pub rating: Watts,
    /// Lowest stable load.
    pub min_load: Watts,
    /// Largest block load it takes in one step.
    pub step: Watts,
    /// Fastest steady loading, hot.
    pub ramp: WattsPerSecond,
    /// From the request to start until it can carry load: cranking, synchronising, warm hold.
    pub start: Span,
    /// Shortest run once started.
    pub min_run: Span,
    /// Shortest stop before the next start.
    pub min_off: Span,
    /// Btu for a kilowatt-hour at full load.
    pub heat_rate: u32,
    /// Basis of `heat_rate`.
    pub basis: HeatingBasis,
    /// Gas burnt at no load, in thousandths of the gas at full load (see [`crate::fuel`]).
    #[serde(default = "no_load")]
    pub no_load_permille: u32,
    /// Inertia constant H in milliseconds: stored energy at nominal speed ÷ rating. 500 to 2,500 are usual.
    pub inertia: Span,
    /// Wear and fuel of one start.
    pub start_cost: MicroDollars,
    /// Wear and service of one running hour.
    pub hour_cost: MicroDollars,
}

fn no_load() -> u32 {
    NO_LOAD_PERMILLE
}

/// Battery storage behind an inverter that follows the sets: it cannot carry a dead bus. Energy is counted as what it still
/// delivers at the bus, so that the loss of a round trip is borne by the charge alone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Storage {
    /// Largest charge and discharge, at the bus.
    pub power: Watts,
    /// What it delivers from full to empty, in Ws.
    pub energy: WattSeconds,
    /// Delivered of what was taken, in thousandths: 850 to 920 are usual.
    pub efficiency_permille: u32,
    /// Measured time from the command to the whole change. `None` where nobody measured it: then it is no rung.
    #[serde(default)]
    pub response: Option<Span>,
    /// How long its rung must last: until miners sleep, other sets run or envelopes have expired. The energy for that is never
    /// spent by choice.
    pub reserve: Span,
    /// Wear of a megawatt-hour delivered.
    pub wear: MicroDollars,
}

/// A tie to a grid through a converter that follows the sets: it imports what it is told to, exports nothing, and cannot carry a
/// dead bus.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GridTie {
    /// Largest import.
    pub import: Watts,
    /// Price of a megawatt-hour where the tie's own signal says none. `None` = unknown, and then nothing is imported by choice.
    #[serde(default)]
    pub price: Option<MicroDollars>,
}

impl Storage {
    /// Energy that its rung counts on: the whole rating for the reserve window, or all there is where that is less.
    pub fn reserved(&self) -> WattSeconds {
        self.power.for_span(self.reserve).min(self.energy)
    }

    /// What `taken` at the bus adds to what it can deliver, rounded toward zero.
    pub fn kept_of(&self, taken: WattSeconds) -> WattSeconds {
        taken.fraction(self.efficiency_permille.into(), 1_000)
    }
}

impl GridTie {
    /// What `energy` costs at `price` a megawatt-hour, rounded toward zero.
    pub fn cost(price: MicroDollars, energy: WattSeconds) -> MicroDollars {
        // 1 MWh = 10^6 W × 3,600 s.
        price.fraction(energy.get(), 3_600_000_000)
    }
}

impl Site {
    /// The sum of all ratings.
    pub fn rating(&self) -> Watts {
        self.gensets.values().map(|set| set.rating).sum()
    }

    /// What all its sets burn together.
    pub fn fuel(&self) -> Fuel {
        Fuel::of(self, self.gensets.values())
    }

    /// Electric power that `flow` sustains where every set that runs is at full load, at their mean heat rate (by rating): the most
    /// that can be made of it. What some running sets make of it says [`Fuel::electric`].
    ///
    /// kW = MCF/day × Btu/scf × 1000 ÷ 24 ÷ heat rate, both on the lower heating value.
    pub fn electric(&self, flow: GasFlow) -> Watts {
        self.fuel().at_full_load(flow)
    }

    /// Gas for `power` where every set that runs is at full load: the least that it takes.
    pub fn gas_for(&self, power: Watts) -> GasFlow {
        self.fuel().least_gas(power)
    }

    /// Mean heating value of the sources by nominal flow, lower basis; zero without gas.
    pub(crate) fn btu_per_scf(&self) -> i64 {
        let flow: i64 = self.gas.values().map(|source| source.nominal.get()).sum();
        let heat = |source: &GasSource| {
            i128::from(source.nominal.get()) * i128::from(source.basis.to_lower(source.btu_per_scf.into()))
        };
        let heat = self.gas.values().map(heat).sum::<i128>() / i128::from(flow.max(1));
        i64::try_from(heat.max(0)).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn site(btu: u32, gas_basis: HeatingBasis, heat_rate: u32, set_basis: HeatingBasis) -> Site {
        let genset = Genset {
            rating: Watts::kilo(1_000),
            min_load: Watts::kilo(300),
            step: Watts::kilo(150),
            ramp: WattsPerSecond::new(20_000),
            start: Span::secs(120),
            min_run: Span::minutes(30),
            min_off: Span::minutes(10),
            heat_rate,
            basis: set_basis,
            no_load_permille: NO_LOAD_PERMILLE,
            inertia: Span::new(1_000),
            start_cost: MicroDollars::dollars(5),
            hour_cost: MicroDollars::dollars(10),
        };
        Site {
            id: SiteId::new("well-7").unwrap(),
            nominal: Frequency::new(60_000),
            governor: Governor::Isochronous,
            gas: [(
                GasSourceId::new("w1").unwrap(),
                GasSource { nominal: GasFlow::mcf(250), btu_per_scf: btu, basis: gas_basis },
            )]
            .into(),
            buffer: GasBuffer { capacity: GasVolume::new(1_000) },
            gensets: [(GensetId::new("g1").unwrap(), genset)].into(),
            storage: None,
            grid: None,
            load_bank: Watts::ZERO,
            unmanaged: Watts::ZERO,
            gas_price: MicroDollars::ZERO,
            relay: true,
            simulated: true,
        }
    }

    /// The field's table: at 1,020 Btu/scf, 8,500 / 9,500 / 10,500 Btu/kWh need 200 / 224 / 247 MCF/day for a megawatt.
    #[test]
    fn gas_for_a_megawatt_matches_the_published_table() {
        for (heat_rate, mcf) in [(8_500, 200), (9_500, 224), (10_500, 247)] {
            let site = site(1_020, HeatingBasis::Higher, heat_rate, HeatingBasis::Higher);
            let needed = site.gas_for(Watts::kilo(1_000)).get();
            assert!(
                (needed - mcf * 1_000).abs() <= 600,
                "{heat_rate} Btu/kWh: {needed} scf/day, not {mcf} MCF/day"
            );
        }
    }

    /// Part load raises the heat rate by 4, 12 and 25 % at 75, 50 and 30 % (published, rounded): the line lies on it, and above it where
    /// sets hardly run.
    #[test]
    fn a_set_at_part_load_burns_what_is_published() {
        let site = site(1_020, HeatingBasis::Higher, 9_500, HeatingBasis::Higher);
        let full = site.gas_for(Watts::kilo(1_000)).get();
        for (kilowatts, rise) in [(1_000, 1_000), (750, 1_040), (500, 1_120), (300, 1_280)] {
            let burnt = site.fuel().gas_for(Watts::kilo(kilowatts)).get();
            let rate = burnt * 1_000 * 1_000 / full / kilowatts;
            assert!((rate - rise).abs() <= 1, "{kilowatts} kW: {rate}");
        }
        assert_eq!(site.fuel().at_no_load().get(), full * 12 / 100);
    }

    /// Two sets at half load burn what one burns at full load and one at no load.
    #[test]
    fn a_set_more_on_the_bus_costs_its_no_load_gas() {
        let mut site = site(1_020, HeatingBasis::Higher, 9_500, HeatingBasis::Higher);
        let set = site.gensets.values().next().unwrap().clone();
        let (one, load) = (site.fuel(), Watts::kilo(1_000));
        site.gensets.insert(GensetId::new("g2").unwrap(), set);
        let two = site.fuel();
        let apart = two.gas_for(load) - one.gas_for(load) - one.at_no_load();
        assert!(apart.get().abs() <= 1, "{apart}");
        assert!(two.electric(GasFlow::mcf(224)) < one.electric(GasFlow::mcf(224)));
        let full = one.gas_for(load) + GasFlow::new(1);
        assert!((site.electric(full) - one.electric(full)).get() < 10, "at full load");
        assert_eq!(two.electric(one.at_no_load()), Watts::ZERO, "not even enough to turn both");
        let none = Fuel::of(&site, []);
        assert_eq!((none.electric(GasFlow::mcf(224)), none.gas_for(load)), (Watts::ZERO, GasFlow::ZERO));
    }

    /// What a flow sustains burns no more than the flow, and a watt more would, for any sets.
    #[test]
    fn what_gas_sustains_and_what_load_burns_are_inverse() {
        let site = site(1_020, HeatingBasis::Higher, 8_500, HeatingBasis::Lower);
        for flow in [30_000, 99_999, 123_457, 200_000, 777_777].map(GasFlow::new) {
            let power = site.fuel().electric(flow);
            assert!(site.fuel().gas_for(power) <= flow, "{flow}");
            assert!(site.fuel().gas_for(power + Watts::new(10)) >= flow, "{flow}");
        }
    }

    /// 100 kW for an hour at 45 dollars a megawatt-hour are 4.50 dollars.
    #[test]
    fn imported_energy_costs_by_the_megawatt_hour() {
        let hour = Watts::kilo(100).for_span(Span::hours(1));
        assert_eq!(GridTie::cost(MicroDollars::dollars(45), hour), MicroDollars::cents(450));
        assert_eq!(GridTie::cost(MicroDollars::ZERO, hour), MicroDollars::ZERO);
    }

    #[test]
    fn a_mixed_basis_is_converted_not_mixed() {
        let honest = site(1_020, HeatingBasis::Higher, 9_500, HeatingBasis::Higher);
        let mixed = site(1_020, HeatingBasis::Higher, 9_500, HeatingBasis::Lower);
        let ratio = mixed.electric(GasFlow::mcf(224)).ratio(honest.electric(GasFlow::mcf(224))).unwrap();
        assert!((ratio - 0.902).abs() < 0.01, "{ratio}");
    }

    #[test]
    fn power_and_gas_are_inverse_within_rounding() {
        let site = site(1_020, HeatingBasis::Higher, 9_500, HeatingBasis::Higher);
        let back = site.electric(site.gas_for(Watts::kilo(750)));
        assert!((back - Watts::kilo(750)).abs() < Watts::new(20), "{back:?}");
    }
}
