//! When each job would start if nobody gave way: runs end by themselves, and in the order of starts the jobs take what they leave.
//!
//! Stopping a run cannot be taken back, waiting can: what a stop gains is only the time until GPUs would have come free anyway. The
//! steps of the dwell are played through with the work that is known, as plans without stops would. What comes later is not known,
//! so a job may start later than this says; then it is asked again. Read next: `pay`, which turns the step into money.

use super::index::Index;
use super::problem::Problem;
use super::state::{Seat, State};
use model::Span;
use model::plan::STEP;

/// Steps played through: the dwell. What starts later gains nothing within it.
pub(crate) const STEPS: usize = 6;
/// Pools looked at for each job and step.
const TRIES: usize = 32;

/// A run that ends by itself: (step from which on its GPUs are free, pool, GPUs).
pub(crate) type End = (usize, usize, i64);

/// The first step that begins after a span; `None` beyond the dwell.
pub(crate) fn step_after(span: Span) -> Option<usize> {
    let steps = (span.get().max(1) - 1) / STEP.get() + 1;
    usize::try_from(steps).ok().filter(|&step| step < STEPS)
}

/// The step in which each job starts, by itself; `None` where that is not within the dwell. `lasts` is for how many steps each job
/// holds its GPUs, where that is within the dwell.
pub(crate) fn starts(problem: &Problem, ends: &[End], lasts: &[Option<usize>]) -> Vec<Option<usize>> {
    let mut found = vec![None; problem.jobs.len()];
    let mut state = State::new(problem);
    let mut index = Index::new(&state);
    let mut done: Vec<(usize, usize)> = Vec::new();
    for step in 0..STEPS {
        for &(_, pool, gpus) in ends.iter().filter(|(at, ..)| *at == step) {
            state.occupy(pool, -gpus);
            index.update(&state, pool);
        }
        for &(_, job) in done.iter().filter(|(at, _)| *at == step) {
            if let Some(seat) = state.unseat(job) {
                index.update(&state, seat.pool());
            }
        }
        let open: Vec<usize> = (0..found.len()).filter(|&job| found[job].is_none()).collect();
        for job in open {
            let fits = |pool: &usize| state.refusal(job, Seat::Starts(*pool)).is_none();
            let wanted = &problem.jobs[job];
            let open = index.fitting(wanted).filter(|&pool| state.binds(wanted, pool).is_none());
            let pool = open.take(TRIES).find(fits);
            let Some(pool) = pool else { continue };
            found[job] = Some(step);
            state.seat(job, Seat::Starts(pool));
            index.update(&state, pool);
            done.extend(lasts[job].map(|lasts| (step + lasts, job)));
        }
    }
    found
}
