//! Simulated hashing: one OS thread that really hashes for all simulated miners of the process, on a budget.
//!
//! Simulated time credits each miner `true rate × dt ÷ scale` hashes; the thread works the credit off over the miner's current
//! template and reports what it finds. The scale — nominal hashes for each hash done — links a fleet of exahashes to a CPU:
//! scale = nominal fleet H/s × speed ÷ budget, so that at full speed the thread owes `budget` hashes a second of wall time.
//! Where it falls behind (a debug build, a busy machine) the backlog grows, and whoever drives time should wait for it.
//!
//! Assumes [`stratum::mine`] for the hashing itself. Read on: `credit.rs` for the arithmetic, `worker.rs` for the thread,
//! [`crate::miner_net`] for the connections that give it work.

mod credit;
mod worker;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use model::{Hashrate, Span};
use stratum::mine::Template;
use stratum::target::Target;
use tokio::sync::mpsc;

use credit::Credits;

/// Hashes a second of wall time for all simulated miners: a release build does about 8 million a second on one core, so this
/// is an eighth of a core.
pub const DEFAULT_BUDGET: u64 = 1_000_000;
/// The thread never works more than this share of its time, whatever it owes.
pub const MAX_DUTY: f64 = 0.45;
/// Miners of one process: the largest simulated fleet has 400 of them in each of a dozen modules.
pub const MAX_MINERS: usize = 8_192;
/// Finds that a miner's task has not taken yet. Shares are seconds apart; one that lags 64 behind has stopped.
const FINDS: usize = 64;

/// The engine. Dropping it ends the thread; miners that are left then find nothing any more.
#[derive(Debug)]
pub struct Engine {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// Names a registered miner in [`Engine::advance`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MinerId(u64);

/// A miner's side: it sets the work. Dropping it unregisters the miner.
#[derive(Debug)]
pub struct Miner {
    id: MinerId,
    slot: Arc<Slot>,
    shared: Arc<Shared>,
}

/// What a miner works on: a template, the nonces left in it, and what a hash must reach.
#[derive(Clone, Debug)]
pub struct Work {
    /// Comes back with each find.
    pub tag: u64,
    /// The header but for its nonce.
    pub template: Template,
    /// The share target.
    pub target: Target,
    /// First nonce to try.
    pub nonce: u32,
    /// Nonces stop before this one: [`Find::Exhausted`] follows. `u32::MAX` for all but the very last.
    pub end: u32,
}

/// What the engine tells a miner's task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Find {
    /// A share.
    Nonce {
        /// Of the work.
        tag: u64,
        /// What meets its target.
        nonce: u32,
    },
    /// All nonces are tried: the miner rolls something else and sets new work.
    Exhausted {
        /// Of the work.
        tag: u64,
    },
}

/// Counters since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Hashes really done.
    pub hashed: u64,
    /// Hashes credited to miners that had no work: not done, as a real miner without a job does none.
    pub idle: u64,
    /// Shares that a full channel swallowed: a miner's task had stopped.
    pub lost: u64,
    /// Hashes credited and not done yet.
    pub backlog: u64,
}

/// Why a miner is not registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// See [`MAX_MINERS`].
    #[error("more than {MAX_MINERS} simulated miners in one process: make the fleet smaller")]
    TooMany,
}

#[derive(Debug)]
struct Shared {
    slots: Mutex<Vec<Arc<Slot>>>,
    credits: Mutex<Credits>,
    next: AtomicU64,
    hashed: AtomicU64,
    idle: AtomicU64,
    lost: AtomicU64,
    ended: AtomicBool,
}

#[derive(Debug)]
struct Slot {
    id: MinerId,
    owed: AtomicU64,
    work: Mutex<Option<Work>>,
    finds: mpsc::Sender<Find>,
}

impl Engine {
    /// Starts the thread.
    pub fn start() -> std::io::Result<Engine> {
        let shared = Arc::new(Shared {
            slots: Mutex::default(),
            credits: Mutex::default(),
            next: AtomicU64::new(0),
            hashed: AtomicU64::new(0),
            idle: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            ended: AtomicBool::new(false),
        });
        let theirs = Arc::clone(&shared);
        let thread =
            std::thread::Builder::new().name("sim-hashing".into()).spawn(move || worker::run(&theirs))?;
        Ok(Engine { shared, thread: Some(thread) })
    }

    /// Adds a miner, and the channel of its finds. `scale` is nominal hashes for each hash done, at least 1.
    pub fn register(&self, scale: u64) -> Result<(Miner, mpsc::Receiver<Find>), Error> {
        let (finds, receiver) = mpsc::channel(FINDS);
        let id = MinerId(self.shared.next.fetch_add(1, Ordering::Relaxed));
        let slot = Arc::new(Slot { id, owed: AtomicU64::new(0), work: Mutex::new(None), finds });
        {
            let mut slots = lock(&self.shared.slots);
            if slots.len() >= MAX_MINERS {
                return Err(Error::TooMany);
            }
            slots.push(Arc::clone(&slot));
        }
        lock(&self.shared.credits).add(Arc::clone(&slot), scale);
        Ok((Miner { id, slot, shared: Arc::clone(&self.shared) }, receiver))
    }

    /// Credits the hashes of `dt` of simulated time; `rates` are true nominal rates. Costs some 20 ns a miner; calling it each
    /// 100 ms of simulated time is often enough. Unknown ids are ignored: their miner has gone.
    pub fn advance(&self, dt: Span, rates: &[(MinerId, Hashrate)]) {
        lock(&self.shared.credits).advance(dt, rates);
    }

    /// Hashes owed to miners. At a tenth of a second's budget or more, simulated time should wait.
    pub fn backlog(&self) -> u64 {
        lock(&self.shared.slots).iter().map(|slot| slot.owed.load(Ordering::Relaxed)).sum()
    }

    /// The counters.
    pub fn stats(&self) -> Stats {
        Stats {
            hashed: self.shared.hashed.load(Ordering::Relaxed),
            idle: self.shared.idle.load(Ordering::Relaxed),
            lost: self.shared.lost.load(Ordering::Relaxed),
            backlog: self.backlog(),
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // It can only have panicked, which was printed then.
            let _ = thread.join();
        }
    }
}

impl Miner {
    /// Its name for [`Engine::advance`].
    pub fn id(&self) -> MinerId {
        self.id
    }

    /// Replaces the work. Finds of the work before may still be in the channel: the tag tells.
    pub fn set_work(&self, work: Work) {
        *lock(&self.slot.work) = Some(work);
    }

    /// Stops hashing: no job, no connection or no power.
    pub fn clear_work(&self) {
        *lock(&self.slot.work) = None;
    }
}

impl Drop for Miner {
    fn drop(&mut self) {
        lock(&self.shared.slots).retain(|slot| slot.id != self.id);
        lock(&self.shared.credits).remove(self.id);
    }
}

/// Scale for a fleet: `nominal × speed ÷ budget`, rounded up, so that at full speed the engine keeps to its budget. At least 1.
pub fn scale_for(nominal: Hashrate, speed: f64, budget: u64) -> u64 {
    let scale = nominal.as_f64().max(0.0) * speed.max(0.0) / (budget.max(1) as f64);
    (scale.ceil() as u64).max(1)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every change under these locks is a single assignment, so that a panic elsewhere leaves nothing half-done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
