//! Wires one agent: control thread, recorder, proxy, session. Everything that runs is started here.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context;
use control::envelope::{Bounds, Holder, MAX_VALIDITY};
use control::island::Island;
use control::sabotage::Sabotages;
use control::{Brain, Plant};
use model::envelope::Directive;
use model::module::Module;
use model::report::Report;
use model::site::Site;
use model::time::Clock;
use model::{MinerGroupId, Span, Time};
use service::tls::ClientFlags;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use crate::commit::{self, Commits};
use crate::control_thread::{self, ToControl};
use crate::disk;
use crate::edge::{self, Stratum};
use crate::held::Held;
use crate::local;
use crate::meterbook::{Book, INTERVAL};
use crate::metrics::Tallies;
use crate::outbox::{self, OnSegment, Outbox};
use crate::proxy::journal::ShareJournal;
use crate::proxy::{self, Proxy};
use crate::recorder::{self, Owed, Recorder};
use crate::session::{self, Session};
use crate::share_journal::Committed;

/// Records reach the disk at least so often.
const SYNC_EVERY: Duration = Duration::from_secs(1);
/// Everything one agent needs.
pub struct Options {
    /// The module it serves.
    pub module: Module,
    /// The site it stands on.
    pub site: Site,
    /// Its directory: outbox, directive, slices.
    pub data: PathBuf,
    /// Controllers, as URLs; none = the proxy runs alone.
    pub controllers: Vec<String>,
    /// Certificates towards them.
    pub tls: ClientFlags,
    /// The plant is simulated.
    pub simulated: bool,
    /// The clock of records.
    pub clock: Arc<dyn Clock>,
    /// The boot id of the plant's machine.
    pub boot_id: String,
    /// The devices.
    pub plant: Box<dyn Plant>,
    /// False while the plug of the link is pulled.
    pub link: watch::Receiver<bool>,
    /// The Stratum proxy; `None` without miners.
    pub stratum: Option<Stratum>,
    /// Whether the reflex acts.
    pub reflex: bool,
    /// Faults built in on purpose.
    pub sabotage: Sabotages,
    /// A defect on request: the ledger forgets half of what tenants drew.
    pub misattribute: bool,
    /// A defect on request: the outbox loses every second segment.
    pub lose_segments: bool,
    /// Is told each ledger segment when it is sealed.
    pub on_segment: Option<OnSegment>,
    /// Is told up to when the controller has acknowledged reports; simulated time waits for it.
    pub pace: Option<session::Pace>,
    /// Told once everything listens.
    pub started: Option<oneshot::Sender<Started>>,
}

/// What others may look at while the agent runs.
#[derive(Clone, Debug)]
pub struct Started {
    /// The proxy.
    pub proxy: Option<proxy::Handle>,
    /// The directive that was persisted last.
    pub directive: watch::Receiver<Option<Arc<Directive>>>,
    /// The latest report.
    pub reports: watch::Receiver<Option<Arc<Report>>>,
    /// What it counts.
    pub tallies: Arc<Tallies>,
}

/// The channels between the parts of one agent.
struct Lines {
    control: SyncSender<ToControl>,
    directive: watch::Sender<Option<Arc<Directive>>>,
    reports: watch::Sender<Option<Arc<Report>>>,
    sealed: Arc<Notify>,
    spacing: watch::Sender<Span>,
    tallies: Arc<Tallies>,
}

/// Runs an agent until cancelled, or until something it cannot do without fails.
pub async fn run(options: Options, cancel: CancellationToken) -> anyhow::Result<()> {
    let Options {
        module, site, data, controllers, tls, simulated, clock, boot_id, plant, link, stratum, ..
    } = options;
    fs::create_dir_all(&data).map_err(disk::at("create", &data))?;
    let dir = data.join("outbox");
    let open = || Outbox::open(&dir, &module.id, &boot_id, clock.now(), options.on_segment.clone());
    let outbox = outbox::claim(open).await?.losing(options.lose_segments);
    let held = Held::open(&data)?;
    let restored = held.directive().cloned();
    let (control, inbox) = sync_channel(control_thread::INBOX);
    let (snapshots_in, snapshots) = mpsc::channel(control_thread::OUTBOX);
    let lines = Lines {
        control,
        directive: watch::Sender::new(restored.clone().map(Arc::new)),
        reports: watch::Sender::new(None),
        sealed: Arc::new(Notify::new()),
        spacing: watch::Sender::new(INTERVAL),
        tallies: Arc::default(),
    };
    let brain = brain(&module, &site, (options.reflex, options.sabotage), restored.clone());
    let (commits, intake) = commit::open(&data.join("commitments"), Some(outbox.clone()))?;
    let proxy = match &stratum {
        Some(stratum) => {
            let journal = journal(&outbox, &commits, &controllers);
            Some(edge::start(stratum, scales(&module), &data, clock.clone(), journal).await?)
        }
        None => None,
    };
    let handle = proxy.as_ref().map(Proxy::handle);
    let claiming = (!controllers.is_empty()).then(|| commits.clone());
    let book = Book::new(module.clone(), &boot_id);
    let book = book.resume(outbox.book().cloned(), simulated).forgetful(options.misattribute);
    let recorder = recorder(book, &outbox, handle.clone(), &lines);
    let session = Session {
        module: module.id.clone(),
        controllers,
        tls,
        simulated,
        stratum_address: handle.as_ref().map(|proxy| proxy.address().to_string()),
        holder: Holder::new(Bounds { module: module.id.clone(), validity: MAX_VALIDITY }, restored),
        held,
        outbox: outbox.clone(),
        commits,
        control: lines.control.clone(),
        directive: lines.directive.clone(),
        reports: lines.reports.subscribe(),
        sealed: lines.sealed.clone(),
        spacing: lines.spacing.clone(),
        link,
        clock: clock.clone(),
        pace: options.pace.clone(),
        tallies: lines.tallies.clone(),
    };
    let thread = control_thread::spawn(plant, brain, inbox, snapshots_in).context("no control thread")?;
    tell_started(options.started, handle.clone(), &lines);
    info!(module = %module.id, "the agent runs");
    let mut tasks = JoinSet::new();
    tasks.spawn(recorder::run(recorder, snapshots));
    tasks.spawn(keep_synced(outbox.clone(), lines.tallies.clone()));
    tasks.spawn(commit::run(intake));
    local::spawn(&mut tasks, &data, local::Asked { proxy: handle, commits: claiming }, &cancel);
    if !session.controllers.is_empty() {
        tasks.spawn(session::run(session, cancel.child_token()));
    }
    let ended = supervise(tasks, thread, &cancel).await;
    if let Some(proxy) = proxy {
        proxy.shutdown().await;
    }
    finish(&outbox, clock.now());
    ended
}

/// The groups of a module, and what each hash of theirs stands for.
fn scales(module: &Module) -> BTreeMap<MinerGroupId, u64> {
    module.groups.iter().map(|(id, group)| (id.clone(), group.scale)).collect()
}

/// Waits until told to end, or until a task or the control thread does; then ends the tasks.
async fn supervise(
    mut tasks: JoinSet<()>,
    thread: JoinHandle<()>,
    cancel: &CancellationToken,
) -> anyhow::Result<()> {
    let ended = tokio::select! {
        () = cancel.cancelled() => Ok(()),
        Some(Err(panic)) = tasks.join_next() => Err(panic).context("a task of the agent panicked"),
        () = thread_ended(&thread) => Ok(()),
    };
    let panicked = thread.is_finished() && thread.join().is_err();
    tasks.shutdown().await;
    anyhow::ensure!(!panicked, "the control thread panicked; report this with the log");
    ended
}

fn recorder(book: Book, outbox: &Outbox, proxy: Option<proxy::Handle>, lines: &Lines) -> Recorder {
    Recorder {
        book,
        outbox: outbox.clone(),
        proxy,
        control: lines.control.clone(),
        directive: lines.directive.subscribe(),
        reports: lines.reports.clone(),
        sealed: lines.sealed.clone(),
        spacing: lines.spacing.subscribe(),
        tallies: lines.tallies.clone(),
        owed: Owed::default(),
    }
}

fn tell_started(started: Option<oneshot::Sender<Started>>, proxy: Option<proxy::Handle>, lines: &Lines) {
    if let Some(started) = started {
        let (directive, reports) = (lines.directive.subscribe(), lines.reports.subscribe());
        let told = Started { proxy, directive, reports, tallies: lines.tallies.clone() };
        // Whoever asked may have gone; the agent runs all the same.
        let _ = started.send(told);
    }
}

/// What decides, going on with the directive that was persisted.
fn brain(
    module: &Module,
    site: &Site,
    (reflex, sabotage): (bool, Sabotages),
    restored: Option<Directive>,
) -> Brain {
    let (module, island) = (module.clone(), Island::of(site));
    Brain::new(control::Config { module, island, validity: MAX_VALIDITY, reflex, sabotage }, restored)
}

/// Where the proxy records shares. Nobody asks a proxy that runs alone to prove any.
fn journal(outbox: &Outbox, commits: &Commits, controllers: &[String]) -> Box<dyn ShareJournal> {
    let outbox = outbox.clone();
    match controllers {
        [] => Box::new(outbox),
        _ => Box::new(Committed { outbox, commits: commits.clone() }),
    }
}

/// Has records reach the disk once a second, and notes how many segments wait.
pub(crate) async fn keep_synced(outbox: Outbox, tallies: Arc<Tallies>) {
    let mut every = tokio::time::interval(SYNC_EVERY);
    loop {
        every.tick().await;
        tallies.backlog(outbox.backlog());
        let outbox = outbox.clone();
        match tokio::task::spawn_blocking(move || outbox.sync()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => error!(error = &error as &dyn std::error::Error, "the outbox cannot be synced"),
            Err(_) => return,
        }
    }
}

async fn thread_ended(thread: &JoinHandle<()>) {
    while !thread.is_finished() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Seals what the open journal holds, so that the controller gets it with the next session. A seal that the recorder began and was
/// not let finish goes on by itself; this one waits for it.
pub(crate) fn finish(outbox: &Outbox, now: Time) {
    if let Err(error) = outbox.seal(now) {
        let error = &error as &dyn std::error::Error;
        error!(error, "the last journal was not sealed; the next start does it");
    }
}
