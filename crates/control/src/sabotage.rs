//! Faults built in on purpose: a sabotaged run proves that the checker of an invariant fires.
//!
//! None is on unless a configuration names it. Everything that a sabotage changes goes through the functions here, so that the
//! honest path reads without them.

use std::collections::{BTreeMap, BTreeSet};

use model::module::Module;
use model::plan::GroupTarget;
use model::{MinerGroupId, Span, Time};
use serde::{Deserialize, Serialize};

/// How long each half of the flapping lasts that `IgnoreDwell` causes: well inside any usual dwell (5 minutes).
const FLAP: Span = Span::secs(45);

/// One way to misbehave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sabotage {
    /// Steps up as fast as it can, out of its turn and over its share (invariant 3).
    IgnoreShare,
    /// Reverses miners every 45 s (invariant 7).
    IgnoreDwell,
    /// Goes on after expiry as if the envelope were valid (invariants 1 and 8).
    IgnoreExpiry,
    /// Keeps quiet about meters that contradict each other (invariant 12).
    NoFlag,
    /// Draws all it can, whatever was granted (invariant 1).
    IgnoreCeiling,
    /// Starts each run a second time beside the first (invariant 8).
    DoubleStart,
}

/// The sabotages that are on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sabotages(pub BTreeSet<Sabotage>);

impl Sabotages {
    /// Whether `which` is on.
    pub fn has(&self, which: Sabotage) -> bool {
        self.0.contains(&which)
    }

    /// The module as the agent believes it to be: without any dwell under `IgnoreDwell`.
    pub(crate) fn module(&self, mut module: Module) -> Module {
        if self.has(Sabotage::IgnoreDwell) {
            module.groups.values_mut().for_each(|group| group.dwell = Span::ZERO);
        }
        module
    }

    /// The targets that regulation tracks: those of the directive, unless a sabotage overrides them.
    pub(crate) fn targets(
        &self,
        honest: BTreeMap<MinerGroupId, GroupTarget>,
        module: &Module,
        now: Time,
    ) -> BTreeMap<MinerGroupId, GroupTarget> {
        let everything = || {
            let full = |points: usize| u8::try_from(points.saturating_sub(1)).unwrap_or(u8::MAX);
            let all = |group: &model::module::MinerGroup| GroupTarget {
                awake: group.count,
                point: full(group.points.len()),
            };
            module.groups.iter().map(|(id, group)| (id.clone(), all(group))).collect()
        };
        if self.has(Sabotage::IgnoreCeiling) {
            return everything();
        }
        if self.has(Sabotage::IgnoreDwell) && now.millis().div_euclid(FLAP.get()) % 2 == 0 {
            return honest
                .into_iter()
                .map(|(id, target)| (id, GroupTarget { awake: target.awake / 2, ..target }))
                .collect();
        }
        honest
    }
}
