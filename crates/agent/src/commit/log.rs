//! The book's changes on disk: one append-only file for each block, removed as a whole when the block is settled; and the list of
//! settled blocks.
//!
//! A frame is a length, a CRC-32 and an encoded event. Assumes one process per directory (the outbox's lock sees to that). A
//! torn end is cut; what it held was never told, since a claim is told only once it is on the disk. Next: `../commit.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use stratum::commit::{Book, Digest, Event};
use tracing::warn;

use crate::disk::{self, at};

/// Longest event: a job with two halves of a coinbase of 12 KiB and 32 branches.
const MAX_FRAME: usize = 32 << 10;
const HEAD: usize = 8;
/// The settled blocks' file: 432 of 32 bytes.
const SETTLED: &str = "settled";

/// Private fields: files that are open are those of blocks that still change.
pub(super) struct Log {
    dir: PathBuf,
    files: BTreeMap<Digest, Open>,
    /// Blocks with a job that may not be on the disk yet.
    unsynced: BTreeSet<Digest>,
}

struct Open {
    file: File,
    /// Of whole frames.
    length: u64,
}

impl Log {
    /// Opens the directory and makes the book again that was written there.
    pub(super) fn open(dir: &Path) -> Result<(Log, Book), disk::Error> {
        fs::create_dir_all(dir).map_err(at("create", dir))?;
        let mut book = Book::default();
        let mut events = Vec::new();
        for entry in fs::read_dir(dir).map_err(at("read", dir))? {
            let path = entry.map_err(at("read", dir))?.path();
            if path.extension().is_some_and(|extension| extension == "log") {
                events.extend(read(&path)?);
            }
        }
        events.into_iter().for_each(|event| book.apply(event));
        let mut log = Log { dir: dir.to_path_buf(), files: BTreeMap::new(), unsynced: BTreeSet::new() };
        for previous in read_settled(&dir.join(SETTLED))? {
            // Its file is still there if the machine died before it was removed.
            log.remove(&previous)?;
            book.forget(&previous);
        }
        Ok((log, book))
    }

    /// Writes which blocks are settled; on the disk when this returns.
    pub(super) fn settle(&self, book: &Book) -> Result<(), disk::Error> {
        let bytes: Vec<u8> = book.settled().flat_map(|previous| previous.0).collect();
        disk::replace(&self.dir.join(SETTLED), &bytes)
    }

    /// Writes an event; a claim is on the disk when this returns, a job or a share in the page cache.
    pub(super) fn append(&mut self, event: &Event) -> Result<(), disk::Error> {
        let previous = event.previous();
        let path = self.path(&previous);
        let Open { mut file, length } = match self.files.remove(&previous) {
            Some(open) => open,
            None => open_file(&path)?,
        };
        let frame = frame(event);
        if let Err(error) = put(&mut file, &frame, event, &path) {
            // What was not taken must not come back at the next start, nor a torn frame hide what comes after it; where cutting
            // fails too, the next start cuts what is torn.
            let _ = file.set_len(length);
            return Err(error);
        }
        if matches!(event, Event::Job { .. }) {
            self.unsynced.insert(previous);
        }
        if !matches!(event, Event::Close { .. }) {
            self.files.insert(previous, Open { file, length: length + frame.len() as u64 });
        }
        Ok(())
    }

    /// Has the jobs reach the disk, all that came together at once. A number that was told must not come again with another content,
    /// after a power loss and with a clock that stands back.
    pub(super) fn sync_jobs(&mut self) -> Result<(), disk::Error> {
        if self.unsynced.is_empty() {
            return Ok(());
        }
        for previous in &self.unsynced {
            // One that is closed was synced then.
            if let Some(Open { file, .. }) = self.files.get(previous) {
                file.sync_all().map_err(at("sync", &self.path(previous)))?;
            }
        }
        disk::sync_parent(&self.dir.join(SETTLED))?;
        self.unsynced.clear();
        Ok(())
    }

    /// Whether everything that has a number is on the disk.
    pub(super) fn is_synced(&self) -> bool {
        self.unsynced.is_empty()
    }

    /// Removes a block's file. One that is gone already is fine.
    pub(super) fn remove(&mut self, previous: &Digest) -> Result<(), disk::Error> {
        self.files.remove(previous);
        self.unsynced.remove(previous);
        let path = self.path(previous);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(at("remove", &path)(error)),
            _ => Ok(()),
        }
    }

    fn path(&self, previous: &Digest) -> PathBuf {
        self.dir.join(format!("{previous}.log"))
    }
}

fn put(file: &mut File, frame: &[u8], event: &Event, path: &Path) -> Result<(), disk::Error> {
    file.write_all(frame).map_err(at("write", path))?;
    match event {
        Event::Seal { .. } | Event::Close { .. } => {
            file.sync_all().map_err(at("sync", path))?;
            disk::sync_parent(path)
        }
        Event::Job { .. } | Event::Share { .. } => Ok(()),
    }
}

fn read_settled(path: &Path) -> Result<Vec<Digest>, disk::Error> {
    match fs::read(path) {
        Ok(bytes) => Ok(bytes.as_chunks::<32>().0.iter().map(|hash| Digest(*hash)).collect()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(at("read", path)(error)),
    }
}

fn open_file(path: &Path) -> Result<Open, disk::Error> {
    let file = OpenOptions::new().create(true).append(true).open(path).map_err(at("open", path))?;
    let length = file.metadata().map_err(at("read", path))?.len();
    Ok(Open { file, length })
}

fn frame(event: &Event) -> Vec<u8> {
    let body = event.encode();
    let mut frame = Vec::with_capacity(HEAD + body.len());
    frame.extend_from_slice(&(body.len() as u32).to_be_bytes());
    frame.extend_from_slice(&crc32fast::hash(&body).to_be_bytes());
    frame.extend(body);
    frame
}

/// All whole events of a file; the file is cut behind them.
fn read(path: &Path) -> Result<Vec<Event>, disk::Error> {
    let bytes = fs::read(path).map_err(at("read", path))?;
    let mut events = Vec::new();
    let mut rest = bytes.as_slice();
    while let Some((event, behind)) = first(rest) {
        events.push(event);
        rest = behind;
    }
    if !rest.is_empty() {
        warn!(path = %path.display(), bytes = rest.len(), "the end of a share log was torn and is cut");
        let file = OpenOptions::new().write(true).open(path).map_err(at("open", path))?;
        file.set_len((bytes.len() - rest.len()) as u64).map_err(at("cut", path))?;
    }
    Ok(events)
}

fn first(bytes: &[u8]) -> Option<(Event, &[u8])> {
    let (head, rest) = bytes.split_at_checked(HEAD)?;
    let word = |at: usize| head.get(at..at + 4)?.try_into().ok().map(u32::from_be_bytes);
    let (length, crc) = (word(0)? as usize, word(4)?);
    let (body, behind) = rest.split_at_checked(length).filter(|_| length <= MAX_FRAME)?;
    (crc32fast::hash(body) == crc).then_some(())?;
    Event::decode(body).ok().map(|event| (event, behind))
}
