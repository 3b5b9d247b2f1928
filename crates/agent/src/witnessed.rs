//! The witness beside the agents of a simulated site: what the simulation's own meters saw of the invariants, as a file that
//! is written anew every second. For drills: whoever kills controllers and links reads there whether the agents' side held.
//!
//! Assumes that it is told everything from the first moment on: physics by the lockstep, directives as persisted, segments as
//! sealed, the pool's books. Commits and what is planned again are not seen from here. Read next: `sim::witness`, which judges.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use api::clock::WallClock;
use model::fleet::Fleet;
use model::report::RunPhase;
use model::time::Clock as _;
use model::{ModuleId, Time};
use serde::Serialize;
use sim::island::Island;
use sim::lockstep::Observer;
use sim::pool::Refusal;
use sim::truth::Truth;
use sim::witness::{EdgeTally, Options, PoolTally, Verdict, Witness};
use stratum::account::{End, Tally};

use crate::outbox::OnSegment;
use crate::proxy;
use crate::run::Started;
use crate::simulated::{World, account};

/// The file is written anew after this.
const EVERY: Duration = Duration::from_secs(1);
/// Runs that are remembered with their times; a drill orders some dozens.
const MAX_RUNS: usize = 4_096;

/// A witness that the threads of one process tell what they see. Cheap to clone.
#[derive(Clone)]
pub struct Watching {
    shared: Arc<Mutex<Seen>>,
    file: Arc<Path>,
}

struct Seen {
    witness: Witness,
    /// The last event seen, by site.
    events: BTreeMap<String, u64>,
    proxies: BTreeMap<ModuleId, proxy::Handle>,
    runs: BTreeMap<(String, u64, ModuleId), (Time, Time)>,
    seconds: u64,
    accepted: u64,
}

/// What stands in the file.
#[derive(Debug, Serialize)]
struct Page<'a> {
    /// Simulated seconds that were judged.
    seconds: u64,
    /// Shares that the pool accepted.
    accepted: u64,
    /// One for each invariant that the witness can see.
    verdicts: Vec<Verdict>,
    /// When workloads held GPUs, in milliseconds since 1970 on the wall clock.
    runs: Vec<Held<'a>>,
    /// Everything has been sealed and compared: nothing more will come.
    ended: bool,
}

/// One start of a workload on one module.
#[derive(Debug, Serialize)]
struct Held<'a> {
    workload: &'a str,
    incarnation: u64,
    module: &'a ModuleId,
    first: Time,
    last: Time,
}

impl Watching {
    /// A witness of the fleet, which writes to `file`.
    pub fn new(fleet: &Fleet, file: PathBuf) -> Self {
        let seen = Seen {
            witness: Witness::new(fleet, Options::default()),
            events: BTreeMap::new(),
            proxies: BTreeMap::new(),
            runs: BTreeMap::new(),
            seconds: 0,
            accepted: 0,
        };
        Self { shared: Arc::new(Mutex::new(seen)), file: file.into() }
    }

    /// The lockstep's onlooker.
    pub fn onlooker(&self) -> Box<dyn Observer> {
        Box::new(self.clone())
    }

    /// What is told of each sealed segment.
    pub fn on_segment(&self) -> OnSegment {
        let this = self.clone();
        Arc::new(move |segment| this.lock().witness.ledger(segment))
    }

    /// Looks on at an agent that has started, for as long as it runs.
    pub fn join(&self, module: ModuleId, world: &World, started: &Started) {
        let proxy = started.proxy.clone();
        let (mut directive, mut reports) = (started.directive.clone(), started.reports.clone());
        let clock = world.clock.clone();
        let mut seen = self.lock();
        seen.witness.agent(&module, clock.now(), true);
        seen.proxies.extend(proxy.map(|proxy| (module.clone(), proxy)));
        drop(seen);
        let this = self.clone();
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    changed = directive.changed() => if changed.is_err() { return },
                    changed = reports.changed() => if changed.is_err() { return },
                }
                let report = reports.borrow_and_update().clone();
                let Some(report) = report else { continue };
                if directive.has_changed().unwrap_or(false) || report.sequence == 0 {
                    let held = directive.borrow_and_update().clone();
                    if let Some(held) = held {
                        this.lock().witness.directive(&module, clock.now(), &report.stamp, &held);
                    }
                }
                this.lock().witness.findings(&module, report.at, &report.findings);
            }
        });
    }

    /// Writes the file every second. Never ends by itself.
    pub async fn keep(self, world: Arc<World>) {
        let mut every = tokio::time::interval(EVERY);
        loop {
            every.tick().await;
            if let Err(error) = self.write(&world, false) {
                tracing::warn!(error = %format!("{error:#}"), "what the witness saw is not written");
            }
        }
    }

    /// Compares the shares of all modules, sealed to the last or not yet, and writes what was seen so far.
    pub fn write(&self, world: &World, ended: bool) -> anyhow::Result<()> {
        let page = {
            let mut seen = self.lock();
            // Under the lock: a segment that is sealed meanwhile may hold shares that these books do not know yet.
            seen.settle(world, ended);
            let summary = if ended { seen.witness.clone().finish() } else { seen.witness.so_far() };
            let held = seen.runs.iter().map(|((workload, incarnation, module), (first, last))| Held {
                workload,
                incarnation: *incarnation,
                module,
                first: *first,
                last: *last,
            });
            let runs = held.collect();
            let page = Page {
                seconds: seen.seconds,
                accepted: seen.accepted,
                verdicts: summary.verdicts,
                runs,
                ended,
            };
            serde_json::to_vec(&page).context("a summary is plain data")?
        };
        let beside = self.file.with_extension("new");
        fs::write(&beside, page).and_then(|()| fs::rename(&beside, &self.file))?;
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        // A witness that panicked in one check has printed so; what it saw before still counts.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observer for Watching {
    fn tenth(&mut self, island: &Island) {
        self.lock().witness.load(&island.site().id, island.now(), island.carried());
    }

    fn second(&mut self, island: &Island) {
        let mut seen = self.lock();
        let site = &island.site().id;
        let last = seen.events.get(site.as_str()).copied().unwrap_or_default();
        let events: Vec<_> = island.events_after(last).cloned().collect();
        let last = events.last().map_or(last, |event| event.sequence);
        seen.events.insert(site.to_string(), last);
        let truth = island.truth();
        seen.seconds += 1;
        seen.note_runs(&truth, WallClock.now());
        seen.witness.second(site, &truth, &events);
    }
}

impl Seen {
    fn note_runs(&mut self, truth: &Truth, now: Time) {
        let holds = |phase| matches!(phase, RunPhase::Starting | RunPhase::Running | RunPhase::Stopping);
        for (module, state) in &truth.modules {
            for ((workload, incarnation), run) in &state.runs {
                if holds(run.report.phase) && self.runs.len() < MAX_RUNS {
                    let key = (workload.to_string(), *incarnation, module.clone());
                    self.runs.entry(key).or_insert((now, now)).1 = now;
                }
            }
        }
    }

    fn settle(&mut self, world: &World, sealed: bool) {
        let books = world.pool.books();
        let mut refused = books.refused.clone();
        self.accepted = books.workers.values().map(|account| account.accepted).sum();
        for (module, proxy) in &self.proxies {
            let own = books.workers.get(&account(module)).copied().unwrap_or_default();
            // The pool counts refusals by reason, not by account: they are told once.
            let refused = std::mem::take(&mut refused);
            let of = |reason| refused.get(&reason).copied().unwrap_or(0);
            let pool = PoolTally {
                accepted: Tally { shares: own.accepted, work: own.work },
                duplicate: of(Refusal::Duplicate),
                low_difficulty: of(Refusal::LowDifficulty),
                malformed: of(Refusal::Malformed),
            };
            let edge = EdgeTally { sealed, ..edge_tally(&proxy.stats()) };
            self.witness.shares(module, world.clock.now(), edge, pool);
        }
    }
}

/// A proxy's books as the witness reads them; `sealed` is whether the ledger has all of it.
pub fn edge_tally(stats: &proxy::Stats) -> EdgeTally {
    let of = |wanted: fn(&End) -> bool| {
        stats.ends.iter().filter(|(end, _)| wanted(end)).fold(Tally::default(), |sum, (_, tally)| Tally {
            shares: sum.shares + tally.shares,
            work: sum.work + tally.work,
        })
    };
    EdgeTally {
        received: stats.received,
        rejected: of(|end| matches!(end, End::RejectedLocally(_))),
        counted: of(|end| matches!(end, End::CountedBelowUpstream)),
        keep_alive: of(|end| matches!(end, End::CountedKeepAlive)),
        accepted: of(|end| matches!(end, End::ForwardedAccepted)),
        refused: of(|end| matches!(end, End::ForwardedRejected(_))),
        unknown: of(|end| matches!(end, End::Unknown)),
        in_flight: stats.in_flight,
        sealed: true,
    }
}
