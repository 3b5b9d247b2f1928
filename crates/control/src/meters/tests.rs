//! Tests of what meters are held against.

#![allow(clippy::unwrap_used)]

use model::report::PoolReport;

use super::*;
use crate::bench::{id, module};

/// Watches a group of 40 awake miners (8 PH/s, 140 kW) for `seconds`, and returns the codes said in the end.
struct Watch {
    claimed: i64,
    verified: Option<(i64, u64)>,
    power: i64,
    meter: i64,
}

const HONEST: Watch =
    Watch { claimed: 8_000, verified: Some((8_000, 1_000)), power: 140_000, meter: 318_000 };

impl Watch {
    fn codes(&self, seconds: i64) -> Vec<String> {
        let mut meters = Meters::default();
        (0..seconds).for_each(|second| self.second(&mut meters, second));
        meters.findings().into_iter().map(|finding| finding.code).collect()
    }

    fn second(&self, meters: &mut Meters, second: i64) {
        let module = module();
        let reading = |power, claimed| GroupReading {
            awake: 40,
            asleep: 0,
            point: 1,
            power: Some(Watts::new(power)),
            claimed: Some(Hashrate::tera(claimed)),
        };
        let honest = reading(140_000, 8_000);
        let slow = Slow {
            meter: Some(Watts::new(self.meter)),
            groups: [(id("a"), reading(self.power, self.claimed)), (id("b"), honest.clone())].into(),
            pools: [(id("p"), PoolReport { up: 4, power: Some(Watts::kilo(28)) })].into(),
            ..Slow::default()
        };
        let books = |name: &str| (id(name), Group::found(&module.groups[&id(name)], &honest, None));
        let groups = [books("a"), books("b")].into();
        let verified = self.verified.map(|(tera, shares)| Verified {
            rate: Hashrate::tera(tera),
            shares,
            window: Span::secs(60),
        });
        let proven = [(id("a"), (verified, 40))].into();
        meters.listen(&slow, &proven, Span::secs(second));
        meters.observe(&module, &slow, &groups, &proven, Span::secs(second));
    }
}

fn check(watch: Watch, seconds: i64, expected: &[&str]) {
    assert_eq!(watch.codes(seconds), expected);
}

#[test]
fn honest_meters_are_left_alone() {
    check(HONEST, 600, &[]);
    // 400 shares: 5 % and four standard errors of 5 % each make 25 %.
    check(Watch { verified: Some((6_100, 305)), ..HONEST }, 600, &[]);
    check(Watch { verified: Some((1_000, 3)), ..HONEST }, 600, &[]);
    check(Watch { power: 160_000, meter: 338_000, ..HONEST }, 600, &[]);
}

#[test]
fn a_claim_that_shares_do_not_prove_is_said() {
    check(Watch { verified: Some((5_000, 1_000)), ..HONEST }, 600, &["hashrate-unproven"]);
    check(Watch { verified: Some((10_000, 1_000)), ..HONEST }, 600, &["hashrate-excess"]);
    check(Watch { verified: Some((0, 0)), ..HONEST }, 600, &["hashrate-unproven"]);
    check(Watch { verified: None, ..HONEST }, 600, &["hashrate-unproven"]);
}

#[test]
fn silence_takes_five_minutes_to_be_said_and_any_doubt_half_a_minute() {
    check(Watch { verified: None, ..HONEST }, 300, &[]);
    let lies = || Watch { verified: Some((5_000, 1_000)), ..HONEST };
    check(lies(), 59 + 29, &[]);
    check(lies(), 59 + 30, &["hashrate-unproven"]);
}

#[test]
fn a_claim_beyond_the_miners_and_power_off_the_curve_are_said() {
    check(
        Watch { claimed: 10_000, verified: Some((10_000, 1_000)), ..HONEST },
        600,
        &["hashrate-implausible"],
    );
    check(Watch { power: 100_000, meter: 278_000, ..HONEST }, 600, &["power-unexplained"]);
    check(Watch { power: 180_000, meter: 358_000, ..HONEST }, 600, &["power-unexplained"]);
    check(Watch { meter: 250_000, ..HONEST }, 600, &["meter-unexplained"]);
}

#[test]
fn full_power_for_half_of_the_work_is_said_even_if_shares_prove_the_half() {
    let draws_all = |claimed| Watch { claimed, verified: Some((claimed, 1_000)), ..HONEST };
    check(draws_all(4_000), 600, &["hashrate-missing"]);
    check(draws_all(4_000), 29, &[]);
    check(draws_all(6_000), 600, &[]);
    // Half of the power for half of the work is told by the curve: so many miners said that they are awake.
    check(Watch { power: 70_000, meter: 248_000, ..draws_all(4_000) }, 600, &["power-unexplained"]);
    // And more than all of it by both.
    check(
        Watch { power: 180_000, meter: 358_000, ..draws_all(4_000) },
        600,
        &["hashrate-missing", "power-unexplained"],
    );
}

#[test]
fn a_glitch_is_not_said_and_a_cause_that_ended_is_withdrawn() {
    let mut meters = Meters::default();
    let glitch = Watch { power: 100_000, meter: 278_000, ..HONEST };
    (0..29).for_each(|second| glitch.second(&mut meters, second));
    HONEST.second(&mut meters, 29);
    (30..59).for_each(|second| glitch.second(&mut meters, second));
    assert_eq!(meters.findings(), Vec::new(), "29 seconds twice are not 30");
    (59..100).for_each(|second| glitch.second(&mut meters, second));
    assert_eq!(meters.findings().len(), 1);
    (100..129).for_each(|second| HONEST.second(&mut meters, second));
    assert_eq!(meters.findings().len(), 1);
    HONEST.second(&mut meters, 129);
    assert_eq!(meters.findings(), Vec::new());
}

#[test]
fn a_claim_is_told_as_the_mean_of_the_window_that_shares_prove() {
    let mut meters = Meters::default();
    let half = Watch { claimed: 4_000, ..HONEST };
    (0..60).for_each(|second| HONEST.second(&mut meters, second));
    (60..90).for_each(|second| half.second(&mut meters, second));
    let claimed = |window, at| meters.claimed(&id("a"), Span::secs(window), Span::secs(at));
    assert_eq!(claimed(60, 89), Some(Hashrate::tera(6_000)));
    assert_eq!(claimed(30, 89), Some(Hashrate::tera(4_000)));
    assert_eq!(claimed(120, 89), None, "claims do not cover two minutes yet");
    assert_eq!(meters.claimed(&id("x"), Span::secs(60), Span::secs(89)), None);
}
