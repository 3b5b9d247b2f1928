//! Merging in memory: cut off at every step, late segments, two who merge at once, and any order of all that.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::Arc;

use model::ModuleId;
use model::ledger::Segment;
use proptest::prelude::*;

use super::*;
use crate::lines;
use crate::pass::{Source, pass};
use crate::state::State;
use crate::testing::{InMemory, TestDir, segments, sums_in, sums_of};

/// Puts segments as one stretch, as a pass does.
async fn archive(place: &Place, stretch: &[Segment]) {
    let (first, last) = (stretch.first().unwrap(), stretch.last().unwrap());
    for (partition, rows) in lines::rows(stretch) {
        let path = partition.fresh(&first.module, first.sequence, last.sequence);
        place.put(&path, file::encode(&rows).unwrap().into()).await.unwrap();
    }
}

async fn merge_all(place: &Place, now: Time) -> usize {
    let due = due(place, now).await.unwrap();
    for partition in &due {
        let merged = merge(place, partition, MAX_ROWS).await.unwrap();
        clear(place, &merged).await.unwrap();
    }
    due.len()
}

fn later() -> Time {
    Time(0) + Span::hours(2)
}

#[tokio::test]
async fn an_hour_is_due_when_it_is_over_and_not_before() {
    let place = Place::in_memory();
    archive(&place, &segments("m1", 1, 1, Time(0) + Span::hours(1))).await;
    let check = |minutes: i64, expected: usize| {
        let place = place.clone();
        async move {
            let now = Time(0) + Span::hours(1) + Span::minutes(minutes);
            assert_eq!(due(&place, now).await.unwrap().len(), expected, "{minutes}");
        }
    };
    check(0, 0).await;
    check(69, 0).await;
    check(70, 6).await;
    check(10_000, 6).await;
}

#[tokio::test]
async fn an_hour_becomes_one_file_for_each_table() {
    let place = Place::in_memory();
    let all = [segments("m2", 1, 4, Time(0)), segments("m1", 1, 4, Time(0))].concat();
    for stretch in all.chunks(2) {
        archive(&place, stretch).await;
    }
    assert_eq!(place.list("fresh").await.unwrap().len(), 24);
    assert_eq!(merge_all(&place, later()).await, 6);
    assert_eq!(place.list("fresh").await.unwrap(), Vec::<String>::new());
    let files = place.list("hour").await.unwrap();
    assert_eq!(files.len(), 6, "{files:?}");
    assert_eq!(sums_in(&place).await, sums_of(&all));
    for path in &files {
        let table =
            Table::ALL.into_iter().find(|table| path.contains(&format!("/{}/", table.name()))).unwrap();
        let rows = file::decode(table, place.get(path).await.unwrap().unwrap()).unwrap();
        assert_eq!(rows.sorted(), (rows.clone(), Dropped::default()), "{path} is sorted, each key once");
    }
    assert_eq!(merge_all(&place, later()).await, 0, "nothing is left to do");
}

#[tokio::test]
async fn late_segments_join_their_hour() {
    let place = Place::in_memory();
    let mut all = segments("m1", 1, 4, Time(0));
    archive(&place, &all).await;
    merge_all(&place, later()).await;
    for late in [segments("m2", 1, 2, Time(0)), segments("m1", 5, 2, Time(120_000))] {
        archive(&place, &late).await;
        all.extend(late);
        assert_eq!(sums_in(&place).await, sums_of(&all), "before it is merged again");
        assert_eq!(merge_all(&place, later()).await, 6);
        assert_eq!(place.list("").await.unwrap().len(), 6);
        assert_eq!(sums_in(&place).await, sums_of(&all));
    }
}

#[tokio::test]
async fn a_kill_between_put_and_delete_doubles_nothing_by_key() {
    let place = Place::in_memory();
    let all = segments("m1", 1, 4, Time(0));
    archive(&place, &all[..2]).await;
    archive(&place, &all[2..]).await;
    for partition in due(&place, later()).await.unwrap() {
        merge(&place, &partition, MAX_ROWS).await.unwrap();
    }
    assert_eq!(place.list("").await.unwrap().len(), 12 + 6, "all is there twice");
    assert_eq!(sums_in(&place).await, sums_of(&all));
    let hours = place.list("hour").await.unwrap();
    assert_eq!(merge_all(&place, later()).await, 6, "the next start finishes it");
    assert_eq!(place.list("").await.unwrap(), hours, "under the same names");
    assert_eq!(sums_in(&place).await, sums_of(&all));
}

#[tokio::test]
async fn a_kill_among_the_deletes_leaves_a_reason_to_merge_again() {
    let place = Place::in_memory();
    let all = segments("m1", 1, 6, Time(0));
    archive(&place, &all[..3]).await;
    merge_all(&place, later()).await;
    archive(&place, &all[3..]).await;
    let partition = due(&place, later()).await.unwrap()[0];
    let merged = merge(&place, &partition, MAX_ROWS).await.unwrap();
    assert!(merged.gone[0].starts_with("hour/") && merged.gone[1].starts_with("fresh/"), "{:?}", merged.gone);
    place.delete(&merged.gone[..1]).await.unwrap();
    assert_eq!(sums_in(&place).await, sums_of(&all));
    assert_eq!(merge_all(&place, later()).await, 6);
    assert_eq!(place.list("").await.unwrap().len(), 6);
}

#[tokio::test]
async fn who_lost_the_office_and_wakes_up_late_loses_nothing() {
    let place = Place::in_memory();
    let all = segments("m1", 1, 6, Time(0));
    archive(&place, &all[..3]).await;
    let mut paused = Vec::new();
    for partition in due(&place, later()).await.unwrap() {
        let merged = merge(&place, &partition, MAX_ROWS).await.unwrap();
        let bytes = place.get(merged.path.as_ref().unwrap()).await.unwrap().unwrap();
        paused.push((merged, bytes));
    }
    // Somebody else leads, merges what came since, and deletes what the paused one wrote.
    archive(&place, &all[3..]).await;
    merge_all(&place, later()).await;
    assert_eq!(place.list("").await.unwrap().len(), 6);
    // The paused one goes on with its write, and then with its deletes.
    for (merged, bytes) in paused {
        place.put(merged.path.as_ref().unwrap(), bytes).await.unwrap();
        assert_eq!(sums_in(&place).await, sums_of(&all));
        clear(&place, &merged).await.unwrap();
        assert_eq!(sums_in(&place).await, sums_of(&all));
    }
}

#[tokio::test]
async fn an_hour_that_is_too_large_or_damaged_stays_as_it_is() {
    let place = Place::in_memory();
    let all = segments("m1", 1, 2, Time(0));
    archive(&place, &all).await;
    let files = place.list("").await.unwrap();
    let partition = Partition::of(Table::Energy, Time(0));
    let error = merge(&place, &partition, 11).await.unwrap_err();
    assert!(error.to_string().contains("more than 11 rows"), "{error}");
    place
        .put(&format!("{}/x.parquet", partition.folder(Stage::Fresh)), Bytes::from_static(b"PAR1"))
        .await
        .unwrap();
    let error = merge(&place, &partition, 12).await.unwrap_err();
    assert!(error.to_string().contains("/x.parquet cannot be merged"), "{error}");
    // What others lay there is no business of ours.
    place.delete(&[format!("{}/x.parquet", partition.folder(Stage::Fresh))]).await.unwrap();
    place.put(&format!("{}/_SUCCESS", partition.folder(Stage::Fresh)), Bytes::new()).await.unwrap();
    assert_eq!(place.list("").await.unwrap().len(), files.len() + 1);
    assert_eq!(merge(&place, &partition, 12).await.unwrap().rows, 12);
}

/// One step of a history.
#[derive(Clone, Debug)]
enum Step {
    /// One more segment is in one ledger, or in both: the acknowledgement was lost, and the agent sent it to the next leader.
    Seal(bool, bool),
    /// A controller archives; told to forget its state first.
    Pass(usize, bool),
    /// A controller begins to merge the n-th hour that is due.
    Merge(usize, usize),
    /// It deletes what it merged, however long ago.
    Clear(usize),
    /// A write of it that nobody expected any more arrives.
    Arrive(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (any::<bool>(), any::<bool>()).prop_map(|(a, b)| Step::Seal(a, b)),
        3 => (0usize..2, proptest::bool::weighted(0.2)).prop_map(|(who, forget)| Step::Pass(who, forget)),
        4 => (0usize..2, 0usize..12).prop_map(|(who, which)| Step::Merge(who, which)),
        3 => (0usize..2).prop_map(Step::Clear),
        1 => (0usize..2).prop_map(Step::Arrive),
    ]
}

/// Two controllers and one place.
struct World {
    place: Place,
    dir: TestDir,
    ledgers: [Arc<InMemory>; 2],
    states: [State; 2],
    merged: [Option<(Merged, Bytes)>; 2],
    sealed: u64,
    archived: BTreeMap<(ModuleId, u64), Segment>,
}

impl World {
    fn new() -> Self {
        let place = Place::in_memory();
        let state = State::new(place.url());
        Self {
            dir: TestDir::new("merge-history"),
            ledgers: Default::default(),
            states: [state.clone(), state],
            merged: [None, None],
            sealed: 0,
            archived: BTreeMap::new(),
            place,
        }
    }

    async fn apply(&mut self, step: Step) {
        match step {
            Step::Seal(second, both) => {
                self.sealed += 1;
                // 25 minutes apart: some three to an hour.
                let from = Time(0) + Span::minutes(25).times(i64::try_from(self.sealed).unwrap());
                let segment = segments("m1", self.sealed, 1, from).remove(0);
                for who in [usize::from(second), usize::from(second != both)] {
                    self.ledgers[who].add(segment.clone());
                }
            }
            Step::Pass(who, forget) => {
                if forget {
                    self.states[who] = State::new(self.place.url());
                }
                let state = self.dir.path().join(format!("{who}.json"));
                let source = Source { ledger: self.ledgers[who].clone(), state };
                pass(&self.place, &source, &mut self.states[who]).await.unwrap();
            }
            Step::Merge(who, which) => {
                let due = due(&self.place, Time(0) + Span::hours(1_000)).await.unwrap();
                let Some(partition) = due.get(which) else { return };
                let merged = merge(&self.place, partition, MAX_ROWS).await.unwrap();
                let Some(path) = &merged.path else { return };
                let bytes = self.place.get(path).await.unwrap().unwrap();
                self.merged[who] = Some((merged, bytes));
            }
            Step::Clear(who) => {
                if let Some((merged, _)) = &self.merged[who] {
                    clear(&self.place, merged).await.unwrap();
                }
            }
            Step::Arrive(who) => {
                if let Some((Merged { path: Some(path), .. }, bytes)) = &self.merged[who] {
                    self.place.put(path, bytes.clone()).await.unwrap();
                }
            }
        }
    }

    /// Remembers all segments that a controller says are archived, for ever.
    fn remember(&mut self) {
        for (ledger, state) in self.ledgers.iter().zip(&self.states) {
            for ((module, sequence), segment) in ledger.0.lock().unwrap().iter() {
                if *sequence <= state.archived.get(module).copied().unwrap_or(0) {
                    self.archived.insert((module.clone(), *sequence), segment.clone());
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_lost_and_nothing_doubled_in_any_order(steps in proptest::collection::vec(step(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut world = World::new();
            for step in steps {
                world.apply(step).await;
                world.remember();
                assert_eq!(sums_in(&world.place).await, sums_of(world.archived.values()));
            }
        });
    }
}
