//! `flareshift dev` as a user runs it: a fleet that earns, a set that trips, real series.
//!
//! Every number comes from the summary, whose invariants are judged by the simulation's own meters.
//! Read next: `sabotage.rs`, where the same invariants must fire.

use std::path::PathBuf;

use crate::support::cli::text;
use crate::support::dev::{WATCHED, run};
use crate::support::{alone, repository};

/// Jobs of the trace that ask for no GPU, by the README that lies beside it.
const WITHOUT_GPU: u64 = 608;
/// Jobs of the trace that ask for a fraction of one, by the same.
const FRACTIONS: u64 = 1_486;

#[test]
fn dev_headless_is_sound_and_earns_with_mining_and_ai() {
    let _alone = alone();
    let run = run(&["--for", "120s", "--speed", "20"]);
    run.assert_sound(&WATCHED);
    assert_eq!(run.number("simulated_milliseconds"), 120_000);
    assert_eq!(run.summary["not_looked_at"], serde_json::json!([2]), "no set trips in an ordinary run");
    assert!(run.accepted_shares() > 0, "{}", run.summary["fleet"]["shares"]);
    let fleet = &run.summary["fleet"];
    for use_ in ["ai_micro_dollars_per_hour", "mining_micro_dollars_per_hour"] {
        assert!(fleet["revenue"][use_].as_i64().unwrap() > 0, "{use_} in {}", fleet["revenue"]);
    }
}

#[test]
fn a_trip_at_full_load_is_survived_with_the_reflex() {
    let _alone = alone();
    let run = run(&["--fault", "genset-trip@60s", "--for", "150s", "--speed", "20"]);
    run.assert_sound(&[1, 2, 3]);
    assert_eq!((run.number("blackouts"), run.number("firm_lost")), (0, 0));
}

/// The standby keeps a ledger of its own, so what it counts was mined after it took over.
#[test]
fn the_office_is_lost_in_the_middle_of_a_run_and_the_standby_carries_on() {
    let _alone = alone();
    let run = run(&["--fault", "leader-loss@50s", "--for", "150s", "--speed", "20"]);
    run.assert_sound(&WATCHED);
    let since = run.summary["fleet"]["leadership"]["since"].as_str().unwrap();
    assert!(since >= "2026-02-12T00:00:50", "the run began at 00:00:00 and is led since {since}");
    assert_eq!((run.number("blackouts"), run.number("firm_lost")), (0, 0));
    assert!(run.accepted_shares() > 0, "{}", run.summary["fleet"]["shares"]);
    assert!(run.workloads() > 0, "what was ordered before is known to the standby");
}

#[test]
fn a_trip_at_full_load_is_not_survived_without_the_reflex() {
    let _alone = alone();
    let run = run(&["--fault", "genset-trip@60s", "--for", "150s", "--speed", "20", "--no-reflex"]);
    assert_eq!(run.code, Some(1), "{}", run.stderr);
    assert!(run.summary["sound"] == false && run.number("blackouts") >= 1, "{}", run.broken());
    assert!(run.verdict(2).violations > 0, "{}", run.broken());
}

#[test]
fn real_series_are_replayed_and_their_oddities_counted() {
    let file = |path: &str| -> PathBuf { repository("../shared/data").join(path) };
    let (prices, difficulty) = (file("btc/price_usd.csv"), file("btc/difficulty.csv"));
    let jobs = file("gpu-jobs/openb_first_half.csv");
    if [&prices, &difficulty, &jobs].iter().any(|path| !path.exists()) {
        eprintln!("SKIPPED: no real series in ../shared/data");
        return;
    }
    let _alone = alone();
    let series = ["--prices", text(&prices), "--difficulty", text(&difficulty), "--jobs", text(&jobs)];
    let run = run(&[&series[..], &["--for", "120s", "--speed", "20"]].concat());
    run.assert_sound(&WATCHED);
    assert_eq!((run.number("jobs_dropped"), run.number("jobs_rounded_up")), (WITHOUT_GPU, FRACTIONS));
    assert!(run.workloads() > 0, "no job became a workload");
    // The last day of both series: no built-in price is in use.
    assert!(
        run.summary["fleet"]["at"].as_str().unwrap().starts_with("2025-06-30"),
        "{}",
        run.summary["fleet"]["at"]
    );
}
