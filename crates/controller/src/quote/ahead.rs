//! What lies ahead of the workloads there are: when those who wait would start, how those who run would fare, and what change would start
//! one sooner. Computed once for a plan, when somebody asks; kept until the next plan.
//!
//! It colours answers and decides nothing: who cannot have it in time is answered without. Read next: `planner::quote::prospects`.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use model::tenant::Offering;
use model::workload::{Phase, Workload};
use model::{OfferingId, Span, WorkloadId};
use planner::outlook::Four;
use planner::quote::{Estimate, Prospect, Risks, prospects, sooner, start};
use planner::{Assumptions, Outlook, outlook};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::{Desk, levels, sample};
use crate::context::Context;
use crate::live::Round;

/// How far it looks: as far as the outlook.
pub const AHEAD: Span = Span::hours(72);
/// How long an answer waits for it: an outlook takes some 30 ms a site. Larger fleets are shown the one of the plan before.
const PATIENCE: Duration = Duration::from_secs(2);

/// What lies ahead, by the input of one plan.
#[derive(Clone, Debug)]
pub struct Ahead {
    /// The plan.
    pub generation: u64,
    /// Hour by hour.
    pub outlook: Outlook,
    /// By workload.
    pub prospects: BTreeMap<WorkloadId, Prospect>,
}

/// What lies ahead of one workload, as its tenant may see it.
#[derive(Clone, Debug, PartialEq)]
pub struct View {
    /// The plan.
    pub generation: u64,
    /// When it would start, if it waits; the inner `None` is "not within the outlook".
    pub start: Option<Four<Option<u32>>>,
    /// Probability that it is interrupted; `None` while it waits.
    pub interrupted: Option<Estimate>,
    /// Share of the time that is served; `None` while it waits.
    pub availability: Option<Estimate>,
    /// Probability that what is left is not done.
    pub unfinished: Option<Estimate>,
    /// Shortest warning before a preemption.
    pub notice: Span,
    /// What would start it sooner.
    pub sooner: Vec<String>,
}

impl Desk {
    /// What lies ahead by the latest plan, or by an earlier one while that is computed; `None` without a plan.
    pub async fn ahead(&self, context: &Context) -> Option<Arc<Ahead>> {
        let round = context.live.borrow().round().cloned()?;
        if let Some(known) = self.known(round.plan.generation) {
            return Some(known);
        }
        let looks = async {
            let look = self.looks.clone().acquire_owned().await.ok()?;
            if let Some(known) = self.known(round.plan.generation) {
                return Some(known);
            }
            let (desk, levels) = (self.clone(), levels(context));
            let computed = spawn_blocking(move || {
                let ahead = Arc::new(compute(&round, &levels));
                *desk.ahead.lock().unwrap_or_else(PoisonError::into_inner) = Some(ahead.clone());
                drop(look);
                ahead
            });
            computed.await.ok()
        };
        let fresh = timeout(PATIENCE, looks).await.ok().flatten();
        fresh.or_else(|| self.ahead.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }

    fn known(&self, generation: u64) -> Option<Arc<Ahead>> {
        let known = self.ahead.lock().unwrap_or_else(PoisonError::into_inner);
        known.as_ref().filter(|ahead| ahead.generation >= generation).cloned()
    }
}

fn compute(round: &Round, levels: &BTreeMap<OfferingId, u32>) -> Ahead {
    let input = &round.input;
    let sample = sample(input, AHEAD, &round.plan.input);
    Ahead {
        generation: round.plan.generation,
        outlook: outlook(input, &Assumptions::default(), None),
        prospects: prospects(input, levels, AHEAD, &Risks::default(), sample),
    }
}

/// What a tenant is shown of what lies ahead of its workload; `None` for one that is over, or that came after the plan.
pub fn view(context: &Context, ahead: &Ahead, workload: &Workload) -> Option<View> {
    if workload.cancel || workload.status.phase.is_final() {
        return None;
    }
    let spec = &workload.spec;
    let prospect = ahead.prospects.get(&workload.id)?;
    let waits = workload.status.phase == Phase::Pending && !prospect.runs;
    let offering = context.cache.borrow().offerings.get(&spec.offering).map(|stored| stored.value.clone());
    let may = |site: &model::SiteId| workload.may_run_on(site);
    let start = start(&ahead.outlook, &spec.gpu, spec.tier, spec.gpus, may);
    let fares = |estimate: Estimate| Some(estimate).filter(|_| !waits);
    Some(View {
        generation: ahead.generation,
        start: start.filter(|_| waits),
        interrupted: fares(prospect.odds.interrupted),
        availability: fares(prospect.odds.availability),
        unfinished: prospect.unfinished,
        notice: offering.map_or(Span::ZERO, |offering| offering.notice),
        sooner: if waits { advice(context, ahead, workload) } else { Vec::new() },
    })
}

/// In words, and only what is sold.
fn advice(context: &Context, ahead: &Ahead, workload: &Workload) -> Vec<String> {
    let cache = context.cache.borrow();
    let (spec, sold) = (&workload.spec, workload.sold_by());
    let offered = |tier| {
        let sold = cache.offerings.values().map(|stored| &*stored.value);
        sold.filter(move |offering: &&Offering| offering.tier == tier && offering.gpu == spec.gpu)
            .min_by_key(|offering| offering.price)
    };
    let say = |change: planner::quote::Sooner| {
        let within = match change.hour {
            0 => "now".to_owned(),
            hour => format!("in {hour} h"),
        };
        if change.anywhere {
            return Some(format!("on any site it would start {within}"));
        }
        if change.tier == spec.tier {
            return Some(format!(
                "{} instead of {} would start {within}",
                sold.count(change.gpus),
                spec.gpus
            ));
        }
        let offering = offered(change.tier)?;
        let cents = offering.price.get() / 10_000;
        let price = format!("${}.{:02}", cents / 100, cents % 100);
        Some(format!("under {} ({price} a {}) it would start {within}", offering.id, sold.hour()))
    };
    sooner(&ahead.outlook, spec).into_iter().filter_map(say).collect()
}
