//! Who asks, and under which request id: what every handler takes first.
//!
//! The id comes from the caller's `x-request-id`, where it is one, or is made here; it stands in every answer.
//! Read next: `tenant/auth.rs`.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use model::TenantId;
use serde::Serialize;

use super::problem::Refused;
use crate::context::Context;
use crate::tenant::auth::{authenticate, random_hex};
use crate::tenant::order::check_request_id;

/// The header that carries a request's id, both ways.
pub(crate) const REQUEST_ID: &str = "x-request-id";

/// An authenticated request.
pub(super) struct Caller {
    pub(super) tenant: TenantId,
    pub(super) trace: Trace,
}

/// What an answer says of its request.
#[derive(Clone, Debug)]
pub(super) struct Trace {
    /// The path that was asked for.
    pub(super) instance: String,
    /// The request's id.
    pub(super) id: String,
}

impl Caller {
    pub(super) fn refuse(&self, problem: api::Problem) -> Refused {
        self.trace.refuse(problem)
    }
}

impl Trace {
    pub(super) fn of(headers: &HeaderMap, uri: &Uri) -> Self {
        let given = headers.get(REQUEST_ID).and_then(|value| value.to_str().ok());
        let given = given.filter(|id| check_request_id(id).is_ok()).map(str::to_owned);
        // Without random bytes the request is refused elsewhere; its answer then goes without an id.
        let id = given.or_else(|| random_hex::<8>().ok()).unwrap_or_default();
        Self { instance: uri.path().to_owned(), id }
    }

    pub(super) fn refuse(&self, problem: api::Problem) -> Refused {
        Refused { problem, trace: self.clone() }
    }

    /// A JSON answer.
    pub(super) fn json(&self, status: StatusCode, body: &impl Serialize) -> Response {
        match serde_json::to_vec(body) {
            Ok(bytes) => self.answer(status, "application/json", bytes),
            Err(error) => self.refuse(api::Problem::internal(error.to_string())).response(),
        }
    }

    pub(super) fn answer(&self, status: StatusCode, kind: &'static str, body: Vec<u8>) -> Response {
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        if let Ok(id) = HeaderValue::from_str(&self.id) {
            headers.insert(REQUEST_ID, id);
        }
        response
    }
}

impl FromRequestParts<Context> for Caller {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, context: &Context) -> Result<Self, Refused> {
        let trace = Trace::of(&parts.headers, &parts.uri);
        let header = parts.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let who = context.office().and_then(|_| authenticate(context, header));
        match who {
            Ok(tenant) => Ok(Self { tenant, trace }),
            Err(problem) => Err(trace.refuse(problem)),
        }
    }
}
