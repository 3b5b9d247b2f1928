//! What a service program offers to whoever runs it: a page of metrics, health, log lines.
//!
//! [`page`] is Prometheus' text format, [`count`] what is counted between two looks at it, [`monitor`] the listener that shows it
//! beside `/healthz` and `/readyz`, [`log`] where lines go. Controller and agent say themselves what stands on their pages:
//! `controller/src/metrics.rs`, `agent/src/metrics.rs`.
//!
//! Invariant: knows no other crate of ours. Start at [`monitor`].

pub mod count;
pub mod log;
pub mod monitor;
pub mod page;
mod process;
