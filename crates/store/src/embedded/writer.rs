//! The writer: one OS thread that alone changes the store (group commit, leases, compaction).
//!
//! Assumes: the disk either commits a whole batch or fails; after a failure nothing is known and nothing is
//! tried again. Expiry is looked at every `TICK`, on the injected clock.
//! Read next: `batch.rs`, `disk.rs`.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, oneshot, watch};

use super::batch::Batch;
use super::disk::{Disk, Write};
use super::leases::Leases;
use super::state::{Shared, State};
use crate::clock::Clock;
use crate::error::Error;
use crate::port::{Lease, LeaseId, MAX_REQUEST_BYTES, Revision, Txn, TxnOutcome};
use crate::watch::Commit;

/// How late an expired lease may be noticed; a twentieth of the shortest time to live.
const TICK: Duration = Duration::from_millis(100);
/// Requests per disk transaction: one fsync for 256 of them is where the rate stops growing.
const MAX_BATCH: usize = 256;
/// History that is kept for watches: an hour of three commits a second.
const MAX_HISTORY: usize = 10_000;
/// And its size: 43 transactions of the largest kind.
const MAX_HISTORY_BYTES: usize = 43 * MAX_REQUEST_BYTES;

/// What callers ask of the writer.
#[derive(Debug)]
pub(super) enum Work {
    Txn(Txn),
    Grant(Duration),
    KeepAlive(LeaseId),
    Revoke(LeaseId),
    Compact(Revision),
}

/// What it answers.
#[derive(Debug)]
pub(super) enum Reply {
    Txn(TxnOutcome),
    Lease(Lease),
    Done,
}

/// One queued request.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) work: Work,
    pub(super) reply: oneshot::Sender<Answer>,
    pub(super) _permit: OwnedSemaphorePermit,
}

pub(super) struct Writer {
    disk: Disk,
    shared: Arc<Shared>,
    leases: Leases,
    clock: Clock,
    news: watch::Sender<Revision>,
}

type Answer = Result<Reply, Error>;

/// A batch worked out but not yet on the disk.
struct Plan {
    write: Write,
    commits: Vec<Arc<Commit>>,
    leases: Leases,
    answers: Vec<(oneshot::Sender<Answer>, Answer)>,
}

impl Writer {
    pub(super) fn new(
        disk: Disk,
        shared: Arc<Shared>,
        leases: Leases,
        clock: Clock,
        news: watch::Sender<Revision>,
    ) -> Self {
        Self { disk, shared, leases, clock, news }
    }

    /// Runs until all callers are gone or the disk fails.
    pub(super) fn run(mut self, requests: &Receiver<Request>) {
        loop {
            let first = match requests.recv_timeout(TICK) {
                Ok(request) => Some(request),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            let batch: Vec<Request> = first.into_iter().chain(requests.try_iter()).take(MAX_BATCH).collect();
            if let Err(error) = self.step(batch) {
                self.stop(&error);
                return;
            }
        }
    }

    fn step(&mut self, batch: Vec<Request>) -> Result<(), redb::Error> {
        let plan = self.plan(batch);
        if !plan.write.is_empty()
            && let Err(error) = self.disk.commit(&plan.write)
        {
            // Before the callers hear of it, so that whoever asks next gets the reason.
            self.stop(&error);
            let what = "the disk failed while it was written";
            for (reply, _) in plan.answers {
                // A caller that went away wants no answer.
                let _ = reply.send(Err(Error::UnknownOutcome { what: what.into(), source: None }));
            }
            return Err(error);
        }
        self.show(plan.commits, plan.write.compact_to);
        self.leases = plan.leases;
        for (reply, answer) in plan.answers {
            let _ = reply.send(answer);
        }
        Ok(())
    }

    fn plan(&self, requests: Vec<Request>) -> Plan {
        let state = self.shared.state.read().unwrap_or_else(PoisonError::into_inner);
        let now = self.clock.now();
        let mut leases = self.leases.clone();
        let mut batch = Batch::new(&state);
        let mut write = Write::default();
        let mut answers = Vec::with_capacity(requests.len());
        // Expiry first: what was due before these requests must not be renewed by them.
        for lease in leases.expired(now) {
            end_lease(lease, &mut leases, &mut batch, &mut write).expect("an expired lease was held");
        }
        for Request { work, reply, .. } in requests {
            let answer = match work {
                Work::Txn(txn) => batch.txn(&txn, &leases).map(Reply::Txn),
                Work::Grant(ttl) => leases.grant(ttl, now).map(|lease| {
                    write.granted.push(lease);
                    Reply::Lease(lease)
                }),
                Work::KeepAlive(lease) => leases.keep_alive(lease, now).map(|()| Reply::Done),
                Work::Revoke(lease) => {
                    end_lease(lease, &mut leases, &mut batch, &mut write).map(|()| Reply::Done)
                }
                Work::Compact(to) => compact(to, &state, &batch, &mut write).map(|()| Reply::Done),
            };
            answers.push((reply, answer));
        }
        write.next_lease = leases.next_id();
        let commits = batch.into_commits();
        write.commits.clone_from(&commits);
        bound_history(&state, &mut write);
        if let Some(to) = write.compact_to {
            write.folded = state.history_until(to).cloned().collect();
        }
        Plan { write, commits, leases, answers }
    }

    fn show(&self, commits: Vec<Arc<Commit>>, compact_to: Option<Revision>) {
        let mut state = self.shared.state.write().unwrap_or_else(PoisonError::into_inner);
        for commit in commits {
            state.apply(commit);
        }
        if let Some(to) = compact_to {
            state.compact(to);
        }
        let revision = state.revision();
        drop(state);
        self.news.send_if_modified(|seen| std::mem::replace(seen, revision) != revision);
    }

    fn stop(&self, error: &redb::Error) {
        let mut stopped = self.shared.stopped.lock().unwrap_or_else(PoisonError::into_inner);
        if stopped.is_none() {
            tracing::error!(%error, "the embedded store stops, its disk failed");
            *stopped = Some(error.to_string());
        }
    }
}

impl Drop for Writer {
    /// A writer that panicked leaves nobody waiting for a store that will never answer again.
    fn drop(&mut self) {
        if std::thread::panicking() {
            let mut stopped = self.shared.stopped.lock().unwrap_or_else(PoisonError::into_inner);
            stopped.get_or_insert_with(|| "the writer thread panicked".into());
        }
    }
}

fn end_lease(lease: LeaseId, leases: &mut Leases, batch: &mut Batch, write: &mut Write) -> Result<(), Error> {
    leases.remove(lease)?;
    batch.end_lease(lease);
    write.ended.push(lease);
    Ok(())
}

/// Only what is already visible is compacted; a batch's own commits wait for the next time.
fn compact(to: Revision, state: &State, batch: &Batch, write: &mut Write) -> Result<(), Error> {
    if to <= state.compacted().max(write.compact_to.unwrap_or_default()) {
        return Err(Error::Compacted { asked: to });
    }
    if to > batch.revision() {
        return Err(Error::refused(format!(
            "revision {to} is in the future, the newest is {}",
            batch.revision()
        )));
    }
    write.compact_to = Some(to.min(state.revision()));
    Ok(())
}

/// Halves the history when it has grown too long, so that folding it is rare.
fn bound_history(state: &State, write: &mut Write) {
    let (revisions, bytes) = state.history_size();
    if revisions <= MAX_HISTORY && bytes <= MAX_HISTORY_BYTES {
        return;
    }
    let half = Revision(state.compacted().0 + revisions as u64 / 2);
    write.compact_to = Some(write.compact_to.unwrap_or_default().max(half));
}
