//! The leader goes away without a word, or comes back after others have taken it for gone.
//!
//! Read next: `../paused_leader.rs`, where orders wait in a paused leader's sockets.

use std::collections::BTreeSet;
use std::time::Instant;

use crate::support::installation::Installation;
use crate::support::process::Process;
use crate::support::{PATIENCE, wait_for};

/// kill -9; it is started again once another leads and the fleet is whole.
pub fn is_killed(installation: &mut Installation) {
    let leader = installation.leader();
    let begun = Instant::now();
    installation.seats[leader].process.take().unwrap().kill_nine();
    let next = installation.leader();
    println!("controller {next} leads {} ms after {leader} was killed", begun.elapsed().as_millis());
    installation.recovered("kill -9 of the leader", begun);
    installation.seats[leader].start();
}

/// SIGSTOP until another leads and has planned, then SIGCONT: what it had begun gets nowhere.
pub fn is_paused(installation: &mut Installation) {
    let leader = installation.leader();
    let lost = installation.seats[leader].running().count_lines("standing by");
    let begun = Instant::now();
    installation.seats[leader].running().signal("STOP");
    installation.seats[leader].away = true;
    let next = installation.leader();
    installation.recovered("a paused leader, still paused", begun);
    let before = committed(installation.seats[leader].running());
    installation.seats[leader].running().signal("CONT");
    installation.seats[leader].running().wait_for_another_line("standing by", lost, PATIENCE);
    installation.seats[leader].away = false;
    // It asks the store like any other standby: whatever it had begun is over.
    wait_for("the former leader follows the store", PATIENCE, || {
        let seen = installation.seats[leader].place.cli().ask(&["--no-follow", "status"])?;
        let generation = seen["plan"]["generation"].as_u64().unwrap_or_default();
        if generation >= installation.generation { Ok(()) } else { Err(seen["plan"].to_string()) }
    });
    installation.recovered("a paused leader that went on", begun);
    assert_eq!(committed(installation.seats[leader].running()), before, "it committed after its pause");
    let shown = installation.history.judge(&installation.cluster, installation.generation);
    let newest = shown.leaders.last().unwrap();
    let by_next: BTreeSet<u64> = shown.by_leader[newest].iter().copied().collect();
    let logged = committed(installation.seats[next].running());
    assert!(
        by_next.is_subset(&logged),
        "since revision {newest} plans {by_next:?} were committed, of which its leader made {logged:?}"
    );
}

/// Plans that a controller says it committed.
fn committed(process: &Process) -> BTreeSet<u64> {
    let log = process.stderr();
    let number = |line: &str| {
        let (_, rest) = line.split_once("generation=")?;
        rest.split(|character: char| !character.is_ascii_digit()).next()?.parse().ok()
    };
    log.lines().filter(|line| line.contains("plan committed")).filter_map(number).collect()
}
