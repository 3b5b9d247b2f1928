//! The OpenAPI 3.1 document of the REST API, served at `/openapi.json` and kept in `docs/openapi.json`.
//!
//! A test holds the two against each other and every route against the document. Read next: `rest/mod.rs`.

use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::Response;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::{Modify, OpenApi};

use super::caller::Trace;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Flareshift tenant API",
        description = "Order GPU workloads and powered shells, follow them, end them, and see what they cost. Every call carries the API key that the operator made. Errors are RFC 9457 problems.",
    ),
    paths(
        super::list_offerings,
        super::get_quote,
        super::submit_workload,
        super::list_workloads,
        super::get_workload,
        super::cancel_workload,
        super::get_usage
    ),
    modifiers(&Keys)
)]
struct Document;

/// Says that calls carry an API key.
struct Keys;

impl Modify for Keys {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let scheme = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
        document.components.get_or_insert_default().add_security_scheme("api_key", scheme);
        document.security = Some(vec![SecurityRequirement::new("api_key", [""; 0])]);
    }
}

/// The document as JSON, with an end of line.
pub fn document() -> Result<String, serde_json::Error> {
    let mut text = serde_json::to_string_pretty(&Document::openapi())?;
    text.push('\n');
    Ok(text)
}

pub(super) async fn serve(headers: HeaderMap, uri: Uri) -> Response {
    let trace = Trace::of(&headers, &uri);
    match document() {
        Ok(text) => trace.answer(StatusCode::OK, "application/json", text.into_bytes()),
        Err(error) => trace.refuse(api::Problem::internal(error.to_string())).response(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::path::Path;

    use super::*;

    #[test]
    fn the_document_in_docs_is_the_one_that_is_served() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/openapi.json");
        let text = document().unwrap();
        if std::env::var_os("UPDATE_OPENAPI").is_some() {
            std::fs::write(&path, &text).unwrap();
        }
        let kept = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(kept == text, "docs/openapi.json is out of date; run this test with UPDATE_OPENAPI=1");
    }

    #[test]
    fn every_route_stands_in_the_document_and_every_operation_says_how_it_fails() {
        let document: serde_json::Value = serde_json::from_str(&document().unwrap()).unwrap();
        assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
        let source = include_str!("mod.rs");
        let routes = source.lines().filter_map(|line| line.trim().strip_prefix(".route(\"")?.split_once('"'));
        for (route, rest) in routes.filter(|(route, _)| *route != "/openapi.json") {
            for method in ["get", "post"].iter().filter(|method| rest.contains(&format!("{method}("))) {
                let operation = &document["paths"][route][*method];
                assert!(operation["responses"]["default"].is_object(), "{method} {route}");
                assert!(operation["summary"].is_string() || operation["description"].is_string());
            }
        }
        assert_eq!(document["paths"].as_object().unwrap().len(), 6);
    }
}
