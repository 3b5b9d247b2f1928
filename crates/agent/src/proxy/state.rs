//! The proxy's shared state: the accounts' sessions with pools, the slices, the books. Synchronous; its owner holds the lock.
//!
//! Assumes calls in the order in which things happened. The order inside a share's way is the promise of the crate: journal
//! first, then the books, then the wire; all shares of a read go it together, blocks before the others. Next: `miner.rs` and `upstream.rs`, the two callers.

mod answers;
mod detail;
mod flights;
mod lanes;
mod live;
mod pool;
mod spool;

use std::collections::BTreeMap;
use std::sync::Arc;

use model::ledger::ShareEnd;
use model::report::Verified;
use model::{Hashrate, MinerGroupId, Span, Time, Work};
use stratum::account::{Accounts, End, HashrateWindow};
use stratum::bans::Bans;
use stratum::downstream::{Fate, Output, Share};
use stratum::hash::HeaderHash;
use stratum::job::{Assignment, Source};
use stratum::keepalive::{self, KeepAlive};
use stratum::message::Submission;
use stratum::slices::{self, MinerSlice, Slices};
use stratum::upstream::{Event, Outgoing, ShareRef};
use stratum::verify::Reject;
use stratum::weights;

use super::journal::{Entry, JournalError, ShareJournal, ShareRecord, ShareSeq};
use super::upstreams::{Route, routes};
use super::{Config, GroupStatus, Groups, Sabotage, Stats};
use answers::Answers;
use flights::{Flights, InFlight, Records};
use live::Live;
use spool::Spool;

/// The books and the session. Private fields: shares in `flights` are exactly those in flight in `accounts`.
pub(super) struct State {
    /// Who is not served. It hangs together with nothing else here.
    pub(super) bans: Bans,
    groups: Groups,
    lanes: Vec<Lane>,
    sabotage: Sabotage,
    max_connections: usize,
    window_ms: u64,
    journal: Box<dyn ShareJournal>,
    accounts: Accounts,
    flights: Flights,
    /// Which lane has a session, or has lost it and keeps shares for it.
    sessions: BTreeMap<u64, usize>,
    /// Ends of forwarded shares that the journal does not have yet: empty whenever the lock is let go.
    outcomes: Vec<(ShareSeq, ShareEnd)>,
    /// Accepted shares among them, to be claimed once they are there.
    claims: Vec<(Outgoing, HeaderHash)>,
    /// What a pool's line caused, for as long as that is sorted.
    heard: Vec<Event>,
    /// The pools' last words for shares that they refused, by code.
    words: BTreeMap<&'static str, String>,
    proofs: BTreeMap<MinerGroupId, Proof>,
    epoch: u64,
    slice_counter: u64,
    counters: Counters,
    answers: Answers,
    pass_through: bool,
    keep_alive: keepalive::Config,
    idle_after_ms: Option<u64>,
    /// Since when no account that gets miners has a session; looked at each second.
    away_since_ms: Option<u64>,
}

/// One account: its session with a pool, and what its miners work on.
struct Lane {
    route: Route,
    /// The route's name, for all the shares that go under it.
    name: Arc<str>,
    live: Option<Live>,
    ground: Option<Ground>,
    mask: u32,
    keep_alive: KeepAlive,
    miners: u32,
    /// The place in the route's list of the pool in use, or tried last.
    pool: usize,
    /// What ended the last session or attempt.
    trouble: Option<String>,
    /// The pool's difficulty.
    difficulty: Option<f64>,
    /// Shares that wait for the session they were found in.
    spool: Spool,
    /// Miners that shall move to another account now.
    leaving: u32,
    /// Where each miner has a lane of its own: the lane of the account it works for.
    account: Option<usize>,
    /// Its miner has gone; another may take the place.
    retired: bool,
    /// The numbers that [`State::sessions`] has it under: of the session that is there, and of the one that was lost.
    known: [Option<u64>; 2],
}

/// What miners work on. It outlives the session with the pool, so that they stay while the pool is away.
struct Ground {
    epoch: u64,
    slices: Slices,
    assignment: Arc<Assignment>,
}

/// A share of a read, on its way to the journal.
struct Taken<'a> {
    record: ShareRecord,
    way: Way<'a>,
    /// How often it is recorded; once, unless sabotaged.
    copies: usize,
}

/// Where it goes from there.
enum Way<'a> {
    Forward(&'a Outgoing),
    End(End, ShareEnd),
}

struct Proof {
    window: HashrateWindow,
    connections: u32,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counters {
    connections: usize,
    connected: u64,
    turned_away: u64,
    pool_sessions: u64,
    journal_failures: u64,
    pool_difficulty: Option<f64>,
}

/// The slice that a connection holds, and of which account.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held {
    pub(super) lane: usize,
    pub(super) epoch: u64,
    pub(super) index: u64,
}

/// What a connection is told when there are news.
pub(super) struct Briefing {
    /// Of the slice it holds from now on.
    pub(super) lane: usize,
    pub(super) epoch: u64,
    /// Only when the one it held is of an earlier epoch.
    pub(super) slice: Option<MinerSlice>,
    pub(super) mask: u32,
    pub(super) assignment: Arc<Assignment>,
}

/// Both times at which something happened: wall milliseconds of the proxy's own, and the given clock's.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub(super) mono_ms: u64,
    pub(super) at: Time,
}

impl State {
    /// An error is the text that is no address of a pool.
    pub(super) fn new(config: &Config, now: Time, journal: Box<dyn ShareJournal>) -> Result<State, String> {
        let lane = |route| Lane::new(route, KeepAlive::new(config.upstreams.keep_alive, 0));
        let lanes = routes(config)?.into_iter().map(lane).collect();
        let window_ms = millis(Time::EPOCH + config.window);
        let proof = || Proof { window: HashrateWindow::new(window_ms, millis(now)), connections: 0 };
        Ok(State {
            bans: Bans::default(),
            groups: config.groups.clone(),
            lanes,
            sabotage: config.sabotage,
            max_connections: config.max_connections,
            window_ms,
            journal,
            accounts: Accounts::default(),
            flights: Flights::default(),
            sessions: BTreeMap::new(),
            outcomes: Vec::new(),
            claims: Vec::new(),
            heard: Vec::new(),
            words: BTreeMap::new(),
            proofs: config.groups.ids().map(|group| (group.clone(), proof())).collect(),
            epoch: 0,
            slice_counter: config.first_slice,
            counters: Counters::default(),
            answers: Answers::default(),
            pass_through: config.upstreams.pass_through,
            keep_alive: config.upstreams.keep_alive,
            idle_after_ms: config.upstreams.idle_after_ms.filter(|_| !config.upstreams.pass_through),
            away_since_ms: None,
        })
    }

    /// Whether there is room for another connection; if so it is counted until [`State::on_disconnected`].
    pub(super) fn admit(&mut self) -> bool {
        let room = self.counters.connections < self.max_connections;
        if room {
            self.counters.connections += 1;
            self.counters.connected += 1;
        } else {
            self.counters.turned_away += 1;
        }
        room
    }

    pub(super) fn on_disconnected(&mut self, held: Option<Held>, group: Option<&MinerGroupId>) {
        self.counters.connections -= 1;
        if let Some(held) = held
            && let Some(lane) = self.lanes.get_mut(held.lane)
        {
            lane.miners -= 1;
            if let Some(ground) = lane.ground.as_mut().filter(|ground| ground.epoch == held.epoch) {
                ground.slices.release(held.index);
            }
        }
        if let Some(proof) = group.and_then(|group| self.proofs.get_mut(group)) {
            proof.connections -= 1;
        }
    }

    /// The first worker of a connection says whose it is.
    pub(super) fn on_first_worker(&mut self, worker: &str) -> MinerGroupId {
        let group = self.groups.of(worker).0.clone();
        if let Some(proof) = self.proofs.get_mut(&group) {
            proof.connections += 1;
        }
        group
    }

    /// What a connection should know, with a slice if the one it holds is of an earlier epoch. A miner stays with the account
    /// that it was put to at first, unless it is told to move; `home` is the lane of one that has its own. `Ok(None)` before
    /// there is any job.
    pub(super) fn brief(
        &mut self,
        held: Option<Held>,
        home: Option<usize>,
    ) -> Result<Option<Briefing>, slices::Error> {
        let leaves = held.filter(|held| self.may_leave(held));
        let stays = held.filter(|_| leaves.is_none()).map(|held| held.lane);
        let Some(index) = home.or(stays).or_else(|| self.choose()) else { return Ok(None) };
        let Some(lane) = self.lanes.get_mut(index) else { return Ok(None) };
        let Some(ground) = &mut lane.ground else { return Ok(None) };
        let slice = match held {
            Some(held) if held.epoch == ground.epoch => None,
            _ => Some(ground.slices.allocate()?),
        };
        lane.miners += u32::from(stays.is_none());
        self.slice_counter = self.slice_counter.max(ground.slices.counter());
        let assignment = Arc::clone(&ground.assignment);
        let briefing = Briefing { lane: index, epoch: ground.epoch, slice, mask: lane.mask, assignment };
        leaves.iter().for_each(|held| self.leave(held));
        Ok(Some(briefing))
    }

    /// The account for another miner, among those that have a job.
    fn choose(&self) -> Option<usize> {
        weights::choose(&self.weighed(Lane::is_up))
    }

    /// The lane of a session that is up.
    fn lane_of(&mut self, session: u64) -> Option<&mut Lane> {
        let index = self.index_of(session)?;
        self.lanes.get_mut(index)
    }

    fn index_of(&self, session: u64) -> Option<usize> {
        let index = *self.sessions.get(&session)?;
        let live = self.lanes.get(index)?.live.as_ref()?;
        (live.upstream.session() == session).then_some(index)
    }

    /// To be called when a lane's session comes, gets its number or goes. With pass-through there are thousands of lanes, so that
    /// none is looked for among them.
    fn note_sessions(&mut self, index: usize) {
        let Some(lane) = self.lanes.get_mut(index) else { return };
        let known = [lane.live.as_ref().map(|live| live.upstream.session()), lane.spool.lost()];
        for gone in std::mem::replace(&mut lane.known, known).into_iter().flatten() {
            self.sessions.remove(&gone);
        }
        self.sessions.extend(known.into_iter().flatten().map(|session| (session, index)));
    }

    /// Records the shares of a read and sends them on. After an error none of them must be acknowledged.
    pub(super) fn on_outputs(
        &mut self,
        lane: usize,
        outputs: &[Output],
        now: Moment,
    ) -> Result<(), JournalError> {
        let taken = outputs.iter().filter_map(|output| match output {
            Output::Share(share) => Some(self.take_share(lane, share)),
            Output::Rejected { worker, reject, work } => {
                Some(self.take_reject(lane, worker.as_ref(), *reject, *work))
            }
            _ => None,
        });
        let mut taken: Vec<Taken<'_>> = taken.collect();
        if taken.is_empty() {
            return Ok(());
        }
        // A block is worth more the sooner it is out. The others keep their order.
        taken.sort_by_key(|share| !share.is_block());
        let entries = taken.iter().flat_map(|share| std::iter::repeat_n(share.entry(), share.copies));
        let mut intents = self.write_down(&entries.collect::<Vec<_>>())?.into_iter();
        for Taken { record, way, copies } in taken {
            self.prove(&record, now);
            match way {
                Way::Forward(outgoing) => {
                    let mut records = Records::default();
                    records
                        .iter_mut()
                        .zip(intents.by_ref().take(copies))
                        .for_each(|(at, seq)| *at = Some(seq));
                    self.forward(record, records, outgoing, now);
                }
                Way::End(end, _) => (0..copies).for_each(|_| self.end(&record, end)),
            }
        }
        self.settle();
        Ok(())
    }

    fn take_share<'a>(&self, lane: usize, share: &'a Share) -> Taken<'a> {
        let way = match &share.fate {
            Fate::Forward(outgoing) if self.has_place(outgoing) => Way::Forward(outgoing),
            Fate::BelowUpstream => Way::End(End::CountedBelowUpstream, ShareEnd::Counted),
            // A job of a session that is gone proves work and is worth nothing any more.
            Fate::KeepAlive | Fate::Forward(_) => Way::End(End::CountedKeepAlive, ShareEnd::KeepAlive),
        };
        let (group, scale) = self.groups.of(&share.worker);
        // Its miner may have moved to another account since it was given the job.
        let serving = match way {
            Way::Forward(outgoing) => self.index_of(outgoing.session),
            Way::End(..) => None,
        };
        let is_forwarded = matches!(way, Way::Forward(_));
        let record = ShareRecord {
            group: group.clone(),
            scale,
            worker: self.account(serving.unwrap_or(lane)),
            miner: Arc::clone(&share.worker),
            work: share.verified.work,
            credited: pool_work(&share.assignment).filter(|_| is_forwarded),
            hash: Some(share.verified.hash),
        };
        Taken { record, way, copies: self.sabotage.records() }
    }

    /// A share that was not good. `worker` is set where it is known.
    fn take_reject<'a>(
        &self,
        lane: usize,
        worker: Option<&Arc<str>>,
        reject: Reject,
        work: Work,
    ) -> Taken<'a> {
        let miner = worker.cloned().unwrap_or_default();
        let (group, scale) = self.groups.of(&miner);
        let record = ShareRecord {
            group: group.clone(),
            scale,
            worker: self.account(lane),
            miner,
            work,
            credited: None,
            hash: None,
        };
        let way = Way::End(End::RejectedLocally(reject), ShareEnd::Rejected(reject.code().to_owned()));
        Taken { record, way, copies: 1 }
    }

    fn write_down(&mut self, entries: &[Entry<'_>]) -> Result<Vec<ShareSeq>, JournalError> {
        self.journal.record(entries).inspect_err(|_| self.counters.journal_failures += entries.len() as u64)
    }

    /// A verified share is proof of a hash rate.
    fn prove(&mut self, record: &ShareRecord, now: Moment) {
        if record.hash.is_some()
            && let Some(proof) = self.proofs.get_mut(&record.group)
        {
            proof.window.record(millis(now.at), record.work.scaled(record.scale));
        }
    }

    /// Sabotage: a rejected share goes to the pool all the same, under the current job.
    pub(super) fn forward_unverified(
        &mut self,
        lane: usize,
        submission: &Submission,
        slice: &MinerSlice,
        work: Work,
        now: Moment,
    ) -> Result<(), JournalError> {
        let at = self.lanes.get(lane);
        let session = at.and_then(|lane| lane.live.as_ref()).map(|live| live.upstream.session());
        let assignment =
            at.and_then(|lane| lane.ground.as_ref()).map(|ground| Arc::clone(&ground.assignment));
        let (Some(session), Some(assignment)) = (session, assignment) else { return Ok(()) };
        let (group, scale) = self.groups.of(&submission.worker);
        let record = ShareRecord {
            group: group.clone(),
            scale,
            worker: self.account(lane),
            miner: submission.worker.as_str().into(),
            work,
            credited: pool_work(&assignment),
            hash: None,
        };
        let outgoing = Outgoing {
            session,
            job_id: Arc::clone(&assignment.job.id),
            extranonce2: slice.upstream_extranonce2(&submission.extranonce2),
            ntime: submission.ntime,
            nonce: submission.nonce,
            version: assignment.job.version,
            block: false,
        };
        let mut records = Records::default();
        for place in records.iter_mut().take(self.sabotage.records()) {
            *place = self.write_down(&[Entry::Intent(&record)])?.pop();
        }
        self.forward(record, records, &outgoing, now);
        self.settle();
        Ok(())
    }

    /// Sends a share on whose intents are in the journal.
    fn forward(&mut self, record: ShareRecord, records: Records, outgoing: &Outgoing, now: Moment) {
        for _ in records.iter().flatten() {
            self.accounts.receive(Some(&record.miner), record.work);
        }
        let claim = record.hash.map(|hash| (outgoing.clone(), hash));
        let share = self.flights.add(InFlight { records, miner: record.miner, work: record.work, claim });
        let lane = self.lane_of(outgoing.session);
        let Some(live) = lane.and_then(|lane| lane.live.as_mut()) else {
            self.keep_for_later(share, outgoing);
            return;
        };
        if let Err(error) = live.send(share, outgoing, now.mono_ms) {
            tracing::debug!(%error, "share not forwarded");
            self.finish(share, End::Unknown, &ShareEnd::Unknown);
        }
    }

    /// Books a share that ends here.
    fn end(&mut self, record: &ShareRecord, end: End) {
        let miner = (!record.miner.is_empty()).then_some(&*record.miner);
        self.accounts.receive(miner, record.work);
        self.book(miner, record.work, end);
    }

    /// Books the outcome of a forwarded share. It is in the journal once [`State::settle`] was called.
    fn finish(&mut self, share: ShareRef, end: End, share_end: &ShareEnd) {
        let Some(flown) = self.flights.remove(share) else { return };
        for seq in flown.records.into_iter().flatten() {
            self.outcomes.push((seq, share_end.clone()));
            self.book(Some(&flown.miner), flown.work, end);
        }
        if end == End::ForwardedAccepted {
            self.claims.extend(flown.claim);
        }
    }

    /// Writes down, all at once, the outcomes that have come, and then claims what was accepted: nothing is claimed that the ledger
    /// does not hold. To be called before the lock is let go.
    pub(super) fn settle(&mut self) {
        if self.outcomes.is_empty() {
            return;
        }
        let outcomes = std::mem::take(&mut self.outcomes);
        let entries: Vec<Entry<'_>> = outcomes.iter().map(|(seq, end)| Entry::Outcome(*seq, end)).collect();
        if let Err(error) = self.write_down(&entries) {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                shares = entries.len(),
                "outcomes of shares not recorded"
            );
        }
        drop(entries);
        // Its memory serves the next.
        self.outcomes = outcomes;
        self.outcomes.clear();
        for (share, hash) in self.claims.drain(..) {
            self.journal.accepted(share, hash);
        }
    }

    fn book(&mut self, miner: Option<&str>, work: Work, end: End) {
        if let Err(error) = self.accounts.finish(miner, work, end) {
            tracing::error!(error = &error as &dyn std::error::Error, "books of the proxy do not balance");
        }
    }

    fn account(&self, lane: usize) -> Arc<str> {
        self.lanes.get(lane).map(|lane| Arc::clone(&lane.name)).unwrap_or_default()
    }

    /// Accounts, in the order of the configuration.
    pub(super) fn lanes(&self) -> usize {
        self.lanes.len()
    }

    pub(super) fn route(&self, lane: usize) -> Option<&Route> {
        self.lanes.get(lane).map(|lane| &lane.route)
    }

    pub(super) fn is_up(&self, lane: usize) -> bool {
        self.lanes.get(lane).is_some_and(Lane::is_up)
    }

    pub(super) fn slice_counter(&self) -> u64 {
        self.slice_counter
    }

    pub(super) fn verified(&mut self, now: Time) -> BTreeMap<MinerGroupId, GroupStatus> {
        let window_ms = self.window_ms;
        let status = |proof: &mut Proof| GroupStatus {
            verified: proof.window.estimate(millis(now)).map(|estimate| Verified {
                rate: Hashrate::from_f64(estimate.hashes_per_second),
                shares: estimate.shares,
                window: Span::new(i64::try_from(window_ms).unwrap_or(i64::MAX)),
            }),
            connections: proof.connections,
        };
        self.proofs.iter_mut().map(|(group, proof)| (group.clone(), status(proof))).collect()
    }

    pub(super) fn stats(&self) -> Stats {
        let total = self.accounts.total();
        let rejected = total.ends().iter().filter_map(|(end, tally)| match end {
            End::RejectedLocally(reject) => Some((reject.code(), tally.shares)),
            _ => None,
        });
        let mut by_code = BTreeMap::new();
        rejected.for_each(|(code, shares)| *by_code.entry(code).or_default() += shares);
        Stats {
            received: total.received(),
            in_flight: total.in_flight(),
            ends: total.ends().clone(),
            rejected: by_code,
            balanced: self.accounts.check().is_ok(),
            connections: self.counters.connections,
            connected: self.counters.connected,
            turned_away: self.counters.turned_away,
            refused: self.bans.refused(),
            pool_sessions: self.counters.pool_sessions,
            pool_up: self.lanes.iter().any(Lane::is_up),
            pool_difficulty: self.counters.pool_difficulty,
            journal_failures: self.counters.journal_failures,
        }
    }
}

impl Lane {
    fn is_up(&self) -> bool {
        self.live.as_ref().is_some_and(|live| live.upstream.is_ready())
    }
}

impl Taken<'_> {
    fn entry(&self) -> Entry<'_> {
        match &self.way {
            Way::Forward(_) => Entry::Intent(&self.record),
            Way::End(_, end) => Entry::Ended(&self.record, end),
        }
    }

    fn is_block(&self) -> bool {
        matches!(self.way, Way::Forward(outgoing) if outgoing.block)
    }
}

fn pool_work(assignment: &Assignment) -> Option<Work> {
    match assignment.source {
        Source::Upstream { difficulty, .. } => Some(difficulty.work()),
        Source::KeepAlive => None,
    }
}

fn millis(at: Time) -> u64 {
    at.millis().max(0).unsigned_abs()
}

#[cfg(test)]
mod tests;
