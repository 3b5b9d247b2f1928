//! The book over steady minutes, holes, restarts and losses of power.
#![allow(clippy::unwrap_used)]

use control::port::GroupReading;
use model::ledger::Use;
use model::module::GpuPool;
use model::report::{PoolReport, RunPhase, RunReport, SiteReport, TieReport};
use model::site::{GasFlow, GasVolume};
use model::workload::{GpuTime, Placement, Tier};
use model::{MinerGroupId, ModuleId, SiteId, WattSeconds, Watts};

use super::*;

pub(crate) fn module() -> Module {
    let pool = GpuPool {
        gpu: "h100".into(),
        servers: 2,
        gpus: 8,
        idle: Watts::new(2_000),
        active: Watts::new(10_000),
        cap_min: Watts::new(6_000),
        curve: Vec::new(),
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

pub(crate) fn assignment(tenant: &str, gpus: u32) -> Assignment {
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
        by_progress: false,
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

/// A link that costs by the megabyte gets longer intervals, and shorter ones again once another controller leads.
#[test]
fn an_interval_is_as_long_as_was_asked_and_none_is_left_out_where_that_changes() {
    let mut book = Book::new(module(), "boot-1");
    let mut intervals = Vec::new();
    for second in 0..=1_000 {
        if second == 20 {
            book.set_interval(Span::minutes(5));
        }
        if second == 700 {
            book.set_interval(INTERVAL);
        }
        let lines = book.observe(Time(second * 1_000), &slow(second * 13_000, 12_000, &[]));
        intervals.extend(lines.iter().filter_map(|line| match line {
            Line::Energy(energy) => Some((energy.from.0 / 1_000, energy.to.0 / 1_000)),
            _ => None,
        }));
    }
    // Intervals end at whole multiples of their length.
    let short = (24..33).map(|page| (30 * page, 30 * page + 30));
    let expected: Vec<_> = [(0, 300), (300, 600), (600, 700), (700, 720)].into_iter().chain(short).collect();
    assert_eq!(intervals, expected);
}

#[test]
fn an_interval_equals_the_meter_and_the_rest_is_unattributed() {
    let mut book = Book::new(module(), "boot-1");
    book.assign(&[(WorkloadId::new("a").unwrap(), assignment("t1", 6))].into());
    let lines = minute(&mut book, &[("a", 6)]);
    let energy = energy_of(&lines);
    assert_eq!(energy.total(), WattSeconds::new(30 * 13_130));
    assert_eq!(energy.unattributed, WattSeconds::new(30 * 130));
}

#[test]
fn tenants_pay_for_their_gpus_idle_power_and_swing() {
    let mut book = Book::new(module(), "boot-1");
    let runs = [("a", assignment("t1", 6)), ("b", assignment("t2", 2))];
    book.assign(&runs.into_iter().map(|(id, run)| (WorkloadId::new(id).unwrap(), run)).collect());
    let lines = minute(&mut book, &[("a", 6), ("b", 2)]);
    let of = |tenant: &str| {
        let mine = |usage: &Use| matches!(usage, Use::Workload { tenant: t, .. } if t.as_str() == tenant);
        energy_of(&lines).uses.iter().find(|(usage, _)| mine(usage)).unwrap().1
    };
    // Of 4,000 W idle a GPU bears 250 W, of 8,000 W swing over 8 running GPUs 1,000 W.
    assert_eq!((of("t1"), of("t2")), (WattSeconds::new(6 * 1_250 * 30), WattSeconds::new(2 * 1_250 * 30)));
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
    let mut book = Book::new(module(), "boot-1");
    book.assign(&[(WorkloadId::new("a").unwrap(), assignment("t1", 6))].into());
    let mut lines = Vec::new();
    for second in 0..=30 {
        let mut reading = slow(second * 13_000, 12_000, &[("a", 6_000 * second)]);
        reading.drawn.insert(WorkloadId::new("a").unwrap(), Watts::new(7_777));
        lines.extend(book.observe(Time(second * 1_000), &reading));
    }
    let of =
        |wanted: fn(&Use) -> bool| energy_of(&lines).uses.iter().find(|(usage, _)| wanted(usage)).unwrap().1;
    assert_eq!(of(|usage| matches!(usage, Use::Workload { .. })), WattSeconds::new(7_777 * 30));
    assert_eq!(of(|usage| matches!(usage, Use::Idle { .. })), WattSeconds::new((12_000 - 7_777) * 30));
}

#[test]
fn a_hole_in_the_readings_is_unattributed_not_guessed() {
    let mut book = Book::new(module(), "boot-1");
    book.observe(Time(0), &slow(0, 12_000, &[]));
    let lines = book.observe(Time(60_000), &slow(780_000, 12_000, &[]));
    let energy = energy_of(&lines);
    assert_eq!((energy.meter, energy.unattributed), (WattSeconds::new(780_000), WattSeconds::new(780_000)));
}

#[test]
fn a_meter_without_a_register_gives_no_energy_line() {
    let mut book = Book::new(module(), "boot-1");
    let mut silent = slow(0, 12_000, &[]);
    silent.register = None;
    let mut lines = book.observe(Time(0), &silent);
    for second in 1..=60 {
        lines.extend(book.observe(Time(second * 1_000), &silent));
    }
    assert!(lines.iter().all(|line| matches!(line, Line::Gap(_))), "{lines:?}");
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
    let mut book = Book::new(module, "boot-1");
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

fn workload(name: &str) -> WorkloadId {
    WorkloadId::new(name).unwrap()
}

fn runs(lines: &[Line]) -> Vec<(i64, i64, i64)> {
    let run = |line: &Line| match line {
        Line::Run(run) => Some((run.from.millis() / 1_000, run.to.millis() / 1_000, run.held.get() / 1_000)),
        _ => None,
    };
    lines.iter().filter_map(run).collect()
}

/// (from, to, meter, unattributed) of energy lines, in seconds and watt-seconds.
fn energies(lines: &[Line]) -> Vec<(i64, i64, i64, i64)> {
    let energy = |line: &Line| match line {
        Line::Energy(line) => {
            assert_eq!(line.total(), line.meter);
            let (from, to) = (line.from.millis() / 1_000, line.to.millis() / 1_000);
            Some((from, to, line.meter.get(), line.unattributed.get()))
        }
        _ => None,
    };
    lines.iter().filter_map(energy).collect()
}

fn gaps(lines: &[Line]) -> Vec<(Option<i64>, i64, &str)> {
    let gap = |line| match line {
        &Line::Gap(Gap { from, to, ref why }) => {
            Some((from.map(|from: Time| from.millis() / 1_000), to.millis() / 1_000, why.as_str()))
        }
        _ => None,
    };
    lines.iter().filter_map(gap).collect()
}

/// Twelve seconds of a pool of 12 kW with a run of six GPUs, killed, written down and read back.
fn killed() -> Carried {
    let mut book = Book::new(module(), "boot-1");
    book.assign(&[(workload("a"), assignment("t1", 6))].into());
    for second in 0..=12 {
        book.observe(Time(second * 1_000), &slow(second * 13_000, 12_000, &[("a", 6_000 * second)]));
    }
    let text = serde_json::to_string(&book.carried().unwrap()).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// The lines of the first reading after that, at second 20.
fn resumed(book: Book, simulated: bool, register: i64, held: i64) -> Vec<Line> {
    let mut book = book.resume(Some(killed()), simulated);
    assert_eq!(book.carried(), None, "what was carried stays as it is until there is a reading");
    book.observe(Time(20_000), &slow(register, 12_000, &[("a", held)]))
}

#[test]
fn a_restart_closes_the_page_and_knows_of_the_time_between_what_the_register_proves() {
    let lines = resumed(Book::new(module(), "boot-1"), false, 12 * 13_000 + 70_000, 6_000 * 12 + 30_000);
    assert_eq!(energies(&lines), [(0, 12, 12 * 13_000, 0), (12, 20, 70_000, 70_000)]);
    assert_eq!(runs(&lines), [(0, 12, 72), (12, 20, 30)]);
    let why = "the agent did not run: the register proves how much was drawn, not what for";
    assert_eq!(gaps(&lines), [(Some(12), 20, why)]);
}

#[test]
fn a_register_that_proves_nothing_leaves_a_gap_alone() {
    let check = |simulated: bool, boot: &str, register: i64, expected: &str| {
        let lines = resumed(Book::new(module(), boot), simulated, register, 6_000 * 20);
        assert_eq!(energies(&lines), [(0, 12, 12 * 13_000, 0)], "{expected}");
        assert_eq!(gaps(&lines), [(Some(12), 20, expected)]);
        lines
    };
    check(false, "boot-2", 7, "the agent did not run: the register counts less than before");
    // Twice 100 kW for 8 s are 1.6 MWs.
    check(
        false,
        "boot-1",
        12 * 13_000 + 1_600_001,
        "the agent did not run: the register counts more than the module can draw",
    );
    let other = "the agent ran in another simulation: its meters are others";
    let lines = check(true, "boot-2", 12 * 13_000 + 70_000, other);
    assert_eq!(runs(&lines), [(0, 12, 72)], "the runtime's counters are others too");
    let mut silent = slow(0, 12_000, &[]);
    silent.register = None;
    let lines = Book::new(module(), "boot-1").resume(Some(killed()), false).observe(Time(20_000), &silent);
    assert_eq!(gaps(&lines), [(Some(12), 20, "the agent did not run: a register was not readable")]);
}

#[test]
fn a_meter_goes_on_over_a_boot_of_the_machine_and_over_a_restart_in_the_same_simulation() {
    for (boot, simulated) in [("boot-2", false), ("boot-1", true)] {
        let lines = resumed(Book::new(module(), boot), simulated, 12 * 13_000 + 70_000, 72_000);
        assert_eq!(energies(&lines)[1], (12, 20, 70_000, 70_000), "{boot}");
    }
}

#[test]
fn a_clock_that_was_set_back_leaves_a_gap_of_unknown_begin() {
    let mut book = Book::new(module(), "boot-1").resume(Some(killed()), false);
    let mut lines = book.observe(Time(5_000), &slow(200_000, 12_000, &[("a", 80_000)]));
    let why = "the agent did not run: the clock was set back";
    assert_eq!(gaps(&lines), [(None, 5, why)]);
    lines.clear();
    for second in 6..=30 {
        lines.extend(
            book.observe(Time(second * 1_000), &slow(200_000 + second, 0, &[("a", 74_000 + 1_000 * second)])),
        );
    }
    // 72 GPU·s were billed; of the 104 that are held now the rest is billed once.
    assert_eq!(runs(&lines), [(5, 30, 32)]);
}

#[test]
fn a_workload_that_held_every_gpu_throughout_is_the_one_that_drew() {
    let check = |gpus: u32, held: i64, expected: i64| {
        let mut book = Book::new(module(), "boot-1");
        book.assign(&[(workload("a"), assignment("t1", gpus))].into());
        let held_at = |second: i64| i64::from(gpus) * 1_000 * second;
        for second in 0..=12 {
            book.observe(Time(second * 1_000), &slow(second * 13_000, 12_000, &[("a", held_at(second))]));
        }
        let mut next = Book::new(module(), "boot-1").resume(book.carried(), false);
        let now = slow(12 * 13_000 + 90_000, 12_000, &[("a", held_at(12) + held)]);
        let lines = next.observe(Time(20_000), &now);
        assert_eq!(energies(&lines)[1], (12, 20, 90_000, expected), "{gpus} GPUs held {held}");
        lines
    };
    // Sixteen GPUs for 8 s; auxiliaries have 8 kWs of the 90.
    let lines = check(16, 128_000, 0);
    let usage = Use::Workload { tenant: TenantId::new("t1").unwrap(), workload: workload("a") };
    let Some(Line::Energy(hole)) = lines.iter().rfind(|line| matches!(line, Line::Energy(_))) else {
        panic!("{lines:?}")
    };
    assert!(hole.uses.contains(&(usage, WattSeconds::new(82_000))), "{hole:?}");
    check(16, 100_000, 90_000);
    check(8, 64_000, 90_000);
}

#[test]
fn a_run_that_one_reading_misses_is_billed_once() {
    let mut book = Book::new(module(), "boot-1");
    let mut lines = Vec::new();
    for second in 0..=60 {
        book.assign(&[(workload("a"), assignment("t1", 6))].into());
        let held = [("a", 6_000 * second)];
        // It is missing in the middle of an interval, and where one ends.
        let shown = if [10, 11, 30].contains(&second) { &held[..0] } else { &held[..] };
        lines.extend(book.observe(Time(second * 1_000), &slow(second * 13_000, 12_000, shown)));
    }
    let billed: i64 = runs(&lines).iter().map(|run| run.2).sum();
    assert_eq!(billed, 360, "{:?}", runs(&lines));
}

#[test]
fn what_a_run_held_before_the_book_began_is_not_billed() {
    let mut book = Book::new(module(), "boot-1");
    let mut lines = Vec::new();
    for second in 0..=30 {
        book.assign(&[(workload("a"), assignment("t1", 6)), (workload("b"), assignment("t2", 2))].into());
        // Run b is not shown in the first reading, though it has run for an hour.
        let held = [("a", 6_000 * (second + 3_600)), ("b", 2_000 * (second + 3_600))];
        let shown = if second == 0 { &held[..1] } else { &held[..] };
        lines.extend(book.observe(Time(second * 1_000), &slow(second * 13_000, 12_000, shown)));
    }
    // Of b at most what it can have held since the begin: 2 s in the first second, and 58 s.
    assert_eq!(runs(&lines), [(0, 30, 180), (0, 30, 60)]);
}

#[test]
fn gas_is_bridged_over_a_short_hole_and_unknown_in_a_long_one() {
    let check = |times: &[i64], expected: &[(i64, i64, i64)]| {
        let mut book = Book::new(module(), "boot-1");
        let mut lines = Vec::new();
        for second in times {
            let mut reading = slow(second * 13_000, 12_000, &[]);
            // 86,400 scf a day are one a second.
            reading.site = Some(SiteReport {
                frequency: None,
                gas: Some(GasFlow::new(86_400)),
                buffer: Some(GasVolume::ZERO),
                flared: Some(GasFlow::ZERO),
                load: None,
                unmanaged: None,
                gensets: BTreeMap::new(),
                storage: None,
                grid: None,
            });
            lines.extend(book.observe(Time(second * 1_000), &reading));
        }
        let gas = |line: &Line| match line {
            Line::Gas(gas) => Some((gas.from.millis() / 1_000, gas.to.millis() / 1_000, gas.supplied.get())),
            _ => None,
        };
        assert_eq!(lines.iter().filter_map(gas).collect::<Vec<_>>(), expected, "{times:?}");
        let holes = gaps(&lines).len() - 1;
        assert_eq!(holes, times.windows(2).filter(|pair| pair[1] - pair[0] > 10).count());
    };
    check(&[0, 10, 20, 30], &[(0, 30, 30)]);
    check(&[0, 10, 3_610, 3_620, 3_630], &[(0, 10, 10), (3_610, 3_630, 20)]);
}

/// 36 kW are imported: 36,000 Ws a second, which cost 1,000 micro-dollars at 100 dollars a MWh.
#[test]
fn import_is_a_line_of_its_own_at_the_price_of_each_second() {
    let check =
        |price: fn(i64) -> Option<i64>, register: fn(i64) -> Option<i64>, expected: &[(i64, Option<i64>)]| {
            let mut book = Book::new(module(), "boot-1");
            let mut lines = Vec::new();
            for second in 0..=60 {
                let mut reading = slow(second * 13_000, 12_000, &[]);
                let price = price(second).map(MicroDollars::dollars);
                let register = register(second).map(WattSeconds::new);
                let tie = TieReport { power: None, register, price, ready: true };
                reading.site = Some(SiteReport {
                    frequency: None,
                    gas: None,
                    buffer: None,
                    flared: None,
                    load: None,
                    unmanaged: None,
                    gensets: BTreeMap::new(),
                    storage: None,
                    grid: Some(tie),
                });
                lines.extend(book.observe(Time(second * 1_000), &reading));
            }
            let imports = lines.iter().filter_map(|line| match line {
                Line::Import(line) => Some((line.energy.get(), line.cost.map(MicroDollars::get))),
                _ => None,
            });
            assert_eq!(imports.collect::<Vec<_>>(), expected);
        };
    let counts = |second: i64| Some(second * 36_000);
    let whole = 30 * 36_000;
    check(|_| Some(100), counts, &[(whole, Some(30_000)), (whole, Some(30_000))]);
    let spike = |second: i64| Some(if second < 15 { 100 } else { 200 });
    check(spike, counts, &[(whole, Some(45_000)), (whole, Some(60_000))]);
    check(|second| (second != 40).then_some(100), counts, &[(whole, Some(30_000)), (whole, None)]);
    check(|_| None, |_| Some(7), &[(0, Some(0)), (0, Some(0))]);
    // A meter that is silent for a while is caught up with, at the price of the moment before.
    check(
        |_| Some(100),
        |second| (!(10..20).contains(&second)).then_some(second * 36_000),
        &[(whole, Some(30_000)), (whole, Some(30_000))],
    );
    check(|_| Some(100), |_| None, &[]);
}

/// Power is lost or comes back in the middle of a second: auxiliaries of 1 kW, the pool of 12 kW, half a second of both.
#[test]
fn the_second_in_which_power_comes_or_goes_is_attributed() {
    let check = |before: (i64, i64), after: (i64, i64)| {
        let mut book = Book::new(module(), "boot-1");
        let reading = |second: i64, register: i64, (meter, pool): (i64, i64)| {
            let mut reading = slow(register, pool, &[]);
            reading.meter = Some(Watts::new(meter));
            (Time(second * 1_000), reading)
        };
        let mut register = 0;
        let mut lines = Vec::new();
        for second in 0..=30 {
            let mean = |pair: (i64, i64), tenths: i64| (pair.0 * tenths / 10, pair.1 * tenths / 10);
            let (now, drawn) = match second {
                0..15 => (before, before),
                15 => (after, (mean(before, 6).0 + mean(after, 4).0, mean(before, 6).1 + mean(after, 4).1)),
                _ => (after, after),
            };
            register += if second == 0 { 0 } else { drawn.0 };
            let (at, reading) = reading(second, register, (now.0, drawn.1));
            lines.extend(book.observe(at, &reading));
        }
        assert_eq!(energies(&lines), [(0, 30, register, 0)], "from {before:?} to {after:?}");
    };
    check((13_000, 12_000), (0, 0));
    check((0, 0), (13_000, 12_000));
    check((13_000, 12_000), (13_000, 12_000));
}

/// The book beside the simulator's physics: all sets trip in the middle of a second, start again, and power comes back to one
/// module after the other.
#[cfg(feature = "sim")]
#[test]
fn a_blackout_and_a_black_start_leave_nothing_unattributed() {
    use control::port::Command;
    use model::site::Site;
    use sim::fault::{Fault, Kind};
    use sim::island::{Island, Options};

    let fleet = sim::reference::fleet();
    let site: &Site = &fleet.sites[0];
    let mut island = Island::new(site, &fleet.modules, 7, Time(0), Options::default());
    let modules: Vec<&Module> = fleet.modules_of(&site.id).collect();
    let mut books: Vec<Book> = modules.iter().map(|module| Book::new((*module).clone(), "boot-1")).collect();
    let mut lines: Vec<Vec<Line>> = vec![Vec::new(); books.len()];
    let wired = modules.iter().find(|module| module.wired).unwrap();
    for step in 1..=24_000i64 {
        island.step();
        if step == 4_037 {
            for _ in &site.gensets {
                island.fault(&Fault { at: Span::ZERO, site: None, kind: Kind::GensetTrip(None) });
            }
        }
        if step == 6_000 {
            island.fault(&Fault { at: Span::ZERO, site: None, kind: Kind::GensetReset(None) });
            let starts: Vec<Command> = site.gensets.keys().cloned().map(Command::StartGenset).collect();
            island.apply(&wired.id, &starts);
        }
        for ((module, book), lines) in modules.iter().zip(&mut books).zip(&mut lines) {
            if step % 100 == 0 {
                let readings = island.readings(&module.id, true);
                lines.extend(book.observe(readings.now, &readings.slow.unwrap()));
            }
        }
    }
    assert_eq!(island.truth().blackouts, 1);
    for (module, lines) in modules.iter().zip(&lines) {
        assert!(island.power(&module.id) > Watts::ZERO, "{} has power again", module.id);
        let energies = energies(lines);
        assert_eq!(energies.len(), 8, "{}: {energies:?}", module.id);
        for (from, to, meter, unattributed) in energies {
            // Auxiliaries move a little with the frequency, and means are whole watts. The second of the blackout alone would
            // leave kilowatt-seconds.
            let case = format!("{}: {unattributed} of {meter} Ws from {from} to {to} s", module.id);
            assert!(unattributed.abs() <= 500, "{case}");
        }
    }
}
