//! `flareshift-controller`: reads the flags, opens store and listeners, runs until told to stop. Or it does an errand on a store.
//!
//! Exit codes: 0 after SIGTERM or SIGINT, 1 for a failure while running, 2 for flags or files that cannot be used.
//! Read next: `run.rs`.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use api::clock::WallClock;
use controller::config::{Errand, Flags, Place, RELOADED};
use controller::maintenance;
use controller::run::{Options, start};
use model::time::Clock as _;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use service::log::Log;
use service::settings::again::{self, Changes, Values};
use service::tls::Server;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How long agents are kept, when this controller ends, to be told who leads now: a standby takes the vacant office in some
/// milliseconds, over a slow etcd within a second.
const HAND_OVER: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let (flags, values): (Flags, Values) = service::settings::parse();
    let boot = store::Clock::boot();
    // Before anybody reads the time.
    WallClock::go_on_by(move || boot.now());
    if let Some(Errand::Store { json, command }) = &flags.errand {
        service::log::init(&flags.logging);
        return maintain(&flags.place, command, *json);
    }
    let fleet = match flags.check().and_then(|()| flags.read_fleet()) {
        Ok(_) if flags.check_config => {
            println!("the settings can be used; SIGHUP reads again: {}", RELOADED.join(", "));
            return ExitCode::SUCCESS;
        }
        Ok(fleet) => fleet,
        Err(error) => {
            eprintln!("flareshift-controller: {:#}", anyhow::Error::from(error));
            return ExitCode::from(2);
        }
    };
    let (log, traces) = service::traces::begin(&flags.traces, &flags.logging, flags.source());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let outcome = runtime
        .context("the runtime does not start")
        .and_then(|runtime| runtime.block_on(serve(flags, fleet, Again { values, log })));
    traces.end();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("flareshift-controller: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// One command about the store, to its end.
fn maintain(place: &Place, command: &maintenance::Command, json: bool) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("flareshift-controller: the runtime does not start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let seconds = u64::try_from(WallClock.now().0 / 1000).unwrap_or(0);
    match runtime.block_on(maintenance::run(place, command, seconds)) {
        Ok(answer) if json => {
            println!("{}", serde_json::to_string_pretty(&answer).expect("an answer has string keys only"));
            ExitCode::from(answer.code())
        }
        Ok(answer) => {
            println!("{answer}");
            ExitCode::from(answer.code())
        }
        Err(error) => {
            eprintln!("flareshift-controller: {error}");
            ExitCode::from(error.code())
        }
    }
}

/// Takes all the open files that this process may have: each agent is one. What it is started with is often 1,024.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, ..limit };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, files = limit.current, "the limit of open files stays; agents beyond it wait");
    }
}

async fn serve(flags: Flags, fleet: model::fleet::Fleet, mut again: Again) -> anyhow::Result<()> {
    raise_file_limit();
    let name = flags.place.location()?.to_string();
    let store = flags.place.open().await?;
    #[cfg(feature = "archive")]
    let archive = flags.archive.as_deref().map(archive::place::Place::open).transpose()?;
    let grpc = bind(flags.listen)?;
    let rest = bind(flags.rest)?;
    let metrics = match flags.metrics {
        Some(address) => Some(service::monitor::bind(address).await?),
        None => None,
    };
    let clock = WallClock;
    let (market_in, market) = watch::channel(flags.market(clock.now()));
    let (tuning_in, tuning) = watch::channel(flags.tuning());
    let [tls, rest_tls] = flags.tls.read()?.map(|server| server.map(Arc::new));
    let options = Options {
        tls: tls.clone(),
        rest_tls: rest_tls.clone(),
        store_name: name.clone(),
        fleet,
        accept_simulated: flags.accept_simulated,
        lease_ttl: flags.lease_ttl(),
        tuning,
        metrics,
        advertise: flags.advertise.clone(),
        #[cfg(feature = "archive")]
        archive,
        hand_over: if flags.place.is_shared()? { HAND_OVER } else { Duration::ZERO },
        ..Options::new(Arc::new(clock), store, market, grpc, rest, flags.data.clone())
    };
    let cancel = CancellationToken::new();
    tracing::info!(store = name, grpc = %flags.listen, rest = %flags.rest, "controller starts");
    let handle = start(options, cancel.clone()).await?;
    let context = handle.context().clone();
    let running = handle.join();
    tokio::pin!(running);
    let watching = WallClock.watch();
    tokio::pin!(watching);
    let mut hangup = signal(SignalKind::hangup()).context("no signal handler")?;
    let mut terminate = signal(SignalKind::terminate()).context("no signal handler")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("no signal handler")?;
    loop {
        tokio::select! {
            ended = &mut running => return Ok(ended?),
            () = &mut watching => {}
            _ = hangup.recv() => {
                let Some((flags, taken)) = again.read() else { continue };
                reload([("gRPC", &tls), ("REST", &rest_tls)]);
                if !taken.is_empty() {
                    market_in.send_replace(flags.market(clock.now()));
                    tuning_in.send_replace(flags.tuning());
                    context.tell("controller", format!("settings read again: {}", taken.join(", ")));
                }
            }
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
        }
    }
    tracing::info!("controller stops: the office is vacated, the store is closed");
    cancel.cancel();
    running.await?;
    drop(market_in);
    Ok(())
}

/// Takes over what the files of certificates hold now, for connections from now on.
fn reload(servers: [(&str, &Option<Arc<Server>>); 2]) {
    for (listener, server) in servers {
        match server.as_ref().map(|server| server.reload()) {
            None => {}
            Some(Ok(())) => tracing::info!(listener, "certificates read again"),
            Some(Err(error)) => {
                tracing::warn!(listener, %error, "certificates cannot be used, the old ones stay");
            }
        }
    }
}

/// What is needed to read the settings again.
struct Again {
    values: Values,
    log: Log,
}

impl Again {
    /// Reads the settings again: what of them counts from now on, and all of them as they are now. What cannot be used changes
    /// nothing; what may not change is named, and the old stays.
    fn read(&mut self) -> Option<(Flags, Vec<String>)> {
        let judged = again::read::<Flags>()
            .map_err(anyhow::Error::from)
            .and_then(|(flags, values)| flags.check().map(|()| (flags, values)).map_err(anyhow::Error::from));
        let (flags, values) = match judged {
            Ok(read) => read,
            Err(error) => {
                tracing::warn!(error = format!("{error:#}"), "settings cannot be used, the old ones stay");
                return None;
            }
        };
        let Changes { taken, refused } = self.values.take(&values, &RELOADED);
        for setting in &refused {
            tracing::warn!(setting, "this setting counts from the next start on; the old one stays in force");
        }
        // Before the lines that a new filter may hide.
        tracing::info!(taken = taken.join(", "), by = "SIGHUP", "settings read again");
        self.log.show(&flags.logging.log);
        Some((flags, taken))
    }
}

fn bind(address: std::net::SocketAddr) -> anyhow::Result<TcpListener> {
    controller::listen(address)
        .with_context(|| format!("{address} cannot be listened on; is another controller running?"))
}
