//! An answer to a challenge, and its verdict.
//!
//! What a checked answer proves: call a share *good* if its path and its header check. Good shares are different headers, each
//! worth its work, and their work does not overlap in work space. If the good ones are less than 1 − x of the claimed work,
//! each position drawn finds a bad one with probability x at least: k of them miss with (1 − x)^k at most. Assumes that the seed
//! was drawn after the root was told. Next: `auditor.rs`, the caller.

use super::digest::Digest;
use super::leaf::{Leaf, Untrue};
use super::sample::positions;
use super::template::Template;
use super::tree::{Node, Path};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Most positions that a challenge may ask for.
pub const MAX_SAMPLES: usize = 256;

/// A leaf with its way to the root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opening {
    pub leaf: Leaf,
    pub path: Path,
}

/// The openings of all positions in their order, and the jobs of their leaves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proof {
    pub jobs: Vec<Template>,
    pub openings: Vec<Opening>,
}

/// What an agent answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Shown(Proof),
    /// It no longer has what it committed to: nothing is proven, and nothing is called a lie.
    Lost,
}

/// What is wrong with an answer. Each is a lie or a defect; none comes from a bad link or a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, thiserror::Error)]
pub enum Fault {
    #[error("{got} shares are shown where {wanted} were asked for")]
    Count { wanted: usize, got: usize },
    #[error("more jobs are shown than shares can need")]
    TooManyJobs,
    #[error("a path does not lead to the root that was committed to")]
    Root,
    #[error("a leaf lies elsewhere in the claimed work than where it was asked for")]
    Position,
    #[error("shares are not in strict order, so that one may be there twice")]
    Order,
    #[error("a share's job was never announced, or after the claim")]
    UnknownJob,
    #[error("a share's job was not shown")]
    MissingJob,
    #[error("a share's job builds on another block than its claim says")]
    OtherBlock,
    #[error("a share is not what is claimed of it: {0}")]
    Untrue(Untrue),
}

/// What the shares of a good answer say about luck: `hash ÷ target` of an honest share is even between 0 and 1.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Evidence {
    pub ratios: Vec<f64>,
}

/// Judges an answer. `announced` says whether a job was told before the claim.
pub fn judge(
    root: &Node,
    previous: &Digest,
    seed: &Digest,
    samples: usize,
    proof: &Proof,
    announced: impl Fn(&Digest) -> bool,
) -> Result<Evidence, Fault> {
    let wanted = positions(seed, root, samples);
    if proof.openings.len() != wanted.len() {
        return Err(Fault::Count { wanted: wanted.len(), got: proof.openings.len() });
    }
    if proof.jobs.len() > wanted.len() {
        return Err(Fault::TooManyJobs);
    }
    let jobs: BTreeMap<Digest, &Template> = proof.jobs.iter().map(|job| (job.digest(), job)).collect();
    let mut evidence = Evidence::default();
    for (position, opening) in wanted.into_iter().zip(&proof.openings) {
        opening.check(root, position)?;
        let leaf = &opening.leaf;
        if !announced(&leaf.share.job) {
            return Err(Fault::UnknownJob);
        }
        let job = jobs.get(&leaf.share.job).ok_or(Fault::MissingJob)?;
        if job.previous() != *previous {
            return Err(Fault::OtherBlock);
        }
        leaf.check(job).map_err(Fault::Untrue)?;
        evidence.ratios.push(leaf.hash.value().to_f64() / job.target().value().to_f64());
    }
    Ok(evidence)
}

impl Opening {
    /// Whether the leaf stands under the root, in order, and over the position.
    pub fn check(&self, root: &Node, position: u128) -> Result<(), Fault> {
        let mut node = self.leaf.node();
        let mut before = 0u128;
        for step in &self.path.0 {
            let (left, right) = if step.left { (&step.sibling, &node) } else { (&node, &step.sibling) };
            // Above all that stands to the left; to the right something greater than the own subtree's greatest.
            let ordered = match step.left {
                true => step.sibling.max < self.leaf.hash,
                false => node.max < step.sibling.max,
            };
            if !ordered {
                return Err(Fault::Order);
            }
            if step.left {
                before = before.checked_add(step.sibling.sum.0).ok_or(Fault::Root)?;
            }
            node = Node::join(left, right).ok_or(Fault::Root)?;
        }
        if node != *root {
            return Err(Fault::Root);
        }
        match position.checked_sub(before) {
            Some(inside) if inside < self.leaf.work.0 => Ok(()),
            _ => Err(Fault::Position),
        }
    }
}

#[cfg(test)]
mod tests;
