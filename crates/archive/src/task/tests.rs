//! The task on paused time: what is due when, what an error changes, who merges.

#![allow(clippy::unwrap_used)]

use std::sync::atomic::{AtomicBool, Ordering};

use model::Time;
use model::time::Sleep;

use super::*;
use crate::testing::{InMemory, TestDir, segments, sums_in, sums_of};

struct Noon;

impl Clock for Noon {
    fn now(&self) -> Time {
        Time(0) + model::Span::hours(12)
    }

    fn sleep_until(&self, _: Time) -> Sleep {
        Box::pin(std::future::ready(()))
    }
}

/// A task that runs, and what it works on.
struct Bench {
    ledger: Arc<InMemory>,
    place: Place,
    leads: Arc<AtomicBool>,
    progress: watch::Receiver<Progress>,
    cancel: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Bench {
    fn start(dir: &TestDir, place: Place) -> Self {
        let (ledger, leads) = (Arc::new(InMemory::default()), Arc::new(AtomicBool::new(false)));
        let cancel = CancellationToken::new();
        let asked = leads.clone();
        let (tell, progress) = watch::channel(Progress::default());
        let options = Options {
            place: place.clone(),
            source: Source { ledger: ledger.clone(), state: dir.path().join("archive.json") },
            clock: Arc::new(Noon),
            leads: Arc::new(move || asked.load(Ordering::Relaxed)),
            progress: tell,
        };
        let task = tokio::spawn(run(options, cancel.clone()));
        Self { ledger, place, leads, progress, cancel, task }
    }

    /// How many segments wait, how far the module furthest behind is archived, and what fails.
    fn told(&self) -> (u64, Option<u64>, Option<String>) {
        let progress = self.progress.borrow();
        let why = progress.last_failure().map(|failure| failure.why.clone());
        (progress.lag.segments, progress.lag.behind.as_ref().map(|behind| behind.archived), why)
    }

    async fn files(&self) -> (usize, usize) {
        let count = |stage: &'static str| async move { self.place.list(stage).await.unwrap().len() };
        (count("fresh").await, count("hour").await)
    }

    async fn stop(self) {
        self.cancel.cancel();
        self.task.await.unwrap();
    }
}

/// Real threads work while the clock is paused: it only goes on when all of them are done, so a step of it never cuts them off.
async fn after(seconds: u64) {
    sleep(Duration::from_secs(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn it_archives_every_five_minutes_or_when_much_waits_and_merges_while_it_leads() {
    let dir = TestDir::new("task");
    let bench = Bench::start(&dir, Place::in_memory());
    after(1).await;
    let first = segments("m1", 1, 3, Time(0));
    first.iter().cloned().for_each(|segment| bench.ledger.add(segment));
    after(200).await;
    assert_eq!(bench.files().await, (0, 0), "the period is not over");
    assert_eq!(bench.told(), (3, Some(0), None));
    after(120).await;
    assert_eq!(bench.files().await, (6, 0), "nobody merges on a standby");
    assert_eq!((bench.told(), bench.progress.borrow().passed), ((0, None, None), Some(Noon.now())));
    bench.leads.store(true, Ordering::Relaxed);
    after(2 * LOOK.as_secs()).await;
    assert_eq!(bench.files().await, (0, 6));
    let many = segments("m2", 1, MANY, Time(0));
    many.iter().cloned().for_each(|segment| bench.ledger.add(segment));
    after(2 * LOOK.as_secs()).await;
    assert!(bench.files().await.0 > 0, "so many do not wait for the period");
    after(PERIOD.as_secs() + LOOK.as_secs()).await;
    assert_eq!(sums_in(&bench.place).await, sums_of(first.iter().chain(&many)));
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_place_that_comes_back_gets_what_waited() {
    let (dir, folder) = (TestDir::new("task-back"), TestDir::new("task-back-place"));
    let path = folder.path().join("a");
    let place = Place::open(&format!("file://{}", path.display())).unwrap();
    std::fs::remove_dir(&path).unwrap();
    std::fs::write(&path, "no folder").unwrap();
    let bench = Bench::start(&dir, place);
    let all = segments("m1", 1, 3, Time(0));
    all.iter().cloned().for_each(|segment| bench.ledger.add(segment));
    after(1_000).await;
    assert!(!dir.path().join("archive.json").exists(), "nothing counts as archived");
    let (waiting, behind, why) = bench.told();
    assert_eq!((waiting, behind, bench.progress.borrow().passed), (3, Some(0), None));
    assert!(why.is_some_and(|why| why.contains(&path.display().to_string())));
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    after(PERIOD.as_secs() + LOOK.as_secs()).await;
    assert_eq!(sums_in(&bench.place).await, sums_of(&all));
    assert_eq!(bench.told(), (0, None, None));
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_error_is_tried_again_later_and_later() {
    let mut timer = Timer::new();
    assert!(timer.is_due());
    let pauses: Vec<u64> = (0..8).map(|_| timer.failed().as_secs()).collect();
    assert_eq!(pauses, [10, 20, 40, 80, 160, 300, 300, 300]);
    assert!(!timer.is_due());
    after(300).await;
    assert!(timer.is_due());
    timer.done();
    assert_eq!(timer.failed().as_secs(), 10, "a success starts over");
}

#[tokio::test(start_paused = true)]
async fn what_is_archived_to_another_place_starts_over() {
    let dir = TestDir::new("task-other");
    let source = Source { ledger: Arc::new(InMemory::default()), state: dir.path().join("archive.json") };
    let mut state = State::new("file:///elsewhere");
    state.archived.insert(crate::testing::module("m1"), 7);
    state.save(&source.state).unwrap();
    let place = Place::in_memory();
    assert_eq!(load(&source, &place).await, State::new(place.url()));
    std::fs::write(&source.state, "{").unwrap();
    assert_eq!(load(&source, &place).await, State::new(place.url()));
    std::fs::remove_file(&source.state).unwrap();
    std::fs::create_dir(&source.state).unwrap();
    assert_eq!(load(&source, &place).await, State::new(place.url()));
}
