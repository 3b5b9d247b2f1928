//! The short way for the lines that come by the thousand: a submission, its acceptance, and the writing of both.
//!
//! Assumes that whatever is unusual is left to the long way: an id that is no number, an escape in a text, a field twice, a
//! value that is wrong. What is read here must be what the long way reads. Next: `client.rs`, `server.rs`.

use super::client::{Call, Request, Submission, is_worker_name};
use super::server::ServerMessage;
use super::{Id, Value};
use crate::hex;
use crate::job::{MAX_EXTRANONCE, MAX_JOB_ID};
use serde::Deserialize;
use serde::de::{IgnoredAny, SeqAccess, Visitor};
use std::fmt::{self, Write};

#[derive(Deserialize)]
struct Submit<'a> {
    id: u64,
    method: &'a str,
    #[serde(borrow)]
    params: Params<'a>,
}

/// Five or six texts without an escape.
struct Params<'a> {
    five: [&'a str; 5],
    bits: Option<&'a str>,
}

impl<'de: 'a, 'a> Deserialize<'de> for Params<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Params<'a>, D::Error> {
        deserializer.deserialize_seq(Texts)
    }
}

struct Texts;

impl<'de> Visitor<'de> for Texts {
    type Value = Params<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("five or six texts")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Params<'de>, A::Error> {
        let mut five = [""; 5];
        for (index, text) in five.iter_mut().enumerate() {
            *text = list.next_element()?.ok_or_else(|| serde::de::Error::invalid_length(index, &self))?;
        }
        // Anything behind the sixth is an error of the reader's, and so goes the long way.
        Ok(Params { five, bits: list.next_element()? })
    }
}

pub(super) fn submit(line: &[u8]) -> Option<Request> {
    let Submit { id, method, params } = serde_json::from_slice(line).ok()?;
    let Params { five: [worker, job_id, extranonce2, ntime, nonce], bits } = params;
    if method != "mining.submit" || !is_worker_name(worker) || job_id.len() > MAX_JOB_ID {
        return None;
    }
    let version_bits = match bits {
        Some(bits) => Some(hex::decode_u32(bits)?),
        None => None,
    };
    let submission = Submission {
        worker: worker.to_owned(),
        job_id: job_id.to_owned(),
        extranonce2: hex::decode(extranonce2, MAX_EXTRANONCE)?,
        ntime: hex::decode_u32(ntime)?,
        nonce: hex::decode_u32(nonce)?,
        version_bits,
    };
    Some(Request { id: Id::from(id), call: Call::Submit(submission) })
}

/// What a submission says, borrowed from wherever it stands.
pub struct Said<'a> {
    pub worker: &'a str,
    pub job_id: &'a str,
    pub extranonce2: &'a [u8],
    pub ntime: u32,
    pub nonce: u32,
    pub version_bits: Option<u32>,
}

/// The line of a submission, with its end.
pub fn submit_line(id: &dyn fmt::Display, said: &Said<'_>) -> String {
    // The usual line has some 150 bytes.
    let mut line = String::with_capacity(192);
    // Writing into a text cannot fail.
    let _ = write!(line, "{{\"id\":{id},\"method\":\"mining.submit\",\"params\":[");
    push_text(&mut line, said.worker);
    line.push(',');
    push_text(&mut line, said.job_id);
    line.push_str(",\"");
    for byte in said.extranonce2 {
        hex::pair(*byte).into_iter().for_each(|digit| line.push(char::from(digit)));
    }
    let _ = write!(line, "\",\"{:08x}\",\"{:08x}\"", said.ntime, said.nonce);
    if let Some(bits) = said.version_bits {
        let _ = write!(line, ",\"{bits:08x}\"");
    }
    line.push_str("]}\n");
    line
}

/// A JSON string; only what is unusual goes through the encoder.
fn push_text(line: &mut String, text: &str) {
    let plain = |byte: u8| (b' '..0x7f).contains(&byte) && byte != b'"' && byte != b'\\';
    if text.bytes().all(plain) {
        line.push('"');
        line.push_str(text);
        line.push('"');
    } else {
        line.push_str(&Value::from(text).to_string());
    }
}

#[derive(Deserialize)]
struct Answer {
    id: u64,
    result: bool,
    error: Option<IgnoredAny>,
    method: Option<IgnoredAny>,
}

/// A plain yes to a request with a number.
pub(super) fn yes(line: &[u8]) -> Option<ServerMessage> {
    let Answer { id, result, error, method } = serde_json::from_slice(line).ok()?;
    let plain = result && error.is_none() && method.is_none();
    plain.then(|| ServerMessage::Response { id: Id::from(id), outcome: Ok(Value::Bool(true)) })
}

pub(super) fn yes_line(id: &Id) -> String {
    match id {
        Id::Number(number) => format!("{{\"error\":null,\"id\":{number},\"result\":true}}\n"),
        id => format!("{{\"error\":null,\"id\":{},\"result\":true}}\n", id.to_value()),
    }
}
