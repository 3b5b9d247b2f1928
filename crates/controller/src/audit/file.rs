//! One module's auditor on disk, beside the module's segments: `MODULE/shares.json` says where it stood, and `MODULE/shares-N.log`
//! has a line for each step since, added and synced before the step takes effect.
//!
//! When the log is longer than what it began from, the auditor is written anew under the next N: so a note costs a line, and both files
//! together are at most twice the size of the auditor, or [`LEAST_LOG`]. Assumes that a rename in one directory is atomic, and
//! durable once the directory is synced. Read next: `../audit.rs`.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use model::ModuleId;
use serde::{Deserialize, Serialize};
use stratum::commit::Auditor;
use stratum::commit::auditor::Step;

use super::Error;

/// The layout that this program writes. The first had no log: each step wrote all of it.
const SCHEMA: u32 = 2;
const NAME: &str = "shares.json";
/// Bytes of a log that are always worth it: some 500 notes, two hours of them.
const LEAST_LOG: u64 = 256 << 10;

#[derive(Serialize, Deserialize)]
struct Snapshot<A> {
    schema: u32,
    /// The number of the log that goes on from here.
    #[serde(default)]
    log: u64,
    auditor: A,
}

/// A module's auditor, and where its next step is written. Private fields: the files hold what `auditor` is.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) auditor: Auditor,
    dir: PathBuf,
    number: u64,
    /// Bytes of the log; `None` where another must be begun.
    length: Option<u64>,
    /// Bytes of the snapshot.
    snapshot: u64,
}

/// Where a module's audits lie.
pub(super) fn path(dir: &Path, module: &ModuleId) -> PathBuf {
    dir.join(module.as_str()).join(NAME)
}

/// The audits of all modules.
pub(super) fn read_all(dir: &Path) -> Result<BTreeMap<ModuleId, Kept>, Error> {
    let mut modules = BTreeMap::new();
    for entry in fs::read_dir(dir).map_err(at(dir))? {
        let name = entry.map_err(at(dir))?.file_name();
        let Some(module) = name.to_str().and_then(|name| ModuleId::new(name).ok()) else { continue };
        if let Some(kept) = Kept::read(&path(dir, &module))? {
            modules.insert(module, kept);
        }
    }
    Ok(modules)
}

impl Kept {
    /// That of a module which has none yet.
    pub(super) fn new(dir: &Path, module: &ModuleId) -> Kept {
        let dir = dir.join(module.as_str());
        Kept { auditor: Auditor::default(), dir, number: 0, length: None, snapshot: 0 }
    }

    fn read(path: &Path) -> Result<Option<Kept>, Error> {
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(at(path)(error)),
        };
        let snapshot: Snapshot<Auditor> = serde_json::from_slice(&bytes).map_err(damaged(path))?;
        if !(1..=SCHEMA).contains(&snapshot.schema) {
            let newer = serde::de::Error::custom("it was written by a newer version");
            return Err(damaged(path)(newer));
        }
        let dir = path.parent().unwrap_or(Path::new("")).to_owned();
        let Snapshot { log: number, auditor, .. } = snapshot;
        let mut kept = Kept { auditor, dir, number, length: None, snapshot: bytes.len() as u64 };
        kept.replay()?;
        // Whoever was killed while it began this log has left the one before.
        let _ = fs::remove_file(log(&kept.dir, number.saturating_sub(1)));
        Ok(Some(kept))
    }

    /// Makes the log's steps again. A last line that is not whole was never acted upon, and is cut off.
    fn replay(&mut self) -> Result<(), Error> {
        let path = self.log();
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(at(&path)(error)),
        };
        let mut whole = 0;
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            match serde_json::from_slice::<Step>(line) {
                Ok(step) if line.ends_with(b"\n") => step.apply(&mut self.auditor),
                Err(error) if whole + line.len() < bytes.len() => return Err(damaged(&path)(error)),
                _ => break,
            }
            whole += line.len();
        }
        if whole < bytes.len() {
            let file = OpenOptions::new().write(true).open(&path).map_err(at(&path))?;
            file.set_len(whole as u64).and_then(|()| file.sync_all()).map_err(at(&path))?;
        }
        self.length = Some(whole as u64);
        Ok(())
    }

    /// Writes a step down; it is on the disk when this returns.
    pub(super) fn add(&mut self, step: &Step) -> Result<(), Error> {
        let mut line = serde_json::to_vec(step).map_err(|error| at(&self.dir)(error.into()))?;
        line.push(b'\n');
        let length = match self.length.filter(|length| *length <= LEAST_LOG.max(self.snapshot)) {
            Some(length) => length,
            None => self.renew()?,
        };
        let path = self.log();
        // Opened each time: with a file held for each module the limit of open files would be theirs.
        let written = OpenOptions::new()
            .append(true)
            .open(&path)
            .and_then(|mut file| file.write_all(&line).and_then(|()| file.sync_data()));
        // What may be half there must not stand before what comes next.
        self.length = written.is_ok().then_some(length + line.len() as u64);
        written.map_err(at(&path))
    }

    /// Writes the auditor as it is now, and begins an empty log behind it: its length.
    fn renew(&mut self) -> Result<u64, Error> {
        fs::create_dir_all(&self.dir).map_err(at(&self.dir))?;
        let (path, before, number) = (self.dir.join(NAME), self.log(), self.number + 1);
        let snapshot = Snapshot { schema: SCHEMA, log: number, auditor: &self.auditor };
        let bytes = serde_json::to_vec(&snapshot).map_err(|error| at(&path)(error.into()))?;
        // One of this number may be left over from a start that failed; with the snapshot it would count.
        let log = log(&self.dir, number);
        File::create(&log).and_then(|file| file.sync_all()).map_err(at(&log))?;
        let aside = path.with_extension("tmp");
        let mut file = File::create(&aside).map_err(at(&aside))?;
        file.write_all(&bytes).and_then(|()| file.sync_all()).map_err(at(&aside))?;
        fs::rename(&aside, &path).map_err(at(&path))?;
        File::open(&self.dir).and_then(|dir| dir.sync_all()).map_err(at(&self.dir))?;
        (self.number, self.snapshot) = (number, bytes.len() as u64);
        // One that stays is not read any more.
        let _ = fs::remove_file(&before);
        Ok(0)
    }

    fn log(&self) -> PathBuf {
        log(&self.dir, self.number)
    }
}

fn log(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("shares-{number}.log"))
}

fn at(path: &Path) -> impl Fn(io::Error) -> Error {
    move |source| Error::Io { path: path.to_owned(), source }
}

fn damaged(path: &Path) -> impl Fn(serde_json::Error) -> Error {
    move |source| Error::Damaged { path: path.to_owned(), source }
}

#[cfg(test)]
mod tests;
