//! Which events are drawn, and that looking on changes nothing.

use std::collections::BTreeMap;

use backtest::events::{Event, Kind, Sampler, Strike};
use backtest::{Strategy, World, run, watch};
use model::GensetId;
use model::report::GensetState;

use crate::scene::*;

/// The events of a world with their steps, and how many found no moment.
fn drawn(world: &World, seed: u64, events: usize) -> (Vec<(usize, Event)>, usize) {
    let strategy = Strategy { check_every: 0, ..Strategy::new(backtest::Kind::Flareshift) };
    let mut sampler = Sampler::new(seed, world.steps(), events);
    let mut drawn = Vec::new();
    let outcome = watch(world, &strategy, &mut |moment| {
        for event in sampler.due(moment) {
            possible(moment.input, &event);
            drawn.push((moment.step, event));
        }
    });
    assert_eq!(outcome, run(world, &strategy), "looking on changes nothing");
    (drawn, sampler.left())
}

/// An event names what is there.
fn possible(input: &planner::Input, event: &Event) {
    let report = input.sites[&event.site].report.as_ref().unwrap();
    let online = |set: &GensetId| report.gensets[set].state == GensetState::Online;
    match &event.strike {
        Strike::Set(set) => {
            assert!(online(set) && report.gensets.keys().filter(|set| online(set)).count() >= 2)
        }
        Strike::Feeder(module, group) => {
            assert!(input.modules[module].module.groups.contains_key(group), "{event}");
        }
        Strike::Run(module, run) => {
            let status = &input.workloads[run].status;
            assert!(status.phase.holds() && status.placement.as_ref().unwrap().module == *module, "{event}");
        }
        Strike::Module(module) => assert_eq!(input.modules[module].module.site, event.site),
        Strike::Plan => assert!(input.parent.is_some()),
    }
}

#[test]
fn events_of_every_kind_are_drawn_by_the_seed_over_the_whole_time() {
    let world = week(1, 1, 900);
    let (events, left) = drawn(&world, 7, 40);
    assert_eq!(events.len() + left, 40);
    let mut kinds: BTreeMap<Kind, usize> = BTreeMap::new();
    events.iter().for_each(|(_, event)| *kinds.entry(event.kind).or_default() += 1);
    assert!(Kind::ALL.iter().all(|kind| kinds.get(kind).is_some_and(|count| *count >= 7)), "{kinds:?}");
    assert!(events.first().unwrap().0 < 48 && events.last().unwrap().0 > 240, "from morning to night");
    assert_eq!(drawn(&world, 7, 40).0, events);
    assert_ne!(drawn(&world, 8, 40).0, events);
}

#[test]
fn what_cannot_happen_is_not_drawn() {
    let mut fleet = fleet();
    fleet.sites[0] = site("well-7", 1);
    let (events, left) = drawn(&still(fleet, 1), 1, 10);
    let kinds: Vec<Kind> = events.iter().map(|(_, event)| event.kind).collect();
    assert!(kinds.iter().all(|kind| !matches!(kind, Kind::LargestSet | Kind::OtherSet)), "{kinds:?}");
    assert!(left >= 4, "two events of each kind that needs a second set");
    assert!(kinds.contains(&Kind::Load) && kinds.contains(&Kind::Module), "{kinds:?}");
}
