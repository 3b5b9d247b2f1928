//! One miner's connection: bytes in, lines to the session, its outputs acted on in order.
//!
//! Assumes a peer that may send anything, anything at all, slowly or too fast, and may not read. It reads no more before what it
//! has caused is written, so that no queue grows. Next: [`stratum::downstream`] for the protocol, `state.rs` for the books.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use model::MinerGroupId;
use stratum::bans::Peer;
use stratum::downstream::{CloseReason, Now, Output, Session};
use stratum::job::Assignment;
use stratum::line::{LineBuffer, LineTooLong, MAX_CLIENT_LINE};
use stratum::message::{Call, Request};
use stratum::slices;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};

use super::Shared;
use super::journal::JournalError;
use super::state::{Briefing, Held, Moment, State};

/// A miner that does not read for so long is gone.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a miner waits for the pool's first job before it is sent away to try again.
const FIRST_JOB_TIMEOUT: Duration = Duration::from_secs(25);
/// Vardiff and timeouts look this often.
const TICK: Duration = Duration::from_secs(1);
/// Bytes taken at once: at most 40 short lines, each of which causes at most one job of some 50 KiB.
const READ: usize = 2048;
/// Bytes of replies for which memory is kept between reads: some twenty.
const KEPT: usize = 1_024;

/// Lines of one connection that are read in a second; what exceeds that waits in the sender's own buffers, so that one miner at
/// a wrong difficulty costs others at most 4 % of a core. An honest one sends one in six seconds.
const MAX_LINES_A_SECOND: u32 = 2_000;

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
enum Gone {
    #[error("the miner closed it")]
    Closed,
    #[error("the socket failed")]
    Io(#[from] std::io::Error),
    #[error("the miner does not read")]
    Stuck(#[from] tokio::time::error::Elapsed),
    #[error("{0}")]
    Line(#[from] LineTooLong),
    #[error("{0}")]
    Session(CloseReason),
    #[error("no slice of the search space is free")]
    Slices(#[from] slices::Error),
    #[error("the share journal failed, so that nothing may be acknowledged")]
    Journal(#[from] JournalError),
    #[error("the pool has not sent its first job")]
    NoJob,
}

impl Gone {
    /// Whether nothing but rubbish was meant. What a miner that is merely wrong or slow may do, bad shares above all, is not.
    fn is_bogus(&self) -> bool {
        use CloseReason::{Garbage, HandshakeTimeout};
        matches!(self, Gone::Line(_) | Gone::Session(Garbage | HandshakeTimeout))
    }
}

/// Serves one connection until it ends.
pub(super) async fn serve(mut stream: TcpStream, mut miner: Miner) {
    // Small lines should not wait for acknowledgements; where it fails they merely wait.
    let _ = stream.set_nodelay(true);
    let Err(gone) = miner.run(&mut stream).await;
    if gone.is_bogus() && miner.shared.state().bans.on_offence(miner.shared.mono_ms(), miner.peer) {
        tracing::warn!(
            peer = %miner.peer,
            last = %gone,
            "an address from which no honest miner came sends what is no Stratum; it is refused for ten minutes"
        );
    }
    let error = &gone as &dyn std::error::Error;
    match gone {
        Gone::Journal(_) => tracing::error!(error, "miner disconnected"),
        _ => tracing::debug!(error, "miner disconnected"),
    }
}

/// A place among the connections; dropping it gives the place back.
pub(super) struct Miner {
    shared: Arc<Shared>,
    peer: Peer,
    /// It has proven work.
    is_honest: bool,
    session: Option<Session>,
    /// The slice it holds, and of which account.
    held: Option<Held>,
    /// Where each miner has an upstream session of its own: that lane.
    home: Option<usize>,
    group: Option<MinerGroupId>,
    pace: Pace,
    assignment: Option<Arc<Assignment>>,
}

impl Miner {
    /// `None` when the proxy is full.
    pub(super) fn new(shared: &Arc<Shared>, peer: Peer) -> Option<Miner> {
        let shared = Arc::clone(shared);
        let admitted = shared.state().admit();
        admitted.then(|| Miner {
            shared,
            peer,
            is_honest: false,
            session: None,
            held: None,
            home: None,
            group: None,
            pace: Pace::new(),
            assignment: None,
        })
    }

    /// Gives it a lane of its own.
    pub(super) fn settle(&mut self, home: usize) {
        self.home = Some(home);
    }

    async fn run(&mut self, stream: &mut TcpStream) -> Result<std::convert::Infallible, Gone> {
        let mut news = self.shared.news.subscribe();
        timeout(FIRST_JOB_TIMEOUT, self.wait_for_job(&mut news)).await.map_err(|_| Gone::NoJob)??;
        let (mut lines, mut read) = (LineBuffer::new(MAX_CLIENT_LINE), Read::default());
        let (mut buffer, mut out) = ([0; READ], String::new());
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            out.clear();
            // A job is long and rare, and most connections are silent: only what answers need is kept.
            if out.capacity() > KEPT {
                out = String::new();
            }
            let end = tokio::select! {
                // The news and the clock go on meanwhile.
                () = sleep_until(self.pace.pause_until()), if self.pace.is_spent() => {
                    self.pace = Pace::new();
                    Ok(())
                }
                count = stream.read(&mut buffer), if !self.pace.is_spent() => match count? {
                    0 => return Err(Gone::Closed),
                    count => {
                        let cut = read.take(&mut lines, &buffer[..count]);
                        self.on_read(&read, &mut out).and(cut.map_err(Gone::from))
                    }
                },
                _ = news.changed() => self.on_news(&mut out),
                _ = tick.tick() => {
                    let outputs = self.session.as_mut().map(|session| session.tick(self.shared.now()));
                    self.act(outputs.unwrap_or_default(), &[], &mut out)
                }
            };
            if !out.is_empty() {
                timeout(WRITE_TIMEOUT, stream.write_all(out.as_bytes())).await??;
            }
            end?;
        }
    }

    /// A session needs a slice, and there is none before the pool's first job.
    async fn wait_for_job(&mut self, news: &mut watch::Receiver<u64>) -> Result<(), Gone> {
        loop {
            self.on_news(&mut String::new())?;
            if self.session.is_some() || news.changed().await.is_err() {
                return Ok(());
            }
        }
    }

    fn on_read(&mut self, read: &Read, out: &mut String) -> Result<(), Gone> {
        let whole: Vec<&[u8]> = read.lines().collect();
        self.pace.count(whole.len());
        // Sabotage must know which line was rejected; else the lines of a read are judged together.
        let together = if self.shared.config.sabotage.forward_unverified { 1 } else { whole.len().max(1) };
        for part in whole.chunks(together) {
            let Some(session) = &mut self.session else { return Ok(()) };
            let outputs = session.on_lines(self.shared.now(), part);
            self.act(outputs, part.first().copied().unwrap_or_default(), out)?;
        }
        Ok(())
    }

    /// Job, slice or mask have changed, or are there for the first time.
    fn on_news(&mut self, out: &mut String) -> Result<(), Gone> {
        let briefing = self.shared.state().brief(self.held, self.home)?;
        let Some(Briefing { lane, epoch, slice, mask, assignment }) = briefing else { return Ok(()) };
        let mut outputs = Vec::new();
        if let Some(slice) = slice {
            // What was held belongs to an earlier epoch, whose slices nobody keeps count of any more.
            self.held = Some(Held { lane, epoch, index: slice.index });
            match &mut self.session {
                Some(session) => outputs.extend(session.on_slice(slice)),
                None => {
                    self.session =
                        Some(Session::new(self.shared.config.session, slice, mask, self.shared.now()))
                }
            }
        }
        let Some(session) = &mut self.session else { return Ok(()) };
        outputs.extend(session.on_mask(mask));
        if !self.assignment.as_ref().is_some_and(|known| Arc::ptr_eq(known, &assignment)) {
            outputs.extend(session.on_job(Arc::clone(&assignment)));
            self.assignment = Some(assignment);
        }
        self.act(outputs, &[], out)
    }

    /// Shares first and together, so that each is recorded before a reply that acknowledges it is even queued.
    fn act(&mut self, outputs: Vec<Output>, line: &[u8], out: &mut String) -> Result<(), Gone> {
        if outputs.is_empty() {
            return Ok(());
        }
        let (lane, moment) = (self.lane(), self.shared.moment());
        // Once for all outputs of a read; nothing in here waits.
        let mut state = self.shared.state();
        state.on_outputs(lane, &outputs, moment)?;
        if !self.is_honest && outputs.iter().any(|output| matches!(output, Output::Share(_))) {
            self.is_honest = true;
            state.bans.on_honest(moment.mono_ms, self.peer);
        }
        for output in outputs {
            match output {
                Output::Send(text) => out.push_str(&text),
                Output::Share(_) => {}
                Output::Rejected { work, .. } => {
                    if self.shared.config.sabotage.forward_unverified {
                        self.sabotage(&mut state, line, work)?;
                    }
                }
                Output::Authorized { worker, .. } => {
                    if self.group.is_none() {
                        self.group = Some(state.on_first_worker(&worker));
                    }
                }
                Output::Close(reason) => return Err(Gone::Session(reason)),
            }
        }
        Ok(())
    }

    fn lane(&self) -> usize {
        self.held.map_or(0, |held| held.lane)
    }

    fn sabotage(&self, state: &mut State, line: &[u8], work: model::Work) -> Result<(), Gone> {
        if let (Ok(Request { call: Call::Submit(submission), .. }), Some(session)) =
            (Request::parse(line), &self.session)
        {
            state.forward_unverified(
                self.lane(),
                &submission,
                session.slice(),
                work,
                self.shared.moment(),
            )?;
        }
        Ok(())
    }
}

/// The whole lines of one read, in one place: a flood brings some sixteen. Its memory serves the next.
#[derive(Default)]
struct Read {
    text: Vec<u8>,
    ends: Vec<usize>,
}

impl Read {
    fn take(&mut self, lines: &mut LineBuffer, bytes: &[u8]) -> Result<(), LineTooLong> {
        self.text.clear();
        self.ends.clear();
        // One long line should not be kept for as long as its connection lives.
        self.text.shrink_to(READ);
        lines.push(bytes, |line| {
            self.text.extend_from_slice(line);
            self.ends.push(self.text.len());
        })
    }

    fn lines(&self) -> impl Iterator<Item = &[u8]> {
        let begins = std::iter::once(&0).chain(&self.ends);
        begins.zip(&self.ends).map(|(begin, end)| &self.text[*begin..*end])
    }
}

/// Lines read within a second.
struct Pace {
    begun: Instant,
    lines: u32,
}

impl Pace {
    fn new() -> Pace {
        Pace { begun: Instant::now(), lines: 0 }
    }

    fn count(&mut self, lines: usize) {
        if self.begun.elapsed() >= Duration::from_secs(1) {
            *self = Pace::new();
        }
        self.lines = self.lines.saturating_add(u32::try_from(lines).unwrap_or(u32::MAX));
    }

    fn is_spent(&self) -> bool {
        self.lines >= MAX_LINES_A_SECOND
    }

    fn pause_until(&self) -> Instant {
        self.begun + Duration::from_secs(1)
    }
}

impl Drop for Miner {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.on_disconnected(self.held, self.group.as_ref());
        if self.is_honest {
            state.bans.on_honest_gone(self.shared.mono_ms(), self.peer);
        }
    }
}

impl Shared {
    pub(super) fn now(&self) -> Now {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now { mono_ms: self.mono_ms(), unix_s: unix.as_secs() }
    }

    fn moment(&self) -> Moment {
        Moment { mono_ms: self.mono_ms(), at: self.clock.now() }
    }
}
