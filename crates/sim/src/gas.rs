//! Gas: what the wells send, the buffer between wells and engines, and the flare.
//!
//! The supply is a function of (seed, source, time), so a restart at the same simulated time sees the same gas. Its statistics
//! are those of a public field's daily series: 4 to 21 % of days without flow, 6 to 10 % partial days, a median change of 1 %
//! from day to day with a 95th percentile of 11 to 15 %, slugging over 5 to 60 min by ±10 to 40 %, and 1 to 4 compressor trips
//! a month of 10 min to 6 h. Who burns it: [`crate::genset`].

use model::site::{GasFlow, GasVolume, Site};
use model::{GasSourceId, Time};

use crate::dice::{Dice, Purpose, place};

/// Milliseconds of a day.
const DAY: i64 = 86_400_000;
/// The level walks anew from the first day of each block, so a day's level costs at most 128 draws.
const BLOCK: i64 = 128;
/// Daily innovations are ±0.01 × e^(1.56 n), n standard normal: their median is 1 % and their 95th percentile
/// 0.01 × e^(1.56 × 1.645) = 13 %.
const CHANGE_MEDIAN: f64 = 0.01;
const CHANGE_SPREAD: f64 = 1.56;
/// No day changes by more than this, in logarithms.
const CHANGE_MOST: f64 = 0.35;
/// The level stays within e^-0.35 … e^0.15 = 0.70 … 1.16 of nominal: it is reflected at the ends.
const LEVEL: (f64, f64) = (-0.35, 0.15);
/// Below this share of the buffer the header's pressure falls and the engines derate.
const LOW_PRESSURE: f64 = 0.05;
/// Share of the buffer that is full at the start.
const FULL_AT_START: f64 = 0.6;

/// All sources of a site and its buffer.
#[derive(Clone, Debug)]
pub(crate) struct Gas {
    sources: Vec<Source>,
    capacity: f64,
    /// Heating value of the mixture on the lower basis, Btu/scf.
    btu_per_scf: f64,
    /// What of the nominal supply a `gas-drop` left.
    pub(crate) left: f64,
    /// Inflow now, scf/s.
    pub(crate) inflow: f64,
    /// Gas in the buffer, scf.
    pub(crate) buffer: f64,
    /// Flare now, scf/s.
    pub(crate) flaring: f64,
    /// Volumes since the start, scf: supplied = burnt + flared + change of the buffer.
    pub(crate) supplied: f64,
    pub(crate) burnt: f64,
    pub(crate) flared: f64,
}

#[derive(Clone, Debug)]
struct Source {
    id: GasSourceId,
    nominal: f64,
    supply: Supply,
    lost: bool,
}

/// The supply of one source as a share of its nominal flow.
#[derive(Clone, Debug)]
pub struct Supply {
    seed: u64,
    place: u64,
    variability: f64,
    character: Character,
    day: Option<Day>,
}

/// What a well is like, for good.
#[derive(Clone, Copy, Debug)]
struct Character {
    zero_days: f64,
    partial_days: f64,
    trips_a_month: f64,
}

/// What one day brings.
#[derive(Clone, Copy, Debug)]
struct Day {
    number: i64,
    level: f64,
    /// Milliseconds of the day without flow: the day's own outage, and a compressor trip.
    outages: [(i64, i64); 2],
    slug: f64,
    period: f64,
    phase: f64,
}

/// What kind of day it is; for statistics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DayKind {
    /// Flows all day, but for slugging and compressor trips.
    Full,
    /// An outage of some hours.
    Partial,
    /// No flow.
    Zero,
}

impl Supply {
    /// The supply of the source `id` under `seed`; `variability` 0 makes it steady at nominal, 1 gives it the field's statistics.
    pub fn new(id: &GasSourceId, site: &str, seed: u64, variability: f64) -> Self {
        let place = place(site) ^ place(id.as_str()).rotate_left(17);
        let mut dice = Dice::new(seed, Purpose::GasCharacter, [place, 0]);
        let character = Character {
            zero_days: dice.between(0.04, 0.21),
            partial_days: dice.between(0.06, 0.10),
            trips_a_month: dice.between(1.0, 4.0),
        };
        Self { seed, place, variability: variability.clamp(0.0, 1.0), character, day: None }
    }

    /// The share of nominal flow at `at`.
    pub fn share_at(&mut self, at: Time) -> f64 {
        let number = at.millis().div_euclid(DAY);
        let day = match self.day {
            Some(day) if day.number == number => day,
            _ => self.draw(number).0,
        };
        self.day = Some(day);
        let millis = at.millis().rem_euclid(DAY);
        if day.outages.iter().any(|(from, to)| (*from..*to).contains(&millis)) {
            return 0.0;
        }
        let angle = std::f64::consts::TAU * (millis as f64 / day.period + day.phase);
        day.level * (1.0 + day.slug * angle.sin())
    }

    /// What kind of day the day of `at` is, and its level as a share of nominal.
    pub fn day_of(&self, at: Time) -> (DayKind, f64) {
        let (day, kind) = self.draw(at.millis().div_euclid(DAY));
        (kind, day.level)
    }

    fn draw(&self, number: i64) -> (Day, DayKind) {
        let mut dice = Dice::new(self.seed, Purpose::GasDay, [self.place, number.cast_unsigned()]);
        let v = self.variability;
        let kind = self.kind(dice.unit());
        let hours = dice.between(2.0, 16.0) * 3.6e6;
        let from = dice.between(0.0, DAY as f64 - hours) as i64;
        let outage = match kind {
            DayKind::Full => (0, 0),
            DayKind::Partial => (from, from + hours as i64),
            DayKind::Zero => (0, DAY),
        };
        let trips = dice.unit() < v * self.character.trips_a_month / 30.0;
        let start = dice.between(0.0, DAY as f64) as i64;
        // 10 min to 6 h, log-uniform: short trips are the usual ones. A trip ends with its day.
        let length = (6e5 * 36f64.powf(dice.unit())) as i64;
        let trip = if trips { (start, (start + length).min(DAY)) } else { (0, 0) };
        let day = Day {
            number,
            level: (self.level(number) * v).exp(),
            outages: [outage, trip],
            slug: dice.between(0.10, 0.40) * v,
            period: dice.between(5.0, 60.0) * 60_000.0,
            phase: dice.unit(),
        };
        (day, kind)
    }

    fn kind(&self, chance: f64) -> DayKind {
        let zero = self.character.zero_days * self.variability;
        let partial = zero + self.character.partial_days * self.variability;
        match chance {
            chance if chance < zero => DayKind::Zero,
            chance if chance < partial => DayKind::Partial,
            _ => DayKind::Full,
        }
    }

    /// The logarithm of the day's level: a walk with steps of the field's size, reflected at the ends of [`LEVEL`].
    fn level(&self, number: i64) -> f64 {
        let block = number.div_euclid(BLOCK);
        let mut dice = Dice::new(self.seed, Purpose::GasLevel, [self.place, block.cast_unsigned()]);
        let mut level = dice.between(-0.15, 0.10);
        for _ in 0..number.rem_euclid(BLOCK) {
            let size = (CHANGE_MEDIAN * (CHANGE_SPREAD * dice.normal()).exp()).min(CHANGE_MOST);
            let change = if dice.unit() < 0.5 { -size } else { size };
            // A step that would leave the band goes the other way: its size stays what the statistics say.
            let stays = (LEVEL.0..=LEVEL.1).contains(&(level + change));
            level = (if stays { level + change } else { level - change }).clamp(LEVEL.0, LEVEL.1);
        }
        level
    }
}

impl Gas {
    pub(crate) fn new(site: &Site, seed: u64, variability: f64, start: Time) -> Self {
        let sources: Vec<Source> = site
            .gas
            .iter()
            .map(|(id, source)| Source {
                id: id.clone(),
                // scf a day to scf a second.
                nominal: source.nominal.as_f64() / 86_400.0,
                supply: Supply::new(id, site.id.as_str(), seed, variability),
                lost: false,
            })
            .collect();
        let flow: f64 = site.gas.values().map(|source| source.nominal.as_f64()).sum();
        let heat: f64 = site
            .gas
            .values()
            .map(|source| source.nominal.as_f64() * source.basis.to_lower(source.btu_per_scf.into()) as f64)
            .sum();
        let capacity = site.buffer.capacity.as_f64().max(0.0);
        let btu_per_scf = if flow > 0.0 { heat / flow } else { 0.0 };
        let mut gas = Self {
            sources,
            capacity,
            btu_per_scf,
            left: 1.0,
            inflow: 0.0,
            buffer: capacity * FULL_AT_START,
            flaring: 0.0,
            supplied: 0.0,
            burnt: 0.0,
            flared: 0.0,
        };
        gas.sample(start);
        gas
    }

    /// Heating value of the mixture, Btu/scf on the lower basis; zero without gas.
    pub(crate) fn btu_per_scf(&self) -> f64 {
        self.btu_per_scf
    }

    /// Reads the wells; once a second is enough, since slugs last minutes.
    pub(crate) fn sample(&mut self, now: Time) {
        let left = self.left;
        self.inflow = self
            .sources
            .iter_mut()
            .map(|source| if source.lost { 0.0 } else { source.nominal * source.supply.share_at(now) * left })
            .sum();
    }

    /// Is found with `flow` from all wells together and so much in the buffer.
    pub(crate) fn find(&mut self, flow: GasFlow, buffer: GasVolume, now: Time) {
        let nominal: f64 = self.sources.iter().map(|source| source.nominal).sum();
        self.left = if nominal > 0.0 { flow.as_f64() / 86_400.0 / nominal } else { 0.0 };
        self.buffer = buffer.as_f64().clamp(0.0, self.capacity);
        self.sample(now);
    }

    /// Loses a source (all for `None`) or brings it back. False when there is no such source.
    pub(crate) fn lose(&mut self, id: Option<&GasSourceId>, lost: bool) -> bool {
        let hit = self.sources.iter_mut().filter(|source| id.is_none_or(|id| source.id == *id));
        hit.map(|source| source.lost = lost).count() > 0
    }

    /// One step of `dt` seconds in which the engines want `burn` scf/s.
    pub(crate) fn step(&mut self, burn: f64, dt: f64) {
        let level = self.buffer + (self.inflow - burn) * dt;
        let flared = (level - self.capacity).max(0.0);
        // What the engines wanted and the buffer no longer held was not burnt; the derate below follows within a step.
        let missing = (-level).max(0.0);
        self.buffer = level.clamp(0.0, self.capacity);
        self.supplied += self.inflow * dt;
        self.burnt += burn * dt - missing;
        self.flared += flared;
        self.flaring = flared / dt;
    }

    /// The share of their full burn `full` (scf/s) that the header's pressure lets the engines have: all while the buffer holds
    /// gas, the inflow alone when it is empty.
    pub(crate) fn limit(&self, full: f64) -> f64 {
        let pressure = if self.capacity > 0.0 { self.buffer / (self.capacity * LOW_PRESSURE) } else { 0.0 };
        if pressure >= 1.0 || full <= 0.0 {
            return 1.0;
        }
        let sustained = (self.inflow / full).clamp(0.0, 1.0);
        sustained + (1.0 - sustained) * pressure
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const DAYS: i64 = 2_000;

    fn supply(seed: u64, variability: f64) -> Supply {
        Supply::new(&GasSourceId::new("w1").unwrap(), "well-7", seed, variability)
    }

    fn days(seed: u64) -> Vec<(DayKind, f64)> {
        let supply = supply(seed, 1.0);
        (0..DAYS).map(|day| supply.day_of(Time(day * DAY))).collect()
    }

    #[test]
    fn two_thousand_days_have_the_fields_statistics() {
        for seed in 1..=5 {
            let days = days(seed);
            let share = |kind| days.iter().filter(|day| day.0 == kind).count() as f64 / DAYS as f64;
            let (zero, partial) = (share(DayKind::Zero), share(DayKind::Partial));
            // The bounds are widened by two standard errors of 2,000 draws: 2 × √(0.21 × 0.79 ÷ 2000) = 1.8 %.
            assert!((0.03..0.23).contains(&zero), "seed {seed}: {zero} of days without flow");
            assert!((0.048..0.112).contains(&partial), "seed {seed}: {partial} partial days");
            let mut changes: Vec<f64> =
                days.windows(2).map(|pair| (pair[1].1 / pair[0].1 - 1.0).abs()).collect();
            changes.sort_by(f64::total_cmp);
            let median = changes[changes.len() / 2];
            let p95 = changes[changes.len() * 95 / 100];
            assert!((0.008..0.012).contains(&median), "seed {seed}: median change {median}");
            assert!((0.10..0.16).contains(&p95), "seed {seed}: 95th percentile {p95}");
        }
    }

    #[test]
    fn compressors_trip_one_to_four_times_a_month() {
        for seed in 1..=5 {
            let supply = supply(seed, 1.0);
            let trips: Vec<i64> = (0..DAYS)
                .map(|day| supply.draw(day).0.outages[1])
                .filter(|trip| trip.1 > 0)
                .map(|trip| trip.1 - trip.0)
                .collect();
            let a_month = trips.len() as f64 * 30.0 / DAYS as f64;
            assert!((0.8..4.4).contains(&a_month), "seed {seed}: {a_month} trips a month");
            assert!(trips.iter().all(|length| *length <= 21_600_000), "seed {seed}");
        }
    }

    #[test]
    fn slugs_swing_a_full_day_by_ten_to_forty_percent() {
        let mut supply = supply(3, 1.0);
        let day = (0..DAYS)
            .find(|day| supply.draw(*day).1 == DayKind::Full && supply.draw(*day).0.outages[1].1 == 0)
            .unwrap();
        let level = supply.day_of(Time(day * DAY)).1;
        let flows: Vec<f64> =
            (0..86_400).map(|second| supply.share_at(Time(day * DAY + second * 1_000)) / level).collect();
        let most = flows.iter().copied().fold(0.0, f64::max);
        let least = flows.iter().copied().fold(9.0, f64::min);
        assert!((1.10..1.41).contains(&most) && (0.59..0.90).contains(&least), "{least}..{most}");
        let mean = flows.iter().sum::<f64>() / flows.len() as f64;
        assert!((mean - 1.0).abs() < 0.05, "slugs move gas, they make none: {mean}");
    }

    #[test]
    fn the_same_seed_and_time_give_the_same_gas_whatever_was_asked_before() {
        let at = Time(1_700_000_000_000);
        let mut fresh = supply(11, 1.0);
        let mut travelled = supply(11, 1.0);
        for hour in 0..500 {
            travelled.share_at(Time(at.millis() - hour * 3_600_000));
        }
        assert_eq!(fresh.share_at(at), travelled.share_at(at));
        let differs = (0..200).any(|day| {
            let at = Time(at.millis() + day * DAY);
            supply(11, 1.0).share_at(at) != supply(12, 1.0).share_at(at)
        });
        assert!(differs, "the seed matters");
    }

    #[test]
    fn without_variability_gas_is_steady() {
        let mut supply = supply(5, 0.0);
        for day in 0..300 {
            assert_eq!(supply.share_at(Time(day * DAY + 1_234_567)), 1.0);
        }
    }
}
