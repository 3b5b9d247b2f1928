//! One miner's coinbase of one job, made ready: what stands before extranonce2 is hashed once, and what follows it lies
//! in padded blocks.
//!
//! Assumes Stratum's layout, coinb1 ‖ extranonce1 ‖ extranonce2 ‖ coinb2; `Job::merkle_root` is the plain way that it must
//! agree with. Next: `batch.rs`.

use crate::job::{Job, MAX_EXTRANONCE, Slice};
use crate::sha::{self, Block, INITIAL, State};

/// Private fields: `blocks` is the whole of the message after `midstate`, padding included, with extranonce2 left zero.
#[derive(Clone, Debug)]
pub struct Coinbase {
    midstate: State,
    blocks: Vec<Block>,
    /// Where extranonce2 begins in `blocks`: in the first one.
    hole: usize,
    room: usize,
}

impl Coinbase {
    /// `None` for an extranonce2 longer than any that we hand out.
    pub fn new(job: &Job, slice: &Slice) -> Option<Coinbase> {
        let room = slice.extranonce2_size;
        if room > MAX_EXTRANONCE {
            return None;
        }
        let before = [job.coinb1.as_slice(), &slice.extranonce1].concat();
        let (whole, begun) = before.as_chunks::<64>();
        let mut midstate = INITIAL;
        sha::compress(&mut midstate, whole);
        let mut message = [begun, &[0; MAX_EXTRANONCE][..room], &job.coinb2].concat();
        let bits = 8 * (64 * whole.len() + message.len()) as u64;
        message.push(0x80);
        while message.len() % 64 != 56 {
            message.push(0);
        }
        message.extend(bits.to_be_bytes());
        let blocks = message.as_chunks::<64>().0.to_vec();
        Some(Coinbase { midstate, blocks, hole: begun.len(), room })
    }

    /// The Merkle root for one extranonce2 of the slice's width.
    pub fn root(&self, branches: &[[u8; 32]], extranonce2: &[u8]) -> [u8; 32] {
        branches.iter().fold(self.hash(extranonce2), |root, branch| sha::join(&root, branch))
    }

    /// SHA-256d of the coinbase with this extranonce2.
    pub fn hash(&self, extranonce2: &[u8]) -> [u8; 32] {
        // The hole begins in the first block and is at most 32 bytes wide.
        let heads = (self.hole + self.room).div_ceil(64).max(1);
        let mut head = [[0; 64]; 2];
        head[..heads].copy_from_slice(&self.blocks[..heads]);
        let width = extranonce2.len().min(self.room);
        head.as_flattened_mut()[self.hole..self.hole + width].copy_from_slice(&extranonce2[..width]);
        let mut state = self.midstate;
        sha::compress(&mut state, &head[..heads]);
        sha::compress(&mut state, &self.blocks[heads..]);
        sha::finish(&state)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::job::tests::sample;
    use proptest::prelude::*;

    #[test]
    fn an_extranonce_wider_than_any_is_refused() {
        let slice = Slice { extranonce1: vec![], extranonce2_size: MAX_EXTRANONCE + 1 };
        assert!(Coinbase::new(&sample("1", 1, true), &slice).is_none());
    }

    proptest! {
        #[test]
        fn the_prepared_root_is_the_plain_one(
            coinb1 in prop::collection::vec(any::<u8>(), 0..200),
            coinb2 in prop::collection::vec(any::<u8>(), 0..200),
            extranonce1 in prop::collection::vec(any::<u8>(), 0..32),
            extranonce2 in prop::collection::vec(any::<u8>(), 0..=32),
            branches in prop::collection::vec(any::<[u8; 32]>(), 0..5),
        ) {
            let job = Job { coinb1, coinb2, branches, ..sample("1", 1, true) };
            let slice = Slice { extranonce1, extranonce2_size: extranonce2.len() };
            let coinbase = Coinbase::new(&job, &slice).unwrap();
            prop_assert_eq!(coinbase.root(&job.branches, &extranonce2), job.merkle_root(&slice, &extranonce2));
        }
    }
}
