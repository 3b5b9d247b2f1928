//! The agent's integration tests, one binary.

mod alone;
mod proxy;
