//! What an island may promise: N-1, one set, no relay, and the closed forms beside them.

use model::plan::ReasonCode;
use model::workload::Tier;
use model::{Span, Watts};
use planner::plan;

use crate::scene::*;

/// Firm watts that a fleet of nothing but firm work reaches, as a share of the sets' rating in permille.
fn firm_permille(sets: usize, relay: bool) -> i64 {
    let mut input = fleet();
    input.sites.get_mut(&id("well-7")).map(|given| *given = site("well-7", sets)).unwrap();
    input.sites.get_mut(&id("well-7")).unwrap().site.relay = relay;
    for name in ["x1", "x2", "x3"] {
        add(&mut input, module(name, "well-7", &[("a", miners(300, Some(150)))], &[("p", gpus(100))]));
    }
    gas_percent(&mut input, 300);
    for each in 0..400 {
        submit(&mut input, workload(&format!("f{each}"), Tier::Firm, 8, 235));
    }
    let (input, made) = settled(&input);
    let short = [ReasonCode::NoFirmCapacity, ReasonCode::NoPower, ReasonCode::StepLimited];
    assert!(made.plan.decisions.iter().any(|decision| short.contains(&decision.reason)));
    let site = &made.report.sites[&id("well-7")];
    let firm = site.load.firm_ai + site.load.idle + site.load.unmanaged + site.load.auxiliary;
    firm.get() * 1_000 / input.sites[&id("well-7")].site.rating().get()
}

#[test]
fn miners_let_four_sets_sell_three_quarters_firm() {
    let sold = firm_permille(4, true);
    // 75 % less the 3 % margin, 1 % headroom, 2 % start slack and the grain of gangs.
    assert!((690..=750).contains(&sold), "{sold} permille");
}

#[test]
fn without_a_relay_only_the_governors_count() {
    let sold = firm_permille(4, false);
    // s·(n−1) = 0.15 × 3 = 45 %.
    assert!((400..=450).contains(&sold), "{sold} permille");
}

#[test]
fn one_set_sells_nothing_firm_but_runs_the_rest() {
    let mut input = fleet();
    input.sites.get_mut(&id("well-7")).map(|given| *given = site("well-7", 1)).unwrap();
    submit(&mut input, workload("firm", Tier::Firm, 8, 235));
    submit(&mut input, workload("od", Tier::OnDemand, 8, 235));
    let made = planned(&input);
    assert!(made.plan.placement(&id("firm")).is_none());
    assert!(made.plan.placement(&id("od")).is_some());
    assert_eq!(made.plan.sites[&id("well-7")].firm_capacity, Watts::ZERO);
}

#[test]
fn an_unmeasured_feeder_is_no_reserve() {
    let mut input = fleet();
    for given in input.modules.values_mut() {
        given.module.groups.values_mut().for_each(|group| group.shed.opens = None);
    }
    let (_, made) = settled(&input);
    let site = &made.plan.sites[&id("well-7")];
    assert!(site.contingencies.values().all(|loss| loss.shed == Watts::ZERO));
    let ceilings: Watts = site.modules.values().map(|module| module.ceiling).sum();
    assert!(ceilings <= Watts::kilo(1_800), "{ceilings}: above what three blocks absorb");
    assert!(made.report.sites[&id("well-7")].hints.iter().any(|hint| hint.contains("measure the feeder")));
}

#[test]
fn a_slow_feeder_is_no_reserve_either() {
    let mut input = fleet();
    for given in input.modules.values_mut() {
        given.module.groups.values_mut().for_each(|group| group.shed.opens = Some(Span::new(900)));
    }
    let (_, made) = settled(&input);
    assert!(made.plan.sites[&id("well-7")].contingencies.values().all(|loss| loss.shed == Watts::ZERO));
}

#[test]
fn little_inertia_lowers_what_may_run() {
    let mut input = fleet();
    let (_, heavy) = settled(&input);
    for set in input.sites.get_mut(&id("well-7")).unwrap().site.gensets.values_mut() {
        set.inertia = Span::new(500);
    }
    let (_, light) = settled(&input);
    let load = |made: &planner::Planned| made.report.sites[&id("well-7")].load.total();
    assert!(load(&light) < load(&heavy), "{} < {}", load(&light), load(&heavy));
}

#[test]
fn a_shed_is_of_the_right_size() {
    let (input, made) = settled(&fleet());
    let site = &made.plan.sites[&id("well-7")];
    for loss in site.contingencies.values() {
        assert!(loss.shed + loss.absorbed >= loss.lost, "{loss:?}");
        // The rungs are groups of 200 and 150 miners: no excess above one of them.
        assert!(loss.shed <= loss.lost + Watts::kilo(525), "{loss:?}");
    }
    assert_eq!(plan(&input).plan.sites[&id("well-7")].contingencies.len(), 4);
}

#[test]
fn a_stale_site_is_not_raised() {
    let (mut input, before) = settled(&fleet());
    input.sites.get_mut(&id("well-7")).unwrap().fresh = false;
    gas_percent(&mut input, 200);
    submit(&mut input, workload("late", Tier::OnDemand, 8, 295));
    let after = planned(&input);
    for (id, module) in &after.plan.sites[&id("well-7")].modules {
        assert!(module.ceiling <= before.plan.module(id).unwrap().ceiling);
    }
    assert!(after.plan.placement(&id("late")).is_none());
}
