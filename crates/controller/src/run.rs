//! The wiring: store, cache, leader, sessions, gRPC and REST meet here, and only here.
//!
//! All tasks are in one `JoinSet`: a panic ends the process, a cancelled token ends the tasks. Assumes that the listeners were
//! bound by the caller, so that a port that is taken is an error at once. Read next: `term.rs` for what happens inside.

use std::fmt::Debug;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use api::agent::agent_service_server::AgentServiceServer;
use api::limits::MAX_MESSAGE_BYTES;
use api::operator::operator_service_server::OperatorServiceServer;
use api::tenant::tenant_service_server::TenantServiceServer;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::serve::Listener;
use model::Span;
use model::envelope::DEFAULT_VALIDITY;
use model::fleet::Fleet;
use model::market::Market;
use model::time::Clock;
use service::monitor;
use service::tls::{Connection, Server};
use store::{Prefix, Store};
use tokio::net::TcpListener;
use tokio::sync::{broadcast, mpsc, watch};
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use crate::audit::{self, Audits};
use crate::cache::Cache;
use crate::context::{Context, Settings, Tuning};
use crate::cycle::Planner;
use crate::events::Recorder;
use crate::handshake::Door;
use crate::ledger::{self, Sink};
use crate::live::Live;
use crate::metrics::{self, Counts, Monitor};
use crate::quote::Desk;
use crate::sabotage::Sabotage;
use crate::term::{Committed, Rules};
use crate::tracker::Freshness;
use crate::{callers, events, fleet, handshake, leader, operator, rest, session, tenant};

/// Committed plans that a slow witness may be behind: half an hour at one every 30 s.
const COMMITS: usize = 64;
/// A watch that ended is begun anew after this; each time without an event in between after twice as long, up to the last.
const WATCH_RETRY: Duration = Duration::from_secs(1);
const LAST_WATCH_RETRY: Duration = Duration::from_secs(60);
/// HTTP/2 pings find half-open connections: after this much silence one is sent, and the answer must come in as much.
const PING: Duration = Duration::from_secs(15);
/// Requests in flight on one connection.
const STREAMS: u32 = 256;

/// What a controller is made of.
pub struct Options {
    /// The time that plans and envelopes are made in.
    pub clock: Arc<dyn Clock>,
    /// Where decisions are kept.
    pub store: Store,
    /// The store's name, for people.
    pub store_name: String,
    /// Loaded into the store by the leader; may be empty.
    pub fleet: Fleet,
    /// What mining pays.
    pub market: watch::Receiver<Market>,
    /// Agents, operators and tenants by gRPC.
    pub grpc: TcpListener,
    /// Tenants by REST.
    pub rest: TcpListener,
    /// The TLS of gRPC; `None`: none.
    pub tls: Option<Arc<Server>>,
    /// The TLS of REST.
    pub rest_tls: Option<Arc<Server>>,
    /// Metrics and health, for whoever watches it.
    pub metrics: Option<TcpListener>,
    /// Where ledger segments are kept.
    pub ledger_dir: PathBuf,
    /// Simulated sites are welcome.
    pub accept_simulated: bool,
    /// A defect on request.
    pub sabotage: Option<Sabotage>,
    /// How long the office is held without a sign of life, on the wall clock.
    pub lease_ttl: Duration,
    /// How long an envelope is valid.
    pub validity: Span,
    /// Where agents and operators reach this controller, as a URL; `None`: where its gRPC listens.
    pub advertise: Option<String>,
    /// How long sessions wait, when the office is left, for whoever takes it; zero where nobody can stand by.
    pub hand_over: Duration,
    /// What operators may change while it runs.
    pub tuning: watch::Receiver<Tuning>,
    /// Makes plans.
    pub planner: Planner,
    /// Where the ledger is also kept as Parquet.
    #[cfg(feature = "archive")]
    pub archive: Option<archive::place::Place>,
}

/// Why a controller did not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The ledger cannot be opened.
    #[error("the ledger cannot be opened")]
    Ledger(#[from] ledger::Error),
    /// The audits of shares cannot be opened.
    #[error("the audits of shares cannot be opened")]
    Audits(#[from] audit::Error),
    /// The store stopped for good: only a restart opens it again.
    #[error("the store has failed")]
    Store(#[source] store::Error),
    /// A listener has no address.
    #[error("a listener has no address")]
    Listener(#[source] std::io::Error),
    /// A task panicked: a defect of ours.
    #[error("a task panicked; report this with the log")]
    Panicked(#[source] tokio::task::JoinError),
    /// A server failed.
    #[error("the server for {what} failed")]
    Server {
        /// Which.
        what: &'static str,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// A controller that runs. Dropping it ends all its tasks.
pub struct Handle {
    context: Context,
    commits: broadcast::Sender<Committed>,
    tasks: JoinSet<Result<(), Error>>,
    cancel: CancellationToken,
}

impl Options {
    /// Options with the defaults of a service.
    pub fn new(
        clock: Arc<dyn Clock>,
        store: Store,
        market: watch::Receiver<Market>,
        grpc: TcpListener,
        rest: TcpListener,
        ledger_dir: PathBuf,
    ) -> Self {
        Self {
            clock,
            store,
            store_name: "embedded".into(),
            fleet: Fleet::default(),
            market,
            grpc,
            rest,
            tls: None,
            rest_tls: None,
            metrics: None,
            ledger_dir,
            accept_simulated: false,
            sabotage: None,
            lease_ttl: Duration::from_secs(5),
            validity: DEFAULT_VALIDITY,
            advertise: None,
            hand_over: Duration::ZERO,
            tuning: watch::channel(Tuning::default()).1,
            planner: planner::plan,
            #[cfg(feature = "archive")]
            archive: None,
        }
    }
}

/// Runs a controller until cancelled or until one of its parts fails.
pub async fn run(options: Options, cancel: CancellationToken) -> Result<(), Error> {
    start(options, cancel).await?.join().await
}

/// Starts a controller.
pub async fn start(options: Options, cancel: CancellationToken) -> Result<Handle, Error> {
    let dir = options.ledger_dir.clone();
    let open = move || Ok::<_, Error>((Sink::open(&dir)?, Audits::open(&dir)?));
    let (sink, audits) = tokio::task::spawn_blocking(open).await.map_err(Error::Panicked)??;
    let grpc_at = options.grpc.local_addr().map_err(Error::Listener)?;
    let settings = settings(&options, grpc_at);
    let now = options.clock.now();
    let (cache_in, cache) = watch::channel(Cache::default());
    let freshness = Freshness::default();
    let (live_in, live) = watch::channel(Live::new(freshness, options.validity, now));
    let (office_in, office) = watch::channel(None);
    let commits = broadcast::Sender::new(COMMITS);
    let context = Context {
        store: options.store,
        clock: options.clock,
        cache,
        live,
        office,
        market: options.market,
        tuning: options.tuning,
        sink,
        audits,
        quotes: Desk::default(),
        events: Recorder::default(),
        counts: Arc::new(Counts::default()),
        settings: Arc::new(settings),
        #[cfg(feature = "archive")]
        archive: None,
    };
    #[cfg(feature = "archive")]
    let (context, place) = with_archive(context, options.archive, &options.ledger_dir);
    let rules = Rules { freshness, planner: options.planner, sabotage: options.sabotage };
    let outputs = leader::Outputs { live: live_in, office: office_in, commits: commits.clone() };
    let (sessions, running) = session::new(context.clone());
    let mut tasks = JoinSet::new();
    let ttl = options.lease_ttl;
    // Two steps at the end: first the office is vacated and the agents are sent on; what serves them and tells them whither, goes last.
    let last = CancellationToken::new();
    tasks.spawn(ok(leader::run(context.clone(), rules, ttl, outputs, cancel.clone())));
    tasks.spawn(ok(load_fleet(context.clone(), options.fleet, cancel.clone())));
    tasks.spawn(ok(events::run(context.clone(), cancel.clone())));
    tasks.spawn(ok(run_sessions(running, cancel.clone(), last.clone())));
    tasks.spawn(follow(context.store.clone(), context.counts.clone(), cache_in, last.clone()));
    #[cfg(feature = "archive")]
    if let Some(of) = place {
        tasks.spawn(ok(archive::task::run(of, cancel.clone())));
    }
    let incoming = handshake::open(&mut tasks, options.grpc, options.tls, &context.counts);
    tasks.spawn(serve_grpc(context.clone(), sessions, incoming, (cancel.clone(), last.clone())));
    match options.rest_tls {
        Some(tls) => {
            let at = options.rest.local_addr().map_err(Error::Listener)?;
            let incoming = handshake::open(&mut tasks, options.rest, Some(tls), &context.counts);
            tasks.spawn(serve_rest(context.clone(), Door::new(incoming, at), last.clone()));
        }
        None => drop(tasks.spawn(serve_rest(context.clone(), options.rest, last.clone()))),
    }
    if let Some(listener) = options.metrics {
        tasks.spawn(serve_metrics(context.clone(), listener, last));
    }
    Ok(Handle { context, commits, tasks, cancel })
}

/// What does not change while it runs.
fn settings(options: &Options, grpc_at: SocketAddr) -> Settings {
    let scheme = if options.tls.is_some() { "https" } else { "http" };
    Settings {
        address: options.advertise.clone().unwrap_or_else(|| format!("{scheme}://{grpc_at}")),
        accept_simulated: options.accept_simulated,
        tls: [("grpc", &options.tls), ("rest", &options.rest_tls)]
            .into_iter()
            .filter_map(|(listener, tls)| Some((listener, tls.clone()?)))
            .collect(),
        store_name: options.store_name.clone(),
        validity: options.validity,
        hand_over: options.hand_over,
    }
}

/// What the archive works on, if there is one: this controller's own segments, and the hours while it leads. And the context that knows
/// how far it is.
#[cfg(feature = "archive")]
fn with_archive(
    context: Context,
    place: Option<archive::place::Place>,
    ledger: &std::path::Path,
) -> (Context, Option<archive::task::Options>) {
    let Some(place) = place else { return (context, None) };
    let office = context.office.clone();
    let (tell, progress) = watch::channel(Default::default());
    let kept = crate::context::Archive { place: place.url().to_owned(), progress };
    let options = archive::task::Options {
        place,
        progress: tell,
        source: archive::pass::Source {
            ledger: Arc::new(context.sink.clone()),
            state: ledger.join("archive.json"),
        },
        clock: context.clock.clone(),
        leads: Arc::new(move || office.borrow().is_some()),
    };
    (Context { archive: Some(kept), ..context }, Some(options))
}

/// Runs the sessions; once they have ended, whichever way, what is left may end too.
async fn run_sessions(sessions: session::Sessions, cancel: CancellationToken, last: CancellationToken) {
    let _ended = last.drop_guard();
    sessions.run(cancel).await;
}

impl Handle {
    /// Committed plans with their inputs, from now on.
    pub fn commits(&self) -> broadcast::Receiver<Committed> {
        self.commits.subscribe()
    }

    /// The leader's knowledge.
    pub fn live(&self) -> watch::Receiver<Live> {
        self.context.live.clone()
    }

    /// What the services hold, for tests and the dev command.
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// Waits until everything has ended; the first part that fails ends the others.
    pub async fn join(mut self) -> Result<(), Error> {
        let mut outcome = Ok(());
        while let Some(ended) = self.tasks.join_next().await {
            let ended = ended.map_err(Error::Panicked).and_then(|ended| ended);
            if outcome.is_ok() && (ended.is_err() || !self.cancel.is_cancelled()) {
                self.cancel.cancel();
                outcome = ended;
            }
        }
        outcome
    }
}

async fn ok(task: impl Future<Output = ()>) -> Result<(), Error> {
    task.await;
    Ok(())
}

/// Feeds the cache from one watch over everything. A store that stopped ends the process: whoever runs it starts it again.
async fn follow(
    store: Store,
    counts: Arc<Counts>,
    cache: watch::Sender<Cache>,
    cancel: CancellationToken,
) -> Result<(), Error> {
    let mut pause = WATCH_RETRY;
    loop {
        let mut watch = store.watch(&Prefix::all(), None);
        loop {
            let event = tokio::select! {
                () = cancel.cancelled() => return Ok(()),
                event = watch.next() => event,
            };
            match event {
                Ok(event) => {
                    pause = WATCH_RETRY;
                    cache.send_modify(|cache| cache.apply(&event));
                }
                Err(error @ store::Error::Stopped { .. }) => return Err(Error::Store(error)),
                Err(error) => {
                    tracing::error!(
                        error = &error as &dyn std::error::Error,
                        "the store's watch ended, begun anew"
                    );
                    counts.store_error(&error.into());
                    break;
                }
            }
        }
        tokio::select! {
            () = cancel.cancelled() => return Ok(()),
            () = tokio::time::sleep(pause) => {}
        }
        pause = (2 * pause).min(LAST_WATCH_RETRY);
    }
}

/// Loads the fleet description whenever this controller comes to lead, then waits for the end.
async fn load_fleet(context: Context, fleet: Fleet, cancel: CancellationToken) {
    let mut office = context.office.clone();
    loop {
        tokio::select! {
            () = cancel.cancelled() => return,
            led = office.wait_for(Option::is_some) => if led.is_err() { return },
        }
        match fleet::load(&context, &fleet).await {
            Ok(0) => {}
            Ok(records) => tracing::info!(records, "fleet description loaded"),
            Err(error) => {
                tracing::warn!(%error, "the fleet description was not loaded, trying again");
                tokio::select! {
                    () = cancel.cancelled() => return,
                    () = tokio::time::sleep(WATCH_RETRY) => continue,
                }
            }
        }
        tokio::select! {
            () = cancel.cancelled() => return,
            left = office.wait_for(Option::is_none) => if left.is_err() { return },
        }
    }
}

async fn serve_grpc(
    context: Context,
    sessions: session::Service,
    incoming: mpsc::Receiver<io::Result<Connection>>,
    (cancel, last): (CancellationToken, CancellationToken),
) -> Result<(), Error> {
    let failed = |source: Box<dyn std::error::Error + Send + Sync>| Error::Server { what: "gRPC", source };
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<AgentServiceServer<session::Service>>().await;
    health.set_serving::<OperatorServiceServer<operator::Service>>().await;
    health.set_serving::<TenantServiceServer<tenant::grpc::Service>>().await;
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(api::DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .map_err(|error| failed(error.into()))?;
    let agents = AgentServiceServer::new(sessions).max_decoding_message_size(MAX_MESSAGE_BYTES);
    let operators = OperatorServiceServer::new(operator::Service::new(context.clone(), cancel));
    let tenants = TenantServiceServer::new(tenant::grpc::Service::new(context.clone()));
    let routes = Routes::new(health_service)
        .add_service(reflection)
        .add_service(agents)
        .add_service(operators)
        .add_service(tenants)
        .into_axum_router()
        .layer(from_fn(callers::admit))
        .layer(from_fn_with_state(context.counts, metrics::grpc));
    let served = tonic::transport::Server::builder()
        .http2_keepalive_interval(Some(PING))
        .http2_keepalive_timeout(Some(PING))
        .max_concurrent_streams(STREAMS)
        .add_routes(Routes::from(routes))
        .serve_with_incoming_shutdown(ReceiverStream::new(incoming), last.cancelled_owned());
    served.await.map_err(|error| failed(error.into()))
}

async fn serve_rest<L: Listener<Addr: Debug>>(
    context: Context,
    listener: L,
    cancel: CancellationToken,
) -> Result<(), Error> {
    let counted = from_fn_with_state(context.counts.clone(), metrics::rest);
    let router = rest::router(context).layer(counted);
    let served = axum::serve(listener, router).with_graceful_shutdown(cancel.cancelled_owned());
    served.await.map_err(|source| Error::Server { what: "REST", source: source.into() })
}

async fn serve_metrics(
    context: Context,
    listener: TcpListener,
    cancel: CancellationToken,
) -> Result<(), Error> {
    let served = monitor::serve(listener, Monitor(context), cancel).await;
    served.map_err(|source| Error::Server { what: "metrics", source: source.into() })
}
