//! Battery storage on the island's bus: an inverter that follows commands within its response time, and what its cells hold.
//!
//! The inverter follows the sets' frequency and cannot carry a dead bus: in a blackout it trips off and comes back with the bus.
//! Power slews straight from rest to the whole rating within the response time. Energy is counted as what it still delivers at the
//! bus, in whole milli-watt-seconds, so that held = at the start + efficiency × taken − delivered holds exactly. Cells that run
//! empty or full end the flow. What commands it: `control/src/lead.rs`; what it does to frequency: [`crate::bus`].

use model::report::StorageReport;
use model::site::Storage as Config;
use model::{WattSeconds, Watts};

use crate::truth::StorageTruth;

/// Slew of one whose response nobody measured: a second from rest to the whole rating [EE].
const UNMEASURED_MILLIS: f64 = 1_000.0;
/// Share of its energy that it holds at the start.
const HELD_AT_START: f64 = 0.5;

/// A storage as it is.
#[derive(Clone, Debug)]
pub(crate) struct Storage {
    rating: f64,
    capacity: i64,
    efficiency: f64,
    /// Watts a millisecond.
    slew: f64,
    wanted: f64,
    /// What it delivers, watts; negative while it charges.
    pub(crate) power: f64,
    /// mWs.
    held: i64,
    delivered: i64,
    taken: i64,
    lost_in_charge: i64,
    /// A fault has tripped it, and nobody has reset it yet.
    tripped: bool,
    live: bool,
}

impl Storage {
    pub(crate) fn new(config: &Config, live: bool) -> Self {
        let rating = config.power.as_f64().max(0.0);
        let response = config.response.map_or(UNMEASURED_MILLIS, |response| response.as_secs_f64() * 1_000.0);
        let capacity = config.energy.get().max(0) * 1_000;
        Self {
            rating,
            capacity,
            efficiency: f64::from(config.efficiency_permille) / 1_000.0,
            slew: rating / response.max(1.0),
            wanted: 0.0,
            power: 0.0,
            held: (capacity as f64 * HELD_AT_START) as i64,
            delivered: 0,
            taken: 0,
            lost_in_charge: 0,
            tripped: false,
            live,
        }
    }

    /// Whether it follows commands.
    pub(crate) fn is_ready(&self) -> bool {
        self.live && !self.tripped
    }

    /// What it shall deliver from now on, within its rating. False when it follows no command.
    pub(crate) fn set(&mut self, power: Watts) -> bool {
        if self.is_ready() {
            self.wanted = power.as_f64().clamp(-self.rating, self.rating);
        }
        self.is_ready()
    }

    /// A fault trips it, or a person resets it. False when that changes nothing.
    pub(crate) fn trip(&mut self, tripped: bool) -> bool {
        let changes = self.tripped != tripped;
        self.tripped = tripped;
        self.rest_unless_ready();
        changes
    }

    /// Counts one step of `millis` at the power of its beginning, then moves.
    pub(crate) fn step(&mut self, bus_is_live: bool, millis: f64) {
        let moved = (self.power.abs() * millis + 0.5) as i64;
        if self.power > 0.0 {
            let moved = moved.min(self.held);
            self.held -= moved;
            self.delivered += moved;
        } else if self.power < 0.0 {
            let kept = ((moved as f64 * self.efficiency) as i64).min(self.capacity - self.held);
            self.held += kept;
            self.taken += moved;
            self.lost_in_charge += moved - kept;
        }
        self.live = bus_is_live;
        let most = if self.held > 0 { self.rating } else { 0.0 };
        let least = if self.held < self.capacity { -self.rating } else { 0.0 };
        let target = self.wanted.clamp(least, most);
        let reach = self.slew * millis;
        self.power = target.clamp(self.power - reach, self.power + reach).clamp(least, most);
        self.rest_unless_ready();
    }

    /// What its inverter tells.
    pub(crate) fn report(&self) -> StorageReport {
        StorageReport {
            power: Some(Watts::from_f64(self.power)),
            held: Some(WattSeconds::new(self.held / 1_000)),
            ready: self.is_ready(),
        }
    }

    pub(crate) fn truth(&self) -> StorageTruth {
        StorageTruth {
            ready: self.is_ready(),
            power: Watts::from_f64(self.power),
            held: WattSeconds::new(self.held / 1_000),
            delivered: WattSeconds::new(self.delivered / 1_000),
            taken: WattSeconds::new(self.taken / 1_000),
            lost: WattSeconds::new(self.lost_in_charge / 1_000),
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
    use model::{MicroDollars, Span};

    use super::*;

    /// 100 kW and 2 kWh, half full, 90 %, whole within 100 ms.
    fn storage() -> Storage {
        let config = Config {
            power: Watts::kilo(100),
            energy: WattSeconds::kilowatt_hours(2),
            efficiency_permille: 900,
            response: Some(Span::new(100)),
            reserve: Span::minutes(1),
            wear: MicroDollars::ZERO,
        };
        Storage::new(&config, true)
    }

    fn run(storage: &mut Storage, kilowatts: i64, millis: i64) -> i64 {
        storage.set(Watts::kilo(kilowatts));
        (0..millis / 10).for_each(|_| storage.step(true, 10.0));
        storage.truth().power.get() / 1_000
    }

    #[test]
    fn it_follows_a_command_within_its_response_and_its_rating() {
        let mut storage = storage();
        assert_eq!(run(&mut storage, 60, 30), 30);
        assert_eq!(run(&mut storage, 60, 30), 60);
        assert_eq!(run(&mut storage, 500, 1_000), 100);
        assert_eq!(run(&mut storage, -500, 190), -90);
        assert_eq!(run(&mut storage, -500, 100), -100);
    }

    #[test]
    fn cells_that_are_empty_or_full_end_the_flow_and_no_energy_is_lost_unseen() {
        let mut storage = storage();
        let start = storage.truth().held;
        // 1 kWh at 100 kW: 36 s.
        assert_eq!(run(&mut storage, 100, 30_000), 100);
        assert_eq!(run(&mut storage, 100, 30_000), 0);
        assert_eq!(storage.truth().held, WattSeconds::ZERO);
        assert_eq!(storage.truth().delivered, start);
        // 2 kWh at 90 kW into the cells: 80 s.
        assert_eq!(run(&mut storage, -100, 70_000), -100);
        assert_eq!(run(&mut storage, -100, 30_000), 0);
        let truth = storage.truth();
        assert_eq!(truth.held, WattSeconds::kilowatt_hours(2));
        let gap = start + truth.taken - truth.lost - truth.delivered - truth.held;
        assert!(gap.get().abs() <= 2, "{truth:?}");
    }

    #[test]
    fn a_dead_bus_and_a_fault_trip_it_and_only_a_person_resets_a_fault() {
        let mut storage = storage();
        run(&mut storage, 50, 1_000);
        storage.step(false, 10.0);
        assert_eq!((storage.power, storage.is_ready()), (0.0, false));
        storage.step(true, 10.0);
        assert_eq!((storage.power, storage.is_ready()), (0.0, true), "it is back with the bus, at rest");
        run(&mut storage, 50, 1_000);
        assert!(storage.trip(true) && !storage.trip(true));
        assert_eq!(storage.power, 0.0);
        assert!(!storage.set(Watts::kilo(10)));
        assert!(storage.trip(false) && storage.set(Watts::kilo(10)));
    }
}
