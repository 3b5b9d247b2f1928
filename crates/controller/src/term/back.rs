//! Modules that are back in touch and still stand as lost in the store: many are taken out by one transaction.
//!
//! After an uplink's failure a whole fleet comes back within seconds, and a transaction for each would hold the leader up for as long
//! as the store takes for thousands. So they wait while more reports lie there, for a second at most. Until then a module stands as lost
//! for longer than it was, which a leader that begins meanwhile learns better by its first report.
//!
//! Pure: time comes in as an argument. Read next: `../term.rs`, which asks after each event.

use std::collections::BTreeSet;

use model::{ModuleId, Span, Time};
use store::{Txn, key};

/// Modules in one transaction, of the store's 128 operations.
const BATCH: usize = 100;
/// For so long they may wait for others.
const WAIT: Span = Span::secs(1);
/// After a failed write: a store that elects a new leader takes 1.6 s.
const RETRY: Span = Span::secs(2);

/// Those that came back.
#[derive(Debug, Default)]
pub(super) struct Back {
    modules: BTreeSet<ModuleId>,
    /// When the first of them came.
    since: Option<Time>,
    /// Not before this, once a write has failed.
    put_off: Option<Time>,
}

impl Back {
    /// A module is back in touch.
    pub(super) fn returned(&mut self, module: ModuleId, now: Time) {
        self.since.get_or_insert(now);
        self.modules.insert(module);
    }

    /// A module is out of touch again: what stands in the store is written anew.
    pub(super) fn lost(&mut self, module: &ModuleId) {
        self.modules.remove(module);
    }

    /// Those that are to be taken out now, where so many events lie there that may bring more.
    pub(super) fn due(&self, queued: usize, now: Time) -> Option<Vec<ModuleId>> {
        let waited = self.since.is_some_and(|since| now >= since + WAIT);
        let enough = queued == 0 || waited || self.modules.len() >= BATCH;
        let may = enough && !self.modules.is_empty() && self.put_off.is_none_or(|until| now >= until);
        may.then(|| self.modules.iter().take(BATCH).cloned().collect())
    }

    /// These are taken out.
    pub(super) fn done(&mut self, batch: &[ModuleId]) {
        for module in batch {
            self.modules.remove(module);
        }
        self.put_off = None;
        if self.modules.is_empty() {
            self.since = None;
        }
    }

    /// The store did not take it: later, with those that come until then. To take one out twice does no harm.
    pub(super) fn failed(&mut self, now: Time) {
        self.put_off = Some(now + RETRY);
    }
}

/// A transaction that takes them out too.
pub(super) fn forget(txn: Txn, batch: &[ModuleId]) -> Txn {
    batch.iter().fold(txn, |txn, module| txn.delete(key::lost(module)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use store::Compare;

    use super::*;
    use crate::testing::module_id;

    fn at(millis: i64) -> Time {
        Time(1_000_000 + millis)
    }

    /// So many came back at once.
    fn back(modules: usize) -> Back {
        let mut back = Back::default();
        (0..modules).for_each(|number| back.returned(module_id(&format!("m{number}")), at(0)));
        back
    }

    #[test]
    fn a_fleet_that_comes_back_is_taken_out_by_few_transactions_within_the_stores_limits() {
        let check = |modules: usize, expected: &[usize]| {
            let mut back = back(modules);
            let mut batches = Vec::new();
            while let Some(batch) = back.due(0, at(0)) {
                let txn = forget(Txn::new().when(Compare::Absent(key::target())), &batch);
                txn.check().unwrap();
                assert_eq!(txn.then.len(), batch.len());
                batches.push(batch.len());
                back.done(&batch);
            }
            assert_eq!(batches, expected);
        };
        check(0, &[]);
        check(1, &[1]);
        check(100, &[100]);
        check(250, &[100, 100, 50]);
    }

    #[test]
    fn they_wait_for_others_that_lie_there_and_for_no_longer_than_a_second() {
        let check = |modules: usize, queued: usize, millis: i64, due: bool| {
            let found = back(modules).due(queued, at(millis)).is_some();
            assert_eq!(found, due, "{modules} modules, {queued} queued, after {millis} ms");
        };
        check(1, 0, 0, true);
        check(1, 5, 0, false);
        check(99, 5, 999, false);
        check(100, 5, 0, true);
        check(1, 5, 1_000, true);
        check(0, 0, 1_000, false);
    }

    #[test]
    fn one_that_is_lost_again_meanwhile_stays_lost() {
        let mut back = back(2);
        back.lost(&module_id("m0"));
        assert_eq!(back.due(0, at(0)), Some(vec![module_id("m1")]));
    }

    #[test]
    fn what_the_store_does_not_take_is_tried_again_later_with_those_that_came_until_then() {
        let mut back = back(1);
        back.failed(at(0));
        back.returned(module_id("late"), at(500));
        assert_eq!(back.due(0, at(1_999)), None);
        let batch = back.due(0, at(2_000)).unwrap();
        assert_eq!(batch, [module_id("late"), module_id("m0")]);
        back.done(&batch);
        back.returned(module_id("next"), at(2_001));
        assert_eq!(back.due(5, at(2_002)), None, "it waits for others again");
        assert_eq!(back.due(0, at(2_002)), Some(vec![module_id("next")]), "and is put off no more");
    }
}
