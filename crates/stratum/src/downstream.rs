//! The server's side of one miner's connection: a state machine from lines and jobs to lines and shares.
//!
//! Assumes one machine a connection and outputs acted on in order: a `Share` stands before the reply that acknowledges
//! it, so that it can be recorded first. A peer's mistake costs an error reply; only a full duplicate memory, lasting
//! garbage, silence, or an extranonce that cannot be changed closes. Next: `downstream/handed.rs` (what was in force for
//! each job), `verify.rs`, `vardiff.rs`.

mod handed;
mod prepared;
#[cfg(test)]
mod tests;

use crate::batch::Hashed;
use crate::job::{Assignment, Source};
use crate::message::server::{reject_line, response_line, subscribe_result};
use crate::message::{self, Call, Configure, Field, Id, Request, RpcError, Said, ServerMessage, Usual};
use crate::seen::{self, Seen};
use crate::slices::MinerSlice;
use crate::target::Difficulty;
use crate::upstream::Outgoing;
use crate::vardiff::{self, Vardiff};
use crate::verify::{self, NtimeWindow, Reject, Rules, Verified, check_said};
use handed::{Handed, HandedOut};
use model::Work;
use prepared::{Prepared, Task};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Lines hashed together: two at a time is what the processor gains by, and of more than four nothing is gained any more
/// (docs/benchmarks.md), but what they need grows beyond what an allocator hands out quickly.
const TOGETHER: usize = 4;

/// Names one connection may authorize: a proxy of the customer's own may stand behind it.
pub const MAX_WORKERS: usize = 64;
/// Lines that are no Stratum at all, within a minute, before the connection is given up.
pub const MAX_GARBAGE: u32 = 32;
const MINUTE_MS: u64 = 60_000;

/// Both clocks, both wall time: milliseconds of one that is never set, and Unix seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    pub mono_ms: u64,
    pub unix_s: u64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Config {
    pub vardiff: vardiff::Config,
    pub window: NtimeWindow,
    /// Header hashes remembered, 64 bytes each. At ten shares a minute and a block in ten minutes, 100 are used.
    pub seen_budget: usize,
    /// From connecting to being authorized.
    pub handshake_ms: u64,
    /// Longest silence of a miner that is not put to sleep.
    pub idle_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            vardiff: vardiff::Config::default(),
            window: NtimeWindow::default(),
            seen_budget: 16_384, // 1 MiB at worst, and a hundred times what is usual
            handshake_ms: MINUTE_MS,
            idle_ms: 15 * MINUTE_MS, // vardiff reaches the floor from an S21's difficulty in less
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// A line with its end, to be written to the miner.
    Send(String),
    /// The first time a name is authorized on this connection.
    Authorized {
        worker: String,
        agent: String,
    },
    Share(Box<Share>),
    /// A share that was received and not counted; `work` is that of the target it was held against.
    Rejected {
        worker: Option<Arc<str>>,
        reject: Reject,
        work: Work,
    },
    Close(CloseReason),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum CloseReason {
    #[error("no authorization within the time for it")]
    HandshakeTimeout,
    #[error("silent for too long")]
    Idle,
    #[error("too many lines that are not Stratum")]
    Garbage,
    #[error("the memory for duplicates is full")]
    Exhausted,
    #[error("the extranonce changed, and this miner did not subscribe to changes")]
    ExtranonceChanged,
}

/// A share that was verified and is new.
#[derive(Clone, Debug, PartialEq)]
pub struct Share {
    pub worker: Arc<str>,
    pub assignment: Arc<Assignment>,
    pub verified: Verified,
    pub fate: Fate,
}

/// What is to become of a verified share.
#[derive(Clone, Debug, PartialEq)]
pub enum Fate {
    /// It meets the pool's difficulty (or is a block).
    Forward(Outgoing),
    BelowUpstream,
    KeepAlive,
}

/// Private fields: what was told to the miner and what it may still answer to.
#[derive(Clone, Debug)]
pub struct Session {
    config: Config,
    vardiff: Vardiff,
    slice: Arc<MinerSlice>,
    /// Ours and the pool's; zero where the pool rolls nothing.
    mask: u32,
    /// What the miner offered, once rolling was granted; one that was refused it sends no bits.
    offered: Option<u32>,
    subscribed: bool,
    extranonce_subscribed: bool,
    agent: String,
    workers: BTreeSet<Arc<str>>,
    told: Option<Difficulty>,
    handed: HandedOut,
    prepared: Prepared,
    seen: Seen,
    garbage: u32,
    garbage_since_ms: u64,
    started_ms: u64,
    heard_ms: u64,
    asleep: bool,
    closed: bool,
}

impl Session {
    /// `mask` is what versions may be rolled by: ours and the pool's.
    pub fn new(config: Config, slice: MinerSlice, mask: u32, now: Now) -> Session {
        Session {
            vardiff: Vardiff::new(config.vardiff, now.mono_ms),
            seen: Seen::new(config.seen_budget),
            config,
            slice: Arc::new(slice),
            mask,
            offered: None,
            subscribed: false,
            extranonce_subscribed: false,
            agent: String::new(),
            workers: BTreeSet::new(),
            told: None,
            handed: HandedOut::default(),
            prepared: Prepared::default(),
            garbage: 0,
            garbage_since_ms: now.mono_ms,
            started_ms: now.mono_ms,
            heard_ms: now.mono_ms,
            asleep: false,
            closed: false,
        }
    }

    /// A line of the miner, without its end.
    pub fn on_line(&mut self, now: Now, line: &[u8]) -> Vec<Output> {
        self.on_lines(now, &[line])
    }

    /// The lines of one read, in order. Their shares are hashed together, which costs less than one by one; everything
    /// else is as if they had come one by one.
    pub fn on_lines(&mut self, now: Now, lines: &[&[u8]]) -> Vec<Output> {
        let mut out = Vec::new();
        if self.closed {
            return out;
        }
        self.heard_ms = now.mono_ms;
        out.reserve(2 * lines.len());
        for part in lines.chunks(TOGETHER) {
            self.on_part(now, part, &mut out);
        }
        out
    }

    fn on_part(&mut self, now: Now, lines: &[&[u8]], out: &mut Vec<Output>) {
        let heard: Vec<_> = lines.iter().map(|line| Heard::parse(line)).collect();
        let mut ahead = self.hash_ahead(now, &heard);
        for (index, heard) in heard.into_iter().enumerate() {
            if self.closed {
                return;
            }
            let before = out.len();
            let hashed = ahead.get_mut(index).and_then(Option::take);
            match heard {
                Heard::Usual(usual) => {
                    self.on_submit(now, &Id::from(usual.id), &usual.said(), hashed, out);
                }
                Heard::Other(Ok(request)) => self.on_request(now, request, hashed, out),
                Heard::Other(Err(error)) => self.on_bad_line(now, error, out),
            }
            self.closed |= out[before..].iter().any(|output| matches!(output, Output::Close(_)));
        }
    }

    /// A new job, from the pool or of ours. Its `clean` flag makes all earlier ones stale.
    pub fn on_job(&mut self, assignment: Arc<Assignment>) -> Vec<Output> {
        let mut out = Vec::new();
        self.seen.enter(assignment.job.previous);
        self.vardiff.set_cap(match assignment.source {
            Source::Upstream { difficulty, .. } => Some(difficulty),
            Source::KeepAlive => None,
        });
        self.handed.replace(assignment);
        if self.is_ready() {
            self.tell_difficulty(&mut out);
            self.notify(&mut out);
        }
        out
    }

    /// Another slice, after the pool's extranonce changed. It holds for jobs that come after it.
    pub fn on_slice(&mut self, slice: MinerSlice) -> Vec<Output> {
        let message = ServerMessage::SetExtranonce(slice.miner.clone());
        self.slice = Arc::new(slice);
        self.handed.forget_current();
        match (self.subscribed, self.extranonce_subscribed) {
            (false, _) => Vec::new(),
            (true, true) => vec![Output::Send(message.to_line())],
            (true, false) => {
                self.closed = true;
                vec![Output::Close(CloseReason::ExtranonceChanged)]
            }
        }
    }

    /// Another mask of the pool's. Jobs handed out before keep theirs.
    pub fn on_mask(&mut self, mask: u32) -> Vec<Output> {
        let mut out = Vec::new();
        let changed = self.mask != mask;
        self.mask = mask;
        if self.offered.is_some() && changed {
            // A pool that rolls nothing is news too: bits that the miner went on rolling would be refused.
            let negotiated = self.negotiated().unwrap_or(0);
            out.push(Output::Send(ServerMessage::SetVersionMask(negotiated).to_line()));
            self.notify_again(&mut out);
        }
        out
    }

    /// Told when we put the miner to sleep and when we wake it: silence is then no news.
    pub fn set_asleep(&mut self, now: Now, asleep: bool) {
        self.asleep = asleep;
        self.heard_ms = now.mono_ms;
        self.vardiff.set_frozen(now.mono_ms, asleep);
    }

    /// To be called every second or so.
    pub fn tick(&mut self, now: Now) -> Vec<Output> {
        let mut out = Vec::new();
        if self.closed {
            return out;
        }
        if !self.is_ready() && now.mono_ms.saturating_sub(self.started_ms) > self.config.handshake_ms {
            out.push(Output::Close(CloseReason::HandshakeTimeout));
        } else if !self.asleep && now.mono_ms.saturating_sub(self.heard_ms) > self.config.idle_ms {
            out.push(Output::Close(CloseReason::Idle));
        }
        self.closed |= !out.is_empty();
        if !self.closed && self.is_ready() {
            self.vardiff.tick(now.mono_ms);
            self.retarget(&mut out);
        }
        out
    }

    pub fn difficulty(&self) -> Difficulty {
        self.vardiff.current()
    }

    pub fn slice(&self) -> &MinerSlice {
        &self.slice
    }

    pub fn workers(&self) -> &BTreeSet<Arc<str>> {
        &self.workers
    }

    /// Subscribed and authorized, in whichever order.
    pub fn is_ready(&self) -> bool {
        self.subscribed && !self.workers.is_empty()
    }

    fn on_request(
        &mut self,
        now: Now,
        Request { id, call }: Request,
        hashed: Option<Hashed>,
        out: &mut Vec<Output>,
    ) {
        let yes = || Output::Send(response_line(&id, &Ok(Value::Bool(true))));
        match call {
            Call::Configure(configure) => self.on_configure(&id, &configure, out),
            Call::Subscribe { agent } => {
                let was_ready = self.is_ready();
                (self.subscribed, self.agent) = (true, agent);
                out.push(Output::Send(response_line(&id, &Ok(subscribe_result(&self.slice.miner)))));
                self.start(was_ready, out);
            }
            Call::Authorize { worker, .. } => self.on_authorize(&id, worker, out),
            Call::ExtranonceSubscribe => {
                self.extranonce_subscribed = true;
                out.push(yes());
            }
            Call::SuggestDifficulty(value) => {
                out.push(yes());
                if let Ok(difficulty) = Difficulty::new(value) {
                    self.vardiff.suggest(now.mono_ms, difficulty);
                    self.retarget(out);
                }
            }
            Call::Submit(submission) => self.on_submit(now, &id, &submission.said(), hashed, out),
            Call::Ping => out.push(Output::Send(response_line(&id, &Ok(json!("pong"))))),
            // No, and no error either: some firmware gives up at an error. BIP 310 is how versions are rolled here.
            Call::MultiVersion => out.push(Output::Send(response_line(&id, &Ok(Value::Bool(false))))),
            Call::Response => {}
            Call::Unknown { method } => out.push(error_reply(&id, format!("unknown method {method}"))),
        }
    }

    fn on_configure(&mut self, id: &Id, configure: &Configure, out: &mut Vec<Output>) {
        let mut result = Map::new();
        if let Some(mask) = configure.version_mask {
            self.offered = Some(mask).filter(|mask| mask & self.mask != 0);
            let common = self.negotiated();
            result.insert("version-rolling".into(), json!(common.is_some()));
            result.insert("version-rolling.mask".into(), json!(format!("{:08x}", common.unwrap_or(0))));
        }
        if let Some(value) = configure.minimum_difficulty {
            let minimum = Difficulty::new(value);
            result.insert("minimum-difficulty".into(), json!(minimum.is_ok()));
            minimum.into_iter().for_each(|minimum| self.vardiff.set_minimum(minimum));
        }
        if configure.subscribe_extranonce {
            self.extranonce_subscribed = true;
            result.insert("subscribe-extranonce".into(), json!(true));
        }
        for other in &configure.others {
            result.insert(other.clone(), json!(false));
        }
        out.push(Output::Send(response_line(id, &Ok(Value::Object(result)))));
        if self.is_ready() {
            self.tell_difficulty(out);
            self.notify_again(out);
        }
    }

    fn on_authorize(&mut self, id: &Id, worker: String, out: &mut Vec<Output>) {
        let was_ready = self.is_ready();
        if self.workers.len() >= MAX_WORKERS && !self.workers.contains(worker.as_str()) {
            out.push(error_reply(id, format!("more than {MAX_WORKERS} workers on one connection")));
            return;
        }
        if self.workers.insert(worker.as_str().into()) {
            out.push(Output::Authorized { worker, agent: self.agent.clone() });
        }
        out.push(Output::Send(response_line(id, &Ok(Value::Bool(true)))));
        self.start(was_ready, out);
    }

    /// The first difficulty and job, as soon as the miner is both subscribed and authorized.
    fn start(&mut self, was_ready: bool, out: &mut Vec<Output>) {
        if !was_ready && self.is_ready() {
            self.tell_difficulty(out);
            self.notify(out);
        }
    }

    fn on_submit(
        &mut self,
        now: Now,
        id: &Id,
        said: &Said<'_>,
        hashed: Option<Hashed>,
        out: &mut Vec<Output>,
    ) {
        match self.judge(now, said, hashed) {
            Ok(share) => {
                let work = share.verified.work;
                out.push(Output::Share(Box::new(share)));
                out.push(Output::Send(response_line(id, &Ok(Value::Bool(true)))));
                self.vardiff.on_share(now.mono_ms, work);
                if self.seen.is_under_pressure() {
                    self.vardiff.double(now.mono_ms);
                }
                self.retarget(out);
            }
            Err(reject) => self.refuse(id, Some(said), reject, out),
        }
    }

    /// The job that a submission is for, if everything but its hash is in order; with the header's version.
    fn examine(&self, now: Now, said: &Said<'_>) -> Result<(&Handed, u32), Reject> {
        if !self.subscribed {
            return Err(Reject::NotSubscribed);
        }
        if !self.workers.contains(said.worker) {
            return Err(Reject::WrongWorker);
        }
        let handed = self.handed.find(said.job_id)?;
        let rules = self.rules(now, handed);
        let version = check_said(&handed.assignment.job, &handed.slice.miner, said, &rules)?;
        Ok((handed, version))
    }

    fn rules(&self, now: Now, handed: &Handed) -> Rules {
        Rules {
            target: handed.difficulty.target(),
            mask: handed.mask,
            window: self.config.window,
            now_unix: now.unix_s,
        }
    }

    /// `hashed` is the submission's header, where it was hashed ahead.
    fn judge(&mut self, now: Now, said: &Said<'_>, hashed: Option<Hashed>) -> Result<Share, Reject> {
        let (handed, version) = self.examine(now, said)?;
        let handed = handed.clone();
        let worker = self.workers.get(said.worker).cloned().ok_or(Reject::WrongWorker)?;
        let hashed = hashed.unwrap_or_else(|| self.prepared.hash(&handed, said, version));
        let verified = verify::judge(&handed.assignment.job, &handed.difficulty.target(), hashed)?;
        self.seen.insert(verified.hash).map_err(|error| match error {
            seen::Error::Duplicate => Reject::Duplicate,
            seen::Error::Full => Reject::Exhausted,
        })?;
        let fate = fate(&handed, said, &verified);
        Ok(Share { worker, assignment: handed.assignment, fate, verified })
    }

    /// Hashes what can be hashed already. A share that only becomes acceptable by an earlier line of the same read is
    /// hashed in its turn.
    fn hash_ahead(&mut self, now: Now, lines: &[Heard<'_>]) -> Vec<Option<Hashed>> {
        let said = || lines.iter().filter_map(Heard::said);
        // A miner that rolls nonces is still on the root of the share before: one by one is then the cheapest way.
        if lines.len() < 2 || said().all(|said| self.has_root_of(&said)) {
            return Vec::new();
        }
        let mut tasks = Vec::with_capacity(lines.len());
        for (index, heard) in lines.iter().enumerate() {
            let Some(said) = heard.said() else { continue };
            let Ok((handed, version)) = self.examine(now, &said) else { continue };
            tasks.push(Task { index, handed: handed.clone(), said, version });
        }
        let mut ahead = vec![None; lines.len()];
        let hashes = self.prepared.hash_all(&tasks);
        for (task, hashed) in tasks.iter().zip(hashes) {
            ahead[task.index] = Some(hashed);
        }
        ahead
    }

    fn has_root_of(&self, said: &Said<'_>) -> bool {
        let handed = self.handed.find(said.job_id);
        handed.is_ok_and(|handed| self.prepared.has_root_of(handed, said.extranonce2))
    }

    fn refuse(&mut self, id: &Id, said: Option<&Said<'_>>, reject: Reject, out: &mut Vec<Output>) {
        let handed = said.and_then(|said| self.handed.find(said.job_id).ok());
        let work = handed.map_or(self.vardiff.current(), |handed| handed.difficulty).work();
        let worker = said.and_then(|said| self.workers.get(said.worker)).cloned();
        out.push(Output::Rejected { worker, reject, work });
        out.push(Output::Send(reject_line(id, &reject)));
        if reject == Reject::Exhausted {
            out.push(Output::Close(CloseReason::Exhausted));
        }
    }

    fn on_bad_line(&mut self, now: Now, error: message::Error, out: &mut Vec<Output>) {
        match error {
            message::Error::Malformed { id, method, field } if method == "mining.submit" => {
                self.refuse(&id, None, Reject::Malformed(field), out);
            }
            message::Error::Malformed { id, method, field } => out.push(malformed_reply(&id, &method, field)),
            message::Error::NotStratum { id } => out.push(error_reply(&id, "no method".to_owned())),
            message::Error::NotJson => self.on_garbage(now, out),
        }
    }

    fn on_garbage(&mut self, now: Now, out: &mut Vec<Output>) {
        if now.mono_ms.saturating_sub(self.garbage_since_ms) > MINUTE_MS {
            (self.garbage, self.garbage_since_ms) = (0, now.mono_ms);
        }
        self.garbage += 1;
        out.push(error_reply(&Id::Null, message::Error::NotJson.to_string()));
        if self.garbage > MAX_GARBAGE {
            out.push(Output::Close(CloseReason::Garbage));
        }
    }

    /// `None` where the miner offered nothing, or nothing is common.
    fn negotiated(&self) -> Option<u32> {
        self.offered.map(|offered| offered & self.mask).filter(|mask| *mask != 0)
    }

    fn retarget(&mut self, out: &mut Vec<Output>) {
        if self.is_ready() && self.tell_difficulty(out) {
            self.notify_again(out);
        }
    }

    /// Sends the difficulty if it is news. It holds from the next job on; an easier one also for jobs in flight, since
    /// much firmware applies it at once.
    fn tell_difficulty(&mut self, out: &mut Vec<Output>) -> bool {
        let difficulty = self.vardiff.current();
        if self.told == Some(difficulty) {
            return false;
        }
        self.told = Some(difficulty);
        self.handed.ease(difficulty);
        out.push(Output::Send(ServerMessage::SetDifficulty(difficulty).to_line()));
        true
    }

    fn notify(&mut self, out: &mut Vec<Output>) {
        let (difficulty, mask) = (self.told.unwrap_or(self.vardiff.current()), self.negotiated());
        if let Some(params) = self.handed.hand_out(&self.slice, difficulty, mask) {
            let line = json!({ "id": null, "method": "mining.notify", "params": params });
            out.push(Output::Send(format!("{line}\n")));
        }
    }

    /// The present job once more, so that what has changed holds from now on and not from the pool's next job.
    fn notify_again(&mut self, out: &mut Vec<Output>) {
        self.handed.again();
        self.notify(out);
    }
}

/// A line of the miner. Nearly all are submissions in their usual form, which are read where they stand.
enum Heard<'a> {
    Usual(Usual<'a>),
    Other(Result<Request, message::Error>),
}

impl<'a> Heard<'a> {
    fn parse(line: &'a [u8]) -> Heard<'a> {
        Usual::read(line).map_or_else(|| Heard::Other(Request::parse_any(line)), Heard::Usual)
    }

    /// What it submits, if it does.
    fn said(&self) -> Option<Said<'_>> {
        match self {
            Heard::Usual(usual) => Some(usual.said()),
            Heard::Other(Ok(Request { call: Call::Submit(submission), .. })) => Some(submission.said()),
            Heard::Other(_) => None,
        }
    }
}

/// Forwarded is what meets the pool's difficulty as of this job, and a block always.
fn fate(handed: &Handed, said: &Said<'_>, verified: &Verified) -> Fate {
    match handed.assignment.source {
        Source::KeepAlive => Fate::KeepAlive,
        Source::Upstream { session, difficulty } => {
            if !verified.meets_network && !difficulty.target().is_met_by(&verified.hash) {
                return Fate::BelowUpstream;
            }
            let job = &handed.assignment.job;
            Fate::Forward(Outgoing {
                session,
                job_id: Arc::clone(&job.id),
                extranonce2: handed.slice.upstream_extranonce2(said.extranonce2),
                ntime: said.ntime,
                nonce: said.nonce,
                version: job.rolled_version(handed.mask.unwrap_or(0), said.version_bits.unwrap_or(0)),
                block: verified.meets_network,
            })
        }
    }
}

fn malformed_reply(id: &Id, method: &str, field: Field) -> Output {
    error_reply(id, format!("{method}: malformed {}", field.name()))
}

fn error_reply(id: &Id, text: String) -> Output {
    Output::Send(response_line(id, &Err(RpcError { number: 20, text })))
}
