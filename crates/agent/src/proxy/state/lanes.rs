//! The lanes' half of the state: who works for which account, who moves, and lanes of one miner alone.
//!
//! Assumes that lanes of accounts come first and never go; lanes of single miners stand behind them and are used again. A move is
//! paced: each second at most one miner in 256 (and at least one) is told to go, so that never more of the load falls than that.
//! Next: [`stratum::weights`], which decides; `../server.rs`, which asks each second.

use stratum::keepalive::KeepAlive;
use stratum::weights;

use super::spool::Spool;
use super::{Held, Lane, State};
use crate::proxy::upstreams::Route;

/// Of so many miners one moves a second: all of a container in four minutes, and under half a percent of its load at a time,
/// which is less than what a miner's own starts and stops do.
const MOVE_ONE_IN: u32 = 256;

/// A newcomer with a lane of its own waits so long for its pool at most: then it gets a job of ours, before the proxy gives up on
/// finding it a first one (25 s).
const NEWCOMER_MS: u64 = 15_000;

impl Lane {
    pub(super) fn new(route: Route, keep_alive: KeepAlive) -> Lane {
        Lane {
            name: route.name.as_str().into(),
            route,
            live: None,
            ground: None,
            mask: 0,
            keep_alive,
            miners: 0,
            pool: 0,
            trouble: None,
            difficulty: None,
            spool: Spool::default(),
            leaving: 0,
            account: None,
            retired: false,
            known: [None; 2],
        }
    }

    /// Whether its miners may still hope: its pool is there, or has been away for less than it takes to get jobs of ours.
    fn is_worth_staying(&self) -> bool {
        self.is_up() || !self.keep_alive.is_active()
    }
}

impl State {
    /// The accounts' lanes as they weigh; `is_up` says for which of them work is worth something.
    pub(super) fn weighed(&self, is_up: impl Fn(&Lane) -> bool) -> Vec<weights::Lane> {
        let lane = |lane: &Lane| weights::Lane {
            weight: if lane.ground.is_some() || self.pass_through { lane.route.weight } else { 0 },
            load: f64::from(lane.miners),
            is_up: is_up(lane),
        };
        self.lanes.iter().filter(|lane| lane.account.is_none()).map(lane).collect()
    }

    /// Says who shall move this second; `true` when somebody shall. Lanes of single miners stay: newcomers follow the weights.
    pub(in crate::proxy) fn rebalance(&mut self) -> bool {
        self.lanes.iter_mut().for_each(|lane| lane.leaving = 0);
        if self.pass_through {
            return false;
        }
        let mut weighed = self.weighed(Lane::is_worth_staying);
        let miners: u32 = self.lanes.iter().map(|lane| lane.miners).sum();
        for _ in 0..(miners / MOVE_ONE_IN).max(1) {
            let Some((from, to)) = weights::step(&weighed) else { break };
            if !self.is_up(to) {
                break;
            }
            weighed[from].load -= 1.0;
            weighed[to].load += 1.0;
            self.lanes[from].leaving += 1;
        }
        self.lanes.iter().any(|lane| lane.leaving > 0)
    }

    /// Whether a miner shall leave the account that it works for.
    pub(super) fn may_leave(&self, held: &Held) -> bool {
        let told = self.lanes.get(held.lane).is_some_and(|lane| lane.leaving > 0);
        told && self.choose().is_some_and(|to| to != held.lane)
    }

    /// It leaves: its slice is given back.
    pub(super) fn leave(&mut self, held: &Held) {
        let Some(lane) = self.lanes.get_mut(held.lane) else { return };
        lane.leaving -= 1;
        lane.miners -= 1;
        if let Some(ground) = lane.ground.as_mut().filter(|ground| ground.epoch == held.epoch) {
            ground.slices.release(held.index);
        }
    }

    /// Other weights for the same accounts, in their order; `false` changes nothing, since there are not as many.
    pub(in crate::proxy) fn set_weights(&mut self, weights: &[u32]) -> bool {
        let mut accounts: Vec<&mut Lane> =
            self.lanes.iter_mut().filter(|lane| lane.account.is_none()).collect();
        if accounts.len() != weights.len() {
            return false;
        }
        accounts.iter_mut().zip(weights).for_each(|(lane, weight)| lane.route.weight = *weight);
        true
    }

    /// A lane for one miner alone, of the account that lacks most of its share.
    pub(in crate::proxy) fn add_lane(&mut self, mono_ms: u64) -> usize {
        // An account all of whose miners have lost their pools is away.
        let is_up = |account: usize| {
            let mut own =
                self.lanes.iter().filter(|lane| lane.account == Some(account) && !lane.retired).peekable();
            own.peek().is_none() || own.any(Lane::is_up)
        };
        let mut weighed = self.weighed(|_| true);
        (0..weighed.len()).for_each(|account| weighed[account].is_up = is_up(account));
        let account = weights::choose(&weighed).unwrap_or(0);
        self.lanes[account].miners += 1;
        let route = self.lanes[account].route.clone();
        let away_since = mono_ms.saturating_sub(self.keep_alive.after_ms.saturating_sub(NEWCOMER_MS));
        let keep_alive = KeepAlive::new(self.keep_alive, away_since);
        let lane = Lane { account: Some(account), ..Lane::new(route, keep_alive) };
        match self.lanes.iter().position(|lane| lane.retired) {
            Some(free) => {
                self.lanes[free] = lane;
                free
            }
            None => {
                self.lanes.push(lane);
                self.lanes.len() - 1
            }
        }
    }

    /// The miner of a lane of its own has gone.
    pub(in crate::proxy) fn retire(&mut self, index: usize, mono_ms: u64) {
        self.close(index, mono_ms);
        self.give_up_spool(index);
        self.settle();
        let Some(lane) = self.lanes.get_mut(index) else { return };
        (lane.retired, lane.ground, lane.spool) = (true, None, Spool::default());
        self.note_sessions(index);
        let Some(lane) = self.lanes.get(index) else { return };
        if let Some(account) = lane.account.and_then(|account| self.lanes.get_mut(account)) {
            account.miners -= 1;
        }
    }

    /// Which pool of the list is tried.
    pub(in crate::proxy) fn note_pool(&mut self, lane: usize, pool: usize) {
        if let Some(lane) = self.lanes.get_mut(lane) {
            lane.pool = pool;
        }
    }

    /// What ended the last session or attempt, for people.
    pub(in crate::proxy) fn note_trouble(&mut self, lane: usize, trouble: String) {
        if let Some(lane) = self.lanes.get_mut(lane) {
            lane.trouble = Some(trouble);
        }
    }
}
