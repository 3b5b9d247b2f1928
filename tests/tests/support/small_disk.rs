//! A disk of a few megabytes that can be filled up: a tmpfs in a mount namespace of its own, in which programs are started.
//!
//! Assumes that this machine lets a user make namespaces; where it does not, the test says so and is skipped.
//! Read next: `../faults/disk.rs`.

use std::process::Command;

use super::process::{Process, binary};
use super::{PATIENCE, TempDir, wait_for};

/// The disk, and the process that keeps its namespace.
pub struct SmallDisk {
    holder: Process,
    /// Where it is mounted.
    pub path: String,
}

impl SmallDisk {
    pub fn mount_or_skip(dir: &TempDir, kib: u64) -> Option<Self> {
        let path = dir.at("small");
        std::fs::create_dir_all(&path).unwrap();
        let script = format!(
            "mount -t tmpfs -o size={kib}k tmpfs {path} && touch {path}/is-mounted && echo mounted >&2 && exec sleep infinity"
        );
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "sh", "-c", &script]);
        let mut holder = Process::spawn(&mut command, dir.path(), "small-disk");
        let mounted = wait_for("the disk is mounted or refused", PATIENCE, || {
            match (holder.stderr().contains("mounted"), holder.is_running()) {
                (true, true) => Ok(true),
                (_, false) => Ok(false),
                (false, true) => Err("not yet".to_owned()),
            }
        });
        if !mounted {
            eprintln!("SKIPPED: no mount namespace may be made here: {}", holder.stderr().trim());
            return None;
        }
        Some(Self { holder, path })
    }

    /// One of our programs, with this disk in sight.
    pub fn start(&self, program: &str, args: &[&str], dir: &TempDir, name: &str) -> Process {
        let mut command = self.enter();
        Process::spawn(command.arg(binary(program)).args(args), dir.path(), name)
    }

    /// The same for a program that is installed on this machine.
    pub fn start_installed(&self, program: &str, args: &[&str], dir: &TempDir, name: &str) -> Process {
        Process::spawn(self.enter().arg(program).args(args), dir.path(), name)
    }

    /// Writes until nothing fits any more.
    pub fn fill(&self) {
        self.run(&format!("cat /dev/zero > {0}/filler; sync {0}/filler; true", self.path));
    }

    /// Makes the room again that [`fill`](Self::fill) took.
    pub fn make_room(&self) {
        self.run(&format!("rm {}/filler", self.path));
    }

    /// A shell command with this disk in sight; answers what it says.
    pub fn run(&self, script: &str) -> String {
        let asked = self.enter().args(["sh", "-c", script]).output().unwrap();
        assert!(asked.status.success(), "{script}: {}", String::from_utf8_lossy(&asked.stderr));
        String::from_utf8(asked.stdout).unwrap()
    }

    fn enter(&self) -> Command {
        let mut command = Command::new("nsenter");
        let target = self.holder.id().to_string();
        command.args(["--target", &target, "--user", "--mount", "--preserve-credentials"]);
        // The working directory would be the one of the namespace's root.
        command.arg(format!("--wdns={}", std::env::current_dir().unwrap().display()));
        command
    }
}
