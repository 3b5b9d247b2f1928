//! What operators may call, by gRPC: decode, call, encode. One file per concern does the work.
//!
//! A standby answers what the store holds, marked with who leads, and refuses everything else by naming the leader. Read next: `operator/status.rs`, from which the CLI's status and
//! the live table are drawn.

mod archive;
mod fleet;
pub(crate) mod loads;
mod modules;
mod outlook;
mod plans;
mod quote;
mod status;
mod tenants;
mod watch;

use std::sync::Arc;

use api::Problem;
use api::common;
use api::operator as wire;
use api::operator::operator_service_server::OperatorService;
use model::TenantId;
use tokio::sync::Semaphore;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use modules::{Asked, Order};

use crate::callers;
use crate::context::Context;
use crate::tenant::grpc::{order, request_id};
use crate::tenant::page::Ask;
use crate::tenant::{self, order::submit};

/// The service.
#[derive(Clone)]
pub struct Service {
    context: Context,
    cancel: CancellationToken,
    /// One outlook is computed at a time.
    outlooks: Arc<Semaphore>,
}

impl Service {
    /// The operators' API over this context; watches end when `cancel` does.
    pub fn new(context: Context, cancel: CancellationToken) -> Self {
        Self { context, cancel, outlooks: Arc::new(Semaphore::new(1)) }
    }

    /// The context, if this controller leads.
    fn leading(&self) -> Result<&Context, Problem> {
        self.context.office().map(|_| &self.context)
    }

    /// Answers from what is known here, and marks the answer where this controller stands by.
    fn read<T>(&self, read: impl FnOnce(&Context) -> Result<T, Problem>) -> Result<Response<T>, Status> {
        // Asked before, so that an answer is never taken for the leader's that began as a standby's.
        let standing_by = self.context.standing_by()?;
        Ok(marked(read(&self.context)?, standing_by))
    }
}

/// An answer; with the leader's address beside it where this controller stands by.
fn marked<T>(answer: T, standing_by: Option<String>) -> Response<T> {
    let mut response = Response::new(answer);
    if let Some(leader) = standing_by {
        api::leader::mark(response.metadata_mut(), &leader);
    }
    response
}

/// An optional tenant: empty means all.
fn whose(text: &str) -> Result<Option<TenantId>, Problem> {
    if text.is_empty() {
        return Ok(None);
    }
    Ok(Some(api::convert::field::id(text, "tenant")?))
}

#[tonic::async_trait]
impl OperatorService for Service {
    type WatchStream = ReceiverStream<Result<wire::WatchEvent, Status>>;

    async fn get_status(
        &self,
        request: Request<wire::GetStatusRequest>,
    ) -> Result<Response<wire::FleetStatus>, Status> {
        self.read(|context| Ok(status::fleet(context, request.into_inner().decisions)))
    }

    async fn list_sites(
        &self,
        request: Request<wire::ListSitesRequest>,
    ) -> Result<Response<wire::ListSitesResponse>, Status> {
        let wire::ListSitesRequest { page_size, page_token } = request.into_inner();
        self.read(|context| {
            let page = fleet::sites(context, &Ask { size: page_size, token: page_token })?;
            Ok(wire::ListSitesResponse { sites: page.entries, next_page_token: page.next })
        })
    }

    async fn get_site(&self, request: Request<wire::GetSiteRequest>) -> Result<Response<wire::Site>, Status> {
        self.read(|context| fleet::site(context, &request.into_inner().site))
    }

    async fn list_modules(
        &self,
        request: Request<wire::ListModulesRequest>,
    ) -> Result<Response<wire::ListModulesResponse>, Status> {
        let wire::ListModulesRequest { page_size, page_token, site } = request.into_inner();
        self.read(|context| {
            let page = fleet::modules(context, &site, &Ask { size: page_size, token: page_token })?;
            Ok(wire::ListModulesResponse { modules: page.entries, next_page_token: page.next })
        })
    }

    async fn get_module(
        &self,
        request: Request<wire::GetModuleRequest>,
    ) -> Result<Response<wire::Module>, Status> {
        self.read(|context| fleet::module(context, &request.into_inner().module))
    }

    async fn cordon_module(
        &self,
        request: Request<wire::CordonModuleRequest>,
    ) -> Result<Response<wire::Module>, Status> {
        let by = callers::operator(&request, |asked| &asked.by);
        let wire::CordonModuleRequest { module, etag, by: _, why } = request.into_inner();
        let asked = Asked { module, etag, by, why };
        Ok(Response::new(modules::change(self.leading()?, Order::Cordon, asked).await?))
    }

    async fn uncordon_module(
        &self,
        request: Request<wire::UncordonModuleRequest>,
    ) -> Result<Response<wire::Module>, Status> {
        let by = callers::operator(&request, |asked| &asked.by);
        let wire::UncordonModuleRequest { module, etag, by: _, why } = request.into_inner();
        let asked = Asked { module, etag, by, why };
        Ok(Response::new(modules::change(self.leading()?, Order::Uncordon, asked).await?))
    }

    async fn drain_module(
        &self,
        request: Request<wire::DrainModuleRequest>,
    ) -> Result<Response<wire::Module>, Status> {
        let by = callers::operator(&request, |asked| &asked.by);
        let wire::DrainModuleRequest { module, etag, by: _, why } = request.into_inner();
        let asked = Asked { module, etag, by, why };
        Ok(Response::new(modules::change(self.leading()?, Order::Drain, asked).await?))
    }

    async fn list_plans(
        &self,
        request: Request<wire::ListPlansRequest>,
    ) -> Result<Response<wire::ListPlansResponse>, Status> {
        let wire::ListPlansRequest { page_size, page_token } = request.into_inner();
        self.read(|context| {
            let page = plans::list(context, &Ask { size: page_size, token: page_token })?;
            Ok(wire::ListPlansResponse { plans: page.entries, next_page_token: page.next })
        })
    }

    async fn get_plan(
        &self,
        request: Request<wire::GetPlanRequest>,
    ) -> Result<Response<wire::GetPlanResponse>, Status> {
        let standing_by = self.context.standing_by()?;
        let plan = plans::get(&self.context, request.into_inner().generation).await?;
        Ok(marked(plan, standing_by))
    }

    async fn diff_plans(
        &self,
        request: Request<wire::DiffPlansRequest>,
    ) -> Result<Response<wire::DiffPlansResponse>, Status> {
        let wire::DiffPlansRequest { from, to } = request.into_inner();
        let standing_by = self.context.standing_by()?;
        let changes = plans::diff(&self.context, from, to).await?;
        Ok(marked(changes, standing_by))
    }

    async fn explain_plan(
        &self,
        request: Request<wire::ExplainPlanRequest>,
    ) -> Result<Response<wire::ExplainPlanResponse>, Status> {
        Ok(Response::new(plans::explain(self.leading()?, request.into_inner()).await?))
    }

    async fn get_outlook(
        &self,
        request: Request<wire::GetOutlookRequest>,
    ) -> Result<Response<wire::Outlook>, Status> {
        let site = request.into_inner().site;
        Ok(Response::new(outlook::get(self.leading()?, &self.outlooks, &site).await?))
    }

    async fn get_quote(
        &self,
        request: Request<wire::GetQuoteRequest>,
    ) -> Result<Response<wire::Quote>, Status> {
        Ok(Response::new(quote::get(self.leading()?, request.into_inner()).await?))
    }

    async fn list_workloads(
        &self,
        request: Request<wire::ListWorkloadsRequest>,
    ) -> Result<Response<wire::ListWorkloadsResponse>, Status> {
        let wire::ListWorkloadsRequest { page_size, page_token, tenant, include_final } =
            request.into_inner();
        let tenant = whose(&tenant)?;
        let ask = Ask { size: page_size, token: page_token };
        self.read(|context| {
            let page = tenant::select(context, tenant.as_ref(), include_final, &ask)?;
            let page = page.map(common::Workload::from);
            Ok(wire::ListWorkloadsResponse { workloads: page.entries, next_page_token: page.next })
        })
    }

    async fn get_workload(
        &self,
        request: Request<wire::GetWorkloadRequest>,
    ) -> Result<Response<common::Workload>, Status> {
        let standing_by = self.context.standing_by()?;
        let workload = tenant::find(&self.context, None, &request.into_inner().workload)?;
        Ok(marked(quote::with_prospect(&self.context, workload).await, standing_by))
    }

    async fn submit_workload(
        &self,
        request: Request<wire::SubmitWorkloadRequest>,
    ) -> Result<Response<common::Workload>, Status> {
        let by = callers::operator(&request, |asked| {
            asked.admission_override.as_ref().map_or("", |given| &given.by)
        });
        let wire::SubmitWorkloadRequest { tenant, order: asked, request_id: id, admission_override } =
            request.into_inner();
        let tenant: TenantId = api::convert::field::id(&tenant, "tenant").map_err(Problem::from)?;
        let order = order(asked)?;
        let admission =
            quote::admission(admission_override.map(|asked| wire::AdmissionOverride { by, ..asked }))?;
        let made = submit(self.leading()?, &tenant, &order, request_id(&id), &admission).await?;
        Ok(Response::new(made.into()))
    }

    async fn cancel_workload(
        &self,
        request: Request<wire::CancelWorkloadRequest>,
    ) -> Result<Response<common::Workload>, Status> {
        let by = callers::operator(&request, |asked| &asked.by);
        let wire::CancelWorkloadRequest { workload, by: _, why } = request.into_inner();
        let workload = tenant::end(self.leading()?, None, &workload, (&by, &why)).await?;
        Ok(Response::new(workload.into()))
    }

    async fn list_tenants(
        &self,
        request: Request<wire::ListTenantsRequest>,
    ) -> Result<Response<wire::ListTenantsResponse>, Status> {
        let wire::ListTenantsRequest { page_size, page_token } = request.into_inner();
        self.read(|context| {
            let page = tenants::list(context, &Ask { size: page_size, token: page_token })?;
            Ok(wire::ListTenantsResponse { tenants: page.entries, next_page_token: page.next })
        })
    }

    async fn create_tenant(
        &self,
        request: Request<wire::CreateTenantRequest>,
    ) -> Result<Response<wire::CreateTenantResponse>, Status> {
        let made = tenants::create(self.leading()?, request.into_inner()).await?;
        Ok(Response::new(made))
    }

    async fn list_offerings(
        &self,
        request: Request<wire::ListOfferingsRequest>,
    ) -> Result<Response<wire::ListOfferingsResponse>, Status> {
        let wire::ListOfferingsRequest { page_size, page_token } = request.into_inner();
        self.read(|context| {
            let page = tenant::offerings(context, &Ask { size: page_size, token: page_token })?;
            let page = page.map(|offering| common::Offering::from((*offering).clone()));
            Ok(wire::ListOfferingsResponse { offerings: page.entries, next_page_token: page.next })
        })
    }

    async fn list_events(
        &self,
        request: Request<wire::ListEventsRequest>,
    ) -> Result<Response<wire::ListEventsResponse>, Status> {
        let subject = api::convert::field::message(request.into_inner().subject, "subject");
        let subject = subject.map_err(Problem::from)?;
        self.read(|context| {
            let cache = context.cache.borrow();
            if !cache.holds(&subject) {
                return Err(Problem::not_found(format!("there is no {subject}")));
            }
            Ok(context.events.history(&cache, &subject).into())
        })
    }

    async fn watch(
        &self,
        request: Request<wire::WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let context = self.leading()?.clone();
        Ok(Response::new(watch::begin(context, request.into_inner().events_only, self.cancel.clone())))
    }

    async fn get_version(
        &self,
        _: Request<wire::GetVersionRequest>,
    ) -> Result<Response<wire::Version>, Status> {
        let settings = &self.context.settings;
        let packages = ["flareshift.agent.v1", "flareshift.operator.v1", "flareshift.tenant.v1"];
        Ok(Response::new(wire::Version {
            version: env!("CARGO_PKG_VERSION").into(),
            packages: packages.map(str::to_owned).to_vec(),
            store: settings.store_name.clone(),
            accepts_simulated: settings.accept_simulated,
        }))
    }
}
