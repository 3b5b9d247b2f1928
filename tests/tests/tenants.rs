//! The tenant's REST API of a real controller: order, look, cancel, and nothing of anybody else's.
//!
//! Read next: `docs/openapi.json` for the whole of it.

use serde_json::{Value, json};

use crate::support::cli::ids;
use crate::support::fleet::Place;
use crate::support::{PATIENCE, wait_for, waits};

/// An answer: status, content type, body.
struct Answer {
    status: u16,
    kind: String,
    body: Value,
}

/// One tenant's side of the API.
struct Tenant {
    agent: ureq::Agent,
    base: String,
    key: String,
}

impl Tenant {
    fn new(place: &Place, key: &str) -> Self {
        let config = ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(PATIENCE));
        let agent = ureq::Agent::new_with_config(config.build());
        Self { agent, base: format!("http://{}", place.rest), key: format!("Bearer {key}") }
    }

    fn get(&self, path: &str) -> Answer {
        let request = self.agent.get(format!("{}{path}", self.base)).header("authorization", &self.key);
        Answer::read(request.call().unwrap())
    }

    fn post(&self, path: &str, body: &Value) -> Answer {
        let request = self.agent.post(format!("{}{path}", self.base)).header("authorization", &self.key);
        Answer::read(request.send_json(body).unwrap())
    }
}

impl Answer {
    fn read(mut response: ureq::http::Response<ureq::Body>) -> Self {
        let kind = response.headers()["content-type"].to_str().unwrap().to_owned();
        let status = response.status().as_u16();
        Self { status, kind, body: response.body_mut().read_json().unwrap() }
    }

    fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.body);
        self.body
    }

    /// A problem of this status and sort, with words on what to do.
    fn expect_problem(self, status: u16, sort: &str) {
        assert_eq!((self.status, self.kind.as_str()), (status, "application/problem+json"), "{}", self.body);
        assert_eq!(self.body["status"], status);
        assert_eq!(self.body["type"], format!("urn:flareshift:problem:{sort}"));
        assert!(!self.body["detail"].as_str().unwrap().is_empty());
    }
}

#[test]
fn a_tenant_orders_looks_and_cancels_over_rest() {
    let _waits = waits();
    let place = Place::embedded();
    let _controller = place.controller();
    let (acme, bolt) = (place.cli().make_tenant("acme"), place.cli().make_tenant("bolt"));
    let (acme, bolt) = (Tenant::new(&place, &acme), Tenant::new(&place, &bolt));
    let offerings = wait_for("offerings are loaded", PATIENCE, || {
        let offerings = ids(&acme.get("/v1/offerings").expect(200)["offerings"], "id");
        if offerings.is_empty() { Err("none yet".to_owned()) } else { Ok(offerings) }
    });
    assert_eq!(offerings, ["h100-firm", "h100-on-demand", "h100-spot"]);

    let order = json!({ "offering": "h100-spot", "gpus": 8, "request_id": "one" });
    let made = acme.post("/v1/workloads", &order).expect(201);
    let again = acme.post("/v1/workloads", &order).expect(201);
    assert_eq!(again["id"], made["id"], "the same request orders nothing new");
    let id = made["id"].as_str().unwrap();
    assert_eq!((&made["gpus"], &made["phase"]), (&json!(8), &json!("pending")));
    let path = format!("/v1/workloads/{id}");
    assert_eq!(acme.get(&path).expect(200)["id"], id);
    assert_eq!(ids(&acme.get("/v1/workloads").expect(200)["workloads"], "id"), [id]);
    assert_eq!(place.cli().workloads(), [id], "the operator sees the same");

    bolt.get(&path).expect_problem(404, "not-found");
    bolt.post(&format!("{path}/cancel"), &json!({})).expect_problem(404, "not-found");
    assert_eq!(bolt.get("/v1/workloads").expect(200)["workloads"], json!([]));
    Tenant::new(&place, "wrong").get("/v1/workloads").expect_problem(401, "unauthenticated");

    assert_eq!(acme.post(&format!("{path}/cancel"), &json!({})).expect(200)["cancel"], true);
    wait_for("it is cancelled", PATIENCE, || {
        let now = acme.get(&path).expect(200);
        if now["phase"] == "cancelled" { Ok(()) } else { Err(now.to_string()) }
    });
    let usage = acme.get("/v1/usage").expect(200);
    assert_eq!((&usage["held_gpu_milliseconds"], &usage["cost_micro_dollars"]), (&json!(0), &json!(0)));
}

#[test]
fn the_document_that_is_served_is_the_one_that_is_checked_in() {
    let _waits = waits();
    let place = Place::embedded();
    let mut controller = place.controller();
    controller.wait_for_line("controller starts", PATIENCE);
    let nobody = Tenant::new(&place, "");
    let served = nobody.get("/openapi.json").expect(200);
    let text = std::fs::read_to_string(crate::support::repository("docs/openapi.json")).unwrap();
    assert!(served == serde_json::from_str::<Value>(&text).unwrap(), "run `make openapi`");
    assert!(served["openapi"].as_str().unwrap().starts_with("3.1"), "{}", served["openapi"]);
}
