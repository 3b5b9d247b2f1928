//! Admission: what promises an availability is taken only where the model of availability holds that promise beside all before it.
//!
//! An operator may give the promise all the same; who and why then stand in the workload's record and among the events. Decision
//! 0014 says why. Assumes that the order was checked already. Read next: `tenant/order.rs`, which stores what is admitted here.

use api::Problem;
use api::problem::Kind;
use model::tenant::Offering;
use model::workload::{Grounds, Promise, Spec, Tier};
use model::{MicroDollars, SoldBy, Span};
use planner::quote::{Offer, Refusal, Risks, percent};

use super::{Answer, Turn, ask};
use crate::context::Context;

/// The term over which the promise to an order without an end is judged: availability is promised over a month.
pub const MONTH: Span = Span::hours(30 * 24);
/// Longest name and longest reason of an override.
const MAX_BY: usize = 128;
const MAX_WHY: usize = 500;

/// Who orders, and what that means for admission.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// A tenant: the model is asked, and its answer names nothing of others.
    Tenant,
    /// An operator: the model is asked.
    Operator,
    /// An operator gives the promise without asking.
    Override {
        /// Who, as they called themselves.
        by: String,
        /// Why.
        why: String,
    },
}

impl Admission {
    /// An operator's override, checked.
    pub fn overridden(by: &str, why: &str) -> Result<Self, Problem> {
        let (by, why) = (by.trim(), why.trim());
        let fits = |text: &str, most: usize| (1..=most).contains(&text.chars().count());
        if !fits(by, MAX_BY) {
            return Err(Problem::invalid(format!(
                "admission_override.by: expected 1 to {MAX_BY} characters"
            )));
        }
        if !fits(why, MAX_WHY) {
            return Err(Problem::invalid(format!(
                "admission_override.why: expected 1 to {MAX_WHY} characters"
            )));
        }
        Ok(Self::Override { by: by.into(), why: why.into() })
    }
}

/// Whether an order under this offering is a promise that must be admitted.
pub fn promises(offering: &Offering) -> bool {
    offering.tier == Tier::Firm || offering.sla_permille > 0
}

/// The promise that an order is given, or why it gets none.
pub async fn judge(
    context: &Context,
    spec: &Spec,
    offering: &Offering,
    admission: &Admission,
    turn: &Turn,
) -> Result<Promise, Problem> {
    let given = context.clock.now();
    let promise = |grounds| Promise { level: offering.sla_permille, price: spec.price, given, grounds };
    if let Admission::Override { by, why } = admission {
        return Ok(promise(Grounds::Override { by: by.clone(), why: why.clone() }));
    }
    let sites = spec.affinity.as_ref().and_then(|affinity| affinity.sites.clone());
    let request = ask::offered(context, offering, spec.gpus, term(spec), None, sites)?;
    let answer = context.quotes.answer(context, request, turn).await?;
    match (&answer.quote.refused, answer.quote.odds, answer.quote.price) {
        (None, Some(odds), Some(price)) => {
            Ok(promise(Grounds::Holds { expected_ppm: odds.availability.ppm, least_price: price.gpu_hour }))
        }
        (refused, ..) => {
            let refusal = refused.clone().unwrap_or(Refusal::NoSuchGpu);
            Err(Problem::new(Kind::Precondition, refuse(context, &answer, &refusal, admission)))
        }
    }
}

/// The term over which a promise is judged.
fn term(spec: &Spec) -> Span {
    let most = Span::hours(planner::quote::MAX_HOURS.into());
    let needed = spec.amount.map(|amount| Span::new(amount.get() / i64::from(spec.gpus.max(1))));
    needed.map_or(MONTH, |needed| needed.max(Span::new(1)).min(most))
}

/// Why it is refused and what would be possible, for who asks.
fn refuse(context: &Context, answer: &Answer, refusal: &Refusal, admission: &Admission) -> String {
    let for_tenant = *admission == Admission::Tenant;
    let sold = SoldBy::of(&answer.request.gpu);
    let why = if for_tenant { refusal.tenant(sold) } else { refusal.operator(&Risks::default(), sold) };
    let possible: Vec<String> = match for_tenant {
        true => alternatives(context, answer).iter().map(Alternative::show).collect(),
        false => answer.instead.iter().map(|offer| show(offer, sold)).collect(),
    };
    let instead = match possible.is_empty() {
        true => "nothing would be admitted instead just now; ask again later".to_owned(),
        false => format!("possible instead: {}", possible.join("; ")),
    };
    let anyway = match for_tenant {
        true => "",
        false => "; to give the promise all the same, say who and why (--override WHY --by WHO)",
    };
    format!("not admitted: {why}; {instead}{anyway}")
}

fn show(offer: &Offer, sold: SoldBy) -> String {
    let Offer { tier, gpus, level, site, gpu_hour, interrupted } = offer;
    let level =
        if *level > 0 { format!(" at {}", percent(u64::from(*level) * 1_000)) } else { String::new() };
    format!(
        "{} {tier}{level} on {site} from {} a {}, interrupted with {}",
        sold.count(gpus),
        dollars(*gpu_hour),
        sold.hour(),
        percent(interrupted.ppm)
    )
}

/// An offering that would be admitted instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alternative {
    /// Which.
    pub offering: Offering,
    /// How many GPUs, or kilowatts.
    pub gpus: u32,
    /// Probability that it is interrupted within the term.
    pub interrupted: planner::quote::Estimate,
}

impl Alternative {
    fn show(&self) -> String {
        let sold = SoldBy::of(&self.offering.gpu);
        format!(
            "{} under {} at {} a {}, interrupted with {}",
            sold.count(self.gpus),
            self.offering.id,
            dollars(self.offering.price),
            sold.hour(),
            percent(self.interrupted.ppm)
        )
    }
}

/// What is sold of what would be offered instead, with list prices: nothing that a tenant should not see.
pub fn alternatives(context: &Context, answer: &Answer) -> Vec<Alternative> {
    let cache = context.cache.borrow();
    let sold = cache.offerings.values().map(|stored| &*stored.value);
    let fits = |offering: &&Offering, offer: &Offer| {
        offering.gpu == answer.request.gpu
            && offering.tier == offer.tier
            && offering.sla_permille <= offer.level
    };
    let of = |offer: &Offer| {
        let best = sold.clone().filter(|offering| fits(offering, offer)).max_by_key(|o| o.sla_permille)?;
        Some(Alternative { offering: best.clone(), gpus: offer.gpus, interrupted: offer.interrupted })
    };
    answer.instead.iter().filter_map(of).collect()
}

/// What is told of a promise among the events.
pub fn event(promise: &Promise) -> String {
    let level = percent(u64::from(promise.level) * 1_000);
    match &promise.grounds {
        Grounds::Holds { expected_ppm, .. } => {
            format!("admitted: {level} promised, {} expected", percent(*expected_ppm))
        }
        Grounds::Override { by, why } => {
            format!("admitted by {by} without asking the model: {level} promised: {why}")
        }
    }
}

/// An amount with four decimals, for sentences.
fn dollars(money: MicroDollars) -> String {
    format!("${}.{:04}", money.get() / 1_000_000, (money.get() % 1_000_000).abs() / 100)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use model::Time;
    use model::workload::GpuTime;

    use super::*;
    use crate::testing;

    #[test]
    fn what_must_be_admitted_is_what_promises_something() {
        let offerings = testing::fleet().offerings;
        let found: Vec<_> =
            offerings.iter().map(|offering| (offering.id.as_str(), promises(offering))).collect();
        assert_eq!(found, [("h100-on-demand", false), ("h100-firm", true)]);
        let sla = Offering { sla_permille: 950, ..offerings[0].clone() };
        assert!(promises(&sla), "an availability is a promise under any tier");
    }

    #[test]
    fn a_promise_is_judged_over_what_it_takes_or_a_month() {
        let check = |amount: Option<GpuTime>, expected: Span| {
            let spec = Spec { amount, ..testing::workload("w", "t", 8).spec };
            assert_eq!(term(&spec), expected);
        };
        check(None, MONTH);
        check(Some(GpuTime::of(8, Span::hours(5))), Span::hours(5));
        check(Some(GpuTime::new(3)), Span::new(1));
        check(Some(GpuTime::of(8, Span::hours(24 * 3_650))), Span::hours(24 * 90));
    }

    #[test]
    fn an_override_says_who_and_why() {
        let check = |by: &str, why: &str, expected: &str| {
            let problem = Admission::overridden(by, why).unwrap_err();
            assert!(problem.message.contains(expected), "{}", problem.message);
        };
        check(" ", "a customer since 2019", "by: expected 1 to 128");
        check("ada", "", "why: expected 1 to 500");
        check("ada", &"x".repeat(501), "why: expected");
        let (by, why) = ("ada".to_owned(), "a customer since 2019".to_owned());
        assert_eq!(
            Admission::overridden(" ada", "a customer since 2019 "),
            Ok(Admission::Override { by, why })
        );
    }

    #[test]
    fn events_tell_promises() {
        let check = |grounds: Grounds, expected: &str| {
            let promise = Promise { level: 995, price: MicroDollars::cents(300), given: Time(0), grounds };
            assert_eq!(event(&promise), expected);
        };
        let least_price = MicroDollars::cents(9);
        check(
            Grounds::Holds { expected_ppm: 998_123, least_price },
            "admitted: 99.50 % promised, 99.81 % expected",
        );
        check(
            Grounds::Override { by: "ada".into(), why: "a trial".into() },
            "admitted by ada without asking the model: 99.50 % promised: a trial",
        );
    }
}
