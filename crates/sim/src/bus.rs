//! The island's bus: frequency by the swing equation, governors, protection.
//!
//! df/dt = f0 · (Pm − Pe) ÷ (2 · Σ H·S) over the sets on the bus; load falls by [`DAMPING`] percent for each percent of
//! frequency. Isochronous sets follow one common PI governor and share load by rating; droop sets a straight line. Protection
//! trips at 57.0 of 60 Hz after 1 s, at 62.5 Hz at once, and at 110 % load after 10 s (FACTS: 57.0 to 57.5 Hz after 1 to 2 s,
//! 62 to 63 Hz). The known answers this is tuned to are in `tests/physics.rs`. The engines: [`crate::genset`].

use model::report::GensetState;
use model::site::Governor;
use model::{GensetId, Time};

use crate::genset::{Refused, Set};

/// Load falls by this many percent for one percent of frequency; 1 to 2 with motors, less with power supplies alone [EE].
pub const DAMPING: f64 = 1.0;
/// Governor gain: full throttle for a deviation of 1 ÷ 20 = 5 % [EE: 3 to 6 %].
pub const GAIN: f64 = 20.0;
/// Integral gain, 1/s: GAIN ÷ INTEGRAL = 2.5 s, ten throttle lags, keeps the loop damped [EE].
pub const INTEGRAL: f64 = 8.0;
/// Under-frequency trip, share of nominal: 57.0 of 60 Hz, after [`UNDER_AFTER`] ms.
pub const UNDER: f64 = 0.95;
/// Delay of the under-frequency trip, milliseconds.
pub const UNDER_AFTER: i64 = 1_000;
/// Over-frequency trip, share of nominal: 62.5 of 60 Hz, at once.
pub const OVER: f64 = 62.5 / 60.0;
/// Overload trip, share of rating, after [`OVERLOAD_AFTER`] ms [EE].
pub const OVERLOAD: f64 = 1.10;
/// Delay of the overload trip, milliseconds.
pub const OVERLOAD_AFTER: i64 = 10_000;
/// A set below its least load for longer than this is in breach of it, milliseconds. Loading and unloading do not count.
pub const BELOW_MIN_AFTER: i64 = 30_000;
/// A set asked for more than digested load plus one step for longer than this was hit by too large a block, milliseconds:
/// swings of the governor itself die out within it.
pub const PAST_STEP_AFTER: i64 = 100;
/// Breaches within this time of a trip answer it; no plan asked for them, milliseconds.
const AFTERMATH: i64 = 15_000;

/// The bus and its sets.
#[derive(Clone, Debug)]
pub(crate) struct Bus {
    pub(crate) sets: Vec<Set>,
    governor: Governor,
    /// Hz.
    pub(crate) nominal: f64,
    /// Hz; meaningless on a dead bus.
    pub(crate) frequency: f64,
    /// The common load share of the isochronous governors, integral part.
    integral: f64,
    limited: bool,
    pub(crate) live: bool,
    last_trip: Option<Time>,
    /// What happened in the last step, for the island to take.
    pub(crate) happened: Vec<Happened>,
}

/// What happened on the bus.
#[derive(Clone, Debug, PartialEq)]
pub enum Happened {
    /// A set closed its breaker.
    Online(GensetId),
    /// A set left the bus by request.
    Off(GensetId),
    /// A set tripped with so many watts on it.
    Tripped(GensetId, Trip, f64),
    /// The last set left: no power.
    Blackout,
    /// A set left its limits.
    Breach(Breach),
}

/// Why a set tripped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trip {
    /// A fault was injected.
    Fault,
    /// Frequency too low for too long.
    UnderFrequency,
    /// Frequency too high.
    OverFrequency,
    /// Too much load for too long.
    Overload,
}

/// A set outside its limits.
#[derive(Clone, Debug, PartialEq)]
pub struct Breach {
    /// Which.
    pub set: GensetId,
    /// Which limit.
    pub kind: BreachKind,
    /// What was seen, watts.
    pub seen: f64,
    /// What is allowed, watts.
    pub limit: f64,
    /// It answers a trip of the last 15 s; no plan asked for it.
    pub aftermath: bool,
}

/// The limits of a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreachKind {
    /// Less than the least stable load for more than 30 s.
    MinLoad,
    /// A block larger than the digested load and one step.
    BlockStep,
}

impl Bus {
    pub(crate) fn new(sets: Vec<Set>, governor: Governor, nominal_hz: f64) -> Self {
        let live = sets.iter().any(Set::on_bus);
        Self {
            sets,
            governor,
            nominal: nominal_hz,
            frequency: nominal_hz,
            integral: 0.0,
            limited: false,
            live,
            last_trip: None,
            happened: Vec::new(),
        }
    }

    /// Puts the bus into balance with `load` watts, as it is found when a simulation begins.
    pub(crate) fn settle(&mut self, load: f64) {
        let rating: f64 = self.online().map(|set| set.rating).sum();
        let share = if rating > 0.0 { (load / rating).clamp(0.0, 1.0) } else { 0.0 };
        self.integral = share;
        if let Governor::Droop { permille } = self.governor {
            self.frequency = self.nominal * (1.0 - f64::from(permille) / 1_000.0 * share);
        }
        for set in self.sets.iter_mut().filter(|set| set.on_bus()) {
            set.mechanical = share * set.rating;
            set.digested = set.mechanical;
            set.electrical = set.mechanical;
        }
    }

    /// The factor by which frequency changes every load's draw.
    pub(crate) fn damping(&self) -> f64 {
        if self.live { 1.0 + DAMPING * (self.frequency - self.nominal) / self.nominal } else { 0.0 }
    }

    /// Fuel of all sets, scf/s.
    pub(crate) fn burn(&self) -> f64 {
        self.sets.iter().map(Set::burn).sum()
    }

    /// Fuel of all sets on the bus at full load, scf/s.
    pub(crate) fn full_burn(&self) -> f64 {
        self.online().map(|set| set.full_burn).sum()
    }

    /// One step: `load` watts at nominal frequency, of which storage carries `given`; `fuel` is the share of full power that gas
    /// pressure allows.
    pub(crate) fn step(&mut self, load: f64, given: f64, fuel: f64, now: Time, dt: f64) {
        self.start_and_stop(now, dt);
        if !self.live {
            return;
        }
        let electrical = load * self.damping() - given;
        let wanted = self.govern(dt);
        let mut limited = false;
        let (mut mechanical, mut rating, mut stored) = (0.0, 0.0, 0.0);
        for set in self.sets.iter_mut().filter(|set| set.on_bus()) {
            limited |= set.answer(wanted, fuel, dt);
            mechanical += set.mechanical;
            rating += set.rating;
            stored += set.inertia * set.rating;
        }
        self.limited = limited;
        // What the engines do not deliver comes out of, or goes into, the rotating masses.
        let accelerating = (mechanical - electrical) / rating;
        for set in self.sets.iter_mut().filter(|set| set.on_bus()) {
            set.electrical = set.mechanical - accelerating * set.rating;
        }
        self.frequency += self.nominal * (mechanical - electrical) / (2.0 * stored) * dt;
        self.protect(now, (dt * 1_000.0).round() as i64);
    }

    /// Trips a set by fault: the one named, or the largest on the bus by output. False when there is none.
    pub(crate) fn trip_by_fault(&mut self, id: Option<&GensetId>, now: Time) -> bool {
        let largest = || {
            let on_bus = self.sets.iter().enumerate().filter(|(_, set)| set.on_bus());
            // The first of equals, so that the choice does not hang on the last digit of a float.
            on_bus.rev().max_by_key(|(_, set)| set.electrical.round() as i64).map(|(index, _)| index)
        };
        let found = match id {
            Some(id) => self.sets.iter().position(|set| set.id == *id && set.state != GensetState::Tripped),
            None => largest(),
        };
        let Some(index) = found else { return false };
        self.trip(index, Trip::Fault, now);
        self.notice_blackout();
        true
    }

    /// A person resets the latch of one set, or of all. False when none was tripped.
    pub(crate) fn reset(&mut self, id: Option<&GensetId>, now: Time) -> bool {
        let tripped = |set: &&mut Set| set.state == GensetState::Tripped && id.is_none_or(|id| set.id == *id);
        self.sets.iter_mut().filter(tripped).map(|set| set.reset(now)).count() > 0
    }

    pub(crate) fn request(&mut self, id: &GensetId, run: bool, now: Time) -> Result<(), Refused> {
        let others = self.online().any(|set| set.state == GensetState::Online && set.id != *id);
        let set = self.sets.iter_mut().find(|set| set.id == *id).ok_or(Refused::State)?;
        if run {
            return set.request_start(now);
        }
        if set.state == GensetState::Online && !others {
            return Err(Refused::Last);
        }
        set.request_stop(now)
    }

    fn online(&self) -> impl Iterator<Item = &Set> {
        self.sets.iter().filter(|set| set.on_bus())
    }

    fn start_and_stop(&mut self, now: Time, dt: f64) {
        for set in &mut self.sets {
            if set.is_ready(now) {
                set.close(!self.live, now);
                if !self.live {
                    (self.live, self.frequency, self.integral) = (true, self.nominal, 0.0);
                }
                self.happened.push(Happened::Online(set.id.clone()));
            }
            set.load_softly(dt);
            if set.state == GensetState::Stopping && set.weight <= 0.0 {
                set.open(now);
                self.happened.push(Happened::Off(set.id.clone()));
            }
        }
        self.notice_blackout();
    }

    /// The load share that the governors ask of every set.
    fn govern(&mut self, dt: f64) -> f64 {
        let error = (self.nominal - self.frequency) / self.nominal;
        match self.governor {
            Governor::Isochronous => {
                // Winding up against a limit would overshoot once the limit lifts.
                if !(self.limited && error > 0.0) {
                    self.integral = (self.integral + INTEGRAL * error * dt).clamp(0.0, 1.0);
                }
                // Sets that still load take less; the others make it up through the integral.
                (GAIN * error + self.integral).clamp(0.0, 1.0)
            }
            Governor::Droop { permille } => (error / (f64::from(permille.max(1)) / 1_000.0)).clamp(0.0, 1.0),
        }
    }

    fn protect(&mut self, now: Time, millis: i64) {
        let ratio = self.frequency / self.nominal;
        for index in 0..self.sets.len() {
            let set = &mut self.sets[index];
            if !set.on_bus() {
                continue;
            }
            let count = |timer: i64, condition: bool| if condition { timer + millis } else { 0 };
            set.under = count(set.under, ratio < UNDER);
            set.overload = count(set.overload, set.electrical > OVERLOAD * set.rating);
            let trip = if ratio > OVER {
                Some(Trip::OverFrequency)
            } else if set.under >= UNDER_AFTER {
                Some(Trip::UnderFrequency)
            } else if set.overload >= OVERLOAD_AFTER {
                Some(Trip::Overload)
            } else {
                None
            };
            match trip {
                Some(trip) => self.trip(index, trip, now),
                None => self.watch_limits(index, now, millis),
            }
        }
        self.notice_blackout();
    }

    fn watch_limits(&mut self, index: usize, now: Time, millis: i64) {
        let aftermath = self.last_trip.is_some_and(|at| (now - at).millis() < AFTERMATH);
        let set = &mut self.sets[index];
        let loaded = set.state == GensetState::Online && set.weight >= 1.0;
        let before = (set.below_min, set.past_step);
        let count = |timer: i64, condition: bool| if condition { timer + millis } else { 0 };
        set.below_min = count(set.below_min, loaded && set.electrical < set.min_load);
        let block = set.electrical - set.digested;
        set.past_step = count(set.past_step, loaded && block > set.step);
        let crossed = |before: i64, after: i64, limit: i64| before < limit && after >= limit;
        let breach = |kind, seen, limit| {
            Happened::Breach(Breach { set: set.id.clone(), kind, seen, limit, aftermath })
        };
        if crossed(before.0, set.below_min, BELOW_MIN_AFTER) {
            self.happened.push(breach(BreachKind::MinLoad, set.electrical, set.min_load));
        }
        if crossed(before.1, set.past_step, PAST_STEP_AFTER) {
            self.happened.push(breach(BreachKind::BlockStep, block, set.step));
        }
    }

    fn trip(&mut self, index: usize, why: Trip, now: Time) {
        let set = &mut self.sets[index];
        self.happened.push(Happened::Tripped(set.id.clone(), why, set.electrical));
        set.trip(now);
        self.last_trip = Some(now);
    }

    fn notice_blackout(&mut self) {
        if self.live && !self.sets.iter().any(Set::on_bus) {
            self.live = false;
            self.happened.push(Happened::Blackout);
        }
    }
}
