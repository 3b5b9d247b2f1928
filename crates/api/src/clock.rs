//! Wall time as the injected clock of the service binaries.
//!
//! It stands here because it is what both ends of the wire have in common: controller and agent read the same clock, and the
//! timestamps of `proto/` mean its time. `model` holds only the port; `store` would tie agents to a database.
//!
//! The machine's wall clock is read once and then only followed, at 500 ppm (`model::anchor`, decision 0018): whoever sets it, NTP
//! too, moves no deadline. A process has one such clock, so that all its parts tell one time. What it goes on by is given by the
//! binary: the boot clock, which counts through suspend. Without one it is the standard library's, which does not.
//!
//! Read next: `model::time::Clock`, whose simulated twin is `sim::clock`.

use std::fmt;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use model::Time;
use model::anchor::{Anchor, News};
use model::time::{Clock, Sleep};

/// The clock is followed by half a thousandth, so a sleeper may wake late by that; looking again this often bounds it.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// How often the machine's clock is looked at: one that was set stays so for days.
const NEWS_EVERY: Duration = Duration::from_secs(10);

/// The clock of this process.
#[derive(Clone, Copy, Debug, Default)]
pub struct WallClock;

static ANCHORED: OnceLock<Anchored> = OnceLock::new();

struct Anchored {
    monotonic: Box<dyn Fn() -> Duration + Send + Sync>,
    anchor: Mutex<Anchor>,
}

impl WallClock {
    /// The same, going on by this monotonic clock. For the start of a process: once somebody has read the clock it stays as it is,
    /// and the answer is `false`.
    pub fn go_on_by(monotonic: impl Fn() -> Duration + Send + Sync + 'static) -> bool {
        ANCHORED.set(Anchored::new(Box::new(monotonic))).is_ok()
    }

    /// Tells the log whenever the machine's clock was set, and when it is caught up with.
    pub async fn watch(self) {
        loop {
            tokio::time::sleep(NEWS_EVERY).await;
            match self.news() {
                Some(News::Set(apart)) => tracing::warn!(
                    apart_ms = apart.get(),
                    "the machine's clock was set; it is followed by 0.5 ms a second, a restart takes it over at once"
                ),
                Some(News::Together) => tracing::info!("the machine's clock is caught up with"),
                None => {}
            }
        }
    }

    /// Whether the machine's clock was set since this was last asked, or has been caught up with.
    fn news(self) -> Option<News> {
        let anchored = Anchored::of_this_process();
        anchored.read();
        anchored.lock().news()
    }
}

impl Clock for WallClock {
    fn now(&self) -> Time {
        Anchored::of_this_process().read()
    }

    fn sleep_until(&self, at: Time) -> Sleep {
        let clock = *self;
        Box::pin(async move {
            loop {
                let left = (at - clock.now()).to_std();
                if left.is_zero() {
                    return;
                }
                tokio::time::sleep(left.min(LOOK_AGAIN)).await;
            }
        })
    }

    fn not_before(&self, at: Time) {
        let anchored = Anchored::of_this_process();
        anchored.read();
        anchored.lock().not_before(at);
    }
}

impl Anchored {
    fn new(monotonic: Box<dyn Fn() -> Duration + Send + Sync>) -> Self {
        let anchor = Mutex::new(Anchor::new(monotonic(), wall()));
        Self { monotonic, anchor }
    }

    fn of_this_process() -> &'static Self {
        ANCHORED.get_or_init(|| {
            let start = Instant::now();
            Self::new(Box::new(move || start.elapsed()))
        })
    }

    fn read(&self) -> Time {
        // Both are read under the lock: so monotonic readings come in their order.
        let mut anchor = self.lock();
        anchor.read((self.monotonic)(), wall())
    }

    fn lock(&self) -> MutexGuard<'_, Anchor> {
        self.anchor.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Anchored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Anchored").field("anchor", &self.anchor).finish_non_exhaustive()
    }
}

/// The machine's wall clock, since 1970.
fn wall() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[tokio::test]
    async fn a_time_that_has_passed_is_not_waited_for() {
        let before = WallClock.now();
        WallClock.sleep_until(before).await;
        assert!(before > Time(1_700_000_000_000), "the clock is set");
        assert!(!WallClock::go_on_by(Duration::default), "it was read before");
        assert_eq!(WallClock.news(), None);
    }

    #[test]
    fn it_goes_on_by_the_monotonic_clock() {
        let seconds = Arc::new(AtomicU64::new(7));
        let clock = seconds.clone();
        let anchored = Anchored::new(Box::new(move || Duration::from_secs(clock.load(Ordering::Relaxed))));
        let start = anchored.read();
        seconds.store(1_007, Ordering::Relaxed);
        // The wall clock stood nearly still beside it, and holds it back by half a second in a thousand.
        let passed = (anchored.read() - start).get();
        assert!((999_499..=999_501).contains(&passed), "{passed} ms");
        assert_eq!(anchored.read() - start, model::Span::new(passed));
        let before = anchored.read();
        anchored.lock().not_before(before + model::Span::minutes(10));
        assert!(anchored.read() >= before + model::Span::minutes(10));
        assert!(matches!(anchored.lock().news(), Some(News::Set(apart)) if apart < model::Span::ZERO));
    }
}
