//! The proxy under load, in a process of its own: `agent`'s proxy with its real outbox on disk. And the yardstick beside it: a
//! pool in such a process, which answers the same miners and does nothing else.
//!
//! Assumes Linux's /proc. Next: `agent::proxy`, `pool.rs`.

use agent::outbox::Outbox;
use agent::proxy::{Config, Groups, Proxy, Sabotage, Upstreams};
use anyhow::Context;
use model::time::{Clock, Sleep};
use model::{MinerGroupId, ModuleId, Span, Time};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use stratum::target::Difficulty;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

/// The kernel's unit in /proc/PID/stat, 100 Hz wherever Linux runs.
const TICKS_PER_SECOND: f64 = 100.0;
/// All but one in 65,536 hashes meet it.
pub const EXPONENT: i16 = -32;

pub struct Child {
    process: tokio::process::Child,
    pub address: SocketAddr,
    data: PathBuf,
}

impl Child {
    /// The proxy, between its miners and `pool`.
    pub async fn proxy(pool: &str) -> anyhow::Result<Child> {
        let data = std::env::temp_dir().join(format!("stratum-load-{}", std::process::id()));
        Child::start(&["proxy".as_ref(), pool.as_ref(), data.as_os_str()], data.clone()).await
    }

    /// The yardstick.
    pub async fn yardstick() -> anyhow::Result<Child> {
        Child::start(&["yardstick".as_ref()], PathBuf::new()).await
    }

    async fn start(args: &[&std::ffi::OsStr], data: PathBuf) -> anyhow::Result<Child> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(args).stdout(Stdio::piped()).kill_on_drop(true);
        let mut process = command.spawn().context("the process under load does not start")?;
        let output = process.stdout.take().context("no output of the process under load")?;
        let line =
            BufReader::new(output).lines().next_line().await?.context("the process under load ended")?;
        Ok(Child { process, address: line.parse()?, data })
    }

    /// User and system time so far.
    pub fn cpu(&self) -> anyhow::Result<Duration> {
        let text = std::fs::read_to_string(format!("/proc/{}/stat", self.id()?))?;
        // The name may hold blanks; it ends with the last bracket.
        let rest = text.rsplit_once(')').context("stat has a name")?.1;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let ticks: f64 = fields[11].parse::<f64>()? + fields[12].parse::<f64>()?;
        Ok(Duration::from_secs_f64(ticks / TICKS_PER_SECOND))
    }

    pub fn memory_kib(&self) -> anyhow::Result<u64> {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.id()?))?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("status has VmRSS")?;
        Ok(line.trim().trim_end_matches("kB").trim().parse()?)
    }

    fn id(&self) -> anyhow::Result<u32> {
        self.process.id().context("the proxy has ended")
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.process.start_kill();
        if !self.data.as_os_str().is_empty() {
            let _ = std::fs::remove_dir_all(&self.data);
        }
    }
}

#[derive(Debug)]
struct WallClock;

impl Clock for WallClock {
    fn now(&self) -> Time {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Time(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }

    fn sleep_until(&self, _: Time) -> Sleep {
        Box::pin(std::future::pending())
    }
}

/// Serves until it is killed; its first line is its address.
pub async fn serve(pool: String, data: PathBuf) -> anyhow::Result<()> {
    let clock = Arc::new(WallClock);
    let outbox = Outbox::open(&data, &ModuleId::new("load")?, "boot", clock.now(), None)?;
    let difficulty = Difficulty::power_of_two(EXPONENT)?;
    let mut session = stratum::downstream::Config::default();
    // The difficulty stands still: a flood is what is wanted here.
    (session.vardiff.floor, session.vardiff.ceiling, session.vardiff.start) =
        (difficulty, difficulty, difficulty);
    session.seen_budget = 4 << 20;
    let config = Config {
        listen: "127.0.0.1:0".parse()?,
        pool,
        account: "acct".to_owned(),
        password: "x".to_owned(),
        upstreams: Upstreams::default(),
        max_connections: 20_000,
        groups: Groups::new(BTreeMap::new(), MinerGroupId::new("miners")?),
        first_slice: 0,
        window: Span::minutes(10),
        session,
        sabotage: Sabotage::default(),
    };
    let proxy = Proxy::start(config, Arc::clone(&clock) as Arc<dyn Clock>, Box::new(outbox.clone())).await?;
    println!("{}", proxy.handle().address());
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let (outbox, now) = (outbox.clone(), clock.now());
        // As the agent does: on the disk each second, and sealed before it grows large.
        tokio::task::spawn_blocking(move || outbox.sync().and_then(|()| outbox.seal(now).map(drop)))
            .await??;
        anyhow::ensure!(proxy.handle().stats().balanced, "the books do not balance");
    }
}
