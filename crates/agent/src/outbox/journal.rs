//! The open journal: a file that only grows, one `write` a record.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use model::Time;
use model::ledger::{Line, ShareEnd};

use super::record::{self, Record, ShareDetail};
use super::{Error, MAX_OPEN_BYTES};
use crate::disk;
use crate::meterbook::Carried;

/// The journal that takes records now.
pub(super) struct Journal {
    path: PathBuf,
    file: File,
    sequence: u64,
    /// Whether it has a record that the ledger wants; without one there is nothing to seal.
    news: bool,
    /// Bytes of whole frames in the file: a frame that was torn by a full disk is cut back to here.
    length: u64,
    /// A torn frame stands behind them and could not be cut off yet.
    torn: bool,
    next_share: u64,
    carry: Carry,
    buffer: Vec<u8>,
}

/// What a journal takes over from the one before it.
#[derive(Clone, Default)]
pub(super) struct Carry {
    /// Shares without an outcome.
    pub(super) pending: BTreeMap<u64, ShareDetail>,
    /// Where the meters' book stands.
    pub(super) book: Option<Carried>,
}

/// A journal that takes no more records.
pub(super) struct Closed {
    pub(super) path: PathBuf,
    pub(super) sequence: u64,
    /// When it was closed.
    pub(super) at: Time,
}

/// Where the open journal of a segment stands.
pub(super) fn open_path(dir: &Path, sequence: u64) -> PathBuf {
    dir.join(format!("open-{sequence:012}.log"))
}

impl Journal {
    /// Begins the journal of `sequence`, carrying on the intents and the book of the one before it.
    pub(super) fn begin(
        dir: &Path,
        sequence: u64,
        carried: Carry,
        boot_id: &str,
        now: Time,
    ) -> Result<Self, Error> {
        let path = open_path(dir, sequence);
        remove_if_there(&path)?;
        let file = OpenOptions::new()
            .create_new(true)
            .append(true)
            .open(&path)
            .map_err(disk::at("create", &path))?;
        let next_share = carried.pending.keys().next_back().map_or(1, |last| last + 1);
        let (carry, buffer) = (Carry::default(), Vec::new());
        let mut journal =
            Self { path, file, sequence, news: false, length: 0, torn: false, next_share, carry, buffer };
        let head = Record::Open { sequence, at: now, boot_id: boot_id.to_owned() };
        if let Err(error) = journal.write(&head).and_then(|()| journal.take_over(carried)) {
            journal.abandon();
            return Err(error);
        }
        Ok(journal)
    }

    fn take_over(&mut self, carried: Carry) -> Result<(), Error> {
        if let Some(book) = carried.book {
            self.turn(Vec::new(), book)?;
        }
        for (share, detail) in carried.pending {
            self.write(&Record::Intent { share, detail: detail.clone() })?;
            self.carry.pending.insert(share, detail);
        }
        Ok(())
    }

    /// Removes a journal that did not come to be: left behind, its carried intents would count a second time.
    fn abandon(&self) {
        // What cannot be removed now is removed by the next attempt, or reconciled by the next start.
        let _ = fs::remove_file(&self.path);
    }

    pub(super) fn sequence(&self) -> u64 {
        self.sequence
    }

    pub(super) fn is_empty(&self) -> bool {
        !self.news
    }

    /// A second handle on the file, so that it can be synced without holding the journal.
    pub(super) fn file(&self) -> Result<(File, PathBuf), Error> {
        let file = self.file.try_clone().map_err(disk::at("open", &self.path))?;
        Ok((file, self.path.clone()))
    }

    pub(super) fn append(&mut self, record: &Record) -> Result<(), Error> {
        self.has_room()?;
        self.write(record)?;
        self.news = true;
        Ok(())
    }

    fn has_room(&self) -> Result<(), Error> {
        if self.length > MAX_OPEN_BYTES { Err(Error::Full(self.path.clone())) } else { Ok(()) }
    }

    /// Appends lines of the meters' book together with its state behind them.
    pub(super) fn turn(&mut self, lines: Vec<Line>, book: Carried) -> Result<(), Error> {
        self.has_room()?;
        // A state alone is no news: a journal of nothing else is not worth a segment.
        let news = !lines.is_empty();
        let record = Record::Turn { lines, book: Box::new(book) };
        self.write(&record)?;
        self.news |= news;
        if let Record::Turn { book, .. } = record {
            self.carry.book = Some(*book);
        }
        Ok(())
    }

    /// Appends whatever the journal's size: what ends or moves a journal must fit into a full one.
    fn write(&mut self, record: &Record) -> Result<(), Error> {
        self.buffer.clear();
        record::encode(record, &mut self.buffer);
        if self.buffer.len() > record::HEADER + record::MAX_FRAME {
            // It would be taken for damage when it is read.
            return Err(Error::Oversized { path: self.path.clone(), bytes: self.buffer.len() });
        }
        if self.torn {
            self.cut()?;
        }
        if let Err(source) = self.file.write_all(&self.buffer) {
            self.torn = true;
            self.cut()?;
            return Err(disk::at("write", &self.path)(source).into());
        }
        self.length += self.buffer.len() as u64;
        Ok(())
    }

    /// Cuts a torn frame off: records behind it would never be read again. Until it succeeds nothing more is taken.
    fn cut(&mut self) -> Result<(), Error> {
        self.file.set_len(self.length).map_err(disk::at("cut", &self.path))?;
        self.torn = false;
        Ok(())
    }

    pub(super) fn intent(&mut self, detail: ShareDetail) -> Result<u64, Error> {
        let share = self.next_share;
        self.append(&Record::Intent { share, detail: detail.clone() })?;
        self.next_share += 1;
        self.carry.pending.insert(share, detail);
        Ok(share)
    }

    pub(super) fn outcome(&mut self, share: u64, end: ShareEnd) -> Result<(), Error> {
        if !self.carry.pending.contains_key(&share) {
            return Ok(());
        }
        self.append(&Record::Outcome { share, end })?;
        self.carry.pending.remove(&share);
        Ok(())
    }

    /// Ends this journal and begins the next in its place.
    pub(super) fn rotate(&mut self, dir: &Path, boot_id: &str, now: Time) -> Result<Closed, Error> {
        let mut next = Self::begin(dir, self.sequence + 1, self.carry.clone(), boot_id, now)?;
        // Share numbers go on, so that an outcome on its way finds no other share under its number.
        next.next_share = self.next_share;
        if let Err(error) = self.write(&Record::Seal { at: now }) {
            next.abandon();
            return Err(error);
        }
        let closed = Closed { path: self.path.clone(), sequence: self.sequence, at: now };
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
        let mut next = Self::begin(dir, sequence, Carry::default(), boot_id, now)?;
        for record in records.iter().filter(|record| !matches!(record, Record::Open { .. })) {
            if let Err(error) = next.write(record) {
                next.abandon();
                return Err(error);
            }
        }
        next.next_share = self.next_share;
        next.news = self.news;
        next.carry = std::mem::take(&mut self.carry);
        *self = next;
        fs::remove_file(&old).map_err(disk::at("remove", &old))?;
        Ok(disk::sync_parent(&old)?)
    }
}

/// Makes room for a new journal: one that could not be removed when it failed to come to be may stand there.
fn remove_if_there(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(disk::at("remove", path)(error).into()),
        _ => Ok(()),
    }
}
