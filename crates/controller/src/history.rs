//! How far back the store's history is kept: the leader throws away what is older than an hour.
//!
//! Nobody needs history to be right: a watch from a revision that is gone starts over with a snapshot. It only spares that
//! snapshot to whoever was away for less. Kept without end it fills etcd's quota, and a full etcd refuses every write. Assumes
//! that the caller calls at least once in [`EVERY`]. Pure; read next: `term.rs`, `Term::compact`.

use std::collections::VecDeque;

use model::{Span, Time};
use store::Revision;

/// History that is kept: longer than a restart of a controller or of an etcd member takes. At a plan of 100 kB every 30 s it is
/// 12 MB, of the 2 GiB that etcd takes by default.
const KEEP: Span = Span::hours(1);
/// Time between two compactions: 20 plans, so that each is small and the store does little at once. At most
/// `KEEP / EVERY + 1` = 7 marks are held.
const EVERY: Span = Span::minutes(10);

/// Revisions of this term with the time at which each was the newest, oldest first.
#[derive(Debug, Default)]
pub(crate) struct History(VecDeque<(Time, Revision)>);

impl History {
    /// Notes the newest revision. Answers up to which one history is to be thrown away now, if it is time.
    pub(crate) fn note(&mut self, now: Time, newest: Revision) -> Option<Revision> {
        if self.0.back().is_some_and(|(at, _)| now < *at) {
            // The clock was set back: what the marks say of age is not true any more.
            self.0.clear();
        }
        if self.0.back().is_none_or(|(at, _)| now - *at >= EVERY) {
            self.0.push_back((now, newest));
        }
        let old = self.0.iter().take_while(|(at, _)| now - *at >= KEEP).count();
        self.0.drain(..old).next_back().map(|(_, revision)| revision)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A round every `step` minutes, each with ten revisions more; the compactions by the minute in which they came.
    fn check(step: i64, minutes: impl Iterator<Item = i64>, expected: &[(i64, u64)]) {
        let mut history = History::default();
        let mut done = Vec::new();
        for (round, minute) in minutes.step_by(usize::try_from(step).unwrap_or(1)).enumerate() {
            let newest = Revision(10 * (round as u64 + 1));
            done.extend(history.note(Time::EPOCH + Span::minutes(minute), newest).map(|to| (minute, to.0)));
            assert!(history.0.len() <= 7, "{:?}", history.0);
        }
        assert_eq!(done, expected);
    }

    #[test]
    fn what_is_older_than_an_hour_is_thrown_away_every_ten_minutes() {
        check(1, 0..60, &[]);
        check(1, 0..85, &[(60, 10), (70, 110), (80, 210)]);
    }

    #[test]
    fn after_rounds_that_failed_only_the_newest_old_revision_counts() {
        check(1, (0..25).chain(82..83), &[(82, 210)]);
        check(45, 0..140, &[(90, 10), (135, 20)]);
    }

    #[test]
    fn a_clock_that_is_set_back_begins_anew_and_throws_nothing_away_early() {
        check(1, (600..650).chain(100..165), &[(160, 510)]);
    }
}
