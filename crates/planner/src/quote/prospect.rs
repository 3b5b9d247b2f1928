//! How those who run or wait would fare in the hours ahead: one draw of the fleet as the plan leaves it, without any request.
//!
//! Who waits is drawn too, since promises come before it; but what it misses is waiting and no interruption. Preemption of spot runs
//! by others is not drawn. Read next: `draw`; [`super::start`] for when those who wait would start.

use std::collections::BTreeMap;

use model::workload::{Tier, Workload};
use model::{MicroDollars, OfferingId, Span, WorkloadId};
use serde::{Deserialize, Serialize};

use super::draw::{self, Draws};
use super::seat::Scene;
use super::{Estimate, MAX_DRAWS, Odds, Request, Risks, Sample, credits, odds, whole_hours};
use crate::input::Input;

/// What lies ahead of one workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prospect {
    /// It runs, by the plan on the same input.
    pub runs: bool,
    /// Availability promised, in thousandths; 0 for none.
    pub level: u32,
    /// Hours for which it is owed within the time looked at.
    pub hours: u32,
    /// How it fares in them.
    pub odds: Odds,
    /// Probability that what is left of it is not done within the time looked at; `None` where it needs longer anyway or has no end.
    pub unfinished: Option<Estimate>,
    /// Credits expected in them: their share of what those hours cost.
    pub exposure: MicroDollars,
}

/// How all who run or wait would fare within `ahead`. `levels` as in [`Request::levels`]. Costs all the draws once.
pub fn prospects(
    input: &Input,
    levels: &BTreeMap<OfferingId, u32>,
    ahead: Span,
    risks: &Risks,
    Sample { seed, draws }: Sample,
) -> BTreeMap<WorkloadId, Prospect> {
    let everybody = Request {
        gpu: String::new(),
        gpus: 0,
        term: ahead,
        tier: Tier::Spot,
        deadline: None,
        level: 0,
        sites: None,
        levels: levels.clone(),
    };
    let scene = Scene::of(input, &everybody);
    let mut fleet = scene.fleet(risks);
    let hours = whole_hours(ahead);
    let promises = scene.promises(&mut fleet, &everybody, hours);
    let draws = Draws { seed, count: draws.clamp(1, MAX_DRAWS), hours };
    let tallies = draw::draw(&mut fleet, &promises, draws, credits);
    let fared = promises.iter().zip(&tallies).enumerate();
    fared
        .map(|(rank, (promise, tally))| {
            let id = scene.promised(rank);
            let odds = odds(tally, promise, draws.count);
            let run = &scene.input.workloads[&id];
            let prospect = Prospect {
                runs: promise.runs,
                level: promise.level,
                hours: promise.hours,
                odds,
                unfinished: Some(odds.late).filter(|_| ends_within(run, ahead)),
                exposure: exposure(run, promise.hours, odds.credits_permille),
            };
            (id, prospect)
        })
        .collect()
}

/// Whether what is left of it could be done within the time looked at.
fn ends_within(run: &Workload, ahead: Span) -> bool {
    let most = model::workload::GpuTime::of(run.spec.gpus, ahead);
    run.remaining().is_some_and(|left| left <= most)
}

fn exposure(run: &Workload, hours: u32, permille: u32) -> MicroDollars {
    let hour = run.spec.price.times(i64::from(run.spec.gpus));
    hour.times(i64::from(hours)).fraction(i64::from(permille), 1_000)
}
