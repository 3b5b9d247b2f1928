//! `flareshift store` on an embedded store: answers in both formats, exit codes, and what this program says of an etcd.
//!
//! What the commands do is tested beside their code (`controller/src/maintenance/tests.rs`).

use std::path::{Path, PathBuf};

use crate::flareshift;

/// A directory that goes away with its owner.
struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Self {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }

    fn at(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// An export of an installation of the first version.
const OLDEST: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/../controller/src/maintenance/fixtures/oldest.jsonl");

#[test]
fn a_store_goes_into_a_file_and_back_and_is_checked() {
    let dir = Dir::new("store");
    let (one, two) = (format!("embedded:{}", dir.at("one")), format!("embedded:{}", dir.at("two")));
    let file = dir.at("export.jsonl");
    let check = |args: &[&str], code: i32, said: &str| {
        let run = flareshift(args);
        assert_eq!(run.code, Some(code), "{args:?}: {}{}", run.stdout, run.stderr);
        let (talk, answer) = if code == 0 { (run.stderr, run.stdout) } else { (run.stdout, run.stderr) };
        assert_eq!(talk, "", "{args:?}");
        assert!(answer.contains(said), "{args:?}: {answer}");
    };
    check(&["store", "fsck", "--store", &one], 1, "nothing is stored at");
    check(&["store", "import", OLDEST, "--store", &one], 0, "records imported, 0 deleted; the epoch is ");
    check(&["store", "import", OLDEST, "--store", &one], 4, "import with --replace to delete them first");
    check(&["store", "fsck", "--store", &one], 0, "records read, 0 broken");
    check(&["store", "migrate", "--dry-run", "--store", &one], 0, "would be written anew\n  plan: 1\n");
    check(&["store", "migrate", "--store", &one], 0, "were written anew\n  plan: 1\n");
    check(&["store", "export", &file, "--store", &one], 0, "records exported to");
    check(&["store", "export", &file, "--store", &one], 2, "is there already; choose another name");
    check(&["store", "import", &file, "--store", &two], 0, "records imported");
    check(&["store", "delete", "tenant/acme", "--store", &two], 0, "tenant/acme is deleted");
    let broken = flareshift(&["-o", "json", "store", "fsck", "--store", &two]);
    assert_eq!(broken.code, Some(1), "{}", broken.stderr);
    let answer: serde_json::Value = serde_json::from_str(&broken.stdout).unwrap();
    let keys: Vec<&str> = answer["findings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|finding| finding["key"].as_str().unwrap())
        .collect();
    assert_eq!(keys, ["tenant-key/ab", "workload/w1"]);
}

#[test]
fn an_etcd_is_answered_by_the_program_that_knows_it() {
    let run = flareshift(&["store", "fsck", "--store", "etcd://127.0.0.1:2379"]);
    // Built together with the service, this program knows etcd too, and nothing listens there or nothing is stored.
    let lean = run.stderr.contains("this build has no etcd") && run.stderr.contains("flareshift-controller");
    assert!(lean || run.code == Some(3) || run.code == Some(1), "{:?}: {}", run.code, run.stderr);
}
