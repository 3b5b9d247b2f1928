//! The port to whoever keeps sealed segments. The controller's sink implements it; so does a map, in tests.
//!
//! Read next: `pass.rs`, which asks it.

use std::collections::BTreeMap;
use std::error::Error;

use model::ModuleId;
use model::ledger::Segment;

/// Why a segment could not be had.
pub type Failed = Box<dyn Error + Send + Sync>;

/// Sealed segments that are durable. Every call may block on the disk.
pub trait Ledger: Send + Sync + 'static {
    /// The last segment of each module.
    fn kept(&self) -> BTreeMap<ModuleId, u64>;

    /// The first stretch of a module's segments after `after` that has no hole: first and last number, at most `limit` of them.
    /// `None`: there are no more. A hole is what another controller holds.
    fn stretch(&self, module: &ModuleId, after: u64, limit: u64) -> Result<Option<(u64, u64)>, Failed>;

    /// One segment.
    fn read(&self, module: &ModuleId, sequence: u64) -> Result<Segment, Failed>;
}
