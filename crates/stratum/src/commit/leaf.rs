//! One accepted share: what its header is built from, what it hashes to, and what it is worth.
//!
//! Assumes that a share is worth the work of the target that its job carries: what the pool credits. Luck is not work.
//! Next: `tree.rs`, which puts leaves in order.

use super::bytes::{Reader, put_short};
use super::digest::{Digest, Domain};
use super::tree::Node;
use super::{Malformed, Template};
use crate::hash::HeaderHash;
use crate::job::MAX_EXTRANONCE;
use model::Work;
use serde::{Deserialize, Serialize};

/// What a miner chose. With the job it makes the header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    /// The digest of its job's template.
    pub job: Digest,
    /// All of the session's extranonce2; at most 32 bytes.
    pub extranonce2: Vec<u8>,
    /// The header's version.
    pub version: u32,
    pub ntime: u32,
    pub nonce: u32,
}

/// A share with what is claimed of it. Plain data: `check` says whether the claim is true.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    pub hash: HeaderHash,
    pub work: Work,
    pub share: Share,
}

/// How a leaf is not the share it claims to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, thiserror::Error)]
pub enum Untrue {
    #[error("the job shown is not the one that the share names")]
    Job,
    #[error("extranonce2 is not of the job's width")]
    Extranonce2,
    #[error("version bits are rolled that the job does not leave free")]
    Version,
    #[error("the header that job and share make hashes to something else")]
    Hash,
    #[error("the hash misses the job's target")]
    Target,
    #[error("the work claimed is not that of the job's target")]
    Work,
}

impl Leaf {
    /// The leaf of a share, hashed from the coinbase up.
    pub fn of(share: Share, template: &Template) -> Leaf {
        let hash = share.hash(template);
        Leaf { hash, work: template.target().work(), share }
    }

    /// Re-hashes the share from the coinbase up and holds it against its job's target.
    pub fn check(&self, template: &Template) -> Result<(), Untrue> {
        let Leaf { hash, work, share } = self;
        if share.job != template.digest() {
            return Err(Untrue::Job);
        }
        if share.extranonce2.len() != template.slice().extranonce2_size {
            return Err(Untrue::Extranonce2);
        }
        if !template.allows_version(share.version) {
            return Err(Untrue::Version);
        }
        if share.hash(template) != *hash {
            return Err(Untrue::Hash);
        }
        if !template.target().is_met_by(hash) {
            return Err(Untrue::Target);
        }
        if *work != template.target().work() {
            return Err(Untrue::Work);
        }
        Ok(())
    }

    pub fn node(&self) -> Node {
        let digest = Digest::of(Domain::Leaf, &[&self.encode()]);
        Node { digest, count: 1, sum: self.work, max: self.hash }
    }

    pub fn encode(&self) -> Vec<u8> {
        let Leaf { hash, work, share } = self;
        let mut out = Vec::with_capacity(93 + share.extranonce2.len());
        out.extend_from_slice(&hash.0);
        out.extend_from_slice(&work.0.to_be_bytes());
        out.extend_from_slice(&share.job.0);
        for word in [share.version, share.ntime, share.nonce] {
            out.extend_from_slice(&word.to_be_bytes());
        }
        put_short(&mut out, &share.extranonce2);
        out
    }

    pub fn decode(bytes: &[u8]) -> Result<Leaf, Malformed> {
        parse(bytes).ok_or(Malformed("leaf"))
    }
}

impl Share {
    fn hash(&self, template: &Template) -> HeaderHash {
        let job = template.job();
        let root = job.merkle_root(template.slice(), &self.extranonce2);
        job.header(&root, self.version, self.ntime, self.nonce).hash()
    }
}

fn parse(bytes: &[u8]) -> Option<Leaf> {
    let mut reader = Reader(bytes);
    let hash = HeaderHash(reader.array()?);
    let work = Work(reader.u128()?);
    let job = Digest(reader.array()?);
    let [version, ntime, nonce] = [reader.u32()?, reader.u32()?, reader.u32()?];
    let extranonce2 = reader.short(MAX_EXTRANONCE)?.to_vec();
    reader.end(Leaf { hash, work, share: Share { job, extranonce2, version, ntime, nonce } })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::testing::{leaves, template};
    use super::*;

    #[test]
    fn a_leaf_comes_back_and_no_other_bytes_do() {
        let leaf = leaves(&template(1, 0), 1, 0).remove(0);
        let bytes = leaf.encode();
        assert_eq!(Leaf::decode(&bytes), Ok(leaf));
        assert_eq!(Leaf::decode(&bytes[1..]), Err(Malformed("leaf")));
        assert_eq!(Leaf::decode(&[bytes.as_slice(), &[0]].concat()), Err(Malformed("leaf")));
    }

    #[test]
    fn what_is_not_true_of_a_share_is_named() {
        let template = template(1, 0);
        let leaf = leaves(&template, 1, 0).remove(0);
        assert_eq!(leaf.check(&template), Ok(()));
        let check = |change: &dyn Fn(&mut Leaf), expected: Untrue| {
            let mut other = leaf.clone();
            change(&mut other);
            assert_eq!(other.check(&template), Err(expected));
            assert_ne!(other.node().digest, leaf.node().digest, "all of it is bound");
        };
        check(&|l| l.share.job.0[0] ^= 1, Untrue::Job);
        check(&|l| l.share.extranonce2.push(0), Untrue::Extranonce2);
        check(&|l| l.share.version ^= 1, Untrue::Version);
        check(&|l| l.share.version ^= 1 << 13, Untrue::Hash);
        check(&|l| l.share.nonce ^= 1, Untrue::Hash);
        check(&|l| l.share.ntime ^= 1, Untrue::Hash);
        check(&|l| l.share.extranonce2[0] ^= 1, Untrue::Hash);
        check(&|l| l.hash.0[31] ^= 1, Untrue::Hash);
        check(&|l| l.work.0 += 1, Untrue::Work);
    }

    #[test]
    fn a_hash_that_misses_the_target_is_no_share() {
        let hard = super::super::testing::hard_template(1);
        let share =
            Share { job: hard.digest(), extranonce2: vec![0; 4], version: 0x2000_0000, ntime: 0, nonce: 0 };
        assert_eq!(Leaf::of(share, &hard).check(&hard), Err(Untrue::Target));
    }
}
