//! Storage on a real island with its agent's mind: a bridge after the loss of a set, handed back by the ramp; and what becomes of the
//! same island without.

use std::collections::BTreeMap;

use model::envelope::{Arming, Directive, FallbackStep, Grant, Rung, RungLoad, Share};
use model::module::{Actuator, Module};
use model::plan::StorageTarget;
use model::site::{Frequency, Site, Storage};
use model::{ContingencyId, GensetId, MicroDollars, ModuleId, Span, WattSeconds, Watts, WattsPerSecond};
use sim::island::Island;
use sim::reference;

use crate::scene::{self, boot};

/// Four sets of 250 kW that take blocks of 25 kW each, and 740 kW that nobody manages: without one of them 110 kW are short.
fn scene(storage: bool) -> (Site, Module) {
    let fleet = reference::fleet();
    let mut site = fleet.sites[0].clone();
    site.gensets.values_mut().for_each(|set| (set.step, set.inertia) = (Watts::kilo(25), Span::new(1_000)));
    site.unmanaged = Watts::kilo(740);
    site.storage = storage.then(|| Storage {
        power: Watts::kilo(150),
        energy: WattSeconds::kilowatt_hours(100),
        efficiency_permille: 880,
        response: Some(Span::new(100)),
        reserve: Span::minutes(5),
        wear: MicroDollars::dollars(20),
    });
    let mut module = fleet.modules_of(&site.id).find(|module| module.wired).unwrap().clone();
    (module.groups, module.pools) = (BTreeMap::new(), BTreeMap::new());
    (module.auxiliary, module.loss_permille) = (Watts::kilo(1), 0);
    (site, module)
}

/// Storage rests, and answers the loss of any set with 130 kW.
fn directive(module: &ModuleId, sets: &[GensetId], at: Span) -> Directive {
    let rung = Rung {
        load: RungLoad::Storage,
        actuator: Actuator::Storage,
        watts: Watts::kilo(130),
        opens: Span::new(100),
        below: Frequency::new(800),
    };
    let arming = |set: &GensetId| Arming {
        source: set.clone(),
        lost: Watts::kilo(186),
        absorbed: Watts::kilo(205),
        island_shed: Watts::ZERO,
        rungs: vec![0],
    };
    let name = |set: &GensetId| ContingencyId::new(&format!("genset-{set}")).unwrap();
    let grant = Grant {
        ceiling: Watts::kilo(10),
        ai_floor: Watts::ZERO,
        share: Share::default(),
        ladder: vec![rung],
        armed: sets.iter().map(|set| (name(set), arming(set))).collect(),
        fallback: vec![FallbackStep { after: Span::ZERO, ceiling: Watts::kilo(10) }],
    };
    Directive {
        storage: Some(StorageTarget { power: Watts::ZERO, ramp: WattsPerSecond::new(5_000) }),
        ..scene::directive(module, 1, at, grant)
    }
}

/// Runs the island with the agent's mind for so many seconds; a set trips after 20 s. Returns what storage delivered at each second,
/// in kilowatts.
fn run(storage: bool, seconds: i64) -> (Island, Vec<i64>) {
    let (site, module) = scene(storage);
    let mut island = scene::island(&site, std::slice::from_ref(&module));
    let mut brain = scene::brain(&site, &module);
    let sets: Vec<GensetId> = site.gensets.keys().cloned().collect();
    let mut delivered = Vec::new();
    for second in 0..seconds {
        let told = directive(&module.id, &sets, Span::secs(second));
        brain.adopt(told, &boot(Span::secs(second))).unwrap();
        if second == 20 {
            assert!(island.fault(&"genset-trip@0s:g1".parse().unwrap()));
        }
        for tick in 0..100 {
            let commands = brain.tick(&island.readings(&module.id, tick == 0));
            island.apply(&module.id, &commands);
            island.step();
        }
        let storage = island.truth().storage;
        delivered.push(storage.map_or(0, |storage| storage.power.get() / 1_000));
    }
    (island, delivered)
}

#[test]
fn storage_bridges_the_loss_of_a_set_and_is_handed_back_by_the_ramp() {
    let (island, delivered) = run(true, 90);
    let truth = island.truth();
    assert_eq!((truth.blackouts, truth.refused), (0, 0), "nadir {}", truth.nadir);
    assert!(truth.nadir > Frequency::new(57_300), "{}", truth.nadir);
    assert_eq!(delivered[19], 0);
    assert!(delivered[20..25].iter().all(|power| *power == 130), "{delivered:?}");
    assert!(delivered.windows(2).all(|pair| pair[0] - pair[1] <= 6), "by the ramp: {delivered:?}");
    assert_eq!(delivered.last(), Some(&0), "the sets carry it again: {delivered:?}");
    assert!((truth.frequency.unwrap() - Frequency::new(60_000)).abs() < Frequency::new(200));
    let storage = truth.storage.unwrap();
    assert!(storage.held < WattSeconds::kilowatt_hours(50) && storage.delivered > WattSeconds::ZERO);
}

#[test]
fn the_same_island_without_storage_blacks_out() {
    let (island, _) = run(false, 60);
    assert_eq!(island.truth().blackouts, 1);
}

#[test]
fn storage_that_trips_while_it_carries_load_leaves_a_step_that_the_sets_take() {
    let (site, module) = scene(true);
    let mut island = scene::island(&site, std::slice::from_ref(&module));
    // Half of the sets' blocks, as a plan may at most.
    island.apply(&module.id, &[control::Command::SetStorage(Watts::kilo(50))]);
    (0..1_000).for_each(|_| island.step());
    let (load, carried) = (island.load(), island.carried());
    assert_eq!((load - carried).get() / 1_000, 50);
    assert!(island.fault(&"storage-trip@0s".parse().unwrap()));
    (0..3_000).for_each(|_| island.step());
    let truth = island.truth();
    assert_eq!(truth.carried, truth.load);
    assert!(truth.blackouts == 0 && truth.nadir > Frequency::new(59_000), "{}", truth.nadir);
    island.apply(&module.id, &[control::Command::SetStorage(Watts::kilo(50))]);
    assert_eq!(island.truth().refused, 1, "it is off the bus");
    assert!(
        island.fault(&"storage-reset@0s".parse().unwrap())
            && !island.fault(&"storage-reset@0s".parse().unwrap())
    );
}
