//! The dispatch: which pending work starts where, which spot runs give way, and what is left to the miners, as one optimisation.
//!
//! [`problem`] is the model (docs/planner.md has it as formulas), [`pay`] and [`ahead`] its money, [`bind`] its lists of sites and groups, `guard` what firm work asks of its neighbours, [`state`] a solution in the making with its exact value,
//! [`greedy`] (by [`index`]), [`gather`], [`refill`], [`exchange`] and [`displace`] improve it, [`bound`] says how good any solution can be at most. Searches
//! are bounded in iterations, never in time, and ties go to the lower index, so that the same input gives the same plan.
//!
//! Assumes that what must stop has been stopped: only spot runs are victims here. Read next: `problem`.

pub(crate) mod ahead;
pub mod bind;
pub(crate) mod bound;
pub mod curve;
pub(crate) mod displace;
pub(crate) mod ease;
pub(crate) mod exchange;
pub(crate) mod gather;
pub(crate) mod greedy;
mod guard;
pub(crate) mod index;
pub(crate) mod pay;
pub mod problem;
pub(crate) mod rank;
pub(crate) mod refill;
pub(crate) mod state;

use problem::Problem;
use state::State;

/// Rounds of improvement; the search usually rests after two or three.
const ROUNDS: usize = 8;
/// The same in a large fleet, where a second round brings less than a hundred-thousandth and takes as long as the first.
const FEW_ROUNDS: usize = 1;

/// The best solution found. `told` are the seats of the plan in force, as (job, pool): where they are worth more than anything
/// found anew they stay, so that a plan is never worth less than the one before on the same news.
pub(crate) fn solve<'p>(problem: &'p Problem, told: &[(usize, usize)]) -> State<'p> {
    let mut state = State::new(problem);
    greedy::construct(&mut state);
    improve(&mut state);
    if !told.is_empty() {
        let before = hold(problem, told);
        if before.worth() > state.worth() {
            state = before;
        }
    }
    ease::sweep(&mut state);
    state
}

/// The seats of the plan in force, as far as they still may be had.
pub(crate) fn hold<'p>(problem: &'p Problem, told: &[(usize, usize)]) -> State<'p> {
    let mut state = State::new(problem);
    for &(job, pool) in told {
        let seat = state::Seat::Starts(pool);
        if state.seats[job].is_none() && state.refusal(job, seat).is_none() {
            state.seat(job, seat);
        }
    }
    state
}

/// The greedy alone, to measure what the search adds.
pub(crate) fn greedy_only(problem: &Problem) -> State<'_> {
    let mut state = State::new(problem);
    greedy::construct(&mut state);
    state
}

/// Improves a solution until it rests.
fn improve(state: &mut State<'_>) {
    let rounds = if greedy::is_large(state) { FEW_ROUNDS } else { ROUNDS };
    for _ in 0..rounds {
        let before = state.worth();
        gather::sweep(state);
        refill::sweep(state);
        exchange::sweep(state);
        displace::sweep(state);
        refill::sweep_waits(state);
        if state.worth() <= before || state.is_spent() {
            break;
        }
    }
}
