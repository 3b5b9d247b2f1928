//! What stands in an open journal: frames of length, checksum and payload, so that a torn tail is seen and cut.
//!
//! A payload is JSON, because a person at a well pad may have to read it; that of a share, which comes by the thousand, has a
//! short form (`short.rs`). The first byte tells them apart: JSON begins with a brace. Journals of releases that wrote shares as
//! JSON are read as ever. Next: [`super::journal`] writes these, [`super::seal`] folds them.

use std::sync::Arc;

use model::ledger::{Line, ShareEnd};
use model::{MinerGroupId, Time, Work};
use serde::{Deserialize, Serialize};
use stratum::hash::HeaderHash;

use super::short::{self, Names, Short};
use crate::meterbook::Carried;

/// Longest frame: a ledger line with some hundred uses is a few tens of kilobytes; a longer one is corruption.
pub const MAX_FRAME: usize = 1 << 20;
/// Bytes before the payload: length and CRC-32, little endian, four bytes each.
pub const HEADER: usize = 8;

/// One record of an open journal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Record {
    /// Begins a journal.
    Open {
        /// The segment that this journal becomes.
        sequence: u64,
        /// When it was opened.
        at: Time,
        /// The machine's boot: another one at recovery means that page cache may have been lost.
        boot_id: String,
    },
    /// A ledger line that is complete as it stands.
    Line(Line),
    /// What the meters' book wrote, and the book's state behind it: in one frame, so that a kill leaves both or neither and no
    /// second is billed twice.
    Turn {
        /// Complete ledger lines; often none.
        lines: Vec<Line>,
        /// From where the book goes on.
        book: Box<Carried>,
    },
    /// A share is about to be forwarded.
    Intent {
        /// Names the share until its outcome.
        share: u64,
        /// What it is.
        detail: ShareDetail,
    },
    /// What became of a forwarded share.
    Outcome {
        /// The number in its intent.
        share: u64,
        /// Its end.
        end: ShareEnd,
    },
    /// A share that ended at the edge: counted or rejected.
    Ended {
        /// What it is.
        detail: ShareDetail,
        /// Its end.
        end: ShareEnd,
    },
    /// Ends a journal; nothing stands behind it.
    Seal {
        /// When.
        at: Time,
    },
}

/// What the ledger needs to know of a share.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShareDetail {
    /// The miners' group.
    pub group: MinerGroupId,
    /// The account at the pool. Shared, since all shares of an account have the same.
    #[serde(with = "text")]
    pub worker: Arc<str>,
    /// Expected hashes really done.
    pub work: Work,
    /// What the pool credits for it if it accepts; zero where it is not forwarded.
    #[serde(default)]
    pub credited: Work,
    /// Nominal hashes for each of them.
    pub scale: u64,
    /// The header's hash; in JSON big endian hex, and empty when the submission was too malformed to have one.
    #[serde(with = "hash")]
    pub hash: Option<HeaderHash>,
}

/// Appends the frame of `record` to `out`.
pub fn encode(record: &Record, out: &mut Vec<u8>) {
    match Short::of(record).filter(|short| short.fits()) {
        Some(short) => frame(out, |out| short.write(out)),
        None => encode_json(record, out),
    }
}

/// Appends the frame of a share's record to `out`.
pub(super) fn encode_share(share: Short<'_>, out: &mut Vec<u8>) {
    if share.fits() {
        frame(out, |out| share.write(out));
    } else {
        encode_json(&share.to_record(), out);
    }
}

fn encode_json(record: &Record, out: &mut Vec<u8>) {
    // A `Record` holds strings, integers and maps with string keys only: nothing that JSON cannot say.
    frame(out, |out| serde_json::to_writer(out, record).expect("records are plain data"));
}

fn frame(out: &mut Vec<u8>, payload: impl FnOnce(&mut Vec<u8>)) {
    let begin = out.len();
    out.extend_from_slice(&[0; HEADER]);
    payload(out);
    let (header, payload) = out[begin..].split_at_mut(HEADER);
    let length = u32::try_from(payload.len()).expect("a record is far below 4 GiB");
    header[..4].copy_from_slice(&length.to_le_bytes());
    header[4..].copy_from_slice(&crc32fast::hash(payload).to_le_bytes());
}

/// Reads frames until the end or the first damage. Answers the records and how many bytes they took: what lies behind is torn.
pub fn decode(bytes: &[u8]) -> (Vec<Record>, usize) {
    let mut records = Vec::new();
    let (mut at, mut names) = (0, Names::default());
    while let Some((record, size)) = decode_one(&bytes[at..], &mut names) {
        records.push(record);
        at += size;
    }
    (records, at)
}

/// Whether what lies behind the last whole frame is damage in the middle, which may have taken records with it. A frame that was
/// cut short by the end of the file is none: its record was never told to anybody. `rest` begins where [`decode`] stopped.
pub fn is_torn_middle(rest: &[u8]) -> bool {
    let fits = |at: usize, limit: usize| {
        let header = rest.get(at..at + HEADER);
        let length = header.and_then(|header| header[..4].try_into().ok()).map(u32::from_le_bytes);
        length.is_some_and(|length| length as usize <= limit && rest.len() - at - HEADER >= length as usize)
    };
    // Most places begin neither form, or one that is too long: few are looked at twice, and those of a share not for long.
    let limit = |at: usize| match rest.get(at + HEADER) {
        Some(b'{') => MAX_FRAME,
        Some(tag) if short::is_tag(*tag) => short::MAX_PAYLOAD,
        _ => 0,
    };
    let is_frame =
        |at: usize| fits(at, limit(at)) && decode_one(&rest[at..], &mut Names::default()).is_some();
    fits(0, MAX_FRAME) || (1..rest.len()).any(is_frame)
}

fn decode_one(bytes: &[u8], names: &mut Names) -> Option<(Record, usize)> {
    let header = bytes.get(..HEADER)?;
    let length = u32::from_le_bytes(header[..4].try_into().ok()?) as usize;
    let checksum = u32::from_le_bytes(header[4..].try_into().ok()?);
    if length > MAX_FRAME {
        return None;
    }
    let payload = bytes.get(HEADER..HEADER + length)?;
    if crc32fast::hash(payload) != checksum {
        return None;
    }
    let record = match payload.first() {
        Some(tag) if short::is_tag(*tag) => short::read(payload, names)?,
        _ => serde_json::from_slice(payload).ok()?,
    };
    Some((record, HEADER + length))
}

/// A shared text, in JSON as any other.
mod text {
    use super::Arc;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(text: &Arc<str>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(text)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Arc<str>, D::Error> {
        String::deserialize(deserializer).map(Arc::from)
    }
}

/// A header's hash, in JSON as block explorers write it; whatever is not one reads as none.
mod hash {
    use super::HeaderHash;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(
        hash: &Option<HeaderHash>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match hash {
            Some(hash) => serializer.collect_str(hash),
            None => serializer.serialize_str(""),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<HeaderHash>, D::Error> {
        let bytes = stratum::hex::decode_exact(&String::deserialize(deserializer)?);
        Ok(bytes.map(|mut bytes: [u8; 32]| {
            bytes.reverse();
            HeaderHash(bytes)
        }))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn detail(work: u128) -> ShareDetail {
        ShareDetail {
            group: MinerGroupId::new("a").unwrap(),
            worker: "acc.m-a-1".into(),
            work: Work(work),
            credited: Work(work / 2),
            scale: 7,
            hash: Some(HeaderHash([0xab; 32])),
        }
    }

    fn sample() -> Vec<Record> {
        vec![
            Record::Open { sequence: 3, at: Time(5), boot_id: "b".into() },
            Record::Intent { share: 1, detail: detail(1 << 90) },
            Record::Outcome { share: 1, end: ShareEnd::Accepted },
            Record::Ended { detail: detail(4_096), end: ShareEnd::Rejected("stale".into()) },
            Record::Seal { at: Time(9) },
        ]
    }

    #[test]
    fn records_survive_the_round_trip() {
        let mut bytes = Vec::new();
        sample().iter().for_each(|record| encode(record, &mut bytes));
        assert_eq!(decode(&bytes), (sample(), bytes.len()));
    }

    /// Journals of the first format, in which shares were JSON too, must always be read: an agent may be updated at any moment.
    #[test]
    fn shares_in_json_are_read_as_ever() {
        let hash = "000000000000000000000000000000000000000000000000000000000000ff01";
        let check = |payload: &str, expected: Record| {
            let mut bytes = Vec::new();
            frame(&mut bytes, |out| out.extend_from_slice(payload.as_bytes()));
            assert_eq!(decode(&bytes), (vec![expected], bytes.len()), "{payload}");
        };
        let head = r#""group":"a","worker":"acc.m-a-1","work":"4096""#;
        let mut reversed = [0; 32];
        (reversed[0], reversed[1]) = (1, 0xff);
        let detail = ShareDetail { hash: Some(HeaderHash(reversed)), ..detail(4_096) };
        check(
            &format!(
                r#"{{"intent":{{"share":1,"detail":{{{head},"credited":"2048","scale":7,"hash":"{hash}"}}}}}}"#
            ),
            Record::Intent { share: 1, detail: detail.clone() },
        );
        let old = ShareDetail { hash: None, credited: Work::ZERO, ..detail };
        check(
            &format!(
                r#"{{"ended":{{"detail":{{{head},"scale":7,"hash":""}},"end":{{"rejected":"stale"}}}}}}"#
            ),
            Record::Ended { detail: old, end: ShareEnd::Rejected("stale".into()) },
        );
        check(
            r#"{"outcome":{"share":1,"end":"accepted"}}"#,
            Record::Outcome { share: 1, end: ShareEnd::Accepted },
        );
    }

    #[test]
    fn a_share_with_an_endless_name_goes_as_json() {
        let long = ShareDetail { worker: "w".repeat(5_000).into(), ..detail(1) };
        let records = vec![
            Record::Intent { share: 1, detail: long.clone() },
            Record::Ended { detail: long, end: ShareEnd::Counted },
            Record::Outcome { share: 1, end: ShareEnd::Refused("x".repeat(5_000)) },
        ];
        let (mut bytes, mut borrowed) = (Vec::new(), Vec::new());
        for record in &records {
            encode(record, &mut bytes);
            encode_share(Short::of(record).unwrap(), &mut borrowed);
        }
        assert_eq!(decode(&bytes), (records, bytes.len()));
        assert_eq!(bytes, borrowed);
        assert_eq!(bytes[HEADER], b'{');
    }

    #[test]
    fn a_cut_tail_is_told_from_damage_in_the_middle() {
        let mut bytes = Vec::new();
        let mut ends = vec![0];
        for record in sample() {
            encode(&record, &mut bytes);
            ends.push(bytes.len());
        }
        let torn = |bytes: &[u8]| is_torn_middle(&bytes[decode(bytes).1..]);
        for cut in 0..=bytes.len() {
            assert!(!torn(&bytes[..cut]), "cut to {cut}");
        }
        // Any byte of any frame but the last: what follows it is lost, and that is seen.
        for at in 0..ends[ends.len() - 2] {
            let mut flipped = bytes.clone();
            flipped[at] ^= 0x40;
            assert!(torn(&flipped), "byte {at}");
        }
    }

    proptest! {
        #[test]
        fn a_cut_or_a_flipped_byte_loses_only_what_follows(cut in 0usize..600, flip in prop::option::of(0usize..600)) {
            let mut bytes = Vec::new();
            let mut ends = Vec::new();
            for record in sample() {
                encode(&record, &mut bytes);
                ends.push(bytes.len());
            }
            bytes.truncate(cut);
            if let Some(at) = flip.filter(|&at| at < bytes.len()) {
                bytes[at] ^= 0x40;
            }
            let damage = flip.unwrap_or(usize::MAX).min(cut);
            let whole = ends.iter().filter(|&&end| end <= damage).count();
            let (records, taken) = decode(&bytes);
            prop_assert_eq!(&records[..whole], &sample()[..whole]);
            prop_assert!(taken <= bytes.len());
            if flip.is_none() {
                prop_assert_eq!(records.len(), whole);
            }
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let (_, taken) = decode(&bytes);
            prop_assert!(taken <= bytes.len());
        }
    }
}
