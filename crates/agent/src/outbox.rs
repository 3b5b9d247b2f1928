//! The outbox: what the agent owes the ledger, on its own disk until the controller has it.
//!
//! One *open* journal takes records as they happen; [`Outbox::seal`] folds it into a numbered segment and opens the next. A
//! segment is deleted when the controller has acknowledged it. Records are in the page cache before the caller goes on, so
//! kill -9 loses nothing; [`Outbox::sync`], called once a second, bounds what a power loss can take.
//!
//! Order of a seal, each step safe to repeat: the journal gets its `Seal`; the next journal begins with the intents that have
//! no outcome yet and the state of the meters' book; the segment is written beside and renamed; the old journal is removed; the
//! onlooker is told. A journal whose seal fails half-way waits closed, and the next seal begins with it. Start reading at
//! [`record`], then [`seal`] (pure) and [`recover`].

mod claim;
mod journal;
pub mod record;
mod recover;
pub mod seal;
mod short;

use std::collections::{BTreeSet, VecDeque};
use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use model::ledger::{Line, Segment, ShareEnd};
use model::{ModuleId, Time};
use sha2::{Digest, Sha256};

pub use self::claim::claim;
pub use self::journal::Entry;
use self::journal::{Closed, Journal};
use self::record::ShareDetail;
use crate::disk;
use crate::meterbook::Carried;

/// Most segments that wait for a controller: one each 30 s makes 120 an hour, so this is 34 days without a link.
pub const MAX_SEALED: usize = 100_000;
/// Largest open journal: 100 shares/s of 130 bytes for 30 s are 400 kB; beyond this nobody has sealed for hours.
pub const MAX_OPEN_BYTES: u64 = 256 << 20;
/// Most closed journals that wait to be sealed while the disk fails: one each 30 s makes these four minutes. After that the open
/// journal just grows, up to [`MAX_OPEN_BYTES`].
pub const MAX_CLOSED: usize = 8;

/// An onlooker of the ledger as it grows: a simulation's witness. It is told each segment once, when it is on the disk and
/// before the controller can have it.
pub type OnSegment = Arc<dyn Fn(&Segment) + Send + Sync>;

/// Why the outbox cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The disk refused.
    #[error("the outbox's disk failed")]
    Disk(#[from] disk::Error),
    /// Another process uses the directory.
    #[error("{0} is in use by another process; stop it or give this agent its own --data directory")]
    Held(PathBuf),
    /// Nobody takes the segments.
    #[error(
        "{0} is full: {MAX_SEALED} segments or {MAX_OPEN_BYTES} bytes wait; reconnect the controller or make room"
    )]
    Full(PathBuf),
    /// A record that would not read back.
    #[error("a record of {bytes} bytes is too long for {path}; report this with the log")]
    Oversized {
        /// The journal.
        path: PathBuf,
        /// Of its frame.
        bytes: usize,
    },
    /// A sealed segment does not read back.
    #[error("{path} is damaged: {what}; restore it from a copy, or move it away and note the gap")]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// How.
        what: String,
    },
}

/// A cheap handle on one module's outbox.
#[derive(Clone)]
pub struct Outbox {
    shared: Arc<Shared>,
    /// Sabotage: see [`Outbox::losing`].
    loses: bool,
}

struct Shared {
    dir: PathBuf,
    module: ModuleId,
    boot_id: String,
    on_segment: Option<OnSegment>,
    /// Journals that take no more records and are not sealed, oldest first. Held through a seal, so that none is folded twice at
    /// a time; taken before the others.
    closed: Mutex<VecDeque<Closed>>,
    /// Held for one `write` call, or the few of a rotation; never across a sync, the making of a file or an await.
    journal: Mutex<Journal>,
    /// Sealed and not acknowledged.
    sealed: Mutex<BTreeSet<u64>>,
    /// Where the meters' book of the process before stood.
    book: Option<Carried>,
    /// Keeps other processes out for as long as the handle lives.
    _lock: File,
}

impl Outbox {
    /// Opens the outbox in `dir`, making it if need be, and finishes what a crash left half done. `on_segment` is told of every
    /// segment that this boot of the machine makes.
    pub fn open(
        dir: &Path,
        module: &ModuleId,
        boot_id: &str,
        now: Time,
        on_segment: Option<OnSegment>,
    ) -> Result<Self, Error> {
        fs::create_dir_all(dir).map_err(disk::at("create", dir))?;
        let lock = lock(dir)?;
        let recovered = recover::recover(dir, module, boot_id, now)?;
        let shared = Shared {
            dir: dir.to_path_buf(),
            module: module.clone(),
            boot_id: boot_id.to_owned(),
            on_segment,
            closed: Mutex::default(),
            journal: Mutex::new(recovered.journal),
            sealed: Mutex::new(recovered.sealed),
            book: recovered.book,
            _lock: lock,
        };
        recovered.news.iter().for_each(|segment| shared.tell(segment));
        Ok(Self { shared: Arc::new(shared), loses: false })
    }

    /// The same outbox with a defect on request: every second journal is thrown away instead of sealed, so that its number is
    /// missing in the ledger.
    pub fn losing(self, loses: bool) -> Self {
        Self { loses, ..self }
    }

    /// Where the meters' book of the process before stood; `None` when this is the first, or its journal was lost.
    pub fn book(&self) -> Option<&Carried> {
        self.shared.book.as_ref()
    }

    /// Appends lines of the meters' book and the book's state behind them: both, or on an error neither.
    pub fn turn(&self, lines: Vec<Line>, book: Carried) -> Result<(), Error> {
        self.journal().turn(lines, book)
    }

    /// Notes what befell some shares: all of it by one `write`, or on an error nothing. Answers the numbers of the intents, in
    /// their order, for their outcomes. A share that has its outcome already keeps it.
    pub fn record<'a>(&self, entries: impl IntoIterator<Item = Entry<'a>>) -> Result<Range<u64>, Error> {
        self.journal().record(entries)
    }

    /// Notes that a share is about to be forwarded; answers the number for its [`Outbox::outcome`].
    pub fn intent(&self, detail: ShareDetail) -> Result<u64, Error> {
        self.record([Entry::Intent(detail)]).map(|numbers| numbers.start)
    }

    /// Notes what became of a forwarded share. A share that has its outcome already keeps it.
    pub fn outcome(&self, share: u64, end: ShareEnd) -> Result<(), Error> {
        self.record([Entry::Outcome { share, end: &end }]).map(drop)
    }

    /// Notes a share that ended at the edge.
    pub fn ended(&self, detail: ShareDetail, end: ShareEnd) -> Result<(), Error> {
        self.record([Entry::Ended { detail, end: &end }]).map(drop)
    }

    /// Makes everything appended so far survive a power loss.
    pub fn sync(&self) -> Result<(), Error> {
        let (file, path) = self.journal().file();
        Ok(file.sync_data().map_err(disk::at("sync", &path))?)
    }

    /// Closes the open journal and makes it a segment, and every journal before it that is closed and not sealed. Answers the
    /// last number, or `None` when there was nothing to seal. After an error the next call goes on where this one failed.
    pub fn seal(&self, now: Time) -> Result<Option<u64>, Error> {
        let mut closed = self.closed();
        let waits_long = self.seal_closed(&mut closed);
        if self.sealed().len() + closed.len() >= MAX_SEALED {
            return Err(Error::Full(self.shared.dir.clone()));
        }
        if closed.len() < MAX_CLOSED {
            closed.extend(self.rotate(now)?);
        }
        // A disk that failed a moment ago is not asked again before the next call.
        let long = waits_long?;
        Ok(self.seal_closed(&mut closed)?.or(long))
    }

    /// Closes the open journal, if there is anything in it to seal. Needs the lock of the closed ones, so that nobody else does.
    fn rotate(&self, now: Time) -> Result<Option<Closed>, Error> {
        let (is_empty, sequence) = {
            let journal = self.journal();
            (journal.is_empty(), journal.sequence())
        };
        if is_empty {
            return Ok(None);
        }
        // Shares go on while the next file is made; they wait only for what it takes over.
        let next = Journal::create(&self.shared.dir, sequence + 1, &self.shared.boot_id, now)?;
        self.journal().rotate(next, now).map(Some)
    }

    /// Seals the closed journals, oldest first; answers the last number.
    fn seal_closed(&self, closed: &mut VecDeque<Closed>) -> Result<Option<u64>, Error> {
        let mut last = None;
        while let Some(oldest) = closed.front() {
            if self.loses && oldest.sequence.is_multiple_of(2) {
                fs::remove_file(&oldest.path).map_err(disk::at("remove", &oldest.path))?;
                closed.pop_front();
                continue;
            }
            // What the next journal carries on must be on the disk before the old one goes.
            self.sync()?;
            let segment = recover::seal_closed(&self.shared.dir, &self.shared.module, oldest)?;
            self.shared.tell(&segment);
            self.sealed().insert(oldest.sequence);
            last = Some(oldest.sequence);
            closed.pop_front();
        }
        Ok(last)
    }

    /// The segments that wait for the controller, oldest first.
    pub fn waiting(&self) -> Vec<u64> {
        self.sealed().iter().copied().collect()
    }

    /// How many segments wait for the controller.
    pub fn backlog(&self) -> usize {
        self.sealed().len()
    }

    /// Reads a sealed segment.
    pub fn read(&self, sequence: u64) -> Result<Segment, Error> {
        recover::read_sealed(&self.shared.dir, sequence)
    }

    /// Forgets every segment up to and with `sequence`: the controller has them on its disk.
    pub fn acknowledge(&self, sequence: u64) -> Result<(), Error> {
        let done: Vec<u64> = self.sealed().range(..=sequence).copied().collect();
        for number in done {
            let path = recover::sealed_path(&self.shared.dir, number);
            match fs::remove_file(&path) {
                // A person may have moved a damaged one away.
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(disk::at("remove", &path)(error).into());
                }
                _ => {
                    self.sealed().remove(&number);
                }
            }
        }
        Ok(())
    }

    /// Tells the outbox how far the controller's ledger of this module reaches. An outbox that was wiped would begin at 1
    /// again and every new segment would look like a repeat: it goes on behind the watermark instead.
    pub fn resume_after(&self, watermark: u64, now: Time) -> Result<(), Error> {
        // The usual case does not wait for a seal that is under way.
        if self.journal().sequence() > watermark {
            return Ok(());
        }
        let mut closed = self.closed();
        self.seal_closed(&mut closed)?;
        if self.journal().sequence() > watermark {
            return Ok(());
        }
        let (dir, boot_id) = (&self.shared.dir, &self.shared.boot_id);
        let waiting = self.waiting();
        self.journal().renumber(dir, watermark + 1 + waiting.len() as u64, boot_id, now)?;
        // Segments that were sealed since the wipe are news to the controller too, whatever their numbers say.
        for (place, old) in (watermark + 1..).zip(waiting) {
            let segment = Segment { sequence: place, ..self.read(old)? };
            disk::replace(&recover::sealed_path(dir, place), &recover::frame(&segment))?;
            let path = recover::sealed_path(dir, old);
            fs::remove_file(&path).map_err(disk::at("remove", &path))?;
            let mut sealed = self.sealed();
            sealed.remove(&old);
            sealed.insert(place);
        }
        Ok(())
    }

    fn closed(&self) -> MutexGuard<'_, VecDeque<Closed>> {
        // Sealing is safe to repeat, wherever a panic has left it.
        self.shared.closed.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn journal(&self) -> MutexGuard<'_, Journal> {
        // A panic while the lock was held leaves at worst a torn frame, which recovery cuts.
        self.shared.journal.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn sealed(&self) -> MutexGuard<'_, BTreeSet<u64>> {
        self.shared.sealed.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Shared {
    fn tell(&self, segment: &Segment) {
        if let Some(onlooker) = &self.on_segment {
            onlooker(segment);
        }
    }
}

/// SHA-256 of a segment as it stands on disk: two segments under one number are the same only if this is.
pub fn digest(segment: &Segment) -> Vec<u8> {
    Sha256::digest(recover::frame(segment)).to_vec()
}

fn lock(dir: &Path) -> Result<File, Error> {
    let path = dir.join("LOCK");
    let file = File::create(&path).map_err(disk::at("create", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => Err(Error::Held(dir.to_path_buf())),
        Err(fs::TryLockError::Error(source)) => Err(disk::at("lock", &path)(source).into()),
    }
}

#[cfg(test)]
pub(crate) mod tests;
