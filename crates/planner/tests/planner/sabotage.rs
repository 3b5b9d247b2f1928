//! Breaks a good plan in one way at a time; the check must name the break by its code.

use model::envelope::RungLoad;
use model::module::Actuator;
use model::plan::{ModulePlan, Plan, ReasonCode, SitePlan};
use model::report::GensetState;
use model::workload::{Phase, Tier};
use model::{Span, Watts};
use planner::{Input, Link, check};

use crate::scene::*;

/// A site at work: miners drawing, a firm, an on-demand and a spot run, everything at its target.
fn scene() -> (Input, Plan) {
    let mut input = fleet();
    submit(&mut input, workload("firm", Tier::Firm, 16, 235));
    submit(&mut input, workload("od", Tier::OnDemand, 16, 295));
    submit(&mut input, workload("spot", Tier::Spot, 8, 150));
    let (input, made) = settled(&input);
    assert!(made.plan.sites[&id("well-7")].contingencies.values().any(|loss| loss.shed > Watts::ZERO));
    (input, made.plan)
}

fn check_found(code: &str, sabotage: impl FnOnce(&mut Input, &mut Plan)) {
    let (mut input, mut plan) = scene();
    let mut sane = planned(&input).plan;
    assert!(check(&sane, &input).is_empty());
    sabotage(&mut input, &mut sane);
    std::mem::swap(&mut plan, &mut sane);
    let codes: Vec<String> = check(&plan, &input).into_iter().map(|finding| finding.code).collect();
    assert!(codes.iter().any(|found| found == code), "{code} is not among {codes:?}");
}

fn site_of(plan: &mut Plan) -> &mut SitePlan {
    plan.sites.get_mut(&id("well-7")).unwrap()
}

fn module_of<'p>(plan: &'p mut Plan, name: &str) -> &'p mut ModulePlan {
    site_of(plan).modules.get_mut(&id(name)).unwrap()
}

fn home(plan: &Plan, run: &str) -> String {
    plan.placement(&id(run)).unwrap().module.to_string()
}

#[test]
fn structure() {
    check_found("missing-site", |_, plan| plan.sites.clear());
    check_found("missing-module", |_, plan| {
        site_of(plan).modules.remove(&id("mine"));
    });
    check_found("unknown-module", |input, _| {
        input.modules.remove(&id("mine"));
    });
    check_found("lineage", |_, plan| plan.generation = 0);
    check_found("steps", |_, plan| site_of(plan).steps.truncate(3));
    check_found("fallback-missing", |_, plan| module_of(plan, "mine").fallback.clear());
    check_found("miners-target", |_, plan| {
        module_of(plan, "mine").miners.values_mut().for_each(|target| target.awake = 999);
    });
}

#[test]
fn power() {
    check_found("ceilings", |_, plan| site_of(plan).capacity = Watts::kilo(500));
    check_found("capacity", |_, plan| site_of(plan).capacity += Watts::kilo(400));
    check_found("firm-capacity", |_, plan| site_of(plan).firm_capacity += Watts::kilo(400));
    check_found("fallback", |_, plan| module_of(plan, "mine").fallback[0].ceiling = Watts::kilo(3_000));
    check_found("module-limit", |_, plan| module_of(plan, "gpu").ceiling = Watts::kilo(1_501));
    check_found("ai-floor", |_, plan| module_of(plan, "gpu").ai_floor = Watts::kilo(1_499));
    check_found("draw-above-ceiling", |_, plan| module_of(plan, "mine").ceiling = Watts::kilo(50));
    check_found("raised-blind", |input, plan| {
        input.modules.get_mut(&id("mine")).unwrap().link = Link::Stale;
        module_of(plan, "mine").ceiling += Watts::new(1);
    });
    check_found("reserved-lost", |input, plan| {
        input.modules.get_mut(&id("mine")).unwrap().link = Link::Lost;
        module_of(plan, "mine").ceiling = Watts::ZERO;
    });
}

#[test]
fn reserve() {
    check_found("armed-missing", |_, plan| site_of(plan).contingencies.clear());
    check_found("armed-short", |_, plan| {
        site_of(plan).modules.values_mut().for_each(|module| module.armed.clear());
    });
    check_found("armed-index", |_, plan| {
        module_of(plan, "mine").armed.values_mut().for_each(|rungs| rungs.push(77));
        module_of(plan, "mine").armed.insert(id("genset-g1"), vec![77]);
    });
    check_found("armed-slow", |input, plan| {
        let groups = input.modules.values_mut().flat_map(|given| given.module.groups.values_mut());
        groups.for_each(|group| group.shed.actuator = Actuator::Api);
        let _ = plan;
    });
    check_found("rung-overstated", |_, plan| {
        // More than the half hundredth by which a claim may lie below what is drawn.
        module_of(plan, "mine").ladder[0].watts += Watts::kilo(5);
    });
    check_found("rung-overstated", |_, plan| module_of(plan, "mine").ladder[0].opens = Span::new(10));
    check_found("n1-unsecured", |input, _| input.sites.get_mut(&id("well-7")).unwrap().site.relay = false);
    check_found("nadir", |input, _| {
        let sets = input.sites.get_mut(&id("well-7")).unwrap().site.gensets.values_mut();
        sets.for_each(|set| set.inertia = Span::new(300));
    });
    check_found("firm-shed", |_, plan| {
        let at = home(plan, "firm");
        let pool = plan.placement(&id("firm")).unwrap().pool.clone();
        let mut rung = module_of(plan, "mine").ladder[0].clone();
        (rung.load, rung.actuator) = (RungLoad::Pool(pool), Actuator::Cap);
        module_of(plan, &at).ladder.push(rung);
    });
    check_found("n1-unsecured", |_, plan| {
        site_of(plan).modules.values_mut().for_each(|module| {
            module.miners.values_mut().for_each(|target| target.awake = 0);
            module.ladder.iter_mut().for_each(|rung| rung.watts = Watts::ZERO);
        });
    });
    check_found("n1-start", |input, _| {
        input.workloads.get_mut(&id("spot")).unwrap().status.phase = Phase::Pending;
        input.sites.get_mut(&id("well-7")).unwrap().site.unmanaged = Watts::kilo(1_900);
        for given in input.modules.values_mut() {
            given
                .report
                .as_mut()
                .unwrap()
                .groups
                .values_mut()
                .for_each(|group| group.power = Some(Watts::ZERO));
        }
    });
    check_found("firm-oversold", |input, plan| {
        input.workloads.get_mut(&id("firm")).unwrap().status.phase = Phase::Pending;
        site_of(plan).firm_capacity = Watts::kilo(50);
    });
}

#[test]
fn beside() {
    check_found("load-loss", |_, plan| module_of(plan, "mine").ceiling = Watts::kilo(2_400));
    let light = |input: &mut Input| {
        let sets = input.sites.get_mut(&id("well-7")).unwrap().site.gensets.values_mut();
        sets.for_each(|set| set.inertia = Span::new(300));
    };
    check_found("load-loss", |input, _| light(input));
    check_found("load-loss-start", |input, _| {
        light(input);
        input.workloads.get_mut(&id("firm")).unwrap().status.phase = Phase::Pending;
    });
    check_found("load-loss-start", |input, plan| {
        input.modules.get_mut(&id("mine")).unwrap().link = Link::Lost;
        module_of(plan, "mine").ceiling = Watts::kilo(2_400);
        input.workloads.get_mut(&id("firm")).unwrap().status.phase = Phase::Pending;
    });
}

#[test]
fn gensets() {
    check_found("share-step", |_, plan| module_of(plan, "mine").share.step += Watts::kilo(300));
    check_found("share-ramp", |_, plan| {
        let share = &mut module_of(plan, "mine").share;
        share.ramp = share.ramp.times(9);
    });
    check_found("set-missing", |_, plan| {
        site_of(plan).gensets.remove(&id("g1"));
    });
    for (state, runs, code) in [
        (GensetState::Online, false, "set-min-run"),
        (GensetState::Starting, false, "set-min-run"),
        (GensetState::Off, true, "set-min-off"),
        (GensetState::Tripped, true, "set-tripped"),
    ] {
        check_found(code, |input, plan| {
            let report = input.sites.get_mut(&id("well-7")).unwrap().report.as_mut().unwrap();
            let set = report.gensets.get_mut(&id("g1")).unwrap();
            (set.state, set.for_span) = (state, Span::minutes(1));
            site_of(plan).gensets.insert(id("g1"), runs);
        });
    }
    check_found("gang-step", |input, _| {
        input.workloads.get_mut(&id("spot")).unwrap().status.phase = Phase::Pending;
        input.workloads.get_mut(&id("spot")).unwrap().spec.gpus = 400;
    });
    check_found("min-load", |_, plan| {
        for module in site_of(plan).modules.values_mut() {
            module.miners.values_mut().for_each(|target| target.awake = 0);
            module.ceiling = Watts::kilo(200);
        }
    });
}

#[test]
fn runs() {
    check_found("run-twice", |_, plan| {
        let placement = plan.placement(&id("firm")).unwrap().clone();
        module_of(plan, "mine").runs.insert(id("firm"), placement);
    });
    check_found("run-unknown", |input, _| {
        input.workloads.remove(&id("firm"));
    });
    check_found("gpu-type", |input, _| input.workloads.get_mut(&id("od")).unwrap().spec.gpu = "z1".into());
    check_found("gang", |input, _| input.workloads.get_mut(&id("od")).unwrap().spec.gpus = 17);
    check_found("gpu-twice", |_, plan| {
        let spot = plan.placement(&id("spot")).unwrap().servers.clone();
        let at = home(plan, "spot");
        assert_eq!(at, home(plan, "od"), "the scene packs them tightly");
        let od = module_of(plan, &at).runs.get_mut(&id("od")).unwrap();
        od.servers = vec![(spot[0].0, 16)];
    });
    check_found("run-moved", |_, plan| {
        let at = home(plan, "od");
        module_of(plan, &at).runs.get_mut(&id("od")).unwrap().incarnation += 1;
    });
    check_found("run-ended", |input, _| input.workloads.get_mut(&id("od")).unwrap().cancel = true);
    check_found("start-closed", |input, plan| {
        input.workloads.get_mut(&id("od")).unwrap().status.phase = Phase::Pending;
        input.modules.get_mut(&id(&home(plan, "od"))).unwrap().cordoned = true;
    });
    check_found("incarnation", |input, _| {
        input.workloads.get_mut(&id("od")).unwrap().status.phase = Phase::Pending;
    });
    check_found("run-elsewhere", |input, _| {
        let run = input.workloads.get_mut(&id("od")).unwrap();
        run.status.placement.as_mut().unwrap().module = id("mine");
        input.modules.get_mut(&id("mine")).unwrap().link = Link::Lost;
    });
    check_found("stop-unexplained", |_, plan| {
        let at = home(plan, "od");
        module_of(plan, &at).runs.remove(&id("od"));
    });
    check_found("thrash", |input, plan| {
        let at = home(plan, "spot");
        module_of(plan, &at).runs.remove(&id("spot"));
        let about = model::plan::Subject::Workload(id("spot"));
        plan.decisions.iter_mut().find(|d| d.subject == about).unwrap().reason = ReasonCode::Preempted;
        let run = input.workloads.get_mut(&id("spot")).unwrap();
        run.status.preempted = Some(NOW);
        run.status.progress_at_preemption = run.status.progress;
    });
}
