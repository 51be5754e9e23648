//! The requests of a delivery and their answers, for somebody who looks at it while it is made.
//!
//! Only the task that makes an attempt within [`witness`] notes its requests; for all others nothing is
//! copied. Nothing is shown of a request but through the [`Redactor`] of its target.

use std::cell::RefCell;
use std::time::Duration;

use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use hyper::http::response::Parts;
use hyper::{Method, Request, StatusCode, Uri};
use tokio::time::Instant;

use super::redact::Redactor;
use super::transport::Broken;

tokio::task_local! {
    static NOTED: RefCell<Vec<Exchange>>;
}

/// Headers whose values prove who sent them.
const SECRET_HEADERS: [&str; 6] = [
    "authorization",
    "x-amz-security-token",
    "proxy-authorization",
    "cookie",
    "set-cookie",
    "webhook-signature",
];
/// Bytes that are kept of the body of an answer.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// Makes an attempt and returns its HTTP requests as well. Of a target that does not speak HTTP there are
/// none.
pub(crate) async fn witness<T>(attempt: impl Future<Output = T>) -> (T, Vec<Exchange>) {
    let noting = async {
        let made = attempt.await;
        (made, NOTED.with(RefCell::take))
    };
    NOTED.scope(RefCell::default(), noting).await
}

/// A request that is noted, and not answered yet.
pub(super) struct Noting {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    bytes: u64,
    began: Instant,
}

impl Noting {
    /// Notes a request, whose body has this length, if somebody looks.
    pub(super) fn begin<B>(request: &Request<B>, bytes: u64) -> Option<Noting> {
        let is_seen = NOTED.try_with(|_| ()).is_ok();
        is_seen.then(|| Noting {
            method: request.method().clone(),
            uri: request.uri().clone(),
            headers: request.headers().clone(),
            bytes,
            began: Instant::now(),
        })
    }

    /// It was answered, or it is known why it was not within this timeout.
    pub(super) fn end(
        self,
        exchanged: &Result<(Parts, Vec<u8>), Broken>,
        timeout: Duration,
        redactor: &Redactor,
    ) {
        let answer = match exchanged {
            Ok(answer) => Ok(answer),
            Err(Broken::TooLong(answer)) => Ok(&**answer),
            Err(broken) => Err(redactor.redact_text(broken.reason(timeout).as_bytes())),
        };
        let answer = answer.map(|(parts, body)| Answer {
            status: parts.status,
            headers: parts.headers.clone(),
            beginning: redactor.redact_beginning(body, ANSWER_BYTES_MAX),
            is_cut: body.len() > ANSWER_BYTES_MAX,
            bytes: body.len() as u64,
        });
        let exchange = Exchange {
            took: self.began.elapsed(),
            request: self,
            answer,
            redactor: redactor.clone(),
        };
        // Outside of `witness` it would not have begun.
        let _ = NOTED.try_with(|noted| noted.borrow_mut().push(exchange));
    }
}

/// A request, and its answer or why there is none.
pub(crate) struct Exchange {
    request: Noting,
    answer: Result<Answer, String>,
    took: Duration,
    redactor: Redactor,
}

/// An answer.
pub(crate) struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    /// The beginning of the body, without secrets.
    pub(crate) beginning: Vec<u8>,
    /// Whether there is more of it.
    pub(crate) is_cut: bool,
    /// The length of the whole body.
    pub(crate) bytes: u64,
}

impl Exchange {
    /// How long it took.
    pub(crate) fn took(&self) -> Duration {
        self.took
    }

    /// The method.
    pub(crate) fn method(&self) -> &str {
        self.request.method.as_str()
    }

    /// The URL, without secrets.
    pub(crate) fn url(&self) -> String {
        self.redactor.redact_url(&self.request.uri.to_string())
    }

    /// The headers, without secrets.
    pub(crate) fn headers(&self) -> Vec<(String, String)> {
        shown(&self.request.headers, &self.redactor)
    }

    /// The length of the body.
    pub(crate) fn bytes(&self) -> u64 {
        self.request.bytes
    }

    /// The answer, or why there is none.
    pub(crate) fn answer(&self) -> Result<&Answer, &str> {
        self.answer.as_ref().map_err(String::as_str)
    }

    /// The headers of an answer, without secrets.
    pub(crate) fn headers_of(&self, answer: &Answer) -> Vec<(String, String)> {
        shown(&answer.headers, &self.redactor)
    }
}

impl Answer {
    /// The status.
    pub(crate) fn status(&self) -> u16 {
        self.status.as_u16()
    }

    /// The media type.
    pub(crate) fn content_type(&self) -> Option<&str> {
        self.headers.get(CONTENT_TYPE)?.to_str().ok()
    }
}

impl std::fmt::Debug for Exchange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Exchange")
            .field("method", &self.method())
            .field("url", &self.url())
            .field("status", &self.answer().map(Answer::status))
            .finish_non_exhaustive()
    }
}

fn shown(headers: &HeaderMap, redactor: &Redactor) -> Vec<(String, String)> {
    let value = |name: &HeaderName, value: &HeaderValue| match value.is_sensitive()
        || SECRET_HEADERS.contains(&name.as_str())
    {
        true => "[secret]".to_owned(),
        false => redactor.redact_text(value.as_bytes()),
    };
    let headers = headers.iter();
    headers
        .map(|(name, it)| (name.as_str().to_owned(), value(name, it)))
        .collect()
}
