//! The bound a plan carries: its own where it is computed on the way, else its parent's, which is stale.

use model::workload::Tier;
use planner::{bound, plan};

use crate::scene::*;

#[test]
fn a_plan_of_a_small_fleet_carries_its_own_bound() {
    let mut input = fleet();
    submit(&mut input, workload("w", Tier::OnDemand, 8, 295));
    let made = planned(&input);
    assert_eq!(made.plan.bound, Some(bound(&input)));
    assert!(!made.plan.bound_is_stale());
    let found = made.plan.bound.unwrap();
    assert!(found.reached <= found.most && found.made == NOW, "{found:?}");
}

#[test]
fn a_plan_of_a_large_fleet_carries_its_parents_bound_as_stale_until_one_is_computed() {
    let mut input = fleet();
    let first = planned(&input);
    // More jobs than a bound is computed for on the way.
    for nth in 0..120 {
        submit(&mut input, workload(&format!("w{nth:03}"), Tier::Spot, 8, 100));
    }
    let unknown = plan(&input);
    assert_eq!((unknown.bound, unknown.plan.bound), (None, None));
    assert!(!unknown.plan.bound_is_stale(), "there is none that could be stale");

    input.parent = Some(first.plan.clone());
    input.now = NOW + model::plan::STEP;
    let made = planned(&input);
    assert_eq!(made.bound, None);
    assert_eq!(made.plan.bound, first.plan.bound);
    assert!(made.plan.bound_is_stale());

    let fresh = bound(&input);
    assert_eq!(fresh.made, made.plan.made);
    assert!(fresh.reached <= fresh.most && fresh.most > first.plan.bound.unwrap().most, "{fresh:?}");
}
