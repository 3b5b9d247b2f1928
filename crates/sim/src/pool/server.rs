//! The pool's sockets: accept, read lines with a limit, write with a timeout, close everybody when the door closes.
//!
//! Assumes loopback peers that may misbehave all the same. One task per connection, all in one set. Next: `session.rs`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use super::session::Session;
use super::template::unix_now;
use super::{Door, Shared};

/// One connection per account of each agent: a dozen. More than this is a fault.
const MAX_CONNECTIONS: usize = 256;
/// A submission has 200 bytes.
const MAX_LINE: usize = 16 * 1024;
/// A client that does not read for so long is gone.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// A pool's client is silent for minutes when its miners sleep; an hour of silence is a dead one.
const READ_TIMEOUT: Duration = Duration::from_secs(3_600);
/// How often a port that somebody took in our absence is tried again.
const REBIND_EVERY: Duration = Duration::from_millis(100);

/// Binds at once, also when connections of an earlier listener still linger in the kernel.
pub(super) fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(128)
}

/// Serves until the door has ended.
pub(super) async fn run(listener: TcpListener, shared: Arc<Shared>, job_every: Duration) {
    let mut door = shared.door.subscribe();
    let mut connections = JoinSet::new();
    let mut listener = Some(listener);
    let mut next_job = Instant::now() + job_every;
    let mut next_block = Instant::now() + shared.lock().chain.next_block_in();
    loop {
        let now = *door.borrow_and_update();
        if now.ended {
            break;
        }
        arrange(&mut listener, now, shared.address);
        tokio::select! {
            accepted = accept(listener.as_ref()) => admit(accepted, &shared, &mut connections),
            _ = door.changed() => {}
            () = sleep_until(now.closed_until.unwrap_or_else(Instant::now)), if now.closed_until.is_some() => reopen(&shared),
            () = tokio::time::sleep(REBIND_EVERY), if listener.is_none() && now.closed_until.is_none() => {}
            () = sleep_until(next_job) => {
                shared.lock().chain.next_job(unix_now());
                shared.tell_news();
                next_job = Instant::now() + job_every;
            }
            () = sleep_until(next_block) => {
                let pause = {
                    let mut state = shared.lock();
                    state.chain.next_block(unix_now());
                    state.chain.next_block_in()
                };
                shared.tell_news();
                next_block = Instant::now() + pause;
            }
            Some(_) = connections.join_next() => {}
        }
    }
    connections.shutdown().await;
}

/// Drops the listener while the door is closed, so that the kernel refuses; binds it again afterwards.
fn arrange(listener: &mut Option<TcpListener>, door: Door, address: SocketAddr) {
    if door.closed_until.is_some() {
        *listener = None;
    } else if listener.is_none() {
        match listen(address) {
            Ok(bound) => *listener = Some(bound),
            Err(error) => tracing::warn!(%address, %error, "simulated pool cannot bind again, retrying"),
        }
    }
}

async fn accept(listener: Option<&TcpListener>) -> std::io::Result<TcpStream> {
    match listener {
        Some(listener) => listener.accept().await.map(|(stream, _)| stream),
        None => std::future::pending().await,
    }
}

fn reopen(shared: &Shared) {
    shared.door.send_modify(|door| {
        if door.closed_until.is_some_and(|until| until <= Instant::now()) {
            door.closed_until = None;
        }
    });
}

fn admit(accepted: std::io::Result<TcpStream>, shared: &Arc<Shared>, connections: &mut JoinSet<()>) {
    let stream = match accepted {
        Ok(stream) if connections.len() < MAX_CONNECTIONS => stream,
        Ok(_) => {
            return tracing::warn!(limit = MAX_CONNECTIONS, "simulated pool is full, connection refused");
        }
        Err(error) => return tracing::warn!(%error, "simulated pool cannot accept a connection"),
    };
    // Without it small lines wait for acknowledgements; where it fails they merely wait.
    let _ = stream.set_nodelay(true);
    connections.spawn(serve(stream, Arc::clone(shared)));
}

/// Serves one connection until it ends, misbehaves, or the door's epoch passes.
async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    let mut door = shared.door.subscribe();
    let epoch = door.borrow_and_update().epoch;
    let session = {
        let mut state = shared.lock();
        let extranonce1 = state.next_extranonce1;
        // Odd steps visit every value once in 2^32 connections, and none looks like its neighbour.
        state.next_extranonce1 = extranonce1.wrapping_add(0x9e37_79b1);
        state.books.connected += 1;
        state.connections += 1;
        Session::new(extranonce1.to_be_bytes())
    };
    let (reader, writer) = stream.into_split();
    let talk = Talk { reader, writer, session, pending: Vec::new(), shared: &shared };
    tokio::select! {
        () = talk.run(shared.news.subscribe()) => {}
        _ = door.wait_for(|door| door.ended || door.epoch != epoch) => {}
    }
    shared.lock().connections -= 1;
}

struct Talk<'a> {
    reader: OwnedReadHalf,
    writer: OwnedWriteHalf,
    session: Session,
    /// The begin of a line whose end has not come; at most [`MAX_LINE`] bytes.
    pending: Vec<u8>,
    shared: &'a Shared,
}

impl Talk<'_> {
    async fn run(mut self, mut news: watch::Receiver<u64>) {
        let mut buffer = [0; 4096];
        loop {
            let lines = tokio::select! {
                read = timeout(READ_TIMEOUT, self.reader.read(&mut buffer)) => match read {
                    Ok(Ok(count)) if count > 0 => self.take(&buffer[..count]),
                    _ => return,
                },
                _ = news.changed() => Some(self.session.news(&self.shared.lock())),
            };
            let Some(lines) = lines else { return };
            let text = lines.concat();
            if !matches!(timeout(WRITE_TIMEOUT, self.writer.write_all(text.as_bytes())).await, Ok(Ok(()))) {
                return;
            }
        }
    }

    /// Replies to the lines that are whole now; `None` closes the connection.
    fn take(&mut self, bytes: &[u8]) -> Option<Vec<String>> {
        self.pending.extend_from_slice(bytes);
        let mut replies = Vec::new();
        while let Some(end) = self.pending.iter().position(|byte| *byte == b'\n') {
            let rest = self.pending.split_off(end + 1);
            let line = std::mem::replace(&mut self.pending, rest);
            replies.extend(self.session.on_line(&line[..end], unix_now(), &mut self.shared.lock()));
        }
        (self.pending.len() <= MAX_LINE).then_some(replies)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use tokio::io::{AsyncBufReadExt, BufReader};

    use super::super::{Config, Error, Pool};
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(60);

    fn config(listen: &str, difficulty: f64) -> Config {
        let listen = listen.parse().unwrap();
        Config { listen, seed: 1, mark: 0, difficulty, job_every: PATIENCE, block_every: PATIENCE * 60 }
    }

    /// Subscribes; the connection and its extranonce1.
    async fn subscribe(address: SocketAddr) -> (BufReader<TcpStream>, String) {
        let mut stream = BufReader::new(TcpStream::connect(address).await.unwrap());
        stream.write_all(b"{\"id\":1,\"method\":\"mining.subscribe\",\"params\":[]}\n").await.unwrap();
        let mut line = String::new();
        timeout(PATIENCE, stream.read_line(&mut line)).await.unwrap().unwrap();
        let answer: serde_json::Value = serde_json::from_str(&line).unwrap();
        (stream, answer["result"][1].as_str().unwrap().to_owned())
    }

    async fn is_closed(stream: &mut BufReader<TcpStream>) -> bool {
        let mut line = String::new();
        matches!(timeout(PATIENCE, stream.read_line(&mut line)).await.unwrap(), Ok(0) | Err(_))
    }

    #[tokio::test]
    async fn a_pool_that_was_away_comes_back_with_another_extranonce() {
        let pool = Pool::start(config("127.0.0.1:0", 1.0)).await.unwrap();
        let handle = pool.handle();
        let (mut first, before) = subscribe(handle.address()).await;
        handle.go_away(PATIENCE * 60);
        assert!(is_closed(&mut first).await);
        let refused = async { while TcpStream::connect(handle.address()).await.is_ok() {} };
        timeout(PATIENCE, refused).await.unwrap();
        handle.come_back();
        let back = async { while TcpStream::connect(handle.address()).await.is_err() {} };
        timeout(PATIENCE, back).await.unwrap();
        let (mut second, after) = subscribe(handle.address()).await;
        assert_ne!(before, after);
        pool.shutdown().await;
        assert!(is_closed(&mut second).await);
    }

    #[tokio::test]
    async fn killed_connections_may_come_back_at_once_and_an_endless_line_is_cut_off() {
        let pool = Pool::start(config("127.0.0.1:0", 1.0)).await.unwrap();
        let (mut first, before) = subscribe(pool.handle().address()).await;
        pool.handle().kill_connections();
        assert!(is_closed(&mut first).await);
        let (mut second, after) = subscribe(pool.handle().address()).await;
        assert_ne!(before, after);
        // What is beyond the limit may meet a closed socket.
        let _ = second.write_all(&vec![b'x'; 4 * MAX_LINE]).await;
        assert!(is_closed(&mut second).await);
    }

    #[tokio::test]
    async fn other_networks_and_floods_are_refused() {
        let outside = Pool::start(config("0.0.0.0:0", 1.0)).await.unwrap_err();
        assert!(matches!(outside, Error::NotLoopback(_)), "{outside}");
        for difficulty in [2f64.powi(-21), 0.0, f64::NAN] {
            let easy = Pool::start(config("127.0.0.1:0", difficulty)).await.unwrap_err();
            assert!(matches!(easy, Error::Difficulty(_)), "{easy}");
        }
    }
}
