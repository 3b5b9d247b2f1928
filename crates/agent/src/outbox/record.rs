//! What stands in an open journal: frames of length, checksum and JSON, so that a torn tail is seen and cut.
//!
//! JSON inside, because a person at a well pad may have to read it; the frame outside, because JSON alone cannot tell a torn
//! line from a short one. Next: [`super::journal`] writes these, [`super::seal`] folds them.

use model::ledger::{Line, ShareEnd};
use model::{MinerGroupId, Time, Work};
use serde::{Deserialize, Serialize};

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
    /// The worker's name.
    pub worker: String,
    /// Expected hashes really done.
    pub work: Work,
    /// What the pool credits for it if it accepts; zero where it is not forwarded.
    #[serde(default)]
    pub credited: Work,
    /// Nominal hashes for each of them.
    pub scale: u64,
    /// The header's hash, big endian hex; empty when the submission was too malformed to have one.
    pub hash: String,
}

/// Appends the frame of `record` to `out`.
pub fn encode(record: &Record, out: &mut Vec<u8>) {
    // A `Record` holds strings, integers and maps with string keys only: nothing that JSON cannot say.
    let payload = serde_json::to_vec(record).expect("records are plain data");
    let length = u32::try_from(payload.len()).expect("a record is far below 4 GiB");
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&crc32fast::hash(&payload).to_le_bytes());
    out.extend_from_slice(&payload);
}

/// Reads frames until the end or the first damage. Answers the records and how many bytes they took: what lies behind is torn.
pub fn decode(bytes: &[u8]) -> (Vec<Record>, usize) {
    let mut records = Vec::new();
    let mut at = 0;
    while let Some((record, size)) = decode_one(&bytes[at..]) {
        records.push(record);
        at += size;
    }
    (records, at)
}

/// Whether what lies behind the last whole frame is damage in the middle, which may have taken records with it. A frame that was
/// cut short by the end of the file is none: its record was never told to anybody. `rest` begins where [`decode`] stopped.
pub fn is_torn_middle(rest: &[u8]) -> bool {
    let whole = |at: usize| {
        let header = rest.get(at..at + HEADER);
        let length = header.and_then(|header| header[..4].try_into().ok()).map(u32::from_le_bytes);
        // The payload of a frame is JSON, read as a length it is far beyond the longest: this looks at few places twice.
        length
            .is_some_and(|length| length as usize <= MAX_FRAME && rest.len() - at - HEADER >= length as usize)
    };
    whole(0) || (1..rest.len()).any(|at| whole(at) && decode_one(&rest[at..]).is_some())
}

fn decode_one(bytes: &[u8]) -> Option<(Record, usize)> {
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
    let record = serde_json::from_slice(payload).ok()?;
    Some((record, HEADER + length))
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
            hash: "00ff".into(),
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
