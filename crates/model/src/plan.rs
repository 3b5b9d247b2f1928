//! A plan: the immutable, complete, parent-linked decision for the whole fleet over the horizon.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::envelope::{FallbackStep, Rung, Share};
use crate::id::{ContingencyId, GensetId, MinerGroupId, ModuleId, PoolId, SiteId, WorkloadId};
use crate::shared::Shared;
use crate::site::GasFlow;
use crate::time::{Span, Time};
use crate::unit::{MicroDollars, Watts, WattsPerSecond};
use crate::workload::Placement;

/// Steps of the horizon: 24 steps of 5 minutes are 2 hours.
pub const STEPS: usize = 24;
/// Length of one step.
pub const STEP: Span = Span::minutes(5);

/// A decision for the whole fleet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Its number; each committed plan has a higher one than its parent.
    pub generation: u64,
    /// The plan it replaces; `None` for the first of an installation.
    pub parent: Option<u64>,
    /// The input's time.
    pub made: Time,
    /// SHA-256 of the planner's input in canonical JSON, in hex: the same input must give the same plan. The controller fills
    /// it in; the planner leaves it empty.
    pub input: String,
    /// What each site does. Shared with other plans: most sites go on as in the parent.
    pub sites: BTreeMap<SiteId, Shared<SitePlan>>,
    /// Expected money over the horizon.
    pub worth: MicroDollars,
    /// The last upper bound that is known: of this plan's own input, or of an earlier one, and then it is stale.
    #[serde(default)]
    pub bound: Option<Bound>,
    /// Why, in order of site and subject; workloads that run nowhere stand at the end, in order of id.
    pub decisions: Vec<Shared<Decision>>,
}

/// An upper bound on what a dispatch can be worth, and what was reached. Money over the dwell of half an hour, without what goes on
/// anyway; not to be confused with the worth of a plan's two hours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bound {
    /// No plan for that input is worth more.
    pub most: MicroDollars,
    /// What the search found for it.
    pub reached: MicroDollars,
    /// The input it holds for, by its time.
    pub made: Time,
}

/// The decision for one island.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SitePlan {
    /// What the island can carry now: the ceilings and the unmanaged load together stay within it.
    pub capacity: Watts,
    /// What it can still carry after the loss of its largest source: firm AI and all fallback ceilings stay within it.
    pub firm_capacity: Watts,
    /// Sets that shall run.
    pub gensets: BTreeMap<GensetId, bool>,
    /// Sets that are to do otherwise later, and in how many steps: the schedule as it is now expected. Nothing follows from it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub later: BTreeMap<GensetId, u32>,
    /// The losses that the armed tables answer, and what each sheds.
    pub contingencies: BTreeMap<ContingencyId, Contingency>,
    /// What each module may and shall do now.
    pub modules: BTreeMap<ModuleId, ModulePlan>,
    /// What storage shall do; `None` = there is none, or it is left to come to rest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<StorageTarget>,
    /// What the grid tie shall import; `None` = there is none, or it is left to come to rest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub import: Option<ImportTarget>,
    /// The horizon, one entry a [`STEP`]; the first begins at `Plan::made`.
    pub steps: Vec<SiteStep>,
}

/// What storage shall do. The rungs of the wired module's ladder act on top of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StorageTarget {
    /// What it shall deliver; negative = charge.
    pub power: Watts,
    /// Fastest change by choice, in either direction.
    pub ramp: WattsPerSecond,
}

/// What a grid tie shall import.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportTarget {
    /// What it shall import; never negative, since nothing is exported.
    pub power: Watts,
    /// Fastest change by choice, in either direction.
    pub ramp: WattsPerSecond,
}

/// One credible loss at a site.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contingency {
    /// The source that is lost.
    pub source: GensetId,
    /// The most power that is lost with it.
    pub lost: Watts,
    /// What the remaining sets take at once, within their block-load step.
    pub absorbed: Watts,
    /// What the armed rungs drop.
    pub shed: Watts,
}

/// What one module may and shall do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModulePlan {
    /// Most it may draw.
    pub ceiling: Watts,
    /// What its firm AI needs; shedding stops above it.
    pub ai_floor: Watts,
    /// Its share of the island's load step and ramp.
    pub share: Share,
    /// Loads it drops on its own, in this order.
    pub ladder: Vec<Rung>,
    /// For each contingency the rungs (indices into `ladder`) that open at once.
    pub armed: BTreeMap<ContingencyId, Vec<u32>>,
    /// What it may draw when its envelope has expired.
    pub fallback: Vec<FallbackStep>,
    /// What each miner group shall do.
    pub miners: BTreeMap<MinerGroupId, GroupTarget>,
    /// Power cap of each GPU pool, whole pool; absent = none.
    pub caps: BTreeMap<PoolId, Watts>,
    /// What runs there, and where in it. A workload that runs but does not stand here is to be stopped.
    pub runs: BTreeMap<WorkloadId, Placement>,
    /// Power cap of each run that is slowed, its share of its servers' idle power included ([`crate::cap`]); absent = none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub slowed: BTreeMap<WorkloadId, Watts>,
}

/// What a miner group shall do. Regulation stays below it when the envelope or the dwell demands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupTarget {
    /// Miners awake.
    pub awake: u32,
    /// Their operating point, an index into [`crate::module::MinerGroup::points`].
    pub point: u8,
}

/// What one island is expected to do in one step of the horizon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiteStep {
    /// Power that gas and running sets sustain.
    pub capacity: Watts,
    /// Drawn by AI (servers, idle ones included).
    pub ai: Watts,
    /// Drawn by miners.
    pub mining: Watts,
    /// Drawn by auxiliaries, losses and unmanaged load.
    pub auxiliary: Watts,
    /// Gas that is flared.
    pub flared: GasFlow,
    /// Expected money of the step.
    pub worth: MicroDollars,
}

/// One decision and its reason.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// What it is about.
    pub subject: Subject,
    /// Why.
    pub reason: ReasonCode,
    /// The constraint that binds, e.g. `site well-7: N-1 capacity`; operators only.
    pub binding: Option<String>,
    /// What one more unit of it would be worth an hour; operators only.
    pub shadow_price: Option<MicroDollars>,
    /// The best alternative that was rejected; operators only.
    pub rejected: Option<String>,
}

/// What a decision is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// An island.
    Site(SiteId),
    /// A module.
    Module(ModuleId),
    /// A workload.
    Workload(WorkloadId),
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Subject::Site(id) => write!(f, "site {id}"),
            Subject::Module(id) => write!(f, "module {id}"),
            Subject::Workload(id) => write!(f, "workload {id}"),
        }
    }
}

/// Why something is as it is. The texts of [`ReasonCode::as_str`] are stable: tools may match on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReasonCode {
    /// Accepted, not planned yet.
    Accepted,
    /// Placed: its worth a kilowatt is the best use of the power.
    Placed,
    /// Goes on where it runs.
    Kept,
    /// No pool of that GPU type has enough free GPUs together.
    NoGpus,
    /// The site's power does not suffice.
    NoPower,
    /// It is firm, and the capacity that survives the loss of a source does not suffice.
    NoFirmCapacity,
    /// It asks for a GPU type that no module has.
    NoSuchGpu,
    /// It was stopped for work that is worth more.
    Preempted,
    /// It was stopped because power fell short.
    PowerShort,
    /// Its module is cordoned or drained.
    Draining,
    /// Its module is out of touch.
    LinkLost,
    /// It was stopped without progress before and may not be stopped again, or started only to be stopped.
    NoThrash,
    /// Its tenant ended it.
    Cancelled,
    /// Its GPU time is done.
    Completed,
    /// Mining takes what AI leaves.
    MiningResidual,
    /// Mining earns less than its gas and wear.
    MiningUnprofitable,
    /// The miners are held for reserve or to give the sets their minimum load.
    Ballast,
    /// The hand-over of watts waits for a meter.
    AwaitingMeter,
    /// Gas is short.
    GasShort,
    /// Load steps or ramps of the sets limit the change.
    StepLimited,
    /// The module reports nothing; its share is kept back for it.
    Unknown,
    /// Goes on under a power cap, as its contract allows: power is short, or has a better use.
    Slowed,
    /// Another site has room for it, but its own list leaves that out.
    SitesBound,
    /// There is room for it where its group's rule forbids it to start.
    GroupBound,
}

impl ReasonCode {
    /// The stable text, as in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            ReasonCode::Accepted => "accepted",
            ReasonCode::Placed => "placed",
            ReasonCode::Kept => "kept",
            ReasonCode::NoGpus => "no_gpus",
            ReasonCode::NoPower => "no_power",
            ReasonCode::NoFirmCapacity => "no_firm_capacity",
            ReasonCode::NoSuchGpu => "no_such_gpu",
            ReasonCode::Preempted => "preempted",
            ReasonCode::PowerShort => "power_short",
            ReasonCode::Draining => "draining",
            ReasonCode::LinkLost => "link_lost",
            ReasonCode::NoThrash => "no_thrash",
            ReasonCode::Cancelled => "cancelled",
            ReasonCode::Completed => "completed",
            ReasonCode::MiningResidual => "mining_residual",
            ReasonCode::MiningUnprofitable => "mining_unprofitable",
            ReasonCode::Ballast => "ballast",
            ReasonCode::AwaitingMeter => "awaiting_meter",
            ReasonCode::GasShort => "gas_short",
            ReasonCode::StepLimited => "step_limited",
            ReasonCode::Unknown => "unknown",
            ReasonCode::Slowed => "slowed",
            ReasonCode::SitesBound => "sites_bound",
            ReasonCode::GroupBound => "group_bound",
        }
    }
}

impl fmt::Display for ReasonCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Plan {
    /// Whether its bound is one of an earlier input; a plan without a bound has none that could be stale.
    pub fn bound_is_stale(&self) -> bool {
        self.bound.is_some_and(|bound| bound.made != self.made)
    }

    /// The plan of one module, wherever it stands.
    pub fn module(&self, id: &ModuleId) -> Option<&ModulePlan> {
        self.sites.values().find_map(|site| site.modules.get(id))
    }

    /// Every run that the plan has, and where.
    pub fn placements(&self) -> impl Iterator<Item = (&WorkloadId, &Placement)> {
        self.sites.values().flat_map(|site| site.modules.values()).flat_map(|module| &module.runs)
    }

    /// Where the plan has a workload run. It looks through the whole plan: whoever asks for many keeps [`Plan::placements`].
    pub fn placement(&self, id: &WorkloadId) -> Option<&Placement> {
        self.sites.values().flat_map(|site| site.modules.values()).find_map(|module| module.runs.get(id))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn reason_codes_read_the_same_in_json_and_on_screen() {
        for code in
            [ReasonCode::NoGpus, ReasonCode::MiningResidual, ReasonCode::Unknown, ReasonCode::StepLimited]
        {
            assert_eq!(serde_json::to_string(&code).unwrap(), format!("\"{}\"", code.as_str()));
        }
    }
}
