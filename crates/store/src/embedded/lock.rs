//! The lock on a data directory: one process at a time.
//!
//! Assumes: the file system keeps `flock`, as every local one does; the kernel drops the lock when the process
//! dies, so a `LOCK` file left behind by a crash is no obstacle.
//! Read next: `embedded.rs`.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::Write as _;
use std::path::Path;

use crate::error::Error;

/// Holds the directory as long as it lives.
#[derive(Debug)]
pub(super) struct DirLock {
    file: File,
}

impl Drop for DirLock {
    /// Said, not left to closing the file: a child that this process forked a moment ago holds a copy of it until it executes.
    fn drop(&mut self) {
        // Where it fails, closing the file does it.
        let _ = self.file.unlock();
    }
}

/// Creates the directory if need be and locks it, or says who holds it.
pub(super) fn take(dir: &Path) -> Result<DirLock, Error> {
    fs::create_dir_all(dir).map_err(|source| unusable(dir, "cannot be created", source))?;
    let path = dir.join("LOCK");
    let mut file = OpenOptions::new()
        .create(true)
        .read(true)
        .write(true)
        .truncate(false)
        .open(&path)
        .map_err(|source| unusable(&path, "cannot be opened", source))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            // Who holds it is a hint for people; the lock itself is the truth.
            let holder = fs::read_to_string(&path).ok().and_then(|text| text.trim().parse().ok());
            return Err(Error::Locked { dir: dir.to_owned(), lock: path, holder });
        }
        Err(TryLockError::Error(source)) => return Err(unusable(&path, "cannot be locked", source)),
    }
    let written = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
    written.map_err(|source| unusable(&path, "cannot be written", source))?;
    Ok(DirLock { file })
}

fn unusable(path: &Path, what: &str, source: std::io::Error) -> Error {
    Error::Unavailable {
        what: format!("{} {what}: choose a data directory that this user may write", path.display()),
        source: Some(source.into()),
    }
}
