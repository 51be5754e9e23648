//! The response to a client when something is wrong: always `application/problem+json` (RFC 9457),
//! with a separate message for the log.
//!
//! The `type` is `urn:weir:problem:` and a code that does not change; programs branch on it. The
//! detail is a sentence a person can act on. It never contains payloads, secrets or internals of
//! the program; these go to the log, if anywhere.

use std::borrow::Cow;
use std::time::Duration;

use axum::body::Body;
use axum::http::header::{
    ALLOW, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, RETRY_AFTER, WWW_AUTHENTICATE,
};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value};

/// The media type of every error body.
pub const CONTENT_TYPE_PROBLEM: &str = "application/problem+json";
/// The prefix of the code in a `type`.
pub const TYPE_PREFIX: &str = "urn:weir:problem:";

/// An error response.
#[derive(Clone, Debug)]
pub struct Problem(Box<Inner>);

#[derive(Clone, Debug)]
struct Inner {
    status: StatusCode,
    code: Cow<'static, str>,
    detail: String,
    log: Option<String>,
    more: Map<String, Value>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Problem {
    /// A problem with a stable code in kebab-case and a sentence for the client.
    pub fn new(
        status: StatusCode,
        code: impl Into<Cow<'static, str>>,
        detail: impl Into<String>,
    ) -> Problem {
        let (code, detail) = (code.into(), detail.into());
        Problem(Box::new(Inner {
            status,
            code,
            detail,
            log: None,
            more: Map::new(),
            headers: Vec::new(),
        }))
    }

    /// 400: the request itself is wrong.
    pub fn bad_request(code: &'static str, detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::BAD_REQUEST, code, detail)
    }

    /// 400: this query parameter is wrong; it is named in the member `parameter` too.
    pub fn bad_parameter(name: &str, detail: impl std::fmt::Display) -> Problem {
        Problem::bad_request(
            "bad-parameter",
            format!("query parameter `{name}`: {detail}"),
        )
        .with("parameter", name)
    }

    /// 404: there is no such source, channel or entity.
    pub fn unknown(what: &str, name: &str) -> Problem {
        Problem::new(
            StatusCode::NOT_FOUND,
            format!("unknown-{what}"),
            format!("there is no {what} `{name}`"),
        )
    }

    /// 409: the request is not possible in the current state.
    pub fn conflict(code: &'static str, detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::CONFLICT, code, detail)
    }

    /// 413: the body is longer than `limit` bytes.
    pub fn too_large(limit: u64) -> Problem {
        let detail =
            format!("the body is longer than the limit of {limit} bytes; send it in parts");
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body-too-large", detail)
            .with("limit_bytes", limit)
    }

    /// 503: nothing was taken; try again after `wait`.
    pub fn busy(detail: impl Into<String>, wait: Duration) -> Problem {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "busy", detail).retry_after(wait)
    }

    /// 500: the client learns that the request failed; the reason goes to the log.
    pub fn internal(log: impl Into<String>) -> Problem {
        let detail = "Weir failed to handle the request; its log has the reason";
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail).logged(log)
    }

    /// Sets the message for the log, which may say more than the detail.
    pub fn logged(mut self, log: impl Into<String>) -> Problem {
        self.0.log = Some(log.into());
        self
    }

    /// One more member of the body.
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Problem {
        self.0.more.insert(name.to_owned(), value.into());
        self
    }

    /// Says first what has happened before it went wrong.
    pub fn after(mut self, done: &str) -> Problem {
        self.0.detail = format!("{done}: {}", self.0.detail);
        self
    }

    /// Says when to try again, in whole seconds, at least one.
    pub fn retry_after(self, wait: Duration) -> Problem {
        let seconds = wait.as_millis().div_ceil(1000).max(1);
        self.header(RETRY_AFTER, &seconds.to_string())
    }

    /// Says how to authenticate; goes with 401.
    pub fn challenge(self, challenge: &'static str) -> Problem {
        self.header(WWW_AUTHENTICATE, challenge)
    }

    /// Closes the connection after the response.
    pub fn closing(self) -> Problem {
        self.header(CONNECTION, "close")
    }

    /// The status of the response.
    pub fn status(&self) -> StatusCode {
        self.0.status
    }

    /// The stable code.
    pub(crate) fn code(&self) -> &str {
        &self.0.code
    }

    /// The sentence for the client.
    pub(crate) fn detail(&self) -> &str {
        &self.0.detail
    }

    fn header(mut self, name: HeaderName, value: &str) -> Problem {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.0.headers.push((name, value));
        }
        self
    }

    /// The JSON text of the response.
    pub(super) fn body(&self) -> Vec<u8> {
        let Inner {
            status,
            code,
            detail,
            more,
            ..
        } = &*self.0;
        let mut body = Map::new();
        body.insert("type".into(), format!("{TYPE_PREFIX}{code}").into());
        body.insert("title".into(), title(code).into());
        body.insert("status".into(), status.as_u16().into());
        body.insert("detail".into(), detail.as_str().into());
        for (name, value) in more {
            body.entry(name.as_str()).or_insert_with(|| value.clone());
        }
        Value::Object(body).to_string().into_bytes()
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (status, code) = (self.0.status, &*self.0.code);
        let log = self.0.log.as_deref().unwrap_or(&self.0.detail);
        if status.is_server_error() && status != StatusCode::SERVICE_UNAVAILABLE {
            tracing::error!(status = status.as_u16(), code, "a request failed: {log}");
        } else {
            tracing::debug!(
                status = status.as_u16(),
                code,
                "a request was rejected: {log}"
            );
        }
        let mut response = Response::new(Body::from(self.body()));
        *response.status_mut() = status;
        response.headers_mut().extend(self.0.headers);
        response
            .headers_mut()
            .insert(CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE_PROBLEM));
        response
    }
}

/// Turns an error response that is not a problem yet into one, for responses that the HTTP library
/// makes itself. Its headers are kept (`Allow`).
pub(super) fn ensure(response: Response) -> Response {
    let status = response.status();
    let is_problem = response
        .headers()
        .get(CONTENT_TYPE)
        .is_some_and(|value| value == CONTENT_TYPE_PROBLEM);
    if is_problem || !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let (mut parts, _) = response.into_parts();
    let problem = match status {
        StatusCode::METHOD_NOT_ALLOWED => {
            let allow = parts
                .headers
                .get(ALLOW)
                .and_then(|value| value.to_str().ok())
                .unwrap_or_default();
            Problem::new(
                status,
                "method-not-allowed",
                format!("this route takes {} only", allow.replace(',', " and ")),
            )
        }
        _ => {
            let reason = status.canonical_reason().unwrap_or("Error");
            Problem::new(
                status,
                reason.to_ascii_lowercase().replace(' ', "-"),
                reason,
            )
        }
    };
    let answer = problem.into_response();
    parts.headers.remove(CONTENT_LENGTH);
    parts.headers.extend(answer.headers().clone());
    Response::from_parts(parts, answer.into_body())
}

/// `unknown-source` → `Unknown source`.
fn title(code: &str) -> String {
    let words = code.replace('-', " ");
    let mut letters = words.chars();
    letters
        .next()
        .map(|first| first.to_uppercase().chain(letters).collect())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_says_what_it_is_and_keeps_the_log_to_itself() {
        let problem = Problem::unknown("source", "erp")
            .logged("secret of the house")
            .with("known", 3)
            .with("status", 999);
        let body: Value = serde_json::from_slice(&problem.body()).unwrap();
        let expected = serde_json::json!({
            "type": "urn:weir:problem:unknown-source", "title": "Unknown source", "status": 404,
            "detail": "there is no source `erp`", "known": 3,
        });
        assert_eq!(
            body, expected,
            "a member of its own never replaces one of the standard's"
        );
    }

    #[test]
    fn waiting_is_told_in_whole_seconds_and_never_as_none() {
        for (wait, told) in [(0, "1"), (1, "1"), (1000, "1"), (1001, "2"), (60_000, "60")] {
            let response = Problem::busy("later", Duration::from_millis(wait)).into_response();
            assert_eq!(response.headers()[RETRY_AFTER], told);
        }
    }
}
