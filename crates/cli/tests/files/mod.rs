//! `plan solve` and `plan check` on the example files of docs/planner-input.md, with no controller anywhere.

use std::path::PathBuf;

use serde_json::Value;

use crate::flareshift;

/// An example file.
fn example(name: &str) -> String {
    format!("{}/../../tests/planner-input/{name}.json", env!("CARGO_MANIFEST_DIR"))
}

/// A file of this test alone; goes with it.
struct Temp(PathBuf);

impl Temp {
    fn new(name: &str, text: &str) -> Self {
        let path = std::env::temp_dir().join(format!("flareshift-{name}-{}.json", std::process::id()));
        std::fs::write(&path, text).unwrap();
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for Temp {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn solved(name: &str) -> Value {
    let run = flareshift(&["plan", "solve", &example(name), "-o", "json"]);
    assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""), "{name}");
    serde_json::from_str(&run.stdout).unwrap()
}

fn judged(name: &str, case: &Value) -> crate::Run {
    let file = Temp::new(name, &case.to_string());
    flareshift(&["plan", "check", file.path()])
}

#[test]
fn what_is_solved_holds_every_rule_and_is_the_same_each_time() {
    for name in ["small", "settled"] {
        let case = solved(name);
        assert_eq!(case, solved(name), "{name}");
        assert_eq!((case["schema"].as_u64(), case["findings"].as_array().unwrap().len()), (Some(1), 0));
        let bound = &case["bound"];
        assert!(bound["reached"].as_i64() <= bound["most"].as_i64(), "{name}: {bound}");
        assert_eq!(case["plan"]["bound"], *bound);
        let run = judged(name, &case);
        assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""), "{name}");
        assert_eq!(run.stdout, format!("Plan {} holds every rule.\n", case["plan"]["generation"]));
    }
}

#[test]
fn the_table_shows_plan_report_and_bound() {
    let run = flareshift(&["plan", "solve", &example("small")]);
    assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""));
    for part in
        ["Plan:", "Bound:", "at most $", "reached", "Site well-7: capacity", "Report", "workload chat"]
    {
        assert!(run.stdout.contains(part), "{part} is not in {}", run.stdout);
    }
    assert!(!run.stdout.contains("stale"), "{}", run.stdout);
}

/// Somebody else's plan takes the place of ours, and breaks a rule.
#[test]
fn a_plan_that_breaks_a_rule_is_told_with_its_place() {
    let check = |name: &str, change: &dyn Fn(&mut Value), code: &str, place: &str| {
        let mut case = solved("small");
        change(&mut case["plan"]);
        let run = judged(name, &case);
        assert_eq!(run.code, Some(1), "{name}: {}", run.stdout);
        assert!(run.stderr.contains("must not be used"), "{}", run.stderr);
        let named = run.stdout.lines().any(|line| line.starts_with(code) && line.contains(place));
        assert!(named, "{name}: {}", run.stdout);
    };
    let ceiling = |plan: &mut Value| {
        plan["sites"]["well-7"]["modules"]["hybrid"]["ceiling"] = 1_590_000.into();
    };
    check("ceiling", &ceiling, "module-limit", "module hybrid");
    let capacity = |plan: &mut Value| plan["sites"]["well-7"]["capacity"] = 9_000_000.into();
    check("capacity", &capacity, "capacity", "site well-7");
    let missing = |plan: &mut Value| plan["sites"] = serde_json::json!({});
    check("missing", &missing, "missing-site", "site well-7");
    let other = |plan: &mut Value| plan["input"] = "ab".into();
    check("other", &other, "other-input", "plan 1");
}

#[test]
fn bad_input_gets_a_safe_plan_and_says_what_to_change() {
    for (name, code, advice) in [
        ("firm-above-supply", "firm-unserved", "add sets"),
        ("no-modules", "firm-unserved", "modules"),
        ("price-unknown", "market-unknown", "give a price source"),
        ("price-negative", "price-negative", "give a price source"),
        ("price-below-nothing", "price-negative", "correct its offering"),
        ("no-limit", "no-limit", "set `limit` and `cooling`"),
        ("two-drains", "drains-overlap", "end one of the drains"),
    ] {
        let case = solved(name);
        assert_eq!(case["findings"].as_array().unwrap().len(), 0, "{name}");
        let run = flareshift(&["plan", "solve", &example(name)]);
        let line = run.stdout.lines().find(|line| line.starts_with(code));
        assert!(line.is_some_and(|line| line.contains(advice)), "{name}: {}", run.stdout);
    }
}

#[test]
fn what_is_no_input_is_code_2_and_says_where() {
    let check = |name: &str, command: &str, text: &str, said: &[&str]| {
        let file = Temp::new(name, text);
        let run = flareshift(&["plan", command, file.path()]);
        assert_eq!((run.code, run.stdout.as_str()), (Some(2), ""), "{name}");
        for word in [file.path()].iter().chain(said) {
            assert!(run.stderr.contains(word), "{name} does not say {word:?}: {}", run.stderr);
        }
    };
    let small = std::fs::read_to_string(example("small")).unwrap();
    check("cut", "solve", &small[..200], &["no JSON", "line"]);
    check("nan", "solve", &small.replace("125860000000000.0", "NaN"), &["no JSON", "line 4", "null"]);
    check(
        "typo",
        "solve",
        &small.replace("\"cordoned\"", "\"cordonned\""),
        &["unknown field `cordonned`", "line"],
    );
    check(
        "id",
        "solve",
        &small.replace("\"id\": \"hybrid\"", "\"id\": \"other\""),
        &["module \"hybrid\"", "\"other\""],
    );
    check(
        "size",
        "solve",
        &small.replace("\"servers\": 10", "\"servers\": 4000000000"),
        &["servers", "split it"],
    );
    check("bare", "check", &small, &["holds no `plan`", "plan solve"]);
    let run = flareshift(&["plan", "solve", "/nowhere/at-all.json"]);
    assert_eq!(run.code, Some(2));
    assert!(run.stderr.contains("/nowhere/at-all.json: cannot be read"), "{}", run.stderr);
}
