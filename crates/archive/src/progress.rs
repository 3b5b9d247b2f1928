//! How far an archive is: what waits, when a pass went through, what fails.
//!
//! Pure. Told by `task.rs`, shown by whoever runs it. Read next: `pass.rs`.

use std::collections::BTreeMap;

use model::{ModuleId, Time};

/// How far one controller's archive is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Segments that are kept and not archived.
    pub lag: Lag,
    /// When a pass last went through: what was there then is archived. `None`: not since the start.
    pub passed: Option<Time>,
    /// Modules that had a segment then which cannot be read, and are not archived further.
    pub held_up: u64,
    /// What failed and has not worked since, by step.
    pub failed: BTreeMap<Step, Failure>,
}

/// What an archive does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// Segments become files.
    Pass,
    /// Files of an hour become one.
    Merge,
}

/// What failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// When, last.
    pub at: Time,
    /// Why, with what lies behind it.
    pub why: String,
}

/// How many segments wait, and whose.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lag {
    /// Of all modules together.
    pub segments: u64,
    /// The module furthest behind; `None` where nothing waits.
    pub behind: Option<Behind>,
}

/// A module that is behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Behind {
    /// Which.
    pub module: ModuleId,
    /// Its last segment that is archived; 0 before the first.
    pub archived: u64,
    /// Its last segment that is kept.
    pub kept: u64,
}

impl Lag {
    /// What lies between what is kept and what is archived, by each module's last segment. Of modules as far behind the first in order
    /// is named. Numbers that another controller holds count too: nobody here knows that before it looks.
    pub fn between(kept: BTreeMap<ModuleId, u64>, archived: &BTreeMap<ModuleId, u64>) -> Self {
        let mut lag = Self::default();
        let mut most = 0;
        for (module, kept) in kept {
            let archived = archived.get(&module).copied().unwrap_or(0);
            let waiting = kept.saturating_sub(archived);
            lag.segments = lag.segments.saturating_add(waiting);
            if waiting > most {
                most = waiting;
                lag.behind = Some(Behind { module, archived, kept });
            }
        }
        lag
    }
}

impl Progress {
    /// A step worked.
    pub fn worked(&mut self, step: Step) {
        self.failed.remove(&step);
    }

    /// A step failed.
    pub fn failed(&mut self, step: Step, at: Time, error: &dyn std::error::Error) {
        let mut why = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            why = format!("{why}: {cause}");
            source = cause.source();
        }
        self.failed.insert(step, Failure { at, why });
    }

    /// What failed last and has not worked since.
    pub fn last_failure(&self) -> Option<&Failure> {
        self.failed.values().max_by_key(|failure| failure.at)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn by_module(numbers: &[(&str, u64)]) -> BTreeMap<ModuleId, u64> {
        numbers.iter().map(|(module, number)| (ModuleId::new(module).unwrap(), *number)).collect()
    }

    #[test]
    fn what_waits_is_summed_and_whoever_is_furthest_behind_is_named() {
        let check =
            |kept: &[(&str, u64)], archived: &[(&str, u64)], segments, behind: Option<(&str, u64, u64)>| {
                let lag = Lag::between(by_module(kept), &by_module(archived));
                let named = lag.behind.as_ref().map(|b| (b.module.as_str(), b.archived, b.kept));
                assert_eq!((lag.segments, named), (segments, behind), "{kept:?} {archived:?}");
            };
        check(&[], &[("m1", 5)], 0, None);
        check(&[("m1", 5)], &[("m1", 5)], 0, None);
        check(&[("m1", 5), ("m2", 7)], &[("m1", 3), ("m2", 7)], 2, Some(("m1", 3, 5)));
        check(&[("m1", 5), ("m2", 9)], &[("m1", 3)], 11, Some(("m2", 0, 9)));
        check(&[("m1", 5), ("m2", 5)], &[], 10, Some(("m1", 0, 5)));
        // An older backup of the ledger.
        check(&[("m1", 3)], &[("m1", 5)], 0, None);
    }

    #[test]
    fn an_error_stands_until_its_own_step_works_again() {
        let error = |text: &str| std::io::Error::other(text.to_owned());
        let mut progress = Progress::default();
        let last = |progress: &Progress| progress.last_failure().map(|failure| failure.why.clone());
        assert_eq!(last(&progress), None);
        progress.failed(Step::Pass, Time(1), &error("away"));
        progress.failed(Step::Merge, Time(2), &error("full"));
        assert_eq!(last(&progress).as_deref(), Some("full"));
        progress.worked(Step::Merge);
        assert_eq!(last(&progress).as_deref(), Some("away"));
        progress.failed(Step::Pass, Time(3), &error("still away"));
        assert_eq!(progress.last_failure().map(|failure| failure.at), Some(Time(3)));
        progress.worked(Step::Pass);
        assert_eq!(last(&progress), None);
    }
}
