//! Quotes and what lies ahead, as operators see them: sites, least prices, promises of others.
//!
//! Read next: `quote.rs`, where they are made; `tenant/quote.rs` for the view that names nothing of others.

use api::common;
use api::convert::field::{choice, optional_span, span, wire_span, wire_time};
use api::operator as wire;
use api::problem::Problem;
use model::plan::{Plan, Subject};
use model::workload::Workload;
use model::{MicroDollars, SoldBy, Span};
use planner::quote::{Kept, Odds, Offer, Price, Refusal, Risks, percent};

use crate::context::Context;
use crate::quote::Answer;
use crate::quote::admit::Admission;
use crate::quote::ahead::{AHEAD, Ahead, view};
use crate::quote::ask::{Question, Size, operators};
use crate::tenant::quote::{estimate, interval, prospect};

/// Answers a question.
pub(super) async fn get(context: &Context, asked: wire::GetQuoteRequest) -> Result<wire::Quote, Problem> {
    let wire::GetQuoteRequest { gpu, gpus, tier, term, deadline, level_permille, kilowatts } = asked;
    let question = Question {
        gpu,
        size: Size::of(gpus, kilowatts),
        tier: choice::<common::Tier, _>(tier, "tier")?,
        term: span(term, "term")?,
        deadline: optional_span(deadline, "deadline")?,
        level: level_permille,
    };
    let request = operators(context, question)?;
    let answer = context.quotes.ask(context, request).await?;
    Ok(show(&answer))
}

/// An operator's override of admission; absent = the model is asked.
pub(super) fn admission(asked: Option<wire::AdmissionOverride>) -> Result<Admission, Problem> {
    asked.map_or(Ok(Admission::Operator), |given| Admission::overridden(&given.by, &given.why))
}

/// One workload with what lies ahead of it.
pub(super) async fn with_prospect(context: &Context, workload: Workload) -> common::Workload {
    let ahead = context.quotes.ahead(context).await;
    let seen = ahead.and_then(|ahead| view(context, &ahead, &workload));
    common::Workload { prospect: seen.map(prospect), ..workload.into() }
}

/// What credits are expected for the promises that the subject bears, within the time looked at.
pub(super) fn exposure(plan: &Plan, ahead: &Ahead, subject: &Subject) -> Vec<String> {
    let bears = |id: &model::WorkloadId| match subject {
        Subject::Workload(own) => own == id,
        Subject::Module(module) => plan.placement(id).is_some_and(|at| at.module == *module),
        Subject::Site(site) => {
            let here = plan.sites.get(site).into_iter().flat_map(|site| site.modules.values());
            here.into_iter().any(|module| module.runs.contains_key(id))
        }
    };
    let promised = ahead.prospects.iter().filter(|(id, prospect)| prospect.level > 0 && bears(id));
    let hours = AHEAD.get() / Span::hours(1).get();
    let mut lines: Vec<String> = promised
        .clone()
        .map(|(id, prospect)| {
            let kept = prospect.odds.availability;
            format!(
                "credit exposure of {id}: {} in {hours} h; {} ± {} of the time is kept, {} is promised",
                dollars(prospect.exposure),
                percent(kept.ppm),
                percent(kept.error_ppm),
                percent(u64::from(prospect.level) * 1_000)
            )
        })
        .collect();
    if lines.len() > 1 {
        let all: MicroDollars = promised.map(|(_, prospect)| prospect.exposure).sum();
        lines.insert(0, format!("credit exposure of all promises here: {} in {hours} h", dollars(all)));
    }
    lines
}

fn show(answer: &Answer) -> wire::Quote {
    let Answer { request, quote, instead, start, generation, revision, draws, made } = answer;
    let sold = SoldBy::of(&request.gpu);
    let refusal = |refused: &Refusal| wire::Refusal {
        code: refused.code().into(),
        why: refused.operator(&Risks::default(), sold),
    };
    let kept = |kept: &Kept| wire::KeptPromise {
        workload: kept.workload.to_string(),
        level_ppm: kept.level_ppm,
        before: Some(estimate(kept.before)),
        after: Some(estimate(kept.after)),
    };
    wire::Quote {
        gpu: request.gpu.clone(),
        gpus: request.gpus,
        tier: common::Tier::from(request.tier).into(),
        term: wire_span(request.term),
        level_permille: request.level,
        offered: answer.is_offered(),
        refused: quote.refused.as_ref().map(refusal),
        nothing_firm: quote.nothing_firm.as_ref().map(refusal),
        site: quote.site.as_ref().map(ToString::to_string).unwrap_or_default(),
        price: quote.price.map(price),
        odds: quote.odds.map(odds),
        start: start.map(interval),
        instead: instead.iter().map(offer).collect(),
        promises: quote.promises.iter().map(kept).collect(),
        generation: *generation,
        revision: revision.clone(),
        draws: *draws,
        made: wire_time(*made),
        valid_until: wire_time(answer.valid_until()),
    }
}

fn price(Price { gpu_hour, power, displaced, margin, credits }: Price) -> wire::QuotePrice {
    wire::QuotePrice {
        gpu_hour_micro_dollars: gpu_hour.get(),
        power_micro_dollars: power.get(),
        displaced_micro_dollars: displaced.get(),
        margin_micro_dollars: margin.get(),
        credits_micro_dollars: credits.get(),
    }
}

fn odds(Odds { interrupted, moved, availability, late, credits_permille }: Odds) -> wire::QuoteOdds {
    wire::QuoteOdds {
        interrupted: Some(estimate(interrupted)),
        moved: Some(estimate(moved)),
        availability: Some(estimate(availability)),
        late: Some(estimate(late)),
        credits_permille,
    }
}

fn offer(offer: &Offer) -> wire::QuoteAlternative {
    wire::QuoteAlternative {
        tier: common::Tier::from(offer.tier).into(),
        gpus: offer.gpus,
        level_permille: offer.level,
        site: offer.site.to_string(),
        gpu_hour_micro_dollars: offer.gpu_hour.get(),
        interrupted: Some(estimate(offer.interrupted)),
    }
}

fn dollars(money: MicroDollars) -> String {
    format!("${}.{:02}", money.get() / 1_000_000, (money.get() % 1_000_000).abs() / 10_000)
}
