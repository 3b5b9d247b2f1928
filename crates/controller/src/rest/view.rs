//! The shapes of the REST API: field names are stable, units stand in them, unknown is absent.
//!
//! Times are RFC 3339 in UTC. Read next: `tenant/mod.rs` for what they show.

use api::Problem;
use model::workload::GpuTime;
use model::{OfferingId, SoldBy, Span, Time};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::affinity::Affinity;
use super::quote::Prospect;
use crate::ledger::Used;
use crate::tenant::page::Page;
use crate::tenant::quote::prospect;
use crate::tenant::{self, View};

/// Which page.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct PageQuery {
    /// Most entries to answer; 50 unless given, at most 1000.
    pub(super) page_size: Option<i32>,
    /// The `next_page_token` of the page before.
    pub(super) page_token: Option<String>,
}

/// Which page of workloads.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    /// Most entries to answer; 50 unless given, at most 1000.
    pub(super) page_size: Option<i32>,
    /// The `next_page_token` of the page before.
    pub(super) page_token: Option<String>,
    /// Completed and cancelled ones too.
    pub(super) include_final: Option<bool>,
}

/// Which interval.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct UsageQuery {
    /// Begin of the interval, RFC 3339; from the beginning unless given.
    pub(super) from: Option<String>,
    /// Its end, RFC 3339; until now unless given.
    pub(super) to: Option<String>,
}

/// What is ordered.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Order {
    /// The offering to buy under.
    pub(super) offering: String,
    /// GPUs that run together, in one pool of one module: 1 to 1024. Either this or `kilowatts`.
    pub(super) gpus: Option<u32>,
    /// Kilowatts of powered shell in one pool of one module, of offerings whose `gpu` is `kilowatt`: 1 to 4000.
    pub(super) kilowatts: Option<u32>,
    /// GPU time (GPUs, or kilowatts, times milliseconds) after which it is complete; runs until it is cancelled unless given.
    pub(super) amount_gpu_milliseconds: Option<i64>,
    /// Time between checkpoints. A powered shell has none of these three: its notice is the offering's.
    pub(super) checkpoint_seconds: Option<i64>,
    /// Time to save a checkpoint, at most 480: a run whose module is out of touch ends after ten minutes.
    pub(super) save_seconds: Option<i64>,
    /// Time from start until progress resumes.
    pub(super) restart_seconds: Option<i64>,
    /// Where it may run, and beside whom of yours; anywhere, beside anybody unless given.
    pub(super) affinity: Option<Affinity>,
    /// Chosen by the caller, 1 to 64 printable characters: a repeat with the same one orders nothing new.
    pub(super) request_id: Option<String>,
}

/// What is sold.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Offering {
    id: String,
    /// `firm`, `on-demand` or `spot`.
    tier: String,
    /// The GPU's type; `kilowatt`, or `kilowatt-` and a name, where power and cooling are sold by the kilowatt.
    gpu: String,
    /// Price of one GPU, or one kilowatt, for an hour.
    price_micro_dollars_per_gpu_hour: i64,
    /// Shortest warning before a preemption; of a powered shell the time between telling you and opening the feeder.
    notice_seconds: i64,
    /// Promised availability over a month, in thousandths; 0 where nothing is promised.
    sla_permille: u32,
    /// Power-elastic: the least pace, in thousandths, to which work may be held while power is short; then progress is paid, not time.
    floor_permille: Option<i64>,
}

/// A page of offerings.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Offerings {
    offerings: Vec<Offering>,
    /// Give it as `page_token` for the next page; empty on the last.
    next_page_token: String,
}

/// A workload as its tenant sees it.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Workload {
    id: String,
    offering: String,
    /// `firm`, `on-demand` or `spot`.
    tier: String,
    /// The GPU's type.
    gpu: String,
    /// GPUs; absent of a powered shell.
    #[serde(skip_serializing_if = "Option::is_none")]
    gpus: Option<u32>,
    /// Kilowatts of a powered shell. GPU time is then kilowatts times milliseconds, and a GPU-hour a kilowatt for an hour.
    #[serde(skip_serializing_if = "Option::is_none")]
    kilowatts: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    amount_gpu_milliseconds: Option<i64>,
    price_micro_dollars_per_gpu_hour: i64,
    /// Where it may run, and beside whom.
    #[serde(skip_serializing_if = "Option::is_none")]
    affinity: Option<Affinity>,
    /// `pending`, `starting`, `running`, `stopping`, `unreachable`, `completed` or `cancelled`.
    phase: String,
    /// Why it stands there, such as `no_power`.
    reason: String,
    /// Why it stands there, in words.
    explanation: Vec<String>,
    /// Its end was asked for.
    cancel: bool,
    /// When it was accepted.
    created: String,
    /// When the phase last changed.
    since: String,
    progress_gpu_milliseconds: i64,
    /// Progress that the last checkpoint holds.
    saved_gpu_milliseconds: i64,
    /// GPU time held, which is what is billed.
    held_gpu_milliseconds: i64,
    /// How often it was stopped by our choice.
    preemptions: u32,
    /// What it has cost so far.
    cost_micro_dollars: i64,
    /// Availability that it was promised, in thousandths; 0 where nothing is.
    promised_permille: u32,
    /// What lies ahead of it; where one workload is asked for, once there is a plan.
    #[serde(skip_serializing_if = "Option::is_none")]
    prospect: Option<Prospect>,
}

/// A page of workloads.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Workloads {
    workloads: Vec<Workload>,
    /// Give it as `page_token` for the next page; empty on the last.
    next_page_token: String,
}

/// What a tenant used and owes.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Usage {
    /// Begin of the interval; absent when it was not limited.
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<String>,
    /// Its end.
    to: String,
    /// The ledger reaches up to here; what agents have not delivered yet is later.
    complete_to: String,
    /// By workload, in order of id.
    lines: Vec<UsageLine>,
    /// Of GPUs; powered shells are not among it.
    held_gpu_milliseconds: i64,
    /// Of powered shells: kilowatts times milliseconds.
    held_kilowatt_milliseconds: i64,
    energy_watt_seconds: i64,
    cost_micro_dollars: i64,
}

/// What one workload used.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct UsageLine {
    workload: String,
    /// Zero of a powered shell.
    held_gpu_milliseconds: i64,
    /// Zero of GPUs.
    held_kilowatt_milliseconds: i64,
    /// Zero of a powered shell, whose work is not ours to see.
    progress_gpu_milliseconds: i64,
    energy_watt_seconds: i64,
    cost_micro_dollars: i64,
}

/// A body that does not parse.
pub(super) fn bad_body(error: &serde_json::Error) -> Problem {
    Problem::invalid(format!("body: {error}; send a JSON object as in /openapi.json"))
}

impl UsageQuery {
    pub(super) fn interval(&self) -> Result<(Option<Time>, Option<Time>), Problem> {
        let read = |text: &Option<String>, field: &str| {
            text.as_deref().map(|text| parse_time(text, field)).transpose()
        };
        Ok((read(&self.from, "from")?, read(&self.to, "to")?))
    }
}

impl TryFrom<Order> for tenant::order::Order {
    type Error = Problem;

    fn try_from(order: Order) -> Result<Self, Problem> {
        let bad = |_| Problem::invalid(format!("offering: expected an id, found {:?}", order.offering));
        Ok(Self {
            offering: OfferingId::new(&order.offering).map_err(bad)?,
            gpus: order.gpus,
            kilowatts: order.kilowatts,
            amount: order.amount_gpu_milliseconds.map(GpuTime::new),
            checkpoint: order.checkpoint_seconds.map(Span::secs),
            save: order.save_seconds.map(Span::secs),
            restart: order.restart_seconds.map(Span::secs),
            affinity: order.affinity.map(TryInto::try_into).transpose()?,
        })
    }
}

impl From<Page<std::sync::Arc<model::tenant::Offering>>> for Offerings {
    fn from(page: Page<std::sync::Arc<model::tenant::Offering>>) -> Self {
        let offering = |offering: std::sync::Arc<model::tenant::Offering>| Offering {
            id: offering.id.as_str().to_owned(),
            tier: offering.tier.to_string(),
            gpu: offering.gpu.clone(),
            price_micro_dollars_per_gpu_hour: offering.price.get(),
            notice_seconds: offering.notice.get() / 1_000,
            sla_permille: offering.sla_permille,
            floor_permille: offering.floor.map(model::Pace::get),
        };
        let Page { entries, next } = page.map(offering);
        Self { offerings: entries, next_page_token: next }
    }
}

impl From<View> for Workload {
    fn from(View { workload, used, explanation, ahead }: View) -> Self {
        let (gpus, kilowatts) = units(&workload.spec.gpu, workload.spec.gpus);
        let model::workload::Workload { id, tenant: _, created, spec, cancel, promise, status } = workload;
        Self {
            id: id.as_str().to_owned(),
            offering: spec.offering.as_str().to_owned(),
            tier: spec.tier.to_string(),
            gpu: spec.gpu,
            gpus,
            kilowatts,
            amount_gpu_milliseconds: spec.amount.map(GpuTime::get),
            price_micro_dollars_per_gpu_hour: spec.price.get(),
            affinity: spec.affinity.map(Affinity::from),
            phase: status.phase.to_string(),
            reason: status.reason.to_string(),
            explanation,
            cancel,
            created: show_time(created),
            since: show_time(status.since),
            progress_gpu_milliseconds: status.progress.get(),
            saved_gpu_milliseconds: status.saved.get(),
            held_gpu_milliseconds: used.held.get(),
            preemptions: status.preemptions,
            cost_micro_dollars: used.cost.get(),
            promised_permille: promise.map_or(0, |promise| promise.level),
            prospect: ahead.map(prospect).map(Prospect::from),
        }
    }
}

impl From<Page<View>> for Workloads {
    fn from(page: Page<View>) -> Self {
        let Page { entries, next } = page.map(Workload::from);
        Self { workloads: entries, next_page_token: next }
    }
}

impl Usage {
    pub(super) fn new(usage: tenant::Usage, from: Option<Time>, to: Time) -> Self {
        let line = |(workload, (sold, used)): (&model::WorkloadId, &(SoldBy, Used))| {
            let (held_gpu_milliseconds, held_kilowatt_milliseconds) = tenant::apart(*sold, used.held);
            UsageLine {
                workload: workload.as_str().to_owned(),
                held_gpu_milliseconds,
                held_kilowatt_milliseconds,
                progress_gpu_milliseconds: tenant::apart(*sold, used.progress).0,
                energy_watt_seconds: used.energy.get(),
                cost_micro_dollars: used.cost.get(),
            }
        };
        Self {
            from: from.map(show_time),
            to: show_time(to),
            complete_to: show_time(usage.complete_to),
            lines: usage.lines.iter().map(line).collect(),
            held_gpu_milliseconds: usage.gpus.held.get(),
            held_kilowatt_milliseconds: usage.shells.held.get(),
            energy_watt_seconds: (usage.gpus.energy + usage.shells.energy).get(),
            cost_micro_dollars: usage.cost().get(),
        }
    }
}

/// Units of a type as GPUs or as kilowatts.
pub(super) fn units(kind: &str, units: u32) -> (Option<u32>, Option<u32>) {
    SoldBy::of(kind).pick((Some(units), None), (None, Some(units)))
}

/// RFC 3339 in UTC. A time beyond the calendar is shown in milliseconds since 1970.
pub(super) fn show_time(time: Time) -> String {
    jiff::Timestamp::from_millisecond(time.millis()).map_or_else(|_| time.to_string(), |at| at.to_string())
}

fn parse_time(text: &str, field: &str) -> Result<Time, Problem> {
    let parsed: Result<jiff::Timestamp, jiff::Error> = text.parse();
    let expected =
        |_| Problem::invalid(format!("{field}: expected a time as 2026-02-12T00:00:00Z, found {text:?}"));
    parsed.map(|at| Time(at.as_millisecond())).map_err(expected)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn times_are_rfc_3339_both_ways() {
        let time = Time(1_770_854_400_500);
        assert_eq!(show_time(time), "2026-02-12T00:00:00.5Z");
        assert_eq!(parse_time("2026-02-12T00:00:00.5Z", "from"), Ok(time));
        assert_eq!(parse_time("2026-02-12T01:00:00.5+01:00", "from"), Ok(time));
        assert!(parse_time("yesterday", "from").unwrap_err().message.starts_with("from: expected"));
    }

    #[test]
    fn an_order_with_a_strange_field_or_offering_is_refused_by_name() {
        let check = |body: &str, expected: &str| {
            let read = serde_json::from_str::<Order>(body).map_err(|error| bad_body(&error));
            let problem = read.and_then(tenant::order::Order::try_from).unwrap_err();
            assert!(problem.message.contains(expected), "{body}: {}", problem.message);
        };
        check(r#"{"offering":"a","gpus":1,"price":3}"#, "unknown field `price`");
        check(r#"{"gpus":1}"#, "missing field `offering`");
        check(r#"{"offering":"a","kilowatts":1.5}"#, "invalid type: floating point `1.5`, expected u32");
        check(r#"{"offering":"a","kilowatts":-1}"#, "invalid value: integer `-1`, expected u32");
        check(r#"{"offering":"A B","gpus":1}"#, "offering: expected an id");
        check("", "body:");
    }
}
