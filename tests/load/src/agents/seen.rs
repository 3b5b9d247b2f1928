//! What the agents have seen together. Next: `main.rs`, which reads it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Times kept of each kind: ten minutes of 10,000 a second.
const MAX_TIMES: usize = 6_000_000;

#[derive(Debug, Default)]
pub struct Seen {
    /// Agents with a session in which a report was acknowledged.
    there: AtomicUsize,
    ended: AtomicUsize,
    times: Mutex<Times>,
}

#[derive(Debug, Default)]
struct Times {
    /// Microseconds from sending a report until its acknowledgement was read.
    latencies: Vec<u32>,
    /// Microseconds from when a report was meant to be sent until it was.
    late: Vec<u32>,
    /// When directives came, by the plan they are of.
    directives: BTreeMap<u64, Vec<Instant>>,
    /// When agents got their first acknowledgement since the restart.
    returned: Vec<Instant>,
}

impl Seen {
    fn times(&self) -> MutexGuard<'_, Times> {
        self.times.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn there(&self) -> usize {
        self.there.load(Ordering::Relaxed)
    }

    pub fn ended(&self) -> usize {
        self.ended.load(Ordering::Relaxed)
    }

    pub fn latencies(&self) -> Vec<u32> {
        self.times().latencies.clone()
    }

    pub fn late(&self) -> Vec<u32> {
        self.times().late.clone()
    }

    pub fn directives(&self) -> BTreeMap<u64, Vec<Instant>> {
        self.times().directives.clone()
    }

    /// How many came back in each second since `begun`.
    pub fn returned_by_second(&self, begun: Instant) -> Vec<usize> {
        let mut seconds = Vec::new();
        for at in &self.times().returned {
            let second = usize::try_from(at.saturating_duration_since(begun).as_secs()).unwrap_or(usize::MAX);
            seconds.resize(seconds.len().max(second.saturating_add(1)), 0);
            seconds[second] += 1;
        }
        seconds
    }

    /// Forgets the times, as a measurement begins.
    pub fn reset(&self) {
        let mut times = self.times();
        (times.latencies, times.late) = (Vec::new(), Vec::new());
        self.ended.store(0, Ordering::Relaxed);
    }

    pub fn begin_return(&self) {
        *self.times() = Times::default();
    }

    pub fn came(&self) {
        self.there.fetch_add(1, Ordering::Relaxed);
        self.times().returned.push(Instant::now());
    }

    /// A session ended; `was_there` if it had got an acknowledgement.
    pub fn went(&self, was_there: bool) {
        self.there.fetch_sub(usize::from(was_there), Ordering::Relaxed);
        self.ended.fetch_add(1, Ordering::Relaxed);
    }

    pub fn acknowledged(&self, micros: u32) {
        keep(&mut self.times().latencies, micros);
    }

    pub fn sent_late(&self, micros: u32) {
        keep(&mut self.times().late, micros);
    }

    pub fn told(&self, plan: u64) {
        self.times().directives.entry(plan).or_default().push(Instant::now());
    }
}

fn keep(times: &mut Vec<u32>, micros: u32) {
    if times.len() < MAX_TIMES {
        times.push(micros);
    }
}

/// Milliseconds.
pub struct Spread {
    p50: f64,
    p99: f64,
    worst: f64,
}

impl Spread {
    /// Of microseconds.
    pub fn of(mut all: Vec<u32>) -> Spread {
        all.sort_unstable();
        let at = |permille: usize| all.get(all.len() * permille / 1_000).copied().unwrap_or(0);
        let worst = all.last().copied().unwrap_or(0);
        let [p50, p99, worst] = [at(500), at(990), worst].map(|micros| f64::from(micros) / 1e3);
        Spread { p50, p99, worst }
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "p50 {:.2} ms, p99 {:.2} ms, worst {:.1} ms", self.p50, self.p99, self.worst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spreads_are_of_the_sorted_times() {
        let spread = Spread::of((1..=1_000).rev().map(|ms| ms * 1_000).collect());
        assert_eq!(spread.to_string(), "p50 501.00 ms, p99 991.00 ms, worst 1000.0 ms");
        assert_eq!(Spread::of(Vec::new()).to_string(), "p50 0.00 ms, p99 0.00 ms, worst 0.0 ms");
    }

    #[test]
    fn those_who_come_and_go_are_counted_once() {
        let seen = Seen::default();
        seen.came();
        seen.came();
        seen.went(true);
        seen.went(false);
        assert_eq!((seen.there(), seen.ended()), (1, 2));
        let counted: usize = seen.returned_by_second(Instant::now()).iter().sum();
        assert_eq!(counted, 2);
    }
}
