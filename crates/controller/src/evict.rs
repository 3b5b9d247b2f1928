//! How many workloads of modules out of touch may be given up at once, to start anew elsewhere.
//!
//! Each agent ends by itself what it has not been told of for ten minutes (`lifecycle::KEEP_WITHOUT_LINK`), so that a start
//! elsewhere never runs beside it. When many modules fall silent at once it is mostly an uplink or this controller's own network,
//! and modules come back: whoever restarts everything at once pays 2 to 10 minutes and a checkpoint's loss for each run, and asks
//! the islands that are left for one large step of load. Moved little by little, most of them are there again before their turn.
//!
//! Pure: time comes in as an argument. Assumes that one leader counts: a new one begins with an empty window.
//! Read next: `lifecycle.rs`, which gives a workload up.

use std::collections::{BTreeSet, VecDeque};

use model::workload::Tier;
use model::{Span, Time, WorkloadId};

/// What is given up is counted over this: a new run takes its power in steps within two rounds of planning.
pub const WINDOW: Span = Span::minutes(1);

/// How many a window lets go, at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cap {
    /// So many of a hundred workloads that hold GPUs.
    pub percent: usize,
    /// And never fewer than these.
    pub least: usize,
}

impl Default for Cap {
    /// A fleet that lost everything is moved in 20 minutes; all runs of one container of eight servers, the loss that happens by itself,
    /// at once.
    fn default() -> Self {
        Self { percent: 5, least: 8 }
    }
}

impl Cap {
    fn most(self, holding: usize) -> usize {
        (holding.saturating_mul(self.percent) / 100).max(self.least)
    }
}

/// A workload that could be given up now. Ordered by who goes first: what was promised most, then who has waited longest.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Candidate {
    /// Its tier.
    pub tier: Tier,
    /// Since when its module has been out of touch.
    pub since: Time,
    /// Which.
    pub workload: WorkloadId,
}

/// What was given up of late, and whether others wait.
#[derive(Clone, Debug, Default)]
pub struct Evictions {
    cap: Cap,
    recent: VecDeque<Time>,
    waiting: usize,
}

/// News for operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// So many have to wait, at so many a window.
    Wait {
        /// Workloads that wait.
        waiting: usize,
        /// Workloads that a window lets go.
        most: usize,
    },
    /// Nobody has to wait any more.
    Over,
}

impl Evictions {
    /// How many may be given up from now on. What was given up of late counts against the new cap too.
    pub fn limit(&mut self, cap: Cap) {
        self.cap = cap;
    }

    /// Who may be given up now, of those that could be. `holding` is how many workloads hold GPUs, these included.
    pub fn choose(&self, mut candidates: Vec<Candidate>, holding: usize, now: Time) -> BTreeSet<WorkloadId> {
        let recent = self.recent.iter().filter(|at| now.since(**at) < WINDOW).count();
        candidates.sort();
        let left = self.cap.most(holding).saturating_sub(recent);
        candidates.into_iter().take(left).map(|candidate| candidate.workload).collect()
    }

    /// So many were given up, and so many more have to wait. Answers what is new about that.
    pub fn note(&mut self, given_up: usize, waiting: usize, holding: usize, now: Time) -> Option<News> {
        self.recent.retain(|at| now.since(*at) < WINDOW);
        self.recent.extend(std::iter::repeat_n(now, given_up));
        let before = std::mem::replace(&mut self.waiting, waiting);
        match (before, waiting) {
            (0, 1..) => Some(News::Wait { waiting, most: self.cap.most(holding) }),
            (1.., 0) => Some(News::Over),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn candidate(name: usize, tier: Tier, since: i64) -> Candidate {
        Candidate { tier, since: Time(since), workload: WorkloadId::new(&format!("w-{name}")).unwrap() }
    }

    fn at(seconds: i64) -> Time {
        Time(seconds * 1_000)
    }

    #[test]
    fn firm_work_goes_first_then_who_has_waited_longest() {
        let candidates = vec![
            candidate(1, Tier::Spot, 1),
            candidate(2, Tier::Firm, 9),
            candidate(3, Tier::OnDemand, 5),
            candidate(4, Tier::OnDemand, 4),
        ];
        let mut sorted = candidates.clone();
        sorted.sort();
        let order: Vec<&str> = sorted.iter().map(|candidate| candidate.workload.as_str()).collect();
        assert_eq!(order, ["w-2", "w-4", "w-3", "w-1"]);
        assert_eq!(
            Evictions::default().choose(candidates, 4, at(0)).len(),
            4,
            "one container's runs go at once"
        );
    }

    #[test]
    fn a_fleet_that_fell_silent_is_moved_little_by_little_and_all_of_it_in_the_end() {
        // 400 workloads, all lost in one second: 20 a minute.
        let mut evictions = Evictions::default();
        let mut left: Vec<Candidate> = (0..400).map(|name| candidate(name, Tier::Spot, 0)).collect();
        let (mut minutes, mut news) = (Vec::new(), Vec::new());
        for second in 0..1_500 {
            let holding = left.len();
            let chosen = evictions.choose(left.clone(), 400, at(second));
            left.retain(|candidate| !chosen.contains(&candidate.workload));
            news.extend(evictions.note(chosen.len(), left.len(), 400, at(second)));
            minutes.resize(usize::try_from(second / 60).unwrap() + 1, 0);
            *minutes.last_mut().unwrap() += holding - left.len();
        }
        assert_eq!(left, []);
        assert!(minutes.iter().take(20).all(|moved| *moved == 20), "{minutes:?}");
        assert_eq!(news, [News::Wait { waiting: 380, most: 20 }, News::Over]);
    }

    #[test]
    fn another_cap_counts_at_once_and_what_was_given_up_before_counts_against_it() {
        let mut evictions = Evictions::default();
        let lost: Vec<Candidate> = (0..100).map(|name| candidate(name, Tier::Spot, 0)).collect();
        assert_eq!(evictions.choose(lost.clone(), 100, at(0)).len(), 8);
        evictions.note(8, 92, 100, at(0));
        let check = |evictions: &mut Evictions, percent, least, expected| {
            evictions.limit(Cap { percent, least });
            assert_eq!(evictions.choose(lost.clone(), 100, at(1)).len(), expected, "{percent} {least}");
        };
        check(&mut evictions, 50, 8, 42);
        check(&mut evictions, 5, 1, 0);
        check(&mut evictions, 1, 10, 2);
        check(&mut evictions, 100, 0, 92);
        assert_eq!(evictions.note(42, 50, 100, at(1)), None, "they waited before");
    }

    #[test]
    fn whoever_comes_back_in_time_is_not_moved_and_frees_nothing_for_others() {
        let mut evictions = Evictions::default();
        let lost: Vec<Candidate> = (0..30).map(|name| candidate(name, Tier::OnDemand, 0)).collect();
        let first = evictions.choose(lost.clone(), 30, at(0));
        assert_eq!(evictions.note(first.len(), 22, 30, at(0)), Some(News::Wait { waiting: 22, most: 8 }));
        assert_eq!(evictions.choose(lost.clone(), 30, at(59)), BTreeSet::new());
        assert_eq!(evictions.choose(lost[8..].to_vec(), 30, at(60)).len(), 8);
        assert_eq!(evictions.note(0, 0, 30, at(61)), Some(News::Over), "the others are back in touch");
    }
}
