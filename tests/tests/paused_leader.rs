//! A leader that is paused for longer than its lease gets not one write through once it goes on.
//!
//! Orders wait in the paused leader's sockets: when it goes on it takes them, and may still believe that it leads. Only the fence
//! in each write keeps them out. Real etcd, real controllers, SIGSTOP and SIGCONT.
//! Read next: `three_processes.rs`.

use std::time::{Duration, Instant};

use crate::support::cli::Cli;
use crate::support::etcd::Etcd;
use crate::support::fleet::{Place, SITES};
use crate::support::{PATIENCE, wait_for, waits};

/// Orders that wait in the paused leader's sockets.
const WAITING: usize = 12;

/// Makes a tenant, once, at this controller or nowhere. The command gives up after 15 s.
fn create(cli: &Cli, name: &str) -> Option<i32> {
    cli.run(&["--no-follow", "tenant", "create", name, "--gpu-quota", "1"]).code
}

fn leads(cli: &Cli) -> Result<(), String> {
    cli.ask(&["status"]).map(drop)
}

#[test]
fn a_leader_paused_for_longer_than_its_lease_gets_not_one_write_through() {
    let _waits = waits();
    let Some(mut etcd) = Etcd::ready_or_skip() else { return };
    etcd.start();
    let (first, second) = (Place::new(&etcd.store()), Place::new(&etcd.store()));
    let mut former = first.controller();
    former.wait_for_line("leading", PATIENCE);
    let _agent = first.agent(SITES[0]);
    wait_for("the first leads", PATIENCE, || leads(&first.cli()));
    assert_eq!(create(&first.cli(), "before"), Some(0), "what is tried below works while it leads");

    let mut latter = second.controller();
    latter.wait_for_line("controller starts", PATIENCE);
    let paused = Instant::now();
    former.signal("STOP");
    let orders: Vec<_> = (0..WAITING)
        .map(|index| {
            let cli = first.cli();
            std::thread::spawn(move || create(&cli, &format!("late-{index}")))
        })
        .collect();
    latter.wait_for_line("leading", PATIENCE);
    println!("another led {} ms after the pause began, with a lease of 2 s", paused.elapsed().as_millis());
    wait_for("the second leads", PATIENCE, || leads(&second.cli()));
    assert_eq!(create(&second.cli(), "meanwhile"), Some(0));

    let waiting = orders.iter().filter(|order| !order.is_finished()).count();
    assert!(waiting > 0, "every order gave up before the pause ended: nothing was tried");
    former.signal("CONT");
    let codes: Vec<Option<i32>> = orders.into_iter().map(|order| order.join().unwrap()).collect();
    println!("the orders that waited ended with {codes:?}");
    assert!(codes.iter().all(|code| *code != Some(0)), "{codes:?}");
    former.wait_for_line("standing by", PATIENCE);
    assert!(former.is_running() && latter.is_running(), "{}{}", former.tail(), latter.tail());
    // Long enough for whatever it had begun: three of its leases.
    let until = Instant::now() + Duration::from_secs(6);
    while Instant::now() < until {
        let mut tenants = second.cli().get(&["tenant", "list"])["tenants"].as_array().unwrap().clone();
        tenants.retain(|tenant| tenant["tenant"].as_str().unwrap().starts_with("late"));
        assert_eq!(tenants, Vec::<serde_json::Value>::new(), "a write of the paused leader went through");
        std::thread::sleep(Duration::from_millis(200));
    }
    assert_eq!(second.cli().tenants(), ["before", "meanwhile"]);
}
