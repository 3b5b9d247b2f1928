//! Opens the outbox when the process before lets go of it: a killed agent's last write may still be under way.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use tracing::info;

use super::{Error, Outbox};

/// First and longest wait before another try.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(500));
/// How long another holder is waited for. A sync on a bad disk takes a second or two; whoever holds the directory longer is an
/// agent that runs.
const PATIENCE: Duration = Duration::from_secs(5);

/// Calls `open`, and again while the directory is held by somebody else, at most for five seconds.
pub async fn claim(mut open: impl FnMut() -> Result<Outbox, Error>) -> Result<Outbox, Error> {
    let deadline = Instant::now() + PATIENCE;
    let mut wait = BACKOFF.0;
    loop {
        match open() {
            Err(Error::Held(dir)) if Instant::now() < deadline => {
                info!(dir = %dir.display(), "the outbox is still held; waiting for the process before to let go");
                sleep(wait).await;
                wait = (wait * 2).min(BACKOFF.1);
            }
            opened => return opened,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::cell::Cell;

    use model::{ModuleId, Time};

    use super::*;
    use crate::outbox::tests::Dir;

    /// Claims a directory that another holds for `held`; answers whether it was had, and after how long.
    async fn claim_after(held: Option<Duration>) -> (Result<Outbox, Error>, Duration, u32) {
        let dir = Dir::new();
        let holder = dir.open();
        let begun = Instant::now();
        let tries = Cell::new(0);
        let release = async move {
            match held {
                Some(held) => {
                    sleep(held).await;
                    drop(holder);
                }
                None => sleep(PATIENCE * 2).await,
            }
        };
        let open = || {
            tries.set(tries.get() + 1);
            Outbox::open(&dir.0, &ModuleId::new("m").unwrap(), "boot-1", Time(0), None)
        };
        let claimed = async {
            let claimed = claim(open).await;
            (claimed, begun.elapsed())
        };
        let (((), (claimed, after)), tries) = (tokio::join!(release, claimed), &tries);
        (claimed, after, tries.get())
    }

    #[tokio::test(start_paused = true)]
    async fn a_holder_that_lets_go_is_waited_for() {
        for held in [Duration::ZERO, Duration::from_millis(300), Duration::from_secs(4)] {
            let (claimed, after, _) = claim_after(Some(held)).await;
            assert!(claimed.is_ok(), "{held:?}");
            assert!(after >= held && after <= held + BACKOFF.1, "{after:?} for {held:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_does_not_is_told() {
        let (claimed, after, tries) = claim_after(None).await;
        assert!(matches!(claimed.as_ref().err(), Some(Error::Held(_))));
        assert!(after >= PATIENCE && after <= PATIENCE + BACKOFF.1, "{after:?}");
        assert!((8..=20).contains(&tries), "{tries} tries");
    }
}
