//! Metrics as those who watch use them: pages that `promtool` reads, a dashboard and alert rules whose every query finds its metrics
//! at a real Prometheus that scrapes a running fleet; and health that says why not.
//!
//! Read next: docs/observability.md.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde_json::Value;

use crate::support::etcd::Etcd;
use crate::support::fleet::{Place, SITES};
use crate::support::prometheus::{Prometheus, page, promtool, ready_or_skip};
use crate::support::{PATIENCE, free_address, repository, wait_for, waits};

fn deploy() -> PathBuf {
    repository("deploy/prometheus")
}

/// Every expression of the dashboard, as Grafana would send it.
fn dashboard() -> Vec<String> {
    let text = std::fs::read_to_string(repository("deploy/grafana/flareshift.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&text).unwrap();
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let targets = panels.filter_map(|panel| panel["targets"].as_array()).flatten();
    let expression = |target: &Value| {
        let expression = target["expr"].as_str().unwrap();
        // A minute of scrapes each second.
        expression.replace("$site", ".*").replace("$__rate_interval", "1m")
    };
    targets.map(expression).collect()
}

/// The metrics that an expression asks for.
fn metrics(expression: &str) -> BTreeSet<String> {
    let is_part = |character: char| character.is_ascii_alphanumeric() || character == '_';
    let words = expression.split(|character| !is_part(character));
    let ours = |word: &&str| word.starts_with("flareshift_") || word.starts_with("process_");
    words.filter(ours).map(str::to_owned).collect()
}

#[test]
fn the_rules_are_well_formed_and_each_has_a_case_in_which_it_fires() {
    if !ready_or_skip() {
        return;
    }
    promtool(&["check", "config", "prometheus.yml"], &deploy(), None);
    promtool(&["check", "rules", "alerts.yml"], &deploy(), None);
    promtool(&["test", "rules", "alerts_test.yml"], &deploy(), None);
    let read = |name: &str| std::fs::read_to_string(deploy().join(name)).unwrap();
    let (rules, cases) = (read("alerts.yml"), read("alerts_test.yml"));
    let alerts: Vec<&str> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(alerts.len() > 10, "{alerts:?}");
    for alert in alerts {
        assert!(cases.contains(&format!("alertname=\"{alert}\"")), "{alert} has no case in alerts_test.yml");
    }
}

#[test]
fn a_running_fleet_shows_pages_that_prometheus_reads_and_every_query_finds_its_metrics() {
    if !ready_or_skip() {
        return;
    }
    let _waits = waits();
    // With TLS, so that what is shown of certificates is there to be asked for.
    let place = Place::secure();
    let [controller_page, agent_page] = [free_address(), free_address()];
    let mut controller = place.controller_with(&["--metrics", &controller_page]);
    let mut agent = place.agent_with(SITES[0], &["--metrics", &agent_page, "--log-format", "json"]);
    let pages = [("controller", controller_page.as_str()), ("agent", agent_page.as_str())];
    for (name, address) in pages {
        wait_for(&format!("the {name} is ready"), PATIENCE, || {
            assert!(controller.is_running() && agent.is_running(), "{}\n{}", controller.tail(), agent.tail());
            let (status, text) = page(address, "/readyz")?;
            if status == 200 { Ok(()) } else { Err(text) }
        });
        assert_eq!(page(address, "/healthz").unwrap(), (200, "ok\n".into()));
    }
    let jobs = [("flareshift-controller", controller_page.as_str()), ("flareshift-agent", &agent_page)];
    let mut prometheus = Prometheus::start(&jobs, &deploy().join("alerts.yml"));
    // A plan is in force, miners mine, and the ledger has come so far.
    prometheus.wait_for("flareshift_agent_envelope_state{state=\"valid\"} == 1");
    prometheus.wait_for("flareshift_site_power_watts{use=\"mining\"} > 0");
    prometheus.wait_for("sum(flareshift_agent_shares_total{result=\"accepted\"}) > 0");
    let cli = place.cli();
    cli.get(&["status"]);
    // A rate needs two scrapes of what came last.
    prometheus.wait_for("rate(flareshift_controller_grpc_requests_total{service=\"operator\"}[1m])");
    lint(&place, &pages);

    let mut asked = BTreeSet::new();
    for expression in dashboard() {
        let found = prometheus.query(&expression).unwrap();
        assert!(!found.is_empty(), "a panel of the dashboard stays empty: {expression}");
        asked.extend(metrics(&expression));
    }
    let rules = prometheus.rules().unwrap();
    assert!(rules.iter().all(|rule| rule["health"] == "ok"), "{rules:?}");
    rules.iter().for_each(|rule| asked.extend(metrics(rule["query"].as_str().unwrap())));
    for metric in &asked {
        assert!(!prometheus.query(metric).unwrap().is_empty(), "nothing shows {metric}");
    }
    let up = prometheus.query("up == 1").unwrap();
    assert_eq!(up.len(), pages.len(), "{up:?}");
    for line in agent.stderr().lines() {
        let parsed: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(parsed["level"].is_string() && parsed["fields"]["message"].is_string(), "{line}");
    }
    println!("{} metrics asked for by {} rules and the dashboard were found", asked.len(), rules.len());
}

/// Has promtool read both pages, and refuses what would make their series unbounded.
fn lint(place: &Place, pages: &[(&str, &str)]) {
    for (name, address) in pages {
        let (status, text) = page(address, "/metrics").unwrap();
        assert_eq!(status, 200);
        let path = place.dir.write(&format!("{name}.metrics"), &text);
        let said = promtool(&["check", "metrics"], place.dir.path(), Some(path.as_ref()));
        assert_eq!(said.trim(), "", "promtool on the page of the {name}");
        for label in ["workload", "tenant", "worker", "miner", "account"] {
            assert!(!text.contains(&format!("{label}=\"")), "series go by {label} on the page of the {name}");
        }
        if *name == "controller" {
            assert!(
                !text.contains("module=\""),
                "a controller's series go by site: a fleet may have thousands"
            );
        }
    }
}

#[test]
fn who_cannot_do_its_work_says_so_and_lives() {
    let _waits = waits();
    let Some(mut etcd) = Etcd::ready_or_skip() else { return };
    let place = Place::new(&etcd.store());
    let [controller_page, agent_page] = [free_address(), free_address()];
    let _controller = place.controller_with(&["--metrics", &controller_page]);
    let answers = |address: &str, wanted: u16, why: &str| {
        wait_for(&format!("{address} answers {wanted}: {why}"), PATIENCE, || {
            match page(address, "/readyz")? {
                (status, text) if status == wanted && text.contains(why) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        });
        assert_eq!(page(address, "/healthz").unwrap().0, 200);
    };
    answers(&controller_page, 503, "the store");
    etcd.start();
    answers(&controller_page, 200, "ready");
    let (_, text) = page(&controller_page, "/metrics").unwrap();
    let errors: Vec<&str> =
        text.lines().filter(|line| line.starts_with("flareshift_controller_store_errors_total{")).collect();
    assert!(errors.iter().any(|line| !line.ends_with(" 0")), "an etcd that was away was counted: {errors:?}");
    // The controller goes, the agent goes on: it reads its devices all the same.
    let _agent = place.agent_with(SITES[0], &["--metrics", &agent_page]);
    answers(&agent_page, 200, "ready");
    etcd.kill_nine();
    answers(&controller_page, 503, "the store");
    answers(&agent_page, 200, "ready");
}
