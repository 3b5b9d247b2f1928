//! Load on a whole proxy over real TCP: the proxy in a process of its own, a pool that takes everything, and miners whose
//! shares need no mining since nearly every hash meets the difficulty.
//!
//! `cargo run --profile dist -p load --bin stratum-load -- flood`, `pace` or `idle`; `--help` lists what can be set. CPU and
//! memory are the proxy process's own, read from /proc, so that what the miners cost here does not count. Figures:
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
    /// Shares at a given rate, evenly over the connections: latency until the answer.
    Pace {
        #[arg(long, default_value_t = 500)]
        connections: usize,
        /// Shares a second, all miners together.
        #[arg(long, default_value_t = 10_000)]
        rate: u64,
        #[arg(long, default_value_t = 10)]
        seconds: u64,
    },
    /// Miners that are there and silent: memory a connection.
    Idle {
        #[arg(long, default_value_t = 10_000)]
        connections: usize,
    },
    /// The proxy itself; the other commands start it.
    #[command(hide = true)]
    Proxy { pool: String, data: PathBuf },
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    match Args::parse().command {
        Command::Proxy { pool, data } => child::serve(pool, data).await,
        Command::Flood { connections, window, seconds, fresh } => {
            let load = miners::Load { connections, window, every: None, fresh };
            report(&load, seconds).await
        }
        Command::Pace { connections, rate, seconds } => {
            let every = Duration::from_secs(1).mul_f64(connections as f64 / rate.max(1) as f64);
            report(&miners::Load { connections, window: 64, every: Some(every), fresh: true }, seconds).await
        }
        Command::Idle { connections } => idle(connections).await,
    }
}

async fn report(load: &miners::Load, seconds: u64) -> anyhow::Result<()> {
    let pool = pool::start().await?;
    let proxy = child::Child::start(&pool.address.to_string()).await?;
    let fleet = miners::Fleet::start(proxy.address, load).await?;
    // What connecting cost is not counted.
    tokio::time::sleep(Duration::from_secs(1)).await;
    fleet.reset();
    let (cpu, begun) = (proxy.cpu()?, Instant::now());
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let (seen, cpu, wall) = (fleet.read(), proxy.cpu()? - cpu, begun.elapsed());
    let rate = seen.answered as f64 / wall.as_secs_f64();
    println!("{load:?}");
    println!("{} accepted, {} refused, {:.0} a second", seen.accepted, seen.answered - seen.accepted, rate);
    println!("pool took {}", pool.taken());
    println!(
        "{:.2} us of the proxy's CPU a share: {:.0} shares a second and core",
        cpu.as_secs_f64() * 1e6 / seen.answered.max(1) as f64,
        seen.answered as f64 / cpu.as_secs_f64()
    );
    println!("latency p50 {} us, p99 {} us, worst {} us", seen.p50_us, seen.p99_us, seen.worst_us);
    println!("memory {} KiB", proxy.memory_kib()?);
    anyhow::ensure!(seen.accepted > 0, "no share was accepted: nothing was measured");
    Ok(())
}

async fn idle(connections: usize) -> anyhow::Result<()> {
    let pool = pool::start().await?;
    let proxy = child::Child::start(&pool.address.to_string()).await?;
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
