//! A share and all that it is judged by, read from JSON; and the verdict.
//!
//! Fields are what Stratum carries, in the form in which it carries them, so that lines of a log can be pasted: `job` and `share`
//! are the parameters of `mining.notify` and `mining.submit`, or the whole messages. Read next: [`stratum::verify`].

use serde::Deserialize;
use serde_json::Value;
use stratum::batch::Hashed;
use stratum::hex;
use stratum::job::{Job, MAX_EXTRANONCE, Slice};
use stratum::message::{Field, Submission};
use stratum::target::{Difficulty, difficulty_of};
use stratum::verify::{self, NtimeWindow, Reject, Rules};

use crate::output::share::Verdict;

/// Why a case cannot be judged.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// It cannot be read.
    #[error("cannot read {file}; check that it exists and is text")]
    Unreadable {
        /// Which.
        file: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It is longer than any share and its job.
    #[error("{file} is larger than {most} bytes; give one job and one share")]
    TooLarge {
        /// Which.
        file: String,
        /// In bytes.
        most: u64,
    },
    /// It is no JSON, or not of the form of a case.
    #[error("{file}: {message}; `flareshift share check --help` shows the form")]
    Form {
        /// Which.
        file: String,
        /// What is wrong, with line and column.
        message: String,
    },
    /// One of its values is none.
    #[error("{file}: `{field}`: expected {expected}")]
    Value {
        /// Which.
        file: String,
        /// The key in the file.
        field: &'static str,
        /// What should stand there.
        expected: String,
    },
}

/// The file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Form {
    job: Value,
    extranonce1: String,
    extranonce2_size: usize,
    version_mask: Option<String>,
    difficulty: f64,
    share: Value,
    received_unix_seconds: Option<u64>,
}

/// A value that is none, and what should stand there.
struct Wrong {
    field: &'static str,
    expected: String,
}

/// One share, ready to be judged.
#[derive(Clone, Debug)]
pub(super) struct Case {
    job: Job,
    slice: Slice,
    difficulty: Difficulty,
    rules: Rules,
    share: Vec<Value>,
}

impl Case {
    /// Reads a case; `file` is for messages. A share that is malformed is no error here: that is a verdict.
    pub(super) fn parse(file: &str, text: &str) -> Result<Case, Error> {
        let form: Form = serde_json::from_str(text)
            .map_err(|error| Error::Form { file: file.to_owned(), message: error.to_string() })?;
        form.case().map_err(|Wrong { field, expected }| Error::Value {
            file: file.to_owned(),
            field,
            expected,
        })
    }

    /// What the proxy would have said of it as the first share of its header.
    pub(super) fn judge(&self) -> Verdict {
        let hashed = self.hash();
        let judged = hashed.and_then(|hashed| verify::judge(&self.job, &self.rules.target, hashed));
        let (reject, hashed) = (judged.err(), hashed.ok());
        Verdict {
            accepted: reject.is_none(),
            reject: reject.map(|reject| reject.code().to_owned()),
            message: reject.map(|reject| reject.to_string()),
            hash: hashed.map(|hashed| hashed.hash.to_string()),
            header: hashed.map(|hashed| hex::encode(&hashed.header.0)),
            difficulty: hashed.map(|hashed| difficulty_of(&hashed.hash)),
            is_block: hashed.map(|hashed| self.job.network.is_met_by(&hashed.hash)),
            share_difficulty: self.difficulty.value(),
            network_difficulty: self.job.network.difficulty(),
        }
    }

    /// Its header and hash, where it has one.
    fn hash(&self) -> Result<Hashed, Reject> {
        let share = Submission::from_params(&self.share).map_err(Reject::Malformed)?;
        if *share.job_id != *self.job.id {
            return Err(Reject::UnknownJob);
        }
        let version = verify::check_fields(&self.job, &self.slice, &share, &self.rules)?;
        let root = self.job.merkle_root(&self.slice, &share.extranonce2);
        let header = self.job.header(&root, version, share.ntime, share.nonce);
        Ok(Hashed { header, hash: header.hash() })
    }
}

impl Form {
    fn case(&self) -> Result<Case, Wrong> {
        let wrong = |field, expected: &str| Wrong { field, expected: expected.to_owned() };
        let share = params(&self.share);
        let share = share.ok_or_else(|| wrong("share", "the parameters of mining.submit, or the message"))?;
        let difficulty = Difficulty::new(self.difficulty)
            .map_err(|error| wrong("difficulty", &format!("a difficulty that has a target; {error}")))?;
        let (job, window) = (self.job()?, NtimeWindow::default());
        // Without a time of arrival the window behind the job's own time is all there is, and this clock narrows nothing.
        let latest = u64::from(job.ntime) + u64::from(window.after_job);
        let now_unix = self.received_unix_seconds.unwrap_or(latest);
        Ok(Case {
            slice: self.slice()?,
            rules: Rules { target: difficulty.target(), mask: self.mask()?, window, now_unix },
            share: share.to_vec(),
            difficulty,
            job,
        })
    }

    fn job(&self) -> Result<Job, Wrong> {
        const EXPECTED: &str = "the nine parameters of mining.notify, or the message";
        let wrong = |expected: String| Wrong { field: "job", expected };
        let params = params(&self.job).ok_or_else(|| wrong(EXPECTED.to_owned()))?;
        let malformed =
            |part: Field| wrong(format!("{EXPECTED}; the {} is malformed or missing", part.name()));
        Job::from_params(params).map_err(malformed)
    }

    fn slice(&self) -> Result<Slice, Wrong> {
        let Some(extranonce1) = hex::decode(&self.extranonce1, MAX_EXTRANONCE) else {
            return Err(Wrong {
                field: "extranonce1",
                expected: format!("hex of at most {MAX_EXTRANONCE} bytes"),
            });
        };
        let extranonce2_size = self.extranonce2_size;
        if !(1..=MAX_EXTRANONCE).contains(&extranonce2_size) {
            let expected = format!("a number of bytes from 1 to {MAX_EXTRANONCE}");
            return Err(Wrong { field: "extranonce2_size", expected });
        }
        Ok(Slice { extranonce1, extranonce2_size })
    }

    fn mask(&self) -> Result<Option<u32>, Wrong> {
        let Some(text) = &self.version_mask else { return Ok(None) };
        let expected = "eight hex digits such as 1fffe000, or null without version rolling";
        let mask = hex::decode_u32(text);
        mask.map(Some).ok_or_else(|| Wrong { field: "version_mask", expected: expected.to_owned() })
    }
}

/// Parameters as they are, or those of a whole message.
fn params(value: &Value) -> Option<&[Value]> {
    let list = if value.is_object() { value.get("params")? } else { value };
    list.as_array().map(Vec::as_slice)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    /// A signet miner's share with rolled version bits, of known hash.
    fn example() -> Value {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/examples/share.json");
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
    }

    /// The second known answer: three branches, a real pool's job, and no block.
    fn testnet() -> Value {
        let job = json!([
            "1",
            "171592f223740e92d223f6e68bff25279af7ac4f2246451e0000000200000000",
            "02000000010000000000000000000000000000000000000000000000000000000000000000ffffffff1903c943255c7075626c69632d706f6f6c5c",
            concat!(
                "ffffffff037a90000000000000160014e6f22ca44dc800e9d049621a3b9a42c509f1c4bc3b0f250000000000160014e6f22ca4",
                "4dc800e9d049621a3b9a42c509f1c4bc0000000000000000266a24aa21a9edbd3d1d916aa0b57326a2d88ebe1b68a1d7c48585",
                "f26d8335fe6a94b62755f64c00000000"
            ),
            [
                "175335649d5e8746982969ec88f52e85ac9917106fba5468e699c8879ab974a1",
                "d5644ab3e708c54cd68dc5aedc92b8d3037449687f92ec41ed6e37673d969d4a",
                "5c9ec187517edc0698556cca5ce27e54c96acb014770599ed9df4d4937fbf2b0"
            ],
            "20000000",
            "192495f8",
            "64b3f3ec",
            true
        ]);
        json!({
            "job": job, "extranonce1": "57a6f098", "extranonce2_size": 4, "version_mask": "1fffe000", "difficulty": 669,
            "share": ["w", "1", "c7080000", "64b3f3ec", "ed460d91", "00002000"],
        })
    }

    fn judge(case: &Value) -> Verdict {
        Case::parse("case.json", &case.to_string()).unwrap().judge()
    }

    #[test]
    fn known_shares_have_their_known_hash_and_difficulty() {
        let check = |case: Value, hash: &str, difficulty: f64, is_block: bool| {
            let verdict = judge(&case);
            assert_eq!((verdict.accepted, verdict.reject.as_deref()), (true, None));
            assert_eq!((verdict.hash.as_deref(), verdict.is_block), (Some(hash), Some(is_block)));
            let reached = verdict.difficulty.unwrap();
            assert!((reached - difficulty).abs() < 1e-6, "{reached}");
            assert_eq!(verdict.header.map(|header| header.len()), Some(160));
        };
        check(
            example(),
            "0000000000cdd305efb7cb9d86c7dc8eccf504a32fdf781ea053f87b6f5b3642",
            318.402_623,
            true,
        );
        check(
            testnet(),
            "000000000061d52983863e5c424c00d9e0981874fddf6a8493433e73928a3e4e",
            669.868_292,
            false,
        );
    }

    #[test]
    fn whole_messages_will_do() {
        let mut case = example();
        case["job"] = json!({ "id": null, "method": "mining.notify", "params": case["job"] });
        case["share"] = json!({ "id": 4, "method": "mining.submit", "params": case["share"] });
        assert!(judge(&case).accepted);
    }

    #[test]
    fn what_is_wrong_with_a_share_is_a_verdict_with_a_stable_word() {
        let check = |place: &str, value: Value, reject: &str, hashed: bool| {
            let mut case = testnet();
            *case.pointer_mut(place).unwrap() = value;
            let verdict = judge(&case);
            assert_eq!((verdict.accepted, verdict.reject.as_deref()), (false, Some(reject)), "{place}");
            assert_eq!(verdict.hash.is_some(), hashed, "{place}");
            assert!(verdict.message.is_some());
        };
        check("/difficulty", json!(670), "low-difficulty", true);
        check("/share/4", json!("ed460d92"), "low-difficulty", true);
        check("/share/1", json!("2"), "unknown-job", false);
        check("/share/2", json!("c70800"), "malformed", false);
        check("/share/4", json!("0xed460d91"), "malformed", false);
        check("/share", json!([]), "malformed", false);
        check("/share/3", json!("64b3f3eb"), "ntime-out-of-range", false);
        check("/share/5", json!("00000001"), "version-bits", false);
        check("/version_mask", json!(null), "version-bits", false);
    }

    #[test]
    fn a_time_of_arrival_narrows_the_window() {
        let mut case = testnet();
        case["share"][3] = json!("64b40f44"); // 7,000 s after the job
        assert_eq!(judge(&case).reject.as_deref(), Some("low-difficulty"), "the window allows it");
        case["received_unix_seconds"] = json!(0x64b3_f3ec - 201);
        assert_eq!(judge(&case).reject.as_deref(), Some("ntime-out-of-range"));
    }

    #[test]
    fn what_cannot_be_judged_is_told_by_its_field() {
        let check = |place: &str, value: Value, expected: &str| {
            let mut case = testnet();
            case[place] = value;
            let error = Case::parse("case.json", &case.to_string()).unwrap_err().to_string();
            assert!(error.starts_with("case.json: ") && error.contains(expected), "{error}");
        };
        check("job", json!("none"), "`job`: expected the nine parameters");
        check(
            "job",
            json!([]),
            "`job`: expected the nine parameters of mining.notify, or the message; the params is malformed",
        );
        check("extranonce1", json!("5"), "`extranonce1`: expected hex");
        check("extranonce2_size", json!(0), "`extranonce2_size`: expected a number of bytes from 1 to 32");
        check("version_mask", json!("x"), "`version_mask`: expected eight hex digits");
        check("difficulty", json!(-1), "`difficulty`: expected");
        check("share", json!(1), "`share`: expected");
        check("nonce", json!(1), "unknown field `nonce`");
        let error = Case::parse("case.json", "{\n  \"job\": }").unwrap_err().to_string();
        assert!(error.contains("line 2 column 10"), "{error}");
    }
}
