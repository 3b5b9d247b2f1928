//! Stratum V1, sans-I/O: messages, session machines, share verification, vardiff, accounting.
//!
//! Invariant: nothing here opens a socket, reads a clock or draws a random number. Lines and `now` come in as arguments,
//! lines and events go out as values; whoever owns the sockets acts on them in order.
//!
//! The way of a share: `line` → `message` → `downstream` → `batch` (hashing) → `verify` (+ `seen`) → `account`, and by
//! `upstream` to the pool. Which pool: `failover`, `reconnect`, `weights`; and without any: `keepalive`. What a pool accepted is
//! proven to the controller by `commit`. Who is not served at all: `bans`.

pub mod account;
pub mod bans;
pub mod batch;
pub mod coinbase;
pub mod commit;
pub mod downstream;
pub mod failover;
pub mod hash;
pub mod hex;
pub mod job;
pub mod keepalive;
pub mod line;
pub mod message;
pub mod mine;
pub mod reconnect;
pub mod seen;
pub mod sha;
pub mod slices;
pub mod target;
pub mod uint256;
pub mod upstream;
pub mod vardiff;
pub mod verify;
pub mod weights;
