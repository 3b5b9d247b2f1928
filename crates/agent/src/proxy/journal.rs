//! The port to the ledger: where the proxy writes what becomes of each share.
//!
//! Assumes that a call returns when the record has reached the page cache, so that a killed process loses nothing that a miner
//! was told. Calls come under the proxy's lock, one at a time, and must not wait for anything but the disk. The agent's
//! outbox implements it.

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
    pub worker: String,
    /// The miner's own name; empty for a rejected share of nobody.
    pub miner: String,
    /// Expected hashes really done: the work of the target the miner was given.
    pub work: Work,
    /// What the pool credits for it if it accepts: the work of the pool's difficulty. `None` where it is not forwarded.
    pub credited: Option<Work>,
    /// The header's hash; `None` for a rejected share, whose header means nothing.
    pub hash: Option<HeaderHash>,
}

/// The journal could not take a record: the share is not acknowledged and not forwarded.
#[derive(Debug, thiserror::Error)]
#[error("the share journal took no record: see to the disk of the agent's data directory")]
pub struct JournalError(#[source] pub Box<dyn std::error::Error + Send + Sync>);

/// Where shares are recorded.
pub trait ShareJournal: Send + 'static {
    /// A verified share is about to be forwarded.
    fn intent(&mut self, share: &ShareRecord) -> Result<ShareSeq, JournalError>;

    /// What became of it: `Accepted`, `Refused` or `Unknown`. Comes once for each intent.
    fn outcome(&mut self, seq: ShareSeq, end: &ShareEnd) -> Result<(), JournalError>;

    /// A share that ended at the edge: `Counted`, `KeepAlive` or `Rejected`.
    fn ended(&mut self, share: &ShareRecord, end: &ShareEnd) -> Result<(), JournalError>;

    /// A pool sent a job in a session: what accepted shares of it are proven by. Nobody need listen.
    fn job(&mut self, _session: u64, _job_id: &str, _template: Template) {}

    /// A pool accepted a share that was forwarded, in these words and with this hash. Nobody need listen.
    fn accepted(&mut self, _share: Outgoing, _hash: HeaderHash) {}
}
