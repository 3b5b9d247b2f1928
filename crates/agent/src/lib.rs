//! Runs control on real time in one container: devices, Stratum proxy sockets, outbox, session to the controller.

pub mod disk;
pub mod outbox;
