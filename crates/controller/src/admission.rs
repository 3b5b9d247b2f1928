//! Connections are accepted no faster than they can be served beside those that are there: a fleet that comes back after a restart waits
//! in the kernel's queue instead of taking the CPU from the agents that are back already.
//!
//! The pace is pure (time comes in as an argument); [`run`] applies it to a listener. Assumes that whoever does not fit the
//! kernel's queue is tried again by TCP itself, after a second. Read next: `session.rs`, which asks agents to come back evenly.

use std::io;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

/// Connections a second: a handshake costs 0.3 ms of CPU, with TLS 0.6, so this is at most six tenths of a core, and 10,000 agents
/// are back in 10 s.
const PER_SECOND: u32 = 1_000;
/// Connections that may come at once: operators and a small fleet never wait.
const BURST: u32 = 200;
/// Pause after an accept that failed, mostly for want of file descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// When the next connection may be accepted.
#[derive(Clone, Copy, Debug, Default)]
struct Pace {
    /// When the connections so far would have been accepted at the even pace.
    even: Duration,
}

impl Pace {
    /// How long to wait with a connection that came at `now`.
    fn wait(&mut self, now: Duration) -> Duration {
        let step = Duration::from_secs(1) / PER_SECOND;
        self.even = self.even.max(now) + step;
        self.even.saturating_sub(now + step * BURST)
    }
}

/// Accepts until the stream that takes the connections is gone.
pub(crate) async fn run(listener: TcpListener, taken: mpsc::Sender<io::Result<TcpStream>>) {
    let (begun, mut pace) = (Instant::now(), Pace::default());
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = taken.closed() => return,
        };
        match accepted {
            Ok((connection, _)) => {
                sleep(pace.wait(begun.elapsed())).await;
                // Acknowledgements are small and wait for nobody.
                let ready = connection.set_nodelay(true).map(|()| connection);
                if taken.send(ready).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                tracing::warn!(%error, "a connection was not accepted; check the limit of open files");
                sleep(PAUSE).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The waits of connections that come at these times, both in milliseconds.
    fn waits(came: impl IntoIterator<Item = u64>) -> Vec<u128> {
        let mut pace = Pace::default();
        came.into_iter().map(|ms| pace.wait(Duration::from_millis(ms)).as_millis()).collect()
    }

    #[test]
    fn a_few_never_wait_and_a_fleet_comes_in_at_the_pace() {
        assert_eq!(waits((0..200).map(|_| 0)), [0; 200], "a burst");
        assert_eq!(waits((0..5_000).map(|ms| 2 * ms)), [0; 5_000], "half the pace, for ever");
        let at_once = waits((0..10_000).map(|_| 0));
        assert_eq!((at_once[200], at_once[1_200], at_once[9_999]), (1, 1_001, 9_800));
    }

    #[test]
    fn a_quiet_time_makes_room_for_one_burst_and_no_more() {
        let mut came: Vec<u64> = vec![0; 1_000];
        came.extend([100_000; 300]);
        let waits = waits(came);
        assert_eq!((waits[999], waits[1_000], waits[1_199], waits[1_299]), (800, 0, 0, 100));
    }

    #[tokio::test]
    async fn connections_arrive_and_the_task_ends_with_its_stream() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let (sender, mut taken) = mpsc::channel(1);
        let running = tokio::spawn(run(listener, sender));
        let client = TcpStream::connect(address).await.expect("it listens");
        let server = taken.recv().await.expect("a connection").expect("accepted");
        assert_eq!(server.peer_addr().ok(), client.local_addr().ok());
        assert!(server.nodelay().expect("a socket's option"));
        drop(taken);
        running.await.expect("it ends by itself");
    }
}
