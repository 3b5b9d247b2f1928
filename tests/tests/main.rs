//! One binary for all end-to-end tests, so that they link once.
//!
//! Each file is one promise of the product, held on the real programs; `support` starts and kills them.
#![allow(clippy::unwrap_used)]

mod architecture;
mod bad_input;
mod clock;
mod dev_runs;
mod durable;
mod faults;
mod hand_over;
mod mutual_tls;
mod observability;
mod paused_leader;
mod proxy_stats;
mod sabotage;
mod settings;
mod store_commands;
mod support;
mod tenants;
mod three_processes;
