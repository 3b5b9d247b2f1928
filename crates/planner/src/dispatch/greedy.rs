//! The first solution: jobs by promise and by worth a kilowatt, each into the tightest pool among those where it earns about the most.
//!
//! [`super::index`] has the pools by room. Read next: `refill`.

use std::collections::BTreeMap;

use super::index::Index;
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

/// Seats jobs in their order, where that gains anything.
pub(crate) fn construct(state: &mut State<'_>) {
    let mut index = Index::new(state);
    let mut hopeless = Hopeless::default();
    for job in 0..state.problem.jobs.len() {
        if hopeless.contains(&state.problem.jobs[job]) {
            continue;
        }
        match best(state, &index, job) {
            Some((pool, _)) => {
                state.seat(job, Seat::Starts(pool));
                index.update(state, pool);
            }
            None => hopeless.insert(&state.problem.jobs[job]),
        }
    }
}

/// The most that somebody was worth who found no seat, by GPU type, class, size of gang and what binds it: while seats only fill up, nobody finds
/// one who asks for the same and is worth no more.
#[derive(Default)]
pub(crate) struct Hopeless {
    worth: BTreeMap<Likeness, i64>,
}

impl Hopeless {
    pub(crate) fn contains(&self, wanted: &Job) -> bool {
        self.worth.get(&alike(wanted)).is_some_and(|&worth| wanted.value <= worth)
    }

    pub(crate) fn insert(&mut self, wanted: &Job) {
        let worth = self.worth.entry(alike(wanted)).or_insert(wanted.value);
        *worth = wanted.value.max(*worth);
    }

    /// Somebody left a seat.
    pub(crate) fn clear(&mut self) {
        self.worth.clear();
    }
}

/// GPU type, class, size of gang, and what binds it to places.
type Likeness = (usize, usize, i64, Option<usize>);

fn alike(wanted: &Job) -> Likeness {
    (wanted.gpu, wanted.level, wanted.gpus, wanted.binding)
}

/// Whether a fleet is so large that only what promises most is tried.
pub(crate) fn is_large(state: &State<'_>) -> bool {
    state.problem.pools.len() > MANY_POOLS
}

/// The best pool for a job to start in, and what it gains there.
pub(crate) fn best(state: &mut State<'_>, index: &Index, job: usize) -> Option<(usize, i64)> {
    let problem = state.problem;
    let wanted = &problem.jobs[job];
    let grain = (wanted.value / GRAIN).max(1);
    let mut found: Option<(i64, usize, i64)> = None;
    let mut fits = 0;
    let most = if is_large(state) { FEW } else { CANDIDATES };
    let mut tries = 0;
    for pool in index.fitting(wanted) {
        if state.binds(wanted, pool).is_some() {
            continue;
        }
        tries += 1;
        if tries > TRIES {
            break;
        }
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
