//! The connector of HTTP targets: it resolves a name, checks each address against the egress
//! policy, and connects to an address that it has checked.
//!
//! Nothing else opens a connection for a delivery: no proxy but a configured one, no second resolver, and
//! an address written as a literal is checked like any other.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::Uri;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::Address;
use super::egress::{self, Egress};

/// The longest head of a proxy's answer that is read.
const TUNNEL_HEAD_BYTES_MAX: usize = 8 * 1024;

/// Why there is no connection. Each variant leads to a different outcome.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    /// The name does not resolve, so the configuration or the network is wrong, not a single
    /// entity.
    #[error("{host} does not resolve: {error}")]
    Dns {
        /// The name.
        host: String,
        /// The resolver's error.
        error: io::Error,
    },
    /// The policy refuses all addresses of the host.
    #[error("{address} is {reason}; connections to it are not allowed")]
    Denied {
        /// The last address that was checked.
        address: IpAddr,
        /// The policy's reason, which completes "… is".
        reason: &'static str,
    },
    /// The proxy made no connection for us.
    #[error("the proxy {proxy} makes no connection to {host}: {reason}")]
    Proxy {
        /// The proxy, as configured.
        proxy: String,
        /// The host that was asked for, with its port.
        host: String,
        /// The proxy's answer, or what happened.
        reason: String,
    },
    /// The address did not respond, or refused the connection.
    #[error("no connection to {address}: {error}")]
    Unreachable {
        /// The last address that was tried.
        address: SocketAddr,
        /// The system's error.
        error: io::Error,
    },
    /// There is no connection, and somebody may expect that requests go through the proxy that the
    /// environment names.
    #[error(
        "{error}; {variable} is set in the environment, which Weir ignores: if requests must go through a proxy, write proxy = \"http://…\" into the target's configuration"
    )]
    ProxyIgnored {
        /// Why there is no connection.
        error: Box<ConnectError>,
        /// The variable.
        variable: &'static str,
    },
}

/// Opens connections to addresses that the policy allows.
#[derive(Clone, Debug)]
pub(crate) struct Connector {
    /// The policy.
    pub(crate) egress: Egress,
    /// Timeout for each address, so that one that drops packets leaves time for the next.
    pub(crate) timeout: Duration,
    /// The proxy, if requests go through one.
    pub(crate) proxy: Option<Arc<Proxy>>,
    /// The variable of the environment that names a proxy, which is not used.
    pub(crate) ignored: Option<&'static str>,
}

/// The variable by which other programs would find a proxy for these requests.
pub(crate) fn ignored_proxy(
    secure: bool,
    is_set: impl Fn(&'static str) -> bool,
) -> Option<&'static str> {
    let own = match secure {
        true => ["HTTPS_PROXY", "https_proxy"],
        false => ["HTTP_PROXY", "http_proxy"],
    };
    let all = ["ALL_PROXY", "all_proxy"];
    own.into_iter().chain(all).find(|name| is_set(name))
}

/// A proxy that requests go through. It resolves the names of targets.
#[derive(Debug)]
pub(crate) struct Proxy {
    /// Its address.
    pub(crate) address: Address,
    /// Whether it is asked for a tunnel to the target (CONNECT), for TLS.
    pub(crate) tunnel: bool,
}

/// A connection, which knows whether a request was made on it before.
pub(crate) struct Stream {
    io: TokioIo<TcpStream>,
    used: Used,
    /// Whether the other end is a proxy that wants whole URLs.
    proxied: bool,
}

/// Whether a request was made on a connection before.
#[derive(Clone, Default)]
pub(crate) struct Used(Arc<AtomicBool>);

impl Used {
    /// Marks the connection as used, and returns whether it was.
    pub(crate) fn again(&self) -> bool {
        self.0.swap(true, Ordering::Relaxed)
    }
}

impl Connector {
    /// Connects to a host, or to the proxy for it.
    ///
    /// # Errors
    /// See [`ConnectError`].
    async fn open(self, host: String, port: u16) -> Result<Stream, ConnectError> {
        let stream = |stream, proxied| Stream {
            io: TokioIo::new(stream),
            used: Used::default(),
            proxied,
        };
        let Some(proxy) = self.proxy.clone() else {
            let ignored = self.ignored;
            let connected = self.connect(host, port).await;
            return match (connected, ignored) {
                (Ok(connection), _) => Ok(stream(connection, false)),
                (Err(error), Some(variable)) if !matches!(error, ConnectError::Denied { .. }) => {
                    Err(ConnectError::ProxyIgnored {
                        error: Box::new(error),
                        variable,
                    })
                }
                (Err(error), _) => Err(error),
            };
        };
        let (proxy_host, proxy_port) = proxy.address.host_and_port();
        let limit = self.timeout;
        let mut connection = self.connect(proxy_host, proxy_port).await?;
        if proxy.tunnel {
            let host = format!("{host}:{port}");
            let asked = tokio::time::timeout(limit, tunnel(&mut connection, &host));
            let failed = match asked.await {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(error.to_string()),
                Err(_) => Some("it does not answer".to_owned()),
            };
            if let Some(reason) = failed {
                return Err(ConnectError::Proxy {
                    proxy: proxy.address.shown("[secret]"),
                    host,
                    reason,
                });
            }
        }
        Ok(stream(connection, !proxy.tunnel))
    }

    /// Connects to the first address of `host` that is allowed and responds.
    ///
    /// # Errors
    /// See [`ConnectError`].
    async fn connect(self, host: String, port: u16) -> Result<TcpStream, ConnectError> {
        let resolve = async |host: String, port| {
            tokio::net::lookup_host((host.as_str(), port))
                .await
                .map(Vec::from_iter)
        };
        let stream = self
            .connect_by(host, port, resolve, async |address| {
                TcpStream::connect(address).await
            })
            .await?;
        // A delivery is one small request and one small response, so waiting to fill a packet only
        // delays it.
        let _ = stream.set_nodelay(true);
        Ok(stream)
    }

    /// Like [`Connector::connect`], with any resolver and dialler. A name is resolved once and each
    /// address is checked before it is dialled, so a name that resolves differently a moment later
    /// makes no difference.
    async fn connect_by<S>(
        self,
        host: String,
        port: u16,
        resolve: impl AsyncFn(String, u16) -> io::Result<Vec<SocketAddr>>,
        dial: impl AsyncFn(SocketAddr) -> io::Result<S>,
    ) -> Result<S, ConnectError> {
        let host = host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_owned();
        let addresses = match resolve(host.clone(), port).await {
            Ok(addresses) => addresses,
            Err(error) => return Err(ConnectError::Dns { host, error }),
        };
        let mut last = ConnectError::Dns {
            host,
            error: io::Error::new(io::ErrorKind::NotFound, "no address"),
        };
        for address in addresses {
            last = match egress::judge(address.ip(), self.egress) {
                Err(reason) => ConnectError::Denied {
                    address: address.ip(),
                    reason,
                },
                Ok(()) => match tokio::time::timeout(self.timeout, dial(address)).await {
                    Ok(Ok(stream)) => return Ok(stream),
                    Ok(Err(error)) => ConnectError::Unreachable { address, error },
                    Err(_) => ConnectError::Unreachable {
                        address,
                        error: io::ErrorKind::TimedOut.into(),
                    },
                },
            };
        }
        Err(last)
    }
}

/// The addresses of a host that the policy allows, for a client that opens its connections itself.
///
/// # Errors
/// The name does not resolve, or the policy refuses all addresses.
pub(crate) async fn addresses(
    host: &str,
    port: u16,
    egress: Egress,
) -> Result<Vec<SocketAddr>, ConnectError> {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let dns = |error| ConnectError::Dns {
        host: host.to_owned(),
        error,
    };
    let found = tokio::net::lookup_host((host, port)).await.map_err(dns)?;
    let (mut allowed, mut denied) = (Vec::new(), None);
    for address in found {
        match egress::judge(address.ip(), egress) {
            Ok(()) => allowed.push(address),
            Err(reason) => {
                denied = Some(ConnectError::Denied {
                    address: address.ip(),
                    reason,
                });
            }
        }
    }
    match (allowed.is_empty(), denied) {
        (false, _) => Ok(allowed),
        (true, Some(denied)) => Err(denied),
        (true, None) => Err(dns(io::Error::new(io::ErrorKind::NotFound, "no address"))),
    }
}

impl tower::Service<Uri> for Connector {
    type Response = Stream;
    type Error = ConnectError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let port = uri
            .port_u16()
            .unwrap_or(if uri.scheme_str() == Some("https") {
                443
            } else {
                80
            });
        let host = uri.host().unwrap_or_default().to_owned();
        Box::pin(self.clone().open(host, port))
    }
}

/// Asks a proxy for a connection to a host (RFC 9110, 9.3.6).
async fn tunnel(connection: &mut TcpStream, host: &str) -> io::Result<()> {
    let request = format!("CONNECT {host} HTTP/1.1\r\nhost: {host}\r\n\r\n");
    connection.write_all(request.as_bytes()).await?;
    // Byte by byte, because the first byte after the head belongs to the target.
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() == TUNNEL_HEAD_BYTES_MAX {
            return Err(io::Error::other("the head of its answer is too long"));
        }
        head.push(connection.read_u8().await?);
    }
    let line = String::from_utf8_lossy(&head);
    let line = line.lines().next().unwrap_or_default();
    match line.split(' ').nth(1) {
        Some(status) if status.len() == 3 && status.starts_with('2') => Ok(()),
        Some(status) => Err(io::Error::other(format!("it answered {status}"))),
        None => Err(io::Error::other("its answer is not HTTP")),
    }
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        Connected::new()
            .proxy(self.proxied)
            .extra(self.used.clone())
    }
}

impl hyper::rt::Read for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: hyper::rt::ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(context, buffer)
    }
}

impl hyper::rt::Write for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(context, slices)
    }
}

/// The [`ConnectError`] at the root of a client's error, if it is one.
pub(crate) fn cause<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a ConnectError> {
    std::iter::successors(Some(error), |error| error.source())
        .find_map(|error| error.downcast_ref())
}

#[cfg(test)]
mod tests;
