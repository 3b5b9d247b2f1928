//! Sums over the ledger: what each workload used, hour by hour, and how shares ended.
//!
//! Assumes that each segment is added once. An hour counts from the beginning of the line that falls into it: agents seal lines
//! of at most a few minutes. Pure. Read next: `tenant/usage.rs`.

use std::collections::BTreeMap;

use model::ledger::{Line, Run, Segment, ShareEnd, Use};
use model::workload::GpuTime;
use model::{MicroDollars, Span, TenantId, Time, WattSeconds, Work, WorkloadId};

/// Sums over all segments.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Totals {
    /// By tenant, workload and hour. One entry of 100 bytes for each hour a workload runs.
    pub used: BTreeMap<TenantId, BTreeMap<WorkloadId, BTreeMap<Time, Used>>>,
    /// Shares and their nominal work (work × scale), by end.
    pub shares: BTreeMap<ShareEnd, (u64, Work)>,
    /// Stretches that were not recorded.
    pub gaps: u64,
    /// The end of the latest line.
    pub to: Time,
}

/// What was used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Used {
    /// GPU time held, which is what is billed.
    pub held: GpuTime,
    /// GPU time of progress.
    pub progress: GpuTime,
    /// What is owed.
    pub cost: MicroDollars,
    /// By the meter.
    pub energy: WattSeconds,
}

impl Totals {
    /// Adds one segment.
    pub fn add(&mut self, segment: &Segment) {
        self.to = self.to.max(segment.to);
        for line in &segment.lines {
            match line {
                Line::Run(run) => self.add_run(run),
                Line::Energy(energy) => {
                    for (used, amount) in &energy.uses {
                        if let Use::Workload { tenant, workload } = used {
                            self.hour(tenant, workload, energy.from).energy += *amount;
                        }
                    }
                }
                Line::Shares(shares) => {
                    let entry = self.shares.entry(shares.end.clone()).or_default();
                    entry.0 = entry.0.saturating_add(shares.count);
                    entry.1 += shares.work.scaled(shares.scale);
                }
                Line::Gap(_) => self.gaps += 1,
                Line::Gas(_) | Line::Import(_) => {}
            }
        }
    }

    /// What each workload of a tenant used in the hours that begin in `from..to`.
    pub fn of(&self, tenant: &TenantId, from: Option<Time>, to: Option<Time>) -> BTreeMap<WorkloadId, Used> {
        let within = |at: &Time| {
            from.is_none_or(|from| *at >= from.floor_to(Span::hours(1))) && to.is_none_or(|to| *at < to)
        };
        let sum = |hours: &BTreeMap<Time, Used>| {
            hours.iter().filter(|(at, _)| within(at)).fold(Used::default(), |sum, (_, used)| sum.plus(used))
        };
        let workloads = self.used.get(tenant).into_iter().flatten();
        let sums = workloads.map(|(workload, hours)| (workload.clone(), sum(hours)));
        sums.filter(|(_, used)| *used != Used::default()).collect()
    }

    /// What one workload used so far.
    pub fn workload(&self, tenant: &TenantId, workload: &WorkloadId) -> Used {
        let hours = self.used.get(tenant).and_then(|workloads| workloads.get(workload));
        hours.into_iter().flatten().fold(Used::default(), |sum, (_, used)| sum.plus(used))
    }

    fn add_run(&mut self, run: &Run) {
        let hour = self.hour(&run.tenant, &run.workload, run.from);
        hour.held += run.held;
        hour.progress += run.progress;
        hour.cost += run.cost();
    }

    fn hour(&mut self, tenant: &TenantId, workload: &WorkloadId, at: Time) -> &mut Used {
        let workloads = self.used.entry(tenant.clone()).or_default();
        workloads.entry(workload.clone()).or_default().entry(at.floor_to(Span::hours(1))).or_default()
    }
}

impl Used {
    /// Both together.
    pub fn plus(self, other: &Used) -> Self {
        Self {
            held: self.held + other.held,
            progress: self.progress + other.progress,
            cost: self.cost + other.cost,
            energy: self.energy + other.energy,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use model::ledger::{Energy, Shares};
    use model::{MinerGroupId, ModuleId};

    use super::*;

    fn segment(lines: Vec<Line>) -> Segment {
        let module = ModuleId::new("m1").unwrap();
        Segment { module, sequence: 1, from: Time(0), to: Time(9), lines }
    }

    fn run(tenant: &str, hour: i64, minutes: i64) -> Line {
        let from = Time(0) + Span::hours(hour);
        Line::Run(Run {
            tenant: TenantId::new(tenant).unwrap(),
            workload: WorkloadId::new("w").unwrap(),
            incarnation: 1,
            from,
            to: from + Span::minutes(minutes),
            held: GpuTime::of(2, Span::minutes(minutes)),
            progress: GpuTime::of(2, Span::minutes(minutes - 1)),
            price: MicroDollars::dollars(3),
            by_progress: false,
        })
    }

    #[test]
    fn usage_is_by_tenant_and_hour_and_costs_what_was_held() {
        let mut totals = Totals::default();
        totals.add(&segment(vec![run("a", 0, 30), run("a", 1, 60), run("b", 1, 60)]));
        let a = TenantId::new("a").unwrap();
        let cost = |from: Option<i64>, to: Option<i64>| {
            let at = |hour: i64| Time(0) + Span::hours(hour);
            totals.of(&a, from.map(at), to.map(at)).values().map(|used| used.cost).sum::<MicroDollars>()
        };
        assert_eq!(cost(None, None), MicroDollars::dollars(9));
        assert_eq!(cost(Some(1), None), MicroDollars::dollars(6));
        assert_eq!(cost(None, Some(1)), MicroDollars::dollars(3));
        assert_eq!(cost(Some(2), None), MicroDollars::ZERO);
        assert_eq!(totals.workload(&a, &WorkloadId::new("w").unwrap()).cost, MicroDollars::dollars(9));
    }

    #[test]
    fn who_may_be_slowed_pays_for_progress() {
        let mut totals = Totals::default();
        let mut line = run("a", 0, 21);
        if let Line::Run(run) = &mut line {
            run.by_progress = true;
        }
        totals.add(&segment(vec![line]));
        let used = totals.workload(&TenantId::new("a").unwrap(), &WorkloadId::new("w").unwrap());
        assert_eq!(used.held, GpuTime::of(2, Span::minutes(21)));
        assert_eq!(
            used.cost,
            MicroDollars::dollars(2),
            "twenty minutes of progress on two GPUs at three dollars"
        );
    }

    #[test]
    fn energy_goes_to_its_workload_and_shares_to_their_end() {
        let mut totals = Totals::default();
        let (tenant, workload) = (TenantId::new("a").unwrap(), WorkloadId::new("w").unwrap());
        let used = Use::Workload { tenant: tenant.clone(), workload: workload.clone() };
        let uses = [(used, WattSeconds::new(500)), (Use::Auxiliary, WattSeconds::new(100))].into();
        let energy = Energy::attribute(Time(0), Time(1_000), WattSeconds::new(600), uses);
        let shares = Shares {
            group: MinerGroupId::new("g").unwrap(),
            worker: "a.b".into(),
            end: ShareEnd::Accepted,
            count: 3,
            work: Work(10),
            credited: Work(10),
            scale: 4,
        };
        totals.add(&segment(vec![Line::Energy(energy), Line::Shares(shares.clone()), Line::Shares(shares)]));
        assert_eq!(totals.workload(&tenant, &workload).energy, WattSeconds::new(500));
        assert_eq!(totals.shares[&ShareEnd::Accepted], (6, Work(80)));
    }
}
