//! Miners of the bench's module on sets that carry what it draws and what others do.
#![allow(clippy::unwrap_used)]

use model::report::Finding;

use super::*;
use crate::bench::{Bench, boot, config, directive, id};
use crate::brain::Brain;

const SETS: i64 = 4;
/// Minimum load of each set of the bench's island.
const LEAST: Watts = Watts::kilo(150);

struct Stage {
    bench: Bench,
    brain: Brain,
    directive: model::envelope::Directive,
    /// What others on the site draw.
    others: Watts,
    /// The least that a set carried since it was last looked at.
    lowest: Watts,
}

impl Stage {
    /// All miners awake, and nobody pays. `absorbed` is what the island takes without help when a set is lost; `None` arms nothing.
    fn new(others: i64, absorbed: Option<i64>) -> Stage {
        let mut directive = directive(1, Span::ZERO, Watts::kilo(400));
        let armed = &mut directive.envelope.grant.armed;
        match absorbed {
            None => armed.clear(),
            Some(absorbed) => armed.values_mut().for_each(|arming| arming.absorbed = Watts::kilo(absorbed)),
        }
        let (bench, mut brain) = (Bench::new(40), Brain::new(config(&[]), None));
        brain.unpaid(true);
        Stage { bench, brain, directive, others: Watts::kilo(others), lowest: Watts::MAX }
    }

    fn set_power(&self) -> Watts {
        (self.others + self.bench.meter()).fraction(1, SETS)
    }

    fn run(&mut self, seconds: u32) {
        for _ in 0..seconds {
            let power = self.set_power();
            self.bench.fast.gensets.values_mut().for_each(|set| set.power = Some(power));
            self.lowest = self.lowest.min(power);
            self.bench.seconds(&mut self.brain, 1, &self.directive);
        }
    }

    /// Changes of miners awake: when, and by how many.
    fn moves(&self) -> Vec<(Span, i64)> {
        let mut now: BTreeMap<&MinerGroupId, i64> = BTreeMap::new();
        let mut moves = Vec::new();
        for (at, command) in &self.bench.log {
            let crate::port::Command::SetMiners { group, awake, .. } = command else { continue };
            let before = now.insert(group, i64::from(*awake)).unwrap_or(40);
            moves.push((*at, i64::from(*awake) - before));
        }
        moves.retain(|(_, change)| *change != 0);
        moves
    }

    fn findings(&self) -> Vec<Finding> {
        self.brain.report(1).unwrap().findings
    }
}

/// After ten minutes: how many of 80 miners are awake, within a bracket.
fn check(others: i64, absorbed: Option<i64>, awake: std::ops::RangeInclusive<u32>) {
    let mut stage = Stage::new(others, absorbed);
    stage.run(600);
    assert!(awake.contains(&stage.bench.awake()), "{others} {absorbed:?}: {}", stage.bench.awake());
    assert!(stage.lowest >= LEAST, "{others} {absorbed:?}: a set fell to {}", stage.lowest);
    let before = stage.moves().len();
    stage.run(600);
    assert_eq!(stage.moves().len(), before, "{others} {absorbed:?}: it came to rest");
}

#[test]
fn they_come_down_as_far_as_ballast_and_reserve_allow() {
    // The module draws 296 kW with all of them and 14 without; a step of each of four modules is 240 kW.
    check(1_600, None, 0..=0);
    check(826, None, 0..=0);
    // 996 on sets that need 600: 156 kW may go, 44 miners.
    check(700, None, 35..=37);
    check(500, None, 80..=80);
    // Reserve for the loss of a set at 474 kW: all that is armed, or part of it.
    check(1_600, Some(120), 80..=80);
    check(1_600, Some(400), 2..=6);
    check(1_600, Some(500), 0..=0);
}

#[test]
fn each_step_is_the_shares_in_its_turn_and_waits_for_the_one_before() {
    let mut stage = Stage::new(1_600, None);
    stage.run(600);
    let share = stage.directive.envelope.grant.share;
    let mut turns: BTreeMap<i64, Watts> = BTreeMap::new();
    for (at, change) in stage.moves() {
        let into = (at.get() - share.offset.get()).rem_euclid(share.cycle.get());
        assert!(change < 0 && into < share.turn.get(), "{change} at {at}");
        *turns.entry((at.get() - share.offset.get()).div_euclid(share.cycle.get())).or_default() +=
            Watts::new(3_475).times(-change);
    }
    assert!(turns.values().all(|watts| *watts <= share.step), "{turns:?}");
    assert_eq!(turns.len(), 5, "278 kW in steps of 60");
}

#[test]
fn when_a_pool_is_there_they_come_back_by_the_share_after_their_dwell() {
    let mut stage = Stage::new(1_600, None);
    stage.run(200);
    assert_eq!(stage.bench.awake(), 0);
    let found = stage.findings();
    assert!(found.iter().any(|finding| finding.code == "work-unpaid"), "{found:?}");
    stage.brain.unpaid(false);
    stage.run(1);
    assert_eq!(
        (stage.bench.awake(), stage.findings()),
        (0, Vec::new()),
        "nobody is reversed before the dwell"
    );
    stage.run(500);
    assert_eq!(stage.bench.awake(), 80);
}

#[test]
fn they_are_ballast_again_when_the_sets_lack_load() {
    let mut stage = Stage::new(1_600, None);
    stage.run(600);
    assert_eq!(stage.bench.awake(), 0);
    stage.others = Watts::kilo(420);
    stage.run(300);
    assert!(stage.set_power() >= LEAST, "{}", stage.set_power());
    assert!(stage.bench.awake() < 80, "no more than is needed: {}", stage.bench.awake());
}

#[test]
fn what_is_not_known_moves_nothing() {
    let check = |change: &dyn Fn(&mut Stage)| {
        let mut stage = Stage::new(1_600, None);
        stage.run(5);
        change(&mut stage);
        for _ in 0..300 {
            stage.bench.seconds(&mut stage.brain, 1, &stage.directive.clone());
        }
        assert_eq!(stage.bench.awake(), 80);
    };
    check(&|stage| stage.bench.fast.gensets.values_mut().for_each(|set| set.power = None));
    check(&|stage| stage.bench.fast.gensets.get_mut(&id("g2")).unwrap().closed = None);
    check(&|stage| stage.bench.fast.frequency = None);
    check(&|stage| stage.brain.unpaid(false));
    check(&|stage| stage.bench.fast.switch = model::report::Switch::Local);
}

#[test]
fn steps_do_not_add_up_while_dwell_holds_the_miners() {
    let mut stage = Stage::new(1_600, None);
    // Woken just now: the directive held before a restart says nothing of them.
    let mut held = stage.directive.clone();
    held.envelope.answers = boot(stage.bench.at);
    stage.brain = Brain::new(config(&[]), Some(held));
    stage.brain.unpaid(true);
    stage.run(295);
    assert_eq!(stage.bench.awake(), 80);
    stage.run(25);
    let fallen = 80 - i64::from(stage.bench.awake());
    assert!((1..=18).contains(&fallen), "{fallen} at once, and a step is 17");
}
