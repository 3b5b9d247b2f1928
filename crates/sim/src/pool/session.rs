//! One connection to the pool as a state machine: a line in, lines out, the books changed. No socket here.
//!
//! Assumes whole lines. A client's mistake costs it an error reply and not its connection. Next: `share.rs`.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::State;
use super::share::{self, Claim, EXTRANONCE2_SIZE, Refusal, VERSION_MASK, hex, travelling};
use super::template::{Template, wire_id};

/// Workers that one connection may authorize; names of up to [`MAX_NAME`] bytes.
const MAX_WORKERS: usize = 64;
/// Bitcoin addresses have 90 characters, and a worker's name follows.
const MAX_NAME: usize = 160;

#[derive(Debug)]
pub(super) struct Session {
    extranonce1: [u8; 4],
    subscribed: bool,
    rolls_version: bool,
    workers: BTreeSet<String>,
    /// What the client was told last: difficulty (by its bits) and job.
    told_difficulty: Option<f64>,
    told_job: u64,
}

impl Session {
    /// Extranonce1 must be of this connection alone.
    pub(super) fn new(extranonce1: [u8; 4]) -> Session {
        Session {
            extranonce1,
            subscribed: false,
            rolls_version: false,
            workers: BTreeSet::new(),
            told_difficulty: None,
            told_job: 0,
        }
    }

    /// Answers one line, and whatever else is due after it.
    pub(super) fn on_line(&mut self, line: &[u8], now: u32, state: &mut State) -> Vec<String> {
        let Ok(Value::Object(message)) = serde_json::from_slice(line) else {
            state.books.garbage += 1;
            return vec![refused(&Value::Null, 20, "Not a JSON object")];
        };
        let id = message.get("id").cloned().unwrap_or(Value::Null);
        let Some(method) = message.get("method").and_then(Value::as_str) else {
            state.books.garbage += 1;
            return vec![refused(&id, 20, "No method")];
        };
        let none = Vec::new();
        let params = message.get("params").and_then(Value::as_array).unwrap_or(&none);
        let answer = match method {
            "mining.configure" => granted(&id, self.configure(params)),
            "mining.subscribe" => granted(&id, self.subscribe()),
            "mining.authorize" => self.authorize(&id, params),
            "mining.submit" => self.submit(&id, params, now, state),
            "mining.extranonce.subscribe" | "mining.ping" => granted(&id, json!(true)),
            _ => refused(&id, 20, "Unknown method"),
        };
        let mut lines = vec![answer];
        lines.extend(self.news(state));
        lines
    }

    /// Difficulty and job, where the client is ready for them and does not know them yet.
    pub(super) fn news(&mut self, state: &State) -> Vec<String> {
        let job = state.chain.current();
        if !self.subscribed || self.workers.is_empty() || self.told_job == job.number {
            return Vec::new();
        }
        let mut lines = Vec::new();
        let difficulty = job.threshold.difficulty();
        if self.told_difficulty.replace(difficulty) != Some(difficulty) {
            lines.push(told("mining.set_difficulty", json!([difficulty])));
        }
        let clean = job.clean || self.told_job == 0;
        self.told_job = job.number;
        lines.push(told("mining.notify", notify(&job, clean)));
        lines
    }

    fn configure(&mut self, params: &[Value]) -> Value {
        let names = params.first().and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
        let mut result = serde_json::Map::new();
        for name in names.take(16) {
            match name {
                "version-rolling" => {
                    self.rolls_version = true;
                    result.insert("version-rolling".into(), json!(true));
                    result.insert("version-rolling.mask".into(), json!(format!("{VERSION_MASK:08x}")));
                }
                // Ours is fixed and never below what anyone asked for in earnest.
                "minimum-difficulty" => drop(result.insert(name.into(), json!(true))),
                other => drop(result.insert(other.into(), json!(false))),
            }
        }
        Value::Object(result)
    }

    fn subscribe(&mut self) -> Value {
        self.subscribed = true;
        let extranonce1 = hex(&self.extranonce1);
        let subscriptions = [["mining.set_difficulty", &extranonce1], ["mining.notify", &extranonce1]];
        json!([subscriptions, extranonce1, EXTRANONCE2_SIZE])
    }

    fn authorize(&mut self, id: &Value, params: &[Value]) -> String {
        let name = params.first().and_then(Value::as_str).filter(|name| (1..=MAX_NAME).contains(&name.len()));
        match name {
            Some(name) if self.workers.contains(name) || self.workers.len() < MAX_WORKERS => {
                self.workers.insert(name.to_owned());
                granted(id, json!(true))
            }
            _ => refused(id, 24, "Worker name missing or too long, or too many workers"),
        }
    }

    fn submit(&mut self, id: &Value, params: &[Value], now: u32, state: &mut State) -> String {
        match self.judge(params, now, state) {
            Ok(()) => granted(id, json!(true)),
            Err(refusal) => {
                state.books.refuse(refusal);
                let (number, text) = refusal.reply();
                refused(id, number, text)
            }
        }
    }

    fn judge(&self, params: &[Value], now: u32, state: &mut State) -> Result<(), Refusal> {
        if !self.subscribed {
            return Err(Refusal::NotSubscribed);
        }
        let field = |index: usize| params.get(index).and_then(Value::as_str).ok_or(Refusal::Malformed);
        let worker = field(0)?;
        if !self.workers.contains(worker) {
            return Err(Refusal::Unauthorized);
        }
        let found = state.chain.find(field(1)?).map_err(|()| Refusal::UnknownJob)?;
        let job = found.ok_or(Refusal::Stale)?;
        let bits =
            params.get(5).filter(|bits| !bits.is_null()).map(|bits| bits.as_str().ok_or(Refusal::Malformed));
        let claim =
            Claim { extranonce2: field(2)?, ntime: field(3)?, nonce: field(4)?, bits: bits.transpose()? };
        let hash = share::check(&job, self.extranonce1, claim, self.rolls_version, now)?;
        state.books.pay(worker, hash, job.threshold.work())
    }
}

fn notify(job: &Template, clean: bool) -> Value {
    let branches: Vec<String> = job.branches.iter().map(|branch| hex(branch)).collect();
    json!([
        wire_id(job.number),
        travelling(job.previous),
        hex(&job.coinb1),
        hex(&job.coinb2),
        branches,
        format!("{:08x}", job.version),
        format!("{:08x}", job.nbits),
        format!("{:08x}", job.ntime),
        clean
    ])
}

fn granted(id: &Value, result: Value) -> String {
    line(&json!({ "id": id, "result": result, "error": null }))
}

fn refused(id: &Value, number: i64, text: &str) -> String {
    line(&json!({ "id": id, "result": null, "error": [number, text, null] }))
}

fn told(method: &str, params: Value) -> String {
    line(&json!({ "id": null, "method": method, "params": params }))
}

fn line(value: &Value) -> String {
    format!("{value}\n")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::Duration;

    use super::super::books::Books;
    use super::super::difficulty::Threshold;
    use super::super::template::Chain;
    use super::*;

    const NOW: u32 = 1_750_000_000;

    fn state() -> State {
        let threshold = Threshold::new(2f64.powi(-20)).unwrap();
        let chain = Chain::new(1, 0, threshold, NOW, Duration::from_secs(60));
        State { chain, books: Books::default(), next_extranonce1: 0, connections: 0 }
    }

    fn ready(state: &mut State) -> Session {
        let mut session = Session::new([0, 0, 0, 7]);
        for line in [
            r#"{"id":0,"method":"mining.configure","params":[["version-rolling"],{}]}"#,
            r#"{"id":1,"method":"mining.subscribe","params":["test"]}"#,
            r#"{"id":2,"method":"mining.authorize","params":["acct","x"]}"#,
        ] {
            session.on_line(line.as_bytes(), NOW, state);
        }
        session
    }

    fn submission(job: &str, nonce: u32) -> String {
        let nonce = format!("{nonce:08x}");
        let ntime = format!("{NOW:08x}");
        let params = json!(["acct", job, "0000000000000000", ntime, nonce, "00000000"]);
        json!({ "id": 9, "method": "mining.submit", "params": params }).to_string()
    }

    /// The first nonce that pays, found by the check itself.
    fn good_nonce(state: &State, from: u32) -> u32 {
        let job = state.chain.current();
        let good = |nonce: &u32| {
            let text = format!("{nonce:08x}");
            let ntime = format!("{NOW:08x}");
            let claim = Claim { extranonce2: "0000000000000000", ntime: &ntime, nonce: &text, bits: None };
            share::check(&job, [0, 0, 0, 7], claim, true, NOW).is_ok()
        };
        (from..).find(good).unwrap()
    }

    #[test]
    fn the_handshake_ends_in_a_difficulty_and_a_clean_job() {
        let mut state = state();
        let mut session = Session::new([0, 0, 0, 7]);
        let mut send = |text: &str| session.on_line(text.as_bytes(), NOW, &mut state);
        assert_eq!(
            send(r#"{"id":1,"method":"mining.subscribe","params":[]}"#).len(),
            1,
            "not authorized yet"
        );
        let lines = send(r#"{"id":2,"method":"mining.authorize","params":["a","x"]}"#);
        assert_eq!(lines.len(), 3);
        assert!(
            lines[1].contains("mining.set_difficulty") && lines[1].contains("9.5367431640625e-7"),
            "{lines:?}"
        );
        assert!(lines[2].contains("mining.notify") && lines[2].contains("true]"), "{lines:?}");
        assert_eq!(send(r#"{"id":3,"method":"mining.ping","params":[]}"#).len(), 1, "no job twice");
    }

    #[test]
    fn a_share_is_paid_once_however_it_is_written() {
        let mut state = state();
        let mut session = ready(&mut state);
        let nonce = good_nonce(&state, 0);
        let line = submission("1", nonce);
        let mut send = |text: &str| session.on_line(text.as_bytes(), NOW, &mut state).remove(0);
        assert!(send(&line).contains(r#""result":true"#));
        assert!(send(&line).contains("Duplicate"));
        assert!(send(&line.replace(&format!("{nonce:08x}"), &format!("{nonce:08X}"))).contains("Duplicate"));
        assert!(send(&line.replace(r#","00000000"]"#, "]")).contains("Duplicate"), "version bits left out");
        assert_eq!(state.books.total().accepted, 1);
        assert_eq!(state.books.total().work.0, 4096);
        assert_eq!(state.books.refused, [(Refusal::Duplicate, 3)].into());
    }

    #[test]
    fn refusals_have_their_reasons() {
        let mut state = state();
        let mut session = ready(&mut state);
        let nonce = good_nonce(&state, 0);
        let mut check = |line: String, expected: Refusal| {
            let reply = session.on_line(line.as_bytes(), NOW, &mut state).remove(0);
            assert!(reply.contains(expected.reply().1), "{reply}");
            assert_eq!(state.books.refused.remove(&expected), Some(1));
        };
        check(submission("99", nonce), Refusal::UnknownJob);
        check(submission("1", nonce).replace("acct", "other"), Refusal::Unauthorized);
        check(submission("1", nonce).replace(&format!("{nonce:08x}"), "zz"), Refusal::Malformed);
        check(submission("1", nonce).replace(r#","00000000"]"#, ",7]"), Refusal::Malformed);
        check(submission("1", nonce).replace(r#","00000000"]"#, r#","00000001"]"#), Refusal::VersionBits);
        check(submission("1", nonce).replace(&format!("{NOW:08x}"), "00000001"), Refusal::Ntime);
        check(r#"{"id":1,"method":"mining.submit","params":["acct"]}"#.into(), Refusal::Malformed);
        state.chain.next_block(NOW + 1);
        let mut session = ready(&mut state);
        let reply = session.on_line(submission("1", nonce).as_bytes(), NOW, &mut state).remove(0);
        assert!(reply.contains("Stale"), "{reply}");
    }

    #[test]
    fn garbage_costs_a_reply_and_no_connection() {
        let mut state = state();
        let mut session = ready(&mut state);
        for line in ["", "GET / HTTP/1.1", "[]", "{}", r#"{"id":1,"method":7}"#] {
            assert!(session.on_line(line.as_bytes(), NOW, &mut state)[0].contains("error"), "{line}");
        }
        assert_eq!(state.books.garbage, 5);
        assert!(
            session.on_line(br#"{"id":1,"method":"mining.nonsense"}"#, NOW, &mut state)[0]
                .contains("Unknown method")
        );
    }

    #[test]
    fn a_new_difficulty_comes_before_its_job() {
        let mut state = state();
        let mut session = ready(&mut state);
        assert!(session.news(&state).is_empty());
        state.chain.set_threshold(Threshold::new(0.5).unwrap(), NOW);
        let lines = session.news(&state);
        assert!(lines[0].contains("[0.5]") && lines[1].contains("false]"), "{lines:?}");
    }
}
