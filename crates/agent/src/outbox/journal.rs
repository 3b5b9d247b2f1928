//! The open journal: a file that only grows, one `write` for all records that come together.
//!
//! Assumes that its owner holds a lock, and makes files ready outside of it: nothing in here syncs, and what happens while shares
//! wait is a `write`. Next: `record.rs` for what is written, `recover.rs` for what a crash leaves of it.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use model::Time;
use model::ledger::{Line, ShareEnd};

use super::record::{self, Record, ShareDetail};
use super::short::Short;
use super::{Error, MAX_OPEN_BYTES};
use crate::disk;
use crate::meterbook::Carried;

/// The journal that takes records now.
pub(super) struct Journal {
    path: PathBuf,
    /// Shared with whoever syncs it meanwhile.
    file: Arc<File>,
    sequence: u64,
    /// Whether it has a record that the ledger wants; without one there is nothing to seal.
    news: bool,
    /// Bytes of whole frames in the file: what was torn by a full disk is cut back to here.
    length: u64,
    /// Torn frames stand behind them and could not be cut off yet.
    torn: bool,
    next_share: u64,
    carry: Carry,
    buffer: Vec<u8>,
}

/// What befell a share.
pub enum Entry<'a> {
    /// It is about to be forwarded.
    Intent(ShareDetail),
    /// What became of one that was; `share` is the number of its intent.
    Outcome {
        /// The number.
        share: u64,
        /// Its end.
        end: &'a ShareEnd,
    },
    /// It ended at the edge.
    Ended {
        /// What it is.
        detail: ShareDetail,
        /// Its end.
        end: &'a ShareEnd,
    },
}

/// Entries whose frames stand in the buffer. What they change takes effect when they are in the file.
struct Staged {
    /// The number of the next intent.
    next: u64,
    intents: Vec<(u64, ShareDetail)>,
    /// Shares that got their outcome: no second one is written. They come back if the file takes nothing.
    ended: Vec<(u64, ShareDetail)>,
}

/// What a journal takes over from the one before it.
#[derive(Default)]
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
        let mut journal = Self::create(dir, sequence, boot_id, now)?;
        journal.next_share = carried.pending.keys().next_back().map_or(1, |last| last + 1);
        if let Err(error) = journal.write_carried(&carried) {
            journal.abandon();
            return Err(error);
        }
        journal.carry = carried;
        Ok(journal)
    }

    /// Makes the file of the journal of `sequence`, with its head and nothing else.
    pub(super) fn create(dir: &Path, sequence: u64, boot_id: &str, now: Time) -> Result<Self, Error> {
        let path = open_path(dir, sequence);
        remove_if_there(&path)?;
        let file = OpenOptions::new()
            .create_new(true)
            .append(true)
            .open(&path)
            .map_err(disk::at("create", &path))?;
        let (file, carry, buffer) = (Arc::new(file), Carry::default(), Vec::new());
        let mut journal =
            Self { path, file, sequence, news: false, length: 0, torn: false, next_share: 1, carry, buffer };
        let head = Record::Open { sequence, at: now, boot_id: boot_id.to_owned() };
        if let Err(error) = journal.write(&head) {
            journal.abandon();
            return Err(error);
        }
        Ok(journal)
    }

    /// Writes down what the journal before leaves open.
    fn write_carried(&mut self, carried: &Carry) -> Result<(), Error> {
        self.buffer.clear();
        if let Some(book) = &carried.book {
            self.stage(&Record::Turn { lines: Vec::new(), book: Box::new(book.clone()) })?;
        }
        for (share, detail) in &carried.pending {
            self.stage_share(Short::Intent { share: *share, detail })?;
        }
        self.flush()
    }

    /// Removes a journal that did not come to be: left behind, its carried intents would count a second time.
    pub(super) fn abandon(&self) {
        // What cannot be removed now is removed by the next attempt, or reconciled by the next start.
        let _ = fs::remove_file(&self.path);
    }

    pub(super) fn sequence(&self) -> u64 {
        self.sequence
    }

    pub(super) fn is_empty(&self) -> bool {
        !self.news
    }

    /// The file, so that it can be synced without holding the journal.
    pub(super) fn file(&self) -> (Arc<File>, PathBuf) {
        (Arc::clone(&self.file), self.path.clone())
    }

    /// Appends what befell some shares, by one `write`: all of it, or on an error nothing. Answers the numbers of the intents,
    /// in their order. A share that has its outcome already keeps it.
    pub(super) fn record<'a>(
        &mut self,
        entries: impl IntoIterator<Item = Entry<'a>>,
    ) -> Result<Range<u64>, Error> {
        self.has_room()?;
        self.buffer.clear();
        let first = self.next_share;
        let mut staged = Staged { next: first, intents: Vec::new(), ended: Vec::new() };
        let taken = entries.into_iter().try_for_each(|entry| self.take(entry, &mut staged));
        let Staged { next, intents, ended } = staged;
        if let Err(error) = taken.and_then(|()| self.flush()) {
            self.carry.pending.extend(ended);
            return Err(error);
        }
        self.news |= !self.buffer.is_empty();
        self.next_share = next;
        self.carry.pending.extend(intents);
        Ok(first..next)
    }

    fn take(&mut self, entry: Entry<'_>, staged: &mut Staged) -> Result<(), Error> {
        match entry {
            Entry::Intent(detail) => {
                let share = staged.next;
                self.stage_share(Short::Intent { share, detail: &detail })?;
                staged.next += 1;
                staged.intents.push((share, detail));
            }
            Entry::Outcome { share, end } => {
                if let Some(detail) = self.carry.pending.remove(&share) {
                    staged.ended.push((share, detail));
                    self.stage_share(Short::Outcome { share, end })?;
                }
            }
            Entry::Ended { detail, end } => self.stage_share(Short::Ended { detail: &detail, end })?,
        }
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
        self.stage(record)?;
        self.flush()
    }

    fn stage(&mut self, record: &Record) -> Result<(), Error> {
        let begin = self.buffer.len();
        record::encode(record, &mut self.buffer);
        self.is_readable(begin)
    }

    fn stage_share(&mut self, share: Short<'_>) -> Result<(), Error> {
        let begin = self.buffer.len();
        record::encode_share(share, &mut self.buffer);
        self.is_readable(begin)
    }

    /// Refuses a frame that would be taken for damage when it is read.
    fn is_readable(&self, begin: usize) -> Result<(), Error> {
        let bytes = self.buffer.len() - begin;
        if bytes > record::HEADER + record::MAX_FRAME {
            return Err(Error::Oversized { path: self.path.clone(), bytes });
        }
        Ok(())
    }

    /// Appends the frames in the buffer: all, or on an error none.
    fn flush(&mut self) -> Result<(), Error> {
        if self.torn {
            self.cut()?;
        }
        if let Err(source) = (&*self.file).write_all(&self.buffer) {
            self.torn = true;
            self.cut()?;
            return Err(disk::at("write", &self.path)(source).into());
        }
        self.length += self.buffer.len() as u64;
        Ok(())
    }

    /// Cuts torn frames off: records behind it would never be read again. Until it succeeds nothing more is taken.
    fn cut(&mut self) -> Result<(), Error> {
        self.file.set_len(self.length).map_err(disk::at("cut", &self.path))?;
        self.torn = false;
        Ok(())
    }

    /// Ends this journal and goes on in `next`, which was made ready under the number behind this one's.
    pub(super) fn rotate(&mut self, mut next: Self, now: Time) -> Result<Closed, Error> {
        // Share numbers go on, so that an outcome on its way finds no other share under its number.
        next.next_share = self.next_share;
        if let Err(error) =
            next.write_carried(&self.carry).and_then(|()| self.write(&Record::Seal { at: now }))
        {
            next.abandon();
            return Err(error);
        }
        next.carry = std::mem::take(&mut self.carry);
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use model::{MinerGroupId, Work};

    use super::super::tests::Dir;
    use super::*;

    fn detail() -> ShareDetail {
        ShareDetail {
            group: MinerGroupId::new("a").unwrap(),
            worker: "acc".into(),
            work: Work(4_096),
            credited: Work(4_096),
            scale: 3,
            hash: None,
        }
    }

    fn journal(dir: &Dir) -> Journal {
        fs::create_dir_all(&dir.0).unwrap();
        Journal::begin(&dir.0, 1, Carry::default(), "boot-1", Time(1_000)).unwrap()
    }

    fn records(journal: &Journal) -> Vec<Record> {
        let bytes = fs::read(&journal.path).unwrap();
        let (records, taken) = record::decode(&bytes);
        assert_eq!((taken, taken as u64), (bytes.len(), journal.length));
        records
    }

    fn outcome(share: u64) -> Record {
        Record::Outcome { share, end: ShareEnd::Accepted }
    }

    #[test]
    fn what_comes_together_stands_in_its_order_and_intents_have_their_numbers() {
        let dir = Dir::new();
        let mut journal = journal(&dir);
        assert_eq!(journal.record([]).unwrap(), 1..1);
        assert!(journal.is_empty());
        let end = ShareEnd::Counted;
        let entries =
            [Entry::Intent(detail()), Entry::Ended { detail: detail(), end: &end }, Entry::Intent(detail())];
        assert_eq!(journal.record(entries).unwrap(), 1..3);
        let accepted = ShareEnd::Accepted;
        let answers = [2, 1, 2, 77].map(|share| Entry::Outcome { share, end: &accepted });
        assert_eq!(journal.record(answers).unwrap(), 3..3);
        let expected = [
            Record::Intent { share: 1, detail: detail() },
            Record::Ended { detail: detail(), end },
            Record::Intent { share: 2, detail: detail() },
            outcome(2),
            outcome(1),
        ];
        assert_eq!(records(&journal)[1..], expected, "a second outcome and one of nobody are not written");
        assert!(journal.carry.pending.is_empty() && !journal.is_empty());
    }

    /// A disk that refuses, and one that took a part before it did.
    #[test]
    fn what_the_disk_refuses_has_not_happened() {
        for part in [&b""[..], b"half a frame"] {
            let dir = Dir::new();
            let mut journal = journal(&dir);
            journal.record([Entry::Intent(detail()), Entry::Intent(detail())]).unwrap();
            let good = Arc::clone(&journal.file);
            journal.file = Arc::new(File::open(&journal.path).unwrap());
            let end = ShareEnd::Accepted;
            let entries =
                || [Entry::Outcome { share: 1, end: &end }, Entry::Intent(detail()), Entry::Intent(detail())];
            assert!(journal.record(entries()).is_err());
            assert_eq!(journal.carry.pending.keys().copied().collect::<Vec<_>>(), [1, 2]);
            assert!(journal.record(entries()).is_err(), "not before the torn frames are cut off");
            (&*good).write_all(part).unwrap();
            journal.file = good;
            assert_eq!(journal.record(entries()).unwrap(), 3..5);
            assert_eq!(journal.carry.pending.keys().copied().collect::<Vec<_>>(), [2, 3, 4]);
            let intent = |share| Record::Intent { share, detail: detail() };
            assert_eq!(records(&journal)[1..], [intent(1), intent(2), outcome(1), intent(3), intent(4)]);
        }
    }

    #[test]
    fn a_record_that_would_not_read_back_takes_the_whole_batch_with_it() {
        let dir = Dir::new();
        let mut journal = journal(&dir);
        journal.record([Entry::Intent(detail())]).unwrap();
        let endless = ShareEnd::Refused("x".repeat(2 << 20));
        let end = ShareEnd::Accepted;
        let entries =
            [Entry::Outcome { share: 1, end: &end }, Entry::Ended { detail: detail(), end: &endless }];
        assert!(matches!(journal.record(entries), Err(Error::Oversized { .. })));
        assert_eq!(records(&journal).len(), 2);
        assert_eq!(journal.record([Entry::Outcome { share: 1, end: &end }]).unwrap(), 2..2);
        assert_eq!(records(&journal)[2..], [outcome(1)]);
    }

    #[test]
    fn the_next_journal_takes_over_what_is_open_and_the_numbers() {
        let dir = Dir::new();
        let mut journal = journal(&dir);
        journal.record((0..3).map(|_| Entry::Intent(detail()))).unwrap();
        let end = ShareEnd::Accepted;
        journal.record([Entry::Outcome { share: 2, end: &end }]).unwrap();
        let next = Journal::create(&dir.0, 2, "boot-1", Time(2_000)).unwrap();
        let closed = journal.rotate(next, Time(2_000)).unwrap();
        assert_eq!((closed.sequence, journal.sequence(), journal.is_empty()), (1, 2, true));
        let intent = |share| Record::Intent { share, detail: detail() };
        assert_eq!(records(&journal)[1..], [intent(1), intent(3)]);
        assert_eq!(journal.record([Entry::Intent(detail())]).unwrap(), 4..5);
        let bytes = fs::read(&closed.path).unwrap();
        assert_eq!(record::decode(&bytes).0.last(), Some(&Record::Seal { at: Time(2_000) }));
    }
}
