//! The header hashes that were counted: what makes a duplicate a duplicate, however it was written.
//!
//! Assumes that a share of an older previous hash is stale unless that previous hash comes back, which happens when a
//! pool is lost and found again; therefore the sets of the last few previous hashes are kept and none is forgotten while
//! its jobs can still be in use. Next: `downstream.rs`, which raises the difficulty when the budget runs out.

use crate::hash::HeaderHash;
use std::collections::{HashSet, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};

/// Previous hashes remembered: the pool's, the keep-alive one that may follow it, and one step back of each.
const GENERATIONS: usize = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("this header was counted before")]
    Duplicate,
    #[error("the duplicate budget is used up: raise the difficulty, or close the session")]
    Full,
}

/// Sets whose order nobody sees.
type Generation = HashSet<HeaderHash, BuildHasherDefault<OwnBytes>>;

/// A header's hash is its own hash: its first bytes are as good as random. Whoever wants many in one bucket must find shares
/// thousands of times as hard as those he is paid for, and the budget still holds.
#[derive(Clone, Copy, Debug, Default)]
struct OwnBytes(u64);

impl Hasher for OwnBytes {
    fn write(&mut self, bytes: &[u8]) {
        // An array's length comes too; it is not as long as a hash.
        if let (32, Some(first)) = (bytes.len(), bytes.first_chunk()) {
            self.0 = u64::from_le_bytes(*first);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// Private fields: the sets together never exceed the budget.
#[derive(Clone, Debug)]
pub struct Seen {
    generations: VecDeque<(/* previous hash */ [u8; 32], Generation)>,
    budget: usize,
}

impl Seen {
    /// Holds at most `budget` hashes of 32 bytes (about twice that in memory, and half as much again while it grows).
    pub fn new(budget: usize) -> Seen {
        Seen { generations: VecDeque::new(), budget }
    }

    /// Makes `previous` the one that new shares build on. Only a previous hash not seen lately flushes, and then only
    /// the oldest set.
    pub fn enter(&mut self, previous: [u8; 32]) {
        match self.generations.iter().position(|(known, _)| *known == previous) {
            Some(index) => {
                if let Some(generation) = self.generations.remove(index) {
                    self.generations.push_back(generation);
                }
            }
            None => self.generations.push_back((previous, Generation::default())),
        }
        if self.generations.len() > GENERATIONS {
            self.generations.pop_front();
        }
    }

    pub fn insert(&mut self, hash: HeaderHash) -> Result<(), Error> {
        if self.generations.iter().any(|(_, set)| set.contains(&hash)) {
            return Err(Error::Duplicate);
        }
        if self.len() >= self.budget {
            return Err(Error::Full);
        }
        if self.generations.is_empty() {
            self.enter([0; 32]);
        }
        if let Some((_, set)) = self.generations.back_mut() {
            set.insert(hash);
        }
        Ok(())
    }

    pub fn len(&self) -> usize {
        self.generations.iter().map(|(_, set)| set.len()).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// More than half of the budget is gone: time to make shares rarer.
    pub fn is_under_pressure(&self) -> bool {
        self.len() * 2 > self.budget
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(byte: u8) -> HeaderHash {
        HeaderHash([byte; 32])
    }

    #[test]
    fn a_hash_is_a_duplicate_until_its_previous_hash_is_long_gone() {
        let mut seen = Seen::new(10);
        seen.enter([1; 32]);
        assert_eq!(seen.insert(hash(1)), Ok(()));
        for previous in [1, 2, 1, 3, 1, 4] {
            seen.enter([previous; 32]);
            assert_eq!(seen.insert(hash(1)), Err(Error::Duplicate), "after {previous}");
        }
        for previous in [5, 6, 7, 8] {
            seen.enter([previous; 32]);
        }
        assert_eq!(seen.insert(hash(1)), Ok(()));
    }

    #[test]
    fn each_hash_has_a_bucket_by_its_first_bytes() {
        use std::hash::Hash;
        let bucket = |bytes: [u8; 32]| {
            let mut hasher = OwnBytes::default();
            HeaderHash(bytes).hash(&mut hasher);
            hasher.finish()
        };
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&0x1234_5678_9abc_def0u64.to_le_bytes());
        assert_eq!(bucket(bytes), 0x1234_5678_9abc_def0);
        bytes[31] = 1;
        assert_eq!(bucket(bytes), 0x1234_5678_9abc_def0, "the last are zero in every share");
    }

    #[test]
    fn the_budget_is_hard_and_announces_itself() {
        let mut seen = Seen::new(4);
        for (byte, pressure) in [(1, false), (2, false), (3, true), (4, true)] {
            assert_eq!(seen.insert(hash(byte)), Ok(()));
            assert_eq!(seen.is_under_pressure(), pressure, "{byte}");
        }
        assert_eq!(seen.insert(hash(5)), Err(Error::Full));
        assert_eq!(seen.insert(hash(1)), Err(Error::Duplicate));
        assert_eq!(seen.len(), 4);
    }
}
