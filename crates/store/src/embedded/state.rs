//! What the readers see: the present entries and the history since the last compaction.
//!
//! Assumes: only the writer thread changes it, and only by what is already on the disk.
//! Read next: `batch.rs` for how a change is worked out, `follow.rs` for how the history is read.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use tokio::sync::watch;

use crate::error::Error;
use crate::key::{Key, Prefix};
use crate::port::{Entry, LeaseId, Page, Range, Revision, check_range};
use crate::watch::{Change, Commit};

/// Keys and values that are alive, in bytes: a fleet of 10,000 modules needs a tenth.
pub const MAX_LIVE_BYTES: usize = 512 * 1024 * 1024;
/// The revision of an empty store, as in etcd: the first write takes 2.
pub(super) const FIRST_REVISION: Revision = Revision(1);

/// What the writer shares with the readers.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) state: RwLock<State>,
    /// The newest visible revision; its sender lives in the writer and goes with it.
    pub(super) revision: watch::Receiver<Revision>,
    /// Why the writer stopped, once it has.
    pub(super) stopped: Mutex<Option<String>>,
}

impl Shared {
    pub(super) fn check_running(&self) -> Result<(), Error> {
        match &*self.stopped.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(what) => Err(Error::Stopped { what: what.clone() }),
            None => Ok(()),
        }
    }

    /// Why there is no writer any more.
    pub(super) fn stopped_error(&self) -> Error {
        let closed = || Error::Unavailable { what: "this store was closed".into(), source: None };
        self.check_running().err().unwrap_or_else(closed)
    }
}

/// The entries at the newest revision, and how they came about since the last compaction.
#[derive(Debug)]
pub(super) struct State {
    entries: BTreeMap<Key, Arc<Entry>>,
    history: VecDeque<Arc<Commit>>,
    history_bytes: usize,
    live_bytes: usize,
    revision: Revision,
    compacted: Revision,
}

impl State {
    /// The state right after a compaction.
    pub(super) fn at_base(base: Vec<Entry>, compacted: Revision) -> Self {
        let live_bytes = base.iter().map(entry_bytes).sum();
        let entries = base.into_iter().map(|entry| (entry.key.clone(), Arc::new(entry))).collect();
        Self {
            entries,
            history: VecDeque::new(),
            history_bytes: 0,
            live_bytes,
            revision: compacted,
            compacted,
        }
    }

    pub(super) fn revision(&self) -> Revision {
        self.revision
    }

    pub(super) fn compacted(&self) -> Revision {
        self.compacted
    }

    pub(super) fn live_bytes(&self) -> usize {
        self.live_bytes
    }

    /// Revisions and bytes of the history that is kept.
    pub(super) fn history_size(&self) -> (usize, usize) {
        (self.history.len(), self.history_bytes)
    }

    pub(super) fn get(&self, key: &Key) -> Option<&Arc<Entry>> {
        self.entries.get(key)
    }

    /// The keys that a lease holds. A scan, because leases are few and end rarely.
    pub(super) fn leased(&self, lease: LeaseId) -> impl Iterator<Item = &Key> {
        self.entries.values().filter(move |entry| entry.lease == Some(lease)).map(|entry| &entry.key)
    }

    pub(super) fn range(&self, prefix: &Prefix) -> Result<Range, Error> {
        let found: Vec<&Arc<Entry>> = self.under(prefix, None).collect();
        check_range(found.len(), found.iter().map(|entry| entry_bytes(entry)).sum())?;
        let entries = found.into_iter().map(|entry| Entry::clone(entry)).collect();
        Ok(Range { entries, revision: self.revision })
    }

    pub(super) fn page(&self, prefix: &Prefix, after: Option<&Key>, limit: usize) -> Page {
        let mut found = self.under(prefix, after);
        let entries = found.by_ref().take(limit).map(|entry| Entry::clone(entry)).collect();
        Page { entries, revision: self.revision, more: found.next().is_some() }
    }

    fn under<'a>(
        &'a self,
        prefix: &'a Prefix,
        after: Option<&'a Key>,
    ) -> impl Iterator<Item = &'a Arc<Entry>> {
        let start = match after {
            Some(key) if key.as_str() >= prefix.as_str() => Bound::Excluded(key.as_str()),
            _ => Bound::Included(prefix.as_str()),
        };
        let entries = self.entries.range::<str, _>((start, Bound::Unbounded));
        entries.map(|(_, entry)| entry).take_while(|entry| prefix.covers(&entry.key))
    }

    /// The first commit at or after `from`; `Err` with the compacted revision if it may be thrown away.
    pub(super) fn commits_from(
        &self,
        from: Revision,
    ) -> Result<impl Iterator<Item = &Arc<Commit>>, Revision> {
        if from <= self.compacted {
            return Err(self.compacted);
        }
        // The history has one commit per revision, without gaps, from compacted + 1 on.
        let skip = usize::try_from(from.0 - self.compacted.0 - 1).unwrap_or(usize::MAX);
        Ok(self.history.iter().skip(skip))
    }

    /// Takes over one commit, which must be of the next revision.
    pub(super) fn apply(&mut self, commit: Arc<Commit>) {
        assert_eq!(commit.revision, self.revision.next(), "revisions have no gaps");
        for change in &commit.changes {
            let (added, old) = match change {
                Change::Put(entry) => {
                    (entry_bytes(entry), self.entries.insert(entry.key.clone(), Arc::new(entry.clone())))
                }
                Change::Delete(key) => (0, self.entries.remove(key)),
            };
            self.live_bytes = self.live_bytes + added - old.map_or(0, |entry| entry_bytes(&entry));
        }
        self.revision = commit.revision;
        self.history_bytes += commit_bytes(&commit);
        self.history.push_back(commit);
    }

    /// Throws away the history up to and including `revision`.
    pub(super) fn compact(&mut self, revision: Revision) {
        while let Some(oldest) = self.history.front()
            && oldest.revision <= revision
        {
            self.history_bytes -= commit_bytes(oldest);
            self.compacted = oldest.revision;
            self.history.pop_front();
        }
    }

    /// The commits that a compaction to `revision` throws away.
    pub(super) fn history_until(&self, revision: Revision) -> impl Iterator<Item = &Arc<Commit>> {
        self.history.iter().take_while(move |commit| commit.revision <= revision)
    }
}

pub(super) fn entry_bytes(entry: &Entry) -> usize {
    entry.key.as_str().len() + entry.value.len()
}

pub(super) fn commit_bytes(commit: &Commit) -> usize {
    let change_bytes = |change: &Change| match change {
        Change::Put(entry) => entry_bytes(entry),
        Change::Delete(key) => key.as_str().len(),
    };
    commit.changes.iter().map(change_bytes).sum()
}
