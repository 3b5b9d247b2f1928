//! Tests of the whole: a brain on the bench's plant.

#![allow(clippy::unwrap_used)]

use model::envelope::Fence;
use model::report::{FeederState, RunPhase};
use model::workload::Tier;
use proptest::prelude::*;

use super::*;
use crate::bench::{Bench, assignment, boot, config, directive, id};
use crate::group::MARGIN;
use crate::port::Breaker;

fn brain() -> Brain {
    Brain::new(config(&[]), None)
}

fn kilo(ceiling: i64) -> Directive {
    directive(1, Span::ZERO, Watts::kilo(ceiling))
}

/// Changes of miners awake, second by second: (when, which group, from, to).
fn moves(bench: &Bench, awake_at_first: u32) -> Vec<(Span, MinerGroupId, u32, u32)> {
    let mut now: BTreeMap<MinerGroupId, u32> = BTreeMap::new();
    let mut moves = Vec::new();
    for (at, command) in &bench.log {
        let (group, awake) = match command {
            Command::SetMiners { group, awake, .. } => (group, *awake),
            Command::OpenFeeder(group) => (group, 0),
            _ => continue,
        };
        let before = now.insert(group.clone(), awake).unwrap_or(awake_at_first);
        if before != awake {
            moves.push((*at, group.clone(), before, awake));
        }
    }
    moves
}

#[test]
fn miners_come_up_in_turns_of_the_share_until_the_targets_are_met() {
    let (mut bench, mut brain) = (Bench::new(0), brain());
    bench.seconds(&mut brain, 240, &kilo(400));
    assert_eq!(bench.awake(), 80);
    let unit = Watts::new(3_475);
    for (at, group, before, after) in moves(&bench, 0) {
        let into = (at.get() - 5_000).rem_euclid(20_000);
        assert!(into < 5_000, "group {group} moved out of turn at {at}");
        assert!(bench.module.with_loss(unit.times((after - before).into())) <= Watts::kilo(60));
    }
}

#[test]
fn a_ceiling_below_the_targets_is_filled_and_never_exceeded() {
    let (mut bench, mut brain) = (Bench::new(0), brain());
    for _ in 0..200 {
        bench.seconds(&mut brain, 1, &kilo(200));
        assert!(bench.meter() <= Watts::kilo(200));
    }
    assert!(bench.meter() > Watts::kilo(200 - 4), "a miner more would not fit: {}", bench.meter());
}

#[test]
fn a_lower_ceiling_is_obeyed_at_once_whatever_the_dwell() {
    let (mut bench, mut brain) = (Bench::new(0), brain());
    bench.seconds(&mut brain, 240, &kilo(400));
    let mut lower = kilo(150);
    lower.envelope.generation = 2;
    bench.seconds(&mut brain, 1, &lower);
    assert!(bench.meter() <= Watts::kilo(150), "{}", bench.meter());
    assert_eq!(bench.cap, None, "miners alone sufficed");
}

#[test]
fn power_that_follows_slowly_is_waited_for_not_corrected_twice() {
    let (mut bench, mut brain) = (Bench::new(0), brain());
    // A full group needs ten seconds to come down, within the sleep time and margin of fifteen.
    bench.pace = Some(Watts::kilo(14));
    for _ in 0..300 {
        bench.seconds(&mut brain, 1, &kilo(400));
        assert!(bench.meter() <= Watts::kilo(400));
    }
    assert_eq!(bench.awake(), 80);
    let mut lower = kilo(150);
    lower.envelope.generation = 2;
    bench.log.clear();
    bench.seconds(&mut brain, 60, &lower);
    assert!(bench.meter() <= Watts::kilo(150) && bench.meter() > Watts::kilo(146), "{}", bench.meter());
    let told: Vec<Span> = bench.log.iter().map(|(at, _)| *at).collect();
    assert!(told.iter().all(|at| *at == told[0]), "told once: {:?}", bench.log);
}

#[test]
fn a_draw_that_nothing_explains_is_made_room_for() {
    let (mut bench, mut brain) = (Bench::new(40), brain());
    bench.seconds(&mut brain, 3, &kilo(320));
    bench.extra = Watts::kilo(50);
    bench.seconds(&mut brain, 60, &kilo(320));
    assert!(bench.meter() <= Watts::kilo(320) && bench.meter() > Watts::kilo(316), "{}", bench.meter());
}

#[test]
fn restoring_waits_for_the_dwell() {
    let (mut bench, mut brain) = (Bench::new(40), brain());
    bench.seconds(&mut brain, 5, &kilo(150));
    let down = bench.awake();
    let mut higher = kilo(400);
    higher.envelope.generation = 2;
    bench.seconds(&mut brain, 280, &higher);
    assert_eq!(bench.awake(), down, "within five minutes of the shed");
    bench.seconds(&mut brain, 250, &higher);
    assert_eq!(bench.awake(), 80);
}

#[test]
fn an_expired_envelope_leads_to_the_fallback_and_none_to_the_least() {
    let (mut bench, mut brain) = (Bench::new(40), brain());
    bench.seconds(&mut brain, 3, &kilo(400));
    (0..121).for_each(|_| drop(bench.second(&mut brain)));
    assert!(bench.meter() <= Watts::kilo(120), "{}", bench.meter());
    assert_eq!(brain.report(1).unwrap().envelope.state, EnvelopeState::Fallback);

    let (mut bench, mut brain) = (Bench::new(40), self::brain());
    bench.second(&mut brain);
    assert_eq!(bench.awake(), 80, "a warm site is left as it was found");
    (0..15).for_each(|_| drop(bench.second(&mut brain)));
    assert_eq!(bench.awake(), 0, "but not for long");
    assert_eq!(brain.report(1).unwrap().envelope.state, EnvelopeState::None);
}

#[test]
fn an_unknown_meter_or_frequency_or_a_local_switch_raises_nothing() {
    let check = |change: &dyn Fn(&mut Bench)| {
        let (mut bench, mut brain) = (Bench::new(0), brain());
        change(&mut bench);
        bench.seconds(&mut brain, 120, &kilo(400));
        assert_eq!(bench.awake(), 0);
    };
    check(&|bench| bench.meter_known = false);
    check(&|bench| bench.fast.frequency = None);
    check(&|bench| bench.fast.frequency = Some(Frequency::new(59_400)));
    check(&|bench| bench.fast.switch = Switch::Local);
}

#[test]
fn after_a_blackout_feeders_close_one_by_one_with_their_miners_asleep() {
    let (mut bench, mut brain) = (Bench::new(40), brain());
    bench.seconds(&mut brain, 5, &kilo(400));
    let dark = Breaker { closed: Some(false), power: None };
    let lit = bench.fast.clone();
    bench.fast.gensets.values_mut().for_each(|set| *set = dark);
    bench.fast.frequency = Some(Frequency::ZERO);
    bench.seconds(&mut brain, 20, &kilo(400));
    assert!(bench.racks.values().all(|rack| rack.feeder == FeederState::Open));
    bench.fast = lit;
    bench.log.clear();
    bench.seconds(&mut brain, 120, &kilo(400));
    let order: Vec<String> = bench.log.iter().map(|(_, command)| format!("{command:?}")).take(4).collect();
    let expected = [
        "SetMiners { group: a, awake: 0, point: 1 }",
        "CloseFeeder(a)",
        "SetMiners { group: b, awake: 0, point: 1 }",
        "CloseFeeder(b)",
    ];
    assert_eq!(order, expected);
    let closes: Vec<Span> = bench
        .log
        .iter()
        .filter(|(_, command)| matches!(command, Command::CloseFeeder(_)))
        .map(|(at, _)| *at)
        .collect();
    assert!(closes[1] > closes[0], "one by one");
    assert!(bench.awake() == 0, "the miners wait for their dwell");
    bench.seconds(&mut brain, 500, &kilo(400));
    assert_eq!(bench.awake(), 80);
}

#[test]
fn a_trip_is_answered_and_reported_and_everything_comes_back() {
    let (mut bench, mut brain) = (Bench::new(40), brain());
    bench.seconds(&mut brain, 5, &kilo(400));
    bench.fast.gensets.insert(id("g1"), Breaker { closed: Some(false), power: None });
    bench.seconds(&mut brain, 1, &kilo(400));
    assert!(bench.racks.values().all(|rack| rack.feeder == FeederState::Open));
    let causes: Vec<Cause> = brain.take_sheds().into_iter().map(|shed| shed.cause).collect();
    assert_eq!(causes, [Cause::Armed(id("genset-g1")), Cause::Armed(id("genset-g1"))]);
    assert_eq!(brain.take_sheds(), Vec::new());
    bench.seconds(&mut brain, 600, &kilo(400));
    assert_eq!(bench.awake(), 80);
}

#[test]
fn caps_and_then_runs_give_way_when_miners_are_not_enough() {
    let (mut bench, mut brain) = (Bench::new(0), brain());
    let mut work = kilo(60);
    let runs = [("firm", Tier::Firm, 0), ("demand", Tier::OnDemand, 1), ("spot", Tier::Spot, 2)];
    let assigned = runs.map(|(name, tier, server)| (id(name), assignment(tier, 1, &[(server, 8), (3, 2)])));
    work.runs = assigned.into();
    work.miners.clear();
    bench.seconds(&mut brain, 120, &work);
    assert_eq!(bench.runs.len(), 3, "all three run");
    assert_eq!(bench.pool(), Watts::kilo(38));
    let mut step = |bench: &mut Bench, kw: i64, seconds| {
        work.envelope.generation += 1;
        work.envelope.grant.ceiling = Watts::kilo(kw);
        bench.seconds(&mut brain, seconds, &work);
    };
    // 5 auxiliary + 38 GPUs + 2 standby, and 1.5 % on it: 45.7 kW. The lowest cap of the pool is 24 kW.
    step(&mut bench, 42, 1);
    assert!(bench.cap.unwrap() > Watts::kilo(24) && bench.meter() <= Watts::kilo(42));
    assert!(bench.runs.values().all(|run| run.phase == RunPhase::Running));
    step(&mut bench, 31, 1);
    let stopped = |bench: &Bench, name: &str| bench.runs[&id(name)].phase == RunPhase::Stopped;
    assert!(stopped(&bench, "spot") && !stopped(&bench, "demand") && !stopped(&bench, "firm"));
    step(&mut bench, 30, 60);
    assert!(!stopped(&bench, "firm"), "the floor is 30 kW");
}

#[test]
fn miners_make_room_for_an_assigned_run_before_it_starts() {
    let (mut bench, mut brain) = (Bench::new(0), brain());
    let mut held = kilo(200);
    bench.seconds(&mut brain, 500, &held);
    assert!(bench.meter() > Watts::kilo(196));
    held.envelope.generation = 2;
    held.runs.insert(id("w"), assignment(Tier::OnDemand, 1, &[(0, 8), (1, 8)]));
    for _ in 0..40 {
        bench.seconds(&mut brain, 1, &held);
        assert!(bench.meter() <= Watts::kilo(200));
    }
    assert_eq!(bench.runs[&id("w")].phase, RunPhase::Running);
    let first = |wanted: &dyn Fn(&Command) -> bool| {
        bench.log.iter().rposition(|(_, command)| wanted(command)).unwrap()
    };
    let slept = first(&|command| matches!(command, Command::SetMiners { .. }));
    let started = first(&|command| matches!(command, Command::StartRun { .. }));
    assert!(slept < started, "{:?}", bench.log);
}

#[test]
fn a_cap_is_lowered_at_once_and_lifted_within_the_share() {
    let (mut bench, mut brain) = (Bench::new(0), brain());
    let mut held = kilo(400);
    held.miners.clear();
    held.runs.insert(id("w"), assignment(Tier::Firm, 1, &[(0, 8), (1, 8), (2, 8), (3, 8)]));
    bench.seconds(&mut brain, 60, &held);
    assert_eq!((bench.pool(), bench.cap), (Watts::kilo(40), None));
    held.envelope.generation = 2;
    held.caps.insert(id("p"), Watts::kilo(28));
    bench.seconds(&mut brain, 1, &held);
    assert_eq!(bench.pool(), Watts::kilo(28));
    held.envelope.generation = 3;
    held.caps.clear();
    held.envelope.grant.share.step = Watts::kilo(5);
    bench.seconds(&mut brain, 60, &held);
    assert_eq!(bench.pool(), Watts::kilo(28), "twelve kilowatts are more than the share");
    held.envelope.generation = 4;
    held.envelope.grant.share.step = Watts::kilo(20);
    bench.seconds(&mut brain, 60, &held);
    assert_eq!(bench.pool(), Watts::kilo(40));
}

/// Two runs of 16 GPUs on servers that were measured at 6 kW: run w is slowed, run v is not.
fn slowed(kilowatts: i64) -> (Bench, Brain, Directive) {
    let mut config = config(&[]);
    let point = model::cap::CapPoint { power: Watts::kilo(6), pace: model::Pace::new(700) };
    config.module.pools.get_mut(&id("p")).unwrap().curve = vec![point];
    let mut bench = Bench::new(0);
    bench.module = config.module.clone();
    let mut brain = Brain::new(config, None);
    let mut held = kilo(kilowatts);
    held.miners.clear();
    for (name, first) in [("v", 0), ("w", 2)] {
        held.runs.insert(id(name), assignment(Tier::OnDemand, 1, &[(first, 8), (first + 1, 8)]));
    }
    bench.seconds(&mut brain, 60, &held);
    assert_eq!((bench.pool(), bench.held.len()), (Watts::kilo(40), 0));
    (bench, brain, held)
}

#[test]
fn a_run_is_held_to_its_cap_at_once_and_nobody_else_pays_for_it() {
    let (mut bench, mut brain, mut held) = slowed(60);
    // 45 of 47.7 kW behind the loss: without the cap it would be 53.
    held.envelope.generation = 2;
    held.envelope.grant.ceiling = Watts::new(41_000);
    held.slowed.insert(id("w"), Watts::kilo(12));
    bench.seconds(&mut brain, 1, &held);
    assert_eq!(bench.held, [(id("w"), Watts::kilo(12))].into());
    assert_eq!(bench.pool(), Watts::kilo(32));
    bench.seconds(&mut brain, 60, &held);
    assert_eq!((bench.pool(), bench.cap), (Watts::kilo(32), None), "no cap on the pool: {:?}", bench.log);
    assert!(bench.runs.values().all(|run| run.phase == RunPhase::Running));
    let told = bench.log.iter().filter(|(_, command)| matches!(command, Command::CapRun { .. })).count();
    assert_eq!(told, 1, "a run starts without a cap, and is told once: {:?}", bench.log);
}

#[test]
fn a_cap_on_a_run_is_lifted_within_the_headroom_and_told_again_where_nothing_follows() {
    let (mut bench, mut brain, mut held) = slowed(60);
    held.envelope.generation = 2;
    held.slowed.insert(id("w"), Watts::kilo(12));
    bench.seconds(&mut brain, 60, &held);
    held.envelope.generation = 3;
    held.slowed.clear();
    held.envelope.grant.ceiling = Watts::new(41_000);
    bench.seconds(&mut brain, 60, &held);
    assert_eq!(bench.pool(), Watts::kilo(32), "there is no room for 8 kW more");
    held.envelope.generation = 4;
    held.envelope.grant.ceiling = Watts::kilo(60);
    bench.seconds(&mut brain, 60, &held);
    assert_eq!((bench.pool(), bench.held.len()), (Watts::kilo(40), 0));
    bench.loose = true;
    held.envelope.generation = 5;
    held.slowed.insert(id("w"), Watts::kilo(12));
    let before = bench.log.len();
    bench.seconds(&mut brain, 21, &held);
    let told =
        bench.log[before..].iter().filter(|(_, command)| matches!(command, Command::CapRun { .. })).count();
    assert!((4..=5).contains(&told), "every five seconds: {:?}", &bench.log[before..]);
}

#[test]
fn operating_points_follow_the_target_within_dwell_and_share() {
    let (mut bench, mut brain) = (Bench::new(40), brain());
    let mut held = kilo(400);
    let mut points = |bench: &mut Bench, point: u8, seconds: u32| {
        held.envelope.generation += 1;
        held.miners.values_mut().for_each(|target| target.point = point);
        bench.seconds(&mut brain, seconds, &held);
        bench.racks.values().map(|rack| rack.point).collect::<Vec<_>>()
    };
    assert_eq!(points(&mut bench, 0, 2), [0, 0], "free to go down");
    assert_eq!(points(&mut bench, 1, 290), [0, 0], "not up within the dwell");
    assert_eq!(points(&mut bench, 1, 100), [1, 1]);
    assert_eq!(points(&mut bench, 0, 100), [1, 1], "nor down again");
}

#[test]
fn a_group_that_does_not_obey_is_found_and_its_feeder_opened() {
    let (mut bench, mut brain) = (Bench::new(40), brain());
    bench.seconds(&mut brain, 2, &kilo(400));
    bench.racks.values_mut().for_each(|rack| rack.deaf = true);
    let mut lower = kilo(150);
    lower.envelope.generation = 2;
    bench.seconds(&mut brain, 40, &lower);
    assert!(bench.meter() <= Watts::kilo(150), "{}", bench.meter());
    let sheds = brain.take_sheds();
    assert!(!sheds.is_empty() && sheds.iter().all(|shed| shed.cause == Cause::Ceiling));
}

#[test]
fn a_group_that_does_not_wake_is_found_and_told_again() {
    let (mut bench, mut brain) = (Bench::new(0), brain());
    bench.racks.values_mut().for_each(|rack| rack.deaf = true);
    bench.seconds(&mut brain, 60, &kilo(400));
    let findings = brain.report(1).unwrap().findings;
    assert!(findings.iter().any(|finding| finding.code == "readback-mismatch"), "{findings:?}");
    bench.racks.values_mut().for_each(|rack| rack.deaf = false);
    bench.seconds(&mut brain, 300, &kilo(400));
    assert_eq!((bench.awake(), brain.report(2).unwrap().findings), (80, Vec::new()));
    assert!(MARGIN < Span::secs(60), "the test waits for longer than the margin");
}

#[test]
fn a_restart_within_one_boot_leaves_miners_as_they_are_for_a_dwell() {
    let mut held = kilo(400);
    held.envelope.answers = boot(Span::secs(1_000));
    let (mut bench, mut brain) = (Bench::new(20), Brain::new(config(&[]), Some(held.clone())));
    bench.seconds(&mut brain, 290, &held);
    assert_eq!(bench.awake(), 40);
    bench.seconds(&mut brain, 250, &held);
    assert_eq!(bench.awake(), 80);
}

/// A site of one set in this state.
fn site(state: GensetState) -> model::report::SiteReport {
    let set = model::report::GensetReport { state, power: None, for_span: Span::ZERO };
    model::report::SiteReport {
        frequency: None,
        gas: None,
        buffer: None,
        flared: None,
        load: None,
        unmanaged: None,
        gensets: [(id("g1"), set)].into(),
        storage: None,
        grid: None,
    }
}

#[test]
fn the_wired_module_leads_storage_and_lets_it_rest_without_a_valid_envelope() {
    let told = |wired: bool, valid: bool, there: bool| {
        let mut config = config(&[]);
        config.module.wired = wired;
        let (bench, mut brain) = (Bench::new(0), Brain::new(config, None));
        let mut held = kilo(400);
        held.envelope.answers = boot(if valid { bench.at } else { bench.at - Span::secs(500) });
        let ramp = model::WattsPerSecond::new(10_000);
        held.storage = Some(model::plan::StorageTarget { power: Watts::kilo(25), ramp });
        brain.adopt(held, &boot(bench.at)).unwrap();
        let mut readings = bench.readings();
        let storage = model::report::StorageReport { power: Some(Watts::kilo(5)), held: None, ready: true };
        let site =
            model::report::SiteReport { storage: there.then_some(storage), ..site(GensetState::Online) };
        readings.slow.as_mut().unwrap().site = Some(site);
        let seconds = (0..4).flat_map(|_| {
            readings.boot.at += Span::secs(1);
            brain.tick(&readings)
        });
        let power = |command| match command {
            Command::SetStorage(power) => Some(power.get() / 1_000),
            _ => None,
        };
        seconds.filter_map(power).collect::<Vec<i64>>()
    };
    assert_eq!(told(true, true, true), [15, 25]);
    assert_eq!(told(true, false, true), [0]);
    assert_eq!(told(false, true, true), Vec::<i64>::new());
    assert_eq!(told(true, true, false), Vec::<i64>::new());
}

#[test]
fn the_wired_module_asks_for_sets_and_does_not_nag() {
    let asks = |wanted: bool, state, valid: bool| {
        let (bench, mut brain) = (Bench::new(0), brain());
        let mut held = kilo(400);
        held.envelope.answers = boot(if valid { bench.at } else { bench.at - Span::secs(500) });
        held.gensets.insert(id("g1"), wanted);
        brain.adopt(held, &boot(bench.at)).unwrap();
        let mut readings = bench.readings();
        readings.slow.as_mut().unwrap().site = Some(site(state));
        let commands: Vec<Command> = (0..15)
            .flat_map(|_| {
                readings.boot.at += Span::secs(1);
                brain.tick(&readings)
            })
            .collect();
        let asks = |command: &&Command| matches!(command, Command::StartGenset(_) | Command::StopGenset(_));
        commands.iter().filter(asks).cloned().collect::<Vec<_>>()
    };
    assert_eq!(asks(true, GensetState::Off, true), vec![Command::StartGenset(id("g1")); 2]);
    assert_eq!(asks(false, GensetState::Online, true), vec![Command::StopGenset(id("g1")); 2]);
    assert_eq!(asks(true, GensetState::Online, true), []);
    assert_eq!(asks(true, GensetState::Tripped, true), []);
    assert_eq!(asks(true, GensetState::Off, false), [], "not under fallback");
}

#[test]
fn the_report_says_what_is_known_and_nothing_else() {
    let (mut bench, mut brain) = (Bench::new(40), brain());
    assert_eq!(brain.report(0), None, "nothing was read yet");
    bench.seconds(&mut brain, 1, &kilo(400));
    let report = brain.report(7).unwrap();
    assert_eq!((report.sequence, report.module), (7, id("m1")));
    assert_eq!(report.meter, Some(bench.meter()));
    assert_eq!(report.groups[&id::<model::id::MinerGroupKind>("a")].awake, 40);
    assert_eq!((report.envelope.generation, report.envelope.ceiling), (1, Watts::kilo(400)));
    let mut blind = bench.readings();
    blind.slow = None;
    blind.boot.at += Span::secs(11);
    brain.tick(&blind);
    let stale = brain.report(8).unwrap();
    assert_eq!((stale.meter, stale.groups.len()), (None, 0));
    let mut lower = kilo(300);
    lower.envelope.fence = Fence::default();
    assert!(brain.adopt(lower, &blind.boot).is_err());
    assert!(brain.report(9).unwrap().envelope.refused.unwrap().contains("a newer leader or plan decides"));
}

#[test]
fn each_sabotage_does_what_it_says() {
    let meter_after = |sabotage: &[Sabotage], silent: u32| {
        let (mut bench, mut brain) = (Bench::new(0), Brain::new(config(sabotage), None));
        bench.seconds(&mut brain, 100, &kilo(200));
        (0..silent).for_each(|_| drop(bench.second(&mut brain)));
        (bench.meter(), moves(&bench, 0))
    };
    assert!(meter_after(&[], 0).0 <= Watts::kilo(200));
    assert!(meter_after(&[Sabotage::IgnoreCeiling], 0).0 > Watts::kilo(200));
    assert!(meter_after(&[], 200).0 <= Watts::kilo(120));
    assert!(meter_after(&[Sabotage::IgnoreExpiry], 200).0 > Watts::kilo(120));
    let largest = |sabotage: &[Sabotage]| {
        let moves = meter_after(sabotage, 0).1;
        moves.iter().map(|(_, _, before, after)| after.saturating_sub(*before)).max().unwrap()
    };
    assert!(largest(&[]) <= 17 && largest(&[Sabotage::IgnoreShare]) == 40);
    let reversals = |sabotage: &[Sabotage]| {
        let moves = meter_after(sabotage, 0).1;
        moves.iter().filter(|(_, _, before, after)| after < before).count()
    };
    assert_eq!(reversals(&[]), 0);
    assert!(reversals(&[Sabotage::IgnoreDwell]) > 0);
}

#[test]
fn the_flag_can_be_suppressed_by_sabotage_alone() {
    let found = |sabotage: &[Sabotage]| {
        let (mut bench, mut brain) = (Bench::new(20), Brain::new(config(sabotage), None));
        bench.extra = Watts::kilo(60);
        bench.seconds(&mut brain, 60, &kilo(400));
        brain.report(1).unwrap().findings.into_iter().map(|finding| finding.code).collect::<Vec<_>>()
    };
    assert_eq!(found(&[]), ["meter-unexplained"]);
    assert_eq!(found(&[Sabotage::NoFlag]), [""; 0]);
}

/// Seconds under ceilings and targets that change at random: (ceiling kW, awake in a, awake in b, seconds).
fn weather() -> impl Strategy<Value = Vec<(i64, u32, u32, u32)>> {
    prop::collection::vec((20i64..400, 0u32..=40, 0u32..=40, 1u32..240), 1..12)
}

/// Each miner of a group with its last reversal, in the order in which the port promises to take them.
#[derive(Default)]
struct Miners {
    awake: VecDeque<Option<Span>>,
    asleep: VecDeque<Option<Span>>,
    lowered: Option<Span>,
}

impl Miners {
    /// Follows a group from one second to the next. Returns the shortest time since the last reversal of a miner that was
    /// woken or raised, and of one that was put to sleep.
    fn follow(&mut self, awake: u32, points: (u8, u8), at: Span) -> [Option<Span>; 2] {
        let (mut up, mut down) = (Vec::new(), Vec::new());
        while self.awake.len() < awake as usize {
            up.extend(self.asleep.pop_front().unwrap());
            self.awake.push_back(Some(at));
        }
        while self.awake.len() > awake as usize {
            down.extend(self.awake.pop_front().unwrap());
            self.asleep.push_back(Some(at));
        }
        if points.1 > points.0 {
            up.extend(self.lowered);
        } else if points.1 < points.0 {
            self.lowered = Some(at);
        }
        [up, down].map(|since| since.into_iter().map(|since| at - since).min())
    }
}

/// One second in any weather: what went up did so in turn, within the share and under the ceiling; the ceiling holds; and nothing
/// was reversed within its dwell unless the ceiling demanded it downwards.
fn second_in_weather(
    bench: &mut Bench,
    brain: &mut Brain,
    held: &Directive,
    miners: &mut BTreeMap<MinerGroupId, Miners>,
) {
    let before = bench.clone();
    bench.seconds(brain, 1, held);
    let (at, ceiling) = (before.at, held.envelope.grant.ceiling);
    let mut up = Watts::ZERO;
    for (id, old) in &before.racks {
        let rack = &bench.racks[id];
        let config = &bench.module.groups[id];
        let draw = |rack: &crate::bench::Rack| config.draw(rack.awake, rack.point.into());
        up += (draw(rack) - draw(old)).at_least_zero();
        let points = if old.awake > 0 { (old.point, rack.point) } else { (0, 0) };
        let [raised, lowered] = miners.get_mut(id).unwrap().follow(rack.awake, points, at);
        let dwell = config.dwell;
        assert!(raised.is_none_or(|since| since >= dwell), "restored after {raised:?} at {at}");
        let demanded = before.meter() > ceiling;
        assert!(demanded || lowered.is_none_or(|since| since >= dwell), "put down after {lowered:?} at {at}");
    }
    let in_turn = (at.get() - 5_000).rem_euclid(20_000) < 5_000;
    assert!(up == Watts::ZERO || in_turn, "up out of turn at {at}");
    // Each move rounds its loss up by a watt.
    assert!(bench.module.with_loss(up) <= Watts::kilo(60) + Watts::new(2), "a step of {up}");
    assert!(bench.meter() <= ceiling.max(bench.module.base_draw()), "{} over {ceiling}", bench.meter());
}

/// Runs a weather in which the sabotages misbehave; the checks above must fire.
fn weather_with(sabotage: &[Sabotage]) {
    let (mut bench, mut brain) = (Bench::new(0), Brain::new(config(sabotage), None));
    let asleep = || Miners { asleep: vec![None; 40].into(), ..Miners::default() };
    let mut miners = [(id("a"), asleep()), (id("b"), asleep())].into();
    let held = directive(1, Span::ZERO, Watts::kilo(250));
    (0..400).for_each(|_| second_in_weather(&mut bench, &mut brain, &held, &mut miners));
}

#[test]
fn honest_weather_passes_the_checks() {
    weather_with(&[]);
}

#[test]
#[should_panic(expected = "over 250000 W")]
fn the_checks_fire_when_the_ceiling_is_ignored() {
    weather_with(&[Sabotage::IgnoreCeiling]);
}

#[test]
#[should_panic(expected = "up out of turn")]
fn the_checks_fire_when_the_share_is_ignored() {
    weather_with(&[Sabotage::IgnoreShare]);
}

#[test]
#[should_panic(expected = "put down after")]
fn the_checks_fire_when_the_dwell_is_ignored() {
    weather_with(&[Sabotage::IgnoreDwell]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn ceiling_share_and_dwell_hold_in_any_weather(weather in weather()) {
        let (mut bench, mut brain) = (Bench::new(0), brain());
        let asleep = || Miners { asleep: vec![None; 40].into(), ..Miners::default() };
        let mut miners = [(id("a"), asleep()), (id("b"), asleep())].into();
        for (generation, (ceiling, a, b, seconds)) in (1..).zip(weather) {
            let mut held = directive(generation, Span::ZERO, Watts::kilo(ceiling));
            held.miners.get_mut(&id("a")).unwrap().awake = a;
            held.miners.get_mut(&id("b")).unwrap().awake = b;
            (0..seconds).for_each(|_| second_in_weather(&mut bench, &mut brain, &held, &mut miners));
        }
    }

    /// The same readings give the same commands.
    #[test]
    fn two_brains_agree(weather in weather()) {
        let run = || {
            let (mut bench, mut brain) = (Bench::new(0), brain());
            for (generation, (ceiling, a, _, seconds)) in (1..).zip(&weather) {
                let mut held = directive(generation, Span::ZERO, Watts::kilo(*ceiling));
                held.miners.get_mut(&id("a")).unwrap().awake = *a;
                bench.seconds(&mut brain, *seconds, &held);
            }
            bench.log
        };
        prop_assert_eq!(run(), run());
    }
}
