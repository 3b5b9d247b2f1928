//! How much may hang on one module's main breaker while firm work runs beside it: what its sets can reject at once.

use model::module::GpuPool;
use model::plan::{ReasonCode, Subject};
use model::shell::KILOWATT;
use model::workload::{Phase, Placement, Tier};
use model::{Span, Watts};
use planner::{Input, Link, Planned, explain, plan};

use crate::scene::*;

/// What four sets of 1 MW can reject at an inertia of 1 s while 195 kW stay, which is 4.8 % and so drives the masses for 145 ms:
/// 4 MW × 2.2 Hz ÷ 60 Hz ÷ (1 ÷ 20 + 0.145 s ÷ 2 s).
const MOST: Watts = Watts::kilo(1_207);

/// The usual site with lighter sets, and a mining module that could draw 2.1 MW of its 4.
fn light() -> Input {
    let mut input = fleet();
    let sets = input.sites.get_mut(&id("well-7")).unwrap().site.gensets.values_mut();
    sets.for_each(|set| set.inertia = Span::secs(1));
    let miners = || miners(300, Some(150));
    add(&mut input, large(module("mine", "well-7", &[("a", miners()), ("b", miners())], &[])));
    input
}

fn large(mut given: planner::ModuleInput) -> planner::ModuleInput {
    (given.module.limit, given.module.cooling) = (Watts::kilo(2_500), Watts::kilo(2_400));
    given
}

fn ceiling(made: &Planned, module: &str) -> Watts {
    made.plan.module(&id(module)).unwrap().ceiling
}

fn reason(made: &Planned, run: &str) -> (ReasonCode, String) {
    let about = Subject::Workload(id(run));
    let decision = made.plan.decisions.iter().find(|decision| decision.subject == about).unwrap();
    (decision.reason, decision.binding.clone().unwrap_or_default())
}

fn is_found(made: &Planned, code: &str) -> bool {
    made.report.findings.iter().any(|finding| finding.code == code)
}

/// A gang that runs already, on the first servers of a module's pool.
fn running(input: &mut Input, name: &str, tier: Tier, gpus: u32, module: &str) {
    let mut run = workload(name, tier, gpus, 295);
    run.status.phase = Phase::Running;
    let servers = (0..gpus.div_ceil(8)).map(|server| (server, 8.min(gpus - server * 8))).collect();
    run.status.placement = Some(Placement { module: id(module), pool: id("p"), servers, incarnation: 1 });
    submit(input, run);
}

#[test]
fn a_firm_start_takes_the_miners_beside_it_what_the_sets_could_not_reject() {
    let (mut input, alone) = settled(&light());
    assert!(ceiling(&alone, "mine") > Watts::kilo(2_000), "{}", ceiling(&alone, "mine"));
    submit(&mut input, workload("firm", Tier::Firm, 16, 235));
    let made = planned(&input);
    assert!(made.plan.placement(&id("firm")).is_some(), "{:?}", reason(&made, "firm"));
    assert!(ceiling(&made, "mine") <= MOST && ceiling(&made, "mine") > MOST - Watts::kilo(10));
    let (mut input, again) = settled(&carry_out(&input, &made.plan));
    let now = ceiling(&again, "mine");
    assert!(
        now >= ceiling(&made, "mine") && now < MOST + Watts::kilo(30),
        "{now}: half of what runs stays too"
    );
    let said = explain(&again.plan, &input, &Subject::Module(id("mine"))).operator;
    assert!(said.iter().any(|line| line.contains("what its sets can reject")), "{said:?}");
    input.workloads.clear();
    assert!(ceiling(&settled(&input).1, "mine") > Watts::kilo(2_000), "nothing firm is left to be guarded");
}

/// Kilowatts are held from the day they are ordered, whether a machine stands in the bay or not.
#[test]
fn a_powered_shell_is_not_counted_on_to_draw() {
    let mut input = light();
    let kilowatt = Watts::kilo(8);
    let bays =
        GpuPool { gpu: KILOWATT.into(), idle: Watts::ZERO, active: kilowatt, cap_min: kilowatt, ..gpus(50) };
    add(&mut input, module("shell", "well-7", &[], &[("p", bays)]));
    running(&mut input, "own", Tier::Firm, 400, "shell");
    let own = input.workloads.get_mut(&id("own")).unwrap();
    own.spec.gpu = KILOWATT.into();
    let made = planned(&input);
    assert!(ceiling(&made, "shell") >= Watts::kilo(400));
    let mine = ceiling(&made, "mine");
    assert!(mine > MOST && mine < MOST + Watts::kilo(30), "{mine}: the base of one more module stays");
}

#[test]
fn fewer_sets_reject_less() {
    let mut input = light();
    running(&mut input, "firm", Tier::Firm, 16, "gpu");
    let (mut input, before) = settled(&input);
    trip(&mut input, "g1");
    let made = planned(&input);
    assert!(ceiling(&made, "mine") <= MOST.fraction(4, 5), "{}", ceiling(&made, "mine"));
    assert!(ceiling(&before, "mine") > ceiling(&made, "mine"));
}

/// Whatever hangs on the module that firm work runs on, its loss ends that work.
#[test]
fn firm_work_does_not_bound_its_own_module() {
    let mut input = light();
    input.modules.retain(|name, _| name.as_str() == "mine");
    let groups = [("a", miners(300, Some(150))), ("b", miners(300, Some(150)))];
    add(&mut input, large(module("mine", "well-7", &groups, &[("p", gpus(20))])));
    submit(&mut input, workload("firm", Tier::Firm, 16, 235));
    let (_, made) = settled(&input);
    assert!(made.plan.placement(&id("firm")).is_some());
    assert!(ceiling(&made, "mine") > MOST, "{}", ceiling(&made, "mine"));
}

#[test]
fn a_firm_order_that_starts_nowhere_costs_no_mining() {
    let (mut input, alone) = settled(&light());
    submit(&mut input, workload("firm", Tier::Firm, 400, 235));
    let made = planned(&input);
    assert!(made.plan.placement(&id("firm")).is_none());
    assert_eq!(ceiling(&made, "mine"), ceiling(&alone, "mine"));
}

/// On-demand work of 1.7 MW in one module.
fn crowded() -> Input {
    let mut input = light();
    add(&mut input, large(module("crowd", "well-7", &[("a", miners(20, Some(150)))], &[("p", gpus(170))])));
    for nth in 0..10 {
        let name = format!("od{nth}");
        running(&mut input, &name, Tier::OnDemand, 136, "crowd");
        let run = input.workloads.get_mut(&id(&name)).unwrap();
        run.status.placement.as_mut().unwrap().servers =
            (0..17).map(|server| (nth * 17 + server, 8)).collect();
    }
    input
}

#[test]
fn nothing_firm_starts_beside_runs_that_the_sets_could_not_reject() {
    let mut input = crowded();
    submit(&mut input, workload("firm", Tier::Firm, 16, 235));
    let made = planned(&input);
    let (reason, binding) = reason(&made, "firm");
    assert_eq!((reason, made.plan.placement(&id("firm"))), (ReasonCode::NoFirmCapacity, None), "{binding}");
    assert!(binding.contains("could not reject module crowd"), "{binding}");
    assert!(!is_found(&made, "load-oversized"), "nothing firm is in danger");
}

#[test]
fn runs_go_on_beside_firm_work_and_it_is_said_what_to_change() {
    let mut input = crowded();
    running(&mut input, "firm", Tier::Firm, 16, "gpu");
    submit(&mut input, workload("more", Tier::OnDemand, 8, 900));
    input.modules.get_mut(&id("hybrid")).unwrap().cordoned = true;
    input.modules.get_mut(&id("gpu")).unwrap().cordoned = true;
    let made = planned(&input);
    let crowd = made.plan.module(&id("crowd")).unwrap();
    assert!((0..10).all(|nth| crowd.runs.contains_key(&id(&format!("od{nth}")))), "none of them is stopped");
    assert!(crowd.ceiling > MOST && crowd.miners.values().all(|target| target.awake == 0));
    assert!(made.plan.placement(&id("more")).is_none(), "nothing starts there");
    assert!(is_found(&made, "load-oversized"), "{:?}", made.report.findings);
}

#[test]
fn nothing_firm_starts_beside_a_silent_module_that_may_draw_too_much() {
    let (mut input, _) = settled(&light());
    input.modules.get_mut(&id("mine")).unwrap().link = Link::Lost;
    submit(&mut input, workload("firm", Tier::Firm, 16, 235));
    let made = planned(&input);
    assert_eq!(reason(&made, "firm").0, ReasonCode::NoFirmCapacity);
    assert_eq!(plan(&input), made, "the same again");
}
