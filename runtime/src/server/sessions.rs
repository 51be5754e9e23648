//! Sessions of people who signed in with a token: a browser keeps a random id in a cookie, and never the
//! token itself.
//!
//! A session lasts as long as its token: when a reload removes the token, or changes its secret, the next
//! request of its sessions is answered 401. Its role is that of the token now. Sessions are in memory only,
//! so that a restart ends them.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use axum::http::header::{COOKIE, HOST, HeaderMap, ORIGIN};
use ring::rand::{SecureRandom, SystemRandom};
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use crate::plan::Token;
use crate::sync::lock;

/// How long a session lasts at most. A browser that is closed forgets it sooner.
const LASTS: Duration = Duration::from_secs(12 * 3600);
/// Sessions of one token; the oldest one makes room for a new one.
const OF_TOKEN_MAX: usize = 32;

/// The sessions of all listeners.
#[derive(Debug, Default)]
pub(super) struct Sessions(Mutex<HashMap<[u8; 32], Session>>);

#[derive(Debug)]
struct Session {
    /// The digest of its token's secret.
    token: [u8; 32],
    began: Instant,
}

impl Sessions {
    /// Begins a session. Returns its id; `None` if the system has no random numbers.
    pub(super) fn begin(&self, token: &Token) -> Option<String> {
        let mut id = [0; 32];
        SystemRandom::new().fill(&mut id).ok()?;
        let id = hex::encode(id);
        let mut sessions = lock(&self.0);
        sessions.retain(|_, session| session.began.elapsed() < LASTS);
        let of_token = sessions.iter().filter(|(_, it)| it.token == token.sha256);
        if of_token.clone().count() >= OF_TOKEN_MAX {
            let oldest = of_token.min_by_key(|(_, it)| it.began).map(|(id, _)| *id);
            oldest.map(|oldest| sessions.remove(&oldest));
        }
        let session = Session {
            token: token.sha256,
            began: Instant::now(),
        };
        sessions.insert(digest(&id), session);
        Some(id)
    }

    /// The token of the request's session, if it has one and the token is still configured.
    pub(super) fn token<'a>(&self, headers: &HeaderMap, tokens: &'a [Token]) -> Option<&'a Token> {
        let id = id(headers)?;
        let sessions = lock(&self.0);
        let session = sessions.get(&digest(id))?;
        if session.began.elapsed() >= LASTS {
            return None;
        }
        let same = tokens.iter().filter(|token| token.sha256 == session.token);
        same.max_by_key(|token| token.role)
    }

    /// Ends the request's session.
    pub(super) fn end(&self, headers: &HeaderMap) {
        if let Some(id) = id(headers) {
            lock(&self.0).remove(&digest(id));
        }
    }
}

/// What is kept of an id: who reads Weir's memory cannot use it.
fn digest(id: &str) -> [u8; 32] {
    Sha256::digest(id).into()
}

/// The header that gives a browser its session, or with an empty id takes it away. Cookies do not know
/// ports, so the port is in the name: two Weirs on one machine must not sign each other out.
pub(super) fn cookie(headers: &HeaderMap, id: &str) -> String {
    let ends = if id.is_empty() { "; Max-Age=0" } else { "" };
    let secure = if is_secure(headers) { "; Secure" } else { "" };
    let name = name(headers, !secure.is_empty());
    format!("{name}={id}; Path=/; HttpOnly; SameSite=Strict{secure}{ends}")
}

/// The id that the request carries. Which of the two names it has, only the page's scheme decides, and a
/// GET does not say that.
fn id(headers: &HeaderMap) -> Option<&str> {
    let names = [true, false].map(|secure| name(headers, secure));
    let cookies = headers.get_all(COOKIE).iter();
    let pairs = cookies
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='));
    let mut found = pairs.filter(|(name, _)| names.iter().any(|known| known == name));
    found.next().map(|(_, id)| id)
}

/// Safari does not take a `Secure` cookie, and so none whose name begins with `__Host-`, from
/// `http://localhost`.
fn name(headers: &HeaderMap, secure: bool) -> String {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    let port = host
        .and_then(|host| host.rsplit_once(':'))
        .map(|(_, port)| port)
        .filter(|port| !port.is_empty() && port.bytes().all(|digit| digit.is_ascii_digit()));
    let prefix = if secure { "__Host-" } else { "" };
    match port {
        Some(port) => format!("{prefix}weir-{port}"),
        None => format!("{prefix}weir"),
    }
}

/// Whether the page was loaded with TLS, which a proxy in front may have ended.
fn is_secure(headers: &HeaderMap) -> bool {
    headers
        .get(ORIGIN)
        .is_some_and(|origin| origin.as_bytes().starts_with(b"https://"))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;
    use crate::plan::Role;
    use crate::server::fake::token;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &str)| {
            let value = HeaderValue::from_str(value).unwrap();
            (axum::http::HeaderName::from_static(name), value)
        };
        pairs.iter().map(pair).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_lasts_as_long_as_its_token_and_half_a_day() {
        let (sessions, tokens) = (Sessions::default(), [token(Role::Operate)]);
        let id = sessions.begin(&tokens[0]).unwrap();
        let carried = headers(&[("cookie", &format!("a=b; weir={id}"))]);
        let role = |tokens: &[Token]| sessions.token(&carried, tokens).map(|token| token.role);
        assert_eq!(role(&tokens), Some(Role::Operate));
        let mut changed = tokens.clone();
        changed[0].role = Role::Read;
        assert_eq!(role(&changed), Some(Role::Read), "a reload changed it");
        assert_eq!(role(&[token(Role::Admin)]), None, "a reload removed it");
        tokio::time::advance(LASTS).await;
        assert_eq!(role(&tokens), None);
    }

    #[tokio::test(start_paused = true)]
    async fn sessions_are_bounded_and_the_oldest_makes_room() {
        let (sessions, tokens) = (Sessions::default(), [token(Role::Read)]);
        let mut ids = Vec::new();
        for _ in 0..=OF_TOKEN_MAX {
            ids.push(sessions.begin(&tokens[0]).unwrap());
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        let lives = |id: &String| {
            let carried = headers(&[("cookie", &format!("weir={id}"))]);
            sessions.token(&carried, &tokens).is_some()
        };
        assert!(!lives(&ids[0]));
        assert!(ids[1..].iter().all(lives));
        sessions.end(&headers(&[("cookie", &format!("weir={}", ids[3]))]));
        assert!(!lives(&ids[3]));
    }

    #[test]
    fn the_cookie_suits_the_scheme_and_the_port() {
        let with = |origin, host| cookie(&headers(&[("origin", origin), ("host", host)]), "7");
        assert_eq!(
            with("https://weir.example", "weir.example"),
            "__Host-weir=7; Path=/; HttpOnly; SameSite=Strict; Secure"
        );
        assert_eq!(
            with("http://127.0.0.1:7701", "127.0.0.1:7701"),
            "weir-7701=7; Path=/; HttpOnly; SameSite=Strict"
        );
        let found =
            |cookie, host| id(&headers(&[("cookie", cookie), ("host", host)])).map(str::len);
        assert_eq!(found("weir-7701=abc", "127.0.0.1:7701"), Some(3));
        assert_eq!(found("weir-7700=abc", "127.0.0.1:7701"), None);
        assert_eq!(found("__Host-weir=abc", "weir.example"), Some(3));
        assert_eq!(found("weir=abc", "[::1]"), Some(3));
    }
}
