//! A connection that was accepted: bytes both ways, with TLS or without, and who is at the other end.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tonic::transport::server::Connected;

use super::Peer;

/// Tonic puts the peer among the extensions of each request that comes by it.
pub struct Connection {
    stream: Stream,
    peer: Arc<Peer>,
}

enum Stream {
    Plain(TcpStream),
    // Boxed: a thousand bytes, which would else be moved about with each connection.
    #[cfg(feature = "tls")]
    Tls(Box<tokio_rustls::server::TlsStream<TcpStream>>),
}

impl Connection {
    /// One without TLS.
    pub fn plain(stream: TcpStream) -> Self {
        Self { stream: Stream::Plain(stream), peer: Arc::new(Peer::Local) }
    }

    #[cfg(feature = "tls")]
    pub(super) fn tls(stream: tokio_rustls::server::TlsStream<TcpStream>, peer: Peer) -> Self {
        Self { stream: Stream::Tls(Box::new(stream)), peer: Arc::new(peer) }
    }

    /// Who is at the other end.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    fn both(self: Pin<&mut Self>) -> Pin<&mut dyn Both> {
        match &mut self.get_mut().stream {
            Stream::Plain(stream) => Pin::new(stream as &mut dyn Both),
            #[cfg(feature = "tls")]
            Stream::Tls(stream) => Pin::new(stream.as_mut() as &mut dyn Both),
        }
    }
}

/// Both ways at once.
trait Both: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Both for T {}

impl Connected for Connection {
    type ConnectInfo = Arc<Peer>;

    fn connect_info(&self) -> Arc<Peer> {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.both().poll_read(cx, into)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.both().poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.both().poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Stream::Plain(stream) => stream.is_write_vectored(),
            #[cfg(feature = "tls")]
            Stream::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.both().poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.both().poll_shutdown(cx)
    }
}
