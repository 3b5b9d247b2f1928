//! What `plan solve` and `plan check` print for people, and the verdict of `check` as JSON.
//!
//! A plan from a file is shown as one from a controller is. Read next: [`super::plan`].

use std::fmt::Write as _;

use api::operator as wire;
use model::Shared;
use model::report::Finding;
use planner::{Report, SiteView};
use serde::Serialize;

use super::show::{gas, money_per_hour, watts};
use super::table::{clean, titled};
use super::{View, decision, plan};
use crate::case::Case;

/// A case that was planned.
pub struct Solved<'a>(pub &'a Case);

/// A plan that was judged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Checked {
    /// The plan's number.
    pub generation: u64,
    /// What is wrong with it.
    pub findings: Vec<Finding>,
}

impl Solved<'_> {
    /// Plan, report and bound, for people.
    pub fn table(&self) -> String {
        let shown = self
            .0
            .plan
            .clone()
            .map(|plan| wire::GetPlanResponse { plan: Some(plan.into()), in_force: false });
        let plan = shown.map(|shown| plan::Plan::from(shown).table()).unwrap_or_default();
        let report = self.0.report.as_ref().map(report).unwrap_or_default();
        plan + &report + &findings("Findings of the check: this plan must not be used", &self.0.findings)
    }
}

impl View for Checked {
    fn table(&self) -> String {
        if self.findings.is_empty() {
            return format!("Plan {} holds every rule.\n", self.generation);
        }
        let title = format!("Plan {} breaks rules", self.generation);
        findings(&title, &self.findings).trim_start().to_owned()
    }
}

/// The operator's view.
fn report(report: &Report) -> String {
    let row = |(site, view): (&model::SiteId, &Shared<SiteView>)| {
        vec![
            site.to_string(),
            watts(view.load.total().get()),
            watts(view.load.firm_ai.get() + view.load.other_ai.get()),
            watts(view.load.mining.get()),
            watts(view.gas_power.get()),
            gas(view.flared.get()),
            money_per_hour(view.shadow_price.get()),
            view.binding.clone(),
        ]
    };
    const SITE: [&str; 8] =
        ["SITE", ">LOAD", ">AI", ">MINING", ">GAS GIVES", ">FLARED", ">ONE MORE kW", "BINDS"];
    let mut text = titled("Report", &SITE, report.sites.iter().map(row).collect());
    for (site, view) in &report.sites {
        for hint in &view.hints {
            let _ = writeln!(text, "site {site}: {}", clean(hint));
        }
    }
    text + &findings("Findings in the input", &report.findings)
}

fn findings(title: &str, findings: &[Finding]) -> String {
    let shown: Vec<decision::Finding> = findings
        .iter()
        .map(|Finding { code, subject, message }| decision::Finding {
            code: code.clone(),
            subject: subject.clone(),
            message: message.clone(),
        })
        .collect();
    decision::findings(title, &shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_is_a_sentence_or_a_table() {
        let sound = Checked { generation: 3, findings: Vec::new() };
        assert_eq!(sound.table(), "Plan 3 holds every rule.\n");
        let finding =
            Finding { code: "ceilings".into(), subject: "site a".into(), message: "too much".into() };
        let broken = Checked { generation: 3, findings: vec![finding] };
        assert_eq!(
            broken.table(),
            "Plan 3 breaks rules\nCODE      ABOUT   MESSAGE\nceilings  site a  too much\n"
        );
    }
}
