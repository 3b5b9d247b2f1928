//! Stratum's JSON-RPC lines, both directions. Assumes one JSON object a line (`line.rs` cuts them); parsing never panics
//! and names the field that is wrong, so that a peer's mistake costs it an error reply and not its connection.
//! Next: `client.rs` (what miners send), `server.rs` (what pools send).

pub mod client;
mod quick;
pub mod server;

pub use client::{Call, Configure, Request, Submission};
pub(crate) use quick::{Said, Usual, push_submit};
pub use server::{RpcError, ServerMessage};

use serde_json::{Map, Number, Value};

/// The id of a request, echoed as it came: miners use numbers, strings, null, and the same one twice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Id {
    #[default]
    Null,
    Number(Number),
    Text(String),
}

impl Id {
    pub fn to_value(&self) -> Value {
        match self {
            Id::Null => Value::Null,
            Id::Number(number) => Value::Number(number.clone()),
            Id::Text(text) => Value::String(text.clone()),
        }
    }

    /// The id as a number of ours, also where the peer made text of it.
    pub fn as_u64(&self) -> Option<u64> {
        match self {
            Id::Null => None,
            Id::Number(number) => number.as_u64(),
            Id::Text(text) => text.parse().ok(),
        }
    }
}

impl From<u64> for Id {
    fn from(number: u64) -> Id {
        Id::Number(number.into())
    }
}

/// The part of a message that was wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Field {
    Params,
    Worker,
    JobId,
    Extranonce1,
    Extranonce2,
    Ntime,
    Nonce,
    VersionBits,
    Mask,
    Difficulty,
    PreviousHash,
    Coinbase,
    Branches,
    Version,
    Nbits,
    Clean,
    Text,
}

impl Field {
    pub fn name(&self) -> &'static str {
        match self {
            Field::Params => "params",
            Field::Worker => "worker",
            Field::JobId => "job id",
            Field::Extranonce1 => "extranonce1",
            Field::Extranonce2 => "extranonce2",
            Field::Ntime => "ntime",
            Field::Nonce => "nonce",
            Field::VersionBits => "version bits",
            Field::Mask => "version mask",
            Field::Difficulty => "difficulty",
            Field::PreviousHash => "previous hash",
            Field::Coinbase => "coinbase",
            Field::Branches => "merkle branches",
            Field::Version => "version",
            Field::Nbits => "nbits",
            Field::Clean => "clean flag",
            Field::Text => "text",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("the line is not a JSON object: send one JSON-RPC message a line")]
    NotJson,
    #[error("the message has no method and no result: see the Stratum V1 message formats")]
    NotStratum { id: Id },
    #[error("{method}: malformed {}", .field.name())]
    Malformed { id: Id, method: String, field: Field },
}

/// A line taken apart as far as JSON-RPC goes.
struct Envelope {
    id: Id,
    method: Option<String>,
    params: Value,
    fields: Map<String, Value>,
}

/// Longest method name that is echoed in an error.
const MAX_METHOD: usize = 64;

fn open(line: &[u8]) -> Result<Envelope, Error> {
    let Ok(Value::Object(mut fields)) = serde_json::from_slice(line) else { return Err(Error::NotJson) };
    let id = match fields.remove("id") {
        Some(Value::Number(number)) => Id::Number(number),
        Some(Value::String(text)) => Id::Text(text),
        _ => Id::Null,
    };
    let method = match fields.remove("method") {
        Some(Value::String(method)) => Some(clip(method, MAX_METHOD)),
        _ => None,
    };
    let params = fields.remove("params").unwrap_or(Value::Null);
    Ok(Envelope { id, method, params, fields })
}

fn request_line(id: &Id, method: &str, params: Value) -> String {
    to_line(&serde_json::json!({ "id": id.to_value(), "method": method, "params": params }))
}

fn to_line(value: &Value) -> String {
    format!("{value}\n")
}

/// Cuts at a character boundary.
fn clip(mut text: String, limit: usize) -> String {
    text.truncate(text.floor_char_boundary(limit));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_echoed_as_they_came() {
        let check = |text: &str, expected: &str, number: Option<u64>| {
            let line = format!("{{\"id\":{text},\"method\":\"m\"}}");
            let envelope = open(line.as_bytes());
            let id = envelope.map(|envelope| envelope.id).unwrap_or_default();
            assert_eq!((id.to_value().to_string().as_str(), id.as_u64()), (expected, number), "{text}");
        };
        check("7", "7", Some(7));
        check("\"7\"", "\"7\"", Some(7));
        check("\"seven\"", "\"seven\"", None);
        check("-1", "-1", None);
        check("1.5", "1.5", None);
        check("null", "null", None);
        check("[1]", "null", None);
        check("{}", "null", None);
    }

    #[test]
    fn text_is_cut_between_characters() {
        assert_eq!(clip("aé".into(), 2), "a");
        assert_eq!(clip("aé".into(), 3), "aé");
    }
}
