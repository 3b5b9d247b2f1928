//! The session with the pool: connect, talk, lose it, wait, connect again. For as long as the proxy lives.
//!
//! Assumes that losing the pool concerns nobody's connection but this one. Next: [`stratum::upstream`] for the protocol,
//! `state.rs` for what becomes of shares on the wire.

use std::time::Duration;

use stratum::line::{LineBuffer, MAX_SERVER_LINE};
use stratum::upstream::{self, Event};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::Shared;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
const TICK: Duration = Duration::from_secs(1);
/// First wait after a failure; doubled each time.
const FIRST_WAIT: Duration = Duration::from_millis(250);
/// Longest wait: a pool that is back is found within half a minute.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// Lines that wait to be written to the pool: ten seconds at a hundred shares a second, after which writing has timed out.
const QUEUE: usize = 1_024;
/// Our name towards pools.
const AGENT: &str = concat!("flareshift/", env!("CARGO_PKG_VERSION"));

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
enum Lost {
    #[error("the pool cannot be reached, or its connection failed")]
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
    Asked,
}

/// Runs until it is dropped.
pub(super) async fn run(shared: &Shared) {
    let mut failures = 0u32;
    loop {
        let end = session(shared).await;
        let was_up = {
            let mut state = shared.state();
            let was_up = state.is_up();
            state.close();
            was_up
        };
        failures = if was_up { 0 } else { failures.saturating_add(1) };
        let wait = pause(failures);
        if let Err(lost) = end {
            let error = &lost as &dyn std::error::Error;
            let retry_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
            tracing::warn!(error, pool = %shared.config.pool, retry_ms, "pool lost; miners keep their last job");
        }
        sleep(wait).await;
    }
}

/// Exponential with full jitter, so that agents that lost one pool together do not come back together.
fn pause(failures: u32) -> Duration {
    let longest = FIRST_WAIT.saturating_mul(1 << failures.min(10)).min(LONGEST_WAIT);
    // Without randomness from the system there is no jitter, and nothing worse.
    let share = f64::from(getrandom::u32().unwrap_or(u32::MAX)) / f64::from(u32::MAX);
    longest.mul_f64(0.1 + 0.9 * share)
}

async fn session(shared: &Shared) -> Result<(), Lost> {
    let mut stream = timeout(CONNECT_TIMEOUT, TcpStream::connect(&shared.config.pool)).await??;
    stream.set_nodelay(true)?;
    let mut config = upstream::Config::new(&shared.config.account, AGENT);
    config.password.clone_from(&shared.config.password);
    let (lines, mut queue) = mpsc::channel(QUEUE);
    let opening = shared.state().open(config, lines, shared.mono_ms());
    write(&mut stream, &opening.concat()).await?;
    let mut incoming = LineBuffer::new(MAX_SERVER_LINE);
    let mut buffer = [0; 8192];
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let mut events = Vec::new();
        let mut out = String::new();
        tokio::select! {
            read = stream.read(&mut buffer) => {
                let count = read?;
                if count == 0 {
                    return Err(Lost::Closed);
                }
                incoming.push(&buffer[..count], |line| events.extend(shared.state().on_pool_line(line)))?;
            }
            line = queue.recv() => {
                out.extend(line);
                // What else waits goes into the same packet.
                while let Ok(line) = queue.try_recv() {
                    out.push_str(&line);
                }
            }
            _ = tick.tick() => events = shared.state().tick(shared.mono_ms()),
        }
        for event in events {
            on_event(shared, event, &mut out)?;
        }
        if !out.is_empty() {
            write(&mut stream, &out).await?;
        }
    }
}

fn on_event(shared: &Shared, event: Event, out: &mut String) -> Result<(), Lost> {
    match event {
        Event::Send(line) => out.push_str(&line),
        Event::Job(_) | Event::Mask(_) => shared.tell_news(),
        Event::Broken(broken) => return Err(Lost::Broken(broken)),
        Event::Reconnect { host: None, port: None, .. } => return Err(Lost::Asked),
        // To another host goes nobody on the word of an unauthenticated line: that is how hash rate is stolen.
        Event::Reconnect { host, port, .. } => {
            tracing::warn!(
                ?host,
                ?port,
                "pool asks to go elsewhere, ignored; change its address in the configuration"
            );
        }
        Event::Message(text) => tracing::info!(%text, "message of the pool"),
        Event::Ignored(error) => tracing::warn!(%error, "line of the pool not understood"),
        // A job carries its difficulty; the state has acted on the others.
        Event::Difficulty(_) | Event::Ready { .. } | Event::Extranonce(_) | Event::Outcome { .. } => {}
    }
    Ok(())
}

async fn write(stream: &mut TcpStream, text: &str) -> Result<(), Lost> {
    Ok(timeout(WRITE_TIMEOUT, stream.write_all(text.as_bytes())).await??)
}
