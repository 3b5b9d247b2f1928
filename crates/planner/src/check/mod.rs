//! What every plan must hold, computed anew from plan and input: nothing here uses the planner's own arithmetic.
//!
//! `power` holds invariant 1, `reserve` and `beside` invariant 2, `genset` invariant 3 and the shares, `storage` all three for a battery and `tie` for a grid tie, `cap` what slows runs, `runs` invariants 7 and 8 and the packing, `affinity` lists of sites and groups;
//! structure stands here. A plan with a finding is not committed. Codes are stable: tests and operators match on them.

mod affinity;
mod beside;
mod cap;
mod genset;
mod power;
mod reserve;
mod runs;
mod storage;
mod tie;
mod view;

use model::plan::Plan;
use model::report::Finding;

use crate::input::Input;
use view::SiteCheck;

/// What is wrong with a plan for this input, in order of site. Empty = it may be committed.
pub fn check(plan: &Plan, input: &Input) -> Vec<Finding> {
    let mut findings = Findings::default();
    lineage(plan, input, &mut findings);
    structure(plan, input, &mut findings);
    for (id, site) in &input.sites {
        let Some(planned) = plan.sites.get(id) else {
            findings.add("missing-site", format!("site {id}"), "does not stand in the plan; make a new plan");
            continue;
        };
        let view = SiteCheck::new(id, site, planned, input);
        power::check(&view, &mut findings);
        reserve::check(&view, &mut findings);
        beside::check(&view, &mut findings);
        genset::check(&view, &mut findings);
        storage::check(&view, &mut findings);
        tie::check(&view, &mut findings);
        cap::check(&view, &mut findings);
    }
    runs::check(plan, input, &mut findings);
    affinity::check(plan, input, &mut findings);
    findings.0
}

/// What was found so far.
#[derive(Default)]
pub(crate) struct Findings(Vec<Finding>);

impl Findings {
    pub(crate) fn add(&mut self, code: &str, subject: String, message: impl Into<String>) {
        self.0.push(Finding { code: code.into(), subject, message: message.into() });
    }
}

fn lineage(plan: &Plan, input: &Input, findings: &mut Findings) {
    let parent = input.parent.as_ref().map(|parent| parent.generation);
    if plan.parent != parent || parent.is_some_and(|parent| plan.generation <= parent) {
        let message = "does not follow the plan in force; plan again from it";
        findings.add("lineage", format!("plan {}", plan.generation), message);
    }
}

fn structure(plan: &Plan, input: &Input, findings: &mut Findings) {
    for (id, module) in &input.modules {
        let site = &module.module.site;
        let listed = plan.sites.get(site).is_some_and(|planned| planned.modules.contains_key(id));
        if input.sites.contains_key(site) && !listed {
            findings.add(
                "missing-module",
                format!("module {id}"),
                "does not stand in the plan of its site; make a new plan",
            );
        }
    }
    for (site, planned) in &plan.sites {
        if planned.steps.len() != model::plan::STEPS {
            findings.add(
                "steps",
                format!("site {site}"),
                format!("looks {} steps ahead, not 24", planned.steps.len()),
            );
        }
        for (id, module) in &planned.modules {
            let subject = format!("module {id}");
            let Some(given) = input.modules.get(id).filter(|given| given.module.site == *site) else {
                findings.add(
                    "unknown-module",
                    subject,
                    format!("does not stand on site {site}; remove it from the plan"),
                );
                continue;
            };
            if module.fallback.is_empty() {
                findings.add(
                    "fallback-missing",
                    subject.clone(),
                    "has no fallback programme; give it at least one step",
                );
            }
            let sound = module.miners.iter().all(|(group, target)| {
                given.module.groups.get(group).is_some_and(|config| {
                    let awake = target.awake <= config.count;
                    awake && (target.awake == 0 || usize::from(target.point) < config.points.len())
                })
            });
            if !sound {
                findings.add(
                    "miners-target",
                    subject,
                    "asks for miners or settings that do not exist; plan again",
                );
            }
        }
    }
}
