//! One agent: the session of the real protocol, and the real agent's course between sessions. It takes every directive as persisted, and
//! says so in its next report.
//!
//! Next: `site.rs` for what it reports; `agent::session` for the real one, which also keeps a disk and a control thread.

use std::sync::Arc;
use std::time::Duration;

use agent::session::course::{Course, Parting};
use api::agent::agent_message::Kind as Up;
use api::agent::agent_service_client::AgentServiceClient;
use api::agent::controller_message::Kind as Down;
use api::agent::{self as wire, directive_status};
use api::convert::field::{WireSpan, optional_span};
use model::envelope::Fence;
use model::{BootStamp, ModuleId, Span, Watts};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::{Channel, Endpoint};

use crate::seen::Seen;
use crate::{micros, site};

/// As the real agent's.
const PATIENCE: Duration = Duration::from_secs(10);
/// Messages on their way up.
const QUEUE: usize = 8;

pub struct Agent {
    pub index: usize,
    /// How many there are.
    pub of: usize,
    pub module: String,
    pub wired: bool,
    pub every: Duration,
    pub address: String,
    /// How the controller there is reached.
    pub way: Endpoint,
    /// A connection that many share.
    pub shared: Option<Channel>,
    pub seen: Arc<Seen>,
}

/// What outlives a session.
#[derive(Default)]
struct State {
    count: u64,
    envelope: Option<(Fence, u64, Watts)>,
}

/// One session.
struct Session {
    up: mpsc::Sender<wire::AgentMessage>,
    down: Streaming<wire::ControllerMessage>,
    /// The report that is on its way.
    sent: Option<(u64, Instant)>,
    /// A report was acknowledged.
    there: bool,
}

/// How to reach the controller.
pub fn endpoint(address: &str) -> anyhow::Result<Endpoint> {
    let endpoint = Endpoint::from_shared(address.to_owned())?;
    Ok(endpoint.connect_timeout(PATIENCE).http2_keep_alive_interval(PATIENCE).tcp_nodelay(true))
}

impl Agent {
    pub async fn run(self) {
        let mut course = Course::new(vec![self.address.clone()]);
        let mut state = State::default();
        // As if all came up by themselves within some seconds, as sites do; their first connection is not what is measured.
        sleep(Duration::from_secs(5).mul_f64(self.index as f64 / self.of as f64)).await;
        loop {
            let begun = Instant::now();
            let parting = self.serve(&mut state).await.unwrap_or(Parting::Broken);
            let next = course.part(&parting, begun.elapsed(), drawn());
            sleep(next.wait).await;
        }
    }

    async fn serve(&self, state: &mut State) -> anyhow::Result<Parting> {
        let mut session = self.connect(state).await?;
        let ended = self.talk(&mut session, state).await;
        self.seen.went(session.there);
        ended
    }

    async fn connect(&self, state: &State) -> anyhow::Result<Session> {
        let channel = match &self.shared {
            Some(channel) => channel.clone(),
            None => self.way.connect().await?,
        };
        let (up, messages) = mpsc::channel(QUEUE);
        let fence = state.envelope.map(|(fence, _, _)| fence).unwrap_or_default();
        let hello = wire::Hello {
            module: self.module.clone(),
            agent_version: env!("CARGO_PKG_VERSION").into(),
            boot: Some(BootStamp { boot_id: "load".into(), at: Span::ZERO }.into()),
            fence: Some(fence.into()),
            acknowledged_ledger_sequence: 0,
            simulated: true,
            stratum_address: None,
        };
        up.send(wire::AgentMessage { kind: Some(Up::Hello(hello)) }).await?;
        let mut client = AgentServiceClient::new(channel);
        let down = timeout(PATIENCE, client.session(ReceiverStream::new(messages))).await??.into_inner();
        Ok(Session { up, down, sent: None, there: false })
    }

    async fn talk(&self, session: &mut Session, state: &mut State) -> anyhow::Result<Parting> {
        let phase = self.every.mul_f64(self.index as f64 / self.of as f64);
        let mut clock = interval_at(Instant::now() + phase, self.every);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let module = ModuleId::new(&self.module)?;
        loop {
            tokio::select! {
                message = timeout(PATIENCE, session.down.message()) => {
                    let Some(message) = message?? else { return Ok(Parting::Broken) };
                    if let Some(parting) = self.hear(message, session, state).await? {
                        return Ok(parting);
                    }
                }
                meant = clock.tick() => {
                    self.seen.sent_late(micros(meant.elapsed()));
                    state.count += 1;
                    let report = site::report(&module, self.wired, state.count, state.envelope)?;
                    session.sent = Some((state.count, Instant::now()));
                    session.up.send(wire::AgentMessage { kind: Some(Up::Report(report.into())) }).await?;
                }
            }
        }
    }

    async fn hear(
        &self,
        message: wire::ControllerMessage,
        session: &mut Session,
        state: &mut State,
    ) -> anyhow::Result<Option<Parting>> {
        match message.kind {
            Some(Down::ReportAck(ack)) => {
                let sent = session.sent.take_if(|(count, _)| *count == ack.sequence);
                if let Some((_, at)) = sent {
                    self.seen.acknowledged(micros(at.elapsed()));
                }
                if !session.there {
                    session.there = true;
                    self.seen.came();
                }
            }
            Some(Down::Directive(told)) => {
                let told = model::envelope::Directive::try_from(told)?;
                let (fence, generation) = told.envelope.precedence();
                let ceiling = told.envelope.grant.ceiling;
                if state.envelope.is_none_or(|(_, known, _)| known != generation) {
                    self.seen.told(fence.plan);
                }
                state.envelope = Some((fence, generation, ceiling));
                let applied = wire::Applied { ceiling_watts: ceiling.get() };
                let outcome = Some(directive_status::Outcome::Applied(applied));
                let status = wire::DirectiveStatus { generation, fence: Some(fence.into()), outcome };
                session.up.send(wire::AgentMessage { kind: Some(Up::DirectiveStatus(status)) }).await?;
            }
            Some(Down::Redirect(redirect)) => {
                return Ok(Some(Parting::Redirected(redirect.leader_address, within(redirect.retry_within))));
            }
            Some(Down::Refusal(refusal)) => return Ok(Some(Parting::Refused(within(refusal.retry_within)))),
            _ => {}
        }
        Ok(None)
    }
}

fn within(told: Option<WireSpan>) -> Option<Duration> {
    let span = optional_span(told, "retry_within").ok().flatten()?;
    u64::try_from(span.millis()).ok().map(Duration::from_millis)
}

/// A random number from 0 to 1.
fn drawn() -> f64 {
    let mut bytes = [0u8; 4];
    match getrandom::fill(&mut bytes) {
        Ok(()) => f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX),
        Err(_) => 1.0,
    }
}
