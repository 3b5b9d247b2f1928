//! The tenant API in gRPC: decode, call, encode.
//!
//! Read next: `tenant/mod.rs` for what is done, `rest/` for the same by HTTP.

use api::convert::field::{id, optional, optional_span, optional_time, required, span, wire_time};
use api::tenant as wire;
use api::tenant::tenant_service_server::TenantService;
use api::{Problem, common};
use model::workload::GpuTime;
use model::{SoldBy, TenantId};
use tonic::{Request, Response, Status};

use super::order::{self, Order};
use super::page::Ask;
use super::{View, auth, quote};
use crate::context::Context;
use crate::ledger::Used;
use crate::quote::admit::Admission;
use crate::quote::ask::Size;

/// The service.
#[derive(Clone)]
pub struct Service {
    context: Context,
}

impl Service {
    /// The tenant API over this context.
    pub fn new(context: Context) -> Self {
        Self { context }
    }

    fn caller<T>(&self, request: &Request<T>) -> Result<TenantId, Problem> {
        self.context.office()?;
        let header = request.metadata().get("authorization").and_then(|value| value.to_str().ok());
        auth::authenticate(&self.context, header)
    }
}

/// An order from the wire.
pub fn order(order: Option<common::WorkloadOrder>) -> Result<Order, Problem> {
    let order = required(order, "order")?;
    let size = Size::of(order.gpus, order.kilowatts);
    Ok(Order {
        offering: id(&order.offering, "order.offering")?,
        gpus: size.gpus,
        kilowatts: size.kilowatts,
        amount: order.amount_gpu_milliseconds.map(GpuTime::new),
        checkpoint: optional_span(order.checkpoint, "order.checkpoint")?,
        save: optional_span(order.save, "order.save")?,
        restart: optional_span(order.restart, "order.restart")?,
        affinity: optional(order.affinity, "order.affinity")?,
    })
}

/// A request id; empty means none.
pub fn request_id(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

fn show(View { workload, used, explanation, ahead }: View) -> wire::Workload {
    let mut shown = wire::Workload::from(workload);
    shown.prospect = ahead.map(quote::prospect);
    shown.explanation = explanation;
    shown.held_gpu_milliseconds = used.held.get();
    shown.cost_micro_dollars = used.cost.get();
    shown
}

#[tonic::async_trait]
impl TenantService for Service {
    async fn list_offerings(
        &self,
        request: Request<wire::ListOfferingsRequest>,
    ) -> Result<Response<wire::ListOfferingsResponse>, Status> {
        self.caller(&request)?;
        let wire::ListOfferingsRequest { page_size, page_token } = request.into_inner();
        let page = super::offerings(&self.context, &Ask { size: page_size, token: page_token })?;
        let page = page.map(|offering| common::Offering::from((*offering).clone()));
        Ok(Response::new(wire::ListOfferingsResponse { offerings: page.entries, next_page_token: page.next }))
    }

    async fn get_quote(
        &self,
        request: Request<wire::GetQuoteRequest>,
    ) -> Result<Response<wire::Quote>, Status> {
        self.caller(&request)?;
        let wire::GetQuoteRequest { offering, gpus, term, deadline, kilowatts } = request.into_inner();
        let question = quote::Question {
            offering: id(&offering, "offering").map_err(Problem::from)?,
            size: Size::of(gpus, kilowatts),
            term: span(term, "term").map_err(Problem::from)?,
            deadline: optional_span(deadline, "deadline").map_err(Problem::from)?,
        };
        Ok(Response::new(quote::get(&self.context, question).await?.show()))
    }

    async fn submit_workload(
        &self,
        request: Request<wire::SubmitWorkloadRequest>,
    ) -> Result<Response<wire::Workload>, Status> {
        let tenant = self.caller(&request)?;
        let wire::SubmitWorkloadRequest { order: asked, request_id: id } = request.into_inner();
        let order = order(asked)?;
        let workload =
            order::submit(&self.context, &tenant, &order, request_id(&id), &Admission::Tenant).await?;
        Ok(Response::new(show(super::view(&self.context, workload))))
    }

    async fn get_workload(
        &self,
        request: Request<wire::GetWorkloadRequest>,
    ) -> Result<Response<wire::Workload>, Status> {
        let tenant = self.caller(&request)?;
        Ok(Response::new(show(super::get(&self.context, &tenant, &request.into_inner().workload).await?)))
    }

    async fn list_workloads(
        &self,
        request: Request<wire::ListWorkloadsRequest>,
    ) -> Result<Response<wire::ListWorkloadsResponse>, Status> {
        let tenant = self.caller(&request)?;
        let wire::ListWorkloadsRequest { page_size, page_token, include_final } = request.into_inner();
        let ask = Ask { size: page_size, token: page_token };
        let page = super::list(&self.context, &tenant, include_final, &ask)?.map(show);
        Ok(Response::new(wire::ListWorkloadsResponse { workloads: page.entries, next_page_token: page.next }))
    }

    async fn cancel_workload(
        &self,
        request: Request<wire::CancelWorkloadRequest>,
    ) -> Result<Response<wire::Workload>, Status> {
        let tenant = self.caller(&request)?;
        let view = super::cancel(&self.context, &tenant, &request.into_inner().workload).await?;
        Ok(Response::new(show(view)))
    }

    async fn get_usage(
        &self,
        request: Request<wire::GetUsageRequest>,
    ) -> Result<Response<wire::Usage>, Status> {
        let tenant = self.caller(&request)?;
        let wire::GetUsageRequest { from, to } = request.into_inner();
        let from = optional_time(from, "from").map_err(Problem::from)?;
        let to = optional_time(to, "to").map_err(Problem::from)?;
        let usage = super::usage(&self.context, &tenant, from, to)?;
        let line = |(workload, (sold, used)): (&model::WorkloadId, &(SoldBy, Used))| {
            let (held_gpu_milliseconds, held_kilowatt_milliseconds) = super::apart(*sold, used.held);
            wire::UsageLine {
                workload: workload.as_str().to_owned(),
                held_gpu_milliseconds,
                progress_gpu_milliseconds: super::apart(*sold, used.progress).0,
                energy_watt_seconds: used.energy.get(),
                cost_micro_dollars: used.cost.get(),
                held_kilowatt_milliseconds,
            }
        };
        Ok(Response::new(wire::Usage {
            from: from.and_then(wire_time),
            to: wire_time(to.unwrap_or(self.context.clock.now())),
            lines: usage.lines.iter().map(line).collect(),
            held_gpu_milliseconds: usage.gpus.held.get(),
            cost_micro_dollars: usage.cost().get(),
            complete_to: wire_time(usage.complete_to),
            held_kilowatt_milliseconds: usage.shells.held.get(),
        }))
    }
}
