//! The horizon of a site in a plan: what is expected in each step of five minutes.
//!
//! The wire has the steps in order and no times: the first begins when the plan was made. Read next: `plan.rs` beside this.

use api::common;
use model::Time;
use model::plan::STEP;
use serde::Serialize;

use super::super::show::{self, gas, money, watts};
use super::super::table::titled;

const HEADERS: [&str; 7] = ["BEGINS", ">CAPACITY", ">AI", ">MINING", ">AUXILIARY", ">FLARED", ">WORTH"];

/// What one island is expected to do in one step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Step {
    /// When it begins; `null` when it is not known when the plan was made.
    pub begins: Option<String>,
    /// Power that gas and running sets sustain.
    pub capacity_watts: i64,
    /// Drawn by AI, idle servers included.
    pub ai_watts: i64,
    /// Drawn by miners.
    pub mining_watts: i64,
    /// Drawn by auxiliaries, losses and unmanaged load.
    pub auxiliary_watts: i64,
    /// Gas that is flared.
    pub flared_scf_per_day: i64,
    /// Expected money of the step.
    pub worth_micro_dollars: i64,
}

/// The steps of a plan that was made then.
pub fn steps(made: Option<Time>, steps: Vec<common::SiteStep>) -> Vec<Step> {
    let begins = std::iter::successors(made, |begins| Some(*begins + STEP)).map(Some);
    let begins = begins.chain(std::iter::repeat(None));
    let step = |(step, begins): (common::SiteStep, Option<Time>)| Step {
        begins: begins.and_then(show::rfc3339),
        capacity_watts: step.capacity_watts,
        ai_watts: step.ai_watts,
        mining_watts: step.mining_watts,
        auxiliary_watts: step.auxiliary_watts,
        flared_scf_per_day: step.flared_scf_per_day,
        worth_micro_dollars: step.worth_micro_dollars,
    };
    steps.into_iter().zip(begins).map(step).collect()
}

/// A line a step, under a title.
pub fn table(title: &str, steps: &[Step]) -> String {
    let row = |step: &Step| {
        vec![
            show::moment(&step.begins),
            watts(step.capacity_watts),
            watts(step.ai_watts),
            watts(step.mining_watts),
            watts(step.auxiliary_watts),
            gas(step.flared_scf_per_day),
            money(step.worth_micro_dollars),
        ]
    };
    titled(title, &HEADERS, steps.iter().map(row).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_step_begins_with_the_plan_and_each_next_five_minutes_later() {
        let check = |made: Option<Time>, expected: [Option<&str>; 2]| {
            let steps = steps(made, vec![common::SiteStep::default(); 2]);
            let begins: Vec<Option<&str>> = steps.iter().map(|step| step.begins.as_deref()).collect();
            assert_eq!(begins, expected);
        };
        check(Some(Time(0)), [Some("1970-01-01T00:00:00.000Z"), Some("1970-01-01T00:05:00.000Z")]);
        check(None, [None, None]);
    }
}
