//! The connector of HTTP targets: it resolves a name, checks each address against the egress
//! policy, and connects to an address that it has checked.
//!
//! Nothing else opens a connection for a delivery: there is no proxy from the environment and no
//! second resolver, and an address written as a literal is checked like any other.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::Uri;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::egress::{self, Egress};

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
    /// The address did not respond, or refused the connection.
    #[error("no connection to {address}: {error}")]
    Unreachable {
        /// The last address that was tried.
        address: SocketAddr,
        /// The system's error.
        error: io::Error,
    },
}

/// Opens connections to addresses that the policy allows.
#[derive(Clone, Debug)]
pub(crate) struct Connector {
    /// The policy.
    pub(crate) egress: Egress,
    /// Timeout for each address, so that one that drops packets leaves time for the next.
    pub(crate) timeout: Duration,
}

impl Connector {
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

impl tower::Service<Uri> for Connector {
    type Response = TokioIo<TcpStream>;
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
        let connecting = self.clone().connect(host, port);
        Box::pin(async move { Ok(TokioIo::new(connecting.await?)) })
    }
}

/// The [`ConnectError`] at the root of a client's error, if it is one.
pub(crate) fn cause<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a ConnectError> {
    std::iter::successors(Some(error), |error| error.source())
        .find_map(|error| error.downcast_ref())
}

#[cfg(test)]
mod tests;
