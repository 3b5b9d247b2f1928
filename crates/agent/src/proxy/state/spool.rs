//! Shares that are found while the connection with a pool is lost, kept for the session they belong to.
//!
//! A share is good in its session and for its job alone. Some pools go on with a session when they are asked by its name: then the
//! miners keep their slices, and what they found meanwhile is sent. Assumes that a pool does so only once it was seen to: before,
//! such shares are unpaid at once and nobody waits. They wait until the session is there again with its extranonce1 and previous
//! block, and end as unknown if it is not, if it is another, or when miners get jobs of our own. Next: `pool.rs`, the caller.

use std::collections::BTreeSet;

use model::ledger::ShareEnd;
use stratum::account::End;
use stratum::job::{Job, Slice};
use stratum::upstream::{Outgoing, Resume, ShareRef, Upstream};

use super::{Lane, State};

/// Shares that one account's spool holds: 300 miners at ten a minute find 50 a second, so this is twenty seconds of them; and
/// fewer than the lines that may wait for a pool, since all go at once. What is more is unpaid.
const MAX_SPOOLED: usize = 1_000;
/// Places beyond those for blocks, of which one in ten minutes is usual for all of a chain.
const BLOCKS_SPOOLED: usize = 24;

/// One lane's. Private fields: `shares` are in flight in the books, all of the session that `last` names.
#[derive(Debug, Default)]
pub(super) struct Spool {
    /// The session that was lost, and at which pool of the list.
    last: Option<(usize, Resume)>,
    /// Pools that were seen to go on with a session.
    proven: BTreeSet<usize>,
    shares: Vec<(ShareRef, Outgoing)>,
}

impl Spool {
    /// The session to ask a pool for.
    pub(super) fn resume(&self, pool: usize) -> Option<Resume> {
        self.last.as_ref().filter(|(at, _)| *at == pool).map(|(_, resume)| resume.clone())
    }

    /// A connection is gone; one that never was ready changes nothing.
    pub(super) fn on_lost(&mut self, pool: usize, upstream: &Upstream) {
        if upstream.is_ready() {
            self.last = upstream.resume().map(|resume| (pool, resume));
        }
    }

    /// The number of the session that was lost.
    pub(super) fn lost(&self) -> Option<u64> {
        self.last.as_ref().map(|(_, resume)| resume.session)
    }

    fn waits_for(&self, share: &Outgoing) -> bool {
        let is_it =
            |(pool, resume): &(usize, Resume)| resume.session == share.session && self.proven.contains(pool);
        let most = if share.block { MAX_SPOOLED + BLOCKS_SPOOLED } else { MAX_SPOOLED };
        self.last.as_ref().is_some_and(is_it) && self.shares.len() < most
    }
}

impl Lane {
    fn spools_for(&self, share: &Outgoing) -> bool {
        !self.is_up() && !self.keep_alive.is_active() && self.spool.waits_for(share)
    }
}

impl State {
    /// Whether a share can be sent, or may wait for its session.
    pub(super) fn has_place(&self, share: &Outgoing) -> bool {
        self.index_of(share.session).is_some() || self.spooling(share).is_some()
    }

    /// The lane in whose spool a share may wait.
    fn spooling(&self, share: &Outgoing) -> Option<usize> {
        let index = *self.sessions.get(&share.session)?;
        self.lanes.get(index)?.spools_for(share).then_some(index)
    }

    /// A share that cannot be sent now: it waits where it may, and is unknown elsewhere.
    pub(super) fn keep_for_later(&mut self, share: ShareRef, outgoing: &Outgoing) {
        match self.spooling(outgoing).and_then(|index| self.lanes.get_mut(index)) {
            Some(lane) => lane.spool.shares.push((share, outgoing.clone())),
            None => self.finish(share, End::Unknown, &ShareEnd::Unknown),
        }
    }

    /// Whether the session that has just become ready is the lost one; if so its pool is known to do that. Miners keep their slices
    /// only if these were cut from `slice`: they may be of an older session, or of an extranonce before the last.
    pub(super) fn goes_on(&mut self, lane: usize, slice: &Slice) -> bool {
        let Some(lane) = self.lanes.get_mut(lane) else { return false };
        // Without ground there is nothing to go on with: slices were never made.
        let fits = lane.ground.as_ref().is_some_and(|ground| ground.slices.upstream() == slice);
        let resumed = fits && lane.live.as_ref().is_some_and(|live| live.upstream.is_resumed());
        if resumed {
            lane.spool.proven.insert(lane.pool);
        }
        resumed
    }

    /// A job of the session that is up. If it stands on the block that the spooled shares stand on, they are good and go out.
    pub(super) fn replay(&mut self, index: usize, job: &Job) {
        let Some(lane) = self.lanes.get_mut(index) else { return };
        if lane.spool.shares.is_empty() {
            return;
        }
        let same_block =
            lane.ground.as_ref().is_some_and(|ground| ground.assignment.job.previous == job.previous);
        let Some(live) = lane.live.as_mut().filter(|live| same_block && live.upstream.is_resumed()) else {
            return self.give_up_spool(index);
        };
        lane.spool.shares.sort_by_key(|(_, outgoing)| !outgoing.block);
        let mut refused = Vec::new();
        for (share, outgoing) in lane.spool.shares.drain(..) {
            // Fewer than may wait; and what the pool does not answer is ended by its timeout.
            if live.send(share, &outgoing, live.opened_ms).is_err() {
                refused.push(share);
            }
        }
        tracing::info!(
            account = lane.route.name,
            "the pool goes on with its session; spooled shares were sent"
        );
        refused.into_iter().for_each(|share| self.finish(share, End::Unknown, &ShareEnd::Unknown));
    }

    /// The session is gone for good: what waits for it is unknown.
    pub(super) fn give_up_spool(&mut self, lane: usize) {
        let Some(lane) = self.lanes.get_mut(lane) else { return };
        let shares = std::mem::take(&mut lane.spool.shares);
        shares.into_iter().for_each(|(share, _)| self.finish(share, End::Unknown, &ShareEnd::Unknown));
    }

    /// The proxy ends: nothing waits for anything any more.
    pub(in crate::proxy) fn end_lane(&mut self, lane: usize, mono_ms: u64) {
        self.close(lane, mono_ms);
        self.give_up_spool(lane);
        self.settle();
    }
}
