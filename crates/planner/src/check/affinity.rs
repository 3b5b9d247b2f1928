//! Lists of sites and groups: nothing starts where its tenant does not want it, or against what holds in its group.
//!
//! Runs in place are let be, wherever they stand. A start is judged against everybody of its group who may hold GPUs and everybody whom
//! the plan has run, on whichever island.

use std::collections::{BTreeMap, BTreeSet};

use model::affinity::{Domain, Rule};
use model::plan::Plan;
use model::workload::{Placement, Workload};
use model::{GroupId, ModuleId, SiteId, TenantId, WorkloadId};

use super::Findings;
use crate::input::Input;

/// Where somebody stands: its island, if its module is described, and its module.
type Spot<'c> = (Option<&'c SiteId>, &'c ModuleId);

/// A group as the plan leaves it.
#[derive(Default)]
struct Group<'c> {
    rules: Vec<Rule>,
    /// Who stands where; somebody who is told to be in two places counts in both.
    spots: BTreeSet<(&'c WorkloadId, Spot<'c>)>,
}

pub(super) fn check(plan: &Plan, input: &Input, findings: &mut Findings) {
    // Most fleets have nobody who asks for it.
    if input.workloads.values().all(|workload| workload.spec.affinity.is_none()) {
        return;
    }
    let placed: Vec<(&Workload, &Placement)> =
        plan.placements().filter_map(|(id, at)| Some((input.workloads.get(id)?, at))).collect();
    let groups = groups(&placed, input);
    for (workload, at) in placed.iter().filter(|(workload, at)| starts(workload, at, input)) {
        let (site, module) = spot(at, input);
        let subject = || format!("workload {}", workload.id);
        if let Some(site) = site.filter(|site| !workload.may_run_on(site)) {
            findings.add(
                "start-excluded",
                subject(),
                format!("starts on site {site}, which its list leaves out; place it elsewhere"),
            );
        }
        let group = workload.group().and_then(|group| groups.get(&(&workload.tenant, &group.id)));
        let Some(group) = group else { continue };
        for rule in &group.rules {
            match broken(*rule, &group.spots, (site, module)) {
                Some("group-split") => findings.add(
                    "group-split",
                    subject(),
                    "starts on another site than the rest of its group; place it where they are",
                ),
                Some(code) => findings.add(
                    code,
                    subject(),
                    format!("starts as one too many of its group, {rule}; place it elsewhere"),
                ),
                None => {}
            }
        }
    }
}

fn groups<'c>(
    placed: &[(&'c Workload, &'c Placement)],
    input: &'c Input,
) -> BTreeMap<(&'c TenantId, &'c GroupId), Group<'c>> {
    let mut groups: BTreeMap<(&TenantId, &GroupId), Group<'_>> = BTreeMap::new();
    for workload in input.workloads.values().filter(|workload| !workload.status.phase.is_final()) {
        let Some(named) = workload.group() else { continue };
        let group = groups.entry((&workload.tenant, &named.id)).or_default();
        if !group.rules.contains(&named.rule) {
            group.rules.push(named.rule);
        }
        let held = workload.status.placement.as_ref().filter(|_| workload.status.phase.holds());
        group.spots.extend(held.map(|at| (&workload.id, spot(at, input))));
    }
    for (workload, at) in placed {
        let group = workload.group().and_then(|named| groups.get_mut(&(&workload.tenant, &named.id)));
        group.into_iter().for_each(|group| {
            group.spots.insert((&workload.id, spot(at, input)));
        });
    }
    groups
}

/// Whether the plan starts it; what a module out of touch was told stands as it is.
fn starts(workload: &Workload, at: &Placement, input: &Input) -> bool {
    let hears = input.modules.get(&at.module).is_some_and(|given| given.link.is_in_touch());
    hears && !workload.status.phase.holds()
}

fn spot<'c>(at: &'c Placement, input: &'c Input) -> Spot<'c> {
    (input.modules.get(&at.module).map(|given| &given.module.site), &at.module)
}

/// The code of what a start in this spot breaks.
fn broken(
    rule: Rule,
    spots: &BTreeSet<(&WorkloadId, Spot<'_>)>,
    (site, module): Spot<'_>,
) -> Option<&'static str> {
    let most = match rule {
        Rule::Together => return spots.iter().any(|(_, (other, _))| *other != site).then_some("group-split"),
        Rule::Spread { most, .. } => usize::try_from(most).unwrap_or(usize::MAX),
    };
    let same = |(_, spot): &&(&WorkloadId, Spot<'_>)| match rule {
        Rule::Spread { per: Domain::Module, .. } => spot.1 == module,
        _ => spot.0 == site,
    };
    // Somebody who is seen twice in one place is one.
    let there: BTreeSet<&WorkloadId> = spots.iter().filter(same).map(|(id, _)| *id).collect();
    (there.len() > most).then_some("group-crowded")
}
