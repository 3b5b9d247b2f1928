//! The end of a run: what was done, and whether every invariant held.

use api::operator::FleetStatus;
use model::Span;
use serde::Serialize;
use sim::witness;

use super::scenario::Scenario;
use crate::args::Output;
use crate::output::{self, fleet::Fleet};

/// One run in one object; field names are stable, units stand in them.
#[derive(Debug, Serialize)]
pub struct Summary {
    /// The seed.
    pub seed: u64,
    /// Simulated time of this run.
    pub simulated_milliseconds: i64,
    /// Simulated seconds for each second of wall time.
    pub speed_reached: f64,
    /// No invariant that was looked at was broken, and one was. Says nothing of those in `not_looked_at`.
    pub sound: bool,
    /// Numbers of the invariants that the run gave no occasion to look at.
    pub not_looked_at: Vec<u8>,
    /// Times an island went dark.
    pub blackouts: u64,
    /// Firm workloads that a loss of power ended.
    pub firm_lost: u64,
    /// Jobs of the trace that ask for no GPU, dropped.
    pub jobs_dropped: usize,
    /// Jobs of the trace whose fraction of a GPU was rounded up.
    pub jobs_rounded_up: usize,
    /// Every invariant that was watched.
    pub invariants: Vec<witness::Verdict>,
    /// The fleet at the end; absent when no controller answered.
    pub fleet: Option<Fleet>,
}

impl Summary {
    /// Sums a run up.
    pub fn new(
        scenario: &Scenario,
        simulated: Span,
        losses: (u64, u64),
        fleet: Option<FleetStatus>,
        seen: witness::Summary,
    ) -> Self {
        let wall = scenario.begun.elapsed().as_secs_f64();
        Self {
            seed: scenario.args.seed,
            simulated_milliseconds: simulated.millis(),
            speed_reached: (simulated.as_secs_f64() / wall * 10.0).round() / 10.0,
            sound: seen.is_sound(),
            not_looked_at: seen.not_looked_at(),
            blackouts: losses.0,
            firm_lost: losses.1,
            jobs_dropped: scenario.jobs.as_ref().map_or(0, |replay| replay.jobs.dropped),
            jobs_rounded_up: scenario.jobs.as_ref().map_or(0, |replay| replay.jobs.rounded),
            invariants: seen.verdicts,
            fleet: fleet.map(Fleet::from),
        }
    }

    /// Prints it: data on standard output, talk on standard error.
    pub fn print(&self, format: Output) {
        match format {
            // A summary is plain data: serialising it cannot fail.
            Output::Json => println!("{}", serde_json::to_string_pretty(self).unwrap_or_default()),
            Output::Table => self.print_table(),
        }
    }

    fn print_table(&self) {
        if let Some(fleet) = &self.fleet {
            println!("{}", output::text(fleet, Output::Table));
        }
        println!(
            "simulated {:.0} s, seed {}, {} times real time; blackouts {}, firm workloads lost {}",
            self.simulated_milliseconds as f64 / 1_000.0,
            self.seed,
            self.speed_reached,
            self.blackouts,
            self.firm_lost
        );
        for verdict in &self.invariants {
            let word = match (verdict.checks, verdict.violations) {
                (0, 0) => "not looked at".to_owned(),
                (checks, 0) => format!("held, {checks} checks"),
                (checks, broken) => format!("BROKEN {broken} times in {checks} checks"),
            };
            println!("invariant {:>2} {:<14} {word}", verdict.invariant, verdict.name);
            for violation in verdict.first.iter().take(3) {
                println!("             {violation}");
            }
        }
        println!("{}", verdict(self.sound, &self.not_looked_at));
    }
}

/// The last line for people: what is claimed, and of what nothing is.
fn verdict(sound: bool, not_looked_at: &[u8]) -> String {
    let silent: Vec<String> = not_looked_at.iter().map(u8::to_string).collect();
    match (sound, silent.is_empty()) {
        (false, _) => "not sound".into(),
        (true, true) => "sound".into(),
        (true, false) => {
            format!("sound, as far as it was looked; nothing is claimed of {}", silent.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_claimed_of_what_was_not_looked_at() {
        assert_eq!(verdict(true, &[]), "sound");
        assert_eq!(verdict(true, &[2, 12]), "sound, as far as it was looked; nothing is claimed of 2, 12");
        assert_eq!(verdict(false, &[2]), "not sound");
    }
}
