//! `flareshift dev` as a user runs it: a fleet that earns, a set that trips, real series.
//!
//! Every number comes from the summary, whose invariants are judged by the simulation's own meters.
//! Read next: `sabotage.rs`, where the same invariants must fire.

use std::path::PathBuf;

use crate::support::cli::text;
use crate::support::dev::{WATCHED, run};
use crate::support::ledger::{Ledger, audits};
use crate::support::{TempDir, alone, repository};

/// Jobs of the trace that ask for no GPU, by the README that lies beside it.
const WITHOUT_GPU: u64 = 608;
/// Jobs of the trace that ask for a fraction of one, by the same.
const FRACTIONS: u64 = 1_486;

#[test]
fn dev_headless_is_sound_and_earns_with_mining_and_ai() {
    let _alone = alone();
    let run = run(&["--for", "120s", "--speed", "20"]);
    run.assert_sound(&WATCHED);
    assert_eq!(run.number("simulated_milliseconds"), 120_000);
    assert_eq!(run.summary["not_looked_at"], serde_json::json!([2]), "no set trips in an ordinary run");
    assert!(run.accepted_shares() > 0, "{}", run.summary["fleet"]["shares"]);
    let fleet = &run.summary["fleet"];
    for use_ in ["ai_micro_dollars_per_hour", "mining_micro_dollars_per_hour"] {
        assert!(fleet["revenue"][use_].as_i64().unwrap() > 0, "{use_} in {}", fleet["revenue"]);
    }
}

#[test]
fn a_trip_at_full_load_is_survived_with_the_reflex() {
    let _alone = alone();
    let run = run(&["--fault", "genset-trip@60s", "--for", "150s", "--speed", "20"]);
    run.assert_sound(&[1, 2, 3]);
    assert_eq!((run.number("blackouts"), run.number("firm_lost")), (0, 0));
}

/// 150 kW of storage at each site: half may be lent, half bridges. It trips itself once the bridge is handed back.
#[test]
fn a_fleet_with_storage_survives_the_loss_of_a_set_and_then_of_storage() {
    let dir = TempDir::new("storage");
    let fleet = std::fs::read_to_string(repository("deploy/fleet.toml")).unwrap();
    let storage = "storage = { power = 150000, energy = 1080000000, efficiency_permille = 880, response = 100, \
                   reserve = 300000, wear = 20000000 }\nbuffer = ";
    let fleet = dir.write("storage.toml", &fleet.replace("\nbuffer = ", &format!("\n{storage}")));
    let _alone = alone();
    let faults = ["--fault", "genset-trip@60s:well-7/g1", "--fault", "storage-trip@190s"];
    let run = run(&[&["--fleet", &fleet, "--for", "270s", "--speed", "20"][..], &faults].concat());
    run.assert_sound(&[1, 2, 3, 6]);
    assert_eq!((run.number("blackouts"), run.number("firm_lost")), (0, 0));
}

/// A tie of 60 kW at each site. Gas falls, so import carries miners; the grid is lost and comes back; then its price spikes.
#[test]
fn a_fleet_with_grid_ties_survives_the_loss_of_the_grid_and_heeds_its_price() {
    let dir = TempDir::new("grid");
    let fleet = std::fs::read_to_string(repository("deploy/fleet.toml")).unwrap();
    let grid = "grid = { import = 60000, price = 45000000 }\nbuffer = ";
    let fleet = dir.write("grid.toml", &fleet.replace("\nbuffer = ", &format!("\n{grid}")));
    let _alone = alone();
    let faults = [
        ["--fault", "gas-drop@20s:40"],
        ["--fault", "tie-trip@130s"],
        ["--fault", "tie-back@170s"],
        ["--fault", "tie-price@230s:900"],
    ];
    let data = dir.at("data");
    let fixed = ["--fleet", &fleet, "--for", "330s", "--speed", "20", "--data", &data];
    let run = run(&[&fixed[..], &faults.concat()].concat());
    run.assert_sound(&[1, 2, 3, 6]);
    assert_eq!((run.number("blackouts"), run.number("firm_lost")), (0, 0));
    let lines = Ledger::of_dev(&dir.path().join("data")).lines(WIRED);
    let imports: Vec<_> = lines.iter().filter_map(|line| line.get("import")).collect();
    let sum = |field: &str| imports.iter().map(|line| line[field].as_i64().unwrap()).sum::<i64>();
    // A minute of 10 kW at the least, at 45 dollars a MWh and more once the price has spiked.
    let (energy, cost) = (sum("energy"), sum("cost"));
    assert!(energy >= 600_000 && cost >= energy / 80 - 1_000, "{energy} Ws for {cost} micro-dollars");
}

/// Two bays of 200 kW at well 7, whose sets take blocks of 120 kW here, and one firm order by the kilowatt. A set is lost under it.
#[test]
fn a_firm_shell_draws_what_it_is_billed_for_and_survives_the_loss_of_a_set() {
    let dir = TempDir::new("shell");
    let fleet = std::fs::read_to_string(repository("deploy/fleet.toml")).unwrap();
    let fleet = fleet.replace("step = 60000", "step = 120000");
    let (plant, sold) = fleet.split_at(fleet.find("[[offering]]").unwrap());
    let fleet = dir.write("shell.toml", &format!("{plant}{SHELL}{sold}"));
    let _alone = alone();
    let data = dir.at("data");
    let fixed = ["--fleet", &fleet, "--for", "270s", "--speed", "20", "--data", &data];
    let run = run(&[&fixed[..], &["--fault", "genset-trip@150s:well-7/g1"]].concat());
    run.assert_sound(&[1, 2, 3, 6]);
    assert_eq!((run.number("blackouts"), run.number("firm_lost")), (0, 0));
    let counts = run.summary["fleet"]["workloads"].as_array().unwrap();
    let shells: Vec<_> = counts.iter().filter(|count| count["kilowatts"] != 0).collect();
    assert!(
        matches!(shells[..], [one] if one["phase"] == "running" && one["kilowatts"] == 200),
        "{shells:?}"
    );
    let lines = Ledger::of_dev(&dir.path().join("data")).lines("well-7-shell");
    let amount = |line: &serde_json::Value, field: &str| line[field].as_i64().unwrap();
    let held: Vec<_> = lines.iter().filter_map(|line| line.get("run")).collect();
    assert!(
        held.iter().all(|run| amount(run, "price") == 150_000 && amount(run, "incarnation") == 1),
        "{held:?}"
    );
    // Kilowatts times milliseconds are watt-seconds: what is billed is what the meter saw, some two minutes of 200 kW.
    let billed: i64 = held.iter().map(|run| amount(run, "held")).sum();
    let uses = lines.iter().filter_map(|line| line.get("energy")?["uses"].as_array()).flatten();
    let drawn: i64 =
        uses.filter(|part| part[0].get("workload").is_some()).map(|part| part[1].as_i64().unwrap()).sum();
    assert!(billed >= 24_000_000, "{billed} kW·ms");
    assert!((billed - drawn).abs() * 100 <= billed, "{billed} kW·ms are billed and {drawn} Ws were drawn");
}

/// The bays of that fleet, in a module of their own, and what they are sold for.
const SHELL: &str = r#"
[[module]]
id = "well-7-shell"
site = "well-7"
limit = 430000
cooling = 430000
auxiliary = 5000
loss_permille = 15

[module.pools.bays]
gpu = "kilowatt"
servers = 2
gpus = 200
idle = 0
active = 200000
cap_min = 200000

[[offering]]
id = "shell-firm"
tier = "firm"
gpu = "kilowatt"
price = 150000
notice = 60000
sla_permille = 990

"#;

/// With `forward-unverified` the same run is unsound: see `sabotage.rs`.
#[test]
fn what_bad_boards_submit_stays_at_the_edge() {
    let _alone = alone();
    let run = run(&["--fault", "miner-errors@20s:well-7-hybrid/a", "--for", "100s", "--speed", "60"]);
    run.assert_sound(&[5]);
    let short =
        |share: &&serde_json::Value| share["end"] == "rejected" && share["detail"] == "low-difficulty";
    let shares = &run.summary["fleet"]["shares"];
    assert!(shares.as_array().unwrap().iter().any(|share| short(&share)), "{shares}");
    assert!(shares.as_array().unwrap().iter().all(|share| share["end"] != "refused"), "{shares}");
}

#[test]
fn miners_go_on_while_the_pool_is_away_and_earn_again_when_it_is_back() {
    let _alone = alone();
    let run = run(&["--fault", "pool-loss@20s:30s", "--for", "120s", "--speed", "60"]);
    run.assert_sound(&[5]);
    let shares = &run.summary["fleet"]["shares"];
    for end in ["keep_alive", "accepted"] {
        assert!(shares.as_array().unwrap().iter().any(|share| share["end"] == end), "{end} in {shares}");
    }
}

/// The standby keeps a ledger of its own, so what it counts was mined after it took over.
#[test]
fn the_office_is_lost_in_the_middle_of_a_run_and_the_standby_carries_on() {
    let _alone = alone();
    let run = run(&["--fault", "leader-loss@50s", "--for", "150s", "--speed", "20"]);
    run.assert_sound(&WATCHED);
    let since = run.summary["fleet"]["leadership"]["since"].as_str().unwrap();
    assert!(since >= "2026-02-12T00:00:50", "the run began at 00:00:00 and is led since {since}");
    assert_eq!((run.number("blackouts"), run.number("firm_lost")), (0, 0));
    assert!(run.accepted_shares() > 0, "{}", run.summary["fleet"]["shares"]);
    assert!(run.workloads() > 0, "what was ordered before is known to the standby");
}

#[test]
fn a_trip_at_full_load_is_not_survived_without_the_reflex() {
    let _alone = alone();
    let run = run(&["--fault", "genset-trip@60s", "--for", "150s", "--speed", "20", "--no-reflex"]);
    assert_eq!(run.code, Some(1), "{}", run.stderr);
    assert!(run.summary["sound"] == false && run.number("blackouts") >= 1, "{}", run.broken());
    assert!(run.verdict(2).violations > 0, "{}", run.broken());
}

#[test]
fn real_series_are_replayed_and_their_oddities_counted() {
    let file = |path: &str| -> PathBuf { repository("../shared/data").join(path) };
    let (prices, difficulty) = (file("btc/price_usd.csv"), file("btc/difficulty.csv"));
    let jobs = file("gpu-jobs/openb_first_half.csv");
    if [&prices, &difficulty, &jobs].iter().any(|path| !path.exists()) {
        eprintln!("SKIPPED: no real series in ../shared/data");
        return;
    }
    let _alone = alone();
    let series = ["--prices", text(&prices), "--difficulty", text(&difficulty), "--jobs", text(&jobs)];
    let run = run(&[&series[..], &["--for", "120s", "--speed", "20"]].concat());
    run.assert_sound(&WATCHED);
    assert_eq!((run.number("jobs_dropped"), run.number("jobs_rounded_up")), (WITHOUT_GPU, FRACTIONS));
    assert!(run.workloads() > 0, "no job became a workload");
    // The last day of both series: no built-in price is in use.
    assert!(
        run.summary["fleet"]["at"].as_str().unwrap().starts_with("2025-06-30"),
        "{}",
        run.summary["fleet"]["at"]
    );
}

/// The module that reads the meters of its site.
const WIRED: &str = "well-7-hybrid";
/// The module whose agent is killed: it has miners and GPUs.
const KILLED: &str = "mesa-2-hybrid";

#[test]
fn a_killed_agent_goes_on_with_its_books() {
    let _alone = alone();
    let dir = TempDir::new("agent-kill");
    let fault = format!("agent-kill@40s:{KILLED}");
    let run = run(&["--fault", &fault, "--for", "150s", "--speed", "20", "--data", &dir.at("data")]);
    run.assert_sound(&[5, 6, 9]);
    let ledger = Ledger::of_dev(&dir.path().join("data"));
    ledger.assert_contiguous();
    let lines = ledger.lines(KILLED);
    let energies: Vec<_> = lines.iter().filter_map(|line| line.get("energy")).collect();
    let time = |line: &serde_json::Value, field: &str| line[field].as_i64().unwrap();
    for pair in energies.windows(2) {
        assert_eq!(time(pair[0], "to"), time(pair[1], "from"), "energy lines follow one another");
    }
    let billed = time(energies[energies.len() - 1], "to") - time(energies[0], "from");
    assert!(billed >= 115_000, "{billed} ms of 150 s are billed, the last page is still open");
    // The time the agent was down: one gap line, and beside it an energy line that says how much, and not what for.
    let holes: Vec<_> = lines
        .iter()
        .filter_map(|line| line.get("gap"))
        .filter(|gap| gap["why"].as_str().unwrap().starts_with("the agent did not run"))
        .collect();
    let [hole] = holes[..] else { panic!("not one gap: {holes:?}") };
    let beside = |energy: &&&serde_json::Value| time(energy, "from") == time(hole, "from");
    let unread = energies.iter().find(beside).unwrap_or_else(|| panic!("no energy for {hole}"));
    assert_eq!((&unread["to"], &unread["meter"]), (&hole["to"], &unread["unattributed"]));
    assert!(unread["meter"].as_i64().unwrap() > 0, "{unread}");
    // Shares stand at the end of each segment, so those behind the hole were found after it.
    let at = lines.iter().position(|line| line.get("gap") == Some(hole)).unwrap();
    let accepted = |line: &serde_json::Value| {
        let shares = line.get("shares").filter(|shares| shares["end"] == "accepted");
        shares.map_or(0, |shares| shares["count"].as_u64().unwrap())
    };
    let (before, after) = lines.split_at(at);
    for part in [before, after] {
        assert!(part.iter().map(accepted).sum::<u64>() > 0, "no accepted shares on one side of the restart");
    }
    assert!(after.iter().any(|line| line.get("run").is_some()), "no GPU time after the restart");
    let audits = audits(&dir.path().join("data"));
    println!("share claims that passed and failed: {audits:?}");
    assert!(audits[KILLED].1 == 0, "the restart made a cheat of an agent: {audits:?}");
}
