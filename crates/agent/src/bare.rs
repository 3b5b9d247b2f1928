//! A plant without devices: a container in which nothing is wired yet. Everything but the time is unknown.
//!
//! An agent on it still serves its Stratum proxy, keeps its outbox and reports; a miner farm can try the proxy this way.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use api::clock::WallClock;
use control::port::{Command, Fast, Plant, Readings, SLOW_EVERY, Slow, TICK};
use model::report::Switch;
use model::time::Clock;

use crate::boot;

/// Ticks a slow reading comes after.
const SLOW_TICKS: u64 = SLOW_EVERY.get().unsigned_abs() / TICK.get().unsigned_abs();

/// No devices.
pub struct Bare {
    boot_id: String,
    next: Instant,
    ticks: u64,
}

impl Bare {
    /// A plant on this machine's clocks.
    pub fn new(boot_id: &str) -> Self {
        Self { boot_id: boot_id.to_owned(), next: Instant::now(), ticks: 0 }
    }
}

impl Plant for Bare {
    fn tick(&mut self) -> Option<Readings> {
        self.next += Duration::from_millis(TICK.get().unsigned_abs());
        match self.next.checked_duration_since(Instant::now()) {
            Some(wait) => thread::sleep(wait),
            // After a suspend the ticks that were missed are not made up for.
            None => self.next = Instant::now(),
        }
        self.ticks += 1;
        let fast = Fast {
            frequency: None,
            gensets: BTreeMap::new(),
            feeders: BTreeMap::new(),
            switch: Switch::Remote,
        };
        let slow = self.ticks.is_multiple_of(SLOW_TICKS).then(Slow::default);
        Some(Readings { now: WallClock.now(), boot: boot::stamp(&self.boot_id), fast, slow })
    }

    fn act(&mut self, _: &[Command]) {}
}
