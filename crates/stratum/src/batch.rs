//! Hashing of many shares at once: each root once, and all of one job side by side.
//!
//! Assumes shares whose fields were checked. Hashes depend on nothing but their fields, so that they may be computed before
//! it is decided, in order, what each share is worth. Next: `verify.rs` for the fields, `downstream.rs`, the caller.

use crate::coinbase::Coinbase;
use crate::hash::{Header, HeaderHash};
use crate::job::Job;
use crate::sha;

/// Roots looked back at for one that is needed again: a miner stays on one extranonce2 for long.
const LOOK_BACK: usize = 8;

/// What a header is made of.
#[derive(Clone, Copy, Debug)]
pub struct Attempt<'a> {
    pub job: &'a Job,
    pub coinbase: &'a Coinbase,
    pub extranonce2: &'a [u8],
    pub version: u32,
    pub ntime: u32,
    pub nonce: u32,
}

/// A header and what it hashes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hashed {
    pub header: Header,
    pub hash: HeaderHash,
}

impl Attempt<'_> {
    pub fn root(&self) -> [u8; 32] {
        self.coinbase.root(&self.job.branches, self.extranonce2)
    }

    pub fn hash_with(&self, root: &[u8; 32]) -> Hashed {
        let header = self.header(root);
        Hashed { header, hash: HeaderHash(sha::header(&header.0)) }
    }

    fn header(&self, root: &[u8; 32]) -> Header {
        self.job.header(root, self.version, self.ntime, self.nonce)
    }

    fn has_root_of(&self, other: &Attempt<'_>) -> bool {
        std::ptr::eq(self.coinbase, other.coinbase)
            && std::ptr::eq(self.job, other.job)
            && self.extranonce2 == other.extranonce2
    }
}

/// One for each attempt, in their order. Meant for the lines of one read: its time is that of hashing while there are
/// at most some tens.
pub fn hash_all(attempts: &[Attempt<'_>]) -> Vec<Hashed> {
    // Miners try many nonces and versions on one extranonce2: most roots are needed more than once.
    let mut distinct: Vec<Attempt<'_>> = Vec::new();
    let mut which = Vec::with_capacity(attempts.len());
    for attempt in attempts {
        let recent = distinct.len().saturating_sub(LOOK_BACK);
        let index = distinct[recent..].iter().rposition(|other| attempt.has_root_of(other));
        let index = index.map(|index| recent + index);
        which.push(index.unwrap_or(distinct.len()));
        if index.is_none() {
            distinct.push(*attempt);
        }
    }
    let roots = roots(&distinct);
    attempts.iter().zip(which).map(|(attempt, root)| attempt.hash_with(&roots[root])).collect()
}

fn roots(attempts: &[Attempt<'_>]) -> Vec<[u8; 32]> {
    let alike = |a: &Attempt<'_>, b: &Attempt<'_>| std::ptr::eq(a.job, b.job);
    let (mut roots, mut nodes) = (Vec::with_capacity(attempts.len() + 1), Vec::new());
    for run in attempts.chunk_by(alike) {
        if let [one] = run {
            roots.push(one.root());
            continue;
        }
        let mut part = run.iter().map(|attempt| attempt.coinbase.hash(attempt.extranonce2)).collect();
        run[0].job.branches.iter().for_each(|branch| sha::join_many(&mut part, branch, &mut nodes));
        roots.append(&mut part);
    }
    roots
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::job::Slice;
    use crate::job::tests::sample;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_batch_gives_what_each_gives_alone(
            choices in prop::collection::vec((0usize..3, 0u8..6, any::<u32>()), 0..70),
            width in 1usize..9,
        ) {
            let jobs = [sample("1", 1, true), sample("2", 2, true), Job { branches: vec![], ..sample("3", 3, true) }];
            let slice = |job: usize| Slice { extranonce1: vec![job as u8; 7], extranonce2_size: width };
            let ready: Vec<Coinbase> =
                (0..3).map(|job| Coinbase::new(&jobs[job], &slice(job)).unwrap()).collect();
            let extranonces: Vec<Vec<u8>> = choices.iter().map(|choice| vec![choice.1; width]).collect();
            let attempts: Vec<Attempt<'_>> = choices.iter().zip(&extranonces).map(|((job, _, any), extranonce2)| {
                Attempt {
                    job: &jobs[*job],
                    coinbase: &ready[*job],
                    extranonce2,
                    version: *any,
                    ntime: any.rotate_left(9),
                    nonce: any.rotate_left(17),
                }
            }).collect();
            let all = hash_all(&attempts);
            prop_assert_eq!(all.len(), attempts.len());
            for ((attempt, hashed), (job, ..)) in attempts.iter().zip(all).zip(&choices) {
                let root = jobs[*job].merkle_root(&slice(*job), attempt.extranonce2);
                let plain = jobs[*job].header(&root, attempt.version, attempt.ntime, attempt.nonce);
                prop_assert_eq!(hashed, Hashed { header: plain, hash: plain.hash() });
                prop_assert_eq!(attempt.hash_with(&attempt.root()), hashed);
            }
        }
    }
}
