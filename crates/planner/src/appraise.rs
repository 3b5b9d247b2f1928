//! What a plan is worth in the dispatch's own money, beside what it can be at most and what doing nothing is worth.
//!
//! The plan's worth is read from the runs and miners that were really set, whole miners and all, not from the search's state. For
//! tests, benchmarks and outside solvers. Read next: [`crate::dispatch::problem`], the model as numbers.

use model::market::Market;
use model::plan::ReasonCode;
use model::workload::GpuTime;
use model::{MicroDollars, Span, Watts};
use serde::{Deserialize, Serialize};

use crate::assign::Book;
use crate::dispatch;
use crate::dispatch::problem::Problem;
use crate::input::Input;
use crate::island::Island;
use crate::mining;
use crate::plan;
use crate::start::DWELL;
use crate::worth;

/// One plan, weighed. All money is micro-dollars over the dwell of half an hour, without what goes on anyway.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Appraisal {
    /// The dispatch, as numbers.
    pub problem: Problem,
    /// What the plan is worth.
    pub plan: i64,
    /// What the search believed its solution to be worth, before whole miners, measured speeds and islands that had to be closed.
    pub search: i64,
    /// What the greedy alone would have made of it, to measure what the search adds.
    pub greedy: i64,
    /// What the plan in force would be worth on this news, as far as it may still be had.
    pub before: i64,
    /// Islands that were closed to starts, since whole miners left them too little fast load.
    pub closed: usize,
    /// What the plan is worth that starts, stops and moves nothing by choice.
    pub base: i64,
    /// No plan is worth more.
    pub bound: i64,
    /// What goes on anyway earns so much beside all of the above.
    pub kept: i64,
}

/// Plans and weighs the plan.
pub fn appraise(input: &Input) -> Appraisal {
    let book = plan::settle(input).book;
    let mut kept = Book::open(input);
    kept.shed();
    let problem = Problem::of(&kept);
    kept.rest(&problem);
    plan::fill(&mut kept);
    let told = problem.told(input.parent.as_ref());
    let state = dispatch::solve(&problem, &told);
    let bound = dispatch::bound::bound(&problem, state.worth());
    let kept_earns = book.verdicts.iter().filter(|(_, verdict)| {
        matches!(verdict.reason, ReasonCode::Kept | ReasonCode::Slowed | ReasonCode::Preempted)
    });
    let kept_earns = kept_earns.filter_map(|(id, _)| input.workloads.get(id));
    let kept_earns: MicroDollars =
        kept_earns.map(|run| GpuTime::of(run.spec.gpus, DWELL).cost(run.spec.price)).sum();
    Appraisal {
        plan: book.gained.get() + power(&book),
        search: state.worth(),
        greedy: dispatch::greedy_only(&problem).worth(),
        before: dispatch::hold(&problem, &told).worth(),
        closed: book.islands.values().filter(|island| island.closed).count(),
        base: kept.gained.get() + power(&kept),
        bound,
        kept: kept_earns.get(),
        problem,
    }
}

/// What miners as they are set earn, less wear and the gas of everything that is drawn.
fn power(book: &Book<'_>) -> i64 {
    book.islands.values().map(|island| island_power(island, &book.input.market).get()).sum()
}

fn island_power(island: &Island<'_>, market: &Market) -> MicroDollars {
    let mut hourly = MicroDollars::ZERO;
    let mut wear = MicroDollars::ZERO;
    for slot in island.slots.values().filter(|slot| slot.frozen.is_none()) {
        for (id, target) in &slot.miners {
            let Some(group) = slot.module().groups.get(id) else { continue };
            let report = slot.input.report.as_ref().and_then(|report| report.groups.get(id));
            let woken = target.awake.saturating_sub(report.map_or(0, |report| report.awake));
            hourly += worth::group_per_hour(group, market, target.awake, target.point.into());
            wear += group.wear.times(woken.into());
        }
    }
    let ceilings: Watts =
        island.slots.values().map(|slot| mining::ceiling(slot, island.leaving_counts)).sum();
    let drawn = island.capacity.unmanaged + ceilings;
    let fuel = worth::fuel_per_hour(&island.input.site, Watts::kilo(1_000)).fraction(drawn.get(), 1_000_000);
    (hourly - fuel).fraction(DWELL.get(), Span::hours(1).get()) - wear
}

/// What the search makes of a dispatch.
pub fn solved(problem: &Problem) -> i64 {
    dispatch::solve(problem, &[]).worth()
}

/// What the first step of the search makes of it.
pub fn begun(problem: &Problem) -> i64 {
    dispatch::greedy_only(problem).worth()
}

/// What nothing can make of it; what was `reached` guides the search for it.
pub fn bounded(problem: &Problem, reached: i64) -> i64 {
    dispatch::bound::bound(problem, reached)
}
