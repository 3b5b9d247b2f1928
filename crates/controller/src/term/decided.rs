//! What the plan in force says of each workload, looked up once a plan: a fleet has as many workloads as decisions, and each of them is
//! stepped after every round.
//!
//! Assumes that plans are immutable, so that the same `Arc` says the same. Pure. Read next: `settle.rs`, which asks.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::WorkloadId;
use model::plan::{Plan, ReasonCode, Subject};
use model::workload::Placement;

/// Placements and reasons of one plan, by workload.
#[derive(Clone, Debug, Default)]
pub(super) struct Decided {
    plan: Option<Arc<Plan>>,
    workloads: BTreeMap<WorkloadId, (Option<Placement>, Option<ReasonCode>)>,
}

impl Decided {
    /// Goes over to the plan that is in force now.
    pub(super) fn follow(&mut self, plan: Option<&Arc<Plan>>) {
        let same = match (&self.plan, plan) {
            (Some(known), Some(plan)) => Arc::ptr_eq(known, plan),
            (known, plan) => known.is_none() && plan.is_none(),
        };
        if !same {
            *self = Self { plan: plan.cloned(), workloads: plan.map(|plan| index(plan)).unwrap_or_default() };
        }
    }

    /// Where it has a workload run.
    pub(super) fn placement(&self, workload: &WorkloadId) -> Option<&Placement> {
        self.workloads.get(workload)?.0.as_ref()
    }

    /// Why.
    pub(super) fn reason(&self, workload: &WorkloadId) -> Option<ReasonCode> {
        self.workloads.get(workload)?.1
    }
}

/// Where something stands twice the first counts, as for `Plan::placement`.
fn index(plan: &Plan) -> BTreeMap<WorkloadId, (Option<Placement>, Option<ReasonCode>)> {
    let mut workloads: BTreeMap<WorkloadId, (Option<Placement>, Option<ReasonCode>)> = BTreeMap::new();
    for (id, placement) in plan.placements() {
        workloads.entry(id.clone()).or_default().0.get_or_insert_with(|| placement.clone());
    }
    for decision in &plan.decisions {
        if let Subject::Workload(id) = &decision.subject {
            workloads.entry(id.clone()).or_default().1.get_or_insert(decision.reason);
        }
    }
    workloads
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use model::plan::Decision;

    use super::*;
    use crate::testing;

    fn id(name: &str) -> WorkloadId {
        WorkloadId::new(name).unwrap()
    }

    /// A plan that has `w` run on that module and says why of `w` and of `v`, which it does not place.
    fn plan(module: &str, reason: ReasonCode) -> Arc<Plan> {
        let mut plan = testing::plan_with(&id("w"), testing::placement(module, 1));
        let decision = |name: &str, reason| Decision {
            subject: Subject::Workload(id(name)),
            reason,
            binding: None,
            shadow_price: None,
            rejected: None,
        };
        let said =
            [decision("w", reason), decision("v", ReasonCode::NoGpus), decision("w", ReasonCode::Unknown)];
        plan.decisions = said.into_iter().map(Into::into).collect();
        plan.into()
    }

    #[test]
    fn it_says_what_the_plan_in_force_says_and_nothing_of_the_one_before() {
        let mut decided = Decided::default();
        let mut check = |plan: Option<&Arc<Plan>>| {
            decided.follow(plan);
            for workload in [id("w"), id("v"), id("nobody")] {
                let placed = plan.and_then(|plan| plan.placement(&workload));
                assert_eq!(decided.placement(&workload), placed, "{workload}");
                let subject = Subject::Workload(workload.clone());
                let said = plan.and_then(|plan| plan.decisions.iter().find(|said| said.subject == subject));
                assert_eq!(decided.reason(&workload), said.map(|said| said.reason), "{workload}");
            }
        };
        let (first, second) = (plan("m1", ReasonCode::Placed), plan("m2", ReasonCode::Preempted));
        check(None);
        check(Some(&first));
        check(Some(&second));
        check(Some(&Arc::new(Plan::clone(&first))));
        check(None);
    }
}
