//! Share notes and answers of a session: to disk, then the acknowledgement, then what is asked.
//!
//! A seed is drawn once a claim has arrived, so that no agent can know it before. A claim that breaks the rules is acknowledged
//! like any other: it is a finding for people, not a reason to leave the module without a controller. Read next: `audit.rs`.

use api::agent as wire;
use api::agent::controller_message::Kind as Down;
use model::ModuleId;
use stratum::commit::Digest;
use stratum::commit::auditor::{Draw, Verdict};
use tokio::task::spawn_blocking;

use super::{End, Peer, Session, malformed};
use crate::audit::wire as convert;
use crate::audit::{self, Audits};

impl Session {
    /// Asks again what this module's agent has not answered.
    pub(super) async fn ask_again(&self, module: &ModuleId) {
        for challenge in self.context.audits.open_challenges(module) {
            self.tell(Down::ShareChallenge(convert::challenge(challenge))).await;
        }
    }

    pub(super) async fn on_share_note(&self, note: wire::ShareNote, peer: &Peer) -> Result<(), End> {
        let module = &peer.module;
        let note = convert::note(note).map_err(malformed)?;
        let sequence = note.sequence();
        let mut seed = [0; 32];
        if let Err(error) = getrandom::fill(&mut seed) {
            tracing::error!(%error, "no random seed is to be had, so no claim can be taken; the agent sends it again");
            return Err(End::Gone);
        }
        let sparing = peer.quiet > model::Span::ZERO;
        let draw = Draw { seed: Digest(seed), sparing };
        let take = move |audits: &Audits, module: &ModuleId| audits.take(module, &note, draw);
        let taken = self.audit(module, take).await?;
        self.tell(Down::ShareNoteAck(wire::ShareNoteAck { sequence })).await;
        match taken {
            Ok(Some(challenge)) => self.tell(Down::ShareChallenge(convert::challenge(challenge))).await,
            Ok(None) => {}
            Err(misconduct) => tracing::warn!(%module, sequence, why = %misconduct, "share claim not taken"),
        }
        Ok(())
    }

    pub(super) async fn on_share_answer(
        &self,
        answer: wire::ShareAnswer,
        module: &ModuleId,
    ) -> Result<(), End> {
        let sequence = answer.sequence;
        let answer = convert::answer(answer).map_err(malformed)?;
        let judge = move |audits: &Audits, module: &ModuleId| audits.judge(module, sequence, &answer);
        if let Some(verdict) = self.audit(module, judge).await? {
            match verdict {
                Verdict::Passed => tracing::debug!(%module, sequence, "share claim passed"),
                Verdict::Lost => {
                    tracing::warn!(%module, sequence, "share claim lost by its agent, not proven")
                }
                Verdict::Failed(fault) => {
                    tracing::error!(%module, sequence, why = %fault, "share claim failed its audit");
                }
            }
            self.tell(Down::ShareVerdict(convert::verdict(sequence, verdict))).await;
        }
        Ok(())
    }

    /// Runs what blocks on the disk. Where it fails the session ends, and the agent says it again in the next.
    async fn audit<T: Send + 'static>(
        &self,
        module: &ModuleId,
        act: impl FnOnce(&Audits, &ModuleId) -> Result<T, audit::Error> + Send + 'static,
    ) -> Result<T, End> {
        let (audits, module) = (self.context.audits.clone(), module.clone());
        match spawn_blocking(move || act(&audits, &module)).await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(error)) => {
                tracing::error!(error = &error as &dyn std::error::Error, "audits of shares cannot be kept");
                Err(End::Gone)
            }
            Err(error) => {
                tracing::error!(%error, "the audit of a share claim panicked");
                Err(End::Gone)
            }
        }
    }
}
