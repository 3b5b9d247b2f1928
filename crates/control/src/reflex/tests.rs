//! Tests of the reflex: the armed table, the backup by frequency, the switch.

#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;
use crate::bench::{arming, boot, grant, healthy, id, island, module, rung};
use crate::port::{Breaker, Fast, TICK};

/// A reflex on the bench's module, fed tick by tick.
struct Stand {
    reflex: Reflex,
    module: Module,
    grant: Grant,
    fast: Fast,
    drawn: BTreeMap<MinerGroupId, Watts>,
    storage: Option<Watts>,
    at: Span,
}

impl Stand {
    fn new(reflex: Reflex) -> Self {
        let drawn = BTreeMap::new();
        let mut stand = Self {
            reflex,
            module: module(),
            grant: grant(Watts::kilo(400)),
            fast: healthy(),
            drawn,
            storage: None,
            at: Span::secs(100),
        };
        (0..10).for_each(|_| assert_eq!(stand.tick(), Vec::new(), "a healthy island sheds nothing"));
        stand
    }

    fn tick(&mut self) -> Vec<(Command, Cause)> {
        self.at += TICK;
        let (now, boot) = (Time(self.at.get()), boot(self.at));
        let readings = Readings { now, boot, fast: self.fast.clone(), slow: None };
        let (grant, module, drawn) = (Some(&self.grant), &self.module, &self.drawn);
        let view = View { readings: &readings, grant, module, drawn, storage: self.storage };
        let actions = self.reflex.tick(view);
        actions.into_iter().map(|(command, shed)| (command, shed.cause)).collect()
    }

    fn opened(&mut self) -> Vec<String> {
        let opened = self.tick().into_iter();
        opened.map(|(command, _)| format!("{command:?}").replace("OpenFeeder", "")).collect()
    }

    fn set(&mut self, set: &str, closed: Option<bool>, kw: Option<i64>) {
        self.fast.gensets.insert(id(set), Breaker { closed, power: kw.map(Watts::kilo) });
    }

    fn frequency(&mut self, mhz: i64) {
        self.fast.frequency = Some(Frequency::new(mhz));
    }
}

fn stand() -> Stand {
    Stand::new(Reflex::new(island()))
}

#[test]
fn the_armed_rungs_open_in_the_very_tick_in_which_the_breaker_does() {
    let mut stand = stand();
    stand.set("g1", Some(false), Some(0));
    let cause = Cause::Armed(id("genset-g1"));
    let expected = vec![(Command::OpenFeeder(id("a")), cause.clone()), (Command::OpenFeeder(id("b")), cause)];
    assert_eq!(stand.tick(), expected);
    assert_eq!(stand.tick(), Vec::new(), "once");
}

#[test]
fn a_smaller_loss_opens_a_prefix_rounded_up() {
    // 400 kW were armed for, of which 120 are absorbed; two rungs of 140.
    for (lost_kw, opened) in [(100, 0), (120, 0), (121, 1), (250, 1), (259, 1), (261, 2), (400, 2), (600, 2)]
    {
        let mut stand = stand();
        stand.set("g1", Some(true), Some(lost_kw));
        stand.tick();
        stand.set("g1", Some(false), None);
        assert_eq!(stand.opened().len(), opened, "{lost_kw} kW lost");
    }
}

#[test]
fn a_loss_of_unknown_size_counts_as_what_was_armed_for() {
    let arming = arming("g1").1;
    assert_eq!(rungs_for(&arming, None, &grant(Watts::ZERO).ladder, &BTreeMap::new()), [0, 1]);
}

#[test]
fn a_rung_counts_only_what_it_draws_now() {
    let ladder = grant(Watts::ZERO).ladder;
    let drawn = [(id("a"), Watts::kilo(20))].into();
    assert_eq!(rungs_for(&arming("g1").1, Some(Watts::kilo(250)), &ladder, &drawn), [0, 1]);
}

#[test]
fn an_unknown_breaker_is_no_trip_and_hides_none() {
    let mut stand = stand();
    stand.set("g1", None, None);
    assert_eq!(stand.opened().len(), 0);
    stand.set("g1", Some(true), Some(400));
    assert_eq!(stand.opened().len(), 0);
    stand.set("g1", None, None);
    stand.tick();
    stand.set("g1", Some(false), None);
    assert_eq!(stand.opened().len(), 2, "open after an unknown tick");
}

#[test]
fn a_set_without_an_arming_sheds_nothing_by_its_breaker() {
    let mut stand = stand();
    stand.set("g3", Some(false), None);
    assert_eq!(stand.opened().len(), 0);
}

#[test]
fn frequency_opens_rung_after_rung_each_waiting_for_the_last() {
    let mut stand = stand();
    stand.frequency(58_700);
    // The slope is known after six readings; until then only the deviation itself counts.
    assert_eq!(stand.opened(), ["(a)"]);
    // It stays low: the second rung waits 150 ms for the first and 50 ms for a slope without it.
    let waits: Vec<usize> = (0..25).map(|_| stand.opened().len()).collect();
    assert_eq!(waits.iter().position(|&count| count > 0), Some(19), "{waits:?}");
}

#[test]
fn a_fast_fall_is_anticipated_and_a_recovery_sheds_nothing() {
    let mut falling = stand();
    let opened: Vec<usize> = (1..=12)
        .map(|n| {
            falling.frequency(60_000 - 50 * n);
            falling.opened().len()
        })
        .collect();
    // At 500 mHz below, falling 50 mHz a tick, it will be 1,250 below when the rung has acted.
    assert_eq!(opened.iter().position(|&count| count == 1), Some(7), "{opened:?}");
    let mut rising = stand();
    rising.fast.frequency = None;
    rising.tick();
    let opened: usize = (0..30)
        .map(|n| {
            rising.frequency(59_250 + 20 * n);
            rising.opened().len()
        })
        .sum();
    assert_eq!(opened, 0, "below the threshold only while it rises");
}

#[test]
fn a_collapse_takes_the_whole_ladder_at_once() {
    let mut stand = stand();
    stand.frequency(57_900);
    assert_eq!(stand.opened(), ["(a)", "(b)"]);
}

#[test]
fn an_unknown_frequency_sheds_nothing() {
    let mut stand = stand();
    stand.fast.frequency = None;
    (0..50).for_each(|_| assert_eq!(stand.tick(), Vec::new()));
}

#[test]
fn a_droop_island_under_load_stands_where_it_should() {
    let mut droop = island();
    droop.governor = model::site::Governor::Droop { permille: 40 };
    let mut reflex = Stand {
        reflex: Reflex::new(droop),
        module: module(),
        grant: grant(Watts::kilo(400)),
        fast: healthy(),
        drawn: BTreeMap::new(),
        storage: None,
        at: Span::ZERO,
    };
    // 80 % load: 60,000 − 80 % × 2,400 = 58,080.
    reflex.frequency(58_080);
    (0..50).for_each(|_| assert_eq!(reflex.tick(), Vec::new()));
    assert_eq!(reflex.reflex.deviation(), Some(Frequency::ZERO));
    reflex.frequency(57_250);
    assert_eq!(reflex.opened(), ["(a)"]);
}

#[test]
fn the_switch_opens_every_feeder_also_without_a_grant_or_reflex() {
    for switch in [Switch::Off, Switch::EmergencyStop] {
        let mut stand = Stand::new(Reflex::disabled(island()));
        stand.fast.switch = switch;
        stand.grant.ladder.clear();
        assert_eq!(stand.opened(), ["(a)", "(b)"]);
        assert_eq!(stand.opened().len(), 0, "told once");
        let again: usize = (0..200).map(|_| stand.opened().len()).sum();
        assert_eq!(again, 2, "a stuck feeder is told again after a second");
        stand.fast.feeders.values_mut().for_each(|feeder| *feeder = FeederState::Open);
        assert_eq!((0..200).map(|_| stand.opened().len()).sum::<usize>(), 0);
    }
}

#[test]
fn a_disabled_reflex_watches_the_island_go_down() {
    let mut stand = Stand::new(Reflex::disabled(island()));
    stand.set("g1", Some(false), None);
    stand.frequency(57_000);
    assert_eq!(stand.opened().len(), 0);
}

#[test]
fn a_dark_island_opens_its_feeders() {
    let mut stand = stand();
    stand.grant.ladder.clear();
    ["g1", "g2", "g3", "g4"].iter().for_each(|set| stand.set(set, Some(false), None));
    let opened: Vec<usize> = (0..4).map(|_| stand.opened().len()).collect();
    assert_eq!(opened, [0, 0, 2, 0], "after three ticks");
    assert!(stand.reflex.is_dark());
}

#[test]
fn storage_and_unknown_loads_are_passed_over() {
    let mut stand = stand();
    stand.grant.ladder[0].actuator = Actuator::Storage;
    stand.grant.ladder.push(rung("nobody", 100));
    stand.set("g1", Some(false), None);
    assert_eq!(stand.opened(), ["(b)"]);
}

/// A stand whose first rung is 90 kW of storage, armed beside the feeders.
fn with_storage() -> Stand {
    let mut stand = stand();
    let rung = Rung { load: RungLoad::Storage, actuator: Actuator::Storage, ..rung("a", 800) };
    stand.grant.ladder.insert(0, Rung { watts: Watts::kilo(90), ..rung });
    for arming in stand.grant.armed.values_mut() {
        (arming.absorbed, arming.rungs) = (Watts::kilo(210), vec![0, 1, 2]);
        arming.island_shed = Watts::kilo(280);
    }
    stand.storage = Some(Watts::kilo(-20));
    stand
}

#[test]
fn storage_delivers_what_was_lost_on_top_of_what_it_is_told() {
    // The feeders are asked for what lies above 210 kW, storage included.
    for (lost_kw, told, feeders) in [(60, 40, 0), (200, 70, 0), (250, 70, 1), (400, 70, 2)] {
        let mut stand = with_storage();
        stand.set("g1", Some(true), Some(lost_kw));
        stand.tick();
        stand.set("g1", Some(false), None);
        let commands: Vec<Command> = stand.tick().into_iter().map(|(command, _)| command).collect();
        assert_eq!(commands.first(), Some(&Command::SetStorage(Watts::kilo(told))), "{lost_kw} kW lost");
        assert_eq!(commands.len(), 1 + feeders, "{lost_kw} kW lost: {commands:?}");
        assert_eq!(stand.opened().len(), 0, "once");
    }
}

#[test]
fn an_agent_that_leads_no_storage_leaves_it_alone_and_opens_its_feeders() {
    let mut stand = with_storage();
    stand.storage = None;
    stand.set("g1", Some(false), Some(0));
    assert_eq!(stand.opened(), ["(a)", "(b)"]);
}

#[test]
fn storage_is_the_first_answer_to_a_falling_frequency() {
    let mut stand = with_storage();
    stand.grant.armed.clear();
    stand.frequency(59_100);
    assert_eq!(stand.opened(), ["SetStorage(70000W)"]);
}

proptest! {
    /// Over all modules of an island the prefixes cover what is short, whatever the loss and the split.
    #[test]
    fn the_prefixes_of_all_modules_cover_the_shortfall(
        rungs in prop::collection::vec(prop::collection::vec(1_000i64..200_000, 1..5), 1..5),
        absorbed in 0i64..500_000,
        lost in 0i64..2_000_000,
    ) {
        let ladder = |watts: &Vec<i64>| -> Vec<Rung> {
            watts.iter().map(|&watts| Rung { watts: Watts::new(watts), ..rung("a", 0) }).collect()
        };
        let island_shed: i64 = rungs.iter().flatten().sum();
        let mut shed = Watts::ZERO;
        for module in &rungs {
            let ladder = ladder(module);
            let arming = Arming {
                source: id("g1"),
                lost: Watts::new(island_shed + absorbed),
                absorbed: Watts::new(absorbed),
                island_shed: Watts::new(island_shed),
                rungs: (0..u32::try_from(ladder.len()).unwrap()).collect(),
            };
            let chosen = rungs_for(&arming, Some(Watts::new(lost)), &ladder, &BTreeMap::new());
            shed += chosen.iter().map(|&index| ladder[index as usize].watts).sum();
        }
        prop_assert!(shed >= Watts::new((lost - absorbed).min(island_shed)));
        prop_assert!(lost > absorbed || shed == Watts::ZERO);
    }

    /// Whatever happened before, the tick in which an armed set's breaker opens sheds for it.
    #[test]
    fn a_trip_is_answered_in_its_tick(before in prop::collection::vec((0usize..4, 300i64..500), 0..40)) {
        let mut stand = stand();
        for (set, kw) in before {
            let set = ["g1", "g2", "g3", "g4"][set];
            stand.set(set, Some(true), Some(kw));
            prop_assert_eq!(stand.tick(), Vec::new());
        }
        stand.set("g2", Some(false), None);
        prop_assert!(!stand.opened().is_empty());
    }
}
