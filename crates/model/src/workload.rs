//! A workload: a gang of GPUs that a tenant asked for, and what became of it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::affinity::{Affinity, Group};
use crate::id::{ModuleId, OfferingId, PoolId, SiteId, TenantId, WorkloadId};
use crate::plan::ReasonCode;
use crate::shell::SoldBy;
use crate::time::{Span, Time};
use crate::unit::{MicroDollars, Pace, Quantity, Unit};

/// Marker of [`GpuTime`].
#[derive(Debug)]
pub enum GpuMillisecond {}

impl Unit for GpuMillisecond {
    const SYMBOL: &'static str = "GPU·ms";
}

/// GPU time: GPUs × milliseconds.
pub type GpuTime = Quantity<GpuMillisecond>;

impl GpuTime {
    /// `gpus` for `span`.
    pub const fn of(gpus: u32, span: Span) -> Self {
        Self::new(span.millis()).times(gpus as i64)
    }

    /// What it costs at `price` a GPU-hour, rounded toward zero.
    pub const fn cost(self, price: MicroDollars) -> MicroDollars {
        price.fraction(self.get(), 3_600_000)
    }
}

/// What a tenant was promised. Ordered from the strongest promise to the weakest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tier {
    /// Survives the loss of any one source: served from N-1 capacity.
    Firm,
    /// Runs as long as there is power; stopped only when power is short, with notice.
    #[serde(alias = "on-demand")]
    OnDemand,
    /// Runs while nothing better needs the power.
    Spot,
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Tier::Firm => "firm",
            Tier::OnDemand => "on-demand",
            Tier::Spot => "spot",
        })
    }
}

/// What was asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    /// The offering it was bought under.
    pub offering: OfferingId,
    /// The offering's tier when it was bought.
    pub tier: Tier,
    /// The GPU's type, or `kilowatt` ([`crate::shell`]).
    pub gpu: String,
    /// GPUs that run together, in one pool of one module; or kilowatts.
    pub gpus: u32,
    /// GPU time after which it is complete; `None` runs until it is cancelled.
    pub amount: Option<GpuTime>,
    /// Price of a GPU-hour when it was bought.
    pub price: MicroDollars,
    /// Time between checkpoints. Zero: nothing is saved and no progress is ever lost, as in a powered shell.
    pub checkpoint: Span,
    /// Time to save a checkpoint; the notice of a powered shell.
    pub save: Span,
    /// Time from start until progress resumes (image, weights, compilation).
    pub restart: Span,
    /// The least pace to which its contract lets it be held while power is short; `None` = it is never slowed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub floor: Option<Pace>,
    /// Where it may run, and beside whom; `None` = anywhere, beside anybody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Affinity>,
}

/// A workload: what was asked (`spec`) and what is (`status`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Workload {
    /// Its id, unique in the fleet.
    pub id: WorkloadId,
    /// Whose it is.
    pub tenant: TenantId,
    /// When it was accepted.
    pub created: Time,
    /// What was asked.
    pub spec: Spec,
    /// The tenant asked for its end.
    pub cancel: bool,
    /// What was promised when it was admitted; `None` for what promises nothing, and for orders from before promises were written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub promise: Option<Promise>,
    /// What became of it.
    pub status: Status,
}

/// An availability that a tenant was promised, and on what grounds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Promise {
    /// Availability promised, in thousandths.
    pub level: u32,
    /// Price of a GPU-hour at which it was promised.
    pub price: MicroDollars,
    /// When.
    pub given: Time,
    /// Why it was given.
    pub grounds: Grounds,
}

/// Why a promise was given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Grounds {
    /// It holds by the model of availability, beside every promise given before.
    Holds {
        /// Share of the term that was expected to be served, in millionths.
        expected_ppm: u64,
        /// The least that a GPU-hour had to earn then.
        least_price: MicroDollars,
    },
    /// An operator gave it without asking the model.
    Override {
        /// Who, as they called themselves.
        by: String,
        /// Why.
        why: String,
    },
}

/// What became of a workload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Where it stands.
    pub phase: Phase,
    /// Why it stands there.
    pub reason: ReasonCode,
    /// Where it runs or last ran.
    pub placement: Option<Placement>,
    /// Progress as last reported, from the start of the workload.
    pub progress: GpuTime,
    /// Progress that the last checkpoint we observed holds.
    pub saved: GpuTime,
    /// GPU time for which it held GPUs, progress or not.
    pub held: GpuTime,
    /// How often we stopped it by choice.
    pub preemptions: u32,
    /// When we last stopped it by choice.
    pub preempted: Option<Time>,
    /// `progress` when we last stopped it by choice: stopping it again needs more.
    pub progress_at_preemption: GpuTime,
    /// When the phase last changed.
    pub since: Time,
}

/// The phases of a workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Accepted; holds nothing.
    Pending,
    /// Placed; the module's agent is starting it.
    Starting,
    /// Makes progress.
    Running,
    /// Told to stop; saving a checkpoint.
    Stopping,
    /// Its module is out of touch; it may still run there and is started nowhere else.
    Unreachable,
    /// Its amount of GPU time is done.
    Completed,
    /// The tenant ended it.
    Cancelled,
}

impl Phase {
    /// Nothing more will happen to it.
    pub const fn is_final(self) -> bool {
        matches!(self, Phase::Completed | Phase::Cancelled)
    }

    /// It holds GPUs somewhere.
    pub const fn holds(self) -> bool {
        matches!(self, Phase::Starting | Phase::Running | Phase::Stopping | Phase::Unreachable)
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Phase::Pending => "pending",
            Phase::Starting => "starting",
            Phase::Running => "running",
            Phase::Stopping => "stopping",
            Phase::Unreachable => "unreachable",
            Phase::Completed => "completed",
            Phase::Cancelled => "cancelled",
        })
    }
}

/// Where a workload runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// The module.
    pub module: ModuleId,
    /// The pool in it.
    pub pool: PoolId,
    /// GPUs taken on each server: (server's index, GPUs).
    pub servers: Vec<(u32, u32)>,
    /// Counts starts of this workload: a run with a lower number is stale and is stopped.
    pub incarnation: u64,
}

impl Workload {
    /// A workload as it is when just accepted.
    pub fn accepted(id: WorkloadId, tenant: TenantId, spec: Spec, created: Time) -> Self {
        let status = Status {
            phase: Phase::Pending,
            reason: ReasonCode::Accepted,
            placement: None,
            progress: GpuTime::ZERO,
            saved: GpuTime::ZERO,
            held: GpuTime::ZERO,
            preemptions: 0,
            preempted: None,
            progress_at_preemption: GpuTime::ZERO,
            since: created,
        };
        Self { id, tenant, created, spec, cancel: false, promise: None, status }
    }

    /// The least pace to which it may be held; firm work is never slowed, whatever its contract says.
    pub fn floor(&self) -> Option<Pace> {
        self.spec.floor.filter(|_| self.spec.tier != Tier::Firm)
    }

    /// Whether it may run on a site, as far as its list of sites says.
    pub fn may_run_on(&self, site: &SiteId) -> bool {
        self.spec.affinity.as_ref().is_none_or(|affinity| affinity.allows(site))
    }

    /// The group that it belongs to.
    pub fn group(&self) -> Option<&Group> {
        self.spec.affinity.as_ref().and_then(|affinity| affinity.group.as_ref())
    }

    /// GPU time still to do; `None` runs until cancelled.
    pub fn remaining(&self) -> Option<GpuTime> {
        self.spec.amount.map(|amount| (amount - self.status.progress).at_least_zero())
    }

    /// Availability promised to it, in thousandths: what stands in its promise, or else what `offered` says.
    pub fn level(&self, offered: impl FnOnce(&OfferingId) -> u32) -> u32 {
        self.promise.as_ref().map_or_else(|| offered(&self.spec.offering), |promise| promise.level)
    }

    /// What one unit of it is.
    pub fn sold_by(&self) -> SoldBy {
        SoldBy::of(&self.spec.gpu)
    }

    /// Whether stopping it by choice now would be the second time without progress in between.
    pub fn made_no_progress_since_preemption(&self) -> bool {
        self.status.preempted.is_some() && self.status.progress <= self.status.progress_at_preemption
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gpu_time_costs_by_the_hour() {
        let time = GpuTime::of(8, Span::minutes(30));
        assert_eq!(time.cost(MicroDollars::cents(295)), MicroDollars::cents(295 * 4));
    }

    #[test]
    fn tiers_are_ordered_by_promise() {
        assert!(Tier::Firm < Tier::OnDemand && Tier::OnDemand < Tier::Spot);
    }
}
