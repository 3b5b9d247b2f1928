//! Quotes as tenants see them: under an offering, at its list price, with nothing of sites, of others, or of what the power is worth.
//!
//! Assumes a caller that was authenticated. Read next: `quote.rs`, where they are made.

use std::sync::Arc;

use api::Problem;
use api::common;
use api::convert::field::{wire_span, wire_time};
use api::tenant as wire;
use model::tenant::Offering;
use model::{OfferingId, SoldBy, Span};
use planner::outlook::Four;
use planner::quote::Estimate;

use crate::context::Context;
use crate::quote::Answer;
use crate::quote::admit::{Alternative, alternatives};
use crate::quote::ahead::{AHEAD, View};
use crate::quote::ask::{self, Size};

/// What a tenant asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The offering to buy under.
    pub offering: OfferingId,
    /// How many GPUs or kilowatts.
    pub size: Size,
    /// How long.
    pub term: Span,
    /// Time from now in which the term must be served.
    pub deadline: Option<Span>,
}

/// What a tenant is told.
#[derive(Clone, Debug, PartialEq)]
pub struct Quote {
    /// What would be bought.
    pub offering: Arc<Offering>,
    /// What would be admitted instead.
    pub instead: Vec<Alternative>,
    /// What the model says; only parts of it may be shown.
    answer: Arc<Answer>,
}

/// Answers a question.
pub async fn get(context: &Context, question: Question) -> Result<Quote, Problem> {
    let Question { offering, size, term, deadline } = question;
    let offering = ask::offering(context, &offering)?;
    let gpus = size.units(SoldBy::of(&offering.gpu))?;
    let request = ask::offered(context, &offering, gpus, term, deadline, None)?;
    let answer = context.quotes.ask(context, request).await?;
    Ok(Quote { offering, instead: alternatives(context, &answer), answer })
}

impl Quote {
    /// As gRPC and REST show it.
    pub fn show(&self) -> wire::Quote {
        let Self { offering, instead, answer } = self;
        let odds = answer.quote.odds;
        let refused = answer.quote.refused.as_ref();
        let alternative = |instead: &Alternative| wire::Alternative {
            offering: instead.offering.id.to_string(),
            gpus: instead.gpus,
            price_micro_dollars_per_gpu_hour: instead.offering.price.get(),
            interrupted: Some(estimate(instead.interrupted)),
        };
        wire::Quote {
            offering: offering.id.to_string(),
            offered: refused.is_none(),
            refused: refused.map(|refused| refused.tenant_code().to_owned()).unwrap_or_default(),
            why: refused.map(|refused| refused.tenant(SoldBy::of(&offering.gpu))).unwrap_or_default(),
            price_micro_dollars_per_gpu_hour: offering.price.get(),
            promised_permille: offering.sla_permille,
            interrupted: odds.map(|odds| estimate(odds.interrupted)),
            availability: odds.map(|odds| estimate(odds.availability)),
            late: odds.map(|odds| estimate(odds.late)),
            start: answer.start.map(interval),
            notice: wire_span(offering.notice),
            instead: instead.iter().map(alternative).collect(),
            revision: answer.revision.clone(),
            valid_until: wire_time(answer.valid_until()),
            gpu: offering.gpu.clone(),
        }
    }
}

/// What lies ahead of a workload, on the wire.
pub fn prospect(view: View) -> common::Prospect {
    let View { generation, start, interrupted, availability, unfinished, notice, sooner } = view;
    common::Prospect {
        generation,
        ahead: wire_span(AHEAD),
        start: start.map(interval),
        interrupted: interrupted.map(estimate),
        availability: availability.map(estimate),
        unfinished: unfinished.map(estimate),
        notice: wire_span(notice),
        sooner,
    }
}

/// An estimate on the wire.
pub fn estimate(Estimate { ppm, error_ppm }: Estimate) -> common::Estimate {
    common::Estimate { ppm, error_ppm }
}

/// When it would start: early with much supply, late with little.
pub fn interval(hours: Four<Option<u32>>) -> common::StartInterval {
    common::StartInterval { earliest_hours: hours.p90, median_hours: hours.p50, latest_hours: hours.p10 }
}
