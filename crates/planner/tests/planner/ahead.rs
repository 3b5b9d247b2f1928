//! The outlook: ordered quantiles, more gas never sells less, and a reason for every nothing.

use model::site::GasFlow;
use model::workload::{GpuTime, Phase, Placement, Tier};
use model::{MicroDollars, Span, Watts};
use planner::outlook::{Four, GANGS, HOURS, Saleable, Short, SiteOutlook, Supply};
use planner::{Assumptions, GasStep, Input, outlook};
use proptest::prelude::*;

use crate::scene::*;

fn of(input: &Input) -> SiteOutlook {
    outlook(input, &Assumptions::default(), None).sites.remove(&id("well-7")).unwrap()
}

fn supply(site: &SiteOutlook, tier: Tier) -> &Supply {
    site.supply.iter().find(|supply| supply.tier == tier).unwrap()
}

fn gpus(supply: &Supply, of: impl Fn(Four<u32>) -> u32) -> Vec<u32> {
    supply.hours.iter().map(|hour| of(hour.gpus)).collect()
}

fn set_gas(input: &mut Input, mcf: i64) {
    for site in input.sites.values_mut() {
        site.report.as_mut().unwrap().gas = Some(GasFlow::mcf(mcf));
    }
}

fn runs(input: &mut Input, name: &str, tier: Tier, gpus: u32, hours: Option<i64>) {
    let mut run = workload(name, tier, gpus, 200);
    run.spec.amount = hours.map(|hours| GpuTime::of(gpus, Span::hours(hours)));
    run.status.phase = Phase::Running;
    let servers = (0..gpus / 8).map(|server| (server, 8)).collect();
    run.status.placement = Some(Placement { module: id("gpu"), pool: id("p"), servers, incarnation: 1 });
    submit(input, run);
}

/// One well that is dry on one day in twelve: nothing can be counted on in one case of a hundred from tomorrow on, all in nine of ten.
#[test]
fn one_well_is_saleable_at_p10_and_not_for_long_at_p1() {
    let site = of(&fleet());
    let firm = supply(&site, Tier::Firm);
    assert_eq!(firm.hours.len(), HOURS);
    assert!(firm.hours[0].gpus.p1 > 0, "{:?}", firm.hours[0]);
    assert_eq!(firm.hours[24].gpus.p1, 0);
    assert!(firm.hours[71].gpus.p10 > 0 && firm.hours[71].short.is_none(), "{:?}", firm.hours[71]);
    // All 640 GPUs need 640 kW and their servers: gas for 3.9 MW carries them beside N-1 of three sets.
    assert_eq!(firm.hours[0].gpus.p50, 640);
}

#[test]
fn without_gas_nothing_is_sold_and_the_reason_is_gas() {
    let mut input = fleet();
    set_gas(&mut input, 0);
    let site = of(&input);
    for supply in &site.supply {
        let none = Saleable { gpus: Four::default(), short: Some(Short::Gas), least_price: None };
        assert!(supply.hours.iter().all(|hour| *hour == none), "{supply:?}");
        assert!(supply.starts.iter().all(|start| start.hour.array() == [None; 4]), "{supply:?}");
    }
    assert!(site.set_on.values().all(|worth| *worth == MicroDollars::ZERO));
    assert!(site.power.iter().all(|power| power.array() == [Watts::ZERO; 4]));
}

#[test]
fn every_nothing_has_its_reason() {
    let check = |change: &dyn Fn(&mut Input), tier: Tier, expected: Short| {
        let mut input = fleet();
        change(&mut input);
        let site = of(&input);
        let hour = &supply(&site, tier).hours[0];
        assert_eq!((hour.gpus.p10, hour.short), (0, Some(expected)), "{tier}");
    };
    check(&|input| input.sites.get_mut(&id("well-7")).unwrap().report = None, Tier::Firm, Short::Silent);
    check(&|input| set_gas(input, 10), Tier::Spot, Short::Gas);
    check(
        &|input| {
            let site = input.sites.get_mut(&id("well-7")).unwrap();
            let sets = &mut site.report.as_mut().unwrap().gensets;
            sets.iter_mut().skip(1).for_each(|(_, set)| set.state = model::report::GensetState::Tripped);
        },
        Tier::Firm,
        Short::OneSet,
    );
    check(
        &|input| input.modules.values_mut().for_each(|given| given.cordoned = true),
        Tier::OnDemand,
        Short::Gpus,
    );
    check(
        &|input| {
            let module = &mut input.modules.get_mut(&id("gpu")).unwrap().module;
            module.limit = Watts::kilo(138);
            input.modules.remove(&id("hybrid"));
        },
        Tier::Spot,
        Short::ModuleLimit,
    );
}

/// 480 GPUs of the large module are held for three hours: gangs of 64 still start in the other one, and all is free afterwards.
#[test]
fn what_ends_is_sold_from_then_on() {
    let mut input = fleet();
    runs(&mut input, "a", Tier::OnDemand, 480, Some(3));
    let before = supply(&of(&fleet()), Tier::Firm).hours[0].gpus.p50;
    let site = of(&input);
    let sold = gpus(supply(&site, Tier::OnDemand), |four| four.p50);
    assert_eq!((sold[0], sold[2], sold[3], sold[10]), (160, 160, before, before));
    input.modules.get_mut(&id("hybrid")).unwrap().cordoned = true;
    let site = of(&input);
    let starts = &supply(&site, Tier::OnDemand).starts;
    assert_eq!(starts.iter().map(|start| start.gpus).collect::<Vec<_>>(), GANGS);
    assert!(starts.iter().all(|start| start.hour.p50 == Some(3)), "{starts:?}");
}

/// Spot runs give way to firm work and not to spot, and whoever takes their place pays at least what they pay.
#[test]
fn spot_runs_are_for_sale_to_stronger_promises_at_their_price() {
    let mut input = fleet();
    input.modules.get_mut(&id("hybrid")).unwrap().cordoned = true;
    runs(&mut input, "s", Tier::Spot, 480, None);
    let site = of(&input);
    let at = |tier: Tier| supply(&site, tier).hours[5];
    assert_eq!((at(Tier::Spot).gpus.p50, at(Tier::Spot).short), (0, Some(Short::Gpus)));
    assert_eq!(at(Tier::Spot).least_price, None);
    assert_eq!(at(Tier::OnDemand).gpus.p50, 480);
    let least = at(Tier::OnDemand).least_price.unwrap();
    assert!(least >= MicroDollars::cents(200) && least < MicroDollars::cents(230), "{least}");
    let free = supply(&of(&fleet()), Tier::Spot).hours[5].least_price.unwrap();
    assert!(free > MicroDollars::ZERO && free < MicroDollars::cents(30), "{free}");
}

#[test]
fn a_module_is_drained_best_when_its_run_has_ended_and_miners_cost_nothing_where_gas_is_short() {
    let mut input = fleet();
    runs(&mut input, "a", Tier::OnDemand, 480, Some(3));
    let site = of(&input);
    let drain = &site.drains[&id("gpu")];
    assert_eq!((drain.best, drain.loss.len()), (3, HOURS));
    // 480 GPUs at 2 $ for an hour, a restart of 4 minutes and half a checkpoint interval of 5 minutes.
    assert_eq!(drain.loss[0], MicroDollars::dollars(960).fraction(69, 60));
    assert!(site.drains[&id("mine")].loss[0] > MicroDollars::ZERO);
    set_gas(&mut input, 250);
    assert_eq!(of(&input).drains[&id("mine")].loss[0], MicroDollars::ZERO);
}

/// Four sets need 300 kW each at least: 900 MCF a day carry all of them, and all miners; 150 carry two, and wake few.
#[test]
fn power_is_worth_what_sleeping_miners_would_make_of_it_and_a_set_its_start_where_it_is_needed() {
    let check = |mcf: i64, started: usize, cents: std::ops::RangeInclusive<i64>| {
        let mut input = fleet();
        set_gas(&mut input, mcf);
        let site = of(&input);
        let worth: Vec<MicroDollars> = site.set_on.values().copied().collect();
        let needed = worth.iter().filter(|worth| **worth == MicroDollars::dollars(5)).count();
        let others = worth.iter().filter(|worth| **worth == MicroDollars::ZERO).count();
        assert_eq!((needed, others), (started, 4 - started), "{mcf} MCF");
        let price = site.megawatt_hour[0].get() / 10_000;
        assert!(cents.contains(&price), "{mcf} MCF: {price} cents a megawatt-hour");
    };
    check(900, 4, 0..=0);
    // 2.475 kW for 155 TH/s at 33.3 $/PH/day, less 2 % for the pool, 1.5 % loss and gas for 4.70 $.
    check(150, 2, 7_600..=8_300);
    check(0, 0, 7_600..=8_300);
}

#[test]
fn the_forecast_counts_where_it_reaches_and_is_carried_on_from_its_end() {
    let mut input = fleet();
    let step = |p10, p50| GasStep { p10: GasFlow::mcf(p10), p50: GasFlow::mcf(p50) };
    let forecast = [vec![step(800, 900); 12], vec![step(300, 400); 12]].concat();
    input.sites.get_mut(&id("well-7")).unwrap().forecast = forecast;
    let site = of(&input);
    let at = |hour: usize| {
        let power = site.power[hour];
        (power.p10.get() / 1_000, power.p50.get() / 1_000)
    };
    let electric = |mcf| input.sites[&id("well-7")].site.electric(GasFlow::mcf(mcf)).get() / 1_000;
    // Four sets of 1 MW burn no more.
    assert_eq!(at(0), (electric(800), 4_000));
    assert_eq!(at(1), (electric(300), electric(400)));
    assert_eq!(at(30).1, electric(400), "the median is carried on");
    assert!(at(30).0 < electric(300) && at(30).0 > electric(280), "p10 widens: {}", at(30).0);
}

#[test]
fn the_same_input_gives_the_same_outlook_and_the_fleet_is_what_its_sites_are() {
    let mut input = fleet();
    runs(&mut input, "a", Tier::Firm, 64, Some(9));
    let whole = outlook(&input, &Assumptions::default(), None);
    assert_eq!(whole, outlook(&input, &Assumptions::default(), None));
    let site = id("well-7");
    assert_eq!(whole, outlook(&input, &Assumptions::default(), Some(&site)));
    assert!(outlook(&input, &Assumptions::default(), Some(&id("nowhere"))).sites.is_empty());
    input.sites.clear();
    assert!(outlook(&input, &Assumptions::default(), None).sites.is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// At any gas, with any runs and any sets out: quantiles are ordered, and more gas sells no less, hour by hour.
    #[test]
    fn quantiles_are_ordered_and_more_gas_never_sells_less(
        mcf in 0i64..1_100,
        more in 0i64..400,
        held in 0u32..60,
        tier in prop::sample::select(vec![Tier::Firm, Tier::OnDemand, Tier::Spot]),
        out in prop::collection::vec(any::<bool>(), 4),
        ratings in prop::collection::vec(300i64..1_600, 4),
    ) {
        let mut input = fleet();
        let site = input.sites.get_mut(&id("well-7")).unwrap();
        for (set, rating) in site.site.gensets.values_mut().zip(&ratings) {
            set.rating = Watts::kilo(*rating);
            set.min_load = Watts::kilo(rating * 3 / 10);
            set.step = Watts::kilo(rating * 15 / 100);
        }
        for (set, out) in site.report.as_mut().unwrap().gensets.values_mut().zip(&out) {
            if *out { set.state = model::report::GensetState::Tripped }
        }
        set_gas(&mut input, mcf);
        if held > 0 {
            runs(&mut input, "a", tier, held * 8, Some(5));
        }
        let poor = of(&input);
        // With runs in place less gas may stop one and free its GPUs, so that only an idle fleet is compared.
        set_gas(&mut input, mcf + more);
        let rich = of(&input);
        for (poor, rich) in poor.supply.iter().zip(&rich.supply) {
            for (hour, (less, more)) in poor.hours.iter().zip(&rich.hours).enumerate() {
                prop_assert!(less.gpus.array().is_sorted(), "{hour}: {less:?}");
                prop_assert_eq!(less.short.is_some(), less.gpus.p10 == 0);
                if held == 0 {
                    let pairs = less.gpus.array().into_iter().zip(more.gpus.array());
                    prop_assert!(pairs.clone().all(|(less, more)| less <= more), "{hour}: {less:?} {more:?}");
                }
            }
            for start in &poor.starts {
                let hours = start.hour.array().map(|hour| hour.map_or(u32::MAX, |hour| hour));
                prop_assert!(hours.iter().rev().is_sorted(), "{start:?}");
            }
        }
    }
}
