//! A miner's search: jobs become work for the engine, finds become shares. Pure: no socket, no clock.
//!
//! Assumes Stratum's rules: extranonce2 is the miner's to choose, ntime may run ahead of the job's within limits. Each work
//! has an extranonce2 of its own within the session, so that nothing is searched twice. Next: `client.rs`.

use std::collections::BTreeMap;
use std::sync::Arc;

use stratum::job::{Assignment, Slice, Source};
use stratum::mine::Template;
use stratum::target::Difficulty;
use stratum::upstream::Outgoing;

use crate::hashing::Work;

/// Works whose finds may still be in the engine's channel; more would be stale anyway.
const REMEMBERED: usize = 8;
/// Seconds that ntime may be rolled ahead of the job's; proxies stop at 7,000.
const MAX_ROLL: u32 = 600;

#[derive(Debug)]
struct Given {
    assignment: Arc<Assignment>,
    extranonce2: Vec<u8>,
    ntime: u32,
}

/// What one miner searches, session after session.
#[derive(Debug)]
pub(super) struct Search {
    slice: Slice,
    current: Option<Arc<Assignment>>,
    given: BTreeMap<u64, Given>,
    /// Of the next work; lives on across sessions, so that finds of an earlier one are never taken for this one's.
    next_tag: u64,
    next_extranonce2: u64,
    roll: u32,
}

impl Default for Search {
    fn default() -> Search {
        let slice = Slice { extranonce1: Vec::new(), extranonce2_size: 0 };
        Search { slice, current: None, given: BTreeMap::new(), next_tag: 1, next_extranonce2: 0, roll: 0 }
    }
}

impl Search {
    /// A slice of the session that begins, or a changed one: nothing of before counts, and the next job comes soon.
    pub(super) fn set_slice(&mut self, slice: Slice) {
        self.forget();
        (self.slice, self.next_extranonce2, self.roll) = (slice, 0, 0);
    }

    /// The session has ended.
    pub(super) fn forget(&mut self) {
        self.current = None;
        self.given.clear();
    }

    /// The work of a new job.
    pub(super) fn on_job(&mut self, assignment: Arc<Assignment>) -> Work {
        if assignment.job.clean {
            self.given.clear();
        }
        self.roll = 0;
        self.current = Some(Arc::clone(&assignment));
        self.give(assignment)
    }

    /// All nonces are tried: another extranonce2, and once those are used up a later ntime. `None` where the work was not
    /// the current one, or all is searched.
    pub(super) fn on_exhausted(&mut self, tag: u64) -> Option<Work> {
        if tag + 1 != self.next_tag || !self.given.contains_key(&tag) {
            return None;
        }
        let assignment = Arc::clone(self.current.as_ref()?);
        if self.next_extranonce2 > largest(self.slice.extranonce2_size) {
            if self.roll >= MAX_ROLL {
                return None;
            }
            (self.next_extranonce2, self.roll) = (0, self.roll + 1);
        }
        Some(self.give(assignment))
    }

    /// The share of a find; `None` where its work is forgotten.
    pub(super) fn share(&self, session: u64, tag: u64, nonce: u32) -> Option<Outgoing> {
        let given = self.given.get(&tag)?;
        Some(Outgoing {
            session,
            job_id: given.assignment.job.id.clone(),
            extranonce2: given.extranonce2.as_slice().into(),
            ntime: given.ntime,
            nonce,
            version: given.assignment.job.version,
            block: false,
        })
    }

    fn give(&mut self, assignment: Arc<Assignment>) -> Work {
        let size = self.slice.extranonce2_size;
        if self.next_extranonce2 > largest(size) {
            self.next_extranonce2 = 0; // a new job is a new space
        }
        let extranonce2 = encode(self.next_extranonce2, size);
        self.next_extranonce2 += 1;
        let tag = self.next_tag;
        self.next_tag += 1;
        let job = &assignment.job;
        let ntime = job.ntime.saturating_add(self.roll);
        let template = Template::new(job, &self.slice, &extranonce2, job.version, ntime);
        let target = difficulty(&assignment).target();
        self.given.insert(tag, Given { assignment, extranonce2, ntime });
        while self.given.len() > REMEMBERED {
            self.given.pop_first();
        }
        Work { tag, template, target, nonce: 0, end: u32::MAX }
    }
}

fn difficulty(assignment: &Assignment) -> Difficulty {
    match assignment.source {
        Source::Upstream { difficulty, .. } => difficulty,
        Source::KeepAlive => Difficulty::one(),
    }
}

/// The largest extranonce2 of a size, as far as 64 bits go.
fn largest(size: usize) -> u64 {
    if size >= 8 { u64::MAX - 1 } else { (1 << (8 * size)) - 1 }
}

fn encode(number: u64, size: usize) -> Vec<u8> {
    let bytes = number.to_be_bytes();
    let mut extranonce2 = vec![0; size.saturating_sub(8)];
    extranonce2.extend(&bytes[8 - size.min(8)..]);
    extranonce2
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;
    use stratum::job::Job;

    use super::*;

    fn assignment(id: &str, clean: bool) -> Arc<Assignment> {
        let params = json!([id, "11".repeat(32), "01", "02", [], "20000000", "1d00ffff", "6878b602", clean]);
        let job = Job::from_params(params.as_array().unwrap()).unwrap();
        Arc::new(Assignment { job, source: Source::Upstream { session: 5, difficulty: Difficulty::floor() } })
    }

    fn search(size: usize) -> Search {
        let mut search = Search::default();
        search.set_slice(Slice { extranonce1: vec![7], extranonce2_size: size });
        search
    }

    #[test]
    fn every_work_of_a_session_has_its_own_extranonce2() {
        let mut search = search(4);
        let mut seen = std::collections::BTreeSet::new();
        let mut tag = search.on_job(assignment("a", true)).tag;
        for _ in 0..300 {
            seen.insert(search.share(5, tag, 0).unwrap().extranonce2.to_vec());
            tag = search.on_exhausted(tag).unwrap().tag;
        }
        assert_eq!(seen.len(), 300);
    }

    #[test]
    fn ntime_moves_when_extranonce2_is_used_up() {
        let mut search = search(1);
        let mut tag = search.on_job(assignment("a", true)).tag;
        for _ in 0..256 {
            assert_eq!(search.share(5, tag, 0).unwrap().ntime, 0x6878_b602);
            tag = search.on_exhausted(tag).unwrap().tag;
        }
        let share = search.share(5, tag, 0).unwrap();
        assert_eq!((share.ntime, &*share.extranonce2), (0x6878_b603, &[0][..]));
    }

    #[test]
    fn finds_of_old_work_are_shares_until_a_clean_job() {
        let mut search = search(4);
        let first = search.on_job(assignment("a", true)).tag;
        let second = search.on_job(assignment("b", false)).tag;
        assert_eq!(&*search.share(5, first, 9).unwrap().job_id, "a");
        assert_eq!(search.on_exhausted(first).map(|work| work.tag), None, "the engine is past it");
        search.on_job(assignment("c", true));
        assert_eq!(search.share(5, second, 9), None);
        assert_eq!(search.share(5, 99, 9), None);
    }

    #[test]
    fn tags_live_on_with_another_slice() {
        let mut search = search(4);
        let old = search.on_job(assignment("a", true)).tag;
        search.set_slice(Slice { extranonce1: vec![8], extranonce2_size: 2 });
        assert_eq!(search.share(5, old, 1), None);
        assert_eq!(search.on_exhausted(old).map(|work| work.tag), None);
        let new = search.on_job(assignment("b", true)).tag;
        assert!(new > old);
        assert_eq!(*search.share(5, new, 1).unwrap().extranonce2, [0, 0]);
    }
}
