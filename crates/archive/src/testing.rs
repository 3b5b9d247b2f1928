//! What the tests of this crate share: segments with every kind of line, a ledger in memory, a directory of their own.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use model::ledger::{Energy, Gap, Gas, Import, Line, Run, Segment, ShareEnd, Shares, Use};
use model::site::GasVolume;
use model::workload::GpuTime;
use model::{
    MicroDollars, MinerGroupId, ModuleId, PoolId, SiteId, Span, TenantId, Time, WattSeconds, Work, WorkloadId,
};

use crate::ledger::{Failed, Ledger};

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

/// A directory that goes when the test ends.
pub(crate) struct TestDir(PathBuf);

impl TestDir {
    pub(crate) fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("flareshift-archive-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TestDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub(crate) fn module(name: &str) -> ModuleId {
    ModuleId::new(name).unwrap()
}

/// A segment of 30 s.
pub(crate) fn segment(of: &str, sequence: u64, from: Time, lines: Vec<Line>) -> Segment {
    Segment { module: module(of), sequence, from, to: from + Span::secs(30), lines }
}

/// One after the other, 30 s each, every kind of line in each.
pub(crate) fn segments(of: &str, first: u64, count: u64, from: Time) -> Vec<Segment> {
    let at = |step: u64| from + Span::secs(30 * i64::try_from(step).unwrap());
    (0..count).map(|step| segment(of, first + step, at(step), lines_of_every_kind(at(step)))).collect()
}

/// Every kind of line, use and end; 30 s from `from`.
pub(crate) fn lines_of_every_kind(from: Time) -> Vec<Line> {
    let to = from + Span::secs(30);
    let (tenant, workload) = (TenantId::new("acme").unwrap(), WorkloadId::new("w1").unwrap());
    let site = SiteId::new("s1").unwrap();
    let uses = [
        (Use::Mining { group: MinerGroupId::new("g").unwrap() }, 500),
        (Use::Workload { tenant: tenant.clone(), workload: workload.clone() }, 300),
        (Use::Idle { pool: PoolId::new("p").unwrap() }, 125),
        (Use::Auxiliary, 60),
        (Use::Loss, 40),
    ];
    let uses = uses.map(|(used, energy)| (used, WattSeconds::new(energy))).into();
    let import = |energy, cost: Option<i64>| {
        let cost = cost.map(MicroDollars::new);
        Line::Import(Import { site: site.clone(), from, to, energy: WattSeconds::new(energy), cost })
    };
    let gap = |begin: Option<Time>, why: &str| Line::Gap(Gap { from: begin, to: from, why: why.into() });
    let gas = |volume| GasVolume::new(volume);
    let mut lines = vec![
        Line::Energy(Energy::attribute(from, to, WattSeconds::new(1_000), uses)),
        Line::Run(Run {
            tenant,
            workload,
            incarnation: 3,
            from,
            to,
            held: GpuTime::new(240_000),
            progress: GpuTime::new(200_000),
            price: MicroDollars::new(2_500_000),
        }),
        Line::Gas(Gas {
            site: site.clone(),
            from,
            to,
            supplied: gas(900),
            burnt: gas(800),
            flared: gas(100),
        }),
        import(77, Some(9)),
        import(78, None),
        gap(None, "began"),
        gap(Some(from - Span::new(600)), "killed"),
    ];
    lines.extend(share_lines());
    lines
}

fn share_lines() -> impl Iterator<Item = Line> {
    let ends = [
        (ShareEnd::Accepted, 3, 1 << 64, 20, 4),
        (ShareEnd::Rejected("stale".into()), 2, 0, 0, 1),
        (ShareEnd::Refused("duplicate".into()), 1, 5, 5, 1),
        (ShareEnd::Counted, 1, 5, 0, 1),
        (ShareEnd::KeepAlive, 1, 5, 0, 1),
        (ShareEnd::Unknown, 1, u128::from(u64::MAX), 5, 1),
    ];
    ends.into_iter().map(|(end, count, work, credited, scale)| {
        Line::Shares(Shares {
            group: MinerGroupId::new("g").unwrap(),
            worker: "acc.w".into(),
            end,
            count,
            work: Work(work),
            credited: Work(credited),
            scale,
        })
    })
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
#[cfg(feature = "parquet")]
pub(crate) async fn sums_in(place: &crate::place::Place) -> Sums {
    use crate::rows::{Cell, Rows};
    use crate::table::Table;
    let names: Vec<&'static str> = sums_of(&segments("m", 1, 1, Time(0))).into_keys().collect();
    let mut sums = Sums::new();
    for table in Table::ALL {
        let mut all = Rows::new(table);
        for stage in ["fresh", "hour"] {
            for path in place.list(&format!("{stage}/{}", table.name())).await.unwrap() {
                let bytes = place.get(&path).await.unwrap().unwrap();
                all.append(&crate::file::decode(table, bytes).unwrap());
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
