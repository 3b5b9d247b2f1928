//! The tenants' REST API: decode, call, encode. `tenant/` does the work; only this module knows HTTP status.
//!
//! Errors are problem+json (RFC 9457). With TLS or on loopback, which `handshake.rs` sees to. Read next: `rest/openapi.rs` for the
//! document, `rest/problem.rs` for errors, `rest/view.rs` for the shapes.

mod affinity;
mod caller;
mod openapi;
mod problem;
mod quote;
mod view;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::{get, post};

use caller::{Caller, Trace};
use problem::{Problem, Refused};
use quote::{Quote, QuoteRequest};

pub(crate) use caller::REQUEST_ID;
pub use openapi::document;

use crate::context::Context;
use crate::quote::admit::Admission;
use crate::tenant::order::submit;
use crate::tenant::{self, page::Ask};
use view::{ListQuery, Offerings, Order, PageQuery, Usage, UsageQuery, Workload, Workloads};

/// Largest request body: an order has a dozen short fields.
const MAX_BODY_BYTES: usize = 64 * 1024;

/// The API's routes.
pub fn router(context: Context) -> Router {
    Router::new()
        .route("/v1/offerings", get(list_offerings))
        .route("/v1/quotes", post(get_quote))
        .route("/v1/workloads", get(list_workloads).post(submit_workload))
        .route("/v1/workloads/{workload}", get(get_workload))
        .route("/v1/workloads/{workload}/cancel", post(cancel_workload))
        .route("/v1/usage", get(get_usage))
        .route("/openapi.json", get(openapi::serve))
        .fallback(problem::no_such_route)
        .method_not_allowed_fallback(problem::no_such_method)
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(context)
}

type Answer = Result<Response, Refused>;

/// What is sold, in order of id.
#[utoipa::path(get, path = "/v1/offerings", params(PageQuery), responses(
    (status = 200, description = "One page of offerings.", body = Offerings),
    (status = "default", description = "Why it failed.", body = Problem, content_type = "application/problem+json"),
))]
async fn list_offerings(State(context): State<Context>, caller: Caller, query: Parsed<PageQuery>) -> Answer {
    let PageQuery { page_size, page_token } = query.read(&caller.trace)?;
    let ask = ask(page_size, page_token);
    let page = tenant::offerings(&context, &ask).map_err(|problem| caller.refuse(problem))?;
    Ok(caller.trace.json(StatusCode::OK, &Offerings::from(page)))
}

/// What an order would meet: whether it would be admitted, when it would start, how likely it is interrupted. Orders nothing.
#[utoipa::path(post, path = "/v1/quotes", request_body = QuoteRequest, responses(
    (status = 200, description = "The quote; what is not offered says why.", body = Quote),
    (status = "default", description = "Why it failed.", body = Problem, content_type = "application/problem+json"),
))]
async fn get_quote(State(context): State<Context>, caller: Caller, body: Bytes) -> Answer {
    let asked: QuoteRequest =
        serde_json::from_slice(&body).map_err(|error| caller.refuse(view::bad_body(&error)))?;
    let question = asked.try_into().map_err(|problem| caller.refuse(problem))?;
    let quote = tenant::quote::get(&context, question).await.map_err(|problem| caller.refuse(problem))?;
    Ok(caller.trace.json(StatusCode::OK, &Quote::from(quote.show())))
}

/// Orders a workload; what promises an availability is admitted only where that promise holds. The same `request_id` again answers the workload that was made the first time.
#[utoipa::path(post, path = "/v1/workloads", request_body = Order, responses(
    (status = 201, description = "The workload was accepted.", body = Workload),
    (status = "default", description = "Why it failed.", body = Problem, content_type = "application/problem+json"),
))]
async fn submit_workload(State(context): State<Context>, caller: Caller, body: Bytes) -> Answer {
    let order: Order =
        serde_json::from_slice(&body).map_err(|error| caller.refuse(view::bad_body(&error)))?;
    let request_id = order.request_id.clone();
    let order = order.try_into().map_err(|problem| caller.refuse(problem))?;
    let made = submit(&context, &caller.tenant, &order, request_id.as_deref(), &Admission::Tenant).await;
    let workload = made.map_err(|problem| caller.refuse(problem))?;
    Ok(caller.trace.json(StatusCode::CREATED, &Workload::from(tenant::view(&context, workload))))
}

/// The tenant's workloads, in order of id.
#[utoipa::path(get, path = "/v1/workloads", params(ListQuery), responses(
    (status = 200, description = "One page of workloads.", body = Workloads),
    (status = "default", description = "Why it failed.", body = Problem, content_type = "application/problem+json"),
))]
async fn list_workloads(State(context): State<Context>, caller: Caller, query: Parsed<ListQuery>) -> Answer {
    let ListQuery { page_size, page_token, include_final } = query.read(&caller.trace)?;
    let ask = ask(page_size, page_token);
    let page = tenant::list(&context, &caller.tenant, include_final.unwrap_or(false), &ask);
    let page = page.map_err(|problem| caller.refuse(problem))?;
    Ok(caller.trace.json(StatusCode::OK, &Workloads::from(page)))
}

/// One workload of the tenant. What is another's is not found.
#[utoipa::path(get, path = "/v1/workloads/{workload}", params(("workload" = String, Path, description = "Its id.")), responses(
    (status = 200, description = "The workload.", body = Workload),
    (status = "default", description = "Why it failed.", body = Problem, content_type = "application/problem+json"),
))]
async fn get_workload(
    State(context): State<Context>,
    caller: Caller,
    Path(workload): Path<String>,
) -> Answer {
    let view = tenant::get(&context, &caller.tenant, &workload).await;
    let view = view.map_err(|problem| caller.refuse(problem))?;
    Ok(caller.trace.json(StatusCode::OK, &Workload::from(view)))
}

/// Ends a workload; what it held until then is billed. Ending it twice is no error.
#[utoipa::path(post, path = "/v1/workloads/{workload}/cancel", params(("workload" = String, Path, description = "Its id.")), responses(
    (status = 200, description = "The workload, whose end was asked for.", body = Workload),
    (status = "default", description = "Why it failed.", body = Problem, content_type = "application/problem+json"),
))]
async fn cancel_workload(
    State(context): State<Context>,
    caller: Caller,
    Path(workload): Path<String>,
    // Read though nothing stands in it: a body left unread would cost the caller its connection.
    _body: Bytes,
) -> Answer {
    let ended = tenant::cancel(&context, &caller.tenant, &workload).await;
    let view = ended.map_err(|problem| caller.refuse(problem))?;
    Ok(caller.trace.json(StatusCode::OK, &Workload::from(view)))
}

/// What the tenant used and owes, by workload, as the ledger has it; by whole hours.
#[utoipa::path(get, path = "/v1/usage", params(UsageQuery), responses(
    (status = 200, description = "The usage.", body = Usage),
    (status = "default", description = "Why it failed.", body = Problem, content_type = "application/problem+json"),
))]
async fn get_usage(State(context): State<Context>, caller: Caller, query: Parsed<UsageQuery>) -> Answer {
    let asked = query.read(&caller.trace)?;
    let (from, to) = asked.interval().map_err(|problem| caller.refuse(problem))?;
    let usage =
        tenant::usage(&context, &caller.tenant, from, to).map_err(|problem| caller.refuse(problem))?;
    let to = to.unwrap_or(context.clock.now());
    Ok(caller.trace.json(StatusCode::OK, &Usage::new(usage, from, to)))
}

/// A query string, or why it does not parse.
type Parsed<T> = Result<Query<T>, axum::extract::rejection::QueryRejection>;

/// Reads a query, so that one that does not parse is a problem like any other.
trait Read<T> {
    fn read(self, trace: &Trace) -> Result<T, Refused>;
}

impl<T> Read<T> for Parsed<T> {
    fn read(self, trace: &Trace) -> Result<T, Refused> {
        let bad = |error: axum::extract::rejection::QueryRejection| {
            trace.refuse(api::Problem::invalid(format!("query: {}", error.body_text())))
        };
        self.map(|Query(query)| query).map_err(bad)
    }
}

fn ask(size: Option<i32>, token: Option<String>) -> Ask {
    Ask { size: size.unwrap_or(0), token: token.unwrap_or_default() }
}

impl axum::response::IntoResponse for Refused {
    fn into_response(self) -> Response {
        self.response()
    }
}
