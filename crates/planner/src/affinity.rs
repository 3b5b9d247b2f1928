//! Groups of workloads that must stand together or apart: what holds in each, and who of it holds a place now.
//!
//! Whoever may hold GPUs counts, what is being stopped too: a start is judged against what is there, not against what is hoped for. A
//! repair counts what stands on islands that it does not plan ([`Groups::beside`]). Where nobody names a group nothing is looked up.
//! Runs that stand against a rule go on; [`findings`] says so. Read next: `dispatch::bind`, where a search asks.

use std::collections::BTreeMap;

use model::affinity::{Domain, Rule};
use model::workload::{Placement, Workload};
use model::{GroupId, ModuleId, SiteId, TenantId, WorkloadId};

use crate::input::Input;

/// A group: its name is its tenant's own.
pub(crate) type Key<'a> = (&'a TenantId, &'a GroupId);

/// All groups of an input.
#[derive(Clone, Debug, Default)]
pub(crate) struct Groups<'a> {
    known: BTreeMap<Key<'a>, Standing<'a>>,
}

/// One group.
#[derive(Clone, Debug, Default)]
pub(crate) struct Standing<'a> {
    pub(crate) demands: Demands,
    /// Who holds a place, in order of id.
    pub(crate) held: Vec<Held<'a>>,
    /// The rule of who stands first, and whether another one names a different one.
    first: Option<Rule>,
    mixed: bool,
}

/// What all rules of a group demand together: the strictest of each kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Demands {
    pub(crate) together: bool,
    pub(crate) per_site: Option<u32>,
    pub(crate) per_module: Option<u32>,
}

/// Somebody who holds a place.
#[derive(Clone, Debug)]
pub(crate) struct Held<'a> {
    id: &'a WorkloadId,
    pub(crate) module: &'a ModuleId,
    /// `None` where the module is not described any more.
    pub(crate) site: Option<&'a SiteId>,
}

impl Demands {
    fn add(&mut self, rule: Rule) {
        let least = |known: Option<u32>, most: u32| Some(known.map_or(most, |known| known.min(most)));
        match rule {
            Rule::Together => self.together = true,
            Rule::Spread { most, per: Domain::Site } => self.per_site = least(self.per_site, most),
            Rule::Spread { most, per: Domain::Module } => self.per_module = least(self.per_module, most),
        }
    }
}

impl Standing<'_> {
    /// Whether one more of the group may start in a place.
    fn takes(&self, site: &SiteId, module: &ModuleId) -> bool {
        let at_site = self.held.iter().filter(|held| held.site == Some(site)).count();
        let in_module = self.held.iter().filter(|held| held.module == module).count();
        let below = |count: usize, most: Option<u32>| most.is_none_or(|most| count < most as usize);
        (!self.demands.together || at_site == self.held.len())
            && below(at_site, self.demands.per_site)
            && below(in_module, self.demands.per_module)
    }

    /// Whether somebody of the group stands where it might not have started.
    fn is_broken(&self, held: &Held<'_>) -> bool {
        let at_site = self.held.iter().filter(|other| other.site == held.site).count();
        let in_module = self.held.iter().filter(|other| other.module == held.module).count();
        let above = |count: usize, most: Option<u32>| most.is_some_and(|most| count > most as usize);
        (self.demands.together && at_site < self.held.len())
            || above(at_site, self.demands.per_site)
            || above(in_module, self.demands.per_module)
    }
}

impl<'a> Groups<'a> {
    /// The groups where the whole fleet is planned.
    pub(crate) fn of(input: &'a Input) -> Self {
        Self::beside(input, |_| true)
    }

    /// The groups where only some islands are planned `anew`: what the plan in force starts on the others counts as there.
    pub(crate) fn beside(input: &'a Input, anew: impl Fn(&SiteId) -> bool) -> Self {
        let mut groups = Self::default();
        for (workload, group) in members(input) {
            let standing = groups.known.entry((&workload.tenant, &group.id)).or_default();
            standing.demands.add(group.rule);
            standing.mixed |= standing.first.is_some_and(|first| first != group.rule);
            standing.first = standing.first.or(Some(group.rule));
        }
        if groups.known.is_empty() {
            return groups;
        }
        let told = told(input, anew);
        for (workload, group) in members(input) {
            let Some(at) = place(workload, &told) else { continue };
            let site = input.modules.get(&at.module).map(|given| &given.module.site);
            let held = Held { id: &workload.id, module: &at.module, site };
            if let Some(standing) = groups.known.get_mut(&(&workload.tenant, &group.id)) {
                standing.held.push(held);
            }
        }
        groups
    }

    /// The group of a workload.
    pub(crate) fn get(&self, workload: &'a Workload) -> Option<(Key<'a>, &Standing<'a>)> {
        let key = (&workload.tenant, &workload.group()?.id);
        Some((key, self.known.get(&key)?))
    }

    /// Whether a workload that holds no place may start in one, as far as its sites and its group say.
    pub(crate) fn allow(&self, workload: &'a Workload, site: &SiteId, module: &ModuleId) -> bool {
        workload.may_run_on(site) && self.get(workload).is_none_or(|(_, group)| group.takes(site, module))
    }
}

/// Everybody in a group who is not over.
fn members(input: &Input) -> impl Iterator<Item = (&Workload, &model::affinity::Group)> {
    let open = input.workloads.values().filter(|workload| !workload.status.phase.is_final());
    open.filter_map(|workload| Some((workload, workload.group()?)))
}

/// What the plan in force has run on modules out of touch, and on islands that are not planned anew.
fn told(input: &Input, anew: impl Fn(&SiteId) -> bool) -> BTreeMap<&WorkloadId, &Placement> {
    let sites = input.parent.iter().flat_map(|parent| &parent.sites);
    let modules =
        sites.flat_map(|(site, planned)| planned.modules.iter().map(move |(id, plan)| (site, id, plan)));
    let silent = |module: &ModuleId| input.modules.get(module).is_some_and(|given| !given.link.is_in_touch());
    modules.filter(|(site, id, _)| !anew(site) || silent(id)).flat_map(|(.., plan)| &plan.runs).collect()
}

fn place<'a>(workload: &'a Workload, told: &BTreeMap<&WorkloadId, &'a Placement>) -> Option<&'a Placement> {
    if workload.status.phase.holds() {
        return workload.status.placement.as_ref();
    }
    told.get(&workload.id).copied()
}

/// Runs that stand where they might not start, and groups that name more than one rule.
pub(crate) fn findings(input: &Input, groups: &Groups<'_>, add: &mut impl FnMut(&str, String, &str)) {
    for (id, workload) in input.workloads.iter().filter(|(_, workload)| workload.spec.affinity.is_some()) {
        let at = workload.status.placement.as_ref().filter(|_| workload.status.phase.holds());
        let site = at.and_then(|at| input.modules.get(&at.module)).map(|given| &given.module.site);
        if site.is_some_and(|site| !workload.may_run_on(site)) {
            let message = "runs on a site that its own list leaves out; it goes on, and starts there no more: ask its tenant, or drain the module";
            add("affinity-broken", format!("workload {id}"), message);
        }
    }
    for ((tenant, group), standing) in &groups.known {
        if standing.mixed {
            let message = "those that belong to it name different rules; the strictest of each kind holds: order them anew under one rule";
            add("group-mixed", format!("tenant {tenant} group {group}"), message);
        }
        for held in standing.held.iter().filter(|held| standing.is_broken(held)) {
            let message = "runs where its group's rule would not let it start; it goes on: ask its tenant which of the group to end";
            add("affinity-broken", format!("workload {}", held.id), message);
        }
    }
}
