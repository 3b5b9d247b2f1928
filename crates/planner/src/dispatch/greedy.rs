//! The first solution: jobs by promise and by worth a kilowatt, each into the tightest pool among those where it earns about the most.
//!
//! Pools stand in order of the GPUs they have both room and watts for, so that a fleet of thousands is not searched for each job.
//! Read next: `refill`.

use std::collections::BTreeSet;

use super::problem::Job;
use super::state::{Seat, State};

/// Pools looked at for each job once they fit: the tightest ones.
const CANDIDATES: usize = 32;
/// The same in a fleet of more than a thousand pools, where many are alike.
const FEW: usize = 4;
const MANY_POOLS: usize = 1_000;
/// Pools looked at in all for each job.
const TRIES: usize = 128;
/// Gains closer than this part of a job's value count as equal: tightness then decides.
const GRAIN: i64 = 1_024;

/// Pools by the GPUs they have room and watts for.
pub(crate) struct Index {
    by_gpu: Vec<BTreeSet<(i64, usize)>>,
    room: Vec<i64>,
}

impl Index {
    pub(crate) fn new(state: &State<'_>) -> Self {
        let room: Vec<i64> = (0..state.problem.pools.len()).map(|pool| room(state, pool)).collect();
        let of = |pools: &std::sync::Arc<[usize]>| pools.iter().map(|&pool| (room[pool], pool)).collect();
        Self { by_gpu: state.pools_by_gpu.iter().map(of).collect(), room }
    }

    /// Follows a change at the island of a pool.
    pub(crate) fn update(&mut self, state: &State<'_>, pool: usize) {
        let (first, end) = state.pools_of[state.problem.site_of(pool)];
        for pool in first..end {
            let now = room(state, pool);
            if now != self.room[pool] {
                let set = &mut self.by_gpu[state.problem.pools[pool].gpu];
                set.remove(&(self.room[pool], pool));
                set.insert((now, pool));
                self.room[pool] = now;
            }
        }
    }

    /// Pools with room for a job, tightest first.
    pub(crate) fn fitting(&self, job: &Job) -> impl Iterator<Item = usize> + use<'_> {
        let gpus = job.gpus;
        let set = self.by_gpu.get(job.gpu);
        set.into_iter().flat_map(move |set| set.range((gpus, 0)..)).map(|&(_, pool)| pool)
    }
}

fn room(state: &State<'_>, pool: usize) -> i64 {
    let limits = &state.problem.sites[state.problem.site_of(pool)].limits;
    state.headroom(pool, limits[0].max(limits[1]))
}

/// Seats jobs in their order, where that gains anything.
pub(crate) fn construct(state: &mut State<'_>) {
    let mut index = Index::new(state);
    for job in 0..state.problem.jobs.len() {
        if let Some((pool, _)) = best(state, &index, job) {
            state.seat(job, Seat::Starts(pool));
            index.update(state, pool);
        }
    }
}

/// The best pool for a job to start in, and what it gains there.
pub(crate) fn best(state: &mut State<'_>, index: &Index, job: usize) -> Option<(usize, i64)> {
    let problem = state.problem;
    let wanted = &problem.jobs[job];
    let grain = (wanted.value / GRAIN).max(1);
    let mut found: Option<(i64, usize, i64)> = None;
    let mut fits = 0;
    let most = if problem.pools.len() > MANY_POOLS { FEW } else { CANDIDATES };
    for pool in index.fitting(wanted).take(TRIES) {
        let Some(gain) = state.gain(job, Seat::Starts(pool)).filter(|&gain| gain > 0) else { continue };
        let rank = gain / grain;
        if found.is_none_or(|(best, ..)| rank > best) {
            found = Some((rank, pool, gain));
        }
        fits += 1;
        if fits >= most {
            break;
        }
    }
    found.map(|(_, pool, gain)| (pool, gain))
}
