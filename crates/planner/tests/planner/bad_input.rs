//! Input that is wrong or missing: the plan is safe, and findings say what to change.

use model::Watts;
use model::workload::{Phase, Placement, Tier};
use planner::{Input, Link, check, plan};

use crate::scene::*;

/// Plans, insists on a sound plan, and on a finding with this code (none for an empty one).
fn check_bad(input: &Input, code: &str) -> planner::Planned {
    let made = planned(input);
    let found = made.report.findings.iter().any(|finding| finding.code == code && finding.message.len() > 20);
    assert!(code.is_empty() || found, "{code}: {:#?}", made.report.findings);
    made
}

#[test]
fn an_empty_fleet_has_an_empty_plan() {
    let mut input = fleet();
    input.modules.clear();
    check_bad(&input, "");
    input.sites.clear();
    assert!(check_bad(&input, "").plan.sites.is_empty());
}

#[test]
fn an_unknown_market_mines_nothing_but_what_the_island_needs() {
    for difficulty in [f64::NAN, f64::INFINITY, -1.0, 0.0] {
        let mut input = fleet();
        input.market.difficulty = difficulty;
        let made = check_bad(&input, "market-unknown");
        let mining = made.report.sites[&id("well-7")].load.mining;
        // Ballast: four sets need 300 kW each.
        assert!(mining <= Watts::kilo(1_260), "{mining} at difficulty {difficulty}");
    }
}

#[test]
fn a_broken_market_survives_json() {
    let mut input = fleet();
    input.market.difficulty = f64::NAN;
    let text = serde_json::to_string(&input).unwrap();
    let back: Input = serde_json::from_str(&text).unwrap();
    assert!(back.market.difficulty.is_nan());
    assert_eq!(serde_json::to_string(&back).unwrap(), text);
    assert_eq!(plan(&back), plan(&input));
}

#[test]
fn a_module_without_a_limit_is_granted_nothing() {
    let mut input = fleet();
    input.modules.get_mut(&id("gpu")).unwrap().module.limit = Watts::ZERO;
    let made = check_bad(&input, "no-limit");
    assert_eq!(made.plan.module(&id("gpu")).unwrap().ceiling, Watts::ZERO);
}

#[test]
fn a_module_on_no_site_is_reported() {
    let mut input = fleet();
    input.modules.get_mut(&id("gpu")).unwrap().module.site = id("nowhere");
    check_bad(&input, "no-site");
}

#[test]
fn a_silent_site_grants_nothing_and_stops_no_set() {
    let mut input = fleet();
    input.sites.get_mut(&id("well-7")).unwrap().report = None;
    let made = check_bad(&input, "site-silent");
    let site = &made.plan.sites[&id("well-7")];
    assert!(site.modules.values().all(|module| module.ceiling == Watts::ZERO));
    assert!(site.gensets.values().all(|runs| *runs));
}

#[test]
fn firm_promises_above_the_supply_run_on_and_are_reported() {
    let mut input = fleet();
    for each in 0..30 {
        submit(&mut input, workload(&format!("f{each:02}"), Tier::Firm, 16, 235));
    }
    let (mut input, _) = settled(&input);
    trip(&mut input, "g1");
    trip(&mut input, "g2");
    trip(&mut input, "g3");
    check_bad(&input, "firm-oversold");
}

#[test]
fn a_run_on_a_module_nobody_knows_is_started_nowhere_else() {
    let mut input = fleet();
    let mut lost = workload("lost", Tier::OnDemand, 8, 295);
    lost.status.phase = Phase::Unreachable;
    lost.status.placement =
        Some(Placement { module: id("gone"), pool: id("p"), servers: vec![(0, 8)], incarnation: 3 });
    submit(&mut input, lost);
    let made = check_bad(&input, "");
    assert!(made.plan.placement(&id("lost")).is_none());
}

#[test]
fn a_module_that_never_reported_gets_no_work() {
    let mut input = fleet();
    let given = input.modules.get_mut(&id("gpu")).unwrap();
    given.link = Link::Never;
    given.report = None;
    submit(&mut input, workload("w", Tier::OnDemand, 8, 295));
    let made = check_bad(&input, "");
    assert_eq!(made.plan.placement(&id("w")).unwrap().module, id("hybrid"));
    assert!(check(&made.plan, &input).is_empty());
}

/// Two drains at once, with a firm gang that fits nowhere else: it is stopped with its reason, and nothing starts on either module.
#[test]
fn overlapping_drains_stop_what_they_must_and_start_nothing() {
    let mut input = fleet();
    for (name, gpus) in [("a", 64), ("b", 200), ("c", 100)] {
        submit(&mut input, workload(name, model::workload::Tier::OnDemand, gpus, 295));
    }
    let (mut input, before) = settled(&input);
    assert!(before.plan.placement(&id("a")).is_some());
    for given in input.modules.values_mut() {
        given.draining = true;
    }
    submit(&mut input, workload("late", model::workload::Tier::Firm, 8, 235));
    let made = planned(&input);
    assert!(
        made.plan.sites.values().flat_map(|site| site.modules.values()).all(|module| module.runs.is_empty())
    );
    let reasons: Vec<_> = ["a", "late"]
        .map(|name| {
            let about = model::plan::Subject::Workload(id(name));
            made.plan.decisions.iter().find(|decision| decision.subject == about).unwrap().reason
        })
        .into();
    assert_eq!(reasons, [model::plan::ReasonCode::Draining, model::plan::ReasonCode::NoGpus]);
}
