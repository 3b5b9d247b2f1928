//! Tenants and what is sold to them.

use serde::{Deserialize, Serialize};

use crate::id::{OfferingId, TenantId};
use crate::shell::SoldBy;
use crate::time::{Span, Time};
use crate::unit::{MicroDollars, Pace};
use crate::workload::Tier;

/// Who buys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tenant {
    /// Its id, unique in the fleet.
    pub id: TenantId,
    /// Its name, for people.
    pub name: String,
    /// Most GPUs it may hold at once, over all its workloads.
    pub gpu_quota: u32,
    /// Most kilowatts of powered shell it may hold at once, over all its workloads.
    #[serde(default)]
    pub kilowatt_quota: u32,
    /// When the operator made it.
    pub created: Time,
}

/// What is sold, at a list price.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Offering {
    /// Its id, unique in the fleet.
    pub id: OfferingId,
    /// What is promised.
    pub tier: Tier,
    /// The type, as in [`crate::module::GpuPool::gpu`]; [`crate::SoldBy`] says what one unit of it is.
    pub gpu: String,
    /// Price of one GPU, or one kilowatt, for one hour.
    pub price: MicroDollars,
    /// Shortest warning before a preemption; of a powered shell, the time between telling its tenant and opening its feeder.
    pub notice: Span,
    /// Promised availability over a month, in thousandths; 0 where nothing is promised.
    pub sla_permille: u32,
    /// Power-elastic: the least pace to which its work may be held while power is short, paid by progress. Left out, nobody slows
    /// it. Never firm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub floor: Option<Pace>,
}

impl Offering {
    /// Whether GPUs are sold here under this tier.
    pub fn sells_gpus(&self, tier: Tier) -> bool {
        self.tier == tier && SoldBy::of(&self.gpu) == SoldBy::Gpu
    }
}
