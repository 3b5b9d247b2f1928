//! A connection to a pool, with TLS or without.
//!
//! Assumes that a pool's certificate is signed by an authority that browsers know; there is no way to skip the check, since
//! that would make TLS an ornament. Without the feature `tls` such addresses are refused by name. Next: `upstream.rs`.

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

pub(super) async fn connect(pool: &PoolAddress) -> io::Result<Box<dyn Wire>> {
    let connecting = async {
        let stream = TcpStream::connect((pool.address.host.as_str(), pool.address.port)).await?;
        stream.set_nodelay(true)?;
        if pool.tls {
            secure(stream, &pool.address.host).await
        } else {
            Ok(Box::new(stream) as Box<dyn Wire>)
        }
    };
    timeout(CONNECT_TIMEOUT, connecting).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// Whether anything answers there.
pub(super) async fn answers(pool: PoolAddress) -> bool {
    connect(&pool).await.is_ok()
}

#[cfg(not(feature = "tls"))]
async fn secure(_: TcpStream, _: &str) -> io::Result<Box<dyn Wire>> {
    let text = "this build has no TLS towards pools: use stratum+tcp://, or a build with the feature `tls`";
    Err(io::Error::new(io::ErrorKind::Unsupported, text))
}

#[cfg(feature = "tls")]
async fn secure(stream: TcpStream, host: &str) -> io::Result<Box<dyn Wire>> {
    use rustls::pki_types::ServerName;
    use std::sync::Arc;
    use tokio_rustls::{TlsConnector, rustls};

    let roots = rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    // Named, since another dependency may bring another provider, and a default would then panic.
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
    Ok(Box::new(stream))
}
