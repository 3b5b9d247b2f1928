//! Who runs nowhere by the plan in force: those who wait, those who came since, and what is being stopped; and the best of those who
//! wait.
//!
//! What runs goes on by the plan and is not looked up: the plan's decisions name, in order of id, who does not run, so that one walk
//! beside the workloads is enough. Read next: [`super::reasons`], which says of each of them why.

use std::cmp::{Ordering, Reverse};

use model::plan::{Decision, Subject};
use model::workload::{Phase, Workload};
use model::{MicroDollars, Shared, Time, WorkloadId};

use super::reasons::Said;
use crate::input::Input;

/// Who waits and is looked at, of each tier; the others wait for the next full plan. An island starts a few gangs at a time, and
/// three times 32 keep its search within some milliseconds.
const WAITING: usize = 32;

/// Somebody who runs nowhere.
pub(super) struct Idle<'i> {
    pub(super) workload: &'i Workload,
    /// What the plan in force says of it; `None` = it came since.
    pub(super) said: Option<&'i Shared<Decision>>,
}

/// Who runs nowhere.
pub(super) struct Census<'i> {
    /// Everybody, in order of id.
    pub(super) idle: Vec<Idle<'i>>,
    /// The best of those who wait for what there is.
    pub(super) waiting: Vec<&'i Workload>,
}

/// One walk beside the workloads. `takes` tells whether there is what somebody waits for.
pub(super) fn census<'i>(input: &'i Input, said: &Said<'i>, takes: impl Fn(&Workload) -> bool) -> Census<'i> {
    let mut tail = said.idle().iter().peekable();
    let mut idle = Vec::with_capacity(tail.len());
    let mut waiting: [Vec<&Workload>; 3] = Default::default();
    for (id, workload) in &input.workloads {
        let phase = workload.status.phase;
        if runs(phase) {
            continue;
        }
        let same = loop {
            match tail.peek().map(|said| name(said).map_or(Ordering::Less, |name| name.cmp(id))) {
                Some(Ordering::Less) => idle.extend(tail.next().and_then(|said| stopped(input, said))),
                Some(Ordering::Equal) => break tail.next(),
                Some(Ordering::Greater) | None => break None,
            }
        };
        if same.is_none() && said.starts(id) {
            continue;
        }
        idle.push(Idle { workload, said: same });
        if phase == Phase::Pending && !workload.cancel && takes(workload) {
            waiting[workload.spec.tier as usize].push(workload);
        }
    }
    idle.extend(tail.filter_map(|said| stopped(input, said)));
    Census { idle, waiting: waiting.into_iter().flat_map(best).collect() }
}

/// The best of one tier, by price: as many of each, so that no tier hides another.
fn best(mut waiting: Vec<&Workload>) -> Vec<&Workload> {
    if waiting.len() > WAITING {
        waiting.select_nth_unstable_by(WAITING, |a, b| rank(a).cmp(&rank(b)));
        waiting.truncate(WAITING);
    }
    waiting
}

fn rank(one: &Workload) -> (Reverse<MicroDollars>, Time, &WorkloadId) {
    (Reverse(one.spec.price), one.created, &one.id)
}

/// Whose decision it is.
pub(super) fn name(said: &Decision) -> Option<&WorkloadId> {
    match &said.subject {
        Subject::Workload(id) => Some(id),
        Subject::Site(_) | Subject::Module(_) => None,
    }
}

/// Somebody whom the plan in force stops and whose module has not yet been told.
fn stopped<'i>(input: &'i Input, said: &'i Shared<Decision>) -> Option<Idle<'i>> {
    let workload = input.workloads.get(name(said)?)?;
    runs(workload.status.phase).then_some(Idle { workload, said: Some(said) })
}

/// It runs, or may; what is told to stop runs by no plan.
fn runs(phase: Phase) -> bool {
    phase.holds() && phase != Phase::Stopping
}
