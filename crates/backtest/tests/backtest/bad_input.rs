//! Worlds that do not fit together are refused, and say what to change.

use backtest::{Kind, Strategy, World, run};
use model::Watts;
use model::workload::Tier;

use crate::scene::*;

fn check(change: impl Fn(&mut World), part: &str) {
    let mut world = still(fleet(), 2);
    change(&mut world);
    let error = run(&world, &Strategy::new(Kind::Flareshift)).expect_err(part).to_string();
    assert!(error.contains(part), "{error}");
}

#[test]
fn what_does_not_fit_together_is_refused() {
    check(|world| world.days = 0, "there are 0 days to replay; choose 1 to 3660");
    check(|world| world.days = 4_000, "there are 4000 days");
    check(|world| world.fleet.modules[0].limit = Watts::ZERO, "module mine [no-limit]: has no power limit");
    check(|world| world.gas.clear(), "site well-7 has gas for 0 steps, not for 576");
    check(|world| world.markets.truncate(1), "there are prices for 1 days, not for 2");
    let late_first = vec![order(60, Tier::Spot, 1, 60), order(0, Tier::Spot, 1, 60)];
    check(move |world| world.orders = late_first.clone(), "orders do not stand in order of time");
}

#[test]
fn a_market_nobody_knows_and_a_tier_nobody_sells_earn_nothing() {
    let mut world = still(fleet(), 1);
    world.markets[0].difficulty = f64::NAN;
    world.orders = vec![order(0, Tier::Spot, 8, 60)];
    world.prices.remove(&Tier::Spot);
    let total = ran(&world, Kind::Flareshift).total;
    assert_eq!(total.money.revenue().get(), 0);
    assert_eq!((total.service.offered, total.service.withdrawn), (1, 1));
}

#[test]
fn a_fleet_without_sites_is_a_quiet_day() {
    let mut world = still(fleet(), 1);
    world.fleet.sites.clear();
    world.fleet.modules.clear();
    let outcome = run(&world, &Strategy::new(Kind::Flareshift)).unwrap();
    assert_eq!(outcome.total.money.net().get(), 0);
    assert_eq!(outcome.total.plans.made, 288);
}
