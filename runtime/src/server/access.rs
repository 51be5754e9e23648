//! Authorization: tokens with roles, and two checks against web pages that an operator happens to
//! have open.
//!
//! A token is needed on admin routes as soon as one is configured or the listener can be reached
//! from other machines. Where none is needed, on loopback, the attacker is a web page in a browser
//! on the same machine, so
//!
//! 1. a request that changes something and carries an `Origin` is refused unless that origin is
//!    this very host;
//! 2. without tokens, the host must be an address or `localhost`: a name that was rebound to
//!    127.0.0.1 makes a foreign page look like this host, and is refused. (With tokens a page has
//!    nothing to show; a proxy in front may then use any name.)
//!
//! Senders of events are verified by their source, not here, and a token is no proof of theirs. On
//! loopback, where a source may go without verification, both checks therefore apply to senders
//! that are browsers, with tokens and without. Each action of an operator is logged once, here
//! ([`Operator`]).
//!
//! A browser shows a session in place of a token ([`super::sessions`]). It sends its cookie whoever
//! asks it to, so a change with a session must carry this host's own `Origin`.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{FromRequestParts, Request, State};
use axum::http::header::{AUTHORIZATION, HOST, HeaderMap, ORIGIN};
use axum::http::request::Parts;
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::connection::Client;
use super::problem::Problem;
use super::pulse::Endless;
use super::sessions::Sessions;
use super::state::{AppState, Reach};
use crate::plan::{Role, Token};

/// The right that a route needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// Anybody: health, readiness, and the description of the routes, which is the same everywhere.
    Open,
    /// Whoever the source verifies.
    Sender,
    /// Whoever the configuration of the feed names.
    Fetcher,
    /// Any page or program: the console, which shows nothing by itself, and signing in.
    Page,
    /// A token of this role or a higher one.
    Needs(Role),
}

/// Runs before every handler.
pub(super) async fn guard(
    State((state, access)): State<(Arc<AppState>, Access)>,
    mut request: Request,
    next: Next,
) -> Response {
    if access == Access::Sender && Client::of(request.extensions()).in_kept_place {
        let wait = Duration::from_secs(1);
        let detail = "this listener has as many connections as it may have, and the last ones take \
                      no events; nothing was taken, send it again in a moment";
        return Problem::busy(detail, wait).closing().into_response();
    }
    let tokens = state.backend.tokens();
    let checked = check(
        access,
        &tokens,
        &state.sessions,
        &state.reach(),
        request.method(),
        request.headers(),
    );
    match checked {
        Err(problem) => problem.into_response(),
        Ok(token) => {
            let changes = !request.method().is_safe();
            if changes && access != Access::Sender {
                let operator = Operator(token.map(|token| token.name.clone()));
                request.extensions_mut().insert(operator);
            }
            if !matches!(access, Access::Needs(_)) {
                return next.run(request).await;
            }
            let client = Client::of(request.extensions()).address();
            match state.answers.memory(client, changes) {
                Ok(memory) => {
                    let response = next.run(request).await;
                    // There is no end to wait for; the number of streams is bounded.
                    if response.extensions().get::<Endless>().is_some() {
                        return response;
                    }
                    state.answers.count(response, memory).await
                }
                Err(problem) => problem.into_response(),
            }
        }
    }
}

/// The operator who sent a request that changes something.
#[derive(Clone, Debug, Default)]
pub(super) struct Operator(Option<String>);

impl Operator {
    /// The operator with the token of this name.
    pub(super) fn named(name: &str) -> Operator {
        Operator(Some(name.to_owned()))
    }

    /// Logs an action with its subject and its result, and passes the result on.
    pub(super) fn did<T>(
        &self,
        action: &str,
        subject: &str,
        result: Result<T, Problem>,
    ) -> Result<T, Problem> {
        let who = self.0.as_deref().unwrap_or("no token needed");
        let result_code = result.as_ref().map_or_else(Problem::code, |_| "done");
        tracing::info!(
            who,
            action,
            subject,
            result = result_code,
            "operator action"
        );
        result
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Operator {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(parts.extensions.remove().unwrap_or_default())
    }
}

/// Whether the request may pass; returns its token, if one was needed.
pub(super) fn check<'a>(
    access: Access,
    tokens: &'a [Token],
    sessions: &Sessions,
    reach: &Reach,
    method: &Method,
    headers: &HeaderMap,
) -> Result<Option<&'a Token>, Problem> {
    let guarded = match access {
        // The handler knows the feed.
        Access::Open | Access::Fetcher => return Ok(None),
        Access::Sender => reach.private && is_browser(headers),
        Access::Page | Access::Needs(_) => true,
    };
    if guarded {
        same_origin(reach, method, headers)?;
        if reach.private && (tokens.is_empty() || access == Access::Sender) {
            local_host(headers)?;
        }
    }
    match access {
        Access::Needs(role) if needs_token(tokens, reach) => {
            authorize(role, tokens, sessions, method, headers).map(Some)
        }
        _ => Ok(None),
    }
}

/// Whether admin routes need a token.
pub(super) fn needs_token(tokens: &[Token], reach: &Reach) -> bool {
    !reach.private || !tokens.is_empty()
}

fn authorize<'a>(
    role: Role,
    tokens: &'a [Token],
    sessions: &Sessions,
    method: &Method,
    headers: &HeaderMap,
) -> Result<&'a Token, Problem> {
    if tokens.is_empty() {
        let detail = "this listener can be reached from other machines and no token is configured; add one under [tokens]";
        return Err(unauthorized("token-needed", detail, CHALLENGE));
    }
    let token = presented(headers, tokens, sessions)?;
    if !method.is_safe() && !headers.contains_key(AUTHORIZATION) && !headers.contains_key(ORIGIN) {
        let detail =
            "a change with a session needs the header `Origin`; programs send a token instead";
        return Err(Problem::new(
            StatusCode::FORBIDDEN,
            "foreign-origin",
            detail,
        ));
    }
    if token.role < role {
        let detail = format!(
            "this route needs the role `{}`; token `{}` has `{}`",
            role.name(),
            token.name,
            token.role.name()
        );
        return Err(Problem::new(StatusCode::FORBIDDEN, "role-needed", detail)
            .with("needs", role.name())
            .with("has", token.role.name()));
    }
    Ok(token)
}

/// How to authenticate.
const CHALLENGE: &str = r#"Bearer realm="weir""#;

fn unauthorized(code: &'static str, detail: &str, challenge: &'static str) -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, code, detail).challenge(challenge)
}

/// The token that a request presents, as a bearer or by its session. Never in the URL: that would be in
/// logs and histories.
pub(super) fn presented<'a>(
    headers: &HeaderMap,
    tokens: &'a [Token],
    sessions: &Sessions,
) -> Result<&'a Token, Problem> {
    let needed = || {
        let detail = "this route needs a token: Authorization: Bearer …";
        unauthorized("token-needed", detail, CHALLENGE)
    };
    let Some(authorization) = headers.get(AUTHORIZATION) else {
        return sessions.token(headers, tokens).ok_or_else(needed);
    };
    let secret = bearer(authorization.as_bytes()).ok_or_else(needed)?;
    find(tokens, secret).ok_or_else(token_unknown)
}

/// The problem of a token that is not configured.
pub(super) fn token_unknown() -> Problem {
    let challenge = r#"Bearer realm="weir", error="invalid_token""#;
    let detail = "this token is not one that is configured";
    unauthorized("token-unknown", detail, challenge)
}

/// The token with that secret, the one with the highest role if there are several. Constant time:
/// all tokens are compared, by their digests.
pub(super) fn find<'a>(tokens: &'a [Token], secret: &[u8]) -> Option<&'a Token> {
    let digest: [u8; 32] = Sha256::digest(secret).into();
    let mut found: Option<&Token> = None;
    for token in tokens {
        let equal = bool::from(token.sha256.ct_eq(&digest));
        if equal && found.is_none_or(|other| other.role < token.role) {
            found = Some(token);
        }
    }
    found
}

fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = value.split_at_checked(7)?;
    scheme
        .eq_ignore_ascii_case(b"bearer ")
        .then(|| rest.trim_ascii())
}

/// Whether a web page sent the request; programs that are not browsers send none of these.
fn is_browser(headers: &HeaderMap) -> bool {
    headers.contains_key(ORIGIN) || headers.contains_key("sec-fetch-site")
}

/// The first check. Programs that are not browsers send no `Origin`.
fn same_origin(reach: &Reach, method: &Method, headers: &HeaderMap) -> Result<(), Problem> {
    let Some(origin) = headers.get(ORIGIN).filter(|_| !method.is_safe()) else {
        return Ok(());
    };
    let origin = origin.to_str().ok();
    let authority = origin
        .and_then(|origin| origin.split_once("://"))
        .map(|(_, authority)| authority);
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    let is_public = origin.is_some() && origin == reach.origin.as_deref();
    if is_public || authority.is_some() && authority == host {
        return Ok(());
    }
    Err(Problem::new(
        StatusCode::FORBIDDEN,
        "foreign-origin",
        "web pages of other origins may not change anything here",
    ))
}

/// The second check.
pub(super) fn local_host(headers: &HeaderMap) -> Result<(), Problem> {
    let Some(host) = headers.get(HOST) else {
        return Ok(());
    };
    if host.to_str().is_ok_and(is_local) {
        return Ok(());
    }
    let detail = "this listener takes such a request under an address or `localhost` only, not under other host names, \
                  since web pages can make these point to it; use 127.0.0.1, or for admin routes configure a token";
    Err(Problem::new(StatusCode::FORBIDDEN, "foreign-host", detail))
}

fn is_local(host: &str) -> bool {
    if let Some(rest) = host.strip_prefix('[') {
        return rest
            .split_once(']')
            .is_some_and(|(address, _)| address.parse::<IpAddr>().is_ok());
    }
    let name = host.split_once(':').map_or(host, |(name, _port)| name);
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn private() -> Reach {
        Reach {
            private: true,
            origin: None,
        }
    }

    /// The result of a request on loopback without tokens: `passes`, or the code of the problem.
    fn meets(access: Access, method: Method, headers: &[(&str, &str)]) -> String {
        meets_with(&[], access, method, headers)
    }

    fn meets_with(
        tokens: &[Token],
        access: Access,
        method: Method,
        headers: &[(&str, &str)],
    ) -> String {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(
                axum::http::HeaderName::from_bytes(name.as_bytes()).unwrap(),
                HeaderValue::from_str(value).unwrap(),
            );
        }
        match check(
            access,
            tokens,
            &Sessions::default(),
            &private(),
            &method,
            &map,
        ) {
            Ok(_) => "passes".to_owned(),
            Err(problem) => problem.code().to_owned(),
        }
    }

    #[test]
    fn a_web_page_cannot_act_on_an_open_loopback_listener() {
        let operate = Access::Needs(Role::Operate);
        let (post, get) = (Method::POST, Method::GET);
        let page = ("origin", "http://evil.example");
        assert_eq!(
            meets(operate, post.clone(), &[("host", "127.0.0.1:7700")]),
            "passes"
        );
        assert_eq!(
            meets(operate, post.clone(), &[("host", "127.0.0.1:7700"), page]),
            "foreign-origin"
        );
        assert_eq!(
            meets(
                operate,
                post.clone(),
                &[("host", "127.0.0.1:7700"), ("origin", "null")]
            ),
            "foreign-origin"
        );
        assert_eq!(
            meets(
                operate,
                post.clone(),
                &[
                    ("host", "127.0.0.1:7700"),
                    ("origin", "http://127.0.0.1:7700")
                ]
            ),
            "passes"
        );
        assert_eq!(
            meets(
                operate,
                post.clone(),
                &[
                    ("host", "127.0.0.1:7700"),
                    ("origin", "http://127.0.0.1:9999")
                ]
            ),
            "foreign-origin"
        );
        assert_eq!(
            meets(operate, post.clone(), &[("host", "evil.example"), page]),
            "foreign-host",
            "a rebound name"
        );
        assert_eq!(
            meets(operate, get.clone(), &[("host", "evil.example:7700")]),
            "foreign-host"
        );
        for host in ["localhost", "LOCALHOST:7700", "[::1]:7700", "192.168.0.7"] {
            assert_eq!(
                meets(operate, get.clone(), &[("host", host)]),
                "passes",
                "{host}"
            );
        }
        assert_eq!(
            meets(operate, get, &[("host", "[evil]:7700")]),
            "foreign-host"
        );
        assert_eq!(
            meets(Access::Sender, post.clone(), &[("host", "weir.example")]),
            "passes",
            "a proxy in front of ingest"
        );
        assert_eq!(
            meets(
                Access::Sender,
                post.clone(),
                &[("host", "127.0.0.1:7700"), page]
            ),
            "foreign-origin"
        );
        assert_eq!(
            meets(Access::Sender, post, &[("host", "evil.example"), page]),
            "foreign-host"
        );
    }

    // A page whose name was rebound to 127.0.0.1 could post events to a source without `verify` as
    // soon as a token was configured, though no token is asked of senders.
    #[test]
    fn tokens_do_not_open_sources_to_web_pages() {
        let token = Token {
            name: "ops".into(),
            sha256: [7; 32],
            role: Role::Operate,
        };
        let post = |headers: &[(&str, &str)]| {
            meets_with(
                std::slice::from_ref(&token),
                Access::Sender,
                Method::POST,
                headers,
            )
        };
        let rebound = [
            ("host", "evil.example:7700"),
            ("origin", "http://evil.example:7700"),
        ];
        assert_eq!(post(&rebound), "foreign-host");
        let without_origin = [
            ("host", "evil.example:7700"),
            ("sec-fetch-site", "same-origin"),
        ];
        assert_eq!(post(&without_origin), "foreign-host");
        let other_page = [
            ("host", "127.0.0.1:7700"),
            ("origin", "http://evil.example"),
        ];
        assert_eq!(post(&other_page), "foreign-origin");
        let own_page = [
            ("host", "127.0.0.1:7700"),
            ("origin", "http://127.0.0.1:7700"),
        ];
        assert_eq!(post(&own_page), "passes");
        assert_eq!(
            post(&[("host", "weir.example")]),
            "passes",
            "a program behind a proxy"
        );
    }

    #[test]
    fn the_console_is_no_page_of_a_rebound_name() {
        let (get, post) = (Method::GET, Method::POST);
        let own = ("host", "127.0.0.1:7700");
        let evil = ("host", "evil.example:7700");
        assert_eq!(meets(Access::Page, get.clone(), &[own]), "passes");
        assert_eq!(meets(Access::Page, get, &[evil]), "foreign-host");
        let other_port = ("origin", "http://127.0.0.1:9999");
        assert_eq!(
            meets(Access::Page, post, &[own, other_port]),
            "foreign-origin"
        );
    }

    #[test]
    fn a_change_with_a_session_carries_this_host_s_origin() {
        let (sessions, tokens) = (
            Sessions::default(),
            [crate::server::fake::token(Role::Operate)],
        );
        let id = sessions.begin(&tokens[0]).unwrap();
        let meets = |method: Method, more: &[(&'static str, &str)]| {
            let cookie = format!("weir-7700={id}");
            let mut headers = HeaderMap::new();
            let all = [("host", "127.0.0.1:7700"), ("cookie", &*cookie)];
            for (name, value) in all.iter().chain(more) {
                headers.insert(*name, HeaderValue::from_str(value).unwrap());
            }
            let needs = Access::Needs(Role::Operate);
            check(needs, &tokens, &sessions, &private(), &method, &headers)
                .map_or_else(|problem| problem.code().to_owned(), |_| "passes".to_owned())
        };
        let origin = ("origin", "http://127.0.0.1:7700");
        assert_eq!(meets(Method::GET, &[]), "passes");
        assert_eq!(meets(Method::POST, &[origin]), "passes");
        assert_eq!(meets(Method::POST, &[]), "foreign-origin");
        let other_port = ("origin", "http://127.0.0.1:7701");
        assert_eq!(meets(Method::POST, &[other_port]), "foreign-origin");
        let wrong_bearer = ("authorization", "Bearer nobody");
        assert_eq!(meets(Method::GET, &[wrong_bearer]), "token-unknown");
    }

    #[test]
    fn the_highest_role_of_a_secret_counts() {
        let sha256: [u8; 32] = Sha256::digest(b"s3cret").into();
        let token = |name: &str, role| Token {
            name: name.into(),
            sha256,
            role,
        };
        let tokens = [
            token("a", Role::Read),
            token("b", Role::Admin),
            token("c", Role::Operate),
        ];
        assert_eq!(find(&tokens, b"s3cret").unwrap().name, "b");
        assert!(find(&tokens, b"s3cret ").is_none());
        assert!(find(&tokens, b"").is_none());
    }
}
