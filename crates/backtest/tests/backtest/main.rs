//! Replays of small worlds: known answers, conservation, the order of strategies, bad input.
#![allow(clippy::unwrap_used)]

mod known;
mod scene;
