//! The commands about a store on a real etcd, beside a controller that leads and after it was killed.
//!
//! Read next: `three_processes.rs`.

use serde_json::Value;

use crate::support::cli::run;
use crate::support::etcd::Etcd;
use crate::support::fleet::Place;
use crate::support::process::Ended;
use crate::support::{PATIENCE, wait_for, waits};

/// `flareshift-controller store …`, which knows etcd.
fn store(place: &Place, args: &[&str]) -> Ended {
    run("flareshift-controller", &[&["--store", &place.store, "store", "--json"], args].concat())
}

fn done(ended: &Ended) -> Value {
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    serde_json::from_str(&ended.stdout).unwrap()
}

#[test]
fn an_installation_moves_by_export_and_import_and_agents_follow_the_higher_epoch() {
    let _waits = waits();
    let Some(mut etcd) = Etcd::ready_or_skip() else { return };
    etcd.start();
    let place = Place::new(&etcd.store());
    let mut controller = place.controller();
    controller.wait_for_line("leading", PATIENCE);
    let agent = place.agent(crate::support::fleet::SITES[0]);
    place.cli().make_tenant("acme");
    wait_for("an agent is under an envelope", PATIENCE, || online(&place.cli().ask(&["status"])?));

    let file = place.dir.at("export.jsonl");
    let exported = done(&store(&place, &["export", &file]));
    assert!(exported["records"].as_u64().unwrap() > 10, "{exported}");
    let sound = store(&place, &["fsck"]);
    assert_eq!(done(&sound)["findings"], Value::Array(Vec::new()));
    for command in [&["import", file.as_str(), "--replace"][..], &["migrate"], &["raise-epoch"]] {
        let refused = store(&place, command);
        assert_eq!(refused.code, Some(4), "{command:?}: {}", refused.stderr);
        assert!(refused.stderr.contains("a controller leads (http://"), "{}", refused.stderr);
    }
    assert!(controller.is_running(), "{}", controller.tail());

    controller.kill_nine();
    let moved = Place { store: format!("etcd://{}/moved", etcd.address), ..place };
    let imported = done(&store(&moved, &["import", &file]));
    assert!(imported["epoch"].as_u64().unwrap() > 1_700_000_000, "{imported}");
    let mut again = moved.controller();
    let line = again.wait_for_line(&format!("epoch={}", imported["epoch"]), PATIENCE);
    assert!(line.contains("leading"), "{line}");
    assert_eq!(moved.cli().tenants(), ["acme"]);
    // The agent lived through all of it, under the old epoch; it follows the new one.
    wait_for("the agent follows", PATIENCE, || online(&moved.cli().ask(&["status"])?));
    drop(agent);
}

/// The first site's modules report and act under a valid envelope.
fn online(status: &Value) -> Result<(), String> {
    let modules = status["modules"].as_array().ok_or("no modules")?;
    let ours: Vec<&Value> =
        modules.iter().filter(|module| module["site"] == crate::support::fleet::SITES[0]).collect();
    let good = |module: &&Value| module["link"] == "online" && module["envelope"]["state"] == "valid";
    if !ours.is_empty() && ours.iter().all(good) { Ok(()) } else { Err(format!("{ours:?}")) }
}
