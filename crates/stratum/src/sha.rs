//! SHA-256 by the block: midstates, padded tails, and sixteen messages at once where the processor can.
//!
//! Assumes whole blocks: who calls pads. The plain path is `sha2`'s, which uses the processor's SHA instructions; the wide
//! one is `sha/wide.rs`, the one place of the workspace with unsafe code. Next: `coinbase.rs` and `batch.rs`, the users.

#[cfg(target_arch = "x86_64")]
mod wide;

use sha2::block_api::compress256;

/// Messages that the wide path hashes side by side.
pub const LANES: usize = 16;

pub type State = [u32; 8];
pub type Block = [u8; 64];

/// SHA-256's first state (FIPS 180-4, 5.3.3).
pub const INITIAL: State =
    [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];

/// What a 64-byte message is followed by: padding alone.
const AFTER_64: Block = padding(0, 64 * 8);

pub fn compress(state: &mut State, blocks: &[Block]) {
    compress256(state, blocks);
}

/// A block of zeros with the end of a message at `end` and its length in bits.
pub const fn padding(end: usize, bits: u64) -> Block {
    let mut block = [0; 64];
    block[end] = 0x80;
    let length = bits.to_be_bytes();
    let mut i = 0;
    while i < 8 {
        block[56 + i] = length[i];
        i += 1;
    }
    block
}

/// SHA-256's second round of a double hash: of the 32 bytes that `state` stands for.
pub fn finish(state: &State) -> [u8; 32] {
    let mut block = const { padding(32, 32 * 8) };
    block[..32].copy_from_slice(&to_bytes(state));
    let mut outer = INITIAL;
    compress(&mut outer, &[block]);
    to_bytes(&outer)
}

/// SHA-256d of two hashes, joined: one step up a Merkle tree.
pub fn join(left: &[u8; 32], right: &[u8; 32]) -> [u8; 32] {
    let mut blocks = [[0; 64], AFTER_64];
    blocks[0][..32].copy_from_slice(left);
    blocks[0][32..].copy_from_slice(right);
    let mut state = INITIAL;
    compress(&mut state, &blocks);
    finish(&state)
}

/// SHA-256d of a header's 80 bytes.
pub fn header(bytes: &[u8; 80]) -> [u8; 32] {
    let mut blocks = [[0; 64], const { padding(16, 80 * 8) }];
    blocks[0].copy_from_slice(&bytes[..64]);
    blocks[1][..16].copy_from_slice(&bytes[64..]);
    let mut state = INITIAL;
    compress(&mut state, &blocks);
    finish(&state)
}

pub fn to_bytes(state: &State) -> [u8; 32] {
    let mut bytes = [0; 32];
    for (chunk, word) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(state) {
        *chunk = word.to_be_bytes();
    }
    bytes
}

/// Coinbases that differ in their first one or two blocks after a common midstate, and what leads from there to the root.
#[derive(Clone, Copy, Debug)]
pub struct Trunk<'a> {
    pub midstate: &'a State,
    /// Blocks after those that differ, padding included.
    pub rest: &'a [Block],
    pub branches: &'a [[u8; 32]],
}

/// Whether [`roots`] and [`headers`] answer on this processor.
pub fn is_wide() -> bool {
    #[cfg(target_arch = "x86_64")]
    return wide::is_there();
    #[cfg(not(target_arch = "x86_64"))]
    return false;
}

/// The Merkle roots of sixteen coinbases; `heads` gives the blocks that differ, as many of each. `None` where the processor
/// has no wide path.
pub fn roots(trunk: &Trunk<'_>, heads: &[&[Block]; LANES]) -> Option<[[u8; 32]; LANES]> {
    #[cfg(target_arch = "x86_64")]
    return wide::roots(trunk, heads);
    #[cfg(not(target_arch = "x86_64"))]
    return (trunk.branches.is_empty() && heads.is_empty()).then_some([[0; 32]; LANES]);
}

/// SHA-256d of sixteen headers; `None` where the processor has no wide path.
pub fn headers(headers: &[&[u8; 80]; LANES]) -> Option<[[u8; 32]; LANES]> {
    #[cfg(target_arch = "x86_64")]
    return wide::headers(headers);
    #[cfg(not(target_arch = "x86_64"))]
    return headers.is_empty().then_some([[0; 32]; LANES]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::sha256d;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn joining_and_headers_agree_with_the_plain_hash(left: [u8; 32], right: [u8; 32], rest: [u8; 16]) {
            prop_assert_eq!(join(&left, &right), sha256d(&[&left, &right]));
            let mut bytes = [0; 80];
            bytes[..32].copy_from_slice(&left);
            bytes[32..64].copy_from_slice(&right);
            bytes[64..].copy_from_slice(&rest);
            prop_assert_eq!(header(&bytes), sha256d(&[&bytes]));
        }

        #[test]
        fn sixteen_headers_agree_with_one_at_a_time(seed: [u8; 32]) {
            let all: Vec<[u8; 80]> = (0..LANES as u8).map(|lane| {
                let mut bytes = [lane; 80];
                bytes[8..40].copy_from_slice(&sha256d(&[&seed, &[lane]]));
                bytes[44..76].copy_from_slice(&sha256d(&[&[lane], &seed]));
                bytes
            }).collect();
            let expected: Vec<[u8; 32]> = all.iter().map(header).collect();
            if let Some(hashes) = headers(&std::array::from_fn(|lane| &all[lane])) {
                prop_assert_eq!(hashes.to_vec(), expected);
            } else {
                prop_assert!(!is_wide());
            }
        }
    }
}
