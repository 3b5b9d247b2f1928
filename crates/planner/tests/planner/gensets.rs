//! Which sets shall run, and what the look-ahead makes of them.

use model::report::{GensetReport, GensetState};
use model::site::{GasFlow, GasVolume};
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

/// Whether g4 shall run when it has been in `state` for so many minutes and so much gas flows; the other three are online.
fn check_runs(state: GensetState, minutes: i64, mcf: i64, expected: bool) {
    let made = planned(&with(state, minutes, mcf));
    let runs = made.plan.sites[&id("well-7")].gensets[&id("g4")];
    assert_eq!(runs, expected, "{state:?} for {minutes} min at {mcf} MCF/day");
}

#[test]
fn a_set_starts_when_gas_and_n_1_want_it_and_it_has_rested() {
    check_runs(GensetState::Off, 60, 900, true);
    check_runs(GensetState::Off, 5, 900, false);
    // 300 MCF/day are 1.3 MW: two sets cover that after the loss of a third.
    check_runs(GensetState::Off, 60, 300, false);
}

#[test]
fn a_set_stops_when_it_is_not_needed_and_has_run_long_enough() {
    check_runs(GensetState::Online, 60, 900, true);
    check_runs(GensetState::Online, 60, 300, false);
    check_runs(GensetState::Online, 5, 300, true);
    check_runs(GensetState::Starting, 0, 300, true);
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
