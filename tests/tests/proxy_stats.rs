//! A person asks an agent how its proxy stands, while it works: the real command, the real socket.
//!
//! Read next: docs/proxy.md.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::cli::run;
use crate::support::process::Process;
use crate::support::prometheus::page;
use crate::support::{PATIENCE, TempDir, free_address, wait_for, waits};

/// Enough for the equation to mean something.
const SHARES: u64 = 30;

/// The directory of an agent whose proxy listens.
fn agent(data: &Path) -> Result<PathBuf, String> {
    let agents = std::fs::read_dir(data.join("agent")).map_err(|error| error.to_string())?;
    let mut found = agents.filter_map(Result::ok).map(|entry| entry.path());
    found.find(|path| path.join("agent.sock").exists()).ok_or_else(|| "no agent has a socket".to_owned())
}

fn stats(agent: &Path) -> Result<Value, String> {
    let ended = run("flareshift", &["proxy", "stats", "-o", "json", "--data", agent.to_str().unwrap()]);
    if ended.code != Some(0) {
        return Err(format!("exit code {:?}: {}", ended.code, ended.stderr));
    }
    serde_json::from_str(&ended.stdout).map_err(|error| format!("{error} in {}", ended.stdout))
}

#[test]
fn every_share_of_a_working_proxy_has_one_end_and_its_hash_rate_an_interval() {
    let _waits = waits();
    let dir = TempDir::new("stats");
    let data = dir.at("data");
    let metrics = free_address();
    let args = [
        "dev",
        "--headless",
        "--sites",
        "1",
        "--data",
        &data,
        "--grpc",
        "127.0.0.1:0",
        "--rest",
        "127.0.0.1:0",
        "--speed",
        "10",
        "--metrics",
        &metrics,
    ];
    let mut dev = Process::start("flareshift", &args, dir.path(), "dev");
    let agent = wait_for("an agent with a socket", PATIENCE, || agent(Path::new(&data)));
    let seen = wait_for("shares", 2 * PATIENCE, || {
        assert!(dev.is_running(), "{}", dev.tail());
        let seen = stats(&agent)?;
        let received = seen["total"]["received"]["shares"].as_u64().unwrap();
        // An interval needs shares inside of the window.
        let verified = seen["groups"]
            .as_array()
            .unwrap()
            .iter()
            .any(|group| !group["verified"]["least_hashes_per_second"].is_null());
        if received >= SHARES && verified { Ok(seen) } else { Err(seen.to_string()) }
    });
    assert_eq!(seen["equation_holds"], true, "{seen}");
    assert!(
        seen["connections"].as_u64().unwrap() > 0 && !seen["workers"].as_array().unwrap().is_empty(),
        "{seen}"
    );
    assert_eq!(seen["upstreams"][0]["state"], "up", "{seen}");
    for group in seen["groups"].as_array().unwrap().iter().filter(|group| group["verified"]["shares"] != 0) {
        let rate = |field: &str| group["verified"][field].as_i64().unwrap();
        assert!(rate("least_hashes_per_second") < rate("rate_hashes_per_second"), "{group}");
        assert!(rate("rate_hashes_per_second") < rate("most_hashes_per_second"), "{group}");
    }
    let table = run("flareshift", &["proxy", "stats", "--data", agent.to_str().unwrap()]);
    assert!(table.stdout.contains("Equation:          holds: "), "{}", table.stdout);
    let (status, shown) = page(&metrics, "/metrics").unwrap();
    assert_eq!(status, 200);
    assert!(shown.contains("\nflareshift_controller_leading 1\n"), "{shown}");
    let forwarded = |line: &&str| line.starts_with("flareshift_agent_shares_total{") && !line.ends_with(" 0");
    assert!(shown.lines().any(|line| forwarded(&line)), "{shown}");
    dev.terminate();
    assert_eq!(dev.end(PATIENCE).code, Some(0));
    assert!(!agent.join("agent.sock").exists(), "it took its socket away");
}
