//! The pool's account: what each worker was credited with, what was refused and why, and which headers were paid.
//!
//! Assumes that `share.rs` has checked what is booked as accepted. The journal of paid hashes is bounded; it is what the witness
//! compares with the agents' journals. Next: `session.rs`, which books.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use model::Work;

use super::share::Refusal;

/// Hashes of paid headers kept: 32 bytes each, twice (order and set), 8 MiB and some in all. At 30 shares a second more than
/// an hour.
pub const JOURNAL_LIMIT: usize = 1 << 17;
/// Workers with a line of their own; those after them share one, so that names cannot fill the memory.
const MAX_WORKERS: usize = 4096;
/// Whose line that is.
const OTHERS: &str = "(others)";

/// What one worker, or all of them, were credited with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// Shares accepted.
    pub accepted: u64,
    /// Their expected hashes, exactly.
    pub work: Work,
}

/// The whole account of a pool.
#[derive(Clone, Debug, Default)]
pub struct Books {
    /// By worker name.
    pub workers: BTreeMap<String, Account>,
    /// Refused shares by reason.
    pub refused: BTreeMap<Refusal, u64>,
    /// Lines that were no Stratum.
    pub garbage: u64,
    /// Connections ever accepted.
    pub connected: u64,
    paid: BTreeSet<[u8; 32]>,
    order: VecDeque<[u8; 32]>,
}

impl Books {
    /// Over all workers.
    pub fn total(&self) -> Account {
        self.workers.values().fold(Account::default(), |sum, one| Account {
            accepted: sum.accepted + one.accepted,
            work: sum.work + one.work,
        })
    }

    /// Hashes of the paid headers, oldest first, in SHA-256's byte order; at most the last [`JOURNAL_LIMIT`].
    pub fn paid(&self) -> impl ExactSizeIterator<Item = &[u8; 32]> {
        self.order.iter()
    }

    /// Shares refused, over all reasons.
    pub fn refused_total(&self) -> u64 {
        self.refused.values().sum()
    }

    /// Books a share that is good, unless its header was paid before.
    pub(super) fn pay(&mut self, worker: &str, hash: [u8; 32], work: u128) -> Result<(), Refusal> {
        if !self.paid.insert(hash) {
            return Err(Refusal::Duplicate);
        }
        self.order.push_back(hash);
        if self.order.len() > JOURNAL_LIMIT
            && let Some(oldest) = self.order.pop_front()
        {
            self.paid.remove(&oldest);
        }
        let known = self.workers.contains_key(worker) || self.workers.len() < MAX_WORKERS;
        let account = self.workers.entry(if known { worker } else { OTHERS }.to_owned()).or_default();
        account.accepted += 1;
        account.work += Work(work);
        Ok(())
    }

    pub(super) fn refuse(&mut self, refusal: Refusal) {
        *self.refused.entry(refusal).or_default() += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(number: u32) -> [u8; 32] {
        let mut hash = [0; 32];
        hash[..4].copy_from_slice(&number.to_be_bytes());
        hash
    }

    #[test]
    fn a_header_is_paid_once() {
        let mut books = Books::default();
        assert_eq!(books.pay("a", hash(1), 10), Ok(()));
        assert_eq!(books.pay("b", hash(1), 10), Err(Refusal::Duplicate));
        assert_eq!(books.pay("b", hash(2), 5), Ok(()));
        assert_eq!(books.total(), Account { accepted: 2, work: Work(15) });
        assert_eq!(books.workers["a"], Account { accepted: 1, work: Work(10) });
        assert_eq!(books.paid().collect::<Vec<_>>(), [&hash(1), &hash(2)]);
    }

    #[test]
    fn the_journal_and_the_workers_are_bounded() {
        let mut books = Books::default();
        for number in 0..JOURNAL_LIMIT as u32 + 10 {
            assert_eq!(books.pay(&format!("w{}", number % 5_000), hash(number), 1), Ok(()));
        }
        assert_eq!((books.paid().len(), books.paid.len()), (JOURNAL_LIMIT, JOURNAL_LIMIT));
        assert_eq!(books.workers.len(), MAX_WORKERS + 1);
        assert_eq!(books.total().accepted, JOURNAL_LIMIT as u64 + 10);
    }
}
