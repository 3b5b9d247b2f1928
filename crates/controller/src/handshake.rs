//! TLS handshakes between a listener that accepts and a server that serves.
//!
//! Accepting never waits for a handshake: each is a task with a limit of time, and so many may run at once; where there are more the
//! oldest makes room, since whoever means it is done within a round trip. Without TLS connections pass as they come. Assumes that
//! `admission.rs` keeps the pace. Read next: `service/src/tls/server.rs`; `callers.rs` for what a peer may call.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use service::tls::{Connection, Refused, Server};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, timeout};

use crate::admission;
use crate::metrics::{Counts, Shake};
use crate::run::Error;

/// Handshakes at once: at the 1,000 connections a second that are accepted at most each has two seconds before it makes room, three
/// times a satellite's round trip. At some 20 KiB each they hold 40 MiB.
const MOST: usize = 2_000;
/// A handshake that takes longer has failed: one over a satellite takes two round trips of 0.7 s.
const WITHIN: Duration = Duration::from_secs(10);
/// Failures are told in the log at most so often: an address open to the world is knocked at all day. All are counted.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// Begins to accept; answers the connections that are ready to be served.
pub(crate) fn open(
    tasks: &mut JoinSet<Result<(), Error>>,
    listener: TcpListener,
    server: Option<Arc<Server>>,
    counts: &Arc<Counts>,
) -> mpsc::Receiver<io::Result<Connection>> {
    let (accepted_in, accepted) = mpsc::channel(1);
    let (ready, incoming) = mpsc::channel(1);
    tasks.spawn(async {
        admission::run(listener, accepted_in).await;
        Ok(())
    });
    let counts = counts.clone();
    tasks.spawn(async move {
        match server {
            Some(server) => run(server, MOST, (accepted, ready), &counts).await,
            None => pass(accepted, ready).await,
        }
        Ok(())
    });
    incoming
}

type Accepted = mpsc::Receiver<io::Result<TcpStream>>;
type Ready = mpsc::Sender<io::Result<Connection>>;

/// Hands connections on as they come.
async fn pass(mut accepted: Accepted, ready: Ready) {
    loop {
        let connection = tokio::select! {
            () = ready.closed() => return,
            connection = accepted.recv() => connection,
        };
        let Some(connection) = connection else { return };
        // Whoever takes them may have gone meanwhile, which shows above.
        let _ = ready.send(connection.map(Connection::plain)).await;
    }
}

/// Shakes hands until whoever takes the connections is gone.
async fn run(server: Arc<Server>, most: usize, (mut accepted, ready): (Accepted, Ready), counts: &Counts) {
    let mut tasks = JoinSet::new();
    let mut running: BTreeMap<u64, AbortHandle> = BTreeMap::new();
    let (mut next, mut told) = (0, None);
    loop {
        tokio::select! {
            () = ready.closed() => return,
            Some(ended) = tasks.join_next() => match ended {
                Ok((number, outcome)) => {
                    running.remove(&number);
                    note(outcome, counts, &mut told);
                }
                // It made room, and was counted when it did.
                Err(error) => assert!(error.is_cancelled(), "a handshake does not panic: {error}"),
            },
            connection = accepted.recv() => match connection {
                None => return,
                Some(Err(error)) => tracing::debug!(%error, "a connection was gone before it was taken"),
                Some(Ok(stream)) => {
                    if running.len() >= most && let Some((_, oldest)) = running.pop_first() {
                        oldest.abort();
                        counts.handshake(Shake::Crowded);
                    }
                    next += 1;
                    let shaken = shake(next, server.clone(), stream, ready.clone());
                    running.insert(next, tasks.spawn(shaken));
                }
            },
        }
    }
}

/// How a handshake ended, with whom, and why it failed.
struct Shaken {
    shake: Shake,
    from: Option<SocketAddr>,
    why: String,
}

/// One handshake, with the number it goes by.
async fn shake(number: u64, server: Arc<Server>, stream: TcpStream, ready: Ready) -> (u64, Shaken) {
    let from = stream.peer_addr().ok();
    let (shake, why) = match timeout(WITHIN, server.accept(stream)).await {
        Ok(Ok(connection)) => {
            // Whoever takes them may have gone: then so does this.
            let _ = ready.send(Ok(connection)).await;
            (Shake::Done, String::new())
        }
        Ok(Err(refused)) => (of(&refused), refused.to_string()),
        Err(_) => (Shake::Late, format!("no handshake within {WITHIN:?}")),
    };
    (number, Shaken { shake, from, why })
}

/// Counts how a handshake ended, and tells of a refusal now and then.
fn note(Shaken { shake, from, why }: Shaken, counts: &Counts, told: &mut Option<Instant>) {
    counts.handshake(shake);
    // Who only knocks, as health checks of load balancers do, is not worth a line.
    let worth = matches!(shake, Shake::Plain | Shake::Refused);
    if worth && told.is_none_or(|at| at.elapsed() >= TELL_EVERY) {
        *told = Some(Instant::now());
        let from = from.map(|from| from.to_string()).unwrap_or_default();
        tracing::warn!(from, why, "a connection was refused; docs/tls.md says what the reasons mean");
    }
}

fn of(refused: &Refused) -> Shake {
    match refused {
        Refused::Plain => Shake::Plain,
        Refused::Gone(_) => Shake::Gone,
        Refused::Failed(_) => Shake::Refused,
    }
}

/// A listener of connections that are ready, as axum takes one.
pub(crate) struct Door {
    incoming: mpsc::Receiver<io::Result<Connection>>,
    at: SocketAddr,
}

impl Door {
    pub(crate) fn new(incoming: mpsc::Receiver<io::Result<Connection>>, at: SocketAddr) -> Self {
        Self { incoming, at }
    }
}

impl axum::serve::Listener for Door {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        loop {
            match self.incoming.recv().await {
                Some(Ok(connection)) => return (connection, self.at),
                Some(Err(_)) => {}
                // Nobody accepts any more: the process ends, and so does whoever waits here.
                None => std::future::pending().await,
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.at)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use service::tls::authority::Authority;
    use tokio::io::AsyncReadExt as _;

    use super::*;
    use crate::testing::TestDir;

    /// A listener's handshakes, and a client that says nothing.
    struct Rig {
        listener: TcpListener,
        accepted: mpsc::Sender<io::Result<TcpStream>>,
        _incoming: mpsc::Receiver<io::Result<Connection>>,
        counts: Arc<Counts>,
    }

    impl Rig {
        async fn new(most: usize) -> Self {
            let (dir, authority) = (TestDir::new("handshake"), Authority::new("test").unwrap());
            let files = authority.server(&["127.0.0.1"]).unwrap().serve(&authority, dir.path(), "c").unwrap();
            let server = Arc::new(Server::read(files).unwrap());
            let (accepted, stream) = mpsc::channel(1);
            let (ready, incoming) = mpsc::channel(1);
            let counts = Arc::new(Counts::default());
            let counted = counts.clone();
            tokio::spawn(async move { run(server, most, (stream, ready), &counted).await });
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            Self { listener, accepted, _incoming: incoming, counts }
        }

        async fn knock(&self) -> TcpStream {
            let client = TcpStream::connect(self.listener.local_addr().unwrap()).await.unwrap();
            self.accepted.send(Ok(self.listener.accept().await.unwrap().0)).await.unwrap();
            client
        }
    }

    /// Whether the other end has closed the connection.
    async fn is_closed(client: &mut TcpStream) -> bool {
        client.read(&mut [0; 8]).await.is_ok_and(|read| read == 0)
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_says_nothing_is_let_go_after_a_while() {
        let rig = Rig::new(8).await;
        let mut silent = rig.knock().await;
        assert!(is_closed(&mut silent).await);
        while rig.counts.handshakes(Shake::Late) == 0 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn the_oldest_that_does_not_get_on_makes_room_and_accepting_never_waits() {
        let rig = Rig::new(2).await;
        let mut oldest = rig.knock().await;
        let _others = [rig.knock().await, rig.knock().await];
        assert!(is_closed(&mut oldest).await);
        assert_eq!(rig.counts.handshakes(Shake::Crowded), 1);
    }

    #[tokio::test]
    async fn who_goes_away_without_a_word_is_counted_as_gone() {
        let rig = Rig::new(2).await;
        drop(rig.knock().await);
        while rig.counts.handshakes(Shake::Gone) == 0 {
            tokio::task::yield_now().await;
        }
    }
}
