//! Which miner belongs to which group, by the name it authorizes with.
//!
//! Simulated miners are called `account.module-group-index`. Whoever fits no known group is an outside miner and counts with
//! scale 1 in the group kept for them, whatever that group's own miners are scaled by: a scale is given only to whom the
//! simulator made. Next: `state.rs`.

use std::collections::BTreeMap;

use model::MinerGroupId;

/// The groups of one module.
#[derive(Clone, Debug)]
pub struct Groups {
    known: BTreeMap<MinerGroupId, u64>,
    outside: MinerGroupId,
}

impl Groups {
    /// `known` gives each group's scale; `outside` takes the miners that fit none.
    pub fn new(known: BTreeMap<MinerGroupId, u64>, outside: MinerGroupId) -> Groups {
        Groups { known, outside }
    }

    /// All groups, that for outside miners included.
    pub fn ids(&self) -> impl Iterator<Item = &MinerGroupId> {
        self.known.keys().chain((!self.known.contains_key(&self.outside)).then_some(&self.outside))
    }

    /// A worker's group and its scale.
    pub fn of(&self, worker: &str) -> (&MinerGroupId, u64) {
        self.named(worker).map_or((&self.outside, 1), |(group, scale)| (group, (*scale).max(1)))
    }

    /// The group of `…-group-index`; of two that fit, the longer id: `b-a` before `a`.
    fn named(&self, worker: &str) -> Option<(&MinerGroupId, &u64)> {
        let (_, name) = worker.rsplit_once('.')?;
        let (stem, index) = name.rsplit_once('-')?;
        if index.is_empty() || !index.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let fits =
            |group: &MinerGroupId| stem.strip_suffix(group.as_str()).is_some_and(|rest| rest.ends_with('-'));
        let fitting = self.known.iter().filter(|(group, _)| fits(group));
        fitting.max_by_key(|(group, _)| group.as_str().len())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn id(text: &str) -> MinerGroupId {
        MinerGroupId::new(text).unwrap()
    }

    #[test]
    fn names_say_the_group_and_strangers_have_scale_one() {
        let groups = Groups::new([(id("a"), 7), (id("b-a"), 8), (id("c"), 0)].into(), id("a"));
        let check = |worker: &str, group: &str, scale: u64| {
            assert_eq!(groups.of(worker), (&id(group), scale), "{worker}");
        };
        check("acct.well-7-mine-a-0", "a", 7);
        check("acct.well-7-mine-b-a-11", "b-a", 8);
        check("acct.m-c-3", "c", 1);
        check("bc1q.some.where.m-a-1", "a", 7);
        for stranger in
            ["", "acct", "acct.", "acct.a-1", "acct.xa-1", "acct.m-a-x", "acct.m-a-", "acct.m-d-1", "m-a-1"]
        {
            check(stranger, "a", 1);
        }
    }

    #[test]
    fn the_group_of_strangers_is_listed_once() {
        let ids = |outside: &str| {
            let groups = Groups::new([(id("a"), 1)].into(), id(outside));
            groups.ids().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(ids("a"), ["a"]);
        assert_eq!(ids("outside"), ["a", "outside"]);
    }
}
