//! Tests of reconciliation: what is started, stopped and killed, and that nothing runs twice.

#![allow(clippy::unwrap_used)]

use super::*;
use crate::bench::{assignment, directive, id, module, run};
use crate::estimate::Estimate;

/// One workload `w` as assigned and as reported, and the circumstances.
struct Case {
    assigned: Option<u64>,
    reported: Option<(u64, RunPhase)>,
    state: EnvelopeState,
    age: Option<Span>,
    save: Span,
    switch: Switch,
    room: bool,
}

const CASE: Case = Case {
    assigned: Some(2),
    reported: None,
    state: EnvelopeState::Valid,
    age: Some(Span::ZERO),
    save: Span::secs(20),
    switch: Switch::Remote,
    room: true,
};

fn headroom(open: bool) -> Headroom {
    let estimate = Estimate { settled: Watts::ZERO, present: Watts::ZERO, reserved: Watts::ZERO };
    let most = Watts::kilo(100);
    Headroom { open, ceiling: most, budget: most, step: most, estimate, taken: Watts::ZERO }
}

/// The command and whether it is for the incarnation assigned.
fn word(command: &Command) -> String {
    match command {
        Command::StartRun { assignment, .. } => format!("start {}", assignment.placement.incarnation),
        Command::StopRun { .. } => "stop".into(),
        Command::KillRun { .. } => "kill".into(),
        other => format!("{other:?}"),
    }
}

fn step(runs: &mut Runs, case: &Case, at: i64, double: bool) -> Vec<String> {
    let module = module();
    let mut held = directive(1, Span::ZERO, Watts::kilo(100));
    if let Some(incarnation) = case.assigned {
        let assigned = assignment(Tier::OnDemand, incarnation, &[(0, 8), (1, 4)]);
        held.runs.insert(id("w"), Assignment { save: case.save, ..assigned });
    }
    let reports =
        case.reported.map(|(incarnation, phase)| (id("w"), run(incarnation, phase))).into_iter().collect();
    let standing = Standing { state: case.state, ceiling: Watts::kilo(100), age: case.age };
    let view = View {
        module: &module,
        reports: &reports,
        drawn: &BTreeMap::new(),
        directive: Some(&held),
        standing,
        switch: case.switch,
        at: Span::secs(at),
        double,
    };
    runs.observe(view);
    let mut commands = runs.end(view);
    commands.extend(runs.start(view, &mut headroom(case.room)));
    commands.iter().map(word).collect()
}

fn check(case: Case, expected: &[&str]) {
    assert_eq!(step(&mut Runs::default(), &case, 1_000, false), expected);
}

#[test]
fn what_is_assigned_is_started_once_there_is_room_and_a_valid_envelope() {
    check(CASE, &["start 2"]);
    check(Case { room: false, ..CASE }, &[]);
    check(Case { state: EnvelopeState::Fallback, ..CASE }, &[]);
    check(Case { switch: Switch::Local, ..CASE }, &[]);
    check(Case { switch: Switch::Off, ..CASE }, &[]);
    check(Case { assigned: None, ..CASE }, &[]);
}

#[test]
fn a_run_that_is_there_is_left_and_one_that_ended_is_not_started_again() {
    for phase in [RunPhase::Starting, RunPhase::Running, RunPhase::Stopping, RunPhase::Stopped] {
        check(Case { reported: Some((2, phase)), ..CASE }, &[]);
    }
    check(Case { reported: Some((2, RunPhase::Completed)), ..CASE }, &[]);
    check(Case { reported: Some((3, RunPhase::Running)), ..CASE }, &[]);
}

#[test]
fn a_stale_incarnation_is_killed_before_the_new_one_starts() {
    check(Case { reported: Some((1, RunPhase::Running)), ..CASE }, &["kill"]);
    check(Case { reported: Some((1, RunPhase::Stopping)), ..CASE }, &["kill"]);
    check(Case { reported: Some((1, RunPhase::Stopped)), ..CASE }, &["start 2"]);
    check(Case { reported: Some((1, RunPhase::Completed)), ..CASE }, &[]);
}

#[test]
fn what_is_not_assigned_is_stopped_with_a_checkpoint() {
    let stray = |phase| Case { assigned: None, reported: Some((1, phase)), ..CASE };
    check(stray(RunPhase::Running), &["stop"]);
    check(stray(RunPhase::Stopping), &[]);
    check(stray(RunPhase::Stopped), &[]);
    check(Case { switch: Switch::Local, ..stray(RunPhase::Running) }, &[]);
    check(Case { switch: Switch::EmergencyStop, reported: Some((2, RunPhase::Running)), ..CASE }, &["stop"]);
}

#[test]
fn a_lost_link_stops_in_time_for_a_checkpoint_and_ends_in_any_case() {
    // Kept for 300 s without a link; saving takes 20 s, with 10 s to spare.
    let lost = |age: Option<i64>, phase| Case {
        state: EnvelopeState::Fallback,
        age: age.map(Span::secs),
        reported: Some((2, phase)),
        ..CASE
    };
    check(lost(Some(269), RunPhase::Running), &[]);
    check(lost(Some(270), RunPhase::Running), &["stop"]);
    check(lost(Some(299), RunPhase::Stopping), &[]);
    check(lost(Some(300), RunPhase::Stopping), &["kill"]);
    check(lost(Some(300), RunPhase::Stopped), &[]);
    check(lost(None, RunPhase::Running), &["kill"]);
    // Who saves for longer than it is kept is not stopped by a link that was never lost.
    let long = |age| Case { save: Span::hours(1), ..lost(Some(age), RunPhase::Running) };
    check(long(0), &[]);
    check(long(59), &[]);
    check(long(60), &["stop"]);
}

#[test]
fn a_start_without_effect_is_repeated_and_a_run_that_vanished_is_not() {
    let mut runs = Runs::default();
    assert_eq!(step(&mut runs, &CASE, 0, false), ["start 2"]);
    assert_eq!(step(&mut runs, &CASE, 4, false), [""; 0]);
    assert_eq!(step(&mut runs, &Case { room: false, ..CASE }, 5, false), ["start 2"]);
    let seen = Case { reported: Some((2, RunPhase::Running)), ..CASE };
    assert_eq!(step(&mut runs, &seen, 6, false), [""; 0]);
    assert_eq!(
        step(&mut runs, &CASE, 60, false),
        [""; 0],
        "the controller raises the incarnation if it must"
    );
    assert_eq!(step(&mut runs, &Case { assigned: Some(3), ..CASE }, 61, false), ["start 3"]);
}

#[test]
fn runs_give_way_from_the_weakest_promise_and_firm_only_below_the_floor() {
    let module = module();
    let mut held = directive(1, Span::ZERO, Watts::kilo(100));
    let mut reports = BTreeMap::new();
    for (name, tier, server) in
        [("a", Tier::Firm, 0), ("b", Tier::OnDemand, 1), ("c", Tier::Spot, 2), ("d", Tier::Spot, 3)]
    {
        let mut run_of = assignment(tier, 1, &[(server, 8)]);
        run_of.price = MicroDollars::cents(if name == "c" { 200 } else { 100 });
        held.runs.insert(id(name), run_of);
        reports.insert(id(name), run(1, RunPhase::Running));
    }
    let view = View {
        module: &module,
        reports: &reports,
        drawn: &BTreeMap::new(),
        directive: Some(&held),
        standing: Standing { state: EnvelopeState::Valid, ceiling: Watts::ZERO, age: Some(Span::ZERO) },
        switch: Switch::Remote,
        at: Span::ZERO,
        double: false,
    };
    let check = |short_kw: i64, firm: bool, expected: &[&str]| {
        let mut runs = Runs::default();
        runs.observe(view);
        let given = runs.give_way(view, Watts::kilo(short_kw), firm);
        let stopped: Vec<Command> = given.into_iter().map(|given| given.command).collect();
        let expected: Vec<Command> =
            expected.iter().map(|name| Command::StopRun { workload: id(name) }).collect();
        assert_eq!(stopped, expected, "{short_kw} kW, firm {firm}");
        assert_eq!(runs.give_way(view, Watts::kilo(1), false).len(), usize::from(stopped.len() < 3));
    };
    // Eight busy GPUs are 8 kW; the cheaper spot run goes first.
    check(8, false, &["d"]);
    check(9, false, &["d", "c"]);
    check(99, false, &["d", "c", "b"]);
    check(99, true, &["d", "c", "b", "a"]);
}

#[test]
fn the_sabotage_starts_a_second_one_beside_the_first() {
    let mut runs = Runs::default();
    let running = Case { reported: Some((2, RunPhase::Running)), ..CASE };
    assert_eq!(step(&mut runs, &running, 0, true), ["start 3"]);
    assert_eq!(step(&mut runs, &running, 1, true), [""; 0]);
}
