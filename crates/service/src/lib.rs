//! What a service program offers to whoever runs it: settings, a page of metrics, health, log lines.
//!
//! [`page`] is Prometheus' text format, [`count`] what is counted between two looks at it, [`monitor`] the listener that shows it
//! beside `/healthz` and `/readyz`, [`log`] where lines go, [`traces`] where spans go, [`settings`] how flags, environment and file come
//! together, [`tls`] how programs know each other. Controller and agent say themselves what stands on their pages:
//! `controller/src/metrics.rs`, `agent/src/metrics.rs`.
//!
//! Invariant: knows no other crate of ours. Start at [`monitor`].

pub mod count;
pub mod log;
pub mod monitor;
pub mod page;
mod process;
pub mod settings;
pub mod tls;
pub mod traces;
