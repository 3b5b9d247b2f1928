//! A small, honest Stratum V1 pool on loopback: what stands behind the proxies in `flareshift dev` and in tests.
//!
//! It checks every share again with code of its own — hex, header, SHA-256d, target, duplicates, ntime, version bits — and
//! keeps its own books, so that an error of the `stratum` crate cannot hide in a second use of the same code.
//! Invariant: nothing under `pool` uses the `stratum` crate. Assumes a tokio runtime; jobs and ntime are on wall time.
//!
//! Read on: `server.rs` for the sockets, `session.rs` for one connection, `share.rs` for the check, `books.rs` for the account.

mod books;
mod difficulty;
mod server;
mod session;
mod share;
mod template;

pub use books::{Account, Books, JOURNAL_LIMIT};
pub use share::Refusal;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use difficulty::Threshold;
use template::Chain;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How a pool is to be.
#[derive(Clone, Debug)]
pub struct Config {
    /// Loopback only; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Fixes the jobs and the times of blocks.
    pub seed: u64,
    /// Stands in every coinbase: tells pools of one seed apart, whose miners would find the same headers.
    pub mark: u64,
    /// Difficulty of a share, fractional; not easier than [`EASIEST_WORK`] expected hashes.
    pub difficulty: f64,
    /// Wall time between two jobs on the same block.
    pub job_every: Duration,
    /// Mean wall time between two blocks.
    pub block_every: Duration,
}

/// Expected hashes of the easiest share that a pool asks for: difficulty 2^-20.
pub const EASIEST_WORK: u128 = 4096;

/// Why a pool does not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no authentication yet, so that others must not reach it.
    #[error("the simulated pool listens on loopback only, not on {0}: use 127.0.0.1")]
    NotLoopback(SocketAddr),
    /// The difficulty means nothing, or floods everybody with shares.
    #[error(
        "a pool difficulty of {0} is not usable: give a number of at least 2^-20 (0.00000095367431640625)"
    )]
    Difficulty(f64),
    /// The address cannot be had.
    #[error("cannot listen on {address}: free the address or use port 0")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// A running pool. It ends when it is shut down or the last of its owner's handles is dropped.
#[derive(Debug)]
pub struct Pool {
    handle: Handle,
    server: JoinHandle<()>,
}

/// Reads a pool's books and does to it what happens to pools. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Handle {
    shared: Arc<Shared>,
}

/// What the tasks of one pool share.
#[derive(Debug)]
struct Shared {
    address: SocketAddr,
    state: Mutex<State>,
    door: watch::Sender<Door>,
    news: watch::Sender<u64>,
}

/// Everything that changes; never held across an await.
#[derive(Debug)]
struct State {
    chain: Chain,
    books: Books,
    next_extranonce1: u32,
    connections: usize,
}

/// Whether the pool lets anyone in. A new epoch closes the connections of earlier ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Door {
    epoch: u64,
    closed_until: Option<tokio::time::Instant>,
    ended: bool,
}

impl Pool {
    /// Binds the address and serves it in the background.
    pub async fn start(config: Config) -> Result<Pool, Error> {
        if !config.listen.ip().is_loopback() {
            return Err(Error::NotLoopback(config.listen));
        }
        let threshold = usable(config.difficulty)?;
        let listener = server::listen(config.listen)
            .and_then(|listener| listener.local_addr().map(|address| (listener, address)))
            .map_err(|source| Error::Listen { address: config.listen, source });
        let (listener, address) = listener?;
        let chain = Chain::new(config.seed, config.mark, threshold, template::unix_now(), config.block_every);
        let state =
            State { chain, books: Books::default(), next_extranonce1: config.seed as u32, connections: 0 };
        let shared = Arc::new(Shared {
            address,
            state: Mutex::new(state),
            door: watch::Sender::new(Door::default()),
            news: watch::Sender::new(0),
        });
        let server = tokio::spawn(server::run(listener, Arc::clone(&shared), config.job_every));
        Ok(Pool { handle: Handle { shared }, server })
    }

    /// The handle, for as many as need one.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Closes everything and waits for it.
    pub async fn shutdown(self) {
        self.handle.shared.door.send_modify(|door| door.ended = true);
        // The task ends by itself; an error could only be a panic of its own, which has been printed by then.
        let _ = self.server.await;
    }
}

impl Handle {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.shared.address
    }

    /// A copy of the books.
    pub fn books(&self) -> Books {
        self.shared.lock().books.clone()
    }

    /// Shares accepted and their exact work, over all workers: what the witness compares with the agents' journals.
    pub fn total(&self) -> Account {
        self.shared.lock().books.total()
    }

    /// Open connections.
    pub fn connections(&self) -> usize {
        self.shared.lock().connections
    }

    /// Closes all connections; whoever comes back gets another extranonce1.
    pub fn kill_connections(&self) {
        self.shared.door.send_modify(|door| door.epoch += 1);
    }

    /// Closes all connections and refuses new ones for a while, as a pool that is gone does.
    pub fn go_away(&self, wall: Duration) {
        let until = tokio::time::Instant::now() + wall;
        self.shared.door.send_modify(|door| {
            door.epoch += 1;
            door.closed_until = Some(until);
        });
    }

    /// Ends [`Handle::go_away`] early.
    pub fn come_back(&self) {
        self.shared.door.send_modify(|door| door.closed_until = None);
    }

    /// Someone found a block: all jobs so far are stale.
    pub fn new_block(&self) {
        self.shared.lock().chain.next_block(template::unix_now());
        self.shared.tell_news();
    }

    /// Asks another difficulty, from a new job on.
    pub fn set_difficulty(&self, difficulty: f64) -> Result<(), Error> {
        let threshold = usable(difficulty)?;
        self.shared.lock().chain.set_threshold(threshold, template::unix_now());
        self.shared.tell_news();
        Ok(())
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic of another task leaves counters at worst one behind; the pool goes on.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell_news(&self) {
        self.news.send_modify(|count| *count += 1);
    }
}

fn usable(difficulty: f64) -> Result<Threshold, Error> {
    let threshold = Threshold::new(difficulty).ok_or(Error::Difficulty(difficulty))?;
    if threshold.work() < EASIEST_WORK { Err(Error::Difficulty(difficulty)) } else { Ok(threshold) }
}
