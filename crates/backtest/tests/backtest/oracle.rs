//! The bracket around regret on seeded weeks: its sides stand in order, and the fit chooses what earned most.

use backtest::oracle::{SPLITS, Verdict, fit, week as judge};
use backtest::{Kind, Strategy, run};

use crate::scene::*;

#[test]
fn the_sides_of_the_bracket_stand_in_order() {
    let world = week(11, 3, 900);
    let split = fit(&world.window(0, 1), &|| {}).unwrap();
    assert!(SPLITS.contains(&split));
    let judged = judge(&world.window(1, 2), &Strategy::new(Kind::Flareshift), split, &|| {}).unwrap();
    assert_eq!(judged.refused, 0);
    assert!(judged.ours <= judged.oracle() && judged.floor <= judged.oracle());
    assert!(judged.oracle() <= judged.bound, "{judged:?}");
    assert!(judged.total_ppm().unwrap() >= 0 && judged.to_bound_ppm() >= judged.total_ppm());
    let verdict = Verdict::of(std::slice::from_ref(&judged));
    assert_eq!(verdict.median_total_ppm, judged.total_ppm());
}

#[test]
fn the_fit_takes_the_split_that_earned_most() {
    let world = week(12, 1, 900);
    let split = fit(&world, &|| {}).unwrap();
    let net = |split_permille| {
        let strategy = Strategy { split_permille, check_every: 0, ..Strategy::new(Kind::StaticSplit) };
        run(&world, &strategy).unwrap().total.money.net()
    };
    assert!(SPLITS.iter().all(|other| net(*other) <= net(split)), "{split}");
}
