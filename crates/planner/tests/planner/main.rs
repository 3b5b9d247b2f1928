//! Tests of the planner through its public functions: properties, sabotage of plans, golden stories, bad input.
#![allow(clippy::unwrap_used)]

mod affinity;
mod ahead;
mod bad_input;
mod beside;
mod certificate;
mod elastic;
mod examples;
mod fuzz;
mod gensets;
mod golden;
mod instances;
mod offers;
mod oracle;
mod power;
mod quotes;
mod repairs;
mod runs;
mod sabotage;
mod scale;
mod scene;
mod shell;
mod steady;
mod storage;
mod tie;
mod words;

/// Whether everything is tried, as `make test` does by `PLANNER_TESTS=all`; else what whoever waits for an edit can wait for.
fn is_whole_run() -> bool {
    std::env::var("PLANNER_TESTS").is_ok_and(|which| which == "all")
}
