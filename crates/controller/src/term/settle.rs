//! Brings the status of workloads in line with the plan in force and the agents' reports, and stores what is a decision.
//!
//! Each write compares the revision it was decided on, so that a tenant's cancellation is never overwritten; what loses that
//! race is decided again when the cache has caught up. Read next: `lifecycle.rs` for the decisions themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use model::plan::ReasonCode;
use model::report::RunReport;
use model::workload::{Phase, Status, Workload};
use model::{ModuleId, Time, WorkloadId};
use planner::Link;
use store::{Compare, Revision, key};

use super::Term;
use super::decided::Decided;
use crate::commit::{self, call, put};
use crate::evict::{Candidate, News};
use crate::lifecycle::{Facts, has_ended, is_decision, step};
use crate::live::Live;
use crate::records::WorkloadRecord;

/// Workloads in one transaction: each costs a compare and a put, of 128 each; with the fence, half of them leaves room for
/// workloads of 10 kB.
const BATCH: usize = 60;

/// Which workloads hold GPUs on which module, so that a report looks at those of its own module alone.
#[derive(Clone, Debug, Default)]
pub(super) struct Holders {
    homes: BTreeMap<WorkloadId, ModuleId>,
    held: BTreeMap<ModuleId, BTreeSet<WorkloadId>>,
}

impl Holders {
    /// Takes in a workload's status; `None`: it is no more. Answers where it held and where it holds, unless nothing changed.
    fn set(&mut self, id: &WorkloadId, status: Option<&Status>) -> [Option<ModuleId>; 2] {
        let holds = status.filter(|status| status.phase.holds());
        let home = holds.and_then(|status| status.placement.as_ref()).map(|placement| &placement.module);
        if self.homes.get(id) == home {
            return [None, None];
        }
        let before = self.homes.remove(id);
        if let Some(before) = &before
            && let Some(held) = self.held.get_mut(before)
        {
            held.remove(id);
            if held.is_empty() {
                self.held.remove(before);
            }
        }
        if let Some(home) = home {
            self.homes.insert(id.clone(), home.clone());
            self.held.entry(home.clone()).or_default().insert(id.clone());
        }
        [before, home.cloned()]
    }

    /// Those of one module, in order of id.
    fn on(&self, module: &ModuleId) -> impl Iterator<Item = &WorkloadId> {
        self.held.get(module).into_iter().flatten()
    }

    /// Where a workload holds.
    fn home(&self, id: &WorkloadId) -> Option<&ModuleId> {
        self.homes.get(id)
    }
}

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
        let (revisions, holders) = (&mut self.revisions, &mut self.holders);
        let mut stirred: Vec<ModuleId> = Vec::new();
        self.live.send_if_modified(|live| {
            let before = live.workloads.len();
            live.workloads.retain(|id, _| {
                let kept = cache.workloads.contains_key(id);
                if !kept {
                    stirred.extend(holders.set(id, None).into_iter().flatten());
                }
                kept
            });
            let mut changed = before != live.workloads.len();
            for (id, stored) in &cache.workloads {
                if revisions.get(id).is_some_and(|known| *known >= stored.revision) {
                    continue;
                }
                changed = true;
                revisions.insert(id.clone(), stored.revision);
                merge(live, &stored.value);
                // What a module is told depends on more than who holds there: a cancellation counts too.
                stirred.extend(holders.home(id).cloned());
                let status = live.workloads.get(id).map(|workload| &workload.status);
                stirred.extend(holders.set(id, status).into_iter().flatten());
            }
            changed
        });
        drop(cache);
        stirred.iter().for_each(|module| self.stir(module));
    }

    /// Steps the workloads of one module, or all of them.
    pub(super) async fn settle(&mut self, only: Option<&ModuleId>) -> Result<(), commit::Error> {
        if only.is_some_and(|module| self.holders.on(module).next().is_none()) {
            return Ok(());
        }
        let plan = self.live.borrow().in_force.as_ref().map(|in_force| Arc::clone(&in_force.plan));
        self.decided.follow(plan.as_ref());
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
        self.evictions.limit(self.context.tuning.borrow().evictions);
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
        let decide = |workload: &Workload| {
            let facts =
                Facts { queued: queued.contains(&workload.id), ..facts(&live, &self.decided, workload, now) };
            let status = step(workload, &facts);
            if status == workload.status {
                return None;
            }
            let decision = is_decision(&workload.status, &status);
            let revision = self.revisions.get(&workload.id).copied().unwrap_or_default();
            Some(Step { id: workload.id.clone(), status, stored: decision.then_some(revision) })
        };
        match only {
            Some(module) => {
                let here = self.holders.on(module).filter_map(|id| live.workloads.get(id));
                here.filter_map(decide).collect()
            }
            None => live.workloads.values().filter_map(decide).collect(),
        }
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
        let (mut freed, mut stirred, mut changed) = (false, Vec::new(), Vec::new());
        let holders = &mut self.holders;
        if let Some(revision) = revision {
            self.revisions.extend(steps.iter().map(|step| (step.id.clone(), revision)));
        }
        self.live.send_modify(|live| {
            for Step { id, status, .. } in steps {
                let Some(workload) = live.workloads.get_mut(&id) else { continue };
                let before = std::mem::replace(&mut workload.status, status.clone());
                stirred.extend(holders.home(&id).filter(|_| revision.is_some()).cloned());
                stirred.extend(holders.set(&id, Some(&status)).into_iter().flatten());
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
        stirred.iter().for_each(|module| self.stir(module));
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

fn facts<'a>(live: &'a Live, decided: &'a Decided, workload: &Workload, now: Time) -> Facts<'a> {
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
    let run: Option<&RunReport> = report.and_then(|report| report.runs.get(&workload.id));
    let waits = workload.status.phase == Phase::Pending;
    Facts {
        now,
        planned: decided.placement(&workload.id),
        reason: decided.reason(&workload.id),
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
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::testing::{self, module_id, placement};

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

    #[test]
    fn who_holds_where_follows_every_status() {
        let mut holders = Holders::default();
        let id = |name: &str| WorkloadId::new(name).unwrap();
        let mut check = |name: &str, phase: Option<Phase>, at: &str, stirred: &[&str], there: [&str; 2]| {
            let given = phase.map(|phase| {
                let placement = Some(placement(at, 1));
                Status { phase, placement, ..testing::workload(name, "t", 1).status }
            });
            let found = holders.set(&id(name), given.as_ref());
            let found: Vec<ModuleId> = found.into_iter().flatten().collect();
            assert_eq!(
                found,
                stirred.iter().map(|name| module_id(name)).collect::<Vec<_>>(),
                "{name} {phase:?}"
            );
            for (module, there) in ["m1", "m2"].into_iter().zip(there) {
                let held: Vec<&str> = holders.on(&module_id(module)).map(WorkloadId::as_str).collect();
                assert_eq!(held.join(" "), there, "{module} after {name} {phase:?}");
            }
            let home = holders.home(&id(name)).map(|home| home.as_str().to_owned());
            let holds = phase.is_some_and(Phase::holds);
            assert_eq!(home.as_deref(), Some(at).filter(|_| holds));
        };
        check("v", Some(Phase::Pending), "m1", &[], ["", ""]);
        check("v", Some(Phase::Starting), "m1", &["m1"], ["v", ""]);
        check("w", Some(Phase::Running), "m1", &["m1"], ["v w", ""]);
        check("w", Some(Phase::Stopping), "m1", &[], ["v w", ""]);
        check("w", Some(Phase::Starting), "m2", &["m1", "m2"], ["v", "w"]);
        check("v", Some(Phase::Completed), "m1", &["m1"], ["", "w"]);
        check("w", None, "m2", &["m2"], ["", ""]);
        check("w", None, "m2", &[], ["", ""]);
    }
}
