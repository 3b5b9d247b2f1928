//! What a new leader makes of a wall clock that lies behind the plan in force.
//!
//! Read next: `api::clock`, `model::anchor`, decision 0018.

use model::Time;
use model::time::Clock;

use crate::commit::InForce;

/// The time at which a term begins: not before the plan in force, unless that was made by a clock that was plainly wrong.
pub(crate) fn begin_term(clock: &dyn Clock, in_force: Option<&InForce>) -> Time {
    let Some(made) = in_force.map(|in_force| in_force.plan.made) else { return clock.now() };
    let before = clock.now();
    clock.not_before(made);
    let now = clock.now();
    if before < made {
        let (behind_ms, follows) = ((made - before).get(), now >= made);
        tracing::warn!(behind_ms, follows, "this machine's clock lies behind the plan in force");
    }
    now
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;
    use std::sync::atomic::{AtomicI64, Ordering};

    use model::time::Sleep;
    use store::Revision;

    use super::*;
    use crate::commit;
    use crate::testing::{self, TestDir};

    /// A clock that goes on from wherever it is told to, by an hour at most.
    struct Follows(AtomicI64);

    impl Clock for Follows {
        fn now(&self) -> Time {
            Time(self.0.load(Ordering::Relaxed))
        }

        fn sleep_until(&self, _: Time) -> Sleep {
            Box::pin(std::future::ready(()))
        }

        fn not_before(&self, at: Time) {
            if at.0 - self.now().0 <= 3_600_000 {
                self.0.fetch_max(at.0, Ordering::Relaxed);
            }
        }
    }

    #[tokio::test]
    async fn a_term_begins_no_earlier_than_the_plan_it_takes_over() {
        let dir = TestDir::new("term-clock");
        let workload = testing::workload("w", "t", 2);
        let mut plan = testing::plan_with(&workload.id, testing::placement("m1", 1));
        plan.made = Time(10_000_000);
        let stored = commit::commit(&dir.store(), None, None, plan, Vec::new()).await.unwrap();
        assert!(stored.target > Revision::default());
        let check = |now: i64, expected: i64| {
            let clock = Arc::new(Follows(AtomicI64::new(now)));
            assert_eq!(begin_term(&*clock, Some(&stored)), Time(expected), "{now}");
            assert_eq!(begin_term(&*clock, None), Time(expected));
        };
        check(11_000_000, 11_000_000);
        check(9_400_000, 10_000_000);
        check(6_399_999, 6_399_999);
    }
}
