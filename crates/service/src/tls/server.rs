//! The end that listens: its certificate, the authority of its clients' certificates, and one handshake.
//!
//! Files are read again on request ([`Server::reload`]); a file that cannot be used then leaves the old ones in force. Nothing is
//! resumed from an earlier connection: each is judged anew, and none costs memory when it is gone. Assumes that the caller limits a
//! handshake's time. Next: `controller/src/handshake.rs`.

#[cfg(feature = "tls")]
mod real;

use std::path::PathBuf;

#[cfg(not(feature = "tls"))]
use tokio::net::TcpStream;

#[cfg(not(feature = "tls"))]
use super::{Connection, Error};
#[cfg(feature = "tls")]
pub use real::Server;

/// Certificate and key of a listener, each with the flag that names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerFiles {
    /// Flag and file of its certificate (PEM), with what stands between it and its authority.
    pub certificate: (&'static str, PathBuf),
    /// Flag and file of that certificate's key (PEM).
    pub key: (&'static str, PathBuf),
    /// Flag and file of the authorities (PEM) that clients' certificates must be signed by. `None`: clients show none, and talk HTTP/1.
    pub client_ca: Option<(&'static str, PathBuf)>,
}

/// Why a connection did not come about.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It speaks no TLS. It was told.
    #[error("the client speaks no TLS")]
    Plain,
    /// It went away.
    #[error("the client went away: {0}")]
    Gone(String),
    /// TLS failed: no certificate, one of another authority, an expired one, an old version.
    #[error("{0}")]
    Failed(String),
}

/// A listener's TLS: not in this build.
#[cfg(not(feature = "tls"))]
#[derive(Debug)]
pub struct Server(std::convert::Infallible);

#[cfg(not(feature = "tls"))]
impl Server {
    /// Says that this build has none.
    pub fn read(_: ServerFiles) -> Result<Self, Error> {
        Err(Error::NoTls)
    }

    /// Nobody gets here.
    pub fn reload(&self) -> Result<(), Error> {
        match self.0 {}
    }

    /// Nobody gets here.
    pub fn expires(&self) -> i64 {
        match self.0 {}
    }

    /// Nobody gets here.
    pub async fn accept(&self, _: TcpStream) -> Result<Connection, Refused> {
        match self.0 {}
    }
}
