//! Simulated miners on the wire: each is a real Stratum V1 client over TCP that hands its work to the hashing engine and
//! submits what the engine finds.
//!
//! Assumes that the physics decide who has power: [`MinerFleet::set_power`] connects and disconnects, as a feeder that opens
//! does. One tokio task a miner; back-off with seeded jitter between attempts. Read on: `client.rs` for one connection,
//! [`crate::hashing`] for the hashes.

mod client;
mod work;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use model::{Hashrate, MinerGroupId, ModuleId};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::hashing::{self, Engine, MinerId};
use client::Client;

/// Miners of one module's fleet; a container holds some 300.
pub const MAX_FLEET: usize = 400;

/// The miners of one module.
#[derive(Clone, Debug)]
pub struct Config {
    /// The agent's proxy.
    pub proxy: SocketAddr,
    /// First part of each worker's name: `account.module-group-index`.
    pub account: String,
    /// Whose miners.
    pub module: ModuleId,
    /// By group.
    pub groups: BTreeMap<MinerGroupId, Group>,
    /// Fixes the jitter of reconnecting.
    pub seed: u64,
}

/// Like miners.
#[derive(Clone, Copy, Debug)]
pub struct Group {
    /// How many.
    pub count: u32,
    /// What one is rated at.
    pub nominal: Hashrate,
    /// Nominal hashes for each hash done; see [`hashing::scale_for`].
    pub scale: u64,
    /// What they claim, in thousandths of `nominal`: 1000 is honest.
    pub claim_permille: u32,
}

/// What a group's miners have seen, summed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Miners with power.
    pub powered: u32,
    /// Miners that have a job.
    pub connected: u64,
    /// Connections ever made.
    pub connections: u64,
    /// Shares submitted.
    pub submitted: u64,
    /// Shares the proxy acknowledged.
    pub accepted: u64,
    /// Shares the proxy refused.
    pub rejected: u64,
    /// Shares whose answer was lost with the connection.
    pub unanswered: u64,
}

/// The running miners of one module. Dropping it ends them.
#[derive(Debug)]
pub struct MinerFleet {
    groups: BTreeMap<MinerGroupId, Members>,
    tasks: JoinSet<()>,
}

#[derive(Debug)]
struct Members {
    config: Group,
    ids: Vec<MinerId>,
    power: Vec<watch::Sender<bool>>,
    counters: Arc<Counters>,
}

#[derive(Debug, Default)]
struct Counters {
    connected: AtomicU64,
    connections: AtomicU64,
    submitted: AtomicU64,
    accepted: AtomicU64,
    rejected: AtomicU64,
    unanswered: AtomicU64,
    /// Whether the boards have gone bad.
    errors: AtomicBool,
}

/// Why a fleet does not start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// See [`MAX_FLEET`].
    #[error("{0} simulated miners in one module, at most {MAX_FLEET} are possible: split the module")]
    TooMany(u64),
    /// The engine is full.
    #[error("a simulated miner cannot be registered")]
    Hashing(#[source] hashing::Error),
}

impl MinerFleet {
    /// Starts all miners without power. Must be called inside a tokio runtime.
    pub fn start(config: &Config, engine: &Engine) -> Result<MinerFleet, Error> {
        let total: u64 = config.groups.values().map(|group| u64::from(group.count)).sum();
        if total > MAX_FLEET as u64 {
            return Err(Error::TooMany(total));
        }
        let mut fleet = MinerFleet { groups: BTreeMap::new(), tasks: JoinSet::new() };
        let mut number = 0;
        for (id, group) in &config.groups {
            let mut members =
                Members { config: *group, ids: Vec::new(), power: Vec::new(), counters: Arc::default() };
            for index in 0..group.count {
                let (miner, finds) = engine.register(group.scale).map_err(Error::Hashing)?;
                let power = watch::Sender::new(false);
                members.ids.push(miner.id());
                let identity = client::Identity {
                    proxy: config.proxy,
                    worker: format!("{}.{}-{id}-{index}", config.account, config.module),
                    seed: config.seed ^ number,
                };
                let client = Client::new(identity, miner, finds, Arc::clone(&members.counters));
                fleet.tasks.spawn(client.run(power.subscribe()));
                members.power.push(power);
                number += 1;
            }
            fleet.groups.insert(id.clone(), members);
        }
        Ok(fleet)
    }

    /// Gives power to one miner, or takes it. Unknown ones are ignored.
    pub fn set_power(&self, group: &MinerGroupId, index: usize, on: bool) {
        if let Some(power) = self.groups.get(group).and_then(|members| members.power.get(index)) {
            power.send_if_modified(|was| std::mem::replace(was, on) != on);
        }
    }

    /// Lets the boards of a group go bad, or mends them: see [`client::ERROR_EVERY`].
    pub fn set_errors(&self, group: &MinerGroupId, bad: bool) {
        if let Some(members) = self.groups.get(group) {
            members.counters.errors.store(bad, Ordering::Relaxed);
        }
    }

    /// True nominal rate of each miner of a group, in the order of their indices, into the list that
    /// [`Engine::advance`] takes; a miner that hashes also gets power, one that does not loses it.
    pub fn rates(&self, group: &MinerGroupId, true_rates: &[Hashrate], into: &mut Vec<(MinerId, Hashrate)>) {
        let Some(members) = self.groups.get(group) else { return };
        for (index, (id, rate)) in members.ids.iter().zip(true_rates).enumerate() {
            self.set_power(group, index, *rate > Hashrate::ZERO);
            into.push((*id, *rate));
        }
    }

    /// What the miners with power say they hash: nominal, times what a liar adds.
    pub fn claimed(&self, group: &MinerGroupId) -> Hashrate {
        self.groups.get(group).map_or(Hashrate::ZERO, |members| {
            let one = members.config.nominal.fraction(members.config.claim_permille.into(), 1_000);
            one.times(members.powered().into())
        })
    }

    /// The counters of a group.
    pub fn stats(&self, group: &MinerGroupId) -> Stats {
        self.groups.get(group).map_or(Stats::default(), Members::stats)
    }

    /// The counters of all groups.
    pub fn total(&self) -> Stats {
        self.groups.values().map(Members::stats).fold(Stats::default(), Stats::plus)
    }

    /// Ends all miners and waits for them.
    pub async fn shutdown(mut self) {
        self.tasks.shutdown().await;
    }
}

impl Members {
    fn powered(&self) -> u32 {
        self.power.iter().map(|power| u32::from(*power.borrow())).sum()
    }

    fn stats(&self) -> Stats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Stats {
            powered: self.powered(),
            connected: read(&self.counters.connected),
            connections: read(&self.counters.connections),
            submitted: read(&self.counters.submitted),
            accepted: read(&self.counters.accepted),
            rejected: read(&self.counters.rejected),
            unanswered: read(&self.counters.unanswered),
        }
    }
}

impl Stats {
    fn plus(self, other: Stats) -> Stats {
        Stats {
            powered: self.powered + other.powered,
            connected: self.connected + other.connected,
            connections: self.connections + other.connections,
            submitted: self.submitted + other.submitted,
            accepted: self.accepted + other.accepted,
            rejected: self.rejected + other.rejected,
            unanswered: self.unanswered + other.unanswered,
        }
    }
}
