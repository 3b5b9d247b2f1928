//! etcd is restored from a backup that knows nothing of what came after it: agents follow again, and what they run meanwhile is
//! not run a second time.
//!
//! After the backup a workload moves from one module to another, and another is ordered. The restored store says of the first
//! that it runs where it no longer does, and knows nothing of the second. Read next: docs/store.md, "Why the epoch".

use std::time::Instant;

use serde_json::Value;

use crate::support::cli::Cli;
use crate::support::installation::{Installation, ended_in_order};
use crate::support::load::TENANT;
use crate::support::process::Process;
use crate::support::{PATIENCE, wait_for};

#[test]
fn agents_follow_an_etcd_restored_from_a_backup_and_nothing_runs_twice() {
    let Some(mut installation) = Installation::start_or_skip(2) else { return };
    let moved = order(&installation, "moved");
    let first = wait_until_runs(&installation, &moved);
    let backup = installation.cluster.save("backup.db");

    let drained = installation.cli().run(&["module", "drain", &first]);
    assert_eq!(drained.code, Some(0), "{}", drained.stderr);
    let second = wait_for("it moves", 2 * PATIENCE, || {
        let at = running_at(&installation.cli(), &moved)?;
        if at == first { Err(format!("still at {at}")) } else { Ok(at) }
    });
    let forgotten = order(&installation, "forgotten");
    println!("{moved} moved from {first} to {second} after the backup, {forgotten} was ordered");

    let begun = Instant::now();
    for seat in &mut installation.seats {
        ended_in_order(seat.process.take().unwrap());
    }
    installation.history.judge(&installation.cluster, installation.generation);
    installation.cluster.restore(&backup);
    raise_epoch(&installation);
    installation.begin_anew();
    for seat in &mut installation.seats {
        seat.start();
    }
    installation.recovered("an etcd restored from a backup", begun);
    assert_eq!(
        installation.cli().workloads(),
        [moved.as_str()],
        "what was ordered later is gone with the store"
    );
    let at = wait_until_runs(&installation, &moved);
    println!("{moved} runs on {at} {} ms after the restore began", begun.elapsed().as_millis());
    installation.finish();
}

fn order(installation: &Installation, request: &str) -> String {
    let what = ["workload", "submit", "--tenant", TENANT, "--offering", "h100-spot", "--gpus", "1"];
    // It starts faster than real ones. It saves long enough for a second start beside it to be seen.
    let how = ["--restart", "1s", "--save", "6s", "--request-id", request];
    let answer = wait_for("an order", PATIENCE, || installation.cli().ask(&[&what[..], &how].concat()));
    answer["workload"].as_str().unwrap().to_owned()
}

/// The module on which a workload makes progress.
fn running_at(cli: &Cli, workload: &str) -> Result<String, String> {
    let all = cli.ask(&["workload", "list", "--all"])?;
    let all = all["workloads"].as_array().unwrap();
    let found = all.iter().find(|found| found["workload"] == workload).ok_or("it is not there")?;
    let module = found["placement"]["module"].as_str().filter(|_| found["phase"] == "running");
    module.map(str::to_owned).ok_or_else(|| Value::to_string(found))
}

fn wait_until_runs(installation: &Installation, workload: &str) -> String {
    wait_for(&format!("{workload} runs"), 2 * PATIENCE, || running_at(&installation.cli(), workload))
}

/// What docs/store.md tells whoever restores an etcd to do before a controller starts.
fn raise_epoch(installation: &Installation) {
    let store = &installation.home().store;
    let args = ["--store", store, "store", "--json", "raise-epoch"];
    let dir = installation.home().dir.path();
    let ended = Process::start("flareshift-controller", &args, dir, "raise-epoch").end(PATIENCE);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    println!("raise-epoch: {}", ended.stdout.trim());
}
