//! What an agent tells the controller, in one sequence: jobs as they come, claims over batches, claims over a block's whole.
//!
//! Assumes that numbers rise and never repeat with another content; there may be gaps, for what was lost before it was told.
//! Next: `book.rs`, which makes them; `auditor.rs`, which takes them.

use super::digest::Digest;
use super::tree::Node;
use serde::{Deserialize, Serialize};

/// Batches that one closing may name: a block of four hours, one each 15 s.
pub const MAX_BATCHES: usize = 1_024;

/// What a claim is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// Some 30 s of shares.
    Batch,
    /// All shares of a block, each once: of the batches of these sequence numbers.
    Closing { batches: Vec<u64> },
}

/// The root of a tree, and what it is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    pub sequence: u64,
    pub kind: Kind,
    /// The block that all its jobs build on, in header order.
    pub previous: Digest,
    pub root: Node,
}

/// Everything that has a sequence number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Note {
    /// A job came from the pool.
    Job {
        sequence: u64,
        digest: Digest,
        previous: Digest,
    },
    Claim(Claim),
}

impl Note {
    pub fn sequence(&self) -> u64 {
        match self {
            Note::Job { sequence, .. } => *sequence,
            Note::Claim(claim) => claim.sequence,
        }
    }
}
