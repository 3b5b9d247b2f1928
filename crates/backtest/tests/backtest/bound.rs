//! The bound: above every strategy in every world, and not far above the best where the relaxed parts cost little.

use backtest::bound::{Carried, bound};
use backtest::world::{Outage, STEPS_A_DAY};
use backtest::{Kind, Method, Strategy, World, run};
use model::MicroDollars;
use model::site::GasFlow;
use model::workload::Tier;

use crate::scene::*;

/// The best net money of some strategies and of the planner that knows; each stays below the bound.
fn check(world: &World, what: &str, kinds: &[Kind]) -> f64 {
    let most = bound(world, Carried::Nothing);
    let perfect = Strategy { forecast: Method::Perfect, ..Strategy::new(Kind::Flareshift) };
    let asked = kinds.iter().copied().map(Strategy::new).chain([perfect]);
    let best = asked.map(|strategy| {
        let net = run(world, &Strategy { check_every: 0, ..strategy }).unwrap().total.money.net();
        assert!(net <= most, "{what}: {} earns {net:?}, above the bound of {most:?}", strategy.kind);
        net
    });
    best.max().unwrap().as_f64() / most.as_f64().max(1.0)
}

#[test]
fn no_strategy_earns_more_than_the_bound() {
    for (seed, load) in [(1, 900), (2, 1_500), (3, 300)] {
        let reached = check(&week(seed, 1, load), &format!("seed {seed}, load {load}"), &Kind::ALL);
        assert!(reached > 0.7, "seed {seed}, load {load}: only {reached} of the bound is reached");
    }
}

#[test]
fn it_holds_where_gas_is_short_where_sets_are_out_and_where_burning_is_paid_for() {
    let odd = [Kind::MiningOnly, Kind::Flareshift];
    let mut short = week(4, 1, 900);
    for flows in short.gas.values_mut() {
        flows.iter_mut().enumerate().for_each(|(step, flow)| *flow = flow.fraction((step % 5) as i64, 8));
    }
    check(&short, "short of gas", &odd);
    let mut broken = week(5, 1, 900);
    broken.outages = ["g1", "g2", "g3"]
        .map(|set| Outage { from: 20, until: 200, site: id("well-7"), genset: id(set) })
        .into();
    check(&broken, "three sets out", &odd);
    let mut paid = week(6, 1, 900);
    paid.fleet.sites[0].gas_price = -MicroDollars::dollars(2);
    check(&paid, "gas is paid for being burnt", &odd);
    let mut dear = week(6, 1, 900);
    dear.fleet.sites[0].gas_price = MicroDollars::dollars(40);
    check(&dear, "gas costs more than mining earns", &odd);
}

#[test]
fn with_mining_alone_it_is_near_what_is_earned() {
    // No AI, steady gas: only the margin of 3 % for regulation and the first minutes are lost.
    let reached = check(&still(fleet(), 1), "steady", &[Kind::MiningOnly]);
    assert!(reached > 0.9, "{reached}");
}

#[test]
fn bounds_of_windows_add_up_and_more_gas_is_never_worth_less() {
    let world = week(8, 3, 900);
    let whole = run(&world, &Strategy::new(Kind::Flareshift)).unwrap();
    for (day, tally) in whole.days.iter().enumerate() {
        let most = bound(&world.window(day, 1), Carried::Everything);
        assert!(tally.money.net() <= most, "day {day}");
    }
    let mut more = world.clone();
    more.gas.values_mut().flatten().for_each(|flow| *flow = flow.fraction(11, 10));
    // Searches rest at different places, by a thousandth at most.
    let (less, more) = (bound(&world, Carried::Nothing), bound(&more, Carried::Nothing));
    assert!(more.as_f64() > less.as_f64() * 0.999, "{less:?}, {more:?}");
}

#[test]
fn a_world_of_known_worth_is_bounded_to_the_dollar() {
    // One firm order of 64 GPUs for ten hours at 2.35, no gas for miners beyond it: 640 × 2.35 = 1,504 dollars, less fuel and hours.
    let mut world = still(fleet(), 1);
    world.fleet.modules.iter_mut().for_each(|module| module.groups.clear());
    world.orders = vec![order(0, Tier::Firm, 64, 600)];
    let dollars = |world: &World| bound(world, Carried::Nothing).as_f64() / 1e6;
    let most = dollars(&world);
    assert!((1_400.0..=1_504.1).contains(&most), "{most}");
    // Without gas only the buffer is left: 4,000 cubic feet are 430 kWh, and the order and what stands beside it need 1,200.
    let mut dry = world.clone();
    dry.gas.values_mut().flatten().for_each(|flow| *flow = GasFlow::ZERO);
    assert!((0.2..0.6).contains(&(dollars(&dry) / most)), "{}", dollars(&dry));
    // Its last hours do not fit into the day any more: five hours less a restart of four minutes, 64 × 4.93 × 2.35 = 742.
    world.orders = vec![order(24 * 60 - 304, Tier::Firm, 64, 600)];
    let cut = dollars(&world);
    assert!((690.0..=742.2).contains(&cut), "{cut}");
    assert_eq!(world.steps(), STEPS_A_DAY);
}
