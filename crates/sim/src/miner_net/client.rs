//! One simulated miner's life: wait for power, connect, mine, lose the connection, wait, connect again.
//!
//! Assumes a peer on loopback; still every wait has its limit. Next: `work.rs` for what is searched, [`stratum::upstream`] for
//! the client's half of the protocol.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};
use stratum::line::{LineBuffer, MAX_SERVER_LINE};
use stratum::upstream::{self, Event, Outcome, Outgoing, ShareRef, Upstream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use super::Counters;
use super::work::Search;
use crate::hashing::{Find, Miner};

/// First wait after a failure; doubled each time.
const FIRST_WAIT: Duration = Duration::from_millis(200);
/// Longest wait: real miners retry each 5 to 30 s.
const LONGEST_WAIT: Duration = Duration::from_secs(10);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);
const TICK: Duration = Duration::from_secs(1);
/// A miner whose boards have gone bad gets one share in so many wrong. Sound ones stay far below one in a hundred; but a
/// simulated miner finds a few shares a minute only, and a fault is there to be seen.
pub(super) const ERROR_EVERY: u64 = 2;

/// Who a miner is.
#[derive(Clone, Debug)]
pub(super) struct Identity {
    pub(super) proxy: SocketAddr,
    pub(super) worker: String,
    pub(super) seed: u64,
}

#[derive(Debug)]
pub(super) struct Client {
    identity: Identity,
    miner: Miner,
    finds: mpsc::Receiver<Find>,
    counters: Arc<Counters>,
    rng: ChaCha8Rng,
    failures: u32,
    sessions: u64,
    next_share: u64,
    search: Search,
    born: Instant,
}

/// One connection.
#[derive(Debug)]
struct Connection {
    stream: TcpStream,
    upstream: Upstream,
    counted: bool,
}

impl Client {
    pub(super) fn new(
        identity: Identity,
        miner: Miner,
        finds: mpsc::Receiver<Find>,
        counters: Arc<Counters>,
    ) -> Client {
        let rng = ChaCha8Rng::seed_from_u64(identity.seed);
        let born = Instant::now();
        let search = Search::default();
        Client {
            identity,
            miner,
            finds,
            counters,
            rng,
            failures: 0,
            sessions: 0,
            next_share: 0,
            search,
            born,
        }
    }

    /// Lives until its fleet is dropped.
    pub(super) async fn run(mut self, mut power: watch::Receiver<bool>) {
        while power.wait_for(|on| *on).await.is_ok() {
            let mut off = power.clone();
            tokio::select! {
                () = self.mine() => {}
                _ = off.wait_for(|on| !*on) => {}
            }
            self.stop();
        }
    }

    /// Finds of this connection that are still on their way must not become shares of the next one.
    fn stop(&mut self) {
        self.miner.clear_work();
        self.search.forget();
    }

    /// Connects again and again. The caller drops this future when the power goes.
    async fn mine(&mut self) {
        loop {
            match timeout(CONNECT_TIMEOUT, TcpStream::connect(self.identity.proxy)).await {
                Ok(Ok(stream)) => self.session(stream).await,
                _ => self.failures = self.failures.saturating_add(1),
            }
            self.stop();
            tokio::time::sleep(self.pause()).await;
        }
    }

    /// Exponential with full jitter: miners that lost one proxy together do not come back together.
    fn pause(&mut self) -> Duration {
        let longest = FIRST_WAIT.saturating_mul(1 << self.failures.min(10)).min(LONGEST_WAIT);
        let share = f64::from(self.rng.next_u32()) / f64::from(u32::MAX);
        longest.mul_f64(0.1 + 0.9 * share)
    }

    async fn session(&mut self, stream: TcpStream) {
        // Small lines should not wait for acknowledgements; where it fails they merely wait.
        let _ = stream.set_nodelay(true);
        self.sessions += 1;
        add(&self.counters.connections, 1);
        let config = upstream::Config::new(&self.identity.worker, "flareshift-sim/1");
        let (upstream, opening) = Upstream::new(config, self.sessions, self.now_ms());
        let mut guard = Guard {
            connection: Connection { stream, upstream, counted: false },
            counters: Arc::clone(&self.counters),
        };
        if write(&mut guard.connection.stream, &opening.concat()).await.is_err() {
            self.failures = self.failures.saturating_add(1);
            return;
        }
        // What ends a session is always the same to a miner: it tries again.
        let _ = self.talk(&mut guard.connection).await;
        self.failures = if guard.connection.counted { 0 } else { self.failures.saturating_add(1) };
    }

    async fn talk(&mut self, connection: &mut Connection) -> std::io::Result<()> {
        let mut lines = LineBuffer::new(MAX_SERVER_LINE);
        let mut buffer = [0; 2048];
        let mut tick = tokio::time::interval(TICK);
        loop {
            let (mut events, mut out) = (Vec::new(), String::new());
            tokio::select! {
                read = connection.stream.read(&mut buffer) => {
                    let count = read?;
                    if count == 0 {
                        return Err(std::io::ErrorKind::UnexpectedEof.into());
                    }
                    let upstream = &mut connection.upstream;
                    let taken = lines.push(&buffer[..count], |line| events.extend(upstream.on_line(line)));
                    taken.map_err(std::io::Error::other)?;
                }
                Some(find) = self.finds.recv() => self.on_find(connection, find, &mut out),
                _ = tick.tick() => events = connection.upstream.tick(self.now_ms()),
            }
            for event in events {
                self.on_event(connection, event, &mut out)?;
            }
            if !out.is_empty() {
                write(&mut connection.stream, &out).await?;
            }
        }
    }

    fn on_find(&mut self, connection: &mut Connection, find: Find, out: &mut String) {
        match find {
            Find::Nonce { tag, nonce } => {
                let Some(share) = self.search.share(connection.upstream.session(), tag, nonce) else {
                    return;
                };
                self.next_share += 1;
                let wrong = self.counters.errors.load(Ordering::Relaxed)
                    && self.next_share.is_multiple_of(ERROR_EVERY);
                let share = if wrong { Outgoing { nonce: !share.nonce, ..share } } else { share };
                if let Ok((_, line)) =
                    connection.upstream.submit(self.now_ms(), ShareRef(self.next_share), &share)
                {
                    out.push_str(&line);
                    add(&self.counters.submitted, 1);
                }
            }
            Find::Exhausted { tag } => {
                if let Some(work) = self.search.on_exhausted(tag) {
                    self.miner.set_work(work);
                }
            }
        }
    }

    fn on_event(
        &mut self,
        connection: &mut Connection,
        event: Event,
        out: &mut String,
    ) -> std::io::Result<()> {
        match event {
            Event::Send(line) => out.push_str(&line),
            Event::Ready { slice, .. } => self.search.set_slice(slice),
            Event::Job(assignment) => {
                self.miner.set_work(self.search.on_job(assignment));
                if !std::mem::replace(&mut connection.counted, true) {
                    add(&self.counters.connected, 1);
                }
            }
            Event::Extranonce(slice) => {
                self.miner.clear_work();
                self.search.set_slice(slice);
            }
            Event::Outcome { outcome, .. } => match outcome {
                Outcome::Accepted => add(&self.counters.accepted, 1),
                Outcome::Rejected { .. } => add(&self.counters.rejected, 1),
                Outcome::Unknown => add(&self.counters.unanswered, 1),
            },
            Event::Broken(broken) => return Err(std::io::Error::other(broken)),
            // A job carries its difficulty; versions are not rolled; a simulated miner follows nobody elsewhere.
            Event::Difficulty(_)
            | Event::Mask(_)
            | Event::Reconnect { .. }
            | Event::Message(_)
            | Event::Ignored(_) => {}
        }
        Ok(())
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// Books the end of a connection also when the power went and its future was dropped.
struct Guard {
    connection: Connection,
    counters: Arc<Counters>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        add(&self.counters.unanswered, self.connection.upstream.pending() as u64);
        if self.connection.counted {
            self.counters.connected.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

async fn write(stream: &mut TcpStream, text: &str) -> std::io::Result<()> {
    timeout(WRITE_TIMEOUT, stream.write_all(text.as_bytes())).await?
}

fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}
