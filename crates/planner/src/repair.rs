//! Plans again only the islands that an event touched; every other island keeps its plan byte for byte.
//!
//! An event on one island (a set trips, gas falls, a run ends) changes what is best there at once and elsewhere hardly, so the part of
//! the fleet that it touched is planned as a fleet of its own, with the best of those who wait. The rest of the plan in force is
//! taken over as it stands. What is then better elsewhere is found by the next full plan: repairs in a row drift away from it, so
//! timed rounds must plan everything. Assumes that readings elsewhere have hardly moved since; `check` judges the whole as it
//! judges every plan, and where it finds something a full plan is due. Read next: [`crate::plan`].

use std::collections::{BTreeMap, BTreeSet};

use model::module::Module;
use model::plan::{Decision, Plan, ReasonCode, SitePlan, Subject};
use model::report::Finding;
use model::workload::{Phase, Placement, Workload};
use model::{MicroDollars, ModuleId, PoolId, SiteId, WorkloadId};

use crate::input::{Input, Link, ModuleInput};
use crate::plan::{self, Planned};
use crate::report::Report;

/// Who waits and is looked at; the others wait for the next full plan. A site starts a few gangs at a time, and 128 keep a repair
/// within some milliseconds.
const WAITING: usize = 128;
/// Islands that are tried for each workload that came: where none of them takes it, everything is planned.
const HOMES: usize = 4;
/// Decisions looked through for the next one: more than an island of ten modules has, and it is asked for in order.
const NEAR: usize = 256;

/// Decides for the islands that were touched, and takes over the plan in force for all others. `report` is that plan's: the decision
/// does not depend on it. Without a plan in force everything is planned.
pub fn repair(input: &Input, report: &Report, touched: &BTreeSet<SiteId>) -> Planned {
    let Some(parent) = &input.parent else { return plan::whole(input) };
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
    let rows = rows(input, parent);
    let islands = islands(input, parent, &rows, touched);
    let here = |module: &ModuleInput| islands.contains(&module.module.site);
    let modules: BTreeMap<ModuleId, ModuleInput> = input
        .modules
        .iter()
        .filter(|(_, given)| here(given))
        .map(|(id, given)| (id.clone(), given.clone()))
        .collect();
    let stands = |row: &&Row<'_>| match (row.workload, &row.told) {
        (Some(Workload { status, .. }), _) if status.phase.holds() && status.placement.is_some() => {
            status.placement.as_ref().is_some_and(|at| modules.contains_key(&at.module))
        }
        (_, Some(told)) => modules.contains_key(&told.placement.module),
        _ => false,
    };
    let runs = rows.iter().filter(stands).filter_map(|row| row.workload);
    let workloads = runs.chain(waiting(&modules, &rows));
    Input {
        now: input.now,
        parent: Some(Plan {
            input: String::new(),
            sites: islands.iter().filter_map(|id| Some(owned(parent.sites.get_key_value(id)?))).collect(),
            decisions: Vec::new(),
            ..head(parent)
        }),
        sites: islands.iter().filter_map(|id| Some(owned(input.sites.get_key_value(id)?))).collect(),
        workloads: workloads.map(|workload| (workload.id.clone(), workload.clone())).collect(),
        modules,
        market: input.market,
        touched: None,
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

/// Islands where somebody who came could start, a few for each, tightest first: they have the GPUs free in one pool. Whether the power
/// is there a plan says.
pub fn homes<'i>(input: &'i Input, came: impl IntoIterator<Item = &'i Workload>) -> BTreeSet<SiteId> {
    let mut held: BTreeMap<(&ModuleId, &PoolId), u32> = BTreeMap::new();
    let holding = input.workloads.values().filter(|workload| workload.status.phase.holds());
    for (workload, at) in holding.filter_map(|held| Some((held, held.status.placement.as_ref()?))) {
        *held.entry((&at.module, &at.pool)).or_default() += workload.spec.gpus;
    }
    let opens = |given: &&ModuleInput| {
        let fresh = input.sites.get(&given.module.site).is_some_and(|site| site.fresh);
        given.link == Link::Online && !given.cordoned && !given.draining && fresh
    };
    let modules: Vec<&ModuleInput> = input.modules.values().filter(opens).collect();
    let mut homes = BTreeSet::new();
    for workload in came {
        let mut fits: BTreeSet<(u32, &SiteId)> = BTreeSet::new();
        for Module { id, site, pools, .. } in modules.iter().map(|given| &given.module) {
            let alike = pools.iter().filter(|(_, pool)| pool.gpu == workload.spec.gpu);
            let free = alike.map(|(pool, config)| {
                config.total_gpus().saturating_sub(held.get(&(id, pool)).copied().unwrap_or(0))
            });
            fits.extend(free.filter(|free| *free >= workload.spec.gpus).map(|free| (free, site)));
        }
        let mut found: Vec<&SiteId> = Vec::new();
        for (_, site) in fits {
            if found.len() < HOMES && !found.contains(&site) {
                found.push(site);
            }
        }
        homes.extend(found.into_iter().cloned());
    }
    homes
}

/// A workload, and where the plan in force has it run: at least one of both.
struct Row<'i> {
    workload: Option<&'i Workload>,
    told: Option<Told<'i>>,
}

/// Where the plan in force has a workload run.
struct Told<'i> {
    id: &'i WorkloadId,
    site: &'i SiteId,
    placement: &'i Placement,
    /// The module, if it still stands there.
    given: Option<&'i ModuleInput>,
}

/// Everybody in order of id. Both sides are walked once: ids in a fleet are long and alike, so looking each up costs more than all
/// the rest of a repair.
fn rows<'i>(input: &'i Input, parent: &'i Plan) -> Vec<Row<'i>> {
    let mut told: Vec<Told<'i>> = Vec::new();
    for (site, planned) in &parent.sites {
        for (module, plan) in planned.modules.iter().filter(|(_, plan)| !plan.runs.is_empty()) {
            let given = input.modules.get(module).filter(|given| given.module.site == *site);
            told.extend(plan.runs.iter().map(|(id, placement)| Told { id, site, placement, given }));
        }
    }
    // Stable: of two places of one run, which no plan has, the last counts.
    told.sort_by_key(|told| told.id);
    let mut told = told.into_iter().peekable();
    let mut rows = Vec::with_capacity(input.workloads.len());
    for (id, workload) in &input.workloads {
        while let Some(gone) = told.next_if(|told| told.id < id) {
            rows.push(Row { workload: None, told: Some(gone) });
        }
        let mut here = None;
        while let Some(same) = told.next_if(|told| told.id == id) {
            here = Some(same);
        }
        rows.push(Row { workload: Some(workload), told: here });
    }
    rows.extend(told.map(|gone| Row { workload: None, told: Some(gone) }));
    rows
}

/// The best of those who hold nothing and were told nothing, by promise and price.
fn waiting<'i>(modules: &BTreeMap<ModuleId, ModuleInput>, rows: &[Row<'i>]) -> Vec<&'i Workload> {
    let pools = modules.values().flat_map(|given| given.module.pools.values());
    let gpus: BTreeSet<&str> = pools.map(|pool| pool.gpu.as_str()).collect();
    let waits = |workload: &&Workload| {
        workload.status.phase == Phase::Pending && gpus.contains(workload.spec.gpu.as_str())
    };
    let untold = rows.iter().filter(|row| row.told.is_none()).filter_map(|row| row.workload);
    let mut waiting: Vec<&Workload> = untold.filter(waits).collect();
    waiting.sort_by_key(|workload| {
        (workload.spec.tier, std::cmp::Reverse(workload.spec.price), workload.created, &workload.id)
    });
    waiting.truncate(WAITING);
    waiting
}

/// Islands to plan: those that were touched, and those whose plan no longer fits the modules and workloads there are.
fn islands<'i>(
    input: &'i Input,
    parent: &'i Plan,
    rows: &[Row<'i>],
    touched: &'i BTreeSet<SiteId>,
) -> BTreeSet<SiteId> {
    let mut islands: BTreeSet<&SiteId> = touched.iter().collect();
    for (id, given) in &input.modules {
        let site = &given.module.site;
        if !islands.contains(site)
            && parent.sites.get(site).is_none_or(|planned| !planned.modules.contains_key(id))
        {
            islands.insert(site);
        }
    }
    for (id, site) in &parent.sites {
        let stands =
            |module: &ModuleId| input.modules.get(module).is_some_and(|given| given.module.site == *id);
        if !islands.contains(id) && !site.modules.keys().all(stands) {
            islands.insert(id);
        }
    }
    for row in rows {
        let home = match (row.workload, &row.told) {
            (workload, Some(told)) => {
                let fits = told.given.is_some_and(|given| goes_on(input, given, workload, told.placement));
                (!fits).then_some(told.site)
            }
            (Some(Workload { status, .. }), None) => {
                let runs = status.phase.holds() && status.phase != Phase::Stopping;
                let at = status.placement.as_ref().filter(|_| runs);
                at.and_then(|at| input.modules.get(&at.module)).map(|given| &given.module.site)
            }
            (None, None) => None,
        };
        islands.extend(home);
    }
    islands.extend(input.sites.keys().filter(|id| !parent.sites.contains_key(*id)));
    islands.into_iter().filter(|id| input.sites.contains_key(*id)).cloned().collect()
}

/// Whether what the plan in force says of a run can still be said.
fn goes_on(input: &Input, given: &ModuleInput, run: Option<&Workload>, at: &Placement) -> bool {
    let Some(workload) = run else { return false };
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
    let anew: BTreeMap<&Subject, &Decision> =
        made.decisions.iter().map(|decision| (&decision.subject, decision)).collect();
    let mut said = Said { decisions: &parent.decisions, next: 0, index: None };
    let mut decisions = Vec::with_capacity(parent.decisions.len() + made.decisions.len());
    let mut placed: Vec<&WorkloadId> = Vec::new();
    for id in input.sites.keys() {
        let planned = made.sites.get(id);
        let Some(site) = planned.or_else(|| parent.sites.get(id)) else { continue };
        let mut say = |subject: Subject| {
            let found = planned.and_then(|_| anew.get(&subject).copied()).or_else(|| said.of(&subject));
            decisions.push(found.cloned().unwrap_or_else(|| unsaid(subject)));
        };
        say(Subject::Site(id.clone()));
        site.modules.keys().for_each(|module| say(Subject::Module(module.clone())));
        for run in site.modules.values().flat_map(|module| module.runs.keys()) {
            say(Subject::Workload(run.clone()));
            placed.push(run);
        }
    }
    placed.sort_unstable();
    let mut placed = placed.into_iter().peekable();
    for id in input.workloads.keys() {
        while placed.next_if(|run| *run < id).is_some() {}
        if placed.peek() == Some(&id) {
            continue;
        }
        let subject = Subject::Workload(id.clone());
        let new = anew.get(&subject).copied();
        // Who goes on waiting waits for the reason that the whole fleet gave.
        let old = if new.is_some_and(|new| !is_short(new)) { None } else { said.of(&subject) };
        let found = old.filter(|old| new.is_none() || is_waiting(old)).or(new);
        decisions.push(found.cloned().unwrap_or_else(|| unsaid(subject)));
    }
    decisions
}

/// Decisions of the plan in force, asked for in about the order in which they stand.
struct Said<'p> {
    decisions: &'p [Decision],
    next: usize,
    /// All of them, once one was not found near.
    index: Option<BTreeMap<&'p Subject, usize>>,
}

impl<'p> Said<'p> {
    fn of(&mut self, subject: &Subject) -> Option<&'p Decision> {
        let mut ahead = self.decisions.iter().skip(self.next).take(NEAR);
        let near = ahead.position(|decision| decision.subject == *subject);
        let found = near.map(|offset| self.next + offset).or_else(|| {
            let all = || self.decisions.iter().enumerate().map(|(nth, said)| (&said.subject, nth)).collect();
            self.index.get_or_insert_with(all).get(subject).copied()
        })?;
        self.next = found + 1;
        self.decisions.get(found)
    }
}

fn unsaid(subject: Subject) -> Decision {
    Decision { subject, reason: ReasonCode::Accepted, binding: None, shadow_price: None, rejected: None }
}

/// Whether somebody waits for what the part has too little of.
fn is_short(new: &Decision) -> bool {
    matches!(new.reason, ReasonCode::NoGpus | ReasonCode::NoPower | ReasonCode::NoFirmCapacity)
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
