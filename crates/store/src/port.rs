//! The port: entries, transactions, ranges, leases, and [`Store`], which hides the twin behind it.
//!
//! Assumes: semantics are etcd's, because the embedded twin must be exchangeable for it. Limits are checked
//! here, before a twin sees the request, so that both refuse the same.
//! Read next: `watch.rs`, `embedded.rs`, `etcd.rs`.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use crate::embedded;
use crate::error::Error;
use crate::key::{Key, Prefix};
use crate::watch::Watch;

/// Operations in one branch of a transaction, and compares: etcd's `--max-txn-ops` default.
pub const MAX_TXN_OPS: usize = 128;
/// Bytes of one request: etcd's `--max-request-bytes` default, 1.5 MiB.
pub const MAX_REQUEST_BYTES: usize = 3 * 512 * 1024;
/// What one operation or compare costs beside its key and value: field tags, lengths, revisions (≤ 64 B) and
/// the installation's prefix (≤ 64 B).
pub const OP_OVERHEAD_BYTES: usize = 128;
/// Bytes of one key, without the installation's prefix.
pub const MAX_KEY_BYTES: usize = 512;
/// Entries of one range: ten keys for each of 10,000 modules.
pub const MAX_RANGE_ENTRIES: usize = 100_000;
/// Bytes of one range: 100,000 entries of 1.3 KiB.
pub const MAX_RANGE_BYTES: usize = 128 * 1024 * 1024;
/// Shortest time to live of a lease: etcd grants no less.
pub const MIN_LEASE_TTL: Duration = Duration::from_secs(2);
/// Longest time to live of a lease: one day; nothing of ours may stay locked longer by a dead process.
pub const MAX_LEASE_TTL: Duration = Duration::from_secs(24 * 3600);

/// The store's own clock: each transaction that changes something takes the next one. 0 means "never".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub u64);

impl Revision {
    /// The revision after this one.
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Names a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(pub i64);

impl fmt::Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

/// A lease as it was granted: the time to live may be longer than what was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    pub id: LeaseId,
    pub ttl: Duration,
}

/// One key with its value and history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub key: Key,
    pub value: Vec<u8>,
    /// When the key came into being (again, if it was deleted before).
    pub create_revision: Revision,
    /// When it was last written.
    pub mod_revision: Revision,
    /// How often it was written since it came into being; 1 at first.
    pub version: u64,
    pub lease: Option<LeaseId>,
}

/// All entries under a prefix, at one revision, in the order of their keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    pub entries: Vec<Entry>,
    pub revision: Revision,
}

/// Some entries under a prefix, in the order of their keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    pub entries: Vec<Entry>,
    pub revision: Revision,
    /// Ask again after the last key of this page.
    pub more: bool,
}

/// A condition on one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Compare {
    Absent(Key),
    Exists(Key),
    CreateRevision { key: Key, is: Revision },
    ModRevision { key: Key, is: Revision },
    Version { key: Key, is: u64 },
}

impl Compare {
    /// The key that is looked at.
    pub fn key(&self) -> &Key {
        match self {
            Self::Absent(key) | Self::Exists(key) => key,
            Self::CreateRevision { key, .. } | Self::ModRevision { key, .. } | Self::Version { key, .. } => {
                key
            }
        }
    }

    /// Whether the condition holds for the present entry of its key.
    pub fn holds(&self, present: Option<&Entry>) -> bool {
        match self {
            Self::Absent(_) => present.is_none(),
            Self::Exists(_) => present.is_some(),
            Self::CreateRevision { is, .. } => present.map(|e| e.create_revision).unwrap_or_default() == *is,
            Self::ModRevision { is, .. } => present.map(|e| e.mod_revision).unwrap_or_default() == *is,
            Self::Version { is, .. } => present.map_or(0, |e| e.version) == *is,
        }
    }
}

/// One step of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Writes the key and binds it to the lease, or to none.
    Put { key: Key, value: Vec<u8>, lease: Option<LeaseId> },
    /// Deletes the key, if it is there.
    Delete { key: Key },
    /// Reads the key as the steps before it left it.
    Get { key: Key },
}

impl Op {
    /// The key that is touched.
    pub fn key(&self) -> &Key {
        match self {
            Self::Put { key, .. } | Self::Delete { key } | Self::Get { key } => key,
        }
    }

    pub(crate) fn writes(&self) -> bool {
        !matches!(self, Self::Get { .. })
    }

    /// What it counts against [`MAX_REQUEST_BYTES`].
    pub fn weight(&self) -> usize {
        let value = match self {
            Self::Put { value, .. } => value.len(),
            Self::Delete { .. } | Self::Get { .. } => 0,
        };
        OP_OVERHEAD_BYTES + self.key().as_str().len() + value
    }
}

/// If all compares hold then `then`, else `otherwise`: one atomic step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Txn {
    pub compares: Vec<Compare>,
    pub then: Vec<Op>,
    pub otherwise: Vec<Op>,
}

impl Txn {
    /// A transaction without conditions or steps.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a condition.
    pub fn when(mut self, compare: Compare) -> Self {
        self.compares.push(compare);
        self
    }

    /// Writes a key if the conditions hold.
    pub fn put(self, key: Key, value: Vec<u8>) -> Self {
        self.then(Op::Put { key, value, lease: None })
    }

    /// Writes a key that lives as long as the lease if the conditions hold.
    pub fn put_leased(self, key: Key, value: Vec<u8>, lease: LeaseId) -> Self {
        self.then(Op::Put { key, value, lease: Some(lease) })
    }

    /// Deletes a key if the conditions hold.
    pub fn delete(self, key: Key) -> Self {
        self.then(Op::Delete { key })
    }

    /// Adds a step for the case that the conditions hold.
    pub fn then(mut self, op: Op) -> Self {
        self.then.push(op);
        self
    }

    /// Adds a step for the case that they do not.
    pub fn otherwise(mut self, op: Op) -> Self {
        self.otherwise.push(op);
        self
    }

    pub(crate) fn writes(&self) -> bool {
        self.ops().any(Op::writes)
    }

    /// What it counts against [`MAX_REQUEST_BYTES`].
    pub fn weight(&self) -> usize {
        let compares =
            self.compares.iter().map(|c| OP_OVERHEAD_BYTES + c.key().as_str().len()).sum::<usize>();
        compares + self.ops().map(Op::weight).sum::<usize>()
    }

    fn ops(&self) -> impl Iterator<Item = &Op> {
        self.then.iter().chain(&self.otherwise)
    }

    /// Names the key to look at first when a request is too large.
    fn size_with_largest(&self) -> String {
        match self.ops().max_by_key(|op| op.weight()) {
            Some(op) => {
                format!("the size of the request in bytes (most of it, {}, for {})", op.weight(), op.key())
            }
            None => "the size of the request in bytes".into(),
        }
    }

    /// Refuses what exceeds the limits or breaks a rule; both twins call it before anything is sent.
    pub fn check(&self) -> Result<(), Error> {
        limit("the number of compares", self.compares.len(), MAX_TXN_OPS)?;
        limit("the number of operations", self.then.len(), MAX_TXN_OPS)?;
        limit("the number of operations", self.otherwise.len(), MAX_TXN_OPS)?;
        limit(&self.size_with_largest(), self.weight(), MAX_REQUEST_BYTES)?;
        let keys = self.compares.iter().map(Compare::key);
        keys.chain(self.ops().map(Op::key)).try_for_each(check_key)?;
        check_branch(&self.then)?;
        check_branch(&self.otherwise)
    }
}

/// Which branch ran, and what it read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TxnOutcome {
    /// Whether all compares held.
    pub succeeded: bool,
    /// The revision after the transaction; its own, if it changed something.
    pub revision: Revision,
    /// One for each [`Op::Get`] of the branch that ran, in order.
    pub gets: Vec<Option<Entry>>,
}

/// The store, cheap to clone. Which twin it is was decided when it was opened.
#[derive(Clone, Debug)]
pub struct Store(Twin);

#[derive(Clone, Debug)]
pub(crate) enum Twin {
    Embedded(embedded::Handle),
    #[cfg(feature = "etcd")]
    Etcd(crate::etcd::Handle),
}

impl Store {
    pub(crate) fn new(twin: Twin) -> Self {
        Self(twin)
    }

    /// The present entry of a key.
    pub async fn get(&self, key: &Key) -> Result<Option<Entry>, Error> {
        let outcome = self.txn(Txn::new().then(Op::Get { key: key.clone() })).await?;
        Ok(outcome.gets.into_iter().next().flatten())
    }

    /// All entries under a prefix at one revision; read in pages inside. More than [`MAX_RANGE_ENTRIES`] or
    /// [`MAX_RANGE_BYTES`] is [`Error::Limit`]: then read by [`page`](Self::page).
    pub async fn range(&self, prefix: &Prefix) -> Result<Range, Error> {
        match &self.0 {
            Twin::Embedded(twin) => twin.range(prefix),
            #[cfg(feature = "etcd")]
            Twin::Etcd(twin) => twin.range(prefix).await,
        }
    }

    /// Up to `limit` entries under a prefix whose keys come after `after`. Each page is of its own present.
    pub async fn page(&self, prefix: &Prefix, after: Option<&Key>, limit: usize) -> Result<Page, Error> {
        if limit == 0 || limit > MAX_RANGE_ENTRIES {
            return Err(Error::refused(format!(
                "a page holds 1 to {MAX_RANGE_ENTRIES} entries, not {limit}"
            )));
        }
        match &self.0 {
            Twin::Embedded(twin) => twin.page(prefix, after, limit),
            #[cfg(feature = "etcd")]
            Twin::Etcd(twin) => twin.page(prefix, after, limit).await,
        }
    }

    /// Runs a transaction. When it returns Ok, what it wrote is durable.
    pub async fn txn(&self, txn: Txn) -> Result<TxnOutcome, Error> {
        txn.check()?;
        match &self.0 {
            Twin::Embedded(twin) => twin.txn(txn).await,
            #[cfg(feature = "etcd")]
            Twin::Etcd(twin) => twin.txn(txn).await,
        }
    }

    /// Follows a prefix: from `from` (inclusive), or from a snapshot of the present if `None`.
    pub fn watch(&self, prefix: &Prefix, from: Option<Revision>) -> Watch {
        match &self.0 {
            Twin::Embedded(twin) => Watch::embedded(twin.watch(prefix, from)),
            #[cfg(feature = "etcd")]
            Twin::Etcd(twin) => Watch::etcd(twin.watch(prefix, from)),
        }
    }

    /// Asks for a lease; what is granted is rounded up to whole seconds and to [`MIN_LEASE_TTL`].
    pub async fn lease_grant(&self, ttl: Duration) -> Result<Lease, Error> {
        if ttl > MAX_LEASE_TTL {
            return Err(Error::refused(format!("a lease lives at most {} s", MAX_LEASE_TTL.as_secs())));
        }
        let whole = Duration::from_secs(ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0)).max(MIN_LEASE_TTL);
        match &self.0 {
            Twin::Embedded(twin) => twin.lease_grant(whole).await,
            #[cfg(feature = "etcd")]
            Twin::Etcd(twin) => twin.lease_grant(whole).await,
        }
    }

    /// Starts the lease's time to live anew. [`Error::LeaseNotFound`] if it is gone.
    pub async fn lease_keep_alive(&self, lease: LeaseId) -> Result<(), Error> {
        match &self.0 {
            Twin::Embedded(twin) => twin.lease_keep_alive(lease).await,
            #[cfg(feature = "etcd")]
            Twin::Etcd(twin) => twin.lease_keep_alive(lease).await,
        }
    }

    /// Ends the lease and deletes what it holds, in one revision.
    pub async fn lease_revoke(&self, lease: LeaseId) -> Result<(), Error> {
        match &self.0 {
            Twin::Embedded(twin) => twin.lease_revoke(lease).await,
            #[cfg(feature = "etcd")]
            Twin::Etcd(twin) => twin.lease_revoke(lease).await,
        }
    }

    /// Throws away the history up to and including `revision`; the present state stays whole.
    pub async fn compact(&self, revision: Revision) -> Result<(), Error> {
        match &self.0 {
            Twin::Embedded(twin) => twin.compact(revision).await,
            #[cfg(feature = "etcd")]
            Twin::Etcd(twin) => twin.compact(revision).await,
        }
    }
}

fn limit(what: &str, got: usize, limit: usize) -> Result<(), Error> {
    if got <= limit {
        return Ok(());
    }
    Err(Error::Limit { what: what.into(), got: got as u64, limit: limit as u64 })
}

fn check_key(key: &Key) -> Result<(), Error> {
    if key.as_str().is_empty() {
        return Err(Error::refused("a key must not be empty"));
    }
    let start: String = key.as_str().chars().take(32).collect();
    limit(&format!("the size of the key {start}… in bytes"), key.as_str().len(), MAX_KEY_BYTES)
}

/// A key may be written once in a branch: the order of two writes in one revision could not be seen.
fn check_branch(ops: &[Op]) -> Result<(), Error> {
    let mut put = BTreeSet::new();
    for op in ops {
        if let Op::Put { key, .. } = op
            && !put.insert(key)
        {
            return Err(Error::refused(format!("key {key} is put twice in one transaction")));
        }
    }
    for op in ops {
        if let Op::Delete { key } = op
            && put.contains(key)
        {
            return Err(Error::refused(format!("key {key} is put and deleted in one transaction")));
        }
    }
    Ok(())
}

pub(crate) fn check_range(entries: usize, bytes: usize) -> Result<(), Error> {
    limit("the number of entries in a range", entries, MAX_RANGE_ENTRIES)?;
    limit("the size of a range in bytes", bytes, MAX_RANGE_BYTES)
}
