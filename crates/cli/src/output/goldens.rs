//! What every command prints, as a table and as JSON, held by files in `tests/golden/`: the JSON is what programs rely on.
//!
//! After a change that is meant, `UPDATE_EXPECT=1 cargo test -p cli` writes the files anew; read their diff.

use expect_test::expect_file;

use super::decision::all;
use super::event::Event;
use super::history::WithHistory;
use super::version::Versions;
use super::{
    View, fleet, line, module, offering, outlook, plan, proxy, quote, samples, site, tenant, text, workload,
};
use crate::args::Output;

/// Compares both forms of a view with `tests/golden/NAME.txt` and `NAME.json`.
fn check(name: &str, view: &impl View) {
    compare(name, &text(view, Output::Table), &text(view, Output::Json));
}

/// With what happened to it.
fn told<V>(view: V) -> WithHistory<V> {
    WithHistory { view, history: Some(samples::history().into()) }
}

fn compare(name: &str, table: &str, json: &str) {
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden");
    expect_file![format!("{golden}/{name}.txt")].assert_eq(table);
    expect_file![format!("{golden}/{name}.json")].assert_eq(json);
    assert!(table.lines().all(|line| line.trim_end() == line), "{name}: spaces end a line");
}

#[test]
fn status() {
    check("status", &fleet::Fleet::from(samples::fleet()));
}

#[test]
fn status_of_a_controller_that_just_started() {
    check("status-empty", &fleet::Fleet::from(api::operator::FleetStatus::default()));
}

#[test]
fn sites() {
    check("site-list", &site::List { sites: all(samples::sites()) });
    check("site-describe", &told(site::Described::from(samples::site())));
}

#[test]
fn modules() {
    check("module-list", &module::List { modules: all(samples::modules()) });
    check("module-describe", &told(module::Described::from(samples::module())));
}

#[test]
fn plans() {
    check("plan-list", &plan::List { plans: all(samples::plan_summaries()) });
    check("plan-show", &plan::Plan::from(samples::plan()));
    check("plan-diff", &plan::Diff::from(samples::diff()));
    check("plan-explain", &plan::Explanation::from(samples::explanation()));
}

#[test]
fn outlooks() {
    check("outlook", &outlook::Outlook::from(samples::outlook()));
}

#[test]
fn workloads() {
    let workloads = all(vec![samples::workload(), samples::waiting_workload(), samples::shell()]);
    check("workload-list", &workload::List { workloads });
    check("workload-describe", &told(workload::Workload::from(samples::workload())));
    let waiting = samples::described_waiting_workload();
    check("workload-describe-waiting", &workload::Workload::from(waiting));
    check("workload-describe-shell", &workload::Workload::from(samples::shell()));
}

#[test]
fn quotes() {
    check("quote-refused", &quote::Quote::from(samples::refused_quote()));
    check("quote-nowhere", &quote::Quote::from(samples::nowhere_quote()));
}

#[test]
fn tenants() {
    check("tenant-list", &tenant::List { tenants: vec![samples::tenant().into()] });
    let made = |api_key: &str| {
        let tenant = Some(samples::tenant());
        tenant::Created::from(api::operator::CreateTenantResponse { tenant, api_key: api_key.into() })
    };
    check("tenant-create", &made("fs_0123456789abcdef"));
    check("tenant-create-repeat", &made(""));
}

#[test]
fn offerings() {
    check("offering-list", &offering::List { offerings: all(samples::offerings()) });
}

#[test]
fn a_proxy() {
    check("proxy-stats", &proxy::Proxy::from(samples::proxy_stats()));
    check(
        "proxy-stats-fresh",
        &proxy::Proxy::from(api::proxy::Stats { balanced: true, ..Default::default() }),
    );
}

#[test]
fn versions() {
    // The client's version changes with every release, so the goldens fix their own.
    let versions = |server| Versions { client: "1.2.3".into(), ..Versions::new(server) };
    check("version", &versions(Some(samples::version())));
    check("version-client", &versions(None));
}

#[test]
fn watch() {
    let events: Vec<Event> = all(samples::events());
    let lines = |output| events.iter().map(|event| line(event, output)).collect::<String>();
    compare("watch", &lines(Output::Table), &lines(Output::Json));
}

#[test]
fn an_empty_list_is_a_sentence_for_people_and_an_empty_array_for_programs() {
    let check = |view: &dyn Fn(Output) -> String, start: &str, json: &str| {
        let table = view(Output::Table);
        assert!(table.starts_with(start) && table.lines().count() == 1, "{table}");
        assert_eq!(view(Output::Json), json);
    };
    check(&|o| text(&site::List { sites: vec![] }, o), "No sites.", "{\n  \"sites\": []\n}\n");
    check(&|o| text(&module::List { modules: vec![] }, o), "No modules.", "{\n  \"modules\": []\n}\n");
    check(&|o| text(&plan::List { plans: vec![] }, o), "No plan yet", "{\n  \"plans\": []\n}\n");
    check(&|o| text(&workload::List { workloads: vec![] }, o), "No workloads", "{\n  \"workloads\": []\n}\n");
    check(&|o| text(&tenant::List { tenants: vec![] }, o), "No tenants", "{\n  \"tenants\": []\n}\n");
    check(&|o| text(&offering::List { offerings: vec![] }, o), "No offerings", "{\n  \"offerings\": []\n}\n");
    let diff = plan::Diff { from: 1, to: 2, changes: vec![] };
    assert_eq!(text(&diff, Output::Table), "Plans 1 and 2 do not differ.\n");
}
