//! What the simulation's own meters saw, as each agent process writes it every second (docs/invariants.md).
//!
//! Read next: `installation.rs`, which asks for it after each fault.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// The invariants that every fault leaves whole, as far as agents' meters show them: power, one writer, shares, lost link, crash.
pub const HELD: [u64; 5] = [1, 4, 5, 8, 9];
/// A run is seen once a second, so that the same second may show the last of one and the first of another.
const SAME_SECOND_MS: i64 = 1_100;

/// What one process's witness has written.
pub struct Page(Value);

impl Page {
    pub fn read(file: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
        serde_json::from_str(&text).map(Self).map_err(|error| format!("{error} in {text}"))
    }

    /// Shares that the pool has accepted so far.
    pub fn accepted(&self) -> u64 {
        self.0["accepted"].as_u64().unwrap()
    }

    /// Simulated seconds that were judged so far.
    pub fn seconds(&self) -> u64 {
        self.0["seconds"].as_u64().unwrap()
    }

    /// Everything is sealed and compared.
    pub fn is_last(&self) -> bool {
        self.0["ended"] == true
    }

    /// None of these is broken. Answers how often each was looked at.
    pub fn assert_unbroken(&self, when: &str) -> BTreeMap<u64, u64> {
        let verdicts = self.0["verdicts"].as_array().unwrap();
        let held = verdicts.iter().filter(|verdict| HELD.contains(&verdict["invariant"].as_u64().unwrap()));
        held.map(|verdict| {
            assert_eq!(verdict["violations"], 0, "{when}: {verdict}");
            (verdict["invariant"].as_u64().unwrap(), verdict["checks"].as_u64().unwrap())
        })
        .collect()
    }

    /// Stretches in which a workload held GPUs: (workload, incarnation and module, first and last seen).
    fn runs(&self) -> impl Iterator<Item = (String, String, (i64, i64))> {
        self.0["runs"].as_array().unwrap().iter().map(|run| {
            let text = |field: &str| run[field].as_str().unwrap();
            let time = |field: &str| run[field].as_i64().unwrap();
            let which = format!("incarnation {} on {}", run["incarnation"], text("module"));
            (text("workload").to_owned(), which, (time("first"), time("last")))
        })
    }
}

/// No workload held GPUs twice at a time, wherever. Answers how many starts there were.
pub fn assert_nothing_ran_twice(files: &[PathBuf], when: &str) -> usize {
    let pages: Vec<Page> = files.iter().map(|file| Page::read(file).unwrap()).collect();
    let mut runs: Vec<_> = pages.iter().flat_map(Page::runs).collect();
    runs.sort_by_key(|(workload, _, (first, _))| (workload.clone(), *first));
    for pair in runs.windows(2) {
        let [(one, first, (_, until)), (other, second, (from, _))] = pair else {
            unreachable!("windows of two")
        };
        let overlap = until - from;
        assert!(
            one != other || overlap <= SAME_SECOND_MS,
            "{when}: {one} was {first} and {second} for {overlap} ms at once"
        );
    }
    runs.len()
}
