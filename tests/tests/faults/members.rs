//! Members of etcd die: one costs nothing, two stop every write while agents go on with what they have.
//!
//! Read next: `../support/cluster.rs`.

use std::time::Instant;

use crate::support::cluster::MEMBERS;
use crate::support::installation::Installation;
use crate::support::load::TENANT;

/// Every member is killed and started again while orders go on.
pub fn each_dies_in_turn(installation: &mut Installation) {
    for index in 0..MEMBERS {
        let begun = Instant::now();
        installation.cluster.kill(index);
        installation.recovered(&format!("kill -9 of member {index} of etcd"), begun);
        installation.cluster.start_one(index);
        installation.cluster.start();
    }
}

/// The leading member and another one: nothing is written, miners go on, and all resumes when they are back.
pub fn two_of_three_die(installation: &mut Installation) {
    let begun = Instant::now();
    let first = installation.cluster.leader();
    let second = (first + 1) % MEMBERS;
    let asked = installation.cli();
    installation.cluster.kill(first);
    installation.cluster.kill(second);
    let refused = asked.submit(TENANT, "order-while-nothing-is-written");
    assert!(refused.is_err(), "one member of three stored {refused:?}");
    println!("two members of etcd died; an order was refused after {} ms", begun.elapsed().as_millis());
    installation.wait_for_mining("while two members of etcd are gone");
    let back = Instant::now();
    installation.cluster.start();
    installation.recovered("two members of etcd that came back", back);
}
