//! The ledger's files as they lie on the disk, read without the program that wrote them.
//!
//! A sealed segment waits in the agent's outbox until the controller has it; then it lies in the controller's ledger alone.
//! Read next: `../durable.rs`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::Value;

/// Contents of the sealed segments of each module, by sequence.
#[derive(Clone, Debug, Default)]
pub struct Ledger(BTreeMap<String, BTreeMap<u64, String>>);

impl Ledger {
    /// What the controller keeps in `dir`.
    pub fn kept(dir: &Path) -> Self {
        let mut ledger = Self::default();
        ledger.read(dir, "", |module| module.to_owned());
        ledger
    }

    /// What a data directory of `dev` holds: kept by the controller or still in an agent's outbox.
    pub fn of_dev(data: &Path) -> Self {
        let mut ledger = Self::default();
        ledger.read(&data.join("agent"), "sealed-", |module| format!("{module}/outbox"));
        ledger.read(&data.join("ledger"), "", str::to_owned);
        ledger
    }

    /// What the agents whose directories lie in `dir` have sealed and not yet handed over.
    pub fn waiting(dir: &Path) -> Self {
        let mut ledger = Self::default();
        ledger.read(dir, "sealed-", |module| format!("{module}/outbox"));
        ledger
    }

    /// Takes over what another holds. A segment that both hold is the same in both.
    pub fn merge(&mut self, other: Self) {
        for (module, segments) in other.0 {
            let known = self.0.entry(module.clone()).or_default();
            for (sequence, content) in segments {
                let before = known.insert(sequence, content.clone());
                let same = before.is_none_or(|before| before == content);
                assert!(same, "segment {sequence} of {module} lies in two places with other content");
            }
        }
    }

    fn read(&mut self, dir: &Path, prefix: &str, place: impl Fn(&str) -> String) {
        for entry in fs::read_dir(dir).into_iter().flatten() {
            let module = entry.unwrap().file_name().into_string().unwrap();
            let files = fs::read_dir(dir.join(place(&module))).into_iter().flatten();
            for file in files.map(Result::unwrap) {
                let name = file.file_name().into_string().unwrap();
                let number = name.strip_prefix(prefix).and_then(|name| name.strip_suffix(".seg"));
                if let Some(sequence) = number.and_then(|number| number.parse().ok()) {
                    // An agent may have handed it over meanwhile.
                    let Ok(segment) = fs::read_to_string(file.path()) else { continue };
                    self.0.entry(module.clone()).or_default().insert(sequence, content(&segment));
                }
            }
        }
    }

    /// The lines of one module's segments, in order: each an object of one field, its kind.
    pub fn lines(&self, module: &str) -> Vec<Value> {
        let segments = self.0.get(module).into_iter().flat_map(BTreeMap::values);
        let parse = |text: &String| serde_json::from_str::<Value>(text).unwrap();
        segments.flat_map(|text| parse(text)["lines"].as_array().unwrap().clone()).collect()
    }

    pub fn segments(&self) -> usize {
        self.0.values().map(BTreeMap::len).sum()
    }

    pub fn modules(&self) -> usize {
        self.0.len()
    }

    /// Every module's segments are numbered from 1 without a gap.
    pub fn assert_contiguous(&self) {
        for (module, segments) in &self.0 {
            let found: Vec<u64> = segments.keys().copied().collect();
            let expected: Vec<u64> = (1..).take(found.len()).collect();
            assert_eq!(found, expected, "segments of {module}");
        }
    }

    /// Everything that was there `before` is there still, and the same.
    pub fn assert_holds(&self, before: &Self) {
        for (module, segments) in &before.0 {
            for (sequence, content) in segments {
                let now = self.0.get(module).and_then(|segments| segments.get(sequence));
                let now = now.unwrap_or_else(|| panic!("segment {sequence} of {module} is gone"));
                assert!(now == content, "segment {sequence} of {module} has changed");
            }
        }
    }
}

/// The segment itself: outbox and ledger put a line with a checksum of their own before it.
fn content(file: &str) -> String {
    let begin = file.find("{\"module\"").unwrap_or_else(|| panic!("no segment in {file}"));
    file[begin..].trim_end().to_owned()
}

/// What the audits of shares came to, for each module that claimed any: claims that passed, and claims that failed. They are the
/// totals of `shares.json`, and what the log behind it adds.
pub fn audits(data: &Path) -> BTreeMap<String, (u64, u64)> {
    let mut audits = BTreeMap::new();
    for entry in fs::read_dir(data.join("ledger")).into_iter().flatten() {
        let entry = entry.unwrap();
        let Ok(text) = fs::read_to_string(entry.path().join("shares.json")) else { continue };
        let kept: Value = serde_json::from_str(&text).unwrap();
        let totals = &kept["auditor"]["totals"];
        let count = |field: &str| totals[field].as_u64().unwrap_or_else(|| panic!("no {field} in {totals}"));
        let (mut passed, mut failed) = (count("passed"), count("failures"));
        let log = entry.path().join(format!("shares-{}.log", kept["log"]));
        let log = fs::read_to_string(&log).unwrap_or_else(|error| panic!("{}: {error}", log.display()));
        // kill -9 may leave a last line that is not whole, and was not acted upon.
        for line in log.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
            let step: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"));
            let judged = &step["Answer"]["judged"];
            passed += u64::from(judged.get("Shown").is_some());
            failed += u64::from(judged.get("Failed").is_some());
        }
        audits.insert(entry.file_name().into_string().unwrap(), (passed, failed));
    }
    audits
}
