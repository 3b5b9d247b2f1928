//! Works out transactions against the state, without changing it: pure.
//!
//! Assumes: the transactions were checked against the port's limits. Later ones of a batch see what earlier ones
//! left, though none of it is on the disk yet; nobody is answered before it is.
//! Read next: `writer.rs`.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::leases::Leases;
use super::state::{MAX_LIVE_BYTES, State, entry_bytes};
use crate::error::Error;
use crate::key::Key;
use crate::port::{Compare, Entry, LeaseId, Op, Revision, Txn, TxnOutcome};
use crate::watch::{Change, Commit};

/// Changes on top of a state.
pub(super) struct Batch<'a> {
    state: &'a State,
    overlay: BTreeMap<Key, Option<Arc<Entry>>>,
    revision: Revision,
    added_bytes: usize,
    commits: Vec<Arc<Commit>>,
}

impl<'a> Batch<'a> {
    pub(super) fn new(state: &'a State) -> Self {
        Self {
            state,
            overlay: BTreeMap::new(),
            revision: state.revision(),
            added_bytes: 0,
            commits: Vec::new(),
        }
    }

    pub(super) fn revision(&self) -> Revision {
        self.revision
    }

    /// What the batch changes, one commit per revision.
    pub(super) fn into_commits(self) -> Vec<Arc<Commit>> {
        self.commits
    }

    /// One transaction; an error leaves the batch as it was.
    pub(super) fn txn(&mut self, txn: &Txn, leases: &Leases) -> Result<TxnOutcome, Error> {
        let succeeded = txn.compares.iter().all(|compare| self.holds(compare));
        let branch = if succeeded { &txn.then } else { &txn.otherwise };
        self.check_branch(branch, leases)?;
        let revision = self.revision.next();
        let mut changes = Vec::new();
        let mut gets = Vec::new();
        for op in branch {
            match op {
                Op::Put { key, value, lease } => changes.push(self.put(key, value, *lease, revision)),
                Op::Delete { key } => changes.extend(self.delete(key)),
                Op::Get { key } => gets.push(self.get(key).map(|entry| Entry::clone(entry))),
            }
        }
        self.commit(revision, changes);
        Ok(TxnOutcome { succeeded, revision: self.revision, gets })
    }

    /// Deletes what a lease holds, in one revision; none if it holds nothing.
    pub(super) fn end_lease(&mut self, lease: LeaseId) {
        let written = self.overlay.values().flatten().map(|entry| &entry.key);
        let keys: std::collections::BTreeSet<Key> =
            self.state.leased(lease).chain(written).cloned().collect();
        let held = |key: &Key| self.get(key).is_some_and(|entry| entry.lease == Some(lease));
        let keys: Vec<Key> = keys.into_iter().filter(held).collect();
        let changes: Vec<Change> = keys.iter().filter_map(|key| self.delete(key)).collect();
        self.commit(self.revision.next(), changes);
    }

    fn get(&self, key: &Key) -> Option<&Arc<Entry>> {
        match self.overlay.get(key) {
            Some(written) => written.as_ref(),
            None => self.state.get(key),
        }
    }

    fn holds(&self, compare: &Compare) -> bool {
        compare.holds(self.get(compare.key()).map(|entry| &**entry))
    }

    fn check_branch(&self, branch: &[Op], leases: &Leases) -> Result<(), Error> {
        let mut bytes = 0;
        for op in branch {
            if let Op::Put { key, value, lease } = op {
                bytes += key.as_str().len() + value.len();
                let gone = lease.filter(|lease| !leases.contains(*lease));
                gone.map_or(Ok(()), |lease| Err(Error::LeaseNotFound { lease }))?;
            }
        }
        let full = self.state.live_bytes() + self.added_bytes + bytes;
        if bytes > 0 && full > MAX_LIVE_BYTES {
            return Err(Error::Limit {
                what: "the size of the whole store in bytes".into(),
                got: full as u64,
                limit: MAX_LIVE_BYTES as u64,
            });
        }
        Ok(())
    }

    fn put(&mut self, key: &Key, value: &[u8], lease: Option<LeaseId>, revision: Revision) -> Change {
        let entry = successor(self.get(key).map(|entry| &**entry), key, value, lease, revision);
        self.added_bytes += entry_bytes(&entry);
        self.overlay.insert(key.clone(), Some(Arc::new(entry.clone())));
        Change::Put(entry)
    }

    fn delete(&mut self, key: &Key) -> Option<Change> {
        self.get(key)?;
        self.overlay.insert(key.clone(), None);
        Some(Change::Delete(key.clone()))
    }

    fn commit(&mut self, revision: Revision, changes: Vec<Change>) {
        if !changes.is_empty() {
            self.revision = revision;
            self.commits.push(Arc::new(Commit { revision, changes }));
        }
    }
}

/// A transaction that cannot change anything needs neither queue nor disk.
pub(super) fn read_only(state: &State, txn: &Txn) -> TxnOutcome {
    let succeeded = txn.compares.iter().all(|c| c.holds(state.get(c.key()).map(|entry| &**entry)));
    let branch = if succeeded { &txn.then } else { &txn.otherwise };
    let gets = branch.iter().map(|op| state.get(op.key()).map(|entry| Entry::clone(entry))).collect();
    TxnOutcome { succeeded, revision: state.revision(), gets }
}

/// The entry that a put makes of the one before it.
pub(super) fn successor(
    old: Option<&Entry>,
    key: &Key,
    value: &[u8],
    lease: Option<LeaseId>,
    revision: Revision,
) -> Entry {
    Entry {
        key: key.clone(),
        value: value.to_vec(),
        create_revision: old.map_or(revision, |entry| entry.create_revision),
        mod_revision: revision,
        version: old.map_or(0, |entry| entry.version) + 1,
        lease,
    }
}
