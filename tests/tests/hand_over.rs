//! Who leads goes away, in order or by kill -9: one that stands by leads, plans, and the agents are with it.
//!
//! Real etcd, real controllers, real agents. It prints how long each took; what is asserted is that it came to pass.
//! Read next: `paused_leader.rs` for a leader that comes back.

use std::time::Instant;

use serde_json::Value;

use crate::support::cli::Cli;
use crate::support::etcd::Etcd;
use crate::support::fleet::{Place, SITES};
use crate::support::process::Process;
use crate::support::{PATIENCE, wait_for, waits};

/// A controller with the place it runs in.
struct Controller {
    place: Place,
    process: Process,
}

impl Controller {
    fn start(etcd: &Etcd) -> Self {
        let place = Place::new(&etcd.store());
        let mut process = place.controller();
        process.wait_for_line("controller starts", PATIENCE);
        Self { place, process }
    }
}

/// Epoch and revision of who leads, in the words of a controller.
fn term(cli: &Cli) -> (u64, u64) {
    let leadership = cli.get(&["status"])["leadership"].clone();
    let number =
        |field: &str| leadership[field].as_u64().unwrap_or_else(|| panic!("{field} in {leadership}"));
    (number("epoch"), number("leader"))
}

/// The successor leads, has made a plan above `before` and all modules are with it. Answers that plan's generation.
fn taken_over(successor: &mut Controller, before: (u64, (u64, u64)), begun: Instant, how: &str) -> u64 {
    successor.process.wait_for_line("leading", PATIENCE);
    let led = begun.elapsed().as_millis();
    let generation = successor.place.wait_until_whole(before.0);
    let planned = begun.elapsed().as_millis();
    let now = term(&successor.place.cli());
    assert!(now > before.1, "the term rises: {now:?} after {:?}", before.1);
    println!(
        "{how}: another led after {led} ms, by term {now:?}; plan {generation} and every module after {planned} ms"
    );
    generation
}

#[test]
fn the_office_is_handed_over_in_order_and_after_kill_nine() {
    let _waits = waits();
    let Some(mut etcd) = Etcd::ready_or_skip() else { return };
    etcd.start();
    let mut first = Controller::start(&etcd);
    first.process.wait_for_line("leading", PATIENCE);
    let (mut second, mut third) = (Controller::start(&etcd), Controller::start(&etcd));
    let controllers = [&first, &second, &third].map(|controller| controller.place.grpc.clone());
    let known: Vec<&str> = controllers.iter().map(String::as_str).collect();
    let mut agents = SITES.map(|site| first.place.agent_of(site, &known));
    let generation = first.place.wait_until_whole(0);
    standby_answers(&second.place.cli(), &first.place);

    let before = (generation, term(&first.place.cli()));
    let begun = Instant::now();
    first.process.terminate();
    // Two stand by, and whoever is faster leads.
    let ended = first.process.end(PATIENCE);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    println!("the former leader ended after {} ms", begun.elapsed().as_millis());
    if third_leads(&second, &third) {
        std::mem::swap(&mut second, &mut third);
    }
    let generation = taken_over(&mut second, before, begun, "SIGTERM");
    for agent in &mut agents {
        agent.wait_for_line("another controller leads", PATIENCE);
        assert!(agent.is_running(), "{}", agent.tail());
    }

    let before = (generation, term(&second.place.cli()));
    let begun = Instant::now();
    second.process.kill_nine();
    taken_over(&mut third, before, begun, "kill -9 with a lease of 2 s");
}

/// Waits until one of two leads; whether it is the latter.
fn third_leads(second: &Controller, third: &Controller) -> bool {
    let leads = |controller: &Controller| controller.process.stderr().contains("leading");
    wait_for("one of two leads", PATIENCE, || match (leads(second), leads(third)) {
        (false, false) => Err(second.process.tail()),
        (_, third) => Ok(third),
    })
}

/// A standby shows the store and names the leader; the command line goes on to it unless told otherwise.
fn standby_answers(standby: &Cli, leader: &Place) {
    let stored = standby.get(&["--no-follow", "status"]);
    let address = format!("http://{}", leader.grpc);
    assert_eq!(stored["leadership"]["is_me"], false, "{stored}");
    assert_eq!(stored["leadership"]["address"], address.as_str());
    assert!(stored["plan"]["generation"].as_u64() > Some(0), "{stored}");
    assert!(
        stored["modules"].as_array().unwrap().iter().all(|module| module["link"] == Value::Null),
        "{stored}"
    );
    let followed = standby.run(&["status"]);
    assert_eq!(followed.code, Some(0), "{}", followed.stderr);
    assert!(followed.stderr.contains(&address), "{}", followed.stderr);
    let status: Value = serde_json::from_str(&followed.stdout).unwrap();
    assert_eq!(status["leadership"]["is_me"], true);
    let refused = standby.run(&["--no-follow", "tenant", "create", "acme", "--gpu-quota", "1"]);
    assert_eq!(refused.code, Some(3), "{}", refused.stderr);
    assert!(refused.stderr.contains(&address), "{}", refused.stderr);
    standby.make_tenant("acme");
}
