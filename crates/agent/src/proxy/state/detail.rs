//! The whole state for people: upstreams, workers, groups and books of one instant.
//!
//! Assumes that it is asked by hand, not by the second: it copies the books of up to 4,096 workers under the lock, some
//! milliseconds. Next: `../../local.rs`, which puts it on the wire.

use model::Time;

use super::{Lane, State};
use crate::proxy::{Detail, UpstreamState, UpstreamStatus};

impl State {
    pub(in crate::proxy) fn detail(&mut self, now: Time, mono_ms: u64) -> Detail {
        // With a lane for each miner the accounts' own have no session.
        let shown = |lane: &&Lane| !lane.retired && (lane.account.is_some() || !self.pass_through);
        Detail {
            stats: self.stats(),
            upstreams: self.lanes.iter().filter(shown).map(Lane::status).collect(),
            total: self.accounts.total(),
            workers: self.accounts.workers().clone(),
            groups: self.verified(now),
            bans: self.bans.in_force(mono_ms),
            words: self.words.iter().map(|(code, text)| ((*code).to_owned(), text.clone())).collect(),
        }
    }
}

impl Lane {
    fn status(&self) -> UpstreamStatus {
        let state = match (self.is_up(), self.keep_alive.is_active()) {
            (true, _) => UpstreamState::Up,
            (false, true) => UpstreamState::KeepAlive,
            (false, false) => UpstreamState::Away,
        };
        UpstreamStatus {
            account: self.route.name.clone(),
            weight: self.route.weight,
            // Of a lane of its own the account counts the miner.
            miners: if self.account.is_some() { 1 } else { self.miners },
            state,
            pool: self.route.pools.get(self.pool).map(ToString::to_string).unwrap_or_default(),
            difficulty: self.difficulty,
            trouble: self.trouble.clone(),
            private: self.account.is_some(),
        }
    }
}
