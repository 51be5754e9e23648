//! Connections to one address, kept alive between requests: TLS, proxy, and what happens at their edges.
//!
//! - A connection that is used again may have been closed by the other side at that moment. If it dies
//!   before a byte of the answer, the request is made once more on a new connection.
//! - Idle connections are kept for less time than servers do, and all of them are replaced now and then,
//!   so that a name which resolves differently is noticed under steady traffic too.
//! - A client certificate may be refused after the handshake, with the first bytes of the answer.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::http::response::Parts;
use hyper::{Request, Response};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::connect::capture_connection;
use hyper_util::client::legacy::{self, ResponseFuture};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use tokio::time::Instant;
use tower::ServiceExt;

use super::connect::{self, Connector, Proxy, Used};
use super::sent::{Progress, Sent};
use super::{Address, Egress, innermost};
use crate::signature::Secret;
use crate::sync::lock;
use crate::targets::{Outcome, Unusable};

/// The longest response that is read; a longer one counts as incomplete. It holds the results of
/// 10,000 items, unless many of them fail and each says at length why.
const RESPONSE_BYTES_MAX: usize = 1024 * 1024;
/// Maximum wait for one connection; a target that needs longer counts as unreachable.
const CONNECT_MAX: Duration = Duration::from_secs(10);
/// How long an idle connection is kept: less than the 5 s after which Node.js closes its own.
const IDLE_MAX: Duration = Duration::from_secs(4);
/// How long connections are used before new ones replace them, less up to a fifth.
const AGE_MAX: Duration = Duration::from_secs(300);

/// How connections are made.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Connections {
    /// The addresses that may be connected to.
    pub egress: Egress,
    /// Certificates in place of the system's, and the client's own.
    pub tls: Tls,
    /// The proxy that all requests go through. It resolves the names, and its own address is what the
    /// egress policy judges.
    pub proxy: Option<Address>,
}

/// Certificates, as PEM.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tls {
    /// The authorities to trust, in place of the system's.
    pub ca: Option<Vec<u8>>,
    /// The client's certificates and its key.
    pub identity: Option<(Vec<u8>, Secret)>,
}

/// Connections to one address.
pub(super) struct Transport {
    make: Make,
    pool: Mutex<(Instant, Arc<Pool>)>,
    /// Keeps no connection, for the second try of a request.
    fresh: Pool,
}

/// What is needed for a new pool.
struct Make {
    connector: Connector,
    /// `None` for plain HTTP.
    tls: Option<ClientConfig>,
}

enum Pool {
    Plain(legacy::Client<Connector, Sent>),
    Tls(legacy::Client<HttpsConnector<Connector>, Sent>),
}

/// The bounds of a request that may be large.
pub(super) struct Limits {
    /// How long no byte may move, in either direction.
    pub(super) idle: Duration,
    /// How long it may take in all.
    pub(super) whole: Duration,
    /// The longest response.
    pub(super) response_bytes_max: usize,
}

/// Why a request has no complete response.
pub(super) enum Broken {
    /// No byte of a response has come.
    Client(legacy::Error),
    /// The response broke off.
    Response(String),
    /// The response is too long; this is its beginning.
    TooLong(Box<(Parts, Vec<u8>)>),
    /// No complete response in time.
    Timeout,
}

impl Transport {
    /// Prepares connections to an address without opening one.
    ///
    /// # Errors
    /// Certificates that cannot be used, or an `https` address on a system without root certificates.
    pub(super) fn open(
        connections: &Connections,
        timeout: Duration,
        address: &Address,
    ) -> Result<Transport, Unusable> {
        let tls = match address.is_secure() {
            true => Some(client_config(&connections.tls, &address.shown("[secret]"))?),
            false => None,
        };
        let proxy = connections.proxy.as_ref().map(|proxy| Proxy {
            address: proxy.clone(),
            tunnel: address.is_secure(),
        });
        let make = Make {
            connector: Connector {
                egress: connections.egress,
                // At most two thirds of the timeout, so that a second address can still be tried.
                timeout: CONNECT_MAX.min(timeout * 2 / 3),
                proxy: proxy.map(Arc::new),
                ignored: connect::ignored_proxy(address.is_secure(), |name| {
                    std::env::var_os(name).is_some_and(|value| !value.is_empty())
                }),
            },
            tls,
        };
        Ok(Transport {
            pool: Mutex::new((Instant::now(), Arc::new(make.pool(64)))),
            fresh: make.pool(0),
            make,
        })
    }

    /// Opens a connection, with TLS if the address has it, and sends nothing.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) async fn reach(&self, address: &Address) -> Result<(), String> {
        let uri = address.uri("check")?;
        let plain = self.make.connector.clone();
        match &self.make.tls {
            None => plain
                .oneshot(uri)
                .await
                .map(drop)
                .map_err(|error| error.to_string()),
            Some(config) => https(config, plain)
                .oneshot(uri)
                .await
                .map(drop)
                .map_err(|error| match connect::cause(&*error) {
                    Some(cause) => cause.to_string(),
                    None => format!("TLS: {}", innermost(&*error)),
                }),
        }
    }

    /// Sends a request and reads the response to its end, within the timeout.
    ///
    /// # Errors
    /// Why there is no complete response.
    pub(super) async fn exchange(
        &self,
        request: Request<Sent>,
        timeout: Duration,
    ) -> Result<(Parts, Vec<u8>), Broken> {
        let exchange = async {
            let response = self.response(request).await.map_err(Broken::Client)?;
            read(response, RESPONSE_BYTES_MAX, &Progress::default()).await
        };
        tokio::time::timeout(timeout, exchange)
            .await
            .unwrap_or(Err(Broken::Timeout))
    }

    /// Sends a request that may be large and reads the response to its end, as long as bytes move.
    ///
    /// # Errors
    /// Why there is no complete response.
    pub(super) async fn carry(
        &self,
        request: Request<Bytes>,
        limits: Limits,
    ) -> Result<(Parts, Vec<u8>), Broken> {
        let progress = Progress::default();
        let request = request.map(|body| Sent::counted(body, &progress));
        let exchange = async {
            let response = self.response(request).await.map_err(Broken::Client)?;
            progress.moves();
            read(response, limits.response_bytes_max, &progress).await
        };
        tokio::select! {
            exchanged = exchange => exchanged,
            () = progress.stops(limits.idle) => Err(Broken::Timeout),
            () = tokio::time::sleep(limits.whole) => Err(Broken::Timeout),
        }
    }

    async fn response(
        &self,
        mut request: Request<Sent>,
    ) -> Result<Response<hyper::body::Incoming>, legacy::Error> {
        let again = request.clone();
        let captured = capture_connection(&mut request);
        let result = self.pool().request(request).await;
        let was_used = || {
            let connected = captured.connection_metadata();
            let mut extensions = hyper::http::Extensions::new();
            if let Some(connected) = connected.as_ref() {
                connected.get_extras(&mut extensions);
            }
            extensions.get::<Used>().is_some_and(|used| used.again())
        };
        match result {
            // The first request of a connection marks it as used.
            Ok(response) => {
                was_used();
                Ok(response)
            }
            Err(error) if died(&error) && was_used() => self.fresh.request(again).await,
            Err(error) => Err(error),
        }
    }

    /// The pool in use; a new one if it is old. Requests that use the old one end there.
    fn pool(&self) -> Arc<Pool> {
        let mut pool = lock(&self.pool);
        let age = AGE_MAX.mul_f64(1.0 - fastrand::f64() / 5.0);
        if pool.0.elapsed() > age {
            *pool = (Instant::now(), Arc::new(self.make.pool(64)));
        }
        pool.1.clone()
    }
}

impl Make {
    fn pool(&self, idle_max: usize) -> Pool {
        let mut builder = legacy::Client::builder(TokioExecutor::new());
        builder
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_MAX)
            .pool_max_idle_per_host(idle_max);
        match &self.tls {
            None => Pool::Plain(builder.build(self.connector.clone())),
            Some(config) => Pool::Tls(builder.build(https(config, self.connector.clone()))),
        }
    }
}

fn https(config: &ClientConfig, connector: Connector) -> HttpsConnector<Connector> {
    hyper_rustls::HttpsConnectorBuilder::new()
        .with_tls_config(config.clone())
        .https_or_http()
        .enable_http1()
        .wrap_connector(connector)
}

impl Pool {
    fn request(&self, request: Request<Sent>) -> ResponseFuture {
        match self {
            Pool::Plain(client) => client.request(request),
            Pool::Tls(client) => client.request(request),
        }
    }
}

/// The roots of a configuration, or the system's. `shown` is whom they check, for a message.
///
/// # Errors
/// They cannot be used, or there are none.
pub(crate) fn roots(tls: &Tls, shown: &str) -> Result<RootCertStore, Unusable> {
    let mut roots = RootCertStore::empty();
    match &tls.ca {
        Some(pem) => {
            for certificate in certificates(pem, "tls.ca")? {
                roots.add(certificate).map_err(|error| {
                    Unusable(format!("a certificate of tls.ca cannot be used: {error}"))
                })?;
            }
        }
        None => {
            let found = rustls_native_certs::load_native_certs();
            roots.add_parsable_certificates(found.certs);
            if roots.is_empty() {
                let why = found
                    .errors
                    .first()
                    .map_or("none were found".to_owned(), ToString::to_string);
                return Err(Unusable(format!(
                    "this system has no root certificates to check {shown} with: {why}"
                )));
            }
        }
    }
    Ok(roots)
}

/// The TLS of a client: the system's roots or those of the configuration, and its own certificate. `shown`
/// is its other side, for a message.
///
/// # Errors
/// Something of the configuration cannot be used.
pub(crate) fn client_config(tls: &Tls, shown: &str) -> Result<ClientConfig, Unusable> {
    let roots = roots(tls, shown)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Unusable(format!("TLS cannot be used: {error}")))?
        .with_root_certificates(roots);
    identified(builder, tls)
}

/// Completes the TLS of a client with its own certificate, if it has one.
///
/// # Errors
/// A certificate or a key that cannot be used.
pub(crate) fn identified(
    builder: rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert>,
    tls: &Tls,
) -> Result<ClientConfig, Unusable> {
    match &tls.identity {
        None => Ok(builder.with_no_client_auth()),
        Some((chain, key)) => {
            let chain = certificates(chain, "tls.cert")?;
            let key = PrivateKeyDer::from_pem_slice(&key.0)
                .map_err(|error| Unusable(format!("tls.key is not a private key: {error}")))?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|error| Unusable(format!("tls.cert and tls.key do not fit: {error}")))
        }
    }
}

/// Reads the certificates of a file in PEM, of which there must be one at least. `key` is their setting, for a message.
///
/// # Errors
/// There is none, or the file is not PEM.
pub(crate) fn certificates(
    pem: &[u8],
    key: &str,
) -> Result<Vec<CertificateDer<'static>>, Unusable> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(Unusable(format!("{key} holds no certificate in PEM"))),
        Err(error) => Err(Unusable(format!("{key} is not PEM: {error}"))),
    }
}

/// Reads a whole response, up to this length.
async fn read(
    response: Response<hyper::body::Incoming>,
    bytes_max: usize,
    progress: &Progress,
) -> Result<(Parts, Vec<u8>), Broken> {
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
        progress.moves();
        let Ok(data) = frame.into_data() else {
            continue;
        };
        if kept.len() + data.len() > bytes_max {
            return Err(Broken::TooLong(Box::new((parts, kept))));
        }
        kept.extend_from_slice(&data);
    }
    Ok((parts, kept))
}

/// Whether the connection was closed before the first byte of a response.
fn died(error: &legacy::Error) -> bool {
    let mut causes =
        std::iter::successors(Some(error as &(dyn std::error::Error + 'static)), |error| {
            error.source()
        });
    causes.any(|cause| {
        let hyper = cause.downcast_ref::<hyper::Error>();
        let io = cause.downcast_ref::<io::Error>();
        hyper.is_some_and(|error| error.is_incomplete_message() || error.is_closed())
            || io.is_some_and(|error| {
                matches!(
                    error.kind(),
                    io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
                )
            })
    })
}

impl Broken {
    /// What it means for the entities of the request.
    pub(super) fn meaning(self, timeout: Duration) -> Outcome {
        let trips = match &self {
            // Whatever keeps a connection from being made, it is not the entity. A connection error
            // that is not the connector's comes from the TLS handshake.
            Broken::Client(error) => {
                connect::cause(error).is_some() || error.is_connect() || alert(error).is_some()
            }
            Broken::Response(_) | Broken::TooLong(_) | Broken::Timeout => false,
        };
        let reason = self.reason(timeout);
        match trips {
            true => Outcome::Trip { reason },
            false => Outcome::Retry {
                reason,
                maybe_applied: true,
            },
        }
    }

    /// What happened, as text for users.
    pub(super) fn reason(&self, timeout: Duration) -> String {
        match self {
            Broken::Timeout => format!("no complete response within {timeout:?}"),
            Broken::Response(reason) => reason.clone(),
            Broken::TooLong(answer) => format!(
                "the response ({}) is longer than 1 MiB",
                answer.0.status.as_u16()
            ),
            Broken::Client(error) => match (connect::cause(error), alert(error)) {
                (Some(cause), _) => cause.to_string(),
                (None, Some(alert)) => format!("TLS: {alert}"),
                (None, None) if error.is_connect() => format!("TLS: {}", innermost(error)),
                (None, None) => format!("no response: {}", innermost(error)),
            },
        }
    }
}

/// The alert by which the other side ended TLS, also after the handshake.
fn alert(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    let mut causes = std::iter::successors(Some(error), |error| error.source());
    causes.find_map(|cause| {
        let inner = cause
            .downcast_ref::<io::Error>()
            .and_then(|error| error.get_ref());
        let tls = cause
            .downcast_ref::<rustls::Error>()
            .or_else(|| inner.and_then(|inner| inner.downcast_ref::<rustls::Error>()));
        match tls {
            Some(rustls::Error::AlertReceived(alert)) => {
                Some(format!("the target ended the connection with {alert:?}"))
            }
            _ => None,
        }
    })
}

#[cfg(test)]
mod tests;
