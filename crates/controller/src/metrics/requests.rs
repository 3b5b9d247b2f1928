//! Counts calls from outside, gRPC by service and code, REST by status.
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
use tonic::{Code, Status};

use super::Counts;

/// Counts a gRPC call.
pub(crate) async fn grpc(State(counts): State<Arc<Counts>>, request: Request, next: Next) -> Response {
    let service = service(request.uri().path());
    let response = next.run(request).await;
    // An answer without a status in its head succeeded so far: the status comes behind the body.
    let code = Status::from_header_map(response.headers()).map_or(Code::Ok, |status| status.code());
    counts.grpc.add((service, word(code)));
    response
}

/// Counts a REST request and its time.
pub(crate) async fn rest(State(counts): State<Arc<Counts>>, request: Request, next: Next) -> Response {
    let began = Instant::now();
    let response = next.run(request).await;
    counts.rest.add(response.status().as_u16());
    counts.rest_time.observe(began.elapsed().as_secs_f64());
    response
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
