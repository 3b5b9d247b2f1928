//! SHA-256d and the hash of a header. Assumes Bitcoin's convention: the 32 bytes come out little-endian, people read
//! them reversed. Next: `target.rs` for what a hash is compared with, `mine.rs` for the same function from a midstate.

use crate::hex;
use crate::uint256::U256;
use sha2::{Digest, Sha256};
use std::fmt;

/// SHA-256 of SHA-256 of the parts, joined.
pub fn sha256d(parts: &[&[u8]]) -> [u8; 32] {
    let mut inner = Sha256::new();
    for part in parts {
        inner.update(part);
    }
    Sha256::digest(inner.finalize()).into()
}

/// The 80 bytes that are hashed: version, previous hash, Merkle root, time, nbits, nonce.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Header(pub [u8; 80]);

impl Header {
    pub fn hash(&self) -> HeaderHash {
        HeaderHash(sha256d(&[&self.0]))
    }

    /// The Merkle root that stands in it.
    pub fn root(&self) -> [u8; 32] {
        let mut root = [0; 32];
        root.copy_from_slice(&self.0[36..68]);
        root
    }
}

impl fmt::Debug for Header {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Header({})", hex::encode(&self.0))
    }
}

/// SHA-256d of a header, in the order in which it comes out. It identifies a share: whatever the submission looked like,
/// the same header is the same work. Displayed reversed, as block explorers do.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HeaderHash(pub [u8; 32]);

impl HeaderHash {
    /// The number that is compared with a target.
    pub fn value(&self) -> U256 {
        U256::from_le_bytes(self.0)
    }
}

impl fmt::Display for HeaderHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without an allocation: each share of the ledger is written so.
        let mut text = [0; 64];
        for (pair, byte) in text.as_chunks_mut::<2>().0.iter_mut().zip(self.0.iter().rev()) {
            *pair = hex::pair(*byte);
        }
        f.write_str(std::str::from_utf8(&text).unwrap_or_default())
    }
}

impl fmt::Debug for HeaderHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HeaderHash({self})")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn block_125552_hashes_to_the_published_hash() {
        let header = concat!(
            "0100000081cd02ab7e569e8bcd9317e2fe99f2de44d49ab2b8851ba4a308000000000000",
            "e320b6c2fffc8d750423db8b1eb942ae710e951ed797f7affc8892b0f1fc122bc7f5d74df2b9441a42a14695"
        );
        let hash = Header(hex::decode_exact(header).unwrap()).hash();
        assert_eq!(hash.to_string(), "00000000000000001e8d6829a8a21adc5d38d0a473b144b6765798e61f98bd1d");
    }

    #[test]
    fn parts_hash_as_their_concatenation() {
        assert_eq!(sha256d(&[b"ab", b"", b"c"]), sha256d(&[b"abc"]));
        assert_eq!(
            hex::encode(&sha256d(&[b"hello"])),
            "9595c9df90075148eb06860365df33584b75bff782a510c6cd4883a419833d50"
        );
    }
}
