//! A real etcd on loopback, which can be killed and started again on its data.
//!
//! Read next: `fleet.rs`.

use std::process::{Command, Stdio};

use super::process::Process;
use super::{TempDir, free_address};

/// The server and what it needs to come back.
pub struct Etcd {
    dir: TempDir,
    /// Where clients ask.
    pub address: String,
    peer: String,
    process: Option<Process>,
}

impl Etcd {
    /// An etcd that does not run yet. `None`, with a line that says so, where none is installed and none is required.
    pub fn ready_or_skip() -> Option<Self> {
        installed_or_skip("etcd")?;
        Some(Self { dir: TempDir::new("etcd"), address: free_address(), peer: free_address(), process: None })
    }

    /// The store's name for a controller.
    pub fn store(&self) -> String {
        format!("etcd://{}/e2e", self.address)
    }

    pub fn start(&mut self) {
        let (client, peer) = (format!("http://{}", self.address), format!("http://{}", self.peer));
        let mut command = Command::new("etcd");
        command
            .args(["--data-dir", &self.dir.at("data"), "--name", "one", "--log-level", "error"])
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("one={peer}")]);
        self.process = Some(Process::spawn(&mut command, self.dir.path(), "etcd"));
    }

    pub fn kill_nine(&mut self) {
        self.process.take().unwrap().kill_nine();
    }
}

/// Whether a program of etcd's is on the PATH. `None`, with a line that says so, where it is not and need not be.
pub fn installed_or_skip(program: &str) -> Option<()> {
    let asked = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    let required = std::env::var("FLARESHIFT_REQUIRE_ETCD").is_ok_and(|value| value == "1");
    assert!(
        asked.is_ok() || !required,
        "FLARESHIFT_REQUIRE_ETCD=1, but no {program} is on the PATH: install etcd-server and etcd-client"
    );
    if asked.is_err() {
        eprintln!("SKIPPED: no {program} on the PATH (install etcd-server and etcd-client)");
    }
    asked.ok().map(drop)
}
