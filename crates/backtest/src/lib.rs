//! Replays days to years of prices, gas, outages and jobs over a fleet, through the planner as the controller uses it, and says what
//! each strategy would have earned. Pure: no clock, no I/O, no chance but a seed.
//!
//! Start at [`world`], what happens whatever is decided; then [`strategy`], who decides; then [`engine`], the loop; [`outcome`] says
//! what came of it. What the model leaves out stands in docs/backtest.md.
//!
//! Invariant: the same world and the same strategy give the same outcome, byte for byte.

mod chance;
pub mod demand;
pub mod engine;
mod groups;
mod island;
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

pub use engine::run;
pub use outcome::{Comparison, Outcome, Scored};
pub use strategy::{Kind, Strategy};
pub use tally::Tally;
pub use terms::{Methane, Terms};
pub use world::{Order, World};
