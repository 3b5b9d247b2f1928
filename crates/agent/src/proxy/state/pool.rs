//! The pools' half of the state: sessions open, bring slices and jobs, answer shares, and close; and what miners get meanwhile.
//!
//! Assumes that the caller owns the sockets and acts on the events that are handed back. Next: `../upstream.rs`, the caller.

use std::sync::Arc;

use model::ledger::ShareEnd;
use stratum::account::End;
use stratum::commit::Template;
use stratum::job::{Assignment, Slice, Source};
use stratum::slices::{self, Slices};
use stratum::upstream::{self, Event, Outcome, PoolReject, ShareRef, Upstream};
use tokio::sync::Notify;

use super::{Ground, Live, State};

/// What miners roll while no pool was ever seen: no other has a say in it.
const OWN_EXTRANONCE2: usize = 8;
/// Version bits while no pool was ever seen: those that BIP 310 leaves to miners.
const OWN_MASK: u32 = 0x1fff_e000;

/// Differs between lanes, or miners of two accounts that never saw a pool would hash the same.
fn own_extranonce1(unix_s: u64, lane: usize) -> Vec<u8> {
    [&unix_s.to_be_bytes()[4..], &lane.to_be_bytes()[6..]].concat()
}

impl State {
    /// A connection to a pool is there; answers the lines that open the conversation. `wake` is told when there are others.
    pub(in crate::proxy) fn open(
        &mut self,
        lane: usize,
        config: upstream::Config,
        wake: Arc<Notify>,
        mono_ms: u64,
    ) -> Vec<String> {
        self.counters.pool_sessions += 1;
        let session = self.counters.pool_sessions;
        let index = lane;
        let Some(lane) = self.lanes.get_mut(index) else { return Vec::new() };
        let config = upstream::Config { resume: lane.spool.resume(lane.pool), ..config };
        let (upstream, opening) = Upstream::new(config, session, mono_ms);
        lane.live = Some(Live::new(upstream, wake, mono_ms));
        self.note_sessions(index);
        opening
    }

    /// The connection is gone: what was on the wire ends as unknown. Miners keep the ground they stand on.
    pub(in crate::proxy) fn close(&mut self, index: usize, mono_ms: u64) {
        let Some(lane) = self.lanes.get_mut(index) else { return };
        lane.keep_alive.on_lost(mono_ms);
        let Some(live) = lane.live.take() else { return };
        lane.spool.on_lost(lane.pool, &live.upstream);
        self.note_sessions(index);
        for share in live.upstream.disconnect() {
            self.note_answer(index, End::Unknown);
            self.finish(share, End::Unknown, &ShareEnd::Unknown);
        }
        self.settle();
    }

    /// Moves lines that wait for the pool into `out`, which is empty; see [`Live::take`].
    pub(in crate::proxy) fn take_waiting(&mut self, lane: usize, out: &mut String) {
        if let Some(live) = self.lanes.get_mut(lane).and_then(|lane| lane.live.as_mut()) {
            live.take(out);
        }
    }

    /// A line of the pool. `rest` gets what the caller must see to: lines to send, news to tell, a connection to give up. Outcomes
    /// are in the journal once [`State::settle`] was called.
    pub(in crate::proxy) fn on_pool_line(&mut self, lane: usize, line: &[u8], rest: &mut Vec<Event>) {
        let mut heard = std::mem::take(&mut self.heard);
        if let Some(live) = self.lanes.get_mut(lane).and_then(|lane| lane.live.as_mut()) {
            live.upstream.on_line_to(&mut heard, line);
        }
        self.take(lane, &mut heard, rest);
        self.heard = heard;
    }

    pub(in crate::proxy) fn tick(&mut self, lane: usize, mono_ms: u64) -> Vec<Event> {
        let live = self.lanes.get_mut(lane).and_then(|lane| lane.live.as_mut());
        let mut events = live.map(|live| live.upstream.tick(mono_ms)).unwrap_or_default();
        let mut rest = Vec::new();
        self.take(lane, &mut events, &mut rest);
        self.settle();
        rest
    }

    /// Whether every pool has been away for as long as the settings say.
    pub(in crate::proxy) fn is_unpaid(&self, mono_ms: u64) -> bool {
        let Some((after_ms, since_ms)) = self.idle_after_ms.zip(self.away_since_ms) else { return false };
        mono_ms.saturating_sub(since_ms) >= after_ms
    }

    fn note_away(&mut self, mono_ms: u64) {
        let is_paid = self.lanes.iter().any(|lane| lane.is_up() && lane.route.weight > 0);
        self.away_since_ms = if is_paid { None } else { self.away_since_ms.or(Some(mono_ms)) };
    }

    /// To be called each second: hands out jobs of our own where pools have been away for long; says whether there are news.
    pub(in crate::proxy) fn keep_alive(&mut self, mono_ms: u64, unix_s: u64) -> bool {
        self.note_away(mono_ms);
        let mut news = false;
        for lane in 0..self.lanes.len() {
            // Nobody works on the accounts' own lanes where each miner has its own.
            let is_idle =
                self.lanes[lane].retired || (self.pass_through && self.lanes[lane].account.is_none());
            if is_idle {
                continue;
            }
            let Some(assignment) = self.lanes[lane].keep_alive.tick(mono_ms, unix_s) else { continue };
            let first = self.lanes[lane].ground.is_none();
            let slice =
                Slice { extranonce1: own_extranonce1(unix_s, lane), extranonce2_size: OWN_EXTRANONCE2 };
            if first {
                self.lanes[lane].mask = OWN_MASK;
            }
            match self.stand_on(lane, &assignment, first.then_some(slice)) {
                Ok(()) => {
                    self.give_up_spool(lane);
                    tracing::warn!(
                        account = self.lanes[lane].route.name,
                        "all pools are away; miners get a job of our own"
                    );
                    news = true;
                }
                Err(error) => {
                    tracing::error!(error = &error as &dyn std::error::Error, "no job to keep miners alive");
                }
            }
        }
        self.settle();
        news
    }

    /// Acts on what concerns the books, and hands back all the rest with the jobs.
    fn take(&mut self, lane: usize, events: &mut Vec<Event>, rest: &mut Vec<Event>) {
        for event in events.drain(..) {
            if matches!(event, Event::Ready { .. }) {
                // The pool may go on with an earlier session, under its number.
                self.note_sessions(lane);
            }
            match event {
                Event::Outcome { share, outcome } => self.on_outcome(lane, share, outcome),
                Event::Ready { slice, mask } if self.goes_on(lane, &slice) => self.go_on(lane, slice, mask),
                Event::Ready { slice, mask } => {
                    self.give_up_spool(lane);
                    self.renew(lane, slice, Some(mask));
                }
                Event::Extranonce(slice) => self.renew(lane, slice, None),
                Event::Mask(mask) => {
                    self.set_mask(lane, mask);
                    rest.push(event);
                }
                Event::Job(assignment) => match self.on_job(lane, &assignment) {
                    Ok(()) => rest.push(Event::Job(assignment)),
                    Err(error) => tracing::error!(
                        error = &error as &dyn std::error::Error,
                        "pool's job cannot be shared out"
                    ),
                },
                event => rest.push(event),
            }
        }
    }

    fn renew(&mut self, lane: usize, slice: Slice, mask: Option<u32>) {
        let Some(lane) = self.lanes.get_mut(lane) else { return };
        lane.mask = mask.unwrap_or(lane.mask);
        if let Some(live) = &mut lane.live {
            live.fresh = Some(slice);
        }
    }

    fn on_job(&mut self, lane: usize, assignment: &Arc<Assignment>) -> Result<(), slices::Error> {
        if let Source::Upstream { difficulty, .. } = assignment.source {
            self.counters.pool_difficulty = Some(difficulty.value());
            if let Some(at) = self.lanes.get_mut(lane) {
                at.difficulty = Some(difficulty.value());
            }
        }
        let Some(at) = self.lanes.get_mut(lane) else { return Ok(()) };
        at.keep_alive.on_pool_job(&assignment.job);
        let fresh = at.live.as_mut().and_then(|live| live.fresh.take());
        if let Some(live) = at.live.as_mut().filter(|_| fresh.is_some()) {
            live.slice.clone_from(&fresh);
        }
        self.announce(lane, assignment);
        self.replay(lane, &assignment.job);
        self.stand_on(lane, assignment, fresh)
    }

    /// The lost session is there again, with the slice that its miners hold.
    fn go_on(&mut self, lane: usize, slice: Slice, mask: u32) {
        if let Some(live) = self.lanes.get_mut(lane).and_then(|lane| lane.live.as_mut()) {
            live.slice = Some(slice);
        }
        self.set_mask(lane, mask);
    }

    /// Other bits are free from now on, in the standing job too.
    fn set_mask(&mut self, lane: usize, mask: u32) {
        if let Some(lane) = self.lanes.get_mut(lane) {
            lane.mask = mask;
        }
        if let Some(assignment) = self.standing(lane) {
            self.announce(lane, &assignment);
        }
    }

    /// The lane's current job.
    fn standing(&self, lane: usize) -> Option<Arc<Assignment>> {
        self.lanes.get(lane)?.ground.as_ref().map(|ground| Arc::clone(&ground.assignment))
    }

    /// Says what accepted shares of a job are to be proven by; before the first of them can be found.
    fn announce(&mut self, lane: usize, assignment: &Assignment) {
        let Source::Upstream { session, difficulty } = assignment.source else { return };
        let Some(lane) = self.lanes.get(lane) else { return };
        let live = lane.live.as_ref().filter(|live| live.upstream.session() == session);
        let Some(slice) = live.and_then(|live| live.slice.as_ref()) else { return };
        if let Some(template) = Template::new(&assignment.job, slice, lane.mask, difficulty.target()) {
            self.journal.job(session, &assignment.job.id, template);
        }
    }

    /// Keeps a pool's own words for people: the last for each code, which are few.
    fn note_words(&mut self, lane: usize, reject: PoolReject, text: String) {
        let account = self.lanes.get(lane).map(|lane| lane.route.name.as_str()).unwrap_or_default();
        let first = !self.words.contains_key(reject.code());
        match first {
            true => tracing::warn!(
                account,
                code = reject.code(),
                text,
                "the pool refused a share, the first for this reason"
            ),
            false => tracing::debug!(account, code = reject.code(), text, "the pool refused a share"),
        }
        self.words.insert(reject.code(), text);
    }

    /// From now on the lane's miners work on this; with a fresh slice they all get new ones.
    fn stand_on(
        &mut self,
        lane: usize,
        assignment: &Arc<Assignment>,
        fresh: Option<Slice>,
    ) -> Result<(), slices::Error> {
        let (counter, limit) = (self.slice_counter, self.max_connections as u64);
        let Some(lane) = self.lanes.get_mut(lane) else { return Ok(()) };
        match (&mut lane.ground, fresh) {
            (_, Some(slice)) => {
                // A pool gave this slice to one miner alone, where each has a session of its own; one of ours never is.
                let alone = lane.account.is_some() && assignment.source != Source::KeepAlive;
                let slices = if alone { Slices::whole(slice) } else { Slices::new(slice, counter, limit)? };
                self.epoch += 1;
                lane.ground = Some(Ground { epoch: self.epoch, slices, assignment: Arc::clone(assignment) });
            }
            (Some(ground), None) => {
                if ground.assignment.job.previous != assignment.job.previous {
                    ground.slices.on_new_previous();
                }
                ground.assignment = Arc::clone(assignment);
            }
            (None, None) => {}
        }
        Ok(())
    }

    fn on_outcome(&mut self, lane: usize, share: ShareRef, outcome: Outcome) {
        match outcome {
            Outcome::Accepted => {
                self.note_answer(lane, End::ForwardedAccepted);
                self.finish(share, End::ForwardedAccepted, &ShareEnd::Accepted);
            }
            Outcome::Rejected { reject, text } => {
                self.note_answer(lane, End::ForwardedRejected(reject));
                // The ledger has a line for each end, so that a pool must not choose what it is called.
                let end = ShareEnd::Refused(reject.code().to_owned());
                self.finish(share, End::ForwardedRejected(reject), &end);
                self.note_words(lane, reject, text);
            }
            Outcome::Unknown => {
                self.note_answer(lane, End::Unknown);
                self.finish(share, End::Unknown, &ShareEnd::Unknown);
            }
        }
    }
}
