//! Honest and sabotaged traces of invariant 3.

use model::site::GasFlow;

use super::super::testing::*;
use super::super::{Summary, Witness};
use super::*;
use crate::bus::Breach;

/// Feeds 180 s of island load from `load` (kW at a tenth of a second), with whatever `change` does to the truth.
fn run(load: impl Fn(i64) -> i64, change: impl Fn(i64, &mut crate::truth::Truth)) -> Summary {
    let mut witness = settled();
    for second in 1..=180 {
        feed(&mut witness, second..=second, &change);
        for tenth in 0..10 {
            let now = at(second) + Span::new(tenth * 100);
            witness.load(&site_id(), now, Watts::kilo(load(second * 10 + tenth)));
        }
    }
    witness.finish()
}

fn site() -> String {
    format!("site {}", site_id())
}

#[test]
fn a_rise_within_the_step_and_the_ramp_passes() {
    // Two sets take 120 kW at once, and 2.5 kW/s × 60 s + 120 kW = 270 kW in a minute.
    check(&run(|_| 158, |_, _| {}), 3, &[]);
    check(&run(|tenth| if tenth < 900 { 158 } else { 270 }, |_, _| {}), 3, &[]);
    check(&run(|tenth| 100 + (tenth / 300) * 100, |_, _| {}), 3, &[]);
}

#[test]
fn too_large_a_step_and_too_long_a_ramp_fire() {
    check(&run(|tenth| if tenth < 900 { 158 } else { 290 }, |_, _| {}), 3, &[&site()]);
    check(&run(|tenth| 100 + (tenth / 150) * 90, |_, _| {}), 3, &[&site()]);
}

#[test]
fn what_follows_a_trip_is_excused() {
    let mut witness = settled();
    feed(&mut witness, 1..=30, |_, _| {});
    witness.load(&site_id(), at(30), Watts::kilo(100));
    witness.second(&site_id(), &truth(31), &[trip(31, "g1")]);
    witness.load(&site_id(), at(31), Watts::kilo(400));
    let mut low = truth(32);
    low.frequency = Some(Frequency::new(57_500));
    witness.second(&site_id(), &low, &[]);
    check(&witness.finish(), 3, &[]);
}

#[test]
fn frequency_that_strays_by_choice_fires() {
    let stray = |second: i64, millihertz: i64| {
        run(
            |_| 158,
            move |now, truth| {
                if now == second {
                    truth.frequency = Some(Frequency::new(millihertz));
                }
            },
        )
    };
    check(&stray(60, 58_600), 3, &[]);
    check(&stray(60, 58_400), 3, &[&site()]);
    check(&stray(60, 61_600), 3, &[&site()]);
}

#[test]
fn a_block_that_a_set_met_by_choice_fires_and_an_aftermath_does_not() {
    let breach = |aftermath: bool| {
        let mut witness = settled();
        let set = GensetId::new("g1").expect("a valid id");
        let breach = Breach { set, kind: BreachKind::BlockStep, seen: 70_000.0, limit: 60_000.0, aftermath };
        witness.second(&site_id(), &truth(1), &[event(1, What::Bus(Happened::Breach(breach)))]);
        witness.finish()
    };
    check(&breach(true), 3, &[]);
    check(&breach(false), 3, &[&format!("{} genset g1", site())]);
}

#[test]
fn sets_run_and_rest_for_their_least_times() {
    use GensetState::{Off, Online, Starting, Stopping};
    let mut cases: Vec<(Vec<(i64, GensetState)>, usize)> = Vec::new();
    // It was online when the witness came: nobody knows since when.
    cases.push((vec![(0, Online), (60, Stopping), (90, Off), (900, Starting), (990, Online)], 0));
    cases.push((vec![(0, Online), (60, Stopping), (90, Off), (600, Starting)], 1));
    cases.push((vec![(0, Off), (60, Starting), (150, Online), (1_900, Stopping)], 1));
    cases.push((vec![(0, Off), (60, Starting), (150, Online), (1_950, Stopping)], 0));
    cases.push((vec![(0, Off), (60, Starting), (100, Off), (110, Starting)], 0));
    cases.push((vec![(0, Off), (60, Starting), (150, Online), (200, GensetState::Tripped)], 0));
    for (states, broken) in cases {
        let mut witness = witness();
        for (second, state) in &states {
            let mut truth = truth(*second);
            let set = truth.gensets.values_mut().next().expect("the reference site has sets");
            (set.state, set.since) = (*state, at(*second));
            witness.second(&site_id(), &truth, &[]);
        }
        let subject = format!("{} genset g1", site());
        check(&witness.finish(), 3, &vec![subject.as_str(); broken]);
    }
}

#[test]
fn a_set_below_its_least_load_fires_only_while_load_could_have_been_placed() {
    let low = |second: i64, awake: u32| {
        run(
            |_| 60,
            move |now, truth| {
                truth.gas.inflow = GasFlow::mcf(120);
                group_of(truth).awake = awake;
                if now >= second {
                    truth.gensets.values_mut().for_each(|set| set.power = Watts::kilo(30));
                    module_of(truth).total.power = Watts::kilo(52);
                }
            },
        )
    };
    let sets = ["g1", "g2"].map(|set| format!("{} genset {set}", site()));
    check(&low(60, 0), 3, &[&sets[0], &sets[1]]);
    check(&low(150, 0), 3, &[]);
    let mut witness: Witness = settled();
    let awake = |truth: &mut crate::truth::Truth| {
        module_of(truth).groups.values_mut().for_each(|group| group.awake = 30)
    };
    feed(&mut witness, 1..=180, |_, truth| {
        awake(truth);
        truth.gensets.values_mut().for_each(|set| set.power = Watts::kilo(30));
    });
    check(&witness.finish(), 3, &[]);
}
