//! What every service of this controller holds: the store and its cache, the leader's knowledge, and how to write.
//!
//! Reads come from the cache and the leader's knowledge; every write compares the leader's key, and returns only when the cache
//! has seen it, so that whoever wrote reads what it wrote. Assumes that a standby writes nothing: it answers what the store holds, and
//! who leads.
//!
//! Whoever borrows both takes the cache first and the leader's knowledge second, and neither twice: a borrow is a read lock,
//! and two orders, or two borrows around a waiting writer, would wait for each other for ever.
//!
//! Read next: `run.rs`, which builds it; `session.rs`, `operator/` and `tenant/`, which use it.

use std::sync::Arc;
use std::time::Duration;

use api::problem::{Kind, Problem};
use model::envelope::Fence;
use model::market::Market;
use model::time::Clock;
use service::tls::Server;
use store::{Compare, Revision, Store, Txn};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use crate::audit::Audits;
use crate::cache::Cache;
use crate::commit::{self, call};
use crate::events::Recorder;
use crate::evict;
use crate::ledger::Sink;
use crate::live::Live;
use crate::metrics::Counts;
use crate::quote::Desk;
use crate::term::Event;

/// A cache that is this far behind its own store has lost its watch: four store timeouts.
const CACHE_TIMEOUT: Duration = Duration::from_secs(20);

/// How long a writer that lost a race waits for the cache: ten times the 4 ms that a watch of etcd takes at p99, and slack.
const CATCH_UP: Duration = Duration::from_millis(100);

/// Cheap to clone.
#[derive(Clone)]
pub struct Context {
    /// Decisions.
    pub store: Store,
    /// The time that plans and envelopes are made in.
    pub clock: Arc<dyn Clock>,
    /// The store's content.
    pub cache: watch::Receiver<Cache>,
    /// The leader's knowledge; empty on a standby.
    pub live: watch::Receiver<Live>,
    /// The office, while this controller holds it.
    pub office: watch::Receiver<Option<Office>>,
    /// What mining pays.
    pub market: watch::Receiver<Market>,
    /// What operators may change while it runs.
    pub tuning: watch::Receiver<Tuning>,
    /// The ledger.
    pub sink: Sink,
    /// What agents claimed of their shares, and proved.
    pub audits: Audits,
    /// Where quotes are made and promises admitted.
    pub quotes: Desk,
    /// What happened to sites, modules and workloads, for whoever describes them.
    pub events: Recorder,
    /// What is counted for whoever watches.
    pub counts: Arc<Counts>,
    /// What does not change while it runs.
    pub settings: Arc<Settings>,
    /// How far the ledger's archive is, where one is kept.
    #[cfg(feature = "archive")]
    pub archive: Option<Archive>,
}

/// An archive that is kept.
#[cfg(feature = "archive")]
#[derive(Clone, Debug)]
pub struct Archive {
    /// Where to, as a URL.
    pub place: String,
    /// How far it is.
    pub progress: watch::Receiver<archive::progress::Progress>,
}

/// What does not change while it runs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where agents and operators reach this controller, as a URL: what it says of itself while it leads.
    pub address: String,
    /// Simulated sites are welcome.
    pub accept_simulated: bool,
    /// Listeners that speak TLS, by name.
    pub tls: Vec<(&'static str, Arc<Server>)>,
    /// Where the state is kept, for people.
    pub store_name: String,
    /// How long an envelope is valid.
    pub validity: model::Span,
    /// How long sessions wait, when the office is left, for whoever takes it.
    pub hand_over: Duration,
}

/// What may change while it runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tuning {
    /// How long agents whose session begins may say nothing while their last report holds; zero: they send every report. Sessions
    /// that are open keep what they were welcomed with.
    pub quiet: model::Span,
    /// How many workloads of modules out of touch may be given up at once.
    pub evictions: evict::Cap,
}

/// The leader's office.
#[derive(Clone, Debug)]
pub struct Office {
    /// The condition of each write.
    pub fence: Compare,
    /// Epoch and leader.
    pub term: Fence,
    /// Where sessions tell what agents say.
    pub inbox: mpsc::Sender<Event>,
}

impl Context {
    /// The office, or a problem that names who holds it.
    pub fn office(&self) -> Result<Office, Problem> {
        self.office.borrow().clone().ok_or_else(|| Problem::standby(&self.leader_address()))
    }

    /// Tells the leader's log, which `watch` shows. A full inbox, or nobody who leads, loses the line and nothing else.
    pub fn tell(&self, subject: &str, what: String) {
        if let Ok(office) = self.office() {
            let _ = office.inbox.try_send(Event::Told { subject: subject.to_owned(), what });
        }
    }

    /// For what may be answered from the store's content: whether it is known yet, and the leader's address where this controller
    /// stands by (empty when nobody leads).
    pub fn standing_by(&self) -> Result<Option<String>, Problem> {
        if self.office.borrow().is_some() {
            return Ok(None);
        }
        if self.cache.borrow().revision == store::Revision::default() {
            let message = "this controller has not read its store yet; try again in a few seconds";
            return Err(Problem::unavailable(message));
        }
        Ok(Some(self.leader_address()))
    }

    /// The leader's address as the store has it; empty when nobody leads, or when the store still names this one.
    pub fn leader_address(&self) -> String {
        let leader = self.cache.borrow().leader.as_ref().map(|leader| leader.address.clone());
        leader.filter(|address| *address != self.settings.address).unwrap_or_default()
    }

    /// Runs a transaction in the leader's name and waits until the cache has seen it. `Ok(None)`: one of its own conditions
    /// does not hold; read again and decide again.
    pub async fn write(&self, txn: Txn) -> Result<Option<Revision>, Problem> {
        let office = self.office()?;
        let fence = office.fence.clone();
        let outcome = call(&self.store, txn.when(fence.clone())).await;
        let outcome = outcome.inspect_err(|error| self.counts.store_error(error)).map_err(problem)?;
        if !outcome.succeeded {
            let present = timeout(commit::STORE_TIMEOUT, self.store.get(fence.key())).await;
            let present = present.map_err(|_| problem(commit::Error::Timeout))?;
            let still = fence.holds(present.map_err(|error| problem(error.into()))?.as_ref());
            if !still {
                // Refused by the fence, so nothing happened: whoever asked may go to the leader, once the cache knows it.
                let refused = problem(commit::Error::NotLeader);
                let leader = Some(self.leader_address()).filter(|address| !address.is_empty());
                return Err(Problem { leader, ..refused });
            }
            // Whoever decides again shall do so on what made this one fail. Another installation in the same store may own
            // the latest revision, and then there is nothing to wait for.
            let mut cache = self.cache.clone();
            let _ = timeout(CATCH_UP, cache.wait_for(|cache| cache.revision >= outcome.revision)).await;
            return Ok(None);
        }
        self.caught_up(outcome.revision).await?;
        Ok(Some(outcome.revision))
    }

    /// Waits until the cache has seen a revision.
    pub async fn caught_up(&self, revision: Revision) -> Result<(), Problem> {
        let mut cache = self.cache.clone();
        let seen = timeout(CACHE_TIMEOUT, cache.wait_for(|cache| cache.revision >= revision)).await;
        match seen {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) | Err(_) => {
                Err(Problem::new(Kind::Timeout, "it is stored, but not readable yet; read it again"))
            }
        }
    }
}

/// What a caller is told of a failed write or read of the store.
pub fn problem(error: commit::Error) -> Problem {
    use commit::Error;
    let kind = match &error {
        Error::NotLeader | Error::HalfImported | Error::Store(store::Error::Unavailable { .. }) => {
            Kind::Unavailable
        }
        Error::Timeout | Error::Store(store::Error::UnknownOutcome { .. }) => Kind::Timeout,
        Error::Outrun => Kind::Conflict,
        Error::Store(store::Error::Limit { .. }) => Kind::Exhausted,
        Error::Store(_) => Kind::Internal,
    };
    let message = match &error {
        Error::Store(source) => source.to_string(),
        other => other.to_string(),
    };
    Problem::new(kind, message)
}
