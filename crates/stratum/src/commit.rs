//! Share commitments: an agent binds itself to the shares it counted, before it knows which of them it must show.
//!
//! The agent keeps a `book` of accepted shares (`leaf`) under the jobs that its pool sent (`template`), builds a `tree` over
//! each batch and over each block's whole, and sends the roots. The controller's `auditor` draws positions in work space
//! (`sample`), and the agent opens the tree there (`proof`).
//!
//! Invariant: seeds and times come in as arguments. What is proven with which probability, the format byte by byte, and what
//! is not proven: docs/commitments.md.

pub mod auditor;
pub mod book;
mod bytes;
pub mod claim;
pub mod digest;
pub mod event;
pub mod leaf;
pub mod proof;
pub mod sample;
pub mod template;
#[cfg(test)]
pub(crate) mod testing;
pub mod tree;

pub use auditor::Auditor;
pub use book::Book;
pub use claim::{Claim, Kind, Note};
pub use digest::Digest;
pub use event::Event;
pub use leaf::{Leaf, Share};
pub use proof::{Answer, Fault, Opening, Proof};
pub use template::Template;
pub use tree::Node;

/// Bytes that are not what the format says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the {0} of a share commitment does not decode: its sender speaks another version, or the file is damaged"
)]
pub struct Malformed(pub &'static str);
