//! SHA-256 by the block: midstates, padded tails, and steps up many Merkle trees at once.
//!
//! Assumes whole blocks: who calls pads. One message is hashed by `sha2`, many of 64 bytes by `bitcoin_hashes`, which lets
//! two take turns in the processor's SHA instructions; neither needs unsafe code of ours (docs/benchmarks.md has what that
//! would buy). Next: `coinbase.rs` and `batch.rs`, the users.

use sha2::block_api::compress256;

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

/// One step up many trees that share a branch. `nodes` is scratch, so that a fold allocates once.
pub fn join_many(roots: &mut Vec<[u8; 32]>, branch: &[u8; 32], nodes: &mut Vec<Block>) {
    let count = roots.len();
    // An odd one out would fall back to software, at five times the cost.
    roots.resize(count.next_multiple_of(2), [0; 32]);
    nodes.resize(roots.len(), [0; 64]);
    for (node, root) in nodes.iter_mut().zip(roots.iter()) {
        node[..32].copy_from_slice(root);
        node[32..].copy_from_slice(branch);
    }
    bitcoin_hashes::sha256d::Hash::hash_64_many(roots, nodes);
    roots.truncate(count);
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
        fn joining_many_agrees_with_joining_each(roots: Vec<[u8; 32]>, branch: [u8; 32]) {
            let expected: Vec<[u8; 32]> = roots.iter().map(|root| join(root, &branch)).collect();
            let mut many = roots;
            join_many(&mut many, &branch, &mut Vec::new());
            prop_assert_eq!(many, expected);
        }
    }
}
