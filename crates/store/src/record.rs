//! Versioned records: what every value in the store looks like.
//!
//! A value is `{"kind": "site", "schema": 2, "body": {…}}` in JSON. Business code sees the newest shape only: a
//! record of an older schema is upgraded step by step when it is read, one of a newer is refused.
//!
//! Assumes: a type that changes its shape raises its `VERSION`, teaches `upgrade` the step, and adds a fixture of
//! the old shape to its tests.
//! Read next: `key.rs` for where records lie.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::Error;
use crate::key::Key;
use crate::port::Entry;

/// A type that is stored.
pub trait Versioned: Serialize + DeserializeOwned {
    /// What it is, in a word; a record of another kind under the same key is an error.
    const KIND: &'static str;
    /// The schema that this program writes; the first is 1.
    const VERSION: u32;

    /// Turns a body of schema `from` into one of `from + 1`. Called for each step from the stored schema up to
    /// `VERSION`, so a type at version 1 never needs it.
    fn upgrade(from: u32, body: Value) -> Result<Value, Error> {
        let _ = body;
        Err(Error::Corrupt { what: format!("a {} record of schema {from}", Self::KIND), source: None })
    }
}

/// The envelope around a stored body.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record<T> {
    pub kind: String,
    pub schema: u32,
    pub body: T,
}

/// The bytes of a record.
pub fn encode<T: Versioned>(body: &T) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(&Record { kind: T::KIND.into(), schema: T::VERSION, body })
        .map_err(|source| Error::refused(format!("a {} cannot be written as JSON: {source}", T::KIND)))
}

/// Reads a record, upgrading it if need be. `key` is for the message.
pub fn decode<T: Versioned>(key: &Key, bytes: &[u8]) -> Result<T, Error> {
    let bad = |source: serde_json::Error| Error::corrupt(format!("the {} record at {key}", T::KIND), source);
    let Record { kind, schema, body }: Record<Value> = serde_json::from_slice(bytes).map_err(bad)?;
    if kind != T::KIND {
        let what = format!("the record at {key} is a {kind}, not a {}; it", T::KIND);
        return Err(Error::Corrupt { what, source: None });
    }
    if schema > T::VERSION {
        return Err(Error::Newer { kind: T::KIND, found: schema, known: T::VERSION });
    }
    let body = (schema..T::VERSION).try_fold(body, |body, from| T::upgrade(from, body))?;
    serde_json::from_value(body).map_err(bad)
}

/// Reads the record in an entry.
pub fn decode_entry<T: Versioned>(entry: &Entry) -> Result<T, Error> {
    decode(&entry.key, &entry.value)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::key;

    /// Schema 1 had `name`; 2 called it `title`; 3 added `tags`.
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Note {
        title: String,
        tags: Vec<String>,
    }

    impl Versioned for Note {
        const KIND: &'static str = "note";
        const VERSION: u32 = 3;

        fn upgrade(from: u32, mut body: Value) -> Result<Value, Error> {
            match from {
                1 => body["title"] = body["name"].take(),
                2 => body["tags"] = Value::Array(Vec::new()),
                _ => return Err(Error::Corrupt { what: format!("schema {from}"), source: None }),
            }
            Ok(body)
        }
    }

    fn note(title: &str) -> Note {
        Note { title: title.into(), tags: Vec::new() }
    }

    #[test]
    fn a_record_comes_back_as_it_was_written() {
        let written = Note { title: "a".into(), tags: vec!["b".into()] };
        let bytes = encode(&written).unwrap();
        assert_eq!(
            String::from_utf8(bytes.clone()).unwrap(),
            r#"{"kind":"note","schema":3,"body":{"title":"a","tags":["b"]}}"#
        );
        assert_eq!(decode::<Note>(&key::epoch(), &bytes).unwrap(), written);
    }

    #[test]
    fn every_old_schema_still_decodes() {
        let fixtures = [
            r#"{"kind":"note","schema":1,"body":{"name":"old"}}"#,
            r#"{"kind":"note","schema":2,"body":{"title":"old"}}"#,
            r#"{"kind":"note","schema":3,"body":{"title":"old","tags":[]}}"#,
        ];
        for fixture in fixtures {
            assert_eq!(decode::<Note>(&key::epoch(), fixture.as_bytes()).unwrap(), note("old"), "{fixture}");
        }
    }

    #[test]
    fn what_cannot_be_read_says_why() {
        let check = |bytes: &str, expected: &str| {
            let text = decode::<Note>(&key::site("x"), bytes.as_bytes()).unwrap_err().to_string();
            assert!(text.contains(expected), "{bytes}: {text}");
        };
        check(r#"{"kind":"note","schema":4,"body":{}}"#, "schema 4, this program knows up to 3");
        check(r#"{"kind":"site","schema":1,"body":{}}"#, "is a site, not a note");
        check(r#"{"kind":"note","schema":3,"body":{}}"#, "the note record at site/x");
        check(r#"{"kind":"note","schema":0,"body":{}}"#, "schema 0");
        check("not json", "the note record at site/x");
        check("", "the note record at site/x");
    }
}
