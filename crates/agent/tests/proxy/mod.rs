//! The proxy over real TCP on loopback, between a pool that checks everything again and miners, simulated and plain.
//!
//! Assumes nothing of timing: tests wait for conditions, each with a limit. `rig.rs` sets the stage, `plain.rs` is a miner that
//! shares no code with us.

mod attacks;
mod blocks;
mod mining;
mod moves;
mod outage;
pub mod plain;
mod pools;
mod resumed;
pub mod rig;
mod switches;
#[cfg(feature = "tls")]
mod tls;
