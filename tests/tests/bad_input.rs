//! What is wrong is refused at once, with a line that says what to do; nothing is lost by it.
//!
//! Read next: `three_processes.rs` for an etcd that is not there and a module nobody knows.

use crate::support::cli::{Cli, run};
use crate::support::dev;
use crate::support::process::Process;
use crate::support::{PATIENCE, TempDir, free_address, wait_for, waits};

/// `flareshift dev` refuses these arguments with exit code 2 and all of `words`.
fn check(args: &[&str], words: &[&str]) {
    let ended = dev::end(args);
    assert_eq!(ended.code, Some(2), "{args:?}: {}", ended.stderr);
    for word in words {
        assert!(ended.stderr.contains(word), "{args:?} does not say {word:?}: {}", ended.stderr);
    }
    assert_eq!(ended.stdout, "", "{args:?}");
}

#[test]
fn an_unknown_flag_is_refused_by_every_program() {
    for (program, args) in [
        ("flareshift", &["dev", "--sped", "20"][..]),
        ("flareshift", &["status", "--sped"]),
        ("flareshift-controller", &["--sped"]),
        ("flareshift-agent", &["--sped"]),
    ] {
        let ended = run(program, args);
        assert_eq!(ended.code, Some(2), "{program} {args:?}: {}", ended.stderr);
        assert!(ended.stderr.contains("--sped") && ended.stderr.contains("--help"), "{}", ended.stderr);
    }
}

#[test]
fn a_broken_series_is_named_by_file_line_and_column() {
    let dir = TempDir::new("series");
    let prices = dir.write("prices.csv", "date,price_usd\n2025-01-01,90000\n2025-01-02,cheap\n");
    let found = ["line 3, column 2 (price_usd)", "expected a price", "found \"cheap\""];
    check(&["--prices", &prices], &[&[prices.as_str()][..], &found].concat());
    let difficulty = dir.write("difficulty.csv", "date,difficulty\nyesterday,1e14\n");
    let found = ["line 2, column 1 (date)", "expected a date", "found \"yesterday\""];
    check(&["--difficulty", &difficulty], &[&[difficulty.as_str()][..], &found].concat());
    let header = "name,gpu_spec,num_gpu,gpu_milli,qos,creation_time,deletion_time,scheduled_time\n";
    let jobs = dir.write("jobs.csv", &format!("{header}j1,,many,1000,LS,0,10,1\n"));
    check(&["--jobs", &jobs], &[&jobs, "line 2, column 3 (num_gpu)", "expected", "found \"many\""]);
    check(&["--prices", &dir.at("absent.csv")], &["absent.csv"]);
}

#[test]
fn an_unknown_fault_is_told_the_list() {
    check(&["--fault", "meteor@60s"], &["meteor", "genset-trip"]);
    check(&["--fault", "genset-trip"], &["genset-trip", "@"]);
    let listed = run("flareshift", &["dev", "--fault", "help"]);
    assert_eq!(listed.code, Some(0));
    assert!(listed.stdout.contains("genset-trip@TIME"), "{}", listed.stdout);
}

#[test]
fn a_listener_that_is_not_on_loopback_is_refused_with_the_reason() {
    let why = "is not on loopback";
    for flag in ["--grpc", "--rest"] {
        // Given twice, a flag of `dev::end` would be refused for that.
        let ended = run("flareshift", &["dev", "--headless", "--for", "1s", flag, "0.0.0.0:7699"]);
        assert!(matches!(ended.code, Some(1 | 2)), "{flag}: {:?}", ended.code);
        assert!(ended.stderr.contains(flag) && ended.stderr.contains(why), "{flag}: {}", ended.stderr);
    }
    for flag in ["--listen", "--rest"] {
        let ended = run("flareshift-controller", &[flag, "0.0.0.0:7699"]);
        assert_eq!(ended.code, Some(2), "{flag}");
        assert!(ended.stderr.contains(flag) && ended.stderr.contains(why), "{flag}: {}", ended.stderr);
    }
    let dir = TempDir::new("agent");
    let fleet = crate::support::repository("deploy/fleet.toml");
    let data = dir.at("data");
    let args = ["--fleet", fleet.to_str().unwrap(), "--module", "well-7-mine", "--data", &data];
    let ended = run(
        "flareshift-agent",
        &[&args[..], &["--pool", "127.0.0.1:1", "--stratum", "0.0.0.0:3333"]].concat(),
    );
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains("loopback only"), "{}", ended.stderr);
}

#[test]
fn a_module_that_the_fleet_file_does_not_describe_is_refused_by_the_agent() {
    let fleet = crate::support::repository("deploy/fleet.toml");
    let ended = run("flareshift-agent", &["--fleet", fleet.to_str().unwrap(), "--module", "nobody"]);
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains("describes no module nobody; add it there, or correct --module"));
}

#[test]
fn a_running_dev_guards_its_directory_and_answers_for_what_is_not_there() {
    let _waits = waits();
    let dir = TempDir::new("guarded");
    let (data, grpc, rest) = (dir.at("data"), free_address(), free_address());
    let args = ["dev", "--headless", "--data", &data, "--grpc", &grpc, "--rest", &rest];
    let mut first = Process::start("flareshift", &args, dir.path(), "first");
    let cli = Cli::new(&grpc);
    wait_for("it answers", PATIENCE, || cli.ask(&["status"]));
    check(&["--data", &data], &[&data, "is in use by another flareshift dev", "--data"]);

    let absent = cli.run(&["module", "describe", "nobody"]);
    assert_eq!((absent.code, absent.stdout.as_str()), (Some(1), ""), "{}", absent.stderr);
    assert!(absent.stderr.contains("nobody"), "{}", absent.stderr);
    assert!(absent.stderr.contains("list"), "it does not say what to do: {}", absent.stderr);
    assert!(first.is_running(), "{}", first.tail());
}

#[test]
fn a_controller_that_does_not_answer_has_an_exit_code_of_its_own() {
    let ended = Cli::new(&free_address()).run(&["status"]);
    assert_eq!(ended.code, Some(3), "{}", ended.stderr);
    assert!(ended.stderr.contains("no controller answers") && ended.stderr.contains("FLARESHIFT_ENDPOINT"));
}
