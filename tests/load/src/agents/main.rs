//! Thousands of agents on one controller: real streams over loopback, a report a second each, the controller in a process of its own on
//! its embedded store.
//!
//! `cargo build --profile dist -p controller -p load --bin flareshift-controller --bin agent-load`, then `target/dist/agent-load`;
//! `--help` lists what can be set. CPU and memory are the controller's own, read from /proc, so that what the agents cost here does not
//! count. `--tls` has every agent show a certificate of its own. Figures: docs/benchmarks.md. Next: `server.rs` for the controller, `agent.rs` for one
//! agent, `site.rs` for what it says.

mod agent;
mod seen;
mod server;
mod site;

use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use service::tls::authority::Authority;
use tokio::task::JoinSet;
use tonic::transport::{Channel, Endpoint};

use agent::{Agent, endpoint};
use seen::{Seen, Spread};
use server::Server;

/// How long the agents may take to be there at first.
const PATIENCE: Duration = Duration::from_secs(120);

#[derive(Clone, Debug, Parser)]
struct Args {
    /// Agents, one a module.
    #[arg(long, default_value_t = 10_000)]
    agents: usize,
    /// Modules of a site.
    #[arg(long, default_value_t = 4)]
    per_site: usize,
    /// Connections that all agents share; 0 for one each.
    #[arg(long, default_value_t = 0)]
    sockets: usize,
    /// Milliseconds between two reports of an agent.
    #[arg(long, default_value_t = 1_000)]
    every: u64,
    /// Agents show a certificate each, and the controller shows one (mutual TLS 1.3); with --sockets one for each connection.
    #[arg(long)]
    tls: bool,
    /// How long is measured, in seconds.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Kill the controller afterwards (kill -9), start it again and measure the return.
    #[arg(long)]
    restart: bool,
    /// The controller's program; the one beside this when left out.
    #[arg(long)]
    controller: Option<std::path::PathBuf>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let limit = getrlimit(Resource::Nofile);
    // The controller inherits it.
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })?;
    println!("{args:?}");
    let authority = args.tls.then(|| Authority::new("load")).transpose()?;
    let mut server = Server::start(&args, authority.as_ref())?;
    server.wait_for("fleet description loaded", PATIENCE).await?;
    let seen = Arc::new(Seen::default());
    let before = server.memory_kib()?;
    // Made before anything is measured: a key each.
    let ways = ways(&args, &server.address, authority.as_ref())?;
    let (begun, cpu) = (Instant::now(), server.cpu()?);
    let agents = open(&args, &server.address, ways, &seen);
    let opened = all_there(&args, &seen, begun).await?;
    println!(
        "opened: {} agents in {:.1} s, {:.2} ms of the controller's CPU each, reports and plans of that time included",
        args.agents,
        opened.as_secs_f64(),
        (server.cpu()? - cpu).as_secs_f64() * 1e3 / args.agents as f64
    );
    // Everybody has reported and been told something.
    tokio::time::sleep(Duration::from_secs(15)).await;
    steady(&args, &server, &seen).await?;
    tell_memory(&args, before, &server)?;
    tell_directives(&server, &seen);
    if args.restart {
        come_back(&args, &mut server, &seen).await?;
    }
    drop(agents);
    server.end();
    Ok(())
}

/// The way of each agent, or of each connection that many share: with a certificate that names all who go by it.
fn ways(args: &Args, address: &str, authority: Option<&Authority>) -> anyhow::Result<Vec<Endpoint>> {
    let count = if args.sockets == 0 { args.agents } else { args.sockets };
    let way = |at: usize| {
        let way = endpoint(address)?;
        let Some(authority) = authority else { return Ok(way) };
        let modules = (at..args.agents).step_by(count);
        let names: Vec<String> =
            modules.map(|index| format!("flareshift:module/{}", site::module_id(index))).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        Ok(authority.shown(&authority.client(&names)?).secure(way)?)
    };
    (0..count).map(way).collect()
}

fn open(args: &Args, address: &str, ways: Vec<Endpoint>, seen: &Arc<Seen>) -> JoinSet<()> {
    let shared: Vec<Channel> = ways.iter().take(args.sockets).map(Endpoint::connect_lazy).collect();
    let mut agents = JoinSet::new();
    for index in 0..args.agents {
        let agent = Agent {
            index,
            of: args.agents,
            module: site::module_id(index),
            wired: index % args.per_site == 0,
            every: Duration::from_millis(args.every),
            address: address.to_owned(),
            way: ways[index % ways.len()].clone(),
            shared: shared.get(index % args.sockets.max(1)).cloned(),
            seen: Arc::clone(seen),
        };
        agents.spawn(agent.run());
    }
    agents
}

/// Waits until every agent has a session and an acknowledgement in it.
async fn all_there(args: &Args, seen: &Seen, begun: Instant) -> anyhow::Result<Duration> {
    while seen.there() < args.agents {
        anyhow::ensure!(begun.elapsed() < PATIENCE, "{} of {} agents are there", seen.there(), args.agents);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(begun.elapsed())
}

async fn steady(args: &Args, server: &Server, seen: &Seen) -> anyhow::Result<()> {
    seen.reset();
    let (begun, cpu) = (Instant::now(), server.cpu()?);
    tokio::time::sleep(Duration::from_secs(args.seconds)).await;
    let (wall, cpu) = (begun.elapsed(), server.cpu()? - cpu);
    let acknowledged = seen.latencies();
    let count = acknowledged.len();
    anyhow::ensure!(count > 0, "no report was acknowledged: nothing was measured");
    println!(
        "steady: {count} reports acknowledged in {:.0} s; the controller took {:.2} of a core, {:.1} us a report, plans included",
        wall.as_secs_f64(),
        cpu.as_secs_f64() / wall.as_secs_f64(),
        cpu.as_secs_f64() * 1e6 / count as f64
    );
    println!("steady: acknowledgement {}", Spread::of(acknowledged));
    println!("steady: reports sent late by this process {}", Spread::of(seen.late()));
    anyhow::ensure!(seen.there() == args.agents, "{} of {} agents are there", seen.there(), args.agents);
    println!("steady: {} sessions ended", seen.ended());
    Ok(())
}

fn tell_memory(args: &Args, before: u64, server: &Server) -> anyhow::Result<()> {
    let after = server.memory_kib()?;
    let grown = after.saturating_sub(before) as f64 / args.agents as f64;
    println!(
        "memory: {before} KiB with the fleet loaded, {after} KiB now: {grown:.1} KiB an agent, plans included"
    );
    Ok(())
}

/// From the line in the controller's log that says a plan is committed until an agent has a directive of that plan.
fn tell_directives(server: &Server, seen: &Seen) {
    let commits = server.commits();
    for (generation, came) in seen.directives() {
        let Some(at) = commits.get(&generation) else { continue };
        let waits: Vec<u32> = came.iter().map(|came| micros(came.saturating_duration_since(*at))).collect();
        let count = waits.len();
        println!("directives of plan {generation}: {count} agents, after its commit {}", Spread::of(waits));
    }
}

async fn come_back(args: &Args, server: &mut Server, seen: &Seen) -> anyhow::Result<()> {
    server.kill_and_start_again()?;
    seen.begin_return();
    let begun = Instant::now();
    // Its CPU from the process's own begin: reading the store and the fleet counts too, and is told apart below.
    server.wait_for("leading", PATIENCE).await?;
    let (led, cpu) = (begun.elapsed(), server.cpu()?);
    all_there(args, seen, begun).await?;
    let (back, cpu) = (begun.elapsed(), server.cpu()? - cpu);
    println!(
        "restart: leads {:.1} s after its start, all {} agents are back after {:.1} s; {:.2} ms of CPU each since it leads",
        led.as_secs_f64(),
        args.agents,
        back.as_secs_f64(),
        cpu.as_secs_f64() * 1e3 / args.agents as f64
    );
    println!("restart: acknowledgement to those already back {}", Spread::of(seen.latencies()));
    println!("restart: returned by second {:?}", seen.returned_by_second(begun));
    tokio::time::sleep(Duration::from_secs(15)).await;
    tell_directives(server, seen);
    Ok(())
}

fn micros(span: Duration) -> u32 {
    u32::try_from(span.as_micros()).unwrap_or(u32::MAX)
}
