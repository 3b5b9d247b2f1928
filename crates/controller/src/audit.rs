//! What each module's agent claimed of its shares, kept beside the ledger, and what the audits said.
//!
//! Each change is on the disk before anything is acknowledged or asked: a claim that was drawn from keeps its seed across
//! restarts. A controller that comes to lead without these files is told again what agents still have. Times are on the wall
//! clock, since shares are. Assumes one process per directory. Read next: `stratum::commit::auditor`, which decides;
//! `session/shares.rs`, the caller.

mod blocks;
mod drawn;
mod file;
pub(crate) mod wire;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use api::clock::WallClock;
use model::ledger::{Line, Segment, ShareEnd};
use model::report::Finding;
use model::time::Clock;
use model::{ModuleId, Work};
use stratum::account::Tally;
use stratum::commit::auditor::{Challenge, Draw, Misconduct, Step, Sum, Totals, Verdict};
use stratum::commit::{Answer, Auditor, Note};

use self::blocks::Blocks;
use self::drawn::Drawn;
use self::file::Kept;

/// Why audits cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The disk failed.
    #[error("the audits in {} could not be written or read; check the disk", path.display())]
    Io {
        /// Which file or directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A file is not what was written.
    #[error(
        "the audits in {} are damaged; move the file away, and the module's agent tells again what it still has",
        path.display()
    )]
    Damaged {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
}

/// What people see of a module's audits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// What was judged.
    pub totals: Totals,
    /// Claimed and not judged yet.
    pub provisional: Sum,
    /// Accepted by the pool, by the ledger.
    pub paid: Sum,
    /// What is wrong.
    pub findings: Vec<Finding>,
}

/// A cheap handle on the audits of all modules.
#[derive(Clone, Debug)]
pub struct Audits(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    dir: PathBuf,
    modules: BTreeMap<ModuleId, Kept>,
    blocks: Blocks,
    drawn: Drawn,
}

impl Audits {
    /// Opens the audits beside the ledger in `dir`. Blocks on the disk.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        let modules = file::read_all(dir)?;
        let (dir, blocks, drawn) = (dir.to_owned(), Blocks::default(), Drawn::default());
        Ok(Self(Arc::new(Mutex::new(Inner { dir, modules, blocks, drawn }))))
    }

    /// The last note of a module that is durable; 0 = none.
    pub fn taken(&self, module: &ModuleId) -> u64 {
        self.inner().auditor(module).map_or(0, Auditor::taken)
    }

    /// Takes a note and answers what to ask. Blocks on the disk.
    pub fn take(
        &self,
        module: &ModuleId,
        note: &Note,
        draw: impl Into<Draw>,
    ) -> Result<Result<Option<Challenge>, Misconduct>, Error> {
        if let Note::Job { previous, .. } = note {
            self.inner().blocks.on_job(module, previous);
        }
        let at = WallClock.now();
        let draw = draw.into();
        let step = Step::Note { note: note.clone(), at, seed: draw.seed, sparing: draw.sparing };
        self.inner().change(module, &step, |auditor| {
            auditor.expire(at);
            auditor.take(note, at, draw)
        })
    }

    /// Judges an answer; `None` for one that nobody waits for. Blocks on the disk.
    pub fn judge(&self, module: &ModuleId, sequence: u64, answer: &Answer) -> Result<Option<Verdict>, Error> {
        let mut inner = self.inner();
        let (at, auditor) = (WallClock.now(), inner.auditor(module));
        let Some(judged) = auditor.and_then(|auditor| auditor.judge(sequence, answer)) else {
            return Ok(None);
        };
        let closing = auditor.and_then(|auditor| auditor.closing_of(sequence));
        let step = Step::Answer { sequence, judged: judged.clone(), at };
        let verdict = inner.change(module, &step, |auditor| auditor.on_judged(sequence, &judged, at))?;
        if let (Some(Verdict::Passed), Answer::Shown(proof)) = (verdict, answer) {
            proof.openings.iter().for_each(|opening| inner.drawn.on_share(module, opening.leaf.hash));
            closing.iter().for_each(|previous| inner.blocks.on_closing(module, previous));
        }
        Ok(verdict)
    }

    /// Notes what the pool accepted, once for each segment. Blocks on the disk.
    pub fn on_segment(&self, segment: &Segment) -> Result<(), Error> {
        let accepted = accepted(segment);
        if accepted.shares == 0 {
            return Ok(());
        }
        let (at, sequence) = (WallClock.now(), segment.sequence);
        let step =
            Step::Ledger { sequence, accepted: Sum { shares: accepted.shares, work: accepted.work }, at };
        self.inner().change(&segment.module, &step, |auditor| auditor.on_ledger(sequence, accepted, at))
    }

    /// What a module's agent is still to answer.
    pub fn open_challenges(&self, module: &ModuleId) -> Vec<Challenge> {
        self.inner().auditor(module).map(Auditor::open).unwrap_or_default()
    }

    /// What there is to be seen of a module; `None` when its agent never claimed anything.
    pub fn summary(&self, module: &ModuleId) -> Option<Summary> {
        let inner = self.inner();
        let auditor = inner.auditor(module).filter(|auditor| auditor.taken() > 0)?;
        Some(Summary {
            totals: auditor.totals().clone(),
            provisional: auditor.provisional(),
            paid: auditor.paid(),
            findings: auditor.findings().into_iter().chain(inner.findings(module)).collect(),
        })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // A step is on the disk before it takes effect; a panic in between is repaired by the next start.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn auditor(&self, module: &ModuleId) -> Option<&Auditor> {
        self.modules.get(module).map(|kept| &kept.auditor)
    }

    /// Keeps a step, and then makes it. After an error nothing has changed: the agent says it again.
    fn change<T>(
        &mut self,
        module: &ModuleId,
        step: &Step,
        make: impl FnOnce(&mut Auditor) -> T,
    ) -> Result<T, Error> {
        let kept = self.modules.entry(module.clone()).or_insert_with(|| Kept::new(&self.dir, module));
        kept.add(step)?;
        Ok(make(&mut kept.auditor))
    }

    /// What shows only beside other modules.
    fn findings(&self, module: &ModuleId) -> impl Iterator<Item = Finding> {
        self.blocks.finding(module).into_iter().chain(self.drawn.finding(module))
    }
}

/// What the pool accepted, and credits.
fn accepted(segment: &Segment) -> Tally {
    let mut tally = Tally::default();
    for line in &segment.lines {
        if let Line::Shares(shares) = line
            && shares.end == ShareEnd::Accepted
        {
            tally += Tally { shares: shares.count, work: Work(shares.credited.0) };
        }
    }
    tally
}

#[cfg(test)]
mod tests;
