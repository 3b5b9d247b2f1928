//! The real binary, run as people and scripts run it: exit codes, what goes to which stream, help.
//!
//! Assumes no controller: what needs one is tested where one runs. Goldens of answers stand in `src/output/goldens.rs`.

#![allow(clippy::unwrap_used)]

mod files;
mod store_command;

use std::io::{ErrorKind, Write};
use std::net::TcpListener;
use std::process::{Command, Stdio};

use expect_test::expect_file;

/// What one run left behind.
struct Run {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

/// Runs `flareshift` with an environment that cannot reach a controller by accident.
fn flareshift(args: &[&str]) -> Run {
    let mut command = Command::new(env!("CARGO_BIN_EXE_flareshift"));
    let done = command.args(args).env_remove("FLARESHIFT_ENDPOINT").output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Run { code: done.status.code(), stdout: text(done.stdout), stderr: text(done.stderr) }
}

/// Runs `flareshift` with a text on its standard input.
fn flareshift_with(args: &[&str], input: &str) -> Run {
    let mut command = Command::new(env!("CARGO_BIN_EXE_flareshift"));
    let piped = command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().unwrap();
    match child.stdin.take().unwrap().write_all(input.as_bytes()) {
        // Who refuses its arguments does not wait for the text.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
        done => done.unwrap(),
    }
    let done = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Run { code: done.status.code(), stdout: text(done.stdout), stderr: text(done.stderr) }
}

/// An address at which nobody listens: the port was free a moment ago and is not handed out again soon.
fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

fn golden(name: &str, actual: &str) {
    expect_file![format!("{}/tests/golden/{name}", env!("CARGO_MANIFEST_DIR"))].assert_eq(actual);
}

#[test]
fn help_is_fixed_and_goes_to_standard_output() {
    let check = |name: &str, args: &[&str]| {
        let run = flareshift(args);
        assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""), "{args:?}");
        golden(name, &run.stdout);
    };
    check("help.txt", &["--help"]);
    check("help-dev.txt", &["dev", "--help"]);
    check("help-module.txt", &["module", "--help"]);
    check("help-workload-submit.txt", &["workload", "submit", "--help"]);
    check("help-quote.txt", &["quote", "--help"]);
    check("help-share-check.txt", &["share", "check", "--help"]);
}

#[test]
fn what_is_hidden_stays_out_of_the_help() {
    assert!(!flareshift(&["dev", "--help"]).stdout.contains("sabotage"));
}

#[test]
fn dev_says_at_once_which_module_has_miners_that_cannot_be_simulated() {
    let dir = std::env::temp_dir().join(format!("flareshift-cli-it-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/fleet.toml");
    let text = std::fs::read_to_string(example).unwrap();
    // The first miner group of the file gets more miners than one module may have.
    let (before, after) = text.split_once("\ncount = ").unwrap();
    let (_, rest) = after.split_once('\n').unwrap();
    let fleet = dir.join("fleet.toml");
    std::fs::write(&fleet, format!("{before}\ncount = 1000\n{rest}")).unwrap();
    let fleet = fleet.to_str().unwrap();
    let args = ["--headless", "--for", "1s", "--grpc", "127.0.0.1:0", "--rest", "127.0.0.1:0"];
    let run = flareshift(&[&["dev", "--fleet", fleet], &args[..]].concat());
    std::fs::remove_dir_all(&dir).unwrap();
    assert_eq!(run.code, Some(1), "{}", run.stderr);
    // Whoever waited for the agents in vain would only say that they do not start.
    assert!(
        run.stderr.contains("simulated miners in one module") && run.stderr.contains("split the module"),
        "{}",
        run.stderr
    );
}

#[test]
fn a_wrong_command_line_is_code_2_and_says_what_was_meant() {
    let check = |args: &[&str], said: &str| {
        let run = flareshift(args);
        assert_eq!((run.code, run.stdout.as_str()), (Some(2), ""), "{args:?}");
        assert!(run.stderr.contains(said), "{args:?} does not say {said:?}: {}", run.stderr);
    };
    check(&["dev", "--sped", "60"], "'--speed'");
    check(&["statsu"], "'status'");
    check(&["status", "-o", "yaml"], "table, json");
    check(&["module", "cordon"], "<MODULE>");
    check(&["dev", "--for", "2 hours"], "write a whole number and one unit");
    check(&["dev", "--speed", "0"], "a number above 0");
    check(&["dev", "--speed", "nan"], "a number above 0");
    check(&["dev", "--gas-variability", "1.5"], "a number from 0 to 1");
    check(&["dev", "--sites", "3"], "1..=2");
    check(
        &["backtest", "--strategy", "hodl"],
        "no strategy is called \"hodl\"; there are mining-only, ai-only",
    );
    check(&["backtest", "--load", "0"], "a share from 0.001 to 10");
    check(&["backtest", "--days", "0"], "1..=3660");
    check(&["backtest", "--from", "someday"], "--from someday is no date; write YYYY-MM-DD");
    check(&["backtest", "--prices", "/nowhere.csv"], "cannot read /nowhere.csv");
    check(&["dev", "--fault", "meteor@5s"], "no fault is called \"meteor\"");
    check(&["plan", "show", "0"], "1..");
    check(&["quote"], "<--gpus <N>|--kilowatts <N>>");
    check(&["quote", "--kilowatts", "4001"], "1..=4000");
    check(&["quote", "--gpus", "8", "--kilowatts", "500"], "cannot be used with");
    check(&["quote", "--gpus", "0"], "1..=1024");
    check(&["quote", "--gpus", "8", "--tier", "gold"], "firm, on-demand, spot");
    for term in ["0h", "3650d", "90d1h"] {
        check(&["quote", "--gpus", "8", "--for", term], "--for <DURATION>");
    }
    check(&["quote", "--gpus", "8", "--for", "3650d"], "at most 90d");
    check(&["quote", "--gpus", "8", "--deadline", "0s"], "more than zero");
    for share in ["1.0", "1", "NaN", "0.9995", "many"] {
        check(&["quote", "--gpus", "8", "--availability", share], "a number from 0 to 0.999");
    }
    let order = ["workload", "submit", "--tenant", "a", "--offering", "b", "--gpus", "8"];
    check(&[&order[..], &["--override", "a trial"]].concat(), "--by <NAME>");
    check(&[&order[..], &["--by", "ada"]].concat(), "--override <WHY>");
    check(&["plan", "explain"], "--site <ID>");
    check(&["plan", "explain", "--site", "a", "--module", "b"], "cannot be used with");
    let https = if service::tls::BUILT_IN {
        "only with --tls-ca, --tls-cert and --tls-key"
    } else {
        "this build has no TLS"
    };
    check(&["status", "--endpoint", "https://127.0.0.1:1"], https);
    check(&["status", "--endpoint", ""], "--endpoint");
}

#[test]
fn a_back_test_gives_the_same_bytes_each_time_and_writes_its_files() {
    let dir = std::env::temp_dir().join(format!("cli-backtest-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let (csv, svg) = (dir.join("days.csv"), dir.join("days.svg"));
    let files = ["--csv", csv.to_str().unwrap(), "--svg", svg.to_str().unwrap()];
    let asked = ["backtest", "--days", "1", "--strategy", "mining-only", "-o", "json"];
    let replay = || {
        let run = flareshift(&[&asked[..], &files[..]].concat());
        assert_eq!(run.code, Some(0), "{}", run.stderr);
        let written = [&csv, &svg].map(|path| std::fs::read_to_string(path).unwrap());
        (run.stdout, written)
    };
    let (first, again) = (replay(), replay());
    std::fs::remove_dir_all(&dir).unwrap();
    assert_eq!(first, again);
    let (told, [csv, svg]) = first;
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    let row = &told["strategies"][0];
    assert_eq!((row["strategy"].as_str(), row["plans_refused"].as_u64()), (Some("mining-only"), Some(0)));
    let earned = row["mining_micro_dollars"].as_i64().unwrap();
    assert!(earned > 0 && row["firm_micro_dollars"] == 0, "{row}");
    let line: Vec<&str> = csv.lines().nth(1).unwrap().split(',').collect();
    assert_eq!(line[1..3], ["mining-only", &earned.to_string()]);
    assert!(svg.starts_with("<svg ") && svg.contains("mining-only"));
}

#[test]
fn without_a_controller_it_is_code_3_and_says_how_to_start_one() {
    let endpoint = nobody();
    let check = |args: &[&str]| {
        let run = flareshift(&[args, &["--endpoint", &endpoint]].concat());
        assert_eq!((run.code, run.stdout.as_str()), (Some(3), ""), "{args:?}");
        let first = format!("flareshift: no controller answers at {endpoint}: ");
        assert!(run.stderr.starts_with(&first), "{}", run.stderr);
        for word in ["Connection refused", "flareshift dev", "--endpoint", "FLARESHIFT_ENDPOINT"] {
            assert!(run.stderr.contains(word), "{word}: {}", run.stderr);
        }
    };
    check(&["status"]);
    check(&["site", "list"]);
    check(&["module", "drain", "m1"]);
    check(&["plan", "explain", "--workload", "w"]);
    check(&["outlook", "well-7"]);
    check(&["quote", "--gpus", "8"]);
    check(&["workload", "submit", "--tenant", "a", "--offering", "b", "--gpus", "8", "--for", "2h"]);
    check(&["tenant", "create", "a", "--gpu-quota", "8", "-o", "json"]);
    check(&["watch"]);
}

#[test]
fn without_an_agent_a_proxy_is_code_3_and_says_how_to_start_one() {
    let run = flareshift(&["proxy", "stats", "--data", "/nowhere"]);
    assert_eq!((run.code, run.stdout.as_str()), (Some(3), ""));
    assert!(
        run.stderr.starts_with("flareshift: no agent answers at /nowhere/agent.sock: No such file"),
        "{}",
        run.stderr
    );
    assert!(
        run.stderr.contains("flareshift-agent proxy FILE") && run.stderr.contains("--data DIR"),
        "{}",
        run.stderr
    );
}

#[test]
fn the_endpoint_comes_from_the_environment_too() {
    let endpoint = nobody();
    let mut command = Command::new(env!("CARGO_BIN_EXE_flareshift"));
    let done = command.arg("status").env("FLARESHIFT_ENDPOINT", &endpoint).output().unwrap();
    assert_eq!(done.status.code(), Some(3));
    assert!(String::from_utf8(done.stderr).unwrap().contains(&endpoint));
}

#[test]
fn a_listener_that_speaks_something_else_is_no_controller() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n").unwrap();
    });
    let run = flareshift(&["status", "--endpoint", &endpoint]);
    server.join().unwrap();
    assert_eq!(run.code, Some(3), "{}", run.stderr);
    assert!(
        run.stderr.starts_with(&format!("flareshift: no controller answers at {endpoint}")),
        "{}",
        run.stderr
    );
}

#[test]
fn the_version_of_the_client_needs_no_controller() {
    let run = flareshift(&["version", "--client", "--endpoint", &nobody()]);
    let expected = format!("Client:  {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!((run.code, run.stdout, run.stderr), (Some(0), expected, String::new()));
    let run = flareshift(&["version", "--client", "-o", "json"]);
    let expected = format!("{{\n  \"client\": \"{}\",\n  \"server\": null\n}}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!((run.code, run.stdout), (Some(0), expected));
}

#[test]
fn the_version_without_a_controller_tells_the_clients_and_fails() {
    let run = flareshift(&["version", "--endpoint", &nobody()]);
    assert_eq!((run.code, run.stdout), (Some(3), format!("Client:  {}\n", env!("CARGO_PKG_VERSION"))));
    assert!(run.stderr.contains("no controller answers"), "{}", run.stderr);
}

#[test]
fn the_faults_are_listed_on_request() {
    let listed = flareshift(&["dev", "--list-faults"]);
    assert_eq!((listed.code, listed.stderr.as_str()), (Some(0), ""));
    golden("faults.txt", &listed.stdout);
    for args in [["dev", "--fault", "help"].as_slice(), &["dev", "--fault=help"]] {
        let run = flareshift(args);
        assert_eq!((run.code, run.stdout), (Some(0), listed.stdout.clone()), "{args:?}");
    }
}

/// A share of known hash: difficulty 318.4, held against 318.
const SHARE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/examples/share.json");

#[test]
fn a_share_is_judged_offline_and_the_exit_code_says_how() {
    let check = |name: &str, input: &str, code: i32| {
        for (format, suffix) in [("table", "txt"), ("json", "json")] {
            let run = flareshift_with(&["share", "check", "-", "-o", format], input);
            assert_eq!((run.code, run.stderr.as_str()), (Some(code), ""), "{name}");
            golden(&format!("{name}.{suffix}"), &run.stdout);
        }
    };
    let good = std::fs::read_to_string(SHARE).unwrap();
    check("share-accepted", &good, 0);
    check("share-rejected", &good.replace("\"difficulty\": 318", "\"difficulty\": 319"), 1);
    check("share-malformed", &good.replace("58f90070", "58f9007"), 1);
    assert_eq!(
        flareshift(&["share", "check", SHARE]).stdout,
        flareshift_with(&["share", "check", "-"], &good).stdout
    );
}

#[test]
fn a_share_that_cannot_be_judged_is_code_2_and_no_verdict() {
    let check = |input: &str, said: &str| {
        let run = flareshift_with(&["share", "check", "-"], input);
        assert_eq!((run.code, run.stdout.as_str()), (Some(2), ""), "{input}");
        assert!(run.stderr.contains(said), "{said:?}: {}", run.stderr);
    };
    check("", "EOF while parsing");
    check("{}", "missing field `job`");
    check(&" ".repeat(300_000), "larger than 262144 bytes");
    let run = flareshift(&["share", "check", "/nowhere/share.json"]);
    assert_eq!(run.code, Some(2));
    assert!(
        run.stderr.contains("cannot read /nowhere/share.json") && run.stderr.contains("No such file"),
        "{}",
        run.stderr
    );
}
