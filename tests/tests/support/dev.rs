//! Runs of `flareshift dev` without a screen, and what their summary says.
//!
//! Read next: `process.rs`.

use std::time::Duration;

use serde_json::Value;

use super::TempDir;
use super::process::{Ended, Process};

/// The longest run of these tests takes some 15 s on an idle machine.
const PATIENCE: Duration = Duration::from_secs(180);

/// How a run ended, with its summary.
pub struct Run {
    pub code: Option<i32>,
    pub summary: Value,
    pub stderr: String,
}

/// The invariants that every run of a minute looks at. 2 needs a set that trips, 11 belongs to no run.
pub const WATCHED: [u64; 10] = [1, 3, 4, 5, 6, 7, 8, 9, 10, 12];

/// What became of one invariant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub checks: u64,
    pub violations: u64,
}

/// Runs to the end, whatever comes of it.
pub fn end(args: &[&str]) -> Ended {
    let fixed = ["dev", "--headless", "-o", "json", "--grpc", "127.0.0.1:0", "--rest", "127.0.0.1:0"];
    let dir = TempDir::new("dev");
    Process::start("flareshift", &[&fixed, args].concat(), dir.path(), "dev").end(PATIENCE)
}

/// Runs to the end and reads the summary.
pub fn run(args: &[&str]) -> Run {
    let Ended { code, stdout, stderr, .. } = end(args);
    let summary =
        serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{args:?}: {error}: {stdout}\n{stderr}"));
    Run { code, summary, stderr }
}

impl Run {
    pub fn number(&self, field: &str) -> u64 {
        self.summary[field].as_u64().unwrap_or_else(|| panic!("{field} in {}", self.summary))
    }

    pub fn verdict(&self, invariant: u64) -> Verdict {
        let all = self.summary["invariants"].as_array().unwrap();
        let found = all.iter().find(|verdict| verdict["invariant"] == invariant);
        let found = found.unwrap_or_else(|| panic!("no invariant {invariant} in {}", self.summary));
        let number = |field: &str| found[field].as_u64().unwrap();
        Verdict { checks: number("checks"), violations: number("violations") }
    }

    /// Every broken invariant with its first violations, for a failure's message.
    pub fn broken(&self) -> String {
        let all = self.summary["invariants"].as_array().unwrap();
        let broken = all.iter().filter(|verdict| verdict["violations"] != 0);
        let lines = broken
            .map(|verdict| format!("{} {}: {}", verdict["invariant"], verdict["name"], verdict["first"]));
        lines.collect::<Vec<_>>().join("\n")
    }

    /// The run ended well, no invariant was broken, and these were looked at: nothing is held by silence.
    pub fn assert_sound(&self, looked_at: &[u64]) {
        let sound = self.summary["sound"] == true && self.code == Some(0);
        assert!(sound, "exit code {:?}\n{}\n{}", self.code, self.broken(), self.stderr);
        for &invariant in looked_at {
            assert!(self.verdict(invariant).checks > 0, "invariant {invariant} was not looked at");
        }
    }

    /// Shares that the pool accepted, by the ledger of whoever leads at the end.
    pub fn accepted_shares(&self) -> u64 {
        let all = self.summary["fleet"]["shares"].as_array().unwrap().iter();
        all.filter(|share| share["end"] == "accepted").map(|share| share["count"].as_u64().unwrap()).sum()
    }

    /// Workloads of all phases at the end.
    pub fn workloads(&self) -> u64 {
        let all = self.summary["fleet"]["workloads"].as_array().unwrap();
        all.iter().map(|entry| entry["count"].as_u64().unwrap()).sum()
    }

    pub fn generation(&self) -> u64 {
        self.summary["fleet"]["plan"]["generation"].as_u64().unwrap()
    }
}
