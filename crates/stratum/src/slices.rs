//! Slices of one upstream session's search space, one for each miner: extranonce1 = the pool's ‖ our prefix.
//!
//! Assumes that the pool gives each session of ours its own extranonce1. No two live miners share a prefix, and none is
//! given out again on the same previous hash, or a reconnecting miner could be paid twice for one header. The counter
//! comes from outside and should be kept, so that a restart goes on instead of beginning again. Next: `downstream.rs`.

use crate::job::{Extranonce2, Slice};
use std::collections::BTreeSet;

/// Bytes that a miner wants to roll: 2^32 choices, times 2^32 nonces, are minutes at 100 PH/s.
const LEFT_TO_MINER: usize = 4;
/// Longest prefix of ours: 2^32 connections between two uses of one.
const MAX_PREFIX: usize = 4;
/// From this many prefixes on none needs to rest: it comes round again after 16 million connections.
const ENDLESS: u64 = 1 << 24;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error(
        "the pool leaves {extranonce2_size} byte of extranonce2, too few to share: use one connection a miner"
    )]
    NoRoom { extranonce2_size: usize },
    #[error("all {limit} slices are in use or resting: wait for the next block, or add an upstream session")]
    Exhausted { limit: u64 },
}

/// What one miner gets. `miner` goes into its subscription; the prefix returns in front of its extranonce2 upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MinerSlice {
    pub index: u64,
    pub prefix: Vec<u8>,
    pub miner: Slice,
}

impl MinerSlice {
    /// The extranonce2 that the pool expects for one of this miner's.
    pub fn upstream_extranonce2(&self, extranonce2: &[u8]) -> Extranonce2 {
        Extranonce2::joined(&[&self.prefix, extranonce2])
    }
}

/// Private fields: `live` and `resting` are disjoint and below the number of prefixes.
#[derive(Clone, Debug)]
pub struct Slices {
    upstream: Slice,
    prefix_size: usize,
    next: u64,
    live: BTreeSet<u64>,
    resting: BTreeSet<u64>,
    limit: u64,
}

impl Slices {
    /// At most `limit` miners at once; `start` is the counter kept from before, or any number.
    pub fn new(upstream: Slice, start: u64, limit: u64) -> Result<Slices, Error> {
        let size = upstream.extranonce2_size;
        if size < 2 {
            return Err(Error::NoRoom { extranonce2_size: size });
        }
        let prefix_size = size.saturating_sub(LEFT_TO_MINER).clamp(1, MAX_PREFIX);
        let limit = limit.min(prefixes(prefix_size));
        Ok(Slices {
            upstream,
            prefix_size,
            next: start,
            live: BTreeSet::new(),
            resting: BTreeSet::new(),
            limit,
        })
    }

    /// All of it for one miner, where each has an upstream session of its own.
    pub fn whole(upstream: Slice) -> Slices {
        Slices {
            upstream,
            prefix_size: 0,
            next: 0,
            live: BTreeSet::new(),
            resting: BTreeSet::new(),
            limit: 1,
        }
    }

    pub fn allocate(&mut self) -> Result<MinerSlice, Error> {
        let (all, taken) = (prefixes(self.prefix_size), (self.live.len() + self.resting.len()) as u64);
        if self.live.len() as u64 >= self.limit || taken >= all {
            return Err(Error::Exhausted { limit: self.limit });
        }
        // Ends: fewer than all are taken, and the counter visits each in turn.
        loop {
            let index = self.next % all;
            self.next = self.next.wrapping_add(1);
            if !self.resting.contains(&index) && self.live.insert(index) {
                return Ok(self.slice(index));
            }
        }
    }

    /// The miner has gone. Its prefix rests until the next block.
    pub fn release(&mut self, index: u64) {
        if self.live.remove(&index) && prefixes(self.prefix_size) < ENDLESS {
            self.resting.insert(index);
        }
    }

    /// Old headers can no longer be submitted.
    pub fn on_new_previous(&mut self) {
        self.resting.clear();
    }

    /// What they are cut from.
    pub fn upstream(&self) -> &Slice {
        &self.upstream
    }

    /// To be kept and passed to `new` after a restart.
    pub fn counter(&self) -> u64 {
        self.next
    }

    pub fn live(&self) -> usize {
        self.live.len()
    }

    fn slice(&self, index: u64) -> MinerSlice {
        let prefix = index.to_be_bytes()[8 - self.prefix_size..].to_vec();
        let extranonce1 = [self.upstream.extranonce1.as_slice(), &prefix].concat();
        let extranonce2_size = self.upstream.extranonce2_size - self.prefix_size;
        MinerSlice { index, prefix, miner: Slice { extranonce1, extranonce2_size } }
    }
}

/// `256^size`, for the at most four bytes of a prefix.
fn prefixes(size: usize) -> u64 {
    1 << (8 * size.min(MAX_PREFIX))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn slices(extranonce2_size: usize, start: u64, limit: u64) -> Slices {
        Slices::new(Slice { extranonce1: vec![0xaa], extranonce2_size }, start, limit).unwrap()
    }

    #[test]
    fn the_pools_room_is_shared_with_four_bytes_left_where_it_can() {
        let check = |extranonce2_size: usize, prefix: usize, left: usize| {
            let slice = slices(extranonce2_size, 1, 9).allocate().unwrap();
            assert_eq!((slice.prefix.len(), slice.miner.extranonce2_size), (prefix, left));
            assert_eq!(slice.miner.extranonce1, [vec![0xaa], slice.prefix.clone()].concat());
            let extranonce2 = vec![7; left];
            assert_eq!(slice.upstream_extranonce2(&extranonce2).len(), extranonce2_size);
        };
        for (size, prefix, left) in [(2, 1, 1), (4, 1, 3), (5, 1, 4), (6, 2, 4), (8, 4, 4), (16, 4, 12)] {
            check(size, prefix, left);
        }
        let none = Slices::new(Slice { extranonce1: vec![], extranonce2_size: 1 }, 0, 9);
        assert_eq!(none.map(|_| ()), Err(Error::NoRoom { extranonce2_size: 1 }));
    }

    #[test]
    fn one_miner_alone_gets_all_of_it_as_the_pool_gave_it() {
        let upstream = Slice { extranonce1: vec![0xaa], extranonce2_size: 4 };
        let mut slices = Slices::whole(upstream.clone());
        let slice = slices.allocate().unwrap();
        assert_eq!(
            (&slice.miner, &*slice.upstream_extranonce2(&[1, 2, 3, 4])),
            (&upstream, &[1, 2, 3, 4][..])
        );
        assert_eq!(slices.allocate(), Err(Error::Exhausted { limit: 1 }));
    }

    #[test]
    fn a_released_prefix_rests_until_the_next_block() {
        let mut slices = slices(5, 250, 1_000);
        for _ in 0..256 {
            let index = slices.allocate().unwrap().index;
            slices.release(index);
        }
        assert_eq!(slices.allocate(), Err(Error::Exhausted { limit: 256 }));
        slices.on_new_previous();
        assert_eq!(slices.allocate().unwrap().index, 250);
    }

    #[test]
    fn a_prefix_released_just_before_the_counter_comes_round_is_passed_over() {
        let mut slices = slices(5, 0, 1_000);
        for number in 0..256 {
            let index = slices.allocate().unwrap().index;
            assert_eq!(index, number);
            if index >= 10 {
                slices.release(index);
            }
        }
        slices.on_new_previous();
        slices.release(3);
        assert_eq!(slices.allocate().unwrap().index, 10, "0 to 9 are live, but for 3, which rests");
    }

    #[test]
    fn a_restart_with_the_kept_counter_goes_on() {
        let mut before = slices(6, 65_534, 10);
        let used: Vec<u64> = (0..3).map(|_| before.allocate().unwrap().index).collect();
        assert_eq!(used, [65_534, 65_535, 0]);
        assert_eq!(slices(6, before.counter(), 10).allocate().unwrap().index, 1);
    }

    proptest! {
        #[test]
        fn live_miners_never_share_a_prefix(steps: Vec<bool>, start: u64) {
            let mut slices = slices(5, start, 40);
            let mut live: Vec<MinerSlice> = Vec::new();
            for connect in steps {
                if !connect {
                    live.pop().into_iter().for_each(|slice| slices.release(slice.index));
                } else if let Ok(slice) = slices.allocate() {
                    prop_assert!(live.iter().all(|other| other.miner.extranonce1 != slice.miner.extranonce1));
                    live.push(slice);
                }
                prop_assert_eq!(slices.live(), live.len());
                prop_assert!(live.len() <= 40);
            }
        }
    }
}
