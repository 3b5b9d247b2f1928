//! Invariants 7 and 8 and the packing: every run stands once, whole, on GPUs of its type that are free; nothing moves or starts twice.
//!
//! Stops by choice need progress since the last one; stops for want of power are exempt and must say so.

use std::collections::btree_map::Iter;
use std::collections::{BTreeMap, BTreeSet};
use std::iter::Peekable;

use model::plan::{Decision, Plan, ReasonCode, Subject};
use model::workload::{Phase, Placement, Workload};
use model::{ModuleId, PoolId, WorkloadId};

use super::Findings;
use crate::input::{Input, Link, ModuleInput};

pub(super) fn check(plan: &Plan, input: &Input, findings: &mut Findings) {
    let now = placements(Some(plan));
    let told = placements(input.parent.as_ref());
    let mut seen = BTreeSet::new();
    let mut taken: BTreeMap<&ModuleId, Taken<'_>> = BTreeMap::new();
    for (module, planned) in plan.sites.values().flat_map(|site| site.modules.iter()) {
        let (mut here, given) = (Taken::new(), input.modules.get(module));
        for (id, placement) in &planned.runs {
            let subject = || format!("workload {id}");
            if !seen.insert(id) {
                findings.add("run-twice", subject(), "stands on two modules; keep it on one");
            }
            let Some(workload) = input.workloads.get(id) else {
                findings.add("run-unknown", subject(), "is in no list of workloads; remove it");
                continue;
            };
            if placement.module != *module {
                let message = format!("stands on {module} but names {}", placement.module);
                findings.add("placement", subject(), message);
            }
            let given =
                if placement.module == *module { given } else { input.modules.get(&placement.module) };
            if let Some(given) = given {
                placed(workload, placement, given, input, findings);
            }
            take(&mut here, placement);
        }
        // Only a plan that is wrong has a module on two islands; its GPUs are the same.
        let all = taken.entry(module).or_default();
        here.into_iter().for_each(|(place, gpus)| *all.entry(place).or_default() += gpus);
    }
    // What is being stopped holds its GPUs until its module says otherwise.
    for placement in leaving(&now, input) {
        take(taken.entry(&placement.module).or_default(), placement);
    }
    for (module, taken) in &taken {
        taken.iter().for_each(|(place, gpus)| overbooked(input, module, *place, *gpus, findings));
    }
    let mut reasons = Reasons { plan, known: None };
    let (mut now, mut told) = (now.iter().peekable(), told.iter().peekable());
    for (id, workload) in &input.workloads {
        let seen = Seen { now: of(&mut now, id), told: of(&mut told, id) };
        stays(workload, &seen, &mut reasons, input, findings);
    }
}

/// GPUs that are taken on one module, by pool and server.
type Taken<'c> = BTreeMap<(&'c PoolId, u32), u32>;

fn take<'c>(taken: &mut Taken<'c>, placement: &'c Placement) {
    for &(server, gpus) in &placement.servers {
        *taken.entry((&placement.pool, server)).or_default() += gpus;
    }
}

/// Where a plan has each workload run.
type Placements<'c> = BTreeMap<&'c WorkloadId, &'c Placement>;

fn placements(plan: Option<&Plan>) -> Placements<'_> {
    let modules =
        plan.into_iter().flat_map(|plan| plan.sites.values()).flat_map(|site| site.modules.values());
    modules.flat_map(|module| &module.runs).collect()
}

/// The placement of one workload, where they are asked for in order of id.
fn of<'c>(
    places: &mut Peekable<Iter<'_, &'c WorkloadId, &'c Placement>>,
    id: &WorkloadId,
) -> Option<&'c Placement> {
    while places.next_if(|(other, _)| **other < id).is_some() {}
    places.next_if(|(other, _)| **other == id).map(|(_, placement)| *placement)
}

/// Why each workload is as it is, by the plan's decisions; few are asked for.
struct Reasons<'c> {
    plan: &'c Plan,
    known: Option<BTreeMap<&'c WorkloadId, ReasonCode>>,
}

impl Reasons<'_> {
    fn of(&mut self, id: &WorkloadId) -> Option<ReasonCode> {
        let decisions = &self.plan.decisions;
        let all = || decisions.iter().filter_map(|decision| named(decision)).collect();
        self.known.get_or_insert_with(all).get(id).copied()
    }
}

fn named(decision: &Decision) -> Option<(&WorkloadId, ReasonCode)> {
    match &decision.subject {
        Subject::Workload(id) => Some((id, decision.reason)),
        Subject::Site(_) | Subject::Module(_) => None,
    }
}

/// What the plan and its parent say of one workload.
struct Seen<'c> {
    now: Option<&'c Placement>,
    told: Option<&'c Placement>,
}

/// Held placements that the plan ends and whose module is in touch.
fn leaving<'c>(now: &Placements<'_>, input: &'c Input) -> Vec<&'c Placement> {
    let mut now = now.iter().peekable();
    let ended = input.workloads.iter().filter(|(id, _)| of(&mut now, id).is_none());
    let held = ended.filter(|(_, workload)| workload.status.phase.holds());
    held.filter_map(|(_, workload)| workload.status.placement.as_ref()).collect()
}

fn overbooked(
    input: &Input,
    module: &ModuleId,
    (pool, server): (&PoolId, u32),
    gpus: u32,
    findings: &mut Findings,
) {
    let config = input.modules.get(module).and_then(|given| given.module.pools.get(pool));
    if config.is_some_and(|config| gpus > config.gpus) {
        let message =
            format!("{gpus} GPUs are given on server {server} of pool {pool}, which has fewer; plan again");
        findings.add("gpu-twice", format!("module {module}"), message);
    }
}

/// One run where the plan has it: the right GPUs, the whole gang, on servers that exist, and not moved or restarted by stealth.
fn placed(
    workload: &Workload,
    placement: &Placement,
    given: &ModuleInput,
    input: &Input,
    findings: &mut Findings,
) {
    let subject = || format!("workload {}", workload.id);
    let pool = given.module.pools.get(&placement.pool);
    if pool.is_none_or(|pool| pool.gpu != workload.spec.gpu) {
        findings.add(
            "gpu-type",
            subject(),
            format!("asks for {}, which pool {} has not", workload.spec.gpu, placement.pool),
        );
    }
    let gpus: u32 = placement.servers.iter().map(|&(_, gpus)| gpus).sum();
    let servers = pool.map_or(0, |pool| pool.servers);
    if gpus != workload.spec.gpus || placement.servers.iter().any(|&(server, _)| server >= servers) {
        findings.add(
            "gang",
            subject(),
            format!(
                "asks for {} together and gets {gpus}; place it whole",
                workload.sold_by().count(workload.spec.gpus)
            ),
        );
    }
    if !given.link.is_in_touch() {
        return;
    }
    if workload.cancel || workload.status.phase.is_final() || workload.status.phase == Phase::Stopping {
        findings.add("run-ended", subject(), "was ended and may not run on; remove it");
    }
    if workload.status.phase.holds() {
        if workload.status.placement.as_ref() != Some(placement) {
            findings.add("run-moved", subject(), "is moved while it holds GPUs elsewhere; stop it first");
        }
        return;
    }
    let fresh = input.sites.get(&given.module.site).is_some_and(|site| site.fresh);
    if given.cordoned || given.draining || given.link != Link::Online || !fresh {
        let message = format!(
            "starts on module {}, which is cordoned, draining or not heard; place it elsewhere",
            placement.module
        );
        findings.add("start-closed", subject(), message);
    }
    let last = workload.status.placement.as_ref().map_or(0, |last| last.incarnation);
    if placement.incarnation <= last {
        findings.add(
            "incarnation",
            subject(),
            format!("starts as number {}, after {last}; count up", placement.incarnation),
        );
    }
}

/// What became of a workload that may be running now.
fn stays(
    workload: &Workload,
    seen: &Seen<'_>,
    reasons: &mut Reasons<'_>,
    input: &Input,
    findings: &mut Findings,
) {
    let subject = || format!("workload {}", workload.id);
    let now = seen.now;
    if let Some(lost) = out_of_touch(workload, seen.told, input) {
        if now.is_some_and(|now| now.module != *lost) {
            findings.add(
                "run-elsewhere",
                subject(),
                format!("may still run on {lost}, which is out of touch; start it nowhere else"),
            );
        }
        return;
    }
    let runs = matches!(workload.status.phase, Phase::Starting | Phase::Running);
    if !runs || now.is_some() || workload.cancel {
        return;
    }
    let reason = reasons.of(&workload.id);
    let stopped = [ReasonCode::Preempted, ReasonCode::PowerShort, ReasonCode::Draining];
    if !reason.is_some_and(|reason| stopped.contains(&reason)) {
        findings.add(
            "stop-unexplained",
            subject(),
            "is stopped without a decision that says why; keep it or say it",
        );
    }
    if reason == Some(ReasonCode::Preempted) && workload.made_no_progress_since_preemption() {
        findings.add(
            "thrash",
            subject(),
            "is stopped by choice for the second time without progress in between; keep it",
        );
    }
}

/// The silent module on which a workload may still run.
fn out_of_touch<'c>(
    workload: &'c Workload,
    told: Option<&'c Placement>,
    input: &Input,
) -> Option<&'c ModuleId> {
    let held = workload.status.placement.as_ref().filter(|_| workload.status.phase.holds());
    let module = &held.or(told)?.module;
    let silent = input.modules.get(module).is_none_or(|given| !given.link.is_in_touch());
    (silent && !workload.status.phase.is_final()).then_some(module)
}
