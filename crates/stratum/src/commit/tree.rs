//! A Merkle tree over shares in strict order of header hash, whose every node binds the count, the work and the greatest hash
//! below it.
//!
//! Assumes leaves that the builder has sorted; a verifier assumes nothing. The greatest hash is what proves the order: a path
//! that checks shows that its leaf lies above everything to its left and not above its own subtree's greatest, so that of any
//! two leaves whose paths check, the left one is the smaller: none is there twice. A neighbour's path alone would not show
//! that: two sorted runs, one after the other, have one wrong pair of neighbours. Next: `proof.rs`.

use super::Malformed;
use super::bytes::Reader;
use super::digest::{Digest, Domain};
use super::leaf::Leaf;
use crate::hash::HeaderHash;
use model::Work;
use serde::{Deserialize, Serialize};

/// Levels above the leaves: 2^20 leaves are four times what a claim may have.
pub const MAX_DEPTH: usize = 20;
/// Bytes of an encoded node: digest, count, sum, greatest hash.
pub const NODE_BYTES: usize = 32 + 4 + 16 + 32;

/// What is known of a subtree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    pub digest: Digest,
    pub count: u32,
    pub sum: Work,
    #[serde(with = "as_digest")]
    pub max: HeaderHash,
}

/// One step up: what stands beside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// Whether the sibling stands to the left.
    pub left: bool,
    pub sibling: Node,
}

/// From a leaf to below the root.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Path(pub Vec<Step>);

impl Node {
    /// The parent of two; `None` where count or work leave their integers, which no true claim does.
    pub fn join(left: &Node, right: &Node) -> Option<Node> {
        let count = left.count.checked_add(right.count)?;
        let sum = Work(left.sum.0.checked_add(right.sum.0)?);
        let digest = Digest::of(Domain::Node, &[&left.encode(), &right.encode()]);
        Some(Node { digest, count, sum, max: right.max })
    }

    pub fn encode(&self) -> [u8; NODE_BYTES] {
        let mut out = [0; NODE_BYTES];
        out[..32].copy_from_slice(&self.digest.0);
        out[32..36].copy_from_slice(&self.count.to_be_bytes());
        out[36..52].copy_from_slice(&self.sum.0.to_be_bytes());
        out[52..].copy_from_slice(&self.max.0);
        out
    }

    pub fn decode(bytes: &[u8]) -> Result<Node, Malformed> {
        let mut reader = Reader(bytes);
        reader.node().and_then(|node| reader.end(node)).ok_or(Malformed("node"))
    }
}

impl Reader<'_> {
    fn node(&mut self) -> Option<Node> {
        let (digest, count) = (Digest(self.array()?), self.u32()?);
        Some(Node { digest, count, sum: Work(self.u128()?), max: HeaderHash(self.array()?) })
    }
}

impl Path {
    pub fn encode(&self) -> Vec<u8> {
        let step = |step: &Step| [&[u8::from(step.left)][..], &step.sibling.encode()].concat();
        self.0.iter().flat_map(step).collect()
    }

    pub fn decode(bytes: &[u8]) -> Result<Path, Malformed> {
        let (steps, rest) = bytes.as_chunks::<{ NODE_BYTES + 1 }>();
        if !rest.is_empty() || steps.len() > MAX_DEPTH {
            return Err(Malformed("path"));
        }
        let step = |bytes: &[u8; NODE_BYTES + 1]| match bytes[0] {
            side @ 0..=1 => Ok(Step { left: side == 1, sibling: Node::decode(&bytes[1..])? }),
            _ => Err(Malformed("path")),
        };
        steps.iter().map(step).collect::<Result<_, _>>().map(Path)
    }
}

/// All levels of a tree, leaves first. Private field: each level is made of the one before; an odd last node moves up alone.
#[derive(Clone, Debug)]
pub struct Tree {
    levels: Vec<Vec<Node>>,
}

impl Tree {
    /// `None` without leaves, or where their work leaves its integer.
    pub fn build<'a>(leaves: impl IntoIterator<Item = &'a Leaf>) -> Option<Tree> {
        let mut levels = vec![leaves.into_iter().map(Leaf::node).collect::<Vec<_>>()];
        while let Some(level) = levels.last().filter(|level| level.len() > 1) {
            let parent = |pair: &[Node]| match pair {
                [left, right] => Node::join(left, right),
                _ => pair.first().copied(),
            };
            levels.push(level.chunks(2).map(parent).collect::<Option<Vec<_>>>()?);
        }
        let tree = Tree { levels };
        (tree.levels.len() <= MAX_DEPTH + 1 && !tree.levels[0].is_empty()).then_some(tree)
    }

    pub fn root(&self) -> Node {
        self.levels[self.levels.len() - 1][0]
    }

    /// The number of the leaf in whose work a position lies; `None` at or behind the end.
    pub fn at(&self, position: u128) -> Option<usize> {
        let mut rest = position;
        for (index, leaf) in self.levels[0].iter().enumerate() {
            match rest.checked_sub(leaf.sum.0) {
                Some(left) => rest = left,
                None => return Some(index),
            }
        }
        None
    }

    pub fn path(&self, leaf: usize) -> Path {
        let mut steps = Vec::new();
        let mut index = leaf;
        for level in &self.levels {
            if let Some(sibling) = level.get(index ^ 1) {
                steps.push(Step { left: index % 2 == 1, sibling: *sibling });
            }
            index /= 2;
        }
        Path(steps)
    }
}

/// A hash is written as a digest is: in the order of its bytes.
mod as_digest {
    use super::{Deserialize, Digest, HeaderHash, Serialize};

    pub(super) fn serialize<S: serde::Serializer>(hash: &HeaderHash, to: S) -> Result<S::Ok, S::Error> {
        Digest(hash.0).serialize(to)
    }

    pub(super) fn deserialize<'de, D: serde::Deserializer<'de>>(from: D) -> Result<HeaderHash, D::Error> {
        Digest::deserialize(from).map(|digest| HeaderHash(digest.0))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::testing::{leaves, template};
    use super::*;

    #[test]
    fn a_root_binds_count_work_and_the_greatest_hash() {
        for count in [1, 2, 3, 5, 8, 13, 64] {
            let leaves = leaves(&template(1, 0), count, 0);
            let root = Tree::build(&leaves).unwrap().root();
            assert_eq!(root.count as usize, count);
            assert_eq!(root.sum, leaves.iter().map(|leaf| leaf.work).sum());
            assert_eq!(Some(root.max), leaves.last().map(|leaf| leaf.hash));
        }
        assert!(Tree::build(&[]).is_none());
    }

    #[test]
    fn positions_lead_to_the_leaf_in_whose_work_they_lie() {
        let leaves = leaves(&template(1, 0), 5, 0);
        let work = leaves[0].work.0;
        let tree = Tree::build(&leaves).unwrap();
        let check =
            |position: u128, expected: Option<usize>| assert_eq!(tree.at(position), expected, "{position}");
        check(0, Some(0));
        check(work - 1, Some(0));
        check(work, Some(1));
        check(5 * work - 1, Some(4));
        check(5 * work, None);
    }

    #[test]
    fn nodes_and_paths_come_back() {
        let tree = Tree::build(&leaves(&template(1, 0), 7, 0)).unwrap();
        assert_eq!(Node::decode(&tree.root().encode()), Ok(tree.root()));
        for leaf in 0..7 {
            let path = tree.path(leaf);
            let bytes = path.encode();
            assert_eq!(Path::decode(&bytes), Ok(path));
            assert!(Path::decode(&bytes[1..]).is_err());
        }
        assert!(Path::decode(&[2; NODE_BYTES + 1]).is_err());
        assert!(Path::decode(&[0; (NODE_BYTES + 1) * (MAX_DEPTH + 1)]).is_err());
        let text = serde_json::to_string(&tree.root()).unwrap();
        assert_eq!(serde_json::from_str::<Node>(&text).unwrap(), tree.root());
    }
}
