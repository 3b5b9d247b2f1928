//! Slow starts: who may be slowed and found no seat at full speed takes one as slow as its contract allows.
//!
//! After all other moves, so that nobody who starts at full speed is kept out. [`crate::elastic`] raises what was started so, as far as
//! power goes. Read next: `state`.

use super::state::{Seat, State};

/// Pools looked at for each job.
const TRIES: usize = 128;

/// One pass over those without a seat, in the order of starts.
pub(crate) fn sweep(state: &mut State<'_>) {
    for job in 0..state.problem.jobs.len() {
        let wanted = &state.problem.jobs[job];
        if wanted.floor.is_none() || state.seats[job].is_some() {
            continue;
        }
        let Some(pools) = state.pools_by_gpu.get(wanted.gpu).cloned() else { continue };
        state.eased[job] = true;
        let mut best: Option<(i64, usize)> = None;
        let mut tries = 0;
        for &pool in pools.iter() {
            if state.problem.pools[pool].least(wanted).is_none() || state.binds(wanted, pool).is_some() {
                continue;
            }
            tries += 1;
            if tries > TRIES {
                break;
            }
            let gain = state.gain(job, Seat::Starts(pool)).filter(|&gain| gain > 0);
            best = best.max(gain.map(|gain| (gain, usize::MAX - pool)));
        }
        match best {
            Some((_, pool)) => state.seat(job, Seat::Starts(usize::MAX - pool)),
            None => state.eased[job] = false,
        }
    }
}
