//! `flareshift plan`.

use api::common::{Subject, subject::Kind};
use api::operator as wire;

use super::connect::{Connection, pages};
use super::{Error, answer_with};
use crate::args::{ExplainArgs, Output, PlanCommand};
use crate::output::plan::{Diff, Explanation, List, Plan, Summary};

/// What the wire takes for "the one that goes without saying".
const UNSAID: u64 = 0;

/// Runs a command about plans.
pub(super) async fn run(connection: &Connection, command: PlanCommand, output: Output) -> Result<(), Error> {
    let mut client = connection.client();
    match command {
        PlanCommand::List { limit } => answer_with(&list(connection, limit.into()).await?, output),
        PlanCommand::Show { generation } => {
            let request = wire::GetPlanRequest { generation: generation.unwrap_or(UNSAID) };
            answer_with(&Plan::from(connection.ask(client.get_plan(request)).await?), output)
        }
        PlanCommand::Diff { from, to } => {
            let request = wire::DiffPlansRequest { from: from.unwrap_or(UNSAID), to: to.unwrap_or(UNSAID) };
            answer_with(&Diff::from(connection.ask(client.diff_plans(request)).await?), output)
        }
        PlanCommand::Explain(ExplainArgs { site, module, workload, generation }) => {
            let kind = site.map(Kind::Site).or(module.map(Kind::Module)).or(workload.map(Kind::Workload));
            let request = wire::ExplainPlanRequest {
                generation: generation.unwrap_or(UNSAID),
                subject: Some(Subject { kind }),
            };
            answer_with(&Explanation::from(connection.ask(client.explain_plan(request)).await?), output)
        }
        PlanCommand::Solve { .. } | PlanCommand::Check { .. } => {
            Err(Error::Usage("a file is planned without a controller to call".into()))
        }
    }
}

async fn list(connection: &Connection, limit: usize) -> Result<List, Error> {
    let fetch = async |page_size, page_token| {
        let request = wire::ListPlansRequest { page_size, page_token };
        let page = connection.ask(connection.client().list_plans(request)).await?;
        Ok((page.plans, page.next_page_token))
    };
    let plans = pages("plans", limit, fetch).await?;
    Ok(List { plans: plans.into_iter().map(Summary::from).collect() })
}
