//! The life of a workload, by tables: phase, what is known, phase after.
#![allow(clippy::unwrap_used)]

use model::workload::GpuTime;
use model::{ModuleId, PoolId};

use super::*;
use crate::testing::{placement, workload};

const NOW: Time = Time(10_000_000);

fn run(phase: RunPhase, incarnation: u64) -> RunReport {
    RunReport {
        incarnation,
        phase,
        progress: GpuTime::new(70),
        saved: GpuTime::new(50),
        held: GpuTime::new(100),
    }
}

/// Facts of a workload that is planned nowhere on a module that is in touch.
fn facts<'a>() -> Facts<'a> {
    Facts {
        now: NOW,
        planned: None,
        reason: None,
        run: None,
        link: Link::Online,
        dropped: false,
        told: NOW - Span::secs(20),
        stray: None,
        hidden: false,
        queued: false,
    }
}

fn in_phase(phase: Phase) -> Workload {
    let mut workload = workload("w", "t", 2);
    workload.status.phase = phase;
    if phase != Phase::Pending {
        workload.status.placement = Some(placement("m1", 1));
    }
    workload
}

#[track_caller]
fn check(workload: &Workload, facts: &Facts, expected: Phase) -> Status {
    let status = step(workload, facts);
    assert_eq!(status.phase, expected);
    let again = step(&Workload { status: status.clone(), ..workload.clone() }, facts);
    if status.phase != Phase::Pending || facts.planned.is_none() {
        assert_eq!(again.phase, expected, "a second step changes nothing");
        assert_eq!(again.preemptions, status.preemptions, "a stop is counted once");
    }
    status
}

#[test]
fn a_plan_starts_it_and_reports_carry_it_on() {
    let planned = placement("m1", 1);
    let here = Facts { planned: Some(&planned), reason: Some(ReasonCode::Placed), ..facts() };
    let started = check(&in_phase(Phase::Pending), &here, Phase::Starting);
    assert_eq!((started.placement, started.since), (Some(planned.clone()), NOW));
    let running = run(RunPhase::Running, 1);
    let status = check(&in_phase(Phase::Starting), &Facts { run: Some(&running), ..here }, Phase::Running);
    assert_eq!((status.progress, status.saved), (GpuTime::new(70), GpuTime::new(50)));
    let stale = run(RunPhase::Running, 0);
    check(&in_phase(Phase::Starting), &Facts { run: Some(&stale), ..here }, Phase::Starting);
    check(&in_phase(Phase::Running), &here, Phase::Starting);
}

#[test]
fn completion_and_cancellation_are_final() {
    let planned = placement("m1", 1);
    let done = run(RunPhase::Completed, 1);
    let here = Facts { planned: Some(&planned), run: Some(&done), ..facts() };
    let status = check(&in_phase(Phase::Running), &here, Phase::Completed);
    assert_eq!((status.held, status.progress), (GpuTime::new(100), GpuTime::new(70)));
    let mut cancelled = in_phase(Phase::Pending);
    cancelled.cancel = true;
    check(&cancelled, &here, Phase::Cancelled);
    let mut cancelled = in_phase(Phase::Running);
    cancelled.cancel = true;
    let running = run(RunPhase::Running, 1);
    let status = check(&cancelled, &Facts { run: Some(&running), ..here }, Phase::Stopping);
    assert_eq!((status.preemptions, status.reason), (0, ReasonCode::Cancelled));
    let stopped = run(RunPhase::Stopped, 1);
    cancelled.status = status;
    check(&cancelled, &Facts { run: Some(&stopped), ..here }, Phase::Cancelled);
    for phase in [Phase::Completed, Phase::Cancelled] {
        check(&in_phase(phase), &here, phase);
    }
}

#[test]
fn a_stop_by_choice_is_counted_and_goes_back_to_the_checkpoint() {
    let running = run(RunPhase::Running, 1);
    let away = Facts { run: Some(&running), reason: Some(ReasonCode::PowerShort), ..facts() };
    let mut workload = in_phase(Phase::Running);
    workload.status = check(&workload, &away, Phase::Stopping);
    assert_eq!(workload.status.preemptions, 1);
    assert_eq!(workload.status.progress_at_preemption, GpuTime::new(70));
    let stopped = run(RunPhase::Stopped, 1);
    let status = check(&workload, &Facts { run: Some(&stopped), ..away }, Phase::Pending);
    assert_eq!((status.progress, status.held), (GpuTime::new(50), GpuTime::new(100)));
    assert_eq!(status.placement.unwrap().incarnation, 1, "the number of its last start is kept");
}

#[test]
fn a_shell_saves_nothing_and_loses_nothing() {
    let check = |what: &str, facts: Facts, expected: Phase| {
        let mut shell = in_phase(Phase::Running);
        (shell.spec.checkpoint, shell.status.progress) = (Span::ZERO, GpuTime::new(60));
        let status = step(&shell, &facts);
        assert_eq!(status.phase, expected, "{what}");
        (status.progress.get(), status.saved.get())
    };
    let (running, stopped) = (run(RunPhase::Running, 1), run(RunPhase::Stopped, 1));
    let goes_on = Facts { planned: Some(&placement("m1", 1)), run: Some(&running), ..facts() };
    let saved = check("what is only served is not written down", goes_on, Phase::Running);
    assert_eq!(saved, (70, 50));
    let ended = Facts { run: Some(&stopped), ..facts() };
    assert_eq!(check("its module lost power", ended, Phase::Pending), (70, 70));
    let lost = Facts { link: Link::Lost, told: Time(0), ..facts() };
    assert_eq!(check("its module is out of touch", lost, Phase::Pending), (60, 60));
}

#[test]
fn it_is_not_free_before_its_agent_has_persisted_that_it_is_dropped() {
    let workload = in_phase(Phase::Stopping);
    check(&workload, &facts(), Phase::Stopping);
    check(&workload, &Facts { dropped: true, ..facts() }, Phase::Pending);
    let next = placement("m2", 2);
    let elsewhere = Facts { planned: Some(&next), ..facts() };
    check(&workload, &elsewhere, Phase::Stopping);
    let status = step(&workload, &Facts { dropped: true, ..elsewhere });
    assert_eq!((status.phase, status.placement), (Phase::Starting, Some(next)));
}

#[test]
fn the_plan_of_the_run_that_ended_starts_nothing_again() {
    let planned = placement("m1", 1);
    let stopped = run(RunPhase::Stopped, 1);
    let here = Facts { planned: Some(&planned), run: Some(&stopped), ..facts() };
    let mut workload = in_phase(Phase::Running);
    workload.status = step(&workload, &here);
    assert_eq!(workload.status.phase, Phase::Pending);
    assert_eq!(step(&workload, &here), workload.status);
}

#[test]
fn out_of_touch_it_is_started_elsewhere_only_after_its_agent_must_have_stopped_it() {
    let planned = placement("m1", 1);
    let lost = Facts { link: Link::Lost, planned: Some(&planned), ..facts() };
    let hold = Envelope::controller_hold(KEEP_WITHOUT_LINK);
    let workload = in_phase(Phase::Running);
    check(&workload, &lost, Phase::Unreachable);
    check(&workload, &Facts { told: NOW - hold, ..lost }, Phase::Unreachable);
    let status = step(&workload, &Facts { told: NOW - hold - Span::new(1), ..lost });
    assert_eq!((status.phase, status.reason), (Phase::Pending, ReasonCode::LinkLost));
    // Back in time: it goes on where it was.
    let running = run(RunPhase::Running, 1);
    let back = Facts { link: Link::Online, run: Some(&running), ..lost };
    check(&in_phase(Phase::Unreachable), &back, Phase::Running);
    // Back too late: the stale run changes nothing.
    let mut late = in_phase(Phase::Pending);
    late.status.placement = Some(placement("m1", 1));
    check(&late, &Facts { planned: None, ..back }, Phase::Pending);
}

#[test]
fn an_agent_that_stops_it_for_want_of_power_is_not_a_choice() {
    let planned = placement("m1", 1);
    let stopping = run(RunPhase::Stopping, 1);
    let here = Facts { planned: Some(&planned), run: Some(&stopping), ..facts() };
    let status = check(&in_phase(Phase::Running), &here, Phase::Stopping);
    assert_eq!((status.preemptions, status.reason), (0, ReasonCode::PowerShort));
}

#[test]
fn telemetry_alone_is_no_decision() {
    let old = in_phase(Phase::Running).status;
    let check = |new: Status, expected: bool| assert_eq!(is_decision(&old, &new), expected, "{new:?}");
    check(Status { progress: GpuTime::new(9), held: GpuTime::new(9), ..old.clone() }, false);
    check(Status { saved: GpuTime::new(9), ..old.clone() }, true);
    check(Status { phase: Phase::Stopping, ..old.clone() }, true);
}

#[test]
fn a_plan_with_a_stale_incarnation_is_found_out() {
    let check = |phase: Phase, module: &str, incarnation: u64, expected: usize| {
        let mut workload = in_phase(phase);
        workload.status.placement = Some(placement("m1", 3));
        let plan = crate::testing::plan_with(&workload.id, placement(module, incarnation));
        assert_eq!(misnumbered(&plan, [&workload].into_iter()).len(), expected, "{phase} {module}");
    };
    check(Phase::Running, "m1", 3, 0);
    check(Phase::Running, "m2", 3, 1);
    check(Phase::Pending, "m1", 3, 1);
    check(Phase::Pending, "m1", 4, 0);
    check(Phase::Stopping, "m2", 4, 0);
    assert_eq!(PoolId::new("p").unwrap(), placement("m1", 1).pool);
    assert_eq!(ModuleId::new("m1").unwrap(), placement("m1", 1).module);
}

#[test]
fn what_a_restored_store_has_forgotten_ends_first_and_its_number_is_passed() {
    let planned = placement("m1", 1);
    let here = Facts { planned: Some(&planned), ..facts() };
    let (running, stopping, stopped) =
        (run(RunPhase::Running, 3), run(RunPhase::Stopping, 3), run(RunPhase::Stopped, 3));
    // The store says that it waits, and that it runs, where somebody else has its third start.
    for phase in [Phase::Pending, Phase::Starting, Phase::Running, Phase::Stopping] {
        let expected = if phase.holds() { Phase::Stopping } else { Phase::Pending };
        for stray in [&running, &stopping] {
            check(&in_phase(phase), &Facts { stray: Some(stray), ..here }, expected);
        }
        let status = check(&in_phase(phase), &Facts { stray: Some(&stopped), ..here }, Phase::Pending);
        let number = status.placement.map(|placement| placement.incarnation);
        assert_eq!((number, status.saved, status.progress), (Some(3), GpuTime::new(50), GpuTime::new(50)));
        assert_eq!(status.held, GpuTime::new(100));
    }
    let done = run(RunPhase::Completed, 3);
    let status = check(&in_phase(Phase::Running), &Facts { stray: Some(&done), ..here }, Phase::Completed);
    assert_eq!(status.progress, GpuTime::new(70));
    // An older run elsewhere is told to end by its agent; what runs by now goes on, and nothing new starts.
    let (old, own) = (run(RunPhase::Running, 0), run(RunPhase::Running, 1));
    check(&in_phase(Phase::Running), &Facts { stray: Some(&old), run: Some(&own), ..here }, Phase::Running);
    check(&in_phase(Phase::Pending), &Facts { stray: Some(&old), ..here }, Phase::Pending);
    check(&in_phase(Phase::Pending), &here, Phase::Starting);
}

#[test]
fn after_a_restore_nothing_starts_while_somebody_may_still_run_it() {
    let planned = placement("m1", 1);
    let hidden = Facts { planned: Some(&planned), hidden: true, ..facts() };
    check(&in_phase(Phase::Pending), &hidden, Phase::Pending);
    check(&in_phase(Phase::Starting), &hidden, Phase::Stopping);
    check(&in_phase(Phase::Running), &hidden, Phase::Stopping);
    let running = run(RunPhase::Running, 1);
    check(&in_phase(Phase::Stopping), &Facts { run: Some(&running), ..hidden }, Phase::Running);
    check(&in_phase(Phase::Running), &Facts { link: Link::Lost, ..hidden }, Phase::Unreachable);
    check(&in_phase(Phase::Stopping), &Facts { hidden: false, ..hidden }, Phase::Starting);
    let mut cancelled = in_phase(Phase::Pending);
    cancelled.cancel = true;
    check(&cancelled, &hidden, Phase::Cancelled);
}

#[test]
fn who_could_be_given_up_waits_for_its_turn_and_for_its_module() {
    let long = Facts { link: Link::Lost, told: NOW - Span::hours(1), ..facts() };
    check(&in_phase(Phase::Unreachable), &Facts { queued: true, ..long }, Phase::Unreachable);
    check(&in_phase(Phase::Unreachable), &long, Phase::Pending);
    let planned = placement("m1", 1);
    let running = run(RunPhase::Running, 1);
    let back =
        Facts { link: Link::Online, planned: Some(&planned), run: Some(&running), queued: true, ..long };
    check(&in_phase(Phase::Unreachable), &back, Phase::Running);
}
