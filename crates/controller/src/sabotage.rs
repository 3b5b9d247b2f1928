//! Defects on request, for the runs in which an invariant's checker must fire. Off unless a test or `dev --sabotage` asks.

use model::plan::Plan;
use store::Compare;

/// One defect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    /// Ceilings are raised without asking whether the island has room (invariant 1).
    OverGrant,
    /// A leader that lost its office goes on: it heeds no loss, and none of its own writes compares the leader's key
    /// (invariant 4).
    SkipFence,
    /// The plan is changed after it was made, so that the same input gives another plan (invariant 10).
    Nondeterministic,
}

/// The condition of a leader's own writes; none for one that skips its fence.
pub fn fence(compare: Compare, sabotage: Option<Sabotage>) -> Option<Compare> {
    (sabotage != Some(Sabotage::SkipFence)).then_some(compare)
}

/// Changes a plan in a way that its check does not mind and a second planning does.
pub fn perturb(plan: &mut Plan, grain: i64) {
    plan.worth += model::MicroDollars::new(1 + grain.rem_euclid(7));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn only_the_sabotage_that_skips_the_fence_does() {
        let compare = Compare::Exists(store::key::leader());
        for honest in [None, Some(Sabotage::OverGrant), Some(Sabotage::Nondeterministic)] {
            assert_eq!(fence(compare.clone(), honest), Some(compare.clone()), "{honest:?}");
        }
        assert_eq!(fence(compare, Some(Sabotage::SkipFence)), None);
    }

    #[test]
    fn a_perturbed_plan_differs() {
        let plan = testing::plan_with(&testing::workload("w", "t", 2).id, testing::placement("m1", 1));
        let mut other = plan.clone();
        perturb(&mut other, -3);
        assert_ne!(plan, other);
    }
}
