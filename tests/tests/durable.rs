//! What was acknowledged outlives the process: a second start carries on, and so does one after kill -9 at any moment.
//!
//! Read next: `support/ledger.rs` for how the ledger is read without the program that wrote it.

use std::time::{Duration, Instant};

use crate::support::cli::Cli;
use crate::support::dev::run;
use crate::support::fleet::MODULES;
use crate::support::ledger::{Ledger, audits};
use crate::support::process::Process;
use crate::support::{PATIENCE, TempDir, free_address, wait_for, waits};

/// How often the process is killed.
const KILLS: u64 = 20;
/// Fixes the moments of the kills; a failing run is repeated by it.
const SEED: u64 = 0x9e37_79b9_7f4a_7c15;
/// A kill strikes so many milliseconds after an answer, at the earliest and at the latest.
const MOMENT: (u64, u64) = (300, 2_000);

#[test]
fn a_second_start_carries_on() {
    let _waits = waits();
    let dir = TempDir::new("carry-on");
    let data = dir.at("data");
    let args = ["--data", &data, "--for", "40s", "--speed", "20"];
    let first = run(&args);
    first.assert_sound(&[4, 9]);
    let kept = Ledger::of_dev(dir.path().join("data").as_path());
    assert_eq!(kept.modules(), MODULES, "each module has sealed a segment");
    let second = run(&args);
    second.assert_sound(&[4, 9]);
    assert!(second.stderr.contains("carries on in"), "{}", second.stderr);
    assert!(second.generation() > first.generation(), "{} {}", first.generation(), second.generation());
    assert_eq!(second.workloads(), first.workloads(), "standing orders are not ordered twice");
    let now = Ledger::of_dev(dir.path().join("data").as_path());
    now.assert_holds(&kept);
    now.assert_contiguous();
    assert!(now.segments() > kept.segments());
}

#[test]
fn kill_nine_twenty_times_loses_nothing_that_was_acknowledged() {
    let _waits = waits();
    let dir = TempDir::new("kill-nine");
    let data = dir.path().join("data");
    let (grpc, rest) = (free_address(), free_address());
    let cli = Cli::new(&grpc);
    let mut acknowledged = Vec::new();
    let mut kept = Ledger::default();
    for round in 0..KILLS {
        let mut dev = start(&dir, &grpc, &rest);
        wait_for(&format!("start {round} answers"), PATIENCE, || {
            if dev.is_running() { cli.ask(&["status"]).map(drop) } else { panic!("it ended; {}", dev.tail()) }
        });
        let moment = Duration::from_millis(MOMENT.0 + mix(SEED ^ round) % (MOMENT.1 - MOMENT.0));
        println!("round {round}: killed {moment:?} after it answers; seed {SEED:#x}");
        acknowledged.extend(order_until(&cli, round, Instant::now() + moment));
        dev.kill_nine();
        let now = Ledger::of_dev(&data);
        now.assert_holds(&kept);
        now.assert_contiguous();
        kept = now;
    }
    assert!(acknowledged.len() as u64 >= KILLS / 2, "only {} orders were acknowledged", acknowledged.len());
    let _last = start(&dir, &grpc, &rest);
    let listed = wait_for("the last start lists", PATIENCE, || cli.ask(&["workload", "list", "--all"]));
    let listed = crate::support::cli::ids(&listed["workloads"], "workload");
    for id in &acknowledged {
        assert!(listed.contains(id), "{id} was acknowledged and is gone");
    }
    assert!(cli.tenants().contains(&"e2e".to_owned()));
    assert!(kept.segments() > 0, "no segment was sealed in {KILLS} runs");
    let audits = audits(&data);
    println!("share claims that passed and failed: {audits:?}");
    assert!(audits.values().all(|(_, failed)| *failed == 0), "kill -9 made a cheat of an agent: {audits:?}");
    assert!(audits.values().any(|(passed, _)| *passed > 0), "nothing was claimed in {KILLS} runs");
}

fn start(dir: &TempDir, grpc: &str, rest: &str) -> Process {
    let data = dir.at("data");
    let args = ["dev", "--headless", "--speed", "20", "--data", &data, "--grpc", grpc, "--rest", rest];
    Process::start("flareshift", &args, dir.path(), "dev")
}

/// Orders workloads until the moment has come. Answers the ids of those that were acknowledged.
fn order_until(cli: &Cli, round: u64, moment: Instant) -> Vec<String> {
    let mut acknowledged = Vec::new();
    // The first round makes the tenant; until the office is held again, every round is turned away for a while.
    if round == 0 {
        cli.make_tenant("e2e");
    }
    for order in 0.. {
        if let Ok(id) = cli.submit("e2e", &format!("round-{round}-{order}")) {
            acknowledged.push(id);
        }
        if Instant::now() >= moment {
            break;
        }
    }
    acknowledged
}

/// SplitMix64's finaliser: spreads the bits of a counter.
fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}
