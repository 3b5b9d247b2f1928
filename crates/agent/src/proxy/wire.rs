//! A connection to a pool, with TLS or without.
//!
//! Assumes that a pool's certificate is signed by an authority that browsers know, or by one that the settings name; there is no
//! way to skip the check, since that would make TLS an ornament. Without the feature `tls` such addresses are refused by name.
//! Next: `upstream.rs`.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::upstreams::PoolAddress;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes both ways.
pub(super) trait Wire: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Wire for T {}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// The way there.
    #[error("the pool cannot be reached: {0}")]
    Unreachable(#[source] io::Error),
    /// It did not answer in time.
    #[error("the pool cannot be reached: no answer within {} s", CONNECT_TIMEOUT.as_secs())]
    Late,
    /// It speaks TLS, and is not who it should be.
    #[cfg(feature = "tls")]
    #[error(
        "the pool's certificate is not good for {host}: {source}; correct the pool's host name, or name its authority in \
         tls_roots"
    )]
    Certificate {
        /// Whom it should be good for.
        host: String,
        /// What is wrong with it.
        #[source]
        source: tokio_rustls::rustls::Error,
    },
    /// It does not speak TLS, or not as we do.
    #[cfg(feature = "tls")]
    #[error("no TLS with the pool: {0}; check that this port of it speaks TLS")]
    Tls(#[source] io::Error),
    /// Nor do we.
    #[cfg(not(feature = "tls"))]
    #[error("this build has no TLS towards pools: use stratum+tcp://, or a build with the feature `tls`")]
    NoTls,
}

/// Authorities beside the public ones, in DER.
#[derive(Clone, Debug, Default)]
pub struct Roots(#[cfg(feature = "tls")] Vec<Vec<u8>>);

/// Certificates that are none.
#[derive(Debug, thiserror::Error)]
pub enum RootsError {
    /// No certificate in it, or one that does not read.
    #[error(
        "no certificates in PEM; expected one or more blocks that begin with -----BEGIN CERTIFICATE-----"
    )]
    Form,
    /// This build cannot use them.
    #[error(
        "this build has no TLS towards pools: use a build with the feature `tls`, or leave tls_roots out"
    )]
    NoTls,
}

impl Roots {
    /// Reads the certificates of a PEM file, at least one.
    #[cfg(feature = "tls")]
    pub fn from_pem(pem: &[u8]) -> Result<Roots, RootsError> {
        use tokio_rustls::rustls::RootCertStore;
        use tokio_rustls::rustls::pki_types::CertificateDer;
        use tokio_rustls::rustls::pki_types::pem::PemObject;

        let certificates: Result<Vec<CertificateDer<'_>>, _> = CertificateDer::pem_slice_iter(pem).collect();
        let certificates = certificates.map_err(|_| RootsError::Form)?;
        let mut store = RootCertStore::empty();
        let sound = certificates.iter().all(|certificate| store.add(certificate.clone()).is_ok());
        if certificates.is_empty() || !sound {
            return Err(RootsError::Form);
        }
        Ok(Roots(certificates.iter().map(|certificate| certificate.to_vec()).collect()))
    }

    /// Reads the certificates of a PEM file: not in this build.
    #[cfg(not(feature = "tls"))]
    pub fn from_pem(_: &[u8]) -> Result<Roots, RootsError> {
        Err(RootsError::NoTls)
    }
}

pub(super) async fn connect(pool: &PoolAddress, roots: &Roots) -> Result<Box<dyn Wire>, Error> {
    let connecting = async {
        let to = (pool.address.host.as_str(), pool.address.port);
        let stream = TcpStream::connect(to).await.map_err(Error::Unreachable)?;
        stream.set_nodelay(true).map_err(Error::Unreachable)?;
        if pool.tls {
            secure(stream, &pool.address.host, roots).await
        } else {
            Ok(Box::new(stream) as Box<dyn Wire>)
        }
    };
    timeout(CONNECT_TIMEOUT, connecting).await.unwrap_or(Err(Error::Late))
}

/// Whether anything answers there.
pub(super) async fn answers(pool: PoolAddress, roots: Roots) -> bool {
    connect(&pool, &roots).await.is_ok()
}

#[cfg(not(feature = "tls"))]
async fn secure(_: TcpStream, _: &str, _: &Roots) -> Result<Box<dyn Wire>, Error> {
    Err(Error::NoTls)
}

#[cfg(feature = "tls")]
async fn secure(stream: TcpStream, host: &str, own: &Roots) -> Result<Box<dyn Wire>, Error> {
    use std::sync::Arc;
    use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
    use tokio_rustls::{TlsConnector, rustls};

    let mut roots = rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    // They were added to a store before, when they were read.
    roots.add_parsable_certificates(own.0.iter().map(|der| CertificateDer::from_slice(der)));
    // Named, since another dependency may bring another provider, and a default would then panic.
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::Tls(io::Error::other(error)))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(host.to_owned()).map_err(|error| Error::Tls(io::Error::other(error)))?;
    let connected = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
    Ok(Box::new(connected.map_err(|error| not_secure(host, error))?))
}

/// What a failed handshake means.
#[cfg(feature = "tls")]
fn not_secure(host: &str, error: io::Error) -> Error {
    use tokio_rustls::rustls::Error as Tls;
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Tls>()) {
        Some(source @ Tls::InvalidCertificate(_)) => {
            Error::Certificate { host: host.to_owned(), source: source.clone() }
        }
        _ => Error::Tls(error),
    }
}
