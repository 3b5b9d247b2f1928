//! Runs: who is kept, who is stopped, who waits.

use model::plan::ReasonCode;
use model::workload::{GpuTime, Phase, Tier};
use model::{Span, WorkloadId};
use planner::{Input, Link, Planned};

use crate::scene::*;

fn reason(made: &Planned, name: &str) -> ReasonCode {
    let about = model::plan::Subject::Workload(id(name));
    made.plan.decisions.iter().find(|decision| decision.subject == about).unwrap().reason
}

fn runs(made: &Planned) -> Vec<WorkloadId> {
    made.plan.sites.values().flat_map(|s| s.modules.values()).flat_map(|m| m.runs.keys().cloned()).collect()
}

/// All 640 GPUs taken by spot runs of 8.
fn full_of_spot() -> Input {
    let mut input = fleet();
    for each in 0..80 {
        submit(&mut input, workload(&format!("s{each:02}"), Tier::Spot, 8, 120));
    }
    let (input, made) = settled(&input);
    assert_eq!(runs(&made).len(), 80);
    input
}

#[test]
fn a_firm_arrival_takes_the_place_of_spot_and_waits_until_it_is_gone() {
    let mut input = full_of_spot();
    submit(&mut input, workload("firm", Tier::Firm, 16, 235));
    let made = planned(&input);
    assert_eq!(reason(&made, "firm"), ReasonCode::AwaitingMeter);
    let stopped: Vec<_> =
        input.workloads.keys().filter(|w| reason(&made, w.as_str()) == ReasonCode::Preempted).collect();
    assert_eq!(stopped.len(), 2, "{stopped:?}");
    assert!(made.plan.placement(&id("firm")).is_none());

    // While they save their work nobody else is stopped.
    let mut saving = carry_out(&input, &made.plan);
    for name in &stopped {
        let run = saving.workloads.get_mut(name).unwrap();
        (run.status.phase, run.status.reason) = (Phase::Stopping, ReasonCode::Preempted);
    }
    let waiting = planned(&saving);
    assert_eq!(reason(&waiting, "firm"), ReasonCode::AwaitingMeter);
    assert_eq!(runs(&waiting).len(), 78);

    let (_, after) = settled(&carry_out(&input, &made.plan));
    assert!(after.plan.placement(&id("firm")).is_some());
}

/// How many are stopped by choice for a gang of 8 with `work` minutes, where one of the spot runs has `left` minutes to go.
fn stopped_for(tier: Tier, cents: i64, work: Option<i64>, left: Option<i64>) -> usize {
    let minutes = |minutes| GpuTime::of(8, Span::minutes(minutes));
    let mut input = full_of_spot();
    let run = input.workloads.get_mut(&id("s07")).unwrap();
    run.spec.amount = left.map(|left| run.status.progress + minutes(left));
    let mut late = workload("late", tier, 8, cents);
    late.spec.amount = work.map(minutes);
    submit(&mut input, late);
    let made = planned(&input);
    input.workloads.keys().filter(|w| reason(&made, w.as_str()) == ReasonCode::Preempted).count()
}

#[test]
fn nobody_is_stopped_for_whom_gpus_come_free_in_time() {
    let check =
        |left, stopped| assert_eq!(stopped_for(Tier::Firm, 235, None, left), stopped, "{left:?} minutes");
    check(None, 1);
    check(Some(60), 1);
    check(Some(8), 0);
    check(Some(2), 0);
}

#[test]
fn nobody_is_stopped_for_work_that_pays_less_than_the_stop_costs() {
    let check =
        |work, stopped| assert_eq!(stopped_for(Tier::OnDemand, 295, work, None), stopped, "{work:?} minutes");
    check(None, 1);
    check(Some(60), 1);
    check(Some(10), 0);
}

#[test]
fn nobody_is_preempted_twice_without_progress() {
    let mut input = full_of_spot();
    for run in input.workloads.values_mut() {
        run.status.preempted = Some(NOW);
        run.status.progress_at_preemption = run.status.progress;
    }
    submit(&mut input, workload("firm", Tier::Firm, 16, 235));
    let made = planned(&input);
    assert_eq!(reason(&made, "firm"), ReasonCode::NoGpus);
    assert_eq!(runs(&made).len(), 80);
}

#[test]
fn honest_checkpoints_never_make_a_run_likelier_to_be_stopped() {
    for (honest, silent) in [("s00", "s01"), ("s01", "s00")] {
        let mut input = full_of_spot();
        for (name, run) in &mut input.workloads {
            // Everyone else has much to lose; these two compete.
            age(run, Span::minutes(10));
            if name.as_str() == silent {
                (run.status.progress, run.status.saved) = (GpuTime::ZERO, GpuTime::ZERO);
            }
            if name.as_str() == honest {
                age(run, Span::minutes(2));
            }
        }
        submit(&mut input, workload("firm", Tier::Firm, 8, 900));
        let made = planned(&input);
        assert_eq!(reason(&made, silent), ReasonCode::Preempted, "{silent} reported nothing");
        assert_eq!(reason(&made, honest), ReasonCode::Kept, "{honest} reported its checkpoint");
    }
}

/// Progress of nine hours, saved so long ago.
fn age(run: &mut model::workload::Workload, since: Span) {
    run.status.progress = GpuTime::of(run.spec.gpus, Span::hours(9));
    run.status.saved = run.status.progress - GpuTime::of(run.spec.gpus, since);
}

/// The same where power falls short and nobody arrives: of two like runs, in both orders, the one without a report is stopped.
#[test]
fn when_power_falls_silence_goes_before_honest_checkpoints() {
    for (honest, silent) in [("a", "b"), ("b", "a")] {
        let mut input = fleet();
        for name in ["a", "b"] {
            submit(&mut input, workload(name, Tier::OnDemand, 100, 295));
        }
        let (mut input, before) = settled(&input);
        assert_eq!(runs(&before).len(), 2);
        age(input.workloads.get_mut(&id(honest)).unwrap(), Span::minutes(2));
        let quiet = input.workloads.get_mut(&id(silent)).unwrap();
        (quiet.status.progress, quiet.status.saved) = (GpuTime::ZERO, GpuTime::ZERO);
        input.sites.get_mut(&id("well-7")).unwrap().report.as_mut().unwrap().buffer = None;
        gas_percent(&mut input, 12);
        let made = planned(&input);
        assert_eq!(reason(&made, silent), ReasonCode::PowerShort, "{silent} reported nothing");
        assert_eq!(reason(&made, honest), ReasonCode::Kept, "{honest} saved two minutes ago");
    }
}

/// Whoever never saves has no more to lose than the agreed interval; at equal loss the one stopped least recently is stopped.
#[test]
fn not_saving_gains_nothing_and_ties_go_to_the_least_recently_stopped() {
    for (early, late) in [("s00", "s01"), ("s01", "s00")] {
        let mut input = full_of_spot();
        for (name, run) in &mut input.workloads {
            age(run, Span::hours(if name.as_str() == early { 8 } else { 1 }));
            let stopped = if name.as_str() == early { Span::hours(5) } else { Span::hours(1) };
            run.status.preempted = Some(NOW - stopped);
            run.status.progress_at_preemption = GpuTime::ZERO;
        }
        submit(&mut input, workload("firm", Tier::Firm, 8, 900));
        let made = planned(&input);
        assert_eq!(reason(&made, early), ReasonCode::Preempted, "{early} was stopped longest ago");
        assert_eq!(reason(&made, late), ReasonCode::Kept);
    }
}

#[test]
fn on_demand_is_not_stopped_for_firm() {
    let mut input = fleet();
    for each in 0..80 {
        submit(&mut input, workload(&format!("d{each:02}"), Tier::OnDemand, 8, 200));
    }
    let (mut input, made) = settled(&input);
    assert_eq!(runs(&made).len(), 80);
    submit(&mut input, workload("firm", Tier::Firm, 8, 900));
    assert_eq!(reason(&planned(&input), "firm"), ReasonCode::NoGpus);
}

#[test]
fn when_power_falls_spot_goes_first_and_firm_last() {
    let mut input = fleet();
    for each in 0..30 {
        submit(&mut input, workload(&format!("d{each:02}"), Tier::OnDemand, 8, 295));
        submit(&mut input, workload(&format!("f{each:02}"), Tier::Firm, 8, 235));
        submit(&mut input, workload(&format!("s{each:02}"), Tier::Spot, 8, 150));
    }
    let (mut input, before) = settled(&input);
    assert!(runs(&before).len() >= 80, "{}", runs(&before).len());
    input.sites.get_mut(&id("well-7")).unwrap().report.as_mut().unwrap().buffer = None;
    gas_percent(&mut input, 14);
    let made = planned(&input);
    let left = runs(&made);
    let count = |tier: char| left.iter().filter(|id| id.as_str().starts_with(tier)).count();
    assert_eq!(count('s'), 0);
    assert!(count('f') > 0 && (count('f') == 30 || count('d') == 0), "{left:?}");
}

#[test]
fn a_gang_larger_than_the_block_load_is_not_started() {
    let mut input = fleet();
    // 400 GPUs of 1 kW are a step of 400 kW; four sets take half of 600 kW.
    submit(&mut input, workload("gang", Tier::OnDemand, 400, 295));
    assert_eq!(reason(&planned(&input), "gang"), ReasonCode::StepLimited);
}

#[test]
fn an_unknown_gpu_and_a_gang_without_room_say_so() {
    let mut input = fleet();
    let mut odd = workload("odd", Tier::Spot, 1, 295);
    odd.spec.gpu = "z1".into();
    submit(&mut input, odd);
    submit(&mut input, workload("huge", Tier::Spot, 481, 295));
    let made = planned(&input);
    assert_eq!(reason(&made, "odd"), ReasonCode::NoSuchGpu);
    assert_eq!(reason(&made, "huge"), ReasonCode::NoGpus);
}

#[test]
fn spot_that_pays_less_than_mining_waits_where_power_is_short() {
    let mut input = fleet();
    gas_percent(&mut input, 50);
    submit(&mut input, workload("cheap", Tier::Spot, 8, 5));
    let made = planned(&input);
    assert_eq!(reason(&made, "cheap"), ReasonCode::NoPower);
    gas_percent(&mut input, 200);
    assert_eq!(reason(&planned(&input), "cheap"), ReasonCode::Placed, "all miners run, and watts are left");
}

#[test]
fn what_gas_would_soon_stop_is_not_started() {
    let mut input = fleet();
    let given = input.sites.get_mut(&id("well-7")).unwrap();
    let step =
        |mcf| planner::GasStep { p10: model::site::GasFlow::mcf(mcf), p50: model::site::GasFlow::mcf(mcf) };
    given.forecast = vec![step(900), step(20), step(900)];
    submit(&mut input, workload("spot", Tier::Spot, 8, 295));
    assert_eq!(reason(&planned(&input), "spot"), ReasonCode::NoThrash);
}

#[test]
fn a_lost_module_keeps_its_ceiling_and_its_runs() {
    let mut input = fleet();
    submit(&mut input, workload("w", Tier::OnDemand, 8, 295));
    let (mut input, before) = settled(&input);
    let home = before.plan.placement(&id("w")).unwrap().module.clone();
    let given = input.modules.get_mut(&home).unwrap();
    given.link = Link::Lost;
    input.workloads.get_mut(&id("w")).unwrap().status.phase = Phase::Unreachable;
    let made = planned(&input);
    assert_eq!(reason(&made, "w"), ReasonCode::LinkLost);
    assert_eq!(made.plan.placement(&id("w")).unwrap().module, home);
    assert_eq!(made.plan.module(&home).unwrap().ceiling, before.plan.module(&home).unwrap().ceiling);
}

#[test]
fn what_a_lost_module_was_told_to_start_is_started_nowhere_else() {
    let mut input = fleet();
    submit(&mut input, workload("w", Tier::OnDemand, 8, 295));
    let made = planned(&input);
    let home = made.plan.placement(&id("w")).unwrap().module.clone();
    input.parent = Some(made.plan);
    input.modules.get_mut(&home).unwrap().link = Link::Lost;
    let after = planned(&input);
    assert_eq!(after.plan.placement(&id("w")).unwrap().module, home);
}
