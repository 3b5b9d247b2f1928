//! An envelope: what one module may draw until when. It is a lease, so that a lost link is safe in both directions.
//!
//! Time needs no common clock: an envelope is valid for `valid_for` from the agent's own boot-time stamp in the report it
//! answers; the controller counts 1.001 times that from receiving the report ([`Envelope::controller_hold`]).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::id::{ContingencyId, GensetId, MinerGroupId, ModuleId, PoolId, TenantId, WorkloadId};
use crate::module::Actuator;
use crate::plan::{GroupTarget, ImportTarget, StorageTarget};
use crate::site::Frequency;
use crate::time::{BootStamp, Span};
use crate::unit::{MicroDollars, Watts, WattsPerSecond};
use crate::workload::{GpuTime, Placement, Tier};

/// How long an envelope is valid unless configured otherwise.
pub const DEFAULT_VALIDITY: Span = Span::secs(120);

/// Who decided, in order of precedence. An agent refuses a lower one than it has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Fence {
    /// Raised by every restore or import of the store.
    pub epoch: u64,
    /// The create revision of the leader's key.
    pub leader: u64,
    /// The plan's generation.
    pub plan: u64,
}

/// What one module may draw until when.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Envelope {
    /// For which module.
    pub module: ModuleId,
    /// Who decided.
    pub fence: Fence,
    /// Counts the envelopes of this module, over all leaders. The same number with other content is refused;
    /// the same content with a later `answers` is a renewal.
    pub generation: u64,
    /// The stamp in the report that this answers; validity counts from here.
    pub answers: BootStamp,
    /// How long it is valid.
    pub valid_for: Span,
    /// What it grants.
    pub grant: Grant,
}

/// The content of an envelope.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Grant {
    /// Most the module may draw, at its meter.
    pub ceiling: Watts,
    /// What its firm AI needs.
    pub ai_floor: Watts,
    /// Its share of the island's load step and ramp.
    pub share: Share,
    /// Loads the agent drops on its own, in order.
    pub ladder: Vec<Rung>,
    /// For each contingency the rungs (indices into `ladder`) that open at once.
    pub armed: BTreeMap<ContingencyId, Arming>,
    /// What it may draw after expiry. Never empty in a valid grant; the last step holds for ever.
    pub fallback: Vec<FallbackStep>,
}

/// What answers one contingency.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Arming {
    /// The set whose breaker tells of it.
    pub source: GensetId,
    /// Power lost that this arming was sized for. A smaller loss opens fewer rungs, in the order given.
    pub lost: Watts,
    /// What the rest of the island takes at once without help.
    pub absorbed: Watts,
    /// What the whole island sheds for it, over all modules.
    pub island_shed: Watts,
    /// Rungs of this module, indices into the ladder.
    pub rungs: Vec<u32>,
}

/// A module's share of what the island may change at once. The shares of all modules add up to the island's limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// Largest step upwards.
    pub step: Watts,
    /// Fastest ramp upwards.
    pub ramp: WattsPerSecond,
    /// Length of the cycle in which each module has one turn to step; zero = any time.
    pub cycle: Span,
    /// When in the cycle this module's turn begins.
    pub offset: Span,
    /// How long its turn lasts.
    pub turn: Span,
}

/// One load that an agent drops on its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rung {
    /// What it drops.
    pub load: RungLoad,
    /// Through what.
    pub actuator: Actuator,
    /// What it was drawing when the plan was made; of storage, by how much more it can deliver.
    pub watts: Watts,
    /// Measured time from the command to no current; of storage, to the whole change.
    pub opens: Span,
    /// Backup without a network: it opens when frequency is this far below what the governor mode leads to expect.
    pub below: Frequency,
}

/// The load behind a rung.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RungLoad {
    /// All miners of a group.
    Miners(MinerGroupId),
    /// The part of a GPU pool above its lowest cap.
    Pool(PoolId),
    /// The site's storage delivers so much more. It drops no load, and stands in the wired module's ladder alone.
    Storage,
}

/// One step of the fallback programme.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FallbackStep {
    /// Time since expiry from which it holds.
    pub after: Span,
    /// Most the module may draw then.
    pub ceiling: Watts,
}

/// What one agent is told: the envelope, and what to do inside it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Directive {
    /// What it may draw.
    pub envelope: Envelope,
    /// What each miner group shall do.
    pub miners: BTreeMap<MinerGroupId, GroupTarget>,
    /// Cap of each GPU pool; absent = none.
    pub caps: BTreeMap<PoolId, Watts>,
    /// Sets that shall run; only the wired module of a site acts on it.
    pub gensets: BTreeMap<GensetId, bool>,
    /// What the site's storage shall do; only the wired module acts on it. `None` = come to rest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<StorageTarget>,
    /// What the site's grid tie shall import; only the wired module acts on it. `None` = come to rest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub import: Option<ImportTarget>,
    /// Everything that shall run there. A run that does not stand here is stopped with a checkpoint.
    pub runs: BTreeMap<WorkloadId, Assignment>,
    /// Power cap of each run that is slowed, its share of its servers' idle power included ([`crate::cap`]); absent = none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub slowed: BTreeMap<WorkloadId, Watts>,
}

impl Directive {
    /// The envelope, and nothing to do inside it.
    pub const fn idle(envelope: Envelope) -> Self {
        Self {
            envelope,
            miners: BTreeMap::new(),
            caps: BTreeMap::new(),
            gensets: BTreeMap::new(),
            storage: None,
            import: None,
            runs: BTreeMap::new(),
            slowed: BTreeMap::new(),
        }
    }
}

/// One workload on one module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    /// Whose it is, for the ledger.
    pub tenant: TenantId,
    /// What was promised.
    pub tier: Tier,
    /// Where in the module.
    pub placement: Placement,
    /// GPU time still to do at the last checkpoint; `None` runs until it is stopped.
    pub remaining: Option<GpuTime>,
    /// Progress at the checkpoint from which it starts.
    pub start_from: GpuTime,
    /// Time between checkpoints. Zero: nothing is saved and nothing lost, and it draws until it has ended, as in a powered shell.
    pub checkpoint: Span,
    /// Time to save a checkpoint; the notice of a powered shell.
    pub save: Span,
    /// Time from start until progress resumes.
    pub restart: Span,
    /// Price of a GPU-hour, for the ledger.
    pub price: MicroDollars,
    /// The agent stops it by itself after so long without a controller; only then may it start elsewhere.
    pub keep_without_link: Span,
    /// Its contract lets it be slowed, so that progress is paid, for the ledger.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub by_progress: bool,
}

impl Envelope {
    /// How long the controller counts the envelope as in force, from receiving the report it answers:
    /// `valid_for` × 1.001, for clocks that differ by up to 1,000 ppm (crystal oscillators stay within 200).
    pub fn controller_hold(valid_for: Span) -> Span {
        Span::new(valid_for.get() + (valid_for.get() + 999) / 1_000)
    }

    /// The order in which envelopes supersede one another.
    pub fn precedence(&self) -> (Fence, u64) {
        (self.fence, self.generation)
    }
}

impl Grant {
    /// The most this grant ever allows once it has expired.
    pub fn fallback_ceiling(&self) -> Watts {
        self.fallback.iter().map(|step| step.ceiling).max().unwrap_or(Watts::ZERO)
    }

    /// What the fallback programme allows `since` after expiry; nothing without a programme.
    pub fn fallback_at(&self, since: Span) -> Watts {
        self.fallback.iter().rev().find(|step| step.after <= since).map_or(Watts::ZERO, |step| step.ceiling)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fence_orders_by_epoch_then_leader_then_plan() {
        let fence = |epoch, leader, plan| Fence { epoch, leader, plan };
        assert!(fence(1, 9, 9) < fence(2, 1, 1));
        assert!(fence(1, 1, 9) < fence(1, 2, 1));
        assert!(fence(1, 1, 1) < fence(1, 1, 2));
    }

    #[test]
    fn the_controller_counts_a_little_longer_than_the_agent() {
        assert_eq!(Envelope::controller_hold(Span::secs(120)), Span::new(120_120));
        assert_eq!(Envelope::controller_hold(Span::new(1)), Span::new(2));
    }

    #[test]
    fn the_last_fallback_step_holds_for_ever() {
        let grant = Grant {
            ceiling: Watts::kilo(100),
            ai_floor: Watts::ZERO,
            share: Share::default(),
            ladder: Vec::new(),
            armed: BTreeMap::new(),
            fallback: vec![
                FallbackStep { after: Span::ZERO, ceiling: Watts::kilo(60) },
                FallbackStep { after: Span::hours(1), ceiling: Watts::kilo(40) },
            ],
        };
        assert_eq!(grant.fallback_at(Span::minutes(59)), Watts::kilo(60));
        assert_eq!(grant.fallback_at(Span::hours(99)), Watts::kilo(40));
        assert_eq!(grant.fallback_ceiling(), Watts::kilo(60));
    }
}
