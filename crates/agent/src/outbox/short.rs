//! The short form of what stands in a journal by the thousand: a share's intent, outcome and end, in some 100 bytes and without
//! an allocation, where JSON takes 200 and a dozen.
//!
//! Assumes that no payload in JSON begins with one of its tags, and that a tag never means anything else than it does now: a
//! journal of an older release may be read by any later one. Numbers are little endian, texts a length of two bytes and UTF-8.
//!
//! | part | bytes |
//! |---|---|
//! | tag | 1: intent 1, outcome 2, ended 3 |
//! | share, of an intent or an outcome | 8 |
//! | detail, of an intent or an ended: work, credited, scale | 16, 16, 8 |
//! | … its hash, as SHA-256 gives it | 1, how many; 0 or 32 |
//! | … its group, its worker | two texts |
//! | end, of an outcome or an ended | 1, in the order of [`ShareEnd`]; a text behind rejected and refused |
//!
//! Next: `record.rs`, which puts frames around it.

use std::sync::Arc;

use model::ledger::ShareEnd;
use model::{MinerGroupId, Work};
use stratum::hash::HeaderHash;

use super::record::{Record, ShareDetail};

const INTENT: u8 = 1;
const OUTCOME: u8 = 2;
const ENDED: u8 = 3;

/// Longest text that has a short form. Names have 160 bytes at most, a pool's words 256; a record with more goes as JSON.
const MAX_TEXT: usize = 1_024;
/// Longest payload: 82 bytes of tag, numbers and hash, three texts of at most 1,026 bytes, one byte for the end; rounded up.
pub(super) const MAX_PAYLOAD: usize = 4_096;

/// A record of a share, borrowed from whoever has it.
#[derive(Clone, Copy)]
pub(super) enum Short<'a> {
    Intent { share: u64, detail: &'a ShareDetail },
    Outcome { share: u64, end: &'a ShareEnd },
    Ended { detail: &'a ShareDetail, end: &'a ShareEnd },
}

impl<'a> Short<'a> {
    /// `None` for what has no short form.
    pub(super) fn of(record: &'a Record) -> Option<Short<'a>> {
        match record {
            Record::Intent { share, detail } => Some(Short::Intent { share: *share, detail }),
            Record::Outcome { share, end } => Some(Short::Outcome { share: *share, end }),
            Record::Ended { detail, end } => Some(Short::Ended { detail, end }),
            _ => None,
        }
    }

    pub(super) fn to_record(self) -> Record {
        match self {
            Short::Intent { share, detail } => Record::Intent { share, detail: detail.clone() },
            Short::Outcome { share, end } => Record::Outcome { share, end: end.clone() },
            Short::Ended { detail, end } => Record::Ended { detail: detail.clone(), end: end.clone() },
        }
    }

    /// Whether none of its texts is too long.
    pub(super) fn fits(self) -> bool {
        let detail = |detail: &ShareDetail| detail.worker.len() <= MAX_TEXT;
        let end = |end: &ShareEnd| text_of(end).is_none_or(|text| text.len() <= MAX_TEXT);
        match self {
            Short::Intent { detail: of, .. } => detail(of),
            Short::Outcome { end: of, .. } => end(of),
            Short::Ended { detail: of, end: with } => detail(of) && end(with),
        }
    }

    /// Appends the payload. Call it for what fits.
    pub(super) fn write(self, out: &mut Vec<u8>) {
        match self {
            Short::Intent { share, detail } => {
                out.push(INTENT);
                out.extend_from_slice(&share.to_le_bytes());
                write_detail(detail, out);
            }
            Short::Outcome { share, end } => {
                out.push(OUTCOME);
                out.extend_from_slice(&share.to_le_bytes());
                write_end(end, out);
            }
            Short::Ended { detail, end } => {
                out.push(ENDED);
                write_detail(detail, out);
                write_end(end, out);
            }
        }
    }
}

fn write_detail(detail: &ShareDetail, out: &mut Vec<u8>) {
    let ShareDetail { group, worker, work, credited, scale, hash } = detail;
    out.extend_from_slice(&work.0.to_le_bytes());
    out.extend_from_slice(&credited.0.to_le_bytes());
    out.extend_from_slice(&scale.to_le_bytes());
    match hash {
        Some(HeaderHash(bytes)) => {
            out.push(32);
            out.extend_from_slice(bytes);
        }
        None => out.push(0),
    }
    write_text(group.as_str(), out);
    write_text(worker, out);
}

fn write_end(end: &ShareEnd, out: &mut Vec<u8>) {
    out.push(match end {
        ShareEnd::Rejected(_) => 0,
        ShareEnd::Counted => 1,
        ShareEnd::KeepAlive => 2,
        ShareEnd::Accepted => 3,
        ShareEnd::Refused(_) => 4,
        ShareEnd::Unknown => 5,
    });
    if let Some(text) = text_of(end) {
        write_text(text, out);
    }
}

fn text_of(end: &ShareEnd) -> Option<&str> {
    match end {
        ShareEnd::Rejected(text) | ShareEnd::Refused(text) => Some(text),
        _ => None,
    }
}

fn write_text(text: &str, out: &mut Vec<u8>) {
    let length = u16::try_from(text.len()).expect("what fits has short texts, and a group's id has 63 bytes");
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

/// Whether a payload that begins so is in the short form.
pub(super) fn is_tag(byte: u8) -> bool {
    matches!(byte, INTENT | OUTCOME | ENDED)
}

/// Names of the record before: nearly all records of a journal have the same ones, which then are shared.
#[derive(Default)]
pub(super) struct Names {
    group: Option<MinerGroupId>,
    worker: Option<Arc<str>>,
}

impl Names {
    fn group(&mut self, text: &str) -> Option<MinerGroupId> {
        if self.group.as_ref().is_none_or(|last| last.as_str() != text) {
            self.group = Some(MinerGroupId::new(text).ok()?);
        }
        self.group.clone()
    }

    fn worker(&mut self, text: &str) -> Arc<str> {
        match &self.worker {
            Some(last) if **last == *text => Arc::clone(last),
            _ => Arc::clone(self.worker.insert(text.into())),
        }
    }
}

/// Reads a payload. `None` for one that is not whole, or has anything behind it.
pub(super) fn read(payload: &[u8], names: &mut Names) -> Option<Record> {
    let mut from = Reader(payload);
    let [tag] = from.bytes()?;
    let record = match tag {
        INTENT => Record::Intent { share: from.number()?, detail: from.detail(names)? },
        OUTCOME => Record::Outcome { share: from.number()?, end: from.end()? },
        ENDED => Record::Ended { detail: from.detail(names)?, end: from.end()? },
        _ => return None,
    };
    from.0.is_empty().then_some(record)
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn bytes<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*bytes)
    }

    fn number(&mut self) -> Option<u64> {
        self.bytes().map(u64::from_le_bytes)
    }

    fn work(&mut self) -> Option<Work> {
        self.bytes().map(|bytes| Work(u128::from_le_bytes(bytes)))
    }

    fn text(&mut self) -> Option<&'a str> {
        let length = usize::from(u16::from_le_bytes(self.bytes()?));
        let (text, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        std::str::from_utf8(text).ok()
    }

    fn detail(&mut self, names: &mut Names) -> Option<ShareDetail> {
        let (work, credited, scale) = (self.work()?, self.work()?, self.number()?);
        let hash = match self.bytes()? {
            [0] => None,
            [32] => Some(HeaderHash(self.bytes()?)),
            _ => return None,
        };
        let group = names.group(self.text()?)?;
        let worker = names.worker(self.text()?);
        Some(ShareDetail { group, worker, work, credited, scale, hash })
    }

    fn end(&mut self) -> Option<ShareEnd> {
        Some(match self.bytes()? {
            [0] => ShareEnd::Rejected(self.text()?.to_owned()),
            [1] => ShareEnd::Counted,
            [2] => ShareEnd::KeepAlive,
            [3] => ShareEnd::Accepted,
            [4] => ShareEnd::Refused(self.text()?.to_owned()),
            [5] => ShareEnd::Unknown,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn detail(worker: &str, hash: Option<u8>) -> ShareDetail {
        ShareDetail {
            group: MinerGroupId::new("a-1").unwrap(),
            worker: worker.into(),
            work: Work(1 << 90),
            credited: Work(7),
            scale: u64::MAX,
            hash: hash.map(|byte| HeaderHash([byte; 32])),
        }
    }

    fn write(record: &Record) -> Option<Vec<u8>> {
        let short = Short::of(record).filter(|short| short.fits())?;
        let mut bytes = Vec::new();
        short.write(&mut bytes);
        Some(bytes)
    }

    fn samples() -> Vec<Record> {
        let ends = [
            ShareEnd::Rejected("stale".into()),
            ShareEnd::Counted,
            ShareEnd::KeepAlive,
            ShareEnd::Accepted,
            ShareEnd::Refused("Ünknown jöb".into()),
            ShareEnd::Unknown,
        ];
        let outcomes = ends.iter().map(|end| Record::Outcome { share: 1 << 60, end: end.clone() });
        let ended = ends.iter().map(|end| Record::Ended { detail: detail("w", None), end: end.clone() });
        let intent = Record::Intent { share: 3, detail: detail("acc.m-a-1", Some(9)) };
        outcomes.chain(ended).chain([intent]).collect()
    }

    #[test]
    fn every_record_of_a_share_survives_the_round_trip_and_no_part_of_one_does() {
        let mut names = Names::default();
        for record in samples() {
            let bytes = write(&record).unwrap();
            assert!(is_tag(bytes[0]) && bytes.len() <= MAX_PAYLOAD);
            assert_eq!(read(&bytes, &mut names), Some(record.clone()));
            assert_eq!(Short::of(&record).unwrap().to_record(), record);
            for cut in 0..bytes.len() {
                assert_eq!(read(&bytes[..cut], &mut names), None, "{record:?} cut to {cut}");
            }
            assert_eq!(read(&[bytes, vec![0]].concat(), &mut names), None, "{record:?} and more");
        }
    }

    /// The bytes as they are written today: a release that reads others loses its users' shares.
    #[test]
    fn the_layout_is_what_the_table_says() {
        let check = |record: Record, expected: &str| {
            assert_eq!(stratum::hex::encode(&write(&record).unwrap()), expected);
        };
        check(Record::Outcome { share: 258, end: ShareEnd::Accepted }, "02020100000000000003");
        check(
            Record::Outcome { share: 1, end: ShareEnd::Refused("no".into()) },
            "0201000000000000000402006e6f",
        );
        let small = ShareDetail { work: Work(5), credited: Work(6), scale: 7, ..detail("w", None) };
        let zeros = "0".repeat(30);
        check(
            Record::Ended { detail: small.clone(), end: ShareEnd::Counted },
            &format!("0305{zeros}06{zeros}07{}000300612d3101007701", "0".repeat(14)),
        );
        let hashed = ShareDetail { hash: Some(HeaderHash([0xab; 32])), ..small };
        check(
            Record::Intent { share: 1, detail: hashed },
            &format!(
                "01010000000000000005{zeros}06{zeros}07{}20{}0300612d31010077",
                "0".repeat(14),
                "ab".repeat(32)
            ),
        );
    }

    #[test]
    fn what_is_too_long_has_no_short_form() {
        let check = |worker: usize, text: usize, expected: bool| {
            let end = ShareEnd::Refused("x".repeat(text));
            let record = Record::Ended { detail: detail(&"w".repeat(worker), None), end };
            assert_eq!(write(&record).is_some(), expected, "{worker} {text}");
            assert!(write(&record).is_none_or(|bytes| bytes.len() <= MAX_PAYLOAD));
        };
        check(MAX_TEXT, MAX_TEXT, true);
        check(MAX_TEXT + 1, 0, false);
        check(0, MAX_TEXT + 1, false);
    }

    #[test]
    fn names_that_stay_are_shared() {
        let bytes = write(&Record::Intent { share: 3, detail: detail("w", None) }).unwrap();
        let mut names = Names::default();
        let worker = |record: Option<Record>| match record {
            Some(Record::Intent { detail, .. }) => detail.worker,
            other => panic!("{other:?}"),
        };
        let (one, two) = (worker(read(&bytes, &mut names)), worker(read(&bytes, &mut names)));
        assert!(Arc::ptr_eq(&one, &two));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic_and_what_is_read_was_written_so(bytes: Vec<u8>, tag in 0u8..5) {
            let bytes = [vec![tag], bytes].concat();
            if let Some(record) = read(&bytes, &mut Names::default()) {
                prop_assert_eq!(write(&record), Some(bytes));
            }
        }
    }
}
