//! Share notes, answers and challenges between the wire's messages and `stratum::commit`.
//!
//! Stands here and not in `api`, which does not know `stratum`. Read next: `session/shares.rs`.

use api::agent as wire;
use api::convert::Error;
use api::convert::field::required;
use stratum::commit::auditor::{Challenge, Verdict};
use stratum::commit::tree::Path;
use stratum::commit::{Answer, Claim, Digest, Kind, Leaf, Malformed, Node, Note, Opening, Proof, Template};

/// A note as an agent sent it.
pub(crate) fn note(note: wire::ShareNote) -> Result<Note, Error> {
    use wire::share_note::Kind as Sent;
    let sequence = note.sequence;
    let previous = digest(&note.previous, "share_note.previous")?;
    let claim = |kind: Kind, root: &[u8]| -> Result<Note, Error> {
        let root = Node::decode(root).map_err(at("share_note.root"))?;
        Ok(Note::Claim(Claim { sequence, kind, previous, root }))
    };
    match required(note.kind, "share_note.kind")? {
        Sent::Job(job) => Ok(Note::Job { sequence, digest: digest(&job, "share_note.job")?, previous }),
        Sent::Batch(root) => claim(Kind::Batch, &root),
        Sent::Closing(closing) => claim(Kind::Closing { batches: closing.batches }, &closing.root),
    }
}

/// An answer as an agent sent it.
pub(crate) fn answer(answer: wire::ShareAnswer) -> Result<Answer, Error> {
    use wire::share_answer::Kind as Sent;
    let proof = match required(answer.kind, "share_answer.kind")? {
        Sent::Lost(_) => return Ok(Answer::Lost),
        Sent::Proof(proof) => proof,
    };
    let opening = |sent: wire::ShareOpening| -> Result<Opening, Malformed> {
        Ok(Opening { leaf: Leaf::decode(&sent.leaf)?, path: Path::decode(&sent.path)? })
    };
    let jobs = proof.jobs.iter().map(|job| Template::decode(job)).collect::<Result<_, _>>();
    let openings = proof.openings.into_iter().map(opening).collect::<Result<_, _>>();
    Ok(Answer::Shown(Proof {
        jobs: jobs.map_err(at("share_answer.proof.jobs"))?,
        openings: openings.map_err(at("share_answer.proof.openings"))?,
    }))
}

/// A challenge for an agent.
pub(crate) fn challenge(challenge: Challenge) -> wire::ShareChallenge {
    let Challenge { sequence, seed, samples } = challenge;
    wire::ShareChallenge {
        sequence,
        seed: seed.0.to_vec(),
        samples: u32::try_from(samples).unwrap_or(u32::MAX),
    }
}

/// A verdict for an agent.
pub(crate) fn verdict(sequence: u64, verdict: Verdict) -> wire::ShareVerdict {
    let fault = match verdict {
        Verdict::Passed => String::new(),
        Verdict::Lost => "lost: nothing is proven".into(),
        Verdict::Failed(fault) => fault.to_string(),
    };
    wire::ShareVerdict { sequence, fault }
}

fn digest(bytes: &[u8], field: &str) -> Result<Digest, Error> {
    Digest::from_slice(bytes).ok_or_else(|| Error::new(field, "32 bytes"))
}

fn at(field: &str) -> impl Fn(Malformed) -> Error {
    move |malformed| Error::new(field, malformed.to_string())
}
