//! Small moves: a job without a seat takes a free one, and jobs move to where mining and gas lose less.
//!
//! Read next: `displace`, for seats that are not free.

use super::greedy::{self, Index};
use super::state::{Seat, State};

/// Jobs moved in one sweep.
const MOVES: usize = 4_000;

/// One pass over the jobs.
pub(crate) fn sweep(state: &mut State<'_>) {
    let mut index = Index::new(state);
    // Only where islands differ is there anything to gain by moving.
    let mut moves = if state.problem.sites.len() < 2 { 0 } else { MOVES };
    for job in 0..state.problem.jobs.len() {
        if state.is_spent() {
            return;
        }
        match state.seats[job] {
            None => {
                if let Some((pool, _)) = greedy::best(state, &index, job) {
                    state.seat(job, Seat::Starts(pool));
                    index.update(state, pool);
                }
            }
            Some(Seat::Starts(pool)) if moves > 0 => {
                moves -= 1;
                relocate(state, &mut index, job, pool);
            }
            Some(_) => {}
        }
    }
}

/// A seat where less is lost.
fn relocate(state: &mut State<'_>, index: &mut Index, job: usize, pool: usize) {
    let before = state.worth();
    state.unseat(job);
    index.update(state, pool);
    let gone = state.worth();
    let better = greedy::best(state, index, job).filter(|(_, gain)| gone + gain > before);
    let pool = better.map_or(pool, |(pool, _)| pool);
    state.seat(job, Seat::Starts(pool));
    index.update(state, pool);
}
