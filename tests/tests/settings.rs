//! Settings in a file, as the real programs take and refuse them.
//!
//! Read next: docs/configuration.md.

use crate::support::cli::{run, text};
use crate::support::process::Ended;
use crate::support::{TempDir, repository};

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
        (Some(0), "the settings can be used\n"),
        "{}",
        sound.stderr
    );
    let agent =
        format!("fleet = {:?}\nmodule = \"well-7-mine\"\ncontroller = [\"http://h:1\"]\n", text(&fleet));
    let sound = check("flareshift-agent", &agent, &[]);
    assert_eq!(
        (sound.code, sound.stdout.as_str()),
        (Some(0), "the settings can be used\n"),
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
