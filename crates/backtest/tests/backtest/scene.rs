//! Worlds for tests: a site of equal sets with one module of miners, one of GPUs and a hybrid; steady gas, a steady market, and
//! whatever orders and outages a test asks for.

use std::collections::BTreeMap;

use backtest::world::STEPS_A_DAY;
use backtest::{Before, Kind, Order, Outcome, Strategy, Terms, World, demand, outage, run, synthetic, world};
use model::fleet::Fleet;
use model::fuel::NO_LOAD_PERMILLE;
use model::market::Market;
use model::module::{Actuator, GpuPool, MinerGroup, Module, OperatingPoint, ShedPath};
use model::site::*;
use model::tenant::Offering;
use model::workload::{GpuTime, Tier};
use model::*;

pub const START: Time = Time(1_770_854_400_000);

pub fn id<K: model::id::Kind>(text: &str) -> Id<K> {
    Id::new(text).unwrap()
}

/// Sets of 250 kW with steps of 60 kW; three wells with 110 % of the gas that they burn at full load.
pub fn site(name: &str, sets: usize) -> Site {
    let set = Genset {
        rating: Watts::kilo(250),
        min_load: Watts::kilo(75),
        step: Watts::kilo(60),
        ramp: WattsPerSecond::new(1_250),
        start: Span::secs(90),
        min_run: Span::minutes(30),
        min_off: Span::minutes(10),
        heat_rate: 9_500,
        basis: HeatingBasis::Higher,
        no_load_permille: NO_LOAD_PERMILLE,
        inertia: Span::new(1_200),
        start_cost: MicroDollars::dollars(3),
        hour_cost: MicroDollars::dollars(4),
    };
    let mcf = 20 * i64::try_from(sets).unwrap();
    let well = GasSource { nominal: GasFlow::mcf(mcf), btu_per_scf: 1_020, basis: HeatingBasis::Higher };
    Site {
        id: id(name),
        nominal: Frequency::new(60_000),
        governor: Governor::Isochronous,
        gas: ["w1", "w2", "w3"].map(|name| (id(name), well.clone())).into(),
        buffer: GasBuffer { capacity: GasVolume::new(1_000 * i64::try_from(sets).unwrap()) },
        gensets: (1..=sets).map(|n| (id(&format!("g{n}")), set.clone())).collect(),
        storage: None,
        grid: None,
        load_bank: Watts::ZERO,
        unmanaged: Watts::kilo(10),
        gas_price: MicroDollars::cents(50),
        relay: true,
        simulated: true,
    }
}

pub fn miners(count: u32) -> MinerGroup {
    let point = |watts, tera| OperatingPoint { power: Watts::new(watts), rate: Hashrate::tera(tera) };
    MinerGroup {
        model: "S21".into(),
        count,
        points: vec![point(2_600, 163), point(3_500, 200)],
        standby: Watts::new(25),
        wake: Span::secs(10),
        sleep: Span::secs(5),
        dwell: Span::minutes(5),
        wear: MicroDollars::cents(5),
        shed: ShedPath { actuator: Actuator::Feeder, opens: Some(Span::new(150)), rearm: Span::secs(30) },
        scale: 1,
    }
}

pub fn servers(count: u32) -> GpuPool {
    GpuPool {
        gpu: "h100".into(),
        servers: count,
        gpus: 8,
        idle: Watts::new(2_200),
        active: Watts::new(10_200),
        cap_min: Watts::new(6_000),
        curve: Vec::new(),
    }
}

pub fn module(name: &str, site: &str, wired: bool, groups: &[(&str, u32)], pools: &[(&str, u32)]) -> Module {
    let module = Module {
        id: id(name),
        site: id(site),
        wired,
        limit: Watts::kilo(900),
        cooling: Watts::kilo(900),
        auxiliary: Watts::kilo(8),
        loss_permille: 15,
        groups: groups.iter().map(|(name, count)| (id(name), miners(*count))).collect(),
        pools: pools.iter().map(|(name, count)| (id(name), servers(*count))).collect(),
    };
    assert!(module.most() > Watts::ZERO);
    module
}

pub fn offerings() -> Vec<Offering> {
    let offering = |name: &str, tier, cents| Offering {
        id: id(name),
        tier,
        gpu: "h100".into(),
        price: MicroDollars::cents(cents),
        notice: Span::ZERO,
        sla_permille: 0,
        floor: None,
    };
    vec![
        offering("firm", Tier::Firm, 235),
        offering("on-demand", Tier::OnDemand, 295),
        offering("spot", Tier::Spot, 110),
    ]
}

pub fn market() -> Market {
    Market {
        price: MicroDollars::dollars(66_222),
        difficulty: 125.86e12,
        subsidy: 312_500_000,
        fees_ppm: 6_300,
        pool_fee_ppm: 10_000,
    }
}

/// A world of a fleet in which nothing happens.
pub fn still(fleet: Fleet, days: usize) -> World {
    let steps = days * STEPS_A_DAY;
    let flow = |site: &Site| site.gas.values().map(|well| well.nominal).sum();
    let gas: BTreeMap<SiteId, Vec<GasFlow>> =
        fleet.sites.iter().map(|site| (site.id.clone(), vec![flow(site); steps])).collect();
    World {
        start: START,
        days,
        gas,
        outages: Vec::new(),
        markets: vec![market(); days],
        orders: Vec::new(),
        prices: fleet.offerings.iter().map(|offering| (offering.tier, offering.price)).collect(),
        terms: Terms::default(),
        before: Before::default(),
        fleet,
    }
}

/// One site of four sets: 180 miners of 3.5 kW, 24 servers of 8 GPUs.
pub fn fleet() -> Fleet {
    Fleet {
        sites: vec![site("well-7", 4)],
        modules: vec![
            module("mine", "well-7", false, &[("a", 60), ("b", 60), ("c", 60)], &[]),
            module("gpu", "well-7", false, &[], &[("dgx", 16)]),
            module("hybrid", "well-7", true, &[("a", 30), ("b", 30)], &[("dgx", 8)]),
        ],
        offerings: offerings(),
    }
}

/// A week or so of a middling fleet: noisy gas, sets that break down, jobs of all tiers.
pub fn week(seed: u64, days: usize, load_permille: i64) -> World {
    let mut world = still(fleet(), days);
    let wanted =
        demand::Wanted { seed, load_permille, gpus: world::gpus(&world.fleet), start: world.start, days };
    world.orders = demand::orders(&synthetic::jobs(seed), &wanted).unwrap().orders;
    world.outages = outage::draw(&world.fleet, seed, days);
    for flows in world.gas.values_mut() {
        for (step, flow) in flows.iter_mut().enumerate() {
            *flow = flow.fraction(noise(seed, step), 1_000);
        }
    }
    world
}

/// Slugs of ±20 % over half an hour, and an hour a day at a third of the flow.
fn noise(seed: u64, step: usize) -> i64 {
    let phase = (step as u64 * 17 + seed * 5) % 12;
    let slug = [0, 100, 170, 200, 170, 100, 0, -100, -170, -200, -170, -100][phase as usize];
    let dip = (step + seed as usize * 31) % STEPS_A_DAY < 12;
    if dip { 330 } else { 1_000 + slug }
}

pub fn order(minute: i64, tier: Tier, gpus: u32, minutes: i64) -> Order {
    let amount = GpuTime::of(gpus, Span::minutes(minutes));
    Order { at: START + Span::minutes(minute), tier, gpus, amount, price: None }
}

/// Runs a world, insists that every plan passed its check, and that gas and energy are conserved.
pub fn ran(world: &World, kind: Kind) -> Outcome {
    let outcome = run(world, &Strategy::new(kind)).unwrap();
    assert_eq!(outcome.total.plans.refused, 0, "{kind}: {:?}", outcome.refusal);
    assert_eq!(outcome.total.plans.checked, world.steps() as u64);
    conserved(world, &outcome);
    outcome
}

/// Gas in = burnt + flared + stored, to the cubic foot; gas burnt × heating value ÷ heat rate = energy out, less the share of it that is
/// burnt at no load, and that share of the rating of each set for as long as it ran, to one in two thousand.
pub fn conserved(world: &World, outcome: &Outcome) {
    for tally in outcome.days.iter().chain([&outcome.total]) {
        let gas = &tally.gas;
        assert_eq!(gas.supplied, gas.burnt + gas.flared + gas.stored, "{}", outcome.strategy);
    }
    // All sites of a test have the same gas and sets.
    let site = &world.fleet.sites[0];
    let total = &outcome.total;
    let of_gas = site.electric(GasFlow::new(total.gas.burnt.get())).for_span(Span::hours(24)).as_f64();
    let set = site.gensets.values().next().unwrap();
    let hours = total.money.set_hours.as_f64() / set.hour_cost.as_f64();
    let idle = f64::from(set.no_load_permille) / 1_000.0;
    let turned = idle * hours * set.rating.for_span(Span::hours(1)).as_f64();
    let expected = (1.0 - idle) * total.energy.generated().as_f64() + turned;
    let off = (of_gas / expected.max(1.0) - 1.0).abs();
    assert!(off < 0.0005, "{}: energy and gas differ by {off}", outcome.strategy);
}
