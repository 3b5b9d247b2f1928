//! Mining itself, for simulated miners and tests: a header template and a scan over nonces, every hash counted.
//!
//! Assumes that one template is scanned for many nonces: the first 64 bytes of the header are compressed once, each nonce
//! then costs two compressions instead of three. Next: `hash.rs` for the plain path it must agree with.

use crate::hash::{Header, HeaderHash};
use crate::job::{Job, Slice};
use crate::sha::{self, Block, INITIAL, State, compress};
use crate::target::Target;
use std::ops::Range;

/// A header with everything chosen but the nonce. Private fields: `midstate` and `tail` belong to `header`.
#[derive(Clone, Debug)]
pub struct Template {
    header: Header,
    midstate: State,
    /// The second block: the header's last 16 bytes, padding, and the length of 640 bits.
    tail: Block,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scan {
    pub found: Vec<u32>,
    /// Hashes done, found or not.
    pub hashes: u64,
}

impl Template {
    /// `version` and `ntime` are the header's own, rolled or not.
    pub fn new(job: &Job, slice: &Slice, extranonce2: &[u8], version: u32, ntime: u32) -> Template {
        let root = job.merkle_root(slice, extranonce2);
        Template::from_header(job.header(&root, version, ntime, 0))
    }

    pub fn from_header(header: Header) -> Template {
        let mut first = [0; 64];
        first.copy_from_slice(&header.0[..64]);
        let mut midstate = INITIAL;
        compress(&mut midstate, &[first]);
        let mut tail = sha::padding(16, 80 * 8);
        tail[..16].copy_from_slice(&header.0[64..]);
        Template { header, midstate, tail }
    }

    pub fn header(&self, nonce: u32) -> Header {
        let mut header = self.header;
        header.0[76..].copy_from_slice(&nonce.to_le_bytes());
        header
    }
}

/// Tries each nonce of the range. The caller chooses its length: that is its unit of time.
pub fn scan(template: &Template, nonces: Range<u32>, target: &Target) -> Scan {
    let mut block = template.tail;
    let mut scan = Scan::default();
    for nonce in nonces {
        block[12..16].copy_from_slice(&nonce.to_le_bytes());
        let mut inner = template.midstate;
        compress(&mut inner, &[block]);
        scan.hashes += 1;
        let hash = HeaderHash(sha::finish(&inner));
        if target.is_met_by(&hash) {
            scan.found.push(nonce);
        }
    }
    scan
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::hex;
    use crate::target::Difficulty;
    use crate::uint256::U256;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_midstate_path_agrees_with_the_plain_one(bytes: [u8; 32], more: [u8; 32], last: [u8; 12], nonce: u32) {
            let mut header = Header([0; 80]);
            header.0[..32].copy_from_slice(&bytes);
            header.0[32..64].copy_from_slice(&more);
            header.0[64..76].copy_from_slice(&last);
            let template = Template::from_header(header);
            let hash = template.header(nonce).hash();
            let nonces = nonce..nonce.saturating_add(1);
            let (met, missed) = (hash.value(), hash.value().checked_sub(U256::ONE).unwrap());
            let found = scan(&template, nonces.clone(), &Target::new(met).unwrap()).found;
            prop_assert_eq!(found.contains(&nonce), nonce != u32::MAX);
            prop_assert!(scan(&template, nonces, &Target::new(missed).unwrap()).found.is_empty());
        }
    }

    #[test]
    fn the_nonce_of_block_125552_is_found_again() {
        let header = concat!(
            "0100000081cd02ab7e569e8bcd9317e2fe99f2de44d49ab2b8851ba4a308000000000000",
            "e320b6c2fffc8d750423db8b1eb942ae710e951ed797f7affc8892b0f1fc122bc7f5d74df2b9441a42a14695"
        );
        let template = Template::from_header(Header(hex::decode_exact(header).unwrap()));
        let nonce = 0x9546_a142;
        let target = Target::from_nbits(0x1a44_b9f2).unwrap();
        let scan = scan(&template, nonce - 500..nonce + 500, &target);
        assert_eq!(scan, Scan { found: vec![nonce], hashes: 1_000 });
    }

    #[test]
    fn finds_come_as_often_as_work_says() {
        let target = Difficulty::floor().target();
        let template = Template::from_header(Header([7; 80]));
        let scan = scan(&template, 0..400_000, &target);
        // 97.7 expected; five sigma are 49.
        assert!((49..147).contains(&scan.found.len()), "{}", scan.found.len());
        assert!(scan.found.iter().all(|nonce| target.is_met_by(&template.header(*nonce).hash())));
    }
}
