//! Load on a whole proxy over real TCP: the proxy in a process of its own, a pool that takes everything, and miners whose
//! shares need no mining since nearly every hash meets the difficulty.
//!
//! `cargo run --profile dist -p load --bin stratum-load -- flood`, `pace` or `idle`; `--help` lists what can be set. CPU and
//! memory are the proxy process's own, read from /proc, so that what the miners cost here does not count; what they wait for
//! themselves is told apart (`pace`). Figures:
//! docs/benchmarks.md. Next: `child.rs` for the proxy, `miners.rs` for the load, `pool.rs`.

mod child;
mod miners;
mod pool;

use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::time::{Duration, Instant};

#[derive(Debug, Parser)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// As many shares as it takes, `window` of each miner on the way at once: CPU a share.
    Flood {
        #[arg(long, default_value_t = 64)]
        connections: usize,
        #[arg(long, default_value_t = 16)]
        window: usize,
        #[arg(long, default_value_t = 10)]
        seconds: u64,
        /// Another extranonce2 for every share: the dearest way. Else miners roll the nonce, as they do.
        #[arg(long)]
        fresh: bool,
    },
    /// Shares at a given rate, evenly over the connections: latency until the answer, in turns with a yardstick that answers at
    /// once and does nothing else. What the yardstick shows is the machine's and the miners' part.
    Pace {
        #[arg(long, default_value_t = 500)]
        connections: usize,
        /// Shares a second, all miners together.
        #[arg(long, default_value_t = 10_000)]
        rate: u64,
        /// Of each turn.
        #[arg(long, default_value_t = 5)]
        seconds: u64,
        #[arg(long, default_value_t = 3)]
        turns: u64,
    },
    /// Miners that are there and silent: memory a connection.
    Idle {
        #[arg(long, default_value_t = 10_000)]
        connections: usize,
    },
    /// The proxy itself; the other commands start it.
    #[command(hide = true)]
    Proxy { pool: String, data: PathBuf },
    /// What `pace` compares it with.
    #[command(hide = true)]
    Yardstick,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    match Args::parse().command {
        Command::Proxy { pool, data } => child::serve(pool, data).await,
        Command::Yardstick => pool::serve_alone().await,
        Command::Flood { connections, window, seconds, fresh } => {
            flood(&miners::Load { connections, window, every: None, fresh }, seconds).await
        }
        Command::Pace { connections, rate, seconds, turns } => {
            let every = Duration::from_secs(1).mul_f64(connections as f64 / rate.max(1) as f64);
            let load = miners::Load { connections, window: 64, every: Some(every), fresh: true };
            pace(&load, seconds, turns).await
        }
        Command::Idle { connections } => idle(connections).await,
    }
}

async fn flood(load: &miners::Load, seconds: u64) -> anyhow::Result<()> {
    let pool = pool::start().await?;
    let proxy = child::Child::proxy(&pool.address.to_string()).await?;
    println!("{load:?}");
    let seen = turn(&proxy, load, seconds).await?;
    println!("pool took {}", pool.taken());
    seen.tell("proxy");
    println!("memory {} KiB", proxy.memory_kib()?);
    Ok(())
}

async fn pace(load: &miners::Load, seconds: u64, turns: u64) -> anyhow::Result<()> {
    let pool = pool::start().await?;
    let proxy = child::Child::proxy(&pool.address.to_string()).await?;
    let yardstick = child::Child::yardstick().await?;
    println!("{load:?}");
    let (mut with, mut without) = (Turn::default(), Turn::default());
    for _ in 0..turns {
        without.add(turn(&yardstick, load, seconds).await?);
        with.add(turn(&proxy, load, seconds).await?);
    }
    let (without, with) = (without.tell("yardstick"), with.tell("proxy"));
    let added = |pick: fn(&Spread) -> u64| pick(&with).saturating_sub(pick(&without));
    println!(
        "added by the proxy: p50 {} us, p99 {} us",
        added(|spread| spread.p50),
        added(|spread| spread.p99)
    );
    Ok(())
}

/// What some seconds of load have shown.
#[derive(Default)]
struct Turn {
    seen: miners::Seen,
    cpu: Duration,
    wall: Duration,
}

/// Microseconds.
struct Spread {
    p50: u64,
    p99: u64,
    worst: u64,
}

async fn turn(under_load: &child::Child, load: &miners::Load, seconds: u64) -> anyhow::Result<Turn> {
    let fleet = miners::Fleet::start(under_load.address, load).await?;
    // What connecting cost is not counted.
    tokio::time::sleep(Duration::from_secs(1)).await;
    fleet.reset();
    let (cpu, begun) = (under_load.cpu()?, Instant::now());
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let turn = Turn { seen: fleet.read(), cpu: under_load.cpu()? - cpu, wall: begun.elapsed() };
    anyhow::ensure!(turn.seen.accepted > 0, "no share was accepted: nothing was measured");
    Ok(turn)
}

impl Turn {
    fn add(&mut self, other: Turn) {
        let Turn { seen, cpu, wall } = other;
        self.seen.answered += seen.answered;
        self.seen.accepted += seen.accepted;
        self.seen.latencies_us.extend(seen.latencies_us);
        self.seen.late_us.extend(seen.late_us);
        self.cpu += cpu;
        self.wall += wall;
    }

    /// Prints it, and answers the latency.
    fn tell(self, who: &str) -> Spread {
        let miners::Seen { answered, accepted, latencies_us, late_us } = self.seen;
        let rate = answered as f64 / self.wall.as_secs_f64();
        println!("{who}: {accepted} accepted, {} refused, {rate:.0} a second", answered - accepted);
        println!(
            "{who}: {:.2} us of CPU a share: {:.0} shares a second and core",
            self.cpu.as_secs_f64() * 1e6 / answered.max(1) as f64,
            answered as f64 / self.cpu.as_secs_f64()
        );
        if !late_us.is_empty() {
            println!("{who}: miners late by {}", Spread::of(late_us));
        }
        let latency = Spread::of(latencies_us);
        println!("{who}: latency {latency}");
        latency
    }
}

impl Spread {
    fn of(mut all: Vec<u64>) -> Spread {
        all.sort_unstable();
        let at = |permille: usize| all.get(all.len() * permille / 1_000).copied().unwrap_or(0);
        Spread { p50: at(500), p99: at(990), worst: all.last().copied().unwrap_or(0) }
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "p50 {} us, p99 {} us, worst {} us", self.p50, self.p99, self.worst)
    }
}

async fn idle(connections: usize) -> anyhow::Result<()> {
    let pool = pool::start().await?;
    let proxy = child::Child::proxy(&pool.address.to_string()).await?;
    let one = miners::Load { connections: 1, window: 0, every: None, fresh: false };
    let first = miners::Fleet::start(proxy.address, &one).await?;
    let before = proxy.memory_kib()?;
    let begun = Instant::now();
    let all = miners::Fleet::start(proxy.address, &miners::Load { connections, ..one }).await?;
    let opened = begun.elapsed();
    // Long enough for some jobs and for vardiff to have looked.
    let cpu = proxy.cpu()?;
    tokio::time::sleep(Duration::from_secs(15)).await;
    let (cpu, memory) = (proxy.cpu()? - cpu, proxy.memory_kib()?);
    let alive = all.alive() + first.alive();
    println!(
        "{connections} connections opened in {:.1} s, {alive} are there after 15 s",
        opened.as_secs_f64()
    );
    println!("{:.2} KiB a connection", memory.saturating_sub(before) as f64 / connections as f64);
    println!("{:.1} % of a core while they are silent", 100.0 * cpu.as_secs_f64() / 15.0);
    anyhow::ensure!(alive == connections + 1, "connections were lost");
    Ok(())
}
