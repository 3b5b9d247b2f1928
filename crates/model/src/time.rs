//! Points and spans of time, in integer milliseconds. Nothing here reads a clock.

use std::fmt;
use std::future::Future;
use std::ops::{Add, Sub};
use std::pin::Pin;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::unit::{Quantity, Unit};

/// Marker of [`Span`].
#[derive(Debug)]
pub enum Millisecond {}

impl Unit for Millisecond {
    const SYMBOL: &'static str = "ms";
}

/// A length of time in milliseconds; may be negative as a difference.
pub type Span = Quantity<Millisecond>;

impl Span {
    /// A span of whole seconds.
    pub const fn secs(seconds: i64) -> Self {
        Self::new(seconds.saturating_mul(1_000))
    }

    /// A span of whole minutes.
    pub const fn minutes(minutes: i64) -> Self {
        Self::secs(minutes.saturating_mul(60))
    }

    /// A span of whole hours.
    pub const fn hours(hours: i64) -> Self {
        Self::minutes(hours.saturating_mul(60))
    }

    /// The bare milliseconds.
    pub const fn millis(self) -> i64 {
        self.get()
    }

    /// The span in seconds, for physics.
    pub const fn as_secs_f64(self) -> f64 {
        self.as_f64() / 1_000.0
    }

    /// The span for the standard library's timers; negative spans become zero.
    pub fn to_std(self) -> Duration {
        Duration::from_millis(self.at_least_zero().get().unsigned_abs())
    }
}

/// A point in time: milliseconds since 1970-01-01T00:00:00Z, on the clock the reader was given (wall time, or simulated).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Time(pub i64);

impl Time {
    /// The Unix epoch.
    pub const EPOCH: Self = Self(0);

    /// Milliseconds since the Unix epoch.
    pub const fn millis(self) -> i64 {
        self.0
    }

    /// Whole seconds since the Unix epoch.
    pub const fn unix_secs(self) -> i64 {
        self.0.div_euclid(1_000)
    }

    /// The last multiple of `step` since the epoch that is not after `self`; `self` when the step is not positive.
    pub fn floor_to(self, step: Span) -> Self {
        if step <= Span::ZERO {
            return self;
        }
        Self(self.0 - self.0.rem_euclid(step.get()))
    }

    /// How long ago `earlier` was; zero when it lies ahead.
    pub fn since(self, earlier: Time) -> Span {
        (self - earlier).at_least_zero()
    }
}

impl Add<Span> for Time {
    type Output = Time;
    fn add(self, span: Span) -> Time {
        Time(self.0.saturating_add(span.get()))
    }
}
impl Sub<Span> for Time {
    type Output = Time;
    fn sub(self, span: Span) -> Time {
        Time(self.0.saturating_sub(span.get()))
    }
}
impl Sub for Time {
    type Output = Span;
    fn sub(self, other: Time) -> Span {
        Span::new(self.0.saturating_sub(other.0))
    }
}
impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03}", self.unix_secs(), self.0.rem_euclid(1_000))
    }
}

/// A point on one machine's boot-time clock (CLOCK_BOOTTIME): it counts through suspend and is never set.
/// Two stamps compare only when their boot ids agree.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct BootStamp {
    /// The kernel's boot id, or a simulated one.
    pub boot_id: String,
    /// Time since that boot.
    pub at: Span,
}

impl BootStamp {
    /// Time from `earlier` to `self`; `None` across a reboot.
    pub fn since(&self, earlier: &BootStamp) -> Option<Span> {
        (self.boot_id == earlier.boot_id).then(|| self.at - earlier.at)
    }
}

/// What [`Clock::sleep_until`] returns.
pub type Sleep = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The clock that is handed to whoever acts in time: wall time in service, simulated time behind `flareshift dev`. Only the port
/// stands here; the shells bring the implementations.
pub trait Clock: Send + Sync + 'static {
    /// The time now.
    fn now(&self) -> Time;

    /// Resolves once `now` is at or past `at`. A loop that owns a simulated clock holds that clock back from the moment its
    /// sleep resolves until it sleeps again, so that fast simulated time never outruns a decision.
    fn sleep_until(&self, at: Time) -> Sleep;

    /// Goes on from `at` where that lies a little ahead, for a new leader: plans do not go back in time. A clock that all share, as a
    /// simulated one is, has no reason to.
    fn not_before(&self, at: Time) {
        let _ = at;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_floors_to_steps_also_before_the_epoch() {
        assert_eq!(Time(299_999).floor_to(Span::minutes(5)), Time(0));
        assert_eq!(Time(300_000).floor_to(Span::minutes(5)), Time(300_000));
        assert_eq!(Time(-1).floor_to(Span::minutes(5)), Time(-300_000));
        assert_eq!(Time(17).floor_to(Span::ZERO), Time(17));
    }

    #[test]
    fn boot_stamps_do_not_compare_across_a_reboot() {
        let early = BootStamp { boot_id: "a".into(), at: Span::secs(1) };
        let late = BootStamp { boot_id: "a".into(), at: Span::secs(3) };
        let rebooted = BootStamp { boot_id: "b".into(), at: Span::secs(3) };
        assert_eq!(late.since(&early), Some(Span::secs(2)));
        assert_eq!(rebooted.since(&early), None);
    }
}
