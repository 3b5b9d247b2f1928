//! Jobs of our own while every pool is away, so that miners stay at work: on an island a lost pool must not become a lost
//! load.
//!
//! Assumes one machine for each account, asked every second or so. Miners keep the pool's last job at first, since most
//! outages are short; then they get a job on a synthetic previous hash, another one every ten minutes. Their shares are
//! verified and earn nothing. Next: `job.rs` for what such a job looks like, `failover.rs` for the way back.

use crate::job::{Assignment, Job, Source};
use std::sync::Arc;

/// When, in wall milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// From losing the pool to the first job of ours.
    pub after_ms: u64,
    /// How long one of them lasts.
    pub rotate_ms: u64,
}

impl Default for Config {
    /// Within the minute that is promised, and longer than a usual reconnect; then a block's usual time, with which the
    /// duplicate memory is flushed, and far within a miner's ntime window.
    fn default() -> Config {
        Config { after_ms: 45_000, rotate_ms: 600_000 }
    }
}

/// What a job looks like where no pool was ever seen: version bits free to roll, a mainnet difficulty of late.
const VERSION: u32 = 0x2000_0000;
const NBITS: u32 = 0x1702_5ced;

/// Private fields: `given_ms` is set only while away.
#[derive(Clone, Debug)]
pub struct KeepAlive {
    config: Config,
    away_since_ms: Option<u64>,
    given_ms: Option<u64>,
    version: u32,
    nbits: u32,
    last_sequence: u64,
}

impl KeepAlive {
    /// No pool is there yet.
    pub fn new(config: Config, now_ms: u64) -> KeepAlive {
        KeepAlive {
            config,
            away_since_ms: Some(now_ms),
            given_ms: None,
            version: VERSION,
            nbits: NBITS,
            last_sequence: 0,
        }
    }

    /// A pool gave a job: it is back, and this is what jobs look like.
    pub fn on_pool_job(&mut self, job: &Job) {
        (self.away_since_ms, self.given_ms) = (None, None);
        (self.version, self.nbits) = (job.version, job.nbits);
    }

    /// The session with the pool is gone.
    pub fn on_lost(&mut self, now_ms: u64) {
        self.away_since_ms.get_or_insert(now_ms);
    }

    /// A job to be handed out now, if it is time for one.
    pub fn tick(&mut self, now_ms: u64, unix_s: u64) -> Option<Arc<Assignment>> {
        let away_ms = now_ms.saturating_sub(self.away_since_ms?);
        let due = match self.given_ms {
            None => away_ms >= self.config.after_ms,
            Some(given) => now_ms.saturating_sub(given) >= self.config.rotate_ms,
        };
        if !due {
            return None;
        }
        self.given_ms = Some(now_ms);
        // Its number is the time, so that it differs from those before a restart; and it never repeats.
        self.last_sequence = unix_s.max(self.last_sequence + 1);
        let ntime = u32::try_from(unix_s).unwrap_or(u32::MAX);
        let job = Job::keep_alive(self.last_sequence, self.version, self.nbits, ntime).ok()?;
        Some(Arc::new(Assignment { job, source: Source::KeepAlive }))
    }

    /// Whether miners are on a job of ours.
    pub fn is_active(&self) -> bool {
        self.given_ms.is_some()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::job::tests::sample;

    const AFTER_MS: u64 = 45_000;
    const UNIX: u64 = 0x6878_b602;

    #[test]
    fn the_first_comes_within_a_minute_and_another_every_ten() {
        let mut keep = KeepAlive::new(Config::default(), 0);
        keep.on_pool_job(&sample("1", 1, true));
        assert_eq!(keep.tick(10_000_000, UNIX), None, "a pool is there");
        keep.on_lost(10_000_000);
        keep.on_lost(10_030_000);
        let mut jobs = Vec::new();
        for second in 0..1_300 {
            if let Some(assignment) = keep.tick(10_000_000 + 1_000 * second, UNIX + second) {
                assert_eq!(assignment.source, Source::KeepAlive);
                jobs.push((second, assignment.job.clone()));
            }
        }
        let seconds: Vec<u64> = jobs.iter().map(|(second, _)| *second).collect();
        assert_eq!(seconds, [45, 645, 1_245]);
        for (second, job) in &jobs {
            assert!(job.clean && u64::from(job.ntime) == UNIX + second);
            assert_eq!((job.version, job.nbits), (0x2000_0000, 0x1d00_ffff), "as the pool's last");
        }
        assert!(jobs.windows(2).all(|two| two[0].1.previous != two[1].1.previous));
    }

    #[test]
    fn the_pools_next_job_ends_it_and_the_next_loss_begins_anew() {
        let mut keep = KeepAlive::new(Config::default(), 0);
        assert!(keep.tick(AFTER_MS - 1, UNIX).is_none());
        let first = keep.tick(AFTER_MS, UNIX).unwrap();
        assert!(keep.is_active());
        keep.on_pool_job(&sample("1", 1, true));
        assert!(!keep.is_active());
        keep.on_lost(AFTER_MS + 1);
        assert!(keep.tick(2 * AFTER_MS, UNIX).is_none());
        // Even if the clock stands still.
        let second = keep.tick(2 * AFTER_MS + 1, UNIX).unwrap();
        assert_ne!(first.job.previous, second.job.previous);
    }
}
