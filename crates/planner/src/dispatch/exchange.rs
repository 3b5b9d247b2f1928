//! Ejection chains: a job without a seat takes another's, which goes elsewhere, or gives way if it is worth less; and jobs move to
//! where mining and gas lose less.
//!
//! Bounded in tries. Read next: `preempt`.

use super::greedy::{self, Index};
use super::state::{Seat, State};

/// Seats tried in one sweep: a fraction of a second.
const TRIES: usize = 40_000;
/// Seats tried for one job.
const TRIES_A_JOB: usize = 600;
/// Pools tried for one that was ejected.
const PLACES: usize = 6;

/// One pass over the jobs.
pub(crate) fn sweep(state: &mut State<'_>) {
    let mut index = Index::new(state);
    let mut members = members(state);
    let mut tries = TRIES;
    for job in 0..state.problem.jobs.len() {
        if tries == 0 {
            return;
        }
        match state.seats[job] {
            None => {
                if !insert(state, &mut index, &mut members, job) {
                    eject(state, &mut index, &mut members, job, &mut tries);
                }
            }
            Some(Seat::Starts(pool)) => relocate(state, &mut index, &mut members, (job, pool), &mut tries),
            Some(Seat::Waits(_)) => {}
        }
    }
}

/// Who starts in each pool.
fn members(state: &State<'_>) -> Vec<Vec<usize>> {
    let mut members = vec![Vec::new(); state.problem.pools.len()];
    for (job, seat) in state.seats.iter().enumerate() {
        if let Some(Seat::Starts(pool)) = seat {
            members[*pool].push(job);
        }
    }
    members
}

fn take(state: &mut State<'_>, index: &mut Index, members: &mut [Vec<usize>], job: usize, pool: usize) {
    state.seat(job, Seat::Starts(pool));
    members[pool].push(job);
    index.update(state, pool);
}

fn leave(state: &mut State<'_>, index: &mut Index, members: &mut [Vec<usize>], job: usize, pool: usize) {
    state.unseat(job);
    members[pool].retain(|&other| other != job);
    index.update(state, pool);
}

/// A free seat.
fn insert(state: &mut State<'_>, index: &mut Index, members: &mut [Vec<usize>], job: usize) -> bool {
    let Some((pool, _)) = greedy::best(state, index, job) else { return false };
    take(state, index, members, job, pool);
    true
}

/// A seat where less is lost.
fn relocate(
    state: &mut State<'_>,
    index: &mut Index,
    members: &mut [Vec<usize>],
    (job, pool): (usize, usize),
    tries: &mut usize,
) {
    // Only where islands differ is there anything to gain.
    if state.problem.sites.len() < 2 {
        return;
    }
    *tries = tries.saturating_sub(PLACES);
    let before = state.worth();
    leave(state, index, members, job, pool);
    let gone = state.worth();
    let better = greedy::best(state, index, job).filter(|(_, gain)| gone + gain > before);
    take(state, index, members, job, better.map_or(pool, |(pool, _)| pool));
}

/// Somebody else's seat.
fn eject(
    state: &mut State<'_>,
    index: &mut Index,
    members: &mut [Vec<usize>],
    job: usize,
    tries: &mut usize,
) -> bool {
    let wanted = &state.problem.jobs[job];
    let Some(pools) = state.pools_by_gpu.get(wanted.gpu).cloned() else { return false };
    let mut left = TRIES_A_JOB;
    for pool in pools {
        let site = state.problem.site_of(pool);
        let (first, end) = state.pools_of[site];
        // GPUs are freed in the pool itself, watts anywhere on its island.
        for from in first..end {
            for other in members[from].clone() {
                if left == 0 || *tries == 0 {
                    return false;
                }
                (left, *tries) = (left - 1, *tries - 1);
                if swap(state, index, members, (job, pool), (other, from)) {
                    return true;
                }
            }
        }
    }
    false
}

/// `other` leaves, `job` takes a seat, `other` finds another one or none: kept if that is worth more.
fn swap(
    state: &mut State<'_>,
    index: &mut Index,
    members: &mut [Vec<usize>],
    (job, pool): (usize, usize),
    (other, from): (usize, usize),
) -> bool {
    let lacks = state.problem.jobs[job].gpus - state.free[pool][0];
    if from == pool && state.problem.jobs[other].gpus < lacks || from != pool && lacks > 0 {
        return false;
    }
    let before = state.worth();
    leave(state, index, members, other, from);
    if state.refusal(job, Seat::Starts(pool)).is_some() {
        take(state, index, members, other, from);
        return false;
    }
    take(state, index, members, job, pool);
    let elsewhere = greedy::best(state, index, other).map(|(pool, _)| pool);
    if let Some(pool) = elsewhere {
        take(state, index, members, other, pool);
    }
    if state.worth() > before {
        return true;
    }
    if let Some(pool) = elsewhere {
        leave(state, index, members, other, pool);
    }
    leave(state, index, members, job, pool);
    take(state, index, members, other, from);
    false
}
