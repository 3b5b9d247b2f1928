//! The shapes of quotes and of what lies ahead, in REST: integers with their unit in the name, unknown is absent.
//!
//! They are made from what gRPC shows to tenants, so that both say the same. Read next: `tenant/quote.rs`.

use api::Problem;
use api::common;
use api::convert::field::{id, optional_span, optional_time};
use api::tenant as wire;
use model::Span;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::view::{show_time, units};
use crate::quote::ask::Size;
use crate::tenant::quote::Question;

/// What an order would be: what a quote is asked for.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct QuoteRequest {
    /// The offering to buy under; it settles tier, GPU type, price and promised availability.
    offering: String,
    /// GPUs that run together, in one pool of one module: 1 to 1024. Either this or `kilowatts`.
    gpus: Option<u32>,
    /// Kilowatts of powered shell in one pool of one module, of offerings whose `gpu` is `kilowatt`: 1 to 4000.
    kilowatts: Option<u32>,
    /// How long it runs: up to 90 days, counted in whole hours.
    term_seconds: i64,
    /// Time from now in which the term must be served; the term itself unless given.
    deadline_seconds: Option<i64>,
}

/// What an order would meet. It reserves nothing, and an order is judged anew.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Quote {
    offering: String,
    /// It would be admitted.
    offered: bool,
    /// Why it would not, as a stable code: `no_gpus`, `no_power`, `no_firm_capacity`, `no_such_gpu` or `level`.
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<String>,
    /// The same in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
    price_micro_dollars_per_gpu_hour: i64,
    /// Availability that the offering promises, in thousandths.
    promised_permille: u32,
    /// Probability that it is not served for an hour or more within the term; absent when it can start nowhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    interrupted: Option<Estimate>,
    /// Share of the term in which it is served.
    #[serde(skip_serializing_if = "Option::is_none")]
    availability: Option<Estimate>,
    /// Probability that the term is not served by the deadline.
    #[serde(skip_serializing_if = "Option::is_none")]
    late: Option<Estimate>,
    /// When it would start.
    #[serde(skip_serializing_if = "Option::is_none")]
    start: Option<StartInterval>,
    /// Shortest warning before a preemption.
    notice_seconds: i64,
    /// What would be admitted instead.
    instead: Vec<Alternative>,
    /// The state that it was computed from: the same revision and question have the same answer.
    revision: String,
    /// Good until then.
    valid_until: String,
}

/// What would be admitted instead of what was asked for.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Alternative {
    offering: String,
    /// GPUs; absent of a powered shell.
    #[serde(skip_serializing_if = "Option::is_none")]
    gpus: Option<u32>,
    /// Kilowatts of a powered shell.
    #[serde(skip_serializing_if = "Option::is_none")]
    kilowatts: Option<u32>,
    price_micro_dollars_per_gpu_hour: i64,
    /// Probability that it is not served for an hour or more within the term.
    interrupted: Estimate,
}

/// A figure in millionths, and the standard error of its estimate.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(super) struct Estimate {
    ppm: u64,
    error_ppm: u64,
}

/// Whole hours from now until it would start; absent = not within three days.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct StartInterval {
    /// With much supply, which is exceeded in one case of ten.
    #[serde(skip_serializing_if = "Option::is_none")]
    earliest_hours: Option<u32>,
    /// At the median.
    #[serde(skip_serializing_if = "Option::is_none")]
    median_hours: Option<u32>,
    /// With little supply, which is undercut in one case of ten.
    #[serde(skip_serializing_if = "Option::is_none")]
    latest_hours: Option<u32>,
}

/// What lies ahead of a workload.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Prospect {
    /// How far it looks.
    ahead_seconds: i64,
    /// When it would start; absent unless it waits.
    #[serde(skip_serializing_if = "Option::is_none")]
    start: Option<StartInterval>,
    /// Probability that it is not served for an hour or more within that time, or within what is left of it; absent while it waits.
    #[serde(skip_serializing_if = "Option::is_none")]
    interrupted: Option<Estimate>,
    /// Share of that time in which it is served; absent while it waits.
    #[serde(skip_serializing_if = "Option::is_none")]
    availability: Option<Estimate>,
    /// Probability that what is left of it is not done within that time; absent where it has no end or needs longer anyway.
    #[serde(skip_serializing_if = "Option::is_none")]
    unfinished: Option<Estimate>,
    /// Shortest warning before a preemption.
    notice_seconds: i64,
    /// What would start it sooner, in words.
    sooner: Vec<String>,
}

impl TryFrom<QuoteRequest> for Question {
    type Error = Problem;
    fn try_from(asked: QuoteRequest) -> Result<Self, Problem> {
        let QuoteRequest { offering, gpus, kilowatts, term_seconds, deadline_seconds } = asked;
        Ok(Self {
            offering: id(&offering, "offering")?,
            size: Size { gpus, kilowatts },
            term: seconds(term_seconds),
            deadline: deadline_seconds.map(seconds),
        })
    }
}

impl From<wire::Quote> for Quote {
    fn from(quote: wire::Quote) -> Self {
        let told = |text: String| Some(text).filter(|text| !text.is_empty());
        Self {
            offering: quote.offering,
            offered: quote.offered,
            refused: told(quote.refused),
            why: told(quote.why),
            price_micro_dollars_per_gpu_hour: quote.price_micro_dollars_per_gpu_hour,
            promised_permille: quote.promised_permille,
            interrupted: quote.interrupted.map(Estimate::from),
            availability: quote.availability.map(Estimate::from),
            late: quote.late.map(Estimate::from),
            start: quote.start.map(StartInterval::from),
            notice_seconds: optional_span(quote.notice, "notice").ok().flatten().map_or(0, whole_seconds),
            instead: quote.instead.into_iter().map(|instead| Alternative::of(&quote.gpu, instead)).collect(),
            revision: quote.revision,
            valid_until: optional_time(quote.valid_until, "valid_until")
                .ok()
                .flatten()
                .map(show_time)
                .unwrap_or_default(),
        }
    }
}

impl Alternative {
    fn of(kind: &str, instead: wire::Alternative) -> Self {
        let (gpus, kilowatts) = units(kind, instead.gpus);
        Self {
            offering: instead.offering,
            gpus,
            kilowatts,
            price_micro_dollars_per_gpu_hour: instead.price_micro_dollars_per_gpu_hour,
            interrupted: instead.interrupted.map(Estimate::from).unwrap_or_default(),
        }
    }
}

impl From<common::Estimate> for Estimate {
    fn from(common::Estimate { ppm, error_ppm }: common::Estimate) -> Self {
        Self { ppm, error_ppm }
    }
}

impl From<common::StartInterval> for StartInterval {
    fn from(start: common::StartInterval) -> Self {
        let common::StartInterval { earliest_hours, median_hours, latest_hours } = start;
        Self { earliest_hours, median_hours, latest_hours }
    }
}

impl From<common::Prospect> for Prospect {
    fn from(prospect: common::Prospect) -> Self {
        Self {
            ahead_seconds: optional_span(prospect.ahead, "ahead").ok().flatten().map_or(0, whole_seconds),
            start: prospect.start.map(StartInterval::from),
            interrupted: prospect.interrupted.map(Estimate::from),
            availability: prospect.availability.map(Estimate::from),
            unfinished: prospect.unfinished.map(Estimate::from),
            notice_seconds: optional_span(prospect.notice, "notice").ok().flatten().map_or(0, whole_seconds),
            sooner: prospect.sooner,
        }
    }
}

/// Seconds as a span; so many that they do not fit are refused where the term is checked.
fn seconds(seconds: i64) -> Span {
    Span::new(seconds.saturating_mul(1_000))
}

fn whole_seconds(span: Span) -> i64 {
    span.get() / 1_000
}
