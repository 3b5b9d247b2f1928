//! Turns the second-by-second readings of a module into ledger lines: energy by use, GPU time by workload, gas by fate.
//!
//! Pure: readings in, lines out. The meter's register says how much; the readings between say what for. What they cannot
//! explain is `unattributed`, so that the lines of an interval always equal the meter exactly.

use std::collections::BTreeMap;

use control::port::Slow;
use model::envelope::Assignment;
use model::ledger::{Energy, Gas, Line, Run, Use};
use model::module::{GpuPool, Module};
use model::report::{RunPhase, RunReport, SiteReport};
use model::site::GasVolume;
use model::workload::GpuTime;
use model::{MicroDollars, PoolId, Span, TenantId, Time, WattSeconds, Watts, WorkloadId};

/// Length of one line's interval. A crash loses at most this much of detail; the agent marks it as a gap when it starts again.
pub const INTERVAL: Span = Span::secs(30);
/// Longest time between two readings that may be bridged; a longer hole is left unattributed.
const MAX_HOLE: Span = Span::secs(10);

/// The book of one module.
pub struct Book {
    module: Module,
    /// Whose the runs are. Kept after an assignment ended, since its last seconds are still to be written.
    owners: BTreeMap<WorkloadId, Owner>,
    last: Option<(Time, Slow)>,
    page: Option<Page>,
    /// Built in on purpose: half of what tenants drew is forgotten, so that a checker is seen to fire.
    forgetful: bool,
}

#[derive(Clone)]
struct Owner {
    tenant: TenantId,
    price: MicroDollars,
    pool: PoolId,
    gpus: u32,
}

/// What is being added up.
struct Page {
    from: Time,
    register: Option<WattSeconds>,
    uses: BTreeMap<Use, WattSeconds>,
    runs: BTreeMap<(WorkloadId, u64), (GpuTime, GpuTime)>,
    supplied: GasVolume,
    flared: GasVolume,
    buffer: Option<GasVolume>,
}

impl Book {
    /// An empty book.
    pub fn new(module: Module) -> Self {
        Self { module, owners: BTreeMap::new(), last: None, page: None, forgetful: false }
    }

    /// The same book with a defect on request: see `misattribute` of the agent's options.
    pub fn forgetful(self, forgetful: bool) -> Self {
        Self { forgetful, ..self }
    }

    /// Notes whose the runs are, from a directive's assignments.
    pub fn assign(&mut self, runs: &BTreeMap<WorkloadId, Assignment>) {
        for (workload, run) in runs {
            let gpus = run.placement.servers.iter().map(|(_, gpus)| gpus).sum();
            let owner = Owner {
                tenant: run.tenant.clone(),
                price: run.price,
                pool: run.placement.pool.clone(),
                gpus,
            };
            self.owners.insert(workload.clone(), owner);
        }
    }

    /// Takes the readings of `now`; answers the lines of the interval that ended with them, if one did.
    pub fn observe(&mut self, now: Time, slow: &Slow) -> Vec<Line> {
        let previous = self.last.replace((now, slow.clone()));
        let Some((then, before)) = previous.filter(|(then, _)| now > *then) else {
            self.page.get_or_insert_with(|| Page::begin(now, slow));
            return Vec::new();
        };
        let page = self.page.get_or_insert_with(|| Page::begin(then, &before));
        if now - then <= MAX_HOLE {
            let uses = attribute(&self.module, &self.owners, slow, now - then);
            uses.into_iter().for_each(|(usage, energy)| *page.uses.entry(usage).or_default() += energy);
        }
        page.add_runs(&before.runs, &slow.runs);
        page.add_gas(before.site.as_ref(), now - then);
        if now.floor_to(INTERVAL) <= page.from {
            return Vec::new();
        }
        self.turn_page(now, slow)
    }

    fn turn_page(&mut self, now: Time, slow: &Slow) -> Vec<Line> {
        let Some(mut page) = self.page.replace(Page::begin(now, slow)) else { return Vec::new() };
        if self.forgetful {
            let tenants = page.uses.iter_mut().filter(|(usage, _)| matches!(usage, Use::Workload { .. }));
            tenants.for_each(|(_, energy)| *energy = energy.fraction(1, 2));
        }
        let lines = page.close(now, slow, &self.module, &self.owners);
        let owners = &mut self.owners;
        // Runs that the runtime has forgotten have no more seconds to write.
        owners.retain(|workload, _| slow.runs.contains_key(workload));
        lines
    }
}

impl Page {
    fn begin(from: Time, slow: &Slow) -> Self {
        Self {
            from,
            register: slow.register,
            uses: BTreeMap::new(),
            runs: BTreeMap::new(),
            supplied: GasVolume::ZERO,
            flared: GasVolume::ZERO,
            buffer: slow.site.as_ref().and_then(|site| site.buffer),
        }
    }

    fn add_runs(
        &mut self,
        before: &BTreeMap<WorkloadId, RunReport>,
        after: &BTreeMap<WorkloadId, RunReport>,
    ) {
        for (workload, run) in after {
            let same = before.get(workload).filter(|earlier| earlier.incarnation == run.incarnation);
            let held = run.held - same.map_or(GpuTime::ZERO, |earlier| earlier.held);
            // A new incarnation resumes from its checkpoint: what it reports first is no progress of this interval.
            let progress = same.map_or(GpuTime::ZERO, |earlier| run.progress - earlier.progress);
            let sums = self.runs.entry((workload.clone(), run.incarnation)).or_default();
            sums.0 += held.at_least_zero();
            sums.1 += progress;
        }
    }

    fn add_gas(&mut self, site: Option<&SiteReport>, dt: Span) {
        let Some(site) = site else { return };
        self.supplied += site.gas.unwrap_or_default().for_span(dt);
        self.flared += site.flared.unwrap_or_default().for_span(dt);
    }

    fn close(
        self,
        to: Time,
        slow: &Slow,
        module: &Module,
        owners: &BTreeMap<WorkloadId, Owner>,
    ) -> Vec<Line> {
        let mut lines = Vec::new();
        // Without both registers nobody knows what the meter counted: no energy line, rather than an invented one.
        if let Some((begin, end)) = self.register.zip(slow.register) {
            lines.push(Line::Energy(Energy::attribute(self.from, to, end - begin, self.uses)));
        }
        for ((workload, incarnation), (held, progress)) in self.runs {
            let Some(owner) = owners.get(&workload).filter(|_| held > GpuTime::ZERO) else { continue };
            let Owner { tenant, price, .. } = owner.clone();
            lines.push(Line::Run(Run {
                tenant,
                workload,
                incarnation,
                from: self.from,
                to,
                held,
                progress,
                price,
            }));
        }
        if let Some(site) = &slow.site {
            let filled = site.buffer.unwrap_or_default() - self.buffer.unwrap_or_default();
            lines.push(Line::Gas(Gas {
                site: module.site.clone(),
                from: self.from,
                to,
                supplied: self.supplied,
                burnt: (self.supplied - self.flared - filled).at_least_zero(),
                flared: self.flared,
            }));
        }
        lines
    }
}

/// Energy by use between two readings `dt` apart: feeders and pools are read as means since the reading before.
fn attribute(
    module: &Module,
    owners: &BTreeMap<WorkloadId, Owner>,
    slow: &Slow,
    dt: Span,
) -> BTreeMap<Use, WattSeconds> {
    let mut uses = BTreeMap::new();
    for group in module.groups.keys() {
        if let Some(power) = slow.groups.get(group).and_then(|reading| reading.power) {
            uses.insert(Use::Mining { group: group.clone() }, power.for_span(dt));
        }
    }
    for (id, pool) in &module.pools {
        if let Some(power) = slow.pools.get(id).and_then(|reading| reading.power) {
            uses.extend(split_pool(id, pool, power.for_span(dt), owners, slow, dt));
        }
    }
    if slow.meter.is_some_and(|meter| meter > Watts::ZERO) {
        uses.insert(Use::Auxiliary, module.auxiliary.for_span(dt));
    }
    let load: WattSeconds = uses.values().copied().sum();
    uses.insert(Use::Loss, load.fraction(module.loss_permille.into(), 1_000));
    uses
}

/// Splits a pool's energy: each run bears what its own GPUs drew, and what is left is idle. Where a pool's runs are not metered
/// one by one, whoever holds GPUs bears their share of the servers' idle power, and those that run share the swing above it.
fn split_pool(
    id: &PoolId,
    pool: &GpuPool,
    energy: WattSeconds,
    owners: &BTreeMap<WorkloadId, Owner>,
    slow: &Slow,
    dt: Span,
) -> BTreeMap<Use, WattSeconds> {
    let up = slow.pools.get(id).map_or(pool.servers, |reading| reading.up);
    let base = energy.min(pool.idle.times(up.into()).for_span(dt));
    let total = i64::from(up) * i64::from(pool.gpus);
    let own = owners.iter().filter(|(_, owner)| owner.pool == *id);
    let runs: Vec<(&WorkloadId, &Owner, Option<RunPhase>)> = own
        .map(|(workload, owner)| (workload, owner, slow.runs.get(workload).map(|run| run.phase)))
        .collect();
    let running = runs.iter().filter(|run| run.2 == Some(RunPhase::Running));
    let running: i64 = running.map(|(_, owner, _)| i64::from(owner.gpus)).sum();
    let mut uses = BTreeMap::new();
    for (workload, owner, phase) in runs {
        let gpus = i64::from(owner.gpus);
        let part = match (slow.drawn.get(workload), phase) {
            (Some(drawn), _) => drawn.for_span(dt),
            (None, Some(RunPhase::Running)) => {
                base.fraction(gpus, total) + (energy - base).fraction(gpus, running)
            }
            (None, Some(RunPhase::Starting | RunPhase::Stopping)) => base.fraction(gpus, total),
            (None, _) => continue,
        };
        let usage = Use::Workload { tenant: owner.tenant.clone(), workload: workload.clone() };
        uses.insert(usage, part);
    }
    let given: WattSeconds = uses.values().copied().sum();
    uses.insert(Use::Idle { pool: id.clone() }, energy - given);
    uses
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use control::port::GroupReading;
    use model::report::PoolReport;
    use model::workload::{Placement, Tier};
    use model::{MinerGroupId, ModuleId, SiteId};

    use super::*;

    fn module() -> Module {
        let pool = GpuPool {
            gpu: "h100".into(),
            servers: 2,
            gpus: 8,
            idle: Watts::new(2_000),
            active: Watts::new(10_000),
            cap_min: Watts::new(6_000),
        };
        Module {
            id: ModuleId::new("m").unwrap(),
            site: SiteId::new("s").unwrap(),
            wired: false,
            limit: Watts::kilo(100),
            cooling: Watts::kilo(100),
            auxiliary: Watts::new(1_000),
            loss_permille: 0,
            groups: BTreeMap::new(),
            pools: [(PoolId::new("p").unwrap(), pool)].into(),
        }
    }

    fn assignment(tenant: &str, gpus: u32) -> Assignment {
        Assignment {
            tenant: TenantId::new(tenant).unwrap(),
            tier: Tier::OnDemand,
            placement: Placement {
                module: ModuleId::new("m").unwrap(),
                pool: PoolId::new("p").unwrap(),
                servers: vec![(0, gpus)],
                incarnation: 1,
            },
            remaining: None,
            start_from: GpuTime::ZERO,
            checkpoint: Span::minutes(10),
            save: Span::secs(10),
            restart: Span::secs(10),
            price: MicroDollars::dollars(2),
            keep_without_link: Span::hours(1),
        }
    }

    fn slow(register: i64, pool: i64, runs: &[(&str, i64)]) -> Slow {
        let run = |held: i64| RunReport {
            incarnation: 1,
            phase: RunPhase::Running,
            progress: GpuTime::new(held),
            saved: GpuTime::ZERO,
            held: GpuTime::new(held),
        };
        Slow {
            meter: Some(Watts::new(pool + 1_000)),
            register: Some(WattSeconds::new(register)),
            pools: [(PoolId::new("p").unwrap(), PoolReport { up: 2, power: Some(Watts::new(pool)) })].into(),
            runs: runs.iter().map(|(id, held)| (WorkloadId::new(id).unwrap(), run(*held))).collect(),
            ..Slow::default()
        }
    }

    fn energy_of(lines: &[Line]) -> &Energy {
        let energy = |line: &'_ Line| matches!(line, Line::Energy(_));
        match lines.iter().find(|line| energy(line)).unwrap() {
            Line::Energy(energy) => energy,
            other => panic!("{other:?}"),
        }
    }

    /// A minute of steady draw, second by second, with the register running 1 % ahead of what the uses explain.
    fn minute(book: &mut Book, runs: &[(&str, i64)]) -> Vec<Line> {
        let mut lines = Vec::new();
        for second in 0..=30 {
            let held: Vec<_> = runs.iter().map(|(id, gpus)| (*id, gpus * second * 1_000)).collect();
            lines.extend(book.observe(Time(second * 1_000), &slow(second * 13_130, 12_000, &held)));
        }
        lines
    }

    #[test]
    fn an_interval_equals_the_meter_and_the_rest_is_unattributed() {
        let mut book = Book::new(module());
        book.assign(&[(WorkloadId::new("a").unwrap(), assignment("t1", 6))].into());
        let lines = minute(&mut book, &[("a", 6)]);
        let energy = energy_of(&lines);
        assert_eq!(energy.total(), WattSeconds::new(30 * 13_130));
        assert_eq!(energy.unattributed, WattSeconds::new(30 * 130));
    }

    #[test]
    fn tenants_pay_for_their_gpus_idle_power_and_swing() {
        let mut book = Book::new(module());
        let runs = [("a", assignment("t1", 6)), ("b", assignment("t2", 2))];
        book.assign(&runs.into_iter().map(|(id, run)| (WorkloadId::new(id).unwrap(), run)).collect());
        let lines = minute(&mut book, &[("a", 6), ("b", 2)]);
        let of = |tenant: &str| {
            let mine = |usage: &Use| matches!(usage, Use::Workload { tenant: t, .. } if t.as_str() == tenant);
            energy_of(&lines).uses.iter().find(|(usage, _)| mine(usage)).unwrap().1
        };
        // Of 4,000 W idle a GPU bears 250 W, of 8,000 W swing over 8 running GPUs 1,000 W.
        assert_eq!(
            (of("t1"), of("t2")),
            (WattSeconds::new(6 * 1_250 * 30), WattSeconds::new(2 * 1_250 * 30))
        );
        let held: Vec<_> = lines
            .iter()
            .filter_map(|line| match line {
                Line::Run(run) => Some((run.tenant.as_str(), run.held)),
                _ => None,
            })
            .collect();
        assert_eq!(held, [("t1", GpuTime::new(180_000)), ("t2", GpuTime::new(60_000))]);
    }

    #[test]
    fn a_run_that_is_metered_pays_what_its_own_gpus_drew() {
        let mut book = Book::new(module());
        book.assign(&[(WorkloadId::new("a").unwrap(), assignment("t1", 6))].into());
        let mut lines = Vec::new();
        for second in 0..=30 {
            let mut reading = slow(second * 13_000, 12_000, &[("a", 6_000 * second)]);
            reading.drawn.insert(WorkloadId::new("a").unwrap(), Watts::new(7_777));
            lines.extend(book.observe(Time(second * 1_000), &reading));
        }
        let of = |wanted: fn(&Use) -> bool| {
            energy_of(&lines).uses.iter().find(|(usage, _)| wanted(usage)).unwrap().1
        };
        assert_eq!(of(|usage| matches!(usage, Use::Workload { .. })), WattSeconds::new(7_777 * 30));
        assert_eq!(of(|usage| matches!(usage, Use::Idle { .. })), WattSeconds::new((12_000 - 7_777) * 30));
    }

    #[test]
    fn a_hole_in_the_readings_is_unattributed_not_guessed() {
        let mut book = Book::new(module());
        book.observe(Time(0), &slow(0, 12_000, &[]));
        let lines = book.observe(Time(60_000), &slow(780_000, 12_000, &[]));
        let energy = energy_of(&lines);
        assert_eq!(
            (energy.meter, energy.unattributed),
            (WattSeconds::new(780_000), WattSeconds::new(780_000))
        );
    }

    #[test]
    fn a_meter_without_a_register_gives_no_energy_line() {
        let mut book = Book::new(module());
        let mut silent = slow(0, 12_000, &[]);
        silent.register = None;
        book.observe(Time(0), &silent);
        assert!(book.observe(Time(60_000), &silent).is_empty());
    }

    #[test]
    fn mining_is_what_the_feeder_meters() {
        let mut module = module();
        let group = MinerGroupId::new("g").unwrap();
        module.pools.clear();
        let template = model::module::MinerGroup {
            model: "S21".into(),
            count: 1,
            points: Vec::new(),
            standby: Watts::ZERO,
            wake: Span::ZERO,
            sleep: Span::ZERO,
            dwell: Span::ZERO,
            wear: MicroDollars::ZERO,
            shed: model::module::ShedPath {
                actuator: model::module::Actuator::Feeder,
                opens: None,
                rearm: Span::ZERO,
            },
            scale: 1,
        };
        module.groups.insert(group.clone(), template);
        let mut book = Book::new(module);
        let mut lines = Vec::new();
        for second in 0..=30i64 {
            let mut reading = slow(second * 4_500, 0, &[]);
            reading.pools.clear();
            let power = GroupReading { power: Some(Watts::new(3_500)), ..GroupReading::default() };
            reading.groups.insert(group.clone(), power);
            lines.extend(book.observe(Time(second * 1_000), &reading));
        }
        let energy = energy_of(&lines);
        assert_eq!(energy.unattributed, WattSeconds::ZERO);
        assert!(energy.uses.contains(&(Use::Mining { group }, WattSeconds::new(105_000))), "{energy:?}");
    }
}
