//! The life of a workload: what its stored status becomes, given the plan in force and what the module's agent reports.
//!
//! It never lets a workload run twice: a start elsewhere waits until the agent that had it has said that it stopped, or until
//! that agent, out of touch, must have stopped it by itself. A start raises the incarnation, and agents stop lower ones. Runs that
//! the store does not know, because it was restored, end first (`strays.rs`).
//!
//! Assumes that placements of a plan carry the incarnation of the run they mean ([`misnumbered`] refuses a plan where they do
//! not). Pure: applying a step twice changes nothing. Read next: `publish.rs`, which tells agents only what stands here.

use std::collections::BTreeMap;

use model::envelope::Envelope;
use model::plan::{Plan, ReasonCode};
use model::report::{Finding, RunPhase, RunReport};
use model::workload::{Phase, Placement, Status, Workload};
use model::{Span, Time, WorkloadId};
use planner::Link;

use crate::strays::is_active;

/// How long an agent keeps a run without hearing from a controller, before it stops it by itself. Five envelopes' validity:
/// a link that is gone for less costs no restart, which takes 2 to 10 minutes.
pub const KEEP_WITHOUT_LINK: Span = Span::minutes(10);

/// What a step is decided from.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The time now.
    pub now: Time,
    /// Where the plan in force has it run.
    pub planned: Option<&'a Placement>,
    /// Why, by that plan.
    pub reason: Option<ReasonCode>,
    /// What the agent of the module it is placed on says of it; `None` when it does not know it or never reported.
    pub run: Option<&'a RunReport>,
    /// The link of that module.
    pub link: Link,
    /// That agent has persisted a directive in which the run does not stand, as of the same report.
    pub dropped: bool,
    /// When that agent was last sent a directive, at the latest.
    pub told: Time,
    /// A run of it that what is stored does not explain.
    pub stray: Option<&'a RunReport>,
    /// After a restore it may run on a module that has not reported since.
    pub hidden: bool,
    /// Too many were given up of late for want of a link: this one waits.
    pub queued: bool,
}

/// The next status. `workload.status` is the stored one, with the progress last seen.
pub fn step(workload: &Workload, facts: &Facts) -> Status {
    let mut status = workload.status.clone();
    if status.phase.is_final() {
        return status;
    }
    let current = status.placement.as_ref().map(|placement| placement.incarnation);
    let run = facts.run.filter(|run| Some(run.incarnation) == current);
    match facts.stray {
        Some(stray) if is_forgotten(stray, current) => forgotten(workload, stray, facts, &mut status),
        // It may have moved on since the copy was made: it is told to go on where it is stored only if it does so already.
        _ if status.phase.holds() && facts.hidden && run.is_none() && facts.link != Link::Lost => {
            (status.phase, status.reason) = (Phase::Stopping, ReasonCode::LinkLost);
        }
        _ if status.phase.holds() => hold(workload, facts, run, &mut status),
        _ => {}
    }
    // Who still has an older run is told to end it: nothing starts beside it.
    let free = !facts.hidden && !facts.stray.is_some_and(is_active);
    if status.phase == Phase::Pending && (free || workload.cancel) {
        start(workload, facts, &mut status);
    }
    if status.phase != workload.status.phase {
        status.since = facts.now;
    }
    status
}

/// Whether the difference is worth a write: telemetry alone (progress, time held) is not.
pub fn is_decision(old: &Status, new: &Status) -> bool {
    let quiet = Status { progress: old.progress, held: old.held, ..new.clone() };
    quiet != *old
}

/// Placements whose incarnation does not fit: a run that goes on keeps its number, a start has the next one.
pub fn misnumbered<'a>(plan: &Plan, workloads: impl Iterator<Item = &'a Workload>) -> Vec<Finding> {
    let placements: BTreeMap<&WorkloadId, &Placement> = plan.placements().collect();
    let wrong = |workload: &Workload| {
        let planned = *placements.get(&workload.id)?;
        let last = workload.status.placement.as_ref();
        let number = last.map_or(0, |last| last.incarnation);
        let goes_on = last.is_some_and(|last| {
            workload.status.phase.holds() && last.module == planned.module && last.pool == planned.pool
        });
        let fits = planned.incarnation > number || (goes_on && planned.incarnation == number);
        (!fits).then(|| Finding {
            code: "incarnation".into(),
            subject: format!("workload {}", workload.id),
            message: format!(
                "is planned with incarnation {} though its last start was number {number}; plan it again",
                planned.incarnation
            ),
        })
    };
    workloads.filter_map(wrong).collect()
}

fn hold(workload: &Workload, facts: &Facts, run: Option<&RunReport>, status: &mut Status) {
    if let Some(run) = run {
        status.progress = run.progress;
        status.saved = run.saved.max(status.saved);
    }
    let kept = facts.planned.is_some_and(|planned| Some(planned) == status.placement.as_ref());
    let wanted = kept && !workload.cancel;
    match run.map(|run| run.phase) {
        Some(RunPhase::Completed) => {
            release(workload, run, status);
            (status.phase, status.reason) = (Phase::Completed, ReasonCode::Completed);
        }
        Some(RunPhase::Stopped) => release(workload, run, status),
        _ if facts.link == Link::Lost => out_of_touch(workload, facts, run, status),
        _ if !wanted && facts.dropped && run.is_none() => release(workload, None, status),
        _ if !wanted => stop(workload, facts, status),
        Some(RunPhase::Running) => go_on(Phase::Running, facts, status),
        // Its agent stops it by itself: power fell short on site.
        Some(RunPhase::Stopping) => {
            (status.phase, status.reason) = (Phase::Stopping, ReasonCode::PowerShort);
        }
        Some(RunPhase::Starting) | None => go_on(Phase::Starting, facts, status),
    }
}

fn go_on(phase: Phase, facts: &Facts, status: &mut Status) {
    status.phase = phase;
    status.reason = facts.reason.unwrap_or(status.reason);
}

/// Told to stop; by choice unless its tenant asked for it.
fn stop(workload: &Workload, facts: &Facts, status: &mut Status) {
    let was_up = matches!(workload.status.phase, Phase::Starting | Phase::Running);
    if was_up && !workload.cancel {
        status.preemptions = status.preemptions.saturating_add(1);
        status.preempted = Some(facts.now);
        status.progress_at_preemption = status.progress;
    }
    status.phase = Phase::Stopping;
    status.reason = match workload.cancel {
        true => ReasonCode::Cancelled,
        false => facts.reason.unwrap_or(ReasonCode::Preempted),
    };
}

/// Whether the agent of a module out of touch, last told at `told`, must have ended by itself what it ran.
pub fn has_ended(told: Time, now: Time) -> bool {
    now > told + Envelope::controller_hold(KEEP_WITHOUT_LINK)
}

/// A run with a number that the store has forgotten, or has given to another.
fn is_forgotten(stray: &RunReport, current: Option<u64>) -> bool {
    stray.incarnation >= current.unwrap_or(0)
}

/// The store went back in time: what it says of this workload is not so. While a run that it does not know is active nothing of the
/// workload is told to run; afterwards it goes on from what that run saved, with a number above its own.
fn forgotten(workload: &Workload, stray: &RunReport, facts: &Facts, status: &mut Status) {
    if is_active(stray) {
        if status.phase.holds() {
            (status.phase, status.reason) = (Phase::Stopping, ReasonCode::LinkLost);
        }
        return;
    }
    let last = status.placement.as_ref().or(facts.planned);
    // Without a plan that places it there is nothing to number yet.
    let Some(last) = last else { return };
    status.placement = Some(Placement { incarnation: stray.incarnation, ..last.clone() });
    status.saved = stray.saved.max(status.saved);
    status.progress = stray.progress;
    release(workload, Some(stray), status);
    if stray.phase == RunPhase::Completed {
        (status.phase, status.reason) = (Phase::Completed, ReasonCode::Completed);
    }
}

fn out_of_touch(workload: &Workload, facts: &Facts, run: Option<&RunReport>, status: &mut Status) {
    if has_ended(facts.told, facts.now) && !facts.queued {
        // The agent has stopped it by itself; what it saved after we lost sight of it is not known and is done again.
        release(workload, run, status);
        status.reason = ReasonCode::LinkLost;
    } else {
        (status.phase, status.reason) = (Phase::Unreachable, ReasonCode::LinkLost);
    }
}

/// It holds nothing any more. What is left of it is the last checkpoint that was observed; without checkpoints all that was reported.
fn release(workload: &Workload, run: Option<&RunReport>, status: &mut Status) {
    let done = run.is_some_and(|run| run.phase == RunPhase::Completed);
    status.held += run.map_or_else(Default::default, |run| run.held);
    if workload.spec.checkpoint <= Span::ZERO {
        status.saved = status.progress;
    }
    if !done {
        status.progress = status.saved;
    }
    status.phase = Phase::Pending;
}

fn start(workload: &Workload, facts: &Facts, status: &mut Status) {
    let last = status.placement.as_ref().map_or(0, |placement| placement.incarnation);
    if workload.cancel {
        (status.phase, status.reason) = (Phase::Cancelled, ReasonCode::Cancelled);
        return;
    }
    match facts.planned.filter(|planned| planned.incarnation > last) {
        Some(planned) => {
            status.placement = Some(planned.clone());
            status.phase = Phase::Starting;
            status.reason = facts.reason.unwrap_or(ReasonCode::Placed);
        }
        // The plan in force was made for the run that has just ended; its reasons are not about what comes now.
        None if facts.planned.is_some() => {}
        None => status.reason = facts.reason.unwrap_or(status.reason),
    }
}

#[cfg(test)]
mod tests;
