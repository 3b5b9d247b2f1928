//! The ledger's sink: sealed segments of agents, kept as files, and the sums that usage and status are read from.
//!
//! A segment's (module, sequence) names its file, so a repeat changes nothing; a gap is refused. A file is written aside,
//! synced, renamed, and its directory synced, before anything is acknowledged. The sums are rebuilt from the files at start.
//! Assumes one process per directory (the store's lock sees to that in `dev`). Read next: `ledger/totals.rs`.

#[cfg(feature = "archive")]
mod archive;
mod file;
mod totals;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use model::ModuleId;
use model::ledger::Segment;

pub use totals::{Totals, Used};

/// Why a segment was not taken.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A segment is missing before this one.
    #[error("segment {found} of module {module} came where {expected} was expected; send {expected} first")]
    Gap {
        /// Whose.
        module: ModuleId,
        /// What came.
        found: u64,
        /// What should have come.
        expected: u64,
    },
    /// Another segment is kept under the same number.
    #[error(
        "segment {sequence} of module {module} differs from the one that is kept; its outbox was restored from an older copy: move it away"
    )]
    Conflict {
        /// Whose.
        module: ModuleId,
        /// Which.
        sequence: u64,
    },
    /// A file is not what was written.
    #[error("the ledger file {} is damaged ({why}); restore it from a copy before you start again", path.display())]
    Damaged {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The disk failed.
    #[error("the ledger file {} could not be written or read; check the disk", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// A cheap handle on the sink.
#[derive(Clone, Debug)]
pub struct Sink(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    dir: PathBuf,
    /// The last segment of each module that is durable.
    kept: BTreeMap<ModuleId, u64>,
    totals: Totals,
}

impl Sink {
    /// Opens the ledger in `dir`, reading every segment once. Blocks on the disk.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        file::make_dir(dir)?;
        let mut inner = Inner { dir: dir.to_owned(), kept: BTreeMap::new(), totals: Totals::default() };
        for module in file::modules(dir)? {
            let mut last = 0;
            for sequence in file::sequences(dir, &module)? {
                let sealed = file::read(&file::path(dir, &module, sequence))?;
                inner.totals.add(&sealed.segment);
                last = sequence;
            }
            inner.kept.insert(module, last);
        }
        Ok(Self(Arc::new(Mutex::new(inner))))
    }

    /// Makes a segment durable and answers up to which sequence the module's ledger is. Blocks on the disk. `floor` is the
    /// watermark in the store, for a directory that began later than the store.
    pub fn take(&self, segment: &Segment, sha256: &[u8], floor: u64) -> Result<u64, Error> {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let module = &segment.module;
        let kept = inner.kept.get(module).copied().unwrap_or(0).max(floor);
        let path = file::path(&inner.dir, module, segment.sequence);
        if segment.sequence <= kept {
            return same_again(&path, segment, sha256).map(|()| kept);
        }
        let expected = kept + 1;
        if segment.sequence != expected {
            return Err(Error::Gap { module: module.clone(), found: segment.sequence, expected });
        }
        file::write(&path, segment, sha256)?;
        inner.totals.add(segment);
        inner.kept.insert(module.clone(), segment.sequence);
        Ok(segment.sequence)
    }

    /// The last segment of a module that is durable here; 0 = none.
    pub fn kept(&self, module: &ModuleId) -> u64 {
        self.with(|inner| inner.kept.get(module).copied().unwrap_or(0))
    }

    /// Reads the sums.
    pub fn totals<T>(&self, read: impl FnOnce(&Totals) -> T) -> T {
        self.with(|inner| read(&inner.totals))
    }

    fn with<T>(&self, read: impl FnOnce(&Inner) -> T) -> T {
        read(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A repeat must be the same segment. One whose file is elsewhere by now (floor above this directory) is believed.
fn same_again(path: &Path, segment: &Segment, sha256: &[u8]) -> Result<(), Error> {
    if !path.exists() || file::read(path)?.sha256 == crate::observe::hex(sha256) {
        return Ok(());
    }
    Err(Error::Conflict { module: segment.module.clone(), sequence: segment.sequence })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use model::Time;
    use model::ledger::{Gap, Line};

    use super::*;
    use crate::testing::{TestDir, module_id};

    fn segment(sequence: u64) -> Segment {
        let gap = Gap { from: None, to: Time(sequence as i64), why: "test".into() };
        let (from, to) = (Time(0), Time(1));
        Segment { module: module_id("m1"), sequence, from, to, lines: vec![Line::Gap(gap)] }
    }

    fn taken(sink: &Sink, sequence: u64, digest: u8) -> Result<u64, String> {
        sink.take(&segment(sequence), &[digest; 32], 0).map_err(|error| error.to_string())
    }

    #[test]
    fn segments_are_kept_once_in_order_and_survive_a_restart() {
        let dir = TestDir::new("ledger");
        let sink = Sink::open(dir.path()).unwrap();
        assert_eq!(taken(&sink, 1, 1), Ok(1));
        assert_eq!(taken(&sink, 2, 2), Ok(2));
        assert_eq!(taken(&sink, 1, 1), Ok(2), "a repeat changes nothing");
        assert!(taken(&sink, 4, 4).unwrap_err().contains("send 3 first"));
        assert!(taken(&sink, 2, 9).unwrap_err().contains("differs"));
        let again = Sink::open(dir.path()).unwrap();
        assert_eq!(again.kept(&module_id("m1")), 2);
        assert_eq!(again.totals(|totals| totals.gaps), 2, "each segment is counted once");
        assert_eq!(taken(&again, 3, 3), Ok(3));
    }

    #[test]
    fn the_watermark_of_the_store_is_the_floor_of_a_new_directory() {
        let dir = TestDir::new("ledger-floor");
        let sink = Sink::open(dir.path()).unwrap();
        let take = |sequence: u64| sink.take(&segment(sequence), &[1; 32], 7).map_err(|e| e.to_string());
        assert!(take(9).unwrap_err().contains("send 8 first"));
        assert_eq!(take(3), Ok(7));
        assert_eq!(take(8), Ok(8));
    }

    #[test]
    fn a_damaged_file_and_a_half_written_one_are_told_apart() {
        let dir = TestDir::new("ledger-damage");
        let sink = Sink::open(dir.path()).unwrap();
        taken(&sink, 1, 1).unwrap();
        let path = file::path(dir.path(), &module_id("m1"), 1);
        // What a crash in the middle of a write leaves is not counted.
        std::fs::write(path.with_extension("tmp"), b"half").unwrap();
        assert_eq!(Sink::open(dir.path()).unwrap().kept(&module_id("m1")), 1);
        let text = std::fs::read_to_string(&path).unwrap().replace("test", "tests");
        std::fs::write(&path, text).unwrap();
        let error = Sink::open(dir.path()).unwrap_err();
        assert!(matches!(error, Error::Damaged { .. }), "{error}");
    }
}
