//! The embedded twin against `kill -9`, a second process, restarts, and damaged files.
//!
//! Assumes: the test binary can run itself again; as a child it does what `ROLE` says and is killed.
//! Read next: `faults.rs` for the loss of power.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use store::{Compare, Error, LeaseId, Revision, Store, Txn, WatchEvent, embedded};

use crate::twins::{DrivenClock, TempDir, next};
use crate::txn::{delete, put};
use crate::{all, k};

const ROLE: &str = "FLARESHIFT_STORE_TEST_DIR";

/// The child's part: four writers put numbered keys and say so once each is acknowledged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_that_writes_until_it_is_killed() {
    let Some(dir) = std::env::var_os(ROLE) else { return };
    let store = embedded::open(dir.as_ref()).unwrap();
    println!("ready");
    let writers: Vec<_> = (0..4)
        .map(|who: u64| {
            let store = store.clone();
            tokio::spawn(async move {
                for step in 0.. {
                    let name = format!("{}-{who}-{step}", std::process::id());
                    let txn =
                        Txn::new().when(Compare::Absent(k(&name))).put(k(&name), name.clone().into_bytes());
                    assert!(store.txn(txn).await.unwrap().succeeded);
                    println!("ack {name}");
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
}

pub fn spawn_child(dir: &TempDir) -> (Child, BufReader<ChildStdout>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["crash::child_that_writes_until_it_is_killed", "--exact", "--nocapture"])
        .env(ROLE, dir.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while !line.ends_with("ready\n") {
        line.clear();
        assert!(lines.read_line(&mut line).unwrap() > 0, "the child ended before it was ready");
    }
    (child, lines)
}

/// The acknowledged names, up to `count` of them before the kill and whatever else was in the pipe.
pub fn kill_after(count: usize, mut child: Child, lines: BufReader<ChildStdout>) -> Vec<String> {
    let mut acked = Vec::new();
    for line in lines.lines() {
        let line = line.unwrap();
        // Should the kill cut the last line, its name is the start of a longer one, whose step came earlier.
        acked.extend(line.strip_prefix("ack ").map(str::to_owned));
        if acked.len() == count {
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    acked
}

#[tokio::test]
async fn kill_9_loses_nothing_that_was_acknowledged() {
    let dir = TempDir::new("kill");
    let mut acked = Vec::new();
    for count in [1, 7, 40, 3, 111] {
        let (child, lines) = spawn_child(&dir);
        acked.extend(kill_after(count, child, lines));
        let store = embedded::open(dir.path()).unwrap();
        for name in &acked {
            let entry = store.get(&k(name)).await.unwrap();
            assert_eq!(entry.map(|entry| entry.value), Some(name.clone().into_bytes()), "{name} is lost");
        }
        check_whole(&store).await;
    }
    assert!(acked.len() >= 162, "{}", acked.len());
}

/// Each key was created in a revision of its own, and the revisions have no gap.
pub async fn check_whole(store: &Store) {
    let range = store.range(&all()).await.unwrap();
    let mut revisions: Vec<u64> = range.entries.iter().map(|entry| entry.create_revision.0).collect();
    revisions.sort_unstable();
    let expected: Vec<u64> = (2..=range.revision.0).collect();
    assert_eq!(revisions, expected);
}

#[tokio::test]
async fn a_second_process_is_refused_and_told_why() {
    let dir = TempDir::new("second");
    let (mut child, lines) = spawn_child(&dir);
    let error = embedded::open(dir.path()).unwrap_err();
    child.kill().unwrap();
    child.wait().unwrap();
    drop(lines);
    let Error::Locked { holder, lock, .. } = &error else { panic!("{error:?}") };
    assert_eq!((*holder, lock.clone()), (Some(child.id()), dir.path().join("LOCK")));
    let text = error.to_string();
    assert!(text.contains("LOCK") && text.contains("stop that process"), "{text}");
    embedded::open(dir.path()).expect("the lock went with the process");
}

#[tokio::test]
async fn a_second_store_in_this_process_is_refused_too() {
    let dir = TempDir::new("twice");
    let first = embedded::open(dir.path()).unwrap();
    assert!(matches!(embedded::open(dir.path()), Err(Error::Locked { .. })));
    drop(first);
    embedded::open(dir.path()).unwrap();
}

#[tokio::test]
async fn a_restart_changes_nothing() {
    let dir = TempDir::new("restart");
    let first = embedded::open(dir.path()).unwrap();
    for round in 0..3 {
        put(&first, k("a"), &round.to_string()).await;
    }
    let compacted = delete(&first, k("a")).await;
    put(&first, k("a"), "new life").await;
    first.compact(compacted).await.unwrap();
    let last = put(&first, k("b"), "2").await;
    let before = first.range(&all()).await.unwrap();
    drop(first);

    let second = embedded::open(dir.path()).unwrap();
    assert_eq!(second.range(&all()).await.unwrap(), before);
    // The history since the compaction is there again too.
    let mut watch = second.watch(&all(), Some(compacted.next()));
    assert_eq!(next(&mut watch).await.revision(), compacted.next());
    assert_eq!(next(&mut watch).await.revision(), last);
    let mut watch = second.watch(&all(), Some(compacted));
    assert_eq!(next(&mut watch).await, WatchEvent::Snapshot(before));
    assert_eq!(put(&second, k("c"), "3").await, last.next());
}

#[tokio::test]
async fn a_lease_has_its_full_time_again_after_a_restart() {
    let dir = TempDir::new("lease");
    let driven = DrivenClock::default();
    let open = || embedded::open_with_clock(dir.path(), driven.clock()).unwrap();
    let first = open();
    let lease = first.lease_grant(Duration::from_secs(10)).await.unwrap().id;
    let ended = first.lease_grant(Duration::from_secs(10)).await.unwrap().id;
    first.txn(Txn::new().put_leased(k("a"), vec![], lease)).await.unwrap();
    first.lease_revoke(ended).await.unwrap();
    driven.advance(Duration::from_secs(9));
    drop(first);

    driven.advance(Duration::from_secs(60));
    let second = open();
    assert!(matches!(second.lease_keep_alive(ended).await, Err(Error::LeaseNotFound { .. })));
    let fresh = second.lease_grant(Duration::from_secs(60)).await.unwrap().id;
    assert!(fresh > ended && fresh != LeaseId(0), "ids are not used again");
    let mut watch = second.watch(&all(), None);
    assert_eq!(next(&mut watch).await.revision(), Revision(2));
    driven.advance(Duration::from_secs(9));
    // A write makes the writer look at the leases: the key is still there.
    put(&second, k("b"), "x").await;
    assert!(second.get(&k("a")).await.unwrap().is_some());
    driven.advance(Duration::from_secs(1));
    put(&second, k("b"), "y").await;
    assert!(second.get(&k("a")).await.unwrap().is_none());
}

#[tokio::test]
async fn a_file_cut_short_is_refused_and_left_alone() {
    let dir = TempDir::new("cut");
    let store = embedded::open(dir.path()).unwrap();
    put(&store, k("a"), "x").await;
    drop(store);
    let path = dir.path().join("store.redb");
    let whole = std::fs::read(&path).unwrap();
    for keep in [0, 1, 100, whole.len() / 2] {
        std::fs::write(&path, &whole[..keep]).unwrap();
        let error = embedded::open(dir.path()).unwrap_err();
        assert!(matches!(error, Error::Corrupt { .. }), "{keep}: {error:?}");
        assert_eq!(std::fs::read(&path).unwrap().len(), keep, "the damaged file is evidence");
    }
    std::fs::write(&path, &whole).unwrap();
    assert!(embedded::open(dir.path()).unwrap().get(&k("a")).await.unwrap().is_some());
}

#[tokio::test]
async fn a_half_made_file_is_made_anew() {
    let dir = TempDir::new("half");
    std::fs::write(dir.path().join("store.redb.new"), b"half").unwrap();
    let store = embedded::open(dir.path()).unwrap();
    put(&store, k("a"), "x").await;
}

#[tokio::test]
async fn a_directory_that_cannot_be_made_says_so() {
    let dir = TempDir::new("file");
    let file = dir.path().join("file");
    std::fs::write(&file, b"").unwrap();
    let error = embedded::open(&file.join("store")).unwrap_err();
    assert!(error.to_string().contains("choose a data directory"), "{error}");
}

#[tokio::test]
async fn a_closed_store_ends_its_watches() {
    let dir = TempDir::new("closed");
    let store = embedded::open(dir.path()).unwrap();
    let mut watch = store.watch(&all(), None);
    next(&mut watch).await;
    drop(store);
    assert!(matches!(watch.next().await, Err(Error::Unavailable { .. })));
}

#[tokio::test]
async fn the_history_is_bounded() {
    let dir = TempDir::new("history");
    let store = embedded::open(dir.path()).unwrap();
    let mut slow = store.watch(&all(), None);
    next(&mut slow).await;
    // 10,000 revisions are kept; the oldest go when there are more.
    let mut tasks = Vec::new();
    for who in 0..64 {
        let store = store.clone();
        tasks.push(tokio::spawn(async move {
            for _ in 0..180 {
                put(&store, k(who), "x").await;
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    let last = put(&store, k("last"), "x").await;
    let event = next(&mut slow).await;
    assert!(matches!(&event, WatchEvent::Snapshot(range) if range.entries.len() == 65), "{event:?}");
    assert_eq!(event.revision(), last);
}

#[tokio::test]
async fn an_address_opens_the_directory() {
    let dir = TempDir::new("address");
    let address = format!("embedded:{}", dir.path().join("made/on/the/way").display());
    let store = store::open(&address).await.unwrap();
    put(&store, k("a"), "x").await;
    assert!(matches!(store::open(&address).await, Err(Error::Locked { .. })));
}

/// A row of the store's log table: key, value, lease.
type LogRow = (&'static str, Option<&'static [u8]>, i64);

/// Changes a closed store's file behind its back.
fn tamper(dir: &TempDir, change: impl FnOnce(&redb::WriteTransaction)) {
    let database = redb::Database::open(dir.path().join("store.redb")).unwrap();
    let transaction = database.begin_write().unwrap();
    change(&transaction);
    transaction.commit().unwrap();
}

#[test]
fn a_file_of_a_newer_format_is_refused() {
    let dir = TempDir::new("newer");
    drop(embedded::open(dir.path()).unwrap());
    tamper(&dir, |transaction| {
        let meta: redb::TableDefinition<&str, u64> = redb::TableDefinition::new("meta");
        transaction.open_table(meta).unwrap().insert("format", 2).unwrap();
    });
    let error = embedded::open(dir.path()).unwrap_err();
    assert!(matches!(error, Error::Newer { found: 2, known: 1, .. }), "{error:?}");
}

#[tokio::test]
async fn a_log_with_a_gap_is_refused() {
    let dir = TempDir::new("gap");
    let store = embedded::open(dir.path()).unwrap();
    for name in ["a", "b", "c"] {
        put(&store, k(name), "x").await;
    }
    drop(store);
    tamper(&dir, |transaction| {
        let log: redb::TableDefinition<(u64, u32), LogRow> = redb::TableDefinition::new("log");
        assert!(transaction.open_table(log).unwrap().remove((3, 0)).unwrap().is_some());
    });
    let error = embedded::open(dir.path()).unwrap_err();
    assert!(matches!(error, Error::Corrupt { .. }) && error.to_string().contains("revision 3"), "{error:?}");
}
