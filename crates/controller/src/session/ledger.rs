//! Ledger segments of a session: to disk, then the watermark to the store, and only then the acknowledgement.
//!
//! Read next: `ledger.rs`, the sink.

use api::agent::{self as wire, RefusalCode};
use api::convert::field::message;
use model::ModuleId;
use model::ledger::Segment;
use store::{Txn, key};
use tokio::task::spawn_blocking;

use super::{End, Session, malformed};
use crate::commit::put;
use crate::ledger::Error;
use crate::records::WatermarkRecord;

impl Session {
    /// Answers what to acknowledge; `None` when the store did not answer: the agent sends it again.
    pub(super) async fn on_segment(
        &self,
        wire: wire::LedgerSegment,
        module: &ModuleId,
    ) -> Result<Option<u64>, End> {
        let segment: Segment = message(wire.segment, "ledger_segment.segment").map_err(malformed)?;
        if segment.module != *module || wire.sha256.len() != 32 {
            return Err(malformed("a ledger segment needs its own module and a SHA-256 of 32 bytes"));
        }
        let floor = self.watermark(module);
        let sink = self.context.sink.clone();
        let audits = self.context.audits.clone();
        let take = move || {
            let kept = sink.take(&segment, &wire.sha256, floor)?;
            // The audits count a segment once; where their disk fails they compare with too little, and say so.
            if let Err(error) = audits.on_segment(&segment) {
                tracing::error!(error = &error as &dyn std::error::Error, "audits did not see a segment");
            }
            Ok(kept)
        };
        let taken = spawn_blocking(take).await;
        let kept = match taken {
            Ok(Ok(kept)) => kept,
            Ok(Err(error)) => return Err(refused(error)),
            Err(error) => {
                tracing::error!(%error, "the ledger's writer panicked");
                return Err(End::Gone);
            }
        };
        if kept > floor && !self.raise_watermark(module, kept).await {
            return Ok(None);
        }
        Ok(Some(kept))
    }

    async fn raise_watermark(&self, module: &ModuleId, sequence: u64) -> bool {
        let Ok(put) = put(key::watermark(module), &WatermarkRecord { sequence }) else { return false };
        match self.context.write(Txn::new().then(put)).await {
            Ok(written) => written.is_some(),
            Err(error) => {
                tracing::warn!(%error, %module, "the ledger's watermark was not stored, the agent sends again");
                false
            }
        }
    }
}

fn refused(error: Error) -> End {
    let code = match &error {
        Error::Gap { .. } => RefusalCode::LedgerGap,
        Error::Conflict { .. } => RefusalCode::LedgerConflict,
        Error::Damaged { .. } | Error::Io { .. } => {
            tracing::error!(error = &error as &dyn std::error::Error, "the ledger cannot be written");
            RefusalCode::Overloaded
        }
    };
    End::Refused(code, error.to_string())
}
