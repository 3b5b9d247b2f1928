//! What the tests of the feature `parquet` share: a ledger in memory, and sums over segments and over what is archived of them.

use std::collections::BTreeMap;
use std::sync::Mutex;

use model::ledger::{Line, Segment};
use model::{ModuleId, Span, Time};

use super::{lines_of_every_kind, segment};
use crate::file;
use crate::ledger::{Failed, Ledger};
use crate::place::Place;
use crate::rows::{Cell, Rows};
use crate::table::Table;

/// A ledger in memory.
#[derive(Default)]
pub(crate) struct InMemory(pub(crate) Mutex<BTreeMap<(ModuleId, u64), Segment>>);

impl InMemory {
    pub(crate) fn of(segments: impl IntoIterator<Item = Segment>) -> Self {
        let ledger = Self::default();
        segments.into_iter().for_each(|segment| ledger.add(segment));
        ledger
    }

    pub(crate) fn add(&self, segment: Segment) {
        self.0.lock().unwrap().insert((segment.module.clone(), segment.sequence), segment);
    }
}

impl Ledger for InMemory {
    fn kept(&self) -> BTreeMap<ModuleId, u64> {
        self.0.lock().unwrap().keys().cloned().collect()
    }

    fn stretch(&self, module: &ModuleId, after: u64, limit: u64) -> Result<Option<(u64, u64)>, Failed> {
        let held = self.0.lock().unwrap();
        let mut later = held.keys().filter(|(of, sequence)| of == module && *sequence > after);
        let Some((_, first)) = later.next() else { return Ok(None) };
        let last =
            (*first..).take_while(|at| held.contains_key(&(module.clone(), *at)) && at - first < limit);
        Ok(last.last().map(|last| (*first, last)))
    }

    fn read(&self, module: &ModuleId, sequence: u64) -> Result<Segment, Failed> {
        let held = self.0.lock().unwrap();
        held.get(&(module.clone(), sequence)).cloned().ok_or_else(|| "no such segment".into())
    }
}

/// One after the other, 30 s each, every kind of line in each.
pub(crate) fn segments(of: &str, first: u64, count: u64, from: Time) -> Vec<Segment> {
    let at = |step: u64| from + Span::secs(30 * i64::try_from(step).unwrap());
    (0..count).map(|step| segment(of, first + step, at(step), lines_of_every_kind(at(step)))).collect()
}

/// What lines add up to, by table and column; counted from the lines themselves, not from their rows.
pub(crate) type Sums = BTreeMap<&'static str, i128>;

pub(crate) fn sums_of<'a>(segments: impl IntoIterator<Item = &'a Segment>) -> Sums {
    let mut sums = Sums::new();
    let mut add = |name, amount: i128| *sums.entry(name).or_default() += amount;
    for line in segments.into_iter().flat_map(|segment| &segment.lines) {
        match line {
            Line::Energy(energy) => {
                add("energy.energy_ws", energy.total().get().into());
                add("energy.meter_ws", energy.meter.get().into());
            }
            Line::Shares(shares) => {
                add("shares.shares", shares.count.into());
                add("shares.work_hashes", i128::try_from(shares.work.0).unwrap());
                add("shares.credited_hashes", i128::try_from(shares.credited.0).unwrap());
            }
            Line::Run(run) => {
                add("run.held_gpu_ms", run.held.get().into());
                add("run.progress_gpu_ms", run.progress.get().into());
                add("run.cost_microdollars", run.held.cost(run.price).get().into());
            }
            Line::Gas(gas) => {
                add("gas.supplied_scf", gas.supplied.get().into());
                add("gas.burnt_scf", gas.burnt.get().into());
                add("gas.flared_scf", gas.flared.get().into());
            }
            Line::Import(import) => {
                add("import.energy_ws", import.energy.get().into());
                add("import.cost_microdollars", import.cost.map_or(0, |cost| cost.get().into()));
            }
            Line::Gap(gap) => add("gap.to_utc", gap.to.millis().into()),
        }
    }
    sums
}

/// What a reader finds in a place: the union of both prefixes, doubles dropped by key.
pub(crate) async fn sums_in(place: &Place) -> Sums {
    let names: Vec<&'static str> = sums_of(&segments("m", 1, 1, Time(0))).into_keys().collect();
    let mut sums = Sums::new();
    for table in Table::ALL {
        let mut all = Rows::new(table);
        for stage in ["fresh", "hour"] {
            for path in place.list(&format!("{stage}/{}", table.name())).await.unwrap() {
                let bytes = place.get(&path).await.unwrap().unwrap();
                all.append(&file::decode(table, bytes).unwrap());
            }
        }
        let (rows, dropped) = all.sorted();
        assert_eq!(dropped.conflicts, 0);
        for (at, column) in table.columns().iter().enumerate() {
            let full = format!("{}.{}", table.name(), column.name);
            let Some(name) = names.iter().find(|name| **name == full) else { continue };
            for row in 0..rows.len() {
                *sums.entry(*name).or_default() += match rows.cell(row, at) {
                    Cell::Integer(value) => value.into(),
                    Cell::Wide(value) => i128::try_from(value).unwrap(),
                    Cell::Null => 0,
                    Cell::Text(text) => panic!("{full} is no number: {text}"),
                };
            }
        }
    }
    sums
}
