//! The HTTP client that all commands share: one connection, clear errors, and problems in the
//! server's own words.

mod events;

use std::time::Duration;

use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER};
use axum::http::response::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode};
use bytes::Bytes;
use clap::Args;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client as Pool;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::timeout;

pub(super) use self::events::Events;
use super::Failure;
use super::table::plain;
use crate::server::views::List;
use crate::targets::http::innermost;

/// The address of Weir unless one is given.
pub(super) const DEFAULT_URL: &str = "http://127.0.0.1:7700";
/// Limit for a whole request and its response; longer than the server allows for a body.
const TIME_MAX: Duration = Duration::from_secs(60);
/// The longest response, in bytes: a page of a thousand quarantined events with their data.
const RESPONSE_BYTES_MAX: usize = 1 << 30;
/// The most items asked for in one request.
const PAGE: usize = 1000;
/// Characters that are not percent-encoded in a path segment or a query value.
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// The Weir to talk to.
#[derive(Clone, Debug, Args)]
pub(super) struct Remote {
    /// The address of Weir
    #[arg(long, env = "WEIR_URL", default_value = DEFAULT_URL, value_name = "URL")]
    url: String,
    /// A token with the required role; prefer the environment, where other users cannot read it
    #[arg(long, env = "WEIR_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    token: Option<String>,
    /// Print the response as JSON
    #[arg(long)]
    pub(super) json: bool,
}

/// A connection to a running Weir.
pub struct Client {
    base: String,
    token: Option<HeaderValue>,
    pool: Transport,
    time_max: Duration,
}

enum Transport {
    Plain(Pool<HttpConnector, Full<Bytes>>),
    Tls(Pool<hyper_rustls::HttpsConnector<HttpConnector>, Full<Bytes>>),
}

/// A complete response.
pub struct Response {
    pub(super) status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Client {
    pub(super) fn new(remote: &Remote) -> Result<Client, Failure> {
        Client::at(&remote.url, remote.token.as_deref())
    }

    /// A client of the Weir at this URL.
    ///
    /// # Errors
    /// When the URL or the token cannot be used.
    pub fn at(base: &str, token: Option<&str>) -> Result<Client, Failure> {
        let bad = |why: String| Failure::Usage(format!("the URL `{base}` cannot be used: {why}"));
        let url = url::Url::parse(base).map_err(|error| bad(error.to_string()))?;
        let builder = Pool::builder(TokioExecutor::new());
        let pool = match url.scheme() {
            "http" => Transport::Plain(builder.build_http()),
            "https" => {
                let roots = hyper_rustls::HttpsConnectorBuilder::new().with_native_roots();
                let roots = roots.map_err(|error| {
                    Failure::Unreachable(format!(
                        "the system's certificates cannot be read: {error}"
                    ))
                })?;
                Transport::Tls(builder.build(roots.https_only().enable_http1().build()))
            }
            other => {
                return Err(bad(format!(
                    "it must start with http:// or https://, not {other}:"
                )));
            }
        };
        let token = token.filter(|token| !token.is_empty());
        Ok(Client {
            base: base.trim_end_matches('/').to_owned(),
            token: token.map(bearer).transpose()?,
            pool,
            time_max: TIME_MAX,
        })
    }

    /// The same, for a request that may take this long.
    pub(super) fn within(self, time_max: Duration) -> Client {
        Client { time_max, ..self }
    }

    /// Requests JSON; a problem is an error.
    ///
    /// # Errors
    /// When there is no response, or it reports a problem.
    pub async fn json(&self, method: Method, path: &str) -> Result<Value, Failure> {
        self.get_ok(method, path).await?.read()
    }

    /// Requests without a body; a problem is an error.
    ///
    /// # Errors
    /// When there is no response, or it reports a problem.
    pub async fn get_ok(&self, method: Method, path: &str) -> Result<Response, Failure> {
        let response = self.ask(method, path).await?;
        if response.status.is_success() {
            Ok(response)
        } else {
            Err(Failure::Failed(response.problem()))
        }
    }

    /// Requests without a body; returns the response whatever its status.
    pub(super) async fn ask(&self, method: Method, path: &str) -> Result<Response, Failure> {
        self.request(method, path, self.authorization(), Bytes::new())
            .await
    }

    /// The address.
    pub(super) fn base(&self) -> &str {
        &self.base
    }

    /// The items of a list, page by page, at most `limit`, and the `next` of the last page.
    pub async fn list<T: DeserializeOwned>(
        &self,
        path: &str,
        filters: &[(&str, Option<&str>)],
        limit: usize,
    ) -> Result<List<T>, Failure> {
        self.list_after(path, filters, None, limit).await
    }

    /// The same, of the items after this one.
    pub(super) async fn list_after<T: DeserializeOwned>(
        &self,
        path: &str,
        filters: &[(&str, Option<&str>)],
        after: Option<&str>,
        limit: usize,
    ) -> Result<List<T>, Failure> {
        let mut all = List {
            items: Vec::new(),
            next: after.map(str::to_owned),
        };
        while all.items.len() < limit {
            let page = (limit - all.items.len()).min(PAGE).to_string();
            let mut query = vec![
                ("limit", Some(page.as_str())),
                ("after", all.next.as_deref()),
            ];
            query.extend(filters);
            let page: List<T> = self
                .get_ok(Method::GET, &with_query(path, &query))
                .await?
                .read()?;
            all.items.extend(page.items);
            all.next = page.next;
            if all.next.is_none() {
                break;
            }
        }
        Ok(all)
    }

    /// Sends a request with these headers and no others, and waits for the complete response,
    /// whatever its status.
    pub(super) async fn request(
        &self,
        method: Method,
        path: &str,
        headers: Vec<(HeaderName, HeaderValue)>,
        body: Bytes,
    ) -> Result<Response, Failure> {
        let exchange = async {
            let (parts, body) = self.begin(method, path, headers, body).await?;
            let body = Limited::new(body, RESPONSE_BYTES_MAX).collect().await;
            let body = body.map_err(|error| {
                self.unreachable(&format!("the response was cut off: {error}"), false)
            })?;
            Ok(Response {
                status: parts.status,
                headers: parts.headers,
                body: body.to_bytes(),
            })
        };
        timeout(self.time_max, exchange)
            .await
            .unwrap_or_else(|_| Err(self.late()))
    }

    /// Sends a request and waits for the head of the response.
    async fn begin(
        &self,
        method: Method,
        path: &str,
        headers: Vec<(HeaderName, HeaderValue)>,
        body: Bytes,
    ) -> Result<(Parts, Incoming), Failure> {
        let url = format!("{}{path}", self.base);
        let mut request = Request::builder().method(method).uri(&url);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let request = request
            .body(Full::new(body))
            .map_err(|error| Failure::Usage(format!("the URL `{url}` cannot be used: {error}")))?;
        let response = match &self.pool {
            Transport::Plain(pool) => pool.request(request).await,
            Transport::Tls(pool) => pool.request(request).await,
        };
        let response =
            response.map_err(|error| self.unreachable(&innermost(&error), error.is_connect()))?;
        Ok(response.into_parts())
    }

    fn authorization(&self) -> Vec<(HeaderName, HeaderValue)> {
        let token = self.token.iter();
        token.map(|token| (AUTHORIZATION, token.clone())).collect()
    }

    fn late(&self) -> Failure {
        let seconds = self.time_max.as_secs();
        self.unreachable(&format!("no response within {seconds} s"), false)
    }

    fn unreachable(&self, why: &str, connecting: bool) -> Failure {
        let hint = if connecting {
            "; is Weir running? Set WEIR_URL or --url if it listens elsewhere"
        } else {
            ""
        };
        Failure::Unreachable(format!("could not reach {}: {why}{hint}", self.base))
    }
}

impl Response {
    /// The parsed body.
    ///
    /// # Errors
    /// When it is not of this type.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        serde_json::from_slice(&self.body).map_err(|error| {
            Failure::Unreachable(format!(
                "the server is not Weir, or another version of it: {error}"
            ))
        })
    }

    /// The problem that the server reports, in a sentence.
    pub(super) fn problem(&self) -> String {
        let Ok(problem) = serde_json::from_slice::<Value>(&self.body) else {
            return format!("the server responded with {}", self.status);
        };
        let text = |name: &str| problem.get(name).and_then(Value::as_str);
        let mut sentence = plain(
            text("detail")
                .or_else(|| text("title"))
                .unwrap_or(self.status.as_str()),
        );
        if let Some(seconds) = self
            .headers
            .get(RETRY_AFTER)
            .and_then(|value| value.to_str().ok())
        {
            sentence.push_str(&format!("; try again in {} s", plain(seconds)));
        }
        if self.status == StatusCode::UNAUTHORIZED
            && text("type").is_some_and(|name| name.contains("token"))
        {
            sentence.push_str(" (WEIR_TOKEN)");
        }
        format!("{sentence} ({})", self.status.as_u16())
    }

    /// Whether the server reports that there is no such thing: `entity`, `channel`, ….
    pub(super) fn is_unknown(&self, what: &str) -> bool {
        let problem = serde_json::from_slice::<Value>(&self.body).unwrap_or_default();
        let code = problem.get("type").and_then(Value::as_str);
        code.is_some_and(|code| code.ends_with(&format!(":unknown-{what}")))
    }

    /// Whether the body reports a problem.
    pub(super) fn is_problem(&self) -> bool {
        self.headers
            .get(CONTENT_TYPE)
            .is_some_and(|value| value.as_bytes().starts_with(b"application/problem+json"))
    }
}

/// `Authorization: Bearer …`
pub(super) fn bearer(secret: &str) -> Result<HeaderValue, Failure> {
    let value = HeaderValue::from_str(&format!("Bearer {secret}"));
    let mut value = value.map_err(|_| {
        Failure::Usage("a token has characters that cannot be sent in a header".into())
    })?;
    value.set_sensitive(true);
    Ok(value)
}

/// A path of segments, each percent-encoded.
pub fn path(segments: &[&str]) -> String {
    segments.iter().fold(String::new(), |path, segment| {
        path + "/" + &utf8_percent_encode(segment, UNRESERVED).to_string()
    })
}

/// A path with the parameters that are present.
pub(super) fn with_query(path: &str, parameters: &[(&str, Option<&str>)]) -> String {
    let mut result = path.to_owned();
    for (name, value) in parameters
        .iter()
        .filter_map(|(name, value)| Some((name, (*value)?)))
    {
        result.push(if result.contains('?') { '&' } else { '?' });
        result.push_str(&format!(
            "{name}={}",
            utf8_percent_encode(value, UNRESERVED)
        ));
    }
    result
}

/// The output of `--json`.
pub fn pretty(value: &impl Serialize) -> String {
    serde_json::to_string_pretty(value)
        .map_or_else(|error| format!("not JSON: {error}\n"), |text| text + "\n")
}
