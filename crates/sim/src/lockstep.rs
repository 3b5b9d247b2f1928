//! Drives simulated islands 10 ms at a time, in step with everybody who acts on them.
//!
//! A step: every island advances; the clock follows; each agent's control thread gets its readings and its commands are taken
//! before the next step. So the outcome does not depend on how fast the machine is: the speed asked for is a ceiling, and
//! simulated time also waits for the participants of its clock and for the hashing that it owes.
//!
//! Read on: [`crate::island`] for what a step does, [`crate::clock`] for who is waited for.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use control::port::{Command, Plant, Readings, TICK};
use model::module::Module;
use model::time::Clock;
use model::{Hashrate, ModuleId, Span, Time};

use crate::clock::SimClock;
use crate::fault::Fault;
use crate::hashing::{Engine, MinerId};
use crate::island::Island;
use crate::miner_net::MinerFleet;

/// An agent that has not answered a tick for so long is let go: its thread is stuck or gone, and the site lives on.
const TICK_PATIENCE: Duration = Duration::from_secs(20);
/// How long one wait for participants or hashing lasts before the end is looked for.
const LOOK_UP: Duration = Duration::from_millis(100);
/// Lagging further behind the pace than this, the lockstep gives up catching up.
const MAX_LAG: Duration = Duration::from_millis(500);
/// Being ahead by less than this is not worth a sleep.
const WORTH_A_SLEEP: Duration = Duration::from_millis(1);

/// What runs in lockstep.
pub struct Config {
    /// The clock that is driven. It stands at the islands' time.
    pub clock: SimClock,
    /// The islands.
    pub islands: Vec<Island>,
    /// Simulated seconds for each second of wall time, at most.
    pub speed: f64,
    /// Physical faults; their times count from the start.
    pub faults: Vec<Fault>,
    /// When to stop; `None` = when told.
    pub until: Option<Time>,
    /// The hashing engine, and the hashes it may owe before time waits for it.
    pub hashing: Option<(Arc<Engine>, u64)>,
}

/// Who looks on: the witness, and whoever draws the table.
pub trait Observer: Send {
    /// Each 100 ms of simulated time, for each island.
    fn tenth(&mut self, island: &Island);
    /// Each second of simulated time, for each island.
    fn second(&mut self, island: &Island);
}

/// A cheap handle on the running lockstep.
#[derive(Clone)]
pub struct Handle {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    finished: AtomicBool,
    arrivals: Mutex<Vec<Seat>>,
    miners: Mutex<BTreeMap<ModuleId, Miners>>,
}

/// A module's simulated miners, and what one of them is rated at.
struct Miners {
    fleet: Arc<MinerFleet>,
    module: Module,
}

/// One agent in the lockstep.
struct Seat {
    module: ModuleId,
    readings: Sender<Readings>,
    commands: Receiver<Vec<Command>>,
}

/// A module's devices, as its agent's control thread sees them.
pub struct SimPlant {
    readings: Receiver<Readings>,
    commands: Sender<Vec<Command>>,
}

impl Plant for SimPlant {
    fn tick(&mut self) -> Option<Readings> {
        self.readings.recv().ok()
    }

    fn act(&mut self, commands: &[Command]) {
        // When the lockstep has ended, so does the next tick.
        let _ = self.commands.send(commands.to_vec());
    }
}

impl Handle {
    /// Seats an agent: from the next step on its module waits for it.
    pub fn attach(&self, module: &ModuleId) -> SimPlant {
        let (to_agent, readings) = mpsc::channel();
        let (commands, from_agent) = mpsc::channel();
        let seat = Seat { module: module.clone(), readings: to_agent, commands: from_agent };
        self.shared.arrivals.lock().unwrap_or_else(PoisonError::into_inner).push(seat);
        SimPlant { readings, commands }
    }

    /// Has the physics decide which of a module's miners hash, in place of the fleet it had before.
    pub fn attach_miners(&self, module: &Module, fleet: Arc<MinerFleet>) {
        let miners = Miners { fleet, module: module.clone() };
        self.shared.miners.lock().unwrap_or_else(PoisonError::into_inner).insert(module.id.clone(), miners);
    }

    /// Whether simulated time has reached its end. Agents stay seated until [`Handle::stop`], so that the fleet can be looked at.
    pub fn has_finished(&self) -> bool {
        self.shared.finished.load(Ordering::Acquire)
    }

    /// Ends the lockstep after the step at hand.
    pub fn stop(&self) {
        self.shared.stop.store(true, Ordering::Release);
    }
}

/// Starts the lockstep on a thread of its own; joining it gives the islands back.
pub fn start(config: Config, observer: Box<dyn Observer>) -> io::Result<(Handle, JoinHandle<Vec<Island>>)> {
    let shared = Arc::new(Shared::default());
    let mut lockstep = Lockstep::new(config, observer, shared.clone());
    let body = move || {
        while lockstep.may_go_on() {
            lockstep.step();
        }
        lockstep.linger();
        lockstep.islands
    };
    let thread = thread::Builder::new().name("lockstep".into()).spawn(body)?;
    Ok((Handle { shared }, thread))
}

struct Lockstep {
    clock: SimClock,
    islands: Vec<Island>,
    seats: Vec<Seat>,
    faults: Vec<(Time, Fault)>,
    until: Option<Time>,
    hashing: Option<(Arc<Engine>, u64)>,
    observer: Box<dyn Observer>,
    shared: Arc<Shared>,
    start: Time,
    now: Time,
    pace: Pace,
    rates: Vec<(MinerId, Hashrate)>,
}

impl Lockstep {
    fn new(config: Config, observer: Box<dyn Observer>, shared: Arc<Shared>) -> Self {
        let Config { clock, islands, speed, faults, until, hashing } = config;
        let start = clock.now();
        let mut faults: Vec<(Time, Fault)> =
            faults.into_iter().map(|fault| (start + fault.at, fault)).collect();
        faults.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
        Self {
            clock,
            islands,
            seats: Vec::new(),
            faults,
            until,
            hashing,
            observer,
            shared,
            start,
            now: start,
            pace: Pace::new(speed),
            rates: Vec::new(),
        }
    }

    /// Waits until the next step may be made. False when there is none.
    fn may_go_on(&mut self) -> bool {
        let next = self.now + TICK;
        self.pace.keep(self.now - self.start);
        loop {
            if self.shared.stop.load(Ordering::Acquire) || self.until.is_some_and(|until| next > until) {
                return false;
            }
            if self.hashing_is_behind() {
                thread::sleep(WORTH_A_SLEEP);
            } else if self.clock.wait_for_participants(next, LOOK_UP) {
                return true;
            }
        }
    }

    /// Time has ended; the agents wait for a tick that does not come until everybody is told to go.
    fn linger(&self) {
        self.shared.finished.store(true, Ordering::Release);
        while !self.shared.stop.load(Ordering::Acquire) {
            thread::sleep(LOOK_UP);
        }
    }

    fn hashing_is_behind(&self) -> bool {
        // Looked at each 100 ms of simulated time only: the sum runs over all miners.
        self.tenths(self.now) && self.hashing.as_ref().is_some_and(|(engine, most)| engine.backlog() > *most)
    }

    fn tenths(&self, now: Time) -> bool {
        (now - self.start).millis() % 100 == 0
    }

    fn step(&mut self) {
        self.now = self.now + TICK;
        self.strike();
        self.islands.iter_mut().for_each(Island::step);
        self.clock.advance(self.now);
        let second = (self.now - self.start).millis() % 1_000 == 0;
        self.exchange(second);
        if self.tenths(self.now) {
            self.hash();
            self.islands.iter().for_each(|island| self.observer.tenth(island));
        }
        if second {
            self.islands.iter().for_each(|island| self.observer.second(island));
        }
    }

    /// Applies the faults that are due.
    fn strike(&mut self) {
        while let Some((_, fault)) = self.faults.pop_if(|(at, _)| *at <= self.now) {
            let struck =
                self.islands.iter_mut().map(|island| island.fault(&fault)).filter(|hit| *hit).count();
            tracing::info!(fault = ?fault.kind, islands = struck, "a fault strikes");
        }
    }

    /// Gives every agent its readings, then takes every agent's commands: they tick side by side.
    fn exchange(&mut self, slow: bool) {
        let arrived =
            std::mem::take(&mut *self.shared.arrivals.lock().unwrap_or_else(PoisonError::into_inner));
        // A new agent of a module takes the seat of the one before: two never command one plant.
        self.seats.retain(|old| arrived.iter().all(|new| new.module != old.module));
        self.seats.extend(arrived);
        for seat in &self.seats {
            if let Some(island) = self.islands.iter().find(|island| stands_on(island, &seat.module)) {
                // Who is gone is noticed below.
                let _ = seat.readings.send(island.readings(&seat.module, slow));
            }
        }
        let islands = &mut self.islands;
        self.seats.retain(|seat| {
            let Some(island) = islands.iter_mut().find(|island| stands_on(island, &seat.module)) else { return false };
            match seat.commands.recv_timeout(TICK_PATIENCE) {
                Ok(commands) => {
                    island.apply(&seat.module, &commands);
                    true
                }
                Err(RecvTimeoutError::Disconnected) => false,
                Err(RecvTimeoutError::Timeout) => {
                    tracing::warn!(module = %seat.module, "an agent does not tick; the site goes on without it");
                    false
                }
            }
        });
    }

    /// Credits the hashes of the last tenth of a second.
    fn hash(&mut self) {
        let Some((engine, _)) = &self.hashing else { return };
        self.rates.clear();
        let miners = self.shared.miners.lock().unwrap_or_else(PoisonError::into_inner);
        for (id, Miners { fleet, module }) in miners.iter() {
            let Some(island) = self.islands.iter().find(|island| stands_on(island, id)) else { continue };
            for group in module.groups.keys() {
                fleet.set_errors(group, island.has_hardware_errors(id, group));
                fleet.rates(group, &island.hash_rates(id, group), &mut self.rates);
            }
        }
        engine.advance(Span::new(100), &self.rates);
    }
}

fn stands_on(island: &Island, module: &ModuleId) -> bool {
    island.has(module)
}

/// Keeps simulated time from running ahead of `speed` times wall time.
struct Pace {
    speed: f64,
    base: (Instant, Span),
}

impl Pace {
    fn new(speed: f64) -> Self {
        Self { speed: speed.max(f64::MIN_POSITIVE), base: (Instant::now(), Span::ZERO) }
    }

    fn keep(&mut self, elapsed: Span) {
        let wanted = (elapsed - self.base.1).as_secs_f64() / self.speed;
        // Beyond this a pace means "stand still": a day of wall time for one step.
        let wanted = Duration::from_secs_f64(wanted.min(86_400.0));
        let spent = self.base.0.elapsed();
        if let Some(ahead) = wanted.checked_sub(spent) {
            if ahead > WORTH_A_SLEEP {
                thread::sleep(ahead);
            }
        } else if spent.saturating_sub(wanted) > MAX_LAG {
            self.base = (Instant::now(), elapsed);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::island::Options;
    use crate::reference;

    struct Count(Arc<Mutex<(u32, u32)>>);

    impl Observer for Count {
        fn tenth(&mut self, _: &Island) {
            self.0.lock().unwrap().0 += 1;
        }
        fn second(&mut self, _: &Island) {
            self.0.lock().unwrap().1 += 1;
        }
    }

    fn one_island(start: Time) -> (Island, Module) {
        let fleet = reference::one_module();
        let module = fleet.modules[0].clone();
        (Island::new(&fleet.sites[0], &fleet.modules, 1, start, Options::default()), module)
    }

    fn run(seconds: i64, ticks_answered: Option<usize>) -> (u32, u32, usize) {
        let start = Time(1_000_000);
        let (island, module) = one_island(start);
        let counts = Arc::new(Mutex::new((0, 0)));
        let config = Config {
            clock: SimClock::new(start),
            islands: vec![island],
            speed: 1e6,
            faults: Vec::new(),
            until: Some(start + Span::secs(seconds)),
            hashing: None,
        };
        // The agent takes its seat before the first step: the observer's lock holds the thread until then.
        let gate = counts.lock().unwrap();
        let (handle, thread) = super::start(config, Box::new(Count(counts.clone()))).unwrap();
        let mut plant = handle.attach(&module.id);
        drop(gate);
        let agent = thread::spawn(move || {
            let mut ticks = 0;
            while ticks_answered.is_none_or(|most| ticks < most) && plant.tick().is_some() {
                ticks += 1;
                plant.act(&[]);
            }
            ticks
        });
        while !handle.has_finished() {
            thread::yield_now();
        }
        handle.stop();
        let islands = thread.join().unwrap();
        assert_eq!(islands[0].now(), start + Span::secs(seconds));
        let ticks = agent.join().unwrap();
        let (tenths, seconds) = *counts.lock().unwrap();
        (tenths, seconds, ticks)
    }

    #[test]
    fn observers_and_agents_see_every_step() {
        let (tenths, seconds, ticks) = run(3, None);
        assert_eq!((tenths, seconds), (30, 3));
        assert!((290..=300).contains(&ticks), "{ticks}");
    }

    #[test]
    fn a_site_goes_on_without_an_agent_that_left() {
        let (tenths, _, ticks) = run(2, Some(50));
        assert_eq!((tenths, ticks), (20, 50));
    }

    #[test]
    fn the_speed_is_a_ceiling() {
        let mut pace = Pace::new(100.0);
        let begun = Instant::now();
        pace.keep(Span::secs(2));
        assert!(begun.elapsed() >= Duration::from_millis(19), "two seconds at a hundred times real time");
    }
}
