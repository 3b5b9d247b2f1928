//! Properties over random fleets and random histories. proptest prints the failing seed and shrinks the history.

use model::report::{FeederState, GensetReport, GensetState, StorageReport, TieReport};
use model::site::{GasFlow, GasVolume};
use model::workload::{Phase, Tier};
use model::{MicroDollars, Span, WattSeconds, Watts};
use planner::{Input, Link, check, diff, plan};
use proptest::prelude::*;

use crate::instances::{Class, instance, size};
use crate::scene::*;

/// Something that happens between two plans. The numbers pick the thing it happens to.
#[derive(Clone, Debug)]
enum Event {
    Gas(i64),
    Buffer(i64),
    Set(usize, u8, i64),
    Link(usize, u8),
    Close(usize, bool),
    Feeder(usize),
    Submit(u8, u32, i64),
    Cancel(usize),
    Price(i64),
    Stale(bool),
    NoReport,
    Flare(i64),
    Storage(i64, i64, bool),
    Grid(Option<i64>, i64, bool),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        1 => (0i64..1_200).prop_map(Event::Gas),
        1 => (0i64..4_000).prop_map(Event::Buffer),
        1 => (0usize..6, 0u8..5, 0i64..90).prop_map(|(set, state, minutes)| Event::Set(set, state, minutes)),
        1 => (0usize..5, 0u8..4).prop_map(|(module, link)| Event::Link(module, link)),
        1 => (0usize..4, any::<bool>()).prop_map(|(module, drain)| Event::Close(module, drain)),
        1 => (0usize..4).prop_map(Event::Feeder),
        4 => (0u8..3, 1u32..60, 1i64..400).prop_map(|(tier, gpus, cents)| Event::Submit(tier, gpus, cents)),
        1 => (0usize..20).prop_map(Event::Cancel),
        1 => (0i64..150_000).prop_map(Event::Price),
        1 => any::<bool>().prop_map(Event::Stale),
        1 => Just(Event::NoReport),
        1 => (0i64..50).prop_map(Event::Flare),
        2 => (0i64..700, -300i64..300, prop::bool::weighted(0.8))
            .prop_map(|(kwh, kilowatts, ready)| Event::Storage(kwh, kilowatts, ready)),
        2 => (prop::option::weighted(0.9, -10i64..4_000), 0i64..4_000, prop::bool::weighted(0.8))
            .prop_map(|(price, load, ready)| Event::Grid(price, load, ready)),
    ]
}

fn tier(index: u8) -> Tier {
    [Tier::Firm, Tier::OnDemand, Tier::Spot][usize::from(index) % 3]
}

fn happen(input: &mut Input, event: &Event, serial: usize) {
    let given = input.sites.get_mut(&id("well-7")).unwrap();
    match event {
        Event::Gas(mcf) => {
            if let Some(report) = &mut given.report {
                report.gas = Some(GasFlow::mcf(*mcf))
            }
        }
        Event::Buffer(scf) => {
            if let Some(report) = &mut given.report {
                report.buffer = Some(GasVolume::new(*scf))
            }
        }
        Event::Set(set, state, minutes) => {
            let states = [
                GensetState::Off,
                GensetState::Starting,
                GensetState::Online,
                GensetState::Stopping,
                GensetState::Tripped,
            ];
            let report = GensetReport {
                state: states[usize::from(*state)],
                power: None,
                for_span: Span::minutes(*minutes),
            };
            let sets = given.report.iter_mut().flat_map(|site| site.gensets.values_mut());
            sets.skip(*set).take(1).for_each(|set| *set = report);
        }
        Event::Link(module, link) => {
            let links = [Link::Online, Link::Stale, Link::Lost, Link::Online];
            input
                .modules
                .values_mut()
                .skip(*module)
                .take(1)
                .for_each(|given| given.link = links[usize::from(*link)]);
        }
        Event::Close(module, drain) => input.modules.values_mut().skip(*module).take(1).for_each(|given| {
            (given.draining, given.cordoned) = (*drain, !*drain);
        }),
        Event::Feeder(module) => input.modules.values_mut().skip(*module).take(1).for_each(|given| {
            let groups = given.report.iter_mut().flat_map(|report| report.groups.values_mut());
            groups.for_each(|group| (group.feeder, group.power) = (FeederState::Open, Some(Watts::ZERO)));
        }),
        Event::Submit(kind, gpus, cents) => {
            submit(input, workload(&format!("w{serial:03}"), tier(*kind), *gpus, *cents))
        }
        Event::Cancel(which) => {
            input.workloads.values_mut().skip(*which).take(1).for_each(|run| run.cancel = true)
        }
        Event::Price(dollars) => input.market.price = MicroDollars::dollars(*dollars),
        Event::Stale(fresh) => given.fresh = *fresh,
        Event::NoReport => given.report = None,
        Event::Flare(mcf) => {
            if let Some(report) = &mut given.report {
                report.flared = Some(GasFlow::mcf(*mcf))
            }
        }
        Event::Storage(kwh, kilowatts, ready) => {
            let held = Some(WattSeconds::kilowatt_hours(*kwh));
            let storage = StorageReport { power: Some(Watts::kilo(*kilowatts)), held, ready: *ready };
            given.report.iter_mut().for_each(|report| report.storage = Some(storage));
        }
        Event::Grid(dollars, load, ready) => {
            let price = dollars.map(MicroDollars::dollars);
            let grid = TieReport { power: None, register: None, price, ready: *ready };
            if let Some(report) = &mut given.report {
                (report.grid, report.load) = (Some(grid), Some(Watts::kilo(*load)));
            }
        }
    }
}

fn start(sets: usize, relay: bool, opens: [Option<i64>; 2], inertia: i64) -> Input {
    let mut input = fleet();
    let mut island = site("well-7", sets);
    island.site.relay = relay;
    for (nth, set) in island.site.gensets.values_mut().enumerate() {
        set.inertia = Span::new(inertia);
        set.rating = Watts::kilo(800 + 150 * nth as i64);
    }
    input.sites.insert(id("well-7"), island);
    input.sites.insert(id("well-8"), site("well-8", 2));
    add(&mut input, module("other", "well-8", &[("a", miners(250, Some(100)))], &[("p", gpus(30))]));
    for given in input.modules.values_mut() {
        for (group, opens) in given.module.groups.values_mut().zip(opens) {
            group.shed.opens = opens.map(Span::new);
        }
    }
    input
}

/// Every workload that a module out of touch holds is unreachable, as the controller would say.
fn reach(input: &mut Input) {
    for run in input.workloads.values_mut() {
        let home = run.status.placement.as_ref().and_then(|placement| input.modules.get(&placement.module));
        let silent = home.is_some_and(|home| !home.link.is_in_touch());
        run.status.phase = match run.status.phase {
            Phase::Running | Phase::Starting if silent => Phase::Unreachable,
            Phase::Unreachable if !silent => Phase::Running,
            other => other,
        };
    }
}

/// 24 histories take about a second; `PROPTEST_CASES` asks for more, as `make fuzz` does.
fn cases() -> u32 {
    let few = if crate::is_whole_run() { 24 } else { 8 };
    std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(few)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_plan_of_every_history_passes_its_check(
        sets in 1usize..6,
        relay in prop::bool::weighted(0.8),
        opens in prop::array::uniform2(prop::option::weighted(0.8, 20i64..300)),
        inertia in 400i64..2_500,
        response in prop::option::weighted(0.7, prop::option::weighted(0.8, 20i64..300)),
        grid in prop::option::weighted(0.5, 0i64..500),
        priced in any::<bool>(),
        events in prop::collection::vec(event(), 1..40),
    ) {
        let mut input = start(sets, relay, opens, inertia);
        if priced {
            input.sites.values_mut().for_each(|site| *site = costly(site.clone()));
        }
        if let Some(import) = grid {
            crate::tie::fit(&mut input, Some(45), 2_000);
            crate::tie::limit(&mut input, import);
        }
        if let Some(response) = response {
            crate::storage::fit(&mut input, 300);
            crate::storage::storage_of(&mut input).response = response.map(Span::new);
        }
        for (serial, event) in events.iter().enumerate() {
            happen(&mut input, event, serial);
            reach(&mut input);
            let made = plan(&input);
            let findings = check(&made.plan, &input);
            prop_assert!(findings.is_empty(), "after {event:?}: {findings:#?}");
            let mut again = input.clone();
            again.parent = Some(made.plan.clone());
            let repeated = plan(&again).plan;
            let changes: Vec<String> = diff(&made.plan, &repeated).iter().map(ToString::to_string).collect();
            prop_assert!(changes.is_empty(), "after {event:?}: {changes:#?}");
            prop_assert_eq!(&plan(&input), &made);
            input = carry_out(&input, &made.plan);
            input.workloads.retain(|_, run| !run.cancel || run.status.phase.holds());
        }
    }

    #[test]
    fn one_more_tenant_never_breaks_a_promise(
        before in prop::collection::vec((0u8..3, 1u32..60, 1i64..400), 1..30),
        (kind, gpus, cents) in (0u8..3, 1u32..200, 1i64..2_000),
        (priced, mcf) in (any::<bool>(), 300i64..1_000),
    ) {
        let mut input = fleet();
        for site in input.sites.values_mut().filter(|_| priced) {
            *site = costly(site.clone());
            site.report.as_mut().unwrap().gas = Some(GasFlow::mcf(mcf));
        }
        for (serial, (kind, gpus, cents)) in before.into_iter().enumerate() {
            submit(&mut input, workload(&format!("w{serial:03}"), tier(kind), gpus, cents));
        }
        let (mut input, made) = settled(&input);
        let promised = input.workloads.values().filter(|run| run.spec.tier != Tier::Spot);
        let promised: Vec<_> = promised.map(|run| run.id.clone()).collect();
        submit(&mut input, workload("late", tier(kind), gpus, cents));
        let after = planned(&input);
        for run in promised.iter().filter(|run| made.plan.placement(run).is_some()) {
            prop_assert_eq!(made.plan.placement(run), after.plan.placement(run));
        }
    }

    /// What the plan in force would earn on the news of now is the least that a new plan earns.
    #[test]
    fn a_plan_is_never_worth_less_than_the_one_before(
        seed in 0u64..1_000_000, gas in 80i64..120, dollars in 10_000i64..150_000, (kind, gpus, cents) in (0u8..3, 1u32..60, 1i64..400),
    ) {
        let mut input = instance(seed, Class::Tight, size(seed));
        input.parent = Some(plan(&input).plan);
        gas_percent(&mut input, gas);
        input.market.price = MicroDollars::dollars(dollars);
        submit(&mut input, workload("late", tier(kind), gpus, cents));
        let of = planner::appraise(&input);
        prop_assert!(of.search >= of.before, "{} < {}", of.search, of.before);
        prop_assert!(of.bound >= of.search, "{} above its bound of {}", of.search, of.bound);
    }

    /// With gas that costs nothing, more of it never lowers what could be earned: its bound stands above every plan with less. Two
    /// bounds cannot be held against each other closer than the dual's own excess, which is up to five per cent.
    #[test]
    fn more_gas_never_lowers_what_could_be_earned(seed in 0u64..1_000_000, gas in 60i64..130, more in 1i64..60) {
        let mut input = instance(seed, Class::Overloaded, size(seed));
        for given in input.sites.values_mut() {
            given.site.gas_price = MicroDollars::ZERO;
        }
        let appraised = |percent: i64| {
            let mut input = input.clone();
            gas_percent(&mut input, percent);
            planner::appraise(&input)
        };
        let (less, most) = (appraised(gas), appraised(gas + more));
        // What goes on is settled by rule before anything is weighed, so only like with like is compared.
        if less.kept == most.kept && less.problem.jobs == most.problem.jobs {
            prop_assert!(most.bound >= less.search, "{} with more, {} with less", most.bound, less.search);
            let (low, high) = (less.bound as f64, most.bound as f64);
            prop_assert!(high >= low * 0.95, "{low} falls to {high}");
        }
    }
}

#[test]
fn an_input_keeps_its_plan_through_json() {
    let mut input = fleet();
    submit(&mut input, workload("w", Tier::Firm, 12, 235));
    let (input, made) = settled(&input);
    let text = serde_json::to_string(&input).unwrap();
    let back: Input = serde_json::from_str(&text).unwrap();
    assert_eq!(back, input);
    assert_eq!(serde_json::to_string(&plan(&back)).unwrap(), serde_json::to_string(&plan(&input)).unwrap());
    assert!(made.bound.is_some_and(|bound| bound.most >= bound.reached));
}
