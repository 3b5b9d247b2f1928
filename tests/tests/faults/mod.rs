//! Faults on a whole installation, and what must hold after each (docs/faults.md): a real etcd of three, real controllers, real
//! agents with real miners behind them.
//!
//! One of each kind runs with all tests, the others by `make soak`. Each fault is a function, so that they can follow one another
//! on one installation. Nothing is asserted of how long anything takes; it is printed.
//! Read next: `../support/installation.rs` for what is checked, and how.

mod disk;
mod leader;
mod links;
mod members;
mod restore;
mod rolling;

use crate::support::installation::Installation;

#[test]
fn one_fault_of_each_kind_under_load_loses_nothing_and_does_nothing_twice() {
    let Some(mut installation) = Installation::start_or_skip(2) else { return };
    let load = installation.load();
    leader::is_killed(&mut installation);
    members::two_of_three_die(&mut installation);
    links::leader_is_cut_from_etcd(&mut installation);
    installation.settle(load);
    installation.finish();
}

/// One fault on an installation of its own, under load.
fn soak(fault: fn(&mut Installation)) {
    let Some(mut installation) = Installation::start_or_skip(3) else { return };
    let load = installation.load();
    fault(&mut installation);
    installation.settle(load);
    installation.finish();
}

#[test]
#[ignore = "make soak"]
fn kill_nine_of_the_leader_again_and_again() {
    soak(|installation| (0..3).for_each(|_| leader::is_killed(installation)));
}

#[test]
#[ignore = "make soak"]
fn a_leader_paused_for_longer_than_its_lease() {
    soak(leader::is_paused);
}

#[test]
#[ignore = "make soak"]
fn each_member_of_etcd_in_turn() {
    soak(members::each_dies_in_turn);
}

#[test]
#[ignore = "make soak"]
fn two_members_of_etcd() {
    soak(members::two_of_three_die);
}

#[test]
#[ignore = "make soak"]
fn a_compaction_while_a_standby_is_cut_off() {
    soak(links::standby_misses_a_compaction);
}

#[test]
#[ignore = "make soak"]
fn the_leader_cut_from_etcd() {
    soak(links::leader_is_cut_from_etcd);
}

#[test]
#[ignore = "make soak"]
fn agents_cut_from_all_controllers_for_longer_than_their_envelopes_are_valid() {
    soak(links::agents_are_cut_from_all_controllers);
}

#[test]
#[ignore = "make soak"]
fn a_rolling_restart_of_everything() {
    soak(rolling::everything_is_started_again);
}
