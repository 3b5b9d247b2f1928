//! Powered shells: kilowatts are placed, kept, quoted and told like GPUs, and are never taken for them.

use model::module::GpuPool;
use model::plan::{ReasonCode, Subject};
use model::report::GensetState;
use model::shell::KILOWATT;
use model::workload::{Tier, Workload};
use model::{Span, Watts, WorkloadId};
use planner::outlook::{Assumptions, SHELLS, outlook};
use planner::quote::{Request, Risks, Sample, quote};
use planner::{Input, Planned, explain};

use crate::scene::*;

/// So many bays of 100 kW.
fn bays(servers: u32) -> GpuPool {
    GpuPool {
        gpu: KILOWATT.into(),
        servers,
        gpus: 100,
        idle: Watts::ZERO,
        active: Watts::kilo(100),
        cap_min: Watts::kilo(100),
        curve: Vec::new(),
    }
}

/// An order of kilowatts at so many cents each an hour, as the controller writes it.
fn shell(name: &str, tier: Tier, kilowatts: u32, cents: i64) -> Workload {
    let mut order = workload(name, tier, kilowatts, cents);
    order.spec.gpu = KILOWATT.into();
    (order.spec.checkpoint, order.spec.save, order.spec.restart) = (Span::ZERO, Span::minutes(2), Span::ZERO);
    order
}

/// The usual site with 400 kW of bays in a module of their own, and these orders.
fn fleet_with(orders: Vec<Workload>) -> Input {
    let mut input = fleet();
    add(&mut input, module("shell", "well-7", &[], &[("bays", bays(4))]));
    orders.into_iter().for_each(|order| submit(&mut input, order));
    input
}

fn reason(made: &Planned, name: &str) -> ReasonCode {
    let about = Subject::Workload(id(name));
    made.plan.decisions.iter().find(|decision| decision.subject == about).unwrap().reason
}

fn place(made: &Planned, name: &str) -> Option<(String, u32)> {
    let name: WorkloadId = id(name);
    let at = made.plan.placement(&name)?;
    Some((at.module.to_string(), at.servers.iter().map(|(_, units)| units).sum()))
}

#[test]
fn kilowatts_stand_in_bays_and_gpus_in_servers() {
    let orders = vec![
        shell("own", Tier::Firm, 150, 12),
        shell("more", Tier::Spot, 60, 12),
        workload("gang", Tier::Firm, 16, 235),
    ];
    let (input, made) = settled(&fleet_with(orders));
    assert_eq!(place(&made, "own"), Some(("shell".into(), 150)), "of two bays");
    assert_eq!(place(&made, "more"), Some(("shell".into(), 60)));
    assert!(place(&made, "gang").is_some_and(|(module, gpus)| module != "shell" && gpus == 16));
    let ceiling = made.plan.module(&id("shell")).unwrap().ceiling;
    let load = input.modules[&id("shell")].module.with_loss(Watts::kilo(15 + 210));
    assert!(ceiling >= load && ceiling < load + Watts::kilo(10), "{ceiling} for {load}");
    let again = planned(&input);
    assert_eq!((reason(&again, "own"), reason(&again, "more")), (ReasonCode::Kept, ReasonCode::Kept));
}

#[test]
fn a_shell_starts_where_it_pays_more_than_mining_and_fits() {
    let check = |tier: Tier, kilowatts: u32, cents: i64, expected: ReasonCode| {
        let (_, made) = settled(&fleet_with(vec![shell("own", tier, kilowatts, cents)]));
        let found = reason(&made, "own");
        assert_eq!(found, expected, "{tier} {kilowatts} kW at {cents} cents");
    };
    check(Tier::Spot, 100, 30, ReasonCode::Kept);
    check(Tier::Spot, 401, 30, ReasonCode::NoGpus);
    check(Tier::Firm, 1, 1, ReasonCode::Kept);
}

/// Where gas is short a kilowatt earns some eight cents an hour by mining: a shell that pays less waits, as no gang of GPUs would.
#[test]
fn a_shell_that_pays_less_than_mining_waits() {
    let check = |cents: i64, expected: ReasonCode| {
        let mut input = fleet_with(vec![shell("own", Tier::Spot, 200, cents)]);
        let report = input.sites.values_mut().next().unwrap().report.as_mut().unwrap();
        report.gas = Some(model::site::GasFlow::mcf(300));
        let (_, made) = settled(&input);
        assert_eq!(reason(&made, "own"), expected, "{cents} cents");
    };
    check(30, ReasonCode::Kept);
    check(2, ReasonCode::NoPower);
}

#[test]
fn a_firm_shell_stays_up_when_a_set_is_lost() {
    let orders = vec![shell("own", Tier::Firm, 200, 12), workload("gang", Tier::Firm, 64, 235)];
    let (mut input, made) = settled(&fleet_with(orders));
    assert_eq!(place(&made, "own"), Some(("shell".into(), 200)));
    let site = input.sites.values_mut().next().unwrap().report.as_mut().unwrap();
    let set = site.gensets.values_mut().next().unwrap();
    (set.state, set.power) = (GensetState::Tripped, None);
    let made = planned(&input);
    assert_eq!((reason(&made, "own"), reason(&made, "gang")), (ReasonCode::Kept, ReasonCode::Kept));
}

#[test]
fn the_outlook_tells_kilowatts_apart_from_gpus() {
    let (input, _) = settled(&fleet_with(vec![shell("own", Tier::OnDemand, 100, 12)]));
    let ahead = outlook(&input, &Assumptions::default(), None);
    let supply = &ahead.sites[&id("well-7")].supply;
    let kinds: Vec<&str> = supply.iter().map(|supply| supply.gpu.as_str()).collect();
    assert_eq!(kinds, ["h100", "h100", "h100", KILOWATT, KILOWATT, KILOWATT]);
    for kilowatts in supply.iter().filter(|supply| supply.gpu == KILOWATT) {
        let most = kilowatts.hours.iter().map(|hour| hour.gpus.p90).max().unwrap();
        assert!((1..=300).contains(&most), "{most} kW of 300 that are free");
        assert_eq!(kilowatts.starts.iter().map(|start| start.gpus).collect::<Vec<_>>(), SHELLS);
        assert_eq!(kilowatts.starts[3].hour.p90, None, "500 kW never fit into 400");
    }
}

#[test]
fn a_quote_for_kilowatts_prices_a_kilowatt() {
    let (input, _) = settled(&fleet_with(Vec::new()));
    let ask = |kind: &str, units: u32| {
        let request = Request {
            gpu: kind.into(),
            gpus: units,
            term: Span::hours(72),
            tier: Tier::OnDemand,
            deadline: None,
            level: 0,
            sites: None,
            levels: Default::default(),
        };
        quote(&input, &request, &Risks::default(), Sample { draws: 200, seed: 7 })
    };
    let (shell, gang) = (ask(KILOWATT, 100), ask("h100", 8));
    assert_eq!((&shell.refused, shell.site), (&None, Some(id("well-7"))));
    // A GPU of this fleet adds a kilowatt, so both displace the same mining.
    assert_eq!(shell.price.unwrap().power, gang.price.unwrap().power);
    assert_eq!(ask(KILOWATT, 500).site, None);
    assert_eq!(ask("kilowatt-liquid", 10).refused.unwrap().tenant_code(), "no_such_gpu");
}

#[test]
fn who_waits_for_kilowatts_is_not_told_of_gpus() {
    let orders = vec![shell("large", Tier::OnDemand, 1_000, 12), shell("other", Tier::Firm, 10, 12)];
    let mut input = fleet_with(orders);
    input.workloads.get_mut(&id("other")).unwrap().spec.gpu = "kilowatt-liquid".into();
    let made = planned(&input);
    let check = |name: &str, expected: ReasonCode| {
        let told = explain(&made.plan, &input, &Subject::Workload(id(name)));
        assert_eq!(reason(&made, name), expected);
        let lines = [told.tenant, told.operator].concat().join("\n");
        assert!(!lines.contains("GPU"), "{lines}");
    };
    check("large", ReasonCode::NoGpus);
    check("other", ReasonCode::NoSuchGpu);
    let unserved = made.report.findings.iter().find(|finding| finding.code == "firm-unserved").unwrap();
    assert!(unserved.message.starts_with("1 firm workloads with 10 kW wait"), "{unserved}");
}
