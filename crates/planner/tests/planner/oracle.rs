//! The planner against HiGHS: golden optima of seeded instances, and how near to them our plans come.
//!
//! `tests/oracle/golden.csv` holds for each instance the digest of its dispatch, HiGHS's best solution and its bound. A digest that
//! differs means that the model changed: derive the optima anew (docs/planner.md has the commands).

use std::collections::BTreeMap;
use std::fmt::Write;

use planner::{Appraisal, appraise, check, plan};

use crate::instances::{Class, instance, size};

/// Instances a class that have a golden optimum.
const SEEDS: u64 = 180;

/// Instances a class that are planned: a tenth for whoever waits for an edit.
fn seeds() -> u64 {
    if crate::is_whole_run() { SEEDS } else { SEEDS / 10 }
}

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/oracle/golden.csv");

const CLASSES: [(Class, &str); 3] =
    [(Class::Normal, "normal"), (Class::Tight, "tight"), (Class::Overloaded, "overloaded")];

/// FNV-1a over the dispatch's JSON: it tells change, not malice.
fn digest(of: &Appraisal) -> String {
    let text = serde_json::to_string(&of.problem).unwrap();
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{hash:016x}")
}

/// HiGHS's own tolerance, a fifth of a cent.
const TOLERANCE: i64 = 2_000;

/// What HiGHS found, in micro-dollars.
#[derive(Clone, Debug)]
struct Golden {
    digest: String,
    best: i64,
    bound: i64,
}

fn golden() -> BTreeMap<(String, u64), Golden> {
    let text = std::fs::read_to_string(GOLDEN).unwrap();
    let rows = text.lines().skip(1).map(|line| {
        let fields: Vec<&str> = line.split(',').collect();
        let row = Golden {
            digest: fields[2].into(),
            best: fields[3].parse().unwrap(),
            bound: fields[4].parse().unwrap(),
        };
        ((fields[0].to_owned(), fields[1].parse().unwrap()), row)
    });
    rows.collect()
}

/// Sums over a class.
#[derive(Default)]
struct Score {
    count: usize,
    closed: usize,
    lost: i64,
    whole: i64,
    gained: i64,
    gainable: i64,
    dual: i64,
    greedy: i64,
    worst: (i64, u64),
    /// Instances with a gap above 5 % and a gain below 98 %.
    bad: Vec<u64>,
}

impl Score {
    fn add(&mut self, seed: u64, of: &Appraisal, golden: &Golden) {
        let (lost, whole) = (golden.bound - of.plan, golden.bound + of.kept);
        let (gained, gainable) = (of.plan - of.base, golden.bound - of.base);
        self.count += 1;
        self.closed += usize::from(golden.best * 10_000 >= golden.bound * 9_999);
        (self.lost, self.whole) = (self.lost + lost, self.whole + whole);
        (self.gained, self.gainable) = (self.gained + gained, self.gainable + gainable);
        self.dual += of.bound - golden.bound;
        self.greedy += golden.bound - of.greedy;
        let gap = lost * 100_000 / whole.max(1);
        self.worst = self.worst.max((gap, seed));
        if gap > 5_000 && gained * 100 < gainable * 98 {
            self.bad.push(seed);
        }
    }

    fn gap(&self) -> f64 {
        self.lost as f64 / self.whole as f64
    }

    fn gain(&self) -> f64 {
        self.gained as f64 / self.gainable as f64
    }
}

/// Every instance of every class; a class is a thread's.
fn scores() -> Vec<(&'static str, Score)> {
    let golden = golden();
    std::thread::scope(|scope| {
        let score = |class, name| class_score(class, name, &golden);
        let classes = CLASSES.map(|(class, name)| (name, scope.spawn(move || score(class, name))));
        classes.map(|(name, score)| (name, score.join().unwrap())).into()
    })
}

fn class_score(class: Class, name: &str, golden: &BTreeMap<(String, u64), Golden>) -> Score {
    let mut score = Score::default();
    for seed in 0..seeds() {
        let of = appraise(&instance(seed, class, size(seed)));
        let row = &golden[&(name.to_owned(), seed)];
        assert_eq!(digest(&of), row.digest, "{name} {seed}: the model changed; see docs/planner.md");
        assert!(of.plan <= row.bound + TOLERANCE, "{name} {seed}: the oracle's model misses something");
        assert!(of.bound >= row.best - TOLERANCE, "{name} {seed}: our bound lies below a solution");
        score.add(seed, &of, row);
    }
    score
}

fn table(scores: &[(&str, Score)]) -> String {
    let mut text = String::from(
        "| class | instances | closed | gap | worst gap | gain | greedy gap | dual above |\n|---|---|---|---|---|---|---|---|\n",
    );
    for (name, score) in scores {
        let dual = score.dual as f64 / score.whole as f64;
        let worst = score.worst.0 as f64 / 1_000.0;
        writeln!(
            text,
            "| {name} | {} | {} | {:.3} % | {worst:.2} % (seed {}) | {:.2} % | {:.2} % | {:.3} % |",
            score.count,
            score.closed,
            score.gap() * 100.0,
            score.worst.1,
            score.gain() * 100.0,
            score.greedy as f64 / score.whole as f64 * 100.0,
            dual * 100.0
        )
        .unwrap();
    }
    text
}

/// Prints the table with `--nocapture`.
#[test]
fn plans_are_near_the_optimum() {
    let scores = scores();
    let table = table(&scores);
    println!("{table}");
    for (limit, (name, score)) in [0.001, 0.01, 0.02].into_iter().zip(&scores) {
        assert!(score.gap() <= limit && score.gain() >= 0.98, "{name}\n{table}");
        assert!(score.bad.is_empty(), "{name}: {:?}\n{table}", score.bad);
    }
}

#[test]
fn plans_of_instances_pass_their_check() {
    for (class, name) in CLASSES {
        for seed in (0..seeds()).step_by(3) {
            let input = instance(seed, class, size(seed));
            let findings = check(&plan(&input).plan, &input);
            assert!(findings.is_empty(), "{name} {seed}: {findings:#?}");
        }
    }
}

/// Writes the instances for `tests/oracle/solve.py`, one JSON object a line, to the file named by `PLANNER_INSTANCES`.
#[test]
#[ignore = "derives the golden optima anew; needs a file name"]
fn write_instances() {
    let path = std::env::var("PLANNER_INSTANCES").unwrap();
    let mut text = String::new();
    for (class, name) in CLASSES {
        for seed in 0..SEEDS {
            let of = appraise(&instance(seed, class, size(seed)));
            let digest = digest(&of);
            let line = serde_json::json!({
                "class": name, "seed": seed, "digest": digest, "problem": of.problem,
                "plan": of.plan, "search": of.search, "closed": of.closed, "base": of.base, "dual": of.bound, "kept": of.kept,
            });
            writeln!(text, "{line}").unwrap();
        }
    }
    std::fs::write(path, text).unwrap();
}
