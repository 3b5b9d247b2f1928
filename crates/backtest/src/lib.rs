//! Replays days to years of prices, gas, outages and jobs over a fleet, through the planner as the controller uses it, and says what
//! each strategy would have earned. Pure: no clock, no I/O, no chance but a seed.
//!
//! Start at [`world`], what happens whatever is decided; then [`strategy`], who decides; then [`engine`], the loop; [`outcome`] says
//! what came of it, [`oracle`] and [`mod@bound`] what could have come of it at most, [`forecast`] what was expected,
//! [`years`] what it comes to over years. What the model leaves out stands in docs/backtest.md.
//!
//! Invariant: the same world and the same strategy give the same outcome, byte for byte.

pub mod bound;
mod chance;
pub mod demand;
pub mod economics;
pub mod engine;
pub mod events;
pub mod forecast;
mod foresight;
mod groups;
mod island;
pub mod oracle;
pub mod outage;
pub mod outcome;
mod queue;
mod sets;
mod sight;
pub mod strategy;
pub mod synthetic;
pub mod tally;
pub mod terms;
mod track;
pub mod world;
pub mod years;

pub use engine::{run, watch};
pub use forecast::Method;
pub use outcome::{Comparison, Outcome, Scored};
pub use strategy::{Kind, Strategy};
pub use tally::Tally;
pub use terms::{Methane, Terms};
pub use world::{Before, Order, World};
