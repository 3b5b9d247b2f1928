//! Plans again only the islands that an event touched; every other island keeps its plan byte for byte.
//!
//! An event on one island (a set trips, gas falls, a run ends) changes what is best there at once and elsewhere hardly, so the part of
//! the fleet that it touched is planned as a fleet of its own, with the best of those who wait. The rest of the plan in force is
//! taken over as it stands. What is then better elsewhere is found by the next full plan: repairs in a row drift away from it, so
//! timed rounds must plan everything. Assumes that readings elsewhere have hardly moved since; `check` judges the whole as it
//! judges every plan, and where it finds something a full plan is due. Read next: [`crate::plan`].

use std::collections::{BTreeMap, BTreeSet};

use model::plan::{Decision, ModulePlan, Plan, ReasonCode, SitePlan, Subject};
use model::report::Finding;
use model::workload::{Phase, Placement, Workload};
use model::{MicroDollars, ModuleId, SiteId, WorkloadId};

use crate::input::{Input, Link, ModuleInput};
use crate::plan::{self, Planned, plan};
use crate::report::Report;

/// Who waits and is looked at; the others wait for the next full plan. A site starts a few gangs at a time, and 128 keep a repair
/// within some milliseconds.
const WAITING: usize = 128;

/// Decides for the islands that were touched, and takes over the plan in force for all others. `report` is that plan's. Without a
/// plan in force everything is planned.
pub fn repair(input: &Input, report: &Report, touched: &BTreeSet<SiteId>) -> Planned {
    let Some(parent) = &input.parent else { return plan(input) };
    let part = part(input, touched);
    let made = plan::unbounded(&part);
    let decisions = decisions(input, parent, &made.plan);
    let findings = findings(report, &part, made.report.findings);
    let kept = |id: &SiteId| input.sites.contains_key(id) && !part.sites.contains_key(id);
    let mut sites: BTreeMap<SiteId, SitePlan> =
        parent.sites.iter().filter(|(id, _)| kept(id)).map(|(id, site)| (id.clone(), site.clone())).collect();
    let elsewhere: MicroDollars = sites.values().flat_map(|site| &site.steps).map(|step| step.worth).sum();
    let mut views = made.report.sites;
    views.extend(report.sites.iter().filter(|(id, _)| kept(id)).map(|(id, view)| (id.clone(), view.clone())));
    let Plan { generation, parent: number, made: at, input: digest, sites: planned, worth, .. } = made.plan;
    sites.extend(planned);
    let (parent, bound) = (number, parent.bound);
    let worth = worth + elsewhere;
    let plan = Plan { generation, parent, made: at, input: digest, sites, worth, bound, decisions };
    Planned { plan, report: Report { sites: views, findings }, bound: None }
}

/// The part of an input that a repair plans: islands, their modules and runs, and who waits for GPUs as they have them.
pub fn part(input: &Input, touched: &BTreeSet<SiteId>) -> Input {
    let Some(parent) = &input.parent else { return input.clone() };
    let islands = islands(input, parent, touched);
    let here = |module: &ModuleInput| islands.contains(&module.module.site);
    let modules: BTreeMap<ModuleId, ModuleInput> = input
        .modules
        .iter()
        .filter(|(_, given)| here(given))
        .map(|(id, given)| (id.clone(), given.clone()))
        .collect();
    let told = told(parent);
    let stands = |workload: &Workload| match (&workload.status.placement, told.get(&workload.id)) {
        (Some(placement), _) if workload.status.phase.holds() => modules.contains_key(&placement.module),
        (_, Some((_, placement))) => modules.contains_key(&placement.module),
        _ => false,
    };
    let runs = input.workloads.values().filter(|workload| stands(workload));
    let workloads = runs.chain(waiting(input, &modules, &told));
    Input {
        now: input.now,
        parent: Some(Plan {
            input: String::new(),
            sites: parent.sites.iter().filter(|(id, _)| islands.contains(*id)).map(owned).collect(),
            decisions: Vec::new(),
            ..head(parent)
        }),
        sites: input.sites.iter().filter(|(id, _)| islands.contains(*id)).map(owned).collect(),
        workloads: workloads.map(|workload| (workload.id.clone(), workload.clone())).collect(),
        modules,
        market: input.market,
    }
}

fn owned<K: Clone, V: Clone>((key, value): (&K, &V)) -> (K, V) {
    (key.clone(), value.clone())
}

/// A plan without what it decides.
fn head(plan: &Plan) -> Plan {
    let Plan { generation, parent, made, worth, bound, .. } = *plan;
    let (sites, decisions, input) = (BTreeMap::new(), Vec::new(), String::new());
    Plan { generation, parent, made, input, sites, worth, bound, decisions }
}

/// Where the plan in force has each workload run.
fn told(parent: &Plan) -> BTreeMap<&WorkloadId, (&SiteId, &Placement)> {
    let runs = parent.sites.iter().flat_map(|(site, planned)| {
        planned
            .modules
            .values()
            .flat_map(move |module| module.runs.iter().map(move |(id, at)| (id, (site, at))))
    });
    runs.collect()
}

/// The best of those who hold nothing and were told nothing, by promise and price.
fn waiting<'i>(
    input: &'i Input,
    modules: &BTreeMap<ModuleId, ModuleInput>,
    told: &BTreeMap<&WorkloadId, (&SiteId, &Placement)>,
) -> Vec<&'i Workload> {
    let pools = modules.values().flat_map(|given| given.module.pools.values());
    let gpus: BTreeSet<&str> = pools.map(|pool| pool.gpu.as_str()).collect();
    let waits = |workload: &&Workload| {
        workload.status.phase == Phase::Pending
            && gpus.contains(workload.spec.gpu.as_str())
            && !told.contains_key(&workload.id)
    };
    let mut waiting: Vec<&Workload> = input.workloads.values().filter(waits).collect();
    waiting.sort_by_key(|workload| {
        (workload.spec.tier, std::cmp::Reverse(workload.spec.price), workload.created, &workload.id)
    });
    waiting.truncate(WAITING);
    waiting
}

/// Islands to plan: those that were touched, and those whose plan no longer fits the modules and workloads there are.
fn islands(input: &Input, parent: &Plan, touched: &BTreeSet<SiteId>) -> BTreeSet<SiteId> {
    let mut islands: BTreeSet<SiteId> = touched.clone();
    for (id, given) in &input.modules {
        let site = &given.module.site;
        if parent.sites.get(site).is_none_or(|planned| !planned.modules.contains_key(id)) {
            islands.insert(site.clone());
        }
    }
    for (id, site) in &parent.sites {
        let fits = |(module, planned): (&ModuleId, &ModulePlan)| {
            let given = input.modules.get(module).filter(|given| given.module.site == *id);
            given.is_some_and(|given| planned.runs.iter().all(|(run, at)| goes_on(input, given, run, at)))
        };
        if !site.modules.iter().all(fits) {
            islands.insert(id.clone());
        }
    }
    let told = told(parent);
    let untold = input.workloads.values().filter(|workload| {
        workload.status.phase.holds()
            && workload.status.phase != Phase::Stopping
            && !told.contains_key(&workload.id)
    });
    let homes = untold.filter_map(|run| input.modules.get(&run.status.placement.as_ref()?.module));
    islands.extend(homes.map(|given| given.module.site.clone()));
    islands.extend(input.sites.keys().filter(|id| !parent.sites.contains_key(*id)).cloned());
    islands.retain(|id| input.sites.contains_key(id));
    islands
}

/// Whether what the plan in force says of a run can still be said.
fn goes_on(input: &Input, given: &ModuleInput, run: &WorkloadId, at: &Placement) -> bool {
    let Some(workload) = input.workloads.get(run) else { return false };
    let status = &workload.status;
    if workload.cancel || status.phase.is_final() || status.phase == Phase::Stopping {
        return false;
    }
    if !given.link.is_in_touch() {
        return true;
    }
    if status.phase.holds() {
        return status.placement.as_ref() == Some(at) && !given.draining;
    }
    let fresh = input.sites.get(&given.module.site).is_some_and(|site| site.fresh);
    let opens = given.link == Link::Online && !given.cordoned && !given.draining && fresh;
    opens && status.placement.as_ref().is_none_or(|last| last.incarnation < at.incarnation)
}

/// Decisions in order of site and subject, as in a full plan: of the part where it has one, else of the plan in force.
fn decisions(input: &Input, parent: &Plan, made: &Plan) -> Vec<Decision> {
    let mut says: BTreeMap<&Subject, &Decision> =
        parent.decisions.iter().map(|decision| (&decision.subject, decision)).collect();
    for decision in &made.decisions {
        // Who goes on waiting waits for the reason that the whole fleet gave.
        let waits = matches!(&decision.subject, Subject::Workload(id) if made.placement(id).is_none())
            && matches!(
                decision.reason,
                ReasonCode::NoGpus | ReasonCode::NoPower | ReasonCode::NoFirmCapacity
            );
        if !waits || !says.get(&decision.subject).is_some_and(|old| is_waiting(old)) {
            says.insert(&decision.subject, decision);
        }
    }
    let decision = |subject: Subject| {
        let said = says.get(&subject).map(|decision| (*decision).clone());
        said.unwrap_or(Decision {
            subject,
            reason: ReasonCode::Accepted,
            binding: None,
            shadow_price: None,
            rejected: None,
        })
    };
    let mut decisions = Vec::with_capacity(says.len());
    let mut placed: BTreeSet<&WorkloadId> = BTreeSet::new();
    for id in input.sites.keys() {
        let Some(site) = made.sites.get(id).or_else(|| parent.sites.get(id)) else { continue };
        decisions.push(decision(Subject::Site(id.clone())));
        decisions.extend(site.modules.keys().map(|module| decision(Subject::Module(module.clone()))));
        let runs = || site.modules.values().flat_map(|module| module.runs.keys());
        decisions.extend(runs().map(|run| decision(Subject::Workload(run.clone()))));
        placed.extend(runs());
    }
    let waiting = input.workloads.keys().filter(|id| !placed.contains(id));
    decisions.extend(waiting.map(|id| decision(Subject::Workload(id.clone()))));
    decisions
}

fn is_waiting(old: &Decision) -> bool {
    matches!(
        old.reason,
        ReasonCode::NoGpus | ReasonCode::NoPower | ReasonCode::NoFirmCapacity | ReasonCode::StepLimited
    )
}

/// What the part says of itself, and what was said of all else.
fn findings(report: &Report, part: &Input, made: Vec<Finding>) -> Vec<Finding> {
    let sites = part.sites.keys().map(|id| format!("site {id}"));
    let modules = part.modules.keys().map(|id| format!("module {id}"));
    let workloads = part.workloads.keys().map(|id| format!("workload {id}"));
    let subjects: BTreeSet<String> = sites.chain(modules).chain(workloads).collect();
    let mut findings: Vec<Finding> =
        report.findings.iter().filter(|finding| !subjects.contains(&finding.subject)).cloned().collect();
    findings.extend(made.into_iter().filter(|finding| subjects.contains(&finding.subject)));
    findings
}
