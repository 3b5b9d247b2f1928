//! Plans: listed, shown, compared, explained.
//!
//! A plan is explained on its own input, which is kept for the latest rounds only. Read next: `planner::explain`.

use api::convert::field::{message, wire_time};
use api::limits::{DEFAULT_PAGE, MAX_PAGE, page as size};
use api::operator as wire;
use api::problem::{Kind, Problem};
use model::plan::{Plan, Subject};

use super::quote::exposure;
use crate::commit::read_plan;
use crate::context::{Context, problem};
use crate::records::PlanHead;
use crate::tenant::page::{Ask, Page};

/// Committed plans, newest first.
pub(super) fn list(context: &Context, ask: &Ask) -> Result<Page<wire::PlanSummary>, Problem> {
    let before = match ask.token.as_str() {
        "" => u64::MAX,
        token => token
            .parse()
            .map_err(|_| Problem::invalid("page_token: expected the next_page_token of the page before"))?,
    };
    let cache = context.cache.borrow();
    let target = cache.target.map(|(generation, _)| generation);
    let size = size(ask.size, DEFAULT_PAGE, MAX_PAGE);
    let mut rest = cache.plans.range(..before).rev().map(|(_, head)| head);
    let heads: Vec<_> = rest.by_ref().take(size).collect();
    let next = heads.last().filter(|_| rest.next().is_some()).map(|head| head.generation.to_string());
    let entries = heads.into_iter().map(|head| summary(head, target)).collect();
    Ok(Page { entries, next: next.unwrap_or_default() })
}

/// One plan, whole; 0 is the one in force.
pub(super) async fn get(context: &Context, generation: u64) -> Result<wire::GetPlanResponse, Problem> {
    let mut plan = read(context, generation).await?;
    let in_force = in_force(context) == Some(plan.generation);
    // A bound that was computed after the plan was made is not stored with it.
    let since = context.live.borrow().bound.filter(|bound| bound.made == plan.made);
    plan.bound = since.or(plan.bound);
    Ok(wire::GetPlanResponse { plan: Some(plan.into()), in_force })
}

/// What differs between two plans.
pub(super) async fn diff(context: &Context, from: u64, to: u64) -> Result<wire::DiffPlansResponse, Problem> {
    let newer = read(context, to).await?;
    let from = match (from, newer.parent) {
        (0, None) => {
            return Err(Problem::not_found("the first plan has no parent; name the plan to compare with"));
        }
        (0, Some(parent)) => parent,
        (from, _) => from,
    };
    let older = read(context, from).await?;
    let change = |change: planner::Change| wire::Change {
        subject: Some(change.subject.into()),
        what: change.what,
        from: change.from,
        to: change.to,
    };
    Ok(wire::DiffPlansResponse {
        from: older.generation,
        to: newer.generation,
        changes: planner::diff(&older, &newer).into_iter().map(change).collect(),
    })
}

/// Why a plan treats a subject as it does.
pub(super) async fn explain(
    context: &Context,
    request: wire::ExplainPlanRequest,
) -> Result<wire::ExplainPlanResponse, Problem> {
    let subject: Subject = message(request.subject, "subject")?;
    let plan = read(context, request.generation).await?;
    let round = {
        let live = context.live.borrow();
        live.rounds.iter().find(|round| round.plan.generation == plan.generation).cloned()
    };
    let explanation = round.map(|round| planner::explain(&round.plan, &round.input, &subject));
    let decision = plan.decisions.iter().find(|decision| decision.subject == subject).cloned();
    if explanation.is_none() && decision.is_none() {
        let why =
            format!("plan {} says nothing of {subject}, and its input is no longer kept", plan.generation);
        return Err(Problem::not_found(why));
    }
    let mut explanation = explanation.unwrap_or_default();
    if in_force(context) == Some(plan.generation)
        && let Some(ahead) = context.quotes.ahead(context).await
    {
        explanation.operator.extend(exposure(&plan, &ahead, &subject));
    }
    Ok(wire::ExplainPlanResponse {
        generation: plan.generation,
        subject: Some(subject.into()),
        decision: decision.map(Into::into),
        operator_lines: explanation.operator,
        tenant_lines: explanation.tenant,
    })
}

/// A plan in one line.
pub(super) fn summary(head: &PlanHead, target: Option<u64>) -> wire::PlanSummary {
    wire::PlanSummary {
        generation: head.generation,
        parent: head.parent,
        made: wire_time(head.made),
        worth_micro_dollars: head.worth.get(),
        input_sha256: head.input.clone(),
        in_force: target == Some(head.generation),
        runs: head.runs,
        ceilings_watts: head.ceilings.get(),
    }
}

/// The plan in force: by the leader's knowledge, else by the store.
fn in_force(context: &Context) -> Option<u64> {
    let stored = context.cache.borrow().target.map(|(generation, _)| generation);
    let known = context.live.borrow().in_force.as_ref().map(|in_force| in_force.plan.generation);
    known.or(stored)
}

async fn read(context: &Context, generation: u64) -> Result<Plan, Problem> {
    let current = context.live.borrow().in_force.as_ref().map(|in_force| in_force.plan.clone());
    if let Some(plan) = current.filter(|plan| generation == 0 || plan.generation == generation) {
        return Ok((*plan).clone());
    }
    let generation = match (generation, in_force(context)) {
        (0, None) => {
            let message = "there is no plan yet; the first follows when a module has reported";
            return Err(Problem::new(Kind::NotFound, message));
        }
        (0, Some(in_force)) => in_force,
        (asked, _) => asked,
    };
    let kept = read_plan(&context.store, generation).await.map_err(problem)?;
    let gone =
        || Problem::not_found(format!("plan {generation} is not kept; list the plans to see which are"));
    kept.map(|(plan, _)| plan).ok_or_else(gone)
}
