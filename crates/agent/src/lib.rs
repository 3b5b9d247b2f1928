//! Runs control on real time in one container: devices, Stratum proxy sockets, outbox, session to the controller.
//!
//! [`run`] wires everything. The control thread ([`control_thread`]) decides; the [`recorder`] writes what it saw into the
//! [`outbox`] by way of the [`meterbook`]; the [`session`] carries reports, directives and ledger segments; the [`proxy`]
//! verifies shares, and [`commit`] makes its accepted ones provable. [`alone`] wires the proxy without the rest, for a farm that
//! has no fleet.

pub mod alone;
pub mod bare;
pub mod boot;
pub mod commit;
pub mod config;
pub mod control_thread;
pub mod disk;
pub mod edge;
pub mod held;
pub mod local;
pub mod meterbook;
pub mod metrics;
pub mod outbox;
pub mod proxy;
pub mod recorder;
pub mod run;
pub mod session;
pub mod settings;
mod share_journal;
#[cfg(feature = "sim")]
pub mod simulated;
#[cfg(feature = "sim")]
pub mod witnessed;
