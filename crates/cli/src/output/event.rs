//! What happens, one line an event: the output of `flareshift watch`.

use api::convert::field::optional_time;
use api::operator as wire;
use serde::Serialize;

use super::decision::{Decision, Finding, all};
use super::fleet::{Fleet, Leadership};
use super::plan::Summary;
use super::show::{self, frequency, maybe, money, watts, word};
use super::table::clean;
use super::workload::Workload;
use super::{View, module, read};

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Event {
    /// When.
    pub at: Option<String>,
    /// What.
    #[serde(flatten)]
    pub what: What,
}

/// What happened; in JSON `event` names it and `data` holds it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "event", content = "data", rename_all = "snake_case")]
pub enum What {
    /// The status now.
    Status(Box<Fleet>),
    /// A plan is in force.
    PlanCommitted(Summary),
    /// A plan was refused by its check.
    PlanRefused(Refused),
    /// A decision that differs from the plan before.
    Decision(Decision),
    /// A workload changed.
    Workload(Box<Workload>),
    /// A module changed.
    Module(Box<module::Status>),
    /// Something is wrong, or worth a line.
    Finding(Finding),
    /// Another controller leads.
    Leadership(Leadership),
    /// An event that this version does not know.
    Other,
}

/// A plan that was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Refused {
    /// The number it would have had.
    pub generation: u64,
    /// What is wrong with it.
    pub findings: Vec<Finding>,
}

impl What {
    /// The event's name and what a person wants to know of it, on one line.
    fn line(&self) -> (&'static str, String) {
        match self {
            What::Status(fleet) => ("status", glance(fleet)),
            What::PlanCommitted(plan) => {
                let (worth, ceilings) = (money(plan.worth_micro_dollars), watts(plan.ceilings_watts));
                let runs = plan.runs;
                (
                    "plan",
                    format!("{} in force: worth {worth}, {runs} runs, ceilings {ceilings}", plan.generation),
                )
            }
            What::PlanRefused(refused) => {
                let found: Vec<String> = refused.findings.iter().map(finding).collect();
                ("refused", format!("plan {}: {}", refused.generation, found.join("; ")))
            }
            What::Decision(decision) => {
                let why = decision.why();
                let separator = if why.is_empty() { "" } else { ": " };
                ("decision", format!("{} {}{separator}{why}", decision.about(), word(&decision.reason)))
            }
            What::Workload(workload) => {
                let place = workload.placement.as_ref().map(|placement| format!(" on {}", placement.module));
                let (phase, reason) = (word(&workload.phase), word(&workload.reason));
                ("workload", format!("{} {phase} ({reason}){}", workload.workload, place.unwrap_or_default()))
            }
            What::Module(module) => {
                let notes = module.notes();
                let separator = if notes.is_empty() { "" } else { ", " };
                ("module", format!("{} {}{separator}{notes}", module.module, word(&module.link)))
            }
            What::Finding(found) if found.code == "event" => ("event", about(found)),
            What::Finding(found) => ("finding", finding(found)),
            What::Leadership(leadership) => ("leader", leadership.show()),
            What::Other => ("other", "an event of a newer version".to_owned()),
        }
    }
}

impl View for Event {
    fn table(&self) -> String {
        let (name, text) = self.what.line();
        format!("{}  {name:8}  {}\n", show::moment(&self.at), clean(&text))
    }
}

fn about(found: &Finding) -> String {
    format!("{}: {}", found.subject, found.message)
}

fn finding(found: &Finding) -> String {
    format!("{} {}", found.code, about(found))
}

/// The fleet on one line.
fn glance(fleet: &Fleet) -> String {
    let plan = maybe(fleet.plan.as_ref(), |plan| plan.generation.to_string());
    let site = |site: &super::site::Status| {
        let (load, capacity) = (maybe(site.load_watts, watts), maybe(site.capacity_watts, watts));
        format!(", {} {load} of {capacity} at {}", site.site, maybe(site.frequency_millihertz, frequency))
    };
    let sites: String = fleet.sites.iter().map(site).collect();
    format!("plan {plan}{sites}, {}", fleet.revenue.show())
}

impl From<wire::WatchEvent> for Event {
    fn from(event: wire::WatchEvent) -> Self {
        use wire::watch_event::Kind;
        let what = match event.kind {
            Some(Kind::Status(status)) => What::Status(Box::new(status.into())),
            Some(Kind::PlanCommitted(plan)) => What::PlanCommitted(plan.into()),
            Some(Kind::PlanRefused(refused)) => {
                What::PlanRefused(Refused { generation: refused.generation, findings: all(refused.findings) })
            }
            Some(Kind::Decision(decision)) => What::Decision(decision.into()),
            Some(Kind::Workload(workload)) => What::Workload(Box::new(workload.into())),
            Some(Kind::Module(module)) => What::Module(Box::new(module.into())),
            Some(Kind::Finding(found)) => What::Finding(found.into()),
            Some(Kind::Leadership(leadership)) => What::Leadership(leadership.into()),
            None => What::Other,
        };
        Self { at: read::moment(optional_time(event.at, "at")), what }
    }
}
