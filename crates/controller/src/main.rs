//! `flareshift-controller`: reads the flags, opens store and listeners, runs until told to stop. Or it does an errand on a store.
//!
//! Exit codes: 0 after SIGTERM or SIGINT, 1 for a failure while running, 2 for flags or files that cannot be used.
//! Read next: `run.rs`.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use api::clock::WallClock;
use clap::Parser as _;
use controller::config::{Errand, Flags, Place};
use controller::maintenance;
use controller::run::{Options, run};
use model::time::Clock as _;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

/// How long agents are kept, when this controller ends, to be told who leads now: a standby takes the vacant office in some
/// milliseconds, over a slow etcd within a second.
const HAND_OVER: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let flags = Flags::parse();
    let filter = EnvFilter::try_from_env("FLARESHIFT_LOG")
        .unwrap_or_else(|_| EnvFilter::new("info,object_store=warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    if let Some(Errand::Store { json, command }) = &flags.errand {
        return maintain(&flags.place, command, *json);
    }
    let fleet = match flags.check().and_then(|()| flags.read_fleet()) {
        Ok(fleet) => fleet,
        Err(error) => {
            eprintln!("flareshift-controller: {:#}", anyhow::Error::from(error));
            return ExitCode::from(2);
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let outcome = runtime
        .context("the runtime does not start")
        .and_then(|runtime| runtime.block_on(serve(flags, fleet)));
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

async fn serve(flags: Flags, fleet: model::fleet::Fleet) -> anyhow::Result<()> {
    raise_file_limit();
    let name = flags.place.location()?.to_string();
    let store = flags.place.open().await?;
    #[cfg(feature = "archive")]
    let archive = flags.archive.as_deref().map(archive::place::Place::open).transpose()?;
    let grpc = bind(flags.listen).await?;
    let rest = bind(flags.rest).await?;
    let clock = WallClock;
    let (market_in, market) = watch::channel(flags.market(clock.now()));
    let options = Options {
        store_name: name.clone(),
        fleet,
        accept_simulated: flags.accept_simulated,
        lease_ttl: flags.lease_ttl(),
        advertise: flags.advertise.clone(),
        #[cfg(feature = "archive")]
        archive,
        hand_over: if flags.place.is_shared()? { HAND_OVER } else { Duration::ZERO },
        ..Options::new(Arc::new(clock), store, market, grpc, rest, flags.data.clone())
    };
    let cancel = CancellationToken::new();
    tracing::info!(store = name, grpc = %flags.listen, rest = %flags.rest, "controller starts");
    let running = run(options, cancel.clone());
    tokio::pin!(running);
    let mut terminate = signal(SignalKind::terminate()).context("no signal handler")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("no signal handler")?;
    tokio::select! {
        ended = &mut running => return Ok(ended?),
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("controller stops: the office is vacated, the store is closed");
    cancel.cancel();
    running.await?;
    drop(market_in);
    Ok(())
}

async fn bind(address: std::net::SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("{address} cannot be listened on; is another controller running?"))
}
