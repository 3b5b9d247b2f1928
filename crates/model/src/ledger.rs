//! The ledger: the append-only record of energy, hashing, workload time and gas, from which invoices follow.
//!
//! Lines are sealed into [`Segment`]s by agents; a segment's (module, sequence) names it for ever, so a repeat changes nothing.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::id::{MinerGroupId, ModuleId, PoolId, SiteId, TenantId, WorkloadId};
use crate::site::GasVolume;
use crate::time::Time;
use crate::unit::{MicroDollars, WattSeconds, Work};
use crate::workload::GpuTime;

/// A sealed run of ledger lines of one module.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Segment {
    /// Whose.
    pub module: ModuleId,
    /// Counts the module's segments from 1, without gaps.
    pub sequence: u64,
    /// Time of the first line.
    pub from: Time,
    /// Time of the last line.
    pub to: Time,
    /// The lines, in the order in which they were written.
    pub lines: Vec<Line>,
}

/// One line of the ledger.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Line {
    /// Energy of an interval, by use.
    Energy(Energy),
    /// Shares of a batch, by end.
    Shares(Shares),
    /// Time a workload held GPUs.
    Run(Run),
    /// Gas of an interval, from the wired module.
    Gas(Gas),
    /// Energy bought from a grid in an interval, from the wired module.
    Import(Import),
    /// A stretch that was not recorded.
    Gap(Gap),
}

/// Energy of one interval: the lines and `unattributed` together equal the meter exactly.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Energy {
    /// Begin of the interval.
    pub from: Time,
    /// Its end.
    pub to: Time,
    /// What the module's meter counted.
    pub meter: WattSeconds,
    /// By use.
    pub uses: Vec<(Use, WattSeconds)>,
    /// What no use explains; may be slightly negative by meter error.
    pub unattributed: WattSeconds,
}

/// What energy is used for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Use {
    /// Miners of a group.
    Mining {
        /// The group.
        group: MinerGroupId,
    },
    /// A tenant's workload.
    Workload {
        /// Whose.
        tenant: TenantId,
        /// Which.
        workload: WorkloadId,
    },
    /// Servers with nothing to do.
    Idle {
        /// The pool.
        pool: PoolId,
    },
    /// Fans, pumps, controls.
    Auxiliary,
    /// Distribution loss.
    Loss,
}

/// Shares that ended alike. Each verified share stands in exactly one such line, once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shares {
    /// The miners' group.
    pub group: MinerGroupId,
    /// The worker's name towards the pool.
    pub worker: String,
    /// How they ended.
    pub end: ShareEnd,
    /// How many.
    pub count: u64,
    /// Their expected hashes, really done: the work of the targets the miners were given.
    pub work: Work,
    /// What the pool credits for them if it accepts, at its own difficulty; zero where they were not forwarded.
    pub credited: Work,
    /// Nominal hashes for each hash really done.
    pub scale: u64,
}

/// The ends of a share.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ShareEnd {
    /// Refused at the edge; the stable code says why.
    Rejected(String),
    /// Verified, easier than the pool asks: it proves work but is not forwarded.
    Counted,
    /// Verified on a job of our own while no pool was there: unpaid.
    KeepAlive,
    /// The pool accepted it.
    Accepted,
    /// The pool refused it; a stable code says why. Segments of earlier releases have the pool's own words.
    Refused(String),
    /// Forwarded, and no answer came.
    Unknown,
}

/// Time a workload held GPUs, for its invoice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// Whose.
    pub tenant: TenantId,
    /// Which.
    pub workload: WorkloadId,
    /// Which start of it.
    pub incarnation: u64,
    /// Begin of the interval.
    pub from: Time,
    /// Its end.
    pub to: Time,
    /// GPU time held.
    pub held: GpuTime,
    /// GPU time of progress.
    pub progress: GpuTime,
    /// Price of a GPU-hour.
    pub price: MicroDollars,
    /// Its contract lets it be slowed, so that progress is paid, not the time that GPUs were held.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub by_progress: bool,
}

impl Run {
    /// What the tenant owes for it.
    pub fn cost(&self) -> MicroDollars {
        if self.by_progress { self.progress.cost(self.price) } else { self.held.cost(self.price) }
    }
}

/// Gas of a site in an interval.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gas {
    /// The site.
    pub site: SiteId,
    /// Begin of the interval.
    pub from: Time,
    /// Its end.
    pub to: Time,
    /// Gas that arrived.
    pub supplied: GasVolume,
    /// Gas that the sets burnt.
    pub burnt: GasVolume,
    /// Gas that was flared.
    pub flared: GasVolume,
}

/// Energy that a site imported through its grid tie in an interval.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Import {
    /// The site.
    pub site: SiteId,
    /// Begin of the interval.
    pub from: Time,
    /// Its end.
    pub to: Time,
    /// What the tie's meter counted.
    pub energy: WattSeconds,
    /// What it costs at the prices of its seconds; `None` where the price of any of it was not known.
    pub cost: Option<MicroDollars>,
}

/// A stretch that was not recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// Last record before it; `None` when there is none.
    pub from: Option<Time>,
    /// First moment after it.
    pub to: Time,
    /// Why.
    pub why: String,
}

impl Energy {
    /// Splits a meter reading over uses: whatever they leave is unattributed, so that the sum is exact.
    pub fn attribute(from: Time, to: Time, meter: WattSeconds, uses: BTreeMap<Use, WattSeconds>) -> Self {
        let explained: WattSeconds = uses.values().copied().sum();
        Self { from, to, meter, uses: uses.into_iter().collect(), unattributed: meter - explained }
    }

    /// What the lines add up to; equals the meter in every honest record.
    pub fn total(&self) -> WattSeconds {
        self.uses.iter().map(|(_, energy)| *energy).sum::<WattSeconds>() + self.unattributed
    }
}

impl ShareEnd {
    /// The share was found good at the edge.
    pub const fn is_verified(&self) -> bool {
        !matches!(self, ShareEnd::Rejected(_))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn energy_lines_equal_the_meter_exactly(
            meter in 0i64..10_000_000, aux in 0i64..5_000_000, loss in 0i64..5_000_000,
        ) {
            let uses = [(Use::Auxiliary, WattSeconds::new(aux)), (Use::Loss, WattSeconds::new(loss))].into();
            let line = Energy::attribute(Time(0), Time(1), WattSeconds::new(meter), uses);
            prop_assert_eq!(line.total(), WattSeconds::new(meter));
        }
    }
}
