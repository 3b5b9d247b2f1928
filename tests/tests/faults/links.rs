//! Links that lose every packet: leader and etcd, standby and etcd, agents and all controllers.
//!
//! Leader and standby have no link with each other: they meet in etcd alone. Read next: `../support/link.rs`.

use std::time::{Duration, Instant};

use crate::support::installation::{Installation, lasts};
use crate::support::load::TENANT;
use crate::support::{PATIENCE, wait_for};

/// Envelopes are valid for two minutes; half a minute of the fallback programme on top.
const BEYOND_ENVELOPES: Duration = Duration::from_secs(150);

/// What a former leader says.
const LOST: &str = "office lost";

/// What a watch says whose connection fell silent: until then etcd still holds for it what it missed.
const BROKEN: &str = "watch interrupted";
/// What a watch says that cannot be resumed.
const ANEW: &str = "watch starts over with a snapshot";

/// The leader hears nothing of etcd for longer than its lease; agents and operators still reach it.
pub fn leader_is_cut_from_etcd(installation: &mut Installation) {
    let leader = installation.leader();
    let before = installation.seats[leader].running().count_lines(LOST);
    let begun = Instant::now();
    installation.seats[leader].cut_from_etcd(true);
    installation.seats[leader].away = true;
    installation.seats[leader].running().wait_for_another_line(LOST, before, PATIENCE);
    println!("it gave the office up {} ms after it was cut off", begun.elapsed().as_millis());
    let next = installation.leader();
    assert_ne!(next, leader);
    installation.recovered("the leader cut from etcd", begun);
    let healed = Instant::now();
    installation.seats[leader].cut_from_etcd(false);
    installation.seats[leader].away = false;
    caught_up(installation, leader);
    println!("the former leader had caught up {} ms after the link was back", healed.elapsed().as_millis());
}

/// A standby is cut off; what happens meanwhile is thrown away from etcd's history before it is back.
pub fn standby_misses_a_compaction(installation: &mut Installation) {
    let leader = installation.leader();
    let standby = (leader + 1) % installation.seats.len();
    let before = [BROKEN, ANEW].map(|text| installation.seats[standby].running().count_lines(text));
    let begun = Instant::now();
    installation.seats[standby].cut_from_etcd(true);
    installation.seats[standby].away = true;
    installation.seats[standby].running().wait_for_another_line(BROKEN, before[0], PATIENCE);
    let order =
        wait_for("an order meanwhile", PATIENCE, || installation.cli().submit(TENANT, "order-unseen"));
    // Something goes, too: a watch that merely went on would keep it.
    let cancelled = installation.cli().run(&["workload", "cancel", &order]);
    assert_eq!(cancelled.code, Some(0), "{}", cancelled.stderr);
    installation.recovered("a standby cut from etcd", begun);
    installation.cluster.compact(installation.history.newest());
    installation.seats[standby].cut_from_etcd(false);
    installation.seats[standby].away = false;
    caught_up(installation, standby);
    installation.seats[standby].running().wait_for_another_line(ANEW, before[1], PATIENCE);
    installation.recovered("a standby that missed a compaction", begun);
}

/// No agent reaches any controller for longer than an envelope is valid: fallback programmes, then all is as before.
pub fn agents_are_cut_from_all_controllers(installation: &mut Installation) {
    let begun = Instant::now();
    installation.seats.iter().for_each(|seat| seat.from_agents.cut());
    installation.wait_for_mining("while no agent reaches a controller");
    lasts(BEYOND_ENVELOPES);
    installation.seats.iter().for_each(|seat| seat.from_agents.heal());
    installation.recovered("agents cut from all controllers for 150 s", begun);
}

/// A standby shows the plan in force.
fn caught_up(installation: &Installation, standby: usize) {
    wait_for("the standby has caught up", PATIENCE, || {
        let seen = installation.seats[standby].place.cli().ask(&["--no-follow", "status"])?;
        let generation = seen["plan"]["generation"].as_u64().unwrap_or_default();
        if generation >= installation.generation { Ok(()) } else { Err(seen["plan"].to_string()) }
    });
}
