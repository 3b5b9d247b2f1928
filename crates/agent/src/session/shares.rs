//! The session's half of share commitments: notes up in order, challenges answered, blocks let go.
//!
//! Assumes that a challenge may come again in every session, with the same seed: it is answered again. Answers are made beside
//! the loop, since a block's closing takes as long as hashing all its shares. Read next: `../commit.rs`.

use std::collections::BTreeSet;

use api::agent::{self as wire, agent_message};
use stratum::commit::{Answer, Digest};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tracing::{debug, error, warn};

use super::{Ended, QUEUE, Session, Stream, push};
use crate::commit::wire as convert;

/// Notes in flight without an acknowledgement.
const WINDOW: usize = 16;
/// Challenges that are being answered: a window's, and as many of the session before. More come again in the next session.
const MAX_ANSWERS: usize = 64;
/// Room in the stream that is left to others.
const ROOM: usize = QUEUE / 2;

/// An answer that is ready.
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
        self.commits.go_on_behind(heard);
        (stream.shares.resumed, stream.shares.told) = (true, heard);
        self.send_notes(stream)
    }

    /// Sends the notes that wait, at most a window of them at a time.
    pub(super) fn send_notes(&self, stream: &mut Stream) -> Result<(), Ended> {
        // Claims are told no faster than they are answered, so that no challenge finds too many before it.
        let room = WINDOW.saturating_sub(stream.shares.in_flight.len() + stream.shares.answers.len());
        if !stream.shares.resumed || room == 0 {
            return Ok(());
        }
        for note in self.commits.notes(stream.shares.told, room) {
            push(stream, agent_message::Kind::ShareNote(convert::note(&note)))?;
            stream.shares.told = note.sequence();
            stream.shares.in_flight.insert(note.sequence());
        }
        Ok(())
    }

    pub(super) fn on_note_ack(&self, sequence: u64, stream: &mut Stream) -> Result<(), Ended> {
        stream.shares.in_flight = stream.shares.in_flight.split_off(&sequence.saturating_add(1));
        self.send_notes(stream)
    }

    pub(super) fn take_challenge(&self, challenge: wire::ShareChallenge, stream: &mut Stream) {
        let wire::ShareChallenge { sequence, seed, samples } = challenge;
        let Some(seed) = Digest::from_slice(&seed) else {
            warn!(sequence, "a challenge without a seed of 32 bytes is not answered");
            return;
        };
        if stream.shares.answers.len() >= MAX_ANSWERS {
            return;
        }
        let commits = self.commits.clone();
        let samples = usize::try_from(samples).unwrap_or(usize::MAX);
        let answer = move || Answered { sequence, answer: commits.answer(sequence, &seed, samples) };
        stream.shares.answers.spawn_blocking(answer);
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
