//! Small moves: a job without a seat takes a free one, and jobs move to where mining and gas lose less.
//!
//! Read next: `displace`, for seats that are not free.

use super::greedy::{self, Hopeless};
use super::index::Index;
use super::state::{Seat, State};

/// Jobs moved in one sweep.
const MOVES: usize = 4_000;

/// One pass over the jobs.
pub(crate) fn sweep(state: &mut State<'_>) {
    let mut index = Index::new(state);
    // Only where islands differ is there anything to gain by moving.
    let mut moves = if state.problem.sites.len() < 2 { 0 } else { MOVES };
    let large = greedy::is_large(state);
    let mut hopeless = Hopeless::default();
    for job in 0..state.problem.jobs.len() {
        if state.is_spent() {
            return;
        }
        match state.seats[job] {
            None if hopeless.contains(&state.problem.jobs[job]) => {}
            None => match greedy::best(state, &index, job) {
                Some((pool, _)) => {
                    state.seat(job, Seat::Starts(pool));
                    index.update(state, pool);
                }
                None => hopeless.insert(&state.problem.jobs[job]),
            },
            Some(Seat::Starts(pool)) if moves > 0 => {
                moves -= 1;
                // In a large fleet the seat that was left is found in the next sweep.
                if relocate(state, &mut index, job, pool) && !large {
                    hopeless.clear();
                }
            }
            Some(_) => {}
        }
    }
}

/// A seat where less is lost; whether that is another one.
fn relocate(state: &mut State<'_>, index: &mut Index, job: usize, before: usize) -> bool {
    let worth = state.worth();
    state.unseat(job);
    index.update(state, before);
    let gone = state.worth();
    let better = greedy::best(state, index, job).filter(|(_, gain)| gone + gain > worth);
    let pool = better.map_or(before, |(pool, _)| pool);
    state.seat(job, Seat::Starts(pool));
    index.update(state, pool);
    pool != before
}
