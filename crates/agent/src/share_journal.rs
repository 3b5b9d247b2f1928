//! Joins the proxy's journal port to the outbox: what a read brought becomes records in the page cache, by one write, before its
//! miner hears of it. What a pool accepted goes on to the share commitments.

use model::Work;
use stratum::commit::Template;
use stratum::hash::HeaderHash;
use stratum::upstream::Outgoing;

use crate::commit::Commits;
use crate::outbox::record::ShareDetail;
use crate::outbox::{self, Outbox};
use crate::proxy::journal::{Entry, JournalError, ShareJournal, ShareRecord, ShareSeq};

impl ShareJournal for Outbox {
    fn record(&mut self, entries: &[Entry<'_>]) -> Result<Vec<ShareSeq>, JournalError> {
        let numbers = Outbox::record(self, entries.iter().map(entry));
        numbers.map(|numbers| numbers.map(ShareSeq).collect()).map_err(|error| JournalError(Box::new(error)))
    }
}

fn entry<'a>(entry: &Entry<'a>) -> outbox::Entry<'a> {
    match *entry {
        Entry::Intent(share) => outbox::Entry::Intent(detail(share)),
        Entry::Outcome(ShareSeq(share), end) => outbox::Entry::Outcome { share, end },
        Entry::Ended(share, end) => outbox::Entry::Ended { detail: detail(share), end },
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
    fn record(&mut self, entries: &[Entry<'_>]) -> Result<Vec<ShareSeq>, JournalError> {
        ShareJournal::record(&mut self.outbox, entries)
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
        hash: share.hash,
    }
}
