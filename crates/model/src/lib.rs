//! The nouns of Flareshift: what every other crate talks about.
//!
//! Start at [`site`] and [`module`] for the plant, [`workload`] for what tenants run ([`affinity`] for where, [`shell`] for machines
//! of their own), [`plan`] for a decision about both,
//! [`envelope`] for what of it one agent is allowed, [`report`] for what that agent says back, [`ledger`] for what is billed, and
//! [`event`] for what became of each.
//! [`fleet`] is what an operator writes down, [`fleet_file`] how it is read, [`toml_file`] how a mistake in it is told.
//!
//! Invariant: this crate does no I/O, reads no clock, draws no random number and depends on no other crate of the workspace.

pub mod affinity;
pub mod anchor;
pub mod cap;
pub mod envelope;
pub mod event;
pub mod fleet;
pub mod fleet_file;
pub mod fuel;
pub mod id;
pub mod ledger;
pub mod market;
pub mod module;
pub mod plan;
pub mod report;
pub mod shared;
pub mod shell;
pub mod site;
pub mod tenant;
pub mod time;
pub mod toml_file;
pub mod unit;
pub mod workload;

pub use id::{
    ContingencyId, FeederId, GasSourceId, GensetId, GroupId, Id, MinerGroupId, ModuleId, OfferingId, PoolId,
    SiteId, TenantId, WorkloadId,
};
pub use shared::Shared;
pub use shell::SoldBy;
pub use time::{BootStamp, Span, Time};
pub use unit::{Hashrate, MicroDollars, Pace, WattSeconds, Watts, WattsPerSecond, Work};
