//! TLS between our programs: files of certificates and keys, who is named in them, both ends of a connection.
//!
//! A controller shows a certificate and asks for one ([`Server`]); agents and operators check the controller's and show their own
//! ([`Client`]). Who they are stands in their certificate ([`Peer`]). Nothing skips a check: that would make TLS an ornament. Without
//! the feature `tls` whoever asks for it is told so ([`Error::NoTls`]).
//!
//! Assumes the machine's clock is right enough to judge what has expired. Read next: `tls/peer.rs` for identities; docs/tls.md.

#[cfg(feature = "authority")]
pub mod authority;
mod client;
mod connection;
#[cfg(feature = "tls")]
mod der;
#[cfg(feature = "tls")]
mod files;
mod peer;
#[cfg(feature = "tls")]
mod plain;
mod server;

use std::io;
use std::path::PathBuf;

pub use client::{Client, ClientFlags, PERHAPS, advice, is_secure};
pub use connection::Connection;
pub use peer::Peer;
pub use server::{Refused, Server, ServerFiles};

/// Whether this build has TLS at all.
pub const BUILT_IN: bool = cfg!(feature = "tls");

/// Why TLS cannot be had as it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file of the settings.
    #[error("--{flag}: {} cannot be used: {why}", path.display())]
    File {
        /// The flag that names it.
        flag: &'static str,
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        why: Unfit,
    },
    /// Flags that go together.
    #[error("--{given} is given without --{missing}; TLS needs both")]
    Missing {
        /// What is there.
        given: &'static str,
        /// What is not.
        missing: &'static str,
    },
    /// Controllers behind TLS let nobody in who shows no certificate.
    #[error("{address} is reached by TLS only with --tls-ca, --tls-cert and --tls-key (docs/tls.md)")]
    NoFiles {
        /// The controller's address.
        address: String,
    },
    /// Certificates, and an address where they would not be used.
    #[error("{address} is reached without TLS though certificates are given; write https://")]
    Unused {
        /// The controller's address.
        address: String,
    },
    /// An address that is none.
    #[error(
        "{address:?} is no address of a controller; write https://HOST:PORT, or http://HOST:PORT without TLS"
    )]
    Address {
        /// What was given.
        address: String,
    },
    /// This build has no TLS.
    #[error("this build has no TLS; build it with the feature `tls`")]
    NoTls,
    /// The library does not take what was checked: a defect of ours.
    #[error("TLS cannot be set up: {0}; report this with the certificates, without their keys")]
    Library(String),
}

/// What is wrong with a file.
#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    /// It cannot be read.
    #[error("{0}")]
    Unreadable(io::Error),
    /// It is no file of certificates.
    #[error("it is larger than {0} bytes")]
    Large(u64),
    /// No certificate in it.
    #[error("it has no block that begins with -----BEGIN CERTIFICATE-----")]
    NoCertificate,
    /// No key in it.
    #[error("it has no block that begins with -----BEGIN PRIVATE KEY-----")]
    NoKey,
    /// A block that does not read.
    #[error("{0}")]
    Form(String),
    /// It is past its time.
    #[error("the certificate expired {0} ago; renew it")]
    Expired(Ago),
    /// It is before its time.
    #[error("the certificate is good only in {0}; check this machine's clock")]
    Early(Ago),
    /// It belongs to another certificate.
    #[error("it is not the key of {}; name the one that was made with it", .0.display())]
    OtherKey(PathBuf),
}

/// A stretch of time in seconds, said in its largest whole unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ago(pub i64);

impl std::fmt::Display for Ago {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            s if s >= 2 * 86_400 => write!(f, "{} days", s / 86_400),
            s if s >= 2 * 3_600 => write!(f, "{} hours", s / 3_600),
            s if s >= 2 * 60 => write!(f, "{} minutes", s / 60),
            s => write!(f, "{s} s"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stretch_of_time_is_said_in_its_largest_whole_unit() {
        let check = |seconds: i64, expected: &str| assert_eq!(Ago(seconds).to_string(), expected);
        check(0, "0 s");
        check(119, "119 s");
        check(120, "2 minutes");
        check(7_199, "119 minutes");
        check(7_200, "2 hours");
        check(172_800, "2 days");
        check(90 * 86_400 + 5, "90 days");
    }
}
