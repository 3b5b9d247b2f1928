//! The controller's side, one for each module: what was claimed, what was drawn of it, and what the answers proved.
//!
//! Work is *claimed* when a batch arrives, and *proven* when its block's closing has passed its audit: then every share of it is
//! counted once. What an agent cannot show any more is *unproven*: nobody calls it a lie, and nobody counts it. Assumes that
//! seeds are drawn when `take` is called, after the claim arrived, and that the caller keeps this state before a challenge goes
//! out, so that no claim is drawn from twice. Next: `auditor/ledger.rs`, which holds claims against what the pool paid.

mod ledger;
mod luck;
mod shown;
mod step;
#[cfg(test)]
mod tests;

use super::book::{MAX_BLOCK_SHARES, MAX_JOBS};
use super::claim::MAX_BATCHES;
use super::proof;
use super::{Answer, Claim, Digest, Fault, Kind, Node, Note};
use crate::account::Tally;
use ledger::Ledger;
use luck::Luck;
use model::report::Finding;
use model::{Span, Time, Work};
use serde::{Deserialize, Serialize};
use shown::Shown;
use std::collections::{BTreeMap, VecDeque};
pub use step::{Judged, Step};

/// Positions drawn in a batch: a cheat of a tenth is caught within the hour's 120 batches with 1 − 10^-21, and soon.
pub const BATCH_SAMPLES: usize = 4;
/// Positions drawn in a block's closing: a cheat of a twentieth is caught at once with 0.96, and after a day of blocks for sure.
pub const CLOSING_SAMPLES: usize = 64;
/// The same where each byte is paid for: with batches of five minutes 860 a day, so that a cheat of a hundredth is caught within a
/// day with 0.9998, and of a thousandth within a week with 0.998.
pub const SPARING_BATCH_SAMPLES: usize = 1;
pub const SPARING_CLOSING_SAMPLES: usize = 4;
/// Blocks open at once: the one worked on, those just left, and a day without a link to a controller.
pub const MAX_OPEN: usize = 256;
/// Blocks kept of which nothing is claimed: ten hours of them. An honest agent claims a share within 30 s, and notes come in
/// order, so that a claim can only be of the latest few; without this a module whose miners rest for two days had 288 open.
pub const MAX_UNCLAIMED: usize = 64;
/// Jobs and batches of all open blocks together. An honest agent holds 16,384 jobs at most, and a day's batches are 2,880 where one
/// comes each 30 s; so this is a day and a half of the most there can be. Some 280 bytes each in the file: 9 MB.
pub const MAX_ENTRIES: usize = 1 << 15;
/// Blocks remembered so that none is claimed twice: three days of 144, in 30 kB.
pub const MAX_CLOSED: usize = 432;
/// A block that was not closed or whose challenge was not answered after so long stays unproven: a day more than an agent keeps it.
pub const PATIENCE: Span = Span::hours(48);
/// Findings kept, and for how long.
pub const MAX_FINDINGS: usize = 16;
pub const REMEMBERED: Span = Span::hours(7 * 24);

/// What a claim itself does wrong, before anything is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Misconduct {
    #[error("a claim comes again under its number with another content")]
    Conflict,
    #[error("a block is claimed again after it was closed")]
    Reopened,
    #[error("a block's closing is not the sum of the batches it names")]
    Sums,
    #[error("a block's closing names a batch that was not claimed, or has failed its audit")]
    Batches,
    #[error("there are more blocks, jobs, batches or shares than a module can have")]
    TooMuch,
    #[error("it is over no share, or over shares without work")]
    Nothing,
}

/// What is drawn for a claim, before it is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Draw {
    /// Fresh and random.
    pub seed: Digest,
    /// Few positions: the agent is behind a link that costs by the megabyte.
    pub sparing: bool,
}

/// What is asked of an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Challenge {
    pub sequence: u64,
    pub seed: Digest,
    pub samples: usize,
}

/// What an answer showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Passed,
    Lost,
    Failed(Fault),
}

/// Sums since this auditor began.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Of closings that passed.
    pub proven: Sum,
    /// Of closings that were never shown, and of batches in none.
    pub unproven: Sum,
    /// Of what failed.
    pub failed: Sum,
    /// Shares that were drawn and hashed again.
    pub samples: u64,
    /// Claims that passed, and that failed.
    pub passed: u64,
    pub failures: u64,
}

/// Shares and their work, as it is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sum {
    pub shares: u64,
    pub work: Work,
}

/// Private fields: blocks open at most [`MAX_OPEN`], closed at most [`MAX_CLOSED`], numbers rising.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Auditor {
    taken: u64,
    blocks: BTreeMap<Digest, Block>,
    closed: VecDeque<Digest>,
    totals: Totals,
    luck: Luck,
    ledger: Ledger,
    #[serde(default)]
    shown: Shown,
    findings: VecDeque<(Time, Finding)>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Block {
    since: Time,
    /// With the number each was announced under.
    jobs: BTreeMap<Digest, u64>,
    batches: BTreeMap<u64, Claimed>,
    closing: Option<(Claim, Claimed)>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Claimed {
    root: Node,
    seed: Digest,
    standing: Standing,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    sparing: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Standing {
    Asked,
    Passed,
    Lost,
    Failed,
}

impl Auditor {
    /// The last number that was taken; an agent goes on behind it.
    pub fn taken(&self) -> u64 {
        self.taken
    }

    pub fn totals(&self) -> &Totals {
        &self.totals
    }

    /// Claimed in batches whose block is not judged yet.
    pub fn provisional(&self) -> Sum {
        let batches = self.blocks.values().flat_map(|block| block.batches.values());
        batches
            .filter(|batch| batch.standing != Standing::Failed)
            .fold(Sum::default(), |sum, b| sum.plus(&b.root))
    }

    /// What the pool accepted by the module's ledger, since this auditor began.
    pub fn paid(&self) -> Sum {
        self.ledger.paid
    }

    /// Takes a job or a claim. A repeat answers what the first time did.
    pub fn take(
        &mut self,
        note: &Note,
        at: Time,
        draw: impl Into<Draw>,
    ) -> Result<Option<Challenge>, Misconduct> {
        let is_repeat = note.sequence() <= self.taken;
        self.taken = self.taken.max(note.sequence());
        let taken = match note {
            _ if is_repeat => self.again(note),
            Note::Job { sequence, digest, previous } => self.announce(*sequence, *digest, *previous, at),
            Note::Claim(claim) => self.claim(claim, at, draw.into()),
        };
        taken.map_err(|misconduct| self.accuse(at, note.sequence(), misconduct))
    }

    /// Claims that were taken and not answered; to be asked again in every session.
    pub fn open(&self) -> Vec<Challenge> {
        let mut open = Vec::new();
        for block in self.blocks.values() {
            let batches = block.batches.iter().map(|(at, batch)| (*at, batch, batch.batch_samples()));
            let closing = block.closing.iter();
            let closing = closing.map(|(claim, of)| (claim.sequence, of, of.closing_samples()));
            let asked = batches.chain(closing).filter(|(_, claimed, _)| claimed.standing == Standing::Asked);
            open.extend(asked.map(|(sequence, of, samples)| Challenge { sequence, seed: of.seed, samples }));
        }
        open.sort_by_key(|challenge| challenge.sequence);
        open
    }

    /// The block that a closing is of, while its answer is waited for.
    pub fn closing_of(&self, sequence: u64) -> Option<Digest> {
        let is_it =
            |block: &Block| block.closing.as_ref().is_some_and(|(claim, _)| claim.sequence == sequence);
        self.blocks.iter().find(|(_, block)| is_it(block)).map(|(previous, _)| *previous)
    }

    /// Judges an answer and takes it; `None` for one that nobody waits for.
    pub fn on_answer(&mut self, sequence: u64, answer: &Answer, at: Time) -> Option<Verdict> {
        let judged = self.judge(sequence, answer)?;
        self.on_judged(sequence, &judged, at)
    }

    /// What an answer shows: all the hashing, and nothing changes. `None` for one that nobody waits for.
    pub fn judge(&self, sequence: u64, answer: &Answer) -> Option<Judged> {
        let (previous, block, claimed, samples) = self.asked(sequence)?;
        let announced = |job: &Digest| block.jobs.get(job).is_some_and(|told| *told < sequence);
        let Answer::Shown(shown) = answer else { return Some(Judged::Lost) };
        Some(match proof::judge(&claimed.root, previous, &claimed.seed, samples, shown, announced) {
            Ok(evidence) => Judged::Shown { ratios: evidence.ratios },
            Err(fault) => Judged::Failed(fault),
        })
    }

    /// An answer was judged.
    pub fn on_judged(&mut self, sequence: u64, judged: &Judged, at: Time) -> Option<Verdict> {
        let (previous, _, claimed, _) = self.asked(sequence)?;
        let (previous, count) = (*previous, claimed.root.count);
        let verdict = match judged {
            Judged::Lost => Verdict::Lost,
            Judged::Shown { ratios } => self.count(ratios),
            Judged::Failed(fault) => {
                let message = format!(
                    "claim {sequence} of {count} shares failed its audit: {fault}; keep its agent's data directory and look at what runs there"
                );
                self.find(at, "share-audit-failed", message);
                self.totals.failures += 1;
                Verdict::Failed(*fault)
            }
        };
        self.settle(&previous, sequence, verdict);
        Some(verdict)
    }

    /// Gives up blocks that were never closed or never shown. To be called now and then.
    pub fn expire(&mut self, at: Time) {
        let old = |block: &Block| at.since(block.since) > PATIENCE;
        let gone: Vec<Digest> =
            self.blocks.iter().filter(|(_, b)| old(b)).map(|(previous, _)| *previous).collect();
        gone.iter().for_each(|previous| self.end(previous, None));
        self.findings.retain(|(found, _)| at.since(*found) <= REMEMBERED);
    }

    /// What is wrong, newest last.
    pub fn findings(&self) -> Vec<Finding> {
        let told = self.findings.iter().map(|(_, finding)| finding.clone());
        told.chain(self.luck.finding()).chain(self.ledger.finding()).chain(self.shown.finding()).collect()
    }

    /// Lines of the module's ledger arrived: so many shares were accepted by the pool. Segments that came before are passed over.
    pub fn on_ledger(&mut self, sequence: u64, accepted: Tally, at: Time) {
        let accepted = Sum { shares: accepted.shares, work: accepted.work };
        self.ledger.on_segment(sequence, accepted, at);
    }

    fn asked(&self, sequence: u64) -> Option<(&Digest, &Block, &Claimed, usize)> {
        let (previous, block) = self.blocks.iter().find(|(_, block)| block.asked(sequence).is_some())?;
        let (claimed, samples) = block.asked(sequence)?;
        Some((previous, block, claimed, samples))
    }

    fn again(&mut self, note: &Note) -> Result<Option<Challenge>, Misconduct> {
        let Note::Claim(claim) = note else { return Ok(None) };
        let Some(block) = self.blocks.get(&claim.previous) else { return Ok(None) };
        let known = match &claim.kind {
            Kind::Batch => block.batches.get(&claim.sequence),
            Kind::Closing { .. } => {
                let closing = block.closing.as_ref().filter(|(known, _)| known.sequence == claim.sequence);
                closing.map(|(_, claimed)| claimed)
            }
        };
        match known {
            Some(claimed) if claimed.root != claim.root => Err(Misconduct::Conflict),
            _ => Ok(self.open().into_iter().find(|challenge| challenge.sequence == claim.sequence)),
        }
    }

    fn announce(
        &mut self,
        sequence: u64,
        digest: Digest,
        previous: Digest,
        at: Time,
    ) -> Result<Option<Challenge>, Misconduct> {
        if self.closed.contains(&previous) {
            return Err(Misconduct::Reopened);
        }
        if !self.blocks.contains_key(&previous) {
            self.drop_unclaimed();
            if self.blocks.len() >= MAX_OPEN {
                return Err(Misconduct::TooMuch);
            }
        }
        self.make_room(&previous)?;
        let block = self.blocks.entry(previous).or_insert_with(|| Block::new(at));
        if block.closing.is_some() {
            return Err(Misconduct::Reopened);
        }
        if block.jobs.len() >= MAX_JOBS {
            return Err(Misconduct::TooMuch);
        }
        block.jobs.entry(digest).or_insert(sequence);
        Ok(None)
    }

    /// Makes room for another block among those without a claim; the one that was announced first goes.
    fn drop_unclaimed(&mut self) {
        let unclaimed = self.blocks.iter().filter(|(_, block)| block.is_unclaimed());
        if unclaimed.clone().count() < MAX_UNCLAIMED {
            return;
        }
        let first = unclaimed.min_by_key(|(_, block)| block.jobs.values().max().copied());
        if let Some(previous) = first.map(|(previous, _)| *previous) {
            self.blocks.remove(&previous);
        }
    }

    /// Room for a job or a batch of a block: others go of which nothing is claimed, the one that was announced first before the rest.
    fn make_room(&mut self, previous: &Digest) -> Result<(), Misconduct> {
        let entries = |block: &Block| block.jobs.len() + block.batches.len();
        while self.blocks.values().map(entries).sum::<usize>() >= MAX_ENTRIES {
            let others = self.blocks.iter().filter(|(of, block)| *of != previous && block.is_unclaimed());
            let first = others.min_by_key(|(_, block)| block.jobs.values().max().copied());
            let first = first.map(|(of, _)| *of).ok_or(Misconduct::TooMuch)?;
            self.blocks.remove(&first);
        }
        Ok(())
    }

    fn claim(&mut self, claim: &Claim, at: Time, draw: Draw) -> Result<Option<Challenge>, Misconduct> {
        if claim.root.count as usize > MAX_BLOCK_SHARES {
            return Err(Misconduct::TooMuch);
        }
        // Each share is worth a hash at least. A sum of zero would have no positions, and any number of shares would pass.
        if claim.root.count == 0 || claim.root.sum.0 < u128::from(claim.root.count) {
            return Err(Misconduct::Nothing);
        }
        if self.closed.contains(&claim.previous) {
            return Err(Misconduct::Reopened);
        }
        if !self.blocks.contains_key(&claim.previous) && self.blocks.len() >= MAX_OPEN {
            return Err(Misconduct::TooMuch);
        }
        if claim.kind == Kind::Batch {
            self.make_room(&claim.previous)?;
        }
        let block = self.blocks.entry(claim.previous).or_insert_with(|| Block::new(at));
        if block.closing.is_some() {
            return Err(Misconduct::Reopened);
        }
        let Draw { seed, sparing } = draw;
        let claimed = Claimed { root: claim.root, seed, standing: Standing::Asked, sparing };
        let (sequence, batch_samples) = (claim.sequence, claimed.batch_samples());
        let closing_samples = claimed.closing_samples();
        match &claim.kind {
            Kind::Batch => {
                if block.batches.len() >= MAX_BATCHES {
                    return Err(Misconduct::TooMuch);
                }
                block.batches.insert(sequence, claimed);
                self.ledger.on_claim(Sum::of(&claim.root), at);
                Ok(Some(Challenge { sequence, seed, samples: batch_samples }))
            }
            Kind::Closing { batches } => {
                let judged = block.closable(batches, &claim.root);
                block.closing = Some((claim.clone(), claimed));
                match judged {
                    Ok(()) => Ok(Some(Challenge { sequence, seed, samples: closing_samples })),
                    Err(misconduct) => {
                        self.end(&claim.previous, Some(Standing::Failed));
                        Err(misconduct)
                    }
                }
            }
        }
    }

    fn count(&mut self, ratios: &[f64]) -> Verdict {
        self.totals.samples += ratios.len() as u64;
        self.totals.passed += 1;
        self.luck.record(ratios);
        Verdict::Passed
    }

    fn settle(&mut self, previous: &Digest, sequence: u64, verdict: Verdict) {
        let standing = match verdict {
            Verdict::Passed => Standing::Passed,
            Verdict::Lost => Standing::Lost,
            Verdict::Failed(_) => Standing::Failed,
        };
        let Some(block) = self.blocks.get_mut(previous) else { return };
        match block.batches.get_mut(&sequence) {
            Some(batch) => batch.standing = standing,
            None => self.end(previous, Some(standing)),
        }
    }

    /// A block is judged, or given up: its work goes into the totals, and it is never opened again.
    fn end(&mut self, previous: &Digest, closing: Option<Standing>) {
        let Some(block) = self.blocks.remove(previous) else { return };
        if !block.is_unclaimed() {
            self.shown.record(closing == Some(Standing::Passed));
        }
        let mut named = Vec::new();
        // A closing that failed says what it likes; what failed is what had been claimed, and that are its block's batches.
        let failed = closing == Some(Standing::Failed);
        if let (Some((claim, _)), Some(standing), false) = (&block.closing, closing, failed) {
            let to = match standing {
                Standing::Passed => &mut self.totals.proven,
                Standing::Failed | Standing::Asked | Standing::Lost => &mut self.totals.unproven,
            };
            *to = to.plus(&claim.root);
            if let Kind::Closing { batches } = &claim.kind {
                named.clone_from(batches);
            }
        }
        for (_, batch) in block.batches.iter().filter(|(sequence, _)| !named.contains(sequence)) {
            let failed = failed || batch.standing == Standing::Failed;
            let to = if failed { &mut self.totals.failed } else { &mut self.totals.unproven };
            *to = to.plus(&batch.root);
        }
        self.closed.push_back(*previous);
        if self.closed.len() > MAX_CLOSED {
            self.closed.pop_front();
        }
    }

    fn accuse(&mut self, at: Time, sequence: u64, misconduct: Misconduct) -> Misconduct {
        self.totals.failures += 1;
        let message =
            format!("claim {sequence} was not taken: {misconduct}; look at what runs as this agent");
        self.find(at, "share-claim-refused", message);
        misconduct
    }

    fn find(&mut self, at: Time, code: &str, message: String) {
        if self.findings.len() >= MAX_FINDINGS {
            // The oldest of its kind, so that many of one kind hide none of another.
            let same = self.findings.iter().position(|(_, finding)| finding.code == code);
            self.findings.remove(same.unwrap_or(0));
        }
        let finding = Finding { code: code.into(), subject: "share commitments".into(), message };
        self.findings.push_back((at, finding));
    }
}

impl From<Digest> for Draw {
    fn from(seed: Digest) -> Self {
        Self { seed, sparing: false }
    }
}

impl Claimed {
    fn batch_samples(&self) -> usize {
        if self.sparing { SPARING_BATCH_SAMPLES } else { BATCH_SAMPLES }
    }

    fn closing_samples(&self) -> usize {
        if self.sparing { SPARING_CLOSING_SAMPLES } else { CLOSING_SAMPLES }
    }
}

impl Block {
    fn new(since: Time) -> Block {
        Block { since, jobs: BTreeMap::new(), batches: BTreeMap::new(), closing: None }
    }

    fn is_unclaimed(&self) -> bool {
        self.batches.is_empty() && self.closing.is_none()
    }

    /// The claim of that number, if its answer is waited for, and how many positions were drawn.
    fn asked(&self, sequence: u64) -> Option<(&Claimed, usize)> {
        let batch = self.batches.get(&sequence).map(|batch| (batch, batch.batch_samples()));
        let closing = self.closing.as_ref().filter(|(claim, _)| claim.sequence == sequence);
        let found = batch.or(closing.map(|(_, closing)| (closing, closing.closing_samples())));
        found.filter(|(claimed, _)| claimed.standing == Standing::Asked)
    }

    /// Whether a closing over these batches is their sum.
    fn closable(&self, batches: &[u64], root: &Node) -> Result<(), Misconduct> {
        let mut sum = Sum::default();
        for (index, sequence) in batches.iter().enumerate() {
            let batch = self.batches.get(sequence).filter(|batch| batch.standing != Standing::Failed);
            let batch = batch.filter(|_| !batches[..index].contains(sequence)).ok_or(Misconduct::Batches)?;
            sum = sum.plus(&batch.root);
        }
        if sum == Sum::of(root) { Ok(()) } else { Err(Misconduct::Sums) }
    }
}

impl Sum {
    fn of(root: &Node) -> Sum {
        Sum { shares: root.count.into(), work: root.sum }
    }

    /// Claims are not trusted: a sum beyond the integer stays at its end.
    fn plus(&self, root: &Node) -> Sum {
        let work = Work(self.work.0.saturating_add(root.sum.0));
        Sum { shares: self.shares.saturating_add(root.count.into()), work }
    }
}
