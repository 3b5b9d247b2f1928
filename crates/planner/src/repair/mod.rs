//! Plans again only the islands that an event touched; every other island keeps its plan byte for byte.
//!
//! An event on one island (a set trips, gas falls, a run ends) changes what is best there at once and elsewhere hardly, so the part of
//! the fleet that it touched is planned as a fleet of its own, with the best of those who wait. The rest of the plan in force is
//! taken over as it stands, shared and not copied. What is then better elsewhere is found by the next full plan: repairs in a row
//! drift away from it, so timed rounds must plan everything.
//!
//! Assumes that the islands named are all that changed: [`unfit`] and [`homes`] help to name them, and `check` judges the whole as it
//! judges every plan; where it finds something a full plan is due. Read next: `census`, then [`crate::plan`].

mod census;
mod reasons;
mod unfit;

use std::collections::{BTreeMap, BTreeSet};

use model::plan::Plan;
use model::report::Finding;
use model::workload::Workload;
use model::{MicroDollars, ModuleId, Shared, SiteId};

use self::census::{Census, Idle};
use self::reasons::Said;
pub use self::unfit::{homes, unfit};
use crate::affinity::Groups;
use crate::input::{Input, ModuleInput};
use crate::plan::{self, Planned};
use crate::report::Report;

/// Decides for the islands that were touched, and takes over the plan in force for all others. `report` is that plan's: the decision
/// does not depend on it. Without a plan in force everything is planned.
pub fn repair(input: &Input, report: &Report, touched: &BTreeSet<SiteId>) -> Planned {
    let Some(parent) = &input.parent else { return plan::whole(input) };
    let said = Said::of(parent);
    let Cut { part, idle } = cut(input, parent, touched, &said);
    let made = plan::unbounded(&part, groups(input, &part));
    let decisions = reasons::renewed(input, &said, &idle, &made.plan);
    let findings = findings(report, &part, made.report.findings);
    // What the plan in force pays for its starts and stops it still pays; its islands that were planned again are weighed anew.
    let before = part.parent.iter().flat_map(|head| head.sites.values()).flat_map(|site| &site.steps);
    let before: MicroDollars = before.map(|step| step.worth).sum();
    let worth = parent.worth - before + made.plan.worth;
    let mut views = kept(&report.sites, input);
    views.extend(made.report.sites);
    let Plan { generation, parent: number, made: at, input: digest, sites: planned, .. } = made.plan;
    let mut sites = kept(&parent.sites, input);
    sites.extend(planned);
    let (parent, bound) = (number, parent.bound);
    let plan = Plan { generation, parent, made: at, input: digest, sites, worth, bound, decisions };
    Planned { plan, report: Report { sites: views, findings }, bound: None }
}

/// The part of an input that a repair plans: islands, their modules and runs, and who waits for GPUs as they have them.
pub fn part(input: &Input, touched: &BTreeSet<SiteId>) -> Input {
    let Some(parent) = &input.parent else { return input.clone() };
    cut(input, parent, touched, &Said::of(parent)).part
}

/// A part, and everybody in the fleet who runs nowhere.
struct Cut<'i> {
    part: Input,
    idle: Vec<Idle<'i>>,
}

fn cut<'i>(input: &'i Input, parent: &Plan, touched: &BTreeSet<SiteId>, said: &Said<'i>) -> Cut<'i> {
    let islands = islands(input, parent, touched);
    let modules = modules(input, parent, &islands);
    // The largest pool of each type; a part has few types.
    let mut largest: Vec<(&str, u32)> = Vec::new();
    for pool in modules.values().flat_map(|given| given.module.pools.values()) {
        match largest.iter_mut().find(|(gpu, _)| *gpu == pool.gpu) {
            Some((_, most)) => *most = pool.total_gpus().max(*most),
            None => largest.push((&pool.gpu, pool.total_gpus())),
        }
    }
    let takes = |one: &Workload| {
        largest.iter().any(|(gpu, most)| *most >= one.spec.gpus && *gpu == one.spec.gpu)
            && (one.spec.affinity.is_none() || islands.iter().any(|site| one.may_run_on(site)))
    };
    let Census { idle, waiting } = census::census(input, said, takes);
    let mut workloads = runs(input, parent, &islands, &modules);
    workloads.extend(idle.iter().map(|one| one.workload).filter(|one| holds_one_of(&modules, one)));
    workloads.extend(waiting);
    let planned = islands.iter().filter_map(|&id| Some(owned(parent.sites.get_key_value(id)?)));
    let part = Input {
        now: input.now,
        parent: Some(Plan { sites: planned.collect(), ..head(parent) }),
        sites: islands.iter().filter_map(|&id| Some(owned(input.sites.get_key_value(id)?))).collect(),
        workloads: workloads.into_iter().map(|one| (one.id.clone(), one.clone())).collect(),
        modules,
        market: input.market,
        touched: None,
    };
    Cut { part, idle }
}

/// The groups of whoever takes part, with what of them stands on islands that go on; nothing is looked up where there are none.
fn groups<'i>(input: &'i Input, part: &Input) -> Groups<'i> {
    let bound = part.workloads.values().any(|one| one.group().is_some());
    if bound { Groups::beside(input, |site| part.sites.contains_key(site)) } else { Groups::default() }
}

/// Islands to plan: those that were touched, and those that the plan in force does not know.
fn islands<'i>(input: &'i Input, parent: &Plan, touched: &BTreeSet<SiteId>) -> BTreeSet<&'i SiteId> {
    let mut islands: BTreeSet<&SiteId> =
        touched.iter().filter_map(|id| Some(input.sites.get_key_value(id)?.0)).collect();
    if !parent.sites.keys().eq(input.sites.keys()) {
        islands.extend(input.sites.keys().filter(|id| !parent.sites.contains_key(*id)));
    }
    islands
}

/// The modules of some islands. Where the plan in force lists all there are, it tells them without a walk through the fleet.
fn modules(input: &Input, parent: &Plan, islands: &BTreeSet<&SiteId>) -> BTreeMap<ModuleId, ModuleInput> {
    let here = |(_, given): &(&ModuleId, &ModuleInput)| islands.contains(&given.module.site);
    let listed: usize = parent.sites.values().map(|site| site.modules.len()).sum();
    if listed != input.modules.len() {
        return input.modules.iter().filter(here).map(owned).collect();
    }
    let named = islands.iter().filter_map(|id| parent.sites.get(*id)).flat_map(|site| site.modules.keys());
    named.filter_map(|id| input.modules.get_key_value(id)).filter(here).map(owned).collect()
}

/// What the plan in force has run on some modules and is not held elsewhere.
fn runs<'i>(
    input: &'i Input,
    parent: &Plan,
    islands: &BTreeSet<&SiteId>,
    modules: &BTreeMap<ModuleId, ModuleInput>,
) -> Vec<&'i Workload> {
    let planned = islands.iter().filter_map(|id| parent.sites.get(*id)).flat_map(|site| &site.modules);
    let told = planned.filter(|(id, _)| modules.contains_key(*id)).flat_map(|(_, module)| module.runs.keys());
    let runs = told.filter_map(|id| input.workloads.get(id));
    runs.filter(|one| !one.status.phase.holds() || holds_one_of(modules, one)).collect()
}

/// Whether somebody holds GPUs of one of these modules.
fn holds_one_of(modules: &BTreeMap<ModuleId, ModuleInput>, one: &Workload) -> bool {
    let at = one.status.placement.as_ref().filter(|_| one.status.phase.holds());
    at.is_some_and(|at| modules.contains_key(&at.module))
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

/// What is known of the sites that there still are.
fn kept<V>(known: &BTreeMap<SiteId, Shared<V>>, input: &Input) -> BTreeMap<SiteId, Shared<V>> {
    let mut kept = known.clone();
    if !known.keys().eq(input.sites.keys()) {
        kept.retain(|id, _| input.sites.contains_key(id));
    }
    kept
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
