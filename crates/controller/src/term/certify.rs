//! How good the plan in force could have been at most, computed beside the rounds and never on their way.
//!
//! A plan of a small fleet comes with its bound. For a large one the bound takes longer than the plan, so it is computed on a thread
//! of its own for one round at a time: for the timed ones, and for one that an event asked for only when the last bound has become
//! old. A plan that is made meanwhile carries the bound before, which is stale. Read next: `planner::bound`.

use std::sync::Arc;

use model::plan::Bound;
use model::{Span, Time};
use tokio::task::{JoinError, JoinHandle, spawn_blocking};

use super::Term;
use crate::commit;
use crate::live::Round;

/// Plans made on events get a bound of their own only when the last one is older than this: four rounds.
const OLD: Span = Span::minutes(2);

/// Computes one bound at a time.
#[derive(Default)]
pub(super) struct Certifier {
    running: Option<JoinHandle<Bound>>,
}

impl Certifier {
    /// Begins with a round, unless another is still being computed.
    fn begin(&mut self, round: &Arc<Round>) {
        if self.running.is_none() {
            let round = Arc::clone(round);
            self.running = Some(spawn_blocking(move || planner::bound(&round.input)));
        }
    }

    /// Returns once a bound is there; never while none is being computed. Nothing is lost when this is dropped before.
    pub(super) async fn done(&mut self) -> Result<Bound, JoinError> {
        let bound = match &mut self.running {
            Some(running) => running.await,
            None => std::future::pending().await,
        };
        self.running = None;
        bound
    }
}

impl Term {
    /// Has the bound of a committed round computed, where it has none yet and is due one.
    pub(super) fn certify(&mut self, round: &Arc<Round>, on_event: bool, now: Time) {
        let last = self.live.borrow().last_bound();
        if is_due(round.plan.made, last, on_event, now) {
            self.certifier.begin(round);
        }
    }

    /// Takes a bound over: it is shown with its plan, and the next plan carries it.
    pub(super) fn certified(&mut self, bound: Result<Bound, JoinError>) -> Result<(), commit::Error> {
        match bound {
            Ok(bound) => self.live.send_modify(|live| live.bound = Some(bound)),
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::error!(error, "no bound was computed for a plan; the plan itself stands");
            }
        }
        Ok(())
    }
}

/// Whether the plan made at `made` shall get a bound, when the newest there is holds for `last`.
fn is_due(made: Time, last: Option<Bound>, on_event: bool, now: Time) -> bool {
    match last {
        Some(last) if last.made == made => false,
        Some(last) => !on_event || now.since(last.made) > OLD,
        None => true,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeMap;

    use model::MicroDollars;

    use super::*;
    use crate::tracker::{Freshness, Tracker};
    use crate::{observe, testing};

    fn bound(made: i64) -> Bound {
        Bound { most: MicroDollars::dollars(2), reached: MicroDollars::dollars(1), made: Time(made) }
    }

    #[test]
    fn timed_rounds_get_a_bound_and_events_only_when_the_last_is_old() {
        let check = |last: Option<i64>, on_event: bool, expected: bool| {
            let now = Time(1_000_000);
            assert_eq!(is_due(now, last.map(bound), on_event, now), expected, "{last:?} {on_event}");
        };
        check(None, true, true);
        check(None, false, true);
        check(Some(1_000_000), false, false);
        check(Some(1_000_000), true, false);
        check(Some(970_000), false, true);
        check(Some(970_000), true, false);
        check(Some(1_000_000 - OLD.get() - 1), true, true);
    }

    #[tokio::test]
    async fn one_bound_is_computed_at_a_time_and_holds_for_its_round() {
        let cache = testing::cache(&testing::fleet());
        let tracker = Tracker::new(Freshness::default(), Time(0));
        let round = |now: i64| {
            let input =
                observe::input(&cache, &tracker, &BTreeMap::new(), None, testing::market(), Time(now));
            let planned = planner::plan(&input);
            let (plan, report) = (planned.plan.into(), planned.report);
            Arc::new(Round { input, plan, report, took: Span::ZERO })
        };
        let mut certifier = Certifier::default();
        certifier.begin(&round(5_000));
        certifier.begin(&round(6_000));
        assert_eq!(certifier.done().await.unwrap().made, Time(5_000));
        certifier.begin(&round(6_000));
        assert_eq!(certifier.done().await.unwrap(), planner::bound(&round(6_000).input));
    }
}
