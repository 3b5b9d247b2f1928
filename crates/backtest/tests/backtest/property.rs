//! Properties of any day of a small site, whatever comes: drawn by a fixed seed, so that a failure comes back.

use backtest::bound::{Carried, bound};
use backtest::world::Outage;
use backtest::{Kind, World};
use model::fleet::Fleet;
use model::site::GasFlow;
use model::workload::{GpuTime, Tier};
use model::{MicroDollars, Span};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::scene::*;

/// Each case replays a day of 288 plans.
const CASES: u32 = 5;

fn small() -> Fleet {
    Fleet {
        sites: vec![site("well-7", 3)],
        modules: vec![
            module("hybrid", "well-7", true, &[("a", 40), ("b", 40)], &[("dgx", 4)]),
            module("gpu", "well-7", false, &[], &[("dgx", 6)]),
        ],
        offerings: offerings(),
    }
}

prop_compose! {
    fn worlds()(
        orders in prop::collection::vec((0i64..1_400, 0usize..3, 1u32..33, 1i64..600), 0..30),
        gas in prop::collection::vec(0i64..1_300, 24),
        outages in prop::collection::vec((0usize..280, 1usize..60, 1usize..4), 0..3),
    ) -> World {
        let mut world = still(small(), 1);
        world.orders = orders
            .into_iter()
            .map(|(minute, tier, gpus, minutes)| {
                order(minute, [Tier::Firm, Tier::OnDemand, Tier::Spot][tier], gpus, minutes)
            })
            .collect();
        world.orders.sort_by_key(|order| order.at);
        for flows in world.gas.values_mut() {
            for (step, flow) in flows.iter_mut().enumerate() {
                *flow = GasFlow::mcf(180).fraction(gas[step / 12], 1_000);
            }
        }
        world.outages = outages
            .into_iter()
            .map(|(from, length, set)| {
                let genset = id(&format!("g{set}"));
                Outage { from, until: from + length, site: id("well-7"), genset }
            })
            .collect();
        world.outages.sort();
        world
    }
}

fn holds(world: &World, kind: Kind, most: MicroDollars) {
    // Conservation, and no plan that the check refuses.
    let outcome = ran(world, kind);
    let (money, service) = (&outcome.total.money, &outcome.total.service);
    let kept = service.productive >= GpuTime::ZERO && service.wasted >= GpuTime::ZERO;
    assert!(kept && service.firm_missed >= Span::ZERO, "{kind}: {service:?}");
    for earned in [money.mining, money.firm, money.on_demand, money.spot, money.credits] {
        assert!(earned >= MicroDollars::ZERO, "{kind}: {money:?}");
    }
    // Nobody pays for more than was asked, and the dearest GPU-hour bounds what AI earns.
    let asked: GpuTime = world.orders.iter().map(|order| order.amount).sum();
    assert!(service.productive <= asked, "{kind}");
    assert!(
        money.ai() <= service.productive.cost(MicroDollars::cents(295)) + MicroDollars::new(100),
        "{kind}"
    );
    assert!(money.credits <= money.firm, "{kind}");
    assert!(money.net() <= most, "{kind} earns {:?}, above the bound of {most:?}", money.net());
    assert!(service.completed + service.withdrawn <= service.offered, "{kind}");
}

#[test]
fn whatever_comes_books_balance_and_plans_hold() {
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[17; 32]);
    let config = Config { cases: CASES, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, rng);
    let case = |world: World| {
        let most = bound(&world, Carried::Nothing);
        [Kind::AiOnly, Kind::Greedy, Kind::Flareshift].into_iter().for_each(|kind| holds(&world, kind, most));
        Ok(())
    };
    runner.run(&worlds(), case).unwrap();
}
