//! Child processes: the real binaries, their output kept in files, killed at the latest when a test ends.
//!
//! Read next: `cli.rs` for one command and its answer, `fleet.rs` for controller and agents.

use std::fs::File;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use super::wait_for;

/// What a failing test shows of a process's log.
const TAIL_BYTES: usize = 4_000;

/// A process that runs.
pub struct Process {
    child: Child,
    name: String,
    out: PathBuf,
    err: PathBuf,
}

/// How a process ended.
pub struct Ended {
    /// Exit code; `None` after a signal.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// A program of ours, beside this test's executable.
pub fn binary(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    // target/PROFILE/deps/main-HASH: the binaries stand one directory up.
    let path = test.parent().and_then(Path::parent).unwrap().join(name);
    assert!(
        path.exists(),
        "{} is not there: run `cargo build --workspace --bins` before these tests",
        path.display()
    );
    path
}

impl Process {
    /// Starts one of our programs. What it prints goes to `dir`, a start after another behind the first.
    pub fn start(program: &str, args: &[&str], dir: &Path, name: &str) -> Self {
        Self::spawn(Self::command(program).args(args), dir, name)
    }

    /// One of our programs. What the caller's shell sets for a fleet of his own must not reach a test.
    fn command(program: &str) -> Command {
        let mut command = Command::new(binary(program));
        let settings = std::env::vars_os().map(|(key, _)| key);
        for key in settings.filter(|key| key.to_string_lossy().starts_with("FLARESHIFT_")) {
            command.env_remove(key);
        }
        command
    }

    /// The same with variables set.
    pub fn start_under(
        program: &str,
        args: &[&str],
        environment: &[(&str, &str)],
        dir: &Path,
        name: &str,
    ) -> Self {
        let mut command = Self::command(program);
        Self::spawn(command.args(args).envs(environment.iter().copied()), dir, name)
    }

    /// Starts any command likewise.
    pub fn spawn(command: &mut Command, dir: &Path, name: &str) -> Self {
        let file = |kind: &str| dir.join(format!("{name}.{kind}"));
        let open = |path: &Path| File::options().create(true).append(true).open(path).unwrap();
        let (out, err) = (file("out"), file("err"));
        let command = command.stdin(Stdio::null()).stdout(open(&out)).stderr(open(&err));
        let child = command.spawn().unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        Self { child, name: name.to_owned(), out, err }
    }

    pub fn stdout(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.out).unwrap_or_default()).into_owned()
    }

    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.err).unwrap_or_default()).into_owned()
    }

    /// Its number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The end of its log, for a failure's message.
    pub fn tail(&self) -> String {
        let text = self.stderr();
        let from = text.len().saturating_sub(TAIL_BYTES);
        let from = (from..=text.len()).find(|&at| text.is_char_boundary(at)).unwrap_or(0);
        format!("the end of {}:\n{}", self.err.display(), &text[from..])
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits until it has written a line that contains `text` to its log.
    pub fn wait_for_line(&mut self, text: &str, patience: Duration) -> String {
        wait_for(&format!("{} logs {text:?}", self.name), patience, || {
            let found = self.stderr().lines().find(|line| line.contains(text)).map(str::to_owned);
            found.ok_or_else(|| self.tail())
        })
    }

    /// Lines of its log that contain `text`.
    pub fn count_lines(&self, text: &str) -> usize {
        self.stderr().lines().filter(|line| line.contains(text)).count()
    }

    /// Waits until it has logged such a line more often than `before`.
    pub fn wait_for_another_line(&self, text: &str, before: usize, patience: Duration) {
        wait_for(&format!("{} logs {text:?} again", self.name), patience, || {
            if self.count_lines(text) > before { Ok(()) } else { Err(self.tail()) }
        });
    }

    /// SIGKILL: it gets no chance to tidy up.
    pub fn kill_nine(mut self) {
        assert!(self.is_running(), "{} ended before it was killed; {}", self.name, self.tail());
        self.child.kill().unwrap();
        let status = self.child.wait().unwrap();
        assert_eq!(status.signal(), Some(9), "{} ended by {status}", self.name);
    }

    /// SIGTERM: asks it to end.
    pub fn terminate(&mut self) {
        self.signal("TERM");
    }

    /// Any signal, by its name without SIG.
    pub fn signal(&mut self, name: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &id]).status().unwrap().success());
    }

    /// Waits for its end.
    pub fn end(mut self, patience: Duration) -> Ended {
        let status: ExitStatus = wait_for(&format!("{} ends", self.name), patience, || {
            self.child.try_wait().unwrap().ok_or_else(|| self.tail())
        });
        let (stdout, stderr) = (self.stdout(), self.stderr());
        Ended { code: status.code(), stdout, stderr }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself: then there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
