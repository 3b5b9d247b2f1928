//! The embedded twin's files damaged after a kill: a flipped byte, a file cut short, a copy from before, a disk that was full.
//!
//! The promise: either everything that was acknowledged is there, or opening fails and says what to do. Nothing in between.
//! Assumes: the child of `crash.rs`. Seeds are in the failure messages.
//! Read next: `crash.rs`, `faults.rs`.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use store::{Error, Txn, embedded};

use crate::crash::{check_whole, kill_after, spawn_child};
use crate::faults::random;
use crate::k;
use crate::twins::TempDir;
use crate::txn::put;

const ROLE: &str = "FLARESHIFT_STORE_TEST_FULL_DIR";
const FILES: [&str; 2] = ["store.redb", "store.mark"];

/// The files of a store, as bytes.
struct Copy([Vec<u8>; 2]);

impl Copy {
    fn of(dir: &Path) -> Self {
        Self(FILES.map(|name| fs::read(dir.join(name)).unwrap()))
    }

    fn put_back(&self, dir: &Path) {
        for (name, bytes) in FILES.iter().zip(&self.0) {
            fs::write(dir.join(name), bytes).unwrap();
        }
    }
}

/// A store whose process was killed, and what it had acknowledged.
fn killed(dir: &TempDir) -> Vec<String> {
    let (child, lines) = spawn_child(dir);
    kill_after(60, child, lines)
}

/// True if all was there, false if opening failed as it should.
async fn whole_or_told(dir: &TempDir, acked: &[String], what: &str) -> bool {
    let store = match embedded::open(dir.path()) {
        Ok(store) => store,
        Err(error) => {
            assert!(matches!(error, Error::Corrupt { .. }), "{what}: {error:?}");
            let text = error.to_string();
            assert!(text.contains("do not start over it: restore it from a copy"), "{what}: {text}");
            return false;
        }
    };
    for name in acked {
        let entry = store.get(&k(name)).await.unwrap();
        let value = entry.map(|entry| entry.value);
        assert_eq!(value, Some(name.clone().into_bytes()), "{what}: {name} is silently lost");
    }
    check_whole(&store).await;
    true
}

#[tokio::test]
async fn a_flipped_byte_is_harmless_or_told() {
    let dir = TempDir::new("flip");
    let acked = killed(&dir);
    let fresh = Copy::of(dir.path());
    drop(embedded::open(dir.path()).unwrap());
    let closed = Copy::of(dir.path());
    let (mut seed, mut told) = (11, 0);
    for trial in 0..240 {
        let (copy, name) = if trial % 2 == 0 { (&fresh, "killed") } else { (&closed, "closed") };
        copy.put_back(dir.path());
        let mut bytes = copy.0[0].clone();
        // Half of the trials look for the pages in use, which are few.
        let used: Vec<usize> = (0..bytes.len()).filter(|&at| bytes[at] != 0).collect();
        let at = match trial % 4 < 2 {
            true => used[usize::try_from(random(&mut seed)).unwrap() % used.len()],
            false => usize::try_from(random(&mut seed)).unwrap() % bytes.len(),
        };
        bytes[at] ^= 1 << (random(&mut seed) % 8);
        fs::write(dir.path().join(FILES[0]), &bytes).unwrap();
        let what = format!("trial {trial}, {name}, byte {at} of {}", bytes.len());
        told += u32::from(!whole_or_told(&dir, &acked, &what).await);
    }
    println!("{told} of 240 flipped bytes were told, the others did no harm");
    // Mostly some 25; which bytes are in use differs from run to run.
    assert!((5..240).contains(&told), "{told}");
}

#[tokio::test]
async fn a_file_cut_short_after_a_kill_is_told() {
    let dir = TempDir::new("cut-killed");
    let acked = killed(&dir);
    let copy = Copy::of(dir.path());
    let (mut seed, mut told) = (5, 0);
    for trial in 0..40 {
        copy.put_back(dir.path());
        let keep = usize::try_from(random(&mut seed)).unwrap() % copy.0[0].len();
        fs::write(dir.path().join(FILES[0]), &copy.0[0][..keep]).unwrap();
        told += u32::from(!whole_or_told(&dir, &acked, &format!("trial {trial}, {keep} bytes kept")).await);
    }
    assert!(told > 0, "no cut was told");
}

#[tokio::test]
async fn an_older_copy_of_the_file_is_told() {
    let dir = TempDir::new("older");
    let store = embedded::open(dir.path()).unwrap();
    put(&store, k("a"), "old").await;
    drop(store);
    let older = Copy::of(dir.path());
    let store = embedded::open(dir.path()).unwrap();
    put(&store, k("a"), "new").await;
    drop(store);
    fs::write(dir.path().join(FILES[0]), &older.0[0]).unwrap();
    let error = embedded::open(dir.path()).unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, Error::Corrupt { .. }), "{error:?}");
    assert!(text.contains("lacks its last 1 acknowledged") && text.contains("raise-epoch"), "{text}");
    // On purpose: the person deletes the mark, as the message says.
    fs::remove_file(dir.path().join(FILES[1])).unwrap();
    let store = embedded::open(dir.path()).unwrap();
    assert_eq!(store.get(&k("a")).await.unwrap().unwrap().value, b"old");
}

/// The child's part: puts until the disk is full, and says so.
#[tokio::test]
async fn child_that_writes_until_the_disk_is_full() {
    let Some(dir) = std::env::var_os(ROLE) else { return };
    let store = embedded::open(dir.as_ref()).unwrap();
    for step in 0.. {
        let name = format!("{}-{step}", std::process::id());
        let txn = Txn::new().put(k(&name), name.clone().into_bytes()).put(k("ballast"), vec![7; 200_000]);
        match store.txn(txn).await {
            Ok(_) => println!("ack {name}"),
            Err(error) => {
                println!("first {error}");
                println!("then {}", store.txn(Txn::new().put(k("b"), vec![])).await.unwrap_err());
                return;
            }
        }
    }
}

/// Runs the child where no file may grow beyond so many blocks of 512 bytes.
fn child_on_a_small_disk(dir: &TempDir, blocks: u32) -> Vec<String> {
    let limited = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" \"$@\"");
    let mut child = Command::new("sh")
        .args(["-c", &limited])
        .arg(std::env::current_exe().unwrap())
        .args(["damage::child_that_writes_until_the_disk_is_full", "--exact", "--nocapture"])
        .env(ROLE, dir.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap).collect();
    assert!(child.wait().unwrap().success());
    lines
}

#[tokio::test]
async fn a_file_that_may_not_grow_is_told_and_loses_nothing() {
    let dir = TempDir::new("full");
    let mut acked = Vec::new();
    // 4 MiB, then the operator makes room, 12 MiB.
    for blocks in [8192, 24_576] {
        let lines = child_on_a_small_disk(&dir, blocks);
        let said = |start: &str| {
            let found = lines.iter().find_map(|line| line.strip_prefix(start));
            found.unwrap_or_else(|| panic!("no {start:?} in {lines:?}")).to_owned()
        };
        assert!(said("first ").contains("not known whether the write took place"), "{}", said("first "));
        assert!(said("then ").contains("check the disk and restart the process"), "{}", said("then "));
        let names = lines.iter().filter_map(|line| line.strip_prefix("ack "));
        let before = acked.len();
        acked.extend(names.map(str::to_owned));
        assert!(acked.len() > before + 5, "{blocks} blocks: {lines:?}");
        let store = embedded::open(dir.path()).unwrap();
        for name in &acked {
            let entry = store.get(&k(name)).await.unwrap();
            assert_eq!(entry.map(|entry| entry.value), Some(name.clone().into_bytes()), "{name} is lost");
        }
        put(&store, k("on it goes"), "x").await;
    }
}
