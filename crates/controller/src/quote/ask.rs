//! What may be asked for: a question as it comes from outside becomes a request, or a problem that names the field.
//!
//! Read next: `planner::quote::Request`.

use std::collections::BTreeSet;

use api::Problem;
use model::affinity::Sites;
use model::tenant::Offering;
use model::workload::Tier;
use model::{OfferingId, SoldBy, Span};
use planner::quote::{MAX_HOURS, Request};

use super::levels;
use crate::context::Context;

/// The highest availability that can be promised, in thousandths: nothing is always there.
pub const MAX_LEVEL: u32 = 999;

/// How many units are asked for: GPUs or kilowatts, as they came from outside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    /// GPUs that run together.
    pub gpus: Option<u32>,
    /// Kilowatts of powered shell.
    pub kilowatts: Option<u32>,
}

impl Size {
    /// Sizes of the wire, where no GPUs are zero.
    pub fn of(gpus: u32, kilowatts: Option<u32>) -> Self {
        Self { gpus: Some(gpus).filter(|gpus| *gpus > 0), kilowatts }
    }

    /// The units, where the type asked for is sold so.
    pub fn units(self, sold: SoldBy) -> Result<u32, Problem> {
        let (asked, other) = sold.pick((self.gpus, self.kilowatts), (self.kilowatts, self.gpus));
        let (field, most) = (sold.field(), sold.most());
        let says = |message: String| Err(Problem::invalid(message));
        match (asked, other) {
            (Some(_), Some(_)) => says("gpus, kilowatts: expected one of the two, found both".into()),
            (None, Some(_)) => {
                let wrong = sold.pick("kilowatts", "gpus");
                says(format!(
                    "{wrong}: expected {field}, 1 to {most}: what is asked for is sold by the {}",
                    sold.unit()
                ))
            }
            (Some(units), None) if (1..=most).contains(&units) => Ok(units),
            (_, None) => says(format!("{field}: expected 1 to {most}")),
        }
    }
}

/// A question of an operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The type; empty where the fleet has only one that is sold so.
    pub gpu: String,
    /// How many GPUs or kilowatts.
    pub size: Size,
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
    let Question { gpu, size, tier, term, deadline, level } = question;
    let gpu = kind(context, gpu, size)?;
    let gpus = size.units(SoldBy::of(&gpu))?;
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
    if request.term <= Span::ZERO || request.term > most {
        return bad(format!("term: expected more than zero and at most {} days", MAX_HOURS / 24));
    }
    if request.deadline.is_some_and(|deadline| deadline < request.term || deadline > most) {
        return bad(format!("deadline: expected the term or more, and at most {} days", MAX_HOURS / 24));
    }
    Ok(request)
}

/// The type, if the fleet has it. Where none is said it is the only one that is sold by what is asked for.
fn kind(context: &Context, gpu: String, size: Size) -> Result<String, Problem> {
    let cache = context.cache.borrow();
    let pools = cache.modules.values().flat_map(|stored| stored.value.module.pools.values());
    let sold = if size.kilowatts.is_some() { SoldBy::Kilowatt } else { SoldBy::Gpu };
    let meant = |kind: &&str| !gpu.is_empty() || SoldBy::of(kind) == sold;
    let kinds: BTreeSet<&str> = pools.map(|pool| pool.gpu.as_str()).filter(meant).collect();
    let known = || kinds.iter().copied().collect::<Vec<_>>().join(", ");
    match (gpu.is_empty(), kinds.len()) {
        (_, 0) => {
            let units = sold.units();
            Err(Problem::invalid(format!("gpu: the fleet has no {units}; add pools to its modules")))
        }
        (true, 1) => Ok(known()),
        (true, _) => Err(Problem::invalid(format!("gpu: expected one of {}", known()))),
        (false, _) if kinds.contains(gpu.as_str()) => Ok(gpu),
        (false, _) => Err(Problem::invalid(format!("gpu: expected one of {}, found {gpu:?}", known()))),
    }
}
