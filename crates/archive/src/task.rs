//! The task of a controller that archives: passes over its own ledger, and, while it leads, the merging of hours that are over.
//!
//! Idempotent steps on a period; an error is told, and tried again later and later. Nothing waits for this task, least of all an
//! acknowledgement. Read next: `pass.rs`, `merge.rs`; decision 0017.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use model::time::Clock;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::merge::{self, MAX_ROWS};
use crate::name::Partition;
use crate::pass::{self, Passed, Source};
use crate::place::Place;
use crate::progress::{Lag, Progress, Step};
use crate::state::{Found, State};

/// How often something is archived, and how often hours are looked for that are over: 12 files an hour, module and table.
const PERIOD: Duration = Duration::from_secs(300);
/// So many segments do not wait for the period: 1,000 modules seal them in a minute.
const MANY: u64 = 2_000;
/// How often it is looked whether one of both is due, and whether this controller leads.
const LOOK: Duration = Duration::from_secs(10);
/// After an error; each time in a row twice as long, up to the period.
const FIRST_RETRY: Duration = Duration::from_secs(10);
/// An hour that is too large, or has a file that does not read, is left alone for so long: all of it is read to find that out.
const LEFT_ALONE: Duration = Duration::from_secs(6 * 3_600);

/// What it needs.
pub struct Options {
    /// Where to.
    pub place: Place,
    /// Where from.
    pub source: Source,
    /// The time that lines are dated in: says which hours are over.
    pub clock: Arc<dyn Clock>,
    /// Whether this controller leads.
    pub leads: Arc<dyn Fn() -> bool + Send + Sync>,
    /// Is told how far it is, every 10 s.
    pub progress: watch::Sender<Progress>,
}

/// Where it is told what becomes of a step.
struct Told {
    place: Place,
    clock: Arc<dyn Clock>,
    progress: watch::Sender<Progress>,
}

/// When something is done next.
#[derive(Clone, Copy, Debug)]
struct Timer {
    next: Instant,
    failures: u32,
}

impl Timer {
    fn new() -> Self {
        Self { next: Instant::now(), failures: 0 }
    }

    fn is_due(&self) -> bool {
        Instant::now() >= self.next
    }

    fn done(&mut self) {
        *self = Self { next: Instant::now() + PERIOD, failures: 0 };
    }

    /// When it is tried again.
    fn failed(&mut self) -> Duration {
        let pause = FIRST_RETRY.saturating_mul(1 << self.failures.min(8)).min(PERIOD);
        *self = Self { next: Instant::now() + pause, failures: self.failures.saturating_add(1) };
        pause
    }
}

/// Runs until cancelled. What was cut off is done again by the next start.
pub async fn run(options: Options, cancel: CancellationToken) {
    tokio::select! {
        () = cancel.cancelled() => {}
        () = archive(options) => {}
    }
}

async fn archive(options: Options) {
    let Options { place, source, clock, leads, progress } = options;
    let told = Told { place: place.clone(), clock: clock.clone(), progress };
    let mut state = load(&source, &place).await;
    let (mut passes, mut merges) = (Timer::new(), Timer::new());
    // Not while a place fails, nor where a segment that cannot be read would be tried, and told, every 10 s.
    let mut eager = false;
    let mut alone = BTreeMap::new();
    loop {
        let waiting = lag(&source, &state).await;
        let many = waiting.segments >= MANY;
        // Before the pass too, which may take long, or fail: what is told then is told together with what waits.
        told.progress.send_modify(|progress| progress.lag = waiting);
        if passes.is_due() || (eager && many) {
            let passed = told.step(Step::Pass, &mut passes, pass_once(&place, &source, &mut state)).await;
            eager = passed.is_some_and(|passed| passed.held_up == 0);
            told.passed(passed, lag(&source, &state).await);
        }
        // After a pass that went well: a place that has just come back is empty, and would not be looked at again for a period.
        if leads() && passes.failures == 0 && merges.is_due() {
            told.step(Step::Merge, &mut merges, merge_once(&place, clock.as_ref(), &mut alone)).await;
        }
        sleep(LOOK).await;
    }
}

impl Told {
    /// Does one of both, and says when it is due again.
    async fn step<T, E: std::error::Error + 'static>(
        &self,
        step: Step,
        timer: &mut Timer,
        work: impl Future<Output = Result<T, E>>,
    ) -> Option<T> {
        match work.await {
            Ok(done) => {
                timer.done();
                self.progress.send_modify(|progress| progress.worked(step));
                Some(done)
            }
            Err(error) => {
                let again = timer.failed().as_secs();
                let now = self.clock.now();
                self.progress.send_modify(|progress| progress.failed(step, now, &error));
                let (place, error) = (self.place.url(), &error as &dyn std::error::Error);
                tracing::warn!(
                    place,
                    error,
                    again_in_seconds = again,
                    "the ledger is not archived, trying again"
                );
                None
            }
        }
    }

    /// What a pass left, and when it went through, if it did.
    fn passed(&self, passed: Option<Passed>, lag: Lag) {
        let now = self.clock.now();
        self.progress.send_modify(|progress| {
            progress.lag = lag;
            if let Some(passed) = passed {
                progress.passed = Some(now);
                progress.held_up = passed.held_up;
            }
        });
    }
}

async fn pass_once(place: &Place, source: &Source, state: &mut State) -> Result<Passed, pass::Error> {
    let passed = pass::pass(place, source, state).await?;
    if passed.segments > 0 {
        let (segments, files) = (passed.segments, passed.files);
        tracing::info!(segments, files, held_up = passed.held_up, place = place.url(), "ledger archived");
    }
    Ok(passed)
}

/// Merges every hour that is due. One that cannot be merged is told and left alone; a place that fails ends the turn.
async fn merge_once(
    place: &Place,
    clock: &dyn Clock,
    alone: &mut BTreeMap<Partition, Instant>,
) -> Result<(), merge::Error> {
    alone.retain(|_, until| *until > Instant::now());
    for partition in merge::due(place, clock.now()).await? {
        if alone.contains_key(&partition) {
            continue;
        }
        match hour(place, &partition).await {
            Ok(()) => {}
            Err(error @ merge::Error::Place(_)) => return Err(error),
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "an archived hour cannot be merged"
                );
                alone.insert(partition, Instant::now() + LEFT_ALONE);
            }
        }
    }
    Ok(())
}

async fn hour(place: &Place, partition: &Partition) -> Result<(), merge::Error> {
    let merged = merge::merge(place, partition, MAX_ROWS).await?;
    merge::clear(place, &merged).await?;
    let Some(path) = &merged.path else { return Ok(()) };
    let (files, doubles) = (merged.gone.len(), merged.dropped.doubles);
    tracing::info!(path, rows = merged.rows, files, doubles, "archived hour merged");
    if merged.dropped.conflicts > 0 {
        let conflicts = merged.dropped.conflicts;
        tracing::error!(
            path,
            conflicts,
            "two controllers hold different content under one segment's number; one was kept"
        );
    }
    Ok(())
}

/// A state that cannot be read is no reason not to archive: it starts over, and rows have keys.
async fn load(source: &Source, place: &Place) -> State {
    let (path, url) = (source.state.clone(), place.url().to_owned());
    let loaded = spawn_blocking(move || State::load(&path, &url)).await;
    let place = place.url();
    match loaded {
        Ok(Ok((state, Found::Same))) => {
            tracing::info!(place, modules = state.archived.len(), "the archive goes on");
            state
        }
        Ok(Ok((state, Found::None))) => {
            tracing::info!(place, "the archive begins with the first segment");
            state
        }
        Ok(Ok((state, found))) => {
            tracing::warn!(
                place,
                ?found,
                "the archive's state does not fit, all segments are archived again"
            );
            state
        }
        Ok(Err(error)) => start_over(place, &error),
        Err(error) => start_over(place, &error),
    }
}

fn start_over(place: &str, error: &(dyn std::error::Error + 'static)) -> State {
    tracing::warn!(place, error, "the archive's state cannot be read, all segments are archived again");
    State::new(place)
}

async fn lag(source: &Source, state: &State) -> Lag {
    let (ledger, state) = (source.ledger.clone(), state.clone());
    spawn_blocking(move || pass::lag(ledger.as_ref(), &state)).await.unwrap_or_default()
}

#[cfg(test)]
mod tests;
