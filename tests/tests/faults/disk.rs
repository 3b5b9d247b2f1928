//! A disk runs full: under the embedded store, under etcd, and under the ledger. Nothing that was acknowledged is lost, and with room
//! made everything goes on.
//!
//! Read next: `../support/small_disk.rs`.

use std::time::Instant;

use crate::support::cli::{Cli, text};
use crate::support::etcd::installed_or_skip;
use crate::support::fleet::{Place, SITES};
use crate::support::ledger::Ledger;
use crate::support::load::TENANT;
use crate::support::process::Process;
use crate::support::small_disk::SmallDisk;
use crate::support::{PATIENCE, TempDir, free_address, repository, wait_for};

/// Room for the store at first, and for what little it takes to start again.
const KIB: u64 = 24 * 1024;
/// Room for etcd: two files of its log, which it takes in advance, and for what little it takes to start again.
const ETCD_KIB: u64 = 192 * 1024;
/// Orders until the store needs more room than it has taken in advance: each is some kilobytes.
const MOST_ORDERS: usize = 400;

#[test]
fn an_embedded_store_on_a_full_disk_stops_and_loses_nothing_that_was_acknowledged() {
    let mut place = Place::embedded();
    let dir = TempDir::new("full-store");
    let Some(disk) = SmallDisk::mount_or_skip(&dir, KIB) else { return };
    place.store = format!("embedded:{}/store", disk.path);
    let controller = controller(&place, &disk, &place.ledger());
    let cli = place.cli();
    cli.make_tenant(TENANT);
    let begun = Instant::now();
    disk.fill();
    let acknowledged = order_until_refused(&cli);
    let ended = controller.end(PATIENCE);
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains("check the disk and restart"), "{}", ended.stderr);
    println!(
        "the store stopped {} ms after the disk was full, {} orders later",
        begun.elapsed().as_millis(),
        acknowledged.len()
    );
    disk.make_room();
    let _again = self::controller(&place, &disk, &place.ledger());
    assert_all_there(&cli, &acknowledged);
}

/// etcd ends when it cannot write. Agents go on, and the same agents and controller once it is back.
#[test]
#[ignore = "make soak"]
fn an_etcd_on_a_full_disk_takes_no_orders_and_has_all_that_were_acknowledged() {
    if installed_or_skip("etcd").is_none() {
        return;
    }
    let dir = TempDir::new("full-etcd");
    let Some(disk) = SmallDisk::mount_or_skip(&dir, ETCD_KIB) else { return };
    let addresses = [free_address(), free_address()];
    let member = etcd(&disk, &dir, &addresses);
    let place = Place::new(&format!("etcd://{}/e2e", addresses[0]));
    let mut controller = place.controller();
    let mut agents = SITES.map(|site| place.agent(site));
    let before = place.wait_until_whole(0);
    let cli = place.cli();
    cli.make_tenant(TENANT);
    let begun = Instant::now();
    disk.fill();
    let acknowledged = order_until_refused(&cli);
    let ended = member.end(PATIENCE);
    assert!(ended.code != Some(0), "{}", ended.stderr);
    println!(
        "etcd stopped {} ms after its disk was full, {} orders later",
        begun.elapsed().as_millis(),
        acknowledged.len()
    );
    // The last plan that could be stored, as far as the controller still says.
    let before = place.whole(0).unwrap_or(before);
    disk.make_room();
    let begun = Instant::now();
    let _again = etcd(&disk, &dir, &addresses);
    place.wait_until_whole(before);
    println!("whole {} ms after etcd was started again", begun.elapsed().as_millis());
    assert!(controller.is_running() && agents.iter_mut().all(Process::is_running), "nobody else ended");
    assert_all_there(&cli, &acknowledged);
}

#[test]
#[ignore = "make soak"]
fn a_ledger_on_a_full_disk_keeps_agents_waiting_and_has_every_segment_in_the_end() {
    let place = Place::embedded();
    let dir = TempDir::new("full-ledger");
    let Some(disk) = SmallDisk::mount_or_skip(&dir, KIB) else { return };
    let ledger = std::path::PathBuf::from(format!("{}/ledger", disk.path));
    let _controller = controller(&place, &disk, &ledger);
    let _agents = SITES.map(|site| place.agent(site));
    place.wait_until_whole(0);
    let begun = Instant::now();
    disk.fill();
    // Segments are sealed every half minute: two of each module wait, and are not acknowledged.
    let waiting = wait_for("segments wait", 3 * PATIENCE, || {
        let waiting = SITES.map(|site| Ledger::waiting(&place.agent_data(site)));
        let segments: usize = waiting.iter().map(Ledger::segments).sum();
        if segments >= 12 { Ok(waiting) } else { Err(format!("{segments} wait")) }
    });
    disk.make_room();
    wait_for("all of them are in the ledger", 3 * PATIENCE, || {
        let kept = copy(&disk, &ledger, &dir);
        let gone = SITES.iter().all(|site| Ledger::waiting(&place.agent_data(site)).segments() == 0);
        if !gone {
            return Err("agents still hold some".to_owned());
        }
        waiting.iter().for_each(|waiting| kept.assert_holds(waiting));
        kept.assert_contiguous();
        Ok(())
    });
    println!(
        "a full disk under the ledger: all segments were there after {} ms",
        begun.elapsed().as_millis()
    );
}

/// Orders until one is refused; those that were acknowledged.
fn order_until_refused(cli: &Cli) -> Vec<String> {
    let order = |request: usize| cli.submit(TENANT, &format!("order-{request}")).ok();
    let acknowledged: Vec<String> = (0..MOST_ORDERS).map_while(order).collect();
    assert!(acknowledged.len() < MOST_ORDERS, "the disk never mattered");
    acknowledged
}

/// What was acknowledged is there, and more is taken.
fn assert_all_there(cli: &Cli, acknowledged: &[String]) {
    let there = cli.workloads();
    let lost: Vec<&String> = acknowledged.iter().filter(|workload| !there.contains(workload)).collect();
    assert!(lost.is_empty(), "{lost:?} were acknowledged and are gone");
    assert!(cli.submit(TENANT, "after").is_ok(), "it takes orders again");
}

/// An etcd of one member whose data lie on this disk.
fn etcd(disk: &SmallDisk, dir: &TempDir, [client, peer]: &[String; 2]) -> Process {
    let data = format!("{}/etcd", disk.path);
    let (client, peer) = (format!("http://{client}"), format!("http://{peer}"));
    let cluster = format!("one={peer}");
    let args = ["--data-dir", &data, "--name", "one", "--log-level", "error", "--initial-cluster", &cluster];
    let clients = ["--listen-client-urls", &client, "--advertise-client-urls", &client];
    let peers = ["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer];
    disk.start_installed("etcd", &[&args[..], &clients, &peers].concat(), dir, "etcd")
}

/// The controller of a place with this disk in sight, leading.
fn controller(place: &Place, disk: &SmallDisk, ledger: &std::path::Path) -> Process {
    let fleet = repository("deploy/fleet.toml");
    let args = ["--store", &place.store, "--fleet", text(&fleet), "--data", text(ledger)];
    let rest =
        ["--listen", &place.grpc, "--rest", &place.rest, "--accept-simulated", "--lease-ttl-seconds", "2"];
    let args = [&args[..], &rest].concat();
    let controller = disk.start("flareshift-controller", &args, &place.dir, "controller");
    wait_for("it leads", PATIENCE, || place.cli().ask(&["status"]).map(drop));
    controller
}

/// What lies in the ledger on a disk that this process does not see.
fn copy(disk: &SmallDisk, ledger: &std::path::Path, dir: &TempDir) -> Ledger {
    let copy = dir.at("copy");
    disk.run(&format!("mkdir -p {copy} && cp -r {}/. {copy}", ledger.display()));
    Ledger::kept(std::path::Path::new(&copy))
}
