//! Which pool of a list to use, and when to try again: by priority, with back-off, and back to the better one.
//!
//! Assumes that the caller connects when told to, and says what came of it. Jitter is drawn by the caller, so that agents
//! which lost one pool together do not come back together. Next: `keepalive.rs`, for when all of them are away.

/// First wait after a failure; doubled each time.
const FIRST_WAIT_MS: u64 = 250;
/// Longest wait: a pool that is back is found within half a minute.
const LONGEST_WAIT_MS: u64 = 30_000;
/// A session that lasted so long was a good one: what came before it is forgotten.
const PROVEN_MS: u64 = 60_000;
/// How often a better pool is looked for while a worse one works. A switch costs miners a job, no more.
const LOOK_EVERY_MS: u64 = 300_000;

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Connect to the pool of this place in the list.
    Connect(usize),
    /// Nothing before this time.
    Wait { until_ms: u64 },
}

#[derive(Clone, Copy, Debug, Default)]
struct Try {
    failures: u32,
    not_before_ms: u64,
}

/// Private fields: one `Try` for each pool, in order of priority.
#[derive(Clone, Debug)]
pub struct Failover {
    pools: Vec<Try>,
    current: Option<(usize, /* since, ms */ u64)>,
    looked_ms: u64,
}

impl Failover {
    /// For so many pools, the best first. With none there is never anything to connect to.
    pub fn new(pools: usize) -> Failover {
        Failover { pools: vec![Try::default(); pools], current: None, looked_ms: 0 }
    }

    /// The best pool that may be tried; else when one may be.
    pub fn next(&self, now_ms: u64) -> Next {
        let free = |pool: &Try| pool.not_before_ms <= now_ms;
        match self.pools.iter().position(free) {
            Some(index) => Next::Connect(index),
            None => {
                let until_ms = self.pools.iter().map(|pool| pool.not_before_ms).min();
                Next::Wait { until_ms: until_ms.unwrap_or(u64::MAX) }
            }
        }
    }

    /// The handshake with this pool is done.
    pub fn on_ready(&mut self, index: usize, now_ms: u64) {
        self.current = Some((index, now_ms));
        self.looked_ms = now_ms;
    }

    /// The connection failed, or the session ended. `jitter` lies between 0 and 1.
    pub fn on_lost(&mut self, index: usize, now_ms: u64, jitter: f64) {
        let proven = self
            .current
            .is_some_and(|(current, since)| current == index && now_ms.saturating_sub(since) >= PROVEN_MS);
        self.current = None;
        let Some(pool) = self.pools.get_mut(index) else { return };
        pool.failures = if proven { 0 } else { pool.failures.saturating_add(1) };
        let longest = (FIRST_WAIT_MS << pool.failures.min(10)).min(LONGEST_WAIT_MS);
        // Never less than a tenth: two pools that refuse at once must not be asked in a loop.
        pool.not_before_ms = now_ms + (longest as f64 * (0.1 + 0.9 * jitter.clamp(0.0, 1.0))) as u64;
    }

    /// The session was ended by ourselves, or the pool asked for it in order: it may be used again at once.
    pub fn on_left(&mut self, index: usize) {
        self.current = None;
        if let Some(pool) = self.pools.get_mut(index) {
            *pool = Try::default();
        }
    }

    /// A better pool to look for while a worse one works; whoever gets one looks whether it answers, and switches then.
    pub fn better(&mut self, now_ms: u64) -> Option<usize> {
        let (current, _) = self.current?;
        if now_ms.saturating_sub(self.looked_ms) < LOOK_EVERY_MS {
            return None;
        }
        self.looked_ms = now_ms;
        self.pools.iter().take(current).position(|pool| pool.not_before_ms <= now_ms)
    }

    /// The pool in use.
    pub fn current(&self) -> Option<usize> {
        self.current.map(|(index, _)| index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_next_pool_is_tried_at_once_and_the_first_again_after_its_wait() {
        let mut failover = Failover::new(2);
        assert_eq!(failover.next(0), Next::Connect(0));
        failover.on_lost(0, 0, 1.0);
        assert_eq!(failover.next(0), Next::Connect(1));
        failover.on_lost(1, 10, 1.0);
        assert_eq!(failover.next(10), Next::Wait { until_ms: 500 });
        assert_eq!(failover.next(500), Next::Connect(0));
        assert_eq!(Failover::new(0).next(7), Next::Wait { until_ms: u64::MAX });
    }

    #[test]
    fn waits_double_up_to_half_a_minute_and_a_good_session_forgets_them() {
        let mut failover = Failover::new(1);
        let mut waits = Vec::new();
        for _ in 0..9 {
            failover.on_lost(0, 0, 1.0);
            let Next::Wait { until_ms } = failover.next(0) else { continue };
            waits.push(until_ms);
        }
        assert_eq!(waits, [500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000, 30_000]);
        failover.on_ready(0, 100_000);
        failover.on_lost(0, 100_000 + PROVEN_MS - 1, 1.0);
        assert_eq!(failover.next(0), Next::Wait { until_ms: 100_000 + PROVEN_MS - 1 + 30_000 });
        failover.on_ready(0, 200_000);
        failover.on_lost(0, 200_000 + PROVEN_MS, 1.0);
        assert_eq!(failover.next(0), Next::Wait { until_ms: 200_000 + PROVEN_MS + 250 });
        failover.on_left(0);
        assert_eq!(failover.next(0), Next::Connect(0));
    }

    #[test]
    fn a_better_pool_is_looked_for_now_and_then() {
        let mut failover = Failover::new(3);
        assert_eq!(failover.better(1_000_000), None, "nothing works yet");
        failover.on_lost(0, 0, 1.0);
        failover.on_ready(1, 1_000);
        assert_eq!(failover.better(1_000 + LOOK_EVERY_MS - 1), None);
        assert_eq!(failover.better(1_000 + LOOK_EVERY_MS), Some(0));
        assert_eq!(failover.better(1_001 + LOOK_EVERY_MS), None, "not at once again");
        failover.on_left(1);
        failover.on_ready(0, 2_000_000);
        assert_eq!((failover.better(9_000_000), failover.current()), (None, Some(0)), "it is the best");
    }

    proptest! {
        #[test]
        fn there_is_always_something_to_try_within_half_a_minute(
            losses in prop::collection::vec((0usize..3, 0u64..5_000, 0f64..=1.0), 0..60),
        ) {
            let (mut failover, mut now) = (Failover::new(3), 0);
            for (index, later, jitter) in losses {
                now += later;
                failover.on_lost(index, now, jitter);
                if let Next::Wait { until_ms } = failover.next(now) {
                    prop_assert!(until_ms > now && until_ms <= now + LONGEST_WAIT_MS);
                }
            }
        }
    }
}
