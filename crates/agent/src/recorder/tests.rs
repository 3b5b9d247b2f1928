//! Book and outbox together: an agent that is killed at any second bills each watt-second and each GPU-second once.
#![allow(clippy::unwrap_used)]

use control::port::Slow;
use model::ledger::Energy;
use model::report::{PoolReport, RunPhase, RunReport};
use model::workload::GpuTime;
use model::{ModuleId, PoolId, WattSeconds, Watts, WorkloadId};

use super::*;
use crate::meterbook;
use crate::outbox::tests::Dir;

/// A pool of 12 kW with a run of six GPUs, 13 kW at the meter.
fn reading(second: i64) -> Slow {
    let run = RunReport {
        incarnation: 1,
        phase: RunPhase::Running,
        progress: GpuTime::new(6_000 * second),
        saved: GpuTime::ZERO,
        held: GpuTime::new(6_000 * second),
    };
    let pool = PoolReport { up: 2, power: Some(Watts::new(12_000)) };
    Slow {
        meter: Some(Watts::new(13_000)),
        register: Some(WattSeconds::new(1_000_000 + 13_000 * second)),
        pools: [(PoolId::new("p").unwrap(), pool)].into(),
        runs: [(WorkloadId::new("a").unwrap(), run)].into(),
        ..Slow::default()
    }
}

struct Agent {
    outbox: Outbox,
    book: Book,
    owed: Owed,
}

impl Agent {
    fn start(dir: &Dir, now: i64) -> Self {
        let module = meterbook::tests::module();
        let outbox =
            Outbox::open(&dir.0, &ModuleId::new("m").unwrap(), "boot-1", Time(now * 1_000), None).unwrap();
        let mut book = Book::new(module, "boot-1").resume(outbox.book().cloned(), false);
        let assignment = meterbook::tests::assignment("t1", 6);
        book.assign(&[(WorkloadId::new("a").unwrap(), assignment)].into());
        Self { outbox, book, owed: Owed::default() }
    }

    fn second(&mut self, second: i64) {
        let now = Time(second * 1_000);
        let assignment = meterbook::tests::assignment("t1", 6);
        self.book.assign(&[(WorkloadId::new("a").unwrap(), assignment)].into());
        let lines = self.book.observe(now, &reading(second));
        // A disk that fails is what some tests want.
        let _ = self.owed.write(now, lines, &self.book, &self.outbox);
    }
}

/// Every line of every segment.
fn lines(outbox: &Outbox) -> Vec<Line> {
    outbox.waiting().into_iter().flat_map(|sequence| outbox.read(sequence).unwrap().lines).collect()
}

/// Asserts that energy and GPU time are billed from the first second to the last energy line, without a hole or an overlap; and
/// answers how long the time is for which nobody knows the uses.
fn check_books(lines: &[Line], case: &str) -> Span {
    let energies: Vec<&Energy> = lines
        .iter()
        .filter_map(|line| match line {
            Line::Energy(energy) => Some(energy),
            _ => None,
        })
        .collect();
    let mut reached = Time(0);
    let mut unknown = Span::ZERO;
    for energy in &energies {
        assert_eq!(energy.from, reached, "{case}: energy lines follow one another");
        assert_eq!(energy.meter, Watts::new(13_000).for_span(energy.to - energy.from), "{case}");
        let gap = |line: &&Line| matches!(line, Line::Gap(gap) if gap.from == Some(energy.from) && gap.to == energy.to);
        let is_known = energy.unattributed == WattSeconds::ZERO;
        assert_eq!(lines.iter().filter(gap).count(), usize::from(!is_known), "{case}: {energy:?}");
        unknown += if is_known { Span::ZERO } else { energy.to - energy.from };
        reached = energy.to;
    }
    let held = lines.iter().filter_map(|line| match line {
        Line::Run(run) => Some(run.held),
        _ => None,
    });
    assert_eq!(held.sum::<GpuTime>(), GpuTime::of(6, reached - Time(0)), "{case}: GPU time");
    unknown
}

#[test]
fn an_agent_killed_at_any_second_bills_everything_once() {
    // Around what is written down every five seconds, and around the ends of pages and segments.
    for kill in (1..=11).chain(28..=34) {
        for down in [1, 20] {
            let dir = Dir::new();
            let mut agent = Agent::start(&dir, 0);
            for second in 0..=kill {
                agent.second(second);
                if second % 30 == 0 {
                    agent.outbox.seal(Time(second * 1_000)).unwrap();
                }
            }
            drop(agent);
            let mut agent = Agent::start(&dir, kill + down);
            (kill + down..=90).for_each(|second| agent.second(second));
            agent.outbox.seal(Time(90_000)).unwrap();
            let unknown = check_books(&lines(&agent.outbox), &format!("killed at {kill} for {down} s"));
            let most = Span::secs(down) + CARRY_EVERY;
            assert!(unknown >= Span::secs(down) && unknown < most, "{unknown:?} after {kill} and {down} s");
        }
    }
}

#[test]
fn an_agent_killed_again_and_again_bills_everything_once() {
    let dir = Dir::new();
    for start in (0..200).step_by(7) {
        let mut agent = Agent::start(&dir, start);
        (start..start + 5).for_each(|second| agent.second(second));
        if start % 3 == 0 {
            agent.outbox.seal(Time((start + 5) * 1_000)).unwrap();
        }
    }
    check_books(&lines(&Agent::start(&dir, 300).outbox), "killed every 7 s");
}

#[test]
fn an_agent_killed_before_its_first_reading_leaves_what_was_carried() {
    let dir = Dir::new();
    let mut agent = Agent::start(&dir, 0);
    (0..=40).for_each(|second| agent.second(second));
    drop(agent);
    drop(Agent::start(&dir, 45));
    drop(Agent::start(&dir, 50));
    let mut agent = Agent::start(&dir, 60);
    (60..=90).for_each(|second| agent.second(second));
    agent.outbox.seal(Time(90_000)).unwrap();
    let unknown = check_books(&lines(&agent.outbox), "two starts without a reading");
    assert_eq!(unknown, Span::secs(20));
}

/// A journal that is full takes nothing; what it was to take waits.
#[test]
fn lines_that_the_disk_refuses_wait_and_then_become_a_gap() {
    let book = |second: i64| {
        let mut book = Book::new(meterbook::tests::module(), "boot-1");
        book.observe(Time(second * 1_000), &reading(second));
        book
    };
    let gap = |to: i64| Line::Gap(Gap { from: Some(Time(to - 1)), to: Time(to), why: "test".into() });
    let dir = Dir::new();
    let agent = Agent::start(&dir, 0);
    let mut owed = Owed::default();
    // A line that is too long for a frame is refused like one that finds no room.
    let long = Line::Gap(Gap { from: Some(Time(0)), to: Time(1), why: "x".repeat(2 << 20) });
    assert!(owed.write(Time(1), vec![long], &book(1), &agent.outbox).unwrap().is_err());
    assert!(owed.write(Time(2), Vec::new(), &book(1), &agent.outbox).is_none(), "not with every reading");
    assert!(owed.write(Time(5_001), Vec::new(), &book(1), &agent.outbox).unwrap().is_err(), "but again");
    assert!(owed.write(Time(5_002), vec![gap(2)], &book(1), &agent.outbox).unwrap().is_err());
    assert_eq!(owed.lines.len(), 2);
    let many = (3..3 + MAX_OWED as i64).map(gap).collect();
    assert!(owed.write(Time(5_003), many, &book(2), &agent.outbox).unwrap().is_err());
    let why = format!("the disk took no lines; {} of them were given up", MAX_OWED + 2);
    assert_eq!(owed.lines, [Line::Gap(Gap { from: Some(Time(0)), to: Time(5_003), why })]);
    assert!(owed.write(Time(5_004), vec![gap(4)], &book(3), &agent.outbox).unwrap().is_ok());
    assert!(owed.write(Time(5_005), Vec::new(), &book(3), &agent.outbox).is_none(), "nothing to write");
    agent.outbox.seal(Time(9_000)).unwrap();
    assert_eq!(lines(&agent.outbox).len(), 2);
}

/// The recorder's task is aborted while its seal is at the disk: the seal goes on, the last one waits for it, and the onlooker is
/// told each segment once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_seal_whose_task_was_aborted_finishes() {
    use std::sync::Mutex;
    use std::sync::mpsc::channel;

    let dir = Dir::new();
    let (entered_in, entered) = channel();
    let (release, released) = channel();
    let told = Arc::new(Mutex::new(Vec::new()));
    let (into, released) = (told.clone(), Mutex::new(released));
    let onlooker: crate::outbox::OnSegment = Arc::new(move |segment| {
        // The second time nobody listens any more.
        let _ = entered_in.send(());
        released.lock().unwrap().recv().unwrap();
        into.lock().unwrap().push(segment.sequence);
    });
    let module = ModuleId::new("m").unwrap();
    let outbox = Outbox::open(&dir.0, &module, "boot-1", Time(0), Some(onlooker)).unwrap();
    let mut book = Book::new(meterbook::tests::module(), "boot-1");
    let mut write = |minute: i64| {
        let lines = book.observe(Time(minute * 60_000), &reading(minute * 60));
        outbox.turn(lines, book.carried().unwrap()).unwrap();
    };
    write(1);
    let sealing = outbox.clone();
    let task = tokio::spawn(async move {
        tokio::task::spawn_blocking(move || sealing.seal(Time(1_000))).await.unwrap().unwrap()
    });
    tokio::task::spawn_blocking(move || entered.recv().unwrap()).await.unwrap();
    task.abort();
    assert!(task.await.unwrap_err().is_cancelled());
    assert!(told.lock().unwrap().is_empty(), "it is still under way");
    write(2);
    let last = outbox.clone();
    let finish = tokio::task::spawn_blocking(move || last.seal(Time(2_000)).unwrap());
    release.send(()).unwrap();
    release.send(()).unwrap();
    assert_eq!(finish.await.unwrap(), Some(2));
    assert_eq!(told.lock().unwrap().clone(), [1, 2]);
}
