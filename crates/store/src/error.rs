//! What can go wrong in the store: one variant per reaction of the caller.
//!
//! Assumes: whoever handles an error logs it, with its chain of sources; `Display` never prints the source.
//! Read next: `port.rs`.

use std::path::PathBuf;

use crate::port::{LeaseId, Revision};

/// The cause underneath, for the log.
pub type Source = Box<dyn std::error::Error + Send + Sync + 'static>;

/// Why the store did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing was changed. Retry, with a pause.
    #[error("the store is not available ({what}); nothing was changed, retry")]
    Unavailable {
        what: String,
        #[source]
        source: Option<Source>,
    },
    /// A write was sent and its answer never came. Read back before writing again.
    #[error(
        "it is not known whether the write took place ({what}); read the keys back before you write again"
    )]
    UnknownOutcome {
        what: String,
        #[source]
        source: Option<Source>,
    },
    /// The request or the answer is too large. Split it.
    #[error("{what} is {got}, the limit is {limit}; split the request")]
    Limit { what: String, got: u64, limit: u64 },
    /// The revision asked for is in the past that was thrown away. Read the present.
    #[error("revision {asked} is compacted; read the present state instead")]
    Compacted { asked: Revision },
    /// The lease expired or was revoked. What it held is deleted; ask for a new one.
    #[error("lease {lease} does not exist or has expired; ask for a new one")]
    LeaseNotFound { lease: LeaseId },
    /// Another process holds the data directory.
    #[error(
        "the data directory {} is held by another process{} (lock file {}); stop that process or choose another directory",
        dir.display(),
        holder.map(|pid| format!(" with id {pid}")).unwrap_or_default(),
        lock.display()
    )]
    Locked { dir: PathBuf, lock: PathBuf, holder: Option<u32> },
    /// What was read is not what was written. A person must look.
    #[error("{what} cannot be read; do not start over it: restore it from a copy or move it away")]
    Corrupt {
        what: String,
        #[source]
        source: Option<Source>,
    },
    /// A record was written by a newer version of the program.
    #[error(
        "{kind} record has schema {found}, this program knows up to {known}; start the newer version again"
    )]
    Newer { kind: &'static str, found: u32, known: u32 },
    /// The store stopped for good, because the disk refused to keep a promise. Restart the process.
    #[error("the store has stopped after a disk error ({what}); check the disk and restart the process")]
    Stopped { what: String },
    /// The request breaks a rule and will never succeed as it is.
    #[error("refused: {what}")]
    Refused { what: String },
}

impl Error {
    /// True where the caller may simply send the same request again after a pause.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }

    pub(crate) fn refused(what: impl Into<String>) -> Self {
        Self::Refused { what: what.into() }
    }

    pub(crate) fn corrupt(what: impl Into<String>, source: impl Into<Source>) -> Self {
        Self::Corrupt { what: what.into(), source: Some(source.into()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_says_what_to_do_and_leaves_the_source_to_the_log() {
        let io = || Some(Source::from(std::io::Error::other("the deep cause")));
        let cases: Vec<(Error, &str)> = vec![
            (Error::Unavailable { what: "etcd".into(), source: io() }, "retry"),
            (Error::UnknownOutcome { what: "etcd".into(), source: io() }, "read the keys back"),
            (Error::Limit { what: "operations".into(), got: 129, limit: 128 }, "split"),
            (Error::Compacted { asked: Revision(3) }, "present"),
            (Error::LeaseNotFound { lease: LeaseId(3) }, "new one"),
            (Error::Corrupt { what: "x".into(), source: io() }, "restore"),
            (Error::Newer { kind: "site", found: 3, known: 2 }, "newer version"),
            (Error::Stopped { what: "fsync".into() }, "restart"),
            (
                Error::Locked { dir: "d".into(), lock: "d/LOCK".into(), holder: Some(7) },
                "(lock file d/LOCK); stop that process",
            ),
        ];
        for (error, expected) in cases {
            let text = error.to_string();
            assert!(text.contains(expected), "{text}");
            assert!(!text.contains("deep cause"), "{text}");
        }
    }

    #[test]
    fn only_unavailable_is_retried_blindly() {
        assert!(Error::Unavailable { what: String::new(), source: None }.is_retryable());
        assert!(!Error::UnknownOutcome { what: String::new(), source: None }.is_retryable());
        assert!(!Error::Stopped { what: String::new() }.is_retryable());
    }
}
