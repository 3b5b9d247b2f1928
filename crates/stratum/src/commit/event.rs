//! What changes a book, as it is written to the agent's disk: applied again in the same order it makes the same book, with the
//! same roots under the same numbers.
//!
//! Next: `book.rs`, which makes and applies them.

use super::bytes::Reader;
use super::{Digest, Leaf, Malformed, Template};

/// One change of a book.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    Job {
        sequence: u64,
        at_ms: u64,
        template: Template,
    },
    Share {
        previous: Digest,
        at_ms: u64,
        leaf: Leaf,
    },
    /// The open shares of a block became a batch.
    Seal {
        sequence: u64,
        at_ms: u64,
        previous: Digest,
    },
    /// A block's batches were put together.
    Close {
        sequence: u64,
        at_ms: u64,
        previous: Digest,
    },
}

impl Event {
    /// The block that it concerns.
    pub fn previous(&self) -> Digest {
        match self {
            Event::Job { template, .. } => template.previous(),
            Event::Share { previous, .. } | Event::Seal { previous, .. } | Event::Close { previous, .. } => {
                *previous
            }
        }
    }

    pub fn encode(&self) -> Vec<u8> {
        let (kind, sequence, at_ms) = match self {
            Event::Job { sequence, at_ms, .. } => (0, *sequence, *at_ms),
            Event::Share { at_ms, .. } => (1, 0, *at_ms),
            Event::Seal { sequence, at_ms, .. } => (2, *sequence, *at_ms),
            Event::Close { sequence, at_ms, .. } => (3, *sequence, *at_ms),
        };
        let mut out = vec![kind];
        out.extend_from_slice(&sequence.to_be_bytes());
        out.extend_from_slice(&at_ms.to_be_bytes());
        out.extend_from_slice(&self.previous().0);
        match self {
            Event::Job { template, .. } => out.extend(template.encode()),
            Event::Share { leaf, .. } => out.extend(leaf.encode()),
            Event::Seal { .. } | Event::Close { .. } => {}
        }
        out
    }

    pub fn decode(bytes: &[u8]) -> Result<Event, Malformed> {
        let mut reader = Reader(bytes);
        let mut head = || Some((reader.u8()?, reader.u64()?, reader.u64()?, Digest(reader.array()?)));
        let (kind, sequence, at_ms, previous) = head().ok_or(Malformed("event"))?;
        let event = match kind {
            0 => Event::Job { sequence, at_ms, template: Template::decode(reader.0)? },
            1 => Event::Share { previous, at_ms, leaf: Leaf::decode(reader.0)? },
            2 => Event::Seal { sequence, at_ms, previous },
            3 => Event::Close { sequence, at_ms, previous },
            _ => return Err(Malformed("event")),
        };
        // One content has one encoding: no other block in front of a job, nothing behind a seal.
        if event.encode() == bytes { Ok(event) } else { Err(Malformed("event")) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::testing::{digest, leaves, template};
    use super::*;

    #[test]
    fn events_come_back_and_no_other_bytes_do() {
        let template = template(4, 0);
        let leaf = leaves(&template, 1, 0).remove(0);
        let previous = template.previous();
        for event in [
            Event::Job { sequence: 3, at_ms: 9, template },
            Event::Share { previous, at_ms: 9, leaf },
            Event::Seal { sequence: 4, at_ms: 9, previous: digest(1) },
            Event::Close { sequence: 5, at_ms: 9, previous: digest(1) },
        ] {
            let bytes = event.encode();
            assert_eq!(Event::decode(&bytes), Ok(event));
            assert_eq!(Event::decode(&[bytes.as_slice(), &[0]].concat()).ok(), None);
            assert_eq!(Event::decode(&bytes[..bytes.len() - 1]).ok(), None);
            assert_eq!(Event::decode(&[&[9], &bytes[1..]].concat()).ok(), None);
        }
    }
}
