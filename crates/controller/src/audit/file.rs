//! One module's auditor as a file: `MODULE/shares.json`, beside the module's segments.
//!
//! Assumes that a rename in one directory is atomic and durable once the directory is synced. Read next: `../audit.rs`.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use model::ModuleId;
use serde::{Deserialize, Serialize};
use stratum::commit::Auditor;

use super::Error;

/// The layout that this program writes.
const SCHEMA: u32 = 1;
const NAME: &str = "shares.json";

#[derive(Serialize, Deserialize)]
struct Kept<A> {
    schema: u32,
    auditor: A,
}

/// Where a module's audits lie.
pub(super) fn path(dir: &Path, module: &ModuleId) -> PathBuf {
    dir.join(module.as_str()).join(NAME)
}

/// The audits of all modules.
pub(super) fn read_all(dir: &Path) -> Result<BTreeMap<ModuleId, Auditor>, Error> {
    let failed = |source: std::io::Error| Error::Io { path: dir.to_owned(), source };
    let mut modules = BTreeMap::new();
    for entry in fs::read_dir(dir).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        let Some(module) = name.to_str().and_then(|name| ModuleId::new(name).ok()) else { continue };
        if let Some(auditor) = read(&path(dir, &module))? {
            modules.insert(module, auditor);
        }
    }
    Ok(modules)
}

fn read(path: &Path) -> Result<Option<Auditor>, Error> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(Error::Io { path: path.to_owned(), source }),
    };
    let damaged = |source| Error::Damaged { path: path.to_owned(), source };
    let kept: Kept<Auditor> = serde_json::from_slice(&bytes).map_err(damaged)?;
    if kept.schema != SCHEMA {
        return Err(damaged(serde::de::Error::custom("it was written by a newer version")));
    }
    Ok(Some(kept.auditor))
}

/// Writes aside, syncs, renames, syncs the directory.
pub(super) fn write(dir: &Path, module: &ModuleId, auditor: &Auditor) -> Result<(), Error> {
    let path = path(dir, module);
    let failed = |source: std::io::Error| Error::Io { path: path.clone(), source };
    let parent = dir.join(module.as_str());
    fs::create_dir_all(&parent).map_err(failed)?;
    let bytes =
        serde_json::to_vec(&Kept { schema: SCHEMA, auditor }).map_err(|error| failed(error.into()))?;
    let aside = path.with_extension("tmp");
    let mut file = File::create(&aside).map_err(failed)?;
    file.write_all(&bytes).and_then(|()| file.sync_all()).map_err(failed)?;
    fs::rename(&aside, &path).map_err(failed)?;
    File::open(&parent).and_then(|dir| dir.sync_all()).map_err(failed)
}
