//! Brings an outbox directory back into order after any crash, and seals closed journals: the same code does both.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use model::ledger::{Gap, Line, Segment, ShareEnd};
use model::{ModuleId, Time};

use super::Error;
use super::journal::{Closed, Journal, open_path};
use super::record::{self, Record};
use super::seal;
use crate::disk;

/// What recovery found.
pub(super) struct Recovered {
    pub(super) journal: Journal,
    pub(super) sealed: BTreeSet<u64>,
}

/// Where a sealed segment stands.
pub(super) fn sealed_path(dir: &Path, sequence: u64) -> PathBuf {
    dir.join(format!("sealed-{sequence:012}.seg"))
}

/// Finishes every journal that a crash left and opens a new one behind the last number.
pub(super) fn recover(dir: &Path, module: &ModuleId, boot_id: &str, now: Time) -> Result<Recovered, Error> {
    let open = numbered(dir, "open-", ".log")?;
    for (at, &sequence) in open.iter().enumerate() {
        let path = open_path(dir, sequence);
        match open.get(at + 1) {
            Some(&next) => reconcile(&path, &open_path(dir, next), now)?,
            None => close_last(&path, boot_id, now)?,
        }
        seal_closed(dir, module, &Closed { path, sequence })?;
    }
    let sealed: BTreeSet<u64> = numbered(dir, "sealed-", ".seg")?.into_iter().collect();
    let last = open.last().max(sealed.last()).copied().unwrap_or(0);
    let journal = Journal::begin(dir, last + 1, BTreeMap::new(), boot_id, now)?;
    Ok(Recovered { journal, sealed })
}

/// Folds a closed journal into its segment and removes it. Safe to repeat.
pub(super) fn seal_closed(dir: &Path, module: &ModuleId, closed: &Closed) -> Result<(), Error> {
    let target = sealed_path(dir, closed.sequence);
    if !target.exists() {
        let mut segment = seal::fold(module, &read_records(&closed.path)?.0);
        segment.sequence = closed.sequence;
        disk::replace(&target, &frame(&segment))?;
    }
    fs::remove_file(&closed.path).map_err(disk::at("remove", &closed.path))?;
    Ok(disk::sync_parent(&closed.path)?)
}

/// Reads a sealed segment and checks it.
pub(super) fn read_sealed(dir: &Path, sequence: u64) -> Result<Segment, Error> {
    let path = sealed_path(dir, sequence);
    let bytes = fs::read(&path).map_err(disk::at("read", &path))?;
    unframe(&bytes).map_err(|what| Error::Damaged { path, what })
}

/// A journal that was closed by opening `next`. Its intents without an outcome were carried on; one that is missing there was
/// lost with the power, and nobody will ever know its end.
fn reconcile(path: &Path, next: &Path, now: Time) -> Result<(), Error> {
    let (records, whole) = read_records(path)?;
    let carried: BTreeSet<u64> = read_records(next)?
        .0
        .iter()
        .filter_map(|record| match record {
            Record::Intent { share, .. } => Some(*share),
            _ => None,
        })
        .collect();
    let lost: Vec<u64> =
        seal::pending(&records).into_keys().filter(|share| !carried.contains(share)).collect();
    finish(path, &records, whole, lost, None, now)
}

/// The journal in which the process died: what was in flight is unknown for ever.
fn close_last(path: &Path, boot_id: &str, now: Time) -> Result<(), Error> {
    let (records, whole) = read_records(path)?;
    let lost = seal::pending(&records).into_keys().collect();
    finish(path, &records, whole, lost, power_loss(&records, boot_id, now), now)
}

/// A gap, when the machine was booted anew since the journal was opened: up to a second of records may be gone.
fn power_loss(records: &[Record], boot_id: &str, now: Time) -> Option<Gap> {
    let Some(Record::Open { at, boot_id: opened_under, .. }) = records.first() else {
        return Some(Gap { from: None, to: now, why: "the journal's head was lost".into() });
    };
    (opened_under != boot_id).then(|| Gap {
        from: Some(*at),
        to: now,
        why: "the machine was booted anew".into(),
    })
}

fn finish(
    path: &Path,
    records: &[Record],
    whole: usize,
    lost: Vec<u64>,
    gap: Option<Gap>,
    now: Time,
) -> Result<(), Error> {
    let mut bytes = fs::read(path).map_err(disk::at("read", path))?;
    bytes.truncate(whole);
    let unknown =
        |share: &u64| record::encode(&Record::Outcome { share: *share, end: ShareEnd::Unknown }, &mut bytes);
    lost.iter().for_each(unknown);
    if let Some(gap) = gap {
        record::encode(&Record::Line(Line::Gap(gap)), &mut bytes);
    }
    if !matches!(records.last(), Some(Record::Seal { .. })) {
        record::encode(&Record::Seal { at: now }, &mut bytes);
    }
    Ok(disk::replace(path, &bytes)?)
}

fn read_records(path: &Path) -> Result<(Vec<Record>, usize), Error> {
    let bytes = fs::read(path).map_err(disk::at("read", path))?;
    Ok(record::decode(&bytes))
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
