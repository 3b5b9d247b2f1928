//! Share commitments on the agent: what the proxy saw goes into a book, the book's changes to the disk, its notes to the controller.
//!
//! The proxy hands shares over through a bounded queue and never waits: what does not fit is not claimed, and that is counted.
//! A share is hashed once more before it is claimed, so that a defect of ours is a smaller claim and never a false one. Every
//! change is in the page cache before it shows, and on the disk before a claim is told: kill -9 makes no honest agent a cheat.
//! Read next: `stratum::commit`, the rules; `commit/log.rs`, the disk; `session.rs`, the way to the controller.

mod log;
pub mod wire;

use std::collections::VecDeque;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use model::Span;
use stratum::commit::book::{BATCH, Refused};
use stratum::commit::{Answer, Book, Digest, Event, Note, Share, Template};
use stratum::hash::HeaderHash;
use stratum::upstream::Outgoing;
use tokio::sync::{Notify, mpsc};
use tracing::{debug, error, warn};

use self::log::Log;
use crate::disk;
use crate::outbox::Outbox;

/// What waits between proxy and book: a minute at 100 shares a second, of some 200 bytes each.
const QUEUE: usize = 6_000;
/// Taken at once from the queue: three milliseconds of hashing.
const AT_ONCE: usize = 512;
/// Batches are sealed and blocks closed to the second.
const TICK: Duration = Duration::from_secs(1);
/// Jobs of pool sessions whose shares may still be accepted: 48 are handed out, of a few accounts.
const MAX_JOBS: usize = 256;

/// What the proxy saw.
enum Seen {
    Job {
        session: u64,
        job_id: String,
        template: Box<Template>,
    },
    /// In place: an allocation costs more than its 112 bytes, which are moved twice.
    Accepted(Outgoing, HeaderHash),
}

/// A cheap handle on the commitments of one agent.
#[derive(Clone)]
pub struct Commits {
    seen: mpsc::Sender<Seen>,
    shared: Arc<Shared>,
}

/// Takes what the proxy saw. To be run once.
pub struct Intake {
    seen: mpsc::Receiver<Seen>,
    shared: Arc<Shared>,
}

struct Shared {
    inner: Mutex<Inner>,
    /// There are new notes.
    news: Notify,
    /// Accepted shares that are not claimed.
    unclaimed: AtomicU64,
    /// Its lock keeps other agents out until the last change is written.
    _lock: Option<Outbox>,
}

struct Inner {
    book: Book,
    log: Log,
    batch: Span,
    /// Which template a session's job has, latest last.
    jobs: VecDeque<((u64, String), Digest, Digest)>,
}

/// Opens the commitments in `dir`, making it if need be, with what was claimed before. `lock` is of the agent that `dir` is of.
pub fn open(dir: &Path, lock: Option<Outbox>) -> Result<(Commits, Intake), disk::Error> {
    let (log, book) = Log::open(dir)?;
    let inner = Inner { book, log, batch: BATCH, jobs: VecDeque::new() };
    let (inner, news, unclaimed) = (Mutex::new(inner), Notify::new(), AtomicU64::new(0));
    let shared = Shared { inner, news, unclaimed, _lock: lock };
    let shared = Arc::new(shared);
    let (sender, seen) = mpsc::channel(QUEUE);
    Ok((Commits { seen: sender, shared: Arc::clone(&shared) }, Intake { seen, shared }))
}

impl Commits {
    /// A pool sent a job in a session.
    pub fn job(&self, session: u64, job_id: &str, template: Template) {
        let seen = Seen::Job { session, job_id: job_id.to_owned(), template: Box::new(template) };
        if self.seen.try_send(seen).is_err() {
            warn!("a job was not noted for share commitments; its shares will not be claimed");
        }
    }

    /// A pool accepted a share.
    pub fn accepted(&self, outgoing: Outgoing, hash: HeaderHash) {
        if self.seen.try_send(Seen::Accepted(outgoing, hash)).is_err() {
            self.shared.unclaimed.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Accepted shares of this run that are not claimed.
    pub fn unclaimed(&self) -> u64 {
        self.shared.unclaimed.load(Ordering::Relaxed)
    }

    /// From now on a batch is sealed so long after its first share.
    pub fn set_batch(&self, batch: Span) {
        self.shared.inner().batch = batch;
    }

    /// Returns when there is something new to tell.
    pub async fn news(&self) {
        self.shared.news.notified().await;
    }

    /// What is to be told to a controller that has heard everything up to `after`, in order.
    pub fn notes(&self, after: u64, most: usize) -> Vec<Note> {
        let inner = self.shared.inner();
        // What is not on the disk yet is told a moment later.
        if inner.log.is_synced() { inner.book.notes(after, most) } else { Vec::new() }
    }

    /// The controller has everything up to `heard`.
    pub fn go_on_behind(&self, heard: u64) {
        self.shared.inner().book.go_on_behind(heard);
    }

    /// Opens a claim. Takes as long as hashing all its leaves: half a second at worst.
    pub fn answer(&self, sequence: u64, seed: &Digest, samples: usize) -> Answer {
        let part = self.shared.inner().book.part(sequence);
        part.answer(sequence, seed, samples)
    }

    /// A claim was judged: with its closing a block may go.
    pub fn settled(&self, sequence: u64) -> Result<(), disk::Error> {
        let mut inner = self.shared.inner();
        match inner.book.block_of(sequence) {
            Some(previous) => inner.forget(&previous),
            None => Ok(()),
        }
    }
}

/// Runs until the proxy is gone.
pub async fn run(mut intake: Intake) {
    let mut every = tokio::time::interval(TICK);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut seen = Vec::new();
    let mut known = 0;
    loop {
        tokio::select! {
            _ = every.tick() => {
                let unclaimed = intake.shared.unclaimed.load(Ordering::Relaxed);
                if unclaimed > known {
                    warn!(unclaimed, "accepted shares were not claimed: they are paid, and will not be proven");
                }
                known = unclaimed;
            }
            count = intake.seen.recv_many(&mut seen, AT_ONCE) => if count == 0 { return },
        }
        let (shared, batch) = (Arc::clone(&intake.shared), std::mem::take(&mut seen));
        let taken = tokio::task::spawn_blocking(move || shared.take(batch, now_ms())).await;
        match taken {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                let error = &error as &dyn std::error::Error;
                error!(error, "share commitments cannot be written; shares are paid, but not proven");
            }
            Err(_) => return,
        }
    }
}

impl Shared {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        // Each change is written and applied by itself, wherever a panic came between two.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes all of it, whatever fails: what cannot be written is counted, and the first failure told.
    fn take(&self, seen: Vec<Seen>, now_ms: u64) -> Result<(), disk::Error> {
        let mut inner = self.inner();
        let (mut fresh, mut failed) = (false, Ok(()));
        for seen in seen {
            let taken = match seen {
                Seen::Job { session, job_id, template } => {
                    inner.job((session, job_id), *template, now_ms).map(|is_new| fresh |= is_new)
                }
                Seen::Accepted(share, hash) => {
                    let claimed = inner.share(&share, hash, now_ms);
                    self.unclaimed.fetch_add(u64::from(!matches!(claimed, Ok(true))), Ordering::Relaxed);
                    claimed.map(drop)
                }
            };
            failed = failed.and(taken);
        }
        fresh |= !inner.log.is_synced();
        failed.and(inner.log.sync_jobs())?;
        while let Some(event) = inner.book.due(now_ms, inner.batch) {
            inner.put(event)?;
            fresh = true;
        }
        if let Some(previous) = inner.book.excess(now_ms) {
            warn!(%previous, "claims on a block are given up: no controller has judged them, or there are too many");
            inner.forget(&previous)?;
        }
        drop(inner);
        if fresh {
            self.news.notify_one();
        }
        Ok(())
    }
}

impl Inner {
    /// Whether it is new.
    fn job(&mut self, key: (u64, String), template: Template, now_ms: u64) -> Result<bool, disk::Error> {
        let digest = template.digest();
        // Another job under the same id, or the same one with another mask, replaces none whose shares are still on their way.
        self.jobs.retain(|(of, known, _)| (of, known) != (&key, &digest));
        self.jobs.push_back((key, digest, template.previous()));
        if self.jobs.len() > MAX_JOBS {
            self.jobs.pop_front();
        }
        let Some(event) = self.book.on_job(now_ms, template) else { return Ok(false) };
        self.put(event).map(|()| true)
    }

    /// Whether it is claimed: under the latest job of its id that it is a share of.
    fn share(&mut self, outgoing: &Outgoing, hash: HeaderHash, now_ms: u64) -> Result<bool, disk::Error> {
        let is_its = |(session, id): &(u64, String)| *session == outgoing.session && **id == *outgoing.job_id;
        let its = self.jobs.iter().rev().filter(|(key, ..)| is_its(key));
        let Outgoing { extranonce2, version, ntime, nonce, .. } = outgoing;
        let (extranonce2, version, ntime, nonce) = (extranonce2, *version, *ntime, *nonce);
        let mut claimed = Err(Refused::UnknownJob);
        for (_, job, previous) in its {
            let share = Share { job: *job, extranonce2: extranonce2.to_vec(), version, ntime, nonce };
            claimed = self.book.on_share(now_ms, *previous, hash, share);
            if !matches!(claimed, Err(Refused::Untrue(_))) {
                break;
            }
        }
        match claimed {
            Ok(event) => self.put(event).map(|()| true),
            Err(refused) => {
                debug!(why = %refused, "an accepted share is not claimed");
                Ok(false)
            }
        }
    }

    fn put(&mut self, event: Event) -> Result<(), disk::Error> {
        self.log.append(&event)?;
        let previous = event.previous();
        self.book.apply(event);
        // A block without a share leaves the book when it is closed.
        if self.book.has(&previous) { Ok(()) } else { self.log.remove(&previous) }
    }

    fn forget(&mut self, previous: &Digest) -> Result<(), disk::Error> {
        self.book.forget(previous);
        // First that it is settled: a chain that comes back to this block must find it so.
        self.log.settle(&self.book)?;
        self.log.remove(previous)
    }
}

/// Unix milliseconds: the one clock that also counts through restarts.
fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
pub(crate) mod tests;
