//! What people are told: tenants nothing of others, operators the figures behind a decision.

use model::plan::{ReasonCode, Subject};
use model::workload::Tier;
use model::{Watts, WorkloadId};
use planner::{diff, explain};

use crate::scene::*;

/// Words of the fleet that no tenant may read: ids of sites, modules and others' work, money, watts.
fn check_tenant_text(lines: &[String], others: &[WorkloadId]) {
    let text = lines.join("\n");
    assert!(!lines.is_empty());
    for secret in ["well-7", "gpu ", "hybrid", "mine", "$", "µ", " W", "kW"] {
        assert!(!text.contains(secret), "{secret:?} in {text:?}");
    }
    for other in others {
        assert!(!text.contains(other.as_str()), "{other} in {text:?}");
    }
}

#[test]
fn a_tenant_reads_nothing_of_others_whatever_the_reason() {
    let mut input = fleet();
    for each in 0..40 {
        submit(&mut input, workload(&format!("firm{each:02}"), Tier::Firm, 16, 235));
        submit(&mut input, workload(&format!("spot{each:02}"), Tier::Spot, 16, 3 * each));
    }
    let made = planned(&input);
    let mut reasons = std::collections::BTreeSet::new();
    for id in input.workloads.keys() {
        let told = explain(&made.plan, &input, &Subject::Workload(id.clone()));
        let others: Vec<WorkloadId> = input.workloads.keys().filter(|other| *other != id).cloned().collect();
        check_tenant_text(&told.tenant, &others);
        assert!(!told.operator.is_empty());
        let about = Subject::Workload(id.clone());
        reasons.insert(made.plan.decisions.iter().find(|d| d.subject == about).unwrap().reason);
    }
    assert!(reasons.len() >= 2, "{reasons:?}");
}

#[test]
fn an_operator_reads_what_binds_and_what_was_rejected() {
    let mut input = fleet();
    submit(&mut input, workload("gang", Tier::OnDemand, 400, 295));
    let made = planned(&input);
    let told = explain(&made.plan, &input, &Subject::Workload(id("gang"))).operator.join("\n");
    assert!(told.contains("step_limited") && told.contains("block load of 300000 W"), "{told}");
    let site = explain(&made.plan, &input, &Subject::Site(id("well-7")));
    assert!(site.operator.iter().any(|line| line.contains("absorbed")), "{site:?}");
    assert!(site.tenant.is_empty());
    let module = explain(&made.plan, &input, &Subject::Module(id("mine")));
    assert!(module.operator.iter().any(|line| line.starts_with("ceiling")), "{module:?}");
}

#[test]
fn every_subject_has_one_decision() {
    let mut input = fleet();
    submit(&mut input, workload("w", Tier::OnDemand, 8, 295));
    let made = planned(&input);
    let mut subjects: Vec<_> = made.plan.decisions.iter().map(|decision| decision.subject.clone()).collect();
    subjects.sort();
    subjects.dedup();
    assert_eq!(subjects.len(), made.plan.decisions.len());
    assert_eq!(subjects.len(), 1 + input.modules.len() + input.workloads.len());
}

#[test]
fn what_is_unknown_is_explained_by_silence() {
    let input = fleet();
    let made = planned(&input);
    assert_eq!(explain(&made.plan, &input, &Subject::Module(id("nobody"))), planner::Explanation::default());
}

#[test]
fn a_diff_is_empty_for_the_same_and_lists_both_sides_otherwise() {
    let (input, made) = settled(&fleet());
    assert!(diff(&made.plan, &made.plan).is_empty());
    let mut other = made.plan.clone();
    other.sites.get_mut(&id("well-7")).unwrap().modules.remove(&id("mine"));
    let lines: Vec<String> = diff(&made.plan, &other).iter().map(ToString::to_string).collect();
    assert!(
        lines.iter().any(|line| line.starts_with("module mine ceiling: ") && line.ends_with("-> -")),
        "{lines:?}"
    );
    let back = diff(&other, &made.plan);
    assert_eq!(back.len(), lines.len());
    assert!(planned(&input).plan.generation > made.plan.generation);
}

#[test]
fn the_report_adds_up() {
    let (_, made) = settled(&fleet());
    let view = &made.report.sites[&id("well-7")];
    assert!(view.load.total() <= view.capacity);
    assert!(view.load.mining > Watts::ZERO && view.load.idle > Watts::ZERO);
    let module = Subject::Module(id("mine"));
    let decision = made.plan.decisions.iter().find(|decision| decision.subject == module).unwrap();
    assert_eq!(decision.reason, ReasonCode::MiningResidual);
}
