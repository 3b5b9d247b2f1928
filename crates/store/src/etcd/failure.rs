//! Why a call to etcd brought no answer, and what that means for whoever called: pure.
//!
//! Assumes: etcd's own error texts, which are part of its API and have not changed from 3.4 to 3.6.
//! Read next: `etcd.rs`, `Handle::attempts`.

use std::collections::BTreeSet;
use std::error::Error as _;
use std::fmt;
use std::time::Duration;

use tokio_rustls::rustls;

use crate::error::{Error, Source};
use crate::port::{LeaseId, Revision};

/// gRPC status codes that are told apart here (they are numbers on the wire).
const DEADLINE_EXCEEDED: i32 = 4;
const RESOURCE_EXHAUSTED: i32 = 8;
const OUT_OF_RANGE: i32 = 11;
const UNAVAILABLE: i32 = 14;

/// What etcd says when a request will never succeed as it is, and what to do about it.
const REFUSALS: [(&str, &str); 9] = [
    ("duplicate key given", "write each key once"),
    ("future revision", "ask for a revision that exists"),
    ("request is too large", "split it, or raise etcd's --max-request-bytes"),
    ("too many operations", "split it, or raise etcd's --max-txn-ops"),
    ("permission denied", "grant the user a role that may read and write the installation's prefix"),
    ("user name is empty", "etcd wants a user; give its name and a file with the password"),
    ("invalid user ID or password", "check the user and the file with the password"),
    ("authentication failed", "check the user and the file with the password"),
    ("authentication is not enabled", "etcd knows no users; leave the user out"),
];
/// What etcd says of a token that it does not know (any more).
const STALE_TOKEN: [&str; 2] = ["invalid auth token", "revision of auth store is old"];

/// Why a call brought no answer, before it is known what that means for the caller.
#[derive(Debug)]
pub(super) enum Failure {
    Client(etcd_client::Error),
    /// The call itself was not sent, because signing in failed.
    SignIn(etcd_client::Error),
    Timeout(Duration),
    Bad(Error),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client(etcd_client::Error::GRpcStatus(status))
            | Self::SignIn(etcd_client::Error::GRpcStatus(status)) => {
                // The layers of a connection repeat each other; each sentence is said once.
                let mut said = vec![status.message().to_owned()];
                let mut cause = status.source();
                while let Some(error) = cause {
                    said.push(error.to_string());
                    cause = error.source();
                }
                let mut seen = BTreeSet::new();
                said.retain(|sentence| !sentence.is_empty() && seen.insert(sentence.clone()));
                f.write_str(&said.join(": "))
            }
            Self::Client(other) | Self::SignIn(other) => other.fmt(f),
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
            Self::Client(etcd_client::Error::GRpcStatus(status))
            | Self::SignIn(etcd_client::Error::GRpcStatus(status)) => {
                let code = i32::from(status.code());
                // A status that our own end made of a broken connection carries what broke it.
                code == UNAVAILABLE || code == DEADLINE_EXCEEDED || status.source().is_some()
            }
            Self::Client(error) | Self::SignIn(error) => {
                matches!(error, etcd_client::Error::TransportError(_) | etcd_client::Error::IoError(_))
            }
            Self::Bad(_) => false,
        }
    }

    /// The member does not know our token; it did nothing.
    pub(super) fn is_stale_token(&self) -> bool {
        STALE_TOKEN.iter().any(|text| self.says(text))
    }

    /// The same call may fare better a moment later, or with another member.
    pub(super) fn may_pass(&self) -> bool {
        !self.is_too_large() && (self.is_stale_token() || self.is_silence())
    }

    /// It is certain that nothing was changed.
    pub(super) fn did_nothing(&self) -> bool {
        // "no leader" is said before a request is looked at; later it would be "leader changed" or "timed out".
        let refused =
            self.is_stale_token() || self.says("etcdserver: no leader") || self.says("too many requests");
        matches!(self, Self::SignIn(_)) || refused || self.was_never_sent()
    }

    /// The reply was larger than the client or the server allows.
    pub(super) fn is_too_large(&self) -> bool {
        match self {
            Self::Client(etcd_client::Error::GRpcStatus(status)) => {
                let code = i32::from(status.code());
                (code == OUT_OF_RANGE || code == RESOURCE_EXHAUSTED) && status.message().contains("message")
            }
            Self::Client(_) | Self::SignIn(_) | Self::Timeout(_) | Self::Bad(_) => false,
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
        if !writes || failure.did_nothing() {
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
        if let Some((_, advice)) = REFUSALS.iter().find(|(text, _)| self.says(text)) {
            let (what, _) = self.describe(endpoints);
            return Ok(Error::Refused { what: format!("{what}; {advice}") });
        }
        if self.says("database space exceeded") {
            let what =
                format!("etcd at {endpoints} is full: compact and defragment it, then disarm its alarm");
            return Ok(Error::Unavailable { what, source: None });
        }
        Err(self)
    }

    fn says(&self, text: &str) -> bool {
        match self {
            Self::Client(etcd_client::Error::GRpcStatus(status))
            | Self::SignIn(etcd_client::Error::GRpcStatus(status)) => status.message().contains(text),
            Self::Client(other) | Self::SignIn(other) => other.to_string().contains(text),
            Self::Timeout(_) | Self::Bad(_) => false,
        }
    }

    /// No connection was ever made, so the server cannot have seen it.
    fn was_never_sent(&self) -> bool {
        use std::io::ErrorKind::{ConnectionRefused, HostUnreachable, NetworkUnreachable};
        let refused = |kind| matches!(kind, ConnectionRefused | HostUnreachable | NetworkUnreachable);
        self.is_untrusted() || self.causes_io(|io| refused(io.kind()))
    }

    /// We did not take etcd for what it should be.
    fn is_untrusted(&self) -> bool {
        self.causes_io(|io| {
            let inner = io.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
            matches!(inner, Some(rustls::Error::InvalidCertificate(_)))
        })
    }

    /// A connection stood and was closed before an answer.
    fn hung_up(&self) -> bool {
        let text = self.to_string().to_lowercase();
        ["connection closed", "broken pipe", "connection reset"].iter().any(|said| text.contains(said))
    }

    fn causes_io(&self, is: impl Fn(&std::io::Error) -> bool) -> bool {
        let (Self::Client(error) | Self::SignIn(error)) = self else { return false };
        let etcd_client::Error::GRpcStatus(status) = error else { return false };
        let mut cause = status.source();
        while let Some(error) = cause {
            if error.downcast_ref::<std::io::Error>().is_some_and(&is) {
                return true;
            }
            cause = error.source();
        }
        false
    }

    fn unavailable(self, endpoints: &str) -> Error {
        let advice = if self.is_untrusted() {
            "check the CA file, and that the certificate of etcd names this host"
        } else if self.to_string().contains("alert") {
            "check the certificate and the key towards etcd"
        } else if self.hung_up() {
            // With TLS 1.3 a client's certificate is judged after the handshake: what the server says of it mostly gets lost.
            "check that etcd runs there, the scheme of the address, and the certificate and the key towards etcd"
        } else {
            "check that etcd runs there"
        };
        let (what, source) = self.describe(endpoints);
        Error::Unavailable { what: format!("{what}; {advice}"), source }
    }

    fn describe(self, endpoints: &str) -> (String, Option<Source>) {
        match self {
            Self::Timeout(after) => (format!("etcd at {endpoints} did not answer within {after:?}"), None),
            Self::Bad(error) => (error.to_string(), None),
            other => (format!("etcd at {endpoints}: {other}"), None),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn told(text: &str) -> Failure {
        Failure::Client(etcd_client::Error::LeaseKeepAliveError(text.into()))
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
    fn who_hangs_up_may_not_like_our_certificate() {
        let check = |text: &str, advice: &str| {
            let error = told(text).of_read("h:1").to_string();
            assert!(error.contains(advice), "{text}: {error}");
        };
        check("transport error: received fatal alert: BadCertificate", "; check the certificate and the key");
        check("transport error: connection closed", "and the certificate and the key");
        check("stream closed because of a broken pipe", "the scheme of the address");
        check("no route", "; check that etcd runs there)");
    }

    #[test]
    fn only_what_brings_no_answer_is_silence() {
        let check =
            |failure: Failure, expected: bool| assert_eq!(failure.is_silence(), expected, "{failure}");
        check(Failure::Timeout(Duration::from_secs(3)), true);
        let broken = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
        check(Failure::Client(etcd_client::Error::IoError(broken)), true);
        check(told("lease not found"), false);
        check(Failure::Bad(Error::refused("x")), false);
    }

    #[test]
    fn what_surely_changed_nothing_is_told_from_what_may_have() {
        let check =
            |failure: Failure, expected: bool| assert_eq!(failure.did_nothing(), expected, "{failure}");
        check(told("etcdserver: no leader"), true);
        check(told("etcdserver: invalid auth token"), true);
        check(told("etcdserver: too many requests"), true);
        check(Failure::SignIn(etcd_client::Error::Internal("x".into())), true);
        check(told("etcdserver: leader changed"), false);
        check(told("etcdserver: request timed out"), false);
        check(Failure::Timeout(Duration::from_secs(3)), false);
    }

    #[test]
    fn a_refusal_says_what_to_do() {
        for (text, advice) in REFUSALS {
            let error = told(&format!("etcdserver: {text}")).of_txn(true, &[], "h:1");
            assert!(matches!(error, Error::Refused { .. }), "{error:?}");
            assert!(error.to_string().ends_with(advice), "{error}");
        }
    }
}
