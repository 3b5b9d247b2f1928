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
    /// Bytes of whole frames in the file: a frame that was torn by a full disk is cut back to here.
    length: u64,
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
        let (pending, buffer) = (BTreeMap::new(), Vec::new());
        let mut journal = Self { path, file, sequence, bytes: 0, length: 0, next_share, pending, buffer };
        let head = Record::Open { sequence, at: now, boot_id: boot_id.to_owned() };
        if let Err(error) = journal.write(&head).and_then(|()| journal.carry(carried)) {
            journal.abandon();
            return Err(error);
        }
        journal.bytes = 0;
        Ok(journal)
    }

    fn carry(&mut self, intents: BTreeMap<u64, ShareDetail>) -> Result<(), Error> {
        for (share, detail) in intents {
            self.write(&Record::Intent { share, detail: detail.clone() })?;
            self.pending.insert(share, detail);
        }
        Ok(())
    }

    /// Removes a journal that did not come to be: left behind, its carried intents would count a second time.
    fn abandon(&self) {
        // What cannot be removed now is found again by the next start, which reconciles it.
        let _ = fs::remove_file(&self.path);
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
        self.write(record)
    }

    /// Appends whatever the size: what ends or moves a journal must fit into a full one.
    fn write(&mut self, record: &Record) -> Result<(), Error> {
        self.buffer.clear();
        record::encode(record, &mut self.buffer);
        if let Err(source) = self.file.write_all(&self.buffer) {
            // Records behind a torn frame would never be read again.
            self.file.set_len(self.length).map_err(disk::at("cut", &self.path))?;
            return Err(disk::at("write", &self.path)(source).into());
        }
        self.bytes += self.buffer.len() as u64;
        self.length += self.buffer.len() as u64;
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
        if let Err(error) = self.write(&Record::Seal { at: now }) {
            next.abandon();
            return Err(error);
        }
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
            if let Err(error) = next.write(record) {
                next.abandon();
                return Err(error);
            }
        }
        next.next_share = self.next_share;
        next.pending = std::mem::take(&mut self.pending);
        *self = next;
        fs::remove_file(&old).map_err(disk::at("remove", &old))?;
        Ok(disk::sync_parent(&old)?)
    }
}
