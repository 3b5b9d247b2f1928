//! The proxy alone, as its own process: a pool, a miner, kill -9, and a ledger in which every share has its one end.
//!
//! Assumes nothing of timing: each wait is for a condition, with a limit.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use api::proxy::proxy_service_client::ProxyServiceClient;
use api::proxy::{GetStatsRequest, Stats};
use model::ledger::{Line, Segment, ShareEnd};
use serde_json::json;
use sim::pool::{self, Pool};
use tonic::transport::Endpoint;

use crate::proxy::plain::Plain;
use crate::proxy::rig::until;

/// A directory with settings, data and logs; it goes away unless the test fails.
struct Place(PathBuf);

impl Place {
    fn new(pools: &[String]) -> Place {
        let pools = serde_json::to_string(pools).unwrap();
        Place::with(&format!(
            "listen = \"127.0.0.1:0\"\n[[account]]\nname = \"farm\"\npools = {pools}\n[limits]\nkeep_alive_after_seconds = 1\n"
        ))
    }

    fn with(settings: &str) -> Place {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let dir =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("alone-{}-{count}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let place = Place(dir);
        place.write(settings);
        place
    }

    fn write(&self, settings: &str) {
        fs::write(self.0.join("proxy.toml"), settings).unwrap();
    }

    fn data(&self) -> PathBuf {
        self.0.join("data")
    }

    /// Starts the program and waits until it says where miners connect.
    async fn start(&self, name: &str) -> (Process, SocketAddr) {
        let log = self.0.join(format!("{name}.log"));
        let child =
            program(&self.0.join("proxy.toml"), &self.data()).stderr(File::create(&log).unwrap()).spawn();
        let mut process = Process { child: child.unwrap(), log };
        until("it says where miners connect", || {
            assert!(process.child.try_wait().unwrap().is_none(), "it ended: {}", process.log());
            process.address().is_some()
        })
        .await;
        let address = process.address().unwrap();
        (process, address)
    }

    /// Shares by end, and how many there are, of all sealed segments.
    fn ledger(&self) -> BTreeMap<ShareEnd, u64> {
        let mut ends = BTreeMap::new();
        for entry in fs::read_dir(self.data().join("outbox")).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|extension| extension != "seg") {
                continue;
            }
            let text = fs::read_to_string(path).unwrap();
            let segment: Segment = serde_json::from_str(text.split_once('\n').unwrap().1).unwrap();
            for line in segment.lines {
                let Line::Shares(shares) = line else { panic!("nothing else is metered: {line:?}") };
                assert_eq!(shares.worker, "farm");
                *ends.entry(shares.end).or_default() += shares.count;
            }
        }
        ends
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let _ = fs::remove_dir_all(&self.0);
        }
    }
}

struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    fn address(&self) -> Option<SocketAddr> {
        let log = self.log();
        let line = log.lines().find(|line| line.contains("point miners here"))?;
        let rest = line.split_once("stratum+tcp://")?.1;
        rest.split_whitespace().next()?.parse().ok()
    }

    fn kill_nine(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args([name, &id]).status().unwrap().success());
    }

    /// Asks it to end; answers its exit code.
    async fn terminate(mut self) -> Option<i32> {
        self.signal("-TERM");
        until("it has ended", || self.child.try_wait().unwrap().is_some()).await;
        self.child.wait().unwrap().code()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself: then there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn program(settings: &Path, data: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_flareshift-agent"));
    command.arg("proxy").arg(settings).arg("--data").arg(data).stdin(Stdio::null());
    for (key, _) in std::env::vars_os().filter(|(key, _)| key.to_string_lossy().starts_with("FLARESHIFT_")) {
        command.env_remove(key);
    }
    command
}

async fn pool() -> Pool {
    let config = pool::Config {
        listen: "127.0.0.1:0".parse().unwrap(),
        seed: 5,
        mark: 0,
        difficulty: 2f64.powi(-20),
        job_every: Duration::from_secs(30),
        block_every: Duration::from_secs(36_000),
    };
    Pool::start(config).await.unwrap()
}

/// What the proxy says over the socket in its directory.
async fn stats(place: &Place) -> Stats {
    let path = place.data().join("agent.sock");
    let channel = Endpoint::from_shared(format!("unix:{}", path.display())).unwrap().connect().await.unwrap();
    ProxyServiceClient::new(channel).get_stats(GetStatsRequest {}).await.unwrap().into_inner()
}

/// Finds and submits so many shares, each of which is good, and the last of them once more; answers how many were sent.
async fn mine(plain: &mut Plain, count: u32) -> u64 {
    let mut share = json!(null);
    for _ in 0..count {
        let next = share[4].as_str().map_or(0, |nonce| u32::from_str_radix(nonce, 16).unwrap() + 1);
        share = plain.mine(next);
        assert_eq!(plain.call("mining.submit", share.clone()).await["result"], json!(true));
    }
    assert!(plain.call("mining.submit", share).await["error"].is_array(), "a duplicate");
    u64::from(count) + 1
}

#[tokio::test]
async fn a_farm_mines_through_it_and_no_kill_loses_a_share_or_counts_one_twice() {
    let pool = pool().await;
    let place = Place::new(&[pool.handle().address().to_string()]);
    let (first, address) = place.start("first").await;
    let mut plain = Plain::ready(address, "anyone.rig1").await;
    let mut sent = mine(&mut plain, 5).await;
    let said = stats(&place).await;
    assert_eq!((said.connections, said.total.unwrap().received.unwrap().shares), (1, sent));
    assert_eq!((said.workers.len(), said.workers[0].worker.as_str()), (1, "anyone.rig1"));
    let mode = fs::metadata(place.data().join("agent.sock")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "it is its owner's alone");
    first.kill_nine();

    // The dead one's socket and journal lie there; both are taken over.
    let (second, address) = place.start("second").await;
    let mut plain = Plain::ready(address, "anyone.rig1").await;
    sent += mine(&mut plain, 4).await;
    until("the pool has all of the second", || pool.handle().total().accepted >= 4).await;
    pool.handle().go_away(Duration::from_secs(3_600));
    let before = plain.notifications;
    while plain.notifications == before {
        plain.hear().await.expect("the miner stays and gets a job of ours");
    }
    assert_eq!(plain.submit_one(0).await["result"], json!(true));
    sent += 1;
    let said = stats(&place).await;
    assert!(said.balanced && said.upstreams[0].trouble.is_some());
    assert_eq!(second.terminate().await, Some(0));
    assert!(!place.data().join("agent.sock").exists());

    let ends = place.ledger();
    assert_eq!(ends.values().sum::<u64>(), sent, "each share that was answered, once: {ends:?}");
    assert_eq!(ends[&ShareEnd::Rejected("duplicate".into())], 2);
    assert_eq!(ends[&ShareEnd::KeepAlive], 1);
    let count = |end: ShareEnd| ends.get(&end).copied().unwrap_or(0);
    let (accepted, unknown) = (count(ShareEnd::Accepted), count(ShareEnd::Unknown));
    assert_eq!(accepted + unknown, 9, "what was forwarded");
    let paid = pool.handle().total().accepted;
    assert!((accepted..=accepted + unknown).contains(&paid), "{paid} paid, {ends:?}");
}

#[tokio::test]
async fn a_hangup_reads_the_weights_again_and_a_mistake_changes_nothing() {
    let settings = |weights: &[u64]| {
        let account = |(weight, name): (&u64, &str)| {
            format!("[[account]]\nname = \"{name}\"\nweight = {weight}\npools = [\"127.0.0.1:9\"]\n")
        };
        let accounts = weights.iter().zip(["farm", "partner"]).map(account);
        "listen = \"127.0.0.1:0\"\n".to_owned() + &accounts.collect::<String>()
    };
    let place = Place::with(&settings(&[1, 2]));
    let (process, _) = place.start("hangup").await;
    for (text, said) in [
        (settings(&[3, 4]), "weights were read again"),
        (settings(&[5]), "stop the proxy and start it again"),
        // The same accounts the other way round: by place, the partner's miners would work for the farm.
        (
            settings(&[1, 9]).replace("farm", "x").replace("partner", "farm").replace("\"x\"", "\"partner\""),
            "in another order",
        ),
        ("weights = 1".to_owned(), "the settings were not read again"),
    ] {
        place.write(&text);
        process.signal("-HUP");
        until("it says what it read", || process.log().contains(said)).await;
        let weights: Vec<u32> =
            stats(&place).await.upstreams.iter().map(|upstream| upstream.weight).collect();
        assert_eq!(weights, [3, 4], "after {text}");
    }
    assert!(process.log().contains("unknown field `weights`"), "{}", process.log());
    assert_eq!(process.terminate().await, Some(0));
}

#[tokio::test]
async fn it_says_what_it_lacks_and_ends_with_code_1() {
    let place = Place::new(&["pool.example:3333".into()]);
    let check = |settings: &str, expected: &str| {
        let path = place.0.join("wrong.toml");
        fs::write(&path, settings).unwrap();
        let done = program(&path, &place.data()).output().unwrap();
        let text = String::from_utf8(done.stderr).unwrap();
        assert_eq!(done.status.code(), Some(1), "{text}");
        assert!(text.contains(expected), "{text}");
    };
    check("pool = 1", "wrong.toml: line 1, column 1, at `pool = 1`: unknown field `pool`");
    check("", "no account; add [[account]]");
    let account = "[[account]]\nname = \"f\"\npools = [\"a:1\"]\n";
    check(&format!("tls_roots = \"none.pem\"\n{account}"), "cannot read the certificates");
    let (_running, address) = place.start("running").await;
    // The directory comes first: two proxies on one ledger would be worse than two on one port.
    check(&format!("listen = \"{address}\"\n{account}"), "in use by another process");
}
