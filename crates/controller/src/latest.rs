//! The newest report of one session that the leader has not taken yet: where the latest wins.
//!
//! A leader that is busy skips reports that are out of date by then, and never makes an agent wait: a session puts its report here,
//! tells the leader once, and acknowledges. Assumes one session and one leader. Read next: `session.rs`, which puts; `term.rs`,
//! which takes.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use model::report::Report;

/// Where a report waits; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Latest(Arc<Mutex<Option<Box<Report>>>>);

impl Latest {
    /// Puts a report in the place of the one before. True if there was none, so that the leader is to be told.
    #[must_use]
    pub fn put(&self, report: Report) -> bool {
        self.lock().replace(Box::new(report)).is_none()
    }

    /// Takes the newest report.
    pub fn take(&self) -> Option<Report> {
        self.lock().take().map(|report| *report)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Box<Report>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::report;

    #[test]
    fn the_leader_is_told_once_and_takes_the_newest() {
        let latest = Latest::default();
        let leader = latest.clone();
        assert_eq!(leader.take(), None);
        assert!(latest.put(report("m1", 1)));
        assert!(!latest.put(report("m1", 2)) && !latest.put(report("m1", 3)));
        assert_eq!(leader.take(), Some(report("m1", 3)));
        assert_eq!(leader.take(), None);
        assert!(latest.put(report("m1", 4)), "told again");
    }
}
