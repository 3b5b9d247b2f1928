//! Honest and sabotaged lines of invariant 6.

use model::report::RunPhase;
use model::{Span, TenantId};

use super::super::testing::*;
use super::super::{Summary, Witness};
use super::*;

/// True draw of workload w1, which runs from 10 s on.
const AI: i64 = 4_000;

fn seal(witness: &mut Witness, sequence: u64, line: EnergyLine) {
    let (from, to) = (line.from, line.to);
    let lines = vec![Line::Energy(line)];
    witness.ledger(&Segment { module: module_id(), sequence, from, to, lines });
}

fn ran() -> Witness {
    let mut witness = settled();
    feed(&mut witness, 1..=120, |second, truth| {
        let mut shown = run(1, RunPhase::Running, (0, 0));
        shown.ai.energy = WattSeconds::new(AI * (second - 10));
        if second >= 10 {
            module_of(truth).runs.insert((workload_id("w1"), 1), shown);
        }
    });
    witness
}

/// The interval from 30 to 60 s with the truth in it: the module's whole draw, of which w1 has its part.
fn line(meter: i64, workload: i64, unattributed: i64) -> EnergyLine {
    let tenant = TenantId::new("acme").expect("a valid id");
    let usage = Use::Workload { tenant, workload: workload_id("w1") };
    let rest = WattSeconds::new(meter - workload - unattributed);
    EnergyLine {
        from: at(30),
        to: at(60),
        meter: WattSeconds::new(meter),
        uses: vec![(usage, WattSeconds::new(workload)), (Use::Auxiliary, rest)],
        unattributed: WattSeconds::new(unattributed),
    }
}

fn judge(line: EnergyLine) -> Summary {
    let mut witness = ran();
    seal(&mut witness, 1, line);
    witness.finish()
}

const METER: i64 = DRAW * 1_000 * 30;

#[test]
fn an_honest_line_passes() {
    check(&judge(line(METER, AI * 30, 0)), 6, &[]);
    check(&judge(line(METER + 2, AI * 30, 0)), 6, &[]);
    // 2 % of 4.5 MWs are 90,000 Ws; 0.5 % are 22,500 Ws; the floor is 2,000 Ws.
    check(&judge(line(METER, AI * 30, 91_999)), 6, &[]);
    check(&judge(line(METER, AI * 30, -24_400)), 6, &[]);
    check(&judge(line(METER, AI * 30 + 3_100, 0)), 6, &[]);
}

#[test]
fn each_way_to_be_wrong_fires() {
    let module = format!("module {} energy", module_id());
    let mut unequal = line(METER, AI * 30, 0);
    unequal.uses[1].1 += WattSeconds::new(1);
    check(&judge(unequal), 6, &[&module]);
    check(&judge(line(METER, AI * 30, 92_100)), 6, &[&module]);
    check(&judge(line(METER, AI * 30, -24_600)), 6, &[&module]);
    check(&judge(line(METER + 10, AI * 30, 0)), 6, &[&module]);
    check(&judge(line(METER, AI * 30 + 3_300, 0)), 6, &["workload w1 energy"]);
    check(&judge(line(METER, AI * 30 - 3_300, 0)), 6, &["workload w1 energy"]);
    let mut unbilled = line(METER, 0, 0);
    unbilled.uses.remove(0);
    check(&judge(unbilled), 6, &["workload w1 energy"]);
}

#[test]
fn a_second_that_is_billed_twice_fires() {
    let mut witness = ran();
    seal(&mut witness, 1, line(METER, AI * 30, 0));
    seal(&mut witness, 2, line(METER, AI * 30, 0));
    check(&witness.finish(), 6, &[&format!("module {} energy", module_id())]);
}

#[test]
fn an_interval_between_samples_is_bounded_by_those_around_it() {
    let shifted = |meter: i64| {
        let mut line = line(meter, AI * 30, 0);
        (line.from, line.to) = (line.from + Span::new(300), line.to + Span::new(300));
        judge(line)
    };
    check(&shifted(METER), 6, &[]);
    check(&shifted(METER + DRAW * 1_000), 6, &[]);
    check(&shifted(METER + DRAW * 1_000 + 3), 6, &[&format!("module {} energy", module_id())]);
}

#[test]
fn a_run_that_ended_long_ago_and_is_still_shown_draws_nothing() {
    let mut samples = Samples::default();
    for second in 0..1_500 {
        let mut truth = truth(second);
        let mut shown = run(1, RunPhase::Stopped, (0, 0));
        shown.ai.energy = WattSeconds::new(AI * second.min(100));
        module_of(&mut truth).runs.insert((workload_id("w1"), 1), shown);
        samples.take(at(second), module_of(&mut truth));
    }
    let nothing = Range { least: WattSeconds::ZERO, most: WattSeconds::ZERO };
    assert_eq!(samples.drawn(&workload_id("w1"), at(1_000), at(1_499)), Some(nothing));
}

#[test]
fn samples_are_kept_for_ten_minutes_and_bounded() {
    let mut samples = Samples::default();
    for second in 0..2_000 {
        let mut truth = truth(second);
        let mut shown = run(1, RunPhase::Running, (0, 0));
        shown.ai.energy = WattSeconds::new(AI * second.min(1_000));
        if second < 1_700 {
            module_of(&mut truth).runs.insert((workload_id("w1"), 1), shown);
        }
        samples.take(at(second), module_of(&mut truth));
    }
    assert_eq!(samples.metered(at(1_300), at(1_400)), None);
    let expected = WattSeconds::new(DRAW * 1_000 * 100);
    assert_eq!(samples.metered(at(1_400), at(1_500)), Some(Range { least: expected, most: expected }));
    assert_eq!(samples.workloads().count(), 0, "it ended long ago and is shown no more");
}

/// Bills 30 to 60 s, has the agent end at `down` s, and bills `line` beside a gap line of `gap` in the next segment.
fn restarted(down: Option<i64>, gap: Option<(Option<i64>, i64)>, mut line: EnergyLine) -> Summary {
    let mut witness = ran();
    seal(&mut witness, 1, self::line(METER, AI * 30, 0));
    if let Some(down) = down {
        witness.agent(&module_id(), at(down), false);
        witness.agent(&module_id(), at(down + 1), true);
    }
    let why = "the agent did not run".to_owned();
    let gap = gap.map(|(from, to)| Line::Gap(Gap { from: from.map(at), to: at(to), why }));
    line.uses.retain(|(_, energy)| *energy != WattSeconds::ZERO);
    let (from, to) = (line.from, line.to);
    let lines = gap.into_iter().chain([Line::Energy(line)]).collect();
    witness.ledger(&Segment { module: module_id(), sequence: 2, from, to, lines });
    witness.finish()
}

/// A line of what the meter counted from `from` to `to` s, of which w1 is billed so much and the rest is unattributed.
fn unread(from: i64, to: i64, workload: i64) -> EnergyLine {
    let meter = DRAW * 1_000 * (to - from);
    EnergyLine { from: at(from), to: at(to), ..line(meter, workload, meter - workload) }
}

#[test]
fn the_time_of_a_restart_may_be_unattributed_where_a_gap_says_so() {
    let module = format!("module {} energy", module_id());
    check(&restarted(Some(65), Some((Some(60), 70)), unread(60, 70, 0)), 6, &[]);
    check(&restarted(Some(65), Some((Some(60), 70)), unread(60, 70, AI * 10)), 6, &[]);
    check(&restarted(Some(65), Some((Some(60), 70)), unread(60, 70, AI * 20)), 6, &["workload w1 energy"]);
    // No gap, another gap, no restart, or one at another time.
    for (down, gap) in [
        (Some(65), None),
        (Some(65), Some((Some(60), 69))),
        (None, Some((Some(60), 70))),
        (Some(75), Some((Some(60), 70))),
    ] {
        let summary = restarted(down, gap, unread(60, 70, 0));
        check(&summary, 6, &[&module, "workload w1 energy"]);
    }
    let mut invented = unread(60, 70, 0);
    invented.meter += WattSeconds::new(10);
    invented.unattributed += WattSeconds::new(10);
    check(&restarted(Some(65), Some((Some(60), 70)), invented), 6, &[&module]);
}

#[test]
fn what_a_restart_leaves_out_must_be_told() {
    let module = format!("module {} energy", module_id());
    let next = || EnergyLine { from: at(70), to: at(100), ..line(METER, AI * 30, 0) };
    check(&restarted(Some(65), None, next()), 6, &[&module]);
    check(&restarted(Some(65), Some((Some(62), 70)), next()), 6, &[&module]);
    check(&restarted(Some(65), Some((Some(60), 68)), next()), 6, &[&module]);
    check(&restarted(Some(65), Some((Some(60), 70)), next()), 6, &[]);
    check(&restarted(Some(65), Some((None, 70)), next()), 6, &[]);
    check(&restarted(None, None, next()), 6, &[]);
}
