//! Which modules were given work on which block: whether a block that one of them claims was seen by any other.
//!
//! All pools of one chain build on the same blocks within seconds, so that a module that keeps claiming blocks which nobody
//! else was given works on jobs of its own making. Forks and links that were away make single ones; many do not come by chance.
//! In memory only: a restart begins anew. Assumes notes of live agents. Read next: `../audit.rs`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use model::ModuleId;
use model::report::Finding;
use stratum::commit::Digest;

/// Blocks remembered: two days of 144.
const MAX_BLOCKS: usize = 288;
/// Others count as present if they were given one of so many latest blocks.
const RECENT: usize = 8;
/// Closings that say something, and the part of them that may be alone, in hundredths.
const LEAST: u32 = 16;
const MOST_ALONE_PERCENT: u32 = 25;
/// Closings remembered; then older ones lose half their weight.
const MEMORY: u32 = 288;

/// Private fields: at most [`MAX_BLOCKS`] blocks, latest last.
#[derive(Clone, Debug, Default)]
pub(super) struct Blocks {
    seen: VecDeque<(Digest, BTreeSet<ModuleId>)>,
    counts: BTreeMap<ModuleId, Count>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Count {
    closings: u32,
    alone: u32,
}

impl Blocks {
    /// A module was given a job on a block.
    pub(super) fn on_job(&mut self, module: &ModuleId, previous: &Digest) {
        if let Some((_, modules)) = self.seen.iter_mut().rev().find(|(block, _)| block == previous) {
            modules.insert(module.clone());
            return;
        }
        self.seen.push_back((*previous, BTreeSet::from([module.clone()])));
        if self.seen.len() > MAX_BLOCKS {
            self.seen.pop_front();
        }
    }

    /// A module has proven a block. It counts only while others are there who could have seen it.
    pub(super) fn on_closing(&mut self, module: &ModuleId, previous: &Digest) {
        let other = |modules: &BTreeSet<ModuleId>| modules.iter().any(|seen| seen != module);
        let present = self.seen.iter().rev().take(RECENT).any(|(_, modules)| other(modules));
        if !present {
            return;
        }
        let shared = self.seen.iter().any(|(block, modules)| block == previous && other(modules));
        let count = self.counts.entry(module.clone()).or_default();
        count.closings += 1;
        count.alone += u32::from(!shared);
        if count.closings > MEMORY {
            (count.closings, count.alone) = (count.closings / 2, count.alone / 2);
        }
    }

    pub(super) fn finding(&self, module: &ModuleId) -> Option<Finding> {
        let Count { closings, alone } = *self.counts.get(module)?;
        (closings >= LEAST && alone * 100 > closings * MOST_ALONE_PERCENT).then(|| Finding {
            code: "share-blocks-alone".into(),
            subject: "share commitments".into(),
            message: format!(
                "{alone} of {closings} blocks that it claims work on were given to no other module: ask its pool whether it sent them"
            ),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn block(number: u32) -> Digest {
        let mut bytes = [0; 32];
        bytes[..4].copy_from_slice(&number.to_be_bytes());
        Digest(bytes)
    }

    /// 100 blocks; m2 sees those that `other` says, m1 claims them all.
    fn check(other: impl Fn(u32) -> bool, expected: bool) {
        let [m1, m2] = ["m1", "m2"].map(|id| ModuleId::new(id).unwrap());
        let mut blocks = Blocks::default();
        for number in 0..100 {
            blocks.on_job(&m1, &block(number));
            if other(number) {
                blocks.on_job(&m2, &block(number));
            }
            blocks.on_closing(&m1, &block(number));
        }
        assert_eq!(blocks.finding(&m1).is_some(), expected);
        assert_eq!(blocks.finding(&m2), None);
    }

    #[test]
    fn a_module_that_is_often_alone_is_found_if_others_were_there() {
        check(|_| true, false);
        check(|number| number % 10 != 0, false); // a fork now and then
        check(|number| number % 2 == 0, true);
        check(|_| false, false); // nobody is there who could have seen them
        check(|number| number < 50, false); // the other one has gone
    }

    #[test]
    fn blocks_are_bounded() {
        let m1 = ModuleId::new("m1").unwrap();
        let mut blocks = Blocks::default();
        (0..1_000).for_each(|number| blocks.on_job(&m1, &block(number)));
        assert_eq!(blocks.seen.len(), MAX_BLOCKS);
    }
}
