//! The pool's chain: seeded previous hashes and coinbases, jobs that are still good, and when the next block comes.
//!
//! Assumes that its caller brings the time (Unix seconds, wall clock). All jobs of the current block stay valid; those of
//! earlier blocks are remembered by number alone, so that "stale" and "never heard of" can be told apart. Next: `share.rs`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use super::difficulty::Threshold;

/// Difficulty 125.86 T, mainnet's on 2026-02-12; a share that reaches it would be a block.
const NBITS: u32 = 0x1702_3c7e;
const VERSION: u32 = 0x2000_0000;
/// Jobs of one block kept valid: one every 30 s over 32 minutes, three times the longest interval that `next_block_in` draws on
/// average; the oldest goes first.
const MAX_JOBS: usize = 64;
/// Mainnet blocks have 2,000 to 4,000 transactions, hence 12 branches; ours have up to that.
const MOST_BRANCHES: u32 = 12;

/// What `mining.notify` says.
#[derive(Clone, Debug)]
pub(super) struct Template {
    pub(super) number: u64,
    /// In header order.
    pub(super) previous: [u8; 32],
    pub(super) coinb1: Vec<u8>,
    pub(super) coinb2: Vec<u8>,
    pub(super) branches: Vec<[u8; 32]>,
    pub(super) version: u32,
    pub(super) nbits: u32,
    pub(super) ntime: u32,
    /// First job of its block.
    pub(super) clean: bool,
    /// What its shares must reach.
    pub(super) threshold: Threshold,
}

#[derive(Debug)]
pub(super) struct Chain {
    rng: ChaCha8Rng,
    threshold: Threshold,
    mean_block: Duration,
    mark: u64,
    height: u32,
    previous: [u8; 32],
    next_number: u64,
    jobs: BTreeMap<u64, Arc<Template>>,
}

impl Chain {
    /// `mark` stands in every coinbase.
    pub(super) fn new(seed: u64, mark: u64, threshold: Threshold, now: u32, mean_block: Duration) -> Chain {
        let mut chain = Chain {
            rng: ChaCha8Rng::seed_from_u64(seed),
            threshold,
            mean_block,
            mark,
            height: 900_000,
            previous: [0; 32],
            next_number: 1,
            jobs: BTreeMap::new(),
        };
        chain.next_block(now);
        chain
    }

    /// A new block: a new previous hash, and its first job.
    pub(super) fn next_block(&mut self, now: u32) {
        self.rng.fill_bytes(&mut self.previous);
        // The hash of a block is small; the zero bytes stand at the end in header order.
        self.previous[22..].fill(0);
        self.height += 1;
        self.jobs.clear();
        self.push(now, true);
    }

    /// A new job on the same block, as a pool makes when transactions came.
    pub(super) fn next_job(&mut self, now: u32) {
        self.push(now, false);
    }

    /// From a new job on.
    pub(super) fn set_threshold(&mut self, threshold: Threshold, now: u32) {
        self.threshold = threshold;
        self.push(now, false);
    }

    /// Time to the next block, exponentially distributed as mainnet's, cut to [a tenth, four times] the mean.
    pub(super) fn next_block_in(&mut self) -> Duration {
        let uniform = (self.rng.next_u32() as f64 + 0.5) / (f64::from(u32::MAX) + 1.0);
        self.mean_block.mul_f64((-uniform.ln()).clamp(0.1, 4.0))
    }

    /// The job to work on now.
    pub(super) fn current(&self) -> Arc<Template> {
        let (_, job) = self.jobs.last_key_value().expect("next_block, called by new, leaves a job");
        Arc::clone(job)
    }

    /// A job by its id on the wire: `Ok(None)` was handed out and is stale, `Err(())` never was.
    pub(super) fn find(&self, id: &str) -> Result<Option<Arc<Template>>, ()> {
        let number = u64::from_str_radix(id, 16).map_err(|_| ())?;
        if number == 0 || number >= self.next_number || wire_id(number) != id {
            return Err(());
        }
        Ok(self.jobs.get(&number).cloned())
    }

    fn push(&mut self, now: u32, clean: bool) {
        let number = self.next_number;
        self.next_number += 1;
        let mut branches = vec![[0; 32]; (self.rng.next_u32() % (MOST_BRANCHES + 1)) as usize];
        branches.iter_mut().for_each(|branch| self.rng.fill_bytes(branch));
        let mut payee = [0; 20];
        self.rng.fill_bytes(&mut payee);
        let job = Template {
            number,
            previous: self.previous,
            coinb1: coinbase_head(self.height, now, number, self.mark),
            coinb2: coinbase_tail(&payee),
            branches,
            version: VERSION,
            nbits: NBITS,
            ntime: now,
            clean,
            threshold: self.threshold,
        };
        self.jobs.insert(number, Arc::new(job));
        while self.jobs.len() > MAX_JOBS {
            self.jobs.pop_first();
        }
    }
}

/// The id of a job on the wire.
pub(super) fn wire_id(number: u64) -> String {
    format!("{number:x}")
}

/// The wall clock as Stratum writes it.
pub(super) fn unix_now() -> u32 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u32::try_from(since.as_secs()).unwrap_or(u32::MAX)
}

/// Version, one input without a previous output, and a script of height, time, job number and the pool's mark (so that neither two
/// runs nor two pools with one seed ever search the same space) up to the 12 bytes of the extranonces.
fn coinbase_head(height: u32, now: u32, number: u64, mark: u64) -> Vec<u8> {
    let mut bytes = vec![2, 0, 0, 0, 1];
    bytes.extend([0; 32]);
    bytes.extend([0xff; 4]);
    let mut script = vec![3];
    script.extend(&height.to_le_bytes()[..3]);
    script.push(20);
    script.extend(now.to_le_bytes());
    script.extend(number.to_le_bytes());
    script.extend(mark.to_le_bytes());
    bytes.push(script.len() as u8 + 12);
    bytes.extend(script);
    bytes
}

/// Sequence, one output of 3.125 coins to a key hash, lock time.
fn coinbase_tail(payee: &[u8; 20]) -> Vec<u8> {
    let mut bytes = vec![0xff; 4];
    bytes.push(1);
    bytes.extend(312_500_000u64.to_le_bytes());
    bytes.extend([22, 0, 20]);
    bytes.extend(payee);
    bytes.extend([0; 4]);
    bytes
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn chain(seed: u64) -> Chain {
        Chain::new(seed, 0, Threshold::new(1.0).unwrap(), 1_000, Duration::from_secs(240))
    }

    #[test]
    fn the_seed_fixes_the_jobs() {
        let heads = |seed| (chain(seed).current().previous, chain(seed).current().branches.clone());
        assert_eq!(heads(1), heads(1));
        assert_ne!(heads(1), heads(2));
    }

    #[test]
    fn pools_of_one_seed_are_on_one_chain_and_never_share_a_coinbase() {
        let jobs = |mark| {
            let mut chain =
                Chain::new(7, mark, Threshold::new(1.0).unwrap(), 1_000, Duration::from_secs(240));
            let first = chain.current();
            chain.next_block(1_000);
            [first, chain.current()]
        };
        for (one, other) in jobs(1).into_iter().zip(jobs(2)) {
            assert_eq!(one.previous, other.previous);
            assert_ne!(one.coinb1, other.coinb1);
        }
    }

    #[test]
    fn jobs_are_good_until_the_next_block() {
        let mut chain = chain(3);
        chain.next_job(1_030);
        let is_good = |chain: &Chain, id: &str| chain.find(id).map(|job| job.is_some());
        assert_eq!(is_good(&chain, "1"), Ok(true));
        assert_eq!(is_good(&chain, "2"), Ok(true));
        chain.next_block(1_060);
        assert_eq!(is_good(&chain, "2"), Ok(false), "stale");
        assert_eq!(is_good(&chain, "3"), Ok(true));
        for never in ["4", "0", "x", "", "03", "ffffffffffffffffff"] {
            assert_eq!(is_good(&chain, never), Err(()), "{never:?}");
        }
    }

    #[test]
    fn the_number_of_jobs_is_bounded() {
        let mut chain = chain(4);
        (0..1_000).for_each(|now| chain.next_job(now));
        assert_eq!(chain.jobs.len(), MAX_JOBS);
    }

    #[test]
    fn blocks_come_at_their_mean_rate() {
        let mut chain = chain(5);
        let total: f64 = (0..10_000).map(|_| chain.next_block_in().as_secs_f64()).sum();
        // E[clamp(exponential, 0.1, 4)] = 0.1 + e^-0.1 − e^-4 = 0.987.
        assert!((total / 10_000.0 / 240.0 - 0.987).abs() < 0.03, "{total}");
    }
}
