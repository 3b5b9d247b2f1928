//! The clock that leases are counted on: a function from nothing to the time since some fixed start.
//!
//! Assumes: it never goes backwards. The default also counts the time in which the machine was suspended,
//! because a lease on a server elsewhere runs on meanwhile. Tests put a clock of their own here.
//! Read next: `election.rs`, `embedded/writer.rs`.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// A monotonic clock, cheap to clone.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Duration + Send + Sync>);

impl Clock {
    /// Time since boot, suspension included (`CLOCK_BOOTTIME`).
    pub fn boot() -> Self {
        Self::from_fn(|| {
            let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
            // The kernel's boot time is never negative; should it be, "just booted" is the honest reading.
            let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
            let nanos = u32::try_from(time.tv_nsec).unwrap_or(0);
            Duration::new(seconds, nanos)
        })
    }

    /// A clock that a test or a simulation drives. It must never go backwards.
    pub fn from_fn(now: impl Fn() -> Duration + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// Time since the clock's fixed start.
    pub fn now(&self) -> Duration {
        (self.0)()
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::boot()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clock").field("now", &self.now()).finish()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn boot_time_does_not_go_backwards() {
        let clock = Clock::boot();
        let readings: Vec<Duration> = (0..1000).map(|_| clock.now()).collect();
        assert!(readings.is_sorted(), "{readings:?}");
        assert!(*readings.first().unwrap() > Duration::ZERO);
    }

    #[test]
    fn a_driven_clock_says_what_it_is_told() {
        let clock = Clock::from_fn(|| Duration::from_secs(7));
        assert_eq!(clock.clone().now(), Duration::from_secs(7));
    }
}
