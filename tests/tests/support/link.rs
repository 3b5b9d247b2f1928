//! One link between two programs: a forwarder on loopback that can be cut without closing anything, as a network does that
//! loses every packet.
//!
//! Whoever listens does so on loopback until there is TLS, so hosts of their own (network namespaces) could not reach each other:
//! every link that a test cuts goes through one of these. While it is cut bytes wait and none are lost; what was on its way goes
//! on when the link heals, as TCP's does. Read next: `installation.rs`.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use super::free_address;

/// How often a cut link looks whether it is whole again, and an idle one whether it is cut.
const LOOK: Duration = Duration::from_millis(20);
/// Bytes at once.
const CHUNK: usize = 64 * 1024;

/// Forwards until dropped.
pub struct Link {
    /// Where to connect instead of at its target.
    pub address: String,
    cut: Arc<AtomicBool>,
    ended: Arc<AtomicBool>,
}

impl Link {
    pub fn to(target: &str) -> Self {
        let address = free_address();
        let listener = TcpListener::bind(&address).unwrap();
        listener.set_nonblocking(true).unwrap();
        let (cut, ended) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let (is_cut, has_ended, target) = (cut.clone(), ended.clone(), target.to_owned());
        thread::spawn(move || {
            while !has_ended.load(Ordering::Relaxed) {
                if is_cut.load(Ordering::Relaxed) {
                    thread::sleep(LOOK);
                } else if let Ok((from, _)) = listener.accept() {
                    carry(from, &target, &is_cut, &has_ended);
                } else {
                    thread::sleep(LOOK);
                }
            }
        });
        Self { address, cut, ended }
    }

    /// From now on nothing passes, either way.
    pub fn cut(&self) {
        self.cut.store(true, Ordering::Relaxed);
    }

    pub fn heal(&self) {
        self.cut.store(false, Ordering::Relaxed);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
    }
}

/// Carries one connection, each direction on a thread. One that finds nobody there is closed, as it would be without the link.
fn carry(from: TcpStream, target: &str, cut: &Arc<AtomicBool>, ended: &Arc<AtomicBool>) {
    let Ok(to) = TcpStream::connect(target) else { return };
    for (from, to) in [(from.try_clone(), to.try_clone()), (to.try_clone(), from.try_clone())] {
        let (Ok(from), Ok(to)) = (from, to) else { return };
        let (cut, ended) = (cut.clone(), ended.clone());
        thread::spawn(move || forward(from, to, &cut, &ended));
    }
}

fn forward(mut from: TcpStream, mut to: TcpStream, cut: &AtomicBool, ended: &AtomicBool) {
    let mut chunk = vec![0; CHUNK];
    let ready = from.set_nonblocking(false).and_then(|()| from.set_read_timeout(Some(LOOK)));
    let ready = ready.and_then(|()| to.set_nodelay(true));
    while ready.is_ok() && !ended.load(Ordering::Relaxed) {
        if cut.load(Ordering::Relaxed) {
            thread::sleep(LOOK);
            continue;
        }
        match from.read(&mut chunk) {
            Ok(0) => break,
            Ok(read) => {
                // It was cut while this was being read: it waits.
                while cut.load(Ordering::Relaxed) && !ended.load(Ordering::Relaxed) {
                    thread::sleep(LOOK);
                }
                if to.write_all(&chunk[..read]).is_err() {
                    break;
                }
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => break,
        }
    }
    // Either end may be closed already: that is what is wanted.
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}
