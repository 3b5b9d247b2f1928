//! Between the port's nouns and etcd's: pure.
//!
//! Assumes: whatever lies under the installation's prefix is ours.
//! Read next: `failure.rs` for errors.

use etcd_client::{CompareOp, EventType, KeyValue, PutOptions, TxnOp, TxnOpResponse, TxnResponse};

use crate::error::Error;
use crate::key::{Key, Prefix};
use crate::port::{Compare, Entry, LeaseId, Op, Revision, Txn, TxnOutcome};
use crate::watch::Change;

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
    fn the_leases_of_a_transaction_are_found_in_both_branches() {
        let put = |lease| Op::Put { key: key::leader(), value: Vec::new(), lease };
        let txn = Txn::new().then(put(Some(LeaseId(1)))).then(put(None)).otherwise(put(Some(LeaseId(2))));
        assert_eq!(leases_of(&txn), vec![LeaseId(1), LeaseId(2)]);
    }
}
