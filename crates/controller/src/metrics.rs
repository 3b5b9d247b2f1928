//! What a controller tells whoever watches it: the page of metrics, and whether it is ready.
//!
//! Most of it is read from the store's cache and the leader's knowledge when somebody asks; the rest is counted where it happens
//! (`metrics/counts.rs`). Series go by site, use, link, phase and reason, never by module, workload or tenant: a fleet of ten
//! thousand modules has no longer page than one of ten. Names: docs/observability.md. Next: `metrics/sites.rs`.

mod counts;
mod requests;
mod sites;

use std::collections::BTreeMap;
use std::time::Duration;

use model::ledger::ShareEnd;
use model::plan::{Bound, ReasonCode};
use model::workload::Phase as WorkloadPhase;
use service::monitor::Monitored;
use service::page::{Metric, Page};
use store::key;
use tokio::time::timeout;

pub use counts::Counts;
pub(crate) use counts::{Greeting, Outcome, Phase, Shake};
pub(crate) use requests::{grpc, rest};

use crate::cache::Cache;
use crate::commit::Error;
use crate::context::Context;
use crate::ledger::Totals;
use crate::live::Live;

/// A store that answers in milliseconds is ready; one that needs longer than this would not let anybody lead.
const STORE_WITHIN: Duration = Duration::from_secs(1);
const MICRO: f64 = 1e-6;

const LEADING: Metric =
    Metric::gauge("flareshift_controller_leading", "1 while this controller leads, 0 while it stands by.");
const GENERATION: Metric =
    Metric::gauge("flareshift_controller_plan_generation", "Number of the plan in force.");
const WORTH: Metric = Metric::gauge(
    "flareshift_controller_plan_worth_dollars",
    "Expected money of the plan in force over its two hours.",
);
const GAP: Metric = Metric::gauge(
    "flareshift_controller_plan_bound_gap_ratio",
    "How far the last dispatch that was bounded may be from the best, as a share of the bound.",
);
const WORKLOADS: Metric =
    Metric::gauge("flareshift_controller_workloads", "Workloads by phase and reason, ended ones too.");
const GPUS: Metric =
    Metric::gauge("flareshift_controller_workload_gpus", "GPUs that workloads ask for, by phase.");
const KILOWATTS: Metric = Metric::gauge(
    "flareshift_controller_workload_kilowatts",
    "Kilowatts of powered shell that workloads ask for, by phase.",
);
const UNREADABLE: Metric =
    Metric::gauge("flareshift_controller_unreadable_records", "Records of the store that do not read.");
const FINDINGS: Metric = Metric::gauge(
    "flareshift_controller_findings",
    "What the plan in force or the last refused plan was found to lack.",
);
const DROPPED: Metric = Metric::counter(
    "flareshift_controller_events_dropped_total",
    "Events of sites, modules and workloads that were noted and never stored.",
);
const CERTIFICATES: Metric = Metric::gauge(
    "flareshift_controller_certificate_expiry_timestamp_seconds",
    "When the certificate of a listener expires.",
);
const SHARES: Metric = Metric::counter(
    "flareshift_controller_ledger_shares_total",
    "Shares in this controller's ledger, by how they ended.",
);
const GAPS: Metric = Metric::counter(
    "flareshift_controller_ledger_gaps_total",
    "Stretches that agents' ledgers tell as not recorded.",
);

/// A controller as it is watched.
#[derive(Clone)]
pub struct Monitor(pub Context);

impl Monitored for Monitor {
    fn write(&self, page: &mut Page) {
        let context = &self.0;
        context.counts.write(page);
        page.count(&DROPPED, &[], context.events.dropped());
        for (listener, tls) in &context.settings.tls {
            page.add(&CERTIFICATES, &[("listener", listener)], tls.expires() as f64);
        }
        {
            let cache = context.cache.borrow();
            let live = context.live.borrow();
            plan(page, &cache, &live);
            workloads(page, &cache, &live);
            sites::write(page, &cache, &live, context.clock.now());
        }
        context.sink.totals(|totals| ledger(page, totals));
    }

    async fn ready(&self) -> Result<(), String> {
        let context = &self.0;
        let read = timeout(STORE_WITHIN, context.store.get(&key::epoch())).await;
        let answered = match read {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => {
                let why = error.to_string();
                context.counts.store_error(&error.into());
                Err(why)
            }
            Err(_) => {
                context.counts.store_error(&Error::Timeout);
                Err(format!("the store does not answer within {} s", STORE_WITHIN.as_secs()))
            }
        };
        let leads = context.office.borrow().is_some();
        let knows = leads || context.cache.borrow().leader.is_some();
        judge(answered, knows)
    }
}

/// Ready is who reads its store and knows who leads: then it leads, or names who does.
fn judge(answered: Result<(), String>, knows_who_leads: bool) -> Result<(), String> {
    answered?;
    match knows_who_leads {
        true => Ok(()),
        false => Err("nobody leads, as far as the store tells".into()),
    }
}

fn plan(page: &mut Page, cache: &Cache, live: &Live) {
    page.add(&LEADING, &[], f64::from(u8::from(live.term.is_some())));
    let head = cache.target.and_then(|(generation, _)| cache.plans.get(&generation));
    let generation = live.in_force.as_ref().map(|in_force| in_force.plan.generation);
    let generation = generation.or(cache.target.map(|(generation, _)| generation));
    page.add_known(&GENERATION, &[], generation.map(|generation| generation as f64));
    page.add_known(&WORTH, &[], head.map(|head| head.worth.as_f64() * MICRO));
    page.add_known(&GAP, &[], live.last_bound().or(head.and_then(|head| head.bound)).map(gap));
    page.add(&UNREADABLE, &[], cache.broken.len() as f64);
    let planned = live.round().map_or(0, |round| round.report.findings.len());
    page.add(&FINDINGS, &[], (planned + live.refusal.len()) as f64);
}

/// What is missing to the bound, of the bound; nothing where nothing can be earned.
fn gap(bound: Bound) -> f64 {
    let missing = (bound.most - bound.reached).as_f64();
    if bound.most.as_f64() > 0.0 { (missing / bound.most.as_f64()).max(0.0) } else { 0.0 }
}

fn workloads(page: &mut Page, cache: &Cache, live: &Live) {
    let mut by_reason: BTreeMap<(WorkloadPhase, ReasonCode), u64> = BTreeMap::new();
    let none = || PHASES.into_iter().map(|phase| (phase, 0_u64)).collect::<BTreeMap<WorkloadPhase, u64>>();
    let (mut gpus, mut kilowatts) = (none(), none());
    for stored in cache.workloads.values() {
        let current = live.workloads.get(&stored.value.id).unwrap_or(&stored.value);
        *by_reason.entry((current.status.phase, current.status.reason)).or_default() += 1;
        let units = current.sold_by().pick(&mut gpus, &mut kilowatts);
        *units.entry(current.status.phase).or_default() += u64::from(current.spec.gpus);
    }
    for ((phase, reason), count) in by_reason {
        page.add(&WORKLOADS, &[("phase", &phase.to_string()), ("reason", reason.as_str())], count as f64);
    }
    for (metric, units) in [(&GPUS, gpus), (&KILOWATTS, kilowatts)] {
        for (phase, units) in units.into_iter().filter(|(phase, _)| !phase.is_final()) {
            page.add(metric, &[("phase", &phase.to_string())], units as f64);
        }
    }
}

/// Those in which something may still happen.
const PHASES: [WorkloadPhase; 5] = [
    WorkloadPhase::Pending,
    WorkloadPhase::Starting,
    WorkloadPhase::Running,
    WorkloadPhase::Stopping,
    WorkloadPhase::Unreachable,
];

fn ledger(page: &mut Page, totals: &Totals) {
    let words = ["accepted", "counted", "keep_alive", "refused", "rejected", "unknown"];
    let mut ends: BTreeMap<&str, u64> = words.into_iter().map(|word| (word, 0)).collect();
    for (end, (count, _)) in &totals.shares {
        *ends.entry(share(end)).or_default() += count;
    }
    for (end, count) in ends {
        page.count(&SHARES, &[("result", end)], count);
    }
    page.count(&GAPS, &[], totals.gaps);
}

fn share(end: &ShareEnd) -> &'static str {
    match end {
        ShareEnd::Accepted => "accepted",
        ShareEnd::Counted => "counted",
        ShareEnd::KeepAlive => "keep_alive",
        ShareEnd::Refused(_) => "refused",
        ShareEnd::Rejected(_) => "rejected",
        ShareEnd::Unknown => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use model::{MicroDollars, Span, Time};

    use super::*;
    use crate::testing;
    use crate::tracker::Freshness;

    #[test]
    fn ready_needs_a_store_that_answers_and_somebody_who_leads() {
        let check = |answered: Result<(), &str>, knows: bool, expected: Result<(), &str>| {
            let judged = judge(answered.map_err(str::to_owned), knows);
            assert_eq!(judged, expected.map_err(str::to_owned));
        };
        check(Ok(()), true, Ok(()));
        check(Ok(()), false, Err("nobody leads, as far as the store tells"));
        check(Err("etcd is away"), true, Err("etcd is away"));
        check(Err("etcd is away"), false, Err("etcd is away"));
    }

    #[test]
    fn the_gap_is_a_share_of_the_bound() {
        let check = |most: i64, reached: i64, expected: f64| {
            let dollars = MicroDollars::dollars;
            let bound = Bound { most: dollars(most), reached: dollars(reached), made: Time(0) };
            assert!((gap(bound) - expected).abs() < 1e-9, "{most} {reached}: {}", gap(bound));
        };
        check(100, 97, 0.03);
        check(100, 100, 0.0);
        check(0, 0, 0.0);
        check(-5, -7, 0.0);
    }

    #[test]
    fn a_standby_shows_that_it_does_not_lead_and_what_the_store_holds() {
        let cache = testing::cache(&testing::fleet());
        let live = Live::new(Freshness::default(), Span::secs(120), Time(0));
        let mut page = Page::default();
        plan(&mut page, &cache, &live);
        workloads(&mut page, &cache, &live);
        ledger(&mut page, &Totals::default());
        let text = page.text();
        for series in [
            "flareshift_controller_leading 0",
            "flareshift_controller_workload_gpus{phase=\"pending\"} 0",
            "flareshift_controller_ledger_shares_total{result=\"accepted\"} 0",
        ] {
            assert!(text.contains(&format!("\n{series}\n")), "{series} in {text}");
        }
        assert!(!text.contains("plan_generation"), "no plan, no number: {text}");
    }
}
