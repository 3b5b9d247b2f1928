//! Joins the proxy's journal port to the outbox: each share becomes a record in the page cache before its miner hears of it. What
//! a pool accepted goes on to the share commitments.

use model::Work;
use model::ledger::ShareEnd;
use stratum::commit::Template;
use stratum::hash::HeaderHash;
use stratum::upstream::Outgoing;

use crate::commit::Commits;
use crate::outbox::record::ShareDetail;
use crate::outbox::{self, Outbox};
use crate::proxy::journal::{JournalError, ShareJournal, ShareRecord, ShareSeq};

impl ShareJournal for Outbox {
    fn intent(&mut self, share: &ShareRecord) -> Result<ShareSeq, JournalError> {
        Outbox::intent(self, detail(share)).map(ShareSeq).map_err(failed)
    }

    fn outcome(&mut self, seq: ShareSeq, end: &ShareEnd) -> Result<(), JournalError> {
        Outbox::outcome(self, seq.0, end.clone()).map_err(failed)
    }

    fn ended(&mut self, share: &ShareRecord, end: &ShareEnd) -> Result<(), JournalError> {
        Outbox::ended(self, detail(share), end.clone()).map_err(failed)
    }
}

/// An outbox with commitments beside it.
pub struct Committed {
    /// Where shares are recorded.
    pub outbox: Outbox,
    /// Where accepted ones are claimed.
    pub commits: Commits,
}

impl ShareJournal for Committed {
    fn intent(&mut self, share: &ShareRecord) -> Result<ShareSeq, JournalError> {
        ShareJournal::intent(&mut self.outbox, share)
    }

    fn outcome(&mut self, seq: ShareSeq, end: &ShareEnd) -> Result<(), JournalError> {
        ShareJournal::outcome(&mut self.outbox, seq, end)
    }

    fn ended(&mut self, share: &ShareRecord, end: &ShareEnd) -> Result<(), JournalError> {
        ShareJournal::ended(&mut self.outbox, share, end)
    }

    fn job(&mut self, session: u64, job_id: &str, template: Template) {
        self.commits.job(session, job_id, template);
    }

    fn accepted(&mut self, share: Outgoing, hash: HeaderHash) {
        self.commits.accepted(share, hash);
    }
}

fn detail(share: &ShareRecord) -> ShareDetail {
    ShareDetail {
        group: share.group.clone(),
        worker: share.worker.clone(),
        work: share.work,
        credited: share.credited.unwrap_or(Work::ZERO),
        scale: share.scale,
        hash: share.hash.map(|hash| hash.to_string()).unwrap_or_default(),
    }
}

fn failed(error: outbox::Error) -> JournalError {
    JournalError(Box::new(error))
}
