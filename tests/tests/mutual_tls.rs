//! Controller, agents and command line over mutual TLS: a fleet that works, certificates that do not, and certificates renewed while
//! everything runs.
//!
//! Read next: docs/tls.md, whose lines make the certificates here.

use crate::support::certificates::Certificates;
use crate::support::cli::{Cli, run};
use crate::support::fleet::{Place, SITES};
use crate::support::{PATIENCE, wait_for, waits};

/// A command of somebody that is refused with this code and these words.
fn check_refused(cli: &Cli, args: &[&str], code: i32, expected: &str) {
    let ended = cli.run(args);
    assert_eq!(ended.code, Some(code), "{args:?}: {}", ended.stderr);
    assert!(ended.stderr.contains(expected), "{args:?}: {}", ended.stderr);
}

#[test]
fn a_fleet_works_over_mutual_tls_and_each_certificate_does_its_own_work_alone() {
    let _waits = waits();
    let place = Place::secure();
    let mut controller = place.controller();
    let _well = place.agent(SITES[0]);
    // The agents of one site with the certificate of the other.
    let others = place.certificates.as_ref().unwrap().shown(SITES[0]);
    let others: Vec<&str> = others.iter().map(String::as_str).collect();
    let mut imposter = place.agent_showing(SITES[1], &others);
    let line = imposter.wait_for_line("refuses this agent", PATIENCE);
    assert!(line.contains("the certificate is that of the agent of module well-7-gpu"), "{line}");
    controller.wait_for_line("another module than its certificate", PATIENCE);
    imposter.kill_nine();
    let _mesa = place.agent(SITES[1]);
    place.wait_until_whole(0);

    let ada = place.cli();
    ada.get(&["module", "cordon", "well-7-gpu", "--by", "bob", "--why", "fan"]);
    let described = ada.get(&["module", "describe", "well-7-gpu"]);
    let told = described.to_string();
    assert!(told.contains("\"ada\"") && !told.contains("\"bob\""), "the certificate says who it was: {told}");

    check_refused(&place.cli_of(SITES[0]), &["status"], 4, "operators may call this");
    check_refused(
        &Cli::at(&place.url(&place.grpc), &[]),
        &["status"],
        2,
        "only with --tls-ca, --tls-cert and --tls-key",
    );
    check_refused(
        &Cli::new(&place.grpc),
        &["status"],
        3,
        "write https:// and give --tls-ca, --tls-cert and --tls-key",
    );
    controller.wait_for_line("the client speaks no TLS", PATIENCE);
    let strangers = Certificates::new();
    let strange = Cli::at(&place.url(&place.grpc), &strangers.shown("ada"));
    check_refused(&strange, &["status"], 3, "the controller's certificate is not signed by --tls-ca");
    controller.terminate();
    assert_eq!(controller.end(PATIENCE).code, Some(0));
}

#[test]
fn renewed_certificates_are_taken_over_on_sighup_and_sessions_go_on() {
    let _waits = waits();
    let place = Place::secure();
    let mut controller = place.controller();
    let well = place.agent(SITES[0]);
    let online = |cli: &Cli| {
        wait_for("a module is online", PATIENCE, || {
            let status = cli.ask(&["status"])?;
            let modules = status["modules"].as_array().ok_or("no modules")?;
            let module =
                modules.iter().find(|module| module["module"] == "well-7-mine").ok_or("not there")?;
            if module["link"] == "online" { Ok(()) } else { Err(module["link"].to_string()) }
        });
    };
    online(&place.cli());
    wait_for("all three are welcome", PATIENCE, || match well.count_lines("welcomes this agent") {
        3 => Ok(()),
        few => Err(few.to_string()),
    });
    let ended = well.count_lines("the session ended");
    let (certificates, before) = (place.certificates.as_ref().unwrap(), Certificates::new());
    for file in ["ca.pem", "ada.pem", "ada.key"] {
        std::fs::copy(certificates.path().join(file), before.path().join(file)).unwrap();
    }
    let before = Cli::at(&place.url(&place.grpc), &before.shown("ada"));

    // A renewal that went wrong changes nothing.
    let key = certificates.path().join("here.key");
    let kept = std::fs::read(&key).unwrap();
    std::fs::write(&key, "half").unwrap();
    controller.signal("HUP");
    controller.wait_for_line("settings cannot be used, the old ones stay", PATIENCE);
    std::fs::write(&key, kept).unwrap();
    before.get(&["status"]);

    certificates.renew();
    controller.signal("HUP");
    controller.wait_for_line("certificates read again", PATIENCE);
    check_refused(&before, &["status"], 3, "the controller's certificate is not signed by --tls-ca");
    online(&place.cli());
    assert_eq!(well.count_lines("the session ended"), ended, "{}", well.tail());

    // The agent reads its renewed files by itself when it comes back.
    controller.kill_nine();
    let _again = place.controller();
    online(&place.cli());
}

#[test]
fn a_check_of_settings_names_the_file_that_is_wrong() {
    let certificates = Certificates::new();
    let served = certificates.served();
    let served: Vec<&str> = served.iter().map(String::as_str).collect();
    let open = ["--check-config", "--listen", "0.0.0.0:7600", "--rest", "0.0.0.0:7680"];
    let check = |more: &[&str], code: i32, expected: &str| {
        let ended = run("flareshift-controller", &[&open[..], more].concat());
        assert_eq!(ended.code, Some(code), "{more:?}: {}", ended.stderr);
        assert!(format!("{}{}", ended.stdout, ended.stderr).contains(expected), "{more:?}: {}", ended.stderr);
    };
    check(&[], 2, "--listen 0.0.0.0:7600 is not on loopback, and speaks no TLS");
    check(&served, 2, "give --advertise https://HOST:PORT");
    check(&[&served[..], &["--advertise", "http://h:1"]].concat(), 2, "write https://HOST:PORT");
    let all = [&served[..], &["--advertise", "https://flare-1.example:7600"]].concat();
    check(&all, 0, "the settings can be used");
    std::fs::copy(certificates.path().join("ada.key"), certificates.path().join("here.key")).unwrap();
    check(&all, 2, "it is not the key of");
    std::fs::remove_file(certificates.path().join("ca.pem")).unwrap();
    check(&all, 2, "cannot be used");
}
