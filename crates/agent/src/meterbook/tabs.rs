//! What each run had held when it was last seen, so that each millisecond of GPU time is billed once: also when a reading misses a
//! run, and when the agent is started again.
//!
//! Pure. A runtime counts what an incarnation has held since its start; the bill is the difference.

use std::collections::BTreeMap;

use model::report::RunReport;
use model::workload::GpuTime;
use model::{Span, Time, WorkloadId};
use serde::{Deserialize, Serialize};

use super::Owner;
use super::page::GpuTimes;

/// A run that no reading has shown for so long has been forgotten by its runtime.
const KEPT: Span = Span::hours(1);
/// Most runs: a runtime shows those that hold its GPUs and some ended ones; 230 bytes each, they fill half the longest record.
const MAX: usize = 2_048;

/// The tabs of all runs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Tabs {
    /// Up to here everything was read off without billing it, when the book was begun.
    begun: Time,
    runs: BTreeMap<WorkloadId, Tab>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Tab {
    incarnation: u64,
    held: GpuTime,
    progress: GpuTime,
    seen: Time,
}

impl Tabs {
    /// Tabs that begin at `now`: what runs held before is not theirs to bill.
    pub fn begin(now: Time, runs: &BTreeMap<WorkloadId, RunReport>) -> Self {
        let runs = runs.iter().map(|(workload, run)| (workload.clone(), Tab::of(run, now)));
        Self { begun: now, runs: runs.take(MAX).collect() }
    }

    /// What each run whose owner is known held and did since it was last seen.
    pub fn advance(
        &mut self,
        now: Time,
        runs: &BTreeMap<WorkloadId, RunReport>,
        owners: &BTreeMap<WorkloadId, Owner>,
    ) -> GpuTimes {
        let mut times = GpuTimes::new();
        for (workload, run) in runs {
            let Some(owner) = owners.get(workload) else { continue };
            let last = self.runs.get(workload);
            let same = last.filter(|tab| tab.incarnation == run.incarnation);
            let (held, progress) = match same {
                Some(tab) => (run.held - tab.held, run.progress - tab.progress),
                // It was never seen. What it held before this book began is not known to be unbilled. A new incarnation resumes
                // from its checkpoint: what it reports first is no progress of this interval.
                None => (run.held.min(GpuTime::of(owner.gpus, now - self.begun)), GpuTime::ZERO),
            };
            let is_older = last.is_some_and(|tab| tab.incarnation > run.incarnation);
            if is_older || (last.is_none() && self.runs.len() >= MAX) {
                continue;
            }
            times.insert((workload.clone(), run.incarnation), (held.at_least_zero(), progress));
            self.runs.insert(workload.clone(), Tab::of(run, now));
        }
        times
    }

    /// Whether a run was seen lately.
    pub fn knows(&self, workload: &WorkloadId) -> bool {
        self.runs.contains_key(workload)
    }

    /// Forgets runs that were not seen for long.
    pub fn forget(&mut self, now: Time) {
        self.runs.retain(|_, tab| now - tab.seen <= KEPT);
    }
}

impl Tab {
    fn of(run: &RunReport, seen: Time) -> Self {
        Self { incarnation: run.incarnation, held: run.held, progress: run.progress, seen }
    }
}
