//! How far this controller's ledger is archived: a small file beside the ledger.
//!
//! It belongs to one place. Where it is lost, damaged, or another place is archived to, everything is archived again: files of the
//! same name, or rows of the same key. Written aside, synced, renamed, the directory synced. Read next: `pass.rs`.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use model::ModuleId;
use serde::{Deserialize, Serialize};

const SCHEMA: u32 = 1;

/// Why it was not written or read.
#[derive(Debug, thiserror::Error)]
#[error("the archive's state {} could not be written or read; check the disk", path.display())]
pub struct Error {
    path: PathBuf,
    #[source]
    source: std::io::Error,
}

/// How far.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    schema: u32,
    /// Where to.
    place: String,
    /// The last archived segment of each module.
    pub archived: BTreeMap<ModuleId, u64>,
}

/// How a state was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// It goes on.
    Same,
    /// There was none.
    None,
    /// It is of another place.
    OtherPlace,
    /// It does not parse, or comes from a newer version.
    Damaged,
}

impl State {
    /// Nothing is archived there yet.
    pub fn new(place: &str) -> Self {
        Self { schema: SCHEMA, place: place.into(), archived: BTreeMap::new() }
    }

    /// Reads it. Blocks on the disk.
    pub fn load(path: &Path, place: &str) -> Result<(Self, Found), Error> {
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok((Self::new(place), Found::None)),
            Err(source) => return Err(Error { path: path.to_owned(), source }),
        };
        Ok(match serde_json::from_slice::<Self>(&bytes) {
            Ok(state) if state.schema != SCHEMA => (Self::new(place), Found::Damaged),
            Ok(state) if state.place != place => (Self::new(place), Found::OtherPlace),
            Ok(state) => (state, Found::Same),
            Err(_) => (Self::new(place), Found::Damaged),
        })
    }

    /// Makes it durable. Blocks on the disk.
    pub fn save(&self, path: &Path) -> Result<(), Error> {
        let failed = |source: std::io::Error| Error { path: path.to_owned(), source };
        let bytes = serde_json::to_vec(self).map_err(|error| failed(error.into()))?;
        let aside = path.with_extension("tmp");
        let mut file = File::create(&aside).map_err(failed)?;
        file.write_all(&bytes).and_then(|()| file.sync_all()).map_err(failed)?;
        fs::rename(&aside, path).map_err(failed)?;
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        File::open(parent.unwrap_or(Path::new("."))).and_then(|dir| dir.sync_all()).map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::testing::{TestDir, module};

    #[test]
    fn it_goes_on_where_it_was_and_starts_over_for_another_place() {
        let dir = TestDir::new("state");
        let path = dir.path().join("archive.json");
        let check = |place: &str, archived: Option<u64>, found| {
            let (state, how) = State::load(&path, place).unwrap();
            assert_eq!((state.archived.get(&module("m1")).copied(), how), (archived, found), "{place}");
        };
        check("file:///a", None, Found::None);
        let mut state = State::new("file:///a");
        state.archived.insert(module("m1"), 7);
        state.save(&path).unwrap();
        check("file:///a", Some(7), Found::Same);
        check("file:///b", None, Found::OtherPlace);
        let newer = fs::read_to_string(&path).unwrap().replace("\"schema\":1", "\"schema\":2");
        for damaged in ["", "{", &newer] {
            fs::write(&path, damaged).unwrap();
            check("file:///a", None, Found::Damaged);
        }
    }

    #[test]
    fn a_disk_that_fails_is_told_with_its_path() {
        let dir = TestDir::new("state-dir");
        let error = State::load(dir.path(), "file:///a").unwrap_err();
        assert!(error.to_string().contains("check the disk"), "{error}");
        assert!(State::new("a").save(&dir.path().join("missing/archive.json")).is_err());
    }
}
