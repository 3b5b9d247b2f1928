//! The session's half of share commitments: notes up in order, challenges answered, blocks let go.
//!
//! Assumes that a challenge may come again in every session, with the same seed: it is answered again. Answers are made beside
//! the loop, since a block's closing takes as long as hashing all its shares. Read next: `../commit.rs`.

use std::collections::BTreeSet;

use api::agent::{self as wire, agent_message};
use stratum::commit::{Answer, Digest, Note};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tracing::{debug, error, warn};

use super::{Ended, QUEUE, Session, Stream, push};
use crate::commit::{Commits, wire as convert};

/// Notes in flight without an acknowledgement.
const WINDOW: usize = 16;
/// Challenges that are being answered: a window's, and as many of the session before. More come again in the next session.
const MAX_ANSWERS: usize = 64;
/// Room in the stream that is left to others.
const ROOM: usize = QUEUE / 2;

/// An answer that is ready.
#[derive(Debug)]
pub(super) struct Answered {
    sequence: u64,
    answer: Answer,
}

/// What one connection has told and is asked.
#[derive(Default)]
pub(super) struct Shares {
    /// The controller has said how far it has heard; nothing is told before.
    resumed: bool,
    told: u64,
    in_flight: BTreeSet<u64>,
    answers: JoinSet<Answered>,
}

impl Shares {
    /// The controller has everything up to `heard`.
    fn resume(&mut self, heard: u64, commits: &Commits) {
        commits.go_on_behind(heard);
        (self.resumed, self.told) = (true, heard);
    }

    /// The notes to tell now, at most a window of them without an acknowledgement.
    fn due(&mut self, commits: &Commits) -> Vec<Note> {
        // Claims are told no faster than they are answered, so that no challenge finds too many before it.
        let room = WINDOW.saturating_sub(self.in_flight.len() + self.answers.len());
        if !self.resumed || room == 0 {
            return Vec::new();
        }
        let notes = commits.notes(self.told, room);
        for note in &notes {
            self.told = note.sequence();
            self.in_flight.insert(note.sequence());
        }
        notes
    }

    fn on_ack(&mut self, sequence: u64) {
        self.in_flight = self.in_flight.split_off(&sequence.saturating_add(1));
    }

    /// Begins to answer a challenge; needs the runtime.
    fn ask(&mut self, challenge: wire::ShareChallenge, commits: &Commits) {
        let wire::ShareChallenge { sequence, seed, samples } = challenge;
        let Some(seed) = Digest::from_slice(&seed) else {
            warn!(sequence, "a challenge without a seed of 32 bytes is not answered");
            return;
        };
        if self.answers.len() >= MAX_ANSWERS {
            return;
        }
        let commits = commits.clone();
        let samples = usize::try_from(samples).unwrap_or(usize::MAX);
        self.answers
            .spawn_blocking(move || Answered { sequence, answer: commits.answer(sequence, &seed, samples) });
    }

    /// The next answer that is ready, once there is room for it; `None` while none is being made.
    pub(super) async fn answered(&mut self, up: &mpsc::Sender<wire::AgentMessage>) -> Option<Answered> {
        if up.capacity() < ROOM {
            return None;
        }
        match self.answers.join_next().await? {
            Ok(answered) => Some(answered),
            Err(panic) => {
                error!(%panic, "a challenge could not be answered; it comes again");
                None
            }
        }
    }
}

impl Session {
    /// Goes on behind what the controller has.
    pub(super) fn resume_notes(&self, heard: u64, stream: &mut Stream) -> Result<(), Ended> {
        stream.shares.resume(heard, &self.commits);
        self.send_notes(stream)
    }

    /// Sends the notes that wait. A stream that takes none of them ends, and the next one begins behind what was heard.
    pub(super) fn send_notes(&self, stream: &mut Stream) -> Result<(), Ended> {
        let due = stream.shares.due(&self.commits);
        due.iter().try_for_each(|note| push(stream, agent_message::Kind::ShareNote(convert::note(note))))
    }

    pub(super) fn on_note_ack(&self, sequence: u64, stream: &mut Stream) -> Result<(), Ended> {
        stream.shares.on_ack(sequence);
        self.send_notes(stream)
    }

    pub(super) fn take_challenge(&self, challenge: wire::ShareChallenge, stream: &mut Stream) {
        stream.shares.ask(challenge, &self.commits);
    }

    pub(super) fn send_answer(&self, answered: Answered, stream: &mut Stream) -> Result<(), Ended> {
        let Answered { sequence, answer } = answered;
        push(stream, agent_message::Kind::ShareAnswer(convert::answer(sequence, &answer)))?;
        self.send_notes(stream)
    }

    pub(super) fn take_verdict(&self, verdict: &wire::ShareVerdict) {
        if !verdict.fault.is_empty() {
            // What did not pass stays for a day, for whoever looks into it.
            error!(
                sequence = verdict.sequence,
                fault = verdict.fault,
                "a share claim did not pass its audit"
            );
            return;
        }
        debug!(sequence = verdict.sequence, "a share claim passed its audit");
        if let Err(error) = self.commits.settled(verdict.sequence) {
            // It stays, and goes with its age.
            warn!(error = &error as &dyn std::error::Error, "a settled block was not removed");
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::commit::tests::{TestDir, claimed, with_jobs};

    fn challenge(sequence: u64, seed: &[u8]) -> wire::ShareChallenge {
        wire::ShareChallenge { sequence, seed: seed.to_vec(), samples: 4 }
    }

    fn numbers(notes: &[Note]) -> Vec<u64> {
        notes.iter().map(Note::sequence).collect()
    }

    #[test]
    fn nothing_is_told_before_the_controller_has_said_how_far_it_heard() {
        let dir = TestDir::new();
        let (commits, _intake) = claimed(&dir);
        let all = numbers(&commits.notes(0, 100));
        let check = |heard: u64, expected: &[u64]| {
            let mut shares = Shares::default();
            assert!(shares.due(&commits).is_empty());
            shares.resume(heard, &commits);
            assert_eq!(numbers(&shares.due(&commits)), expected);
            assert!(shares.due(&commits).is_empty(), "each once in a stream");
        };
        check(0, &all);
        check(all[2], &all[3..]);
        check(all[5], &[]);
    }

    #[test]
    fn a_window_of_notes_waits_for_acknowledgements() {
        let dir = TestDir::new();
        let (commits, _intake) = with_jobs(&dir, 3 * WINDOW);
        let all = numbers(&commits.notes(0, 1_000));
        let mut shares = Shares::default();
        shares.resume(0, &commits);
        assert_eq!(numbers(&shares.due(&commits)), all[..WINDOW]);
        assert!(shares.due(&commits).is_empty());
        // One acknowledgement stands for all before it.
        shares.on_ack(all[4]);
        assert_eq!(numbers(&shares.due(&commits)), all[WINDOW..WINDOW + 5]);
        // One of a session before, and one of what was never told.
        shares.on_ack(all[0]);
        assert!(shares.due(&commits).is_empty());
        shares.on_ack(u64::MAX);
        assert_eq!(numbers(&shares.due(&commits)), all[WINDOW + 5..2 * WINDOW + 5]);
    }

    #[tokio::test]
    async fn a_challenge_is_answered_and_claims_wait_for_their_answers() {
        let dir = TestDir::new();
        let (commits, _intake) = claimed(&dir);
        let batch = commits.notes(0, 100)[1].sequence();
        let (up, _down) = mpsc::channel(QUEUE);
        let mut shares = Shares::default();
        shares.resume(0, &commits);
        shares.ask(challenge(batch, &[7; 31]), &commits);
        assert!(shares.answers.is_empty(), "a seed of 31 bytes is none");
        for _ in 0..MAX_ANSWERS + 3 {
            shares.ask(challenge(batch, &[7; 32]), &commits);
        }
        assert_eq!(shares.answers.len(), MAX_ANSWERS);
        assert!(shares.due(&commits).is_empty(), "no further claims while so many are asked for");
        let mut first = None;
        for _ in 0..MAX_ANSWERS {
            let Answered { sequence, answer } = shares.answered(&up).await.unwrap();
            assert_eq!(sequence, batch);
            assert!(matches!(&answer, Answer::Shown(proof) if proof.openings.len() == 4));
            assert_eq!(
                *first.get_or_insert_with(|| answer.clone()),
                answer,
                "the same seed, the same answer"
            );
        }
        assert!(shares.answered(&up).await.is_none());
        assert!(!shares.due(&commits).is_empty());
        shares.ask(challenge(batch + 1_000_000, &[7; 32]), &commits);
        assert_eq!(shares.answered(&up).await.unwrap().answer, Answer::Lost);
    }

    #[tokio::test]
    async fn an_answer_waits_while_the_stream_is_full_of_others() {
        let dir = TestDir::new();
        let (commits, _intake) = claimed(&dir);
        let batch = commits.notes(0, 100)[1].sequence();
        let (up, _down) = mpsc::channel(QUEUE);
        let mut shares = Shares::default();
        shares.ask(challenge(batch, &[7; 32]), &commits);
        let full: Vec<_> = std::iter::from_fn(|| up.try_reserve().ok()).take(QUEUE - ROOM + 1).collect();
        assert!(shares.answered(&up).await.is_none());
        drop(full);
        assert_eq!(shares.answered(&up).await.unwrap().sequence, batch);
    }
}
