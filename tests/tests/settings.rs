//! Settings in a file, as the real programs take and refuse them.
//!
//! Read next: docs/configuration.md.

use crate::support::cli::{run, text};
use crate::support::fleet::{Place, SITES};
use crate::support::process::{Ended, Process};
use crate::support::{PATIENCE, TempDir, repository, wait_for, waits};

/// Checks settings that stand in a file, with more words on the command line.
fn check(program: &str, settings: &str, more: &[&str]) -> Ended {
    let dir = TempDir::new("settings");
    let file = dir.write("settings.toml", settings);
    run(program, &[&["--check-config", "--config", &file], more].concat())
}

#[test]
fn settings_of_a_file_are_checked_as_flags_are_and_nothing_is_opened() {
    let fleet = repository("deploy/fleet.toml");
    let controller = format!(
        "fleet = {:?}\naccept_simulated = true\nlease_ttl_seconds = 10\nmetrics = \"127.0.0.1:7690\"\n",
        text(&fleet)
    );
    let sound = check("flareshift-controller", &controller, &[]);
    assert_eq!(
        (sound.code, sound.stdout.as_str()),
        (
            Some(0),
            "the settings can be used; SIGHUP reads again: difficulty, evict_least, evict_percent, fees_ppm, log, pool_fee_ppm, \
             price_usd, quiet_seconds\n"
        ),
        "{}",
        sound.stderr
    );
    let agent =
        format!("fleet = {:?}\nmodule = \"well-7-mine\"\ncontroller = [\"http://h:1\"]\n", text(&fleet));
    let sound = check("flareshift-agent", &agent, &[]);
    assert_eq!(
        (sound.code, sound.stdout.as_str()),
        (Some(0), "the settings can be used; SIGHUP reads again: log\n"),
        "{}",
        sound.stderr
    );

    let refused = |program: &str, settings: &str, more: &[&str], code: i32, expected: &str| {
        let ended = check(program, settings, more);
        assert_eq!(ended.code, Some(code), "{settings} {more:?}: {}", ended.stderr);
        assert!(ended.stderr.contains(expected), "{settings} {more:?}: {}", ended.stderr);
    };
    let typo = controller.replace("lease_ttl_seconds", "lease_ttl");
    refused(
        "flareshift-controller",
        &typo,
        &[],
        2,
        "line 3: there is no setting `lease_ttl`; did you mean `lease_ttl_seconds`?",
    );
    let short = controller.replace("= 10", "= 1");
    refused("flareshift-controller", &short, &[], 2, "2..=60");
    refused("flareshift-controller", &controller, &["--metrics", "0.0.0.0:1"], 2, "not on loopback");
    let real = controller.replace("= true", "= false");
    refused("flareshift-controller", &real, &[], 2, "--accept-simulated");
    refused("flareshift-agent", &agent, &["--module", "nobody"], 1, "describes no module nobody");
    refused(
        "flareshift-agent",
        &format!("{agent}pool = \"h:1\"\n"),
        &["--proxy", "p.toml"],
        2,
        "cannot be used with",
    );
}

/// Writes the file anew, has it read, and waits for what the program says of it.
fn read_again(process: &mut Process, place: &Place, settings: &str, line: &str) {
    let before = process.count_lines(line);
    place.dir.write("settings.toml", settings);
    process.signal("HUP");
    process.wait_for_another_line(line, before, PATIENCE);
}

#[test]
fn a_controller_reads_prices_and_its_log_again_and_names_what_it_does_not() {
    let _waits = waits();
    let place = Place::embedded();
    let file = place.dir.write("settings.toml", "price_usd = 60000\nlog = \"info\"\n");
    let mut controller = place.controller_with(&["--config", &file]);
    let price = || place.cli().get(&["status"])["market"]["price_micro_dollars"].as_i64();
    wait_for("it answers", PATIENCE, || place.cli().ask(&["status"]));
    assert_eq!(price(), Some(60_000_000_000));

    let settings = "price_usd = 70000\nquiet_seconds = 9\nevict_percent = 10\notlp_sample = 0.5\n";
    read_again(&mut controller, &place, settings, "settings read again");
    let taken = controller.wait_for_line("price_usd = 70000", PATIENCE);
    assert!(taken.contains("SIGHUP") && !taken.contains("otlp_sample"), "{taken}");
    assert!(taken.contains("quiet_seconds = 9") && taken.contains("evict_percent = 10"), "{taken}");
    let refused = controller.wait_for_line("counts from the next start on", PATIENCE);
    assert!(refused.contains("otlp_sample"), "{refused}");
    assert_eq!(price(), Some(70_000_000_000));

    for broken in
        ["price_usd = 80000\nprice = 1\n", "price_usd = -1\n", "price_usd = 80000\nlog = \"store=loud\"\n"]
    {
        read_again(&mut controller, &place, broken, "settings cannot be used, the old ones stay");
    }
    assert_eq!(
        (price(), controller.count_lines("DEBUG")),
        (Some(70_000_000_000), 0),
        "{}",
        controller.tail()
    );

    read_again(&mut controller, &place, "price_usd = 70000\nlog = \"debug\"\n", "log = debug");
    // Whatever is asked of it now leaves lines that it did not write before.
    price();
    controller.wait_for_line("DEBUG", PATIENCE);
    controller.terminate();
    assert_eq!(controller.end(PATIENCE).code, Some(0));
}

#[test]
fn an_agent_reads_its_log_again_and_goes_on() {
    let _waits = waits();
    let place = Place::embedded();
    let file = place.dir.write("settings.toml", "");
    let mut agent = place.agent_with(SITES[0], &["--config", &file]);
    // What it tells once it has a runtime; a signal before that ends it, as it does any program that starts.
    agent.wait_for_line("controller", PATIENCE);
    read_again(&mut agent, &place, "log = \"debug\"\naccount = \"other\"\n", "log = debug");
    let refused = agent.wait_for_line("counts from the next start on", PATIENCE);
    assert!(refused.contains("account"), "{refused}");
    agent.wait_for_line("DEBUG", PATIENCE);
    agent.terminate();
    assert_eq!(agent.end(PATIENCE).code, Some(0));
}
