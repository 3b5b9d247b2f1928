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

/// The best solution found.
pub(crate) fn solve(problem: &Problem) -> State<'_> {
    let mut state = State::new(problem);
    greedy::construct(&mut state);
    improve(&mut state);
    state
}

/// Improves a solution until it rests.
fn improve(state: &mut State<'_>) {
    for _ in 0..ROUNDS {
        let before = state.worth();
        refill::sweep(state);
        exchange::sweep(state);
        displace::sweep(state);
        if state.worth() <= before || state.is_spent() {
            break;
        }
    }
}
