//! The witness as a whole: honest traces, and the real island instead of made-up seconds.

use control::port::{Command, TICK};
use model::module::Module;
use model::report::GensetState;

use super::testing::{directive, feed, settled};
use super::*;
use crate::fault::{Fault, Kind};
use crate::island::{Island, Options as Physics};
use crate::reference;

#[test]
fn an_honest_hour_breaks_nothing_and_every_physical_invariant_was_looked_at() {
    let mut witness = settled();
    feed(&mut witness, 1..=3_600, |_, _| {});
    let summary = witness.finish();
    assert!(summary.is_sound(), "{summary:?}");
    for number in [1, 3, 7, 8, 12] {
        assert!(summary.verdict(number).is_some_and(|verdict| verdict.checks > 0), "invariant {number}");
    }
}

/// The reference site on its own for `seconds` with so many sets online, loaded to so many thousandths by miners; `act` sees the
/// island before each second.
fn watch(seconds: i64, online: usize, load_permille: u32, mut act: impl FnMut(i64, &mut Island)) -> Summary {
    let fleet = reference::fleet();
    let site = &fleet.sites[0];
    let modules: Vec<Module> = fleet.modules_of(&site.id).cloned().collect();
    let physics = Physics { online: Some(online), load_permille, ..Physics::default() };
    let mut island = Island::new(site, &modules, 7, Time(0), physics);
    let mut witness = Witness::new(&fleet, Options::default());
    let mut seen = 0;
    witness.second(&site.id, &island.truth(), &[]);
    for second in 0..seconds {
        if second % 30 == 0 {
            renew(&mut witness, &modules, second);
        }
        act(second, &mut island);
        for tick in 1..=100 {
            island.step();
            if tick % 10 == 0 {
                witness.load(&site.id, island.now(), island.truth().load);
            }
        }
        let events: Vec<Event> = island.events_after(seen).cloned().collect();
        seen = events.last().map_or(seen, |event| event.sequence);
        witness.second(&site.id, &island.truth(), &events);
    }
    assert_eq!(island.now(), Time(0) + Span::new(TICK.get() * 100 * seconds));
    witness.finish()
}

/// Each module may draw what it can, of which 200 kW hold without a controller.
fn renew(witness: &mut Witness, modules: &[Module], second: i64) {
    let boot = BootStamp { boot_id: "b".into(), at: Span::secs(second) };
    for module in modules {
        let ceiling = match (module.groups.is_empty(), module.pools.is_empty()) {
            (true, _) => 60,
            (false, true) => 660,
            (false, false) => 250,
        };
        witness.directive(
            &module.id,
            Time(second * 1_000),
            &boot,
            &directive(&module.id, 1, (ceiling, ceiling.min(200)), second),
        );
    }
}

fn broken(summary: &Summary) -> Vec<u8> {
    summary
        .verdicts
        .iter()
        .filter(|verdict| verdict.violations > 0)
        .map(|verdict| verdict.invariant)
        .collect()
}

#[test]
fn a_real_island_left_alone_breaks_nothing() {
    let summary = watch(150, 4, 700, |_, _| {});
    assert_eq!(broken(&summary), Vec::<u8>::new(), "{summary:?}");
}

#[test]
fn a_real_island_without_reflex_blacks_out_after_one_trip() {
    let summary = watch(120, 4, 930, |second, island| {
        if second == 70 {
            let trip = Fault { at: Span::ZERO, site: None, kind: Kind::GensetTrip(None) };
            assert!(island.fault(&trip));
            assert!(island.truth().gensets.values().any(|set| set.state == GensetState::Tripped));
        }
    });
    assert!(broken(&summary).contains(&2), "{summary:?}");
}

#[test]
fn a_real_island_whose_miners_all_wake_at_once_breaks_the_ramp() {
    let summary = watch(60, 2, 300, |second, island| {
        wake_all(second, 30).iter().for_each(|(module, commands)| island.apply(&module.id, commands));
    });
    assert!(broken(&summary).contains(&3), "{summary:?}");
}

/// At `when`: every miner of the first site is told to wake.
fn wake_all(second: i64, when: i64) -> Vec<(Module, Vec<Command>)> {
    let fleet = reference::fleet();
    let modules = fleet.modules_of(&fleet.sites[0].id).filter(|_| second == when).cloned();
    let command = |module: Module| {
        let wake = |(id, group): (&model::MinerGroupId, &model::module::MinerGroup)| Command::SetMiners {
            group: id.clone(),
            awake: group.count,
            point: 1,
        };
        let commands = module.groups.iter().map(wake).collect();
        (module, commands)
    };
    modules.map(command).collect()
}
