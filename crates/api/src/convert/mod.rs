//! Between wire and model: `From<model> for wire` always works, `TryFrom<wire> for model` says which field was expected to be
//! what. One file a noun; [`field`] holds the few steps that all of them are made of.
//!
//! Assumes nothing of what arrives: a missing message, an unknown enum value or a bad id is an [`Error`], never a default.

mod affinity;
mod envelope;
mod event;
pub mod field;
mod ledger;
mod module;
mod plan;
mod reason;
mod report;
mod site;
mod tenant;
mod unit;
#[cfg(test)]
mod vary;
mod workload;

pub use field::Error;
