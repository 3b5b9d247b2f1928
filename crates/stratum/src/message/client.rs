//! What a miner sends: parsed by the proxy, written by our own upstream side and by simulated miners.
//! Assumes nothing of the peer. Next: `server.rs` for the answers, `downstream.rs` for what is done with them.

use super::{Envelope, Error, Field, Id, clip, open, quick, request_line};
use crate::hex;
use crate::job::{MAX_EXTRANONCE, MAX_JOB_ID};
use crate::target::Target;
use crate::uint256::U256;
use serde_json::{Map, Value, json};

/// Worker names are `account.worker`, of at most this many bytes; bitcoin addresses have up to 90.
pub const MAX_WORKER: usize = 160;
/// User agents are kept for people; longer ones are cut.
pub const MAX_AGENT: usize = 128;

#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    pub id: Id,
    pub call: Call,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Call {
    Configure(Configure),
    Subscribe {
        agent: String,
    },
    Authorize {
        worker: String,
        password: String,
    },
    ExtranonceSubscribe,
    SuggestDifficulty(f64),
    Submit(Submission),
    Ping,
    /// Bitmain's first way of rolling versions, from before BIP 310.
    MultiVersion,
    /// An answer to something we asked.
    Response,
    Unknown {
        method: String,
    },
}

/// `mining.configure` (BIP 310): what the miner offers. Other extensions are answered with false.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Configure {
    /// The bits the miner can roll.
    pub version_mask: Option<u32>,
    pub minimum_difficulty: Option<f64>,
    pub subscribe_extranonce: bool,
    /// Extensions that we do not know.
    pub others: Vec<String>,
}

/// `mining.submit`, its numbers read from hex of exact width.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submission {
    pub worker: String,
    pub job_id: String,
    pub extranonce2: Vec<u8>,
    pub ntime: u32,
    pub nonce: u32,
    pub version_bits: Option<u32>,
}

impl Request {
    pub fn parse(line: &[u8]) -> Result<Request, Error> {
        // Nearly all lines are submissions in their usual form; what is unusual in any way is read the long way.
        if let Some(request) = quick::submit(line) {
            return Ok(request);
        }
        Request::parse_any(line)
    }

    /// The long way, which reads all that can be read; the same, for whoever compares.
    pub fn parse_any(line: &[u8]) -> Result<Request, Error> {
        let Envelope { id, method, params, fields } = open(line)?;
        let Some(method) = method else {
            let answers = fields.contains_key("result") || fields.contains_key("error");
            return if answers {
                Ok(Request { id, call: Call::Response })
            } else {
                Err(Error::NotStratum { id })
            };
        };
        match parse_call(&method, &params) {
            Ok(call) => Ok(Request { id, call }),
            Err(field) => Err(Error::Malformed { id, method, field }),
        }
    }

    /// The line with its end. `Response` and `Unknown` have no line of their own and become an empty call.
    pub fn to_line(&self) -> String {
        if let (Call::Submit(submission), Id::Number(id)) = (&self.call, &self.id) {
            return quick::submit_line(id, &submission.said());
        }
        let (method, params) = match &self.call {
            Call::Configure(configure) => ("mining.configure", configure.to_params()),
            Call::Subscribe { agent } => ("mining.subscribe", json!([agent])),
            Call::Authorize { worker, password } => ("mining.authorize", json!([worker, password])),
            Call::ExtranonceSubscribe => ("mining.extranonce.subscribe", json!([])),
            Call::SuggestDifficulty(difficulty) => ("mining.suggest_difficulty", json!([difficulty])),
            Call::Submit(submission) => ("mining.submit", submission.to_params()),
            Call::Ping => ("mining.ping", json!([])),
            Call::MultiVersion => ("mining.multi_version", json!([4])),
            Call::Response => ("", json!([])),
            Call::Unknown { method } => (method.as_str(), json!([])),
        };
        request_line(&self.id, method, params)
    }
}

impl Submission {
    pub(crate) fn said(&self) -> quick::Said<'_> {
        quick::Said {
            worker: &self.worker,
            job_id: &self.job_id,
            extranonce2: &self.extranonce2,
            ntime: self.ntime,
            nonce: self.nonce,
            version_bits: self.version_bits,
        }
    }

    pub fn from_params(params: &[Value]) -> Result<Submission, Field> {
        let [worker, job_id, extranonce2, ntime, nonce, rest @ ..] = params else {
            return Err(Field::Params);
        };
        let extranonce2 = extranonce2.as_str().and_then(|text| hex::decode(text, MAX_EXTRANONCE));
        Ok(Submission {
            worker: worker_name(worker)?,
            job_id: job_id.as_str().filter(|id| id.len() <= MAX_JOB_ID).ok_or(Field::JobId)?.to_owned(),
            extranonce2: extranonce2.ok_or(Field::Extranonce2)?,
            ntime: word(ntime).ok_or(Field::Ntime)?,
            nonce: word(nonce).ok_or(Field::Nonce)?,
            version_bits: match rest.first() {
                None | Some(Value::Null) => None,
                Some(bits) => Some(word(bits).ok_or(Field::VersionBits)?),
            },
        })
    }

    pub fn to_params(&self) -> Value {
        let mut params = vec![
            json!(self.worker),
            json!(self.job_id),
            json!(hex::encode(&self.extranonce2)),
            json!(format!("{:08x}", self.ntime)),
            json!(format!("{:08x}", self.nonce)),
        ];
        params.extend(self.version_bits.map(|bits| json!(format!("{bits:08x}"))));
        Value::Array(params)
    }
}

impl Configure {
    fn from_params(params: &[Value]) -> Result<Configure, Field> {
        let names = params.first().and_then(Value::as_array).ok_or(Field::Params)?;
        let empty = Map::new();
        let options = params.get(1).and_then(Value::as_object).unwrap_or(&empty);
        let mut configure = Configure::default();
        for name in names {
            match name.as_str().ok_or(Field::Params)? {
                "version-rolling" => {
                    let mask = options.get("version-rolling.mask").map_or(Some(u32::MAX), lenient_mask);
                    configure.version_mask = Some(mask.ok_or(Field::Mask)?);
                }
                "minimum-difficulty" => {
                    let value = options.get("minimum-difficulty.value").and_then(Value::as_f64);
                    configure.minimum_difficulty = Some(value.ok_or(Field::Difficulty)?);
                }
                "subscribe-extranonce" => configure.subscribe_extranonce = true,
                other => configure.others.push(clip(other.to_owned(), MAX_AGENT)),
            }
        }
        Ok(configure)
    }

    fn to_params(&self) -> Value {
        let mut names: Vec<&str> = self.others.iter().map(String::as_str).collect();
        let mut options = Map::new();
        if let Some(mask) = self.version_mask {
            names.push("version-rolling");
            options.insert("version-rolling.mask".into(), json!(format!("{mask:08x}")));
            options.insert("version-rolling.min-bit-count".into(), json!(0));
        }
        if let Some(difficulty) = self.minimum_difficulty {
            names.push("minimum-difficulty");
            options.insert("minimum-difficulty.value".into(), json!(difficulty));
        }
        if self.subscribe_extranonce {
            names.push("subscribe-extranonce");
        }
        json!([names, options])
    }
}

fn parse_call(method: &str, params: &Value) -> Result<Call, Field> {
    let list = || params.as_array().ok_or(Field::Params);
    Ok(match method {
        "mining.configure" => Call::Configure(Configure::from_params(list()?)?),
        "mining.subscribe" => {
            let agent = params.get(0).and_then(Value::as_str).unwrap_or_default();
            Call::Subscribe { agent: clip(agent.to_owned(), MAX_AGENT) }
        }
        "mining.authorize" => {
            let list = list()?;
            let password = list.get(1).and_then(Value::as_str).unwrap_or_default();
            let worker = worker_name(list.first().ok_or(Field::Worker)?)?;
            Call::Authorize { worker, password: clip(password.to_owned(), MAX_WORKER) }
        }
        "mining.extranonce.subscribe" => Call::ExtranonceSubscribe,
        "mining.suggest_difficulty" => {
            let value = list()?.first().and_then(Value::as_f64);
            Call::SuggestDifficulty(value.ok_or(Field::Difficulty)?)
        }
        "mining.suggest_target" => {
            let target = list()?.first().and_then(Value::as_str).and_then(hex::decode_exact);
            let target = Target::new(U256::from_be_bytes(target.ok_or(Field::Difficulty)?));
            Call::SuggestDifficulty(target.map_err(|_| Field::Difficulty)?.difficulty())
        }
        "mining.multi_version" => Call::MultiVersion,
        "mining.submit" => Call::Submit(Submission::from_params(list()?)?),
        "mining.ping" => Call::Ping,
        _ => Call::Unknown { method: method.to_owned() },
    })
}

/// Names go into reports and ledgers: no control characters, nothing endless.
fn worker_name(value: &Value) -> Result<String, Field> {
    let name = value.as_str().filter(|name| is_worker_name(name)).ok_or(Field::Worker)?;
    Ok(name.to_owned())
}

pub(super) fn is_worker_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= MAX_WORKER && !name.chars().any(char::is_control)
}

fn word(value: &Value) -> Option<u32> {
    value.as_str().and_then(hex::decode_u32)
}

/// Miners write the mask they offer without leading zeros now and then, and nothing is counted by it.
fn lenient_mask(value: &Value) -> Option<u32> {
    let text = value.as_str()?;
    let plain = text.len() <= 8 && text.bytes().all(|digit| digit.is_ascii_hexdigit());
    plain.then(|| u32::from_str_radix(text, 16).ok()).flatten()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn submission() -> Submission {
        Submission {
            worker: "acct.1".into(),
            job_id: "1f".into(),
            extranonce2: vec![0, 0, 0, 9],
            ntime: 0x6878_b602,
            nonce: 0x58f9_0070,
            version_bits: Some(0x2000),
        }
    }

    #[test]
    fn every_call_survives_the_wire() {
        let configure = Configure {
            version_mask: Some(0x1fff_e000),
            minimum_difficulty: Some(2048.0),
            subscribe_extranonce: true,
            others: vec!["info".into()],
        };
        let calls = [
            Call::Configure(configure),
            Call::Configure(Configure::default()),
            Call::Subscribe { agent: "bitaxe/2.1".into() },
            Call::Authorize { worker: "acct.1".into(), password: "x".into() },
            Call::ExtranonceSubscribe,
            Call::SuggestDifficulty(0.001),
            Call::Submit(submission()),
            Call::Submit(Submission { version_bits: None, ..submission() }),
            Call::Ping,
            Call::MultiVersion,
            Call::Unknown { method: "mining.unheard".into() },
        ];
        for call in calls {
            let request = Request { id: Id::from(4), call };
            let line = request.to_line();
            assert!(line.ends_with('\n'));
            assert_eq!(Request::parse(line.as_bytes()), Ok(request));
        }
    }

    #[test]
    fn the_short_way_reads_what_the_long_way_reads() {
        let check = |line: &str, short: bool| {
            let quick = quick::submit(line.as_bytes());
            assert_eq!(quick.is_some(), short, "{line}");
            let long = Request::parse_any(line.as_bytes());
            assert!(quick.is_none() || quick == long.clone().ok(), "{line}: {quick:?} {long:?}");
            assert_eq!(Request::parse(line.as_bytes()), long, "{line}");
        };
        let submit = r#"{"id":4,"method":"mining.submit","params":["w","1","0a0B","6878b602","58f90070"]}"#;
        check(submit, true);
        check(&submit.replace("]}", r#","00002000"]}"#), true);
        check(&submit.replace("{\"id\"", "{ \"jsonrpc\" : \"2.0\", \"id\""), true);
        // Everything unusual, and everything wrong.
        for (from, to) in [
            ("4,", "\"4\","),
            ("4,", "-4,"),
            ("4,", "4.5,"),
            ("4,", "null,"),
            ("\"id\":4", "\"id\":4,\"id\":5"),
            ("\"w\"", "\"\\u0077\""),
            ("\"w\"", "\"\""),
            ("\"w\"", "7"),
            ("mining.submit", "mining.subscribe"),
            ("58f90070", "58f9007"),
            ("58f90070", "0x58f900"),
            ("\"1\"", "\"11111111111111111111111111111111111111111111111111111111111111111\""),
            ("0a0B", "0a0"),
            ("]}", ",null]}"),
            ("]}", ",\"00002000\",\"more\"]}"),
            ("]}", "]} x"),
            ("]}", "]"),
            ("params", "result"),
        ] {
            check(&submit.replace(from, to), false);
        }
    }

    proptest! {
        /// Submissions with a byte or two changed, put in or taken out are nearly right, which is where two readers part.
        #[test]
        fn nearly_usual_submissions_read_alike_both_ways(
            bits in prop::option::of(any::<u32>()),
            id in prop::sample::select(vec!["4", "0", "18446744073709551615", "18446744073709551616", "1e3", "\"4\""]),
            worker in "[a-zé\\\\\"]{0,3}",
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0u8..3), 0..3),
        ) {
            let said = Submission { worker, version_bits: bits, ..submission() };
            let line = Request { id: Id::from(4), call: Call::Submit(said) }.to_line();
            let mut line = line.replace("\"id\":4", &format!("\"id\":{id}")).into_bytes();
            for (at, byte, how) in changes {
                let at = at.index(line.len());
                match how {
                    0 => line[at] = byte,
                    1 => line.insert(at, b"\"\\,[]{}:0x \n\t-.e"[usize::from(byte) % 16]),
                    _ => drop(line.remove(at)),
                }
            }
            prop_assert_eq!(Request::parse(&line), Request::parse_any(&line), "{}", String::from_utf8_lossy(&line));
        }
    }

    #[test]
    fn a_malformed_field_is_named_and_the_id_kept() {
        let check = |params: &str, expected: Field| {
            let line = format!("{{\"id\":\"a\",\"method\":\"mining.submit\",\"params\":{params}}}");
            let error = Error::Malformed {
                id: Id::Text("a".into()),
                method: "mining.submit".into(),
                field: expected,
            };
            assert_eq!(Request::parse(line.as_bytes()), Err(error), "{params}");
        };
        check(r#"{"worker":"w"}"#, Field::Params);
        check("null", Field::Params);
        check("[]", Field::Params);
        check(r#"["w","1","00000000","6878b602"]"#, Field::Params);
        check(r#"[7,"1","00000000","6878b602","58f90070"]"#, Field::Worker);
        check(r#"["a\u0007b","1","00000000","6878b602","58f90070"]"#, Field::Worker);
        check(r#"["","1","00000000","6878b602","58f90070"]"#, Field::Worker);
        check(r#"["w",1,"00000000","6878b602","58f90070"]"#, Field::JobId);
        check(r#"["w","1","0000000","6878b602","58f90070"]"#, Field::Extranonce2);
        check(r#"["w","1","00000000","06878b602","58f90070"]"#, Field::Ntime);
        check(r#"["w","1","00000000","6878b602","58f9007g"]"#, Field::Nonce);
        check(r#"["w","1","00000000","6878b602","0x58f900"]"#, Field::Nonce);
        check(r#"["w","1","00000000","6878b602","58f90070","2000"]"#, Field::VersionBits);
        check(r#"["w","1","00000000","6878b602","58f90070",8192]"#, Field::VersionBits);
    }

    #[test]
    fn what_is_not_stratum_is_told_apart() {
        let check = |line: &str, expected: Result<Call, Error>| {
            assert_eq!(Request::parse(line.as_bytes()).map(|request| request.call), expected, "{line}");
        };
        check("GET / HTTP/1.1", Err(Error::NotJson));
        check("[1,2]", Err(Error::NotJson));
        check("{}", Err(Error::NotStratum { id: Id::Null }));
        check(r#"{"id":1,"method":7}"#, Err(Error::NotStratum { id: Id::from(1) }));
        check(r#"{"id":1,"result":"cgminer/4.12","error":null}"#, Ok(Call::Response));
        check(r#"{"method":"mining.subscribe"}"#, Ok(Call::Subscribe { agent: String::new() }));
        let deep = format!("{}{}", "[".repeat(8_000), "]".repeat(8_000));
        check(&deep, Err(Error::NotJson));
    }

    #[test]
    fn a_short_mask_is_understood() {
        let check =
            |mask: &str, expected: Option<u32>| assert_eq!(lenient_mask(&json!(mask)), expected, "{mask}");
        check("1fffe000", Some(0x1fff_e000));
        check("e000", Some(0xe000));
        check("0x1fffe0", None);
        check("+1", None);
        check("", None);
    }
}
