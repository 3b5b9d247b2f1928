//! Makes the twins that the cases run on: temporary directories, a driven clock, a real etcd on loopback.
//!
//! Assumes: an etcd server counts its leases on real time, so there letting time pass means waiting.
//! Read next: `main.rs`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use store::{Clock, Store, WatchEvent};

/// A directory that goes away with its owner.
#[derive(Debug)]
pub struct TempDir(PathBuf);

impl TempDir {
    pub fn new(name: &str) -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let dir =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}-{count}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A clock that moves when it is told to.
#[derive(Clone, Debug, Default)]
pub struct DrivenClock(Arc<AtomicU64>);

impl DrivenClock {
    pub fn clock(&self) -> Clock {
        let millis = self.0.clone();
        Clock::from_fn(move || Duration::from_millis(millis.load(Ordering::SeqCst)))
    }

    pub fn advance(&self, by: Duration) {
        self.0.fetch_add(u64::try_from(by.as_millis()).unwrap(), Ordering::SeqCst);
    }
}

/// What a case gets: an empty store and a way to let time pass for its leases.
pub struct Ctx {
    pub store: Store,
    pub clock: Clock,
    time: Time,
}

enum Time {
    Driven(DrivenClock, #[allow(dead_code, reason = "held so that it is removed afterwards")] TempDir),
    #[cfg(feature = "etcd")]
    Real(#[allow(dead_code, reason = "held so that it runs")] Arc<Etcd>),
}

impl Ctx {
    pub fn embedded() -> Self {
        let dir = TempDir::new("embedded");
        let driven = DrivenClock::default();
        let clock = driven.clock();
        let store = store::embedded::open_with_clock(dir.path(), clock.clone()).unwrap();
        Self { store, clock, time: Time::Driven(driven, dir) }
    }

    /// Lets leases age.
    pub async fn pass(&self, time: Duration) {
        match &self.time {
            Time::Driven(driven, _) => driven.advance(time),
            #[cfg(feature = "etcd")]
            Time::Real(_) => tokio::time::sleep(time).await,
        }
    }
}

/// The next event, or a failure instead of a hang.
pub async fn next(watch: &mut store::Watch) -> WatchEvent {
    tokio::time::timeout(Duration::from_secs(20), watch.next()).await.expect("an event arrives").unwrap()
}

#[cfg(feature = "etcd")]
pub use real::Etcd;

#[cfg(feature = "etcd")]
mod real {
    use std::net::TcpListener;
    use std::process::{Child, Command, Stdio};
    use std::sync::Mutex;

    use super::*;

    /// A real etcd server on loopback; killed with its owner.
    pub struct Etcd {
        dir: TempDir,
        name: String,
        pub endpoint: String,
        peer: String,
        /// All members with their peer addresses.
        cluster: String,
        scheme: &'static str,
        extra: Vec<String>,
        child: Mutex<Option<Child>>,
    }

    impl Etcd {
        /// `None`, with a line that says so, where no etcd is installed and none is required.
        pub fn start_or_skip() -> Option<Self> {
            Self::start_with("http", Vec::new())
        }

        /// The same with flags of its own, for clients that come by `scheme`.
        pub fn start_with(scheme: &'static str, extra: Vec<String>) -> Option<Self> {
            let mut server = Self::new("one")?;
            (server.scheme, server.extra) = (scheme, extra);
            server.start();
            Some(server)
        }

        /// Members of one cluster.
        pub fn cluster_or_skip(names: &[&str]) -> Option<Vec<Self>> {
            let mut members = names.iter().map(|name| Self::new(name)).collect::<Option<Vec<Self>>>()?;
            let cluster: Vec<_> = members.iter().map(|member| member.cluster.clone()).collect();
            for member in &mut members {
                member.cluster = cluster.join(",");
                member.start();
            }
            Some(members)
        }

        fn new(name: &str) -> Option<Self> {
            let required = std::env::var("FLARESHIFT_REQUIRE_ETCD").is_ok_and(|value| value == "1");
            if Command::new("etcd").arg("--version").stdout(Stdio::null()).status().is_err() {
                assert!(
                    !required,
                    "FLARESHIFT_REQUIRE_ETCD=1, but no etcd is on the PATH: install etcd-server"
                );
                eprintln!("SKIPPED: no etcd on the PATH (install etcd-server); the etcd twin is not tested");
                return None;
            }
            let peer = free_address();
            Some(Self {
                dir: TempDir::new("etcd"),
                name: name.to_owned(),
                endpoint: free_address(),
                cluster: format!("{name}=http://{peer}"),
                peer,
                scheme: "http",
                extra: Vec::new(),
                child: Mutex::new(None),
            })
        }

        /// Starts the server on its data directory.
        pub fn start(&self) {
            let (client, peer) =
                (format!("{}://{}", self.scheme, self.endpoint), format!("http://{}", self.peer));
            let child = Command::new("etcd")
                .arg("--data-dir")
                .arg(self.dir.path().join("data"))
                .args(["--name", &self.name, "--log-level", "error"])
                .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
                .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
                .args(["--initial-cluster", &self.cluster])
                .args(&self.extra)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            *self.child.lock().unwrap() = Some(child);
        }

        /// kill -9.
        pub fn kill(&self) {
            if let Some(mut child) = self.child.lock().unwrap().take() {
                child.kill().unwrap();
                child.wait().unwrap();
            }
        }

        /// A store under a prefix of its own, once the server answers.
        pub async fn store(&self) -> Store {
            static COUNT: AtomicU64 = AtomicU64::new(0);
            let count = COUNT.fetch_add(1, Ordering::Relaxed);
            let store = store::open(&format!("etcd://{}/case-{count}", self.endpoint)).await.unwrap();
            ready(&store).await;
            store
        }
    }

    impl Drop for Etcd {
        fn drop(&mut self) {
            self.kill();
        }
    }

    /// Waits until the store answers.
    pub async fn ready(store: &Store) {
        let answers = async {
            while let Err(error) = store.get(&store::key::epoch()).await {
                assert!(error.is_retryable(), "{error:?}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), answers).await.expect("etcd comes up");
    }

    impl Ctx {
        pub async fn etcd(server: Arc<Etcd>) -> Self {
            Self { store: server.store().await, clock: Clock::boot(), time: Time::Real(server) }
        }
    }

    /// An address that was free a moment ago.
    pub fn free_address() -> String {
        TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
    }
}

#[cfg(feature = "etcd")]
pub use real::{free_address, ready};
