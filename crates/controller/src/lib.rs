//! Observes, plans, checks, commits, publishes; serves agents, operators and tenants.
//!
//! The decisions are pure and stand apart: [`grants`] (who may draw what), [`lifecycle`] (what becomes of a workload),
//! [`tracker`] (who is in touch), [`publish`] (what an agent is told), [`observe`] (what the planner sees). Beside them [`quote`]
//! judges what may be promised. Around them are thin
//! shells: [`term`] is the one task that acts while this controller leads, [`session`], [`operator`], [`tenant`] and [`rest`]
//! serve the three audiences, [`metrics`] shows how it stands, and [`run`] wires it all together. Start at [`run`], then [`term`].
//!
//! Invariant: only [`rest`] knows HTTP status, and only [`commit`], [`context`], [`events`], [`leader`] and [`maintenance`] write to the store
//! outside of `term`.

mod admission;
pub mod audit;
pub mod cache;
mod callers;
mod clock;
pub mod commit;
mod compact;
pub mod config;
pub mod context;
pub mod cycle;
pub mod drift;
pub mod events;
pub mod evict;
pub mod fleet;
pub mod grants;
mod handshake;
mod history;
mod latest;
pub mod leader;
pub mod ledger;
pub mod lifecycle;
pub mod live;
pub mod maintenance;
pub mod metrics;
pub mod observe;
pub mod operator;
pub mod publish;
pub mod quote;
pub mod records;
pub mod rest;
pub mod run;
pub mod sabotage;
pub mod session;
pub mod strays;
pub mod tenant;
pub mod term;
pub mod tracker;

pub use admission::listen;

#[cfg(test)]
mod testing;
