//! Tests of acceptance and of what is in force.

#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;
use crate::bench::{assignment, boot, directive, id};
use model::workload::Tier;

const CEILING: Watts = Watts::kilo(300);

fn bounds() -> Bounds {
    Bounds { module: id("m1"), validity: MAX_VALIDITY }
}

/// Offers a changed directive of generation 5 at 60 s to an agent that holds generation 5, answering 30 s.
fn check(change: impl FnOnce(&mut Directive), expected: Result<Accepted, &str>) {
    let held = directive(5, Span::secs(30), CEILING);
    let mut offered = directive(5, Span::secs(50), CEILING);
    change(&mut offered);
    let outcome = accept(Some(&held), &offered, &boot(Span::secs(60)), &bounds());
    match (&outcome, expected) {
        (Ok(accepted), Ok(wanted)) => assert_eq!(*accepted, wanted),
        (Err(error), Err(wanted)) => assert!(error.to_string().contains(wanted), "{error}"),
        _ => panic!("{outcome:?} instead of {expected:?}"),
    }
}

#[test]
fn a_renewal_changes_nothing_but_the_report_it_answers() {
    check(|_| {}, Ok(Accepted::Renewal));
    check(|d| d.envelope.answers = boot(Span::secs(30)), Ok(Accepted::Renewal));
    check(|d| d.envelope.answers = boot(Span::secs(29)), Err("answers an earlier report"));
    check(|d| d.envelope.grant.ceiling = Watts::kilo(301), Err("differs from the one held"));
    check(|d| d.envelope.valid_for = Span::secs(119), Err("differs from the one held"));
    check(|d| d.miners.clear(), Err("differs from the one held"));
}

#[test]
fn precedence_decides_between_different_ones() {
    check(|d| d.envelope.generation = 6, Ok(Accepted::Newer));
    check(|d| d.envelope.generation = 4, Err("a newer leader or plan decides"));
    check(|d| d.envelope.fence.leader = 2, Ok(Accepted::Newer));
    check(|d| (d.envelope.fence.leader, d.envelope.generation) = (2, 1), Ok(Accepted::Newer));
    check(|d| (d.envelope.fence.leader, d.envelope.generation) = (0, 9), Err("a newer leader"));
    check(|d| (d.envelope.fence.epoch, d.envelope.generation) = (0, 9), Err("a newer leader"));
}

#[test]
fn what_is_not_sound_is_refused_whatever_its_precedence() {
    let newer = |d: &mut Directive| d.envelope.generation = 6;
    let refuse = |change: &dyn Fn(&mut Directive), error: &str| {
        check(
            |d| {
                newer(d);
                change(d);
            },
            Err(error),
        );
    };
    refuse(&|d| d.envelope.module = id("m2"), "this agent serves m1");
    refuse(&|d| d.envelope.answers.boot_id = "boot-0".into(), "another boot");
    refuse(&|d| d.envelope.answers.at = Span::secs(61), "ahead of this agent's clock");
    refuse(&|d| d.envelope.valid_for = Span::ZERO, "offer more than zero");
    refuse(&|d| d.envelope.valid_for = Span::secs(601), "at most 600000 ms");
    refuse(&|d| d.envelope.grant.fallback.clear(), "fallback programme is empty");
    refuse(&|d| d.envelope.grant.fallback.reverse(), "not in order of time");
    refuse(&|d| d.envelope.grant.ceiling = Watts::new(-1), "a ceiling is negative");
    refuse(&|d| d.envelope.grant.ladder.clear(), "not in the ladder");
    let elsewhere = |d: &mut Directive| {
        let mut run = assignment(Tier::Firm, 1, &[(0, 8)]);
        run.placement.module = id("m2");
        d.runs.insert(id("w"), run);
    };
    refuse(&elsewhere, "placed on another module");
}

#[test]
fn the_first_one_and_one_after_a_reboot_are_taken() {
    let offered = directive(1, Span::secs(50), CEILING);
    assert_eq!(accept(None, &offered, &boot(Span::secs(60)), &bounds()), Ok(Accepted::Newer));
    let mut held = offered.clone();
    held.envelope.answers = BootStamp { boot_id: "boot-0".into(), at: Span::hours(9) };
    assert_eq!(accept(Some(&held), &offered, &boot(Span::secs(60)), &bounds()), Ok(Accepted::Renewal));
}

#[test]
fn what_is_in_force_follows_from_the_age_of_the_answered_report() {
    let holder = Holder::new(bounds(), Some(directive(1, Span::secs(1_000), CEILING)));
    let check = |at: BootStamp, state, ceiling_kw: i64| {
        let standing = holder.standing(&at, Watts::kilo(13));
        assert_eq!((standing.state, standing.ceiling), (state, Watts::kilo(ceiling_kw)), "{at:?}");
    };
    check(boot(Span::secs(1_000)), EnvelopeState::Valid, 300);
    check(boot(Span::new(1_119_999)), EnvelopeState::Valid, 300);
    check(boot(Span::secs(1_120)), EnvelopeState::Fallback, 120);
    check(boot(Span::secs(1_120) + Span::hours(1)), EnvelopeState::Fallback, 60);
    let other = |at| BootStamp { boot_id: "boot-2".into(), at };
    check(other(Span::secs(1_000)), EnvelopeState::Fallback, 120);
    check(other(Span::hours(2)), EnvelopeState::Fallback, 60);
}

#[test]
fn without_an_envelope_the_module_draws_the_least() {
    let mut moved = directive(1, Span::ZERO, CEILING);
    moved.envelope.module = id("m2");
    for restored in [None, Some(moved)] {
        let holder = Holder::new(bounds(), restored);
        let standing = holder.standing(&boot(Span::ZERO), Watts::kilo(13));
        assert_eq!((standing.state, standing.ceiling), (EnvelopeState::None, Watts::kilo(13)));
    }
}

proptest! {
    /// However deliveries are shuffled and repeated, what is held never falls back, and ends at the highest.
    #[test]
    fn precedence_never_falls(
        offers in prop::collection::vec((0u64..3, 0u64..3, 0u64..4, 0i64..60), 1..30),
    ) {
        let mut holder = Holder::new(bounds(), None);
        let mut highest = (Fence::default(), 0);
        for (epoch, leader, generation, answers) in offers {
            let mut offered = directive(generation, Span::secs(answers), CEILING);
            offered.envelope.fence = Fence { epoch, leader, plan: 1 };
            highest = highest.max(offered.envelope.precedence());
            let before = holder.held().map(|held| held.envelope.clone());
            let outcome = holder.offer(offered, &boot(Span::secs(60)));
            let after = holder.held().unwrap().envelope.clone();
            prop_assert_eq!(after.precedence(), highest);
            if let (Some(before), Err(_)) = (&before, &outcome) {
                prop_assert_eq!(before, &after);
            }
            if let (Some(before), Ok(Accepted::Renewal)) = (before, outcome) {
                prop_assert!(after.answers.at >= before.answers.at);
            }
        }
    }
}
