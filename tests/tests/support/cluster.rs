//! An etcd of three members on loopback: each is killed and started again, all are restored from a snapshot, history is compacted.
//!
//! Read next: `history.rs`, which reads what was written there without any code of ours.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use super::cli::text;
use super::etcd::installed_or_skip;
use super::process::{Ended, Process};
use super::{PATIENCE, TempDir, free_address, wait_for};

/// How many there are: one may be gone, two may not.
pub const MEMBERS: usize = 3;

/// Three servers and what they need to come back.
pub struct Cluster {
    dir: TempDir,
    members: Vec<Member>,
    /// Restores so far: each makes a cluster of its own, and directories of its own.
    restores: u32,
}

struct Member {
    name: String,
    address: String,
    peer: String,
    process: Option<Process>,
}

impl Cluster {
    /// A cluster that does not run yet. `None`, with a line that says so, where no etcd is installed and none is required.
    pub fn ready_or_skip() -> Option<Self> {
        installed_or_skip("etcdctl").filter(|()| installed_or_skip("etcd").is_some())?;
        let member = |index: usize| Member {
            name: format!("m{index}"),
            address: free_address(),
            peer: free_address(),
            process: None,
        };
        let members = (0..MEMBERS).map(member).collect();
        Some(Self { dir: TempDir::new("cluster"), members, restores: 0 })
    }

    /// Where clients ask each member.
    pub fn addresses(&self) -> Vec<String> {
        self.members.iter().map(|member| member.address.clone()).collect()
    }

    /// Starts whoever does not run, and waits until there is a leader among them.
    pub fn start(&mut self) {
        for index in 0..MEMBERS {
            if self.members[index].process.is_none() {
                self.start_one(index);
            }
        }
        wait_for("etcd has a leader", PATIENCE, || self.ask(&["endpoint", "health"]).map(drop));
    }

    /// Starts one member on what it has.
    pub fn start_one(&mut self, index: usize) {
        let member = &self.members[index];
        let (client, peer) = (format!("http://{}", member.address), format!("http://{}", member.peer));
        let mut command = Command::new("etcd");
        command
            .args(["--data-dir", &self.data(index), "--name", &member.name, "--log-level", "error"])
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &self.peers(), "--initial-cluster-token", &self.token()]);
        let process = Process::spawn(&mut command, self.dir.path(), &member.name);
        self.members[index].process = Some(process);
    }

    /// kill -9 of one member.
    pub fn kill(&mut self, index: usize) {
        self.members[index].process.take().unwrap().kill_nine();
    }

    /// The member that leads the others.
    pub fn leader(&self) -> usize {
        wait_for("one member leads", PATIENCE, || {
            (0..MEMBERS)
                .find(|index| {
                    let status =
                        self.ask_at(&[&self.members[*index].address], &["endpoint", "status", "-w", "json"]);
                    let parsed =
                        status.ok().and_then(|text| serde_json::from_str::<serde_json::Value>(&text).ok());
                    parsed.is_some_and(|status| {
                        let status = &status[0]["Status"];
                        status["leader"] == status["header"]["member_id"]
                    })
                })
                .ok_or_else(|| "none says that it leads".to_owned())
        })
    }

    /// The answer of etcd's own client, or why there is none.
    pub fn ask(&self, args: &[&str]) -> Result<String, String> {
        let all: Vec<&str> = self.members.iter().map(|member| member.address.as_str()).collect();
        self.ask_at(&all, args)
    }

    fn ask_at(&self, members: &[&str], args: &[&str]) -> Result<String, String> {
        let Ended { code, stdout, stderr } = self.client(members, args, "etcdctl").end(PATIENCE);
        if code == Some(0) { Ok(stdout) } else { Err(format!("etcdctl {args:?}: {code:?} {stderr}")) }
    }

    /// etcd's own client as a process that goes on.
    pub fn client(&self, members: &[&str], args: &[&str], name: &str) -> Process {
        static COUNT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        let count = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let mut command = Command::new("etcdctl");
        command.env("ETCDCTL_API", "3").args(["--endpoints", &members.join(",")]).args(args);
        Process::spawn(&mut command, self.dir.path(), &format!("{name}-{count}"))
    }

    /// Throws history away up to a revision.
    pub fn compact(&self, revision: u64) {
        self.ask(&["compact", &revision.to_string()]).unwrap();
    }

    /// A backup as operators make it.
    pub fn save(&self, name: &str) -> String {
        let file = self.dir.at(name);
        self.ask_at(&[&self.members[0].address], &["snapshot", "save", &file]).unwrap();
        file
    }

    /// All members are killed and begin anew from a backup.
    pub fn restore(&mut self, backup: &str) {
        let begun = Instant::now();
        for index in 0..MEMBERS {
            if self.members[index].process.is_some() {
                self.kill(index);
            }
        }
        self.restores += 1;
        for index in 0..MEMBERS {
            let member = &self.members[index];
            let peer = format!("http://{}", member.peer);
            let args =
                ["snapshot", "restore", backup, "--name", &member.name, "--data-dir", &self.data(index)];
            let cluster = ["--initial-cluster", &self.peers(), "--initial-cluster-token", &self.token()];
            let own = ["--initial-advertise-peer-urls", peer.as_str()];
            let args = [&args[..], &cluster, &own].concat();
            self.ask_at(&[&member.address], &args).unwrap();
        }
        self.start();
        println!("etcd was restored from a backup and answers after {} ms", begun.elapsed().as_millis());
    }

    fn data(&self, index: usize) -> String {
        let name = format!("{}-{}", self.members[index].name, self.restores);
        text(Path::new(&self.dir.at(&name))).to_owned()
    }

    fn peers(&self) -> String {
        let peers = self.members.iter().map(|member| format!("{}=http://{}", member.name, member.peer));
        peers.collect::<Vec<_>>().join(",")
    }

    fn token(&self) -> String {
        format!("e2e-{}", self.restores)
    }
}
