//! What a pool sends: written by the proxy to its miners, parsed by our upstream side and by simulated miners.
//! Assumes nothing of the peer. Next: `upstream.rs`, `downstream.rs`.

use super::{Envelope, Error, Field, Id, clip, open, quick, request_line, to_line};
use crate::hex;
use crate::job::{Job, MAX_EXTRANONCE, Slice};
use crate::target::Difficulty;
use crate::verify::Reject;
use serde_json::{Map, Value, json};

/// Texts of a pool are for people; longer ones are cut.
pub const MAX_TEXT: usize = 256;

#[derive(Clone, Debug, PartialEq)]
pub enum ServerMessage {
    Notify(Box<Job>),
    SetDifficulty(Difficulty),
    SetExtranonce(Slice),
    SetVersionMask(u32),
    ShowMessage(String),
    /// Empty host: the same one.
    Reconnect {
        host: Option<String>,
        port: Option<u16>,
        wait_s: u32,
    },
    Ping {
        id: Id,
    },
    GetVersion {
        id: Id,
    },
    Response {
        id: Id,
        outcome: Result<Value, RpcError>,
    },
    Unknown {
        id: Id,
        method: String,
    },
}

/// `[number, text, traceback]`, or whatever a pool makes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RpcError {
    pub number: i64,
    pub text: String,
}

impl ServerMessage {
    pub fn parse(line: &[u8]) -> Result<ServerMessage, Error> {
        // Nearly all lines of a pool accept a share.
        match quick::yes(line) {
            Some(yes) => Ok(yes),
            None => ServerMessage::parse_any(line),
        }
    }

    /// The long way, which reads all that can be read; the same, for whoever compares.
    pub fn parse_any(line: &[u8]) -> Result<ServerMessage, Error> {
        let Envelope { id, method, params, fields } = open(line)?;
        let Some(method) = method else { return parse_response(id, fields) };
        let empty = Vec::new();
        let list = params.as_array().unwrap_or(&empty);
        let parsed = match method.as_str() {
            "mining.notify" => Job::from_params(list).map(|job| ServerMessage::Notify(Box::new(job))),
            "mining.set_difficulty" => parse_difficulty(list).map(ServerMessage::SetDifficulty),
            "mining.set_extranonce" => parse_slice(list).map(ServerMessage::SetExtranonce),
            "mining.set_version_mask" => parse_mask(list).map(ServerMessage::SetVersionMask),
            "client.show_message" => match list.first().and_then(Value::as_str) {
                Some(text) => Ok(ServerMessage::ShowMessage(clip(text.to_owned(), MAX_TEXT))),
                None => Err(Field::Text),
            },
            "client.reconnect" => Ok(parse_reconnect(list)),
            "mining.ping" => Ok(ServerMessage::Ping { id: id.clone() }),
            "client.get_version" => Ok(ServerMessage::GetVersion { id: id.clone() }),
            _ => Ok(ServerMessage::Unknown { id: id.clone(), method: method.clone() }),
        };
        parsed.map_err(|field| Error::Malformed { id, method, field })
    }

    /// The line with its end.
    pub fn to_line(&self) -> String {
        let none = Id::Null;
        match self {
            ServerMessage::Notify(job) => {
                request_line(&none, "mining.notify", job.to_params(&job.id, job.ntime, job.clean))
            }
            ServerMessage::SetDifficulty(difficulty) => {
                request_line(&none, "mining.set_difficulty", json!([number(difficulty.value())]))
            }
            ServerMessage::SetExtranonce(slice) => request_line(
                &none,
                "mining.set_extranonce",
                json!([hex::encode(&slice.extranonce1), slice.extranonce2_size]),
            ),
            ServerMessage::SetVersionMask(mask) => {
                request_line(&none, "mining.set_version_mask", json!([format!("{mask:08x}")]))
            }
            ServerMessage::ShowMessage(text) => request_line(&none, "client.show_message", json!([text])),
            ServerMessage::Reconnect { host, port, wait_s } => {
                let host = host.as_deref().unwrap_or_default();
                request_line(&none, "client.reconnect", json!([host, port.unwrap_or_default(), wait_s]))
            }
            ServerMessage::Ping { id } => request_line(id, "mining.ping", json!([])),
            ServerMessage::GetVersion { id } => request_line(id, "client.get_version", json!([])),
            ServerMessage::Unknown { id, method } => request_line(id, method, json!([])),
            ServerMessage::Response { id, outcome } => response_line(id, outcome),
        }
    }
}

/// An answer in Stratum's form: `error` is null or `[number, text, null]`.
pub fn response_line(id: &Id, outcome: &Result<Value, RpcError>) -> String {
    if *outcome == Ok(Value::Bool(true)) {
        return quick::yes_line(id);
    }
    let (result, error) = match outcome {
        Ok(result) => (result.clone(), Value::Null),
        Err(error) => (Value::Null, json!([error.number, error.text, null])),
    };
    to_line(&json!({ "id": id.to_value(), "result": result, "error": error }))
}

/// Refusing a share; the text starts with the stable code.
pub fn reject_line(id: &Id, reject: &Reject) -> String {
    let text = format!("{}: {reject}", reject.code());
    response_line(id, &Err(RpcError { number: i64::from(reject.number()), text }))
}

/// The result of `mining.subscribe`. The subscription ids are of no use to anyone; miners want the shape.
pub fn subscribe_result(slice: &Slice) -> Value {
    let extranonce1 = hex::encode(&slice.extranonce1);
    json!([
        [["mining.set_difficulty", extranonce1], ["mining.notify", extranonce1]],
        extranonce1,
        slice.extranonce2_size
    ])
}

/// Reads the result of `mining.subscribe`.
pub fn parse_subscribe_result(result: &Value) -> Result<Slice, Field> {
    match result.as_array().map(Vec::as_slice) {
        Some([_, rest @ ..]) => parse_slice(rest),
        _ => Err(Field::Params),
    }
}

fn parse_response(id: Id, mut fields: Map<String, Value>) -> Result<ServerMessage, Error> {
    let outcome = match (fields.remove("result"), fields.remove("error")) {
        (None, None) => return Err(Error::NotStratum { id }),
        (result, None | Some(Value::Null)) => Ok(result.unwrap_or_default()),
        (_, Some(error)) => Err(parse_error(&error)),
    };
    Ok(ServerMessage::Response { id, outcome })
}

fn parse_error(error: &Value) -> RpcError {
    let number = error.get(0).or_else(|| error.get("code")).and_then(Value::as_i64);
    let text = error.get(1).or_else(|| error.get("message")).or(Some(error)).and_then(Value::as_str);
    RpcError {
        number: number.unwrap_or(20),
        text: clip(text.unwrap_or("no reason given").to_owned(), MAX_TEXT),
    }
}

fn parse_difficulty(list: &[Value]) -> Result<Difficulty, Field> {
    let value = list.first().and_then(Value::as_f64).ok_or(Field::Difficulty)?;
    Difficulty::new(value).map_err(|_| Field::Difficulty)
}

fn parse_slice(list: &[Value]) -> Result<Slice, Field> {
    let [extranonce1, size, ..] = list else { return Err(Field::Params) };
    let extranonce1 = extranonce1.as_str().and_then(|text| hex::decode(text, MAX_EXTRANONCE));
    let size = size.as_u64().and_then(|size| usize::try_from(size).ok());
    let size = size.filter(|size| (1..=MAX_EXTRANONCE).contains(size));
    Ok(Slice {
        extranonce1: extranonce1.ok_or(Field::Extranonce1)?,
        extranonce2_size: size.ok_or(Field::Extranonce2)?,
    })
}

fn parse_mask(list: &[Value]) -> Result<u32, Field> {
    list.first().and_then(Value::as_str).and_then(hex::decode_u32).ok_or(Field::Mask)
}

fn parse_reconnect(list: &[Value]) -> ServerMessage {
    let host = list.first().and_then(Value::as_str).filter(|host| !host.is_empty());
    // Ports arrive as numbers and as text.
    let port = list.get(1).and_then(|port| port.as_u64().or_else(|| port.as_str()?.parse().ok()));
    let wait = list.get(2).and_then(Value::as_u64).unwrap_or_default();
    ServerMessage::Reconnect {
        host: host.map(|host| clip(host.to_owned(), MAX_TEXT)),
        port: port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0),
        wait_s: u32::try_from(wait).unwrap_or(u32::MAX),
    }
}

/// Whole difficulties are written without a point, as pools do: some firmware reads no other.
fn number(value: f64) -> Value {
    const EXACT: f64 = 9_007_199_254_740_992.0; // 2^53
    if value.fract() == 0.0 && value < EXACT { json!(value as u64) } else { json!(value) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::job::tests::sample;

    #[test]
    fn every_message_survives_the_wire() {
        let difficulty = |value: f64| ServerMessage::SetDifficulty(Difficulty::new(value).unwrap());
        let error = RpcError { number: 23, text: "low".into() };
        let messages = [
            ServerMessage::Notify(Box::new(sample("b", 9, false))),
            difficulty(9.5367431640625e-7),
            difficulty(0.1),
            difficulty(1024.0),
            difficulty(1e20),
            ServerMessage::SetExtranonce(Slice { extranonce1: vec![1, 2], extranonce2_size: 6 }),
            ServerMessage::SetVersionMask(0x1fff_e000),
            ServerMessage::ShowMessage("hello".into()),
            ServerMessage::Reconnect { host: Some("b.example".into()), port: Some(3333), wait_s: 5 },
            ServerMessage::Reconnect { host: None, port: None, wait_s: 0 },
            ServerMessage::Ping { id: Id::from(1) },
            ServerMessage::GetVersion { id: Id::Text("v".into()) },
            ServerMessage::Response { id: Id::from(5), outcome: Ok(json!(true)) },
            ServerMessage::Response { id: Id::from(5), outcome: Err(error) },
            ServerMessage::Unknown { id: Id::Null, method: "mining.surprise".into() },
        ];
        for message in messages {
            assert_eq!(ServerMessage::parse(message.to_line().as_bytes()), Ok(message));
        }
    }

    #[test]
    fn the_short_way_reads_what_the_long_way_reads() {
        let check = |line: &str, short: bool| {
            let quick = quick::yes(line.as_bytes());
            assert_eq!(quick.is_some(), short, "{line}");
            assert_eq!(
                ServerMessage::parse(line.as_bytes()),
                ServerMessage::parse_any(line.as_bytes()),
                "{line}"
            );
        };
        check(r#"{"id":7,"result":true,"error":null}"#, true);
        check(r#"{"id":7,"jsonrpc":"2.0","result":true}"#, true);
        check(r#"{"id":7,"result":false,"error":null}"#, false);
        check(r#"{"id":7,"result":true,"error":[20,"x",null]}"#, false);
        check(r#"{"id":"7","result":true,"error":null}"#, false);
        check(r#"{"id":7,"method":"mining.ping","result":true}"#, false);
        check(r#"{"id":7,"result":true,"result":false}"#, false);
        check(r#"{"id":7}"#, false);
        for id in [Id::from(7), Id::Text("a\"b".into()), Id::Null] {
            let line = response_line(&id, &Ok(json!(true)));
            let value: Value = serde_json::from_str(&line).unwrap();
            assert_eq!(value, json!({ "id": id.to_value(), "result": true, "error": null }));
        }
    }

    #[test]
    fn whole_difficulties_have_no_point() {
        let check = |value: f64, expected: &str| assert_eq!(number(value).to_string(), expected);
        check(1024.0, "1024");
        check(0.5, "0.5");
        check(1e20, "1e+20");
    }

    #[test]
    fn difficulties_that_mean_nothing_are_refused() {
        for text in ["-1", "0", "\"1\"", "null", "[]", "1e29", "1e-20"] {
            let line = format!("{{\"id\":null,\"method\":\"mining.set_difficulty\",\"params\":[{text}]}}");
            let error = Error::Malformed {
                id: Id::Null,
                method: "mining.set_difficulty".into(),
                field: Field::Difficulty,
            };
            assert_eq!(ServerMessage::parse(line.as_bytes()), Err(error), "{text}");
        }
        for text in ["NaN", "1e999"] {
            let line = format!("{{\"method\":\"mining.set_difficulty\",\"params\":[{text}]}}");
            assert_eq!(ServerMessage::parse(line.as_bytes()), Err(Error::NotJson), "{text}");
        }
    }

    #[test]
    fn errors_of_any_shape_become_a_number_and_a_text() {
        let check = |error: Value, number: i64, text: &str| {
            assert_eq!(parse_error(&error), RpcError { number, text: text.into() });
        };
        check(json!([21, "Job not found", null]), 21, "Job not found");
        check(json!({ "code": 23, "message": "low" }), 23, "low");
        check(json!("bad"), 20, "bad");
        check(json!(7), 20, "no reason given");
    }

    #[test]
    fn subscription_gives_the_slice() {
        let slice = Slice { extranonce1: vec![3, 0xb6], extranonce2_size: 8 };
        assert_eq!(parse_subscribe_result(&subscribe_result(&slice)), Ok(slice));
        assert_eq!(parse_subscribe_result(&json!([[], "03b6", 0])), Err(Field::Extranonce2));
        assert_eq!(parse_subscribe_result(&json!([[], "03b", 4])), Err(Field::Extranonce1));
        assert_eq!(parse_subscribe_result(&json!(true)), Err(Field::Params));
    }
}
