//! The agent's book of accepted shares: what it has claimed, and all it needs to prove it.
//!
//! A pure machine: it proposes events, the caller writes them to its disk and applies them. Shares lie by block, since a header
//! names the one before it: a block's shares are sealed into batches as time goes, and once the pool works on another block all
//! of them are claimed once more, in one tree, in which each can stand but once. Assumes milliseconds of one clock that also
//! counts through restarts. Next: `auditor.rs`, the other side.

use super::claim::MAX_BATCHES;
use super::leaf::Untrue;
use super::proof::MAX_SAMPLES;
use super::sample::positions;
use super::tree::Tree;
use super::{Answer, Claim, Digest, Event, Kind, Leaf, Note, Opening, Proof, Share, Template};
use crate::hash::HeaderHash;
use model::Span;
use std::collections::{BTreeMap, VecDeque};

/// A batch is sealed at so many shares, or so long after its first unless its owner asks for another time.
pub const MAX_BATCH: usize = 1_024;
pub const BATCH: Span = Span::secs(30);
/// A block that the pool has left is closed after so long without a share or a job: pools answer within 60 s.
pub const CLOSE_MS: u64 = 90_000;
/// Jobs of one block: one each 30 s over four hours, and as many for steps of difficulty.
pub const MAX_JOBS: usize = 1_024;
/// Shares of one block: 100 a second, for 22 minutes.
pub const MAX_BLOCK_SHARES: usize = 1 << 17;
/// Shares in all. 200 bytes each in memory and 170 on disk make 52 MB and 45 MB.
pub const MAX_SHARES: usize = 1 << 18;
/// What the controller has not judged after so long is given up: a day.
pub const RETAIN_MS: u64 = 86_400_000;

/// Jobs in all: in 144 blocks of a day there are 20 each. 1.2 kB each in memory and on disk, where coinbases are usual.
pub const MAX_ALL_JOBS: usize = 1 << 14;
/// Blocks at once: as many as an auditor takes. Where a pool names more, shares on them are not claimed.
pub const MAX_BLOCKS: usize = 256;
/// Blocks that were claimed and forgotten: as many as an auditor remembers. A chain may come back to one of them, or a pool that
/// lags behind, and none may be claimed twice.
pub const MAX_SETTLED: usize = 432;

/// Why a share is not claimed. It is paid all the same; the claim is smaller than what was paid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Refused {
    #[error("its job was not announced")]
    UnknownJob,
    #[error("its block was closed before, or was never open")]
    Closed,
    #[error("it is in the book already")]
    Duplicate,
    #[error("the block has as many shares or jobs as a claim may have")]
    Full,
    #[error("it would not pass an audit: {0}")]
    Untrue(Untrue),
}

/// Private fields: roots are those of the shares, and numbers rise.
#[derive(Clone, Debug, Default)]
pub struct Book {
    blocks: BTreeMap<Digest, Block>,
    last: u64,
    /// Latest last.
    settled: VecDeque<Digest>,
}

#[derive(Clone, Debug)]
struct Block {
    began_ms: u64,
    /// Of its last job or share.
    touched_ms: u64,
    jobs: BTreeMap<Digest, (/* sequence */ u64, Template)>,
    /// With the batch each is in; 0 = not sealed yet.
    shares: BTreeMap<HeaderHash, (u64, Leaf)>,
    open: usize,
    open_since_ms: u64,
    claims: BTreeMap<u64, Claim>,
    closed_ms: Option<u64>,
}

impl Book {
    /// An empty one, whose numbers begin after `last`.
    pub fn new(last: u64) -> Book {
        Book { last, ..Book::default() }
    }

    /// A job came from the pool; `None` if it is known, or there is no room for another.
    pub fn on_job(&self, at_ms: u64, template: Template) -> Option<Event> {
        let previous = template.previous();
        let takes = match self.blocks.get(&previous) {
            None => self.blocks.len() < MAX_BLOCKS && !self.settled.contains(&previous),
            Some(block) => {
                let known = block.jobs.contains_key(&template.digest());
                !known && block.closed_ms.is_none() && block.jobs.len() < MAX_JOBS
            }
        };
        takes.then(|| Event::Job { sequence: self.next(at_ms), at_ms, template })
    }

    /// The pool has accepted a share. It is hashed once more: what would not pass an audit is not claimed.
    pub fn on_share(
        &self,
        at_ms: u64,
        previous: Digest,
        hash: HeaderHash,
        share: Share,
    ) -> Result<Event, Refused> {
        let block = self.blocks.get(&previous).filter(|block| block.closed_ms.is_none());
        let block = block.ok_or(Refused::Closed)?;
        let (_, template) = block.jobs.get(&share.job).ok_or(Refused::UnknownJob)?;
        if block.shares.contains_key(&hash) {
            return Err(Refused::Duplicate);
        }
        if block.shares.len() >= MAX_BLOCK_SHARES || block.claims.len() >= MAX_BATCHES {
            return Err(Refused::Full);
        }
        let leaf = Leaf { hash, work: template.target().work(), share };
        leaf.check(template).map_err(Refused::Untrue)?;
        Ok(Event::Share { previous, at_ms, leaf })
    }

    /// A batch to seal, `batch` after its first share, or a block to close, if it is time for one. To be asked until there is none.
    pub fn due(&self, at_ms: u64, batch: Span) -> Option<Event> {
        let batch_ms = u64::try_from(batch.millis()).unwrap_or(0);
        let newest = self.blocks.values().map(|block| block.began_ms).max()?;
        let sequence = self.next(at_ms);
        self.blocks.iter().filter(|(_, block)| block.closed_ms.is_none()).find_map(|(previous, block)| {
            let old = at_ms.saturating_sub(block.open_since_ms) >= batch_ms;
            let left = block.began_ms < newest && at_ms.saturating_sub(block.touched_ms) >= CLOSE_MS;
            if block.open > 0 && (old || left || block.open >= MAX_BATCH) {
                return Some(Event::Seal { sequence, at_ms, previous: *previous });
            }
            left.then_some(Event::Close { sequence, at_ms, previous: *previous })
        })
    }

    /// Makes a change that this book proposed, now or before a restart. Others change nothing.
    pub fn apply(&mut self, event: Event) {
        match event {
            Event::Job { sequence, at_ms, template } => {
                self.last = self.last.max(sequence);
                let block = self.blocks.entry(template.previous()).or_insert_with(|| Block::new(at_ms));
                block.touched_ms = at_ms;
                block.jobs.insert(template.digest(), (sequence, template));
            }
            Event::Share { previous, at_ms, leaf } => {
                let Some(block) = self.blocks.get_mut(&previous) else { return };
                if block.open == 0 {
                    block.open_since_ms = at_ms;
                }
                block.touched_ms = at_ms;
                if block.shares.insert(leaf.hash, (0, leaf)).is_none() {
                    block.open += 1;
                }
            }
            Event::Seal { sequence, previous, .. } => {
                self.last = self.last.max(sequence);
                if let Some(block) = self.blocks.get_mut(&previous) {
                    block.seal(sequence, previous);
                }
            }
            Event::Close { sequence, at_ms, previous } => {
                self.last = self.last.max(sequence);
                let closed =
                    self.blocks.get_mut(&previous).is_some_and(|b| b.close(sequence, at_ms, previous));
                if !closed {
                    // Without a share there is nothing to claim and nothing to keep.
                    self.blocks.remove(&previous);
                }
            }
        }
    }

    /// What is to be told to a controller that has heard everything up to `after`, in order, at most `most`.
    pub fn notes(&self, after: u64, most: usize) -> Vec<Note> {
        let mut notes = BTreeMap::new();
        for (previous, block) in &self.blocks {
            for (digest, (sequence, _)) in block.jobs.iter().filter(|(_, (sequence, _))| *sequence > after) {
                notes.insert(
                    *sequence,
                    Note::Job { sequence: *sequence, digest: *digest, previous: *previous },
                );
            }
            let claims = block.claims.range(after.saturating_add(1)..);
            notes.extend(claims.map(|(sequence, claim)| (*sequence, Note::Claim(claim.clone()))));
        }
        notes.into_values().take(most).collect()
    }

    /// Opens the claim of that number where the seed says.
    pub fn answer(&self, sequence: u64, seed: &Digest, samples: usize) -> Answer {
        let block = self.blocks.values().find(|block| block.claims.contains_key(&sequence));
        let proof = block.and_then(|block| block.open_at(sequence, seed, samples.min(MAX_SAMPLES)));
        proof.map_or(Answer::Lost, Answer::Shown)
    }

    /// A book of the one block that a claim is of, to answer from while this one goes on.
    pub fn part(&self, sequence: u64) -> Book {
        let blocks = self.blocks.iter().filter(|(_, block)| block.claims.contains_key(&sequence));
        Book {
            blocks: blocks.map(|(previous, block)| (*previous, block.clone())).collect(),
            ..Book::new(self.last)
        }
    }

    /// The block that a judged closing was of: it may be forgotten.
    pub fn block_of(&self, closing: u64) -> Option<Digest> {
        let is_it = |block: &Block| {
            block.claims.get(&closing).is_some_and(|claim| matches!(claim.kind, Kind::Closing { .. }))
        };
        self.blocks.iter().find(|(_, block)| is_it(block)).map(|(previous, _)| *previous)
    }

    /// A block to give up: closed a day ago and never judged, or the oldest where there are too many shares or jobs.
    pub fn excess(&self, at_ms: u64) -> Option<Digest> {
        let shares: usize = self.blocks.values().map(|block| block.shares.len()).sum();
        let jobs: usize = self.blocks.values().map(|block| block.jobs.len()).sum();
        let oldest = self.blocks.iter().min_by_key(|(_, block)| block.began_ms)?;
        let is_old = |block: &Block| block.closed_ms.is_some_and(|at| at_ms.saturating_sub(at) > RETAIN_MS);
        let old = self.blocks.iter().find(|(_, block)| is_old(block));
        let many = shares > MAX_SHARES || jobs > MAX_ALL_JOBS;
        let full = (many && self.blocks.len() > 1).then_some(oldest);
        old.or(full).map(|(previous, _)| *previous)
    }

    /// A block was judged or given up. It is not opened again, neither now nor, where [`Book::settled`] is kept, after a restart.
    pub fn forget(&mut self, previous: &Digest) {
        self.blocks.remove(previous);
        self.settled.retain(|known| known != previous);
        self.settled.push_back(*previous);
        if self.settled.len() > MAX_SETTLED {
            self.settled.pop_front();
        }
    }

    /// Blocks that were forgotten, latest last; at most [`MAX_SETTLED`].
    pub fn settled(&self) -> impl Iterator<Item = &Digest> {
        self.settled.iter()
    }

    pub fn has(&self, previous: &Digest) -> bool {
        self.blocks.contains_key(previous)
    }

    /// The controller has heard of numbers that this book never gave: its disk was lost and its clock stood back.
    pub fn go_on_behind(&mut self, heard: u64) {
        self.last = self.last.max(heard);
    }

    /// Numbers are times where they can be, so that a book that was lost goes on behind what it told before.
    fn next(&self, at_ms: u64) -> u64 {
        at_ms.max(self.last + 1)
    }
}

impl Block {
    fn new(at_ms: u64) -> Block {
        Block {
            began_ms: at_ms,
            touched_ms: at_ms,
            jobs: BTreeMap::new(),
            shares: BTreeMap::new(),
            open: 0,
            open_since_ms: at_ms,
            claims: BTreeMap::new(),
            closed_ms: None,
        }
    }

    fn seal(&mut self, sequence: u64, previous: Digest) {
        self.shares.values_mut().filter(|(batch, _)| *batch == 0).for_each(|(batch, _)| *batch = sequence);
        self.open = 0;
        if let Some(tree) = Tree::build(self.of_batch(sequence)) {
            let root = tree.root();
            self.claims.insert(sequence, Claim { sequence, kind: Kind::Batch, previous, root });
        }
    }

    fn close(&mut self, sequence: u64, at_ms: u64, previous: Digest) -> bool {
        let Some(tree) = Tree::build(self.shares.values().map(|(_, leaf)| leaf)) else { return false };
        let kind = Kind::Closing { batches: self.claims.keys().copied().collect() };
        self.claims.insert(sequence, Claim { sequence, kind, previous, root: tree.root() });
        self.closed_ms = Some(at_ms);
        true
    }

    fn of_batch(&self, sequence: u64) -> impl Iterator<Item = &Leaf> {
        self.shares.values().filter(move |(batch, _)| *batch == sequence).map(|(_, leaf)| leaf)
    }

    fn open_at(&self, sequence: u64, seed: &Digest, samples: usize) -> Option<Proof> {
        let claim = self.claims.get(&sequence)?;
        let leaves: Vec<&Leaf> = match claim.kind {
            Kind::Batch => self.of_batch(sequence).collect(),
            Kind::Closing { .. } => self.shares.values().map(|(_, leaf)| leaf).collect(),
        };
        let tree = Tree::build(leaves.iter().copied())?;
        let mut jobs = BTreeMap::new();
        let mut openings = Vec::new();
        for position in positions(seed, &claim.root, samples) {
            let index = tree.at(position)?;
            let leaf = leaves[index].clone();
            let (_, template) = self.jobs.get(&leaf.share.job)?;
            jobs.entry(leaf.share.job).or_insert_with(|| template.clone());
            openings.push(Opening { leaf, path: tree.path(index) });
        }
        Some(Proof { jobs: jobs.into_values().collect(), openings })
    }
}

#[cfg(test)]
mod tests;
