//! What an agent decides on its own, in milliseconds and seconds.
//!
//! [`port`] is what it reads and may command, and [`brain`] joins the rest for the control thread: every 10 ms [`reflex`], every
//! second [`regulation`], [`runs`], [`unpaid`] and [`meters`], all under what [`envelope`] says is in force.
//!
//! Invariant: no clock, no I/O, no async, no log, no random source. The same readings give the same commands.

#[cfg(test)]
mod bench;
pub mod brain;
pub mod dwell;
pub mod envelope;
pub mod estimate;
pub mod group;
pub mod island;
pub mod lead;
pub mod meters;
pub mod port;
pub mod reflex;
pub mod regulation;
pub mod runs;
pub mod sabotage;
pub mod share;
pub mod unpaid;

pub use brain::{Brain, Config};
pub use port::{Command, Plant, Readings};
