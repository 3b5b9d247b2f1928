//! Money over years: known answers, what is not built yet is not there, and a contract is judged by what it changes.

use backtest::economics::{Capital, Contract, Economics};
use backtest::years::{self, DAYS_A_MONTH, Month, judge, marginal, stranded};
use backtest::{Kind, Strategy, Tally, World, run};
use model::fleet::Fleet;
use model::workload::{GpuTime, Tier};
use model::{MicroDollars, Span, Work};

use crate::scene::*;

/// No capital, no discount, no fixed costs: what is left is arithmetic of the months.
fn plain() -> Economics {
    let capital = Capital {
        gpu_dollars: 0.0,
        terahash_dollars: 0.0,
        kilowatt_dollars: 0.0,
        module_dollars: 0.0,
        ..Capital::default()
    };
    Economics {
        years: 1,
        discount_percent: 0.0,
        fixed_dollars_per_kilowatt_year: 0.0,
        capital,
        ai_price: Vec::new(),
        ..Economics::default()
    }
}

/// A day's books that earn so many dollars, mined and by AI, with half of 192 GPUs at work.
fn month(mining: i64, ai: i64) -> Month {
    let mut tally = Tally::default();
    tally.money.mining = MicroDollars::dollars(mining);
    tally.money.spot = MicroDollars::dollars(ai);
    tally.work = Work(1_000);
    tally.service.productive = GpuTime::of(192, Span::hours(12));
    Month { tally, days: 1, gpus: 192 }
}

fn near(found: f64, expected: f64) {
    assert!((found - expected).abs() < 1e-6 * expected.abs().max(1.0), "{found}, not {expected}");
}

#[test]
fn a_day_stands_for_its_month_and_capital_for_its_years() {
    let months = vec![month(100, 0); 12];
    near(judge(&plain(), &fleet(), &months).npv_dollars, 1_200.0 * DAYS_A_MONTH);
    // A fleet of 1,000 kW at 12 $ a kW, written off over 12 years: after one year eleven parts are left.
    let capital = Capital { kilowatt_dollars: 12.0, plant_years: 12.0, ..plain().capital };
    let bought = judge(&Economics { capital, ..plain() }, &fleet(), &months);
    near(bought.capital_dollars, 12_000.0);
    near(bought.npv_dollars, 1_200.0 * DAYS_A_MONTH - 12_000.0 + 11_000.0);
    // 3,044 dollars a month pay 12,000 back in the fourth.
    assert_eq!(bought.payback_month, Some(3));
    // Discounted at 21 % a year, money at the end of a year is worth 1 ÷ 1.21.
    let late: Vec<Month> = (0..12).map(|nth| month(if nth == 11 { 121 } else { 0 }, 0)).collect();
    let discounted = Economics { discount_percent: 21.0, ..plain() };
    near(judge(&discounted, &fleet(), &late).npv_dollars, 100.0 * DAYS_A_MONTH);
    let fixed = Economics { fixed_dollars_per_kilowatt_year: 6.0, ..plain() };
    near(judge(&fixed, &fleet(), &months).earned_dollars, 1_200.0 * DAYS_A_MONTH - 6_000.0);
}

#[test]
fn days_that_warm_a_sample_up_count_nothing() {
    let outcome = run(&week(2, 2, 900), &Strategy::new(Kind::Greedy)).unwrap();
    let month = Month::of(&outcome, 1, 192);
    assert_eq!((&month.tally, month.days), (&outcome.days[1], 1));
    assert_eq!(Month::of(&outcome, 0, 192).tally, outcome.total);
}

#[test]
fn the_target_is_met_when_it_is_kept_and_breakeven_is_where_nothing_is_left() {
    // Shares outside mining: 50, 20, 60, 75 %.
    let months: Vec<Month> =
        [(50, 50), (80, 20), (40, 60), (25, 75)].map(|(mining, ai)| month(mining, ai)).into();
    let judged = judge(&plain(), &fleet(), &months);
    assert_eq!(judged.target_month, Some(2), "{:?}", judged.outside_mining);
    // At the first month's price the same work always earns 50: shares of 50, 29, 55, 60 %.
    assert_eq!(judged.target_month_at_first_hashprice, Some(2));
    near(judged.outside_mining_at_first_hashprice[3].unwrap(), 0.6);
    near(judged.utilisation.unwrap(), 0.5);
    let strict = Economics { target_percent: 90.0, ..plain() };
    assert_eq!(judge(&strict, &fleet(), &months).target_month, None);
    // Capital of half of what AI earned and all that mining did: half of the use would do.
    let ai = 205.0 * DAYS_A_MONTH;
    let dollars = 195.0 * DAYS_A_MONTH + ai / 2.0;
    let capital = Capital { kilowatt_dollars: dollars / 1_000.0, plant_years: 1.0, ..plain().capital };
    let costly = Economics { capital, ..plain() };
    // Twelve months, so that nothing is left of the capital; eight of them earn nothing.
    let mut year = months;
    year.resize(12, Month { tally: Tally::default(), ..month(0, 0) });
    let judged = judge(&costly, &fleet(), &year);
    near(judged.npv_dollars, ai / 2.0);
    near(judged.breakeven_utilisation.unwrap(), judged.utilisation.unwrap() / 2.0);
}

#[test]
fn what_is_not_built_is_neither_there_nor_paid_for() {
    let mut world = week(3, 1, 900);
    world.fleet.modules.retain(|module| module.id != id("mine"));
    let economics = Economics { build_out: [(id("hybrid"), 3)].into(), ..plain() };
    let of = |month| years::month(&world, &economics, (month, false), None);
    let names = |fleet: &Fleet| -> Vec<String> {
        fleet
            .modules
            .iter()
            .map(|module| format!("{}{}", module.id, if module.wired { "*" } else { "" }))
            .collect()
    };
    // The wired one comes later, so another one is wired until then.
    assert_eq!(names(&of(2).fleet), ["gpu*"]);
    assert_eq!(names(&of(3).fleet), ["gpu", "hybrid*"]);
    of(2).check().unwrap();
    let capital = Capital { gpu_dollars: 10.0, ..plain().capital };
    let bought = judge(&Economics { capital, ..economics.clone() }, &world.fleet, &vec![month(0, 10); 12]);
    near(bought.capital_dollars, 192.0 * 10.0);
    // Nothing stands there at all: no site either, and a quiet day.
    let later = Economics { build_out: [(id("hybrid"), 3), (id("gpu"), 1)].into(), ..plain() };
    let empty = years::month(&world, &later, (0, false), None);
    assert!(empty.fleet.sites.is_empty());
    let quiet = run(&empty, &Strategy::new(Kind::Flareshift)).unwrap();
    assert_eq!(quiet.total.money.net(), MicroDollars::ZERO);
}

#[test]
fn a_bust_takes_orders_and_prices_and_strands_gpus() {
    let world = week(5, 1, 900);
    let economics = plain();
    let (good, bad) = (
        years::month(&world, &economics, (40, false), None),
        years::month(&world, &economics, (40, true), None),
    );
    assert_eq!(good.orders, world.orders);
    assert!(bad.orders.len() * 10 < good.orders.len() * 6, "{} of {}", bad.orders.len(), good.orders.len());
    assert_eq!(bad.prices[&Tier::Firm], MicroDollars::cents(235).fraction(45, 100));
    let month = |world: &World| {
        let tally = run(world, &Strategy::new(Kind::Flareshift)).unwrap().total;
        Month { tally, days: 1, gpus: 192 }
    };
    let (good, bad) = (month(&good), month(&bad));
    let idle = stranded(std::slice::from_ref(&good), std::slice::from_ref(&bad));
    assert!(idle[0] > 0.05, "{idle:?}");
    assert!(bad.tally.money.mining > good.tally.money.mining, "miners take what GPUs leave");
}

#[test]
fn a_contract_is_worth_what_it_adds_and_its_lowest_price_adds_nothing() {
    let world = still(fleet(), 1);
    let economics = plain();
    let asked = |dollars_per_gpu_hour| Contract {
        gpus: 70,
        gang: 16,
        dollars_per_gpu_hour,
        from_month: 0,
        months: 12,
    };
    let months = |contract: Option<&Contract>| -> Vec<Month> {
        let world = years::month(&world, &economics, (0, false), contract);
        let outcome = run(&world, &Strategy::new(Kind::Flareshift)).unwrap();
        assert_eq!(outcome.total.plans.refused, 0, "{:?}", outcome.refusal);
        vec![Month { tally: outcome.total, days: 1, gpus: 192 }; 12]
    };
    let without = months(None);
    let judged = |contract: &Contract| {
        marginal(&economics, &world.fleet, contract, (&months(Some(contract)), &without))
    };
    let good = judged(&asked(2.0));
    // Four gangs of 16, all day but for a restart of four minutes.
    near(good.served.unwrap(), 1.0 - 4.0 / 1_440.0);
    near(good.gpu_hours, good.served_gpu_hours);
    assert!(good.npv_dollars > 0.0 && good.credit_dollars == 0.0);
    // 64 GPUs of 1,275 W and a loss of 1.5 %.
    assert!((82_000..84_000).contains(&good.firm_watts), "{}", good.firm_watts);
    let lowest = good.lowest_dollars_per_gpu_hour.unwrap();
    assert!((0.01..1.0).contains(&lowest), "what mining would have made of the power: {lowest}");
    let at_lowest = judged(&asked(lowest));
    assert!(at_lowest.npv_dollars.abs() < 0.02 * good.npv_dollars, "{at_lowest:?}");
}
