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
        let installed = Command::new("etcd").arg("--version").stdout(Stdio::null()).status().is_ok();
        let required = std::env::var("FLARESHIFT_REQUIRE_ETCD").is_ok_and(|value| value == "1");
        assert!(
            installed || !required,
            "FLARESHIFT_REQUIRE_ETCD=1, but no etcd is on the PATH: install etcd-server"
        );
        if !installed {
            eprintln!("SKIPPED: no etcd on the PATH (install etcd-server)");
            return None;
        }
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
