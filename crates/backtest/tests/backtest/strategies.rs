//! Strategies against each other on noisy days with outages.

use backtest::outage::{MEAN_UP_HOURS, REPAIR_HOURS};
use backtest::world::STEPS_A_DAY;
use backtest::{Comparison, Kind, Strategy, outage, run};
use model::workload::GpuTime;
use model::{MicroDollars, WattSeconds};

use crate::scene::*;

#[test]
fn on_seeded_days_the_whole_planner_earns_most() {
    for seed in 1..=2 {
        let world = week(seed, 1, 900);
        let outcomes = Kind::ALL.map(|kind| ran(&world, kind));
        let net: Vec<i64> =
            outcomes.iter().map(|outcome| outcome.total.money.net().get() / 1_000_000).collect();
        let [mining, ai, split, greedy, whole] = &outcomes;
        for other in [mining, ai, split, greedy] {
            assert!(whole.total.money.net() >= other.total.money.net(), "{}: {net:?}", other.strategy);
        }
        // AI pays an order of magnitude more a watt, so either mix earns more than mining alone.
        assert!(split.total.money.net() > mining.total.money.net(), "{net:?}");
        assert_eq!(mining.total.money.ai(), MicroDollars::ZERO);
        assert_eq!(mining.total.energy.ai, WattSeconds::ZERO);
        assert_eq!(ai.total.money.mining, MicroDollars::ZERO);
        assert_eq!(greedy.total.service.preempted, 0, "hidden orders displace nobody");
        assert!(whole.total.gas.flared < ai.total.gas.flared, "miners burn what GPUs leave");
        let offered = outcomes.iter().map(|outcome| outcome.total.service.offered);
        assert!(
            offered.clone().all(|count| count == whole.total.service.offered),
            "all meet the same orders"
        );
        let compared = Comparison::of(outcomes.to_vec());
        assert_eq!(compared.best, Some(Kind::Flareshift));
        assert!(compared.strategies.iter().all(|scored| scored.regret >= MicroDollars::ZERO));
    }
}

#[test]
fn the_same_world_gives_the_same_outcome() {
    let strategy = Strategy::new(Kind::Flareshift);
    let first = run(&week(3, 1, 600), &strategy).unwrap();
    assert_eq!(first, run(&week(3, 1, 600), &strategy).unwrap());
    assert_ne!(first, run(&week(4, 1, 600), &strategy).unwrap(), "the seed matters");
    let unchecked = run(&week(3, 1, 600), &Strategy { check_every: 0, ..strategy }).unwrap();
    assert_eq!(unchecked.total.money, first.total.money, "the check changes nothing where it finds nothing");
    assert_eq!(unchecked.total.plans.checked, 0);
}

#[test]
fn the_split_takes_hardware_off_both_sides() {
    let world = still(fleet(), 1);
    let used = |split_permille| {
        let strategy = Strategy { split_permille, ..Strategy::new(Kind::StaticSplit) };
        run(&world, &strategy).unwrap().total
    };
    let (none, some, all) = (used(0), used(400), used(1_000));
    assert!(none.energy.mining > some.energy.mining && some.energy.mining > all.energy.mining);
    assert_eq!(all.energy.mining, WattSeconds::ZERO);
    assert_eq!(none.service.productive, GpuTime::ZERO);
}

#[test]
fn sets_are_out_of_order_one_hour_in_twenty() {
    let days = 2_000;
    let outages = outage::draw(&fleet(), 5, days);
    let steps: usize = outages.iter().map(|outage| outage.until.min(days * STEPS_A_DAY) - outage.from).sum();
    let share = steps as f64 / (4 * days * STEPS_A_DAY) as f64;
    let expected = 25.0 / (MEAN_UP_HOURS + (REPAIR_HOURS.0 + REPAIR_HOURS.1) / 2.0);
    assert!((share - expected).abs() < 0.01, "{share}");
    assert!(outages.windows(2).all(|pair| pair[0].from <= pair[1].from));
    for set in ["g1", "g2", "g3", "g4"] {
        let own: Vec<_> = outages.iter().filter(|outage| outage.genset == id(set)).collect();
        assert!(
            own.windows(2).all(|pair| pair[0].until < pair[1].from),
            "{set} breaks down while it is broken"
        );
    }
}
