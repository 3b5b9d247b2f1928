//! Deliberate breaches of the share invariant, for the runs in which its checker must fire. Never set elsewhere.
//!
//! All of them stand here; `state.rs` and `miner.rs` ask.

/// What to break. The default breaks nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sabotage {
    /// Shares that the edge rejected are forwarded to the pool all the same.
    pub forward_unverified: bool,
    /// Each verified share is recorded twice.
    pub count_twice: bool,
}

impl Sabotage {
    /// As often as a share can be recorded.
    pub(super) const MOST_RECORDS: usize = 2;

    /// How often a verified share is recorded.
    pub(super) fn records(self) -> usize {
        if self.count_twice { 2 } else { 1 }
    }
}
