//! The file of an export: one JSON object a line, the first and the last of which are about the file.
//!
//! ```text
//! {"format":"flareshift-store","version":1,"epoch":3,"records":2}
//! {"key":"epoch","value":{"kind":"epoch","schema":1,"body":{"epoch":3}}}
//! {"key":"site/well-7","value":{"kind":"site","schema":1,"body":{…}}}
//! {"sha256":"…"}
//! ```
//!
//! A value stands there byte by byte as it is stored, envelope and schema included; one that is no JSON on one line stands as
//! `"hex"` instead. Keys are without the installation's prefix, sorted. What a lease holds, the leader, is not in it. The checksum
//! is over every byte before its own line.
//!
//! Assumes: it fits into memory, as a range of the store does (128 MiB).
//! Read next: `import.rs`.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};
use store::{Entry, Key};

use super::{Answer, Desk, Error};

const FORMAT: &str = "flareshift-store";
/// The version that this program writes, and the latest that it reads.
const VERSION: u32 = 1;
/// Largest file that is read: a range of 128 MiB, each byte as two of hex, and as much again for names.
const MAX_FILE_BYTES: u64 = 512 * 1024 * 1024;

/// Why a file was not written, or not taken.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It would overwrite something.
    #[error("{} is there already; choose another name", .0.display())]
    Exists(PathBuf),
    /// The disk.
    #[error("{} cannot be {verb}: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Read or written.
        verb: &'static str,
        /// Why.
        source: io::Error,
    },
    /// It is not whole, or not ours.
    #[error("{}, line {line}: {what}; nothing was changed, take another copy", path.display())]
    Damaged {
        /// Which.
        path: PathBuf,
        /// Where.
        line: usize,
        /// What is wrong.
        what: String,
    },
    /// A newer program wrote it.
    #[error("{} is of format {found}, this program knows up to {VERSION}; import it with the newer version", path.display())]
    Newer {
        /// Which.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
}

#[derive(Serialize, Deserialize)]
struct Head {
    format: String,
    version: u32,
    epoch: u64,
    records: usize,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    key: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    value: Option<Box<RawValue>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hex: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct Tail {
    sha256: String,
}

/// What a file holds.
#[derive(Debug, PartialEq)]
pub(super) struct Content {
    pub(super) epoch: u64,
    pub(super) records: Vec<(Key, Vec<u8>)>,
}

pub(super) async fn run(desk: &Desk, path: &Path) -> Result<Answer, Error> {
    let entries = desk.something().await?;
    let epoch = desk.epoch().await?;
    let (bytes, sha256) = format(epoch, &entries);
    write(path, &bytes)?;
    Ok(Answer::Export { file: path.to_owned(), records: entries.len(), bytes: bytes.len(), sha256 })
}

/// The bytes of a file, and its checksum.
fn format(epoch: u64, entries: &[Entry]) -> (Vec<u8>, String) {
    let mut bytes = Vec::new();
    let head = Head { format: FORMAT.into(), version: VERSION, epoch, records: entries.len() };
    push(&mut bytes, &head);
    for entry in entries {
        let value = raw(&entry.value);
        let hex = if value.is_none() { Some(to_hex(&entry.value)) } else { None };
        push(&mut bytes, &Line { key: entry.key.as_str().to_owned(), value, hex });
    }
    let sha256 = to_hex(&Sha256::digest(&bytes));
    push(&mut bytes, &Tail { sha256: sha256.clone() });
    (bytes, sha256)
}

/// A value that may stand in a line as it is.
fn raw(value: &[u8]) -> Option<Box<RawValue>> {
    let text = std::str::from_utf8(value).ok().filter(|text| !text.contains(['\n', '\r']))?;
    let raw = RawValue::from_string(text.to_owned()).ok()?;
    // Blanks around it would not come back.
    (raw.get() == text && text.trim() == text).then_some(raw)
}

fn push(bytes: &mut Vec<u8>, line: &impl Serialize) {
    serde_json::to_writer(&mut *bytes, line)
        .expect("a vector takes any text, and the types above have text keys");
    bytes.push(b'\n');
}

/// Whole under its name, or not there.
fn write(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let failed = |source| FileError::Io { path: path.to_owned(), verb: "written", source };
    if path.exists() {
        return Err(FileError::Exists(path.to_owned()));
    }
    let mut name = path.as_os_str().to_owned();
    name.push(".part");
    let part = PathBuf::from(name);
    let written = File::create(&part).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&part, path)
    });
    written.map_err(|source| {
        // What is there of it is of no use to anybody.
        let _ = fs::remove_file(&part);
        failed(source)
    })
}

/// Reads and verifies a file.
pub(super) fn read(path: &Path) -> Result<Content, FileError> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes));
    read.map_err(|source| FileError::Io { path: path.to_owned(), verb: "read", source })?;
    parse(path, &bytes)
}

fn parse(path: &Path, bytes: &[u8]) -> Result<Content, FileError> {
    let damaged = |line: usize, what: String| FileError::Damaged { path: path.to_owned(), line, what };
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(damaged(1, format!("the file is larger than {MAX_FILE_BYTES} bytes")));
    }
    let lines: Vec<&[u8]> = bytes.split_inclusive(|byte| *byte == b'\n').collect();
    let (Some((first, rest)), last_number) = (lines.split_first(), lines.len()) else {
        return Err(damaged(1, "the file is empty".into()));
    };
    let head: Head = serde_json::from_slice(first)
        .map_err(|error| damaged(1, format!("this is no export of a store ({error})")))?;
    if head.format != FORMAT {
        return Err(damaged(1, format!("the format is {:?}, not {FORMAT:?}", head.format)));
    }
    if head.version > VERSION {
        return Err(FileError::Newer { path: path.to_owned(), found: head.version });
    }
    let (tail, body) = rest.split_last().ok_or_else(|| damaged(1, "the file ends here".into()))?;
    let tail: Tail = serde_json::from_slice(tail)
        .map_err(|_| damaged(last_number, "the checksum is missing, the file was cut short".into()))?;
    let before = first.len() + body.iter().map(|line| line.len()).sum::<usize>();
    let found = to_hex(&Sha256::digest(&bytes[..before]));
    if found != tail.sha256 {
        return Err(damaged(last_number, format!("the checksum is {}, the file's is {found}", tail.sha256)));
    }
    let records = (2..).zip(body).map(|(number, line)| record(line).map_err(|what| damaged(number, what)));
    let records = records.collect::<Result<Vec<_>, _>>()?;
    if records.len() != head.records {
        return Err(damaged(
            1,
            format!("{} records are promised, {} are there", head.records, records.len()),
        ));
    }
    Ok(Content { epoch: head.epoch, records })
}

fn record(line: &[u8]) -> Result<(Key, Vec<u8>), String> {
    let line: Line = serde_json::from_slice(line).map_err(|error| error.to_string())?;
    let value = match (line.value, line.hex) {
        (Some(value), None) => value.get().as_bytes().to_vec(),
        (None, Some(hex)) => from_hex(&hex).ok_or("the hex digits are wrong")?,
        _ => return Err("either value or hex is wanted".into()),
    };
    Ok((Key::stored(line.key), value))
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes().chunks(2);
    digits
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok().filter(|p| p.len() == 2)?, 16).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use store::Revision;

    use super::*;

    fn entry(key: &str, value: &[u8]) -> Entry {
        let revision = Revision(2);
        let (key, value) = (Key::stored(key), value.to_vec());
        Entry { key, value, create_revision: revision, mod_revision: revision, version: 1, lease: None }
    }

    fn entries() -> Vec<Entry> {
        let numbers =
            br#"{"kind":"x","schema":1,"body":{"f":0.1000000000000000055,"n":18446744073709551615}}"#;
        let odd: [(&str, &[u8]); 7] = [
            ("a", numbers),
            ("b", b""),
            ("c", b"not json"),
            ("d", b"{\n}"),
            ("e", b" {} "),
            ("f", &[0, 255, 128]),
            ("ключ \"\\", br#""text""#),
        ];
        odd.iter().map(|(key, value)| entry(key, value)).collect()
    }

    #[test]
    fn every_byte_of_every_value_comes_back() {
        let entries = entries();
        let (bytes, _) = format(7, &entries);
        let content = parse(Path::new("f"), &bytes).unwrap();
        let expected: Vec<_> = entries.into_iter().map(|entry| (entry.key, entry.value)).collect();
        assert_eq!(content, Content { epoch: 7, records: expected });
    }

    #[test]
    fn a_file_looks_as_it_is_documented() {
        let value = br#"{"kind":"epoch","schema":1,"body":{"epoch":3}}"#;
        let (bytes, sha256) = format(3, &[entry("epoch", value), entry("odd", b"\xff")]);
        let expected = format!(
            "{}\n{}\n{}\n{{\"sha256\":\"{sha256}\"}}\n",
            r#"{"format":"flareshift-store","version":1,"epoch":3,"records":2}"#,
            r#"{"key":"epoch","value":{"kind":"epoch","schema":1,"body":{"epoch":3}}}"#,
            r#"{"key":"odd","hex":"ff"}"#,
        );
        assert_eq!(String::from_utf8(bytes).unwrap(), expected);
    }

    #[test]
    fn a_damaged_file_is_refused_wherever_it_is_damaged() {
        let (whole, _) = format(7, &entries());
        for at in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[at] ^= 1;
            assert!(parse(Path::new("f"), &flipped).is_err(), "byte {at}");
            let cut = parse(Path::new("f"), &whole[..at]);
            // The last line end alone may be missing.
            assert_eq!(cut.is_ok(), at == whole.len() - 1, "cut at {at}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_file_is_told() {
        let check = |text: &str, expected: &str| {
            let error = parse(Path::new("f"), text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        check("", "f, line 1: the file is empty");
        check("hello\n", "line 1: this is no export of a store");
        check("{\"format\":\"x\",\"version\":1,\"epoch\":1,\"records\":0}\n", "the format is \"x\"");
        let head = "{\"format\":\"flareshift-store\",\"version\":1,\"epoch\":1,\"records\":0}\n";
        check(head, "the file ends here");
        check(&head.replace("\"version\":1", "\"version\":9"), "import it with the newer version");
        check(&format!("{head}{{\"key\":\"a\",\"hex\":\"\"}}\n"), "the file was cut short");
        let sealed = |text: &str| format!("{text}{{\"sha256\":\"{}\"}}\n", to_hex(&Sha256::digest(text)));
        check(
            &sealed(&format!("{head}{{\"key\":\"a\",\"hex\":\"\"}}\n")),
            "0 records are promised, 1 are there",
        );
        let one = head.replace("\"records\":0", "\"records\":1");
        check(&sealed(&format!("{one}{{\"key\":\"a\"}}\n")), "line 2: either value or hex");
        check(&sealed(&format!("{one}{{\"key\":\"a\",\"hex\":\"f\"}}\n")), "line 2: the hex digits");
        check(&sealed(&format!("{one}{{\"key\":\"a\",\"hex\":\"ff\",\"x\":1}}\n")), "unknown field `x`");
    }
}
