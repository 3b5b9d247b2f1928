//! Claims against the module's ledger: nobody may claim more than the pool has accepted.
//!
//! Each share claimed is one that the pool accepted, so that claims never exceed the ledger's accepted work but by timing.
//! Assumes that the ledger's segments and the claims come over one link, each at most minutes after its shares. Next:
//! `../auditor.rs`.

use super::Sum;
use crate::commit::book::MAX_BATCH;
use model::report::Finding;
use model::{Span, Time, Work};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// Claims must be in the ledger after so long.
const LAG: Span = Span::minutes(10);
/// A new auditor looks on for so long first: an agent tells it again what it told its predecessor.
const LOOK_ON: Span = Span::hours(1);
/// What may be claimed beyond the ledger: two batches, and a thousandth for records that a power loss took.
const SLACK_SHARES: u64 = 2 * MAX_BATCH as u64;
const SLACK_PART: u128 = 1_000;
/// Claims within [`LAG`] that are kept apart; further ones join the last.
const MAX_RECENT: usize = 256;

/// Sums of both sides. Private fields but for `paid`: `recent` is ascending in time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ledger {
    pub(super) paid: Sum,
    /// Claimed longer than [`LAG`] ago.
    aged: Sum,
    recent: VecDeque<(Time, Sum)>,
    sequence: u64,
    since: Option<Time>,
    /// Paid when it was looked on for long enough.
    looked: Option<(Time, Sum)>,
    /// Claimed and paid when it began to be compared: the claims a lag later, so that all that had been paid is in them.
    base: Option<(Sum, Sum)>,
}

impl Ledger {
    pub(super) fn on_claim(&mut self, sum: Sum, at: Time) {
        self.since.get_or_insert(at);
        let full = self.recent.len() >= MAX_RECENT;
        match self.recent.back_mut().filter(|_| full) {
            Some((_, last)) => *last = add(*last, sum),
            None => self.recent.push_back((at, sum)),
        }
    }

    pub(super) fn on_segment(&mut self, sequence: u64, accepted: Sum, at: Time) {
        let since = *self.since.get_or_insert(at);
        if sequence <= self.sequence {
            return;
        }
        self.sequence = sequence;
        self.paid = add(self.paid, accepted);
        while let Some((_, sum)) = self.recent.pop_front_if(|(claimed, _)| at.since(*claimed) >= LAG) {
            self.aged = add(self.aged, sum);
        }
        if at.since(since) >= LOOK_ON {
            let (from, paid) = *self.looked.get_or_insert((at, self.paid));
            if self.base.is_none() && at.since(from) >= LAG {
                let claimed = self.recent.iter().fold(self.aged, |sum, (_, recent)| add(sum, *recent));
                self.base = Some((claimed, paid));
            }
        }
    }

    pub(super) fn finding(&self) -> Option<Finding> {
        let (claimed, paid) = self.base?;
        let claimed = self.aged.work.0.saturating_sub(claimed.work.0);
        let paid = Sum {
            shares: self.paid.shares.saturating_sub(paid.shares),
            work: Work(self.paid.work.0.saturating_sub(paid.work.0)),
        };
        let mean = paid.work.0 / u128::from(paid.shares.max(1));
        let slack = mean.saturating_mul(SLACK_SHARES.into()) + paid.work.0 / SLACK_PART;
        // Where nothing was paid for long there is no mean: then two batches' worth of shares is judged by their count.
        let unpaid = paid.shares == 0 && self.aged.shares <= SLACK_SHARES;
        (claimed > paid.work.0.saturating_add(slack) && !unpaid).then(|| Finding {
            code: "share-claims-unpaid".into(),
            subject: "share commitments".into(),
            message: format!(
                "work of {claimed} hashes is claimed, and the pool has accepted {} in the same time; hold both against the pool's own books",
                paid.work.0
            ),
        })
    }
}

fn add(a: Sum, b: Sum) -> Sum {
    Sum { shares: a.shares.saturating_add(b.shares), work: Work(a.work.0.saturating_add(b.work.0)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORK: u128 = 1 << 32;

    /// A batch of `claimed` and a segment of `paid` shares each minute, for seven hours.
    fn run(claimed: u64, paid: u64) -> Ledger {
        let mut ledger = Ledger::default();
        let sum = |shares: u64| Sum { shares, work: Work(WORK * u128::from(shares)) };
        for minute in 0..420 {
            let at = Time(0) + Span::minutes(minute);
            ledger.on_claim(sum(claimed), at);
            ledger.on_segment(minute.unsigned_abs() + 1, sum(paid), at);
            ledger.on_segment(minute.unsigned_abs(), sum(1_000_000), at); // a repeat
        }
        ledger
    }

    #[test]
    fn claims_beyond_what_was_paid_are_found() {
        let check = |claimed: u64, paid: u64, expected: bool| {
            assert_eq!(run(claimed, paid).finding().is_some(), expected, "{claimed} {paid}");
        };
        check(100, 100, false);
        check(90, 100, false); // what was not claimed is merely not proven
        check(100, 101, false);
        check(130, 100, true); // 340 minutes of 30 exceed two batches and a lag of 100
        check(1_000, 0, true);
        check(1_000, 1_000, false);
        check(60_000, 60_000, false);
        check(0, 100, false);
    }

    #[test]
    fn the_first_hour_is_only_looked_at() {
        let mut ledger = Ledger::default();
        let much = Sum { shares: 1_000_000, work: Work(WORK * 1_000_000) };
        ledger.on_claim(much, Time(0));
        let one = Sum { shares: 1, work: Work(WORK) };
        for minute in 0i64..180 {
            ledger.on_segment(minute.unsigned_abs() + 1, one, Time(0) + Span::minutes(minute));
        }
        assert_eq!(ledger.finding(), None);
    }

    #[test]
    fn claims_within_the_lag_are_bounded() {
        let mut ledger = Ledger::default();
        for _ in 0..3 * MAX_RECENT {
            ledger.on_claim(Sum { shares: 1, work: Work(WORK) }, Time(0));
        }
        assert_eq!(ledger.recent.len(), MAX_RECENT);
        assert_eq!(ledger.recent.iter().map(|(_, sum)| sum.shares).sum::<u64>(), 3 * MAX_RECENT as u64);
    }
}
