//! Generated gRPC code of `proto/`, and the conversions between wire and model.
//!
//! [`common`] holds what several audiences share; [`agent`], [`operator`], [`proxy`] and [`tenant`] one service each. [`problem`] is what
//! every service answers when it cannot do what was asked, [`leader`] how a standby names who leads. The conversions stand in [`convert`], one file a noun. [`clock`]
//! is the wall clock that timestamps on the wire are read from.
//!
//! Invariant: only this crate knows prost. Others see plain structs, `From` into the wire and `TryFrom` out of it.

pub mod clock;
mod codec;
pub mod convert;
pub mod leader;
pub mod limits;
pub mod problem;

#[allow(clippy::all, clippy::pedantic, missing_docs)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/flareshift.rs"));
}

pub use generated::flareshift::{
    agent::v1 as agent, common::v1 as common, operator::v1 as operator, proxy::v1 as proxy,
    tenant::v1 as tenant,
};
pub use problem::Problem;

/// All files of `proto/` with their comments, encoded: what gRPC reflection serves.
pub const DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
