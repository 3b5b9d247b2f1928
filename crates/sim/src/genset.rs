//! One generator set: its state, its engine's answer to load, its fuel.
//!
//! Two things limit how fast an engine takes load. The throttle lags by [`THROTTLE_LAG`]. And a gas engine's turbocharger must
//! spool up: at any instant the set can deliver what it has *digested* plus one block-load step of its rating; the digested load
//! follows over [`SPOOL_LAG`]. So a block within the step is taken at once, and two blocks need 5 to 10 s between them, as
//! vendors ask. Frequency and protection stand in [`crate::bus`].

use model::report::GensetState;
use model::site::Genset;
use model::{GensetId, Time, Watts};

/// First-order lag of throttle and actuator, seconds; 0.1 to 0.5 for gas engines [EE].
pub const THROTTLE_LAG: f64 = 0.25;
/// Time constant of the turbocharger, seconds: after two of them 86 % of a block is digested, the 5 to 10 s that vendors
/// ask between blocks [EE].
pub const SPOOL_LAG: f64 = 3.5;

/// Fuel at part load: (load, fuel at full load = 1). The heat rate rises by 0 / 4 / 12 / 25 % at 100 / 75 / 50 / 30 % load; the
/// first line goes on to the no-load fuel.
const FUEL: [(f64, f64); 5] = [(0.0, 0.0975), (0.30, 0.375), (0.50, 0.56), (0.75, 0.78), (1.0, 1.0)];

/// A set as it is.
#[derive(Clone, Debug)]
pub(crate) struct Set {
    pub(crate) id: GensetId,
    /// Watts.
    pub(crate) rating: f64,
    pub(crate) min_load: f64,
    pub(crate) step: f64,
    /// Soft loading: share of the rating a second.
    pub(crate) ramp: f64,
    start: i64,
    min_run: i64,
    min_off: i64,
    /// Inertia constant, seconds.
    pub(crate) inertia: f64,
    /// Fuel at full load, scf/s; zero where there is no gas to speak of.
    pub(crate) full_burn: f64,
    pub(crate) state: GensetState,
    pub(crate) since: Time,
    /// Mechanical power, watts.
    pub(crate) mechanical: f64,
    /// The load the turbocharger has digested, watts.
    pub(crate) digested: f64,
    /// Electrical output, watts.
    pub(crate) electrical: f64,
    /// Share of its proportional load that it takes: below 1 while it loads or unloads.
    pub(crate) weight: f64,
    /// Milliseconds for which each protection has seen its condition.
    pub(crate) under: i64,
    pub(crate) overload: i64,
    pub(crate) below_min: i64,
    pub(crate) past_step: i64,
    started_once: bool,
}

/// Why a request to a set was not followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It is tripped.
    #[error("the set is tripped; a person must reset it first")]
    Tripped,
    /// It ran until just now.
    #[error("the set stopped too recently; wait out its min_off")]
    MinOff,
    /// It started just now.
    #[error("the set started too recently; wait out its min_run")]
    MinRun,
    /// It is in no state for that.
    #[error("the set already does that or is in the middle of another move")]
    State,
    /// It is the last one.
    #[error("it is the only set on the bus; start another one first")]
    Last,
}

impl Set {
    pub(crate) fn new(id: &GensetId, set: &Genset, btu_per_scf: f64, online: bool, now: Time) -> Self {
        let rating = set.rating.as_f64();
        // Btu/kWh × kW ÷ 3600 s ÷ Btu/scf = scf/s, both on the lower basis.
        let heat = set.basis.to_lower(set.heat_rate.into()) as f64;
        let full_burn = if btu_per_scf > 0.0 { heat * rating / 1_000.0 / 3_600.0 / btu_per_scf } else { 0.0 };
        Self {
            id: id.clone(),
            rating,
            min_load: set.min_load.as_f64(),
            step: set.step.as_f64(),
            ramp: set.ramp.as_f64() / rating.max(1.0),
            start: set.start.millis(),
            min_run: set.min_run.millis(),
            min_off: set.min_off.millis(),
            inertia: set.inertia.as_secs_f64(),
            full_burn,
            state: if online { GensetState::Online } else { GensetState::Off },
            since: now,
            mechanical: 0.0,
            digested: 0.0,
            electrical: 0.0,
            weight: if online { 1.0 } else { 0.0 },
            under: 0,
            overload: 0,
            below_min: 0,
            past_step: 0,
            started_once: false,
        }
    }

    /// Whether its breaker is closed.
    pub(crate) fn on_bus(&self) -> bool {
        matches!(self.state, GensetState::Online | GensetState::Stopping)
    }

    /// Its electrical output for a meter.
    pub(crate) fn power(&self) -> Watts {
        Watts::from_f64(self.electrical)
    }

    /// Fuel now, scf/s.
    pub(crate) fn burn(&self) -> f64 {
        if self.on_bus() { self.full_burn * fuel_share(self.mechanical / self.rating) } else { 0.0 }
    }

    pub(crate) fn request_start(&mut self, now: Time) -> Result<(), Refused> {
        match self.state {
            GensetState::Tripped => Err(Refused::Tripped),
            GensetState::Off if self.started_once && (now - self.since).millis() < self.min_off => {
                Err(Refused::MinOff)
            }
            GensetState::Off => {
                self.enter(GensetState::Starting, now);
                Ok(())
            }
            GensetState::Starting | GensetState::Online | GensetState::Stopping => Err(Refused::State),
        }
    }

    pub(crate) fn request_stop(&mut self, now: Time) -> Result<(), Refused> {
        match self.state {
            GensetState::Tripped => Err(Refused::Tripped),
            GensetState::Starting => {
                self.enter(GensetState::Off, now);
                Ok(())
            }
            GensetState::Online if self.started_once && (now - self.since).millis() < self.min_run => {
                Err(Refused::MinRun)
            }
            GensetState::Online => {
                self.enter(GensetState::Stopping, now);
                Ok(())
            }
            GensetState::Off | GensetState::Stopping => Err(Refused::State),
        }
    }

    /// Puts it into the state in which it is found.
    pub(crate) fn find(&mut self, state: GensetState, since: Time) {
        self.enter(state, since);
        self.weight = if state == GensetState::Online { 1.0 } else { 0.0 };
        self.started_once = true;
    }

    /// Opens its breaker and latches it.
    pub(crate) fn trip(&mut self, now: Time) {
        self.enter(GensetState::Tripped, now);
    }

    /// A person resets the latch.
    pub(crate) fn reset(&mut self, now: Time) {
        if self.state == GensetState::Tripped {
            self.enter(GensetState::Off, now);
            self.started_once = false;
        }
    }

    /// Whether it has cranked, synchronised and warmed.
    pub(crate) fn is_ready(&self, now: Time) -> bool {
        self.state == GensetState::Starting && (now - self.since).millis() >= self.start
    }

    /// Closes its breaker: onto a dead bus it takes load at once, otherwise it loads softly.
    pub(crate) fn close(&mut self, dead_bus: bool, now: Time) {
        self.enter(GensetState::Online, now);
        self.weight = if dead_bus { 1.0 } else { 0.0 };
        self.started_once = true;
    }

    /// Leaves the bus after unloading.
    pub(crate) fn open(&mut self, now: Time) {
        self.enter(GensetState::Off, now);
    }

    /// The engine's answer over `dt` seconds to a wanted load (share of rating), within `fuel` (share of rating).
    /// True when something other than the governor limited it.
    pub(crate) fn answer(&mut self, wanted: f64, fuel: f64, dt: f64) -> bool {
        let asked = wanted * self.weight * self.rating;
        let most = (self.digested + self.step).min(fuel * self.rating).min(self.rating);
        let target = asked.min(most).max(0.0);
        self.mechanical += (target - self.mechanical) * (dt / THROTTLE_LAG);
        self.digested += (self.mechanical - self.digested) * (dt / SPOOL_LAG);
        asked > most
    }

    /// Moves the soft loading by `dt` seconds.
    pub(crate) fn load_softly(&mut self, dt: f64) {
        match self.state {
            GensetState::Online if self.weight < 1.0 => self.weight = (self.weight + self.ramp * dt).min(1.0),
            GensetState::Stopping => self.weight = (self.weight - self.ramp * dt).max(0.0),
            _ => {}
        }
    }

    fn enter(&mut self, state: GensetState, now: Time) {
        self.state = state;
        self.since = now;
        (self.under, self.overload, self.below_min, self.past_step) = (0, 0, 0, 0);
        if !self.on_bus() {
            (self.mechanical, self.digested, self.electrical, self.weight) = (0.0, 0.0, 0.0, 0.0);
        }
    }
}

/// Fuel at `load` (share of rating) as a share of the fuel at full load.
pub fn fuel_share(load: f64) -> f64 {
    let load = load.clamp(0.0, 1.1);
    let upper = FUEL.iter().position(|point| load <= point.0).unwrap_or(FUEL.len() - 1).max(1);
    let ((x0, y0), (x1, y1)) = (FUEL[upper - 1], FUEL[upper]);
    y0 + (y1 - y0) * (load - x0) / (x1 - x0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::reference;

    fn set(online: bool) -> Set {
        let fleet = reference::fleet();
        let (id, config) = fleet.sites[0].gensets.iter().next().unwrap();
        Set::new(id, config, 920.0, online, Time(0))
    }

    #[test]
    fn the_heat_rate_rises_at_part_load_as_published() {
        for (load, rise) in [(1.0, 1.0), (0.75, 1.04), (0.5, 1.12), (0.3, 1.25)] {
            let heat = fuel_share(load) / load;
            assert!((heat - rise).abs() < 1e-9, "{load}: {heat}");
        }
        assert!(fuel_share(0.1) / 0.1 > 1.8, "idling burns for nothing");
    }

    #[test]
    fn a_megawatt_burns_what_the_published_table_says() {
        // 1,020 Btu/scf higher = 920 lower; 9,500 Btu/kWh higher: 224 MCF/day for a megawatt.
        let fleet = reference::fleet();
        let mut config = fleet.sites[0].gensets.values().next().unwrap().clone();
        config.rating = Watts::kilo(1_000);
        config.heat_rate = 9_500;
        config.basis = model::site::HeatingBasis::Higher;
        let set = Set::new(&GensetId::new("g1").unwrap(), &config, 920.0, true, Time(0));
        let mcf_a_day = set.full_burn * 86_400.0 / 1_000.0;
        assert!((mcf_a_day - 224.0).abs() < 1.0, "{mcf_a_day}");
    }

    #[test]
    fn a_block_within_the_step_is_taken_at_once_and_a_second_one_must_wait() {
        let mut set = set(true);
        let step = set.step / set.rating;
        let limited: Vec<bool> = (0..50).map(|_| set.answer(step, 1.0, 0.01)).collect();
        assert!(limited.iter().all(|limited| !limited));
        let mut early = set.clone();
        assert!(early.answer(2.5 * step, 1.0, 0.01), "half a second later the turbocharger lags");
        for _ in 0..1_000 {
            set.answer(step, 1.0, 0.01);
        }
        assert!(!set.answer(1.9 * step, 1.0, 0.01), "ten seconds later it takes the next block");
    }

    #[test]
    fn requests_are_refused_with_a_reason() {
        let mut set = set(false);
        assert_eq!(set.request_stop(Time(0)), Err(Refused::State));
        assert_eq!(set.request_start(Time(0)), Ok(()));
        assert!(!set.is_ready(Time(1)));
        let ready = Time(set.start);
        assert!(set.is_ready(ready));
        set.close(false, ready);
        assert_eq!(set.weight, 0.0, "it loads softly onto a live bus");
        assert_eq!(set.request_stop(ready), Err(Refused::MinRun));
        let rested = Time(ready.millis() + set.min_run);
        assert_eq!(set.request_stop(rested), Ok(()));
        set.open(rested);
        assert_eq!(set.request_start(rested), Err(Refused::MinOff));
        set.trip(rested);
        assert_eq!(set.request_start(Time(i64::MAX)), Err(Refused::Tripped));
        set.reset(rested);
        assert_eq!(set.request_start(rested), Ok(()));
    }
}
