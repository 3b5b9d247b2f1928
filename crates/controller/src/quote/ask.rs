//! What may be asked for: a question as it comes from outside becomes a request, or a problem that names the field.
//!
//! Read next: `planner::quote::Request`.

use std::collections::BTreeSet;

use api::Problem;
use model::affinity::Sites;
use model::tenant::Offering;
use model::workload::Tier;
use model::{OfferingId, Span};
use planner::quote::{MAX_HOURS, Request};

use super::levels;
use crate::context::Context;
use crate::tenant::order::MAX_GPUS;

/// The highest availability that can be promised, in thousandths: nothing is always there.
pub const MAX_LEVEL: u32 = 999;

/// A question of an operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The GPU's type; empty where the fleet has only one.
    pub gpu: String,
    /// GPUs that run together.
    pub gpus: u32,
    /// What is promised.
    pub tier: Tier,
    /// How long.
    pub term: Span,
    /// Time from now in which the term must be served.
    pub deadline: Option<Span>,
    /// Availability promised, in thousandths; that of the offering of this tier and type unless given.
    pub level: Option<u32>,
}

/// A question of an operator as a request.
pub fn operators(context: &Context, question: Question) -> Result<Request, Problem> {
    let Question { gpu, gpus, tier, term, deadline, level } = question;
    let gpu = kind(context, gpu)?;
    if level.is_some_and(|level| level > MAX_LEVEL) {
        return Err(Problem::invalid(format!(
            "level_permille: expected 0 to {MAX_LEVEL}; nothing is always there"
        )));
    }
    let offered = || {
        let cache = context.cache.borrow();
        let here =
            cache.offerings.values().filter(|stored| stored.value.tier == tier && stored.value.gpu == gpu);
        here.map(|stored| stored.value.sla_permille).max().unwrap_or(0)
    };
    let level = level.unwrap_or_else(offered);
    checked(Request { gpu, gpus, term, tier, deadline, level, sites: None, levels: levels(context) })
}

/// What an order under an offering asks for, on the sites it may run on.
pub fn offered(
    context: &Context,
    offering: &Offering,
    gpus: u32,
    term: Span,
    deadline: Option<Span>,
    sites: Option<Sites>,
) -> Result<Request, Problem> {
    let (gpu, tier, level) = (offering.gpu.clone(), offering.tier, offering.sla_permille);
    checked(Request { gpu, gpus, term, tier, deadline, level, sites, levels: levels(context) })
}

/// An offering by id.
pub fn offering(context: &Context, id: &OfferingId) -> Result<std::sync::Arc<Offering>, Problem> {
    let found = context.cache.borrow().offerings.get(id).map(|stored| stored.value.clone());
    found.ok_or_else(|| {
        Problem::invalid(format!("offering: expected one of the offerings; there is no {:?}", id.as_str()))
    })
}

fn checked(request: Request) -> Result<Request, Problem> {
    let most = Span::hours(MAX_HOURS.into());
    let bad = |message: String| Err(Problem::invalid(message));
    if !(1..=MAX_GPUS).contains(&request.gpus) {
        return bad(format!("gpus: expected 1 to {MAX_GPUS}"));
    }
    if request.term <= Span::ZERO || request.term > most {
        return bad(format!("term: expected more than zero and at most {} days", MAX_HOURS / 24));
    }
    if request.deadline.is_some_and(|deadline| deadline < request.term || deadline > most) {
        return bad(format!("deadline: expected the term or more, and at most {} days", MAX_HOURS / 24));
    }
    Ok(request)
}

/// The GPU's type, if the fleet has it.
fn kind(context: &Context, gpu: String) -> Result<String, Problem> {
    let cache = context.cache.borrow();
    let pools = cache.modules.values().flat_map(|stored| stored.value.module.pools.values());
    let kinds: BTreeSet<&str> = pools.map(|pool| pool.gpu.as_str()).collect();
    let known = || kinds.iter().copied().collect::<Vec<_>>().join(", ");
    match (gpu.is_empty(), kinds.len()) {
        (_, 0) => Err(Problem::invalid("gpu: the fleet has no GPUs; add pools to its modules")),
        (true, 1) => Ok(known()),
        (true, _) => Err(Problem::invalid(format!("gpu: expected one of {}", known()))),
        (false, _) if kinds.contains(gpu.as_str()) => Ok(gpu),
        (false, _) => Err(Problem::invalid(format!("gpu: expected one of {}, found {gpu:?}", known()))),
    }
}
