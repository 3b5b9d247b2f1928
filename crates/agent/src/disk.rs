//! Files that survive kill -9 and power loss: written beside, synced, renamed, and the directory synced too.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// What went wrong with a file, and which.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {path}; check that the disk is there, writable and not full")]
pub struct Error {
    /// What was tried.
    pub action: &'static str,
    /// On which file.
    pub path: PathBuf,
    /// Why it failed.
    #[source]
    pub source: io::Error,
}

/// Attaches the file's name to an I/O error.
pub fn at<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> Error + 'a {
    move |source| Error { action, path: path.to_path_buf(), source }
}

/// Replaces `path` by `bytes`, atomically and durably: after a crash the old content is there or the new one, never a part.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let beside = path.with_extension("tmp");
    let mut file = File::create(&beside).map_err(at("create", &beside))?;
    file.write_all(bytes).map_err(at("write", &beside))?;
    file.sync_all().map_err(at("sync", &beside))?;
    fs::rename(&beside, path).map_err(at("rename to", path))?;
    sync_parent(path)
}

/// Makes the creation, renaming or removal of `path` durable.
pub fn sync_parent(path: &Path) -> Result<(), Error> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent).and_then(|dir| dir.sync_all()).map_err(at("sync", parent))
}
