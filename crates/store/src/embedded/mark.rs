//! How many disk transactions were acknowledged, kept beside the database so that a loss of the last ones is seen.
//!
//! The database heals a torn write by going back to the transaction before it. That is right for one that nobody was told of, and
//! a silent loss where damage hit one that was: only somebody outside of the database can tell the two apart. So each
//! transaction carries its number, and after it is durable, and before anybody is answered, the number is written here too. An
//! opened database that stands below its mark has lost something, or is an older copy.
//!
//! Assumes: a write of a few bytes into an existing file survives the death of the process without a sync. After a loss of power
//! the mark may be an older one, which allows more than it should and refuses nothing that is whole. Two slots are written in
//! turn, so that a torn one leaves the other.
//! Read next: `disk.rs`.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use crate::error::Error;

/// A slot: 20 digits, a blank, 8 digits of checksum, a line end, filled up to this with blanks.
const SLOT_BYTES: usize = 32;

/// The open mark of one store.
#[derive(Debug)]
pub(super) struct Mark(File);

impl Mark {
    /// The mark in `dir` and the number it holds; made with `number` where there is none yet.
    pub(super) fn open(dir: &Path, number: u64) -> Result<(Self, u64), Error> {
        let path = dir.join("store.mark");
        if !path.exists() {
            make(&path, number).map_err(|source| unusable(&path, "cannot be made", source))?;
        }
        let file = File::options().read(true).write(true).open(&path);
        let file = file.map_err(|source| unusable(&path, "cannot be opened", source))?;
        let found = read(&file).map_err(|source| unusable(&path, "cannot be read", source))?;
        match found {
            Some(found) => Ok((Self(file), found)),
            None => {
                let what = format!(
                    "the mark {} (it tells whether the store beside it is whole; if you are sure of that store, delete the mark)",
                    path.display()
                );
                Err(Error::Corrupt { what, source: None })
            }
        }
    }

    /// Says that transaction `number` was acknowledged.
    pub(super) fn set(&self, number: u64) -> io::Result<()> {
        let offset = if number.is_multiple_of(2) { 0 } else { SLOT_BYTES as u64 };
        self.0.write_all_at(&slot(number), offset)
    }
}

fn make(path: &Path, number: u64) -> io::Result<()> {
    let fresh = path.with_extension("mark.new");
    let mut file = File::create(&fresh)?;
    file.write_all(&slot(number))?;
    file.write_all(&slot(number))?;
    file.sync_all()?;
    fs::rename(&fresh, path)
}

/// The higher of the slots that are whole.
fn read(file: &File) -> io::Result<Option<u64>> {
    let mut bytes = [0; 2 * SLOT_BYTES];
    let mut filled = 0;
    while filled < bytes.len() {
        match file.read_at(&mut bytes[filled..], filled as u64)? {
            0 => break,
            count => filled += count,
        }
    }
    Ok(bytes[..filled].chunks_exact(SLOT_BYTES).filter_map(parse).max())
}

fn slot(number: u64) -> Vec<u8> {
    let digits = format!("{number:020}");
    let text = format!("{digits} {:08x}\n", crc32fast::hash(digits.as_bytes()));
    format!("{text:<SLOT_BYTES$}").into_bytes()
}

fn parse(bytes: &[u8]) -> Option<u64> {
    let number = std::str::from_utf8(bytes.get(..20)?).ok()?.parse().ok()?;
    (slot(number) == bytes).then_some(number)
}

fn unusable(path: &Path, what: &str, source: io::Error) -> Error {
    Error::Unavailable {
        what: format!("{} {what}: check the disk and who may write there", path.display()),
        source: Some(source.into()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn dir(name: &str) -> std::path::PathBuf {
        let dir = std::env::temp_dir().join(format!("store-mark-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).unwrap();
        dir
    }

    #[test]
    fn the_mark_remembers_the_latest_number() {
        let dir = dir("latest");
        assert_eq!(Mark::open(&dir, 7).unwrap().1, 7);
        let (mark, found) = Mark::open(&dir, 99).unwrap();
        assert_eq!(found, 7, "an old mark is not made anew");
        for number in 8..=11 {
            mark.set(number).unwrap();
            assert_eq!(Mark::open(&dir, 0).unwrap().1, number);
        }
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_torn_slot_leaves_the_one_before_and_two_are_told() {
        let dir = dir("torn");
        let (mark, _) = Mark::open(&dir, 1).unwrap();
        mark.set(2).unwrap();
        mark.set(3).unwrap();
        let path = dir.join("store.mark");
        let whole = fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut torn = whole.clone();
            torn[at] ^= 0x11;
            fs::write(&path, &torn).unwrap();
            let expected = if at < SLOT_BYTES { 3 } else { 2 };
            assert_eq!(Mark::open(&dir, 0).unwrap().1, expected, "byte {at}");
        }
        for keep in 0..SLOT_BYTES {
            fs::write(&path, &whole[..keep]).unwrap();
            let error = Mark::open(&dir, 0).unwrap_err();
            assert!(
                matches!(error, Error::Corrupt { .. }) && error.to_string().contains("delete the mark"),
                "{error}"
            );
        }
        fs::remove_dir_all(dir).unwrap();
    }
}
