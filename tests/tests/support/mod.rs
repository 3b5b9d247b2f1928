//! What the end-to-end tests stand on: processes, an etcd, directories, ports, the command line, the ledger's files.
//!
//! Assumes that the binaries stand beside the test's own executable (`cargo build --workspace --bins` puts them there). Nothing
//! here waits a fixed time: [`wait_for`] asks until a condition holds or a generous deadline has passed.
//! Read next: `process.rs`.

pub mod certificates;
pub mod cli;
pub mod cluster;
pub mod dev;
pub mod etcd;
pub mod fleet;
pub mod history;
pub mod installation;
pub mod ledger;
pub mod link;
pub mod load;
pub mod process;
pub mod prometheus;
pub mod small_disk;
pub mod witness;

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// For what takes a second on an idle machine and much longer on one that compiles beside.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Pause between two looks at a condition.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Ports come from below the range out of which the kernel serves connections (32768 and up): a process that is started again
/// finds its port still free, although hundreds of simulated miners take ports meanwhile.
const PORTS: (u16, u16) = (20_000, 32_000);

/// Held by every test that simulates a fleet for a while: side by side they would only measure each other.
pub fn alone() -> MutexGuard<'static, ()> {
    static SIMULATES: Mutex<()> = Mutex::new(());
    // The test that failed holding it has said why; the next one starts afresh.
    SIMULATES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Held by every test that starts processes again and again, and mostly waits for their leases: one of them goes beside one that
/// is [`alone`].
pub fn waits() -> MutexGuard<'static, ()> {
    static WAITS: Mutex<()> = Mutex::new(());
    WAITS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Asks until `look` answers something; fails with `what` and the last reason when `patience` is over.
pub fn wait_for<T>(what: &str, patience: Duration, mut look: impl FnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + patience;
    loop {
        match look() {
            Ok(found) => return found,
            Err(why) if Instant::now() >= deadline => panic!("{what}: not within {patience:?}: {why}"),
            Err(_) => std::thread::sleep(LOOK_EVERY),
        }
    }
}

/// A directory that goes away with its owner.
#[derive(Debug)]
pub struct TempDir(PathBuf);

impl TempDir {
    pub fn new(name: &str) -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{name}-{}-{count}", std::process::id());
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// A path below it, as text.
    pub fn at(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }

    /// Writes a file below it; answers its path.
    pub fn write(&self, name: &str, text: &str) -> String {
        std::fs::write(self.0.join(name), text).unwrap();
        self.at(name)
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        // A failing test leaves what it wrote, so that it can be looked at.
        if !std::thread::panicking() {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}

/// A loopback address on which nothing listens.
pub fn free_address() -> String {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let span = PORTS.1 - PORTS.0;
    // Two runs of the tests beside each other begin at different places.
    let begin = u16::try_from(std::process::id() % u32::from(span)).unwrap();
    for _ in 0..span {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let address = format!("127.0.0.1:{}", PORTS.0 + begin.wrapping_add(step) % span);
        if TcpListener::bind(&address).is_ok() {
            return address;
        }
    }
    panic!("no port from {} to {} is free", PORTS.0, PORTS.1);
}

/// A path in the repository.
pub fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join(path)
}
