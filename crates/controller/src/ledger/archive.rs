//! The sink as the source of the archive: which segments this controller holds, and one of them.
//!
//! Only with the feature `archive`. Reads files that are never changed once they have their name, so it takes the sink's lock for
//! no longer than a copy of some numbers. Read next: the crate `archive`, its `task.rs`.

use std::collections::BTreeMap;

use archive::ledger::{Failed, Ledger};
use model::ModuleId;
use model::ledger::Segment;

use super::{Sink, file};

impl Ledger for Sink {
    fn kept(&self) -> BTreeMap<ModuleId, u64> {
        self.with(|inner| inner.kept.clone())
    }

    /// Mostly the next number is there, and costs a look at each file. Where it is not, the directory is listed, once for a hole.
    fn stretch(&self, module: &ModuleId, after: u64, limit: u64) -> Result<Option<(u64, u64)>, Failed> {
        let (dir, kept) =
            self.with(|inner| (inner.dir.clone(), inner.kept.get(module).copied().unwrap_or(0)));
        // Numbers beyond it may have a file that is not acknowledged yet; the next pass takes it.
        let is_held = |sequence: &u64| *sequence <= kept && file::path(&dir, module, *sequence).is_file();
        let first = match Some(after + 1).filter(is_held) {
            Some(first) => first,
            None if after >= kept => return Ok(None),
            None => match file::sequences(&dir, module)?.into_iter().find(|sequence| *sequence > after) {
                Some(first) => first,
                None => return Ok(None),
            },
        };
        let last = (first..first.saturating_add(limit)).take_while(is_held).last();
        Ok(last.map(|last| (first, last)))
    }

    fn read(&self, module: &ModuleId, sequence: u64) -> Result<Segment, Failed> {
        let dir = self.with(|inner| inner.dir.clone());
        Ok(file::read(&file::path(&dir, module, sequence))?.segment)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use model::Time;
    use model::ledger::Segment;

    use super::*;
    use crate::testing::{TestDir, module_id};

    fn segment(sequence: u64) -> Segment {
        Segment { module: module_id("m1"), sequence, from: Time(0), to: Time(0), lines: Vec::new() }
    }

    #[test]
    fn stretches_are_what_is_held_without_holes() {
        let dir = TestDir::new("ledger-archive");
        let sink = Sink::open(dir.path()).unwrap();
        // What another controller holds, by the watermark: 4 and 5, then 8.
        for (sequence, floor) in [(1, 0), (2, 0), (3, 0), (6, 5), (7, 0), (9, 8)] {
            sink.take(&segment(sequence), &[1; 32], floor).unwrap();
        }
        let check = |after, limit, expected| {
            assert_eq!(sink.stretch(&module_id("m1"), after, limit).unwrap(), expected, "{after} {limit}");
        };
        check(0, 10, Some((1, 3)));
        check(0, 2, Some((1, 2)));
        check(2, 10, Some((3, 3)));
        check(3, 10, Some((6, 7)));
        check(7, 10, Some((9, 9)));
        check(9, 10, None);
        assert_eq!(sink.stretch(&module_id("m2"), 0, 10).unwrap(), None);
        assert_eq!(sink.kept(&module_id("m1")), 9);
        assert_eq!(Ledger::kept(&sink), [(module_id("m1"), 9)].into());
        assert_eq!(sink.read(&module_id("m1"), 6).unwrap(), segment(6));
        let missing = sink.read(&module_id("m1"), 4).unwrap_err();
        assert!(missing.to_string().contains("000000000004.seg"), "{missing}");
    }
}
