//! The desk where quotes are made: for operators, for tenants, and for every order that promises an availability.
//!
//! A quote draws the fleet's future some thousand times, so it is computed on a thread that decides nothing, one at a time, with a
//! limit on who waits and for how long. It stands on the input of the latest plan with what was ordered and ended since; the seed
//! follows from that input's digest, so the same revision and question have the same answer, whoever asks. Nothing is reserved.
//!
//! Who admits an order keeps its [`Turn`] until the order is stored: two orders never promise the same watt. Across controllers the
//! fence sees to it. Read next: `quote/ask.rs` for what may be asked, `quote/admit.rs`, `quote/ahead.rs`; `planner::quote`.

pub mod admit;
pub mod ahead;
pub mod ask;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use api::Problem;
use api::problem::Kind;
use model::workload::{Tier, Workload};
use model::{OfferingId, Span, Time, WorkloadId};
use planner::outlook::Four;
use planner::quote::{MAX_HOURS, Offer, Request, Risks, Sample, Sold, instead};
use planner::{Assumptions, Input, Quote, outlook, quote};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::context::Context;
use crate::live::Round;
use crate::observe::digest;
use ahead::Ahead;

/// How long an answer is good for, unless somebody orders: ten plans, in which gas changes by less than a quote keeps back.
pub const VALIDITY: Span = Span::minutes(5);
/// Questions that wait for their turn, the one that is answered among them. At a second each the last one waits 16 s, longer than
/// [`PATIENCE`]: more would only be told so later.
const PLACES: usize = 16;
/// How long a question waits for its turn, and as long for its answer: a call of the command line is given up after 15 s.
const PATIENCE: Duration = Duration::from_secs(7);
/// Answers that are remembered: a page of questions, some kilobytes each.
const REMEMBERED: usize = 32;
/// Steps of an island or a promise through an hour that one pass over all futures may take. A step takes some 50 ns and an answer some
/// twenty passes, so half a second in all; where the fewest futures take more, an answer takes longer (docs/benchmarks.md).
const STEPS: u64 = 500_000;
/// Steps of a pass up to which it is looked for what could be had instead, which takes twice as long as the quote: a month on ten sites.
const STEPS_INSTEAD: u64 = 10 * STEPS;
/// Fewest and most futures. With 100 the standard error of a probability is 5 % at most, with 2,000 it is 1.1 %.
const FUTURES: (u64, u64) = (100, 2_000);
/// Sites up to which a gang that has no place yet is told when it would start anywhere: the outlook takes some 30 ms for each.
const MAX_SITES_AHEAD: usize = 50;

/// Makes quotes. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Desk {
    places: Arc<Semaphore>,
    turn: Arc<Semaphore>,
    remembered: Arc<Mutex<Remembered>>,
    ahead: Arc<Mutex<Option<Arc<Ahead>>>>,
    /// One look ahead is computed at a time, beside quotes.
    looks: Arc<Semaphore>,
}

/// The right to be the one who is answered; kept until an admission is stored.
#[derive(Clone, Debug)]
pub struct Turn {
    _permits: Arc<(OwnedSemaphorePermit, OwnedSemaphorePermit)>,
}

/// An answer, and what it stands on.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// What was asked.
    pub request: Request,
    /// What the model says.
    pub quote: Quote,
    /// What would be offered instead, when it is refused.
    pub instead: Vec<Offer>,
    /// When it would start; the inner `None` is "not within three days", the outer one "not looked at".
    pub start: Option<Four<Option<u32>>>,
    /// The plan whose input it stands on.
    pub generation: u64,
    /// SHA-256 of that input with what was ordered since, in hex.
    pub revision: String,
    /// Futures that were drawn.
    pub draws: u32,
    /// When the input was taken.
    pub made: Time,
}

/// The latest answers, oldest first.
type Remembered = VecDeque<(Key, Arc<Answer>)>;

/// What an answer depends on.
#[derive(Clone, Debug, PartialEq)]
struct Key {
    generation: u64,
    changes: Changes,
    request: Request,
    sold: Vec<Sold>,
}

/// What the round's input does not know yet.
#[derive(Clone, Debug, Default, PartialEq)]
struct Changes {
    ordered: Vec<Workload>,
    ended: Vec<WorkloadId>,
}

impl Default for Desk {
    fn default() -> Self {
        let one = || Arc::new(Semaphore::new(1));
        Self {
            places: Arc::new(Semaphore::new(PLACES)),
            turn: one(),
            remembered: Arc::default(),
            ahead: Arc::default(),
            looks: one(),
        }
    }
}

impl Desk {
    /// Waits for a turn.
    pub async fn turn(&self) -> Result<Turn, Problem> {
        let busy = |what: &str| {
            Problem::unavailable(format!("{what}; quotes are made one at a time: try again in a few seconds"))
        };
        let place = self.places.clone().try_acquire_owned();
        let place = place.map_err(|_| busy(&format!("{PLACES} questions are waiting already")))?;
        let turn = timeout(PATIENCE, self.turn.clone().acquire_owned()).await;
        let turn = turn.map_err(|_| busy("the questions before take too long"))?;
        let turn = turn.map_err(|_| Problem::unavailable("this controller is ending"))?;
        Ok(Turn { _permits: Arc::new((place, turn)) })
    }

    /// Answers a question.
    pub async fn ask(&self, context: &Context, request: Request) -> Result<Arc<Answer>, Problem> {
        let turn = self.turn().await?;
        self.answer(context, request, &turn).await
    }

    /// The same for who has a turn.
    pub async fn answer(
        &self,
        context: &Context,
        request: Request,
        turn: &Turn,
    ) -> Result<Arc<Answer>, Problem> {
        let (round, changes) = state(context)?;
        let key = Key { generation: round.plan.generation, changes, sold: sold(context, &request), request };
        if let Some(known) = self.remembered(&key) {
            return Ok(known);
        }
        let (desk, turn) = (self.clone(), turn.clone());
        let computed = spawn_blocking(move || {
            let answer = compute(&round, &key).map(Arc::new)?;
            desk.remember(key, answer.clone());
            // Whoever gave up waiting leaves the turn to this thread: there is never a second one.
            drop(turn);
            Ok::<_, serde_json::Error>(answer)
        });
        let computed = timeout(PATIENCE, computed).await.map_err(|_| {
            Problem::new(Kind::Timeout, "the quote takes too long; ask again, it may be ready then")
        })?;
        let answer = computed
            .map_err(|error| Problem::internal(format!("the quote failed ({error}); report this")))?;
        answer.map_err(|error| Problem::internal(format!("the input has no digest ({error}); report this")))
    }

    fn remembered(&self, key: &Key) -> Option<Arc<Answer>> {
        let known = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        known.iter().find(|(known, _)| known == key).map(|(_, answer)| answer.clone())
    }

    fn remember(&self, key: Key, answer: Arc<Answer>) {
        let mut known = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        known.push_back((key, answer));
        if known.len() > REMEMBERED {
            known.pop_front();
        }
    }
}

impl Answer {
    /// Good until then.
    pub fn valid_until(&self) -> Time {
        self.made + VALIDITY
    }

    /// It would be admitted.
    pub fn is_offered(&self) -> bool {
        self.quote.refused.is_none()
    }
}

/// Availability that each offering promises, in thousandths.
pub fn levels(context: &Context) -> BTreeMap<OfferingId, u32> {
    let cache = context.cache.borrow();
    cache.offerings.iter().map(|(id, stored)| (id.clone(), stored.value.sla_permille)).collect()
}

/// The latest round, and what its input does not know yet.
fn state(context: &Context) -> Result<(Arc<Round>, Changes), Problem> {
    let (cache, live) = (context.cache.borrow(), context.live.borrow());
    let round = live.round().cloned().ok_or_else(no_plan)?;
    let open = |workload: &Workload| !workload.cancel && !workload.status.phase.is_final();
    let known = &round.input.workloads;
    let all = || cache.workloads.iter();
    let ordered = all().filter(|(id, stored)| open(&stored.value) && !known.contains_key(*id));
    let ended = all().filter(|(id, stored)| !open(&stored.value) && known.get(*id).is_some_and(open));
    let changes = Changes {
        ordered: ordered.map(|(_, stored)| (*stored.value).clone()).collect(),
        ended: ended.map(|(id, _)| id.clone()).collect(),
    };
    Ok((round, changes))
}

/// There is nothing to quote on.
fn no_plan() -> Problem {
    Problem::unavailable("there is no plan of this leader yet; ask again in a minute")
}

/// Tiers of the type that are sold, each with the least availability that one of its offerings promises.
fn sold(context: &Context, request: &Request) -> Vec<Sold> {
    let cache = context.cache.borrow();
    let offerings = cache.offerings.values().map(|stored| &stored.value);
    let mut sold: BTreeMap<Tier, u32> = BTreeMap::new();
    for offering in offerings.filter(|offering| offering.gpu == request.gpu) {
        let level = sold.entry(offering.tier).or_insert(offering.sla_permille);
        *level = offering.sla_permille.min(*level);
    }
    sold.into_iter().map(|(tier, level)| Sold { tier, level }).collect()
}

fn compute(round: &Round, key: &Key) -> Result<Answer, serde_json::Error> {
    let Key { changes, request, sold, generation } = key;
    let input = apply(&round.input, changes);
    let unchanged = changes.ordered.is_empty() && changes.ended.is_empty();
    let revision = if unchanged { round.plan.input.clone() } else { digest(&input)? };
    let sample = sample(&input, request.deadline.unwrap_or(request.term), &revision);
    let risks = Risks::default();
    let quote = quote(&input, request, &risks, sample);
    let instead = match steps(&input, request.deadline.unwrap_or(request.term)) * u64::from(sample.draws) {
        0..=STEPS_INSTEAD => instead(&input, request, &quote, sold, &risks, sample),
        _ => Vec::new(),
    };
    Ok(Answer {
        start: start(&input, request, &quote),
        request: request.clone(),
        quote,
        instead,
        generation: *generation,
        revision,
        draws: sample.draws,
        made: input.now,
    })
}

fn apply(input: &Input, changes: &Changes) -> Input {
    let mut input = input.clone();
    for id in &changes.ended {
        if let Some(ended) = input.workloads.get_mut(id) {
            ended.cancel = true;
        }
    }
    input.workloads.extend(changes.ordered.iter().map(|workload| (workload.id.clone(), workload.clone())));
    input
}

/// The seed is the begin of the input's digest; the number of futures keeps one pass within [`STEPS`].
fn sample(input: &Input, time: Span, revision: &str) -> Sample {
    let seed = revision.get(..16).and_then(|begin| u64::from_str_radix(begin, 16).ok()).unwrap_or_default();
    let draws = (STEPS / steps(input, time)).clamp(FUTURES.0, FUTURES.1);
    Sample { seed, draws: u32::try_from(draws).unwrap_or(u32::MAX) }
}

/// Steps that one future takes: each island and each promise, hour by hour.
fn steps(input: &Input, time: Span) -> u64 {
    let hours = u64::try_from(time.get()).unwrap_or(0).div_ceil(3_600_000).clamp(1, MAX_HOURS.into());
    hours * (input.sites.len() + input.workloads.len()).max(1) as u64
}

fn start(input: &Input, request: &Request, quote: &Quote) -> Option<Four<Option<u32>>> {
    if quote.site.is_none() && input.sites.len() > MAX_SITES_AHEAD {
        return None;
    }
    let site = quote.site.as_ref();
    let ahead = outlook(input, &Assumptions::default(), site);
    let listed = |id: &model::SiteId| request.sites.as_ref().is_none_or(|sites| sites.contain(id));
    let may = |id: &model::SiteId| site.is_none_or(|only| only == id) && listed(id);
    planner::quote::start(&ahead, &request.gpu, request.tier, request.gpus, may)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeMap;

    use super::*;
    use crate::testing;
    use crate::tracker::{Freshness, Tracker};

    fn input() -> Input {
        let cache = testing::cache(&testing::fleet());
        let tracker = Tracker::new(Freshness::default(), Time(0));
        crate::observe::input(&cache, &tracker, &BTreeMap::new(), None, testing::market(), Time(1_000))
    }

    #[test]
    fn the_seed_follows_from_the_revision_and_the_draws_from_the_work() {
        let check = |hours: i64, revision: &str, seed: u64, draws: u32| {
            let found = sample(&input(), Span::hours(hours), revision);
            assert_eq!((found.seed, found.draws), (seed, draws), "{hours} h");
        };
        check(1, "00000000000000ff77", 255, 2_000);
        check(1, "no digest", 0, 2_000);
        check(720, "00000000000000ff77", 255, 694);
        check(2_160, "00000000000000ff77", 255, 231);
        check(50_000, "00000000000000ff77", 255, 231);
        assert_eq!(steps(&input(), Span::ZERO), 1, "nobody is divided by nothing");
    }

    #[test]
    fn what_was_ordered_and_ended_since_the_round_counts() {
        let mut before = input();
        let old = testing::workload("old", "t", 8);
        before.workloads.insert(old.id.clone(), old.clone());
        let new = testing::workload("new", "t", 8);
        let changes = Changes { ordered: vec![new.clone()], ended: vec![old.id.clone()] };
        let after = apply(&before, &changes);
        assert!(after.workloads[&old.id].cancel && !after.workloads[&new.id].cancel);
        assert_eq!(apply(&before, &Changes::default()), before);
    }

    #[tokio::test(start_paused = true)]
    async fn one_is_answered_at_a_time_and_few_wait() {
        let desk = Desk::default();
        let first = desk.turn().await.unwrap();
        let problem = desk.turn().await.unwrap_err();
        assert_eq!(problem.kind, Kind::Unavailable);
        assert!(problem.message.contains("take too long"), "{}", problem.message);
        drop(first);
        let turns: Vec<_> =
            (0..PLACES - 1).map(|_| desk.places.clone().try_acquire_owned().unwrap()).collect();
        let last = desk.turn().await.unwrap();
        let problem = desk.turn().await.unwrap_err();
        assert!(problem.message.contains("waiting already"), "{}", problem.message);
        drop((turns, last));
        desk.turn().await.unwrap();
    }
}
