//! A grid tie on a real island with its agent's mind: import by the ramp, the loss of the grid while it carries load, rest when the
//! envelope has expired, and load that is suddenly gone.

use std::collections::BTreeMap;

use model::envelope::{Directive, FallbackStep, Grant, Share};
use model::module::Module;
use model::plan::ImportTarget;
use model::site::{Frequency, GridTie, Site};
use model::{MicroDollars, ModuleId, Span, Watts, WattsPerSecond};
use sim::island::Island;
use sim::reference;

use crate::scene::{self, boot};

/// Four sets of 250 kW that take blocks of 25 kW each, 600 kW that nobody manages, and a tie of 100 kW.
fn scene() -> (Site, Module) {
    let fleet = reference::fleet();
    let mut site = fleet.sites[0].clone();
    site.gensets.values_mut().for_each(|set| (set.step, set.inertia) = (Watts::kilo(25), Span::new(1_000)));
    site.unmanaged = Watts::kilo(600);
    site.grid = Some(GridTie { import: Watts::kilo(100), price: Some(MicroDollars::dollars(45)) });
    let mut module = fleet.modules_of(&site.id).find(|module| module.wired).unwrap().clone();
    (module.groups, module.pools) = (BTreeMap::new(), BTreeMap::new());
    (module.auxiliary, module.loss_permille) = (Watts::kilo(1), 0);
    (site, module)
}

/// Half of the sets' blocks is imported.
fn directive(module: &ModuleId, at: Span) -> Directive {
    let grant = Grant {
        ceiling: Watts::kilo(10),
        ai_floor: Watts::ZERO,
        share: Share::default(),
        ladder: Vec::new(),
        armed: BTreeMap::new(),
        fallback: vec![FallbackStep { after: Span::ZERO, ceiling: Watts::kilo(10) }],
    };
    Directive {
        import: Some(ImportTarget { power: Watts::kilo(50), ramp: WattsPerSecond::new(5_000) }),
        ..scene::directive(module, 1, at, grant)
    }
}

/// Runs the island with the agent's mind for so many seconds, renewing its directive until `renewed`; these faults come at these
/// seconds. Returns what was imported at each second, in kilowatts.
fn run(seconds: i64, renewed: i64, faults: &[(i64, &str)]) -> (Island, Vec<i64>) {
    let (site, module) = scene();
    let mut island = scene::island(&site, std::slice::from_ref(&module));
    let mut brain = scene::brain(&site, &module);
    let mut imported = Vec::new();
    for second in 0..seconds {
        if second < renewed {
            brain.adopt(directive(&module.id, Span::secs(second)), &boot(Span::secs(second))).unwrap();
        }
        for (_, fault) in faults.iter().filter(|(at, _)| *at == second) {
            assert!(island.fault(&fault.parse().unwrap()), "{fault}");
        }
        for tick in 0..100 {
            let commands = brain.tick(&island.readings(&module.id, tick == 0));
            island.apply(&module.id, &commands);
            island.step();
        }
        imported.push(island.truth().grid.unwrap().power.get() / 1_000);
    }
    (island, imported)
}

#[test]
fn it_imports_by_the_ramp_and_its_loss_is_a_step_that_the_sets_take() {
    let (island, imported) = run(90, 90, &[(30, "tie-trip@0s"), (60, "tie-back@0s")]);
    let truth = island.truth();
    assert!(imported.windows(2).take(15).all(|pair| pair[1] - pair[0] <= 5), "by the ramp: {imported:?}");
    assert_eq!((imported[20], imported[30], imported[59]), (50, 0, 0), "{imported:?}");
    assert_eq!(imported.last(), Some(&50), "the grid is back: {imported:?}");
    assert_eq!((truth.blackouts, truth.refused), (0, 0), "nadir {}", truth.nadir);
    assert!(truth.nadir > Frequency::new(59_000), "{}", truth.nadir);
    assert_eq!(truth.load - truth.carried, truth.grid.unwrap().power);
}

#[test]
fn without_a_valid_envelope_it_comes_to_rest() {
    let (island, imported) = run(160, 20, &[]);
    assert_eq!((imported[100], imported.last()), (50, Some(&0)), "{imported:?}");
    assert_eq!(island.truth().blackouts, 0);
}

#[test]
fn where_load_is_suddenly_gone_it_gives_way_to_the_sets() {
    let rejected = |import: Watts| {
        let fleet = reference::fleet();
        let mut site = fleet.sites[0].clone();
        let modules: Vec<Module> = fleet.modules_of(&site.id).cloned().collect();
        site.unmanaged = Watts::kilo(100);
        site.grid = Some(GridTie { import: Watts::kilo(200), price: None });
        let mut island = scene::island(&site, &modules);
        let wired = modules.iter().find(|module| module.wired).unwrap();
        for power in [import.fraction(1, 2), import] {
            island.apply(&wired.id, &[control::Command::SetImport(power)]);
            (0..1_000).for_each(|_| island.step());
        }
        let before = island.load();
        assert!(island.fault(&"load-rejection@0s".parse().unwrap()));
        (0..200).for_each(|_| island.step());
        assert!(island.load() < before.fraction(1, 2), "{before} and {}", island.load());
        island.truth()
    };
    // The sets alone trip by their speed at so much lost load.
    assert_eq!(rejected(Watts::ZERO).blackouts, 1);
    // As much as a plan may: half of the sets' blocks, 120 kW.
    let truth = rejected(Watts::kilo(120));
    assert_eq!(truth.blackouts, 0, "zenith {}", truth.zenith);
    assert!(truth.grid.unwrap().power < Watts::kilo(120), "{:?}", truth.grid);
}
