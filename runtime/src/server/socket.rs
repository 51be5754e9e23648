//! The socket of a connection, plain or with TLS, and the handshake that comes before it.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::http::StatusCode;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::Limits;
use super::connection::{linger, written};
use super::problem::Problem;

/// The first byte of each TLS connection: the type of a record that belongs to a handshake (RFC 8446, 5.1).
const HANDSHAKE: u8 = 22;

/// A connected socket.
pub(super) enum Socket {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Socket {
    /// Shakes hands, if there is a certificate to do it with. The result is `None` if nothing can be read from
    /// the client, which has been told so if it speaks HTTP without TLS.
    pub(super) async fn open(
        stream: TcpStream,
        tls: Option<Arc<ServerConfig>>,
        limits: &Limits,
    ) -> Option<Socket> {
        // Responses are small and written at once; Nagle's algorithm would only delay them.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY could not be set");
        }
        let Some(config) = tls else {
            return Some(Socket::Plain(stream));
        };
        let shaking = async {
            let mut first = [0];
            match stream.peek(&mut first).await {
                Ok(1) if first[0] == HANDSHAKE => {}
                Ok(1) => return Err(Some(stream)),
                Ok(_) | Err(_) => return Err(None),
            }
            match TlsAcceptor::from(config).accept(stream).await {
                Ok(stream) => Ok(stream),
                Err(error) => {
                    tracing::debug!(%error, "a TLS handshake failed");
                    Err(None)
                }
            }
        };
        match timeout(limits.head_time, shaking).await {
            Ok(Ok(stream)) => Some(Socket::Tls(Box::new(stream))),
            Ok(Err(Some(stream))) => {
                tell_of_tls(Socket::Plain(stream), limits).await;
                None
            }
            Ok(Err(None)) | Err(_) => None,
        }
    }

    fn stream(self: Pin<&mut Self>) -> Pin<&mut dyn Duplex> {
        match self.get_mut() {
            Socket::Plain(stream) => Pin::new(stream),
            Socket::Tls(stream) => Pin::new(&mut **stream),
        }
    }
}

/// Answers a client that speaks HTTP to a listener with TLS.
async fn tell_of_tls(mut socket: Socket, limits: &Limits) {
    let detail = "this listener speaks TLS: write https:// in place of http://";
    let problem = Problem::new(StatusCode::BAD_REQUEST, "needs-tls", detail);
    let writing = async { socket.write_all(&written(&problem)).await };
    if matches!(timeout(limits.write_time, writing).await, Ok(Ok(()))) {
        linger(socket, limits.body_bytes_max).await;
    }
}

trait Duplex: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Duplex for T {}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.stream().poll_read(cx, buffer)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.stream().poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.stream().poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Socket::Plain(stream) => stream.is_write_vectored(),
            Socket::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_shutdown(cx)
    }
}
