//! What the agent tells on its own machine: gRPC on a unix socket in its data directory, for `flareshift proxy stats`.
//!
//! Assumes that the outbox of the directory is held by this process, so that a socket that lies there is a dead one's. Whoever
//! may use the file may ask: it is the owner's alone. An agent that cannot have the socket goes on without; decision 0012 says
//! why it is a socket. Read next: `proto/flareshift/proxy/v1/proxy.proto`.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use api::Problem;
use api::convert::field::wire_span;
use api::problem::Kind;
use api::proxy as wire;
use api::proxy::proxy_service_server::{ProxyService, ProxyServiceServer};
use model::Span;
use stratum::account::{Account, End, Tally};
use stratum::bans::Ban;
use tokio::net::UnixListener;
use tokio::task::JoinSet;
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic::{Request, Response, Status};
use tracing::{error, warn};

use crate::commit::Commits;
use crate::proxy::{Detail, GroupStatus, Handle, UpstreamState, UpstreamStatus};

/// The socket's name in the data directory.
pub const SOCKET: &str = "agent.sock";
/// For the owner alone.
const MODE: u32 = 0o600;
/// Where it is made: a directory that nobody else may enter. With the socket's name in it shorter than [`SOCKET`] is, so that the
/// longest path of a socket, 107 bytes, is not met earlier.
const CRADLE: &str = ".s";
const CRADLE_MODE: u32 = 0o700;
/// Calls at once on one connection: one is usual.
const STREAMS: u32 = 8;

/// A socket that is not served yet.
struct Local {
    listener: UnixListener,
    file: SocketFile,
    asked: Asked,
}

/// Who is asked.
#[derive(Clone, Default)]
pub(crate) struct Asked {
    /// The proxy, where there is one.
    pub(crate) proxy: Option<Handle>,
    /// The share commitments, where there is a controller for them.
    pub(crate) commits: Option<Commits>,
}

/// The socket's file; it goes with its owner, also when that is aborted.
struct SocketFile {
    path: PathBuf,
    inode: u64,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Another agent may have put its own there by now, if this one's task lived longer than the rest of it.
        if fs::metadata(&self.path).is_ok_and(|found| found.ino() == self.inode) {
            // What cannot be removed is replaced by the next start.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Binds the socket in `data` and serves it in `tasks` until cancelled; without it the agent goes on. Needs a tokio runtime.
pub(crate) fn spawn(tasks: &mut JoinSet<()>, data: &Path, asked: Asked, cancel: &CancellationToken) {
    let path = data.join(SOCKET);
    match bind(&path) {
        Ok((listener, inode)) => {
            let local = Local { listener, file: SocketFile { path, inode }, asked };
            let cancel = cancel.child_token();
            tasks.spawn(async move {
                local.serve(cancel).await;
                // Whoever supervises the tasks takes an end for news; this one is none, and is aborted with the others.
                std::future::pending().await
            });
        }
        Err(error) => warn!(
            %error,
            path = %path.display(),
            "no local socket, so `flareshift proxy stats` cannot ask; a path of 107 bytes is the longest"
        ),
    }
}

/// The listener, and what tells its file from another's. A socket is made with the rights that the process's mask leaves, and may
/// be connected to at once: so it gets its own where nobody else can reach it, and is put in its place then, over a dead one.
fn bind(path: &Path) -> io::Result<(UnixListener, u64)> {
    let cradle = path.with_file_name(CRADLE);
    // Whoever was killed in between has left it.
    match fs::remove_dir_all(&cradle) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => DirBuilder::new().mode(CRADLE_MODE).create(&cradle)?,
    }
    let made = cradle.join("s");
    let listener = UnixListener::bind(&made)?;
    fs::set_permissions(&made, Permissions::from_mode(MODE))?;
    let inode = fs::metadata(&made)?.ino();
    fs::rename(&made, path)?;
    fs::remove_dir(&cradle)?;
    Ok((listener, inode))
}

impl Local {
    /// Serves until cancelled or dropped; the socket's file goes then.
    async fn serve(self, cancel: CancellationToken) {
        let Local { listener, file: _file, asked } = self;
        let reflection = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(api::DESCRIPTOR_SET)
            .build_v1();
        let reflection = match reflection {
            Ok(reflection) => reflection,
            Err(error) => return error!(%error, "no reflection on the local socket; report this as a defect"),
        };
        let served = Server::builder()
            .max_concurrent_streams(STREAMS)
            .add_service(reflection)
            .add_service(ProxyServiceServer::new(Service { asked }))
            .serve_with_incoming_shutdown(UnixListenerStream::new(listener), cancel.cancelled_owned())
            .await;
        if let Err(error) = served {
            error!(error = &error as &dyn std::error::Error, "the local socket failed; the agent goes on");
        }
    }
}

struct Service {
    asked: Asked,
}

#[tonic::async_trait]
impl ProxyService for Service {
    async fn get_stats(&self, _: Request<wire::GetStatsRequest>) -> Result<Response<wire::Stats>, Status> {
        let Some(proxy) = &self.asked.proxy else {
            let what = "this agent runs no Stratum proxy: start it with --pool or --proxy";
            return Err(Problem::new(Kind::Precondition, what).into_status());
        };
        let unclaimed = self.asked.commits.as_ref().map(Commits::unclaimed);
        Ok(Response::new(encode(proxy, proxy.detail(), unclaimed)))
    }
}

fn encode(proxy: &Handle, detail: Detail, unclaimed: Option<u64>) -> wire::Stats {
    let Detail { stats, upstreams, total, workers, groups, words, bans } = detail;
    let uptime = Span::new(i64::try_from(proxy.uptime().as_millis()).unwrap_or(i64::MAX));
    let ban = |ban: Ban| {
        let left = Span::new(i64::try_from(ban.left_ms).unwrap_or(i64::MAX));
        wire::Ban { peer: ban.peer.to_string(), left: wire_span(left) }
    };
    let worker = |(worker, account): (String, Account)| wire::Worker { worker, books: Some(books(&account)) };
    wire::Stats {
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        listens: proxy.address().to_string(),
        uptime: wire_span(uptime),
        connections: narrow(stats.connections),
        max_connections: narrow(proxy.max_connections()),
        connected: stats.connected,
        turned_away: stats.turned_away,
        pool_sessions: stats.pool_sessions,
        journal_failures: stats.journal_failures,
        upstreams: upstreams.into_iter().map(upstream).collect(),
        total: Some(books(&total)),
        workers: workers.into_iter().map(worker).collect(),
        groups: groups.into_iter().map(|(id, status)| group(id.as_str(), status)).collect(),
        balanced: stats.balanced,
        refusals: words.into_iter().collect(),
        unclaimed,
        refused: stats.refused,
        bans: bans.into_iter().map(ban).collect(),
    }
}

fn upstream(status: UpstreamStatus) -> wire::Upstream {
    let UpstreamStatus { account, weight, miners, state, pool, difficulty, trouble, private } = status;
    let state = match state {
        UpstreamState::Up => wire::UpstreamState::Up,
        UpstreamState::Away => wire::UpstreamState::Away,
        UpstreamState::KeepAlive => wire::UpstreamState::KeepAlive,
    };
    wire::Upstream { account, weight, miners, state: state.into(), pool, difficulty, trouble, private }
}

fn group(id: &str, status: GroupStatus) -> wire::Group {
    let verified = status.verified.map(Into::into);
    wire::Group { group: id.to_owned(), connections: status.connections, verified }
}

fn books(account: &Account) -> wire::Books {
    let sum = |which: fn(&End) -> bool| Some(tally(account.sum(which)));
    let (mut rejected, mut refused) = (BTreeMap::new(), BTreeMap::new());
    for (end, tally) in account.ends() {
        match end {
            End::RejectedLocally(reject) => {
                *rejected.entry(reject.code().to_owned()).or_default() += tally.shares
            }
            End::ForwardedRejected(reject) => {
                *refused.entry(reject.code().to_owned()).or_default() += tally.shares
            }
            _ => {}
        }
    }
    wire::Books {
        received: Some(tally(account.received())),
        in_flight: Some(tally(account.in_flight())),
        accepted: sum(|end| *end == End::ForwardedAccepted),
        refused: sum(|end| matches!(end, End::ForwardedRejected(_))),
        counted: sum(|end| *end == End::CountedBelowUpstream),
        keep_alive: sum(|end| *end == End::CountedKeepAlive),
        rejected: sum(|end| matches!(end, End::RejectedLocally(_))),
        unknown: sum(|end| *end == End::Unknown),
        rejected_by_reason: rejected,
        refused_by_reason: refused,
    }
}

fn tally(tally: Tally) -> wire::Tally {
    wire::Tally { shares: tally.shares, work_hashes: tally.work.0.to_string() }
}

fn narrow(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::net::UnixStream;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::outbox::tests::Dir;

    #[tokio::test]
    async fn the_socket_is_its_owners_alone_from_the_first_moment_on() {
        let dir = Dir::new();
        let data = dir.path();
        let (path, ended) = (data.join(SOCKET), AtomicBool::new(false));
        std::thread::scope(|threads| {
            // Whoever looks finds no socket, or one that is the owner's.
            let looks = threads.spawn(|| {
                let mut seen = 0;
                while !ended.load(Ordering::Relaxed) {
                    if let Ok(found) = fs::metadata(&path) {
                        assert_eq!(found.permissions().mode() & 0o777, MODE);
                        seen += 1;
                    }
                }
                seen
            });
            for _ in 0..200 {
                drop(bind(&path).unwrap());
            }
            ended.store(true, Ordering::Relaxed);
            assert!(looks.join().unwrap() > 0);
        });
    }

    #[tokio::test]
    async fn what_a_killed_agent_left_is_replaced_and_answers() {
        let dir = Dir::new();
        let path = dir.path().join(SOCKET);
        // It was killed while it made its socket, in a directory that others may enter.
        fs::create_dir_all(dir.path().join(CRADLE)).unwrap();
        fs::write(dir.path().join(CRADLE).join("s"), b"").unwrap();
        let (dead, _) = bind(&path).unwrap();
        drop(dead);
        assert!(UnixStream::connect(&path).is_err(), "nobody answers there");
        let (_listener, inode) = bind(&path).unwrap();
        UnixStream::connect(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().ino(), inode);
        assert!(!dir.path().join(CRADLE).exists());
    }

    #[tokio::test]
    async fn a_path_as_long_as_a_socket_may_have_is_not_too_long() {
        let dir = Dir::new();
        let room = 107 - dir.path().as_os_str().len() - "/".len() - "/".len() - SOCKET.len();
        let long = dir.path().join("d".repeat(room));
        fs::create_dir_all(&long).unwrap();
        assert_eq!(long.join(SOCKET).as_os_str().len(), 107);
        assert!(bind(&long.join(SOCKET)).is_ok());
        let longer = dir.path().join("d".repeat(room + 1));
        fs::create_dir_all(&longer).unwrap();
        let socket = longer.join(SOCKET);
        if let Ok((listener, _)) = bind(&socket) {
            drop(listener);
            assert!(UnixStream::connect(&socket).is_err(), "nobody could ask there");
        }
    }
}
