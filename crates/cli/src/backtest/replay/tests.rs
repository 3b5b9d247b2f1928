//! A day of the built-in fleet, with honest agents and with sabotaged ones: what is to hold holds, and what is broken on purpose
//! shows.

#![allow(clippy::unwrap_used)]

use ::backtest::events::Strike;
use clap::Parser;
use control::sabotage::{Sabotage, Sabotages};

use super::*;
use crate::args::{Args, Command};
use crate::backtest::inputs;

/// A day in which gas varies, so that plans move miners.
fn world() -> World {
    read("--gas-variability 1 --seed 2")
}

fn read(flags: &str) -> World {
    let line = format!("flareshift backtest --days 1 {flags}");
    let Command::Backtest(args) = Args::try_parse_from(line.split_whitespace()).unwrap().command else {
        panic!("{line}");
    };
    inputs::read(&args.given, args.days.into()).unwrap().world
}

fn replayed(world: &World, kind: ::backtest::Kind, events: usize, agents: Agents) -> Replays {
    let strategy = Strategy { check_every: 0, ..Strategy::new(kind) };
    run(world, &strategy, &Asked { events, seed: 1, agents }).unwrap().1
}

fn honest() -> Agents {
    Agents { reflex: true, sabotage: Sabotages::default() }
}

#[test]
fn honest_agents_hold_the_island_through_every_event() {
    let world = world();
    let ran = |kind| {
        let replays = replayed(&world, kind, 15, honest());
        assert_eq!((replays.broken, &replays.told), (0, &Vec::new()), "{kind}");
        assert_eq!(replays.events.values().sum::<u64>() + replays.left as u64, 15, "{kind}");
        assert!(
            Kind::ALL.iter().all(|kind| replays.events.contains_key(kind)),
            "{kind}: {:?}",
            replays.events
        );
        let (lowest, highest) = replays.extremes.unwrap();
        assert!(lowest < Frequency::new(59_900) && lowest > Frequency::new(57_000), "{lowest}");
        assert!(highest > Frequency::new(60_050) && highest < Frequency::new(62_500), "{highest}");
        replays
    };
    let ours = ran(::backtest::Kind::Flareshift);
    let shed = ours.shed.unwrap();
    assert!(shed >= Span::new(150) && shed <= Span::new(180), "feeders open in 150 ms: {shed}");
    let without = ran(::backtest::Kind::AiOnly);
    assert_eq!(without.shed, None, "without miners no feeder opens");
    assert_eq!(without, ran(::backtest::Kind::AiOnly), "the same again");
}

/// Agents that are broken on purpose break something, and it is said what.
fn check_broken(agents: Agents, events: usize, part: &str) {
    let replays = replayed(&world(), ::backtest::Kind::Flareshift, events, agents);
    assert!(replays.broken > 0 && replays.told.iter().any(|told| told.contains(part)), "{replays:?}");
}

#[test]
fn agents_without_a_reflex_lose_the_island() {
    check_broken(Agents { reflex: false, ..honest() }, 10, "the island blacked out");
}

#[test]
fn agents_that_draw_all_they_can_are_seen() {
    let sabotage = Sabotages([Sabotage::IgnoreCeiling].into());
    check_broken(Agents { sabotage, ..honest() }, 5, "invariant 1");
}

/// What becomes of a site whose miners all sleep and whose plan wants them at work.
fn woken(agents: &Agents) -> judge::Verdict {
    let strategy = Strategy { check_every: 0, ..Strategy::new(::backtest::Kind::Flareshift) };
    let mut verdict = None;
    let outcome = ::backtest::watch(&read("--gas-variability 0"), &strategy, &mut |moment| {
        if moment.step != 40 {
            return;
        }
        let mut input = moment.input.clone();
        for report in input.modules.values_mut().filter_map(|given| given.report.as_mut()) {
            for group in report.groups.values_mut() {
                (group.awake, group.power) = (0, None);
            }
        }
        let site = model::SiteId::new("well-7").unwrap();
        let event = Event { kind: Kind::Move, site, strike: Strike::Plan };
        let asleep = Moment { input: &input, ..*moment };
        verdict = Some(stage::play(&asleep, &event, agents).unwrap());
    });
    outcome.unwrap();
    verdict.unwrap()
}

/// What becomes of firm work when the module that draws most is lost, at sets of this inertia that plans took for heavier ones.
fn lost_beside(inertia: Option<Span>) -> judge::Verdict {
    let strategy = Strategy { check_every: 0, ..Strategy::new(::backtest::Kind::Flareshift) };
    let site = model::SiteId::new("well-7").unwrap();
    let mine = model::ModuleId::new("well-7-mine").unwrap();
    let mut verdict = None;
    let outcome = ::backtest::watch(&read("--gas-variability 0"), &strategy, &mut |moment| {
        let Some(plan) = moment.input.parent.as_ref().and_then(|parent| parent.sites.get(&site)) else {
            return;
        };
        let firm = |id: &model::WorkloadId| {
            moment.input.workloads.get(id).is_some_and(|run| run.spec.tier == model::workload::Tier::Firm)
        };
        let beside = plan.modules.iter().any(|(id, module)| *id != mine && module.runs.keys().any(firm));
        if verdict.is_some() || moment.step < 40 || !beside {
            return;
        }
        let most = plan.modules[&mine].ceiling;
        assert!(most <= model::Watts::kilo(360) && most > model::Watts::kilo(340), "{most}");
        let mut input = moment.input.clone();
        let sets = input.sites.get_mut(&site).unwrap().site.gensets.values_mut();
        sets.for_each(|set| set.inertia = inertia.unwrap_or(set.inertia));
        let event = Event { kind: Kind::Module, site: site.clone(), strike: Strike::Module(mine.clone()) };
        verdict = Some(stage::play(&Moment { input: &input, ..*moment }, &event, &honest()).unwrap());
    });
    outcome.unwrap();
    verdict.unwrap()
}

#[test]
fn firm_work_outlives_the_loss_of_the_largest_module_and_sets_that_are_too_light_are_seen() {
    let held = lost_beside(None);
    assert_eq!((held.firm_lost, held.findings), (0, Vec::new()));
    let light = lost_beside(Some(Span::new(250)));
    assert!(light.firm_lost > 0, "{:?}", light.findings);
}

#[test]
fn miners_wake_within_what_the_sets_take_and_agents_that_ignore_it_are_seen() {
    assert_eq!(woken(&honest()).findings, Vec::<String>::new());
    let hasty = Agents { sabotage: Sabotages([Sabotage::IgnoreShare].into()), ..honest() };
    let findings = woken(&hasty).findings;
    let seen = ["invariant 3", "shed by frequency, and nothing was lost"];
    assert!(findings.iter().any(|found| seen.iter().any(|part| found.contains(part))), "{findings:?}");
}
