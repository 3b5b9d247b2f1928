//! Builds inputs for tests: a site of four sets, modules of miners and GPU servers, workloads; and carries a plan out as a plant
//! without faults would, so that the next plan starts from where the first one led.

use std::collections::BTreeMap;

use model::envelope::{Fence, RungLoad};
use model::fuel::NO_LOAD_PERMILLE;
use model::market::Market;
use model::module::{Actuator, GpuPool, MinerGroup, Module, OperatingPoint, ShedPath};
use model::plan::Plan;
use model::report::*;
use model::site::*;
use model::workload::{GpuTime, Phase, Spec, Tier, Workload};
use model::*;
use planner::{Input, Link, ModuleInput, Planned, SiteInput, check, diff, plan};

pub const NOW: Time = Time(1_770_000_000_000);

pub fn id<K: model::id::Kind>(text: &str) -> Id<K> {
    Id::new(text).unwrap()
}

/// Sets of 1 MW with 15 % steps and H = 1.5 s, all online; gas for 3.9 MW. They cost nothing to run, so that all of them go on where
/// nothing else says otherwise; see [`costly`].
pub fn site(name: &str, sets: usize) -> SiteInput {
    let genset = Genset {
        rating: Watts::kilo(1_000),
        min_load: Watts::kilo(300),
        step: Watts::kilo(150),
        ramp: WattsPerSecond::new(20_000),
        start: Span::minutes(2),
        min_run: Span::minutes(30),
        min_off: Span::minutes(10),
        heat_rate: 9_500,
        basis: HeatingBasis::Higher,
        no_load_permille: 0,
        inertia: Span::new(1_500),
        start_cost: MicroDollars::dollars(5),
        hour_cost: MicroDollars::ZERO,
    };
    let sets: Vec<GensetId> = (1..=sets).map(|set| id(&format!("g{set}"))).collect();
    let running = GensetReport { state: GensetState::Online, power: None, for_span: Span::hours(5) };
    let site = Site {
        id: id(name),
        nominal: Frequency::new(60_000),
        governor: Governor::Isochronous,
        gas: [(
            id("w1"),
            GasSource { nominal: GasFlow::mcf(900), btu_per_scf: 1_020, basis: HeatingBasis::Higher },
        )]
        .into(),
        buffer: GasBuffer { capacity: GasVolume::new(4_000) },
        gensets: sets.iter().map(|set| (set.clone(), genset.clone())).collect(),
        storage: None,
        grid: None,
        load_bank: Watts::ZERO,
        unmanaged: Watts::kilo(30),
        gas_price: MicroDollars::cents(50),
        relay: true,
        simulated: true,
    };
    let report = SiteReport {
        frequency: Some(site.nominal),
        gas: Some(GasFlow::mcf(900)),
        buffer: Some(GasVolume::new(2_000)),
        flared: None,
        load: Some(Watts::kilo(500)),
        unmanaged: Some(Watts::kilo(25)),
        gensets: sets.iter().map(|set| (set.clone(), running)).collect(),
        storage: None,
        grid: None,
    };
    SiteInput { site, forecast: Vec::new(), report: Some(report), fresh: true }
}

/// The same sets with what they burn at no load and cost by the hour.
pub fn costly(mut given: SiteInput) -> SiteInput {
    for set in given.site.gensets.values_mut() {
        (set.no_load_permille, set.hour_cost) = (NO_LOAD_PERMILLE, MicroDollars::dollars(8));
    }
    given
}

pub fn miners(count: u32, opens: Option<i64>) -> MinerGroup {
    let point = |power, rate| OperatingPoint { power: Watts::new(power), rate: Hashrate::tera(rate) };
    MinerGroup {
        model: "S21".into(),
        count,
        points: vec![point(2_500, 155), point(3_500, 200)],
        standby: Watts::new(25),
        wake: Span::secs(60),
        sleep: Span::secs(20),
        dwell: Span::minutes(5),
        wear: MicroDollars::cents(1),
        shed: ShedPath { actuator: Actuator::Feeder, opens: opens.map(Span::new), rearm: Span::secs(30) },
        scale: 1,
    }
}

pub fn gpus(servers: u32) -> GpuPool {
    GpuPool {
        gpu: "h100".into(),
        servers,
        gpus: 8,
        idle: Watts::kilo(2),
        active: Watts::kilo(10),
        cap_min: Watts::kilo(6),
        curve: Vec::new(),
    }
}

pub fn module(
    name: &str,
    site: &str,
    groups: &[(&str, MinerGroup)],
    pools: &[(&str, GpuPool)],
) -> ModuleInput {
    let module = Module {
        id: id(name),
        site: id(site),
        wired: false,
        limit: Watts::kilo(1_600),
        cooling: Watts::kilo(1_500),
        auxiliary: Watts::kilo(15),
        loss_permille: 15,
        groups: groups.iter().map(|(name, group)| (id(name), group.clone())).collect(),
        pools: pools.iter().map(|(name, pool)| (id(name), pool.clone())).collect(),
    };
    let report = idle_report(&module);
    ModuleInput { module, link: Link::Online, cordoned: false, draining: false, report: Some(report) }
}

fn idle_report(module: &Module) -> Report {
    let group = |group: &MinerGroup| GroupReport {
        feeder: FeederState::Closed,
        awake: 0,
        point: 0,
        power: Some(group.draw(0, 0)),
        claimed: None,
        verified: None,
        connections: group.count,
    };
    Report {
        module: module.id.clone(),
        sequence: 1,
        stamp: BootStamp::default(),
        at: NOW,
        meter: Some(module.base_draw()),
        switch: Switch::Remote,
        groups: module.groups.iter().map(|(id, config)| (id.clone(), group(config))).collect(),
        pools: module
            .pools
            .iter()
            .map(|(id, pool)| (id.clone(), PoolReport { up: pool.servers, power: None }))
            .collect(),
        runs: BTreeMap::new(),
        envelope: EnvelopeReport {
            fence: Fence::default(),
            generation: 0,
            state: EnvelopeState::None,
            ceiling: Watts::ZERO,
            refused: None,
        },
        site: None,
        findings: Vec::new(),
    }
}

/// One site with a mining, a GPU and a hybrid module, and no work.
pub fn fleet() -> Input {
    let mut input = Input {
        now: NOW,
        parent: None,
        sites: [(id("well-7"), site("well-7", 4))].into(),
        modules: BTreeMap::new(),
        workloads: BTreeMap::new(),
        market: market(),
        touched: None,
    };
    add(&mut input, module("gpu", "well-7", &[], &[("p", gpus(60))]));
    add(&mut input, module("hybrid", "well-7", &[("a", miners(150, Some(150)))], &[("p", gpus(20))]));
    add(
        &mut input,
        module("mine", "well-7", &[("a", miners(200, Some(150))), ("b", miners(200, Some(150)))], &[]),
    );
    input
}

pub fn market() -> Market {
    Market {
        price: MicroDollars::dollars(66_222),
        difficulty: 125.86e12,
        subsidy: 312_500_000,
        fees_ppm: 6_300,
        pool_fee_ppm: 20_000,
    }
}

pub fn add(input: &mut Input, module: ModuleInput) {
    input.modules.insert(module.module.id.clone(), module);
}

pub fn workload(name: &str, tier: Tier, gpus: u32, cents: i64) -> Workload {
    let spec = Spec {
        offering: id("h100"),
        tier,
        gpu: "h100".into(),
        gpus,
        amount: None,
        price: MicroDollars::cents(cents),
        checkpoint: Span::minutes(10),
        save: Span::secs(30),
        restart: Span::minutes(4),
        floor: None,
        affinity: None,
    };
    Workload::accepted(id(name), id("acme"), spec, NOW)
}

pub fn submit(input: &mut Input, workload: Workload) {
    input.workloads.insert(workload.id.clone(), workload);
}

/// Plans and insists that the plan passes its check.
pub fn planned(input: &Input) -> Planned {
    let planned = plan(input);
    let findings = check(&planned.plan, input);
    assert!(findings.is_empty(), "{findings:#?}");
    planned
}

/// The input a plant without faults leads to: miners at their targets, runs running, the plan in force.
pub fn carry_out(input: &Input, plan: &Plan) -> Input {
    let mut next = input.clone();
    next.parent = Some(plan.clone());
    // Looked up once: asking the plan for each would take minutes in a fleet of thousands.
    let modules: BTreeMap<_, _> = plan.sites.values().flat_map(|site| &site.modules).collect();
    let placed: BTreeMap<_, _> = modules.values().flat_map(|module| &module.runs).collect();
    let reasons: BTreeMap<_, _> = plan.decisions.iter().map(|said| (&said.subject, said.reason)).collect();
    for (id, module) in &mut next.modules {
        let (Some(planned), Some(report)) = (modules.get(id), &mut module.report) else { continue };
        for (group, target) in &planned.miners {
            let (Some(config), Some(report)) =
                (module.module.groups.get(group), report.groups.get_mut(group))
            else {
                continue;
            };
            report.feeder = FeederState::Closed;
            report.awake = target.awake;
            report.point = target.point;
            report.power = Some(config.draw(target.awake, target.point.into()));
        }
    }
    for (id, workload) in &mut next.workloads {
        match placed.get(id) {
            Some(&placement) => {
                workload.status.phase = Phase::Running;
                workload.status.placement = Some(placement.clone());
                workload.status.progress += GpuTime::of(workload.spec.gpus, Span::minutes(20));
                workload.status.saved = workload.status.progress;
            }
            None if workload.status.phase.holds() => {
                workload.status.reason = reasons[&model::plan::Subject::Workload(id.clone())];
                workload.status.phase = Phase::Pending;
                if workload.status.reason == model::plan::ReasonCode::Preempted {
                    workload.status.preemptions += 1;
                    workload.status.preempted = Some(input.now);
                    workload.status.progress_at_preemption = workload.status.progress;
                }
            }
            None => {}
        }
    }
    next
}

/// Plans and carries out until nothing changes any more.
pub fn settled(input: &Input) -> (Input, Planned) {
    let mut input = input.clone();
    for _ in 0..8 {
        let made = planned(&input);
        let next = carry_out(&input, &made.plan);
        let again = planned(&next);
        if diff(&made.plan, &again.plan).is_empty() {
            return (carry_out(&next, &again.plan), again);
        }
        input = carry_out(&next, &again.plan);
    }
    panic!("the plan never comes to rest");
}

/// Gas for so much more or less.
pub fn gas_percent(input: &mut Input, percent: i64) {
    for site in input.sites.values_mut() {
        let report = site.report.as_mut().unwrap();
        report.gas = report.gas.map(|gas| gas.fraction(percent, 100));
    }
}

/// A set trips: its breaker is open, and every armed feeder of the plan has opened.
pub fn trip(input: &mut Input, set: &str) {
    let parent = input.parent.clone().unwrap();
    let name: ContingencyId = id(&format!("genset-{set}"));
    for site in input.sites.values_mut() {
        let set = site.report.as_mut().unwrap().gensets.get_mut(&id::<model::id::GensetKind>(set)).unwrap();
        *set = GensetReport { state: GensetState::Tripped, power: None, for_span: Span::secs(1) };
    }
    for (module, given) in &mut input.modules {
        let plan = parent.module(module).unwrap();
        for &index in plan.armed.get(&name).into_iter().flatten() {
            let group = match &plan.ladder[index as usize].load {
                RungLoad::Miners(group) => group,
                RungLoad::Storage => continue,
                RungLoad::Pool(pool) => panic!("pool {pool} was armed"),
            };
            let report = given.report.as_mut().unwrap().groups.get_mut(group).unwrap();
            report.feeder = FeederState::Open;
            report.power = Some(Watts::ZERO);
        }
    }
}
