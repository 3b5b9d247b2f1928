//! One account's session with a pool: connect, talk, lose it, take the next one, come back. For as long as the proxy lives.
//!
//! Assumes that losing a pool concerns nobody's connection but this one. What was on the wire and not answered ends as unknown;
//! shares found while a session is away wait only where the pool goes on with its sessions (`state/spool.rs`). Next:
//! [`stratum::upstream`] for the protocol, [`stratum::failover`] for which pool, `state.rs` for shares on the wire.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use stratum::failover::{Failover, Next};
use stratum::line::{LineBuffer, MAX_SERVER_LINE};
use stratum::reconnect::{self, Address};
use stratum::upstream::{self, Event};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::Shared;
use super::upstreams::{PoolAddress, Route};
use super::wire::{self, Wire};

const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
const TICK: Duration = Duration::from_secs(1);
/// A pool that stays away is tried every few seconds; that it is still away is worth a line a minute.
const TELL_EVERY_MS: u64 = 60_000;
/// The longest that a pool may ask us to wait before we reconnect.
const LONGEST_ASKED_S: u32 = 60;
/// Bytes taken at once: some two hundred answers, whose outcomes are then one write to the journal.
const READ: usize = 8_192;
/// Our name towards pools.
const AGENT: &str = concat!("flareshift/", env!("CARGO_PKG_VERSION"));

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
enum Lost {
    #[error("{0}")]
    Connect(#[from] wire::Error),
    #[error("the connection with the pool failed: {0}")]
    Io(#[from] std::io::Error),
    #[error("the pool did not take a connection or a line in time")]
    Stuck(#[from] tokio::time::error::Elapsed),
    #[error("the pool closed the connection")]
    Closed,
    #[error("{0}")]
    Line(#[from] stratum::line::LineTooLong),
    #[error("{0}")]
    Broken(upstream::Broken),
    #[error("the pool asked to reconnect")]
    Asked { to: Address, wait_s: u32 },
    #[error("a better pool is there again")]
    Better,
}

/// Runs until it is dropped.
pub(super) async fn run(shared: &Shared, lane: usize) {
    let Some(route) = shared.state().route(lane).cloned() else { return };
    let failover = Failover::new(route.pools.len());
    let mut line = Line { shared, lane, failover, route, redirect: None, told: BTreeMap::new() };
    loop {
        match line.failover.next(shared.mono_ms()) {
            Next::Connect(index) => line.visit(index).await,
            Next::Wait { until_ms } => {
                sleep(Duration::from_millis(until_ms.saturating_sub(shared.mono_ms()).max(1))).await;
            }
        }
    }
}

/// What one account's task remembers from session to session.
struct Line<'a> {
    shared: &'a Shared,
    lane: usize,
    route: Route,
    failover: Failover,
    /// Where a pool asked us to go, for the next try alone.
    redirect: Option<(usize, Address)>,
    /// What was last told of each pool of the list, and when.
    told: BTreeMap<usize, (String, u64)>,
}

impl Line<'_> {
    /// One session, from connecting to whatever ends it.
    async fn visit(&mut self, index: usize) {
        let Some(mut pool) = self.route.pools.get(index).cloned() else { return };
        if let Some((_, address)) = self.redirect.take_if(|(of, _)| *of == index) {
            pool.address = address;
        }
        let Err(lost) = self.session(index, &pool).await;
        self.tell_lost(index, &lost, &pool);
        self.shared.state().close(self.lane, self.shared.mono_ms());
        self.shared.state().note_trouble(self.lane, lost.to_string());
        match lost {
            Lost::Better => self.failover.on_left(index),
            Lost::Asked { to, wait_s } => {
                self.failover.on_left(index);
                self.redirect = Some((index, to));
                sleep(Duration::from_secs(u64::from(wait_s.clamp(1, LONGEST_ASKED_S)))).await;
            }
            _ => self.failover.on_lost(index, self.shared.mono_ms(), jitter()),
        }
    }

    /// The same trouble with the same pool is told once a minute.
    fn tell_lost(&mut self, index: usize, lost: &Lost, pool: &PoolAddress) {
        let (error, now_ms) = (lost.to_string(), self.shared.mono_ms());
        let told = |(text, at): &(String, u64)| *text == error && now_ms.saturating_sub(*at) < TELL_EVERY_MS;
        if self.told.get(&index).is_some_and(told) {
            return;
        }
        let (account, pool) = (&self.route.name, &pool.address.host);
        match lost {
            Lost::Connect(_) => {
                tracing::warn!(error, %account, %pool, "no session with the pool; it is tried again")
            }
            _ => tracing::warn!(error, %account, %pool, "pool left; miners keep their last job"),
        }
        self.told.insert(index, (error, now_ms));
    }

    async fn session(&mut self, index: usize, pool: &PoolAddress) -> Result<std::convert::Infallible, Lost> {
        self.shared.state().note_pool(self.lane, index);
        let mut stream = wire::connect(pool, &self.shared.config.upstreams.roots).await?;
        let mut config = upstream::Config::new(&self.route.name, AGENT);
        config.password.clone_from(&self.route.password);
        let wake = Arc::new(Notify::new());
        let opening = self.shared.state().open(self.lane, config, Arc::clone(&wake), self.shared.mono_ms());
        write(&mut stream, &opening.concat()).await?;
        let mut incoming = LineBuffer::new(MAX_SERVER_LINE);
        let mut buffer = vec![0; READ];
        let mut out = String::new();
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut probes = JoinSet::new();
        loop {
            let mut events = Vec::new();
            let (lane, shared) = (self.lane, self.shared);
            out.clear();
            tokio::select! {
                read = stream.read(&mut buffer) => {
                    let count = read?;
                    if count == 0 {
                        return Err(Lost::Closed);
                    }
                    let mut state = shared.state();
                    let cut =
                        incoming.push(&buffer[..count], |line| state.on_pool_line(lane, line, &mut events));
                    state.settle();
                    cut?;
                }
                // All that waits goes into one packet.
                () = wake.notified() => shared.state().take_waiting(lane, &mut out),
                _ = tick.tick() => {
                    events = shared.state().tick(lane, shared.mono_ms());
                    self.look_around(index, &mut probes);
                }
                Some(answers) = probes.join_next() => {
                    if matches!(answers, Ok(true)) {
                        return Err(Lost::Better);
                    }
                }
            }
            for event in events {
                self.on_event(pool, event, &mut out)?;
            }
            if !out.is_empty() {
                write(&mut stream, &out).await?;
            }
        }
    }

    /// Tells the list of pools that this one works, and now and then sees whether a better one answers.
    fn look_around(&mut self, index: usize, probes: &mut JoinSet<bool>) {
        let now_ms = self.shared.mono_ms();
        if self.failover.current().is_none() && self.shared.state().is_up(self.lane) {
            self.failover.on_ready(index, now_ms);
            let pool = self.route.pools.get(index);
            tracing::info!(account = %self.route.name, pool = pool.map(tracing::field::display), "pool in use");
        }
        if let Some(better) = self.failover.better(now_ms).and_then(|better| self.route.pools.get(better)) {
            probes.spawn(wire::answers(better.clone(), self.shared.config.upstreams.roots.clone()));
        }
    }

    fn on_event(&mut self, pool: &PoolAddress, event: Event, out: &mut String) -> Result<(), Lost> {
        match event {
            Event::Send(line) => out.push_str(&line),
            Event::Job(_) | Event::Mask(_) => self.shared.tell_news(),
            Event::Broken(broken) => return Err(Lost::Broken(broken)),
            Event::Reconnect { host, port, wait_s } => {
                match reconnect::follow(&pool.address, host.as_deref(), port) {
                    Some(to) => return Err(Lost::Asked { to, wait_s }),
                    // To another domain goes nobody on the word of an unauthenticated line: so hash rate was stolen.
                    None => tracing::warn!(
                        ?host,
                        ?port,
                        "pool asks to go elsewhere, ignored; change its address in the configuration"
                    ),
                }
            }
            Event::Message(text) => tracing::info!(%text, "message of the pool"),
            Event::Ignored(error) => tracing::warn!(%error, "line of the pool not understood"),
            // A job carries its difficulty; the state has acted on the others.
            Event::Difficulty(_) | Event::Ready { .. } | Event::Extranonce(_) | Event::Outcome { .. } => {}
        }
        Ok(())
    }
}

/// Full jitter, so that agents that lost one pool together do not come back together. Without randomness from the system
/// there is none, and nothing worse.
fn jitter() -> f64 {
    f64::from(getrandom::u32().unwrap_or(u32::MAX)) / f64::from(u32::MAX)
}

async fn write(stream: &mut Box<dyn Wire>, text: &str) -> Result<(), Lost> {
    Ok(timeout(WRITE_TIMEOUT, stream.write_all(text.as_bytes())).await??)
}
