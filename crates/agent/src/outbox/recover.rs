//! Brings an outbox directory back into order after any crash, and seals closed journals: the same code does both.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use model::ledger::{Gap, Line, Segment, ShareEnd};
use model::{ModuleId, Time};

use super::Error;
use super::journal::{Carry, Closed, Journal, open_path};
use super::record::{self, Record};
use super::seal;
use crate::disk;
use crate::meterbook::Carried;

/// What recovery found.
pub(super) struct Recovered {
    pub(super) journal: Journal,
    pub(super) sealed: BTreeSet<u64>,
    /// Segments that were made of journals of this very boot: nobody has been told of them.
    pub(super) news: Vec<Segment>,
    /// Where the meters' book stood.
    pub(super) book: Option<Carried>,
}

/// What a journal holds.
struct Contents {
    records: Vec<Record>,
    /// The bytes of its whole frames.
    whole: Vec<u8>,
    /// Something in its middle does not read: what stood behind it is lost.
    is_torn: bool,
}

/// Where a sealed segment stands.
pub(super) fn sealed_path(dir: &Path, sequence: u64) -> PathBuf {
    dir.join(format!("sealed-{sequence:012}.seg"))
}

/// Finishes every journal that a crash left and opens a new one behind the last number.
pub(super) fn recover(dir: &Path, module: &ModuleId, boot_id: &str, now: Time) -> Result<Recovered, Error> {
    let open = numbered(dir, "open-", ".log")?;
    let (mut news, mut book) = (Vec::new(), None);
    for (at, &sequence) in open.iter().enumerate() {
        let path = open_path(dir, sequence);
        let contents = Contents::read(&path)?;
        let next = open.get(at + 1).map(|next| open_path(dir, *next));
        book = seal::book(&contents.records).or(book);
        finish(&path, &contents, next.as_deref(), boot_id, now)?;
        let segment = seal_closed(dir, module, &Closed { path, sequence, at: now })?;
        news.extend(contents.is_of(boot_id).then_some(segment));
    }
    let sealed: BTreeSet<u64> = numbered(dir, "sealed-", ".seg")?.into_iter().collect();
    let last = open.last().max(sealed.last()).copied().unwrap_or(0);
    let carry = Carry { pending: BTreeMap::new(), book: book.clone() };
    let journal = Journal::begin(dir, last + 1, carry, boot_id, now)?;
    Ok(Recovered { journal, sealed, news, book })
}

/// Folds a closed journal into its segment and removes it. Safe to repeat.
pub(super) fn seal_closed(dir: &Path, module: &ModuleId, closed: &Closed) -> Result<Segment, Error> {
    let segment = match read_sealed(dir, closed.sequence) {
        Ok(segment) => segment,
        // None yet, or one that does not read while the journal still does.
        Err(_) => write_sealed(dir, module, closed)?,
    };
    fs::remove_file(&closed.path).map_err(disk::at("remove", &closed.path))?;
    disk::sync_parent(&closed.path)?;
    Ok(segment)
}

fn write_sealed(dir: &Path, module: &ModuleId, closed: &Closed) -> Result<Segment, Error> {
    let mut contents = Contents::read(&closed.path)?;
    let gap = contents.torn(closed.at).map(|gap| Record::Line(Line::Gap(gap)));
    let is_sealed = contents.is_sealed();
    contents.records.extend(gap);
    contents.records.extend((!is_sealed).then_some(Record::Seal { at: closed.at }));
    let mut segment = seal::fold(module, &contents.records);
    segment.sequence = closed.sequence;
    disk::replace(&sealed_path(dir, closed.sequence), &frame(&segment))?;
    Ok(segment)
}

/// Reads a sealed segment and checks it.
pub(super) fn read_sealed(dir: &Path, sequence: u64) -> Result<Segment, Error> {
    let path = sealed_path(dir, sequence);
    let bytes = fs::read(&path).map_err(disk::at("read", &path))?;
    unframe(&bytes).map_err(|what| Error::Damaged { path, what })
}

/// Writes what is missing behind the whole frames of a journal that a crash left: the ends of its shares, gaps, the seal. `next`
/// is the journal that was opened behind it; the last journal, in which the process died, has none.
fn finish(
    path: &Path,
    contents: &Contents,
    next: Option<&Path>,
    boot_id: &str,
    now: Time,
) -> Result<(), Error> {
    // Intents without an outcome were carried on by the next journal. One that is missing there was lost with the power, and what
    // was in flight when the process died is unknown for ever.
    let carried = match next {
        Some(next) => seal::pending(&Contents::read(next)?.records),
        None => BTreeMap::new(),
    };
    let pending = seal::pending(&contents.records).into_keys();
    let lost = pending.filter(|share| !carried.contains_key(share));
    let unknown = lost.map(|share| Record::Outcome { share, end: ShareEnd::Unknown });
    let gaps = [contents.power_loss(boot_id, now), contents.torn(now)].into_iter().flatten();
    let gaps = gaps.map(|gap| Record::Line(Line::Gap(gap)));
    let seal = (!contents.is_sealed()).then_some(Record::Seal { at: now });
    let mut bytes = contents.whole.clone();
    unknown.chain(gaps).chain(seal).for_each(|record| record::encode(&record, &mut bytes));
    Ok(disk::replace(path, &bytes)?)
}

impl Contents {
    fn read(path: &Path) -> Result<Self, Error> {
        let mut whole = fs::read(path).map_err(disk::at("read", path))?;
        let (records, length) = record::decode(&whole);
        let is_torn = record::is_torn_middle(&whole[length..]);
        whole.truncate(length);
        Ok(Self { records, whole, is_torn })
    }

    /// When it was opened, and under which boot of the machine; `None` when its head is lost.
    fn head(&self) -> Option<(Time, &str)> {
        match self.records.first() {
            Some(Record::Open { at, boot_id, .. }) => Some((*at, boot_id)),
            _ => None,
        }
    }

    fn is_of(&self, boot_id: &str) -> bool {
        self.head().is_some_and(|(_, opened_under)| opened_under == boot_id)
    }

    /// Its end was written and reads: nothing of it is missing.
    fn is_sealed(&self) -> bool {
        matches!(self.records.last(), Some(Record::Seal { .. }))
    }

    /// A gap, when the machine was booted anew since the journal was opened and the journal's end is not there: up to a second of
    /// records may be gone.
    fn power_loss(&self, boot_id: &str, now: Time) -> Option<Gap> {
        let why = |why: &str| why.to_owned();
        match self.head() {
            _ if self.is_sealed() => None,
            None => Some(Gap { from: None, to: now, why: why("the journal's head was lost") }),
            Some((at, opened_under)) => (opened_under != boot_id).then(|| Gap {
                from: Some(at),
                to: now,
                why: why("the machine was booted anew"),
            }),
        }
    }

    /// A gap, when the journal does not read to its end.
    fn torn(&self, now: Time) -> Option<Gap> {
        let from = self.head().map(|(at, _)| at);
        self.is_torn.then(|| Gap {
            from,
            to: now,
            why: "the journal was damaged on the disk; its records from the damage on are lost".into(),
        })
    }
}

fn numbered(dir: &Path, prefix: &str, suffix: &str) -> Result<Vec<u64>, Error> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(dir).map_err(disk::at("list", dir))? {
        let name = entry.map_err(disk::at("list", dir))?.file_name();
        let number: Option<u64> =
            name.to_str().and_then(|name| name.strip_prefix(prefix)?.strip_suffix(suffix)?.parse().ok());
        numbers.extend(number);
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// A segment on disk: its CRC-32 in hex, a line feed, its JSON.
pub(super) fn frame(segment: &Segment) -> Vec<u8> {
    let body = serde_json::to_vec(segment).expect("segments are plain data");
    let mut bytes = format!("{:08x}\n", crc32fast::hash(&body)).into_bytes();
    bytes.extend_from_slice(&body);
    bytes
}

fn unframe(bytes: &[u8]) -> Result<Segment, String> {
    let (head, body) = bytes.split_at_checked(9).ok_or("shorter than its checksum")?;
    let expected = format!("{:08x}\n", crc32fast::hash(body));
    if head != expected.as_bytes() {
        return Err("its checksum does not match".into());
    }
    serde_json::from_slice(body).map_err(|error| error.to_string())
}
