//! `flareshift dev`: controller, agents and simulated sites in one process, over real gRPC and real Stratum on loopback.
//!
//! The parts are those of the service binaries; only the plant is simulated. [`scenario`] says what is run, [`controllers`]
//! decide, [`fleet`] runs the agents, [`arrivals`] brings prices and jobs, [`witness`] checks the invariants, [`screen`] shows it, [`summary`] ends it.

mod arrivals;
mod controllers;
mod fleet;
mod monitor;
mod resume;
mod sabotage;
pub mod scenario;
mod scratch;
mod screen;
mod summary;
mod witness;

use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use agent::metrics::Watched;
use agent::simulated::World;
use anyhow::Context;
use model::Span;
use model::time::Clock;
use service::log::Filter;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use self::controllers::Controllers;
use self::scenario::Scenario;
use self::witness::SharedWitness;
use crate::args::DevArgs;

/// Simulated time waits for orders and prices that are due.
const OUTSIDE_SLACK: Span = Span::secs(1);
/// How long agents may take to start before simulated time is let go without them.
const START_PATIENCE: Duration = Duration::from_secs(20);

/// Runs it. Exit code 0, 1 when an invariant was broken or it could not go on, 2 for what cannot be used.
pub fn run(args: DevArgs) -> ExitCode {
    let scenario = match Scenario::new(args) {
        Ok(scenario) => scenario,
        Err(error) => {
            eprintln!("flareshift dev: {error:#}");
            return ExitCode::from(2);
        }
    };
    let outcome = log(&scenario).and_then(|()| {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let outcome = runtime.block_on(drive(&scenario));
        // Blocking tasks that are still at a file are not worth waiting for.
        runtime.shutdown_timeout(Duration::from_secs(1));
        outcome
    });
    // The directory goes last, when nobody writes into it any more.
    drop(scenario);
    match outcome {
        Ok(sound) if sound => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("flareshift dev: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Log lines go to a file while a table is on the screen, and to standard error without one.
fn log(scenario: &Scenario) -> anyhow::Result<()> {
    let level = if scenario.args.headless { "warn" } else { "info" };
    let said = std::env::var("FLARESHIFT_LOG").ok().and_then(|said| said.parse::<Filter>().ok());
    let filter = said.or_else(|| level.parse().ok()).unwrap_or_default();
    let lines = tracing_subscriber::fmt().with_env_filter(filter.compiled());
    if scenario.args.headless && scenario.args.log.is_none() {
        lines.with_writer(std::io::stderr).init();
        return Ok(());
    }
    let path = scenario.args.log.clone().unwrap_or_else(|| scenario.data.join("flareshift.log"));
    let file = std::fs::OpenOptions::new().create(true).append(true).open(&path);
    let file = file
        .with_context(|| format!("cannot write the log to {}; choose another with --log", path.display()))?;
    lines.with_ansi(false).with_writer(Arc::new(file)).init();
    Ok(())
}

/// Runs the scenario to its end. Answers whether every invariant held.
async fn drive(scenario: &Scenario) -> anyhow::Result<bool> {
    let witness = SharedWitness::new(&scenario.fleet);
    let onlooker = witness.onlooker();
    let losses = onlooker.losses();
    let world = World::start(scenario.world(), Box::new(onlooker)).await?;
    let world = Arc::new(world);
    let store = store::open(&format!("embedded:{}", scenario.data.join("store").display())).await?;
    let (market_in, market) = watch::channel(scenario.market_at(scenario.start));
    let controllers = Controllers::start(scenario, &world, &store, &market).await?;
    let endpoints = controllers.endpoints();
    let cancel = CancellationToken::new();
    let modules = scenario.fleet.modules.iter().map(|module| module.id.clone());
    let watched = Watched::new(Arc::new(world.clock.clone()), modules);
    monitor::show(scenario.args.metrics, controllers.monitors(), watched.clone(), cancel.clone()).await?;
    let around = fleet::Around { world: &world, witness: &witness, endpoints: &endpoints, watched: &watched };
    let mut agents = fleet::start(scenario, around, &cancel).await?;
    let reserve = resume::keep(scenario, world.clock.participant(resume::SLACK), cancel.child_token());
    let outside = world.clock.participant(OUTSIDE_SLACK);
    outside.done_up_to(scenario.start);
    let arrivals = arrivals::run(scenario, outside, &endpoints, market_in, cancel.child_token());
    let watched = witness.watch_commits(controllers.commits(), store.clone());
    let handles = agents.handles();
    let struck = fleet::Struck { world: &world, witness: &witness, agents: &handles, store: &store };
    let weather = fleet::strike(scenario, struck, cancel.child_token());
    let mut terminate = signal(SignalKind::terminate())?;
    world.release();
    let shown = screen::show(scenario, &world, &endpoints);
    let ended = tokio::select! {
        ended = shown => ended,
        ended = arrivals => ended.context("arrivals"),
        ended = agents.failed() => ended.and_then(|()| {
            anyhow::ensure!(world.has_ended(), "an agent ended early; see the log");
            Ok(())
        }),
        () = reserve => Ok(()),
        () = watched => Ok(()),
        () = weather => Ok(()),
        _ = tokio::signal::ctrl_c() => Ok(()),
        _ = terminate.recv() => Ok(()),
    };
    let last = controllers::status(&endpoints).await.ok();
    let simulated = world.clock.now() - scenario.start;
    let stopped = stop_world(&world).await;
    agents.finish().await;
    cancel.cancel();
    witness.settle_shares(&world, &agents, world.clock.now());
    controllers.stop().await;
    let losses = losses.lock().map(|sums| sums.total()).unwrap_or_default();
    let summary = summary::Summary::new(scenario, simulated, losses, last, witness.finish());
    summary.print(scenario.args.output);
    ended.and(stopped).map(|()| summary.sound)
}

async fn stop_world(world: &Arc<World>) -> anyhow::Result<()> {
    let world = world.clone();
    tokio::task::spawn_blocking(move || world.stop()).await?
}

/// Whether a table can be drawn.
fn has_screen(scenario: &Scenario) -> bool {
    !scenario.args.headless && std::io::stdout().is_terminal()
}
