//! Powered shells at a real controller: ordered and quoted by the kilowatt, shown so, and never taken for GPUs.

use api::common::{WorkloadOrder, WorkloadPhase};
use api::convert::field::wire_span;
use api::operator as wire;
use controller::run::Options;
use model::Span;
use model::shell::MAX_KILOWATTS;
use serde_json::{Value, json};

use crate::harness::{Agent, Controller, Dir, HandClock, drive};
use crate::rest::{Rest, problem};

/// Four bays of 100 kW in the second module, sold on demand.
const SHELLS: &str = r#"
[module.pools.bays]
gpu = "kilowatt"
servers = 4
gpus = 100
idle = 0
active = 100000
cap_min = 100000

[[offering]]
id = "shell"
tier = "on-demand"
gpu = "kilowatt"
price = 85000
notice = 300000
sla_permille = 0
"#;

/// The usual fleet with bays.
fn adjust(options: &mut Options) {
    let text = include_str!("../src/testing/fleet.toml");
    let begin = text.find("[[offering]]").unwrap();
    let text = format!("{}{SHELLS}{}", &text[..begin], &text[begin..]);
    options.fleet = controller::config::parse_fleet(std::path::Path::new("fleet.toml"), &text, true).unwrap();
}

async fn start(dir: &Dir) -> Controller {
    let store = store::embedded::open(&dir.join("store")).unwrap();
    let controller = Controller::start(dir, store, HandClock::new(), adjust).await;
    controller.until(|live| live.term.is_some()).await;
    let mut cache = controller.handle.context().cache.clone();
    cache.wait_for(|cache| cache.modules.len() == 2 && cache.offerings.len() == 3).await.unwrap();
    controller
}

/// Makes a tenant with both quotas and answers its key.
async fn tenant(controller: &Controller, id: &str, gpu_quota: u32, kilowatt_quota: u32) -> String {
    let request =
        wire::CreateTenantRequest { tenant: id.into(), gpu_quota, kilowatt_quota, ..Default::default() };
    controller.operator().await.create_tenant(request).await.unwrap().into_inner().api_key
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_names_gpus_or_kilowatts_as_its_offering_is_sold() {
    let dir = Dir::new();
    let controller = start(&dir).await;
    let key = tenant(&controller, "acme", 8, MAX_KILOWATTS).await;
    let rest = Rest::new(&controller);
    let refused = async |body: Value, detail: &str| {
        problem(&rest.post("/v1/workloads", &key, body.clone()).await, 400, "invalid", detail);
        // A quote is refused in the same words.
        let mut asked = body;
        if asked.as_object_mut().unwrap().remove("save_seconds").is_none() {
            asked["term_seconds"] = json!(3_600);
            problem(&rest.post("/v1/quotes", &key, asked).await, 400, "invalid", detail);
        }
    };
    let none = "kilowatts: expected 1 to 4000";
    refused(json!({"offering": "shell"}), none).await;
    refused(json!({"offering": "shell", "kilowatts": 0}), none).await;
    refused(json!({"offering": "shell", "kilowatts": 4_001}), none).await;
    let fraction = "invalid type: floating point `0.5`, expected u32";
    refused(json!({"offering": "shell", "kilowatts": 0.5}), fraction).await;
    let both = "gpus, kilowatts: expected one of the two, found both";
    refused(json!({"offering": "shell", "kilowatts": 8, "gpus": 8}), both).await;
    refused(json!({"offering": "h100-firm", "kilowatts": 8, "gpus": 8}), both).await;
    let by_kilowatt = "gpus: expected kilowatts, 1 to 4000: what is asked for is sold by the kilowatt";
    refused(json!({"offering": "shell", "gpus": 8}), by_kilowatt).await;
    let by_gpu = "kilowatts: expected gpus, 1 to 1024: what is asked for is sold by the GPU";
    refused(json!({"offering": "h100-firm", "kilowatts": 8}), by_gpu).await;
    refused(json!({"offering": "h100-firm"}), "gpus: expected 1 to 1024").await;
    let own = "checkpoint, save and restart: expected none";
    refused(json!({"offering": "shell", "kilowatts": 8, "save_seconds": 5}), own).await;
    controller.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kilowatts_and_gpus_have_a_quota_each() {
    let dir = Dir::new();
    let controller = start(&dir).await;
    let (key, none) = (tenant(&controller, "acme", 8, 300).await, controller.tenant("umbra", 1_000).await);
    let rest = Rest::new(&controller);
    let order = |kilowatts: u32| json!({"offering": "shell", "kilowatts": kilowatts});
    let refused = rest.post("/v1/workloads", &none, order(1)).await;
    problem(&refused, 429, "exhausted", "the quota is 0 kW and 0 are asked for already");
    let made = rest.post("/v1/workloads", &key, order(200)).await;
    assert_eq!((made.status, &made.body["kilowatts"]), (201, &json!(200)), "{}", made.body);
    assert_eq!((&made.body["gpus"], &made.body["gpu"]), (&Value::Null, &json!("kilowatt")));
    assert_eq!(made.body["price_micro_dollars_per_gpu_hour"], 85_000);
    let gang = rest.post("/v1/workloads", &key, json!({"offering": "h100-on-demand", "gpus": 8})).await;
    assert_eq!((gang.status, &gang.body["gpus"], &gang.body["kilowatts"]), (201, &json!(8), &Value::Null));
    let more = rest.post("/v1/workloads", &key, order(101)).await;
    problem(&more, 429, "exhausted", "the quota is 300 kW and 200 are asked for already");
    controller.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shell_is_quoted_starts_and_is_shown_by_the_kilowatt() {
    let dir = Dir::new();
    let controller = start(&dir).await;
    let key = tenant(&controller, "acme", 8, 1_000).await;
    let mut agents = [Agent::connect(&controller, "m1").await, Agent::connect(&controller, "m2").await];
    drive(&controller, &mut agents, |live| {
        let known = |round: &std::sync::Arc<controller::live::Round>| {
            round.input.modules.values().all(|module| module.report.is_some())
        };
        live.published.len() == 2 && live.round().is_some_and(known)
    })
    .await;
    let mut operator = controller.operator().await;
    let asked = wire::GetQuoteRequest {
        kilowatts: Some(200),
        tier: api::common::Tier::OnDemand.into(),
        term: wire_span(Span::hours(24)),
        ..wire::GetQuoteRequest::default()
    };
    let quote = operator.get_quote(asked.clone()).await.unwrap().into_inner();
    assert_eq!((quote.gpu.as_str(), quote.gpus, quote.offered), ("kilowatt", 200, true), "{quote:?}");
    let by_type = wire::GetQuoteRequest { gpu: "h100".into(), ..asked };
    let error = operator.get_quote(by_type).await.unwrap_err();
    assert!(error.message().contains("kilowatts: expected gpus"), "{error}");

    let order = WorkloadOrder { offering: "shell".into(), kilowatts: Some(200), ..WorkloadOrder::default() };
    let order =
        wire::SubmitWorkloadRequest { tenant: "acme".into(), order: Some(order), ..Default::default() };
    let id = operator.submit_workload(order).await.unwrap().into_inner().id;
    drive(&controller, &mut agents, |live| {
        live.workloads.values().any(|work| work.status.phase == model::workload::Phase::Running)
    })
    .await;
    let request = wire::GetWorkloadRequest { workload: id.clone() };
    let shown = operator.get_workload(request).await.unwrap().into_inner();
    let (spec, status) = (shown.spec.unwrap(), shown.status.unwrap());
    assert_eq!(
        (spec.gpus, spec.checkpoint, spec.restart),
        (200, wire_span(Span::ZERO), wire_span(Span::ZERO))
    );
    assert_eq!(spec.save, wire_span(Span::minutes(5)), "its notice is the offering's");
    assert_eq!(status.phase(), WorkloadPhase::Running);
    let at = status.placement.unwrap();
    assert_eq!((at.module.as_str(), at.servers.iter().map(|bay| bay.gpus).sum::<u32>()), ("m2", 200));
    let fleet = operator.get_status(wire::GetStatusRequest::default()).await.unwrap().into_inner();
    let sums = |count: &wire::WorkloadCount| (count.count, count.gpus, count.kilowatts);
    assert_eq!(fleet.workloads.iter().map(sums).collect::<Vec<_>>(), [(1, 0, 200)]);
    let seen = Rest::new(&controller).get(&format!("/v1/workloads/{id}"), &key).await;
    assert_eq!((&seen.body["kilowatts"], &seen.body["gpus"]), (&json!(200), &Value::Null));
    controller.stop().await;
}
