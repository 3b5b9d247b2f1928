//! A clock that cannot be made to jump: wall time read once, going on by a monotonic clock, and following the wall clock slowly.
//!
//! Links, grants and the time after which a silent agent has stopped are differences of the controller's time. A wall clock that is
//! set ten minutes ahead would end them all at once. So nobody reads the wall clock but this, and it takes over what was set at
//! 500 parts in a million at most: what counts on intervals sees a clock that is a little fast or slow.
//!
//! Assumes readings of both clocks that were taken at the same moment, monotonic ones in their order (an earlier one counts as the
//! same moment). Pure. Read next: `api::clock::WallClock`, and decision 0018.

use std::time::Duration;

use crate::time::{Span, Time};

/// How much faster or slower than the monotonic clock it goes to follow the wall clock: what adjtime(3) does to a kernel's. Envelopes
/// bear clocks that differ by 1,000 ppm (`Envelope::controller_hold`); this, and two crystals of 200 ppm each, are 900.
pub const SLEW_PPM: i64 = 500;
/// A wall clock that is further away than this was set, and that is told: NTP steps where it finds 128 ms, and good links have less.
pub const SET: Span = Span::secs(1);
/// A new leader whose clock lies behind the plan in force goes on from that plan's time, if it is no more than this: beyond it the
/// plan was made by a clock that was plainly wrong.
pub const MOST_AHEAD: Span = Span::hours(1);

/// The clock's state.
#[derive(Clone, Copy, Debug)]
pub struct Anchor {
    /// The last monotonic reading, in nanoseconds.
    monotonic: i64,
    /// What was told then, in nanoseconds since 1970.
    told: i64,
    /// How far the wall clock was ahead of it then, in nanoseconds.
    apart: i64,
    /// Whether that was told as news.
    is_set: bool,
}

/// The wall clock was set, or has been caught up with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// It is so far ahead of what is told here (behind, where negative), and is followed slowly.
    Set(Span),
    /// Both are as one again.
    Together,
}

impl Anchor {
    /// A clock that begins with the wall clock's time, since 1970.
    pub fn new(monotonic: Duration, wall: Duration) -> Self {
        Self { monotonic: nanos(monotonic), told: nanos(wall), apart: 0, is_set: false }
    }

    /// The time now, by a reading of each clock. Never goes back.
    pub fn read(&mut self, monotonic: Duration, wall: Duration) -> Time {
        let passed = nanos(monotonic).saturating_sub(self.monotonic).max(0);
        let free = self.told.saturating_add(passed);
        let most = passed / 1_000_000 * SLEW_PPM + passed % 1_000_000 * SLEW_PPM / 1_000_000;
        let followed = free.saturating_add(nanos(wall).saturating_sub(free).clamp(-most, most));
        self.monotonic = self.monotonic.saturating_add(passed);
        self.told = followed;
        self.apart = nanos(wall).saturating_sub(followed);
        Time(followed.div_euclid(1_000_000))
    }

    /// Goes on from `at` where that lies ahead, but not too far ahead. Only for somebody who has measured nothing by this clock yet.
    pub fn not_before(&mut self, at: Time) {
        let target = at.0.saturating_mul(1_000_000);
        let ahead = target.saturating_sub(self.told);
        if ahead > 0 && ahead <= MOST_AHEAD.get() * 1_000_000 {
            self.told = target;
            self.apart = self.apart.saturating_sub(ahead);
        }
    }

    /// Whether the wall clock was set since this was last asked, as of the last reading.
    pub fn news(&mut self) -> Option<News> {
        let apart = Span::new(self.apart / 1_000_000);
        let was = std::mem::replace(&mut self.is_set, apart.abs() > SET);
        match (was, self.is_set) {
            (false, true) => Some(News::Set(apart)),
            (true, false) => Some(News::Together),
            _ => None,
        }
    }
}

/// Nanoseconds, to the year 2262.
fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// When these tests begin, in seconds since 1970.
    const START: u64 = 1_790_000_000;

    fn at(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    fn start() -> Anchor {
        Anchor::new(at(50.0), Duration::from_secs(START))
    }

    /// What is told, in milliseconds since the start, after both clocks went on by so much.
    fn told(anchor: &mut Anchor, passed: f64, wall: f64) -> i64 {
        let wall = Duration::from_secs(START).as_secs_f64() + wall;
        anchor.read(at(50.0 + passed), at(wall)).0 - i64::try_from(START).unwrap_or(0) * 1_000
    }

    #[test]
    fn a_clock_that_nobody_sets_is_told_as_it_is() {
        let mut anchor = start();
        for seconds in [0.0, 0.5, 1.0, 3_600.0, 86_400.0] {
            assert_eq!(told(&mut anchor, seconds, seconds), (seconds * 1_000.0) as i64);
        }
        assert_eq!(anchor.news(), None);
    }

    #[test]
    fn a_clock_that_is_set_is_followed_by_half_a_thousandth_of_what_passes() {
        let check = |step: f64, after: f64, expected: i64| {
            let mut anchor = start();
            told(&mut anchor, 10.0, 10.0);
            let found = told(&mut anchor, 10.0 + after, 10.0 + after + step);
            assert!((found - expected).abs() <= 1, "{step} s, {after} s later: {found} ms");
        };
        check(600.0, 0.0, 10_000);
        check(600.0, 120.0, 130_060);
        check(-600.0, 120.0, 129_940);
        check(0.030, 120.0, 130_030);
        check(-0.030, 120.0, 129_970);
        // Ten minutes are caught up with in 1.2 million seconds, which are 13.9 days.
        check(600.0, 1_200_000.0, 1_200_610_000);
        check(-600.0, 1_200_000.0, 1_199_410_000);
    }

    #[test]
    fn however_often_it_is_read_it_never_goes_back_and_never_faster() {
        // The wall clock is set to and fro every 17 readings; readings are 1.7 ms apart.
        let (mut anchor, mut last) = (start(), 0);
        for count in 0..20_000_i32 {
            let passed = f64::from(count) * 0.001_7;
            let step = f64::from(count / 17 % 3 - 1) * 600.0;
            let now = told(&mut anchor, passed, passed + step);
            assert!(now >= last, "{now} after {last}");
            let apart = now as f64 - passed * 1_000.0;
            assert!(apart.abs() <= passed * 1_000.0 * 0.000_5 + 1.0, "{apart} ms apart after {passed} s");
            last = now;
        }
    }

    #[test]
    fn a_monotonic_reading_that_comes_late_is_the_same_moment() {
        let mut anchor = start();
        assert_eq!(told(&mut anchor, 5.0, 5.0), 5_000);
        assert_eq!(told(&mut anchor, 4.0, 4.0), 5_000);
        assert_eq!(told(&mut anchor, 6.0, 6.0), 6_000);
    }

    #[test]
    fn that_it_was_set_is_news_once_and_so_is_its_end() {
        let mut anchor = start();
        let mut check = |passed: f64, wall: f64, expected: Option<&str>| {
            told(&mut anchor, passed, wall);
            let news = anchor.news().map(|news| match news {
                // To the second: what was followed since is a millisecond.
                News::Set(apart) => format!("{:.0} s", apart.as_secs_f64()),
                News::Together => "together".to_owned(),
            });
            assert_eq!(news.as_deref(), expected, "{passed} s");
        };
        check(1.0, 1.9, None);
        check(2.0, 602.0, Some("600 s"));
        check(3.0, 603.0, None);
        check(4.0, 4.0, Some("together"));
        check(5.0, -595.0, Some("-600 s"));
    }

    #[test]
    fn a_new_leader_goes_on_from_the_plan_in_force_unless_that_is_plainly_wrong() {
        let check = |ahead: i64, expected: i64| {
            let mut anchor = start();
            anchor.not_before(Time(i64::try_from(START).unwrap_or(0) * 1_000 + ahead));
            assert!((told(&mut anchor, 10.0, 10.0) - expected).abs() <= 6, "{ahead} ms ahead");
        };
        check(-1, 10_000);
        check(600_000, 610_000);
        check(3_600_000, 3_610_000);
        check(3_600_001, 10_000);
    }
}
