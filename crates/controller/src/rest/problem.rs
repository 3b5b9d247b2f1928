//! Problems as HTTP: the one place that turns a kind of failure into a status, and RFC 9457 into JSON.
//!
//! Read next: `api::problem` for the kinds.

use api::problem::Kind;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use super::caller::Trace;

/// A failure (RFC 9457).
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Problem {
    /// Names the sort of failure, such as `urn:flareshift:problem:not-found`; programs match on it.
    pub(super) r#type: String,
    /// The sort of failure, for people.
    pub(super) title: &'static str,
    /// The HTTP status again.
    pub(super) status: u16,
    /// What happened and what to do.
    pub(super) detail: String,
    /// The path that was asked for.
    pub(super) instance: String,
    /// The request's id, for the operator's log.
    pub(super) request_id: String,
}

/// A request that was refused.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) problem: api::Problem,
    pub(super) trace: Trace,
}

impl Refused {
    pub(super) fn response(self) -> Response {
        let Self { problem, trace } = self;
        let (status, title) = status(problem.kind);
        refusal(&trace, status, problem.kind.as_str(), title, problem.message)
    }
}

/// No route has this path.
pub(super) async fn no_such_route(headers: HeaderMap, uri: Uri) -> Response {
    let detail = format!("there is nothing at {}; /openapi.json lists what there is", uri.path());
    let kind = Kind::NotFound;
    let (status, title) = status(kind);
    refusal(&Trace::of(&headers, &uri), status, kind.as_str(), title, detail)
}

/// The path has another method.
pub(super) async fn no_such_method(headers: HeaderMap, uri: Uri) -> Response {
    let detail = format!("{} does not take this method; /openapi.json lists those it takes", uri.path());
    let trace = Trace::of(&headers, &uri);
    refusal(&trace, StatusCode::METHOD_NOT_ALLOWED, "no-such-method", "No such method", detail)
}

fn refusal(trace: &Trace, status: StatusCode, kind: &str, title: &'static str, detail: String) -> Response {
    let problem = Problem {
        r#type: format!("urn:flareshift:problem:{kind}"),
        title,
        status: status.as_u16(),
        detail,
        instance: trace.instance.clone(),
        request_id: trace.id.clone(),
    };
    // A struct of strings always serialises; an empty body would still carry the status.
    let body = serde_json::to_vec(&problem).unwrap_or_default();
    trace.answer(status, "application/problem+json", body)
}

fn status(kind: Kind) -> (StatusCode, &'static str) {
    match kind {
        Kind::Invalid => (StatusCode::BAD_REQUEST, "Invalid request"),
        Kind::NotFound => (StatusCode::NOT_FOUND, "Not found"),
        Kind::Exists => (StatusCode::CONFLICT, "Exists already"),
        Kind::Conflict => (StatusCode::CONFLICT, "Conflict"),
        Kind::Precondition => (StatusCode::PRECONDITION_FAILED, "The state does not allow it"),
        Kind::Exhausted => (StatusCode::TOO_MANY_REQUESTS, "Quota used up"),
        Kind::Unauthenticated => (StatusCode::UNAUTHORIZED, "Not authenticated"),
        Kind::PermissionDenied => (StatusCode::FORBIDDEN, "Not permitted"),
        Kind::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, "Not available"),
        Kind::Timeout => (StatusCode::GATEWAY_TIMEOUT, "Took too long"),
        Kind::Unimplemented => (StatusCode::NOT_IMPLEMENTED, "Not implemented"),
        Kind::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "Internal error"),
    }
}
