//! What changes an auditor, as it is written to the controller's disk: applied again in the same order to the same auditor it makes
//! the same one.
//!
//! Assumes that a step was written before it takes effect, so that no claim is drawn from with two seeds. Next: `../auditor.rs`,
//! and the controller's `audit/file.rs`, which writes them.

use super::{Auditor, Draw, Sum};
use crate::account::Tally;
use crate::commit::{Digest, Fault, Note};
use model::Time;
use serde::{Deserialize, Serialize};

/// What an answer showed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Judged {
    /// Good shares: `hash ÷ target` of each.
    Shown {
        ratios: Vec<f64>,
    },
    Lost,
    Failed(Fault),
}

/// One change of an auditor. What is too old goes with each note.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Step {
    /// A note came, and this seed was drawn for it.
    Note {
        note: Note,
        at: Time,
        seed: Digest,
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        sparing: bool,
    },
    /// A claim's answer was judged.
    Answer { sequence: u64, judged: Judged, at: Time },
    /// A segment of the module's ledger says that the pool accepted so much.
    Ledger { sequence: u64, accepted: Sum, at: Time },
}

impl Step {
    /// Makes the change, whatever it answered when it was made first.
    pub fn apply(self, auditor: &mut Auditor) {
        match self {
            Step::Note { note, at, seed, sparing } => {
                auditor.expire(at);
                // A note that was refused is a finding by now.
                let _ = auditor.take(&note, at, Draw { seed, sparing });
            }
            Step::Answer { sequence, judged, at } => {
                auditor.on_judged(sequence, &judged, at);
            }
            Step::Ledger { sequence, accepted, at } => {
                let accepted = Tally { shares: accepted.shares, work: accepted.work };
                auditor.on_ledger(sequence, accepted, at);
            }
        }
    }
}
