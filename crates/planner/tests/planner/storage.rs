//! Storage in plans: a rung that lets more run, a loan where gas is short, a charge from gas that would be flared; and each rule of
//! its check broken once.

use expect_test::expect;
use model::envelope::RungLoad;
use model::plan::{Plan, StorageTarget};
use model::report::StorageReport;
use model::site::{GasFlow, Storage};
use model::workload::Tier;
use model::{MicroDollars, Span, WattSeconds, Watts, WattsPerSecond};
use planner::{Input, check, diff};

use crate::scene::*;

/// 300 kW and 600 kWh, measured at 100 ms. Its rung counts on 300 kW for five minutes: 25 kWh.
fn storage() -> Storage {
    Storage {
        power: Watts::kilo(300),
        energy: WattSeconds::kilowatt_hours(600),
        efficiency_permille: 880,
        response: Some(Span::new(100)),
        reserve: Span::minutes(5),
        wear: MicroDollars::dollars(20),
    }
}

/// Puts storage that holds so many kWh on the site; the first module is wired.
pub fn fit(input: &mut Input, kwh: i64) {
    let site = input.sites.get_mut(&id("well-7")).unwrap();
    site.site.storage = Some(storage());
    let held = Some(WattSeconds::kilowatt_hours(kwh));
    let report = StorageReport { power: Some(Watts::ZERO), held, ready: true };
    site.report.as_mut().unwrap().storage = Some(report);
    input.modules.values_mut().next().unwrap().module.wired = true;
}

fn told(plan: &Plan) -> Option<i64> {
    plan.sites[&id("well-7")].storage.map(|target| target.power.get() / 1_000)
}

fn rung(plan: &Plan) -> Option<i64> {
    let modules = plan.sites[&id("well-7")].modules.values();
    let mut rungs = modules.flat_map(|module| &module.ladder);
    rungs.find(|rung| rung.load == RungLoad::Storage).map(|rung| rung.watts.get() / 1_000)
}

/// GPUs alone on four sets: 560 kW of idle servers, 2,240 GPUs of a kilowatt each.
fn gpus_alone() -> Input {
    let mut input = fleet();
    input.modules.clear();
    add(&mut input, module("gpu-1", "well-7", &[], &[("p", gpus(140))]));
    add(&mut input, module("gpu-2", "well-7", &[], &[("p", gpus(140))]));
    (1..=30).for_each(|nth| submit(&mut input, workload(&format!("od-{nth}"), Tier::OnDemand, 64, 295)));
    input
}

fn placed(plan: &Plan) -> usize {
    plan.sites.values().flat_map(|site| site.modules.values()).map(|module| module.runs.len()).sum()
}

#[test]
fn without_miners_storage_is_what_lets_more_ai_run() {
    let plan_with = |kwh: Option<i64>, change: fn(&mut Input)| {
        let mut input = gpus_alone();
        if let Some(kwh) = kwh {
            fit(&mut input, kwh);
            storage_of(&mut input).power = Watts::kilo(150);
        }
        change(&mut input);
        let made = planned(&input);
        (placed(&made.plan), rung(&made.plan))
    };
    let (bare, none) = plan_with(None, |_| ());
    let (more, whole) = plan_with(Some(300), |_| ());
    assert_eq!((none, whole), (None, Some(150)), "with gas enough nothing is lent");
    // Without one set 450 kW are taken, so 1,800 kW may run; 150 kW of storage make that 2,400, 2 % kept back. A gang of 64 GPUs is
    // 66 kW at the meter.
    assert!((7..=9).contains(&(more - bare)), "{bare} and {more} gangs");
    let (poor, owed) = plan_with(Some(10), |_| ());
    assert_eq!(owed, Some(120), "10 kWh over five minutes");
    assert!(bare < poor && poor < more, "{bare}, {poor} and {more} gangs");
    // What is not measured, does not answer or is not backed by a relay is no rung.
    for change in [
        (|input| storage_of(input).response = None) as fn(&mut Input),
        |input| storage_of(input).response = Some(Span::new(210)),
        |input| input.sites.values_mut().for_each(|site| site.site.relay = false),
        |input| report_of(input).ready = false,
        |input| report_of(input).held = None,
        |input| report_of(input).power = None,
        |input| input.modules.values_mut().for_each(|module| module.module.wired = false),
    ] {
        assert_eq!(plan_with(Some(300), change), (bare, None));
    }
}

pub fn storage_of(input: &mut Input) -> &mut Storage {
    input.sites.get_mut(&id("well-7")).unwrap().site.storage.as_mut().unwrap()
}

fn report_of(input: &mut Input) -> &mut StorageReport {
    let site = input.sites.get_mut(&id("well-7")).unwrap();
    site.report.as_mut().unwrap().storage.as_mut().unwrap()
}

/// On-demand work beside miners, settled, with storage that holds so many kWh.
fn at_work(kwh: i64) -> (Input, Plan) {
    let mut input = fleet();
    fit(&mut input, kwh);
    submit(&mut input, workload("firm", Tier::Firm, 64, 235));
    (1..=4).for_each(|nth| submit(&mut input, workload(&format!("od-{nth}"), Tier::OnDemand, 96, 295)));
    let (input, made) = settled(&input);
    (input, made.plan)
}

/// What storage lends counts where gas is short; the N-1 reserve beside the work still needs gas, so it does not carry everything.
#[test]
fn storage_carries_work_through_a_lack_of_gas() {
    let stopped = |storage: bool| {
        let (mut input, before) = at_work(300);
        no_buffer(&mut input);
        gas_percent(&mut input, 17);
        if !storage {
            input.sites.get_mut(&id("well-7")).unwrap().site.storage = None;
        }
        let after = planned(&input).plan;
        let site = &after.sites[&id("well-7")];
        let lent = site.storage.map_or(Watts::ZERO, |target| target.power);
        let load = Watts::kilo(30) + site.modules.values().map(|module| module.ceiling).sum();
        // Loads stand within what gas and sets carry and storage is told to give.
        assert!(load <= site.capacity && lent <= Watts::kilo(150));
        (placed(&before) - placed(&after), lent)
    };
    let ((without, none), (with, lent)) = (stopped(false), stopped(true));
    assert!(with < without && lent > Watts::ZERO, "{with} stop with {lent} lent, {without} without");
    assert_eq!(none, Watts::ZERO);
}

fn no_buffer(input: &mut Input) {
    let site = input.sites.get_mut(&id("well-7")).unwrap();
    site.report.as_mut().unwrap().buffer = Some(model::site::GasVolume::ZERO);
}

#[test]
fn it_is_charged_from_gas_that_is_flared_and_below_its_reserve_before_miners() {
    let check = |kwh: i64, flared: i64, miners: bool, expected: i64| {
        let (mut input, _) = at_work(kwh);
        if !miners {
            input.modules.values_mut().for_each(|module| module.module.groups.clear());
        }
        let site = input.sites.get_mut(&id("well-7")).unwrap();
        site.report.as_mut().unwrap().flared = Some(GasFlow::mcf(flared));
        // Without miners fewer sets would do, which take a smaller block.
        site.site.gensets.values_mut().for_each(|set| set.min_run = Span::hours(24));
        let plan = planned(&input).plan;
        assert_eq!(told(&plan), Some(expected), "{kwh} kWh, {flared} MCF flared, miners: {miners}");
    };
    check(300, 0, false, 0);
    check(300, 50, false, -300);
    // 16 kWh are missing to 26.25 (5 % over the reserve): 18.5 kWh taken in a quarter of an hour.
    check(10, 0, false, -73);
    check(10, 0, true, -73);
    // A full one takes nothing.
    check(600, 50, false, 0);
}

#[test]
fn the_story_of_a_gas_stop() {
    let (mut input, before) = at_work(300);
    no_buffer(&mut input);
    gas_percent(&mut input, 17);
    let after = planned(&input);
    let story = diff(&before, &after.plan).into_iter().map(|change| change.to_string());
    let site = story.filter(|line| line.starts_with("site well-7")).collect::<Vec<_>>().join("\n");
    expect![[r#"
        site well-7 capacity: 3880000 W -> 691223 W
        site well-7 firm capacity: 2910000 W -> 663988 W
        site well-7 genset g3: run -> stop
        site well-7 genset g4: run -> stop
        site well-7 loss genset-g1: 667554 W lost, 750000 W absorbed, 522375 W shed -> 344299 W lost, 300000 W absorbed, 75375 W shed
        site well-7 loss genset-g2: 667554 W lost, 750000 W absorbed, 522375 W shed -> 344299 W lost, 300000 W absorbed, 75375 W shed
        site well-7 loss genset-g3: 667554 W lost, 750000 W absorbed, 522375 W shed -> -
        site well-7 loss genset-g4: 667554 W lost, 750000 W absorbed, 522375 W shed -> -
        site well-7 storage: 0 W at 20000 W/s -> 27235 W at 10000 W/s
        site well-7 reason: placed -> gas_short"#]].assert_eq(&site);
}

fn check_found(code: &str, sabotage: impl FnOnce(&mut Input, &mut Plan)) {
    let (mut input, _) = at_work(300);
    let mut plan = planned(&input).plan;
    assert_eq!(check(&plan, &input), []);
    sabotage(&mut input, &mut plan);
    let codes: Vec<String> = check(&plan, &input).into_iter().map(|finding| finding.code).collect();
    assert!(codes.iter().any(|found| found == code), "{code} is not among {codes:?}");
}

fn target(plan: &mut Plan) -> &mut StorageTarget {
    plan.sites.get_mut(&id("well-7")).unwrap().storage.as_mut().unwrap()
}

fn claim(plan: &mut Plan, change: impl Fn(&mut model::envelope::Rung)) {
    let modules = plan.sites.get_mut(&id("well-7")).unwrap().modules.values_mut();
    let rungs = modules.flat_map(|module| &mut module.ladder);
    rungs.filter(|rung| rung.load == RungLoad::Storage).for_each(change);
}

#[test]
fn each_rule_of_storage_is_found_broken() {
    check_found("storage-blind", |input, plan| {
        report_of(input).ready = false;
        target(plan).power = Watts::kilo(10);
    });
    check_found("storage-loss", |_, plan| target(plan).power = Watts::kilo(301));
    check_found("storage-loss", |_, plan| target(plan).power = Watts::kilo(-301));
    check_found("storage-reserve", |input, plan| {
        report_of(input).held = Some(WattSeconds::kilowatt_hours(26));
        target(plan).power = Watts::kilo(100);
    });
    check_found("storage-charge", |input, plan| {
        no_buffer(input);
        gas_percent(input, 30);
        target(plan).power = Watts::kilo(-300);
    });
    check_found("storage-ramp", |_, plan| target(plan).ramp = WattsPerSecond::new(20_001));
    check_found("share-ramp", |_, plan| target(plan).ramp = WattsPerSecond::new(30_000));
    check_found("capacity", |_, plan| {
        let site = plan.sites.get_mut(&id("well-7")).unwrap();
        site.capacity += Watts::kilo(500);
    });
}

#[test]
fn a_rung_that_claims_what_storage_cannot_give_is_found() {
    check_found("rung-overstated", |_, plan| claim(plan, |rung| rung.watts = Watts::kilo(301)));
    check_found("rung-overstated", |_, plan| claim(plan, |rung| rung.opens = Span::new(90)));
    check_found("rung-overstated", |input, _| report_of(input).held = Some(WattSeconds::kilowatt_hours(12)));
    check_found("rung-overstated", |input, _| report_of(input).power = Some(Watts::kilo(200)));
    check_found("rung-overstated", |input, _| {
        input.modules.values_mut().for_each(|module| module.module.wired = false);
    });
    check_found("armed-slow", |_, plan| claim(plan, |rung| rung.opens = Span::new(250)));
}

/// What a plan rests on when storage is all that secures it.
#[test]
fn a_plan_that_loses_its_storage_rung_is_insecure() {
    let mut input = gpus_alone();
    fit(&mut input, 300);
    let (input, _) = settled(&input);
    let mut plan = planned(&input).plan;
    let modules = plan.sites.get_mut(&id("well-7")).unwrap().modules.values_mut();
    modules.for_each(|module| {
        module.ladder.clear();
        module.armed.clear();
    });
    let codes: Vec<String> = check(&plan, &input).into_iter().map(|finding| finding.code).collect();
    assert!(codes.contains(&"n1-unsecured".to_owned()), "{codes:?}");
}
