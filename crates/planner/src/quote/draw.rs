//! The draws: wells, sets and causes that several share fail together, hour by hour, and promises are served as the planner would.
//!
//! - A run that is in place goes on while gas and sets carry it and those before it on its island. The loss of a set is what N-1
//!   guarded against, so firm runs survive it.
//! - What was stopped starts again only where N-1 holds in the state then in force: at home, or else on any island that has GPUs
//!   of the type and power to spare. Who is at home there is not displaced.
//! - Gangs that look for another place are counted as large as the largest of them, so whoever is said to find one does,
//!   wherever those before it went; and nothing that is added to a fleet ever takes it away.
//!
//! Read next: `carry` for what an island carries, `seat` for who asks.

use std::sync::Arc;

use model::Watts;

use super::carry::{Carry, Plant};
use super::outage::{Course, Part};

/// Longest time looked at: ninety days, in hours.
pub const MAX_HOURS: u32 = 2_160;

/// One island in the draws.
pub(super) struct Isle<'a> {
    pub(super) plant: Plant<'a>,
    /// It never reported.
    pub(super) silent: bool,
    /// What is drawn before any GPU works.
    pub(super) base: Watts,
    /// What weaker runs draw that nobody stops for a start.
    pub(super) held: Watts,
    /// Stops all its wells.
    pub(super) compressor: Part,
    pub(super) wells: Vec<Part>,
    /// Each set: failures, and service.
    pub(super) sets: Vec<[Part; 2]>,
    /// Where displaced gangs find GPUs.
    pub(super) bays: Vec<Bay>,
}

/// GPUs of one type in one module that nobody holds.
#[derive(Clone, Debug)]
pub(super) struct Bay {
    pub(super) kind: usize,
    /// In each pool.
    pub(super) free: Vec<u32>,
    /// What the module may still draw.
    pub(super) room: Watts,
    /// What a GPU draws at the module's meter.
    pub(super) each: Watts,
}

/// A promise, in order of rank.
#[derive(Clone, Debug)]
pub(super) struct Promise {
    pub(super) kind: usize,
    pub(super) gpus: u32,
    pub(super) firm: bool,
    /// Its island and what it draws there; `None` where it waits for a place.
    pub(super) home: Option<(usize, Watts)>,
    /// Whether it runs now.
    pub(super) runs: bool,
    /// Hours for which it is owed.
    pub(super) hours: u32,
    /// Availability promised, in thousandths.
    pub(super) level: u32,
    /// The islands it may run on, in order; `None` = any.
    pub(super) sites: Option<Arc<[usize]>>,
}

impl Promise {
    /// Whether it may run on an island.
    pub(super) fn may_run_on(&self, site: usize) -> bool {
        self.sites.as_ref().is_none_or(|sites| sites.binary_search(&site).is_ok())
    }
}

/// What became of a promise over all draws.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Draws in which it was not served for an hour or more.
    pub(super) interrupted: u32,
    /// Draws in which it moved to another island at least once.
    pub(super) moved: u32,
    /// Draws in which fewer hours than owed were served by the deadline.
    pub(super) late: u32,
    /// Hours owed and not served, over all draws, and the squares of each draw's.
    pub(super) lost: u64,
    pub(super) lost_squared: u64,
    /// Hours not served at home for which gas alone was to blame, and sets alone.
    pub(super) by_gas: u64,
    pub(super) by_sets: u64,
    /// Credits of each draw, summed, in thousandths of its price.
    pub(super) credits: u64,
}

/// A fleet whose future is drawn.
pub(super) struct Fleet<'a> {
    pub(super) isles: Vec<Isle<'a>>,
    /// Takes all wells of the fleet at once.
    pub(super) common: Part,
}

/// How the future is drawn.
#[derive(Clone, Copy, Debug)]
pub(super) struct Draws {
    pub(super) seed: u64,
    pub(super) count: u32,
    /// Hours until the deadline, no fewer than anybody asks about.
    pub(super) hours: u32,
}

/// One draw under way.
struct Future {
    common: Course,
    isles: Vec<IsleCourse>,
}

struct IsleCourse {
    compressor: Course,
    wells: Vec<Course>,
    sets: Vec<[Course; 2]>,
}

/// What one island carries in an hour, and why no more.
#[derive(Clone, Copy, Default)]
struct Now {
    carry: Carry,
    /// Had all sets been sound, and had all wells flowed.
    with_sets: Carry,
    with_gas: Carry,
    /// Drawn by base load and those at home.
    used: Watts,
}

/// How one promise fares in a draw.
#[derive(Clone, Copy, Default)]
struct State {
    home: bool,
    moved: bool,
    served: u32,
    lost: u32,
}

/// Draws the future and says how each promise fared; `credit` gives what a draw costs in credits from hours lost.
pub(super) fn draw(
    fleet: &mut Fleet<'_>,
    promises: &[Promise],
    draws: Draws,
    credit: impl Fn(&Promise, u32) -> u64,
) -> Vec<Tally> {
    let mut tallies = vec![Tally::default(); promises.len()];
    for nth in 0..draws.count {
        let mut course = Future::of(fleet, draws.seed, nth);
        let mut states: Vec<State> =
            promises.iter().map(|promise| State { home: promise.runs, ..State::default() }).collect();
        for hour in 0..draws.hours {
            let mut now = course.hour(fleet);
            serve(fleet, promises, &mut now, &mut states, &mut tallies, hour);
        }
        for ((promise, state), tally) in promises.iter().zip(&states).zip(&mut tallies) {
            tally.interrupted += u32::from(state.lost > 0);
            tally.moved += u32::from(state.moved);
            tally.late += u32::from(state.served < promise.hours);
            tally.lost += u64::from(state.lost);
            tally.lost_squared += u64::from(state.lost).pow(2);
            tally.credits += credit(promise, state.lost);
        }
    }
    tallies
}

/// One hour: those at home first, then those who look for another place, by rank.
fn serve(
    fleet: &Fleet<'_>,
    promises: &[Promise],
    now: &mut [Now],
    states: &mut [State],
    tallies: &mut [Tally],
    hour: u32,
) {
    // A promise that is not met stays owed until the deadline: who is behind asks on.
    let owed = |promise: &Promise, state: &State| hour < promise.hours || state.served < promise.hours;
    for (nth, (promise, state)) in promises.iter().zip(states.iter_mut()).enumerate() {
        let Some((site, watts)) = promise.home.filter(|_| owed(promise, state)) else { continue };
        let isle = &mut now[site];
        isle.used += watts;
        let fits = |carry: &Carry| isle.used <= limit(promise, state.home, watts, carry);
        let served = fits(&isle.carry);
        if !served && hour < promise.hours {
            let sets = fits(&isle.with_sets);
            tallies[nth].by_sets += u64::from(sets);
            tallies[nth].by_gas += u64::from(!sets && fits(&isle.with_gas));
        }
        state.home = served;
        state.served += u32::from(served);
    }
    let mut seekers = Seekers::default();
    for (promise, state) in promises.iter().zip(states.iter_mut()) {
        if state.home || !owed(promise, state) {
            continue;
        }
        seekers.join(promise);
        let away = seekers.slots(fleet, now, promise) >= seekers.rank;
        state.moved |= away && promise.home.is_some();
        state.served += u32::from(away);
        state.lost += u32::from(!away && hour < promise.hours);
    }
}

/// Most an island's load may be for a promise to be served at home.
fn limit(promise: &Promise, in_place: bool, watts: Watts, carry: &Carry) -> Watts {
    match (promise.firm, in_place) {
        (true, true) => carry.go,
        (false, true) => carry.other,
        _ if watts > carry.block => Watts::new(-1),
        (true, false) => carry.secure,
        (false, false) => carry.other,
    }
}

/// Who looks for another place so far in an hour.
#[derive(Default)]
struct Seekers {
    rank: u64,
    largest: u32,
}

impl Seekers {
    fn join(&mut self, promise: &Promise) {
        self.rank += 1;
        self.largest = self.largest.max(promise.gpus);
    }

    /// Places for gangs as large as the largest. Whoever came before takes one of them at most.
    fn slots(&self, fleet: &Fleet<'_>, now: &[Now], promise: &Promise) -> u64 {
        let gang = i64::from(self.largest.max(1));
        let of = |(_, (isle, now)): (usize, (&Isle<'_>, &Now))| {
            let each = isle.bays.iter().map(|bay| bay.each).max().unwrap_or_default();
            let watts = each.times(gang);
            let power = if promise.firm { now.carry.secure } else { now.carry.other };
            if watts > now.carry.block {
                return 0;
            }
            let fits = |room: Watts| room.at_least_zero().whole_times(watts.max(Watts::new(1)));
            let bays = isle.bays.iter().filter(|bay| bay.kind == promise.kind);
            let gpus: i64 = bays
                .map(|bay| {
                    bay.free.iter().map(|&free| i64::from(free) / gang).sum::<i64>().min(fits(bay.room))
                })
                .sum();
            gpus.min(fits(power - now.used - isle.held)).unsigned_abs()
        };
        let isles = fleet.isles.iter().zip(now).enumerate();
        isles.filter(|(site, _)| promise.may_run_on(*site)).map(of).sum()
    }
}

impl Future {
    fn of(fleet: &Fleet<'_>, seed: u64, nth: u32) -> Self {
        let begin = |part: &Part| part.course(seed, nth);
        let isle = |isle: &Isle<'_>| IsleCourse {
            compressor: begin(&isle.compressor),
            wells: isle.wells.iter().map(begin).collect(),
            sets: isle.sets.iter().map(|set| [begin(&set[0]), begin(&set[1])]).collect(),
        };
        Self { common: begin(&fleet.common), isles: fleet.isles.iter().map(isle).collect() }
    }

    /// Goes on by an hour.
    fn hour(&mut self, fleet: &mut Fleet<'_>) -> Vec<Now> {
        let dry = self.common.hour();
        let of = |(course, isle): (&mut IsleCourse, &mut Isle<'_>)| {
            let stopped = course.compressor.hour() || dry;
            let mask = |up: bool, nth: usize| u32::from(up) << nth;
            let flows = course.wells.iter_mut().enumerate().map(|(nth, well)| mask(!well.hour(), nth));
            let wells = flows.fold(0, |all, bit| all | bit) * u32::from(!stopped);
            // Both are asked in each hour, so that their streams go on.
            let sound = |set: &mut [Course; 2]| !set.each_mut().map(|course| course.hour()).contains(&true);
            let sets = course.sets.iter_mut().enumerate().map(|(nth, set)| mask(sound(set), nth));
            let sets = sets.fold(0, |all, bit| all | bit);
            let (all_wells, all_sets) = ((1 << course.wells.len()) - 1, (1 << course.sets.len()) - 1);
            Now {
                carry: isle.plant.carry(wells, sets),
                with_sets: isle.plant.carry(wells, all_sets),
                with_gas: isle.plant.carry(all_wells, sets),
                used: isle.base,
            }
        };
        self.isles.iter_mut().zip(&mut fleet.isles).map(of).collect()
    }
}
