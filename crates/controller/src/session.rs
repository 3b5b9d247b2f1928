//! One agent's session: hello, then reports and ledger segments up, directives and acknowledgements down.
//!
//! A standby answers with the leader's address; a newer session of the same module ends the older. Directives wait in a slot of
//! one, where the latest wins, so a slow link never delays the newest word. Assumes that everything may arrive twice.
//! Read next: `term.rs`, where reports go; `session/ledger.rs` for segments, `session/shares.rs` for share commitments.

mod ledger;
mod shares;

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use api::agent::agent_message::Kind as Up;
use api::agent::controller_message::Kind as Down;
use api::agent::{self as wire, RefusalCode};
use api::convert::field::{message, time, wire_span, wire_time};
use model::envelope::Fence;
use model::report::Report;
use model::{BootStamp, ModuleId, SiteId, Span, Watts};
use service::tls;
use service::traces::{self, TARGET};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_stream::{Stream, StreamExt};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};
use tracing::field::Empty;
use tracing::{Instrument, info_span};

use crate::cache::Cache;
use crate::callers;
use crate::context::{Context, Office};
use crate::latest::Latest;
use crate::live::Agent;
use crate::metrics::Greeting;
use crate::publish::Published;
use crate::term::Event;
use crate::tracker::SessionId;

/// An agent says hello at once; a connection that says nothing is let go.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
/// A session without a message for this long is dead: agents report every second, or say at least every 30 that nothing changed,
/// and a half-open TCP is silent.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// Messages that wait for a slow link: an acknowledgement each of eight reports and eight segments.
const OUTBOUND: usize = 16;
/// Sessions at once: below the 20,000 files that a process may open here.
pub const MAX_SESSIONS: usize = 15_000;
/// Sessions accepted and not begun.
const BACKLOG: usize = 64;
/// Agents that are sent away are asked back at this pace: at 0.6 ms of CPU for a handshake, six tenths of a core.
const RETURNS_PER_SECOND: usize = 1_000;
/// All are asked back within this, so that none counts as lost meanwhile (`Freshness::stale` is 15 s).
const MOST_WITHIN: Span = Span::secs(10);

/// Why a session ends from this side.
pub(crate) enum End {
    /// The agent went away, or the stream failed.
    Gone,
    /// It is refused, with what to do.
    Refused(RefusalCode, String),
    /// Another controller leads, at this address, if it is known.
    Redirect(String),
}

impl End {
    /// How a stream that ends so before it became a session was answered.
    fn greeting(&self) -> Greeting {
        match self {
            End::Gone => Greeting::Gone,
            End::Refused(..) => Greeting::Refused,
            End::Redirect(_) => Greeting::Redirected,
        }
    }
}

/// A session that was asked for: its two directions.
struct Opened {
    peer: Arc<tls::Peer>,
    inbound: Streaming<wire::AgentMessage>,
    outbound: mpsc::Sender<Box<wire::ControllerMessage>>,
    span: tracing::Span,
}

/// The gRPC service of agents. It hands sessions to [`Sessions`], which runs them.
#[derive(Clone)]
pub struct Service {
    opened: mpsc::Sender<Opened>,
}

/// Runs the sessions.
pub struct Sessions {
    context: Context,
    opened: mpsc::Receiver<Opened>,
}

/// The service and its sessions.
pub fn new(context: Context) -> (Service, Sessions) {
    let (sender, opened) = mpsc::channel(BACKLOG);
    (Service { opened: sender }, Sessions { context, opened })
}

#[tonic::async_trait]
impl wire::agent_service_server::AgentService for Service {
    type SessionStream = Messages;

    async fn session(
        &self,
        request: Request<Streaming<wire::AgentMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let (outbound, messages) = mpsc::channel(OUTBOUND);
        let peer = callers::peer(request.extensions());
        let span = info_span!(
            target: TARGET,
            parent: None,
            "session",
            otel.kind = "server",
            module = Empty,
            end = Empty
        );
        traces::adopt(&span, request.metadata().as_ref());
        let opened = Opened { peer, inbound: request.into_inner(), outbound, span };
        let full = || api::Problem::unavailable("too many sessions are opening; try again with back-off");
        self.opened.try_send(opened).map_err(|_| full())?;
        Ok(Response::new(Messages(messages)))
    }
}

impl Sessions {
    /// Runs all sessions until cancelled; a session that panics ends the process.
    pub async fn run(mut self, cancel: CancellationToken) {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let mut tasks = JoinSet::new();
        loop {
            tokio::select! {
                () = cancel.cancelled() => break,
                Some(ended) = tasks.join_next() => ended.expect("a session does not panic"),
                opened = self.opened.recv() => {
                    let Some(Opened { peer, inbound, outbound, span }) = opened else { break };
                    let full = tasks.len() >= MAX_SESSIONS;
                    let id = SessionId(NEXT.fetch_add(1, Ordering::Relaxed));
                    let session = Session { context: self.context.clone(), id, peer, outbound, span };
                    tasks.spawn(session.run(inbound, full, cancel.clone()));
                }
            }
        }
        while tasks.join_next().await.is_some() {}
    }
}

struct Session {
    context: Context,
    id: SessionId,
    /// Who opened the connection.
    peer: Arc<tls::Peer>,
    outbound: mpsc::Sender<Box<wire::ControllerMessage>>,
    /// From the hello to the end. What happens between is no part of it: that would be a trace without bound.
    span: tracing::Span,
}

/// What a session says, as its stream takes it. Boxed on the way: a channel keeps room for 32 messages whatever its limit, and a
/// directive inside of them would make that 10 KiB an agent.
pub struct Messages(mpsc::Receiver<Box<wire::ControllerMessage>>);

impl Stream for Messages {
    type Item = Result<wire::ControllerMessage, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(cx).map(|next| next.map(|message| Ok(*message)))
    }
}

/// What a welcome hello settled.
struct Peer {
    module: ModuleId,
    office: Office,
    slot: watch::Receiver<Option<Arc<Published>>>,
    /// Its newest report, until the leader takes it.
    latest: Latest,
    /// How long it may say nothing.
    quiet: Span,
    /// Its last report that came whole, where it need not say what did not change.
    whole: Option<Report>,
}

impl Session {
    async fn run(
        self,
        mut inbound: impl Stream<Item = Result<wire::AgentMessage, Status>> + Unpin,
        full: bool,
        cancel: CancellationToken,
    ) {
        let _open = self.context.counts.stream();
        let end = if full {
            self.context.counts.session(Greeting::Refused);
            End::Refused(RefusalCode::Overloaded, "too many sessions; try again with back-off".into())
        } else {
            let hello = info_span!(target: TARGET, parent: &self.span, "hello");
            match self.greet(&mut inbound).instrument(hello).await {
                Ok(mut peer) => {
                    self.span.record("module", peer.module.as_str());
                    self.context.counts.session(Greeting::Welcomed);
                    let end = self.serve(&mut inbound, &mut peer, &cancel).await;
                    let closed = Event::Closed { module: peer.module.clone(), session: self.id };
                    // A term that ended meanwhile has forgotten the session already.
                    let _ = peer.office.inbox.send(closed).await;
                    end
                }
                Err(end) => {
                    self.context.counts.session(end.greeting());
                    end
                }
            }
        };
        self.span.record("end", end.greeting().word());
        let retry_within = wire_span(return_within(self.context.cache.borrow().modules.len()));
        let last = match end {
            End::Gone => return,
            End::Refused(code, message) => {
                Down::Refusal(wire::Refusal { code: code.into(), message, retry_within })
            }
            End::Redirect(leader_address) => Down::Redirect(wire::Redirect { leader_address, retry_within }),
        };
        self.tell(last).await;
    }

    /// The office is left: waits a little for whoever takes it, so that the agent can be told where to go.
    async fn handed_over(&self) -> End {
        let mut cache = self.context.cache.clone();
        let own = &self.context.settings.address;
        let other = |cache: &Cache| cache.leader.as_ref().is_some_and(|leader| leader.address != *own);
        // Nobody may stand by, or the store be away: then the agent asks around by itself.
        let _ = timeout(self.context.settings.hand_over, cache.wait_for(other)).await;
        End::Redirect(self.context.leader_address())
    }

    /// Takes the hello and answers it.
    async fn greet(
        &self,
        inbound: &mut (impl Stream<Item = Result<wire::AgentMessage, Status>> + Unpin),
    ) -> Result<Peer, End> {
        let first = timeout(HELLO_TIMEOUT, inbound.next()).await.map_err(|_| End::Gone)?;
        let Some(Ok(wire::AgentMessage { kind: Some(Up::Hello(hello)) })) = first else {
            return Err(malformed("the first message of a session must be a hello"));
        };
        let office = self.context.office().map_err(|_| End::Redirect(self.context.leader_address()))?;
        let (module, fence) = hello_ids(&hello).map_err(malformed)?;
        self.identify(&module)?;
        self.admit(&module, fence, hello.simulated, &office)?;
        let watermark = self.watermark(&module);
        let agent = Agent { version: hello.agent_version, stratum: hello.stratum_address };
        let (sender, slot) = watch::channel(None);
        let quiet = self.context.tuning.borrow().quiet;
        let opened = Event::Opened { module: module.clone(), session: self.id, agent, quiet, slot: sender };
        if office.inbox.send(opened).await.is_err() {
            return Err(End::Redirect(self.context.leader_address()));
        }
        let plan = self.context.live.borrow().in_force.as_ref().map_or(0, |plan| plan.plan.generation);
        self.tell(Down::Welcome(wire::Welcome {
            controller_version: env!("CARGO_PKG_VERSION").into(),
            fence: Some(Fence { plan, ..office.term }.into()),
            ledger_watermark: watermark,
            at: wire_time(self.context.clock.now()),
            share_note_watermark: self.context.audits.taken(&module),
            quiet: Some(quiet).filter(|quiet| *quiet > Span::ZERO).and_then(wire_span),
        }))
        .await;
        self.ask_again(&module).await;
        Ok(Peer { module, office, slot, latest: Latest::default(), quiet, whole: None })
    }

    /// Whether whoever opened the connection is this module's agent.
    fn identify(&self, module: &ModuleId) -> Result<(), End> {
        if self.peer.speaks_for(module.as_str()) {
            return Ok(());
        }
        let certificate = self.peer.to_string();
        tracing::warn!(
            module = module.as_str(),
            certificate,
            "an agent says that it is of another module than its certificate"
        );
        let message = format!(
            "the certificate is that of {certificate}, the hello of module {module}; give the agent the certificate of its own module, \
             with the name flareshift:module/{module}"
        );
        Err(End::Refused(RefusalCode::Identity, message))
    }

    /// Whether this module's agent is welcome here.
    fn admit(&self, module: &ModuleId, seen: Fence, simulated: bool, office: &Office) -> Result<(), End> {
        let cache = self.context.cache.borrow();
        let Some(stored) = cache.modules.get(module) else {
            let message = format!("module {module} is not configured; add it to the fleet file and load it");
            return Err(End::Refused(RefusalCode::UnknownModule, message));
        };
        let site: &SiteId = &stored.value.module.site;
        let expected = cache.sites.get(site).is_some_and(|site| site.value.simulated);
        if simulated && !self.context.settings.accept_simulated {
            let message =
                "this controller takes no simulated plant; start it with --accept-simulated to try one";
            return Err(End::Refused(RefusalCode::Simulated, message.into()));
        }
        if simulated != expected {
            let message = format!(
                "site {site} is configured with simulated = {expected}, the agent says {simulated}; make them agree"
            );
            return Err(End::Refused(RefusalCode::Simulated, message));
        }
        if (seen.epoch, seen.leader) > (office.term.epoch, office.term.leader) {
            let message = format!(
                "the agent has followed {}/{}, this controller is {}/{}: its store was set back; raise the epoch by an import",
                seen.epoch, seen.leader, office.term.epoch, office.term.leader
            );
            return Err(End::Refused(RefusalCode::LowerFence, message));
        }
        Ok(())
    }

    async fn serve(
        &self,
        inbound: &mut (impl Stream<Item = Result<wire::AgentMessage, Status>> + Unpin),
        peer: &mut Peer,
        cancel: &CancellationToken,
    ) -> End {
        let mut office = self.context.office.clone();
        // Made once and not for each message: ten thousand sessions take a message a second each.
        let (left, cancelled) = (left(&mut office, peer.office.term), cancel.cancelled());
        let mut heard = Instant::now();
        let idle = sleep_until(heard + IDLE_TIMEOUT);
        tokio::pin!(left, cancelled, idle);
        loop {
            tokio::select! {
                () = &mut cancelled => return self.handed_over().await,
                () = &mut left => return self.handed_over().await,
                changed = peer.slot.changed() => {
                    if changed.is_err() {
                        return self.superseded_or_moved().await;
                    }
                    let published = peer.slot.borrow_and_update().clone();
                    if let Some(published) = published {
                        self.tell(directive(&published, peer, self.context.settings.validity)).await;
                    }
                }
                () = &mut idle => {
                    if heard.elapsed() >= IDLE_TIMEOUT {
                        return End::Gone;
                    }
                    idle.as_mut().reset(heard + IDLE_TIMEOUT);
                }
                next = inbound.next() => match next {
                    Some(Ok(message)) => {
                        heard = Instant::now();
                        if let Err(end) = self.on_message(message, peer).await {
                            return end;
                        }
                    }
                    Some(Err(_)) | None => return End::Gone,
                }
            }
        }
    }

    async fn on_message(&self, message: wire::AgentMessage, peer: &mut Peer) -> Result<(), End> {
        let Some(kind) = message.kind else {
            // A newer agent says what this version does not know. It asked for nothing, so nothing is answered.
            tracing::debug!(module = %peer.module, "a message of an unknown kind was passed over");
            return Ok(());
        };
        match kind {
            Up::Hello(_) => Err(malformed("a hello came twice; open a new session instead")),
            Up::Report(report) => self.on_report(report, peer).await,
            Up::Unchanged(unchanged) => self.on_unchanged(unchanged, peer).await,
            Up::LedgerSegment(segment) => {
                let sequence = self.on_segment(segment, &peer.module).await?;
                if let Some(sequence) = sequence {
                    self.tell(Down::LedgerAck(wire::LedgerAck { sequence })).await;
                }
                Ok(())
            }
            Up::ShareNote(note) => self.on_share_note(note, peer).await,
            Up::ShareAnswer(answer) => self.on_share_answer(answer, &peer.module).await,
            Up::DirectiveStatus(status) => {
                let applied = matches!(status.outcome, Some(wire::directive_status::Outcome::Applied(_)));
                self.context.counts.answer(applied);
                if let Some(wire::directive_status::Outcome::Refused(refused)) = status.outcome {
                    let module = peer.module.as_str();
                    tracing::warn!(
                        module,
                        generation = status.generation,
                        why = refused.reason,
                        "directive refused"
                    );
                }
                Ok(())
            }
        }
    }

    async fn on_report(&self, report: api::common::Report, peer: &mut Peer) -> Result<(), End> {
        let report: Report = message(Some(report), "report").map_err(malformed)?;
        if report.module != peer.module {
            return Err(malformed(format!(
                "a report of {} came in the session of {}",
                report.module, peer.module
            )));
        }
        if peer.quiet > Span::ZERO {
            peer.whole = Some(report.clone());
        }
        self.take(report, peer).await
    }

    /// The last report that came whole still holds, but for the meter.
    async fn on_unchanged(&self, unchanged: wire::Unchanged, peer: &Peer) -> Result<(), End> {
        let whole = peer.whole.as_ref();
        let whole = whole.ok_or_else(|| malformed("nothing can be unchanged before a report came whole"))?;
        let report = still(whole, unchanged).map_err(malformed)?;
        self.take(report, peer).await
    }

    /// Hands a report to the leader and acknowledges it.
    async fn take(&self, report: Report, peer: &Peer) -> Result<(), End> {
        let sequence = report.sequence;
        let event = || Event::Report { session: self.id, latest: peer.latest.clone() };
        if peer.latest.put(report) && peer.office.inbox.send(event()).await.is_err() {
            return Err(End::Redirect(self.context.leader_address()));
        }
        self.tell(Down::ReportAck(wire::ReportAck { sequence })).await;
        Ok(())
    }

    /// The last segment that is durable, as this side knows it: in the store and on the disk.
    fn watermark(&self, module: &ModuleId) -> u64 {
        self.context.cache.borrow().watermarks.get(module).copied().unwrap_or(0)
    }

    async fn superseded_or_moved(&self) -> End {
        if self.context.office.borrow().is_none() {
            return self.handed_over().await;
        }
        End::Refused(RefusalCode::Superseded, "a newer session of this module took over".into())
    }

    async fn tell(&self, kind: Down) {
        // A receiver that is gone shows in the inbound stream too.
        let _ = self.outbound.send(Box::new(wire::ControllerMessage { kind: Some(kind) })).await;
    }
}

/// What is told to an agent, made here and not by the leader: thousands are told at once.
fn directive(published: &Published, peer: &Peer, validity: Span) -> Down {
    Down::Directive(published.directive(&peer.module, validity).into())
}

/// Within what time agents shall come back, where so many modules are configured.
fn return_within(modules: usize) -> Span {
    let millis = modules.saturating_mul(1_000) / RETURNS_PER_SECOND;
    i64::try_from(millis).map_or(MOST_WITHIN, |millis| Span::new(millis).min(MOST_WITHIN))
}

/// Returns once this controller no longer holds the office of that term.
async fn left(office: &mut watch::Receiver<Option<Office>>, term: Fence) {
    // A sender that is gone means that the process ends.
    let _ = office.wait_for(|office| office.as_ref().is_none_or(|now| now.term != term)).await;
}

fn hello_ids(hello: &wire::Hello) -> Result<(ModuleId, Fence), api::convert::Error> {
    let module = api::convert::field::id(&hello.module, "hello.module")?;
    Ok((module, message(hello.fence, "hello.fence")?))
}

/// What a module would report now that says its last report holds. Sets are in their state for so much longer; what runs made of it
/// since, nobody was told.
fn still(whole: &Report, now: wire::Unchanged) -> Result<Report, api::convert::Error> {
    let stamp: BootStamp = message(now.stamp, "unchanged.stamp")?;
    let since = stamp.since(&whole.stamp).unwrap_or(Span::ZERO);
    let at = time(now.at, "unchanged.at")?;
    let mut report =
        Report { sequence: now.sequence, stamp, at, meter: now.meter_watts.map(Watts::new), ..whole.clone() };
    let sets = report.site.iter_mut().flat_map(|site| site.gensets.values_mut());
    sets.for_each(|set| set.for_span += since);
    Ok(report)
}

pub(crate) fn malformed(why: impl ToString) -> End {
    End::Refused(RefusalCode::Malformed, why.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn messages_come_out_as_they_went_in_and_end_with_the_session() {
        let (sender, messages) = mpsc::channel(OUTBOUND);
        for sequence in 1..=3 {
            let kind = Some(Down::ReportAck(wire::ReportAck { sequence }));
            sender.send(Box::new(wire::ControllerMessage { kind })).await.expect("it is open");
        }
        drop(sender);
        let kinds = Messages(messages).map(|message| message.expect("no message fails").kind);
        let found: Vec<Option<Down>> = kinds.collect().await;
        let ack = |sequence| Some(Down::ReportAck(wire::ReportAck { sequence }));
        assert_eq!(found, [ack(1), ack(2), ack(3)]);
    }

    #[test]
    fn a_fleet_is_asked_back_over_a_time_that_grows_with_it_and_ends_before_links_are_lost() {
        for (modules, millis) in [(0, 0), (6, 6), (2_000, 2_000), (10_000, 10_000), (usize::MAX, 10_000)] {
            assert_eq!(return_within(modules), Span::new(millis), "{modules} modules");
        }
        assert!(MOST_WITHIN < crate::tracker::Freshness::default().stale);
    }
}
