//! What an operator is shown beside a plan: per island the capacity, the load by use, what binds, and what would help.
//!
//! It is derived from the plan and its input and decides nothing. Tenants never see it: it names others' loads and prices.
//! Read next: [`crate::explain`], which answers for one subject in two views.

use std::collections::BTreeMap;

use model::report::Finding;
use model::site::GasFlow;
use model::{MicroDollars, Shared, SiteId, Watts};
use serde::{Deserialize, Serialize};

/// The operator's view of a plan.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Per island.
    pub sites: BTreeMap<SiteId, Shared<SiteView>>,
    /// What in the input kept the planner from doing better, and what to change.
    pub findings: Vec<Finding>,
}

/// One island.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiteView {
    /// What the island can carry now.
    pub capacity: Watts,
    /// What it carries after the loss of its largest source.
    pub firm_capacity: Watts,
    /// What was kept back from what gas and sets sustain, for regulation and metering error.
    pub margin: Watts,
    /// What gas sustains over the next step, whatever the sets.
    pub gas_power: Watts,
    /// Ratings of the online sets together.
    pub online_rating: Watts,
    /// Expected load by use.
    pub load: Uses,
    /// Gas expected to be flared in the first step.
    pub flared: GasFlow,
    /// What binds the island, in words.
    pub binding: String,
    /// What one more kilowatt there would earn in an hour.
    pub shadow_price: MicroDollars,
    /// What an operator could change.
    pub hints: Vec<String>,
}

/// Expected load by use; together with the loss they are what the sets deliver.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Uses {
    /// Busy GPUs of firm workloads.
    pub firm_ai: Watts,
    /// Busy GPUs of all others.
    pub other_ai: Watts,
    /// Miners awake.
    pub mining: Watts,
    /// Servers without work and miners asleep.
    pub idle: Watts,
    /// Fans, pumps, controls and distribution loss.
    pub auxiliary: Watts,
    /// Load that is not ours.
    pub unmanaged: Watts,
    /// Kept back for modules that are out of touch.
    pub reserved: Watts,
}

impl Uses {
    /// Everything together.
    pub fn total(&self) -> Watts {
        let Self { firm_ai, other_ai, mining, idle, auxiliary, unmanaged, reserved } = *self;
        firm_ai + other_ai + mining + idle + auxiliary + unmanaged + reserved
    }
}
