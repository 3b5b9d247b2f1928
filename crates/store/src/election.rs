//! Election: who of several controllers leads, by a lease and a key that only one can create.
//!
//! The create revision of the key is the fence: every write of the leader compares it, so a leader that was
//! deposed without noticing changes nothing. The clock merely spares useless work.
//!
//! Assumes: the store starts counting a lease no earlier than the request was sent, so "sent + time to live" on
//! our own clock is never later than the true end. Our clock may be slow against the store's by a thousandth.
//! Read next: `clock.rs`, `port.rs`.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::clock::Clock;
use crate::error::Error;
use crate::key::{Key, Prefix};
use crate::port::{Compare, Lease, LeaseId, Op, Revision, Store, Txn};
use crate::watch::{Change, WatchEvent};

/// Keep-alives per time to live: two may be lost before the third is too late.
const KEEP_ALIVES_PER_TTL: u32 = 3;
/// After a failed keep-alive the next comes sooner.
const RETRIES_PER_TTL: u32 = 10;

/// An office for which controllers stand.
#[derive(Clone, Debug)]
pub struct Election {
    store: Store,
    key: Key,
    clock: Clock,
}

/// Who leads, as anybody can see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leader {
    /// What the leader said of itself, such as its address.
    pub value: Vec<u8>,
    /// The leader's fence.
    pub create_revision: Revision,
}

impl Election {
    pub fn new(store: Store, key: Key, clock: Clock) -> Self {
        Self { store, key, clock }
    }

    /// Who leads now, if anybody.
    pub async fn leader(&self) -> Result<Option<Leader>, Error> {
        let entry = self.store.get(&self.key).await?;
        Ok(entry.map(|entry| Leader { value: entry.value, create_revision: entry.create_revision }))
    }

    /// Waits until the office is vacant and takes it. An error means that the attempt failed without effect that
    /// lasts longer than `ttl`: pause and campaign again. Dropping the future gives up in the same way.
    pub async fn campaign(&self, value: Vec<u8>, ttl: Duration) -> Result<Leadership, Error> {
        loop {
            self.vacant().await?;
            if let Some(leadership) = self.try_acquire(&value, ttl).await? {
                return Ok(leadership);
            }
        }
    }

    async fn vacant(&self) -> Result<(), Error> {
        let mut watch = self.store.watch(&Prefix::of_key(&self.key), None);
        loop {
            let vacant = match watch.next().await? {
                WatchEvent::Snapshot(range) => !range.entries.iter().any(|entry| entry.key == self.key),
                WatchEvent::Commit(commit) => commit.changes.contains(&Change::Delete(self.key.clone())),
            };
            if vacant {
                return Ok(());
            }
        }
    }

    /// `None` if somebody else was faster.
    async fn try_acquire(&self, value: &[u8], ttl: Duration) -> Result<Option<Leadership>, Error> {
        let asked = self.clock.now();
        let lease = self.store.lease_grant(ttl).await?;
        let result = self.create(value, lease.id).await;
        match result {
            Ok(Some(create_revision)) => Ok(Some(self.take_office(lease, create_revision, asked))),
            Ok(None) | Err(_) => {
                // If this fails too, the lease runs out by itself, and the key with it.
                let _ = self.store.lease_revoke(lease.id).await;
                result.map(|_| None)
            }
        }
    }

    /// Creates the key; returns its create revision if it is ours.
    async fn create(&self, value: &[u8], lease: LeaseId) -> Result<Option<Revision>, Error> {
        let txn = Txn::new()
            .when(Compare::Absent(self.key.clone()))
            .put_leased(self.key.clone(), value.to_vec(), lease)
            .otherwise(Op::Get { key: self.key.clone() });
        match self.store.txn(txn).await {
            Ok(outcome) => Ok(outcome.succeeded.then_some(outcome.revision)),
            Err(Error::UnknownOutcome { .. }) => {
                let present = self.store.get(&self.key).await?;
                Ok(present.filter(|entry| entry.lease == Some(lease)).map(|entry| entry.create_revision))
            }
            Err(error) => Err(error),
        }
    }

    fn take_office(&self, lease: Lease, create_revision: Revision, asked: Duration) -> Leadership {
        let term = Arc::new(Term {
            store: self.store.clone(),
            clock: self.clock.clone(),
            lease,
            safe_until: Mutex::new(asked + safe_part(lease.ttl)),
        });
        let (lost_sender, lost) = watch::channel(false);
        let keeper = tokio::spawn(keep(term.clone(), lost_sender));
        Leadership { term, key: self.key.clone(), create_revision, lost, keeper }
    }
}

/// An office held. Dropping it stops the keep-alives, so that the lease runs out; [`resign`](Self::resign)
/// vacates at once.
#[derive(Debug)]
pub struct Leadership {
    term: Arc<Term>,
    key: Key,
    create_revision: Revision,
    lost: watch::Receiver<bool>,
    keeper: JoinHandle<()>,
}

impl Leadership {
    /// The fence: grows from leader to leader.
    pub fn create_revision(&self) -> Revision {
        self.create_revision
    }

    /// The lease under the office.
    pub fn lease(&self) -> Lease {
        self.term.lease
    }

    /// The condition that each write of the leader must include.
    pub fn fence_compare(&self) -> Compare {
        Compare::CreateRevision { key: self.key.clone(), is: self.create_revision }
    }

    /// Whether the lease may have run out as of `now` on the election's clock: then send nothing.
    pub fn may_be_gone(&self, now: Duration) -> bool {
        *self.lost.borrow() || now >= self.term.safe_until()
    }

    /// Returns once the office is lost, or must be taken for lost.
    pub async fn lost(&self) {
        let mut lost = self.lost.clone();
        // The sender goes with the keeper, which ends only when the office is lost.
        let _ = lost.wait_for(|lost| *lost).await;
    }

    /// Vacates the office at once.
    pub async fn resign(mut self) -> Result<(), Error> {
        self.keeper.abort();
        // Until it has ended it holds the store: whoever closes that next shall find it closed.
        let _ = (&mut self.keeper).await;
        match self.term.store.lease_revoke(self.term.lease.id).await {
            // Gone already is as good.
            Err(Error::LeaseNotFound { .. }) | Ok(()) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

impl Drop for Leadership {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

#[derive(Debug)]
struct Term {
    store: Store,
    clock: Clock,
    lease: Lease,
    /// Until when, on our clock, the lease is certain.
    safe_until: Mutex<Duration>,
}

impl Term {
    fn safe_until(&self) -> Duration {
        *self.safe_until.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn renew(&self) -> Result<(), Error> {
        let sent = self.clock.now();
        self.store.lease_keep_alive(self.lease.id).await?;
        *self.safe_until.lock().unwrap_or_else(PoisonError::into_inner) = sent + safe_part(self.lease.ttl);
        Ok(())
    }
}

/// A thousandth less, for a clock that is slow.
fn safe_part(ttl: Duration) -> Duration {
    ttl - ttl / 1000
}

/// Renews until the lease is gone or may be.
async fn keep(term: Arc<Term>, lost: watch::Sender<bool>) {
    let mut pause = term.lease.ttl / KEEP_ALIVES_PER_TTL;
    loop {
        tokio::time::sleep(pause).await;
        let renewed = tokio::time::timeout(term.lease.ttl / KEEP_ALIVES_PER_TTL, term.renew()).await;
        match renewed {
            Ok(Ok(())) => pause = term.lease.ttl / KEEP_ALIVES_PER_TTL,
            Ok(Err(error @ (Error::LeaseNotFound { .. } | Error::Stopped { .. }))) => {
                tracing::warn!(%error, lease = %term.lease.id, "leadership lost");
                break;
            }
            Ok(Err(_)) | Err(_) => pause = term.lease.ttl / RETRIES_PER_TTL,
        }
        if term.clock.now() >= term.safe_until() {
            tracing::warn!(lease = %term.lease.id, "leadership must be taken for lost, the store does not answer");
            break;
        }
    }
    lost.send_replace(true);
}
