//! Counts calls from outside, gRPC by service and code, REST by status; those of operators and tenants are spans too.
//!
//! A path that no service has counts as `other`: what somebody sends makes no series. A stream counts when its answer begins; what
//! ends it later is counted as a session. Next: `counts.rs`.

use std::sync::Arc;
use std::time::Instant;

use api::agent::agent_service_server::SERVICE_NAME as AGENT;
use api::operator::operator_service_server::SERVICE_NAME as OPERATOR;
use api::tenant::tenant_service_server::SERVICE_NAME as TENANT;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use service::traces::{self, TARGET};
use tonic::{Code, Status};
use tracing::field::Empty;
use tracing::{Instrument, Span, info_span};

use super::Counts;
use crate::rest;

/// What a span says at most of a path that somebody sent: twice the longest of ours.
const PATH: usize = 120;

/// Counts a gRPC call.
pub(crate) async fn grpc(State(counts): State<Arc<Counts>>, request: Request, next: Next) -> Response {
    let service = service(request.uri().path());
    let span = call(service, &request);
    let response = next.run(request).instrument(span.clone()).await;
    // An answer without a status in its head succeeded so far: the status comes behind the body.
    let code = Status::from_header_map(response.headers()).map_or(Code::Ok, |status| status.code());
    counts.grpc.add((service, word(code)));
    span.record("rpc.response.status_code", word(code));
    if is_ours(code) {
        span.record("otel.status_code", "ERROR");
    }
    response
}

/// Counts a REST request and its time.
pub(crate) async fn rest(State(counts): State<Arc<Counts>>, request: Request, next: Next) -> Response {
    let began = Instant::now();
    let span = info_span!(
        target: TARGET,
        parent: None,
        "request",
        otel.name = format!("REST {}", request.method()),
        otel.kind = "server",
        http.request.method = request.method().as_str(),
        url.path = bounded(request.uri().path()),
        http.response.status_code = Empty,
        request_id = Empty,
        otel.status_code = Empty
    );
    traces::adopt(&span, request.headers());
    let response = next.run(request).instrument(span.clone()).await;
    counts.rest.add(response.status().as_u16());
    counts.rest_time.observe(began.elapsed().as_secs_f64());
    span.record("http.response.status_code", response.status().as_u16());
    let id = response.headers().get(rest::REQUEST_ID).and_then(|id| id.to_str().ok());
    span.record("request_id", id);
    if response.status().is_server_error() {
        span.record("otel.status_code", "ERROR");
    }
    response
}

/// The span of an operator's or tenant's call. An agent's is its session, which has one of its own.
fn call(service: &str, request: &Request) -> Span {
    if !matches!(service, "operator" | "tenant") {
        return Span::none();
    }
    let path = bounded(request.uri().path().trim_start_matches('/'));
    let span = info_span!(
        target: TARGET,
        parent: None,
        "request",
        otel.name = path,
        otel.kind = "server",
        rpc.system.name = "grpc",
        rpc.method = path,
        rpc.response.status_code = Empty,
        otel.status_code = Empty
    );
    traces::adopt(&span, request.headers());
    span
}

/// Whether a call failed by our fault, or the store's, and not by what was asked.
fn is_ours(code: Code) -> bool {
    matches!(
        code,
        Code::Unknown
            | Code::DeadlineExceeded
            | Code::Unimplemented
            | Code::Internal
            | Code::Unavailable
            | Code::DataLoss
    )
}

/// The beginning of what somebody sent.
fn bounded(path: &str) -> &str {
    path.char_indices().nth(PATH).map_or(path, |(end, _)| path.get(..end).unwrap_or_default())
}

/// Whose call it is, by its path: `/SERVICE/METHOD`.
fn service(path: &str) -> &'static str {
    let name = path.trim_start_matches('/').split('/').next().unwrap_or_default();
    match name {
        AGENT => "agent",
        OPERATOR => "operator",
        TENANT => "tenant",
        "grpc.health.v1.Health" => "health",
        "grpc.reflection.v1.ServerReflection" => "reflection",
        _ => "other",
    }
}

/// The codes of gRPC as they are written in its documents.
fn word(code: Code) -> &'static str {
    match code {
        Code::Ok => "ok",
        Code::Cancelled => "cancelled",
        Code::Unknown => "unknown",
        Code::InvalidArgument => "invalid_argument",
        Code::DeadlineExceeded => "deadline_exceeded",
        Code::NotFound => "not_found",
        Code::AlreadyExists => "already_exists",
        Code::PermissionDenied => "permission_denied",
        Code::ResourceExhausted => "resource_exhausted",
        Code::FailedPrecondition => "failed_precondition",
        Code::Aborted => "aborted",
        Code::OutOfRange => "out_of_range",
        Code::Unimplemented => "unimplemented",
        Code::Internal => "internal",
        Code::Unavailable => "unavailable",
        Code::DataLoss => "data_loss",
        Code::Unauthenticated => "unauthenticated",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_path_is_cut_and_never_within_a_letter() {
        let check = |path: &str, letters: usize| assert_eq!(bounded(path).chars().count(), letters);
        check("/v1/usage", 9);
        check(&"x".repeat(PATH), PATH);
        check(&"ü".repeat(PATH + 1), PATH);
    }

    #[test]
    fn only_services_that_are_there_have_a_series() {
        let check = |path: &str, expected: &str| assert_eq!(service(path), expected, "{path}");
        check("/flareshift.agent.v1.AgentService/Session", "agent");
        check("/flareshift.operator.v1.OperatorService/GetStatus", "operator");
        check("/flareshift.tenant.v1.TenantService/GetUsage", "tenant");
        check("/grpc.health.v1.Health/Check", "health");
        check("/flareshift.operator.v1.OperatorServiceX/GetStatus", "other");
        check("/", "other");
        check("", "other");
    }
}
