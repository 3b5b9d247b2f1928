//! The embedded twin: a key-value map in memory, durable in one file, for one machine.
//!
//! How it works: readers look at `state.rs` under a lock. Writers queue; one OS thread takes what is
//! queued, works it out against the state (`batch.rs`), writes all of it in one disk transaction with one fsync
//! (`disk.rs`), shows it to the readers and only then answers (group commit). A disk error stops the store for
//! good: after a failed fsync nobody knows what is on the disk, so nothing is tried again.
//!
//! Assumes: one process per data directory, held by a lock on `DIR/LOCK` that the kernel drops when the process
//! dies. All live data fit in memory (`MAX_LIVE_BYTES` in `state.rs`).
//! Read next: `embedded/writer.rs`.

mod batch;
mod disk;
mod follow;
mod leases;
mod lock;
mod mark;
mod state;
mod writer;

use std::path::Path;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{Semaphore, oneshot, watch};

pub use self::follow::Follow;
use self::state::{Shared, State};
use self::writer::{Reply, Request, Work, Writer};
use crate::clock::Clock;
use crate::error::Error;
use crate::key::{Key, Prefix};
use crate::port::{Lease, LeaseId, Page, Range, Revision, Store, Twin, Txn, TxnOutcome};

/// Requests that wait for the disk: eight full batches, about 20 ms of work on a plain SSD.
const MAX_QUEUED: usize = 2048;

/// Opens or creates the store in `dir`. A directory that another process holds is [`Error::Locked`].
pub fn open(dir: &Path) -> Result<Store, Error> {
    open_with_clock(dir, Clock::boot())
}

/// Whether a store was ever made in `dir`: [`open`] would make one.
pub fn exists(dir: &Path) -> bool {
    dir.join("store.redb").exists()
}

/// As [`open`], with leases counted on a clock of the caller's.
pub fn open_with_clock(dir: &Path, clock: Clock) -> Result<Store, Error> {
    let lock = lock::take(dir)?;
    let disk = disk::Disk::open(dir)?;
    start(disk, Some(lock), clock)
}

/// Opens or creates the store on a storage of the caller's, for tests that let the disk fail.
pub fn open_on_backend(backend: impl redb::StorageBackend, clock: Clock) -> Result<Store, Error> {
    start(disk::Disk::on_backend(backend)?, None, clock)
}

fn start(disk: disk::Disk, lock: Option<lock::DirLock>, clock: Clock) -> Result<Store, Error> {
    let (state, leases) = disk.load(clock.now())?;
    let (revision_sender, revision) = watch::channel(state.revision());
    let shared = Arc::new(Shared { state: RwLock::new(state), revision, stopped: Mutex::new(None) });
    let (queue, requests) = channel();
    let writer = Writer::new(disk, shared.clone(), leases, clock, revision_sender);
    let thread = std::thread::Builder::new()
        .name("store-writer".into())
        .spawn(move || {
            writer.run(&requests);
            // The directory is free again only after the writer's last write.
            drop(lock);
        })
        .map_err(|source| Error::Unavailable {
            what: "the system gives no thread".into(),
            source: Some(source.into()),
        })?;
    let inner = Inner {
        shared,
        queue: Some(queue),
        permits: Arc::new(Semaphore::new(MAX_QUEUED)),
        thread: Some(thread),
    };
    Ok(Store::new(Twin::Embedded(Handle(Arc::new(inner)))))
}

/// The embedded twin behind a [`Store`].
#[derive(Clone, Debug)]
pub struct Handle(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    queue: Option<Sender<Request>>,
    permits: Arc<Semaphore>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Inner {
    /// Waits for the batch in progress, so that the directory can be opened again right after.
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the store's writer thread panicked");
        }
    }
}

impl Handle {
    pub(crate) fn range(&self, prefix: &Prefix) -> Result<Range, Error> {
        self.read(|state| state.range(prefix))
    }

    pub(crate) fn page(&self, prefix: &Prefix, after: Option<&Key>, limit: usize) -> Result<Page, Error> {
        self.read(|state| Ok(state.page(prefix, after, limit)))
    }

    pub(crate) async fn txn(&self, txn: Txn) -> Result<TxnOutcome, Error> {
        if !txn.writes() {
            return self.read(|state| Ok(batch::read_only(state, &txn)));
        }
        match self.ask(Work::Txn(txn)).await? {
            Reply::Txn(outcome) => Ok(outcome),
            Reply::Lease(_) | Reply::Done => {
                unreachable!("the writer answers a transaction with its outcome")
            }
        }
    }

    pub(crate) fn watch(&self, prefix: &Prefix, from: Option<Revision>) -> Follow {
        Follow::new(self.0.shared.clone(), prefix.clone(), from)
    }

    pub(crate) async fn lease_grant(&self, ttl: Duration) -> Result<Lease, Error> {
        match self.ask(Work::Grant(ttl)).await? {
            Reply::Lease(lease) => Ok(lease),
            Reply::Txn(_) | Reply::Done => unreachable!("the writer answers a grant with a lease"),
        }
    }

    pub(crate) async fn lease_keep_alive(&self, lease: LeaseId) -> Result<(), Error> {
        self.ask(Work::KeepAlive(lease)).await.map(drop)
    }

    pub(crate) async fn lease_revoke(&self, lease: LeaseId) -> Result<(), Error> {
        self.ask(Work::Revoke(lease)).await.map(drop)
    }

    pub(crate) async fn compact(&self, revision: Revision) -> Result<(), Error> {
        self.ask(Work::Compact(revision)).await.map(drop)
    }

    fn read<T>(&self, look: impl FnOnce(&State) -> Result<T, Error>) -> Result<T, Error> {
        self.0.shared.check_running()?;
        look(&self.0.shared.state.read().unwrap_or_else(PoisonError::into_inner))
    }

    async fn ask(&self, work: Work) -> Result<Reply, Error> {
        // The permit travels with the request, so that a caller who gives up cannot overfill the queue.
        let permit = self.0.permits.clone().acquire_owned().await.expect("the semaphore is never closed");
        self.0.shared.check_running()?;
        let (reply, answer) = oneshot::channel();
        let queue = self.0.queue.as_ref().expect("the queue is there until the last handle is dropped");
        if queue.send(Request { work, reply, _permit: permit }).is_err() {
            return Err(self.0.shared.stopped_error());
        }
        match answer.await {
            Ok(result) => result,
            Err(_) => {
                let what = self.0.shared.stopped_error().to_string();
                Err(Error::UnknownOutcome { what, source: None })
            }
        }
    }
}
