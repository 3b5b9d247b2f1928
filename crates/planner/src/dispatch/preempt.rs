//! Stronger promises take the place of spot runs: the cheapest set of victims for which the newcomer gains more than they lose.
//!
//! Victims go by price × lost work over the dwell, ties to the one stopped least recently; those that turn out not to be needed go
//! on. The newcomer waits until they are gone. Read next: `bound`.

use super::state::{AFTER, Seat, State};

/// Pools tried in one sweep.
const TRIES: usize = 200_000;

/// One pass over the jobs that may have others stopped.
pub(crate) fn sweep(state: &mut State<'_>) {
    let mut victims: Vec<Vec<usize>> = vec![Vec::new(); state.problem.sites.len()];
    for (victim, run) in state.problem.victims.iter().enumerate() {
        victims[state.problem.site_of(run.pool)].push(victim);
    }
    let mut tries = TRIES;
    for job in 0..state.problem.jobs.len() {
        if tries == 0 {
            return;
        }
        let waits = state.problem.jobs[job].wait.is_some();
        if waits && state.seats[job].is_none() {
            make_room(state, &victims, job, &mut tries);
        }
    }
}

/// Seats a job where the fewest dollars are lost by it, if it gains more than that.
fn make_room(state: &mut State<'_>, victims: &[Vec<usize>], job: usize, tries: &mut usize) {
    let Some(pools) = state.pools_by_gpu.get(state.problem.jobs[job].gpu).cloned() else { return };
    let mut best: Option<(i64, usize, Vec<usize>)> = None;
    for pool in pools {
        if *tries == 0 {
            break;
        }
        *tries -= 1;
        let before = state.worth();
        let Some(stopped) = stop_for(state, &victims[state.problem.site_of(pool)], job, pool) else {
            continue;
        };
        let gain = state.worth() + state.earns(job, Seat::Waits(pool)) - before;
        for &victim in &stopped {
            state.stop(victim, false);
        }
        if gain > 0 && best.as_ref().is_none_or(|(most, ..)| gain > *most) {
            best = Some((gain, pool, stopped));
        }
    }
    if let Some((_, pool, stopped)) = best {
        for &victim in &stopped {
            state.stop(victim, true);
        }
        state.seat(job, Seat::Waits(pool));
    }
}

/// Stops runs until a job may wait in a pool; `None` (and nobody stopped) where that does not help.
fn stop_for(state: &mut State<'_>, victims: &[usize], job: usize, pool: usize) -> Option<Vec<usize>> {
    let seat = Seat::Waits(pool);
    let wanted = state.problem.jobs[job].gpus;
    let mut stopped = Vec::new();
    // GPUs first, which only runs of the pool itself free; then watts.
    let (here, elsewhere): (Vec<usize>, Vec<usize>) =
        victims.iter().partition(|&&victim| state.problem.victims[victim].pool == pool);
    let open = |state: &State<'_>, victim: &usize| !state.stopped[*victim];
    let gpus = |state: &State<'_>| state.free[pool][AFTER];
    for victim in &here {
        if gpus(state) >= wanted {
            break;
        }
        if open(state, victim) {
            state.stop(*victim, true);
            stopped.push(*victim);
        }
    }
    for victim in here.iter().chain(&elsewhere) {
        if gpus(state) < wanted || state.refusal(job, seat).is_none() {
            break;
        }
        if open(state, victim) {
            state.stop(*victim, true);
            stopped.push(*victim);
        }
    }
    let fits = state.refusal(job, seat).is_none();
    // The dearest that are not needed after all go on.
    for nth in (0..stopped.len()).rev() {
        let victim = stopped[nth];
        state.stop(victim, false);
        if fits && state.fits_after(state.problem.victims[victim].pool) && state.refusal(job, seat).is_none()
        {
            stopped.remove(nth);
        } else if fits {
            state.stop(victim, true);
        }
    }
    fits.then_some(stopped)
}
