//! Wall time as the injected clock of the service binaries.
//!
//! It stands here because it is what both ends of the wire have in common: controller and agent read the same clock, and the
//! timestamps of `proto/` mean its time. `model` holds only the port; `store` would tie agents to a database. Assumes that the
//! machine's clock is set by NTP: envelopes do not depend on it, times for people do.
//!
//! Read next: `model::time::Clock`, whose simulated twin is `sim::clock`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use model::Time;
use model::time::{Clock, Sleep};

/// A clock set back lets a sleeper wake late; looking again this often bounds that.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct WallClock;

impl Clock for WallClock {
    fn now(&self) -> Time {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Time(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_time_that_has_passed_is_not_waited_for() {
        let before = WallClock.now();
        WallClock.sleep_until(before).await;
        assert!(before > Time(1_700_000_000_000), "the clock is set");
    }
}
