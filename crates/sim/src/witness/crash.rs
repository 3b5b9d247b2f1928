//! Invariant 9, crash: a module's ledger segments follow one another without a gap, and none comes again with other content.
//!
//! The first segment seen may have any number, since an installation may be older than the witness. A repeat with the same content
//! is what resuming by sequence does, and is passed over. Read next: [`super::shares`] and [`super::energy`], which read the lines.

use std::collections::{BTreeMap, VecDeque};

use model::ModuleId;
use model::ledger::Segment;
use sha2::{Digest, Sha256};

use super::book::{Book, Fault, Invariant};

/// Segments of one module whose content is remembered: at one every 30 s a day is 2,880; resuming repeats a few.
const MAX_KNOWN: usize = 4_096;

#[derive(Clone, Debug, Default)]
pub(super) struct Crash {
    modules: BTreeMap<ModuleId, Known>,
}

/// The last segments of one module.
#[derive(Clone, Debug, Default)]
struct Known {
    last: u64,
    /// Digests of the segments up to `last`, oldest first, without gaps in their numbers unless one was reported.
    digests: VecDeque<(u64, Vec<u8>)>,
}

impl Crash {
    /// Judges a segment's number and content. True when it is new, and its lines count.
    pub(super) fn segment(&mut self, segment: &Segment, book: &mut Book) -> bool {
        let known = self.modules.entry(segment.module.clone()).or_default();
        let digest = digest(segment);
        let fault = known.fault(segment.sequence, &digest);
        let fault = fault.map(|what| Fault::new(format!("module {} ledger", segment.module), what));
        book.check(Invariant::Crash, segment.to, fault);
        if segment.sequence <= known.last {
            return false;
        }
        known.last = segment.sequence;
        known.digests.push_back((segment.sequence, digest));
        if known.digests.len() > MAX_KNOWN {
            known.digests.pop_front();
        }
        true
    }
}

impl Known {
    fn fault(&self, sequence: u64, digest: &[u8]) -> Option<String> {
        if self.digests.is_empty() || sequence == self.last + 1 {
            return None;
        }
        if sequence > self.last {
            return Some(format!("segment {sequence} follows {}; those between are missing", self.last));
        }
        let before = self.digests.iter().find(|(number, _)| *number == sequence);
        let other = before.is_some_and(|(_, known)| known != digest);
        other.then(|| format!("segment {sequence} came again with other content"))
    }
}

fn digest(segment: &Segment) -> Vec<u8> {
    // Its plain data always becomes JSON; without it the repeat would look the same, never different.
    let text = serde_json::to_vec(segment).unwrap_or_default();
    Sha256::digest(&text).to_vec()
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;
    use model::ledger::{Gap, Line};

    /// Feeds segments of (sequence, content) and says how many violations there were.
    fn run(segments: &[(u64, i64)]) -> u64 {
        let mut witness = witness();
        for (sequence, content) in segments {
            let gap = Line::Gap(Gap { from: None, to: at(*content), why: "test".into() });
            let (module, lines) = (module_id(), vec![gap]);
            witness.ledger(&Segment { module, sequence: *sequence, from: at(0), to: at(1), lines });
        }
        let summary = witness.finish();
        let subject = format!("module {} ledger", module_id());
        let broken = summary.violations();
        check(&summary, 9, &vec![subject.as_str(); usize::try_from(broken).unwrap_or(0)]);
        broken
    }

    #[test]
    fn segments_follow_one_another() {
        assert_eq!(run(&[(1, 1), (2, 2), (3, 3)]), 0);
        assert_eq!(run(&[(7, 1), (8, 2)]), 0, "an older installation");
        assert_eq!(run(&[(1, 1), (2, 2), (1, 1), (2, 2), (3, 3)]), 0, "resumed");
        assert_eq!(run(&[(1, 1), (3, 3), (4, 4)]), 1, "a gap");
        assert_eq!(run(&[(1, 1), (2, 2), (2, 9), (3, 3)]), 1, "other content");
    }
}
