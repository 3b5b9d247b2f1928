//! Makes a plan: the order of the steps, and nothing else.
//!
//! Capacity of each island → what runs goes on, or stops where power fell short → starts by promise and worth → miners take the
//! rest → ladders, armed tables, ceilings, shares → look-ahead → reasons. Each step stands in the file of its name. A plan for bad
//! input is safe and says what to change: nothing is started or raised on what is not known. Read next: `island`.

use std::collections::BTreeMap;

use model::plan::{Bound, Plan, ReasonCode, SitePlan, SiteStep};
use model::workload::Phase;
use model::{MicroDollars, Shared, SiteId};
use serde::{Deserialize, Serialize};

use crate::affinity::Groups;
use crate::assign::{Book, lost_work};
use crate::decide;
use crate::dispatch;
use crate::dispatch::problem::Problem;
use crate::grant;
use crate::input::Input;
use crate::mining::{self, Mined};
use crate::repair::repair;
use crate::report::Report;

/// How often a plan is made again for islands that turn out insecure, before all are closed to starts.
const REPAIRS: usize = 4;

/// Jobs and pools up to which every plan carries its bound: some milliseconds.
const BOUNDED: usize = 100;

/// A plan, and what to say about it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Planned {
    /// The decision.
    pub plan: Plan,
    /// The operator's view.
    pub report: Report,
    /// How good any plan for this input could be. `None` where the fleet is too large to ask on the critical path: ask [`bound`].
    /// The plan itself carries this one, or else its parent's, which is stale.
    pub bound: Option<Bound>,
}

/// Decides, for the whole fleet or for the islands that an event touched. The plan's `input` hash is left empty for the caller, who
/// knows the input's canonical form.
pub fn plan(input: &Input) -> Planned {
    match &input.touched {
        Some(touched) => repair(input, &Report::default(), touched),
        None => whole(input),
    }
}

/// Decides for the whole fleet, whatever was touched.
pub(crate) fn whole(input: &Input) -> Planned {
    decide_with(input, BOUNDED, Groups::of(input))
}

/// The same without a bound of its own, whatever the size, and with groups that may reach beyond the input.
pub(crate) fn unbounded<'a>(input: &'a Input, groups: Groups<'a>) -> Planned {
    decide_with(input, 0, groups)
}

fn decide_with<'a>(input: &'a Input, bounded: usize, groups: Groups<'a>) -> Planned {
    let Settled { book, mined, bound } = settle_with(input, bounded, groups);
    let parent = input.parent.as_ref().map(|parent| parent.generation);
    let sites: BTreeMap<SiteId, Shared<SitePlan>> =
        book.islands.iter().map(|(id, island)| (id.clone(), grant::site(island, input).into())).collect();
    let steps: MicroDollars = sites.values().flat_map(|site| site.steps.iter()).map(worth).sum();
    let report = decide::report(&book, &mined, &sites);
    let decisions = decide::decisions(&book, &mined, &report);
    let plan = Plan {
        generation: parent.map_or(1, |generation| generation.saturating_add(1)),
        parent,
        made: input.now,
        input: String::new(),
        sites,
        worth: steps - switching(&book),
        bound: bound.or_else(|| input.parent.as_ref().and_then(|parent| parent.bound)),
        decisions: decisions.into_iter().map(Shared::from).collect(),
    };
    Planned { plan, report, bound }
}

/// How good any plan for this input could be: off the critical path, since it takes longer than the plan itself.
pub fn bound(input: &Input) -> Bound {
    let mut book = Book::open(input);
    book.shed();
    let problem = Problem::of(&book);
    let reached = book.start(&problem);
    weighed(input, &problem, reached)
}

fn weighed(input: &Input, problem: &Problem, reached: i64) -> Bound {
    let most = MicroDollars::new(dispatch::bound::bound(problem, reached));
    Bound { most, reached: MicroDollars::new(reached), made: input.now }
}

/// A fleet whose runs and miners are set.
pub(crate) struct Settled<'a> {
    pub(crate) book: Book<'a>,
    pub(crate) mined: BTreeMap<SiteId, Mined>,
    bound: Option<Bound>,
}

/// Runs and miners of the whole fleet. Where whole miners have left an island too little fast load for what was started there, it
/// is closed and the plan made again: a start is never worth the island.
pub(crate) fn settle(input: &Input) -> Settled<'_> {
    settle_with(input, BOUNDED, Groups::of(input))
}

/// Dispatches with up to `bounded` jobs and pools get their bound on the way.
fn settle_with<'a>(input: &'a Input, bounded: usize, groups: Groups<'a>) -> Settled<'a> {
    let mut kept = Book::open_with(input, groups);
    kept.shed();
    let mut bound = None;
    for round in 0..=REPAIRS {
        let mut book = kept.clone();
        let problem = Problem::of(&book);
        let reached = book.start(&problem);
        // The first dispatch, before anything was closed, is what could be had.
        bound = bound.or_else(|| {
            let small = problem.jobs.len() + problem.pools.len() <= bounded;
            small.then(|| weighed(input, &problem, reached))
        });
        let mined = fill(&mut book);
        let insecure: Vec<SiteId> = book
            .islands
            .iter()
            .filter(|(_, island)| island.starts(input) && !island.is_secure_for_starts())
            .map(|(id, _)| id.clone())
            .collect();
        if insecure.is_empty() {
            return Settled { book, mined, bound };
        }
        for (id, island) in &mut kept.islands {
            island.closed |= round + 1 >= REPAIRS || insecure.contains(id);
        }
    }
    // Not reached: with every island closed nothing starts.
    let problem = Problem::of(&kept);
    kept.rest(&problem);
    let mined = fill(&mut kept);
    Settled { book: kept, mined, bound }
}

pub(crate) fn fill(book: &mut Book<'_>) -> BTreeMap<SiteId, Mined> {
    let market = &book.input.market;
    book.islands.iter_mut().map(|(id, island)| (id.clone(), mining::fill(island, market))).collect()
}

fn worth(step: &SiteStep) -> MicroDollars {
    step.worth
}

/// What changing over costs: set starts, work that stops throw away, time in which restarts earn nothing.
fn switching(book: &Book<'_>) -> MicroDollars {
    let sets = book.islands.values().map(|island| island.start_costs()).sum::<MicroDollars>();
    let runs = book.verdicts.iter().filter_map(|(id, verdict)| {
        let workload = book.input.workloads.get(id)?;
        match verdict.reason {
            ReasonCode::Placed => {
                let idle = model::workload::GpuTime::of(workload.spec.gpus, workload.spec.restart);
                Some(idle.cost(workload.spec.price))
            }
            ReasonCode::Preempted | ReasonCode::PowerShort if workload.status.phase != Phase::Stopping => {
                Some(lost_work(workload))
            }
            _ => None,
        }
    });
    sets + runs.sum()
}
