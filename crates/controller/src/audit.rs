//! What each module's agent claimed of its shares, kept beside the ledger, and what the audits said.
//!
//! One small file a module, replaced before anything is acknowledged or asked: a claim that was drawn from keeps its seed across
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
use model::{ModuleId, Time, Work};
use stratum::account::Tally;
use stratum::commit::auditor::{Challenge, Misconduct, Sum, Totals, Verdict};
use stratum::commit::{Answer, Auditor, Digest, Note};

use self::blocks::Blocks;
use self::drawn::Drawn;

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
    modules: BTreeMap<ModuleId, Auditor>,
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
        self.inner().modules.get(module).map_or(0, Auditor::taken)
    }

    /// Takes a note and answers what to ask. `seed` is fresh and random. Blocks on the disk.
    pub fn take(
        &self,
        module: &ModuleId,
        note: &Note,
        seed: Digest,
    ) -> Result<Result<Option<Challenge>, Misconduct>, Error> {
        if let Note::Job { previous, .. } = note {
            self.inner().blocks.on_job(module, previous);
        }
        self.change(module, |auditor, now| {
            auditor.expire(now);
            auditor.take(note, now, seed)
        })
    }

    /// Judges an answer; `None` for one that nobody waits for. Blocks on the disk.
    pub fn judge(&self, module: &ModuleId, sequence: u64, answer: &Answer) -> Result<Option<Verdict>, Error> {
        let judge = |auditor: &mut Auditor, now| {
            let closing = auditor.closing_of(sequence);
            (auditor.on_answer(sequence, answer, now), closing)
        };
        let (verdict, closing) = self.change(module, judge)?;
        if let (Some(Verdict::Passed), Answer::Shown(proof)) = (verdict, answer) {
            let mut inner = self.inner();
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
        self.change(&segment.module, |auditor, now| auditor.on_ledger(segment.sequence, accepted, now))
    }

    /// What a module's agent is still to answer.
    pub fn open_challenges(&self, module: &ModuleId) -> Vec<Challenge> {
        self.inner().modules.get(module).map(Auditor::open).unwrap_or_default()
    }

    /// What there is to be seen of a module; `None` when its agent never claimed anything.
    pub fn summary(&self, module: &ModuleId) -> Option<Summary> {
        let inner = self.inner();
        let auditor = inner.modules.get(module).filter(|auditor| auditor.taken() > 0)?;
        Some(Summary {
            totals: auditor.totals().clone(),
            provisional: auditor.provisional(),
            paid: auditor.paid(),
            findings: auditor.findings().into_iter().chain(inner.findings(module)).collect(),
        })
    }

    /// Changes an auditor and keeps it. After an error neither is changed: the agent says it again.
    fn change<T>(&self, module: &ModuleId, change: impl FnOnce(&mut Auditor, Time) -> T) -> Result<T, Error> {
        let mut inner = self.inner();
        let mut auditor = inner.modules.get(module).cloned().unwrap_or_default();
        let changed = change(&mut auditor, WallClock.now());
        file::write(&inner.dir, module, &auditor)?;
        inner.modules.insert(module.clone(), auditor);
        Ok(changed)
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // An auditor is replaced as a whole, wherever a panic came.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
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
