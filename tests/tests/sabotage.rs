//! Every sabotage, built into the real parts, is seen by the checker of the invariant that it breaks.
//!
//! A checker that never fires proves nothing. What the run needs for the sabotage to matter (a lost link, a rejected load) is
//! brought by a fault. Read next: `crates/cli/src/dev/sabotage.rs` for the names.

use crate::support::dev::run;
use crate::support::{TempDir, alone, repository};

/// A run with the sabotage ends with exit code 1 and this invariant broken.
fn check(sabotage: &str, invariant: u64, args: &[&str]) {
    let _alone = alone();
    // As fast as the machine can: 760 simulated seconds of one module take some 10 s.
    let fixed = ["--sabotage", sabotage, "--speed", "60"];
    let run = run(&[&fixed, args].concat());
    assert_eq!(run.code, Some(1), "{sabotage}: {}", run.stderr);
    assert_eq!(run.summary["sound"], false, "{sabotage}");
    assert!(run.verdict(invariant).violations > 0, "{sabotage} broke only:\n{}", run.broken());
}

#[test]
fn over_granting_breaks_power() {
    check("over-grant", 1, &["--for", "200s"]);
}

#[test]
fn ignoring_the_ceiling_breaks_power() {
    check("ignore-ceiling", 1, &["--for", "150s"]);
}

/// Sets that take a third of the reference's block and a quarter of its ramp: a site that comes up from its fallback programme
/// has to climb in many small steps, and one that does not is seen at once.
#[test]
fn stepping_up_over_the_share_breaks_gensets() {
    let dir = TempDir::new("stiff");
    let fleet = std::fs::read_to_string(repository("deploy/fleet.toml")).unwrap();
    let stiff = fleet.replace("\nstep = 60000", "\nstep = 20000").replace("\nramp = 1250", "\nramp = 300");
    assert_ne!(stiff, fleet);
    let (fleet, data) = (dir.write("stiff.toml", &stiff), dir.at("data"));
    {
        let _alone = alone();
        run(&["--fleet", &fleet, "--data", &data, "--for", "5s", "--speed", "20"]).assert_sound(&[3]);
    }
    // The second start finds the site on its fallback programme.
    check("ignore-share", 3, &["--fleet", &fleet, "--data", &data, "--for", "240s"]);
}

/// Without the sabotage the same loss is sound: see `dev_runs.rs`.
#[test]
fn going_on_after_the_office_was_lost_breaks_one_writer() {
    check("skip-fence", 4, &["--for", "150s", "--fault", "leader-loss@40s"]);
}

#[test]
fn counting_shares_twice_breaks_shares() {
    check("count-twice", 5, &["--for", "100s"]);
}

/// An honest proxy keeps back what bad boards submit: see `dev_runs.rs`.
#[test]
fn forwarding_unverified_shares_breaks_shares() {
    let bad = "miner-errors@20s:well-7-hybrid/a";
    check("forward-unverified", 5, &["--for", "100s", "--fault", bad]);
}

#[test]
fn billing_the_wrong_use_breaks_energy() {
    check("misattribute", 6, &["--for", "100s"]);
}

#[test]
fn waking_miners_early_breaks_dwell() {
    check("ignore-dwell", 7, &["--for", "150s"]);
}

#[test]
fn going_on_after_expiry_breaks_lost_link() {
    check("ignore-expiry", 8, &["--for", "300s", "--fault", "link-loss@30s:well-7-mine"]);
}

#[test]
fn starting_a_run_twice_breaks_lost_link() {
    check("double-start", 8, &["--for", "150s"]);
}

#[test]
fn throwing_a_journal_away_breaks_crash() {
    check("lose-segment", 9, &["--for", "150s"]);
}

#[test]
fn planning_by_a_dice_breaks_determinism() {
    check("nondeterministic", 10, &["--for", "150s"]);
}

/// A module has ten minutes to notice.
#[test]
fn keeping_quiet_breaks_honest_meters() {
    let liar = "miner-liar@20s:well-7-hybrid/a";
    check("no-flag", 12, &["--sites", "1", "--for", "760s", "--fault", liar]);
}

#[test]
fn a_name_that_is_none_is_told_the_list() {
    let ended = crate::support::dev::end(&["--sabotage", "everything", "--for", "1s"]);
    assert_eq!(ended.code, Some(2));
    assert!(
        ended.stderr.contains("no sabotage is called \"everything\"") && ended.stderr.contains("over-grant")
    );
}
