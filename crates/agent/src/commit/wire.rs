//! Share notes and answers as messages to the controller.
//!
//! Stands here and not in `api`, which does not know `stratum`. Read next: `../session.rs`.

use api::agent as wire;
use stratum::commit::{Answer, Kind, Note, Opening};

/// A note for the controller.
pub fn note(note: &Note) -> wire::ShareNote {
    use wire::share_note::Kind as Sent;
    let (previous, kind) = match note {
        Note::Job { digest, previous, .. } => (previous, Sent::Job(digest.0.to_vec())),
        Note::Claim(claim) => {
            let root = claim.root.encode().to_vec();
            let kind = match &claim.kind {
                Kind::Batch => Sent::Batch(root),
                Kind::Closing { batches } => {
                    Sent::Closing(wire::ShareClosing { root, batches: batches.clone() })
                }
            };
            (&claim.previous, kind)
        }
    };
    wire::ShareNote { sequence: note.sequence(), previous: previous.0.to_vec(), kind: Some(kind) }
}

/// An answer for the controller.
pub fn answer(sequence: u64, answer: &Answer) -> wire::ShareAnswer {
    use wire::share_answer::Kind as Sent;
    let opening =
        |opening: &Opening| wire::ShareOpening { leaf: opening.leaf.encode(), path: opening.path.encode() };
    let kind = match answer {
        Answer::Lost => Sent::Lost(wire::Lost {}),
        Answer::Shown(proof) => Sent::Proof(wire::ShareProof {
            jobs: proof.jobs.iter().map(|job| job.encode()).collect(),
            openings: proof.openings.iter().map(opening).collect(),
        }),
    };
    wire::ShareAnswer { sequence, kind: Some(kind) }
}
