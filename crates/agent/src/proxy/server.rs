//! Accepts miners up to the limit, unless their address is banned, and keeps the sessions with pools; ends all of it together.
//!
//! Assumes that a task that panics has hurt itself alone: its connection is gone, an account's session is begun anew.
//! Next: `miner.rs`, `upstream.rs`.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use stratum::bans::Peer;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::miner::{self, Miner};
use super::{Shared, upstream};

/// After an error of `accept` (too many open files) trying again at once would only burn a core.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Jobs of our own are looked after so often.
const TICK: Duration = Duration::from_secs(1);

pub(super) async fn run(listener: TcpListener, shared: Arc<Shared>) {
    let mut ended = shared.ended.subscribe();
    let mut miners = JoinSet::new();
    let mut pools = JoinSet::new();
    // Where each miner has a session of its own it is kept beside the miner.
    let lanes = if shared.config.upstreams.pass_through { 0 } else { shared.state().lanes() };
    (0..lanes).for_each(|lane| keep_session(lane, &shared, &mut pools));
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, from)) => admit(stream, peer(from.ip()), &shared, &mut miners),
                Err(error) => {
                    tracing::warn!(%error, "proxy cannot accept a miner, retrying");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = miners.join_next() => {}
            Some(_) = pools.join_next() => {
                tracing::error!("session with a pool ended by a panic, beginning anew");
                sleep(ACCEPT_PAUSE).await;
                // Which one it was a panic does not say; there are few, and all begin anew by themselves.
                pools.shutdown().await;
                (0..lanes).for_each(|lane| keep_session(lane, &shared, &mut pools));
            }
            _ = tick.tick() => {
                let now = shared.now();
                let jobs = shared.state().keep_alive(now.mono_ms, now.unix_s);
                if shared.state().rebalance() || jobs {
                    shared.tell_news();
                }
            }
            () = until_ended(&mut ended) => break,
        }
    }
    // Miners first, so that no share comes after the session has ended what was on the wire.
    miners.shutdown().await;
    pools.shutdown().await;
    let now_ms = shared.mono_ms();
    (0..lanes).for_each(|lane| shared.state().end_lane(lane, now_ms));
}

fn keep_session(lane: usize, shared: &Arc<Shared>, pools: &mut JoinSet<()>) {
    shared.state().close(lane, shared.mono_ms());
    let shared = Arc::clone(shared);
    pools.spawn(async move { upstream::run(&shared, lane).await });
}

async fn until_ended(ended: &mut watch::Receiver<bool>) {
    // An error means that the proxy itself is gone, which is an end too.
    let _ = ended.wait_for(|ended| *ended).await;
}

fn peer(address: IpAddr) -> Peer {
    match address {
        IpAddr::V4(address) => Peer::v4(address.octets()),
        IpAddr::V6(address) => Peer::v6(address.octets()),
    }
}

fn admit(stream: TcpStream, peer: Peer, shared: &Arc<Shared>, miners: &mut JoinSet<()>) {
    if !shared.state().bans.admits(shared.mono_ms(), peer) {
        return tracing::debug!(%peer, "connection of a banned address refused");
    }
    let Some(mut miner) = Miner::new(shared, peer) else {
        return tracing::warn!(limit = shared.config.max_connections, "proxy is full, miner turned away");
    };
    if !shared.config.upstreams.pass_through {
        miners.spawn(miner::serve(stream, miner));
        return;
    }
    let own = OwnLane::new(shared);
    miner.settle(own.index);
    miners.spawn(async move {
        tokio::select! {
            () = miner::serve(stream, miner) => {}
            () = upstream::run(&own.shared, own.index) => {}
        }
    });
}

/// A lane of one miner alone; dropping it gives the lane back.
struct OwnLane {
    shared: Arc<Shared>,
    index: usize,
}

impl OwnLane {
    fn new(shared: &Arc<Shared>) -> OwnLane {
        let index = shared.state().add_lane(shared.mono_ms());
        OwnLane { shared: Arc::clone(shared), index }
    }
}

impl Drop for OwnLane {
    fn drop(&mut self) {
        let now_ms = self.shared.mono_ms();
        self.shared.state().retire(self.index, now_ms);
    }
}
