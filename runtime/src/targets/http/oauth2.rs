//! OAuth2 tokens for requests: fetched when the first request needs one, renewed before they expire.
//!
//! One renewal runs at a time, and only for the token that a request has used: a request that meets a
//! newer token takes that. While the token endpoint cannot be reached, a token is used as long as it is
//! valid; then deliveries are held, because a lost token is never an entity's failure. The endpoint is
//! asked with the target's own TLS, proxy and egress policy.

mod replaced;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hyper::header::{
    ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, USER_AGENT,
};
use hyper::{Method, Request};
use serde_json::Value;
use tokio::time::Instant;

use self::replaced::Replaced;
use super::sent::Sent;
use super::transport::Transport;
use super::{Address, Redactor, hints, status};
use crate::signature::Secret;
use crate::sync::lock;
use crate::targets::Outcome;

/// A token is renewed this long before it expires, or a fifth of its life before, if that is shorter:
/// some endpoints give tokens of five minutes.
const MARGIN_MAX: Duration = Duration::from_secs(60);
/// The first wait after the token endpoint failed, and the longest one.
const WAIT_FIRST: Duration = Duration::from_secs(1);
const WAIT_MAX: Duration = Duration::from_secs(60);

/// How a target's tokens are obtained.
#[derive(Clone, Debug, PartialEq)]
pub struct OAuth2 {
    /// The token endpoint.
    pub token_url: Address,
    /// What is exchanged for a token.
    pub grant: Grant,
    /// The client's id.
    pub client_id: String,
    /// The client's secret.
    pub client_secret: Secret,
    /// Whether id and secret are in the body instead of a Basic header.
    pub in_body: bool,
    /// Whether the body is JSON instead of a form.
    pub json: bool,
    /// The scope, if one is asked for.
    pub scope: Option<String>,
    /// Further parameters, such as `audience`.
    pub extra: Vec<(String, String)>,
    /// The header that carries the token, in lower case.
    pub header: String,
    /// Written before the token, with its space.
    pub prefix: String,
}

/// What is exchanged for a token.
#[derive(Clone, Debug, PartialEq)]
pub enum Grant {
    /// The client's own credentials.
    ClientCredentials,
    /// A user's name and password.
    Password {
        /// The user name.
        username: String,
        /// The password.
        password: Secret,
    },
    /// A token that was given once. The endpoint may replace it with each answer; a replacement is
    /// kept over restarts, until another one is configured.
    RefreshToken(Secret),
}

impl OAuth2 {
    /// Everything in it that is secret.
    pub(super) fn secrets(&self) -> impl Iterator<Item = &Secret> {
        let grant = match &self.grant {
            Grant::ClientCredentials => None,
            Grant::Password { password, .. } => Some(password),
            Grant::RefreshToken(token) => Some(token),
        };
        std::iter::once(&self.client_secret).chain(grant)
    }
}

/// A token as it was given.
#[derive(Debug)]
pub(super) struct Token {
    value: HeaderValue,
    /// When it must be renewed, and when it expires; `None` if the endpoint did not say.
    until: Option<(Instant, Instant)>,
    /// Whether the target has accepted it. Expiry is sometimes answered with 403, which otherwise
    /// means that the client lacks a right.
    worked: std::sync::atomic::AtomicBool,
    /// Redacts it, with all other secrets of the target.
    pub(super) redactor: Redactor,
}

/// The tokens of a target.
pub(super) struct Tokens {
    options: OAuth2,
    header: HeaderName,
    transport: Transport,
    timeout: Duration,
    redactor: Redactor,
    current: Mutex<Option<Arc<Token>>>,
    /// The refresh token in place of the configured one.
    replaced: Option<Arc<Replaced>>,
    /// Held by the one who renews.
    renewal: tokio::sync::Mutex<Renewal>,
}

/// The state of renewals.
#[derive(Default)]
struct Renewal {
    failures: u32,
    /// The endpoint is not asked before this time; until then its last error holds.
    not_before: Option<(Instant, String)>,
}

impl Tokens {
    /// Tokens that are fetched when they are needed. `redactor` knows the secrets of the target.
    pub(super) fn new(
        options: OAuth2,
        transport: Transport,
        timeout: Duration,
        redactor: Redactor,
    ) -> Tokens {
        Tokens {
            header: HeaderName::from_bytes(options.header.as_bytes()).unwrap_or(AUTHORIZATION),
            replaced: Replaced::of(&options),
            options,
            transport,
            timeout,
            redactor,
            current: Mutex::default(),
            renewal: tokio::sync::Mutex::default(),
        }
    }

    /// The token for a request.
    ///
    /// # Errors
    /// [`Outcome::Trip`] if there is none: deliveries wait, and no attempt is counted.
    pub(super) async fn current(self: &Arc<Self>) -> Result<Arc<Token>, Outcome> {
        let token = lock(&self.current).clone();
        match token {
            Some(token) if token.until.is_none_or(|(renew, _)| Instant::now() < renew) => Ok(token),
            Some(token) => {
                let valid = token.until.is_some_and(|(_, end)| Instant::now() < end);
                match self.renewed(Some(&token)).await {
                    Err(_) if valid => Ok(token),
                    renewed => renewed,
                }
            }
            None => self.renewed(None).await,
        }
    }

    /// Tries whether there is a token, and returns a warning if that is not known. A refresh token is not
    /// exchanged for that: many endpoints end it, and the one in its place would be lost with this process.
    ///
    /// # Errors
    /// What is wrong, as a phrase.
    pub(super) async fn check(self: &Arc<Self>) -> Result<Vec<String>, String> {
        let Grant::RefreshToken(_) = &self.options.grant else {
            return self
                .current()
                .await
                .map(|_| Vec::new())
                .map_err(super::reason);
        };
        let shown = self.options.token_url.shown("[secret]");
        self.transport
            .reach(&self.options.token_url)
            .await
            .map_err(|error| format!("no token from {shown}: {error}"))?;
        Ok(vec![format!(
            "the refresh token for {shown} was not tried, because that may end it; a delivery shows whether it is valid"
        )])
    }

    /// A token that is not `used`: the current one if it is another, or a new one.
    ///
    /// # Errors
    /// As for [`Tokens::current`].
    pub(super) async fn renewed(
        self: &Arc<Self>,
        used: Option<&Arc<Token>>,
    ) -> Result<Arc<Token>, Outcome> {
        let mut renewal = self.renewal.lock().await;
        let current = lock(&self.current).clone();
        if let Some(current) = current
            && used.is_none_or(|used| !Arc::ptr_eq(used, &current))
        {
            return Ok(current);
        }
        if let Some((until, error)) = &renewal.not_before
            && Instant::now() < *until
        {
            return Err(self.held(error));
        }
        // In a task of its own, because a delivery may be given up: the endpoint may have replaced the
        // refresh token by then, and nobody would read its answer.
        let this = Arc::clone(self);
        let fetched = tokio::spawn(async move { this.fetch().await }).await;
        match fetched.unwrap_or_else(|error| Err((error.to_string(), None))) {
            Ok(token) => {
                renewal.failures = 0;
                renewal.not_before = None;
                let token = Arc::new(token);
                *lock(&self.current) = Some(token.clone());
                Ok(token)
            }
            Err((error, after)) => {
                let doubled = WAIT_FIRST * 2u32.saturating_pow(renewal.failures.min(6));
                renewal.failures += 1;
                let wait = after.unwrap_or(doubled).clamp(WAIT_FIRST, WAIT_MAX);
                let held = self.held(&error);
                renewal.not_before = Some((Instant::now() + wait, error));
                Err(held)
            }
        }
    }

    /// Puts a token on a request.
    pub(super) fn put(&self, token: &Token, request: &mut Request<Sent>) {
        request
            .headers_mut()
            .insert(self.header.clone(), token.value.clone());
    }

    /// See [`Replaced::to_bytes`].
    pub(super) fn refresh_token(&self) -> Option<Vec<u8>> {
        self.replaced.as_ref()?.to_bytes()
    }

    /// See [`Replaced::take`].
    pub(super) fn take_refresh_token(&self, kept: &[u8]) {
        if let Some(replaced) = &self.replaced {
            replaced.take(kept);
        }
    }

    fn held(&self, error: &str) -> Outcome {
        Outcome::Trip {
            reason: format!(
                "no token from {}: {error}",
                self.options.token_url.shown("[secret]")
            ),
        }
    }

    /// Asks the endpoint for a token.
    ///
    /// # Errors
    /// What is wrong, and how long the endpoint asks to wait.
    async fn fetch(&self) -> Result<Token, (String, Option<Duration>)> {
        // Another target may be exchanging the same refresh token, which ends with that.
        let turn = self.replaced.as_ref().map(|it| it.renewing.lock());
        let _turn = match turn {
            Some(turn) => match tokio::time::timeout(self.timeout, turn).await {
                Ok(turn) => Some(turn),
                Err(_) => return Err(("another target waits for it".to_owned(), None)),
            },
            None => None,
        };
        let asked = Instant::now();
        let refresh_token = self.replaced.as_ref().and_then(|it| it.token());
        let request = self
            .request(refresh_token.as_ref())
            .map_err(|error| (error, None))?;
        let answered = self.transport.exchange(request, self.timeout).await;
        let (parts, body) = answered.map_err(|broken| (broken.reason(self.timeout), None))?;
        let code = parts.status.as_u16();
        if !parts.status.is_success() {
            let after = parts
                .headers
                .get(RETRY_AFTER)
                .and_then(|value| value.to_str().ok())
                .and_then(|value| hints::retry_after(value, std::time::SystemTime::now()));
            let reason = self.refusal(code, &body, refresh_token.as_ref());
            return Err((reason, after));
        }
        let unreadable = |what: &str| (format!("answered {code} {what}"), None);
        let body: Value =
            serde_json::from_slice(&body).map_err(|_| unreadable("without JSON in its body"))?;
        // First of all, because the old one has ended even if the rest of the answer is of no use.
        if let Some(next) = body.get("refresh_token").and_then(Value::as_str)
            && !next.is_empty()
            && let Some(replaced) = &self.replaced
        {
            replaced.replace(next);
        }
        let token = body
            .get("access_token")
            .and_then(Value::as_str)
            .filter(|token| !token.is_empty())
            .ok_or_else(|| unreadable("without an access_token"))?;
        let mut value = HeaderValue::from_str(&format!("{}{token}", self.options.prefix))
            .map_err(|_| unreadable("with a token that a header cannot carry"))?;
        value.set_sensitive(true);
        let life = match body.get("expires_in") {
            Some(Value::Number(seconds)) => seconds.as_f64(),
            Some(Value::String(seconds)) => seconds.trim().parse().ok(),
            _ => None,
        };
        let life = life.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        // For a token that never expires some endpoints give a number beyond all clocks.
        let until = life.and_then(|life| {
            let margin = MARGIN_MAX.min(life / 5);
            Some((asked.checked_add(life - margin)?, asked.checked_add(life)?))
        });
        Ok(Token {
            value,
            until,
            worked: false.into(),
            redactor: self.redactor.with(token),
        })
    }

    fn request(&self, refresh_token: Option<&Secret>) -> Result<Request<Sent>, String> {
        let options = &self.options;
        let text = |secret: &Secret| String::from_utf8_lossy(&secret.0).into_owned();
        let mut parameters: Vec<(&str, String)> = Vec::new();
        match &options.grant {
            Grant::ClientCredentials => {
                parameters.push(("grant_type", "client_credentials".into()))
            }
            Grant::Password { username, password } => parameters.extend([
                ("grant_type", "password".into()),
                ("username", username.clone()),
                ("password", text(password)),
            ]),
            Grant::RefreshToken(token) => parameters.extend([
                ("grant_type", "refresh_token".into()),
                ("refresh_token", text(refresh_token.unwrap_or(token))),
            ]),
        }
        if options.in_body {
            parameters.push(("client_id", options.client_id.clone()));
            parameters.push(("client_secret", text(&options.client_secret)));
        }
        if let Some(scope) = &options.scope {
            parameters.push(("scope", scope.clone()));
        }
        let extra = options.extra.iter();
        parameters.extend(extra.map(|(name, value)| (name.as_str(), value.clone())));
        let (content_type, body) = match options.json {
            true => {
                let body = parameters
                    .into_iter()
                    .map(|(name, value)| (name.to_owned(), value.into()));
                let body = Value::Object(body.collect()).to_string();
                ("application/json", body)
            }
            false => ("application/x-www-form-urlencoded", form(&parameters)),
        };
        let mut request = Request::new(Sent::from(Bytes::from(body)));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = options.token_url.uri("")?;
        let headers = request.headers_mut();
        let agent = concat!("weir/", env!("CARGO_PKG_VERSION"));
        headers.insert(USER_AGENT, HeaderValue::from_static(agent));
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        if !options.in_body {
            let value = format!("Basic {}", self.basic());
            let mut value = HeaderValue::from_str(&value).map_err(|error| error.to_string())?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        Ok(request)
    }

    /// The client's credentials in a Basic header. RFC 6749, 2.3.1: id and secret are encoded as in a
    /// form first.
    fn basic(&self) -> String {
        let secret = String::from_utf8_lossy(&self.options.client_secret.0);
        let id = encoded(&self.options.client_id);
        STANDARD.encode(format!("{id}:{}", encoded(&secret)))
    }

    /// Why the endpoint gives no token, without the secrets that it was sent. Servers disagree on whether
    /// the parts of a Basic header are encoded, which only shows if they have special characters.
    fn refusal(&self, code: u16, body: &[u8], refresh_token: Option<&Secret>) -> String {
        let mut redactor = self.redactor.with(&self.basic());
        if let Some(token) = refresh_token {
            redactor = redactor.with(&String::from_utf8_lossy(&token.0));
        }
        let mut reason = status::describe(code, &redactor.redact(body));
        let options = &self.options;
        let special = |text: &str| encoded(text) != text;
        let basic = !options.in_body
            && (special(&options.client_id)
                || special(&String::from_utf8_lossy(&options.client_secret.0)));
        if basic && reason.contains("invalid_client") {
            reason.push_str(
                "; client_id or client_secret has special characters, which some servers do not decode: try client_auth = \"body\"",
            );
        }
        if matches!(options.grant, Grant::RefreshToken(_)) && reason.contains("invalid_grant") {
            reason.push_str(
                "; the refresh token is not valid any more: get a new one and write it into the configuration",
            );
        }
        reason
    }
}

impl Token {
    /// Whether this answer says that the token is not valid any more.
    pub(super) fn is_refused(&self, status: u16) -> bool {
        let worked = || self.worked.load(std::sync::atomic::Ordering::Relaxed);
        status == 401 || status == 403 && worked()
    }

    /// The target has accepted it.
    pub(super) fn worked(&self) {
        self.worked
            .store(true, std::sync::atomic::Ordering::Relaxed);
    }
}

fn form(parameters: &[(&str, String)]) -> String {
    let mut form = url::form_urlencoded::Serializer::new(String::new());
    for (name, value) in parameters {
        form.append_pair(name, value);
    }
    form.finish()
}

/// A text as it is encoded in a form.
fn encoded(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

#[cfg(test)]
mod tests;
