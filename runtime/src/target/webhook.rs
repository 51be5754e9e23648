//! The webhook target: HTTP requests signed by Standard Webhooks.
//!
//! One call makes one request and says what came of it for each item. It never retries, never
//! follows a redirect, uses no proxy, connects to no address that the policy refuses, reads a
//! bounded answer, and ends within its timeout. Only a complete 2xx is a delivery; an answer that
//! breaks off leaves open whether it was applied, and says so.

use std::borrow::Cow;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::header::{
    AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER, USER_AGENT,
};
use hyper::{Method, Request, Response, Uri};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::{Client, ResponseFuture};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use url::Url;

use super::answer::{self, Answer, Asked};
use super::connect::{self, ConnectError, Connector};
use super::veil::Veil;
use super::{Item, Outcome, Trace, body};
use crate::model::EntityId;
use crate::signature::{self, Secret};

/// So much of an answer is kept, for its items and for the reason that people read.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// So much of an answer is read at all; a longer one is not waited for, and so is not complete.
const ANSWER_BYTES_READ: usize = 1024 * 1024;
/// The longest wait for one connection; a target that needs longer is away.
const CONNECT_MAX: Duration = Duration::from_secs(10);
/// An idle connection is kept so long: less than the minute after which many proxies close theirs.
const IDLE_MAX: Duration = Duration::from_secs(30);
/// What stands as it is in a URL's path; the rest of a key is percent-encoded.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');
/// Stands for the key while the URL is parsed; lower case, so that no part of a URL changes it.
const PLACEHOLDER: &str = "weir-key-goes-here";

/// A webhook as configured.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// With `{key}` in it, entities are put and deleted at their own URLs; without, posted.
    pub url: String,
    /// Standard Webhooks secrets; the first signs, the others sign too while a secret is rotated.
    pub sign: Vec<Secret>,
    /// Sent as is.
    pub auth: Auth,
    /// For a whole attempt, connecting included; 15 s.
    pub timeout: Duration,
    /// Most entities in a request; 1 sends the bare rendering.
    pub batch: usize,
    /// How a batch is written.
    pub format: Format,
    /// Which addresses may be connected to.
    pub egress: Egress,
}

/// How Weir shows who it is.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Auth {
    /// Not at all.
    #[default]
    None,
    /// `Authorization: Bearer …`.
    Bearer(Secret),
    /// `Authorization: Basic …`.
    Basic {
        /// User name.
        user: String,
        /// Password.
        password: Secret,
    },
    /// Any headers.
    Headers(Vec<(String, Secret)>),
}

/// How a batch is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// One JSON array.
    #[default]
    Array,
    /// One JSON object a line.
    Ndjson,
}

/// Which addresses may be connected to; link-local and metadata addresses never.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Egress {
    /// Private networks too: destinations come from the operator's file.
    #[default]
    Private,
    /// Only global unicast addresses.
    Public,
}

/// A webhook ready to deliver; keeps its connections alive between requests.
pub struct Webhook {
    options: Options,
    place: Place,
    headers: HeaderMap,
    veil: Veil,
    client: HttpClient,
}

/// Where requests go.
enum Place {
    /// All to one URL.
    One(Uri),
    /// Each entity to its own: the pieces between the keys.
    ByKey(Vec<String>),
}

enum HttpClient {
    Plain(Client<Connector, Full<Bytes>>),
    Tls(Client<HttpsConnector<Connector>, Full<Bytes>>),
}

/// Why an attempt has no complete answer.
enum Broken {
    Client(hyper_util::client::legacy::Error),
    Answer(String),
    Timeout,
}

impl Webhook {
    /// Prepares a webhook; connects to nobody yet.
    ///
    /// # Errors
    /// A sentence for the operator: the URL cannot be used, a header is no header, or the system
    /// has no root certificates.
    pub fn open(options: &Options) -> Result<Webhook, String> {
        let (place, tls) = Place::parse(&options.url)?;
        let client = HttpClient::new(options, tls)?;
        let headers = own_headers(&options.auth)?;
        Ok(Webhook {
            veil: Veil::over_secrets_of(options, &headers),
            headers,
            place,
            client,
            options: options.clone(),
        })
    }

    /// Whether each entity has its own URL.
    pub fn by_key(&self) -> bool {
        matches!(self.place, Place::ByKey(_))
    }

    /// Makes one request with these items and says what came of each, in order. With `batched` they
    /// are wrapped in an array or lines even if there is only one; without, there must be exactly
    /// one. `now` stamps and signs the request.
    pub async fn deliver(
        &self,
        items: &[Item],
        batched: bool,
        trace: Trace,
        now: SystemTime,
    ) -> Vec<Outcome> {
        let request = match self.request(items, batched, trace, now) {
            Ok(request) => request,
            Err(reason) => {
                return vec![
                    Outcome::Refused {
                        reason,
                        after_tries: false
                    };
                    items.len()
                ];
            }
        };
        let asked = Asked {
            by_key: self.by_key(),
            delete: request.method() == Method::DELETE,
            items: items.len(),
        };
        let outcome = match self.exchange(request).await {
            Ok((parts, body)) => {
                let retry_after = parts
                    .headers
                    .get(RETRY_AFTER)
                    .and_then(|value| answer::retry_after(value.to_str().ok()?, now));
                let status = parts.status.as_u16();
                if batched
                    && parts.status.is_success()
                    && let Some(outcomes) =
                        answer::item_by_item(items.iter().map(|item| item.id), &body, &self.veil)
                {
                    return outcomes;
                }
                // Only what is no success is quoted.
                let body = if parts.status.is_success() {
                    Cow::Borrowed(body.as_slice())
                } else {
                    self.veil.over(&body)
                };
                answer::meaning(
                    asked,
                    Answer {
                        status,
                        retry_after,
                        body: &body,
                    },
                )
            }
            Err(broken) => broken.meaning(self.options.timeout),
        };
        vec![outcome; items.len()]
    }

    fn request(
        &self,
        items: &[Item],
        batched: bool,
        trace: Trace,
        now: SystemTime,
    ) -> Result<Request<Full<Bytes>>, String> {
        let first = items.first().ok_or("nothing to deliver")?;
        let (content_type, body) = match batched {
            true => body::batch(items, self.options.format),
            false => body::single(first, self.by_key()),
        };
        let id = if items.len() == 1 {
            first.id.to_string()
        } else {
            body::batch_id(items)
        };
        let seconds = now
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs();
        let method = match (&self.place, &first.rendering) {
            (Place::One(_), _) => Method::POST,
            (Place::ByKey(_), Some(_)) => Method::PUT,
            (Place::ByKey(_), None) => Method::DELETE,
        };
        let mut headers = self.headers.clone();
        let content_type = HeaderValue::from_str(&content_type)
            .map_err(|_| "the content type of the rendering is no header value")?;
        if method != Method::DELETE {
            headers.insert(CONTENT_TYPE, content_type);
        }
        let mut put = |name: &'static str, value: &str| {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(HeaderName::from_static(name), value);
            }
        };
        put("webhook-id", &id);
        put("webhook-timestamp", &seconds.to_string());
        if !self.options.sign.is_empty() {
            put(
                "webhook-signature",
                &signatures(&self.options.sign, &id, seconds, &body),
            );
        }
        put("traceparent", &trace.to_string());
        if let Some(plugin) = &first.plugin {
            put("weir-plugin", plugin);
        }
        if !batched {
            put("weir-entity", &entity_header(&first.entity));
            put("weir-sequence", &first.sequence.to_string());
        }
        let mut request = Request::new(Full::new(Bytes::from(body)));
        *request.method_mut() = method;
        *request.uri_mut() = self.place.uri(&first.key)?;
        *request.headers_mut() = headers;
        Ok(request)
    }

    /// Sends and reads to the end, within the timeout.
    async fn exchange(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<(hyper::http::response::Parts, Vec<u8>), Broken> {
        let exchange = async {
            let response = self.client.request(request).await.map_err(Broken::Client)?;
            read(response).await
        };
        tokio::time::timeout(self.options.timeout, exchange)
            .await
            .unwrap_or(Err(Broken::Timeout))
    }
}

/// The value of `webhook-signature`: one for each secret, separated by spaces, so that a secret can
/// be rotated. What is signed are the bytes that are sent, never a second serialisation of them.
fn signatures(secrets: &[Secret], id: &str, seconds: u64, body: &[u8]) -> String {
    secrets
        .iter()
        .map(|secret| signature::sign(secret, id, seconds, body))
        .collect::<Vec<_>>()
        .join(" ")
}

/// Reads an answer to its end; keeps its beginning.
async fn read(
    response: Response<hyper::body::Incoming>,
) -> Result<(hyper::http::response::Parts, Vec<u8>), Broken> {
    let (parts, mut body) = response.into_parts();
    let (mut kept, mut seen) = (Vec::new(), 0);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            Broken::Answer(format!(
                "the answer {} broke off: {}",
                parts.status.as_u16(),
                chain(&error)
            ))
        })?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        seen += data.len();
        if seen > ANSWER_BYTES_READ {
            return Err(Broken::Answer(format!(
                "the answer {} is longer than 1 MiB",
                parts.status.as_u16()
            )));
        }
        let room = ANSWER_BYTES_MAX - kept.len();
        kept.extend_from_slice(&data[..data.len().min(room)]);
    }
    Ok((parts, kept))
}

impl Broken {
    fn meaning(self, timeout: Duration) -> Outcome {
        let uncertain = |reason| Outcome::Retry {
            reason,
            after: None,
            maybe_applied: true,
        };
        match self {
            Broken::Timeout => uncertain(format!("no complete answer within {timeout:?}")),
            Broken::Answer(reason) => uncertain(reason),
            Broken::Client(error) => match connect::cause(&error) {
                Some(cause @ (ConnectError::Dns { .. } | ConnectError::Denied { .. })) => {
                    Outcome::Trip {
                        reason: cause.to_string(),
                    }
                }
                Some(cause @ ConnectError::Unreachable { .. }) => Outcome::Retry {
                    reason: cause.to_string(),
                    after: None,
                    maybe_applied: false,
                },
                // What fails while connecting and is not ours is the TLS handshake.
                None if error.is_connect() => Outcome::Trip {
                    reason: format!("TLS: {}", chain(&error)),
                },
                None => uncertain(format!("no answer: {}", chain(&error))),
            },
        }
    }
}

/// The innermost cause: the outer ones say only that something failed.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

/// `type/key`, percent-encoded.
fn entity_header(id: &EntityId) -> String {
    format!(
        "{}/{}",
        utf8_percent_encode(&id.entity_type, ENCODED),
        utf8_percent_encode(&id.key, ENCODED)
    )
}

impl Place {
    /// Reads the configured URL; the second part is whether it is `https`.
    fn parse(url: &str) -> Result<(Place, bool), String> {
        let complain = |why: &str| format!("the URL {url:?} cannot be used: {why}");
        let mut parsed = Url::parse(&url.replace("{key}", PLACEHOLDER))
            .map_err(|error| complain(&error.to_string()))?;
        parsed.set_fragment(None);
        if !matches!(parsed.scheme(), "http" | "https") {
            return Err(complain("only http and https are spoken"));
        }
        if !parsed.username().is_empty() || parsed.password().is_some() {
            return Err(complain("credentials belong into `auth`"));
        }
        if parsed
            .host_str()
            .is_none_or(|host| host.contains(PLACEHOLDER))
        {
            return Err(complain("`{key}` may stand in the path and the query only"));
        }
        let tls = parsed.scheme() == "https";
        let pieces: Vec<String> = parsed
            .as_str()
            .split(PLACEHOLDER)
            .map(str::to_owned)
            .collect();
        match pieces.as_slice() {
            [whole] => Ok((
                Place::One(
                    whole
                        .parse()
                        .map_err(|error| complain(&format!("{error}")))?,
                ),
                tls,
            )),
            _ => Ok((Place::ByKey(pieces), tls)),
        }
    }

    fn uri(&self, key: &str) -> Result<Uri, String> {
        match self {
            Place::One(uri) => Ok(uri.clone()),
            // Every server reads these as a step in the path, however they are encoded.
            Place::ByKey(_) if matches!(key, "" | "." | "..") => {
                Err(format!("the key {key:?} cannot stand in a URL"))
            }
            Place::ByKey(pieces) => {
                let text = pieces.join(&utf8_percent_encode(key, ENCODED).to_string());
                text.parse()
                    .map_err(|error| format!("the key cannot stand in a URL: {error}"))
            }
        }
    }
}

impl HttpClient {
    fn new(options: &Options, tls: bool) -> Result<HttpClient, String> {
        // Two thirds of the timeout, so that a second address still has its turn.
        let connector = Connector {
            egress: options.egress,
            timeout: CONNECT_MAX.min(options.timeout * 2 / 3),
        };
        let mut builder = Client::builder(TokioExecutor::new());
        builder
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_MAX)
            .pool_max_idle_per_host(64);
        if !tls {
            return Ok(HttpClient::Plain(builder.build(connector)));
        }
        let https = hyper_rustls::HttpsConnectorBuilder::new()
            .with_provider_and_native_roots(rustls::crypto::ring::default_provider())
            .map_err(|error| {
                format!(
                    "this system has no root certificates to check {} with: {error}",
                    options.url
                )
            })?;
        Ok(HttpClient::Tls(
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
            HttpClient::Plain(client) => client.request(request),
            HttpClient::Tls(client) => client.request(request),
        }
    }
}

/// The headers that every request has, with the credentials among them kept out of debug output.
pub(super) fn own_headers(auth: &Auth) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    headers.insert(
        USER_AGENT,
        HeaderValue::from_static(concat!("weir/", env!("CARGO_PKG_VERSION"))),
    );
    let mut put = |name: HeaderName, value: &[u8]| {
        let mut value = HeaderValue::from_bytes(value).map_err(|_| {
            format!("the value of header {name} has characters that cannot be sent")
        })?;
        value.set_sensitive(true);
        headers.insert(name, value);
        Ok::<_, String>(())
    };
    match auth {
        Auth::None => {}
        Auth::Bearer(token) => put(AUTHORIZATION, &[b"Bearer ", token.0.as_slice()].concat())?,
        Auth::Basic { user, password } => {
            let pair = [user.as_bytes(), b":", &password.0].concat();
            put(
                AUTHORIZATION,
                format!("Basic {}", STANDARD.encode(pair)).as_bytes(),
            )?;
        }
        Auth::Headers(list) => {
            for (name, value) in list {
                let name = HeaderName::from_bytes(name.as_bytes())
                    .map_err(|_| format!("{name:?} is no header name"))?;
                put(name, &value.0)?;
            }
        }
    }
    Ok(headers)
}

#[cfg(test)]
mod tests;
