//! The HTTP client of all targets that speak HTTP.
//!
//! One call is one request. It never follows a redirect, uses no proxy but a configured one, connects to
//! no address that the policy refuses, reads a bounded response, and ends within its timeout,
//! connecting included. A request is made a second time in three cases only: the connection, used before,
//! died without a byte of the response (`transport`), its token had expired (`oauth2`), or the target cannot
//! read compressed bodies (`compress`). In the last two the second try, and the request for a token, have the
//! same timeout again. A response that breaks off or is too long counts as no response: the request may have
//! been applied, and the outcome says so. This module does not know the kinds of target that use it.

mod address;
pub mod answers;
mod auth;
mod compress;
pub(super) mod connect;
mod egress;
pub(super) mod hints;
mod oauth2;
mod pointer;
mod presets;
mod redact;
mod sent;
pub(super) mod status;
pub(super) mod transport;
mod wire;
mod witness;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
pub use hyper::Method;
use hyper::Request;
use hyper::body::Body as _;
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue};
pub(super) use hyper::http::response::Parts;

pub(crate) use self::address::ENCODED;
pub use self::address::{Address, BadAddress};
pub use self::auth::Auth;
use self::compress::Compressing;
pub use self::egress::Egress;
pub use self::oauth2::{Grant, OAuth2};
use self::oauth2::{Token, Tokens};
pub use self::pointer::Pointer;
pub use self::presets::{PRESETS, preset};
pub(crate) use self::redact::Redactor;
use self::sent::Sent;
use self::status::uncertain;
pub(crate) use self::transport::certificates;
use self::transport::{Broken, Transport};
pub use self::transport::{Connections, Tls};
pub(crate) use self::wire::Wire;
use self::witness::Noting;
pub(crate) use self::witness::{Exchange, witness};
use super::{Outcome, Unusable};
use crate::signature::Secret;

/// The options that all HTTP targets have in common.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// The credentials of every request.
    pub auth: Auth,
    /// Further headers of every request, by names in lower case.
    pub headers: Vec<(String, Secret)>,
    /// Timeout of a whole attempt, connecting included. Default 15 s.
    pub timeout: Duration,
    /// Whether bodies are compressed with gzip. A target that refuses them gets plain ones.
    pub gzip: bool,
    /// How connections are made.
    pub connections: Connections,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            auth: Auth::None,
            headers: Vec::new(),
            timeout: Duration::from_secs(15),
            gzip: false,
            connections: Connections::default(),
        }
    }
}

/// The client of one target. It keeps its connections alive between requests.
pub(crate) struct Client {
    headers: HeaderMap,
    redactor: Redactor,
    timeout: Duration,
    transport: Transport,
    tokens: Option<Arc<Tokens>>,
    compressing: Compressing,
    /// The address, without its secrets, for the log.
    shown: String,
}

/// A response.
pub(crate) struct Answered {
    pub(crate) parts: Parts,
    pub(crate) body: Vec<u8>,
    /// Why this is only its beginning; `None` if it is complete.
    pub(crate) cut: Option<String>,
    /// The token of the request.
    token: Option<Arc<Token>>,
}

impl Answered {
    /// How long it asks to wait before the next request.
    pub(crate) fn wait(&self, now: SystemTime) -> Option<Duration> {
        hints::wait(&hints::Hinting {
            status: self.parts.status.as_u16(),
            headers: &self.parts.headers,
            body: &self.body,
            now,
        })
    }
}

impl Client {
    /// Creates a client for an address without opening a connection. `keys` are further secrets
    /// that a target might echo, such as signing keys.
    ///
    /// # Errors
    /// A credential that cannot be used in a header, certificates that cannot be used, or an `https`
    /// address on a system without root certificates.
    pub(crate) fn open(
        options: &Options,
        address: &Address,
        keys: &[Secret],
    ) -> Result<Client, Unusable> {
        let headers = auth::headers(&options.auth, &options.headers)?;
        let redactor = Redactor::new(&headers, options, keys, address);
        let transport = |address| Transport::open(&options.connections, options.timeout, address);
        let tokens = match &options.auth {
            Auth::OAuth2(oauth2) => Some(Arc::new(Tokens::new(
                (**oauth2).clone(),
                transport(&oauth2.token_url)?,
                options.timeout,
                redactor.clone(),
            ))),
            _ => None,
        };
        Ok(Client {
            transport: transport(address)?,
            timeout: options.timeout,
            headers,
            redactor,
            tokens,
            compressing: Compressing::new(options.gzip),
            shown: address.shown("[secret]"),
        })
    }

    /// Opens a connection to the address of the target and gets a token, if it needs one and that uses up
    /// nothing. Sends the target nothing. Returns warnings of what was not tried.
    ///
    /// # Errors
    /// What is wrong, as a phrase.
    pub(crate) async fn reach(&self, address: &Address) -> Result<Vec<String>, String> {
        let reach = async {
            self.transport.reach(address).await?;
            match &self.tokens {
                Some(tokens) => tokens.check().await,
                None => Ok(Vec::new()),
            }
        };
        let limit = self.timeout;
        tokio::time::timeout(limit, reach)
            .await
            .unwrap_or_else(|_| Err(format!("no connection within {limit:?}")))
    }

    /// See [`super::Target::credentials`].
    pub(crate) fn credentials(&self) -> Option<Vec<u8>> {
        self.tokens.as_ref()?.refresh_token()
    }

    /// See [`super::Target::take_credentials`].
    pub(crate) fn take_credentials(&self, kept: &[u8]) {
        if let Some(tokens) = &self.tokens {
            tokens.take_refresh_token(kept);
        }
    }

    /// The headers that every request must carry.
    pub(crate) fn headers(&self) -> HeaderMap {
        self.headers.clone()
    }

    /// Redacts the secrets of the configuration in a text.
    pub(crate) fn redact<'a>(&self, text: &'a [u8]) -> Cow<'a, [u8]> {
        self.redactor.redact(text)
    }

    /// Redacts our secrets in a response.
    pub(crate) fn redactor<'a>(&'a self, answered: &'a Answered) -> &'a Redactor {
        match &answered.token {
            Some(token) => &token.redactor,
            None => &self.redactor,
        }
    }

    /// Sends a request with the headers that every request must carry, and a body with its content
    /// type. See [`Client::submit`]; of a response that is too long it returns the beginning.
    ///
    /// # Errors
    /// The outcome, if there is no response.
    pub(crate) async fn send(
        &self,
        method: Method,
        url: &str,
        body: Option<(&'static str, Vec<u8>)>,
    ) -> Result<Answered, Outcome> {
        let mut headers = self.headers();
        let (content_type, body) = body.unzip();
        if let Some(content_type) = content_type {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        }
        let mut request = Request::new(Bytes::from(body.unwrap_or_default()));
        *request.method_mut() = method;
        *request.uri_mut() = url.parse().map_err(|error| Outcome::Trip {
            reason: format!("the address of a request is no URL: {error}"),
        })?;
        *request.headers_mut() = headers;
        self.read(request, |_, _| {}).await
    }

    /// Sends a request, compressed if that is configured and the target can read it, and reads the
    /// response to its end. `seal` completes the headers for the bytes of the body as they are sent.
    ///
    /// # Errors
    /// The outcome, if there is no complete response.
    pub(crate) async fn submit(
        &self,
        request: Request<Bytes>,
        seal: impl Fn(&mut HeaderMap, &[u8]) + Send + Sync,
    ) -> Result<Answered, Outcome> {
        let answered = self.read(request, seal).await?;
        match answered.cut {
            Some(reason) => Err(uncertain(reason)),
            None => Ok(answered),
        }
    }

    /// The same, but of a response that is too long it returns the beginning.
    async fn read(
        &self,
        request: Request<Bytes>,
        seal: impl Fn(&mut HeaderMap, &[u8]) + Send + Sync,
    ) -> Result<Answered, Outcome> {
        let (parts, plain) = request.into_parts();
        let sealed = |body: &Bytes, packed: bool| {
            let mut request = Request::from_parts(parts.clone(), Sent::from(body.clone()));
            if packed {
                let gzip = HeaderValue::from_static("gzip");
                request.headers_mut().insert(CONTENT_ENCODING, gzip);
            }
            seal(request.headers_mut(), body);
            request
        };
        let Some(packed) = self.compressing.packed(&plain).await else {
            return self.exchange(sealed(&plain, false)).await;
        };
        let answered = self.exchange(sealed(&packed, true)).await?;
        if answered.parts.status.is_success() {
            self.compressing.was_read();
        }
        let status = answered.parts.status.as_u16();
        if !self.compressing.may_be_unread(status) {
            return Ok(answered);
        }
        let again = self.exchange(sealed(&plain, false)).await?;
        if again.parts.status.is_success() && self.compressing.was_unread() {
            tracing::warn!(
                url = self.shown,
                status,
                "the target refused a compressed request and accepted the same one without compression; it \
                 gets plain requests from now on. Remove `compress` from its configuration"
            );
        }
        Ok(again)
    }

    /// Sends a request and reads the response to its end, within the timeout. If the response says that
    /// the token of the request is not valid any more, the request is made once more with a new one.
    ///
    /// # Errors
    /// The outcome, if there is no response. One that is too long is cut off, and says so.
    async fn exchange(&self, mut request: Request<Sent>) -> Result<Answered, Outcome> {
        let Some(tokens) = &self.tokens else {
            return self.once(request, None).await;
        };
        let token = tokens.current().await?;
        let mut again = request.clone();
        tokens.put(&token, &mut request);
        let answered = self.once(request, Some(token.clone())).await?;
        if !token.is_refused(answered.parts.status.as_u16()) {
            if answered.parts.status.is_success() {
                token.worked();
            }
            return Ok(answered);
        }
        let token = tokens.renewed(Some(&token)).await?;
        tokens.put(&token, &mut again);
        self.once(again, Some(token)).await
    }

    async fn once(
        &self,
        request: Request<Sent>,
        token: Option<Arc<Token>>,
    ) -> Result<Answered, Outcome> {
        let noting = Noting::begin(&request, request.body().size_hint().lower());
        let exchanged = self.transport.exchange(request, self.timeout).await;
        let cut = exchanged.as_ref().err();
        let cut = cut.map(|broken| broken.reason(self.timeout));
        if let Some(noting) = noting {
            let redactor = token
                .as_ref()
                .map_or(&self.redactor, |token| &token.redactor);
            noting.end(&exchanged, self.timeout, redactor);
        }
        match exchanged {
            Ok((parts, body)) => Ok(Answered {
                parts,
                body,
                cut,
                token,
            }),
            Err(Broken::TooLong(answer)) => Ok(Answered {
                parts: answer.0,
                body: answer.1,
                cut,
                token,
            }),
            Err(broken) => Err(broken.meaning(self.timeout)),
        }
    }
}

/// The reason of an outcome that is no delivery.
pub(crate) fn reason(outcome: Outcome) -> String {
    match outcome {
        Outcome::Delivered => String::new(),
        Outcome::Repeat { reason, .. }
        | Outcome::Retry { reason, .. }
        | Outcome::Throttled { reason, .. }
        | Outcome::Refused { reason, .. }
        | Outcome::Trip { reason }
        | Outcome::Forgot { reason }
        | Outcome::Ahead { reason, .. }
        | Outcome::Pause { reason }
        | Outcome::Split { reason, .. } => reason,
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
