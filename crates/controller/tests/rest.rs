//! The tenants' REST API as a client sees it.

use serde_json::{Value, json};

use crate::harness::Controller;

/// One controller's REST API.
pub struct Rest {
    base: String,
    agent: ureq::Agent,
}

/// What it answered.
pub struct Answer {
    pub status: u16,
    pub kind: String,
    pub id: String,
    pub body: Value,
}

impl Rest {
    pub fn new(controller: &Controller) -> Self {
        // One connection a request: a server may close one whose request it refused unread.
        let config = ureq::Agent::config_builder().http_status_as_error(false).max_idle_connections(0);
        let agent = ureq::Agent::new_with_config(config.build());
        Self { base: controller.rest.clone(), agent }
    }

    /// A request on a thread of its own; `body` makes it a POST.
    pub async fn call(&self, path: &str, key: Option<&str>, body: Option<String>) -> Answer {
        let (url, agent) = (format!("{}{path}", self.base), self.agent.clone());
        let key = key.map(|key| format!("Bearer {key}"));
        tokio::task::spawn_blocking(move || {
            let answer = match body {
                Some(body) => {
                    let mut request = agent.post(&url).header("x-request-id", "req-1");
                    if let Some(key) = key {
                        request = request.header("authorization", key);
                    }
                    request.send(body)
                }
                None => {
                    let mut request = agent.get(&url).header("x-request-id", "req-1");
                    if let Some(key) = key {
                        request = request.header("authorization", key);
                    }
                    request.call()
                }
            };
            let mut answer = answer.unwrap();
            let header = |name: &str| {
                let value = answer.headers().get(name).and_then(|value| value.to_str().ok());
                value.unwrap_or_default().to_owned()
            };
            let (status, kind, id) =
                (answer.status().as_u16(), header("content-type"), header("x-request-id"));
            Answer { status, kind, id, body: answer.body_mut().read_json().unwrap() }
        })
        .await
        .unwrap()
    }

    pub async fn get(&self, path: &str, key: &str) -> Answer {
        self.call(path, Some(key), None).await
    }

    pub async fn post(&self, path: &str, key: &str, body: Value) -> Answer {
        self.call(path, Some(key), Some(body.to_string())).await
    }
}

/// Demands a problem of this status, kind and words.
#[track_caller]
pub fn problem(answer: &Answer, status: u16, kind: &str, detail: &str) {
    assert_eq!(answer.status, status, "{}", answer.body);
    assert_eq!(answer.kind, "application/problem+json");
    assert_eq!(answer.body["type"], format!("urn:flareshift:problem:{kind}"));
    assert_eq!((&answer.body["status"], &answer.body["request_id"]), (&json!(status), &json!("req-1")));
    assert!(answer.body["title"].is_string() && answer.body["instance"].is_string());
    let found = answer.body["detail"].as_str().unwrap();
    assert!(found.contains(detail), "{found}");
}
