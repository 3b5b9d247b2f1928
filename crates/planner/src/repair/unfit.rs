//! Which islands an event concerns beside those where readings changed: where somebody who came could start, and where the plan in
//! force no longer fits who is there.
//!
//! Both walk the fleet once, so whoever names the islands of a repair asks for them once an input. Read next: [`super::census`].

use std::collections::{BTreeMap, BTreeSet};

use model::module::Module;
use model::plan::Plan;
use model::workload::{Phase, Placement, Workload};
use model::{ModuleId, PoolId, SiteId, WorkloadId};

use crate::affinity::Groups;
use crate::input::{Input, Link, ModuleInput};

/// Islands that are tried for each workload that came: where none of them takes it, everything is planned.
const HOMES: usize = 4;

/// Islands where somebody who came could start, a few for each, tightest first: they have the GPUs free in one pool, and its sites and
/// its group allow them. Whether the power is there a plan says.
pub fn homes<'i>(input: &'i Input, came: impl IntoIterator<Item = &'i Workload>) -> BTreeSet<SiteId> {
    let came: Vec<&Workload> = came.into_iter().collect();
    // Whoever is planned anew may leave its place, but nobody knows yet who is: all that stands counts.
    let bound = came.iter().any(|one| one.group().is_some());
    let groups = if bound { Groups::beside(input, |_| false) } else { Groups::default() };
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
        let free = workload.spec.affinity.is_none();
        let open = modules.iter().map(|given| &given.module);
        for Module { id, site, pools, .. } in
            open.filter(|module| free || groups.allow(workload, &module.site, &module.id))
        {
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

/// Islands whose plan no longer fits the modules and workloads there are: a run ended or stands where nobody was told, a module or a
/// site is new or gone. A repair that leaves one of them out is refused by `check`.
pub fn unfit(input: &Input) -> BTreeSet<SiteId> {
    let Some(parent) = &input.parent else { return BTreeSet::new() };
    islands(input, parent, &rows(input, parent))
}

fn islands<'i>(input: &'i Input, parent: &'i Plan, rows: &[Row<'i>]) -> BTreeSet<SiteId> {
    let mut islands: BTreeSet<&SiteId> = BTreeSet::new();
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
