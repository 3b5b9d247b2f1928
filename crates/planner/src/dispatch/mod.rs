//! The dispatch: which pending work starts where, which spot runs give way, and what is left to the miners, as one optimisation.
//!
//! [`problem`] is the model (docs/planner.md has it as formulas), [`state`] a solution in the making with its exact value,
//! [`greedy`], [`refill`], [`exchange`] and [`displace`] improve it, [`bound`] says how good any solution can be at most. Searches
//! are bounded in iterations, never in time, and ties go to the lower index, so that the same input gives the same plan.
//!
//! Assumes that what must stop has been stopped: only spot runs are victims here. Read next: `problem`.

pub(crate) mod bound;
pub mod curve;
pub(crate) mod displace;
pub(crate) mod exchange;
pub(crate) mod greedy;

pub mod problem;
pub(crate) mod refill;
pub(crate) mod state;

use problem::Problem;
use state::State;

/// Rounds of improvement; the search usually rests after two or three.
const ROUNDS: usize = 8;
/// Kicks for a small fleet; a large one has fewer, so that the time stays the same.
const KICKS: usize = 0;
/// Jobs times kicks stay within this.
const KICKED_JOBS: usize = 4_000;

/// The best solution found.
pub(crate) fn solve(problem: &Problem) -> State<'_> {
    let mut state = State::new(problem);
    greedy::construct(&mut state);
    improve(&mut state);
    kick(&mut state);
    state
}

/// Improves a solution until it rests.
fn improve(state: &mut State<'_>) {
    for _ in 0..ROUNDS {
        let before = state.worth();
        refill::sweep(state);
        exchange::sweep(state);
        displace::sweep(state);
        if state.worth() <= before {
            break;
        }
    }
}

/// Empties one island or two at a time and fills them anew in another order; what is better is kept.
fn kick(state: &mut State<'_>) {
    let problem = state.problem;
    let (jobs, sites) = (problem.jobs.len(), problem.sites.len());
    let kicks = KICKS.min(KICKED_JOBS / jobs.max(1));
    for nth in 0..kicks {
        if state.seats.iter().all(Option::is_some) && !state.stopped.contains(&true) || sites == 0 {
            return;
        }
        let mut tried = state.clone();
        let emptied = [nth % sites, (nth + 1 + nth / sites) % sites];
        for job in 0..jobs {
            if tried.seats[job].is_some_and(|seat| emptied.contains(&problem.site_of(seat.pool()))) {
                tried.unseat(job);
            }
        }
        for victim in 0..problem.victims.len() {
            if emptied.contains(&problem.site_of(problem.victims[victim].pool)) {
                tried.stop(victim, false);
            }
        }
        if !tried.is_sound(&emptied) {
            continue;
        }
        greedy::construct_by(&mut tried, |job| shuffled(&problem.jobs[job], nth));
        improve(&mut tried);
        if tried.worth() > state.worth() {
            *state = tried;
        }
    }
}

/// A key that orders jobs by worth a GPU, up to a factor of two by chance: the same chance for the same kick and job.
fn shuffled(job: &problem::Job, kick: usize) -> i64 {
    let mut hash = (kick as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    for byte in job.id.as_str().bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    let chance = 512 + i64::try_from((hash >> 33) % 512).unwrap_or(0);
    -(job.value / job.gpus.max(1)).saturating_mul(chance)
}
