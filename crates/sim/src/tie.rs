//! A grid tie on the island's bus: a converter that follows the sets and imports what it is told to, and its meter.
//!
//! The converter draws from the grid and feeds the island at the island's own frequency, so the grid lends neither inertia nor
//! frequency, and a dead bus stays dead. Nothing is exported. Power slews straight from rest to the whole limit within
//! [`SLEW`]. Where frequency rises it gives way, as converters must (a straight line between [`BACK_FROM`] and [`BACK_TO`]): load
//! that is suddenly gone must not drive the sets. Energy is counted in whole milli-watt-seconds. What commands it:
//! `control/src/lead.rs`; what it does to frequency: [`crate::bus`].

use model::report::TieReport;
use model::site::GridTie;
use model::{MicroDollars, WattSeconds, Watts};

use crate::truth::TieTruth;

/// From rest to the whole limit, milliseconds [EE: a tenth of a second to some seconds].
const SLEW: f64 = 500.0;
/// From the whole limit to nothing where frequency rises, milliseconds: protection is faster than a set point [EE].
const BACK: f64 = 100.0;
/// Import gives way above this share of nominal frequency: 60.3 of 60 Hz [EE].
const BACK_FROM: f64 = 1.005;
/// And is nothing from here on: 61.2 of 60 Hz, below the sets' trip at 62.5 Hz [EE].
const BACK_TO: f64 = 1.02;

/// A tie as it is.
#[derive(Clone, Debug)]
pub(crate) struct Tie {
    limit: f64,
    wanted: f64,
    /// What it imports, watts; never negative.
    pub(crate) power: f64,
    /// mWs.
    imported: i64,
    /// What the grid's signal says a megawatt-hour costs.
    price: Option<MicroDollars>,
    /// The grid is gone, and nobody has brought it back yet.
    tripped: bool,
    live: bool,
}

impl Tie {
    pub(crate) fn new(config: &GridTie, live: bool) -> Self {
        Self {
            limit: config.import.as_f64().max(0.0),
            wanted: 0.0,
            power: 0.0,
            imported: 0,
            price: config.price,
            tripped: false,
            live,
        }
    }

    /// Whether it follows commands.
    pub(crate) fn is_ready(&self) -> bool {
        self.live && !self.tripped
    }

    /// What it shall import from now on, within its limit. False when it follows no command.
    pub(crate) fn set(&mut self, power: Watts) -> bool {
        if self.is_ready() {
            self.wanted = power.as_f64().clamp(0.0, self.limit);
        }
        self.is_ready()
    }

    /// The grid is gone, or back. False when that changes nothing.
    pub(crate) fn trip(&mut self, tripped: bool) -> bool {
        let changes = self.tripped != tripped;
        self.tripped = tripped;
        self.rest_unless_ready();
        changes
    }

    /// The grid's signal says another price, or none any more. False when that changes nothing.
    pub(crate) fn reprice(&mut self, price: Option<MicroDollars>) -> bool {
        let changes = self.price != price;
        self.price = price;
        changes
    }

    /// Counts one step of `millis` at the power of its beginning, then moves; `speed` is frequency as a share of nominal.
    pub(crate) fn step(&mut self, bus_is_live: bool, speed: f64, millis: f64) {
        self.imported += (self.power * millis + 0.5) as i64;
        self.live = bus_is_live;
        let left = ((BACK_TO - speed) / (BACK_TO - BACK_FROM)).clamp(0.0, 1.0);
        let target = self.wanted.min(self.limit * left);
        let reach = |whole: f64| self.limit / whole * millis;
        let down = if left < 1.0 { reach(BACK) } else { reach(SLEW) };
        self.power = target.clamp(self.power - down, self.power + reach(SLEW));
        self.rest_unless_ready();
    }

    /// What its converter, its meter and the grid's signal tell.
    pub(crate) fn report(&self) -> TieReport {
        TieReport {
            power: Some(Watts::from_f64(self.power)),
            register: Some(WattSeconds::new(self.imported / 1_000)),
            price: self.price,
            ready: self.is_ready(),
        }
    }

    pub(crate) fn truth(&self) -> TieTruth {
        TieTruth {
            ready: self.is_ready(),
            power: Watts::from_f64(self.power),
            imported: WattSeconds::new(self.imported / 1_000),
            price: self.price,
        }
    }

    fn rest_unless_ready(&mut self) {
        if !self.is_ready() {
            (self.wanted, self.power) = (0.0, 0.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 100 kW at 45 dollars a megawatt-hour.
    fn tie() -> Tie {
        Tie::new(&GridTie { import: Watts::kilo(100), price: Some(MicroDollars::dollars(45)) }, true)
    }

    fn run(tie: &mut Tie, kilowatts: i64, speed: f64, millis: i64) -> i64 {
        tie.set(Watts::kilo(kilowatts));
        (0..millis / 10).for_each(|_| tie.step(true, speed, 10.0));
        tie.truth().power.get() / 1_000
    }

    #[test]
    fn it_follows_a_command_within_its_slew_and_its_limit_and_never_exports() {
        let mut tie = tie();
        assert_eq!(run(&mut tie, 60, 1.0, 150), 30);
        assert_eq!(run(&mut tie, 60, 1.0, 150), 60);
        assert_eq!(run(&mut tie, 500, 1.0, 1_000), 100);
        assert_eq!(run(&mut tie, -500, 1.0, 1_000), 0);
    }

    #[test]
    fn its_meter_counts_what_it_imported() {
        let mut tie = tie();
        run(&mut tie, 100, 1.0, 500);
        let begun = tie.truth().imported;
        run(&mut tie, 100, 1.0, 36_000);
        assert_eq!(tie.truth().imported - begun, WattSeconds::kilowatt_hours(1));
        // Half a second of ramp is half of it at full power.
        assert!((begun - WattSeconds::new(24_500)).abs() <= WattSeconds::new(1_000), "{begun}");
    }

    #[test]
    fn it_gives_way_where_frequency_rises() {
        let mut tie = tie();
        assert_eq!(run(&mut tie, 100, 1.004, 1_000), 100);
        assert!((49..=50).contains(&run(&mut tie, 100, 1.0125, 1_000)));
        assert_eq!(run(&mut tie, 100, 1.03, 1_000), 0);
        assert_eq!(run(&mut tie, 100, 1.0, 1_000), 100, "and comes back");
    }

    #[test]
    fn a_dead_bus_and_a_lost_grid_end_the_import_and_a_new_price_is_told() {
        let mut tie = tie();
        run(&mut tie, 50, 1.0, 1_000);
        tie.step(false, 1.0, 10.0);
        assert_eq!((tie.power, tie.is_ready()), (0.0, false));
        tie.step(true, 1.0, 10.0);
        assert_eq!((tie.power, tie.is_ready()), (0.0, true), "it is back with the bus, at rest");
        run(&mut tie, 50, 1.0, 1_000);
        assert!(tie.trip(true) && !tie.trip(true));
        assert_eq!((tie.power, tie.set(Watts::kilo(10))), (0.0, false));
        assert!(tie.trip(false) && tie.set(Watts::kilo(10)));
        assert!(tie.reprice(None) && !tie.reprice(None));
        assert_eq!(tie.report().price, None);
    }
}
