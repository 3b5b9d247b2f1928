//! Forecasts in a replay: they are shown to the planner, they do not know the future, and their losses rank them.

use backtest::forecast::score::{Score, Subject, scores};
use backtest::world::{Outage, STEPS_A_DAY};
use backtest::{Kind, Method, Strategy, World, run};
use model::site::GasFlow;

use crate::scene::*;

fn under(world: &World, forecast: Method) -> backtest::Outcome {
    let outcome = run(world, &Strategy { forecast, ..Strategy::new(Kind::Flareshift) }).unwrap();
    assert_eq!(outcome.total.plans.refused, 0, "{forecast}: {:?}", outcome.refusal);
    conserved(world, &outcome);
    outcome
}

/// Two worlds that are the same for a day, and then differ in everything.
fn twins() -> [World; 2] {
    let first = week(7, 2, 900);
    let mut second = first.clone();
    for flows in second.gas.values_mut() {
        flows[STEPS_A_DAY..].iter_mut().for_each(|flow| *flow = GasFlow::mcf(7));
    }
    second.markets[1].price = model::MicroDollars::dollars(1);
    second.orders.retain(|order| order.at < second.start + model::Span::hours(24));
    let genset = id("g2");
    second.outages.retain(|outage| outage.from < STEPS_A_DAY);
    second.outages.push(Outage {
        from: STEPS_A_DAY + 3,
        until: STEPS_A_DAY + 90,
        site: id("well-7"),
        genset,
    });
    [first, second]
}

#[test]
fn what_comes_later_changes_nothing_that_was_decided_before() {
    let [first, second] = twins();
    for forecast in Method::BASELINES {
        let (one, other) = (under(&first, forecast), under(&second, forecast));
        assert_eq!(one.days[0], other.days[0], "{forecast} knows the future");
        assert_ne!(one.days[1], other.days[1], "{forecast}: the days differ");
    }
    // The test can fail: who knows the future decides otherwise in the last hours of the day.
    let (one, other) = (under(&first, Method::Perfect), under(&second, Method::Perfect));
    assert_ne!(one.days[0], other.days[0], "an oracle prepares for what comes");
}

#[test]
fn an_oracle_meets_no_breakdown_by_surprise() {
    let mut world = week(3, 1, 900);
    world.outages = vec![Outage { from: 100, until: 160, site: id("well-7"), genset: id("g1") }];
    assert_eq!(under(&world, Method::Persistence).total.plant.trips, 1);
    assert_eq!(under(&world, Method::Perfect).total.plant.trips, 0);
}

#[test]
fn a_window_sees_what_passed_before_it_and_meets_the_same() {
    let world = week(5, 3, 900);
    let window = world.window(1, 2);
    window.check().unwrap();
    let site = id("well-7");
    let (flows, seen) = window.flows(&site);
    assert_eq!((flows, seen), (world.gas[&site].clone(), STEPS_A_DAY));
    assert_eq!(window.gas[&site], world.gas[&site][STEPS_A_DAY..]);
    assert_eq!((window.markets.len(), window.before.markets.len()), (2, 1));
    assert_eq!(window.before.orders.len() + window.orders.len(), world.orders.len());
    assert!(window.orders.iter().all(|order| order.at >= window.start));
    assert!(window.outages.iter().all(|outage| outage.until > 0 && outage.from < window.steps()));
    assert_eq!(world.window(0, 3).orders, world.orders);
}

fn loss(scores: &[Score], subject: Subject, method: Method, quantile: usize) -> f64 {
    let found: Vec<f64> = scores
        .iter()
        .filter(|score| (score.subject, score.method) == (subject, method))
        .map(|score| score.losses[quantile])
        .collect();
    found.iter().sum::<f64>() / found.len() as f64
}

#[test]
fn losses_say_which_method_knows_what() {
    let world = week(9, 16, 900).window(14, 2);
    let scores = scores(&world);
    for subject in [Subject::Gas, Subject::Demand, Subject::Price] {
        let mut horizons: Vec<_> =
            scores.iter().filter(|score| score.subject == subject).map(|score| score.horizon).collect();
        horizons.dedup();
        assert!(!horizons.is_empty() && horizons.is_sorted(), "{subject:?}: {horizons:?}");
    }
    // Slugs of an hour: quantiles of changes cover them, one value for all quantiles does not.
    for quantile in [0, 2] {
        let of = |method| loss(&scores, Subject::Gas, method, quantile);
        assert!(of(Method::Quantile) < of(Method::Persistence), "p{}", [10, 50, 90][quantile]);
    }
    // A price that never moves is foreseen by everybody.
    assert_eq!(loss(&scores, Subject::Price, Method::Persistence, 1), 0.0);
    assert!(loss(&scores, Subject::Demand, Method::Seasonal, 1) > 0.0);
}
