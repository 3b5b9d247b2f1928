//! Connections are accepted no faster than they can be served beside those that are there: a fleet that comes back after a restart waits
//! in the kernel's queue instead of taking the CPU from the agents that are back already.
//!
//! The pace is pure (time comes in as an argument); [`run`] applies it to a listener. It slows where this process gets on slowly itself: a
//! machine that is busy with other things, or keys that take long, must not have more handshakes begun than end in time. Whoever
//! gave up meanwhile costs nothing of it. Assumes that whoever does not fit the kernel's queue is tried again by TCP itself, after a
//! second. Read next: `session.rs`, which asks agents to come back evenly.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

/// Connections a second: a handshake costs 0.3 ms of CPU, with TLS 0.6, so this is at most six tenths of a core, and 10,000 agents
/// are back in 10 s.
const PER_SECOND: u32 = 1_000;
/// So much of the pace may be had at once, 200 connections: operators and a small fleet never wait.
const BURST: Duration = Duration::from_millis(200);
/// Between two connections, at the full pace and at the slowest: then 10,000 agents take seven minutes.
const STEP: (Duration, Duration) =
    (Duration::from_millis(1_000 / PER_SECOND as u64), Duration::from_millis(40));
/// A wait that ends so much late tells that the process does not get on: acknowledgements to agents that are back wait as long.
const LATE: Duration = Duration::from_millis(20);
/// The pace is halved at most so often: what was accepted before still has to end.
const JUDGED_EVERY: Duration = Duration::from_millis(200);
/// With each wait that ends in time the step becomes shorter by this part.
const RECOVERS: u32 = 64;
/// Connections that wait in the kernel's queue: four seconds of the pace. Whoever finds it full is tried again by TCP after one, three
/// and seven seconds. As much as Linux grants since 5.4; older kernels cut it (`net.core.somaxconn`).
const QUEUE: u32 = 4_096;
/// Pause after an accept that failed, mostly for want of file descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// When the next connection may be accepted. Times are counted from the begin.
#[derive(Clone, Copy, Debug)]
struct Pace {
    /// When the connections so far would have been accepted at the even pace.
    even: Duration,
    /// Between two of them now.
    step: Duration,
    /// When it was last halved.
    judged: Duration,
}

impl Pace {
    fn new() -> Self {
        Self { even: Duration::ZERO, step: STEP.0, judged: Duration::ZERO }
    }

    /// How long to wait with a connection that came at `now`.
    fn wait(&mut self, now: Duration) -> Duration {
        self.even = self.even.max(now) + self.step;
        self.even.saturating_sub(now + BURST)
    }

    /// A wait was over at `now`, so `late`.
    fn waited(&mut self, late: Duration, now: Duration) {
        if late <= LATE {
            self.step = (self.step - self.step / RECOVERS).max(STEP.0);
        } else if now >= self.judged + JUDGED_EVERY {
            (self.step, self.judged) = ((self.step * 2).min(STEP.1), now);
        }
    }
}

/// Listens, with a queue that holds a fleet that comes back. Fails as sockets do: the address is taken, or is not this machine's.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A controller that was killed is started again at once.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(QUEUE)
}

/// Accepts until the stream that takes the connections is gone.
pub(crate) async fn run(listener: TcpListener, taken: mpsc::Sender<io::Result<TcpStream>>) {
    let (begun, mut pace) = (Instant::now(), Pace::new());
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = taken.closed() => return,
        };
        match accepted {
            Ok((connection, _)) if has_gone(&connection) => {}
            Ok((connection, _)) => {
                let (asked, wait) = (begun.elapsed(), pace.wait(begun.elapsed()));
                if !wait.is_zero() {
                    sleep(wait).await;
                    let now = begun.elapsed();
                    pace.waited(now.saturating_sub(asked + wait), now);
                }
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

/// Whether the other end closed the connection while it waited to be accepted: who waits for ten seconds gives up and comes again, and
/// a queue of those would take the pace from whoever is still there.
#[cfg(target_os = "linux")]
fn has_gone(connection: &TcpStream) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let mut asked = [PollFd::new(connection, PollFlags::RDHUP)];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    // Where the kernel does not say, it is taken: the handshake finds out.
    poll(&mut asked, Some(&at_once)).is_ok_and(|ready| ready > 0)
}

/// Other kernels, on which fleets are only simulated, do not say.
#[cfg(not(target_os = "linux"))]
fn has_gone(_: &TcpStream) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    /// The waits of connections that come at these times, both in milliseconds.
    fn waits(came: impl IntoIterator<Item = u64>) -> Vec<u128> {
        let mut pace = Pace::new();
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

    #[test]
    fn who_gets_on_slowly_accepts_less_and_takes_up_the_pace_again() {
        let ms = Duration::from_millis;
        let mut pace = Pace::new();
        let step_after = |pace: &mut Pace, late: u64, now: u64| {
            pace.waited(ms(late), ms(now));
            pace.step
        };
        assert_eq!(step_after(&mut pace, 20, 900), ms(1), "as good as in time");
        assert_eq!(step_after(&mut pace, 21, 1_000), ms(2));
        assert_eq!(step_after(&mut pace, 500, 1_100), ms(2), "what was accepted before still has to end");
        let slowest = (0..10).map(|at| step_after(&mut pace, 500, 2_000 + 200 * at)).last();
        assert_eq!(slowest, Some(STEP.1));
        let times = (0..1_000).find(|_| step_after(&mut pace, 0, 9_000) == ms(1));
        assert_eq!(times, Some(234), "a matter of seconds");
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn who_gave_up_while_it_waited_is_not_handed_on() {
        let listener = listen(([127, 0, 0, 1], 0).into()).expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let mut gone = TcpStream::connect(address).await.expect("it listens");
        gone.write_all(b"hello").await.expect("the kernel keeps it");
        drop(gone);
        let here = TcpStream::connect(address).await.expect("it listens");
        let (sender, mut taken) = mpsc::channel(1);
        tokio::spawn(run(listener, sender));
        let first = taken.recv().await.expect("a connection").expect("accepted");
        assert_eq!(first.peer_addr().ok(), here.local_addr().ok());
    }

    #[tokio::test]
    async fn a_fleet_fits_the_queue_while_nobody_accepts() {
        let listener = listen(([127, 0, 0, 1], 0).into()).expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let mut waiting = Vec::new();
        for _ in 0..300 {
            waiting.push(TcpStream::connect(address).await.expect("the kernel takes it"));
        }
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
