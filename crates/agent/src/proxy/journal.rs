//! The port to the ledger: where the proxy writes what becomes of each share.
//!
//! Assumes that a call returns when its entries have reached the page cache, so that a killed process loses nothing that a miner
//! was told. Calls come under the proxy's lock, one at a time, one for all that a read brought, and must not wait for anything
//! but the disk. The agent's outbox implements it.

use std::sync::Arc;

use model::ledger::ShareEnd;
use model::{MinerGroupId, Work};
use stratum::commit::Template;
use stratum::hash::HeaderHash;
use stratum::upstream::Outgoing;

/// Names an intent until its outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShareSeq(pub u64);

/// What the ledger needs to know of a share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShareRecord {
    /// The miner's group.
    pub group: MinerGroupId,
    /// Nominal hashes for each hash really done: 1 for outside miners.
    pub scale: u64,
    /// The account at the pool.
    pub worker: Arc<str>,
    /// The miner's own name; empty for a rejected share of nobody.
    pub miner: Arc<str>,
    /// Expected hashes really done: the work of the target the miner was given.
    pub work: Work,
    /// What the pool credits for it if it accepts: the work of the pool's difficulty. `None` where it is not forwarded.
    pub credited: Option<Work>,
    /// The header's hash; `None` for a rejected share, whose header means nothing.
    pub hash: Option<HeaderHash>,
}

/// What befell a share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry<'a> {
    /// It is verified and about to be forwarded.
    Intent(&'a ShareRecord),
    /// What became of one that was: `Accepted`, `Refused` or `Unknown`. Comes once for each intent.
    Outcome(ShareSeq, &'a ShareEnd),
    /// It ended at the edge: `Counted`, `KeepAlive` or `Rejected`.
    Ended(&'a ShareRecord, &'a ShareEnd),
}

/// The journal could not take what it was given: its shares are not acknowledged and not forwarded.
#[derive(Debug, thiserror::Error)]
#[error("the share journal took no record: see to the disk of the agent's data directory")]
pub struct JournalError(#[source] pub Box<dyn std::error::Error + Send + Sync>);

/// Where shares are recorded.
pub trait ShareJournal: Send + 'static {
    /// Writes down all entries, or on an error none. Answers a number for each intent among them, in their order.
    fn record(&mut self, entries: &[Entry<'_>]) -> Result<Vec<ShareSeq>, JournalError>;

    /// A pool sent a job in a session: what accepted shares of it are proven by. Nobody need listen.
    fn job(&mut self, _session: u64, _job_id: &str, _template: Template) {}

    /// A pool accepted a share that was forwarded, in these words and with this hash. Nobody need listen.
    fn accepted(&mut self, _share: Outgoing, _hash: HeaderHash) {}
}
