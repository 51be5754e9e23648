//! The connector of targets: it resolves a name, judges each address, and connects to the one it has judged.
//!
//! Nothing else opens a connection for a delivery: no proxy from the environment, no resolver behind this one's back, and an
//! address written as a literal is judged like any other.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::Uri;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::egress;
use super::webhook::Egress;

/// Why there is no connection; the variants differ in what they say of the target.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    /// The name does not resolve: the configuration or the network is wrong, not one entity.
    #[error("{host} does not resolve: {error}")]
    Dns {
        /// The name.
        host: String,
        /// What the resolver said.
        error: io::Error,
    },
    /// The policy refuses each address that there is.
    #[error("{address} is {reason}: not connected to")]
    Denied {
        /// The last address that was judged.
        address: IpAddr,
        /// Why.
        reason: &'static str,
    },
    /// Nobody answered there, or the connection was refused.
    #[error("no connection to {address}: {error}")]
    Unreachable {
        /// The last address that was tried.
        address: SocketAddr,
        /// What the system said.
        error: io::Error,
    },
}

/// Opens connections to addresses that the policy allows.
#[derive(Clone, Debug)]
pub(crate) struct Connector {
    /// The policy.
    pub(crate) egress: Egress,
    /// For each address that is tried, so that one that swallows packets leaves time for the next.
    pub(crate) timeout: Duration,
}

impl Connector {
    /// Connects to the first address of `host` that is allowed and answers.
    ///
    /// # Errors
    /// See [`ConnectError`].
    async fn connect(self, host: String, port: u16) -> Result<TcpStream, ConnectError> {
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let found = tokio::net::lookup_host((host.as_str(), port)).await.map(Vec::from_iter);
        let addresses: Vec<SocketAddr> = match found {
            Ok(addresses) => addresses,
            Err(error) => return Err(ConnectError::Dns { host, error }),
        };
        let mut last = ConnectError::Dns { host, error: io::Error::new(io::ErrorKind::NotFound, "no address") };
        for address in addresses {
            last = match egress::judge(address.ip(), self.egress) {
                Err(reason) => ConnectError::Denied { address: address.ip(), reason },
                Ok(()) => match tokio::time::timeout(self.timeout, TcpStream::connect(address)).await {
                    Ok(Ok(stream)) => {
                        // A delivery is one small write and one small answer: waiting to fill a packet only delays it.
                        let _ = stream.set_nodelay(true);
                        return Ok(stream);
                    }
                    Ok(Err(error)) => ConnectError::Unreachable { address, error },
                    Err(_) => ConnectError::Unreachable { address, error: io::ErrorKind::TimedOut.into() },
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
        let port = uri.port_u16().unwrap_or(if uri.scheme_str() == Some("https") { 443 } else { 80 });
        let host = uri.host().unwrap_or_default().to_owned();
        let connecting = self.clone().connect(host, port);
        Box::pin(async move { Ok(TokioIo::new(connecting.await?)) })
    }
}

/// The [`ConnectError`] at the root of a client's error, if it is one.
pub(crate) fn cause<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a ConnectError> {
    std::iter::successors(Some(error), |error| error.source()).find_map(|error| error.downcast_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Addresses written as literals or as names are judged alike, and what is refused is not connected to: the listener
    /// that waits behind them sees nobody.
    #[tokio::test]
    async fn what_the_policy_refuses_sees_no_connection() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let port = listener.local_addr().expect("address").port();
        let connector = |egress| Connector { egress, timeout: Duration::from_secs(2) };
        for host in ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "[::1]", "0.0.0.0", "[::ffff:a9fe:a9fe]"] {
            let refused = connector(Egress::Public).connect(host.to_owned(), port).await;
            assert!(matches!(refused, Err(ConnectError::Denied { .. })), "{host}: {refused:?}");
        }
        let nobody = tokio::time::timeout(Duration::from_millis(50), listener.accept()).await;
        assert!(nobody.is_err(), "somebody connected");
        connector(Egress::Private).connect("127.0.0.1".to_owned(), port).await.expect("the operator's own network");
    }

    #[tokio::test]
    async fn a_name_that_does_not_resolve_is_told_from_a_closed_door() {
        let connector = Connector { egress: Egress::Private, timeout: Duration::from_secs(2) };
        // A label of more than 63 bytes is no name at all, so no resolver is asked.
        let unknown = connector.clone().connect("x".repeat(70), 80).await;
        assert!(matches!(unknown, Err(ConnectError::Dns { .. })), "{unknown:?}");
        let closed = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port that is free again").port();
        let closed = connector.connect("127.0.0.1".to_owned(), closed).await;
        assert!(matches!(closed, Err(ConnectError::Unreachable { .. })), "{closed:?}");
    }
}
