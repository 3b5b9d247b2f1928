//! One sealed segment as a file: `MODULE/SEQUENCE.seg`, a line of header (schema, digest, checksum) and a line of JSON.
//!
//! Assumes that a rename in one directory is atomic and durable once the directory is synced. Read next: `totals.rs`.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use model::ModuleId;
use model::ledger::Segment;
use serde::{Deserialize, Serialize};

use super::Error;
use crate::observe::hex;

/// The schema that this program writes.
const SCHEMA: u32 = 1;

/// A segment as it was read.
#[derive(Debug)]
pub(super) struct Sealed {
    pub(super) segment: Segment,
    /// In hex.
    pub(super) sha256: String,
}

#[derive(Serialize, Deserialize)]
struct Header {
    schema: u32,
    /// As the agent sealed it; compared for equality only.
    sha256: String,
    /// Of the second line, without its end.
    crc32: u32,
}

/// Where a segment lies. Twelve digits sort by number up to one segment a second for 30,000 years.
pub(super) fn path(dir: &Path, module: &ModuleId, sequence: u64) -> PathBuf {
    dir.join(module.as_str()).join(format!("{sequence:012}.seg"))
}

/// Writes aside, syncs, renames, syncs the directory.
pub(super) fn write(path: &Path, segment: &Segment, sha256: &[u8]) -> Result<(), Error> {
    let failed = |source: std::io::Error| Error::Io { path: path.to_owned(), source };
    let parent = path.parent().unwrap_or(Path::new("."));
    make_dir(parent)?;
    let body = serde_json::to_vec(segment).map_err(|error| failed(error.into()))?;
    let header = Header { schema: SCHEMA, sha256: hex(sha256), crc32: crc32fast::hash(&body) };
    let mut bytes = serde_json::to_vec(&header).map_err(|error| failed(error.into()))?;
    bytes.push(b'\n');
    bytes.extend_from_slice(&body);
    bytes.push(b'\n');
    let aside = path.with_extension("tmp");
    let mut file = File::create(&aside).map_err(failed)?;
    file.write_all(&bytes).and_then(|()| file.sync_all()).map_err(failed)?;
    fs::rename(&aside, path).map_err(failed)?;
    sync_dir(parent)
}

/// Reads a segment and checks its checksum.
pub(super) fn read(path: &Path) -> Result<Sealed, Error> {
    let damaged = |why: &str| Error::Damaged { path: path.to_owned(), why: why.into() };
    let text = fs::read(path).map_err(|source| Error::Io { path: path.to_owned(), source })?;
    let end = text.iter().position(|byte| *byte == b'\n').ok_or_else(|| damaged("no header"))?;
    let (header, body) = text.split_at(end);
    let header: Header =
        serde_json::from_slice(header).map_err(|_| damaged("a header that does not parse"))?;
    if header.schema != SCHEMA {
        return Err(damaged("a schema of a newer version"));
    }
    let body = body.strip_prefix(b"\n").and_then(|body| body.strip_suffix(b"\n"));
    let body = body.ok_or_else(|| damaged("no end"))?;
    if crc32fast::hash(body) != header.crc32 {
        return Err(damaged("its checksum does not fit"));
    }
    let segment = serde_json::from_slice(body).map_err(|_| damaged("lines that do not parse"))?;
    Ok(Sealed { segment, sha256: header.sha256 })
}

/// Makes a directory durable.
pub(super) fn make_dir(dir: &Path) -> Result<(), Error> {
    if dir.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(dir).map_err(|source| Error::Io { path: dir.to_owned(), source })?;
    dir.parent().filter(|parent| !parent.as_os_str().is_empty()).map_or(Ok(()), sync_dir)
}

/// The modules that have segments, in order.
pub(super) fn modules(dir: &Path) -> Result<Vec<ModuleId>, Error> {
    let mut modules: Vec<ModuleId> = names(dir)?.iter().filter_map(|name| ModuleId::new(name).ok()).collect();
    modules.sort();
    Ok(modules)
}

/// The numbers of a module's segments, in order.
pub(super) fn sequences(dir: &Path, module: &ModuleId) -> Result<Vec<u64>, Error> {
    let names = names(&dir.join(module.as_str()))?;
    let mut found: Vec<u64> =
        names.iter().filter_map(|name| name.strip_suffix(".seg")?.parse().ok()).collect();
    found.sort_unstable();
    Ok(found)
}

fn names(dir: &Path) -> Result<Vec<String>, Error> {
    let failed = |source: std::io::Error| Error::Io { path: dir.to_owned(), source };
    let entries = fs::read_dir(dir).map_err(failed)?;
    let name =
        |entry: std::io::Result<fs::DirEntry>| entry.map(|entry| entry.file_name().to_string_lossy().into());
    entries.map(name).collect::<Result<Vec<String>, std::io::Error>>().map_err(failed)
}

fn sync_dir(dir: &Path) -> Result<(), Error> {
    let synced = File::open(dir).and_then(|dir| dir.sync_all());
    synced.map_err(|source| Error::Io { path: dir.to_owned(), source })
}
