//! Everything is started again, one after another, as an upgrade does it.
//!
//! Read next: `../hand_over.rs` for how long the office is vacant.

use std::time::Instant;

use crate::support::PATIENCE;
use crate::support::cluster::MEMBERS;
use crate::support::fleet::SITES;
use crate::support::installation::{Installation, ended_in_order};
use crate::support::witness::Page;

/// Members of etcd, controllers, agents: each ends, comes back, and the fleet is whole before the next.
pub fn everything_is_started_again(installation: &mut Installation) {
    for index in 0..MEMBERS {
        let begun = Instant::now();
        installation.cluster.kill(index);
        installation.cluster.start();
        installation.recovered(&format!("a restart of member {index} of etcd"), begun);
    }
    for index in 0..installation.seats.len() {
        let begun = Instant::now();
        ended_in_order(installation.seats[index].process.take().unwrap());
        installation.seats[index].start();
        installation.recovered(&format!("a restart of controller {index}"), begun);
    }
    for (index, site) in SITES.iter().enumerate() {
        let begun = Instant::now();
        let mut agent = installation.agents[index].take().unwrap();
        agent.terminate();
        let ended = agent.end(PATIENCE);
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        let page = Page::read(&installation.home().witness(site)).unwrap();
        assert!(page.is_last());
        page.assert_unbroken(&format!("when the agents of {site} ended"));
        installation.agents[index] = Some(installation.agent(site));
        installation.recovered(&format!("a restart of the agents of {site}"), begun);
    }
}
