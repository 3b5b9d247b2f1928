//! The known answers of the island's physics: frequency after losses, energy that closes, faults that do what they say.
//!
//! The figures are those published for four full 60 Hz sets; "about" is 0.1 Hz, or a tenth of the time.

use std::collections::BTreeMap;

use control::port::Command;
use model::envelope::Assignment;
use model::module::Module;
use model::report::{FeederState, GensetState, RunPhase};
use model::site::{Frequency, Governor, Site};
use model::workload::{GpuTime, Placement, Tier};
use model::{
    GensetId, Hashrate, MicroDollars, MinerGroupId, ModuleId, PoolId, Span, TenantId, WattSeconds, Watts,
    WorkloadId,
};
use sim::bus::{BreachKind, Happened, Trip};
use sim::island::{Island, Options};
use sim::reference;
use sim::truth::{Truth, What};

use crate::scene::START;

fn steady() -> Options {
    Options { gas_variability: 0.0, ..Options::default() }
}

fn run(island: &mut Island, millis: i64) {
    (0..millis / 10).for_each(|_| island.step());
}

/// Steps until `done`, at most `millis`; returns the time it took.
fn run_until(island: &mut Island, millis: i64, done: impl Fn(&Island) -> bool) -> Option<i64> {
    (1..=millis / 10).find_map(|tick| {
        island.step();
        done(island).then_some(tick * 10)
    })
}

fn fault(island: &mut Island, text: &str) {
    let fault = text.parse().unwrap();
    assert!(island.fault(&fault), "{text} strikes something");
}

/// Four full sets of 250 kW with inertia `h` (ms): 750 kW that nobody manages and a feeder with 250 kW of miners, which take
/// 5 s to sleep.
fn four_full_sets(h: i64) -> (Island, ModuleId, MinerGroupId) {
    let fleet = reference::fleet();
    let mut site: Site = fleet.sites[0].clone();
    site.gensets.values_mut().for_each(|set| set.inertia = Span::new(h));
    site.unmanaged = Watts::kilo(750);
    let mut module: Module =
        fleet.modules_of(&site.id).find(|module| module.pools.is_empty()).unwrap().clone();
    (module.auxiliary, module.loss_permille) = (Watts::ZERO, 0);
    let id = MinerGroupId::new("a").unwrap();
    let mut group = module.groups[&id].clone();
    (group.count, group.standby, group.sleep) = (100, Watts::ZERO, Span::secs(5));
    group.points.truncate(1);
    group.points[0].power = Watts::new(2_500);
    module.groups = BTreeMap::from([(id.clone(), group)]);
    let options = Options { load_permille: 1_000, ..steady() };
    let island = Island::new(&site, std::slice::from_ref(&module), 1, START, options);
    assert_eq!(island.truth().load, Watts::kilo(1_000));
    (island, module.id, id)
}

fn hertz(frequency: Frequency) -> f64 {
    frequency.as_f64() / 1_000.0
}

#[test]
fn four_full_sets_that_lose_one_fall_to_57_25_hz_in_the_published_time() {
    for (h, seconds) in [(500, 0.15), (2_500, 0.7)] {
        let (mut island, ..) = four_full_sets(h);
        fault(&mut island, "genset-trip@0s:g1");
        let below = |island: &Island| island.frequency().unwrap() <= Frequency::new(57_250);
        let took = run_until(&mut island, 5_000, below).unwrap() as f64 / 1_000.0;
        assert!((took / seconds - 1.0).abs() < 0.12, "H {h} ms: {took} s, published {seconds}");
    }
}

#[test]
fn a_feeder_opened_at_150_ms_holds_the_nadir() {
    for (h, nadir) in [(500, 57.3), (1_000, 58.6), (2_000, 59.3)] {
        let (mut island, module, group) = four_full_sets(h);
        fault(&mut island, "genset-trip@0s:g1");
        island.apply(&module, &[Command::OpenFeeder(group)]);
        run(&mut island, 20_000);
        let truth = island.truth();
        assert!((hertz(truth.nadir) - nadir).abs() < 0.1, "H {h} ms: {}, published {nadir}", truth.nadir);
        assert!(truth.energized && truth.blackouts == 0);
    }
}

#[test]
fn load_that_ramps_off_by_firmware_ends_in_a_trip() {
    for h in [500, 1_000, 2_000, 2_500] {
        let (mut island, module, group) = four_full_sets(h);
        fault(&mut island, "genset-trip@0s:g1");
        island.apply(&module, &[Command::SetMiners { group, awake: 0, point: 0 }]);
        let took = run_until(&mut island, 10_000, |island| island.frequency().is_none()).unwrap();
        assert!((1_100..=2_400).contains(&took), "H {h} ms: {took} ms");
        assert_eq!(island.truth().blackouts, 1);
    }
}

#[test]
fn a_block_within_the_step_recovers_and_a_larger_one_is_recorded() {
    // 800 kW can be added in blocks of 60 kW a set: four sets take 240 kW.
    for (awake, recorded) in [(60, false), (100, true)] {
        let (site, module) = blockable();
        let options = Options { load_permille: 0, ..steady() };
        let mut island = Island::new(&site, std::slice::from_ref(&module), 1, START, options);
        let group = MinerGroupId::new("a").unwrap();
        run(&mut island, 1_000);
        island.apply(&module.id, &[Command::SetMiners { group, awake, point: 0 }]);
        run(&mut island, 3_000);
        let truth = island.truth();
        let steps = breaches(&island, BreachKind::BlockStep);
        assert_eq!(!steps.is_empty(), recorded, "{awake} miners at once: {steps:?}, nadir {}", truth.nadir);
        assert!(steps.iter().all(|aftermath| !aftermath), "nothing tripped: a plan did this");
        if !recorded {
            assert!(hertz(truth.nadir) > 58.5, "{}", truth.nadir);
            run(&mut island, 20_000);
            assert!((hertz(island.frequency().unwrap()) - 60.0).abs() < 0.05);
        }
    }
}

/// A site with 300 kW of steady load and 100 miners of 3.5 kW that wake within one tick.
fn blockable() -> (Site, Module) {
    let fleet = reference::fleet();
    let mut site = fleet.sites[0].clone();
    site.unmanaged = Watts::kilo(400);
    let mut module = fleet.modules_of(&site.id).find(|module| module.pools.is_empty()).unwrap().clone();
    let mut group = module.groups.values().next().unwrap().clone();
    (group.count, group.wake) = (100, Span::new(10));
    group.points.remove(0);
    module.groups = BTreeMap::from([(MinerGroupId::new("a").unwrap(), group)]);
    (site, module)
}

fn breaches(island: &Island, kind: BreachKind) -> Vec<bool> {
    let breach = |what: &What| match what {
        What::Bus(Happened::Breach(breach)) if breach.kind == kind => Some(breach.aftermath),
        _ => None,
    };
    island.events_after(0).filter_map(|event| breach(&event.what)).collect()
}

#[test]
fn governors_return_to_nominal_or_to_their_droop_line() {
    for governor in [Governor::Isochronous, Governor::Droop { permille: 40 }] {
        let (mut site, module) = blockable();
        site.governor = governor;
        let options = Options { load_permille: 0, ..steady() };
        let mut island = Island::new(&site, std::slice::from_ref(&module), 1, START, options);
        let group = MinerGroupId::new("a").unwrap();
        island.apply(&module.id, &[Command::SetMiners { group, awake: 50, point: 0 }]);
        run(&mut island, 30_000);
        let truth = island.truth();
        let share = truth.load.ratio(site.rating()).unwrap();
        let expected = match governor {
            Governor::Isochronous => 60.0,
            Governor::Droop { permille } => 60.0 * (1.0 - f64::from(permille) / 1_000.0 * share),
        };
        assert!(
            (hertz(truth.frequency.unwrap()) - expected).abs() < 0.05,
            "{governor:?}: {:?}",
            truth.frequency
        );
        let powers: Vec<Watts> = truth.gensets.values().map(|set| set.power).collect();
        assert!(powers.windows(2).all(|pair| (pair[0] - pair[1]).abs() <= Watts::new(1)), "{powers:?}");
    }
}

#[test]
fn rejection_of_a_third_survives_and_of_nearly_all_overspeeds() {
    let (mut island, ..) = four_full_sets(1_200);
    fault(&mut island, "load-rejection@0s");
    run(&mut island, 20_000);
    let truth = island.truth();
    assert!(truth.energized && hertz(truth.zenith) > 60.3, "a quarter is gone: {}", truth.zenith);

    let fleet = reference::fleet();
    let mut site = fleet.sites[0].clone();
    site.unmanaged = Watts::kilo(10);
    site.gensets.values_mut().for_each(|set| set.inertia = Span::new(500));
    let module = fleet.modules_of(&site.id).find(|module| module.pools.is_empty()).unwrap();
    site.gensets.pop_last();
    site.gensets.pop_last();
    let mut island = Island::new(
        &site,
        std::slice::from_ref(module),
        1,
        START,
        Options { load_permille: 900, ..steady() },
    );
    fault(&mut island, "load-rejection@0s");
    run(&mut island, 5_000);
    let overspeed = island
        .events_after(0)
        .any(|event| matches!(&event.what, What::Bus(Happened::Tripped(_, Trip::OverFrequency, _))));
    assert!(overspeed && island.frequency().is_none(), "zenith {}", island.truth().zenith);
}

/// Four sets of 250 kW with inertia `h` (ms) that lose a module of `lost` kW while `rest` kW stay.
fn without_a_module(h: i64, governor: Governor, lost: i64, rest: i64) -> Island {
    let (mut site, mut module) = blockable();
    site.gensets.values_mut().for_each(|set| set.inertia = Span::new(h));
    (site.governor, site.unmanaged) = (governor, Watts::kilo(rest));
    (module.auxiliary, module.loss_permille) = (Watts::ZERO, 0);
    (module.limit, module.cooling) = (Watts::kilo(1_000), Watts::kilo(1_000));
    for group in module.groups.values_mut() {
        group.standby = Watts::ZERO;
        group.points[0].power = Watts::new(lost * 10);
    }
    let options = Options { load_permille: 1_000, ..steady() };
    let mut island = Island::new(&site, std::slice::from_ref(&module), 1, START, options);
    // In droop frequency, and with it load, lies up to 5 % below.
    let short = Watts::kilo(lost + rest) - island.truth().load;
    assert!((0..=50).contains(&(short.get() / (lost + rest))), "{short}");
    assert!(island.lose_module(&module.id));
    run(&mut island, 20_000);
    island
}

/// What the planner lets a module draw beside firm work, in kilowatts for a megawatt of sets (`planner/src/security.rs` has the same
/// figures), where 0, 50, 100, 200 and 500 kW stay. All sets stay, with that and with more beside it, in either governor mode.
const ALLOWED: [(i64, [i64; 5]); 6] = [
    (300, [78, 129, 151, 183, 183]),
    (500, [122, 192, 222, 261, 261]),
    (800, [177, 266, 300, 345, 345]),
    (1_200, [237, 338, 374, 419, 419]),
    (1_640, [290, 395, 431, 473, 473]),
    (2_500, [366, 470, 502, 539, 539]),
];

#[test]
fn sets_outlive_the_loss_of_the_largest_module_that_plans_allow() {
    let governors =
        [Governor::Isochronous, Governor::Droop { permille: 20 }, Governor::Droop { permille: 50 }];
    for (h, allowed) in ALLOWED {
        for (stays, lost) in [0, 50, 100, 200, 500].into_iter().zip(allowed) {
            let full = 950 - lost;
            for (governor, rest) in governors.into_iter().flat_map(|mode| [(mode, stays), (mode, full)]) {
                let rest = rest.min(full);
                let truth = without_a_module(h, governor, lost, rest).truth();
                let online = truth.gensets.values().filter(|set| set.state == GensetState::Online).count();
                let zenith = hertz(truth.zenith);
                assert!(online == 4 && zenith < 62.4, "{h} ms {governor:?} {lost} + {rest} kW: {zenith}");
            }
        }
    }
}

#[test]
fn the_loss_of_a_much_larger_module_overspeeds_all_sets() {
    for (h, lost) in [(500, 400), (1_200, 560), (2_500, 850)] {
        let island = without_a_module(h, Governor::Isochronous, lost, 950 - lost);
        assert!(island.frequency().is_none(), "{h} ms: {}", island.truth().zenith);
    }
}

fn busy_fleet(seed: u64, options: Options) -> (Island, Vec<Module>) {
    let fleet = reference::fleet();
    let site = &fleet.sites[0];
    let modules: Vec<Module> = fleet.modules_of(&site.id).cloned().collect();
    (Island::new(site, &modules, seed, START, options), modules)
}

fn assignment(module: &str, server: u32, tier: Tier) -> Assignment {
    Assignment {
        tenant: TenantId::new("acme").unwrap(),
        tier,
        placement: Placement {
            module: ModuleId::new(module).unwrap(),
            pool: PoolId::new("dgx").unwrap(),
            servers: vec![(server, 8)],
            incarnation: 1,
        },
        remaining: Some(GpuTime::of(8, Span::hours(2))),
        start_from: GpuTime::ZERO,
        checkpoint: Span::minutes(5),
        save: Span::secs(10),
        restart: Span::secs(20),
        price: MicroDollars::cents(235),
        keep_without_link: Span::minutes(10),
        by_progress: false,
    }
}

fn start_runs(island: &mut Island, module: &str, count: u32) {
    let start = |server: u32| Command::StartRun {
        workload: WorkloadId::new(&format!("w{server}")).unwrap(),
        assignment: assignment(module, server, if server == 0 { Tier::Firm } else { Tier::Spot }),
    };
    let commands: Vec<Command> = (0..count).map(start).collect();
    island.apply(&ModuleId::new(module).unwrap(), &commands);
}

#[test]
fn energy_closes_between_uses_and_meters() {
    let (mut island, modules) = busy_fleet(7, Options::default());
    start_runs(&mut island, "well-7-gpu", 6);
    let mut integrals: BTreeMap<ModuleId, f64> = BTreeMap::new();
    for step in 0..30_000 {
        if step == 9_000 {
            fault(&mut island, "genset-trip@0s");
            let group = MinerGroupId::new("a").unwrap();
            island.apply(&modules[1].id, &[Command::OpenFeeder(group)]);
        }
        for module in &modules {
            *integrals.entry(module.id.clone()).or_default() += island.power(&module.id).as_f64() * 0.01;
        }
        island.step();
    }
    for (id, module) in &island.truth().modules {
        let (uses, count) = energies(module);
        let gap = module.total.energy - uses;
        assert!(
            (WattSeconds::ZERO..=WattSeconds::new(count)).contains(&gap),
            "{id}: {gap:?} over {count} uses"
        );
        // Half a watt of rounding in each sample of 300 s.
        let apart = (module.total.energy.as_f64() - integrals[id]).abs();
        assert!(apart < 0.5 * 300.0, "{id}: meter and integral differ by {apart} Ws");
        assert!(module.total.energy > WattSeconds::ZERO);
    }
}

fn energies(module: &sim::truth::ModuleTruth) -> (WattSeconds, i64) {
    let mut uses = vec![module.auxiliary, module.loss];
    uses.extend(module.groups.values().map(|group| group.mining));
    uses.extend(module.unheld.values().copied());
    uses.extend(module.runs.values().map(|run| run.ai));
    (uses.iter().map(|part| part.energy).sum(), uses.len() as i64)
}

#[test]
fn what_the_agent_reads_adds_up_to_the_truth() {
    let (mut island, _) = busy_fleet(7, Options::default());
    let module = ModuleId::new("well-7-hybrid").unwrap();
    start_runs(&mut island, "well-7-hybrid", 3);
    let (mut groups, mut pools) = (0, 0);
    for _ in 0..60 {
        run(&mut island, 1_000);
        let slow = island.readings(&module, true).slow.unwrap();
        groups += slow.groups.values().filter_map(|group| group.power).map(Watts::get).sum::<i64>();
        pools += slow.pools.values().filter_map(|pool| pool.power).map(Watts::get).sum::<i64>();
    }
    let truth = &island.truth().modules[&module];
    let mining: WattSeconds = truth.groups.values().map(|group| group.mining.energy).sum();
    let ai: WattSeconds = truth.runs.values().map(|run| run.ai.energy).sum();
    let unheld: WattSeconds = truth.unheld.values().map(|part| part.energy).sum();
    assert!((mining.get() - groups).abs() < 120, "{mining:?} against {groups}");
    assert!((ai.get() + unheld.get() - pools).abs() < 60, "{ai:?} + {unheld:?} against {pools}");
    let slow = island.readings(&module, true).slow.unwrap();
    assert_eq!(slow.register, Some(truth.total.energy));
    assert_eq!(slow.meter, Some(truth.total.power));
}

#[test]
fn the_same_seed_gives_the_same_run_and_another_seed_another() {
    let truth = |seed| -> Truth {
        let (mut island, _) = busy_fleet(seed, Options::default());
        start_runs(&mut island, "well-7-gpu", 4);
        run(&mut island, 60_000);
        fault(&mut island, "genset-trip@0s");
        run(&mut island, 5_000);
        island.truth()
    };
    assert_eq!(truth(5), truth(5));
    assert_ne!(truth(5), truth(6));
}

#[test]
fn a_restart_at_the_same_time_sees_the_same_gas() {
    let (mut first, modules) = busy_fleet(9, Options::default());
    let mut second =
        Island::new(first.site(), &modules, 9, first.now() + Span::minutes(10), Options::default());
    run(&mut first, 600_000);
    for _ in 0..20 {
        assert_eq!(first.truth().gas.inflow, second.truth().gas.inflow, "at {}", first.now());
        run(&mut first, 7_000);
        run(&mut second, 7_000);
    }
}

#[test]
fn gas_that_comes_in_is_burnt_flared_or_held() {
    let (mut island, _) = busy_fleet(3, Options::default());
    let held = island.truth().gas.buffer;
    run(&mut island, 1_800_000);
    let gas = island.truth().gas;
    let gap = gas.supplied - gas.burnt - gas.flared - (gas.buffer - held);
    assert!(gap.get().abs() <= 3, "{gap:?} of {:?}", gas.supplied);
    assert!(gas.burnt.get() > 0);
    // 700 kW at 9,500 Btu/kWh and some 5 % part-load surcharge: 224 × 0.7 × 1.05 = 165 MCF/day, 3.4 MCF in half an hour.
    assert!((3_000..3_800).contains(&gas.burnt.get()), "{:?}", gas.burnt);
}

#[test]
fn a_loss_of_all_gas_derates_and_then_blacks_out() {
    let (mut island, _) = busy_fleet(3, steady());
    fault(&mut island, "gas-loss@0s");
    run(&mut island, 60_000);
    assert!(island.frequency().is_some(), "the buffer lasts for some minutes");
    // 60 % of 4,000 scf at 165 MCF/day = 115 scf/min: 21 minutes.
    let took = run_until(&mut island, 3_600_000, |island| island.frequency().is_none()).unwrap();
    assert!((900_000..1_800_000).contains(&took), "{took} ms");
    let truth = island.truth();
    assert_eq!((truth.blackouts, truth.load), (1, Watts::ZERO));
    assert!(truth.gensets.values().all(|set| set.state == GensetState::Tripped));
}

#[test]
fn gas_drops_and_single_sources_are_lost_and_come_back() {
    let (mut island, _) = busy_fleet(3, steady());
    let inflow = |island: &Island| island.truth().gas.inflow.get() / 1_000;
    assert_eq!(inflow(&island), 240);
    fault(&mut island, "gas-loss@0s:well-7/w3");
    assert_eq!(inflow(&island), 180);
    fault(&mut island, "gas-drop@0s:50");
    assert_eq!(inflow(&island), 90);
    fault(&mut island, "gas-back@0s");
    assert_eq!(inflow(&island), 120);
    assert!(!island.fault(&"gas-loss@0s:mesa-2/w1".parse().unwrap()), "another site's fault");
    assert!(!island.fault(&"gas-loss@0s:w9".parse().unwrap()), "no such source");
    assert!(!island.fault(&"leader-loss@0s".parse().unwrap()), "no physics");
}

#[test]
fn a_blackout_ends_runs_without_a_checkpoint_and_a_black_start_brings_power_back_in_turn() {
    let (mut island, _) = busy_fleet(3, steady());
    start_runs(&mut island, "well-7-gpu", 2);
    run(&mut island, 60_000);
    for set in ["g1", "g2", "g3", "g4"] {
        fault(&mut island, &format!("genset-trip@0s:{set}"));
    }
    run(&mut island, 100);
    let truth = island.truth();
    let runs = &truth.modules[&ModuleId::new("well-7-gpu").unwrap()].runs;
    assert!(runs.values().all(|run| run.report.phase == RunPhase::Stopped && run.lost));
    assert!(runs.values().all(|run| run.report.progress > run.report.saved));
    assert_eq!((truth.blackouts, truth.firm_lost, truth.load), (1, 1, Watts::ZERO));
    let module = ModuleId::new("well-7-hybrid").unwrap();
    let start = Command::StartGenset(GensetId::new("g1").unwrap());
    island.apply(&module, std::slice::from_ref(&start));
    assert_eq!(island.truth().refused, 1, "it is tripped");
    fault(&mut island, "genset-reset@0s:g1");
    island.apply(&module, &[start]);
    run(&mut island, 140_000);
    let truth = island.truth();
    assert!(truth.energized && truth.blackouts == 1, "nadir {}", truth.nadir);
    assert!(truth.modules.values().all(|module| module.energized));
    let feeders = truth.modules.values().flat_map(|module| module.groups.values());
    assert!(feeders.clone().count() == 5 && feeders.clone().all(|group| group.feeder == FeederState::Open));
}

#[test]
fn sets_start_and_stop_by_request_of_the_wired_module_alone() {
    let (mut island, _) = busy_fleet(3, Options { online: Some(3), ..steady() });
    let (wired, other) = (ModuleId::new("well-7-hybrid").unwrap(), ModuleId::new("well-7-gpu").unwrap());
    let g4 = GensetId::new("g4").unwrap();
    island.apply(&other, &[Command::StartGenset(g4.clone())]);
    run(&mut island, 1_000);
    assert_eq!(island.truth().gensets[&g4].state, GensetState::Off);
    island.apply(&wired, &[Command::StartGenset(g4.clone())]);
    run(&mut island, 91_000);
    assert_eq!(island.truth().gensets[&g4].state, GensetState::Online);
    run(&mut island, 240_000);
    let truth = island.truth();
    let powers: Vec<i64> = truth.gensets.values().map(|set| set.power.get() / 1_000).collect();
    assert!(powers.windows(2).all(|pair| (pair[0] - pair[1]).abs() <= 1), "they share load: {powers:?}");
    assert!((hertz(truth.nadir) - 60.0).abs() < 0.1 && (hertz(truth.zenith) - 60.0).abs() < 0.1);
    island.apply(&wired, &[Command::StopGenset(GensetId::new("g1").unwrap())]);
    run(&mut island, 240_000);
    assert_eq!(island.truth().gensets[&GensetId::new("g1").unwrap()].state, GensetState::Off);
    assert!(island.truth().energized);
}

#[test]
fn three_sets_carry_on_when_a_quarter_of_the_load_is_within_their_step() {
    // 700 kW on four sets: 175 each; the other three must take 58 each at once, and their step is 60.
    let (mut island, _) = busy_fleet(3, steady());
    fault(&mut island, "genset-trip@0s");
    run(&mut island, 30_000);
    let truth = island.truth();
    assert!(truth.energized && hertz(truth.nadir) > 57.0, "{}", truth.nadir);
    assert!((hertz(truth.frequency.unwrap()) - 60.0).abs() < 0.05, "{:?}", truth.frequency);
}

#[test]
fn neighbours_see_a_breaker_one_tick_later_than_the_wired_module() {
    let (mut island, _) = busy_fleet(3, steady());
    run(&mut island, 1_000);
    fault(&mut island, "genset-trip@0s:g1");
    let closed = |island: &Island, module: &str| {
        let fast = island.readings(&ModuleId::new(module).unwrap(), false).fast;
        fast.gensets[&GensetId::new("g1").unwrap()].closed
    };
    assert_eq!(closed(&island, "well-7-hybrid"), Some(false));
    assert_eq!(closed(&island, "well-7-gpu"), Some(true));
    island.step();
    assert_eq!(closed(&island, "well-7-gpu"), Some(false));
}

#[test]
fn faults_of_modules_do_what_they_say() {
    let (mut island, _) = busy_fleet(3, Options { load_permille: 1_000, ..steady() });
    let (module, group) = (ModuleId::new("well-7-mine").unwrap(), MinerGroupId::new("a").unwrap());
    for text in ["feeder-stuck@0s:well-7-mine/a", "meter-dead@0s:well-7-mine", "miner-liar@0s:well-7-mine/a"]
    {
        fault(&mut island, text);
    }
    island.apply(&module, &[Command::OpenFeeder(group.clone())]);
    run(&mut island, 2_000);
    let readings = island.readings(&module, true);
    assert_eq!(readings.fast.feeders[&group], FeederState::Moving);
    let slow = readings.slow.unwrap();
    assert_eq!((slow.meter, slow.register), (None, None));
    let truth = island.truth().modules[&module].groups[&group];
    assert!(truth.mining.power > Watts::kilo(100), "it still draws");
    assert!(truth.rate.ratio(truth.claimed.unwrap()).unwrap() < 0.61);
    assert_eq!(island.active_rate(&module, &group), truth.rate);
    let each: Hashrate = island.hash_rates(&module, &group).into_iter().sum();
    assert!((each.ratio(truth.rate).unwrap() - 1.0).abs() < 1e-9, "{each}");
}

#[test]
fn a_slower_feeder_than_described_opens_when_it_opens() {
    let options = Options { feeder_opens: Some(Span::new(400)), load_permille: 1_000, ..steady() };
    let (mut island, _) = busy_fleet(3, options);
    let (module, group) = (ModuleId::new("well-7-mine").unwrap(), MinerGroupId::new("a").unwrap());
    let before = island.power(&module);
    island.apply(&module, &[Command::OpenFeeder(group)]);
    run(&mut island, 390);
    assert!((island.power(&module) - before).abs() < Watts::kilo(3));
    run(&mut island, 10);
    assert!(island.power(&module) < before - Watts::kilo(100));
}

#[test]
fn too_little_load_is_recorded_and_trips_nothing() {
    let (mut island, _) = busy_fleet(3, Options { load_permille: 0, ..steady() });
    run(&mut island, 60_000);
    assert_eq!(breaches(&island, BreachKind::MinLoad).len(), 4, "once for each set");
    assert!(island.truth().energized);
}
