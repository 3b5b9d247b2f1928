//! Jobs that are easy enough to find shares of in a test, and shares of them.

#![allow(clippy::unwrap_used)]

use super::{Digest, Leaf, Share, Template};
use crate::job::Slice;
use crate::job::tests::sample;
use crate::target::Target;
use crate::uint256::U256;

/// Eight hashes a share, so that a thousand are found at once.
pub(crate) const SHARE_WORK_BITS: u32 = 3;

pub(crate) fn digest(byte: u8) -> Digest {
    Digest([byte; 32])
}

/// A job on the block of that number, in the session of that number.
pub(crate) fn template(previous: u8, session: u8) -> Template {
    with_bits(previous, session, SHARE_WORK_BITS)
}

/// One whose shares nobody finds.
pub(crate) fn hard_template(previous: u8) -> Template {
    with_bits(previous, 0, 100)
}

pub(crate) fn with_bits(previous: u8, session: u8, bits: u32) -> Template {
    let slice = Slice { extranonce1: vec![0xaa, session], extranonce2_size: 4 };
    let target = Target::new(U256::MAX.shift_right(bits)).unwrap();
    Template::new(&sample("1", previous, true), &slice, 0x1fff_e000, target).unwrap()
}

/// Shares of a job, in order of hash; another `start` gives others.
pub(crate) fn leaves(template: &Template, count: usize, start: u32) -> Vec<Leaf> {
    let mut found: Vec<Leaf> = (start..)
        .map(|nonce| {
            let extranonce2 = (nonce % 7).to_be_bytes().to_vec();
            let share =
                Share { job: template.digest(), extranonce2, version: 0x2000_0000, ntime: nonce, nonce };
            Leaf::of(share, template)
        })
        .filter(|leaf| leaf.check(template).is_ok())
        .take(count)
        .collect();
    found.sort_by_key(|leaf| leaf.hash);
    found
}
