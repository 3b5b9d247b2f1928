//! The outlook: hour by hour for three days, what could be sold, when a new gang would start, when a module is best drained, and
//! what power and GPUs are worth.
//!
//! It begins where the plan made on the same input leads to: what that plan runs goes on until its GPU time is done, what it leaves
//! waiting holds nothing. Each hour is a snapshot of the same islands that plans are made on, with gas and sets as [`gas`] expects
//! them at four quantiles; gas and sets are each taken at the same quantile, which is cautious where bad luck does not come
//! together. Who is drained, cordoned or out of touch now stays so. It decides nothing, and plans do not use it yet.
//!
//! Read next: [`gas`] for the quantiles, `supply` for what an hour can carry, `drain`, `price`.

mod drain;
pub mod gas;
mod price;
mod supply;

use std::collections::BTreeMap;

use model::workload::{Phase, Tier, Workload};
use model::{GensetId, MicroDollars, ModuleId, SiteId, SoldBy, Span, Time, Watts, WorkloadId};
use serde::{Deserialize, Serialize};

use crate::input::Input;
use crate::plan;
pub use gas::Assumptions;

/// Hours it looks ahead: three days.
pub const HOURS: usize = 72;
/// Gangs for which starts are told: from one GPU to eight servers of eight.
pub const GANGS: [u32; 5] = [1, 8, 16, 32, 64];
/// The same where a type is sold by the kilowatt: from a rack or two to half a container.
pub const SHELLS: [u32; GANGS.len()] = [50, 100, 200, 500, 1_000];

/// One value at each quantile: `p10` is undercut in one case of ten.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Four<T> {
    /// Undercut in one case of a hundred.
    pub p1: T,
    /// Undercut in one case of ten.
    pub p10: T,
    /// Undercut every other time.
    pub p50: T,
    /// Undercut in nine cases of ten.
    pub p90: T,
}

/// What lies ahead.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outlook {
    /// The input's time; hour 0 begins here.
    pub made: Time,
    /// What is assumed of gas and sets.
    pub assumptions: Assumptions,
    /// Per island.
    pub sites: BTreeMap<SiteId, SiteOutlook>,
}

/// What lies ahead of one island. Vectors have an entry for each of [`HOURS`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SiteOutlook {
    /// What gas and sets sustain, before any margin.
    pub power: Vec<Four<Watts>>,
    /// By GPU type and tier, in that order.
    pub supply: Vec<Supply>,
    /// What an hour without the module would lose at the median.
    pub drains: BTreeMap<ModuleId, Drain>,
    /// What one more megawatt-hour would earn at the median, less its gas.
    pub megawatt_hour: Vec<MicroDollars>,
    /// What it is worth that a set still runs when the two hours of a plan end: the start that is saved, where it is needed then.
    pub set_on: BTreeMap<GensetId, MicroDollars>,
}

/// What can be sold of one GPU type under one tier. Tiers share the same GPUs: these are alternatives, not to be added.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Supply {
    /// The GPU's type.
    pub gpu: String,
    /// What is promised. Firm and on-demand may take the place of spot runs.
    pub tier: Tier,
    /// Hour by hour.
    pub hours: Vec<Saleable>,
    /// When gangs of so many GPUs would start.
    pub starts: Vec<Start>,
}

/// What can be sold in one hour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saleable {
    /// GPUs, beside what runs; kilowatts where the type is sold so.
    pub gpus: Four<u32>,
    /// What keeps it at zero at p10; `None` when it is not.
    pub short: Option<Short>,
    /// Least price of a GPU-hour at which selling one more pays, at the median: the mining and gas it displaces, and the run that
    /// gives way where no GPU is free. `None` when none can be had.
    pub least_price: Option<MicroDollars>,
}

/// When a gang of so many GPUs in one pool would start: the first hour that has room for it, if any has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// Its GPUs.
    pub gpus: u32,
    /// The hour, at each quantile of supply: late at p1, early at p90.
    pub hour: Four<Option<u32>>,
}

/// When a module is best taken out of service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drain {
    /// What an hour without it loses, if it is taken out in that hour.
    pub loss: Vec<MicroDollars>,
    /// The first hour that loses least.
    pub best: u32,
}

/// Why nothing can be sold. The texts of [`Short::as_str`] are stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Short {
    /// The site never reported, so nothing is known of it.
    Silent,
    /// No gas, or less than the least load of one set.
    Gas,
    /// No set can run.
    Sets,
    /// Fewer than two sets run, and nothing firm is sold on one.
    OneSet,
    /// All GPUs of the type are held, or stand in modules that take nothing new.
    Gpus,
    /// Other load takes all the power.
    Power,
    /// What survives the loss of a set is taken.
    FirmCapacity,
    /// Too little load that feeders could drop stands beside.
    Reserve,
    /// The modules' own limits.
    ModuleLimit,
}

impl Short {
    /// The stable text, as in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Short::Silent => "silent",
            Short::Gas => "gas",
            Short::Sets => "sets",
            Short::OneSet => "one_set",
            Short::Gpus => "gpus",
            Short::Power => "power",
            Short::FirmCapacity => "firm_capacity",
            Short::Reserve => "reserve",
            Short::ModuleLimit => "module_limit",
        }
    }
}

/// Gangs of a type for which starts are told, smallest first.
pub fn gangs(kind: &str) -> [u32; GANGS.len()] {
    SoldBy::of(kind).pick(GANGS, SHELLS)
}

/// Looks ahead, for all islands or `only` one. Costs some hundred snapshots of each: off the critical path, like a bound.
pub fn outlook(input: &Input, assumptions: &Assumptions, only: Option<&SiteId>) -> Outlook {
    let ahead = Ahead::of(input);
    let site = |id: &SiteId| supply::site(&ahead, id, assumptions);
    let asked = input.sites.keys().filter(|id| only.is_none_or(|only| only == *id));
    let sites = asked.map(|id| (id.clone(), site(id)));
    Outlook { made: input.now, assumptions: *assumptions, sites: sites.collect() }
}

/// What the power of one GPU costs in an hour at a site now, once `more` is drawn there: its gas, and the mining that it displaces.
pub(crate) fn power_price(input: &Input, site: &SiteId, more: Watts, gpu: Watts) -> MicroDollars {
    let Some(given) = input.sites.get(site) else { return MicroDollars::ZERO };
    let mut here = input.clone();
    here.modules.retain(|_, module| module.module.site == *site);
    let reported = given.report.as_ref().and_then(|report| report.unmanaged).unwrap_or_default();
    let loads = drain::Loads::of(&here, &given.site, given.site.unmanaged.max(reported));
    let now = Assumptions::default();
    let power = gas::sustained(&given.site, gas::flow(given, 0, &now).p50, &gas::sets(given, 0, &now).p50);
    price::gpu_hour(&loads, power - more, gpu)
}

/// The fleet as the plan leaves it.
pub(crate) struct Ahead<'a> {
    pub(crate) input: &'a Input,
    pub(crate) plan: model::plan::Plan,
    /// What runs, by island.
    pub(crate) runs: BTreeMap<SiteId, BTreeMap<WorkloadId, Workload>>,
}

impl<'a> Ahead<'a> {
    pub(crate) fn of(input: &'a Input) -> Self {
        let plan = plan::whole(input).plan;
        let mut runs: BTreeMap<SiteId, BTreeMap<WorkloadId, Workload>> = BTreeMap::new();
        for (site, planned) in &plan.sites {
            let placed = planned.modules.values().flat_map(|module| &module.runs);
            let here = placed.filter_map(|(id, placement)| {
                let mut run = input.workloads.get(id)?.clone();
                run.status.phase = Phase::Running;
                run.status.placement = Some(placement.clone());
                Some((id.clone(), run))
            });
            runs.insert(site.clone(), here.collect());
        }
        Self { input, plan, runs }
    }
}

/// Whether a run still holds its GPUs when `hour` begins.
pub(crate) fn goes_on(run: &Workload, hour: usize) -> bool {
    let begins = Span::hours(i64::try_from(hour).unwrap_or(i64::MAX));
    run.remaining().is_none_or(|left| left > model::workload::GpuTime::of(run.spec.gpus, begins) || hour == 0)
}

impl<T> Four<T> {
    /// From the lowest to the highest.
    pub fn array(self) -> [T; 4] {
        [self.p1, self.p10, self.p50, self.p90]
    }

    /// From the lowest to the highest.
    pub fn from_array([p1, p10, p50, p90]: [T; 4]) -> Self {
        Self { p1, p10, p50, p90 }
    }
}
