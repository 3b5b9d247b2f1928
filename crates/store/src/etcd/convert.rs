//! Between the port's nouns and etcd's, errors included: pure.
//!
//! Assumes: etcd's own error texts, which are part of its API and have not changed from 3.4 to 3.6.
//! Read next: `etcd.rs`.

use std::collections::BTreeSet;
use std::error::Error as _;
use std::fmt;
use std::time::Duration;

use etcd_client::{CompareOp, EventType, KeyValue, PutOptions, TxnOp, TxnOpResponse, TxnResponse};

use crate::error::{Error, Source};
use crate::key::{Key, Prefix};
use crate::port::{Compare, Entry, LeaseId, Op, Revision, Txn, TxnOutcome};
use crate::watch::Change;

/// gRPC status codes that are told apart here (they are numbers on the wire).
const DEADLINE_EXCEEDED: i32 = 4;
const RESOURCE_EXHAUSTED: i32 = 8;
const OUT_OF_RANGE: i32 = 11;
const UNAVAILABLE: i32 = 14;

/// Puts the installation's prefix before each key and takes it off again.
#[derive(Debug)]
pub(super) struct Wire {
    prefix: String,
}

impl Wire {
    pub(super) fn new(prefix: String) -> Self {
        assert!(prefix.ends_with('/'), "the installation's prefix ends in a slash");
        Self { prefix }
    }

    fn key(&self, key: &Key) -> String {
        format!("{}{key}", self.prefix)
    }

    pub(super) fn start(&self, prefix: &Prefix) -> String {
        format!("{}{prefix}", self.prefix)
    }

    /// First key (inclusive) and last key (exclusive) under a prefix, after a key if one is given.
    pub(super) fn span(&self, prefix: &Prefix, after: Option<&Key>) -> (Vec<u8>, Vec<u8>) {
        let start = self.start(prefix).into_bytes();
        let mut end = start.clone();
        // UTF-8 has no 0xff, so the last byte can always be raised.
        *end.last_mut().expect("the prefix ends in a slash at least") += 1;
        match after.filter(|key| key.as_str() >= prefix.as_str()) {
            Some(key) => ([self.key(key).as_bytes(), b"\0"].concat(), end),
            None => (start, end),
        }
    }

    pub(super) fn entry(&self, kv: &KeyValue) -> Result<Entry, Error> {
        Ok(Entry {
            key: self.strip(kv)?,
            value: kv.value().to_vec(),
            create_revision: revision(kv.create_revision()),
            mod_revision: revision(kv.mod_revision()),
            version: kv.version().unsigned_abs(),
            lease: (kv.lease() != 0).then_some(LeaseId(kv.lease())),
        })
    }

    /// An event with its revision.
    pub(super) fn change(&self, event: &etcd_client::Event) -> Result<(Revision, Change), Error> {
        let missing = || Error::Corrupt { what: "an etcd event without a key".into(), source: None };
        let kv = event.kv().ok_or_else(missing)?;
        let change = match event.event_type() {
            EventType::Put => Change::Put(self.entry(kv)?),
            EventType::Delete => Change::Delete(self.strip(kv)?),
        };
        Ok((revision(kv.mod_revision()), change))
    }

    pub(super) fn txn(&self, txn: Txn) -> etcd_client::Txn {
        let compares: Vec<_> = txn.compares.iter().map(|compare| self.compare(compare)).collect();
        let then: Vec<_> = txn.then.into_iter().map(|op| self.op(op)).collect();
        let otherwise: Vec<_> = txn.otherwise.into_iter().map(|op| self.op(op)).collect();
        etcd_client::Txn::new().when(compares).and_then(then).or_else(otherwise)
    }

    pub(super) fn txn_outcome(&self, response: &TxnResponse) -> Result<TxnOutcome, Error> {
        let mut gets = Vec::new();
        for op in response.op_responses() {
            if let TxnOpResponse::Get(got) = op {
                gets.push(got.kvs().first().map(|kv| self.entry(kv)).transpose()?);
            }
        }
        let newest = response.header().map_or(0, |header| header.revision());
        Ok(TxnOutcome { succeeded: response.succeeded(), revision: revision(newest), gets })
    }

    fn compare(&self, compare: &Compare) -> etcd_client::Compare {
        use etcd_client::Compare as Wire;
        let key = self.key(compare.key());
        match compare {
            Compare::Absent(_) => Wire::create_revision(key, CompareOp::Equal, 0),
            Compare::Exists(_) => Wire::create_revision(key, CompareOp::Greater, 0),
            Compare::CreateRevision { is, .. } => {
                Wire::create_revision(key, CompareOp::Equal, wire_revision(*is))
            }
            Compare::ModRevision { is, .. } => Wire::mod_revision(key, CompareOp::Equal, wire_revision(*is)),
            Compare::Version { is, .. } => {
                Wire::version(key, CompareOp::Equal, i64::try_from(*is).unwrap_or(i64::MAX))
            }
        }
    }

    fn op(&self, op: Op) -> TxnOp {
        let key = self.key(op.key());
        match op {
            Op::Put { value, lease, .. } => {
                let options = lease.map(|lease| PutOptions::new().with_lease(lease.0));
                TxnOp::put(key, value, options)
            }
            Op::Delete { .. } => TxnOp::delete(key, None),
            Op::Get { .. } => TxnOp::get(key, None),
        }
    }

    fn strip(&self, kv: &KeyValue) -> Result<Key, Error> {
        let bad = || Error::Corrupt { what: "an etcd key that is not ours".into(), source: None };
        let text = std::str::from_utf8(kv.key()).map_err(|_| bad())?;
        text.strip_prefix(&self.prefix).map(Key::raw).ok_or_else(bad)
    }
}

pub(super) fn revision(wire: i64) -> Revision {
    Revision(wire.unsigned_abs())
}

pub(super) fn wire_revision(revision: Revision) -> i64 {
    i64::try_from(revision.0).unwrap_or(i64::MAX)
}

/// The leases that a transaction binds keys to.
pub(super) fn leases_of(txn: &Txn) -> Vec<LeaseId> {
    let lease = |op: &Op| match op {
        Op::Put { lease, .. } => *lease,
        Op::Delete { .. } | Op::Get { .. } => None,
    };
    txn.then.iter().chain(&txn.otherwise).filter_map(lease).collect()
}

/// Why a call brought no answer, before it is known what that means for the caller.
#[derive(Debug)]
pub(super) enum Failure {
    Client(etcd_client::Error),
    Timeout(Duration),
    Bad(Error),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client(etcd_client::Error::GRpcStatus(status)) => {
                // The layers of a connection repeat each other; each sentence is said once.
                let mut said = vec![status.message().to_owned()];
                let mut cause = status.source();
                while let Some(error) = cause {
                    said.push(error.to_string());
                    cause = error.source();
                }
                let mut seen = BTreeSet::new();
                said.retain(|sentence| seen.insert(sentence.clone()));
                f.write_str(&said.join(": "))
            }
            Self::Client(other) => other.fmt(f),
            Self::Timeout(after) => write!(f, "no answer within {after:?}"),
            Self::Bad(error) => error.fmt(f),
        }
    }
}

impl Failure {
    /// Nothing came back, or a member that can do nothing without the others.
    pub(super) fn is_silence(&self) -> bool {
        match self {
            Self::Timeout(_) => true,
            Self::Client(etcd_client::Error::GRpcStatus(status)) => {
                let code = i32::from(status.code());
                // A status that our own end made of a broken connection carries what broke it.
                code == UNAVAILABLE || code == DEADLINE_EXCEEDED || status.source().is_some()
            }
            Self::Client(etcd_client::Error::TransportError(_) | etcd_client::Error::IoError(_)) => true,
            Self::Client(_) | Self::Bad(_) => false,
        }
    }

    /// The reply was larger than the client or the server allows.
    pub(super) fn is_too_large(&self) -> bool {
        match self {
            Self::Client(etcd_client::Error::GRpcStatus(status)) => {
                let code = i32::from(status.code());
                (code == OUT_OF_RANGE || code == RESOURCE_EXHAUSTED) && status.message().contains("message")
            }
            Self::Client(_) | Self::Timeout(_) | Self::Bad(_) => false,
        }
    }

    pub(super) fn of_read(self, endpoints: &str) -> Error {
        self.known(endpoints).unwrap_or_else(|failure| failure.unavailable(endpoints))
    }

    pub(super) fn of_range(self, asked: Revision, endpoints: &str) -> Error {
        if self.says("has been compacted") {
            return Error::Compacted { asked };
        }
        self.of_read(endpoints)
    }

    pub(super) fn of_lease(self, lease: LeaseId, endpoints: &str) -> Error {
        if self.says("lease not found") {
            return Error::LeaseNotFound { lease };
        }
        self.of_read(endpoints)
    }

    pub(super) fn of_txn(self, writes: bool, leases: &[LeaseId], endpoints: &str) -> Error {
        if self.says("lease not found")
            && let Some(lease) = leases.first()
        {
            return Error::LeaseNotFound { lease: *lease };
        }
        let failure = match self.known(endpoints) {
            Ok(error) => return error,
            Err(failure) => failure,
        };
        if !writes || failure.was_never_sent() {
            return failure.unavailable(endpoints);
        }
        let (what, source) = failure.describe(endpoints);
        Error::UnknownOutcome { what, source }
    }

    /// Failures whose meaning does not depend on the call: the server looked at it and did nothing.
    fn known(self, endpoints: &str) -> Result<Error, Self> {
        if let Self::Bad(error) = self {
            return Ok(error);
        }
        let refusals = [
            "duplicate key given",
            "future revision",
            "request is too large",
            "too many operations",
            "permission denied",
            "user name is empty",
            "invalid auth token",
        ];
        if refusals.iter().any(|text| self.says(text)) {
            let (what, _) = self.describe(endpoints);
            return Ok(Error::Refused { what });
        }
        if self.says("database space exceeded") {
            let what =
                format!("etcd at {endpoints} is full: compact and defragment it, then disarm its alarm");
            return Ok(Error::Unavailable { what, source: None });
        }
        if self.says("too many requests") {
            return Ok(self.unavailable(endpoints));
        }
        Err(self)
    }

    fn says(&self, text: &str) -> bool {
        match self {
            Self::Client(etcd_client::Error::GRpcStatus(status)) => status.message().contains(text),
            Self::Client(other) => other.to_string().contains(text),
            Self::Timeout(_) | Self::Bad(_) => false,
        }
    }

    /// No connection was ever made, so the server cannot have seen it.
    fn was_never_sent(&self) -> bool {
        use std::io::ErrorKind::{ConnectionRefused, HostUnreachable, NetworkUnreachable};
        let Self::Client(etcd_client::Error::GRpcStatus(status)) = self else { return false };
        let mut cause = status.source();
        while let Some(error) = cause {
            if let Some(io) = error.downcast_ref::<std::io::Error>()
                && matches!(io.kind(), ConnectionRefused | HostUnreachable | NetworkUnreachable)
            {
                return true;
            }
            cause = error.source();
        }
        false
    }

    fn unavailable(self, endpoints: &str) -> Error {
        let (what, source) = self.describe(endpoints);
        Error::Unavailable { what: format!("{what}; check that etcd runs there"), source }
    }

    fn describe(self, endpoints: &str) -> (String, Option<Source>) {
        match self {
            Self::Client(etcd_client::Error::GRpcStatus(status)) => {
                (format!("etcd at {endpoints}: {}", status.message()), Some(Box::new(status)))
            }
            Self::Client(other) => (format!("etcd at {endpoints}"), Some(Box::new(other))),
            Self::Timeout(after) => (format!("etcd at {endpoints} did not answer within {after:?}"), None),
            Self::Bad(error) => (error.to_string(), None),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::key;

    #[test]
    fn a_span_covers_the_prefix_and_starts_after_the_key() {
        let wire = Wire::new("p/".into());
        let check = |prefix: &Prefix, after: Option<Key>, start: &str, end: &str| {
            let (got_start, got_end) = wire.span(prefix, after.as_ref());
            assert_eq!((got_start.as_slice(), got_end.as_slice()), (start.as_bytes(), end.as_bytes()));
        };
        check(&Prefix::all(), None, "p/", "p0");
        check(&key::sites(), None, "p/site/", "p/site0");
        check(&key::sites(), Some(key::site("a")), "p/site/a\0", "p/site0");
        check(&key::sites(), Some(key::module("a")), "p/site/", "p/site0");
    }

    #[test]
    fn a_timeout_leaves_a_write_unknown_and_a_read_harmless() {
        let late = || Failure::Timeout(Duration::from_secs(3));
        assert!(matches!(late().of_txn(true, &[], "h:1"), Error::UnknownOutcome { .. }));
        assert!(matches!(late().of_txn(false, &[], "h:1"), Error::Unavailable { .. }));
        let error = late().of_read("h:1");
        assert!(error.is_retryable() && error.to_string().contains("check that etcd runs there"), "{error}");
    }

    #[test]
    fn only_what_brings_no_answer_is_silence() {
        let check =
            |failure: Failure, expected: bool| assert_eq!(failure.is_silence(), expected, "{failure}");
        check(Failure::Timeout(Duration::from_secs(3)), true);
        let broken = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
        check(Failure::Client(etcd_client::Error::IoError(broken)), true);
        check(Failure::Client(etcd_client::Error::LeaseKeepAliveError("lease not found".into())), false);
        check(Failure::Bad(Error::refused("x")), false);
    }

    #[test]
    fn the_leases_of_a_transaction_are_found_in_both_branches() {
        let put = |lease| Op::Put { key: key::leader(), value: Vec::new(), lease };
        let txn = Txn::new().then(put(Some(LeaseId(1)))).then(put(None)).otherwise(put(Some(LeaseId(2))));
        assert_eq!(leases_of(&txn), vec![LeaseId(1), LeaseId(2)]);
    }
}
