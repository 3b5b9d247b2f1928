//! Passes over ledgers in memory, into a place in memory.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use model::{Span, Time};

use super::*;
use crate::testing::{InMemory, TestDir, module, segments, sums_in, sums_of};

struct Bench {
    dir: TestDir,
    place: Place,
    ledger: Arc<InMemory>,
    state: State,
}

impl Bench {
    fn new(name: &str, of: impl IntoIterator<Item = Segment>) -> Self {
        let place = Place::in_memory();
        let state = State::new(place.url());
        Self { dir: TestDir::new(name), place, ledger: Arc::new(InMemory::of(of)), state }
    }

    fn source(&self) -> Source {
        Source { ledger: self.ledger.clone(), state: self.dir.path().join("archive.json") }
    }

    async fn pass(&mut self) -> Result<Passed, Error> {
        pass(&self.place, &self.source(), &mut self.state).await
    }

    async fn files(&self) -> Vec<String> {
        self.place.list("").await.unwrap()
    }
}

fn passed(segments: u64, files: u64) -> Passed {
    Passed { segments, files, held_up: 0 }
}

#[tokio::test]
async fn what_is_archived_adds_up_to_the_ledger_and_a_repeat_changes_nothing() {
    let all = [segments("m1", 1, 3, Time(0)), segments("m2", 1, 2, Time(0) + Span::minutes(59))].concat();
    let mut bench = Bench::new("pass-sums", all.clone());
    // m2's second segment of 30 s still begins in the hour of the first.
    assert_eq!(bench.pass().await.unwrap(), passed(5, 12));
    assert_eq!(sums_in(&bench.place).await, sums_of(&all));
    let files = bench.files().await;
    assert_eq!(files[0], "fresh/energy/date=1970-01-01/hour=00/m1-000000000001-000000000003.parquet");
    assert_eq!(bench.pass().await.unwrap(), passed(0, 0));
    assert_eq!(bench.files().await, files);
    let (saved, found) = State::load(&bench.source().state, bench.place.url()).unwrap();
    assert_eq!((saved, found), (bench.state.clone(), state::Found::Same));
}

#[tokio::test]
async fn a_lost_state_writes_the_same_files_again() {
    let all = segments("m1", 1, 5, Time(0));
    let mut bench = Bench::new("pass-lost", all.clone());
    bench.pass().await.unwrap();
    let files = bench.files().await;
    bench.state = State::new(bench.place.url());
    assert_eq!(bench.pass().await.unwrap(), passed(5, 6));
    assert_eq!(bench.files().await, files);
    // One more segment since: other names, the same keys.
    let more = segments("m1", 6, 1, Time(150_000));
    bench.ledger.add(more[0].clone());
    bench.state = State::new(bench.place.url());
    assert_eq!(bench.pass().await.unwrap(), passed(6, 6));
    assert_eq!(bench.files().await.len(), 2 * files.len());
    assert_eq!(sums_in(&bench.place).await, sums_of(all.iter().chain(&more)));
}

#[tokio::test]
async fn long_stretches_are_cut_and_holes_are_not_bridged() {
    let first = segments("m1", 1, STRETCH + 10, Time(0));
    let second = segments("m1", STRETCH + 21, 5, Time(0) + Span::hours(5));
    let all = [first, second].concat();
    let mut bench = Bench::new("pass-long", all.clone());
    assert_eq!(bench.pass().await.unwrap().segments, STRETCH + 15);
    let names: std::collections::BTreeSet<String> =
        bench.files().await.iter().filter_map(|path| path.rsplit('/').next().map(str::to_owned)).collect();
    let expected = [(1, STRETCH), (STRETCH + 1, STRETCH + 10), (STRETCH + 21, STRETCH + 25)];
    let expected = expected.map(|(first, last)| format!("m1-{first:012}-{last:012}.parquet"));
    assert!(names.iter().eq(expected.iter()), "{names:?}");
    assert_eq!(sums_in(&bench.place).await, sums_of(&all));
}

/// A ledger with one segment that cannot be read.
struct Damaged(Arc<InMemory>, u64);

impl Ledger for Damaged {
    fn kept(&self) -> std::collections::BTreeMap<ModuleId, u64> {
        self.0.kept()
    }

    fn stretch(&self, module: &ModuleId, after: u64, limit: u64) -> Result<Option<(u64, u64)>, Failed> {
        self.0.stretch(module, after, limit)
    }

    fn read(&self, module: &ModuleId, sequence: u64) -> Result<Segment, Failed> {
        if module.as_str() == "m1" && sequence == self.1 {
            Err("damaged".into())
        } else {
            self.0.read(module, sequence)
        }
    }
}

#[tokio::test]
async fn a_segment_that_cannot_be_read_holds_up_its_module_alone() {
    let all = [segments("m1", 1, 5, Time(0)), segments("m2", 1, 2, Time(0))].concat();
    let mut bench = Bench::new("pass-damaged", all.clone());
    let source = Source { ledger: Arc::new(Damaged(bench.ledger.clone(), 4)), ..bench.source() };
    let check = |passed: Passed, segments, held_up| {
        assert_eq!((passed.segments, passed.held_up), (segments, held_up));
    };
    check(pass(&bench.place, &source, &mut bench.state).await.unwrap(), 5, 1);
    check(pass(&bench.place, &source, &mut bench.state).await.unwrap(), 0, 1);
    assert_eq!(bench.state.archived, [(module("m1"), 3), (module("m2"), 2)].into());
    // Restored from a copy, it goes on.
    check(bench.pass().await.unwrap(), 2, 0);
    assert_eq!(sums_in(&bench.place).await, sums_of(&all));
}

#[tokio::test]
async fn a_place_that_fails_keeps_what_was_done_before() {
    let all = [segments("m1", 1, 2, Time(0)), segments("m2", 1, 2, Time(0))].concat();
    let mut bench = Bench::new("pass-fails", all.clone());
    let folder = TestDir::new("pass-fails-place");
    let place = Place::open(&format!("file://{}/a", folder.path().display())).unwrap();
    bench.state = State::new(place.url());
    pass(&place, &bench.source(), &mut bench.state).await.unwrap();
    // A file stands where the folder of the next table should be made.
    std::fs::remove_dir_all(folder.path().join("a")).unwrap();
    std::fs::write(folder.path().join("a"), "no folder").unwrap();
    bench.ledger.add(segments("m1", 3, 1, Time(60_000)).remove(0));
    let before = bench.state.clone();
    let error = pass(&place, &bench.source(), &mut bench.state).await.unwrap_err();
    assert!(matches!(error, Error::Place(place::Error::Call { what: "write", .. })), "{error}");
    assert_eq!(bench.state, before, "what was not written is not archived");
    assert_eq!(lag(bench.ledger.as_ref(), &bench.state).segments, 1);
}
