//! The jobs one miner was handed, each with what was in force for it: slice, difficulty, mask. A step of any of them
//! therefore rejects nothing in flight.
//!
//! Assumes that job ids on the wire are ours, counted up in hex: the pool's may repeat when its session does.
//! Next: `../downstream.rs`.

use crate::job::Assignment;
use crate::slices::MinerSlice;
use crate::target::Difficulty;
use crate::verify::Reject;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Jobs remembered. A pool sends one each 30 s and a block comes each 600 s: 20, and room for difficulty steps.
const MAX_HANDED: usize = 48;
/// Seconds by which the time of a job may run ahead of the pool's because it was sent again; far inside ntime's window.
const MAX_AGAIN: u32 = 600;

#[derive(Clone, Debug)]
pub(super) struct Handed {
    /// Its id on the wire; never given twice.
    pub(super) number: u64,
    pub(super) assignment: Arc<Assignment>,
    pub(super) slice: Arc<MinerSlice>,
    pub(super) difficulty: Difficulty,
    pub(super) mask: Option<u32>,
    stale: bool,
}

#[derive(Clone, Debug, Default)]
pub(super) struct HandedOut {
    jobs: BTreeMap<u64, Handed>,
    last: u64,
    current: Option<Arc<Assignment>>,
    /// How often the current job was sent again. Each time its ntime moves on a second: miners that begin anew with
    /// every job would otherwise repeat their own headers.
    again: u32,
    /// The next sending makes the earlier jobs stale.
    clean: bool,
}

impl HandedOut {
    pub(super) fn replace(&mut self, assignment: Arc<Assignment>) {
        let other_block =
            self.current.as_ref().is_some_and(|current| current.job.previous != assignment.job.previous);
        if assignment.job.clean || other_block {
            self.jobs.values_mut().for_each(|handed| handed.stale = true);
            self.clean = true;
        }
        (self.current, self.again) = (Some(assignment), 0);
    }

    /// The slice has changed, so that the current job means nothing until the pool sends one for the new one.
    pub(super) fn forget_current(&mut self) {
        self.current = None;
        self.jobs.values_mut().for_each(|handed| handed.stale = true);
        self.clean = true;
    }

    pub(super) fn again(&mut self) {
        self.again = (self.again + 1) % MAX_AGAIN;
    }

    /// Records the current job under a new id and gives the parameters of its `mining.notify`.
    pub(super) fn hand_out(
        &mut self,
        slice: &Arc<MinerSlice>,
        difficulty: Difficulty,
        mask: Option<u32>,
    ) -> Option<Value> {
        let assignment = Arc::clone(self.current.as_ref()?);
        self.last += 1;
        let clean = std::mem::take(&mut self.clean);
        let ntime = assignment.job.ntime.saturating_add(self.again);
        let params = assignment.job.to_params(&format!("{:x}", self.last), ntime, clean);
        let number = self.last;
        let handed = Handed { number, assignment, slice: Arc::clone(slice), difficulty, mask, stale: false };
        self.jobs.insert(self.last, handed);
        if self.jobs.len() > MAX_HANDED {
            self.jobs.pop_first();
        }
        Some(params)
    }

    /// An easier difficulty holds for jobs in flight too; credited is then the easier work, so that nobody gains by it.
    pub(super) fn ease(&mut self, difficulty: Difficulty) {
        self.jobs.values_mut().for_each(|handed| handed.difficulty = handed.difficulty.min(difficulty));
    }

    pub(super) fn find(&self, id: &str) -> Result<&Handed, Reject> {
        let number = u64::from_str_radix(id, 16).map_err(|_| Reject::UnknownJob)?;
        match self.jobs.get(&number) {
            None => Err(Reject::UnknownJob),
            Some(handed) if handed.stale => Err(Reject::Stale),
            Some(handed) => Ok(handed),
        }
    }
}
