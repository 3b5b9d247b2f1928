//! Simulated sites: gas, generator sets with frequency, feeders, miners on real Stratum, GPU servers; a pool, faults, and the witness that checks the invariants.
//!
//! The physics is pure and stepped from outside: start at [`island`]. What is true of it: [`truth`]; what can go wrong: [`fault`];
//! fleets to try it on: [`reference`].

pub mod bus;
pub mod clock;
mod dice;
pub mod fault;
mod feeder;
pub mod fleet_file;
pub mod gas;
pub mod genset;
pub mod hashing;
pub mod island;
pub mod lockstep;
pub mod miner_net;
mod miner_power;
mod plant;
pub mod pool;
pub mod reference;
mod register;
mod runtime;
pub mod series;
mod server;
mod storage;
mod tie;
pub mod truth;
pub mod witness;
