//! `flareshift-agent`: reads the command line and hands over to [`agent::run`].

use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use agent::alone;
use agent::bare;
use agent::boot;
use agent::config::{Command, Config, RELOADED};
use agent::edge::Stratum;
use agent::metrics::Watched;
use agent::run::Options;
use agent::settings::Settings;
use anyhow::Context;
use api::clock::WallClock;
use control::sabotage::Sabotages;
use model::ModuleId;
use model::fleet::Fleet;
use service::log::Log;
use service::monitor;
use service::settings::again::{self, Changes, Values};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

fn main() -> ExitCode {
    let (config, values): (Config, Values) = service::settings::parse();
    // Before anybody reads the time.
    WallClock::go_on_by(boot::since);
    match carry_out(config, values) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("flareshift-agent: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn carry_out(config: Config, values: Values) -> anyhow::Result<()> {
    if config.check_config {
        service::log::init(&config.logging);
        config.check()?;
        println!("the settings can be used; SIGHUP reads again: {}", RELOADED.join(", "));
        return Ok(());
    }
    config.traces.check("agent")?;
    let (log, traces) = service::traces::begin(&config.traces, &config.logging, config.source());
    let ended = start(config, Again { values, log });
    traces.end();
    ended
}

fn start(config: Config, again: Again) -> anyhow::Result<()> {
    let runtime = || tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    match &config.command {
        Some(Command::Proxy(args)) => {
            let settings = Settings::read(&args.file)?;
            runtime()?.block_on(async {
                let cancel = until_told(again)?;
                let watched = Watched::new(Arc::new(WallClock), [ModuleId::new(alone::LEDGER)?]);
                show(config.metrics, &watched, &cancel).await?;
                alone::run(settings, &args.file, &args.data, &watched, cancel).await
            })
        }
        None => {
            let fleet = config.read_fleet()?;
            config.check_tls()?;
            runtime()?.block_on(run(config, fleet, again))
        }
    }
}

/// Shows what is watched where an address is given for it. It ends with the process, which waits for no reader.
async fn show(
    address: Option<SocketAddr>,
    watched: &Watched,
    cancel: &CancellationToken,
) -> anyhow::Result<()> {
    let Some(address) = address else { return Ok(()) };
    let listener = monitor::bind(address).await?;
    info!(address = %listener.local_addr()?, "metrics and health are shown");
    let served = monitor::serve(listener, watched.clone(), cancel.clone());
    tokio::spawn(async move {
        if let Err(error) = served.await {
            error!(%error, "metrics and health are not shown any more; the agent goes on");
        }
    });
    Ok(())
}

async fn run(config: Config, fleet: Fleet, again: Again) -> anyhow::Result<()> {
    let cancel = until_told(again)?;
    if config.simulate { simulate(config, fleet, cancel).await } else { serve(config, &fleet, cancel).await }
}

/// What is needed to read the settings again.
struct Again {
    values: Values,
    log: Log,
}

impl Again {
    /// Reads the settings again at each SIGHUP. What cannot be used changes nothing; what may not change is named, and the old stays.
    async fn keep_reading(mut self, mut hangup: Signal) {
        while hangup.recv().await.is_some() {
            let (config, values) = match again::read::<Config>() {
                Ok(read) => read,
                Err(error) => {
                    warn!(%error, "settings cannot be used, the old ones stay");
                    continue;
                }
            };
            let Changes { taken, refused } = self.values.take(&values, &RELOADED);
            for setting in &refused {
                warn!(setting, "this setting counts from the next start on; the old one stays in force");
            }
            // Before the lines that a new filter may hide.
            info!(taken = taken.join(", "), by = "SIGHUP", "settings read again");
            self.log.show(&config.logging.log);
        }
    }
}

/// Cancelled by SIGTERM and SIGINT; SIGHUP has the settings read again, and a clock that is set is told. Needs the runtime.
fn until_told(again: Again) -> anyhow::Result<CancellationToken> {
    tokio::spawn(WallClock.watch());
    tokio::spawn(again.keep_reading(signal(SignalKind::hangup())?));
    let cancel = CancellationToken::new();
    let stop = cancel.clone();
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::spawn(async move {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminate.recv() => {}
        }
        stop.cancel();
    });
    Ok(cancel)
}

/// An agent on this machine's own devices. Drivers are a later issue: until then the plant has none.
async fn serve(config: Config, fleet: &Fleet, cancel: CancellationToken) -> anyhow::Result<()> {
    let settings = config.settings()?;
    let path = config.fleet_path().to_owned();
    let id = config.module.context("--module names the module to serve")?;
    let module = fleet.modules.iter().find(|module| module.id == id);
    let module = module.with_context(|| unknown(&id, &path))?.clone();
    let site = fleet.sites.iter().find(|site| site.id == module.site);
    let site = site.with_context(|| format!("{} describes no site {}", path.display(), module.site))?.clone();
    let boot_id = boot::boot_id();
    // The sender lives as long as the agent: a plug that is never pulled.
    let (_plug, link) = watch::channel(true);
    let stratum = settings.map(|settings| Stratum { settings, sabotage: Default::default() });
    let watched = Watched::new(Arc::new(WallClock), [id.clone()]);
    show(config.metrics, &watched, &cancel).await?;
    let (tell, told) = oneshot::channel();
    let options = Options {
        module,
        site,
        data: config.data,
        controllers: config.controller,
        tls: config.tls,
        simulated: false,
        clock: Arc::new(WallClock),
        plant: Box::new(bare::Bare::new(&boot_id)),
        boot_id,
        link,
        stratum,
        reflex: true,
        sabotage: Sabotages::default(),
        misattribute: false,
        lose_segments: false,
        on_segment: None,
        pace: None,
        started: Some(tell),
    };
    let watch = async {
        // One that does not start says why itself.
        if let Ok(started) = told.await {
            watched.add(id, started.into());
        }
    };
    let (ended, ()) = tokio::join!(agent::run::run(options, cancel), watch);
    ended
}

fn unknown(id: &ModuleId, fleet: &Path) -> String {
    format!("{} describes no module {id}; add it there, or correct --module", fleet.display())
}

#[cfg(not(feature = "sim"))]
async fn simulate(_: Config, _: Fleet, _: CancellationToken) -> anyhow::Result<()> {
    anyhow::bail!("this build has no simulator; build it with `cargo build -p agent --features sim`")
}

/// The modules whose agents this process runs.
#[cfg(feature = "sim")]
fn served(config: &Config, fleet: &Fleet) -> anyhow::Result<Vec<ModuleId>> {
    match (&config.module, &config.site) {
        (Some(module), _) => Ok(vec![module.clone()]),
        (None, Some(site)) => Ok(fleet.modules_of(site).map(|module| module.id.clone()).collect()),
        (None, None) => anyhow::bail!("--module or --site names what to simulate"),
    }
}

#[cfg(feature = "sim")]
async fn simulate(config: Config, fleet: Fleet, cancel: CancellationToken) -> anyhow::Result<()> {
    use agent::run::Started;
    use agent::simulated::{self, Wiring};
    use agent::witnessed::Watching;
    use tokio::task::JoinSet;

    let modules = served(&config, &fleet)?;
    let first = modules.first().and_then(|id| fleet.modules.iter().find(|module| module.id == *id));
    let site = first
        .with_context(|| format!("{} describes no such module or site", config.fleet_path().display()))?
        .site
        .clone();
    let fleet = simulated::scaled(fleet, 1.0, config.hash_budget);
    let witness = config.witness.clone().map(|file| Watching::new(&fleet, file));
    let world = Arc::new(standing(&config, fleet, site, &modules, witness.as_ref()).await?);
    let written = witness.clone().map(|witness| tokio::spawn(witness.keep(world.clone())));
    let settings = if config.proxy.is_some() { config.settings()? } else { None };
    let (_plug, link) = watch::channel(true);
    let alone = modules.len() == 1;
    let watched = Watched::new(Arc::new(world.clock.clone()), modules.clone());
    show(config.metrics, &watched, &cancel).await?;
    let mut agents = JoinSet::new();
    for id in modules {
        let mut listen = settings.as_ref().map_or(config.stratum, |settings| settings.listen);
        // Several proxies cannot share a port: each takes a free one.
        listen.set_port(if alone { listen.port() } else { 0 });
        let wiring = Wiring {
            data: if alone { config.data.clone() } else { config.data.join(id.as_str()) },
            controllers: config.controller.clone(),
            tls: config.tls.clone(),
            listen,
            pool: config.pool.clone(),
            settings: settings.clone(),
            link: link.clone(),
            reflex: true,
            sabotage: Sabotages::default(),
            proxy_sabotage: Default::default(),
            misattribute: false,
            lose_segments: false,
            on_segment: witness.as_ref().map(Watching::on_segment),
        };
        let (watched, seen, there, module) = (watched.clone(), witness.clone(), world.clone(), id.clone());
        let started = move |started: Started| {
            if let Some(witness) = seen {
                witness.join(module.clone(), &there, &started);
            }
            watched.add(module, started.into());
        };
        agents.spawn(simulated::run_agent(world.clone(), id, wiring, started, cancel.clone()));
    }
    world.release();
    let mut ended = Ok(());
    while let Some(agent) = agents.join_next().await {
        // One that fails ends all: a site with half its agents is a drill, not a start.
        cancel.cancel();
        ended = ended.and(agent.context("an agent panicked")?);
    }
    if let Some(written) = written {
        written.abort();
        // Cancelled is what it is meant to be; only then does nobody else write the file.
        let _ = written.await;
    }
    let told = witness.map_or(Ok(()), |witness| witness.write(&world, true));
    ended.and(told).and(world.stop())
}

/// The site behind the agents of these modules, with time standing still.
#[cfg(feature = "sim")]
async fn standing(
    config: &Config,
    fleet: Fleet,
    site: model::SiteId,
    modules: &[ModuleId],
    witness: Option<&agent::witnessed::Watching>,
) -> anyhow::Result<agent::simulated::World> {
    use agent::simulated::{self, Nobody, World};
    use model::time::Clock as _;
    use sim::lockstep::Observer;

    let world = simulated::Config {
        fleet,
        sites: vec![site],
        start: WallClock.now(),
        speed: 1.0,
        budget: config.hash_budget,
        seed: config.seed,
        mark: simulated::mark(modules),
        gas_variability: config.gas_variability,
        load_permille: 0,
        faults: Vec::new(),
        until: None,
    };
    let observer =
        witness.map_or_else(|| Box::new(Nobody) as Box<dyn Observer>, |witness| witness.onlooker());
    World::start(world, observer).await
}
