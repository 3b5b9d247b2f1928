//! What the planner is given: everything it may know, and nothing else. The same input gives the same plan, byte for byte.
//!
//! Assumes that ids are unique (maps see to it) and that the caller has dropped what is final. All maps are ordered, so the
//! JSON of an input is canonical as it stands. Read next: [`crate::plan`], which turns it into a decision.

use std::collections::{BTreeMap, BTreeSet};

use model::market::Market;
use model::module::Module;
use model::plan::Plan;
use model::report::{Report, SiteReport};
use model::site::{GasFlow, Site};
use model::workload::Workload;
use model::{ModuleId, SiteId, Time, WorkloadId};
use serde::{Deserialize, Serialize};

/// Everything a plan is made from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// When it was taken; the plan's first step begins here.
    pub now: Time,
    /// The plan in force, which the new one names as its parent. Who runs where and how often it was stopped stands in the
    /// workloads; what the parent adds is the ceilings that must not be forgotten when a link is lost, and the last bound.
    pub parent: Option<Plan>,
    /// The islands.
    pub sites: BTreeMap<SiteId, SiteInput>,
    /// The containers, on whichever island they stand.
    pub modules: BTreeMap<ModuleId, ModuleInput>,
    /// All workloads that are not final.
    pub workloads: BTreeMap<WorkloadId, Workload>,
    /// What mining pays now.
    #[serde(with = "market_json")]
    pub market: Market,
    /// The islands that an event touched: they alone are planned again, all others keep the plan in force. `None` = everything is
    /// planned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub touched: Option<BTreeSet<SiteId>>,
}

/// One island.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SiteInput {
    /// Its configuration.
    pub site: Site,
    /// Gas expected in each step of the horizon, the first one now. Empty = persistence of the last reading.
    #[serde(default)]
    pub forecast: Vec<GasStep>,
    /// What the wired module last said of it; `None` = never.
    pub report: Option<SiteReport>,
    /// Whether that report is younger than [`model::report::STALE_AFTER`]. On a stale one nothing is raised.
    pub fresh: bool,
}

/// Gas expected in one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GasStep {
    /// The flow that is exceeded nine times out of ten.
    pub p10: GasFlow,
    /// The flow that is exceeded every other time.
    pub p50: GasFlow,
}

/// One container.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModuleInput {
    /// Its configuration.
    pub module: Module,
    /// Whether its agent is in touch.
    pub link: Link,
    /// No new run is placed on it.
    #[serde(default)]
    pub cordoned: bool,
    /// Its runs are stopped with a checkpoint, and no new one is placed on it.
    #[serde(default)]
    pub draining: bool,
    /// What its agent last said; `None` = never, or not in this leader's term.
    pub report: Option<Report>,
}

/// Whether a module's agent is in touch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Link {
    /// It reports, and its last report is fresh.
    Online,
    /// It has a session, but its last report is stale: nothing is raised and nothing new is started there.
    Stale,
    /// Its session ended. It may still run what it ran, under the ceiling it was last given.
    Lost,
    /// It never reported to this installation.
    Never,
}

impl Link {
    /// Whether a directive would reach the module and come back confirmed.
    pub const fn is_in_touch(self) -> bool {
        matches!(self, Link::Online | Link::Stale)
    }
}

impl Input {
    /// The modules of one island, in order of id.
    pub fn modules_of<'a>(
        &'a self,
        site: &'a SiteId,
    ) -> impl Iterator<Item = (&'a ModuleId, &'a ModuleInput)> {
        self.modules.iter().filter(move |(_, module)| module.module.site == *site)
    }
}

/// JSON has no NaN: a difficulty that is no number is written as null and read back as NaN, so that an input with a broken
/// market can still be stored, hashed and solved again.
mod market_json {
    use model::MicroDollars;
    use model::market::Market;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    struct Wire {
        price: MicroDollars,
        difficulty: Option<f64>,
        subsidy: i64,
        fees_ppm: u32,
        pool_fee_ppm: u32,
    }

    pub(super) fn serialize<S: Serializer>(market: &Market, serializer: S) -> Result<S::Ok, S::Error> {
        let Market { price, difficulty, subsidy, fees_ppm, pool_fee_ppm } = *market;
        let difficulty = difficulty.is_finite().then_some(difficulty);
        Wire { price, difficulty, subsidy, fees_ppm, pool_fee_ppm }.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Market, D::Error> {
        let Wire { price, difficulty, subsidy, fees_ppm, pool_fee_ppm } = Wire::deserialize(deserializer)?;
        Ok(Market { price, difficulty: difficulty.unwrap_or(f64::NAN), subsidy, fees_ppm, pool_fee_ppm })
    }
}
