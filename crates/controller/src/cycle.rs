//! One round of planning: input → plan → check → commit.
//!
//! A plan that fails its check is refused: the old one stays in force and the findings say why. A repair that fails it, or leaves
//! somebody who came without a place, gives way to a plan for the whole fleet in the same round. Planning is pure and is
//! asked for on a thread of its own (`term/round.rs`); only the commit touches the store. Read next: `commit.rs`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use model::plan::Plan;
use model::report::Finding;
use model::{Span, WorkloadId};
use planner::Input;
use service::traces::TARGET;
use store::{Compare, Key, Store};
use tracing::info_span;

use crate::commit::{self, InForce};
use crate::lifecycle::misnumbered;
use crate::live::Round;
use crate::observe::digest;
use crate::sabotage::{Sabotage, perturb};

/// How plans are made and checked: the planner, or in tests something that misbehaves.
pub type Planner = fn(&Input) -> planner::Planned;

/// Why a round ended without a new plan.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The check found something; the old plan stays.
    #[error("the plan failed its check and was refused; the old one stays")]
    Refused {
        /// The number it would have had.
        generation: u64,
        /// What is wrong with it.
        findings: Vec<Finding>,
    },
    /// The planner panicked or its input cannot be written.
    #[error("the planner failed on its input ({0}); the old plan stays; report this")]
    Planner(String),
    /// The plan was not committed.
    #[error(transparent)]
    Commit(#[from] commit::Error),
}

/// A plan that passed its check.
#[derive(Clone, Debug)]
pub struct Checked {
    /// The round it came from.
    pub round: Round,
    /// What it took.
    pub took: Took,
}

/// Wall time that a round took on its thread.
#[derive(Clone, Copy, Debug)]
pub struct Took {
    /// Until a plan was there, one that did not do before it included.
    pub plan: Duration,
    /// To judge it.
    pub check: Duration,
}

/// What to plan.
#[derive(Clone, Debug)]
pub struct Order {
    /// For a repair the input names the islands that were touched.
    pub input: Input,
    /// The round whose plan is in force: a repair takes its report over for all that was not touched.
    pub before: Option<Arc<Round>>,
    /// Who came since: a repair that leaves one of them without a place is not enough.
    pub came: Vec<WorkloadId>,
}

impl Order {
    /// Everything is planned.
    pub fn whole(input: Input) -> Self {
        Self { input: Input { touched: None, ..input }, before: None, came: Vec::new() }
    }
}

/// Commits a checked plan on its parent. `fence` is the leader's condition; `None` only in sabotaged runs.
pub async fn commit(
    store: &Store,
    fence: Option<Compare>,
    parent: Option<&InForce>,
    checked: &Checked,
    prune: Vec<Key>,
) -> Result<InForce, Error> {
    let plan = Plan::clone(&checked.round.plan);
    Ok(commit::commit(store, fence, parent, plan, prune).await?)
}

/// Plans and checks, for as long as it takes.
pub fn decide(order: Order, planner: Planner, sabotage: Option<Sabotage>) -> Result<Checked, Error> {
    let started = Instant::now();
    let Order { input, before, came } = order;
    if let (Some(before), Some(touched)) = (&before, &input.touched) {
        let repair = info_span!(target: TARGET, "repair", sites = touched.len());
        let planned = repair.in_scope(|| planner::repair(&input, &before.report, touched));
        let serves = came.iter().all(|id| planned.plan.placement(id).is_some());
        if serves && findings(&planned.plan, &input).is_empty() {
            return checked(input, planned, sabotage, started);
        }
    }
    let input = Input { touched: None, ..input };
    let planned = info_span!(target: TARGET, "plan").in_scope(|| planner(&input));
    checked(input, planned, sabotage, started)
}

/// Numbers, judges and keeps what was planned.
fn checked(
    input: Input,
    planned: planner::Planned,
    sabotage: Option<Sabotage>,
    started: Instant,
) -> Result<Checked, Error> {
    let mut plan = planned.plan;
    plan.input = digest(&input).map_err(|error| Error::Planner(error.to_string()))?;
    if sabotage == Some(Sabotage::Nondeterministic) {
        perturb(&mut plan, input.now.millis());
    }
    let plan_took = started.elapsed();
    let findings = findings(&plan, &input);
    let took = Took { plan: plan_took, check: started.elapsed().saturating_sub(plan_took) };
    if !findings.is_empty() {
        return Err(Error::Refused { generation: plan.generation, findings });
    }
    let span = Span::new(i64::try_from(plan_took.as_millis()).unwrap_or(i64::MAX));
    let round = Round { input, plan: plan.into(), report: planned.report, took: span };
    Ok(Checked { round, took })
}

fn findings(plan: &Plan, input: &Input) -> Vec<Finding> {
    let _check = info_span!(target: TARGET, "check").entered();
    let mut findings = planner::check(plan, input);
    findings.extend(misnumbered(plan, input.workloads.values()));
    findings.extend(lineage(plan, input));
    findings
}

/// A plan names the plan in force as its parent and has the next number.
fn lineage(plan: &Plan, input: &Input) -> Option<Finding> {
    let parent = input.parent.as_ref().map(|parent| parent.generation);
    let next = parent.map_or(1, |parent| parent.saturating_add(1));
    let fits = plan.parent == parent && plan.generation == next;
    (!fits).then(|| Finding {
        code: "lineage".into(),
        subject: format!("plan {}", plan.generation),
        message: format!("should be number {next} on parent {parent:?}; plan again on the plan in force"),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeMap;

    use model::Time;

    use super::*;
    use crate::observe;
    use crate::testing;
    use crate::tracker::{Freshness, Tracker};

    fn input() -> Input {
        let cache = testing::cache(&testing::fleet());
        let tracker = Tracker::new(Freshness::default(), Time(0));
        observe::input(&cache, &tracker, &BTreeMap::new(), None, testing::market(), Time(1_000))
    }

    fn wrong_number(input: &Input) -> planner::Planned {
        let mut planned = planner::plan(input);
        planned.plan.generation += 1;
        planned
    }

    #[test]
    fn a_plan_carries_the_digest_of_its_input_and_passes() {
        let checked = decide(Order::whole(input()), planner::plan, None).unwrap();
        assert_eq!(checked.round.plan.input, digest(&input()).unwrap());
        let again = decide(Order::whole(input()), planner::plan, None).unwrap();
        assert_eq!(checked.round.plan, again.round.plan);
    }

    #[test]
    fn a_plan_that_fails_its_check_is_refused_with_its_findings() {
        let error = decide(Order::whole(input()), wrong_number, None).unwrap_err();
        let Error::Refused { generation: 2, findings } = error else { panic!("{error:?}") };
        assert!(findings.iter().any(|finding| finding.code == "lineage"), "{findings:?}");
    }

    #[test]
    fn the_sabotaged_planner_gives_another_plan() {
        let honest = decide(Order::whole(input()), planner::plan, None).unwrap();
        let other = decide(Order::whole(input()), planner::plan, Some(Sabotage::Nondeterministic)).unwrap();
        assert_ne!(honest.round.plan, other.round.plan);
    }
}
