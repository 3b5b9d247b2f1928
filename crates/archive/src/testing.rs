//! What the tests of this crate share: segments with every kind of line, a directory of their own.

#![allow(clippy::unwrap_used)]

#[cfg(feature = "parquet")]
mod archived;

use std::path::{Path, PathBuf};

use model::ledger::{Energy, Gap, Gas, Import, Line, Run, Segment, ShareEnd, Shares, Use};
use model::site::GasVolume;
use model::workload::GpuTime;
use model::{
    MicroDollars, MinerGroupId, ModuleId, PoolId, SiteId, Span, TenantId, Time, WattSeconds, Work, WorkloadId,
};

#[cfg(feature = "parquet")]
pub(crate) use archived::{InMemory, segments, sums_in, sums_of};

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
            by_progress: false,
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
