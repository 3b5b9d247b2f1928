//! The listener's end with rustls: see `../server.rs` for what it promises.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{self, ServerConfig};
use webpki::EndEntityCert;

use super::super::files::{Named, pair, provider};
use super::super::plain::{self, Answer};
use super::super::{Connection, Error, Peer};
use super::{Refused, ServerFiles};

/// Bytes of a client that is refused which are read and thrown away.
const MOST_UNREAD: u64 = 64 * 1024;

/// A listener's TLS.
#[derive(Debug)]
pub struct Server {
    files: ServerFiles,
    inner: RwLock<Inner>,
}

#[derive(Clone, Debug)]
struct Inner {
    config: Arc<ServerConfig>,
    until: i64,
}

impl Server {
    /// Reads the files.
    pub fn read(files: ServerFiles) -> Result<Self, Error> {
        let inner = RwLock::new(inner(&files)?);
        Ok(Self { files, inner })
    }

    /// Reads the files again: what they hold counts for connections from now on.
    pub fn reload(&self) -> Result<(), Error> {
        let newer = inner(&self.files)?;
        *self.inner.write().unwrap_or_else(PoisonError::into_inner) = newer;
        Ok(())
    }

    /// Seconds since 1970 up to which the certificate is good.
    pub fn expires(&self) -> i64 {
        self.now().until
    }

    fn now(&self) -> Inner {
        self.inner.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// One handshake.
    pub async fn accept(&self, mut stream: TcpStream) -> Result<Connection, Refused> {
        let gone = |error: io::Error| Refused::Gone(error.to_string());
        let mut first = [0; 3];
        let seen = stream.peek(&mut first).await.map_err(gone)?;
        if seen == 0 {
            return Err(Refused::Gone("it said nothing".into()));
        }
        if let Some(words) = plain::answer(&first[..seen]) {
            tell(&mut stream, words).await.map_err(gone)?;
            return Err(Refused::Plain);
        }
        let accepted = TlsAcceptor::from(self.now().config).accept(stream).into_fallible().await;
        let accepted = match accepted {
            Ok(accepted) => accepted,
            Err((error, mut stream)) => {
                // The reason was sent. That the client does not stay to read it changes nothing.
                let _ = leave(&mut stream).await;
                return Err(failed(error));
            }
        };
        let peer = peer(accepted.get_ref().1.peer_certificates());
        Ok(Connection::tls(accepted, peer))
    }
}

fn named<'a>((flag, path): &'a (&'static str, PathBuf)) -> Named<'a> {
    Named { flag, path }
}

fn inner(files: &ServerFiles) -> Result<Inner, Error> {
    let (certificate, key) = (named(&files.certificate), named(&files.key));
    let (pem, key_pem) = (certificate.read()?, key.read()?);
    let pair = pair((certificate, &pem), (key, &key_pem))?;
    let library = |error: &dyn std::fmt::Display| Error::Library(error.to_string());
    // Clients with certificates are our own programs, or know TLS 1.3; tenants' may be older.
    let versions: &[_] = if files.client_ca.is_some() { &[&TLS13] } else { &[&TLS13, &TLS12] };
    let builder = ServerConfig::builder_with_provider(provider()).with_protocol_versions(versions);
    let builder = builder.map_err(|error| library(&error))?;
    let builder = match &files.client_ca {
        Some(file) => {
            let authority = named(file);
            let roots = Arc::new(authority.roots(&authority.read()?)?);
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider()).build();
            builder.with_client_cert_verifier(verifier.map_err(|error| library(&error))?)
        }
        None => builder.with_no_client_auth(),
    };
    let config = builder.with_single_cert(pair.chain, pair.key).map_err(|error| library(&error));
    let mut config = config?;
    let protocol = if files.client_ca.is_some() { "h2" } else { "http/1.1" };
    config.alpn_protocols = vec![protocol.into()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Inner { config: Arc::new(config), until: pair.until })
}

/// Whom the first of these certificates names. Without one none was asked for.
fn peer(certificates: Option<&[rustls::pki_types::CertificateDer<'_>]>) -> Peer {
    let Some(leaf) = certificates.and_then(|chain| chain.first()) else {
        return Peer::Unnamed("none was asked for");
    };
    match EndEntityCert::try_from(leaf) {
        Ok(leaf) => Peer::of_uris(leaf.valid_uri_names()),
        Err(_) => Peer::Unnamed("it does not read"),
    }
}

/// Says something to a client without TLS, and waits until it has gone.
async fn tell(stream: &mut TcpStream, answer: Answer) -> io::Result<()> {
    match answer {
        Answer::Now(words) => stream.write_all(&words).await?,
        Answer::Asked { first, then } => {
            stream.write_all(&first).await?;
            until_asked(stream).await?;
            stream.write_all(&then).await?;
        }
    }
    leave(stream).await
}

/// Reads what a client of HTTP/2 sends up to its first question.
async fn until_asked(stream: &mut TcpStream) -> io::Result<()> {
    let mut stream = stream.take(MOST_UNREAD);
    stream.read_exact(&mut [0; plain::PREFACE]).await?;
    loop {
        let mut head = [0; plain::HEAD];
        stream.read_exact(&mut head).await?;
        let (asked, length) = plain::head(head);
        if asked {
            return Ok(());
        }
        tokio::io::copy(&mut (&mut stream).take(length.into()), &mut tokio::io::sink()).await?;
    }
}

/// Ends our side, and waits until the client has gone: bytes of it that nobody read would have the kernel drop our last ones.
async fn leave(stream: &mut TcpStream) -> io::Result<()> {
    stream.shutdown().await?;
    tokio::io::copy(&mut stream.take(MOST_UNREAD), &mut tokio::io::sink()).await.map(drop)
}

/// What a handshake that failed means.
fn failed(error: io::Error) -> Refused {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(error) => Refused::Failed(error.to_string()),
        None => Refused::Gone(error.to_string()),
    }
}
