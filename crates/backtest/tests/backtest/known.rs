//! Known answers: what one can work out by hand on a site where little happens.

use backtest::world::{Outage, STEPS_A_DAY};
use backtest::{Kind, World};
use model::fleet::Fleet;
use model::site::{GasFlow, GasVolume};
use model::workload::{GpuTime, Tier};
use model::{MicroDollars, Span, WattSeconds, Work};

use crate::scene::*;

/// One site of `sets` with one module of 40 miners and 4 servers.
fn small(sets: usize) -> Fleet {
    Fleet {
        sites: vec![site("well-7", sets)],
        modules: vec![module("hybrid", "well-7", true, &[("a", 40)], &[("dgx", 4)])],
        offerings: offerings(),
    }
}

#[test]
fn steady_mining_earns_what_the_formula_says() {
    let outcome = ran(&still(small(2), 2), Kind::MiningOnly);
    let day = &outcome.days[1];
    // 40 miners of 200 TH/s for a day.
    assert_eq!(day.work, Work(40 * 200_000_000_000_000 * 86_400));
    // 8 PH/s × $/PH/day = (subsidy + fees) × price ÷ (difficulty × 2^32) × 86,400 × 10^15, less the pool's percent.
    let per_petahash = 3.125 * 1.0063 * 66_222.0 / (125.86e12 * 4_294_967_296.0) * 86_400e15;
    let expected = 8.0 * per_petahash * 0.99;
    assert!((day.money.mining.as_f64() / 1e6 - expected).abs() < 0.01, "{} of {expected}", day.money.mining);
    // (40 × 3,500 W + 8 kW) × 1.015 + 10 kW, and no watt for the GPUs that are switched off.
    let load = 148_000 * 1_015 / 1_000 + 10_000;
    let generated = day.energy.generated();
    let least = WattSeconds::new(150_000 * 86_400);
    assert!((generated - WattSeconds::new(load * 86_400)).abs() < WattSeconds::new(10 * 86_400));
    assert!(generated > least && day.energy.dumped == WattSeconds::ZERO, "nothing goes to load banks");
    assert_eq!((day.money.ai(), day.money.set_starts), (MicroDollars::ZERO, MicroDollars::ZERO));
    // One set of 250 kW does: the gas of that at 9,500 Btu/kWh and 1,020 Btu/scf, 12 % of what it burns at full load, and its price.
    let full = load as f64 * 0.88 + 250_000.0 * 0.12;
    let gas = full / 1_000.0 * 24.0 * 9_500.0 / 1_020.0;
    assert!((day.gas.burnt.as_f64() / gas - 1.0).abs() < 0.002, "{} of {gas}", day.gas.burnt);
    assert!((day.money.gas.as_f64() / (gas * 500.0) - 1.0).abs() < 0.002);
}

#[test]
fn a_gang_is_paid_for_its_work_and_misses_nothing() {
    let mut world = still(small(3), 1);
    world.orders = vec![order(7, Tier::Firm, 8, 120), order(8, Tier::Spot, 4, 60)];
    for kind in [Kind::AiOnly, Kind::Flareshift] {
        let outcome = ran(&world, kind);
        let (money, service) = (&outcome.total.money, &outcome.total.service);
        assert_eq!(money.firm, MicroDollars::cents(235 * 16), "{kind}: 8 GPUs for two hours");
        assert_eq!(money.spot, MicroDollars::cents(110 * 4), "{kind}");
        assert_eq!((service.offered, service.completed, service.withdrawn), (2, 2, 0), "{kind}");
        assert_eq!((service.firm_missed, service.wasted), (Span::ZERO, GpuTime::ZERO), "{kind}");
        // Two hours and the four minutes of its start.
        assert_eq!(service.firm_up, Span::minutes(124), "{kind}");
        assert_eq!(money.mining > MicroDollars::ZERO, kind == Kind::Flareshift);
    }
}

#[test]
fn an_order_that_no_pool_holds_is_withdrawn_after_a_day() {
    let mut world = still(small(3), 2);
    world.orders = vec![order(0, Tier::OnDemand, 33, 60)];
    let outcome = ran(&world, Kind::Flareshift);
    let withdrawn: Vec<u64> = outcome.days.iter().map(|day| day.service.withdrawn).collect();
    assert_eq!(withdrawn, vec![0, 1]);
    assert_eq!(outcome.total.money.ai(), MicroDollars::ZERO);
}

/// Two firm gangs run when the first set of four breaks down.
fn with_a_trip(fleet: Fleet) -> World {
    let mut world = still(fleet, 1);
    world.orders = vec![order(0, Tier::Firm, 16, 600), order(0, Tier::Firm, 8, 600)];
    world.outages = vec![Outage { from: 60, until: 120, site: id("well-7"), genset: id("g1") }];
    world
}

#[test]
fn firm_work_survives_the_loss_of_a_set() {
    for kind in [Kind::AiOnly, Kind::StaticSplit, Kind::Greedy, Kind::Flareshift] {
        let outcome = ran(&with_a_trip(fleet()), kind);
        let (service, plant) = (&outcome.total.service, &outcome.total.plant);
        assert_eq!((plant.trips, plant.blackouts, plant.dark_steps), (1, 0, 0), "{kind}");
        assert_eq!((service.cut_off, service.firm_missed), (0, Span::ZERO), "{kind}");
        assert_eq!(outcome.total.money.firm, MicroDollars::cents(235 * 240), "{kind}");
        assert_eq!(outcome.total.money.credits, MicroDollars::ZERO, "{kind}");
    }
}

#[test]
fn a_site_with_one_set_goes_dark_with_it_and_starts_again() {
    let outcome = ran(&with_a_trip(small(1)), Kind::MiningOnly);
    let plant = &outcome.total.plant;
    assert_eq!((plant.trips, plant.blackouts), (1, 1));
    // Sixty steps of repair, then shortest stop and start.
    assert!((60..=66).contains(&plant.dark_steps), "{}", plant.dark_steps);
    assert_eq!(plant.set_starts, 1);
    assert!(outcome.total.money.mining > MicroDollars::ZERO);
}

#[test]
fn without_gas_the_buffer_is_burnt_and_then_the_island_is_dark() {
    let mut world = still(small(2), 1);
    world.orders = vec![order(0, Tier::OnDemand, 8, 900)];
    let (from, until) = (100, 160);
    world.gas.get_mut(&id("well-7")).unwrap()[from..until].fill(GasFlow::ZERO);
    let outcome = ran(&world, Kind::Flareshift);
    let (gas, plant, service) = (&outcome.total.gas, &outcome.total.plant, &outcome.total.service);
    let expected =
        GasVolume::new(120_000).fraction((STEPS_A_DAY - (until - from)) as i64, STEPS_A_DAY as i64);
    assert!((gas.supplied - expected).abs() <= GasVolume::new(1), "{} of {expected}", gas.supplied);
    // The buffer feeds base load and minimum load for some twenty steps; then shortest stop and start follow the gas that is back.
    assert!(
        (30..=(until - from) as u64 + 6).contains(&plant.dark_steps) && plant.set_starts >= 2,
        "{plant:?}"
    );
    assert_eq!(service.completed, 1, "it goes on from its last checkpoint when the island is back");
    assert!(service.power_stopped + service.cut_off >= 1, "{service:?}");
    assert!(gas.stored <= GasVolume::new(800), "a buffer of 2,000 that was full to 60 % at the begin");
}
