//! Controller, agents and etcd as processes of their own; each is killed and the fleet goes on.
//!
//! Read next: `support/fleet.rs`.

use std::time::Duration;

use crate::support::cli::run;
use crate::support::etcd::Etcd;
use crate::support::fleet::{Place, SITES};
use crate::support::ledger::Ledger;
use crate::support::{PATIENCE, free_address, wait_for, waits};

#[test]
fn any_of_three_processes_on_etcd_is_killed_and_the_fleet_goes_on() {
    let _waits = waits();
    let Some(mut etcd) = Etcd::ready_or_skip() else { return };
    etcd.start();
    let place = Place::new(&etcd.store());
    let cli = place.cli();
    let controller = place.controller();
    let [well, _mesa] = SITES.map(|site| place.agent(site));
    let mut generation = place.wait_until_whole(0);
    cli.make_tenant("acme");
    let order = cli.submit("acme", "one").unwrap();
    let mut expect_the_same = |what: &str| {
        let next = place.wait_until_whole(generation);
        println!("after the {what} was killed: plan {generation} is followed by {next}");
        generation = next;
        assert_eq!(cli.tenants(), ["acme"], "after the {what} was killed");
        assert_eq!(cli.workloads(), [order.as_str()], "after the {what} was killed");
    };

    controller.kill_nine();
    let _controller = place.controller();
    expect_the_same("controller");

    well.kill_nine();
    let _well = place.agent(SITES[0]);
    expect_the_same("agent");

    etcd.kill_nine();
    etcd.start();
    expect_the_same("etcd");

    Ledger::kept(&place.ledger()).assert_contiguous();
}

#[test]
fn an_etcd_that_is_not_there_is_waited_for_with_a_clear_line() {
    let _waits = waits();
    let Some(mut etcd) = Etcd::ready_or_skip() else { return };
    let place = Place::new(&etcd.store());
    let mut controller = place.controller();
    let line = controller.wait_for_line("etcd does not answer", PATIENCE);
    assert!(line.contains(&etcd.address) && line.contains("check that it runs there"), "{line}");
    let refused = place.cli().run(&["status"]);
    assert_eq!(refused.code, Some(3), "{}", refused.stderr);
    assert!(controller.is_running(), "{}", controller.tail());
    etcd.start();
    controller.wait_for_line("leading", PATIENCE);
    place.cli().get(&["status"]);
}

#[test]
fn a_controller_on_an_embedded_store_starts_again_after_kill_nine_and_stops_when_told() {
    let _waits = waits();
    let place = Place::embedded();
    let controller = place.controller();
    place.cli().make_tenant("acme");
    controller.kill_nine();
    let mut again = place.controller();
    wait_for("the tenant is there again", PATIENCE, || {
        let answer = place.cli().ask(&["tenant", "list"])?;
        if answer["tenants"][0]["tenant"] == "acme" { Ok(()) } else { Err(answer.to_string()) }
    });
    again.terminate();
    assert_eq!(again.end(PATIENCE).code, Some(0));
}

#[test]
fn a_second_controller_on_the_same_directory_is_refused() {
    let _waits = waits();
    let place = Place::embedded();
    let mut first = place.controller();
    first.wait_for_line("leading", PATIENCE);
    let (grpc, rest) = (free_address(), free_address());
    let ledger = place.dir.at("second-ledger");
    let second = run(
        "flareshift-controller",
        &["--store", &place.store, "--data", &ledger, "--listen", &grpc, "--rest", &rest],
    );
    assert_eq!(second.code, Some(1), "{}", second.stderr);
    assert!(second.stderr.contains("is held by another process"), "{}", second.stderr);
    assert!(second.stderr.contains("stop that process or choose another directory"), "{}", second.stderr);
    assert!(first.is_running(), "{}", first.tail());
}

#[test]
fn an_agent_of_a_module_that_nobody_knows_keeps_trying_and_says_what_to_do() {
    let _waits = waits();
    let place = Place::embedded();
    let mut controller = place.controller();
    controller.wait_for_line("fleet description loaded", PATIENCE);
    let known = std::fs::read_to_string(crate::support::repository("deploy/fleet.toml")).unwrap();
    let other = place.dir.write("other.toml", &known.replace("\"well-7-mine\"", "\"well-7-lost\""));
    let data = place.dir.at("agent-lost");
    let address = format!("http://{}", place.grpc);
    let args = ["--fleet", &other, "--module", "well-7-lost", "--controller", &address, "--data", &data];
    let dir = place.dir.path();
    let mut agent = crate::support::process::Process::start("flareshift-agent", &args, dir, "agent-lost");
    let line = agent.wait_for_line("refuses this agent", PATIENCE);
    assert!(line.contains("well-7-lost") && line.contains("tried again"), "{line}");
    let before = agent.stderr().matches("refuses this agent").count();
    wait_for("it tries again", PATIENCE, || {
        let now = agent.stderr().matches("refuses this agent").count();
        if now > before { Ok(()) } else { Err(agent.tail()) }
    });
    assert!(agent.is_running());
    agent.terminate();
    assert_eq!(agent.end(PATIENCE + Duration::from_secs(10)).code, Some(0));
}
