//! `flareshift dev`: controller, agents and simulated sites in one process, over real gRPC and real Stratum on loopback.
//!
//! The parts are those of the service binaries; only the plant is simulated. [`scenario`] says what is run, [`fleet`] runs the
//! agents, [`arrivals`] brings prices and jobs, [`witness`] checks the invariants, [`screen`] shows it, [`summary`] ends it.

mod arrivals;
mod fleet;
mod resume;
mod sabotage;
mod scenario;
mod scratch;
mod screen;
mod summary;
mod witness;

use std::io::IsTerminal;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use agent::simulated::World;
use anyhow::Context;
use controller::run::{Handle, Options};
use model::Span;
use model::market::Market;
use model::time::Clock;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

use self::scenario::Scenario;
use self::witness::SharedWitness;
use crate::args::DevArgs;

/// Simulated time waits when the planner is this far behind: its round of 30 s then still uses fresh readings.
const PLANNER_SLACK: Span = Span::secs(2);
/// The office of leader, on wall time: the shortest that etcd grants too.
const LEASE_TTL: Duration = Duration::from_secs(2);
/// Simulated time waits for orders and prices that are due.
const OUTSIDE_SLACK: Span = Span::secs(1);
/// How long the controller may take to end.
const STOP_PATIENCE: Duration = Duration::from_secs(5);
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
    let filter = EnvFilter::try_from_env("FLARESHIFT_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    let lines = tracing_subscriber::fmt().with_env_filter(filter);
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
    let controller = start_controller(scenario, &world, store.clone(), market.clone()).await?;
    let endpoint = format!("http://{}", controller.address);
    controller.wait_for_fleet(scenario.fleet.modules.len()).await?;
    let cancel = CancellationToken::new();
    let mut agents = fleet::start(scenario, &world, &witness, &endpoint, &cancel).await?;
    let reserve = resume::keep(scenario, world.clock.participant(resume::SLACK), cancel.child_token());
    let outside = world.clock.participant(OUTSIDE_SLACK);
    outside.done_up_to(scenario.start);
    let arrivals = arrivals::run(scenario, outside, &endpoint, market_in, cancel.child_token());
    let watched = witness.watch_commits(controller.handle.commits(), store.clone());
    let handles = agents.handles();
    let weather = fleet::strike(scenario, &world, &witness, &handles, cancel.child_token());
    let mut terminate = signal(SignalKind::terminate())?;
    world.release();
    let shown = screen::show(scenario, &world, &endpoint);
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
    let last = summary::last_status(&endpoint).await;
    let simulated = world.clock.now() - scenario.start;
    let stopped = stop_world(&world).await;
    agents.finish().await;
    cancel.cancel();
    witness.settle_shares(&world, &agents, world.clock.now());
    controller.stop().await;
    let losses = losses.lock().map(|sums| sums.total()).unwrap_or_default();
    let summary = summary::Summary::new(scenario, simulated, losses, last, witness.finish());
    summary.print(scenario.args.output);
    ended.and(stopped).map(|()| summary.sound)
}

async fn stop_world(world: &Arc<World>) -> anyhow::Result<()> {
    let world = world.clone();
    tokio::task::spawn_blocking(move || world.stop()).await?
}

/// A controller in this process.
struct Running {
    handle: Handle,
    address: std::net::SocketAddr,
    cancel: CancellationToken,
}

impl Running {
    /// Vacates the office and ends every task, so that the next start leads at once.
    async fn stop(self) {
        self.cancel.cancel();
        if let Ok(Err(error)) = tokio::time::timeout(STOP_PATIENCE, self.handle.join()).await {
            tracing::warn!(error = &error as &dyn std::error::Error, "the controller did not end in order");
        }
    }

    /// Waits until the leader knows every module: an agent that comes earlier is turned away.
    async fn wait_for_fleet(&self, modules: usize) -> anyhow::Result<()> {
        // Without somebody in office nothing is answered: after a kill the old lease has to run out first.
        let mut office = self.handle.context().office.clone();
        let led = tokio::time::timeout(START_PATIENCE, office.wait_for(Option::is_some)).await;
        led.context("nobody takes the office of leader; see the log")?.context("the controller ended")?;
        let mut cache = self.handle.context().cache.clone();
        let loaded = cache.wait_for(|cache| cache.modules.len() >= modules);
        let loaded = tokio::time::timeout(START_PATIENCE, loaded).await;
        loaded
            .context("the controller does not load the fleet; see the log")?
            .context("the controller ended")?;
        Ok(())
    }
}

async fn start_controller(
    scenario: &Scenario,
    world: &World,
    store: store::Store,
    market: watch::Receiver<Market>,
) -> anyhow::Result<Running> {
    let grpc = listen(scenario.args.grpc, "--grpc").await?;
    let rest = listen(scenario.args.rest, "--rest").await?;
    let address = grpc.local_addr()?;
    let clock: Arc<dyn Clock> = Arc::new(world.clock.participant(PLANNER_SLACK));
    let ledger: &Path = &scenario.data.join("ledger");
    let options = Options {
        fleet: scenario.fleet.clone(),
        accept_simulated: true,
        sabotage: scenario.sabotage.controller,
        lease_ttl: LEASE_TTL,
        ..Options::new(clock, store, market, grpc, rest, ledger.to_path_buf())
    };
    let cancel = CancellationToken::new();
    let handle = controller::run::start(options, cancel.clone()).await?;
    Ok(Running { handle, address, cancel })
}

async fn listen(address: std::net::SocketAddr, flag: &str) -> anyhow::Result<TcpListener> {
    anyhow::ensure!(
        address.ip().is_loopback(),
        "{flag} {address} is not on loopback, and there is no TLS yet: anybody could give orders; use 127.0.0.1"
    );
    TcpListener::bind(address).await.with_context(|| {
        format!("{flag} {address} cannot be listened on; is another one running? Port 0 takes a free one")
    })
}

/// Whether a table can be drawn.
fn has_screen(scenario: &Scenario) -> bool {
    !scenario.args.headless && std::io::stdout().is_terminal()
}
