//! The accounting equation: every share received has exactly one end, or is in flight; in count and in integer work, for
//! each worker. And the hash rate that verified work proves.
//!
//! Assumes that the caller reports each share once when it is received and once when it ended; the books notice when it
//! does not. Next: `downstream.rs` and `upstream.rs`, whose outputs are what is booked.

use crate::upstream::PoolReject;
use crate::verify::Reject;
use model::Work;
use std::collections::{BTreeMap, VecDeque};
use std::ops::AddAssign;

/// Workers with books of their own. A module has some 300 miners; more than this many names is a mistake or an attack,
/// and goes into one book of the name `OTHERS`.
pub const MAX_WORKERS: usize = 4_096;
pub const OTHERS: &str = "(others)";

/// How a share ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    RejectedLocally(Reject),
    CountedBelowUpstream,
    CountedKeepAlive,
    ForwardedAccepted,
    ForwardedRejected(PoolReject),
    /// Forwarded, and no answer will come any more.
    Unknown,
}

impl End {
    /// Whether the share's work was verified here.
    pub fn is_verified(&self) -> bool {
        !matches!(self, End::RejectedLocally(_))
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub shares: u64,
    pub work: Work,
}

impl Tally {
    fn one(work: Work) -> Tally {
        Tally { shares: 1, work }
    }

    fn checked_sub(self, other: Tally) -> Option<Tally> {
        let work = Work(self.work.0.checked_sub(other.work.0)?);
        Some(Tally { shares: self.shares.checked_sub(other.shares)?, work })
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Tally) {
        self.shares += other.shares;
        self.work += other.work;
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("a share ended that was not in flight: it was booked twice or never received")]
    NotInFlight,
    #[error("received {received:?} is not ended {ended:?} plus in flight {in_flight:?}: books were lost")]
    Imbalance { received: Tally, ended: Tally, in_flight: Tally },
}

/// One worker's book. Private fields: changed only in pairs that keep the equation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    received: Tally,
    in_flight: Tally,
    ends: BTreeMap<End, Tally>,
}

impl Account {
    pub fn receive(&mut self, work: Work) {
        self.received += Tally::one(work);
        self.in_flight += Tally::one(work);
    }

    pub fn finish(&mut self, work: Work, end: End) -> Result<(), Error> {
        self.in_flight = self.in_flight.checked_sub(Tally::one(work)).ok_or(Error::NotInFlight)?;
        *self.ends.entry(end).or_default() += Tally::one(work);
        Ok(())
    }

    pub fn check(&self) -> Result<(), Error> {
        let (received, in_flight, ended) = (self.received, self.in_flight, self.sum(|_| true));
        let mut sum = ended;
        sum += in_flight;
        if sum == received { Ok(()) } else { Err(Error::Imbalance { received, ended, in_flight }) }
    }

    pub fn received(&self) -> Tally {
        self.received
    }

    pub fn in_flight(&self) -> Tally {
        self.in_flight
    }

    pub fn ends(&self) -> &BTreeMap<End, Tally> {
        &self.ends
    }

    pub fn sum(&self, which: impl Fn(&End) -> bool) -> Tally {
        let mut sum = Tally::default();
        self.ends.iter().filter(|(end, _)| which(end)).for_each(|(_, tally)| sum += *tally);
        sum
    }

    fn add(&mut self, other: &Account) {
        self.received += other.received;
        self.in_flight += other.in_flight;
        for (end, tally) in &other.ends {
            *self.ends.entry(*end).or_default() += *tally;
        }
    }
}

/// The books of all workers. Private fields: at most `MAX_WORKERS` names.
#[derive(Clone, Debug, Default)]
pub struct Accounts {
    workers: BTreeMap<String, Account>,
}

impl Accounts {
    /// `None` for shares of nobody: sent before anyone was authorized.
    pub fn receive(&mut self, worker: Option<&str>, work: Work) {
        self.book(worker).receive(work);
    }

    pub fn finish(&mut self, worker: Option<&str>, work: Work, end: End) -> Result<(), Error> {
        self.book(worker).finish(work, end)
    }

    pub fn workers(&self) -> &BTreeMap<String, Account> {
        &self.workers
    }

    pub fn total(&self) -> Account {
        let mut total = Account::default();
        self.workers.values().for_each(|account| total.add(account));
        total
    }

    /// Every book balances, each by itself.
    pub fn check(&self) -> Result<(), Error> {
        self.workers.values().try_for_each(Account::check)
    }

    fn book(&mut self, worker: Option<&str>) -> &mut Account {
        let name = worker.unwrap_or(OTHERS);
        // Once full it stays full, so that a share ends in the book that received it.
        let known = self.workers.contains_key(name) || self.workers.len() < MAX_WORKERS;
        let name = if known { name } else { OTHERS };
        if !self.workers.contains_key(name) {
            self.workers.insert(name.to_owned(), Account::default());
        }
        self.workers.get_mut(name).expect("it was there or has just been put there")
    }
}

/// What verified work proves about a hash rate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HashrateEstimate {
    pub hashes_per_second: f64,
    pub shares: u64,
    /// One standard deviation over the value, `1/sqrt(shares)`; `None` without shares: then nothing is proven.
    pub relative_error: Option<f64>,
}

/// Steps that a window is counted in: what leaves it does so a sixtieth at a time.
const STEPS: u64 = 60;

/// Verified work over a sliding window. Private fields: at most `STEPS + 1` entries, times ascending.
#[derive(Clone, Debug)]
pub struct HashrateWindow {
    window_ms: u64,
    since_ms: u64,
    steps: VecDeque<(/* begins, ms */ u64, Tally)>,
}

impl HashrateWindow {
    pub fn new(window_ms: u64, now_ms: u64) -> HashrateWindow {
        HashrateWindow { window_ms: window_ms.max(STEPS), since_ms: now_ms, steps: VecDeque::new() }
    }

    pub fn record(&mut self, now_ms: u64, work: Work) {
        let step_ms = self.window_ms / STEPS;
        let begin = now_ms - now_ms % step_ms;
        match self.steps.back_mut() {
            Some((last, tally)) if *last >= begin => *tally += Tally::one(work),
            _ => self.steps.push_back((begin, Tally::one(work))),
        }
        self.expire(now_ms);
    }

    /// `None` until time has passed.
    pub fn estimate(&mut self, now_ms: u64) -> Option<HashrateEstimate> {
        self.expire(now_ms);
        let elapsed_ms = now_ms.saturating_sub(self.since_ms).min(self.window_ms);
        if elapsed_ms == 0 {
            return None;
        }
        let mut sum = Tally::default();
        self.steps.iter().for_each(|(_, tally)| sum += *tally);
        Some(HashrateEstimate {
            hashes_per_second: sum.work.as_f64() * 1_000.0 / elapsed_ms as f64,
            shares: sum.shares,
            relative_error: (sum.shares > 0).then(|| 1.0 / (sum.shares as f64).sqrt()),
        })
    }

    fn expire(&mut self, now_ms: u64) {
        let first = now_ms.saturating_sub(self.window_ms);
        while self.steps.front().is_some_and(|(begin, _)| *begin < first) {
            self.steps.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    const ENDS: [End; 6] = [
        End::RejectedLocally(Reject::Stale),
        End::CountedBelowUpstream,
        End::CountedKeepAlive,
        End::ForwardedAccepted,
        End::ForwardedRejected(PoolReject::Duplicate),
        End::Unknown,
    ];

    #[test]
    fn a_share_ends_once() {
        let mut account = Account::default();
        account.receive(Work(7));
        assert_eq!(account.finish(Work(7), End::Unknown), Ok(()));
        assert_eq!(account.finish(Work(7), End::ForwardedAccepted), Err(Error::NotInFlight));
        assert_eq!(account.sum(End::is_verified), Tally { shares: 1, work: Work(7) });
        assert_eq!(account.in_flight(), Tally::default());
    }

    #[test]
    fn the_checker_fires_on_lost_books() {
        let mut account = Account::default();
        account.receive(Work(7));
        assert_eq!(account.check(), Ok(()));
        account.in_flight = Tally::default();
        assert!(matches!(account.check(), Err(Error::Imbalance { .. })));
    }

    #[test]
    fn too_many_names_share_one_book() {
        let mut accounts = Accounts::default();
        for number in 0..2 * MAX_WORKERS {
            let name = format!("w{number}");
            accounts.receive(Some(&name), Work(1));
            accounts.finish(Some(&name), Work(1), End::ForwardedAccepted).unwrap();
        }
        assert_eq!(accounts.workers().len(), MAX_WORKERS + 1);
        assert_eq!(accounts.total().received().shares, 2 * MAX_WORKERS as u64);
        assert_eq!(accounts.check(), Ok(()));
    }

    proptest! {
        #[test]
        fn the_equation_holds_at_every_instant(steps: Vec<(bool, u8, u8, usize)>) {
            let mut accounts = Accounts::default();
            let mut open: Vec<(String, Work)> = Vec::new();
            for (receive, worker, work, end) in steps {
                if receive {
                    let share = (format!("w{}", worker % 3), Work(u128::from(work)));
                    accounts.receive(Some(&share.0), share.1);
                    open.push(share);
                } else if let Some((worker, work)) = open.pop() {
                    prop_assert_eq!(accounts.finish(Some(&worker), work, ENDS[end % ENDS.len()]), Ok(()));
                }
                prop_assert_eq!(accounts.check(), Ok(()));
                let total = accounts.total();
                prop_assert_eq!(total.in_flight().shares, open.len() as u64);
                prop_assert_eq!(total.in_flight().work, open.iter().map(|(_, work)| *work).sum());
            }
        }
    }

    #[test]
    fn a_hash_rate_has_its_error() {
        let mut window = HashrateWindow::new(600_000, 1_000);
        assert_eq!(window.estimate(1_000), None);
        let nothing = HashrateEstimate { hashes_per_second: 0.0, shares: 0, relative_error: None };
        assert_eq!(window.estimate(2_000), Some(nothing));
        for second in 1..=100 {
            window.record(1_000 + second * 1_000, Work(5_000));
        }
        let estimate = window.estimate(101_000).unwrap();
        assert_eq!(
            estimate,
            HashrateEstimate { hashes_per_second: 5_000.0, shares: 100, relative_error: Some(0.1) }
        );
        assert_eq!(window.estimate(2_000_000), Some(nothing));
    }
}
