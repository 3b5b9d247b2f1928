//! The stream to the controller: reports, directives, ledger segments, share notes. Everything resumes by sequence, so that either side may
//! drop it at any time.
//!
//! The agent opens it (NAT, satellites), tries every address it knows in turn, and follows a standby's word to the leader where that is
//! one of them. Read next: `session/course.rs` for where it goes when a session ends.

pub mod course;
mod shares;
mod sparse;
mod traffic;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use api::agent::agent_service_client::AgentServiceClient;
use api::agent::{self as wire, agent_message, controller_message};
use api::convert::field::{optional_span, wire_time};
use control::envelope::Holder;
use model::envelope::Directive;
use model::report::Report;
use model::time::Clock;
use model::{BootStamp, ModuleId, Span, Time};
use prost::Message as _;
use service::tls::{self, ClientFlags};
use service::traces::{self, TARGET};
use stratum::commit::book::BATCH;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::metadata::MetadataMap;
use tracing::field::Empty;
use tracing::{Instrument, debug, error, info, info_span, warn};

use self::course::{Course, Parting};
use self::shares::{Answered, Shares};
use self::sparse::{Say, Sparse};
use crate::commit::Commits;
use crate::control_thread::ToControl;
use crate::held::Held;
use crate::meterbook::INTERVAL;
use crate::metrics::Tallies;
use crate::outbox::{self, Outbox};

/// Longest wait for a connection, a hello's answer, or any word while reports are sent.
const PATIENCE: Duration = Duration::from_secs(10);
/// A ping where nothing is heard: longer than any silence that a controller allows, since each costs 190 bytes. Whether the link is
/// alive shows earlier, in what is not acknowledged.
const KEEP_ALIVE: Duration = Duration::from_secs(60);
/// Messages that may wait in the stream: a report a second, a window of segments and one of share notes, and as much for answers.
const QUEUE: usize = 64;
/// Ledger segments in flight without an acknowledgement.
const WINDOW: usize = 8;

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("no controller answers at {address}; {advice}")]
    Unreachable {
        address: String,
        advice: &'static str,
        #[source]
        source: tonic::transport::Error,
    },
    #[error("no TLS with the controller")]
    Tls(#[from] tls::Error),
    #[error("no TLS with the controller: {advice}")]
    Insecure {
        advice: &'static str,
        #[source]
        source: Box<tonic::Status>,
    },
    #[error("the stream to the controller broke")]
    Broken(#[source] Box<tonic::Status>),
    #[error("the controller closed the stream")]
    Closed,
    #[error("the controller was silent for {PATIENCE:?}")]
    Silent,
    #[error("the controller refuses this agent: {message}")]
    Refused { message: String, within: Option<Duration> },
    #[error("another controller leads")]
    Redirected { leader: String, within: Option<Duration> },
    #[error("the control thread takes no directive; a device that does not answer may hold it up")]
    Busy,
    #[error("the link is unplugged")]
    Unplugged,
    #[error("the agent's disk failed")]
    Held(#[from] crate::held::Error),
    #[error("the agent's outbox failed")]
    Outbox(#[from] outbox::Error),
}

/// What the session needs.
pub struct Session {
    /// The agent's module.
    pub module: ModuleId,
    /// Addresses of controllers, as URLs; tried in turn.
    pub controllers: Vec<String>,
    /// Certificates towards them, read anew for each connection.
    pub tls: ClientFlags,
    /// The plant is simulated.
    pub simulated: bool,
    /// Where miners reach the proxy.
    pub stratum_address: Option<String>,
    /// The twin of the control thread's envelope state: what it accepts is persisted before the thread hears of it.
    pub holder: Holder,
    /// The directive on disk.
    pub held: Held,
    /// The ledger segments that wait.
    pub outbox: Outbox,
    /// What is claimed of shares.
    pub commits: Commits,
    /// To the control thread.
    pub control: SyncSender<ToControl>,
    /// The directive in force, for the recorder.
    pub directive: watch::Sender<Option<Arc<Directive>>>,
    /// The latest report.
    pub reports: watch::Receiver<Option<Arc<Report>>>,
    /// Told when a segment was sealed.
    pub sealed: Arc<Notify>,
    /// How long an interval of the ledger is.
    pub spacing: watch::Sender<Span>,
    /// False while the plug is pulled, for drills and demonstrations.
    pub link: watch::Receiver<bool>,
    /// For the times of records.
    pub clock: Arc<dyn Clock>,
    /// Is told up to when reports were acknowledged, and `None` when there is no session: simulated time waits for it.
    pub pace: Option<Pace>,
    /// What is counted for whoever watches.
    pub tallies: Arc<Tallies>,
}

/// See [`Session::pace`].
pub type Pace = Arc<dyn Fn(Option<Time>) + Send + Sync>;

/// Keeps a session until cancelled.
pub async fn run(mut session: Session, cancel: CancellationToken) {
    let served = async {
        let mut course = Course::new(session.controllers.clone());
        loop {
            let address = course.address().to_owned();
            let started = Instant::now();
            let span = info_span!(
                target: TARGET,
                parent: None,
                "session",
                module = session.module.as_str(),
                address,
                end = Empty
            );
            let ended = session.serve(&address, &span).await;
            span.record("end", ended.word());
            drop(span);
            session.tallies.link(false);
            session.tallies.ended.add(ended.word());
            if let Some(pace) = &session.pace {
                pace(None);
            }
            tell_end(&ended, &address);
            let next = course.part(&ended.parting(), started.elapsed(), drawn());
            if let Some(leader) = next.stranger {
                warn!(
                    leader,
                    "the leader is not among this agent's controllers and is not followed; add it to --controller"
                );
            }
            sleep(next.wait).await;
        }
    };
    cancel.run_until_cancelled(served).await;
}

impl Ended {
    /// The cause under which it is counted.
    fn word(&self) -> &'static str {
        match self {
            Ended::Unreachable { .. } | Ended::Insecure { .. } | Ended::Broken(_) | Ended::Closed => "broken",
            Ended::Silent => "silent",
            Ended::Refused { .. } => "refused",
            Ended::Redirected { .. } => "redirected",
            Ended::Busy | Ended::Tls(_) | Ended::Held(_) | Ended::Outbox(_) => "failed",
            Ended::Unplugged => "unplugged",
        }
    }

    fn parting(&self) -> Parting {
        match self {
            Ended::Redirected { leader, within } => Parting::Redirected(leader.clone(), *within),
            Ended::Refused { within, .. } => Parting::Refused(*within),
            _ => Parting::Broken,
        }
    }
}

/// Logs why a session ended.
fn tell_end(ended: &Ended, address: &str) {
    match ended {
        Ended::Redirected { leader, .. } => info!(leader, "another controller leads"),
        Ended::Unplugged => debug!("the link is unplugged"),
        Ended::Held(_) | Ended::Outbox(_) => {
            error!(error = ended as &dyn std::error::Error, "the session ended");
        }
        _ => {
            warn!(
                address,
                error = ended as &dyn std::error::Error,
                "the session ended; it will be tried again"
            );
        }
    }
}

/// A random number from 0 to 1.
fn drawn() -> f64 {
    let mut bytes = [0u8; 4];
    // Without a random source all agents wait the full bound: slower, not wrong.
    match getrandom::fill(&mut bytes) {
        Ok(()) => f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX),
        Err(_) => 1.0,
    }
}

/// What a session has to do next.
enum Next {
    Heard(Option<Box<wire::ControllerMessage>>),
    Report,
    Sealed,
    ShareNews,
    Answered(Answered),
}

/// One connection's state.
struct Stream {
    up: mpsc::Sender<wire::AgentMessage>,
    down: tonic::Streaming<wire::ControllerMessage>,
    /// Highest segment that was sent on this stream.
    sent: u64,
    sequence: u64,
    /// Reports whose acknowledgement is out: (sequence, time).
    reported: VecDeque<(u64, Time)>,
    heard: Instant,
    shares: Shares,
    /// Which reports are sent.
    sparse: Sparse,
    tallies: Arc<Tallies>,
}

impl Session {
    /// Serves one connection until it ends. Its span is not what happens within a part of, but for the hello: it may last for weeks.
    async fn serve(&mut self, address: &str, span: &tracing::Span) -> Ended {
        let hello = info_span!(target: TARGET, parent: span, "hello", otel.kind = "client");
        match self.connect(address).instrument(hello).await {
            Ok(mut stream) => loop {
                if let Err(ended) = self.turn(&mut stream).await {
                    return ended;
                }
            },
            Err(ended) => ended,
        }
    }

    async fn connect(&mut self, address: &str) -> Result<Stream, Ended> {
        if !*self.link.borrow() {
            return Err(Ended::Unplugged);
        }
        let unreachable = |source| Ended::Unreachable {
            address: address.to_owned(),
            advice: tls::advice(&source).unwrap_or("start one there or correct --controller"),
            source,
        };
        let endpoint = self.tls.endpoint(address)?;
        let endpoint =
            endpoint.connect_timeout(PATIENCE).http2_keep_alive_interval(KEEP_ALIVE).tcp_nodelay(true);
        let channel = endpoint.connect().await.map_err(unreachable)?;
        let (up, messages) = mpsc::channel(QUEUE);
        let hello = agent_message::Kind::Hello(self.hello().await);
        let hello = wire::AgentMessage { kind: Some(hello) };
        self.tallies.message(traffic::up(&hello), hello.encoded_len());
        up.send(hello).await.map_err(|_| Ended::Closed)?;
        let mut client = AgentServiceClient::new(channel);
        let mut request = tonic::Request::new(ReceiverStream::new(messages));
        *request.metadata_mut() = MetadataMap::from_headers(traces::carried(&tracing::Span::current()));
        let opened = client.session(request);
        let begun = |status| broken_at_begin(address, status);
        let down = timeout(PATIENCE, opened).await.map_err(|_| Ended::Silent)?.map_err(begun)?.into_inner();
        let (reported, heard) = (VecDeque::new(), Instant::now());
        let (shares, sparse) = (Shares::default(), Sparse::default());
        let mut stream = Stream {
            up,
            down,
            sent: 0,
            sequence: 0,
            reported,
            heard,
            shares,
            sparse,
            tallies: self.tallies.clone(),
        };
        let first =
            timeout(PATIENCE, stream.down.message()).await.map_err(|_| Ended::Silent)?.map_err(begun)?;
        self.hear(first, &mut stream)?;
        Ok(stream)
    }

    async fn hello(&mut self) -> wire::Hello {
        // The boot stamp comes with the first tick of the plant; without one there is nothing to say yet.
        let boot = self.reports.wait_for(Option::is_some).await.ok().and_then(|report| report.clone());
        let boot: BootStamp = boot.map(|report| report.stamp.clone()).unwrap_or_default();
        let fence = self.holder.held().map(|held| held.envelope.fence).unwrap_or_default();
        wire::Hello {
            module: self.module.to_string(),
            agent_version: env!("CARGO_PKG_VERSION").into(),
            boot: Some(boot.into()),
            fence: Some(fence.into()),
            acknowledged_ledger_sequence: self
                .outbox
                .waiting()
                .first()
                .map_or(0, |first| first.saturating_sub(1)),
            simulated: self.simulated,
            stratum_address: self.stratum_address.clone(),
        }
    }

    /// Waits for the next thing to do and does it.
    async fn turn(&mut self, stream: &mut Stream) -> Result<(), Ended> {
        match self.next(stream).await? {
            Next::Heard(message) => {
                stream.heard = Instant::now();
                self.hear(message.map(|message| *message), stream)
            }
            Next::Report => {
                let report = self.reports.borrow_and_update().clone();
                report.map_or(Ok(()), |report| self.tell_report(&report, stream))
            }
            Next::Sealed => self.send_segments(stream),
            Next::ShareNews => self.send_notes(stream),
            Next::Answered(answered) => self.send_answer(answered, stream),
        }
    }

    async fn next(&mut self, stream: &mut Stream) -> Result<Next, Ended> {
        let silent_at = stream.heard + stream.patience();
        tokio::select! {
            message = stream.down.message() => Ok(Next::Heard(message.map_err(broken)?.map(Box::new))),
            changed = self.reports.changed() => changed.map(|()| Next::Report).map_err(|_| Ended::Closed),
            () = self.sealed.notified() => Ok(Next::Sealed),
            () = self.commits.news() => Ok(Next::ShareNews),
            Some(answered) = stream.shares.answered(&stream.up) => Ok(Next::Answered(answered)),
            _ = self.link.wait_for(|plugged| !plugged) => Err(Ended::Unplugged),
            () = tokio::time::sleep_until(silent_at) => Err(Ended::Silent),
        }
    }

    fn hear(&mut self, message: Option<wire::ControllerMessage>, stream: &mut Stream) -> Result<(), Ended> {
        let message = message.ok_or(Ended::Closed)?;
        self.tallies.message(traffic::down(&message), message.encoded_len());
        let Some(kind) = message.kind else { return Ok(()) };
        match kind {
            controller_message::Kind::Welcome(welcome) => {
                info!(module = %self.module, controller = welcome.controller_version, "the controller welcomes this agent");
                self.tallies.link(true);
                self.outbox.resume_after(welcome.ledger_watermark, self.clock.now())?;
                self.outbox.acknowledge(welcome.ledger_watermark)?;
                stream.sent = welcome.ledger_watermark;
                // Nonsense allows nothing.
                stream.sparse = Sparse::new(optional_span(welcome.quiet, "quiet").ok().flatten());
                self.commits.set_batch(stream.sparse.spacing(BATCH));
                self.spacing.send_replace(stream.sparse.spacing(INTERVAL));
                self.send_segments(stream)?;
                self.resume_notes(welcome.share_note_watermark, stream)
            }
            controller_message::Kind::Directive(directive) => self.take_directive(directive, stream),
            controller_message::Kind::LedgerAck(ack) => {
                self.outbox.acknowledge(ack.sequence)?;
                self.send_segments(stream)
            }
            controller_message::Kind::ReportAck(ack) => {
                self.keep_pace(ack.sequence, stream);
                Ok(())
            }
            controller_message::Kind::ShareNoteAck(ack) => self.on_note_ack(ack.sequence, stream),
            controller_message::Kind::ShareChallenge(challenge) => {
                self.take_challenge(challenge, stream);
                Ok(())
            }
            controller_message::Kind::ShareVerdict(verdict) => {
                self.take_verdict(&verdict);
                Ok(())
            }
            controller_message::Kind::Redirect(redirect) => {
                let within = within(redirect.retry_within);
                Err(Ended::Redirected { leader: redirect.leader_address, within })
            }
            controller_message::Kind::Refusal(refusal) => {
                let within = within(refusal.retry_within);
                Err(Ended::Refused { message: refusal.message, within })
            }
        }
    }

    /// Sends a report, or what is needed of it.
    fn tell_report(&self, report: &Report, stream: &mut Stream) -> Result<(), Ended> {
        let sent = match stream.sparse.judge(report) {
            Say::All => send_report(report, stream),
            Say::Unchanged => send_unchanged(report, stream),
            // It counts as acknowledged.
            Say::Nothing => {
                self.pace.iter().for_each(|pace| pace(Some(report.at)));
                return Ok(());
            }
        };
        match sent {
            // The next report is newer anyway: a slow link drops telemetry, never the ledger.
            Err(Ended::Silent) => {
                stream.sparse.unsaid();
                Ok(())
            }
            other => other,
        }
    }

    fn keep_pace(&self, sequence: u64, stream: &mut Stream) {
        let mut acknowledged = None;
        while let Some((_, at)) = stream.reported.pop_front_if(|(reported, _)| *reported <= sequence) {
            acknowledged = Some(at);
        }
        if let (Some(pace), Some(at)) = (&self.pace, acknowledged) {
            pace(Some(at));
        }
    }

    /// Judges a directive, persists it, and only then acts on it and says so.
    fn take_directive(&mut self, offered: api::common::Directive, stream: &Stream) -> Result<(), Ended> {
        let span = info_span!(
            target: TARGET,
            parent: None,
            "directive",
            module = self.module.as_str(),
            plan = Empty,
            generation = Empty,
            outcome = Empty
        );
        let _taking = span.enter();
        let directive = match Directive::try_from(offered) {
            Ok(directive) => directive,
            Err(error) => {
                warn!(error = &error as &dyn std::error::Error, "a directive does not parse");
                return Ok(());
            }
        };
        let (fence, generation) = directive.envelope.precedence();
        span.record("plan", fence.plan).record("generation", generation);
        let now = self.reports.borrow().as_ref().map(|report| report.stamp.clone()).unwrap_or_default();
        let mut next = self.holder.clone();
        let outcome = match next.offer(directive.clone(), &now) {
            Ok(_) => {
                info_span!(target: TARGET, "persist").in_scope(|| self.held.keep(&directive))?;
                self.holder = next;
                let ceiling_watts = directive.envelope.grant.ceiling.get();
                self.directive.send_replace(Some(Arc::new(directive.clone())));
                // Applied is said only when the thread will see it: a full inbox means that a device holds it up.
                let told = self.control.try_send(ToControl::Directive(Box::new(directive)));
                told.map_err(|_| Ended::Busy)?;
                span.record("outcome", "applied");
                wire::directive_status::Outcome::Applied(wire::Applied { ceiling_watts })
            }
            Err(error) => {
                span.record("outcome", "refused");
                info!(module = %self.module, error = &error as &dyn std::error::Error, "a directive was refused");
                wire::directive_status::Outcome::Refused(wire::Refused { reason: error.to_string() })
            }
        };
        let status = wire::DirectiveStatus { generation, fence: Some(fence.into()), outcome: Some(outcome) };
        push(stream, agent_message::Kind::DirectiveStatus(status))
    }

    /// Sends the segments that wait, at most a window of them at a time.
    fn send_segments(&self, stream: &mut Stream) -> Result<(), Ended> {
        for sequence in self.outbox.waiting().into_iter().take(WINDOW) {
            if sequence <= stream.sent {
                continue;
            }
            let segment = match self.outbox.read(sequence) {
                Ok(segment) => segment,
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    error!(
                        error,
                        sequence,
                        "the ledger waits at a segment that does not read; reports and directives go on"
                    );
                    return Ok(());
                }
            };
            let sha256 = outbox::digest(&segment);
            let message = wire::LedgerSegment { segment: Some(segment.into()), sha256 };
            push(stream, agent_message::Kind::LedgerSegment(message))?;
            stream.sent = sequence;
        }
        Ok(())
    }
}

impl Stream {
    /// The next number of a report, whose acknowledgement is waited for.
    fn number(&mut self, report: &Report) -> u64 {
        self.sequence += 1;
        if self.reported.len() < QUEUE {
            self.reported.push_back((self.sequence, report.at));
        }
        self.sequence
    }

    /// How long to wait for a word of the controller, who answers what it is told.
    fn patience(&self) -> Duration {
        PATIENCE + Duration::from_millis(u64::try_from(self.sparse.quiet().get()).unwrap_or(0))
    }
}

fn send_report(report: &Report, stream: &mut Stream) -> Result<(), Ended> {
    let sequence = stream.number(report);
    push(stream, agent_message::Kind::Report(Report { sequence, ..report.clone() }.into()))
}

fn send_unchanged(report: &Report, stream: &mut Stream) -> Result<(), Ended> {
    let sequence = stream.number(report);
    let unchanged = wire::Unchanged {
        sequence,
        stamp: Some(report.stamp.clone().into()),
        at: wire_time(report.at),
        meter_watts: report.meter.map(model::Watts::get),
    };
    push(stream, agent_message::Kind::Unchanged(unchanged))
}

/// Queues a message. A full queue is `Silent`: the other side has stopped reading.
fn push(stream: &Stream, kind: agent_message::Kind) -> Result<(), Ended> {
    let message = wire::AgentMessage { kind: Some(kind) };
    let (sort, bytes) = (traffic::up(&message), message.encoded_len());
    stream.up.try_send(message).map_err(|refused| match refused {
        mpsc::error::TrySendError::Full(_) => Ended::Silent,
        mpsc::error::TrySendError::Closed(_) => Ended::Closed,
    })?;
    stream.tallies.message(sort, bytes);
    Ok(())
}

/// Within what time the controller wants to see us again; one that says nothing sensible has said nothing.
fn within(told: Option<api::convert::field::WireSpan>) -> Option<Duration> {
    let span = optional_span(told, "retry_within").ok().flatten()?;
    u64::try_from(span.millis()).ok().map(Duration::from_millis)
}

fn broken(status: tonic::Status) -> Ended {
    Ended::Broken(Box::new(status))
}

/// The stream broke before it served for anything; where TLS is why, or may be, it says what to do.
fn broken_at_begin(address: &str, status: tonic::Status) -> Ended {
    let lost = tls::is_secure(address) && std::error::Error::source(&status).is_some();
    match tls::advice(&status).or(lost.then_some(tls::PERHAPS)) {
        Some(advice) => Ended::Insecure { advice, source: Box::new(status) },
        None => broken(status),
    }
}
