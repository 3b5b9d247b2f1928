//! A revisioned key-value port with compare-and-swap, watch, leases and election, and its two twins.
//!
//! What it is for: the controller keeps its *decisions* here (sites, plans, the target pointer, envelope
//! generations, the leader), never telemetry. One port, [`Store`], hides which twin is behind it:
//! - [`embedded`]: in this process, durable in one file, for one machine. Nothing to install.
//! - `etcd` (feature `etcd`): an etcd server or cluster, for several controllers.
//!
//! What both promise, proven by one conformance suite (`tests/conformance.rs`):
//! - Every transaction that changes something takes one [`Revision`]; one that changes nothing takes none.
//! - A transaction that was acknowledged survives `kill -9` and loss of power.
//! - A watch delivers each revision once, whole and in order. Where it cannot (compaction, a slow reader, a
//!   server that went back in time) it sends a [`WatchEvent::Snapshot`] that replaces all that was known:
//!   there is never a silent gap.
//! - What a lease holds is deleted in one revision when it expires. A restart of the store gives each lease
//!   its full time to live again.
//! - Requests beyond the limits in [`port`] are refused with the same [`Error::Limit`] before anything is sent.
//!
//! How to be the one writer: [`Election::campaign`] yields a [`Leadership`]; put its
//! [`fence_compare`](Leadership::fence_compare) into *every* transaction and send nothing once
//! [`may_be_gone`](Leadership::may_be_gone) says so. The fence is what makes it safe, the clock only thrifty.
//!
//! ```
//! # async fn example(store: store::Store) -> Result<(), store::Error> {
//! use store::{Compare, Txn, key};
//! let site = key::site("pad-7");
//! let created = store
//!     .txn(Txn::new().when(Compare::Absent(site.clone())).put(site, b"{}".to_vec()))
//!     .await?;
//! assert!(created.succeeded);
//! # Ok(())
//! # }
//! ```
//!
//! Invariant: no other crate knows etcd or redb, and none builds a key by hand ([`key`] lists them all).
//! Read next: `port.rs` (the nouns), `key.rs` (the key table), `embedded.rs`, `election.rs`.

mod access;
mod clock;
mod election;
pub mod embedded;
mod error;
#[cfg(feature = "etcd")]
pub mod etcd;
pub mod key;
mod location;
pub mod port;
pub mod record;
mod watch;

pub use access::Access;
pub use clock::Clock;
pub use election::{Election, Leader, Leadership};
pub use error::Error;
pub use key::{Key, Prefix};
pub use location::{Location, open, open_at};
pub use port::{Compare, Entry, Lease, LeaseId, Op, Page, Range, Revision, Store, Txn, TxnOutcome};
pub use watch::{Change, Commit, Watch, WatchEvent};
