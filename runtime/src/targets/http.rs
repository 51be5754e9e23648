//! The HTTP client of all targets that speak HTTP.
//!
//! One call is one request. It never retries, never follows a redirect, uses no proxy, connects to
//! no address that the policy refuses, reads a bounded response, and ends within its timeout,
//! connecting included. A response that breaks off or is too long counts as no response: the
//! request may have been applied, and the outcome says so. This module does not know the kinds of
//! target that use it.

mod address;
pub mod answers;
mod auth;
mod connect;
mod egress;
pub(super) mod hints;
mod pointer;
mod presets;
mod redact;
pub(super) mod status;

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
pub use hyper::Method;
use hyper::header::HeaderMap;
use hyper::http::response::Parts;
use hyper::{Request, Response};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::{self, ResponseFuture};
use hyper_util::rt::{TokioExecutor, TokioTimer};

pub(crate) use self::address::ENCODED;
pub use self::address::{Address, BadAddress};
pub use self::auth::Auth;
use self::connect::Connector;
pub use self::egress::Egress;
pub use self::pointer::Pointer;
pub use self::presets::{PRESETS, preset};
pub(crate) use self::redact::Redactor;
use super::{Outcome, Unusable};
use crate::signature::Secret;

/// The longest response that is read; a longer one counts as incomplete. It holds the results of
/// 10,000 items.
const RESPONSE_BYTES_MAX: usize = 1024 * 1024;
/// Maximum wait for one connection; a target that needs longer counts as unreachable.
const CONNECT_MAX: Duration = Duration::from_secs(10);
/// How long an idle connection is kept: less than one minute, after which many proxies close
/// theirs.
const IDLE_MAX: Duration = Duration::from_secs(30);

/// The options that all HTTP targets have in common.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// The credentials of every request.
    pub auth: Auth,
    /// Further headers of every request, by names in lower case.
    pub headers: Vec<(String, Secret)>,
    /// Timeout of a whole attempt, connecting included. Default 15 s.
    pub timeout: Duration,
    /// The addresses that may be connected to.
    pub egress: Egress,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            auth: Auth::None,
            headers: Vec::new(),
            timeout: Duration::from_secs(15),
            egress: Egress::default(),
        }
    }
}

/// The client of one target. It keeps its connections alive between requests.
pub(crate) struct Client {
    headers: HeaderMap,
    redactor: Redactor,
    timeout: Duration,
    transport: Transport,
}

enum Transport {
    Plain(legacy::Client<Connector, Full<Bytes>>),
    Tls(legacy::Client<HttpsConnector<Connector>, Full<Bytes>>),
}

/// Why an attempt has no complete response.
enum Broken {
    Client(legacy::Error),
    Response(String),
    Timeout,
}

impl Client {
    /// Creates a client for an address without opening a connection. `keys` are further secrets
    /// that a target might echo, such as signing keys.
    ///
    /// # Errors
    /// A credential that cannot be used in a header, or an `https` address on a system without root
    /// certificates.
    pub(crate) fn open(
        options: &Options,
        address: &Address,
        keys: &[Secret],
    ) -> Result<Client, Unusable> {
        let headers = auth::headers(&options.auth, &options.headers)?;
        Ok(Client {
            redactor: Redactor::new(&headers, options, keys, address),
            headers,
            timeout: options.timeout,
            transport: Transport::open(options, address)?,
        })
    }

    /// The headers that every request must carry.
    pub(crate) fn headers(&self) -> HeaderMap {
        self.headers.clone()
    }

    /// Redacts our secrets in a response.
    pub(crate) fn redactor(&self) -> &Redactor {
        &self.redactor
    }

    /// Sends a request and reads the response to its end, within the timeout. The returned body is
    /// cut after the first 64 KiB.
    ///
    /// # Errors
    /// The outcome, if there is no complete response.
    pub(crate) async fn exchange(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<(Parts, Vec<u8>), Outcome> {
        let exchange = async {
            let response = self
                .transport
                .request(request)
                .await
                .map_err(Broken::Client)?;
            read(response).await
        };
        tokio::time::timeout(self.timeout, exchange)
            .await
            .unwrap_or(Err(Broken::Timeout))
            .map_err(|broken| broken.meaning(self.timeout))
    }
}

impl Transport {
    fn open(options: &Options, address: &Address) -> Result<Transport, Unusable> {
        // At most two thirds of the timeout, so that a second address can still be tried.
        let connector = Connector {
            egress: options.egress,
            timeout: CONNECT_MAX.min(options.timeout * 2 / 3),
        };
        let mut builder = legacy::Client::builder(TokioExecutor::new());
        builder
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_MAX)
            .pool_max_idle_per_host(64);
        if !address.is_secure() {
            return Ok(Transport::Plain(builder.build(connector)));
        }
        let https = hyper_rustls::HttpsConnectorBuilder::new()
            .with_provider_and_native_roots(rustls::crypto::ring::default_provider())
            .map_err(|error| {
                Unusable(format!(
                    "this system has no root certificates to check {} with: {error}",
                    address.shown("[secret]")
                ))
            })?;
        Ok(Transport::Tls(
            builder.build(
                https
                    .https_or_http()
                    .enable_http1()
                    .wrap_connector(connector),
            ),
        ))
    }

    fn request(&self, request: Request<Full<Bytes>>) -> ResponseFuture {
        match self {
            Transport::Plain(client) => client.request(request),
            Transport::Tls(client) => client.request(request),
        }
    }
}

/// Reads a whole response, up to [`RESPONSE_BYTES_MAX`].
async fn read(response: Response<hyper::body::Incoming>) -> Result<(Parts, Vec<u8>), Broken> {
    let (parts, mut body) = response.into_parts();
    let mut kept = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            Broken::Response(format!(
                "the response ({}) broke off: {}",
                parts.status.as_u16(),
                innermost(&error)
            ))
        })?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        if kept.len() + data.len() > RESPONSE_BYTES_MAX {
            return Err(Broken::Response(format!(
                "the response ({}) is longer than 1 MiB",
                parts.status.as_u16()
            )));
        }
        kept.extend_from_slice(&data);
    }
    Ok((parts, kept))
}

impl Broken {
    fn meaning(self, timeout: Duration) -> Outcome {
        let uncertain = |reason| Outcome::Retry {
            reason,
            maybe_applied: true,
        };
        match self {
            Broken::Timeout => uncertain(format!("no complete response within {timeout:?}")),
            Broken::Response(reason) => uncertain(reason),
            Broken::Client(error) => match connect::cause(&error) {
                // Whatever keeps a connection from being made, it is not the entity.
                Some(cause) => Outcome::Trip {
                    reason: cause.to_string(),
                },
                // A connection error that is not the connector's comes from the TLS handshake.
                None if error.is_connect() => Outcome::Trip {
                    reason: format!("TLS: {}", innermost(&error)),
                },
                None => uncertain(format!("no response: {}", innermost(&error))),
            },
        }
    }
}

/// The innermost cause of an error, such as "connection refused". The outer errors say only that
/// something failed.
pub(crate) fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}
