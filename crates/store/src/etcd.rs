//! The etcd twin: the port on an etcd server or cluster, 3.4 or newer.
//!
//! How it copes with what etcd's client leaves to its user: HTTP/2 keep-alive finds half-open connections; each
//! unary call has a timeout of its own (one on the channel would cut the watches); ranges are read in pages,
//! pinned to one revision; watches reconnect by themselves (`follow.rs`); a keep-alive is one short stream, so
//! there is none that could die unnoticed. An etcd that is away is told to the log here, once and then by the
//! minute (`outage.rs`); callers need not.
//!
//! One member is asked at a time; where it does not answer, the next one is. What only reads is tried again within
//! the timeout, once more than there are members; what writes, only while it is certain that no member took it. A
//! write without an answer is [`Error::UnknownOutcome`], never retried.
//!
//! Assumes: etcd 3.5.0–3.5.2 is not used (it loses acknowledged writes on a crash). The installation's prefix is
//! added and taken off here; nothing above knows it.
//! Read next: `etcd/convert.rs`, `etcd/follow.rs`.

mod convert;
mod failure;
mod follow;
mod member;
mod outage;
mod secure;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use etcd_client::GetOptions;

use self::convert::Wire;
use self::failure::Failure;
pub use self::follow::Follow;
use self::member::Member;
use self::outage::{News, Outage};
use crate::access::Access;
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

/// Pause before the next member is asked: a tenth of the time etcd takes to elect, so that a dead one costs little.
const NEXT_MEMBER: Duration = Duration::from_millis(50);

/// How to reach etcd.
#[derive(Clone, Debug)]
pub struct Options {
    /// Whether to speak TLS.
    pub tls: bool,
    /// Certificates and user.
    pub access: Access,
    /// Before each key; ends in a slash.
    pub prefix: String,
    /// For each unary call, connecting, signing in and trying again included.
    pub timeout: Duration,
    /// HTTP/2 pings: how long a connection may be silent before it is asked, and how long the answer may take.
    /// Shorter than 5 s only where the server's `--grpc-keepalive-min-time` allows it.
    pub keep_alive: (Duration, Duration),
}

impl Default for Options {
    fn default() -> Self {
        Self {
            tls: false,
            access: Access::default(),
            prefix: DEFAULT_INSTALLATION.into(),
            timeout: Duration::from_secs(3),
            keep_alive: KEEP_ALIVE,
        }
    }
}

/// A store on the etcd at `endpoints` (`host:port`). Connects when it is first used, and again when it must: an
/// etcd that is not there makes each call [`Error::Unavailable`] until it is. Files that cannot be used are told at once.
pub async fn connect(endpoints: &[String], options: Options) -> Result<Store, Error> {
    let tls = if options.tls { Some(secure::tls(&options.access)?) } else { None };
    let login = secure::login(&options.access)?;
    let mut members = Vec::with_capacity(endpoints.len());
    for endpoint in endpoints {
        let member = Member::new(endpoint, &options, tls.clone(), login.clone()).await;
        let unusable =
            |source| Error::refused(format!("the etcd endpoint {endpoint} cannot be used: {source}"));
        members.push(Arc::new(member.map_err(unusable)?));
    }
    if members.is_empty() {
        return Err(Error::refused("an etcd has one endpoint at least"));
    }
    let inner = Inner {
        members,
        asked: AtomicUsize::new(0),
        wire: Wire::new(options.prefix),
        endpoints: endpoints.join(","),
        timeout: options.timeout,
        outage: Outage::default(),
    };
    Ok(Store::new(Twin::Etcd(Handle(Arc::new(inner)))))
}

/// The etcd twin behind a [`Store`].
#[derive(Clone)]
pub struct Handle(Arc<Inner>);

struct Inner {
    /// At least one.
    members: Vec<Arc<Member>>,
    /// Which of them is asked (modulo their number); the next one once it does not answer.
    asked: AtomicUsize,
    wire: Wire,
    endpoints: String,
    timeout: Duration,
    outage: Outage,
}

/// Whether a call may be sent again although the first one may have arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Again {
    /// Done twice it is done once: reads, keep-alives, revocations.
    Harmless,
    /// Only if it is certain that it did not arrive.
    Never,
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
        let again = if writes { Again::Never } else { Again::Harmless };
        let wire_txn = self.0.wire.txn(txn);
        let call = |member: Arc<Member>| {
            let wire_txn = wire_txn.clone();
            async move { member.kv().txn(wire_txn).await }
        };
        match self.call(again, call).await {
            Ok(response) => self.0.wire.txn_outcome(&response),
            Err(failure) => Err(failure.of_txn(writes, &leases, &self.0.endpoints)),
        }
    }

    pub(crate) fn watch(&self, prefix: &Prefix, from: Option<Revision>) -> Follow {
        Follow::start(self.clone(), prefix.clone(), from)
    }

    pub(crate) async fn lease_grant(&self, ttl: Duration) -> Result<Lease, Error> {
        let seconds = i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX);
        // A grant whose answer was lost leaves a lease that nobody keeps alive: it harms nobody.
        let call = |member: Arc<Member>| async move { member.lease().grant(seconds, None).await };
        let granted = self.call(Again::Harmless, call).await.map_err(|f| f.of_read(&self.0.endpoints))?;
        let ttl = Duration::from_secs(u64::try_from(granted.ttl()).unwrap_or(0));
        Ok(Lease { id: LeaseId(granted.id()), ttl })
    }

    pub(crate) async fn lease_keep_alive(&self, lease: LeaseId) -> Result<(), Error> {
        let call = |member: Arc<Member>| async move { member.lease().keep_alive(lease.0).await };
        let kept = self.call(Again::Harmless, call).await;
        kept.map(drop).map_err(|f| f.of_lease(lease, &self.0.endpoints))
    }

    pub(crate) async fn lease_revoke(&self, lease: LeaseId) -> Result<(), Error> {
        let call = |member: Arc<Member>| async move { member.lease().revoke(lease.0).await };
        let revoked = self.call(Again::Harmless, call).await;
        revoked.map(drop).map_err(|f| f.of_lease(lease, &self.0.endpoints))
    }

    pub(crate) async fn compact(&self, revision: Revision) -> Result<(), Error> {
        let to = convert::wire_revision(revision);
        let call = |member: Arc<Member>| async move { member.kv().compact(to, None).await };
        let compacted = self.call(Again::Harmless, call).await;
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
        let call = |member: Arc<Member>| {
            let (start, options) = (start.clone(), options.clone());
            async move { member.kv().get(start, Some(options)).await }
        };
        let response = self.call(Again::Harmless, call).await?;
        let revision = convert::revision(response.header().map_or(0, |header| header.revision()));
        let entries = response.kvs().iter().map(|kv| self.0.wire.entry(kv)).collect::<Result<_, _>>();
        Ok(Fetched { entries: entries.map_err(Failure::Bad)?, revision, more: response.more() })
    }

    /// One call within the timeout.
    async fn call<T, F>(&self, again: Again, call: impl Fn(Arc<Member>) -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, etcd_client::Error>>,
    {
        let before = self.0.asked.load(Ordering::Relaxed);
        let outcome = match tokio::time::timeout(self.0.timeout, self.attempts(again, call)).await {
            Ok(outcome) => outcome,
            Err(_) => {
                self.move_on(before);
                Err(Failure::Timeout(self.0.timeout))
            }
        };
        self.tell(outcome.as_ref().err().filter(|failure| failure.is_silence()));
        outcome
    }

    /// Asks one member after another, once more than there are, as long as that is safe.
    async fn attempts<T, F>(&self, again: Again, call: impl Fn(Arc<Member>) -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, etcd_client::Error>>,
    {
        let mut left = self.0.members.len();
        loop {
            let asked = self.0.asked.load(Ordering::Relaxed);
            let member = &self.0.members[asked % self.0.members.len()];
            let outcome = match member.sign_in().await {
                Ok(()) => call(member.clone()).await.map_err(Failure::Client),
                Err(source) => Err(Failure::SignIn(source)),
            };
            let Err(failure) = outcome else { return outcome };
            if failure.is_stale_token() && !member.forget().await || !failure.may_pass() {
                return Err(failure);
            }
            if failure.is_silence() {
                self.move_on(asked);
            }
            if left == 0 || again == Again::Never && !failure.did_nothing() {
                return Err(failure);
            }
            left -= 1;
            tokio::time::sleep(NEXT_MEMBER).await;
        }
    }

    /// The next member from now on, unless somebody else has moved on already.
    fn move_on(&self, asked: usize) {
        let next = asked.wrapping_add(1);
        // Failing means that it has moved: as good.
        let _ = self.0.asked.compare_exchange(asked, next, Ordering::Relaxed, Ordering::Relaxed);
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
