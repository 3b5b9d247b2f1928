//! Tenants by REST and by gRPC: the happy path, each way to fail, and that nobody sees what is another's.

use api::tenant::tenant_service_client::TenantServiceClient;
use serde_json::{Value, json};
use tonic::Request;

use crate::harness::{Controller, Dir};
use crate::rest::{Answer, Rest, problem};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_orders_follows_and_ends_a_workload() {
    let dir = Dir::new();
    let controller = Controller::leading(&dir).await;
    let key = controller.tenant("acme", 8).await;
    let rest = Rest::new(&controller);
    let offerings = rest.get("/v1/offerings", &key).await;
    assert_eq!(
        (offerings.status, offerings.kind.as_str(), offerings.id.as_str()),
        (200, "application/json", "req-1")
    );
    assert_eq!(offerings.body["offerings"][1]["price_micro_dollars_per_gpu_hour"], 2_950_000);
    let order = json!({"offering": "h100-on-demand", "gpus": 4, "request_id": "once"});
    let made = rest.post("/v1/workloads", &key, order.clone()).await;
    assert_eq!(
        (made.status, &made.body["phase"], &made.body["reason"]),
        (201, &json!("pending"), &json!("accepted"))
    );
    let again = rest.post("/v1/workloads", &key, order).await;
    assert_eq!(again.body["id"], made.body["id"], "the same request makes nothing new");
    let id = made.body["id"].as_str().unwrap().to_owned();
    assert_eq!(rest.get(&format!("/v1/workloads/{id}"), &key).await.body["gpus"], 4);
    assert_eq!(rest.get("/v1/workloads", &key).await.body["workloads"].as_array().unwrap().len(), 1);
    for _ in 0..2 {
        let ended = rest.post(&format!("/v1/workloads/{id}/cancel"), &key, json!({})).await;
        assert_eq!((ended.status, &ended.body["cancel"]), (200, &json!(true)));
    }
    let usage = rest.get("/v1/usage?from=2026-02-01T00:00:00Z", &key).await;
    assert_eq!((usage.status, &usage.body["cost_micro_dollars"]), (200, &json!(0)));
    let served = rest.call("/openapi.json", None, None).await;
    let kept: Value = serde_json::from_str(&controller::rest::document().unwrap()).unwrap();
    assert_eq!(served.body, kept);
    controller.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_failure_is_a_problem_that_says_what_to_do() {
    let dir = Dir::new();
    let controller = Controller::leading(&dir).await;
    let key = controller.tenant("acme", 8).await;
    let rest = Rest::new(&controller);
    let order = |offering: &str, gpus: i64| json!({"offering": offering, "gpus": gpus});
    let post = async |body: Value| rest.post("/v1/workloads", &key, body).await;
    problem(&rest.call("/v1/offerings", None, None).await, 401, "unauthenticated", "Authorization");
    problem(&rest.get("/v1/offerings", "fs_00").await, 401, "unauthenticated", "not known");
    problem(&rest.get("/v1/nothing", &key).await, 404, "not-found", "/openapi.json");
    problem(&rest.post("/v1/usage", &key, json!({})).await, 405, "no-such-method", "does not take");
    problem(&rest.get("/v1/workloads/w-none", &key).await, 404, "not-found", "w-none");
    problem(&rest.get("/v1/workloads?page_size=x", &key).await, 400, "invalid", "query");
    problem(&rest.get("/v1/workloads?page_token=%2F", &key).await, 400, "invalid", "page_token");
    problem(&rest.get("/v1/usage?from=yesterday", &key).await, 400, "invalid", "from");
    let backwards = "/v1/usage?from=2026-02-02T00:00:00Z&to=2026-02-01T00:00:00Z";
    problem(&rest.get(backwards, &key).await, 400, "invalid", "before");
    problem(&rest.call("/v1/workloads", Some(&key), Some("{".into())).await, 400, "invalid", "body");
    problem(&post(order("h100-on-demand", 0)).await, 400, "invalid", "gpus");
    problem(&post(order("a100", 1)).await, 400, "invalid", "offering");
    let saving = |seconds: i64| json!({"offering": "h100-on-demand", "gpus": 1, "save_seconds": seconds});
    problem(&post(saving(481)).await, 400, "invalid", "save: expected 0 to 480 seconds");
    problem(&post(order("h100-on-demand", 9)).await, 429, "exhausted", "quota is 8");
    let named = |gpus: i64| json!({"offering": "h100-on-demand", "gpus": gpus, "request_id": "r"});
    assert_eq!(post(named(1)).await.status, 201);
    problem(&post(named(2)).await, 409, "conflict", "another request");
    controller.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_says_where_it_may_run_and_beside_whom() {
    let dir = Dir::new();
    let controller = Controller::leading(&dir).await;
    let (key, other) = (controller.tenant("acme", 8).await, controller.tenant("umbra", 8).await);
    let rest = Rest::new(&controller);
    let order = |affinity: Value| json!({"offering": "h100-on-demand", "gpus": 1, "affinity": affinity});
    let post = async |affinity: Value| rest.post("/v1/workloads", &key, order(affinity)).await;
    let apart = || json!({"group": {"id": "web", "rule": "spread", "most": 1, "per": "module"}});
    let together = || json!({"group": {"id": "web", "rule": "together"}});
    let refused =
        async |affinity: Value, detail: &str| problem(&post(affinity).await, 400, "invalid", detail);
    refused(json!({"only_sites": ["nowhere"]}), "affinity.sites: expected sites that there are; there is no")
        .await;
    refused(json!({"only_sites": []}), "affinity.sites: expected one or more").await;
    refused(json!({}), "affinity: expected sites or a group").await;
    let none = json!({"group": {"id": "web", "rule": "spread", "most": 0, "per": "site"}});
    refused(none, "affinity.group.spread.most: expected 1 to 1000, found 0").await;
    let listed = post(json!({"only_sites": ["well-7"]})).await;
    assert_eq!((listed.status, &listed.body["affinity"]), (201, &json!({"only_sites": ["well-7"]})));
    let made = post(apart()).await;
    assert_eq!((made.status, &made.body["affinity"]), (201, &apart()));
    let found = post(together()).await;
    problem(
        &found,
        409,
        "conflict",
        "the rule that group web has, at most 1 on one module, found all on one site",
    );
    // Another tenant has its own group of that name.
    assert_eq!(rest.post("/v1/workloads", &other, order(together())).await.status, 201);
    let id = made.body["id"].as_str().unwrap();
    let shown = rest.get(&format!("/v1/workloads/{id}"), &key).await;
    assert_eq!(shown.body["affinity"], apart());
    controller.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_sees_or_stops_what_is_anothers() {
    let dir = Dir::new();
    let controller = Controller::leading(&dir).await;
    let (acme, umbra) = (controller.tenant("acme", 8).await, controller.tenant("umbra", 8).await);
    let rest = Rest::new(&controller);
    let order = json!({"offering": "h100-on-demand", "gpus": 8, "request_id": "same"});
    let made = rest.post("/v1/workloads", &acme, order.clone()).await;
    let id = made.body["id"].as_str().unwrap().to_owned();
    let foreign = rest.get(&format!("/v1/workloads/{id}"), &umbra).await;
    let absent = rest.get("/v1/workloads/w-0000000000000000", &umbra).await;
    problem(&foreign, 404, "not-found", &id);
    let detail = |answer: &Answer, id: &str| answer.body["detail"].as_str().unwrap().replace(id, "ID");
    assert_eq!(detail(&foreign, &id), detail(&absent, "w-0000000000000000"), "in the same words");
    problem(
        &rest.post(&format!("/v1/workloads/{id}/cancel"), &umbra, json!({})).await,
        404,
        "not-found",
        &id,
    );
    assert_eq!(rest.get("/v1/workloads", &umbra).await.body["workloads"], json!([]));
    assert_eq!(rest.get(&format!("/v1/workloads/{id}"), &acme).await.body["cancel"], json!(false));
    // Its own quota and request ids are its own.
    let own = rest.post("/v1/workloads", &umbra, order).await;
    assert_eq!(own.status, 201);
    assert_ne!(own.body["id"], made.body["id"]);
    controller.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_orders_do_not_pass_the_quota_together() {
    let dir = Dir::new();
    let controller = Controller::leading(&dir).await;
    let key = controller.tenant("acme", 8).await;
    let rest = Rest::new(&controller);
    let order = || rest.post("/v1/workloads", &key, json!({"offering": "h100-on-demand", "gpus": 3}));
    let (a, b, c, d) = tokio::join!(order(), order(), order(), order());
    let accepted = [a, b, c, d].iter().filter(|answer| answer.status == 201).count();
    assert_eq!(accepted, 2, "two gangs of three fit into eight");
    controller.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_by_grpc() {
    let dir = Dir::new();
    let controller = Controller::leading(&dir).await;
    let key = controller.tenant("acme", 8).await;
    let mut client = TenantServiceClient::connect(controller.grpc.clone()).await.unwrap();
    let refused = client.list_offerings(api::tenant::ListOfferingsRequest::default()).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::Unauthenticated);
    let order =
        api::common::WorkloadOrder { offering: "h100-on-demand".into(), gpus: 2, ..Default::default() };
    let submit = api::tenant::SubmitWorkloadRequest { order: Some(order), request_id: "r".into() };
    let mut request = Request::new(submit);
    request.metadata_mut().insert("authorization", format!("Bearer {key}").parse().unwrap());
    let made = client.submit_workload(request).await.unwrap().into_inner();
    assert_eq!((made.phase(), made.spec.unwrap().gpus), (api::common::WorkloadPhase::Pending, 2));
    controller.stop().await;
}
