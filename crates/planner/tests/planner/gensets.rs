//! Which sets shall run, and what the look-ahead makes of them.

use model::plan::{Plan, STEP, Subject};
use model::report::{GensetReport, GensetState};
use model::site::{GasFlow, GasVolume};
use model::workload::Tier;
use model::{Span, Watts};
use planner::{GasStep, Input};

use crate::scene::*;

fn with(state: GensetState, minutes: i64, mcf: i64) -> Input {
    let mut input = fleet();
    let report = input.sites.get_mut(&id("well-7")).unwrap().report.as_mut().unwrap();
    report.gas = Some(GasFlow::mcf(mcf));
    report.buffer = Some(GasVolume::ZERO);
    let set = GensetReport { state, power: None, for_span: Span::minutes(minutes) };
    report.gensets.insert(id("g4"), set);
    input
}

/// Whether g4 shall run when it has been in `state` for so many minutes and so much gas flows; the other three are online. It costs
/// something by the hour.
fn check_runs(state: GensetState, minutes: i64, mcf: i64, expected: bool) {
    let made = planned(&priced(with(state, minutes, mcf)));
    let runs = made.plan.sites[&id("well-7")].gensets[&id("g4")];
    assert_eq!(runs, expected, "{state:?} for {minutes} min at {mcf} MCF/day");
}

fn priced(mut input: Input) -> Input {
    let site = input.sites.get_mut(&id("well-7")).unwrap();
    *site = costly(site.clone());
    input
}

fn running(plan: &Plan) -> usize {
    plan.sites[&id("well-7")].gensets.values().filter(|runs| **runs).count()
}

/// Miners of 2.2 MW and three megawatt sets: a fourth set would add nothing but its hour. At 450 MCF/day three carry 1.8 MW and two
/// fall to the dip of frequency; at 300 two, at 150 one set takes all the gas.
#[test]
fn as_many_sets_run_as_earn_their_hour_and_their_gas() {
    for (mcf, sets) in [(150, 1), (300, 2), (450, 3), (900, 3), (1_200, 3)] {
        let made = planned(&priced(with(GensetState::Online, 600, mcf)));
        assert_eq!(running(&made.plan), sets, "at {mcf} MCF/day");
    }
    let free = planned(&with(GensetState::Online, 600, 900));
    assert_eq!(running(&free.plan), 4, "a set that costs nothing goes on");
}

#[test]
fn a_set_that_costs_more_than_it_earns_stops_once_it_has_run_long_enough() {
    check_runs(GensetState::Online, 60, 900, false);
    check_runs(GensetState::Online, 5, 900, true);
    check_runs(GensetState::Starting, 0, 300, true);
    check_runs(GensetState::Off, 600, 900, false);
}

/// A firm gang that three sets cannot carry after the loss of one gets the fourth, once that has rested.
#[test]
fn a_set_starts_for_firm_work_that_waits_and_has_rested() {
    for (minutes, expected) in [(60, true), (5, false)] {
        let mut input = priced(with(GensetState::Off, minutes, 900));
        let pools = [("p", gpus(250))];
        let mut host = module("host", "well-7", &[], &pools);
        (host.module.limit, host.module.cooling) = (Watts::kilo(3_000), Watts::kilo(3_000));
        add(&mut input, host);
        for nth in 0..24 {
            submit(&mut input, workload(&format!("firm-{nth}"), Tier::Firm, 64, 235));
        }
        let runs = planned(&input).plan.sites[&id("well-7")].gensets[&id("g4")];
        assert_eq!(runs, expected, "after a rest of {minutes} minutes");
    }
}

/// Without miners more than one set would run below their minimum loads beside a small firm gang; where a load bank takes the rest, they
/// run, and the gang can be promised: three of 1 MW carry 300 kW and more without help after the loss of one.
#[test]
fn a_load_bank_lets_sets_run_that_reserve_needs() {
    for (kilowatts, sets, firm) in [(0, 1, false), (1_000, 3, true)] {
        let mut input = priced(with(GensetState::Off, 600, 900));
        input.modules.values_mut().for_each(|module| module.module.groups.clear());
        let given = input.sites.get_mut(&id("well-7")).unwrap();
        given.site.load_bank = Watts::kilo(kilowatts);
        submit(&mut input, workload("gang", Tier::Firm, 16, 235));
        let made = planned(&input);
        assert_eq!(running(&made.plan), sets, "a load bank of {kilowatts} kW");
        assert_eq!(made.plan.placement(&id("gang")).is_some(), firm);
    }
}

/// Gas for two sets now and for three from the fifth step on: the third is to be there by then.
#[test]
fn the_schedule_has_a_set_on_the_bus_when_the_gas_comes() {
    let mut input = priced(with(GensetState::Off, 600, 300));
    let given = input.sites.get_mut(&id("well-7")).unwrap();
    let rested = GensetReport { state: GensetState::Off, power: None, for_span: Span::hours(5) };
    given.report.as_mut().unwrap().gensets.insert(id("g3"), rested);
    let flow = |mcf| GasStep { p10: GasFlow::mcf(mcf), p50: GasFlow::mcf(mcf) };
    given.forecast = [vec![flow(300); 5], vec![flow(600); 19]].concat();
    let made = planned(&input);
    let site = &made.plan.sites[&id("well-7")];
    assert_eq!(running(&made.plan), 2);
    assert_eq!(site.later, [(id("g3"), 4)].into(), "a start takes two minutes, so a step");
    assert!(site.steps[4].capacity < Watts::kilo(1_300) && site.steps[5].capacity > Watts::kilo(2_000));
    let told = planner::explain(&made.plan, &input, &Subject::Site(id("well-7"))).operator.join("\n");
    assert!(told.contains("genset g3 starts in about 20 minutes"), "{told}");
}

/// Gas that wavers by a tenth around what a third set pays for does not start and stop it again and again.
#[test]
fn gas_that_wavers_does_not_move_sets() {
    let mut input = priced(with(GensetState::Online, 600, 380));
    let mut moves = 0;
    let mut before = None;
    for nth in 0..40_i64 {
        let report = input.sites.get_mut(&id("well-7")).unwrap().report.as_mut().unwrap();
        // A sawtooth of 360 to 400 MCF/day.
        report.gas = Some(GasFlow::mcf(360 + nth * 17 % 41));
        let plan = planned(&input).plan;
        let wanted = plan.sites[&id("well-7")].gensets.clone();
        moves += usize::from(before.is_some_and(|before| before != wanted));
        for (set, runs) in &wanted {
            let state = if *runs { GensetState::Online } else { GensetState::Off };
            let known = report_of(&mut input).gensets.get_mut(set).unwrap();
            let for_span = if known.state == state { known.for_span + STEP } else { Span::ZERO };
            *known = GensetReport { state, power: None, for_span };
        }
        before = Some(wanted);
        input = carry_out(&input, &plan);
    }
    assert!(moves <= 2, "{moves} moves in 40 plans");
}

fn report_of(input: &mut Input) -> &mut model::report::SiteReport {
    input.sites.get_mut(&id("well-7")).unwrap().report.as_mut().unwrap()
}

#[test]
fn operators_read_what_a_set_more_or_less_and_more_gas_would_bring() {
    let input = priced(with(GensetState::Online, 600, 450));
    let made = planned(&input);
    let told = planner::explain(&made.plan, &input, &Subject::Site(id("well-7"))).operator.join("\n");
    for what in ["a set more on the bus $-", "a set less $-", "10 % more gas $"] {
        assert!(told.contains(what), "no {what} in {told}");
    }
}

#[test]
fn a_tripped_set_waits_for_a_person() {
    check_runs(GensetState::Tripped, 600, 900, false);
    check_runs(GensetState::Stopping, 1, 900, false);
}

#[test]
fn the_last_set_is_never_stopped_by_choice() {
    let mut input = with(GensetState::Online, 60, 10);
    let report = input.sites.get_mut(&id("well-7")).unwrap().report.as_mut().unwrap();
    report.gas = Some(GasFlow::ZERO);
    let made = planned(&input);
    assert_eq!(made.plan.sites[&id("well-7")].gensets.values().filter(|runs| **runs).count(), 1);
}

#[test]
fn a_starting_set_counts_once_it_can_carry_load() {
    let made = planned(&with(GensetState::Starting, 1, 2_000));
    let steps = &made.plan.sites[&id("well-7")].steps;
    assert_eq!(steps[0].capacity, Watts::kilo(2_910));
    assert_eq!(steps[1].capacity, Watts::kilo(3_880));
}

#[test]
fn the_look_ahead_follows_the_forecast() {
    let mut input = fleet();
    let flow = GasFlow::mcf;
    let given = input.sites.get_mut(&id("well-7")).unwrap();
    given.forecast =
        vec![GasStep { p10: flow(800), p50: flow(900) }, GasStep { p10: flow(100), p50: flow(200) }];
    let made = planned(&input);
    let steps = &made.plan.sites[&id("well-7")].steps;
    assert_eq!(steps.len(), 24);
    assert!(steps[1].capacity < steps[0].capacity.fraction(1, 3));
    assert_eq!(steps[1], steps[23], "the last step of a short forecast holds on");
    assert!(steps.iter().all(|step| step.ai + step.mining + step.auxiliary <= step.capacity));
    assert!(steps[1].worth < steps[0].worth);
}

#[test]
fn firm_promises_rest_on_the_cautious_forecast() {
    let firm = |p10| {
        let mut input = fleet();
        let given = input.sites.get_mut(&id("well-7")).unwrap();
        given.report.as_mut().unwrap().buffer = Some(GasVolume::ZERO);
        given.forecast = vec![GasStep { p10: GasFlow::mcf(p10), p50: GasFlow::mcf(900) }];
        planned(&input).plan.sites[&id("well-7")].firm_capacity
    };
    assert!(firm(200) < firm(400));
    assert_eq!(firm(890), Watts::kilo(2_910));
}

#[test]
fn gas_nobody_reads_is_taken_as_what_the_sets_burn() {
    let mut input = with(GensetState::Online, 60, 900);
    let report = input.sites.get_mut(&id("well-7")).unwrap().report.as_mut().unwrap();
    (report.gas, report.load) = (None, Some(Watts::kilo(1_000)));
    let capacity = planned(&input).plan.sites[&id("well-7")].capacity;
    assert!(capacity > Watts::kilo(950) && capacity < Watts::kilo(1_000), "{capacity}");
}

#[test]
fn shares_add_up_to_half_of_what_the_sets_take() {
    let (_, made) = settled(&fleet());
    let modules = &made.plan.sites[&id("well-7")].modules;
    let step: Watts = modules.values().map(|module| module.share.step).sum();
    assert!(step <= Watts::kilo(300) && step > Watts::kilo(299), "{step}");
}
