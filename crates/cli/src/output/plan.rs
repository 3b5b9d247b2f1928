//! Plans: listed, shown, compared, explained.
//!
//! Read next: `plan/step.rs` for the horizon, `plan/rung.rs` for the ladders.

mod rung;
mod step;

use std::collections::BTreeMap;

use api::common;
use api::convert::field::optional_time;
use api::operator as wire;
use model::Time;
use serde::Serialize;

use self::rung::Rung;
use self::step::Step;
use super::decision::{self, Decision, Subject, about, all, subject};
use super::show::{self, maybe, money, watts, word, yes_no};
use super::table::{clean, list, pairs, section, titled};
use super::{View, read};

/// Columns of a list of plans.
const HEADERS: [&str; 7] = [">PLAN", ">PARENT", "MADE", ">WORTH", ">RUNS", ">CEILINGS", "IN FORCE"];

/// A plan in one line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Its number.
    pub generation: u64,
    /// The plan it replaced.
    pub parent: Option<u64>,
    /// When its input was taken.
    pub made: Option<String>,
    /// Expected money over the horizon.
    pub worth_micro_dollars: i64,
    /// SHA-256 of its input.
    pub input_sha256: String,
    /// It is the one in force.
    pub in_force: bool,
    /// Workloads it runs.
    pub runs: u32,
    /// The sum of all modules' ceilings.
    pub ceilings_watts: i64,
}

/// Plans, newest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct List {
    /// Newest first.
    pub plans: Vec<Summary>,
}

/// One plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// Its number.
    pub generation: u64,
    /// The plan it replaced.
    pub parent: Option<u64>,
    /// When its input was taken.
    pub made: Option<String>,
    /// It is the one in force.
    pub in_force: bool,
    /// Expected money over the horizon.
    pub worth_micro_dollars: i64,
    /// How good a plan could be at most.
    pub bound: Option<Bound>,
    /// SHA-256 of its input.
    pub input_sha256: String,
    /// What each site does.
    pub sites: Vec<Site>,
    /// Why.
    pub decisions: Vec<Decision>,
}

/// An upper bound on a dispatch: money over half an hour, without what goes on anyway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Bound {
    /// No plan for that input is worth more.
    pub most_micro_dollars: i64,
    /// What the search found for it.
    pub reached_micro_dollars: i64,
    /// When that input was taken.
    pub made: Option<String>,
    /// It is of an earlier input than the plan's.
    pub stale: bool,
}

/// The decision for one island.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Site {
    /// Its id.
    pub site: String,
    /// What the island can carry now.
    pub capacity_watts: i64,
    /// What it can still carry after the loss of its largest source.
    pub firm_capacity_watts: i64,
    /// Sets that shall run.
    pub gensets: BTreeMap<String, bool>,
    /// The losses that are answered.
    pub contingencies: Vec<Contingency>,
    /// What each module may and shall do.
    pub modules: Vec<Module>,
    /// Steps of five minutes in its horizon.
    pub steps: usize,
    /// Those steps, from when the plan was made.
    pub horizon: Vec<Step>,
}

/// One credible loss.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Contingency {
    /// Its id.
    pub contingency: String,
    /// The source that is lost.
    pub source: String,
    /// The most power lost with it.
    pub lost_watts: i64,
    /// What the remaining sets take at once.
    pub absorbed_watts: i64,
    /// What the armed rungs drop.
    pub shed_watts: i64,
}

/// What one module may and shall do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Module {
    /// Its id.
    pub module: String,
    /// Most it may draw.
    pub ceiling_watts: i64,
    /// What its firm AI needs.
    pub ai_floor_watts: i64,
    /// Rungs in its ladder of loads to drop.
    pub rungs: usize,
    /// Those rungs, in the order in which they are dropped.
    pub ladder: Vec<Rung>,
    /// What it may draw long after its envelope expired.
    pub fallback_watts: Option<i64>,
    /// Miners that shall be awake, by group.
    pub awake: BTreeMap<String, u32>,
    /// Power caps, by pool.
    pub cap_watts: BTreeMap<String, i64>,
    /// Power caps of runs that are slowed, by workload.
    pub slowed_watts: BTreeMap<String, i64>,
    /// Workloads that run there.
    pub runs: Vec<String>,
}

/// What differs between two plans.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diff {
    /// The older one.
    pub from: u64,
    /// The newer one.
    pub to: u64,
    /// In order of site, module and property.
    pub changes: Vec<Change>,
}

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// What changed.
    pub subject: Option<Subject>,
    /// Which property of it.
    pub what: String,
    /// Its value in the older plan.
    pub from: Option<String>,
    /// Its value in the newer plan.
    pub to: Option<String>,
}

/// Why a plan treats a subject as it does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// The plan that is explained.
    pub generation: u64,
    /// What was asked about.
    pub subject: Option<Subject>,
    /// The decision about it.
    pub decision: Option<Decision>,
    /// For operators.
    pub operator_lines: Vec<String>,
    /// What the tenant is shown.
    pub tenant_lines: Vec<String>,
}

impl Summary {
    fn row(&self) -> Vec<String> {
        vec![
            self.generation.to_string(),
            maybe(self.parent, |parent| parent.to_string()),
            show::moment(&self.made),
            money(self.worth_micro_dollars),
            self.runs.to_string(),
            watts(self.ceilings_watts),
            yes_no(self.in_force),
        ]
    }
}

impl View for List {
    fn table(&self) -> String {
        let none = "No plan yet: the first follows when a module has reported.";
        list(&HEADERS, self.plans.iter().map(Summary::row).collect(), none)
    }
}

impl Bound {
    fn of(bound: common::Bound, plan: &Option<String>) -> Self {
        let made = read::moment(optional_time(bound.made, "made"));
        Self {
            most_micro_dollars: bound.most_micro_dollars,
            reached_micro_dollars: bound.reached_micro_dollars,
            stale: made != *plan,
            made,
        }
    }

    /// In words: `at most $5.20 in half an hour, $5.19 reached`.
    pub fn words(&self) -> String {
        let Self { most_micro_dollars: most, reached_micro_dollars: reached, made, stale } = self;
        let bound = format!("at most {} in half an hour, {} reached", money(*most), money(*reached));
        if *stale { format!("{bound}; stale: of {}", show::moment(made)) } else { bound }
    }
}

impl Site {
    fn table(&self) -> String {
        let on: Vec<&str> = self.gensets.iter().filter(|(_, on)| **on).map(|(id, _)| id.as_str()).collect();
        let title = format!(
            "Site {}: capacity {}, N-1 {}, {} of {} sets run{}{}, {} steps ahead",
            self.site,
            watts(self.capacity_watts),
            watts(self.firm_capacity_watts),
            on.len(),
            self.gensets.len(),
            if on.is_empty() { "" } else { ": " },
            on.join(", "),
            self.steps
        );
        let module = |module: &Module| {
            let awake = module.awake.iter().map(|(group, awake)| format!("{group}:{awake}"));
            let caps = module.cap_watts.iter().chain(&module.slowed_watts);
            let caps = caps.map(|(subject, cap)| format!("{subject}:{}", watts(*cap)));
            vec![
                module.module.clone(),
                watts(module.ceiling_watts),
                watts(module.ai_floor_watts),
                maybe(module.fallback_watts, watts),
                module.rungs.to_string(),
                awake.collect::<Vec<_>>().join(" "),
                caps.collect::<Vec<_>>().join(" "),
                module.runs.join(" "),
            ]
        };
        let loss = |loss: &Contingency| {
            vec![
                loss.source.clone(),
                watts(loss.lost_watts),
                watts(loss.absorbed_watts),
                watts(loss.shed_watts),
            ]
        };
        const MODULE: [&str; 8] =
            ["MODULE", ">CEILING", ">AI FLOOR", ">FALLBACK", ">RUNGS", "AWAKE", "CAPS", "RUNS"];
        const LOSS: [&str; 4] = ["IF LOST", ">POWER", ">ABSORBED", ">SHED"];
        let modules = titled(&clean(&title), &MODULE, self.modules.iter().map(module).collect());
        let head = if modules.is_empty() { format!("\n{}\n", clean(&title)) } else { modules };
        let named = |what: &str| clean(&format!("Site {}: {what}", self.site));
        let ladders = self.modules.iter().map(|module| (module.module.as_str(), module.ladder.as_slice()));
        head + &titled(&named("losses answered"), &LOSS, self.contingencies.iter().map(loss).collect())
            + &rung::table(&named("loads to drop, in order"), ladders)
            + &step::table(&named("horizon"), &self.horizon)
    }
}

impl View for Plan {
    fn table(&self) -> String {
        let sites: String = self.sites.iter().map(Site::table).collect();
        pairs(&[
            ("Plan", self.generation.to_string()),
            ("Parent", maybe(self.parent, |parent| parent.to_string())),
            ("Made", show::moment(&self.made)),
            ("In force", yes_no(self.in_force)),
            ("Worth", money(self.worth_micro_dollars)),
            ("Bound", self.bound.as_ref().map(Bound::words).unwrap_or_default()),
            ("Input", self.input_sha256.clone()),
        ]) + &sites
            + &decision::table("Decisions", &self.decisions)
    }
}

impl View for Diff {
    fn table(&self) -> String {
        let row = |change: &Change| {
            vec![about(&change.subject), change.what.clone(), word(&change.from), word(&change.to)]
        };
        let none = format!("Plans {} and {} do not differ.", self.from, self.to);
        let (from, to) = (format!("PLAN {}", self.from), format!("PLAN {}", self.to));
        list(&["ABOUT", "WHAT", &from, &to], self.changes.iter().map(row).collect(), &none)
    }
}

impl View for Explanation {
    fn table(&self) -> String {
        let decision = self.decision.as_ref();
        let text =
            |lines: &[String]| lines.iter().map(|line| format!("  {}\n", clean(line))).collect::<String>();
        pairs(&[
            ("About", about(&self.subject)),
            ("Plan", self.generation.to_string()),
            ("Reason", decision.and_then(|decision| decision.reason.clone()).unwrap_or_default()),
            ("Why", decision.map(Decision::why).unwrap_or_default()),
        ]) + &section("For operators", &text(&self.operator_lines))
            + &section("What the tenant is shown", &text(&self.tenant_lines))
    }
}

impl From<wire::PlanSummary> for Summary {
    fn from(plan: wire::PlanSummary) -> Self {
        Self {
            generation: plan.generation,
            parent: plan.parent,
            made: read::moment(optional_time(plan.made, "made")),
            worth_micro_dollars: plan.worth_micro_dollars,
            input_sha256: plan.input_sha256,
            in_force: plan.in_force,
            runs: plan.runs,
            ceilings_watts: plan.ceilings_watts,
        }
    }
}

impl From<wire::GetPlanResponse> for Plan {
    fn from(answer: wire::GetPlanResponse) -> Self {
        let plan = answer.plan.unwrap_or_default();
        let made = optional_time(plan.made, "made");
        let begin = made.as_ref().ok().copied().flatten();
        let made = read::moment(made);
        Self {
            generation: plan.generation,
            parent: plan.parent,
            bound: plan.bound.map(|bound| Bound::of(bound, &made)),
            made,
            in_force: answer.in_force,
            worth_micro_dollars: plan.worth_micro_dollars,
            input_sha256: plan.input_sha256,
            sites: plan.sites.into_iter().map(|(id, site)| Site::of(id, site, begin)).collect(),
            decisions: all(plan.decisions),
        }
    }
}

impl Site {
    fn of(site: String, plan: common::SitePlan, made: Option<Time>) -> Self {
        let loss = |(contingency, loss): (String, common::Contingency)| Contingency {
            contingency,
            source: loss.source,
            lost_watts: loss.lost_watts,
            absorbed_watts: loss.absorbed_watts,
            shed_watts: loss.shed_watts,
        };
        Self {
            site,
            capacity_watts: plan.capacity_watts,
            firm_capacity_watts: plan.firm_capacity_watts,
            gensets: plan.gensets,
            contingencies: plan.contingencies.into_iter().map(loss).collect(),
            modules: plan.modules.into_iter().map(|(id, module)| Module::of(id, module)).collect(),
            steps: plan.steps.len(),
            horizon: step::steps(made, plan.steps),
        }
    }
}

impl Module {
    fn of(module: String, plan: common::ModulePlan) -> Self {
        Self {
            module,
            ceiling_watts: plan.ceiling_watts,
            ai_floor_watts: plan.ai_floor_watts,
            rungs: plan.ladder.len(),
            ladder: rung::ladder(plan.ladder, &plan.armed),
            fallback_watts: plan.fallback.last().map(|step| step.ceiling_watts),
            awake: plan.miners.into_iter().map(|(group, target)| (group, target.awake)).collect(),
            cap_watts: plan.cap_watts,
            slowed_watts: plan.slowed_watts,
            runs: plan.runs.into_keys().collect(),
        }
    }
}

impl From<wire::DiffPlansResponse> for Diff {
    fn from(diff: wire::DiffPlansResponse) -> Self {
        let change = |change: wire::Change| Change {
            subject: subject(change.subject),
            what: change.what,
            from: read::text(change.from),
            to: read::text(change.to),
        };
        Self { from: diff.from, to: diff.to, changes: diff.changes.into_iter().map(change).collect() }
    }
}

impl From<wire::ExplainPlanResponse> for Explanation {
    fn from(answer: wire::ExplainPlanResponse) -> Self {
        Self {
            generation: answer.generation,
            subject: subject(answer.subject),
            decision: answer.decision.map(Decision::from),
            operator_lines: answer.operator_lines,
            tenant_lines: answer.tenant_lines,
        }
    }
}
