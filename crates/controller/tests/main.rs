//! The controller as a whole, in this process: real gRPC and HTTP on loopback, the embedded store, a clock that tests drive.
#![allow(clippy::unwrap_used)]

mod agents;
mod ahead;
mod events;
mod harness;
mod leaders;
mod planning;
mod quotes;
mod rest;
mod secure;
mod shares;
mod shells;
mod tenants;
