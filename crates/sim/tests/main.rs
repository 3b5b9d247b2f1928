//! The crate's integration tests, in one binary: each is linked once.
#![allow(clippy::unwrap_used)]

mod cap;
mod physics;
mod scene;
mod storage;
mod tie;
