//! Quotes: what a request costs, how likely it is interrupted, and whether it can be promised beside what is promised already.
//!
//! Everything stands on draws of the fleet's future, hour by hour, from a seed: the same input, seed and number of draws give the
//! same answer. Gas, sets and what they share fail by [`Risks`]; who runs and who waits is the plan's. Nothing is decided here.
//!
//! Read next: [`outage`] for what fails, `carry` for what an island carries then, `draw` for who is served, `price`; [`instead`] for what
//! could be had where a request is refused, [`prospects`] for those who run, `words` for people.

mod carry;
mod draw;
mod instead;
pub mod outage;
mod price;
mod prospect;
mod seat;
mod start;
mod words;

use std::collections::BTreeMap;

use model::affinity::Sites;
use model::workload::{Tier, Workload};
use model::{OfferingId, SiteId, Span, WorkloadId};
use serde::{Deserialize, Serialize};

use crate::input::Input;
use crate::outlook::Short;
use draw::{Draws, Fleet, Promise, Tally};
use seat::{Scene, Seat};

pub use draw::MAX_HOURS;
pub use instead::{Offer, Sold, instead};
pub use outage::Outage;
pub use price::Price;
pub use prospect::{Prospect, prospects};
pub use start::{Sooner, sooner, start};
pub use words::percent;

/// Most draws: at ten thousand the standard error of a probability is half a per cent at most.
pub const MAX_DRAWS: u32 = 10_000;
/// Islands that are tried as a home, those with most power to spare; each costs all the draws anew.
const MAX_HOMES: usize = 8;
/// Probabilities and shares are counted in millionths.
const MILLION: u64 = 1_000_000;

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The GPU's type.
    pub gpu: String,
    /// GPUs that run together, in one pool.
    pub gpus: u32,
    /// How long; counted in whole hours, rounded up, 1 to [`MAX_HOURS`].
    pub term: Span,
    /// What is promised.
    pub tier: Tier,
    /// Time from now in which the term must be served; `None` = it is the term itself.
    pub deadline: Option<Span>,
    /// Availability promised, in thousandths; 0 for none.
    pub level: u32,
    /// Sites it may run on; `None` = any.
    pub sites: Option<Sites>,
    /// Availability that each offering promises, in thousandths; what is missing promises none. Counts for those in whose record no
    /// promise is written.
    pub levels: BTreeMap<OfferingId, u32>,
}

impl Request {
    /// Availability that a workload was promised, in thousandths.
    fn level_of(&self, run: &Workload) -> u32 {
        run.level(|offering| self.levels.get(offering).copied().unwrap_or(0))
    }
}

/// How the future is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Where the random numbers begin.
    pub seed: u64,
    /// How many futures, 1 to [`MAX_DRAWS`].
    pub draws: u32,
}

/// What may fail, and what we ask for. Engineering estimates where no source is named: parameters with a range, never truths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Risks {
    /// A well by itself. Public daily series: dry on 4 to 21 % of days; with what is common below, 8 %. Spells of 24 to 96 h.
    pub well: Outage,
    /// A cause that takes all wells of the fleet, such as a freeze: 0 to 3 % of time.
    pub common: Outage,
    /// A site's compressor trips one to four times a month, for up to six hours; longer than any gas buffer.
    pub compressor: Outage,
    /// A set fails. With service it is available for 92 to 97 % of time. Repairs of 4 to 48 h.
    pub set: Outage,
    /// A set's service, each 750 to 1,500 running hours, for a shift; at a time that is not known ahead.
    pub service: Outage,
    /// Of the flow now, what is not counted on, in thousandths: 6 to 10 % of days are partial, and one day in twenty brings a change
    /// of 11 to 15 %.
    pub kept_back: u32,
    /// Margin on what a GPU-hour costs, in thousandths.
    pub margin: u32,
}

impl Default for Risks {
    fn default() -> Self {
        Self {
            well: Outage { permille: 70, hours: 48 },
            common: Outage { permille: 10, hours: 24 },
            compressor: Outage { permille: 6, hours: 2 },
            set: Outage { permille: 42, hours: 12 },
            service: Outage { permille: 8, hours: 8 },
            kept_back: 100,
            margin: 200,
        }
    }
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quote {
    /// Where it would run; `None` when it can start nowhere.
    pub site: Option<SiteId>,
    /// What it costs there.
    pub price: Option<Price>,
    /// How it would fare there.
    pub odds: Option<Odds>,
    /// Why it is not offered; `None` when it is.
    pub refused: Option<Refusal>,
    /// Where a firm request is refused: why even a single GPU would be. Then firm capacity is zero.
    pub nothing_firm: Option<Refusal>,
    /// What becomes of the promises already given that have a level, by rank.
    pub promises: Vec<Kept>,
}

/// A promise already given, within the time that is looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// Whose it is.
    pub workload: WorkloadId,
    /// Availability promised, in millionths.
    pub level_ppm: u64,
    /// What is kept without the request.
    pub before: Estimate,
    /// What is kept beside it, on the same luck; the same where it can start nowhere.
    pub after: Estimate,
}

/// How a request would fare.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Odds {
    /// Probability that it is not served for an hour or more within the term.
    pub interrupted: Estimate,
    /// Probability that it moves to another island at least once.
    pub moved: Estimate,
    /// Share of the term in which it is served.
    pub availability: Estimate,
    /// Probability that the term is not served by the deadline.
    pub late: Estimate,
    /// Expected credits, in thousandths of what the term costs.
    pub credits_permille: u32,
}

/// A figure in millionths, and the standard error of its estimate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Estimate {
    /// Millionths.
    pub ppm: u64,
    /// Standard error, in millionths.
    pub error_ppm: u64,
}

/// Why a request is not offered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// No module has GPUs of the type.
    NoSuchGpu,
    /// It could not start now, on any island; what the island nearest to it is short of.
    Now(Short),
    /// Over the term it would be served for less than promised.
    Level {
        /// What would be kept, in millionths.
        availability_ppm: u64,
        /// What is promised, in millionths.
        level_ppm: u64,
        /// What mostly fails.
        cause: Cause,
        /// Wells of the island it would run on.
        wells: u32,
        /// Its sets.
        sets: u32,
    },
    /// It would take the spare power or GPUs that a promise already given needs.
    Breaks(WorkloadId),
}

/// What mostly keeps a request from being served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// Gas.
    Gas,
    /// Generator sets.
    Sets,
    /// Both at once, or those before it in rank.
    Both,
}

/// Quotes a request on the fleet as it is. Costs up to ten times all the draws: off the critical path.
pub fn quote(input: &Input, request: &Request, risks: &Risks, sample: Sample) -> Quote {
    let scene = Scene::of(input, request);
    let mut answer = asked(input, &scene, request, risks, sample);
    if request.tier == Tier::Firm && answer.refused.is_some() {
        answer.nothing_firm = if request.gpus <= 1 {
            answer.refused.clone()
        } else {
            let one = Request { gpus: 1, ..request.clone() };
            asked(input, &scene, &one, risks, sample).refused
        };
    }
    answer
}

/// One home tried.
struct Tried {
    seat: Seat,
    request: Tally,
    broken: Option<usize>,
    /// How the promises already given fare beside it.
    others: Vec<Tally>,
}

/// A fleet and those it is promised to, drawn once without any request. Requests of one tier, term and deadline share it.
struct Ground<'a> {
    input: &'a Input,
    scene: &'a Scene,
    risks: Risks,
    fleet: Fleet<'a>,
    promises: Vec<Promise>,
    before: Vec<Tally>,
    draws: Draws,
}

fn asked(input: &Input, scene: &Scene, request: &Request, risks: &Risks, sample: Sample) -> Quote {
    if scene.kind(&request.gpu).is_none() {
        return refuse(Refusal::NoSuchGpu);
    }
    Ground::of(input, scene, request, risks, sample).ask(request)
}

fn refuse(why: Refusal) -> Quote {
    let promises = Vec::new();
    Quote { site: None, price: None, odds: None, refused: Some(why), nothing_firm: None, promises }
}

impl<'a> Ground<'a> {
    fn of(
        input: &'a Input,
        scene: &'a Scene,
        request: &Request,
        risks: &Risks,
        Sample { seed, draws }: Sample,
    ) -> Self {
        let term = whole_hours(request.term);
        let hours = request.deadline.map_or(term, |deadline| whole_hours(deadline).max(term));
        let draws = Draws { seed, count: draws.clamp(1, MAX_DRAWS), hours };
        let mut fleet = scene.fleet(risks);
        let promises = scene.promises(&mut fleet, request, hours);
        let before = draw::draw(&mut fleet, &promises, draws, credits);
        Self { input, scene, risks: *risks, fleet, promises, before, draws }
    }

    fn ask(&mut self, request: &Request) -> Quote {
        let Some(kind) = self.scene.kind(&request.gpu) else { return refuse(Refusal::NoSuchGpu) };
        let wanted = Promise {
            kind,
            gpus: request.gpus,
            firm: request.tier == Tier::Firm,
            home: None,
            runs: true,
            hours: whole_hours(request.term),
            level: request.level.min(1_000),
            sites: self.scene.listed(request.sites.as_ref()),
        };
        let Self { fleet, promises, before, draws, scene, .. } = self;
        let seats = seat::seat(fleet, promises, &wanted);
        let short = seats.iter().filter_map(|seat| seat.err()).max();
        let mut seats: Vec<Seat> = seats.into_iter().filter_map(Result::ok).collect();
        seats.sort_by_key(|seat| (std::cmp::Reverse(seat.spare), seat.site));
        seats.truncate(MAX_HOMES);
        let tried = seats.into_iter().map(|seat| attempt(fleet, promises, &wanted, seat, before, *draws));
        let best =
            tried.min_by_key(|tried| (tried.broken.is_some(), tried.request.interrupted, tried.request.lost));
        let Some(best) = best else {
            let promises = scene.kept(promises, before, before, draws.count);
            return Quote { promises, ..refuse(Refusal::Now(short.unwrap_or(Short::Gpus))) };
        };
        self.offer(request, &wanted, best)
    }

    fn offer(&self, request: &Request, wanted: &Promise, best: Tried) -> Quote {
        let Self { input, scene, risks, fleet, promises, before, draws } = self;
        let odds = odds(&best.request, wanted, draws.count);
        let site = scene.input.sites.keys().nth(best.seat.site).expect("seats are on islands of the input");
        let credits = i64::from(odds.credits_permille);
        let refused = match best.broken {
            Some(nth) => Some(Refusal::Breaks(scene.promised(nth))),
            None => below(&best.request, wanted, &odds, fleet, best.seat.site),
        };
        Quote {
            site: Some(site.clone()),
            price: Some(price::price(input, site, request, best.seat.watts, credits, risks)),
            odds: Some(odds),
            refused,
            nothing_firm: None,
            promises: scene.kept(promises, before, &best.others, draws.count),
        }
    }
}

impl Scene {
    fn kept(&self, promises: &[Promise], before: &[Tally], after: &[Tally], draws: u32) -> Vec<Kept> {
        let fared = promises.iter().zip(before).zip(after).enumerate();
        let kept = |(rank, ((promise, before), after)): (usize, ((&Promise, &Tally), &Tally))| Kept {
            workload: self.promised(rank),
            level_ppm: u64::from(promise.level) * 1_000,
            before: available(before, promise, draws),
            after: available(after, promise, draws),
        };
        fared.filter(|(_, ((promise, _), _))| promise.level > 0).map(kept).collect()
    }
}

/// Draws the future with the request at one home, and looks for a promise that is kept less than it was promised, and than before.
fn attempt(
    fleet: &mut Fleet<'_>,
    promises: &[Promise],
    wanted: &Promise,
    seat: Seat,
    before: &[Tally],
    draws: Draws,
) -> Tried {
    let bays = fleet.isles[seat.site].bays.clone();
    let mut all = promises.to_vec();
    all.push(Promise { home: Some(seat.take(fleet)), ..wanted.clone() });
    let mut after = draw::draw(fleet, &all, draws, credits);
    fleet.isles[seat.site].bays = bays;
    let request = after.pop().expect("the request was pushed");
    let broken = promises.iter().zip(before).zip(&after).position(|((promise, before), after)| {
        let kept = available(after, promise, draws.count).ppm;
        promise.level > 0 && after.lost > before.lost && kept < u64::from(promise.level) * 1_000
    });
    Tried { seat, request, broken, others: after }
}

/// Whether less would be kept than is promised; two standard errors count against it.
fn below(tally: &Tally, wanted: &Promise, odds: &Odds, fleet: &Fleet<'_>, site: usize) -> Option<Refusal> {
    let level_ppm = u64::from(wanted.level) * 1_000;
    let Estimate { ppm, error_ppm } = odds.availability;
    if ppm.saturating_sub(2 * error_ppm) >= level_ppm {
        return None;
    }
    let cause = match tally.by_gas.cmp(&tally.by_sets) {
        _ if tally.by_gas + tally.by_sets == 0 => Cause::Both,
        std::cmp::Ordering::Less => Cause::Sets,
        _ => Cause::Gas,
    };
    let count = |parts: usize| u32::try_from(parts).unwrap_or(u32::MAX);
    let isle = &fleet.isles[site];
    let (wells, sets) = (count(isle.wells.len()), count(isle.sets.len()));
    Some(Refusal::Level { availability_ppm: ppm, level_ppm, cause, wells, sets })
}

fn odds(tally: &Tally, promise: &Promise, draws: u32) -> Odds {
    let credits = tally.credits / u64::from(draws.max(1));
    Odds {
        interrupted: share(tally.interrupted, draws),
        moved: share(tally.moved, draws),
        availability: available(tally, promise, draws),
        late: share(tally.late, draws),
        credits_permille: u32::try_from(credits).unwrap_or(1_000),
    }
}

/// A share of draws. The error is that of one more in each direction, so that it is not zero where none or all were counted.
fn share(count: u32, draws: u32) -> Estimate {
    let (count, draws) = (u64::from(count), u64::from(draws.max(1)));
    let likely = (count + 1) * MILLION / (draws + 2);
    Estimate { ppm: count * MILLION / draws, error_ppm: (likely * (MILLION - likely) / draws).isqrt() }
}

/// The share of the hours owed that was served, rounded down.
fn available(tally: &Tally, promise: &Promise, draws: u32) -> Estimate {
    let (draws, hours) = (u128::from(draws.max(1)), u128::from(promise.hours.max(1)));
    let (lost, squared, million) =
        (u128::from(tally.lost), u128::from(tally.lost_squared), u128::from(MILLION));
    let missed = (lost * million).div_ceil(draws * hours).min(million);
    // n·Σx² − (Σx)² = n² × variance of the hours lost.
    let spread = (draws * squared).saturating_sub(lost * lost);
    let error = (spread * million * million / (draws * draws * draws)).isqrt() / hours;
    let narrow = |value: u128| u64::try_from(value).unwrap_or(u64::MAX);
    Estimate { ppm: narrow(million - missed), error_ppm: narrow(error) }
}

/// What a draw costs in credits, in thousandths of the price: 10 % below the level, 30 % a point or more below it, all at five.
fn credits(promise: &Promise, lost: u32) -> u64 {
    let missed = u64::from(lost) * 1_000 / u64::from(promise.hours.max(1));
    let allowed = 1_000 - u64::from(promise.level.min(1_000));
    match missed.checked_sub(allowed) {
        _ if promise.level == 0 || lost == 0 => 0,
        None => 0,
        Some(0..10) => 100,
        Some(10..50) => 300,
        Some(_) => 1_000,
    }
}

fn whole_hours(span: Span) -> u32 {
    let hours = (span.get().max(1) + 3_599_999) / 3_600_000;
    u32::try_from(hours).unwrap_or(MAX_HOURS).min(MAX_HOURS)
}
