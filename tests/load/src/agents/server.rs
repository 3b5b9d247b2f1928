//! The controller under load: its own program on an embedded store, with a fleet file made here. Its log is read as it comes.
//!
//! Assumes Linux's /proc. Next: `site.rs` for the fleet.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use service::tls::authority::Authority;

use crate::{Args, site};

/// The kernel's unit in /proc/PID/stat, 100 Hz wherever Linux runs.
const TICKS_PER_SECOND: f64 = 100.0;
/// Lines of the log that are kept, for the case that it ends.
const TAIL: usize = 20;

#[derive(Debug, Default)]
struct Log {
    /// Phrases that were logged, by when first.
    phrases: Vec<&'static str>,
    /// When a plan was committed.
    commits: BTreeMap<u64, Instant>,
    tail: Vec<String>,
}

/// What is waited for.
const PHRASES: [&str; 2] = ["fleet description loaded", "leading"];

pub struct Server {
    child: Child,
    program: PathBuf,
    dir: PathBuf,
    /// Where agents connect, as a URL.
    pub address: String,
    flags: Vec<String>,
    log: Arc<Mutex<Log>>,
}

impl Server {
    /// Starts it; with an authority it speaks TLS, and asks for certificates of that one.
    pub fn start(args: &Args, authority: Option<&Authority>) -> anyhow::Result<Server> {
        let beside = std::env::current_exe()?.with_file_name("flareshift-controller");
        let program = args.controller.clone().unwrap_or(beside);
        let dir = std::env::temp_dir().join(format!("agent-load-{}", std::process::id()));
        std::fs::create_dir_all(&dir)?;
        std::fs::write(dir.join("fleet.toml"), site::fleet(args.agents, args.per_site))?;
        let (grpc, rest) = (free(0)?, free(1)?);
        let mut flags = vec!["--listen".into(), grpc.clone(), "--rest".into(), rest];
        if let Some(authority) = authority {
            flags.extend(secure(authority, &dir)?);
        }
        let (child, log) = spawn(&program, &dir, &flags)?;
        let scheme = if authority.is_some() { "https" } else { "http" };
        Ok(Server { child, program, address: format!("{scheme}://{grpc}"), dir, flags, log })
    }

    pub fn kill_and_start_again(&mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        (self.child, self.log) = spawn(&self.program, &self.dir, &self.flags)?;
        Ok(())
    }

    /// Waits for one of [`PHRASES`] in the log.
    pub async fn wait_for(&mut self, phrase: &str, patience: Duration) -> anyhow::Result<()> {
        let begun = Instant::now();
        loop {
            {
                let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
                if log.phrases.contains(&phrase) {
                    return Ok(());
                }
                let ended = self.child.try_wait()?.is_some();
                let tail = || log.tail.join("\n");
                anyhow::ensure!(
                    !ended && begun.elapsed() < patience,
                    "no {phrase:?} in the log:\n{}",
                    tail()
                );
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// When each plan was committed.
    pub fn commits(&self) -> BTreeMap<u64, Instant> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).commits.clone()
    }

    /// User and system time so far.
    pub fn cpu(&self) -> anyhow::Result<Duration> {
        let text = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // The name may hold blanks; it ends with the last bracket.
        let rest = text.rsplit_once(')').context("stat has a name")?.1;
        let mut fields = rest.split_whitespace().skip(11);
        let mut ticks =
            || fields.next().and_then(|field| field.parse::<f64>().ok()).context("stat has CPU times");
        Ok(Duration::from_secs_f64((ticks()? + ticks()?) / TICKS_PER_SECOND))
    }

    pub fn memory_kib(&self) -> anyhow::Result<u64> {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("status has VmRSS")?;
        Ok(line.trim().trim_end_matches("kB").trim().parse()?)
    }

    /// Ends it and takes its directory away.
    pub fn end(mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Writes a controller's certificate and answers the flags that name it.
fn secure(authority: &Authority, dir: &Path) -> anyhow::Result<Vec<String>> {
    let files = authority.server(&["127.0.0.1"])?.serve(authority, dir, "controller")?;
    let given = [Some(files.certificate), Some(files.key), files.client_ca].into_iter().flatten();
    Ok(given.flat_map(|(flag, file)| [format!("--{flag}"), file.display().to_string()]).collect())
}

fn spawn(program: &Path, dir: &Path, flags: &[String]) -> anyhow::Result<(Child, Arc<Mutex<Log>>)> {
    let store = format!("embedded:{}", dir.join("store").display());
    let mut command = Command::new(program);
    command.args(["--store", &store, "--accept-simulated"]).args(flags);
    command.arg("--fleet").arg(dir.join("fleet.toml")).arg("--data").arg(dir.join("ledger"));
    let child = command.stderr(Stdio::piped()).stdin(Stdio::null()).spawn();
    let mut child = child.with_context(|| format!("{} does not start; build it first", program.display()))?;
    let lines = BufReader::new(child.stderr.take().context("no log of the controller")?).lines();
    let log = Arc::new(Mutex::new(Log::default()));
    let kept = Arc::clone(&log);
    // Ends with the process.
    std::thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            kept.lock().unwrap_or_else(PoisonError::into_inner).take(line);
        }
    });
    Ok((child, log))
}

impl Log {
    fn take(&mut self, line: String) {
        let plain = plain(&line);
        let new = PHRASES.iter().filter(|phrase| plain.contains(**phrase) && !self.phrases.contains(*phrase));
        let new: Vec<&'static str> = new.copied().collect();
        self.phrases.extend(new);
        if let Some(generation) = committed(&plain) {
            self.commits.insert(generation, Instant::now());
        }
        if line.contains("WARN") || line.contains("ERROR") {
            eprintln!("{line}");
        }
        self.tail.push(line);
        if self.tail.len() > TAIL {
            self.tail.remove(0);
        }
    }
}

/// A line without the colours of a terminal.
fn plain(line: &str) -> String {
    let mut parts = line.split('\u{1b}');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| text + part.split_once('m').map_or(part, |(_, rest)| rest))
}

/// The plan that a line of the log says is committed.
fn committed(line: &str) -> Option<u64> {
    let (_, rest) = line.split_once("plan committed generation=")?;
    rest.split_whitespace().next()?.parse().ok()
}

/// A loopback address on which nothing listens, below the ports that the agents' connections take: a controller that is started again
/// finds it free. Another for each range.
fn free(range: u16) -> anyhow::Result<String> {
    let begin = 20_000 + 1_000 * range + u16::try_from(std::process::id() % 10_000)?;
    let found = (begin..begin + 1_000).find_map(|port| TcpListener::bind(("127.0.0.1", port)).ok());
    Ok(found.context("no port is free")?.local_addr()?.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_is_read_out_of_a_coloured_line() {
        let line = "\u{1b}[2m2026-01-01T00:00:00Z\u{1b}[0m \u{1b}[32m INFO\u{1b}[0m controller::term: plan committed \
                    \u{1b}[3mgeneration\u{1b}[0m\u{1b}[2m=\u{1b}[0m17 \u{1b}[3mtook_ms\u{1b}[0m=3";
        assert_eq!(committed(&plain(line)), Some(17));
        assert_eq!(committed("plan refused generation=3"), None);
        let mut log = Log::default();
        log.take(line.to_owned());
        log.take("controller::leader: leading epoch=1".to_owned());
        assert_eq!((log.commits.len(), log.phrases.as_slice()), (1, ["leading"].as_slice()));
    }
}
