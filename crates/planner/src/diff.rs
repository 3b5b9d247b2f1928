//! What differs between two plans, one line a property: for operators, logs and golden tests.
//!
//! Generation, parent and time always differ and are left out, as are the steps of the look-ahead. Read next: [`crate::explain`].

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use model::plan::{ModulePlan, Plan, SitePlan, Subject};
use model::workload::Placement;
use serde::{Deserialize, Serialize};

/// One difference between two plans.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// What changed.
    pub subject: Subject,
    /// Which property of it.
    pub what: String,
    /// Its value in the old plan; empty where there was none.
    pub from: String,
    /// Its value in the new plan; empty where there is none.
    pub to: String,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
        write!(f, "{} {}: {} -> {}", self.subject, self.what, shown(&self.from), shown(&self.to))
    }
}

/// What differs, in order of site, module and property; then the reasons that changed.
pub fn diff(old: &Plan, new: &Plan) -> Vec<Change> {
    let mut changes = Vec::new();
    for id in keys(&old.sites, &new.sites) {
        let (before, after) = (old.sites.get(id), new.sites.get(id));
        if before.zip(after).is_some_and(|(before, after)| before.is(after)) {
            continue;
        }
        let (before, after) = (before.map(|site| &**site), after.map(|site| &**site));
        let subject = Subject::Site(id.clone());
        compare(&mut changes, &subject, site(before), site(after));
        let none = BTreeMap::new();
        let modules = |site: Option<&'_ SitePlan>| site.map_or(none.clone(), |site| site.modules.clone());
        let (before, after) = (modules(before), modules(after));
        for module in keys(&before, &after) {
            let subject = Subject::Module(module.clone());
            compare(&mut changes, &subject, properties(before.get(module)), properties(after.get(module)));
        }
    }
    reasons(&mut changes, old, new);
    changes
}

/// Properties by name.
type Properties = BTreeMap<String, String>;

fn compare(changes: &mut Vec<Change>, subject: &Subject, before: Properties, after: Properties) {
    for what in keys(&before, &after) {
        let value = |of: &Properties| of.get(what).cloned().unwrap_or_default();
        let (from, to) = (value(&before), value(&after));
        if from != to {
            changes.push(Change { subject: subject.clone(), what: what.clone(), from, to });
        }
    }
}

fn site(plan: Option<&SitePlan>) -> Properties {
    let mut properties = Properties::new();
    let Some(plan) = plan else { return properties };
    properties.insert("capacity".into(), plan.capacity.to_string());
    properties.insert("firm capacity".into(), plan.firm_capacity.to_string());
    for (id, runs) in &plan.gensets {
        properties.insert(format!("genset {id}"), if *runs { "run" } else { "stop" }.into());
    }
    if let Some(target) = &plan.storage {
        properties.insert("storage".into(), format!("{} at {}", target.power, target.ramp));
    }
    if let Some(target) = &plan.import {
        properties.insert("import".into(), format!("{} at {}", target.power, target.ramp));
    }
    for (id, loss) in &plan.contingencies {
        let text = format!("{} lost, {} absorbed, {} shed", loss.lost, loss.absorbed, loss.shed);
        properties.insert(format!("loss {id}"), text);
    }
    properties
}

fn properties(plan: Option<&ModulePlan>) -> Properties {
    let mut properties = Properties::new();
    let Some(plan) = plan else { return properties };
    let fallback = plan.fallback.iter().map(|step| step.ceiling).max().unwrap_or_default();
    properties.insert("ceiling".into(), plan.ceiling.to_string());
    properties.insert("ai floor".into(), plan.ai_floor.to_string());
    properties.insert("fallback".into(), fallback.to_string());
    properties.insert("share".into(), format!("{} at {}", plan.share.step, plan.share.ramp));
    for (id, target) in &plan.miners {
        properties.insert(format!("miners {id}"), format!("{} awake at {}", target.awake, target.point));
    }
    for (id, rungs) in &plan.armed {
        properties.insert(format!("armed {id}"), format!("{rungs:?}"));
    }
    for (id, cap) in &plan.caps {
        properties.insert(format!("cap {id}"), cap.to_string());
    }
    for (id, cap) in &plan.slowed {
        properties.insert(format!("slowed {id}"), cap.to_string());
    }
    for (id, placement) in &plan.runs {
        properties.insert(format!("run {id}"), placed(placement));
    }
    properties
}

fn placed(placement: &Placement) -> String {
    let servers = placement.servers.iter().map(|(server, gpus)| format!("{gpus}@{server}"));
    format!("{} {} #{}", placement.pool, servers.collect::<Vec<_>>().join("+"), placement.incarnation)
}

fn reasons(changes: &mut Vec<Change>, old: &Plan, new: &Plan) {
    let of = |plan: &Plan| -> BTreeMap<Subject, String> {
        plan.decisions
            .iter()
            .map(|decision| (decision.subject.clone(), decision.reason.to_string()))
            .collect()
    };
    let (before, after) = (of(old), of(new));
    for subject in keys(&before, &after) {
        let value = |of: &BTreeMap<Subject, String>| of.get(subject).cloned().unwrap_or_default();
        let (from, to) = (value(&before), value(&after));
        if from != to {
            changes.push(Change { subject: subject.clone(), what: "reason".into(), from, to });
        }
    }
}

fn keys<'k, K: Ord, V>(a: &'k BTreeMap<K, V>, b: &'k BTreeMap<K, V>) -> BTreeSet<&'k K> {
    a.keys().chain(b.keys()).collect()
}
