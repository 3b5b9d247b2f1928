//! What would be offered instead of what was refused: the largest gang of each tier that is sold, and a lower level of availability.
//!
//! Sizes are halved, as servers are built and as tenants shrink their gangs. Assumes that what fits a gang fits a smaller one, so
//! that the largest is found by bisection: four more quotes at most. Read next: [`super::quote`].

use model::workload::Tier;
use model::{MicroDollars, SiteId};
use serde::{Deserialize, Serialize};

use super::seat::Scene;
use super::{Estimate, Ground, Quote, Refusal, Request, Risks, Sample};
use crate::input::Input;

/// A lower level is offered only from here on, in thousandths: what runs less than half of the time is no promise.
const LEAST_LEVEL: u32 = 500;

/// A tier of the same GPU type that is sold, and the availability that it promises in thousandths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sold {
    /// What is promised.
    pub tier: Tier,
    /// Availability promised, in thousandths; 0 for none.
    pub level: u32,
}

/// Something that could be had.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// What is promised.
    pub tier: Tier,
    /// GPUs that run together.
    pub gpus: u32,
    /// Availability promised, in thousandths.
    pub level: u32,
    /// Where it would run.
    pub site: SiteId,
    /// The least price of a GPU-hour.
    pub gpu_hour: MicroDollars,
    /// Probability that it is not served for an hour or more within the term.
    pub interrupted: Estimate,
}

/// What would be offered instead of `request`, which got `answer`: strongest tier first. Nothing when it was not refused.
pub fn instead(
    input: &Input,
    request: &Request,
    answer: &Quote,
    sold: &[Sold],
    risks: &Risks,
    sample: Sample,
) -> Vec<Offer> {
    let Some(refused) = &answer.refused else { return Vec::new() };
    if *refused == Refusal::NoSuchGpu {
        return Vec::new();
    }
    let mut offers = Vec::new();
    if request.gpus > 1 && answer.nothing_firm.is_none() {
        offers.extend(search(input, &halved(request, 1), risks, sample));
    }
    offers.extend(lower(request, answer));
    let weaker = sold.iter().filter(|sold| sold.tier > request.tier);
    for &Sold { tier, level } in weaker {
        let other = Request { tier, level, ..request.clone() };
        offers.extend(search(input, &other, risks, sample));
    }
    offers.sort_by_key(|offer| (offer.tier, std::cmp::Reverse((offer.level, offer.gpus))));
    offers
}

/// The largest gang of this request, halved as often as needed, that is offered.
fn search(input: &Input, request: &Request, risks: &Risks, sample: Sample) -> Option<Offer> {
    let scene = Scene::of(input, request);
    scene.kind(&request.gpu)?;
    let mut ground = Ground::of(input, &scene, request, risks, sample);
    let mut ask = |halvings: u32| {
        let smaller = halved(request, halvings);
        let answer = ground.ask(&smaller);
        offer(&smaller, &answer).filter(|_| answer.refused.is_none())
    };
    if let Some(whole) = ask(0) {
        return Some(whole);
    }
    // Refused at `low` halvings; at `high` a single GPU is left.
    let (mut low, mut high) = (0, request.gpus.max(1).ilog2());
    let mut best = if high > 0 { ask(high) } else { None };
    while best.is_some() && low + 1 < high {
        let middle = low + (high - low) / 2;
        match ask(middle) {
            Some(larger) => (best, high) = (Some(larger), middle),
            None => low = middle,
        }
    }
    best
}

/// The same gang at the level that would be kept, two standard errors below the estimate. Its price has fewer credits in it, so the
/// price asked for the higher level is enough.
fn lower(request: &Request, answer: &Quote) -> Option<Offer> {
    let Some(Refusal::Level { .. }) = answer.refused else { return None };
    let kept = answer.odds?.availability;
    let level = u32::try_from(kept.ppm.saturating_sub(2 * kept.error_ppm) / 1_000).ok()?;
    let request = Request { level, ..request.clone() };
    offer(&request, answer).filter(|_| level >= LEAST_LEVEL)
}

fn offer(request: &Request, answer: &Quote) -> Option<Offer> {
    Some(Offer {
        tier: request.tier,
        gpus: request.gpus,
        level: request.level,
        site: answer.site.clone()?,
        gpu_hour: answer.price?.gpu_hour,
        interrupted: answer.odds?.interrupted,
    })
}

fn halved(request: &Request, times: u32) -> Request {
    Request { gpus: (request.gpus >> times.min(31)).max(1), ..request.clone() }
}
