//! Runs that agents report and the store does not know of: what is left of decisions that a restored store has forgotten.
//!
//! A start of a workload has a number, stored before any agent is told. So an agent can only report a higher number than the
//! stored one, or an active run where the workload is not placed, when the store went back in time. Such a run is not told to go on
//! anywhere; its workload starts again, with a number above all that were seen, once nobody reports it active any more.
//!
//! Assumes that each module's latest report is noted here. Pure. Read next: `lifecycle.rs`, which waits for them.

use std::collections::BTreeMap;

use model::envelope::Envelope;
use model::report::{Report, RunPhase, RunReport};
use model::workload::Workload;
use model::{ModuleId, Span, Time, WorkloadId};

use crate::lifecycle::KEEP_WITHOUT_LINK;

/// Runs that did not fit what was stored when they were reported. Empty but after a restore.
#[derive(Clone, Debug, Default)]
pub struct Strays(BTreeMap<WorkloadId, BTreeMap<ModuleId, (RunReport, Time)>>);

impl Strays {
    /// Takes in a module's latest report. Runs of workloads that nobody knows are not noted: they are assigned to nobody.
    pub fn note(&mut self, report: &Report, workloads: &BTreeMap<WorkloadId, Workload>, now: Time) {
        let module = &report.module;
        self.0.retain(|_, modules| {
            modules.remove(module);
            !modules.is_empty()
        });
        for (id, run) in &report.runs {
            if workloads.get(id).is_some_and(|workload| is_stray(workload, module, run)) {
                self.0.entry(id.clone()).or_default().insert(module.clone(), (run.clone(), now));
            }
        }
    }

    /// The stray run of a workload that matters most: an active one before others, then the highest number.
    pub fn of(&self, workload: &Workload, now: Time) -> Option<&RunReport> {
        // A module that has been silent for so long has ended it by itself.
        let alive = |at: Time| now <= at + Envelope::controller_hold(KEEP_WITHOUT_LINK);
        let there = self.0.get(&workload.id)?.iter();
        let strays = there
            .filter(|(module, (run, at))| is_stray(workload, module, run) && (alive(*at) || !is_active(run)));
        strays.map(|(_, (run, _))| run).max_by_key(|run| (is_active(run), run.incarnation))
    }
}

/// Whether somewhere in the fleet runs may go on that a restored store does not know: from the restore until every module has
/// reported, or until those that have not must have ended what they had.
pub fn may_be_hidden(restored: Option<Time>, since: Time, complete: bool, kept_for: Span, now: Time) -> bool {
    // A clock that was set back since the restore must not keep this up for ever: a term's own time bounds it.
    let begun = restored.map(|restored| restored.min(since));
    !complete && begun.is_some_and(|begun| now <= begun + Envelope::controller_hold(kept_for))
}

/// Whether the run occupies GPUs.
pub fn is_active(run: &RunReport) -> bool {
    matches!(run.phase, RunPhase::Starting | RunPhase::Running | RunPhase::Stopping)
}

fn is_stray(workload: &Workload, module: &ModuleId, run: &RunReport) -> bool {
    let status = &workload.status;
    let number = status.placement.as_ref().map_or(0, |placement| placement.incarnation);
    let placed = status.placement.as_ref().is_some_and(|placement| placement.module == *module);
    let known = placed && status.phase.holds() && run.incarnation == number;
    !known && (run.incarnation > number || is_active(run))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use model::workload::{GpuTime, Phase};

    use super::*;
    use crate::testing::{self, module_id, placement};

    fn run(phase: RunPhase, incarnation: u64) -> RunReport {
        let time = GpuTime::new(10);
        RunReport { incarnation, phase, progress: time, saved: time, held: time }
    }

    fn stored(phase: Phase, at: Option<(&str, u64)>) -> Workload {
        let mut workload = testing::workload("w", "t", 2);
        workload.status.phase = phase;
        workload.status.placement = at.map(|(module, number)| placement(module, number));
        workload
    }

    #[test]
    fn only_what_the_store_cannot_explain_is_a_stray() {
        let check = |workload: &Workload, module: &str, run: &RunReport, expected: bool| {
            assert_eq!(
                is_stray(workload, &module_id(module), run),
                expected,
                "{workload:?} {module} {run:?}"
            );
        };
        let here = stored(Phase::Running, Some(("m1", 2)));
        check(&here, "m1", &run(RunPhase::Running, 2), false);
        check(&here, "m1", &run(RunPhase::Stopped, 1), false);
        check(&here, "m2", &run(RunPhase::Stopped, 1), false);
        check(&here, "m1", &run(RunPhase::Running, 3), true);
        check(&here, "m1", &run(RunPhase::Stopped, 3), true);
        check(&here, "m2", &run(RunPhase::Running, 1), true);
        check(&here, "m2", &run(RunPhase::Running, 2), true);
        let waits = stored(Phase::Pending, None);
        check(&waits, "m1", &run(RunPhase::Starting, 1), true);
        check(&waits, "m1", &run(RunPhase::Stopped, 1), true);
        let stopped = stored(Phase::Pending, Some(("m1", 1)));
        check(&stopped, "m1", &run(RunPhase::Stopped, 1), false);
        check(&stopped, "m1", &run(RunPhase::Running, 1), true);
    }

    #[test]
    fn a_stray_is_known_until_its_module_says_otherwise_or_must_have_ended_it() {
        let workload = stored(Phase::Running, Some(("m1", 1)));
        let workloads = BTreeMap::from([(workload.id.clone(), workload.clone())]);
        let report = |module: &str, run: Option<RunReport>| {
            let mut report = testing::report(module, 1);
            report.runs.extend(run.map(|run| (workload.id.clone(), run)));
            report
        };
        let mut strays = Strays::default();
        let now = Time(1_000);
        strays.note(&report("m1", Some(run(RunPhase::Running, 1))), &workloads, now);
        assert_eq!(strays.of(&workload, now), None);
        strays.note(&report("m2", Some(run(RunPhase::Running, 2))), &workloads, now);
        strays.note(&report("m3", Some(run(RunPhase::Stopped, 3))), &workloads, now);
        assert_eq!(strays.of(&workload, now).map(|run| run.incarnation), Some(2), "active before higher");
        let later = now + Envelope::controller_hold(KEEP_WITHOUT_LINK) + Span::new(1);
        assert_eq!(
            strays.of(&workload, later).map(|run| run.incarnation),
            Some(3),
            "what was stopped stays so"
        );
        strays.note(&report("m2", None), &workloads, now);
        assert_eq!(strays.of(&workload, now).map(|run| run.incarnation), Some(3));
        strays.note(&report("m3", None), &workloads, now);
        assert_eq!(strays.of(&workload, now), None);
        strays.note(&report("m2", Some(run(RunPhase::Running, 2))), &BTreeMap::new(), now);
        assert_eq!(strays.of(&workload, now), None, "nobody ordered it");
    }

    #[test]
    fn what_may_be_hidden_after_a_restore_is_waited_for_so_long_and_no_longer() {
        let at = |seconds: i64| Time(seconds * 1_000);
        let check = |restored: Option<Time>, since: i64, complete: bool, now: i64, expected: bool| {
            let hidden = may_be_hidden(restored, at(since), complete, Span::secs(100), at(now));
            assert_eq!(hidden, expected, "{restored:?} {since} {complete} {now}");
        };
        check(None, 0, false, 1, false);
        check(Some(at(0)), 5, false, 6, true);
        check(Some(at(0)), 5, true, 6, false);
        check(Some(at(0)), 5, false, 100, true);
        check(Some(at(0)), 5, false, 101, false);
        check(Some(at(9_999)), 5, false, 106, false);
    }
}
