//! What pools answered to forwarded shares, pool by pool over all accounts.
//!
//! Counted by place (account, pool of its list), so that a share costs no text; places are few, since lanes of single miners count for
//! their account. Next: `pool.rs`, which hears the answers.

use std::collections::{BTreeMap, BTreeSet};

use stratum::account::End;

use super::State;
use crate::proxy::PoolStatus;

/// Answers by account and pool, as places in their lists.
#[derive(Debug, Default)]
pub(super) struct Answers(BTreeMap<(usize, usize), Counts>);

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    accepted: u64,
    refused: u64,
    unknown: u64,
}

impl State {
    /// A forwarded share of this lane had its answer, or will have none.
    pub(super) fn note_answer(&mut self, lane: usize, end: End) {
        let Some(at) = self.lanes.get(lane) else { return };
        let counts = self.answers.0.entry((at.account.unwrap_or(lane), at.pool)).or_default();
        match end {
            End::ForwardedAccepted => counts.accepted += 1,
            End::ForwardedRejected(_) => counts.refused += 1,
            _ => counts.unknown += 1,
        }
    }

    pub(in crate::proxy) fn pools(&self) -> Vec<PoolStatus> {
        let place = |(index, lane): (usize, &super::Lane)| (lane.account.unwrap_or(index), lane.pool);
        let served = self.lanes.iter().enumerate().filter(|(_, lane)| !lane.retired && lane.is_up());
        let up: BTreeSet<(usize, usize)> = served.map(place).collect();
        let mut pools: BTreeMap<String, PoolStatus> = BTreeMap::new();
        for (account, lane) in self.lanes.iter().enumerate().filter(|(_, lane)| lane.account.is_none()) {
            for (at, pool) in lane.route.pools.iter().enumerate() {
                let name = pool.to_string();
                let counts = self.answers.0.get(&(account, at)).copied().unwrap_or_default();
                let status = pools.entry(name.clone()).or_default();
                status.pool = name;
                status.up |= up.contains(&(account, at));
                status.accepted += counts.accepted;
                status.refused += counts.refused;
                status.unknown += counts.unknown;
            }
        }
        pools.into_values().collect()
    }
}
