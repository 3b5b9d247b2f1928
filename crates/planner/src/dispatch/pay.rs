//! What starts, waits and stops are worth over the dwell, from what is known of a workload's life.
//!
//! A start is credited with what its GPUs earn over the dwell; one that ends sooner pays its restart more often, since the like
//! follows it. One that waits for others to give way gains only the time by which it starts sooner than it would by itself
//! ([`super::ahead`]). One that is stopped loses the pay of the dwell, what it had not saved, and the restart when it comes back.
//! Read next: `problem`, which asks.

use model::cap::FULL;
use model::plan::STEP;
use model::workload::{GpuTime, Phase, Tier, Workload};
use model::{Pace, Span, Time};

use crate::assign::lost_work;
use crate::start::DWELL;

/// Unserved firm time costs ten times the contract's price (DESIGN.md), so serving it is worth eleven times.
pub(crate) const FIRM_WEIGHT: i64 = 11;
/// Longer restarts are charged as this, so that no sum leaves its range.
const LONGEST_RESTART: Span = Span::hours(24);

/// What starting a pending workload now is worth, before gas and mining.
pub(crate) fn starts(workload: &Workload) -> i64 {
    let soon = paid(workload);
    let idle = DWELL - soon;
    let span = match left(workload) {
        // Seconds of work are counted as a step: nobody decides for less.
        Some(left) if left < soon => {
            let left = left.max(STEP);
            DWELL.fraction(left.get(), (left + idle).get())
        }
        _ => soon,
    };
    earns(workload, span) * weight(workload)
}

/// What starting it once others have given way is worth, before what it displaces: what it does sooner than if it started by
/// itself after `by_itself`, where that is within the dwell. Firm time is unserved once it was promised or served: for an order that
/// was neither no promise runs that could be broken, so nobody is stopped for eleven times its price.
pub(crate) fn waits(workload: &Workload, by_itself: Option<Span>) -> i64 {
    let served = |from: Span| {
        let span = (paid(workload) - from).at_least_zero();
        left(workload).map_or(span, |left| span.min(left))
    };
    let sooner = served(STEP) - by_itself.map_or(Span::ZERO, served);
    let weight = if is_owed(workload) { weight(workload) } else { 1 };
    earns(workload, sooner.at_least_zero()) * weight
}

/// Whether it was promised at its admission, or was ever served.
pub(crate) fn is_owed(workload: &Workload) -> bool {
    workload.promise.is_some() || workload.status.placement.is_some()
}

/// What stopping a run by choice loses: its pay over the dwell, what it had not saved, and its restart when it comes back.
pub(crate) fn stops(run: &Workload, now: Time) -> i64 {
    let goes_on = (DWELL - starting(run, now)).at_least_zero();
    let goes_on = left(run).map_or(goes_on, |left| goes_on.min(left));
    let again = run.spec.restart.at_least_zero().min(LONGEST_RESTART);
    earns(run, goes_on + again) + lost_work(run).get()
}

/// What a run in place pays over the dwell at a pace: progress is paid, and one that is done in time pays no more for being fast.
pub(crate) fn paced(run: &Workload, now: Time, pace: Pace) -> i64 {
    let goes_on = (DWELL - starting(run, now)).at_least_zero();
    let made = goes_on.fraction(pace.get(), FULL.get());
    earns(run, left(run).map_or(made, |left| made.min(left)))
}

/// When a run in place ends by itself; `None` where it was ordered until it is cancelled.
pub(crate) fn ends(run: &Workload, now: Time) -> Option<Span> {
    left(run).map(|left| left + starting(run, now))
}

/// How long a pending workload will hold its GPUs.
pub(crate) fn lasts(workload: &Workload) -> Option<Span> {
    left(workload).map(|left| left + workload.spec.restart.at_least_zero().min(LONGEST_RESTART))
}

fn weight(workload: &Workload) -> i64 {
    if workload.spec.tier == Tier::Firm { FIRM_WEIGHT } else { 1 }
}

fn earns(workload: &Workload, span: Span) -> i64 {
    GpuTime::of(workload.spec.gpus, span).cost(workload.spec.price).get()
}

/// What of the dwell earns after a restart. One longer than half the dwell is charged as half of it: it pays over a longer run than
/// we look.
fn paid(workload: &Workload) -> Span {
    DWELL - workload.spec.restart.min(Span::new(DWELL.get() / 2)).max(Span::ZERO)
}

/// Time that its work still takes, once it runs.
fn left(workload: &Workload) -> Option<Span> {
    let gpus = i64::from(workload.spec.gpus.max(1));
    workload.remaining().map(|left| Span::new(left.get() / gpus))
}

/// What is left of the restart of a run.
fn starting(run: &Workload, now: Time) -> Span {
    if run.status.phase != Phase::Starting {
        return Span::ZERO;
    }
    let restart = run.spec.restart.at_least_zero().min(LONGEST_RESTART);
    (restart - now.since(run.status.since)).at_least_zero().min(restart)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use model::workload::{Grounds, Promise, Spec};
    use model::{Id, MicroDollars};

    use super::*;

    const NOW: Time = Time(1_770_000_000_000);

    /// 6 GPUs at a dollar a GPU-hour earn ten cents a minute; the restart takes four minutes.
    fn workload(tier: Tier, minutes: Option<i64>) -> Workload {
        let spec = Spec {
            offering: Id::new("o").unwrap(),
            tier,
            gpu: "h100".into(),
            gpus: 6,
            amount: minutes.map(|minutes| GpuTime::of(6, Span::minutes(minutes))),
            price: MicroDollars::dollars(1),
            checkpoint: Span::minutes(10),
            save: Span::secs(30),
            restart: Span::minutes(4),
            floor: None,
            affinity: None,
        };
        Workload::accepted(Id::new("w").unwrap(), Id::new("acme").unwrap(), spec, NOW)
    }

    fn dimes(minutes: i64) -> i64 {
        MicroDollars::cents(10 * minutes).get()
    }

    #[test]
    fn a_start_earns_the_dwell_less_its_restarts() {
        let check = |minutes, expected| {
            assert_eq!(starts(&workload(Tier::Spot, minutes)), expected, "{minutes:?} minutes");
        };
        check(None, dimes(26));
        check(Some(100), dimes(26));
        check(Some(26), dimes(26));
        check(Some(8), dimes(20));
        check(Some(0), MicroDollars::new(1_666_666).get());
        assert_eq!(starts(&workload(Tier::Firm, None)), 11 * dimes(26));
    }

    #[test]
    fn who_waits_gains_only_the_time_by_which_it_starts_sooner() {
        let check = |minutes, by_itself: Option<i64>, expected| {
            let gained = waits(&workload(Tier::OnDemand, minutes), by_itself.map(Span::minutes));
            assert_eq!(gained, dimes(expected), "{minutes:?} minutes, by itself after {by_itself:?}");
        };
        check(None, None, 21);
        check(None, Some(30), 21);
        check(None, Some(15), 10);
        check(None, Some(5), 0);
        check(None, Some(0), 0);
        // It would be done in time all the same.
        check(Some(8), None, 8);
        check(Some(8), Some(15), 0);
        check(Some(8), Some(20), 2);
    }

    #[test]
    fn nobody_is_stopped_at_eleven_times_its_price_for_a_firm_order_that_was_neither_promised_nor_served() {
        let mut firm = workload(Tier::Firm, None);
        assert_eq!(waits(&firm, None), dimes(21));
        let price = MicroDollars::dollars(1);
        let grounds = Grounds::Holds { expected_ppm: 999_500, least_price: price };
        let promise = Promise { level: 999, price, given: NOW, grounds };
        assert_eq!(waits(&Workload { promise: Some(promise), ..firm.clone() }, None), 11 * dimes(21));
        firm.status.placement = Some(model::workload::Placement {
            module: Id::new("m").unwrap(),
            pool: Id::new("p").unwrap(),
            servers: vec![(0, 6)],
            incarnation: 1,
        });
        assert_eq!(waits(&firm, None), 11 * dimes(21));
    }

    #[test]
    fn a_stop_loses_pay_unsaved_work_and_the_next_restart() {
        let check = |minutes, phase, since: i64, saved: i64, expected| {
            let mut run = workload(Tier::Spot, minutes);
            (run.status.phase, run.status.since) = (phase, NOW - Span::minutes(since));
            run.status.progress = GpuTime::of(6, Span::minutes(20));
            run.status.saved = GpuTime::of(6, Span::minutes(saved));
            assert_eq!(
                stops(&run, NOW),
                dimes(expected),
                "{minutes:?} minutes, saved {saved}, {phase:?} for {since}"
            );
        };
        check(None, Phase::Running, 60, 20, 34);
        check(None, Phase::Running, 60, 15, 39);
        check(None, Phase::Running, 60, 5, 44);
        check(None, Phase::Running, 60, 0, 34);
        check(Some(26), Phase::Running, 60, 20, 10);
        check(None, Phase::Starting, 1, 20, 31);
        check(Some(26), Phase::Starting, 1, 20, 10);
    }

    /// Whoever reports progress and saves is never cheaper to stop than whoever is silent, and who does not save gains nothing by it.
    #[test]
    fn honest_checkpoints_never_make_a_stop_cheaper() {
        let lost = |progress: i64, saved: i64| {
            let mut run = workload(Tier::Spot, None);
            run.status.phase = Phase::Running;
            run.status.progress = GpuTime::of(6, Span::minutes(progress));
            run.status.saved = GpuTime::of(6, Span::minutes(saved));
            stops(&run, NOW)
        };
        for progress in 1..90 {
            let most = lost(progress, 1) - lost(0, 0);
            for saved in 0..=progress {
                assert!(lost(progress, saved) >= lost(0, 0), "{saved} of {progress} minutes saved");
                assert!(lost(progress, saved) - lost(0, 0) <= most.min(dimes(10)), "the interval caps it");
            }
        }
    }

    #[test]
    fn a_run_ends_when_restart_and_work_are_done() {
        let mut run = workload(Tier::Spot, Some(20));
        assert_eq!(lasts(&run), Some(Span::minutes(24)));
        run.status.phase = Phase::Starting;
        assert_eq!(ends(&run, NOW + Span::minutes(1)), Some(Span::minutes(23)));
        run.status.phase = Phase::Running;
        assert_eq!(ends(&run, NOW), Some(Span::minutes(20)));
        assert_eq!(ends(&workload(Tier::Spot, None), NOW), None);
    }
}
