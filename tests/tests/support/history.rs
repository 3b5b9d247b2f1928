//! What was written to etcd, revision by revision, as etcd's own client saw it: whether commits form one chain, and whether
//! anything was written while nobody led.
//!
//! Assumes that nothing is compacted that was not read before. Read next: `cluster.rs`.

use std::collections::BTreeMap;

use serde_json::Value;

use super::cluster::Cluster;
use super::process::Process;
use super::{PATIENCE, wait_for};

/// Below which the controllers of a test keep everything.
const PREFIX: &str = "e2e/";

/// All that was seen so far.
#[derive(Default)]
pub struct History(Vec<Change>);

/// One change of one key.
#[derive(Clone, Debug)]
struct Change {
    revision: u64,
    key: String,
    created: u64,
    /// `None` when it was deleted.
    value: Option<Value>,
}

/// What the history shows.
#[derive(Clone, Debug, Default)]
pub struct Shown {
    /// Create revisions of the leader's key, in order.
    pub leaders: Vec<u64>,
    /// Generations of plans in force, in order.
    pub plans: Vec<u64>,
    /// The same by the create revision of who led.
    pub by_leader: BTreeMap<u64, Vec<u64>>,
    /// Changes in all.
    pub changes: usize,
}

impl History {
    /// Reads on from where it stopped until the plan in force has been seen, and judges everything.
    pub fn judge(&mut self, cluster: &Cluster, newest_plan: u64) -> Shown {
        let (addresses, next) = (cluster.addresses(), (self.newest() + 1).to_string());
        let members: Vec<&str> = addresses.iter().map(String::as_str).collect();
        // A watch of its own each time: one that lives through the loss of two members may stay silent for minutes.
        let watch =
            cluster.client(&members, &["watch", "--prefix", PREFIX, "--rev", &next, "-w", "json"], "history");
        self.0 = wait_for("the history has the newest plan", PATIENCE, || {
            let all = [self.0.clone(), changes(&watch)].concat();
            let plans = judge(&all).plans;
            if plans.last() >= Some(&newest_plan) {
                Ok(all)
            } else {
                Err(format!("{:?}; {}", plans.last(), watch.tail()))
            }
        });
        judge(&self.0)
    }

    /// The newest revision that was seen.
    pub fn newest(&self) -> u64 {
        self.0.last().map_or(0, |change| change.revision)
    }
}

fn changes(watch: &Process) -> Vec<Change> {
    let text = watch.stdout();
    // The last line may not be whole yet; each holds whole revisions.
    let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    let events = |line: &str| {
        let response: Value = serde_json::from_str(line).unwrap();
        assert_eq!(response["CompactRevision"], 0, "the watch fell behind: {line}");
        response["Events"].as_array().cloned().unwrap_or_default()
    };
    whole.flat_map(events).map(|event| change(&event)).collect()
}

fn change(event: &Value) -> Change {
    let kv = &event["kv"];
    let bytes = |field: &str| base64(kv[field].as_str().unwrap_or_default());
    let deleted = event["type"] == 1;
    let key = String::from_utf8(bytes("key")).unwrap();
    Change {
        revision: kv["mod_revision"].as_u64().unwrap(),
        created: kv["create_revision"].as_u64().unwrap_or_default(),
        // The leader's key holds its address; all others are JSON.
        value: (!deleted).then(|| serde_json::from_slice(&bytes("value")).unwrap_or(Value::Null)),
        key: key.strip_prefix(PREFIX).unwrap().to_owned(),
    }
}

/// Each plan in force is the next one on the one before; grants count upwards; nothing is written while nobody leads.
fn judge(changes: &[Change]) -> Shown {
    let mut shown = Shown { changes: changes.len(), ..Shown::default() };
    let mut leads: Option<u64> = None;
    let mut grants: BTreeMap<&str, u64> = BTreeMap::new();
    for Change { revision, key, created, value } in changes {
        let body = |field: &str| value.as_ref().and_then(|value| value["body"][field].as_u64());
        match key.as_str() {
            "leader" => {
                leads = value.as_ref().map(|_| *created);
                if leads.is_some() && shown.leaders.last() != Some(created) {
                    assert!(
                        shown.leaders.last() < Some(created),
                        "leader {created} after {:?}",
                        shown.leaders
                    );
                    shown.leaders.push(*created);
                }
                continue;
            }
            "target" => {
                let generation =
                    body("generation").unwrap_or_else(|| panic!("target without a plan at {revision}"));
                let before = shown.plans.last().copied().unwrap_or(generation - 1);
                assert_eq!(generation, before + 1, "two plans were committed on one, at revision {revision}");
                shown.plans.push(generation);
                shown.by_leader.entry(leads.unwrap_or_default()).or_default().push(generation);
            }
            _ => {}
        }
        assert!(leads.is_some(), "{key} was written at revision {revision} while nobody led");
        if key.starts_with("grant/")
            && let Some(generation) = body("generation")
        {
            let before = grants.insert(key, generation).unwrap_or_default();
            assert!(
                generation >= before,
                "{key} went from generation {before} to {generation} at {revision}"
            );
        }
    }
    shown
}

/// What stands in base64, as etcd's client writes keys and values.
fn base64(text: &str) -> Vec<u8> {
    let digit = |byte: u8| match byte {
        b'A'..=b'Z' => u32::from(byte - b'A'),
        b'a'..=b'z' => u32::from(byte - b'a') + 26,
        b'0'..=b'9' => u32::from(byte - b'0') + 52,
        b'+' => 62,
        b'/' => 63,
        other => panic!("{other} is no digit of base64"),
    };
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    for group in text.trim_end_matches('=').as_bytes().chunks(4) {
        let bits = group.iter().fold(0, |bits, byte| bits << 6 | digit(*byte)) << (6 * (4 - group.len()));
        bytes.extend(&bits.to_be_bytes()[1..group.len()]);
    }
    bytes
}

#[test]
fn base64_is_read_as_it_is_written() {
    let check = |text: &str, expected: &str| assert_eq!(base64(text), expected.as_bytes(), "{text}");
    check("", "");
    check("ZQ==", "e");
    check("ZTI=", "e2");
    check("ZTJl", "e2e");
    check("ZTJlL2E=", "e2e/a");
}

#[test]
fn a_second_plan_on_one_parent_and_a_write_without_a_leader_are_seen() {
    let at = |revision: u64, key: &str, value: Option<Value>| Change {
        revision,
        key: key.to_owned(),
        created: revision,
        value,
    };
    let plan = |number: u64| Some(serde_json::json!({ "body": { "generation": number } }));
    let honest = [
        at(2, "leader", Some(Value::Null)),
        at(3, "target", plan(1)),
        at(4, "grant/m", plan(1)),
        at(5, "leader", None),
        at(6, "leader", Some(Value::Null)),
        at(7, "target", plan(2)),
        at(8, "grant/m", plan(2)),
    ];
    let shown = judge(&honest);
    assert_eq!((shown.leaders, shown.plans, shown.changes), (vec![2, 6], vec![1, 2], 7));
    let fires = |changes: &[Change]| {
        let changes = changes.to_vec();
        assert!(std::panic::catch_unwind(move || judge(&changes)).is_err(), "nothing was seen");
    };
    let with = |change: Change| [&honest[..], &[change]].concat();
    fires(&with(at(9, "target", plan(2))));
    fires(&with(at(9, "target", plan(4))));
    fires(&with(at(9, "grant/m", plan(1))));
    fires(&[&honest[..4], &[at(6, "grant/m", plan(9))]].concat());
    fires(&[&honest[..5], &[at(1, "leader", Some(Value::Null))]].concat());
}
