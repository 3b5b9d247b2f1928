//! The disk under the embedded twin: one redb file, in which the log is the truth.
//!
//! Tables: `log` has each change since the last compaction by (revision, index); `base` has the entries as of
//! the compaction; `lease` has what was granted; `meta` has the format, the compacted revision and the next
//! lease id. A write is one log append; a compaction folds old log rows into `base`.
//!
//! Assumes: redb commits a transaction whole or not at all (checksums, one fsync), whatever byte a crash falls
//! on. A new file is made under another name and renamed when it is whole.
//! Read next: redb's design document for the file format; `writer.rs` for who calls this.

use std::fs::{self, File};
use std::panic::catch_unwind;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use redb::{Database, Durability, ReadableDatabase, ReadableTable, TableDefinition};

use super::batch::successor;
use super::leases::Leases;
use super::mark::Mark;
use super::state::{FIRST_REVISION, State};
use crate::error::Error;
use crate::key::Key;
use crate::port::{Entry, Lease, LeaseId, Revision};
use crate::watch::{Change, Commit};

/// A log row: key, value (`None`: deleted), lease (0: none).
type LogRow = (&'static str, Option<&'static [u8]>, i64);
/// A base row: create revision, mod revision, version, lease (0: none), value.
type BaseRow = (u64, u64, u64, i64, &'static [u8]);

const LOG: TableDefinition<(u64, u32), LogRow> = TableDefinition::new("log");
const BASE: TableDefinition<&str, BaseRow> = TableDefinition::new("base");
/// Time to live in milliseconds by lease.
const LEASE: TableDefinition<i64, u64> = TableDefinition::new("lease");
const META: TableDefinition<&str, u64> = TableDefinition::new("meta");

/// The layout of the tables above.
const FORMAT: u32 = 1;
/// redb's own page cache; the data live in memory anyway, so it only serves the pages being written.
const CACHE_BYTES: usize = 16 * 1024 * 1024;

/// All that one disk transaction writes.
#[derive(Debug, Default)]
pub(super) struct Write {
    pub(super) commits: Vec<Arc<Commit>>,
    pub(super) granted: Vec<Lease>,
    pub(super) ended: Vec<LeaseId>,
    pub(super) next_lease: i64,
    pub(super) compact_to: Option<Revision>,
    /// The commits up to `compact_to`, which go into the base.
    pub(super) folded: Vec<Arc<Commit>>,
}

impl Write {
    pub(super) fn is_empty(&self) -> bool {
        let Self { commits, granted, ended, next_lease: _, compact_to, folded: _ } = self;
        commits.is_empty() && granted.is_empty() && ended.is_empty() && compact_to.is_none()
    }
}

#[derive(Debug)]
pub(super) struct Disk {
    database: Database,
    /// None on a storage of the caller's, which has no directory.
    mark: Option<Mark>,
}

impl Disk {
    pub(super) fn open(dir: &Path) -> Result<Self, Error> {
        let path = dir.join("store.redb");
        let fresh = dir.join("store.redb.new");
        let database = if path.exists() {
            open_whole(&path)?
        } else {
            make(&path, &fresh, dir).map_err(|source| Error::Unavailable {
                what: format!("{} cannot be created: check the disk", path.display()),
                source: Some(source.into()),
            })?
        };
        let unreadable = |source| Error::corrupt(format!("the store {}", path.display()), source);
        let written = written(&database).map_err(unreadable)?;
        let (mark, acknowledged) = Mark::open(dir, written)?;
        if written < acknowledged {
            let what = format!(
                "the store {}, which lacks its last {} acknowledged transactions (it is damaged, or an older copy was put in \
                 its place; if that was on purpose, delete store.mark beside it and run `flareshift store raise-epoch`),",
                path.display(),
                acknowledged - written
            );
            return Err(Error::Corrupt { what, source: None });
        }
        Ok(Self { database, mark: Some(mark) })
    }

    pub(super) fn on_backend(backend: impl redb::StorageBackend) -> Result<Self, Error> {
        let unreadable = |source: redb::Error| Error::corrupt("the store", source);
        let database = builder().create_with_backend(backend).map_err(|source| unreadable(source.into()))?;
        initialise(&database).map_err(unreadable)?;
        Ok(Self { database, mark: None })
    }

    /// Reads everything back. Leases count from `now`.
    pub(super) fn load(&self, now: Duration) -> Result<(State, Leases), Error> {
        self.read(now).map_err(|source| match source {
            LoadError::Disk(source) => Error::corrupt("the store's file", source),
            LoadError::Content(what) => Error::Corrupt { what, source: None },
            LoadError::Newer(found) => Error::Newer { kind: "store file", found, known: FORMAT },
        })
    }

    /// Makes a batch durable: when it returns Ok, all of it survives a crash.
    pub(super) fn commit(&self, write: &Write) -> Result<(), redb::Error> {
        let mut transaction = self.database.begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        let number;
        {
            let mut log = transaction.open_table(LOG)?;
            for commit in &write.commits {
                append(&mut log, commit)?;
            }
            let mut meta = transaction.open_table(META)?;
            if let Some(to) = write.compact_to {
                let mut base = transaction.open_table(BASE)?;
                fold(&mut base, &write.folded)?;
                log.retain_in((0, 0)..(to.0 + 1, 0), |_, _| false)?;
                meta.insert("compacted", to.0)?;
            }
            let mut leases = transaction.open_table(LEASE)?;
            for lease in &write.granted {
                leases.insert(lease.id.0, u64::try_from(lease.ttl.as_millis()).unwrap_or(u64::MAX))?;
            }
            // After the grants: a lease may be granted and ended in one batch.
            for lease in &write.ended {
                leases.remove(lease.0)?;
            }
            meta.insert("next_lease", write.next_lease.unsigned_abs())?;
            number = meta.get("written")?.map_or(0, |guard| guard.value()) + 1;
            meta.insert("written", number)?;
        }
        transaction.commit()?;
        match &self.mark {
            Some(mark) => Ok(mark.set(number)?),
            None => Ok(()),
        }
    }

    fn read(&self, now: Duration) -> Result<(State, Leases), LoadError> {
        let transaction = self.database.begin_read()?;
        let meta = transaction.open_table(META)?;
        let number = |name: &str| -> Result<u64, LoadError> {
            let found = meta.get(name)?.map(|guard| guard.value());
            found.ok_or_else(|| LoadError::Content(format!("the store has no {name:?}; its file")))
        };
        let format = u32::try_from(number("format")?).unwrap_or(u32::MAX);
        if format != FORMAT {
            return Err(LoadError::Newer(format));
        }
        let mut base = Vec::new();
        for row in transaction.open_table(BASE)?.iter()? {
            let (key, value) = row?;
            base.push(base_entry(key.value(), value.value()));
        }
        let mut state = State::at_base(base, Revision(number("compacted")?));
        replay(&mut state, &transaction.open_table(LOG)?)?;
        let mut stored = Vec::new();
        for row in transaction.open_table(LEASE)?.iter()? {
            let (id, ttl) = row?;
            stored.push(Lease { id: LeaseId(id.value()), ttl: Duration::from_millis(ttl.value()) });
        }
        let next = i64::try_from(number("next_lease")?).unwrap_or(i64::MAX);
        Ok((state, Leases::restore(stored, next, now)))
    }
}

#[derive(Debug)]
enum LoadError {
    Disk(redb::Error),
    Content(String),
    Newer(u32),
}

impl<E: Into<redb::Error>> From<E> for LoadError {
    fn from(source: E) -> Self {
        Self::Disk(source.into())
    }
}

/// Opens a file and verifies every checksum in it.
fn open_whole(path: &Path) -> Result<Database, Error> {
    let what = || format!("the store {}", path.display());
    let verified = || {
        let mut database = builder().open(path)?;
        if !database.check_integrity()? {
            tracing::warn!(store = %path.display(), "the store was not closed well and has been mended");
        }
        Ok(database)
    };
    // Bytes that pass for a page but are none may bring redb to panic.
    match catch_unwind(verified) {
        Ok(opened) => opened.map_err(|source: redb::Error| Error::corrupt(what(), source)),
        Err(_) => Err(Error::Corrupt { what: what(), source: None }),
    }
}

/// How many transactions were ever written; files of before this was counted say none.
fn written(database: &Database) -> Result<u64, redb::Error> {
    let meta = database.begin_read()?.open_table(META)?;
    let written = meta.get("written")?.map_or(0, |guard| guard.value());
    Ok(written)
}

fn builder() -> redb::Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES);
    builder
}

/// A crash may leave a half-made file under the other name; it is made anew.
fn make(path: &Path, fresh: &Path, dir: &Path) -> Result<Database, redb::Error> {
    if fresh.exists() {
        fs::remove_file(fresh)?;
    }
    let database = builder().create(fresh)?;
    initialise(&database)?;
    fs::rename(fresh, path)?;
    File::open(dir)?.sync_all()?;
    Ok(database)
}

fn initialise(database: &Database) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    {
        let mut meta = transaction.open_table(META)?;
        if meta.get("format")?.is_none() {
            meta.insert("format", u64::from(FORMAT))?;
            meta.insert("compacted", FIRST_REVISION.0)?;
            meta.insert("next_lease", 1)?;
        }
        transaction.open_table(LOG)?;
        transaction.open_table(BASE)?;
        transaction.open_table(LEASE)?;
    }
    transaction.commit()?;
    Ok(())
}

fn append(log: &mut redb::Table<(u64, u32), LogRow>, commit: &Commit) -> Result<(), redb::Error> {
    for (index, change) in (0..).zip(&commit.changes) {
        let row = match change {
            Change::Put(entry) => (entry.key.as_str(), Some(&*entry.value), entry.lease.map_or(0, |l| l.0)),
            Change::Delete(key) => (key.as_str(), None, 0),
        };
        log.insert((commit.revision.0, index), row)?;
    }
    Ok(())
}

fn fold(base: &mut redb::Table<&str, BaseRow>, commits: &[Arc<Commit>]) -> Result<(), redb::Error> {
    for change in commits.iter().flat_map(|commit| &commit.changes) {
        match change {
            Change::Put(entry) => {
                let lease = entry.lease.map_or(0, |l| l.0);
                let row =
                    (entry.create_revision.0, entry.mod_revision.0, entry.version, lease, &*entry.value);
                base.insert(entry.key.as_str(), row)?;
            }
            Change::Delete(key) => drop(base.remove(key.as_str())?),
        }
    }
    Ok(())
}

fn base_entry(key: &str, (create, modified, version, lease, value): (u64, u64, u64, i64, &[u8])) -> Entry {
    Entry {
        key: Key::raw(key),
        value: value.to_vec(),
        create_revision: Revision(create),
        mod_revision: Revision(modified),
        version,
        lease: (lease != 0).then_some(LeaseId(lease)),
    }
}

/// Applies the log to the base. A gap in the revisions means that something was lost: then nothing is opened.
fn replay(state: &mut State, log: &impl ReadableTable<(u64, u32), LogRow>) -> Result<(), LoadError> {
    let mut pending: Option<Commit> = None;
    for row in log.iter()? {
        let (position, row) = row?;
        let (revision, _) = position.value();
        let (key, value, lease) = row.value();
        if let Some(commit) = pending.take_if(|commit| commit.revision.0 != revision) {
            state.apply(Arc::new(commit));
        }
        if revision != state.revision().next().0 {
            let what = format!("revision {} is missing in the store; its file", state.revision().next());
            return Err(LoadError::Content(what));
        }
        let key = Key::raw(key);
        let change = match value {
            Some(value) => {
                let old = state.get(&key).map(|entry| &**entry);
                let lease = (lease != 0).then_some(LeaseId(lease));
                Change::Put(successor(old, &key, value, lease, Revision(revision)))
            }
            None => Change::Delete(key),
        };
        let commit =
            pending.get_or_insert_with(|| Commit { revision: Revision(revision), changes: Vec::new() });
        commit.changes.push(change);
    }
    if let Some(commit) = pending {
        state.apply(Arc::new(commit));
    }
    Ok(())
}
