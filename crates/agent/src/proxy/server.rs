//! Accepts miners up to the limit and keeps the session with the pool; ends all of it together.
//!
//! Assumes that a task that panics has hurt itself alone: its connection is gone, the session with the pool is begun anew.
//! Next: `miner.rs`, `upstream.rs`.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::miner::{self, Miner};
use super::{Shared, upstream};

/// After an error of `accept` (too many open files) trying again at once would only burn a core.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

pub(super) async fn run(listener: TcpListener, shared: Arc<Shared>) {
    let mut ended = shared.ended.subscribe();
    let mut miners = JoinSet::new();
    let mut pool = JoinSet::new();
    loop {
        if pool.is_empty() {
            shared.state().close();
            let shared = Arc::clone(&shared);
            pool.spawn(async move { upstream::run(&shared).await });
        }
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => admit(stream, &shared, &mut miners),
                Err(error) => {
                    tracing::warn!(%error, "proxy cannot accept a miner, retrying");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = miners.join_next() => {}
            Some(_) = pool.join_next() => {
                tracing::error!("session with the pool ended by a panic, beginning anew");
                sleep(ACCEPT_PAUSE).await;
            }
            () = until_ended(&mut ended) => break,
        }
    }
    // Miners first, so that no share comes after the session has ended what was on the wire.
    miners.shutdown().await;
    pool.shutdown().await;
    shared.state().close();
}

async fn until_ended(ended: &mut watch::Receiver<bool>) {
    // An error means that the proxy itself is gone, which is an end too.
    let _ = ended.wait_for(|ended| *ended).await;
}

fn admit(stream: TcpStream, shared: &Arc<Shared>, miners: &mut JoinSet<()>) {
    match Miner::new(shared) {
        Some(miner) => drop(miners.spawn(miner::serve(stream, miner))),
        None => tracing::warn!(limit = shared.config.max_connections, "proxy is full, miner turned away"),
    }
}
