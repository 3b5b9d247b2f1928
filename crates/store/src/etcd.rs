//! The etcd twin: the port on an etcd server or cluster, 3.4 or newer.
//!
//! How it copes with what etcd's client leaves to its user: HTTP/2 keep-alive finds half-open connections; each
//! unary call has a timeout of its own (one on the channel would cut the watches); ranges are read in pages,
//! pinned to one revision; watches reconnect by themselves (`follow.rs`); a keep-alive is one short stream, so
//! there is none that could die unnoticed. A write without an answer is [`Error::UnknownOutcome`], never retried.
//! An etcd that is away is told to the log here, once and then by the minute (`outage.rs`); callers need not.
//!
//! Assumes: etcd 3.5.0–3.5.2 is not used (it loses acknowledged writes on a crash). The installation's prefix is
//! added and taken off here; nothing above knows it.
//! Read next: `etcd/convert.rs`, `etcd/follow.rs`.

mod convert;
mod follow;
mod outage;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use etcd_client::{Client, ConnectOptions, GetOptions, KvClient, LeaseClient, WatchClient};

use self::convert::{Failure, Wire};
pub use self::follow::Follow;
use self::outage::{News, Outage};
use crate::error::Error;
use crate::key::{DEFAULT_INSTALLATION, Key, Prefix};
use crate::port::{
    Entry, Lease, LeaseId, MAX_RANGE_ENTRIES, Page, Range, Revision, Store, Twin, Txn, TxnOutcome,
    check_range,
};

/// Largest reply that is accepted: 43 entries of the largest kind; the client's own default is 4 MiB.
const MAX_REPLY_BYTES: usize = 64 * 1024 * 1024;
/// Entries asked for in one page: 512 records of 8 KiB are 4 MiB.
const PAGE_ENTRIES: usize = 512;
/// A page that is too large is asked for again at an eighth: 512, 64, 8, 1.
const PAGE_SHRINK: usize = 8;
/// How often a range starts over because its revision was compacted away meanwhile.
const RANGE_ATTEMPTS: usize = 3;

/// HTTP/2 pings. An etcd closes a connection that is pinged more often than every 5 s (its
/// `--grpc-keepalive-min-time`) without data in between, and with it every write in flight; so 6 s, and a
/// connection that fell silent is given up after 8 s. Unary calls have their own, shorter timeout.
const KEEP_ALIVE: (Duration, Duration) = (Duration::from_secs(6), Duration::from_secs(2));

/// How to reach etcd.
#[derive(Clone, Debug)]
pub struct Options {
    /// Before each key; ends in a slash.
    pub prefix: String,
    /// For each unary call, connecting included.
    pub timeout: Duration,
    /// HTTP/2 pings: how long a connection may be silent before it is asked, and how long the answer may take.
    /// Shorter than 5 s only where the server's `--grpc-keepalive-min-time` allows it.
    pub keep_alive: (Duration, Duration),
}

impl Default for Options {
    fn default() -> Self {
        Self { prefix: DEFAULT_INSTALLATION.into(), timeout: Duration::from_secs(3), keep_alive: KEEP_ALIVE }
    }
}

/// A store on the etcd at `endpoints` (`host:port`). Connects when it is first used, and again when it must: an
/// etcd that is not there makes each call [`Error::Unavailable`] until it is.
pub async fn connect(endpoints: &[String], options: Options) -> Result<Store, Error> {
    let Options { prefix, timeout, keep_alive } = options;
    let connect_options = ConnectOptions::new()
        .with_keep_alive(keep_alive.0, keep_alive.1)
        // etcd takes pings on a connection without streams for an attack. A controller always has a watch open.
        .with_keep_alive_while_idle(false)
        .with_connect_timeout(timeout)
        // A member that lost its cluster would otherwise keep watches open and silent.
        .with_require_leader(true);
    let client = Client::connect(endpoints, Some(connect_options)).await.map_err(|source| {
        Error::refused(format!("the etcd endpoints {} cannot be used: {source}", endpoints.join(",")))
    })?;
    let inner = Inner {
        kv: client.kv_client().max_decoding_message_size(MAX_REPLY_BYTES),
        watch: client.watch_client().max_decoding_message_size(MAX_REPLY_BYTES),
        lease: client.lease_client(),
        wire: Wire::new(prefix),
        endpoints: endpoints.join(","),
        timeout,
        outage: Outage::default(),
    };
    Ok(Store::new(Twin::Etcd(Handle(Arc::new(inner)))))
}

/// The etcd twin behind a [`Store`].
#[derive(Clone)]
pub struct Handle(Arc<Inner>);

struct Inner {
    kv: KvClient,
    watch: WatchClient,
    lease: LeaseClient,
    wire: Wire,
    endpoints: String,
    timeout: Duration,
    outage: Outage,
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handle").field("endpoints", &self.0.endpoints).finish_non_exhaustive()
    }
}

/// What one range request brought.
struct Fetched {
    entries: Vec<Entry>,
    revision: Revision,
    more: bool,
}

impl Handle {
    pub(crate) async fn range(&self, prefix: &Prefix) -> Result<Range, Error> {
        // One more than allowed, so that "too many" is noticed.
        let Fetched { entries, revision, .. } = self.fetch_all(prefix, None, MAX_RANGE_ENTRIES + 1).await?;
        Ok(Range { entries, revision })
    }

    pub(crate) async fn page(
        &self,
        prefix: &Prefix,
        after: Option<&Key>,
        limit: usize,
    ) -> Result<Page, Error> {
        let Fetched { entries, revision, more } = self.fetch_all(prefix, after, limit).await?;
        Ok(Page { entries, revision, more })
    }

    pub(crate) async fn txn(&self, txn: Txn) -> Result<TxnOutcome, Error> {
        let writes = txn.writes();
        let leases = convert::leases_of(&txn);
        let wire_txn = self.0.wire.txn(txn);
        let mut kv = self.0.kv.clone();
        match self.call(kv.txn(wire_txn)).await {
            Ok(response) => self.0.wire.txn_outcome(&response),
            Err(failure) => Err(failure.of_txn(writes, &leases, &self.0.endpoints)),
        }
    }

    pub(crate) fn watch(&self, prefix: &Prefix, from: Option<Revision>) -> Follow {
        Follow::start(self.clone(), prefix.clone(), from)
    }

    pub(crate) async fn lease_grant(&self, ttl: Duration) -> Result<Lease, Error> {
        let seconds = i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX);
        let mut client = self.0.lease.clone();
        // A grant whose answer was lost leaves a lease that nobody keeps alive: it harms nobody.
        let granted =
            self.call(client.grant(seconds, None)).await.map_err(|f| f.of_read(&self.0.endpoints))?;
        let ttl = Duration::from_secs(u64::try_from(granted.ttl()).unwrap_or(0));
        Ok(Lease { id: LeaseId(granted.id()), ttl })
    }

    pub(crate) async fn lease_keep_alive(&self, lease: LeaseId) -> Result<(), Error> {
        let mut client = self.0.lease.clone();
        let kept = self.call(client.keep_alive(lease.0)).await;
        kept.map(drop).map_err(|f| f.of_lease(lease, &self.0.endpoints))
    }

    pub(crate) async fn lease_revoke(&self, lease: LeaseId) -> Result<(), Error> {
        let mut client = self.0.lease.clone();
        // Done twice it is done: a lost answer may be retried.
        let revoked = self.call(client.revoke(lease.0)).await;
        revoked.map(drop).map_err(|f| f.of_lease(lease, &self.0.endpoints))
    }

    pub(crate) async fn compact(&self, revision: Revision) -> Result<(), Error> {
        let mut kv = self.0.kv.clone();
        let compacted = self.call(kv.compact(convert::wire_revision(revision), None)).await;
        compacted.map(drop).map_err(|f| f.of_range(revision, &self.0.endpoints))
    }

    /// Up to `limit` entries at one revision.
    async fn fetch_all(&self, prefix: &Prefix, after: Option<&Key>, limit: usize) -> Result<Fetched, Error> {
        let mut attempt = 1;
        loop {
            match self.fetch_pinned(prefix, after, limit).await {
                Err(Error::Compacted { .. }) if attempt < RANGE_ATTEMPTS => attempt += 1,
                result => return result,
            }
        }
    }

    async fn fetch_pinned(
        &self,
        prefix: &Prefix,
        after: Option<&Key>,
        limit: usize,
    ) -> Result<Fetched, Error> {
        let mut all = Fetched { entries: Vec::new(), revision: Revision(0), more: true };
        let mut bytes = 0;
        let mut page = PAGE_ENTRIES;
        while all.more && all.entries.len() < limit {
            let after = all.entries.last().map(|entry| &entry.key).or(after);
            let wanted = page.min(limit - all.entries.len());
            let fetched = match self.fetch_page(prefix, after, wanted, all.revision).await {
                Ok(fetched) => fetched,
                Err(failure) if failure.is_too_large() && page > 1 => {
                    page = (page / PAGE_SHRINK).max(1);
                    continue;
                }
                Err(failure) => return Err(failure.of_range(all.revision, &self.0.endpoints)),
            };
            bytes += fetched.entries.iter().map(|e| e.key.as_str().len() + e.value.len()).sum::<usize>();
            all.entries.extend(fetched.entries);
            all.more = fetched.more;
            if all.revision == Revision(0) {
                all.revision = fetched.revision;
            }
            check_range(all.entries.len(), bytes)?;
        }
        Ok(all)
    }

    async fn fetch_page(
        &self,
        prefix: &Prefix,
        after: Option<&Key>,
        limit: usize,
        at: Revision,
    ) -> Result<Fetched, Failure> {
        let (start, end) = self.0.wire.span(prefix, after);
        let options = GetOptions::new()
            .with_range(end)
            .with_limit(i64::try_from(limit).unwrap_or(i64::MAX))
            .with_revision(convert::wire_revision(at));
        let mut kv = self.0.kv.clone();
        let response = self.call(kv.get(start, Some(options))).await?;
        let revision = convert::revision(response.header().map_or(0, |header| header.revision()));
        let entries = response.kvs().iter().map(|kv| self.0.wire.entry(kv)).collect::<Result<_, _>>();
        Ok(Fetched { entries: entries.map_err(Failure::Bad)?, revision, more: response.more() })
    }

    async fn call<T>(&self, call: impl Future<Output = Result<T, etcd_client::Error>>) -> Result<T, Failure> {
        let outcome = match tokio::time::timeout(self.0.timeout, call).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(source)) => Err(Failure::Client(source)),
            Err(_) => Err(Failure::Timeout(self.0.timeout)),
        };
        self.tell(outcome.as_ref().err().filter(|failure| failure.is_silence()));
        outcome
    }

    /// Tells the log when an outage begins, goes on or ends.
    fn tell(&self, silence: Option<&Failure>) {
        let news = if silence.is_some() { self.0.outage.failed() } else { self.0.outage.answered() };
        let etcd = &self.0.endpoints;
        match news {
            Some(News::Began) => {
                let why = silence.map(ToString::to_string);
                tracing::warn!(etcd, why, "etcd does not answer, trying on; check that it runs there");
            }
            Some(News::Lasts(lasts)) => {
                tracing::warn!(etcd, seconds = lasts.as_secs(), "etcd still does not answer");
            }
            Some(News::Ended(lasted)) => {
                tracing::info!(etcd, seconds = lasted.as_secs(), "etcd answers again");
            }
            None => {}
        }
    }
}
