//! Brings the status of workloads in line with the plan in force and the agents' reports, and stores what is a decision.
//!
//! Each write compares the revision it was decided on, so that a tenant's cancellation is never overwritten; what loses that
//! race is decided again when the cache has caught up. Read next: `lifecycle.rs` for the decisions themselves.

use std::collections::BTreeSet;

use model::plan::ReasonCode;
use model::report::RunReport;
use model::workload::{Phase, Status, Workload};
use model::{ModuleId, Time, WorkloadId};
use planner::Link;
use store::{Compare, Revision, key};

use super::Term;
use crate::commit::{self, call, put};
use crate::evict::{Candidate, News};
use crate::lifecycle::{Facts, has_ended, is_decision, step};
use crate::live::Live;
use crate::records::WorkloadRecord;

/// Workloads in one transaction: each costs a compare and a put, of 128 each; with the fence, half of them leaves room for
/// workloads of 10 kB.
const BATCH: usize = 60;

/// One workload whose status changes.
struct Step {
    id: WorkloadId,
    status: Status,
    stored: Option<Revision>,
}

impl Term {
    /// Takes over workloads that changed in the store; progress last seen is kept.
    pub(super) fn sync_workloads(&mut self) {
        let cache = self.context.cache.borrow();
        let revisions = &mut self.revisions;
        self.live.send_if_modified(|live| {
            let before = live.workloads.len();
            live.workloads.retain(|id, _| cache.workloads.contains_key(id));
            let mut changed = before != live.workloads.len();
            for (id, stored) in &cache.workloads {
                if revisions.get(id).is_some_and(|known| *known >= stored.revision) {
                    continue;
                }
                changed = true;
                revisions.insert(id.clone(), stored.revision);
                merge(live, &stored.value);
            }
            changed
        });
    }

    /// Steps the workloads of one module, or all of them.
    pub(super) async fn settle(&mut self, only: Option<&ModuleId>) -> Result<(), commit::Error> {
        let queued = if only.is_none() { self.queue() } else { BTreeSet::new() };
        let steps = self.steps(only, &queued);
        if steps.is_empty() {
            return Ok(());
        }
        let (decisions, telemetry): (Vec<Step>, Vec<Step>) =
            steps.into_iter().partition(|step| step.stored.is_some());
        self.take_over(telemetry, None);
        let mut decisions = decisions.into_iter().peekable();
        while decisions.peek().is_some() {
            let batch: Vec<Step> = decisions.by_ref().take(BATCH).collect();
            self.store_batch(batch).await?;
        }
        Ok(())
    }

    /// Workloads of modules out of touch that could be given up and have to wait: not all at once. One whose module reports is none
    /// of them.
    fn queue(&mut self) -> BTreeSet<WorkloadId> {
        let now = self.context.clock.now();
        let (candidates, holding) = candidates(&self.live.borrow(), now);
        let chosen = self.evictions.choose(candidates.clone(), holding, now);
        let mut waiting: BTreeSet<WorkloadId> =
            candidates.into_iter().map(|candidate| candidate.workload).collect();
        waiting.retain(|workload| !chosen.contains(workload));
        if let Some(news) = self.evictions.note(chosen.len(), waiting.len(), holding, now) {
            self.live.send_modify(|live| live.tell(now, "controller", words(news)));
        }
        waiting
    }

    fn steps(&self, only: Option<&ModuleId>, queued: &BTreeSet<WorkloadId>) -> Vec<Step> {
        let now = self.context.clock.now();
        let live = self.live.borrow();
        let here = |workload: &&Workload| {
            let module = workload.status.placement.as_ref().map(|placement| &placement.module);
            only.is_none() || (workload.status.phase.holds() && module == only)
        };
        let decide = |workload: &Workload| {
            let facts = Facts { queued: queued.contains(&workload.id), ..facts(&live, workload, now) };
            let status = step(workload, &facts);
            if status == workload.status {
                return None;
            }
            let decision = is_decision(&workload.status, &status);
            let revision = self.revisions.get(&workload.id).copied().unwrap_or_default();
            Some(Step { id: workload.id.clone(), status, stored: decision.then_some(revision) })
        };
        live.workloads.values().filter(here).filter_map(decide).collect()
    }

    async fn store_batch(&mut self, batch: Vec<Step>) -> Result<(), commit::Error> {
        let mut txn = self.txn();
        for step in &batch {
            let Some(workload) = self.live.borrow().workloads.get(&step.id).cloned() else { continue };
            let record = WorkloadRecord(Workload { status: step.status.clone(), ..workload });
            let key = key::workload(&step.id);
            let is = step.stored.unwrap_or_default();
            txn = txn.when(Compare::ModRevision { key: key.clone(), is }).then(put(key, &record)?);
        }
        let outcome = call(&self.context.store, txn).await?;
        if outcome.succeeded {
            self.take_over(batch, Some(outcome.revision));
            return Ok(());
        }
        // A workload of the batch changed meanwhile, or somebody else leads: the next write of a plan or grant tells which.
        // The cache is about to bring the change, and with it the next step.
        Ok(())
    }

    fn take_over(&mut self, steps: Vec<Step>, revision: Option<Revision>) {
        if steps.is_empty() {
            return;
        }
        let now = self.context.clock.now();
        let (mut freed, mut changed) = (false, Vec::new());
        if let Some(revision) = revision {
            self.revisions.extend(steps.iter().map(|step| (step.id.clone(), revision)));
        }
        self.live.send_modify(|live| {
            for Step { id, status, .. } in steps {
                let Some(workload) = live.workloads.get_mut(&id) else { continue };
                let before = std::mem::replace(&mut workload.status, status.clone());
                // A run that the store had forgotten has ended: a plan numbers the next start.
                freed |= status.phase == Phase::Pending && number(&before) < number(&status);
                if before.phase != status.phase {
                    freed |= before.phase.holds() && !status.phase.holds();
                    if is_evicted(before.phase, &status) {
                        self.context.counts.eviction(status.reason);
                    }
                    let what = format!("{} -> {} ({})", before.phase, status.phase, status.reason);
                    changed.push((workload.clone(), before));
                    live.tell(now, format!("workload {id}"), what);
                }
                if status.phase.is_final() {
                    live.workloads.remove(&id);
                }
            }
        });
        self.note_phases(&changed, now);
        if freed {
            self.hurry("a run ended".into());
        }
    }
}

/// Whether a run that went on is told to stop though neither its tenant ended it nor its work is done.
fn is_evicted(before: Phase, status: &Status) -> bool {
    let went_on = matches!(before, Phase::Starting | Phase::Running);
    went_on && status.phase == Phase::Stopping && status.reason != ReasonCode::Cancelled
}

/// Takes a stored workload over: what was asked and decided from the store, what was seen since from here.
fn merge(live: &mut Live, stored: &Workload) {
    if stored.status.phase.is_final() {
        live.workloads.remove(&stored.id);
        return;
    }
    let mut merged = stored.clone();
    if let Some(known) = live.workloads.get(&stored.id)
        && known.status.placement == merged.status.placement
        && merged.status.phase.holds()
    {
        merged.status.progress = merged.status.progress.max(known.status.progress);
    }
    live.workloads.insert(stored.id.clone(), merged);
}

/// Workloads that could be given up for want of a link, and how many hold GPUs in all.
fn candidates(live: &Live, now: Time) -> (Vec<Candidate>, usize) {
    let holding = || live.workloads.values().filter(|workload| workload.status.phase.holds());
    let lost = holding().filter_map(|workload| {
        let module = &workload.status.placement.as_ref()?.module;
        let lost = live.tracker.link(module, now) == Link::Lost && has_ended(told(live, module), now);
        let Workload { id, spec, status, .. } = workload;
        lost.then(|| Candidate { tier: spec.tier, since: status.since, workload: id.clone() })
    });
    (lost.collect(), holding().count())
}

/// News of evictions for operators.
fn words(news: News) -> String {
    match news {
        News::Wait { waiting, most } => format!(
            "{waiting} workloads of modules out of touch wait to be started elsewhere, {most} a minute: what comes back meanwhile              need not be restarted"
        ),
        News::Over => "no workload of a module out of touch waits any more".to_owned(),
    }
}

/// The number of a workload's last start.
fn number(status: &Status) -> Option<u64> {
    status.placement.as_ref().map(|placement| placement.incarnation)
}

/// When a module was last sent a directive, at the latest.
fn told(live: &Live, module: &ModuleId) -> Time {
    live.published.get(module).map_or(live.since, |published| published.sent)
}

fn facts<'a>(live: &'a Live, workload: &Workload, now: Time) -> Facts<'a> {
    let placement = workload.status.placement.as_ref();
    let module = placement.map(|placement| &placement.module);
    let report = module.and_then(|module| live.tracker.report(module));
    let published = module.and_then(|module| live.published.get(module));
    let persisted = published.is_some_and(|published| {
        let told = !published.content.runs.contains_key(&workload.id);
        let heard = report.is_some_and(|report| {
            report.envelope.generation == published.generation
                && report.envelope.fence.leader == published.fence.leader
        });
        told && heard
    });
    let plan = live.in_force.as_ref().map(|in_force| &in_force.plan);
    let subject = model::plan::Subject::Workload(workload.id.clone());
    let decided = plan.and_then(|plan| plan.decisions.iter().find(|decision| decision.subject == subject));
    let run: Option<&RunReport> = report.and_then(|report| report.runs.get(&workload.id));
    let waits = workload.status.phase == Phase::Pending;
    Facts {
        now,
        planned: plan.and_then(|plan| plan.placement(&workload.id)),
        reason: decided.map(|decision| decision.reason),
        run: run.filter(|_| !waits),
        link: module.map_or(Link::Never, |module| live.tracker.link(module, now)),
        dropped: persisted,
        told: module.map_or(live.since, |module| told(live, module)),
        stray: live.strays.of(workload, now),
        hidden: live.restored.is_some_and(|at| workload.created < at) && live.hides_runs(now),
        queued: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn a_run_is_evicted_once_when_it_is_told_to_stop_for_others_sake() {
        let check = |before: Phase, after: Phase, reason: ReasonCode, expected: bool| {
            let status = Status { phase: after, reason, ..testing::workload("w", "t", 1).status };
            assert_eq!(is_evicted(before, &status), expected, "{before} -> {after} ({reason})");
        };
        check(Phase::Running, Phase::Stopping, ReasonCode::Preempted, true);
        check(Phase::Starting, Phase::Stopping, ReasonCode::PowerShort, true);
        check(Phase::Running, Phase::Stopping, ReasonCode::Cancelled, false);
        check(Phase::Running, Phase::Completed, ReasonCode::Completed, false);
        check(Phase::Running, Phase::Unreachable, ReasonCode::LinkLost, false);
        check(Phase::Stopping, Phase::Pending, ReasonCode::Preempted, false);
    }
}
