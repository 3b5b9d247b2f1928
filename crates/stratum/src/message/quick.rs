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

/// A submission in its usual form, its texts left where they stand.
pub(crate) struct Usual<'a> {
    pub(crate) id: u64,
    worker: &'a str,
    job_id: &'a str,
    extranonce2: [u8; MAX_EXTRANONCE],
    width: usize,
    ntime: u32,
    nonce: u32,
    version_bits: Option<u32>,
}

impl<'a> Usual<'a> {
    pub(crate) fn read(line: &'a [u8]) -> Option<Usual<'a>> {
        let Submit { id, method, params } = serde_json::from_slice(line).ok()?;
        let Params { five: [worker, job_id, extranonce2, ntime, nonce], bits } = params;
        if method != "mining.submit" || !is_worker_name(worker) || job_id.len() > MAX_JOB_ID {
            return None;
        }
        let version_bits = match bits {
            Some(bits) => Some(hex::decode_u32(bits)?),
            None => None,
        };
        let mut bytes = [0; MAX_EXTRANONCE];
        let width = hex::decode_into(extranonce2, &mut bytes)?;
        let (ntime, nonce) = (hex::decode_u32(ntime)?, hex::decode_u32(nonce)?);
        Some(Usual { id, worker, job_id, extranonce2: bytes, width, ntime, nonce, version_bits })
    }

    pub(crate) fn said(&self) -> Said<'_> {
        Said {
            worker: self.worker,
            job_id: self.job_id,
            extranonce2: &self.extranonce2[..self.width],
            ntime: self.ntime,
            nonce: self.nonce,
            version_bits: self.version_bits,
        }
    }
}

pub(super) fn submit(line: &[u8]) -> Option<Request> {
    let usual = Usual::read(line)?;
    let Said { worker, job_id, extranonce2, ntime, nonce, version_bits } = usual.said();
    let submission = Submission {
        worker: worker.to_owned(),
        job_id: job_id.to_owned(),
        extranonce2: extranonce2.to_owned(),
        ntime,
        nonce,
        version_bits,
    };
    Some(Request { id: Id::from(usual.id), call: Call::Submit(submission) })
}

/// What a submission says, borrowed from wherever it stands.
#[derive(Clone, Copy, Debug)]
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
    push_submit(&mut line, id, said);
    line
}

/// The same, behind what stands in `line`.
pub fn push_submit(line: &mut String, id: &dyn fmt::Display, said: &Said<'_>) {
    // Writing into a text cannot fail.
    let _ = write!(line, "{{\"id\":{id}");
    line.push_str(",\"method\":\"mining.submit\",\"params\":[");
    push_text(line, said.worker);
    line.push(',');
    push_text(line, said.job_id);
    line.push_str(",\"");
    hex::push(line, said.extranonce2);
    line.push_str("\",\"");
    hex::push(line, &said.ntime.to_be_bytes());
    line.push_str("\",\"");
    hex::push(line, &said.nonce.to_be_bytes());
    if let Some(bits) = said.version_bits {
        line.push_str("\",\"");
        hex::push(line, &bits.to_be_bytes());
    }
    line.push_str("\"]}\n");
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
    // The usual line has some 40 bytes.
    let mut line = String::with_capacity(64);
    line.push_str("{\"error\":null,\"id\":");
    // Writing into a text cannot fail.
    let _ = match id {
        Id::Number(number) => write!(line, "{number}"),
        id => write!(line, "{}", id.to_value()),
    };
    line.push_str(",\"result\":true}\n");
    line
}
