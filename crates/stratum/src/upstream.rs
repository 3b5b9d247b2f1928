//! The client's side of one connection to a pool: a state machine from the pool's lines to jobs and outcomes. Simulated
//! miners use it too, towards our own proxy.
//!
//! Assumes one machine a connection; `session` names it, and a share of a job from another session is never sent here.
//! Every share handed to `submit` gets exactly one outcome: the pool's answer, or unknown. Next: `downstream.rs`.

#[cfg(test)]
mod tests;

use crate::job::{Assignment, Extranonce2, Job, Slice, Source};
use crate::message::server::{parse_subscribe_result, response_line};
use crate::message::{self, Call, Configure, Id, Request, RpcError, Said, ServerMessage, push_submit};
use crate::target::Difficulty;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Shares without an answer. A module sends a hundred a second at most, pools answer within a few seconds.
pub const MAX_PENDING: usize = 4_096;
/// Places beyond those for shares that are blocks: one in ten minutes is usual for all of a chain, so that these are full on a test
/// chain alone.
pub const BLOCKS_PENDING: usize = 64;
/// Lines of a pool that cannot be read before it is given up.
pub const MAX_GARBAGE: u32 = 32;

const CONFIGURE: u64 = 1;
const SUBSCRIBE: u64 = 2;
const AUTHORIZE: u64 = 3;
const EXTRANONCE: u64 = 4;
const FIRST_SUBMIT: u64 = 16;

#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The name shares are submitted under.
    pub worker: String,
    pub password: String,
    /// What we call ourselves.
    pub agent: String,
    /// Version bits we ask for; zero asks for none.
    pub mask: u32,
    /// For the simulation's miners: a first difficulty to suggest.
    pub suggest: Option<f64>,
    pub handshake_ms: u64,
    /// How long an answer to a share is waited for.
    pub answer_ms: u64,
    /// An earlier session that the pool is asked to go on with.
    pub resume: Option<Resume>,
}

/// What names a session to a pool that can go on with it: after the same extranonce1 its jobs, and shares for them, are as good
/// as before the connection was lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resume {
    /// The pool's name for it, from its answer to the subscription.
    pub id: String,
    pub slice: Slice,
    /// Our number for it.
    pub session: u64,
}

/// Longest name of a session that is sent back.
const MAX_SESSION_ID: usize = 64;

impl Config {
    /// The bits BIP 310 leaves to miners, 30 s for the handshake, 60 s for an answer.
    pub fn new(worker: &str, agent: &str) -> Config {
        Config {
            worker: worker.to_owned(),
            password: "x".to_owned(),
            agent: agent.to_owned(),
            mask: 0x1fff_e000,
            suggest: None,
            handshake_ms: 30_000,
            answer_ms: 60_000,
            resume: None,
        }
    }
}

/// The caller's own name for a share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ShareRef(pub u64);

/// A share as the pool is to see it. A copy allocates nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    pub session: u64,
    pub job_id: Arc<str>,
    /// All of the pool's extranonce2, our prefix included.
    pub extranonce2: Extranonce2,
    pub ntime: u32,
    pub nonce: u32,
    /// The header's version; which bits of it are told depends on what this pool negotiated.
    pub version: u32,
    /// It is a block on its chain, for all we can see: it goes before everything that waits.
    pub block: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A line with its end, to be written to the pool.
    Send(String),
    /// Handshake done. Jobs follow.
    Ready {
        slice: Slice,
        mask: u32,
    },
    Job(Arc<Assignment>),
    /// The pool's difficulty; each job carries the one that holds for it.
    Difficulty(Difficulty),
    /// Another extranonce: slices must be made anew, before the next job.
    Extranonce(Slice),
    Mask(u32),
    Outcome {
        share: ShareRef,
        outcome: Outcome,
    },
    /// The pool asks to reconnect, empty host for the same; whether to follow is the caller's business.
    Reconnect {
        host: Option<String>,
        port: Option<u16>,
        wait_s: u32,
    },
    /// For people.
    Message(String),
    /// A line of the pool that was not understood; it changes nothing.
    Ignored(message::Error),
    /// Give this connection up.
    Broken(Broken),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Accepted,
    Rejected { reject: PoolReject, text: String },
    Unknown,
}

/// Stratum's error numbers, so that reports have few words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PoolReject {
    Stale,
    Duplicate,
    LowDifficulty,
    Unauthorized,
    NotSubscribed,
    Other,
}

impl PoolReject {
    /// A stable word for metrics and the ledger.
    pub fn code(&self) -> &'static str {
        match self {
            PoolReject::Stale => "stale",
            PoolReject::Duplicate => "duplicate",
            PoolReject::LowDifficulty => "low-difficulty",
            PoolReject::Unauthorized => "unauthorized",
            PoolReject::NotSubscribed => "not-subscribed",
            PoolReject::Other => "other",
        }
    }

    fn from_number(number: i64) -> PoolReject {
        match number {
            21 => PoolReject::Stale,
            22 => PoolReject::Duplicate,
            23 => PoolReject::LowDifficulty,
            24 => PoolReject::Unauthorized,
            25 => PoolReject::NotSubscribed,
            _ => PoolReject::Other,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    #[error("the pool did not finish the handshake in time")]
    HandshakeTimeout,
    #[error("the pool refused the subscription: {0}")]
    Subscription(String),
    #[error("the pool refused the worker: {0}; check its name and password")]
    Unauthorized(String),
    #[error("the pool sends lines that are not Stratum")]
    Garbage,
}

/// Why a share could not be sent; it then ends as unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    #[error("the share belongs to another session with the pool")]
    OtherSession,
    #[error("the handshake is not done")]
    NotReady,
    #[error("{MAX_PENDING} shares wait for the pool's answer")]
    Full,
}

#[derive(Clone, Debug)]
struct Pending {
    share: ShareRef,
    sent_ms: u64,
}

/// Private fields: what the pool said, and which shares it still owes an answer.
#[derive(Clone, Debug)]
pub struct Upstream {
    config: Config,
    session: u64,
    started_ms: u64,
    slice: Option<Slice>,
    session_id: Option<String>,
    resumed: bool,
    /// `None` until `mining.configure` was answered, in whatever way.
    mask: Option<u32>,
    authorized: bool,
    ready: bool,
    difficulty: Option<Difficulty>,
    job: Option<Job>,
    pending: BTreeMap<u64, Pending>,
    next_id: u64,
    garbage: u32,
}

impl Upstream {
    /// The machine, and the lines that open the conversation.
    pub fn new(config: Config, session: u64, now_ms: u64) -> (Upstream, Vec<String>) {
        let mask = (config.mask == 0).then_some(0);
        let lines = opening(&config);
        let upstream = Upstream {
            config,
            session,
            started_ms: now_ms,
            slice: None,
            session_id: None,
            resumed: false,
            mask,
            authorized: false,
            ready: false,
            difficulty: None,
            job: None,
            pending: BTreeMap::new(),
            next_id: FIRST_SUBMIT,
            garbage: 0,
        };
        (upstream, lines)
    }

    /// A line of the pool, without its end.
    pub fn on_line(&mut self, line: &[u8]) -> Vec<Event> {
        let mut events = Vec::new();
        self.on_line_to(&mut events, line);
        events
    }

    /// The same, for whoever has many lines: events go behind those that are there.
    pub fn on_line_to(&mut self, events: &mut Vec<Event>, line: &[u8]) {
        match ServerMessage::parse(line) {
            Ok(message) => self.on_message(message, events),
            Err(error) => {
                self.garbage += 1;
                events.push(Event::Ignored(error));
                if self.garbage > MAX_GARBAGE {
                    events.push(Event::Broken(Broken::Garbage));
                }
            }
        }
    }

    /// The id and the line of a share. After an error the caller books it as unknown.
    pub fn submit(
        &mut self,
        now_ms: u64,
        share: ShareRef,
        outgoing: &Outgoing,
    ) -> Result<(u64, String), SubmitError> {
        let mut line = String::new();
        let id = self.submit_to(&mut line, now_ms, share, outgoing)?;
        Ok((id, line))
    }

    /// The same, for whoever has many shares: the line goes behind what is there. After an error nothing was added.
    pub fn submit_to(
        &mut self,
        out: &mut String,
        now_ms: u64,
        share: ShareRef,
        outgoing: &Outgoing,
    ) -> Result<u64, SubmitError> {
        if outgoing.session != self.session {
            return Err(SubmitError::OtherSession);
        }
        let mask = self.mask.filter(|_| self.ready).ok_or(SubmitError::NotReady)?;
        let reserved = if outgoing.block { BLOCKS_PENDING } else { 0 };
        if self.pending.len() >= MAX_PENDING + reserved {
            return Err(SubmitError::Full);
        }
        let id = self.next_id;
        self.next_id += 1;
        self.pending.insert(id, Pending { share, sent_ms: now_ms });
        let said = Said {
            worker: &self.config.worker,
            job_id: &outgoing.job_id,
            extranonce2: &outgoing.extranonce2,
            ntime: outgoing.ntime,
            nonce: outgoing.nonce,
            version_bits: (mask != 0).then_some(outgoing.version & mask),
        };
        push_submit(out, &id, &said);
        Ok(id)
    }

    /// To be called every second or so: ends what waits too long.
    pub fn tick(&mut self, now_ms: u64) -> Vec<Event> {
        let mut events = Vec::new();
        if !self.ready && now_ms.saturating_sub(self.started_ms) > self.config.handshake_ms {
            events.push(Event::Broken(Broken::HandshakeTimeout));
        }
        // Some pools never answer a configure they do not know: a third of the time is enough to wait for it.
        if self.mask.is_none() && now_ms.saturating_sub(self.started_ms) > self.config.handshake_ms / 3 {
            self.mask = Some(0);
            self.become_ready(&mut events);
        }
        // Ids ascend with time, so the oldest comes first.
        while let Some(first) = self.pending.first_entry() {
            if now_ms.saturating_sub(first.get().sent_ms) <= self.config.answer_ms {
                break;
            }
            events.push(Event::Outcome { share: first.remove().share, outcome: Outcome::Unknown });
        }
        events
    }

    /// The connection is gone: every share without an answer ends as unknown.
    pub fn disconnect(self) -> Vec<ShareRef> {
        self.pending.into_values().map(|pending| pending.share).collect()
    }

    pub fn is_ready(&self) -> bool {
        self.ready
    }

    /// Our number for it; once ready that of the earlier session where the pool goes on with that.
    pub fn session(&self) -> u64 {
        self.session
    }

    /// Whether the pool goes on with the session that it was asked for.
    pub fn is_resumed(&self) -> bool {
        self.resumed
    }

    /// What to ask for after this connection is lost; `None` before it is ready, or where the pool names no sessions.
    pub fn resume(&self) -> Option<Resume> {
        let (id, slice) = (self.session_id.clone()?, self.slice.clone()?);
        self.ready.then_some(Resume { id, slice, session: self.session })
    }

    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    fn on_message(&mut self, message: ServerMessage, events: &mut Vec<Event>) {
        match message {
            ServerMessage::Notify(job) => {
                self.job = Some(*job);
                self.give_job(events);
            }
            ServerMessage::SetDifficulty(difficulty) => self.on_difficulty(difficulty, events),
            ServerMessage::SetExtranonce(slice) => {
                self.slice = Some(slice.clone());
                self.job = None; // it was for the old one
                if self.ready {
                    events.push(Event::Extranonce(slice));
                }
            }
            ServerMessage::SetVersionMask(mask) => {
                let mask = mask & self.config.mask;
                self.mask = Some(mask);
                if self.ready {
                    events.push(Event::Mask(mask));
                }
                self.become_ready(events);
            }
            ServerMessage::ShowMessage(text) => events.push(Event::Message(text)),
            ServerMessage::Reconnect { host, port, wait_s } => {
                events.push(Event::Reconnect { host, port, wait_s });
            }
            ServerMessage::Ping { id } => events.push(Event::Send(response_line(&id, &Ok(json!("pong"))))),
            ServerMessage::GetVersion { id } => {
                events.push(Event::Send(response_line(&id, &Ok(json!(self.config.agent)))));
            }
            ServerMessage::Response { id, outcome } => self.on_response(id.as_u64(), outcome, events),
            ServerMessage::Unknown { id, method } => {
                let error = RpcError { number: 20, text: format!("unknown method {method}") };
                events.push(Event::Send(response_line(&id, &Err(error))));
            }
        }
    }

    /// A difficulty holds from the next job on. The very first may come after the first job, and then means that one.
    fn on_difficulty(&mut self, difficulty: Difficulty, events: &mut Vec<Event>) {
        let first = self.difficulty.replace(difficulty).is_none();
        events.push(Event::Difficulty(difficulty));
        if first && self.job.is_some() {
            self.give_job(events);
        }
    }

    fn on_response(&mut self, id: Option<u64>, outcome: Result<Value, RpcError>, events: &mut Vec<Event>) {
        match id {
            Some(CONFIGURE) => {
                self.mask = Some(outcome.map_or(0, |result| granted_mask(&result)) & self.config.mask);
                self.become_ready(events);
            }
            Some(SUBSCRIBE) => match outcome.map_err(|error| error.text).and_then(|result| {
                let slice = parse_subscribe_result(&result);
                let slice = slice.map_err(|field| format!("malformed {}", field.name()))?;
                Ok((slice, session_id(&result)))
            }) {
                Ok((slice, session_id)) => {
                    (self.slice, self.session_id) = (Some(slice), session_id);
                    self.become_ready(events);
                }
                Err(text) => events.push(Event::Broken(Broken::Subscription(text))),
            },
            Some(AUTHORIZE) => match outcome {
                Ok(Value::Bool(true)) => {
                    self.authorized = true;
                    self.become_ready(events);
                }
                Ok(_) => events.push(Event::Broken(Broken::Unauthorized("no reason given".to_owned()))),
                Err(error) => events.push(Event::Broken(Broken::Unauthorized(error.text))),
            },
            // An answer that comes after its share was given up, or to nothing we asked, changes nothing.
            Some(id) => {
                if let Some(pending) = self.pending.remove(&id) {
                    events.push(Event::Outcome { share: pending.share, outcome: share_outcome(outcome) });
                }
            }
            None => {}
        }
    }

    fn become_ready(&mut self, events: &mut Vec<Event>) {
        if self.ready || !self.authorized {
            return;
        }
        if let (Some(slice), Some(mask)) = (self.slice.clone(), self.mask) {
            self.ready = true;
            if let Some(earlier) = self.config.resume.as_ref().filter(|earlier| earlier.slice == slice) {
                (self.session, self.resumed) = (earlier.session, true);
            }
            events.push(Event::Ready { slice, mask });
            self.give_job(events);
        }
    }

    fn give_job(&self, events: &mut Vec<Event>) {
        if let Some(job) = self.job.clone().filter(|_| self.ready) {
            let difficulty = self.difficulty.unwrap_or(Difficulty::one());
            let source = Source::Upstream { session: self.session, difficulty };
            events.push(Event::Job(Arc::new(Assignment { job, source })));
        }
    }
}

fn opening(config: &Config) -> Vec<String> {
    let line = |id: u64, call: Call| Request { id: Id::from(id), call }.to_line();
    let mut lines = Vec::new();
    if config.mask != 0 {
        let configure = Configure { version_mask: Some(config.mask), ..Configure::default() };
        lines.push(line(CONFIGURE, Call::Configure(configure)));
    }
    lines.push(match &config.resume {
        None => line(SUBSCRIBE, Call::Subscribe { agent: config.agent.clone() }),
        Some(earlier) => {
            let params = json!([config.agent, earlier.id]);
            format!("{}\n", json!({ "id": SUBSCRIBE, "method": "mining.subscribe", "params": params }))
        }
    });
    let (worker, password) = (config.worker.clone(), config.password.clone());
    lines.push(line(AUTHORIZE, Call::Authorize { worker, password }));
    lines.push(line(EXTRANONCE, Call::ExtranonceSubscribe));
    if let Some(difficulty) = config.suggest {
        lines.push(line(EXTRANONCE + 1, Call::SuggestDifficulty(difficulty)));
    }
    lines
}

/// The pool's name for the session: what stands beside `mining.notify` in its list of subscriptions.
fn session_id(result: &Value) -> Option<String> {
    let subscriptions = result.get(0)?.as_array()?;
    let notify =
        subscriptions.iter().find(|entry| entry.get(0).and_then(Value::as_str) == Some("mining.notify"))?;
    let id = notify.get(1)?.as_str()?;
    (!id.is_empty() && id.len() <= MAX_SESSION_ID).then(|| id.to_owned())
}

fn granted_mask(result: &Value) -> u32 {
    let granted = result.get("version-rolling").and_then(Value::as_bool).unwrap_or(false);
    let mask = result.get("version-rolling.mask").and_then(Value::as_str);
    mask.filter(|_| granted).and_then(|mask| u32::from_str_radix(mask, 16).ok()).unwrap_or(0)
}

fn share_outcome(outcome: Result<Value, RpcError>) -> Outcome {
    match outcome {
        Ok(Value::Bool(true)) => Outcome::Accepted,
        Ok(_) => Outcome::Rejected { reject: PoolReject::Other, text: "no reason given".to_owned() },
        Err(error) => Outcome::Rejected { reject: PoolReject::from_number(error.number), text: error.text },
    }
}
