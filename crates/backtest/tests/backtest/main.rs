//! Replays of small worlds: known answers, conservation, the order of strategies, demand and outages, bad input.
#![allow(clippy::unwrap_used)]

mod bad_input;
mod bound;
mod demand;
mod events;
mod firm;
mod forecast;
mod known;
mod oracle;
mod property;
mod scene;
mod strategies;
mod years;
