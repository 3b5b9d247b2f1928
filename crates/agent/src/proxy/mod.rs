//! The Stratum proxy: sockets around the machines of [`stratum`]. Miners connect here; one upstream session for each account
//! carries their shares to a pool under its name. Accounts have weights, and each a list of pools to fall back on.
//!
//! Each share is verified before it is counted or forwarded; its intent is in the journal before it is on the wire; it gets
//! exactly one end. When the pool is lost the miners stay: they go on with the last job, and within a minute with jobs of our
//! own; such shares end as `KeepAlive` (verified, never forwarded, unpaid), and shares that were on the wire as `Unknown`. A new pool session brings new
//! slices by `mining.set_extranonce`; a miner that never subscribed to that must be closed then, and comes back by itself.
//!
//! Invariant: nothing here reads simulated time but through the given clock; ntime, vardiff and timeouts are on wall time.
//! One small mutex ([`state::State`]) holds the books; it is never held across an await, and hashing is done outside it.
//! The way of a share: `miner.rs` → `state.rs` → `upstream.rs`; the port to the ledger is `journal.rs`.

mod groups;
pub mod journal;
mod miner;
mod sabotage;
mod server;
mod state;
mod upstream;
mod upstreams;
mod wire;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use model::report::Verified;
use model::time::Clock;
use model::{MinerGroupId, Span};
use stratum::account::{End, Tally};
use stratum::downstream;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub use groups::Groups;
pub use sabotage::Sabotage;
pub use upstreams::{Account, Upstreams, is_pool};
pub use wire::{Roots, RootsError};

use self::state::State;
use journal::ShareJournal;

/// How a proxy is to be.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where miners connect. Loopback only, until there is authentication; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The pool, as `host:port`, or with the scheme `stratum+tcp://` or `stratum+ssl://` before it.
    pub pool: String,
    /// Our user name there; every share is submitted under it.
    pub account: String,
    /// Its password; most pools ignore it.
    pub password: String,
    /// Pools to fall back on, further accounts, and jobs for when all are away.
    pub upstreams: Upstreams,
    /// Miners connected at once, at most.
    pub max_connections: usize,
    /// Which worker belongs to which group.
    pub groups: Groups,
    /// Where the counter of extranonce2 slices begins: what [`Handle::slice_counter`] said before a restart.
    pub first_slice: u64,
    /// Simulated time over which the verified hash rate is taken.
    pub window: Span,
    /// Difficulty, timeouts and limits of a miner's session.
    pub session: downstream::Config,
    /// For the sabotaged runs that prove the checkers; honest by default.
    pub sabotage: Sabotage,
}

/// Why a proxy does not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody is authenticated yet.
    #[error(
        "the Stratum proxy listens on loopback only, not on {0}: there is no authentication yet, and anyone on the network could \
         mine in your name; use 127.0.0.1"
    )]
    NotLoopback(SocketAddr),
    /// A pool's address cannot be read.
    #[error("{0:?} is no address of a pool: write host:port, or stratum+ssl://host:port for TLS")]
    Pool(String),
    /// The address cannot be had.
    #[error("the Stratum proxy cannot listen on {address}: free the address, or choose another")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// A running proxy.
#[derive(Debug)]
pub struct Proxy {
    handle: Handle,
    tasks: JoinHandle<()>,
}

/// Reads what a proxy has counted. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Handle {
    shared: Arc<Shared>,
}

/// What a group's miners have proved.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GroupStatus {
    /// Work of verified shares, times scale, per second of simulated time; `None` before any time has passed.
    pub verified: Option<Verified>,
    /// Connections whose first worker belongs to the group.
    pub connections: u32,
}

/// The proxy's books. `received` equals the sum of `ends` plus `in_flight`, in count and in work, at every instant.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stats {
    /// Shares that came.
    pub received: Tally,
    /// Forwarded, and the answer is out.
    pub in_flight: Tally,
    /// The others, by how they ended.
    pub ends: BTreeMap<End, Tally>,
    /// Rejected at the edge, by stable code.
    pub rejected: BTreeMap<&'static str, u64>,
    /// Whether the equation holds for every worker.
    pub balanced: bool,
    /// Miners connected now.
    pub connections: usize,
    /// Miners that ever connected.
    pub connected: u64,
    /// Connections refused because of the limit.
    pub turned_away: u64,
    /// Connections refused because their address is banned.
    pub refused: u64,
    /// Sessions with the pool that ever were.
    pub pool_sessions: u64,
    /// A session with a pool is up, of whichever account.
    pub pool_up: bool,
    /// The pool's difficulty, as far as it is known.
    pub pool_difficulty: Option<f64>,
    /// Records that the journal refused; each cost a miner its connection, and none was acknowledged.
    pub journal_failures: u64,
}

/// All of a proxy at one instant, for people.
#[derive(Clone, Debug)]
pub struct Detail {
    /// Connections and the books of all.
    pub stats: Stats,
    /// The ways to pools, in order of the accounts; with pass-through one for each miner.
    pub upstreams: Vec<UpstreamStatus>,
    /// The books of all workers together.
    pub total: stratum::account::Account,
    /// The books of each.
    pub workers: BTreeMap<String, stratum::account::Account>,
    /// What each group has proved.
    pub groups: BTreeMap<MinerGroupId, GroupStatus>,
    /// Addresses from which nobody is served now.
    pub bans: Vec<stratum::bans::Ban>,
    /// The pools' own words for the last share refused, by code.
    pub words: BTreeMap<String, String>,
}

/// One pool over all accounts, for whoever watches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PoolStatus {
    /// Its address.
    pub pool: String,
    /// A session with it is up.
    pub up: bool,
    /// Shares that it accepted.
    pub accepted: u64,
    /// Shares that it refused.
    pub refused: u64,
    /// Shares on which it gave no answer.
    pub unknown: u64,
}

/// One account's way to its pools.
#[derive(Clone, Debug, PartialEq)]
pub struct UpstreamStatus {
    /// The account.
    pub account: String,
    /// Its share of the miners, against the weights of the others.
    pub weight: u32,
    /// Miners that work for it.
    pub miners: u32,
    /// Where it stands.
    pub state: UpstreamState,
    /// The pool in use or tried last.
    pub pool: String,
    /// The pool's difficulty, as of its last job.
    pub difficulty: Option<f64>,
    /// What ended the last session or attempt.
    pub trouble: Option<String>,
    /// It carries one miner alone.
    pub private: bool,
}

/// Where an upstream stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpstreamState {
    /// A session with a pool is up.
    Up,
    /// No pool is there; miners go on with its last job.
    Away,
    /// No pool is there; miners work on jobs of ours.
    KeepAlive,
}

/// What all tasks of a proxy share.
struct Shared {
    config: Config,
    address: SocketAddr,
    clock: Arc<dyn Clock>,
    born: Instant,
    state: Mutex<State>,
    /// Counts what connections should look at in the state: jobs, slices, masks.
    news: watch::Sender<u64>,
    ended: watch::Sender<bool>,
}

impl Proxy {
    /// Binds the address and serves it in the background. Needs a tokio runtime.
    pub async fn start(
        config: Config,
        clock: Arc<dyn Clock>,
        journal: Box<dyn ShareJournal>,
    ) -> Result<Proxy, Error> {
        if !config.listen.ip().is_loopback() {
            return Err(Error::NotLoopback(config.listen));
        }
        let at = |source| Error::Listen { address: config.listen, source };
        let listener = TcpListener::bind(config.listen).await.map_err(at)?;
        let address = listener.local_addr().map_err(at)?;
        let state = State::new(&config, clock.now(), journal).map_err(Error::Pool)?;
        let shared = Arc::new(Shared {
            config,
            address,
            clock,
            born: Instant::now(),
            state: Mutex::new(state),
            news: watch::Sender::new(0),
            ended: watch::Sender::new(false),
        });
        let tasks = tokio::spawn(server::run(listener, Arc::clone(&shared)));
        Ok(Proxy { handle: Handle { shared }, tasks })
    }

    /// The handle, for as many as need one.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Closes all connections; shares without an answer end as unknown. Returns when that is in the journal.
    pub async fn shutdown(self) {
        self.handle.shared.ended.send_replace(true);
        // The task ends by itself; an error could only be a panic of its own, which has been printed by then.
        let _ = self.tasks.await;
    }
}

impl Handle {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.shared.address
    }

    /// What each group has proved. Every configured group is there, connected or not.
    pub fn verified(&self) -> BTreeMap<MinerGroupId, GroupStatus> {
        let now = self.shared.clock.now();
        self.shared.state().verified(now)
    }

    /// The books.
    pub fn stats(&self) -> Stats {
        self.shared.state().stats()
    }

    /// Every pool that is configured, and what it answered, in order of the addresses.
    pub fn pools(&self) -> Vec<PoolStatus> {
        self.shared.state().pools()
    }

    /// Everything there is to tell, for people.
    pub fn detail(&self) -> Detail {
        let now = self.shared.clock.now();
        self.shared.state().detail(now, self.shared.mono_ms())
    }

    /// Wall time since the proxy was started.
    pub fn uptime(&self) -> Duration {
        self.shared.born.elapsed()
    }

    /// Most miners at once.
    pub fn max_connections(&self) -> usize {
        self.shared.config.max_connections
    }

    /// Whether every pool has been away for as long as the settings say, so that miners may be put to sleep for want of pay.
    pub fn is_unpaid(&self) -> bool {
        self.shared.state().is_unpaid(self.shared.mono_ms())
    }

    /// Other weights for the accounts, in the order of the configuration. Miners that are there move one by one, a second and
    /// one in 256 at a time. `false` when these are not as many as there are accounts: then nothing has changed.
    pub fn set_weights(&self, weights: &[u32]) -> bool {
        self.shared.state().set_weights(weights)
    }

    /// To be kept, and given as `first_slice` after a restart. The pool's extranonce1 makes slices of different sessions differ
    /// anyway; the counter guards against pools that hand out one extranonce1 twice.
    pub fn slice_counter(&self) -> u64 {
        self.shared.state().slice_counter()
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // A panic while it was held would be a broken invariant, printed by then; the other miners' shares still count.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn mono_ms(&self) -> u64 {
        u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn tell_news(&self) {
        self.news.send_modify(|count| *count += 1);
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("address", &self.address).finish_non_exhaustive()
    }
}
