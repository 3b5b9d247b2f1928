//! The open journal: a file that only grows, one `write` a record.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use model::Time;
use model::ledger::ShareEnd;

use super::record::{self, Record, ShareDetail};
use super::{Error, MAX_OPEN_BYTES};
use crate::disk;

/// The journal that takes records now.
pub(super) struct Journal {
    path: PathBuf,
    file: File,
    sequence: u64,
    /// Bytes behind the opening record: none means that there is nothing to seal.
    bytes: u64,
    next_share: u64,
    pending: BTreeMap<u64, ShareDetail>,
    buffer: Vec<u8>,
}

/// A journal that takes no more records.
pub(super) struct Closed {
    pub(super) path: PathBuf,
    pub(super) sequence: u64,
}

/// Where the open journal of a segment stands.
pub(super) fn open_path(dir: &Path, sequence: u64) -> PathBuf {
    dir.join(format!("open-{sequence:012}.log"))
}

impl Journal {
    /// Begins the journal of `sequence`, carrying on the intents of the one before it.
    pub(super) fn begin(
        dir: &Path,
        sequence: u64,
        carried: BTreeMap<u64, ShareDetail>,
        boot_id: &str,
        now: Time,
    ) -> Result<Self, Error> {
        let path = open_path(dir, sequence);
        let file = OpenOptions::new()
            .create_new(true)
            .append(true)
            .open(&path)
            .map_err(disk::at("create", &path))?;
        let next_share = carried.keys().next_back().map_or(1, |last| last + 1);
        let mut journal =
            Self { path, file, sequence, bytes: 0, next_share, pending: BTreeMap::new(), buffer: Vec::new() };
        journal.append(&Record::Open { sequence, at: now, boot_id: boot_id.to_owned() })?;
        for (share, detail) in carried {
            journal.append(&Record::Intent { share, detail: detail.clone() })?;
            journal.pending.insert(share, detail);
        }
        journal.bytes = 0;
        Ok(journal)
    }

    pub(super) fn sequence(&self) -> u64 {
        self.sequence
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// A second handle on the file, so that it can be synced without holding the journal.
    pub(super) fn file(&self) -> Result<(File, PathBuf), Error> {
        let file = self.file.try_clone().map_err(disk::at("open", &self.path))?;
        Ok((file, self.path.clone()))
    }

    pub(super) fn append(&mut self, record: &Record) -> Result<(), Error> {
        if self.bytes > MAX_OPEN_BYTES {
            return Err(Error::Full(self.path.clone()));
        }
        self.buffer.clear();
        record::encode(record, &mut self.buffer);
        self.file.write_all(&self.buffer).map_err(disk::at("write", &self.path))?;
        self.bytes += self.buffer.len() as u64;
        Ok(())
    }

    pub(super) fn intent(&mut self, detail: ShareDetail) -> Result<u64, Error> {
        let share = self.next_share;
        self.append(&Record::Intent { share, detail: detail.clone() })?;
        self.next_share += 1;
        self.pending.insert(share, detail);
        Ok(share)
    }

    pub(super) fn outcome(&mut self, share: u64, end: ShareEnd) -> Result<(), Error> {
        if !self.pending.contains_key(&share) {
            return Ok(());
        }
        self.append(&Record::Outcome { share, end })?;
        self.pending.remove(&share);
        Ok(())
    }

    /// Ends this journal and begins the next in its place.
    pub(super) fn rotate(&mut self, dir: &Path, boot_id: &str, now: Time) -> Result<Closed, Error> {
        let mut next = Self::begin(dir, self.sequence + 1, self.pending.clone(), boot_id, now)?;
        // Share numbers go on, so that an outcome on its way finds no other share under its number.
        next.next_share = self.next_share;
        self.append(&Record::Seal { at: now })?;
        let closed = Closed { path: self.path.clone(), sequence: self.sequence };
        *self = next;
        Ok(closed)
    }

    /// Moves what stands here to a journal with a higher number.
    pub(super) fn renumber(
        &mut self,
        dir: &Path,
        sequence: u64,
        boot_id: &str,
        now: Time,
    ) -> Result<(), Error> {
        let bytes = fs::read(&self.path).map_err(disk::at("read", &self.path))?;
        let (records, _) = record::decode(&bytes);
        let old = self.path.clone();
        let mut next = Self::begin(dir, sequence, BTreeMap::new(), boot_id, now)?;
        for record in records.iter().filter(|record| !matches!(record, Record::Open { .. })) {
            next.append(record)?;
        }
        next.next_share = self.next_share;
        next.pending = std::mem::take(&mut self.pending);
        *self = next;
        fs::remove_file(&old).map_err(disk::at("remove", &old))?;
        Ok(disk::sync_parent(&old)?)
    }
}
