//! SHA-256 under a domain, so that a leaf can never be read as a node, a job or a sample.
//!
//! Assumes that what is hashed under one domain has one encoding. Next: `leaf.rs`, `tree.rs`.

use crate::hex;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};
use std::fmt;

/// 32 bytes that name something: what was hashed, or a block. Hex in text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

/// What is hashed. Each begins the message, and none is the beginning of another.
#[derive(Clone, Copy, Debug)]
pub(super) enum Domain {
    Job,
    Leaf,
    Node,
    Sample,
}

impl Domain {
    fn prefix(self) -> &'static [u8] {
        match self {
            Domain::Job => b"flareshift/commit/1/job\0",
            Domain::Leaf => b"flareshift/commit/1/leaf\0",
            Domain::Node => b"flareshift/commit/1/node\0",
            Domain::Sample => b"flareshift/commit/1/sample\0",
        }
    }
}

impl Digest {
    pub(super) fn of(domain: Domain, parts: &[&[u8]]) -> Digest {
        let mut hasher = Sha256::new();
        hasher.update(domain.prefix());
        for part in parts {
            hasher.update(part);
        }
        Digest(hasher.finalize().into())
    }

    pub fn from_slice(bytes: &[u8]) -> Option<Digest> {
        bytes.try_into().ok().map(Digest)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(&self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = hex::decode_exact(&text);
        bytes.map(Digest).ok_or_else(|| serde::de::Error::custom("32 bytes in hex are expected"))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn domains_keep_equal_contents_apart() {
        let domains = [Domain::Job, Domain::Leaf, Domain::Node, Domain::Sample];
        let digests: std::collections::BTreeSet<Digest> =
            domains.iter().map(|domain| Digest::of(*domain, &[b"same"])).collect();
        assert_eq!(digests.len(), domains.len());
        assert_eq!(Digest::of(Domain::Leaf, &[b"sa", b"me"]), Digest::of(Domain::Leaf, &[b"same"]));
    }

    #[test]
    fn a_digest_is_hex_in_json() {
        let digest = Digest([0xab; 32]);
        let text = serde_json::to_string(&digest).unwrap();
        assert_eq!(text, format!("\"{}\"", "ab".repeat(32)));
        assert_eq!(serde_json::from_str::<Digest>(&text).unwrap(), digest);
        assert!(serde_json::from_str::<Digest>("\"abcd\"").is_err());
    }
}
