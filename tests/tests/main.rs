//! One binary for all end-to-end tests, so that they link once.
#![allow(clippy::unwrap_used)]

mod architecture;
