//! What one session has made ready for hashing: the coinbases of the jobs it last had shares of, and the last root.
//!
//! Assumes that a job's number on the wire is given once, so that what was prepared for it stays right. Nothing is
//! prepared before the first share: a connection that only listens costs nothing here. Next: `../batch.rs`.

use super::handed::Handed;
use crate::batch::{Attempt, Hashed, hash_all};
use crate::coinbase::Coinbase;
use crate::message::Said;
use std::collections::VecDeque;
use std::sync::Arc;

/// Jobs kept ready: the present one, the one before, whose shares are on the wire, and one more for a difficulty step.
/// Some 400 bytes each.
const MAX_READY: usize = 3;

#[derive(Clone, Debug, Default)]
pub(super) struct Prepared {
    ready: VecDeque<Ready>,
}

#[derive(Clone, Debug)]
struct Ready {
    number: u64,
    coinbase: Arc<Coinbase>,
    /// The last extranonce2 and its root: miners roll nonce and version for long before they change it.
    last: Option<(Vec<u8>, [u8; 32])>,
}

/// One share to be hashed; `index` is its line's.
pub(super) struct Task<'a> {
    pub(super) index: usize,
    pub(super) handed: Handed,
    pub(super) said: Said<'a>,
    pub(super) version: u32,
}

impl Prepared {
    pub(super) fn hash(&mut self, handed: &Handed, said: &Said<'_>, version: u32) -> Hashed {
        let job = &handed.assignment.job;
        let Some(ready) = self.get(handed) else {
            let root = job.merkle_root(&handed.slice.miner, said.extranonce2);
            let header = job.header(&root, version, said.ntime, said.nonce);
            return Hashed { header, hash: header.hash() };
        };
        let attempt = Attempt {
            job,
            coinbase: &ready.coinbase,
            extranonce2: said.extranonce2,
            version,
            ntime: said.ntime,
            nonce: said.nonce,
        };
        let root = match &ready.last {
            Some((extranonce2, root)) if *extranonce2 == said.extranonce2 => *root,
            _ => {
                let root = attempt.root();
                ready.last = Some((said.extranonce2.to_owned(), root));
                root
            }
        };
        attempt.hash_with(&root)
    }

    /// One for each task, in their order.
    pub(super) fn hash_all(&mut self, tasks: &[Task<'_>]) -> Vec<Hashed> {
        let coinbases: Option<Vec<Arc<Coinbase>>> = tasks
            .iter()
            .map(|task| self.get(&task.handed).map(|ready| Arc::clone(&ready.coinbase)))
            .collect();
        let Some(coinbases) = coinbases else {
            return tasks.iter().map(|task| self.hash(&task.handed, &task.said, task.version)).collect();
        };
        let attempts = tasks.iter().zip(&coinbases).map(|(task, coinbase)| Attempt {
            job: &task.handed.assignment.job,
            coinbase,
            extranonce2: task.said.extranonce2,
            version: task.version,
            ntime: task.said.ntime,
            nonce: task.said.nonce,
        });
        let hashes = hash_all(&attempts.collect::<Vec<_>>());
        if let (Some(task), Some(hashed)) = (tasks.last(), hashes.last())
            && let Some(ready) = self.get(&task.handed)
        {
            ready.last = Some((task.said.extranonce2.to_owned(), hashed.header.root()));
        }
        hashes
    }

    /// Whether the root of this extranonce2 is known from the share before.
    pub(super) fn has_root_of(&self, handed: &Handed, extranonce2: &[u8]) -> bool {
        let ready = self.ready.iter().find(|ready| ready.number == handed.number);
        ready.and_then(|ready| ready.last.as_ref()).is_some_and(|(last, _)| last == extranonce2)
    }

    /// `None` for a slice whose extranonce2 is wider than any that is handed out.
    fn get(&mut self, handed: &Handed) -> Option<&mut Ready> {
        if let Some(index) = self.ready.iter().position(|ready| ready.number == handed.number) {
            return self.ready.get_mut(index);
        }
        let coinbase = Arc::new(Coinbase::new(&handed.assignment.job, &handed.slice.miner)?);
        if self.ready.len() >= MAX_READY {
            self.ready.pop_front();
        }
        self.ready.push_back(Ready { number: handed.number, coinbase, last: None });
        self.ready.back_mut()
    }
}
