//! The walls of the house: which crate may depend on which, and what the command line may pull in.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The arrows of docs/architecture.md. `cli` and `e2e` may depend on all.
const ARROWS: [(&str, &[&str]); 12] = [
    ("model", &[]),
    ("planner", &["model"]),
    ("backtest", &["model", "planner"]),
    ("control", &["model"]),
    ("stratum", &["model"]),
    ("api", &["model"]),
    ("store", &["model"]),
    ("service", &[]),
    ("sim", &["model", "control", "stratum"]),
    ("archive", &["model"]),
    ("controller", &["model", "planner", "stratum", "api", "store", "service", "archive"]),
    ("agent", &["model", "control", "stratum", "api", "sim", "service"]),
];

/// What the pure crates must not contain: they decide, the shells act.
const IMPURE: [&str; 9] = [
    "async fn",
    "std::time::Instant",
    "std::time::SystemTime",
    "std::fs",
    "std::net",
    "std::thread",
    "tracing::",
    "tokio",
    "println!",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

fn cargo(args: &[&str]) -> String {
    let output = Command::new(env!("CARGO")).args(args).current_dir(root()).output().unwrap();
    assert!(output.status.success(), "cargo {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Workspace crates and their normal and build dependencies on each other.
fn arrows() -> BTreeMap<String, BTreeSet<String>> {
    let metadata = cargo(&["metadata", "--format-version", "1", "--no-deps", "--locked", "--offline"]);
    let metadata: serde_json::Value = serde_json::from_str(&metadata).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let names: BTreeSet<&str> = packages.iter().map(|package| package["name"].as_str().unwrap()).collect();
    let of = |package: &serde_json::Value| {
        let ours = |dependency: &&serde_json::Value| {
            dependency["kind"] != "dev" && names.contains(dependency["name"].as_str().unwrap())
        };
        let dependencies = package["dependencies"].as_array().unwrap().iter().filter(ours);
        dependencies.map(|dependency| dependency["name"].as_str().unwrap().to_owned()).collect()
    };
    packages.iter().map(|package| (package["name"].as_str().unwrap().to_owned(), of(package))).collect()
}

#[test]
fn dependencies_follow_the_arrows() {
    let found = arrows();
    for (name, allowed) in ARROWS {
        let extra: Vec<&String> = found[name].iter().filter(|to| !allowed.contains(&to.as_str())).collect();
        assert!(extra.is_empty(), "{name} depends on {extra:?}; docs/architecture.md allows {allowed:?}");
    }
    let known: BTreeSet<&str> =
        ARROWS.iter().map(|(name, _)| *name).chain(["cli", "e2e", "load", "oracle"]).collect();
    let unknown: Vec<&String> = found.keys().filter(|name| !known.contains(name.as_str())).collect();
    assert!(
        unknown.is_empty(),
        "{unknown:?} stand in no arrow; say in docs/architecture.md what they may know"
    );
}

#[test]
fn pure_crates_do_not_act() {
    for name in ["model", "planner", "backtest", "control", "stratum"] {
        for file in rust_files(&root().join("crates").join(name).join("src")) {
            let text = std::fs::read_to_string(&file).unwrap();
            let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
            for (number, line) in code.enumerate() {
                let found = IMPURE.iter().find(|word| line.contains(**word));
                assert!(
                    found.is_none(),
                    "{}: {} in code line {number}: {line}",
                    file.display(),
                    found.unwrap()
                );
            }
        }
    }
}

/// Someone reads this list before it grows: `tests/cli-dependencies.txt` is what the first command of a new user compiles.
#[test]
fn the_command_line_pulls_in_only_what_was_reviewed() {
    let tree = cargo(&[
        "tree",
        "-p",
        "cli",
        "--edges",
        "normal,build",
        "--prefix",
        "none",
        "--locked",
        "--offline",
        "--format",
        "{p}",
    ]);
    let found: BTreeSet<String> =
        tree.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect();
    let path = root().join("tests/cli-dependencies.txt");
    let reviewed: BTreeSet<String> =
        std::fs::read_to_string(&path).unwrap().lines().map(str::to_owned).collect();
    let new: Vec<&String> = found.difference(&reviewed).collect();
    let gone: Vec<&String> = reviewed.difference(&found).collect();
    assert!(
        new.is_empty() && gone.is_empty(),
        "new: {new:?}, gone: {gone:?}; review and update {}",
        path.display()
    );
    for heavy in ["etcd-client", "arrow", "parquet", "kube", "asic-rs"] {
        assert!(!found.contains(heavy), "{heavy} belongs to the service binaries, not to the command line");
    }
}

/// `cargo build --workspace` compiles none of it: who does not ask for the archive or for traces does not wait for them (decisions 0017
/// and 0020).
#[test]
fn only_features_pull_in_the_archive_and_traces() {
    const HEAVY: [(&str, &str, &[&str]); 2] = [
        ("archive", "parquet", &["object_store", "parquet", "reqwest"]),
        (
            "service",
            "otlp",
            &["opentelemetry", "opentelemetry-otlp", "opentelemetry_sdk", "tracing-opentelemetry"],
        ),
    ];
    let args = ["tree", "--workspace", "--edges", "all", "--prefix", "none", "--locked", "--offline"];
    let tree = cargo(&[&args[..], &["--format", "{p}"]].concat());
    let found: BTreeSet<&str> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
    assert!(found.contains("archive") && found.contains("tokio"), "the tree has the workspace in it");
    for (of, feature, names) in HEAVY {
        let heavy: Vec<&&str> = names.iter().filter(|name| found.contains(**name)).collect();
        assert!(heavy.is_empty(), "a default build compiles {heavy:?}");
        // And they are what the feature is about, under these names.
        let manifest = std::fs::read_to_string(root().join(format!("crates/{of}/Cargo.toml"))).unwrap();
        let feature = manifest.lines().find(|line| line.starts_with(&format!("{feature} = ["))).unwrap();
        for name in names {
            assert!(feature.contains(&format!("\"dep:{name}\"")), "{name} is optional in crates/{of}");
        }
    }
}

fn rust_files(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}
