//! How long outlooks take, from ten modules to a thousand. Plans, bounds and repairs are measured by `benches/scale.rs`.
//!
//! Ignored by default: it measures and asserts no time. `docs/benchmarks.md` has the command and the figures.

use std::time::Instant;

use planner::{Assumptions, outlook, plan};

use crate::instances::{Class, Size, instance};

/// Two modules in three hold GPUs; 64 to 128 GPUs each give about two workloads a module.
fn fleet_of(modules: i64) -> Size {
    Size { sites: (modules / 4).max(1), modules: (4, 4), servers: (2, 9) }
}

#[test]
#[ignore = "measures for a minute"]
fn outlooks_at_scale() {
    println!("| modules | sites | outlook ms | plan ms |");
    println!("|---|---|---|---|");
    for modules in [10, 60, 300, 1_000] {
        let input = instance(1, Class::Normal, fleet_of(modules));
        let started = Instant::now();
        let made = plan(&input);
        let planned = started.elapsed().as_millis();
        let started = Instant::now();
        let ahead = outlook(&input, &Assumptions::default(), None);
        let looked = started.elapsed().as_millis();
        assert_eq!(ahead.sites.len(), made.plan.sites.len());
        println!("| {} | {} | {looked} | {planned} |", input.modules.len(), input.sites.len());
    }
}
