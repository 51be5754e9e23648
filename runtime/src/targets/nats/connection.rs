//! A connection to a NATS server. It is made once: the client library would connect again by itself and then
//! send what was queued, also what the target has given up. So this one ends with its connection, and the
//! target opens another.
//!
//! Names are resolved here, each address is checked against the egress policy, and the library gets the
//! address. TLS still checks the name.

use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_nats::connection::State;
use async_nats::header::HeaderMap;
use async_nats::rustls::client::WebPkiServerVerifier;
use async_nats::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use async_nats::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use async_nats::rustls::{self, ClientConfig, DigitallySignedStruct, SignatureScheme};
use async_nats::{
    Client, ConnectError, ConnectErrorKind, ConnectOptions, Event, Message, ReconnectToServer,
    Request, RequestErrorKind, ServerAddr, ServerError,
};
use bytes::Bytes;
use tokio::sync::watch;

use super::{Auth, Options, Server};
use crate::signature::Secret;
use crate::targets::http::connect;
use crate::targets::http::transport;
use crate::targets::{Outcome, Unusable};

/// Requests that wait for the connection at most; more wait for those.
const QUEUED_MAX: usize = 2_048;
/// How often a silent server is asked whether it is there; after two questions without an answer the
/// connection ends.
const PING: Duration = Duration::from_secs(5);
/// The longest that connecting to one address takes.
const CONNECT_MAX: Duration = Duration::from_secs(5);

/// A connection.
pub(super) struct Connection {
    client: Client,
    /// The most that a message may have, headers included, bytes.
    pub(super) payload_max: usize,
    /// The server, for users.
    pub(super) server: String,
    /// Which server of the configuration it is.
    pub(super) place: usize,
    denied: watch::Receiver<Option<String>>,
}

/// Why there is no answer to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Silence {
    /// Nobody listens to the subject: there is no such stream, or it has no leader now.
    NoResponders,
    /// The connection ended, or the client could not send.
    Lost(String),
}

impl Connection {
    /// Connects to the first server that can be reached, beginning with the one at `first`.
    ///
    /// # Errors
    /// The outcome of an attempt that cannot connect: nothing was sent.
    pub(super) async fn open(options: &Options, first: usize) -> Result<Connection, Outcome> {
        let servers = options.servers.len();
        let mut last = trip("there is no server in the configuration".to_owned());
        for next in 0..servers {
            let place = (first + next) % servers;
            match Connection::to(options, place).await {
                Ok(connection) => return Ok(connection),
                Err(Unconnected::Everywhere(outcome)) => return Err(outcome),
                Err(Unconnected::Here(outcome)) => last = outcome,
            }
        }
        Err(last)
    }

    async fn to(options: &Options, place: usize) -> Result<Connection, Unconnected> {
        let server = &options.servers[place];
        let found = connect::addresses(&server.host, server.port, options.egress).await;
        let addresses = found.map_err(|error| trip(error.to_string()))?;
        let mut last = trip(format!("{server} has no address"));
        // One that is silent leaves time for another, also for the other addresses of its name.
        let others = (options.servers.len() * addresses.len()).min(1_000);
        let most = options.timeout / (others as u32 + 1);
        for address in addresses {
            let dial = Connection::dial(options, place, server, address);
            match tokio::time::timeout(CONNECT_MAX.min(most), dial).await {
                Ok(Ok(connection)) => return Ok(connection),
                Ok(Err(Unconnected::Here(outcome))) => last = outcome,
                Ok(Err(everywhere)) => return Err(everywhere),
                Err(_) => last = away(format!("{server} ({address}) does not answer")),
            }
        }
        Err(last.into())
    }

    async fn dial(
        options: &Options,
        place: usize,
        server: &Server,
        address: SocketAddr,
    ) -> Result<Connection, Unconnected> {
        let scheme = if server.tls { "tls" } else { "nats" };
        let here = server_addr(&format!("{scheme}://{address}"))?;
        // Nothing listens at port 0.
        let nowhere = server_addr("nats://127.0.0.1:0")?;
        let once = AtomicBool::new(false);
        let (to, after) = (here.clone(), nowhere.clone());
        let (denied_tx, denied) = watch::channel(None);
        let denied_tx = Arc::new(denied_tx);
        let mut connecting = ConnectOptions::new()
            .name("weir")
            .connection_timeout(CONNECT_MAX)
            .request_timeout(None)
            .ping_interval(PING)
            .client_capacity(QUEUED_MAX)
            .ignore_discovered_servers()
            .custom_inbox_prefix(&options.inbox)
            .max_reconnects(1)
            .reconnect_to_server_callback(move |_, _| {
                let addr = match once.swap(true, Ordering::Relaxed) {
                    false => to.clone(),
                    true => after.clone(),
                };
                async move {
                    Some(ReconnectToServer {
                        addr,
                        delay: Some(Duration::ZERO),
                    })
                }
            })
            .event_callback(move |event| {
                if let Event::ServerError(ServerError::Other(text)) = event
                    && text.to_lowercase().contains("permissions violation")
                {
                    denied_tx.send_replace(Some(text));
                }
                std::future::ready(())
            });
        connecting = match &options.auth {
            Auth::None => connecting,
            Auth::User { user, password } => {
                connecting.user_and_password(user.clone(), text(password))
            }
            Auth::Token(token) => connecting.token(text(token)),
            Auth::Nkey(seed) => connecting.nkey(text(seed).trim().to_owned()),
            Auth::Creds(creds) => connecting
                .credentials(&text(creds))
                .map_err(|_| trip("auth.creds is not a credentials file of NATS".to_owned()))?,
        };
        match tls(options, server) {
            Ok(config) => connecting = connecting.tls_client_config(config),
            // A server that asks for no TLS needs no roots.
            Err(Unusable(reason)) if options.needs_tls(server) => return Err(trip(reason).into()),
            Err(_) => {}
        }
        let connecting = connecting.require_tls(options.needs_tls(server));
        let client = connecting
            .connect(vec![here, nowhere])
            .await
            .map_err(|error| unconnected(server, &error))?;
        Ok(Connection {
            payload_max: client.max_payload(),
            client,
            server: server.to_string(),
            place,
            denied,
        })
    }

    /// What the server says of itself.
    pub(super) fn info(&self) -> async_nats::ServerInfo {
        self.client.server_info()
    }

    /// Whether the connection has ended.
    pub(super) fn has_ended(&self) -> bool {
        self.client.connection_state() != State::Connected
    }

    /// What the server did not permit on this connection.
    pub(super) fn denied(&self) -> Option<String> {
        self.denied.borrow().clone()
    }

    /// Waits until the server does not permit something.
    pub(super) async fn is_denied(&self) -> String {
        let mut denied = self.denied.clone();
        loop {
            if let Some(text) = denied.borrow_and_update().clone() {
                return text;
            }
            if denied.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Sends a message and waits for the answer, as long as there is a connection.
    pub(super) async fn ask(
        &self,
        subject: String,
        headers: Option<HeaderMap>,
        payload: Bytes,
    ) -> Result<Message, Silence> {
        let mut request = Request::new().payload(payload).timeout(None);
        if let Some(headers) = headers {
            request = request.headers(headers);
        }
        let answer = self.client.send_request(subject, request).await;
        answer.map_err(|error| match error.kind() {
            RequestErrorKind::NoResponders => Silence::NoResponders,
            _ => Silence::Lost(innermost(&error)),
        })
    }

    /// Sends a message that nobody answers.
    ///
    /// # Errors
    /// It could not be sent.
    pub(super) async fn publish(
        &self,
        subject: String,
        headers: HeaderMap,
        payload: Bytes,
    ) -> Result<(), String> {
        let sent = self.client.publish_with_headers(subject, headers, payload);
        sent.await.map_err(|error| innermost(&error))
    }

    /// Returns when the server has read everything that was published before.
    ///
    /// # Errors
    /// The connection ended.
    pub(super) async fn echo(&self) -> Result<(), String> {
        let inbox = self.client.new_inbox();
        let listens = self.client.subscribe(inbox.clone()).await;
        let mut echo = listens.map_err(|error| innermost(&error))?;
        let sent = self.client.publish(inbox, Bytes::new()).await;
        sent.map_err(|error| innermost(&error))?;
        match futures_util::StreamExt::next(&mut echo).await {
            Some(_) => Ok(()),
            None => Err("the connection ended".to_owned()),
        }
    }

    /// Asks with an inbox that gets several answers.
    ///
    /// # Errors
    /// The connection ended.
    pub(super) async fn ask_many(
        &self,
        subject: String,
        payload: Bytes,
    ) -> Result<async_nats::Subscriber, String> {
        let inbox = self.client.new_inbox();
        let listens = self.client.subscribe(inbox.clone()).await;
        let answers = listens.map_err(|error| innermost(&error))?;
        let sent = self.client.publish_with_reply(subject, inbox, payload);
        sent.await.map_err(|error| innermost(&error))?;
        Ok(answers)
    }
}

/// Why there is no connection, as the outcome of an attempt.
enum Unconnected {
    /// Another server may take it.
    Here(Outcome),
    /// Another server of a cluster would say the same.
    Everywhere(Outcome),
}

impl From<Outcome> for Unconnected {
    fn from(outcome: Outcome) -> Unconnected {
        Unconnected::Here(outcome)
    }
}

fn text(secret: &Secret) -> String {
    String::from_utf8_lossy(&secret.0).into_owned()
}

fn server_addr(text: &str) -> Result<ServerAddr, Outcome> {
    let wrong = |error: std::io::Error| trip(format!("{text} is not an address: {error}"));
    text.parse().map_err(wrong)
}

fn unconnected(server: &Server, error: &ConnectError) -> Unconnected {
    let refused = |said: &str| {
        let reason = format!("{server} does not accept the credentials: {said}");
        Unconnected::Everywhere(trip(reason))
    };
    match error.kind() {
        ConnectErrorKind::AuthorizationViolation => refused("authorization violation"),
        ConnectErrorKind::Authentication => Unconnected::Everywhere(trip(format!(
            "the credentials for {server} cannot be used: {}",
            innermost(error)
        ))),
        _ => match (tls_error(error), server_error(error)) {
            (Some(tls), _) => trip(format!("TLS with {server}: {tls}")).into(),
            (None, Some(said)) if said.to_lowercase().contains("auth") => refused(&said),
            (None, Some(said)) => away(format!("{server} ended the connection: {said}")).into(),
            (None, None) => away(format!("no connection to {server}: {}", innermost(error))).into(),
        },
    }
}

/// The first cause of an error, the error itself included, of which something is found.
fn cause<T>(
    error: &(dyn Error + 'static),
    look: impl Fn(&(dyn Error + 'static)) -> Option<T>,
) -> Option<T> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = look(error) {
            return Some(found);
        }
        next = error.source();
    }
    None
}

fn tls_error(error: &(dyn Error + 'static)) -> Option<String> {
    cause(error, |error| {
        let io = error.downcast_ref::<std::io::Error>();
        let inner = io.and_then(std::io::Error::get_ref);
        let tls = error
            .downcast_ref::<rustls::Error>()
            .or_else(|| inner.and_then(|inner| inner.downcast_ref()));
        tls.map(ToString::to_string)
    })
}

fn server_error(error: &(dyn Error + 'static)) -> Option<String> {
    cause(error, |error| match error.downcast_ref::<ServerError>() {
        Some(ServerError::Other(text)) => Some(text.trim_matches('\'').to_owned()),
        Some(other) => Some(other.to_string()),
        None => None,
    })
}

fn innermost(error: &(dyn Error + 'static)) -> String {
    let last = cause(error, |error| {
        error.source().is_none().then(|| error.to_string())
    });
    last.unwrap_or_default()
}

pub(super) fn trip(reason: String) -> Outcome {
    Outcome::Trip { reason }
}

/// Nothing was sent.
pub(super) fn away(reason: String) -> Outcome {
    Outcome::Retry {
        reason,
        maybe_applied: false,
    }
}

fn tls(options: &Options, server: &Server) -> Result<ClientConfig, Unusable> {
    let shown = server.to_string();
    let mut config = transport::client_config(&options.tls, &shown)?;
    let host = server.host.trim_start_matches('[').trim_end_matches(']');
    let name = ServerName::try_from(host.to_owned())
        .map_err(|error| Unusable(format!("TLS cannot check {shown}: {error}")))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let roots = Arc::new(transport::roots(&options.tls, &shown)?);
    let inner = WebPkiServerVerifier::builder_with_provider(roots, provider)
        .build()
        .map_err(|error| Unusable(format!("TLS cannot check {shown}: {error}")))?;
    config
        .dangerous()
        .set_certificate_verifier(Arc::new(Named { inner, name }));
    Ok(config)
}

/// Checks the name of the configuration, whatever address is connected to.
#[derive(Debug)]
struct Named {
    inner: Arc<WebPkiServerVerifier>,
    name: ServerName<'static>,
}

impl ServerCertVerifier for Named {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let name = &self.name;
        self.inner
            .verify_server_cert(end_entity, intermediates, name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
