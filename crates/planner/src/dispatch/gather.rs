//! Groups that must stand together: the whole group is tried on one island after the other.
//!
//! Seat by seat the first of a group draws all others after it, and who moves alone would leave them. So the group is unseated and
//! seated anew island by island, and kept where the whole is worth most. Groups of which somebody runs already have no choice. Read next:
//! `exchange`, for those who move alone.

use super::state::{NOW, Seat, State};

/// Islands tried for a group: those with most free GPUs of the types it asks for.
const ISLANDS: usize = 16;

/// One pass over the groups that must stand together and stand nowhere yet.
pub(crate) fn sweep(state: &mut State<'_>) {
    for group in 0..state.problem.groups.len() {
        let wanted = &state.problem.groups[group];
        if !wanted.together || wanted.is_anchored() || state.is_spent() {
            continue;
        }
        let of_group = |job: &usize| {
            let binding = state.problem.jobs[*job].binding;
            binding.is_some_and(|nth| state.problem.bindings[nth].group == Some(group))
        };
        let jobs: Vec<usize> = (0..state.problem.jobs.len()).filter(of_group).collect();
        if jobs.len() > 1 {
            settle(state, &jobs);
        }
    }
}

/// Seats a group on the island where all are worth most, or leaves it as it was.
fn settle(state: &mut State<'_>, jobs: &[usize]) {
    let before = state.worth();
    let waits = |job: &usize| matches!(state.seats[*job], Some(Seat::Waits(_)));
    if jobs.iter().any(waits) {
        return;
    }
    let seats: Vec<(usize, Seat)> = jobs.iter().filter_map(|&job| Some((job, state.unseat(job)?))).collect();
    let mut best = (before, seats);
    for site in islands(state, jobs) {
        let seated: Vec<(usize, Seat)> =
            jobs.iter().filter_map(|&job| Some((job, take(state, job, site)?))).collect();
        let worth = state.worth();
        for &(job, _) in &seated {
            state.unseat(job);
        }
        if worth > best.0 {
            best = (worth, seated);
        }
    }
    for (job, seat) in best.1 {
        state.seat(job, seat);
    }
}

/// Islands with most free GPUs of the types that a group asks for, most first.
fn islands(state: &State<'_>, jobs: &[usize]) -> Vec<usize> {
    let problem = state.problem;
    let mut kinds: Vec<usize> = jobs.iter().map(|&job| problem.jobs[job].gpu).collect();
    kinds.sort_unstable();
    kinds.dedup();
    let free = |site: usize| -> i64 {
        let (first, end) = state.pools_of[site];
        let here = (first..end).filter(|&pool| kinds.contains(&problem.pools[pool].gpu));
        here.map(|pool| state.free[pool][NOW].max(0)).sum()
    };
    let mut islands: Vec<(i64, usize)> =
        (0..problem.sites.len()).map(|site| (free(site), site)).filter(|(free, _)| *free > 0).collect();
    islands.sort_by_key(|&(free, site)| (std::cmp::Reverse(free), site));
    islands.truncate(ISLANDS);
    islands.into_iter().map(|(_, site)| site).collect()
}

/// Seats a job where it gains most on an island, in the tightest of pools that are alike.
fn take(state: &mut State<'_>, job: usize, site: usize) -> Option<Seat> {
    state.charge();
    let (first, end) = state.pools_of[site];
    let mut best: Option<(i64, std::cmp::Reverse<i64>, std::cmp::Reverse<usize>)> = None;
    for pool in first..end {
        let gain = state.gain(job, Seat::Starts(pool)).filter(|&gain| gain > 0);
        let ranked =
            gain.map(|gain| (gain, std::cmp::Reverse(state.free[pool][NOW]), std::cmp::Reverse(pool)));
        best = best.max(ranked);
    }
    let seat = Seat::Starts(best?.2.0);
    state.seat(job, seat);
    Some(seat)
}
