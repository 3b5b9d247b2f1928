//! The controller's wall clock is set while it runs: links, envelopes and plans go on as if nobody had touched it.
//!
//! The clock is set by `libfaketime` (Debian's `faketime`) around the real program: what the program asks its C library for the
//! wall clock is shifted by what stands in a file; its monotonic clocks are not. Read next: decision 0018.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::support::fleet::{Place, SITES};
use crate::support::process::Process;
use crate::support::{PATIENCE, wait_for, waits};

/// How far clocks are set, in seconds: what an operator who takes a time zone for another does is more, a BIOS battery less.
const STEP: i64 = 600;
/// What is told may differ from true time by this, in seconds: far less than the step, far more than a busy machine needs.
const NEAR: i64 = 120;

/// Where Debian puts the library, by architecture; `None` where it is not installed.
fn library() -> Option<PathBuf> {
    let installed = std::fs::read_dir("/usr/lib").ok().and_then(|folders| {
        let mut found = folders.flatten().map(|folder| folder.path().join("faketime/libfaketime.so.1"));
        found.find(|path| path.exists())
    });
    let required = std::env::var("FLARESHIFT_REQUIRE_FAKETIME").is_ok_and(|value| value == "1");
    assert!(installed.is_some() || !required, "FLARESHIFT_REQUIRE_FAKETIME=1: install faketime");
    if installed.is_none() {
        eprintln!("SKIPPED: no libfaketime (install faketime)");
    }
    installed
}

/// Sets the clock of whoever runs under this file. Put in its place at once, so that nobody reads half of it.
fn set(file: &Path, seconds: i64) {
    let fresh = file.with_extension("new");
    std::fs::write(&fresh, format!("{seconds:+}\n")).unwrap();
    std::fs::rename(fresh, file).unwrap();
}

/// A controller under a clock of its own.
fn controller(place: &Place, library: &Path, clock: &Path) -> Process {
    let environment = [
        ("LD_PRELOAD", library.to_str().unwrap()),
        ("FAKETIME_TIMESTAMP_FILE", clock.to_str().unwrap()),
        ("FAKETIME_NO_CACHE", "1"),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ("NO_FAKE_STAT", "1"),
    ];
    place.controller_under(&environment)
}

/// How far what the controller tells is ahead of true time, in seconds.
fn ahead(time: &Value) -> i64 {
    let told = time.as_str().unwrap_or_else(|| panic!("no time: {time}"));
    let seconds = Command::new("date").args(["-u", "-d", told, "+%s"]).output().unwrap().stdout;
    let seconds: i64 = String::from_utf8(seconds).unwrap().trim().parse().unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    seconds - i64::try_from(now).unwrap()
}

/// Has a plan made now, and answers when it was made, by its leader's clock, ahead of true time.
fn plan_made(place: &Place, after: u64, module: &str, change: &str) -> (u64, i64) {
    place.cli().get(&["module", change, module]);
    let generation = place.wait_until_whole(after);
    let status = place.cli().get(&["status"]);
    (generation, ahead(&status["plan"]["made"]))
}

/// What happened to all modules, by code.
fn happened(place: &Place) -> Vec<String> {
    let modules = place.cli().get(&["module", "list"]);
    let modules = modules["modules"].as_array().unwrap().iter();
    let history = |module: &Value| {
        let told = place.cli().get(&["module", "describe", module["module"].as_str().unwrap()]);
        let events = told["history"]["events"].as_array().unwrap().clone();
        events.iter().map(|event| event["what"].as_str().unwrap().to_owned()).collect::<Vec<String>>()
    };
    modules.flat_map(history).collect()
}

#[test]
fn a_clock_that_is_set_by_ten_minutes_loses_no_link_and_makes_no_plan_of_another_time() {
    let Some(library) = library() else { return };
    let _waits = waits();
    let place = Place::embedded();
    let clock = place.dir.path().join("clock");
    set(&clock, 0);
    let mut leader = controller(&place, &library, &clock);
    let _agents = SITES.map(|site| place.agent(site));
    let mut generation = place.wait_until_whole(0);
    let module = place.cli().get(&["module", "list"])["modules"][0]["module"].as_str().unwrap().to_owned();
    for (times, step, change) in [(0, STEP, "cordon"), (1, -STEP, "uncordon")] {
        set(&clock, step);
        // It has seen the new clock when it says so.
        leader.wait_for_another_line("clock was set", times, PATIENCE);
        let (made, off) = plan_made(&place, generation, &module, change);
        assert!(off.abs() < NEAR, "set by {step} s, the next plan is {off} s ahead");
        generation = made;
        set(&clock, 0);
        leader.wait_for_another_line("clock is caught up with", times, PATIENCE);
    }
    let happened = happened(&place);
    // A directive may be late on a busy machine; a link that is held for lost is the clock's doing.
    let bad = ["lost", "returned"];
    assert!(!happened.iter().any(|what| bad.contains(&what.as_str())), "{happened:?}");

    // A host whose clock is ten minutes behind takes over: plans go on from where they were.
    let before = place.cli().get(&["status"])["plan"]["made"].clone();
    set(&clock, -STEP);
    leader.terminate();
    assert_eq!(leader.end(PATIENCE).code, Some(0));
    let _next = controller(&place, &library, &clock);
    let (_, off) = plan_made(&place, generation, &module, "cordon");
    assert!(off > -NEAR, "its plan is {off} s ahead; before it was {before}");
    wait_for("whole under the other clock", PATIENCE, || place.whole(generation));
}
