//! `GET /v1/feeds/{channel}`: a small server of files, for fetchers that ask whether a feed has changed,
//! resume a download, and take it packed.
//!
//! It follows RFC 9110: validators are the digest of exactly these bytes and the time at which the content
//! last changed; conditions are checked in the order of that standard; a range of another generation is
//! never spliced into a download (`If-Range`). A response comes from one open file, whatever is published
//! meanwhile. `….gz` is a file of its own; the plain URL negotiates. A slow reader is cut off, and there is a
//! limit on readers.

use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::body::{Body, HttpBody};
use axum::extract::State;
use axum::http::header::{
    ACCEPT_ENCODING, ACCEPT_RANGES, AUTHORIZATION, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH,
    CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderMap, HeaderName, IF_MATCH, IF_MODIFIED_SINCE,
    IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, LAST_MODIFIED, RANGE, VARY,
};
use axum::http::{HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::access::local_host;
use super::backend::{Feed, FeedAccess, FeedForm, Generation};
use super::params::{Query, Segments};
use super::problem::Problem;
use super::state::AppState;

/// Downloads at the same time, on all listeners. A fetcher comes a few times a day.
const READERS_MAX: usize = 64;
/// Bytes that are read from the file at once.
const PIECE_BYTES: u64 = 128 << 10;
/// A reader that takes fewer bytes a second than this is cut off after the time that follows: it would hold
/// its place for days.
const BYTES_PER_SECOND_MIN: u64 = 1 << 10;
const SLOW_AFTER: Duration = Duration::from_secs(60);

static READERS: LazyLock<Arc<Semaphore>> = LazyLock::new(|| Arc::new(Semaphore::new(READERS_MAX)));

/// `GET /v1/feeds/{channel}` and `GET /v1/feeds/{channel}.gz`, and `HEAD` of both.
pub(super) async fn feed(
    State(state): State<Arc<AppState>>,
    Segments(name): Segments<String>,
    query: Query,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    query.end()?;
    // A channel may have a name that ends so.
    let (feed, packed) = match (state.backend.feed(&name), name.strip_suffix(".gz")) {
        (Err(unknown), Some(channel)) => match state.backend.feed(channel) {
            Ok(feed) => (feed, true),
            Err(_) => return Err(unknown),
        },
        (feed, _) => (feed?, false),
    };
    authorize(&feed.access, state.reach().private, &headers)?;
    let Feed { generation, .. } = feed;
    let Some(generation) = generation else {
        let detail = "the first generation of this feed has not been built yet; ask again later";
        return Err(
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "no-generation", detail)
                .retry_after(feed.retry_after),
        );
    };
    let encoded = !packed && prefers_gzip(&headers);
    let form = match packed || encoded {
        true => &generation.gzip,
        false => &generation.plain,
    };
    let answer = decide(&method, &headers, form, generation.modified);
    let mut response = match answer {
        Answer::PreconditionFailed => {
            let detail =
                "the feed is another one by now than `If-Match` or `If-Unmodified-Since` says";
            let problem = Problem::new(
                StatusCode::PRECONDITION_FAILED,
                "another-generation",
                detail,
            );
            return Err(problem);
        }
        Answer::NotModified => empty(StatusCode::NOT_MODIFIED),
        Answer::Unsatisfiable => {
            let detail = format!(
                "the feed has {} bytes, and the range begins behind them",
                form.length
            );
            let problem = Problem::new(StatusCode::RANGE_NOT_SATISFIABLE, "no-such-range", detail);
            let mut response = problem.into_response();
            set(
                &mut response,
                CONTENT_RANGE,
                format!("bytes */{}", form.length),
            );
            return Ok(response);
        }
        Answer::Whole => body(&method, form, 0, form.length, StatusCode::OK)?,
        Answer::Part { first, length } => {
            let mut response = body(&method, form, first, length, StatusCode::PARTIAL_CONTENT)?;
            let range = format!("bytes {first}-{}/{}", first + length - 1, form.length);
            set(&mut response, CONTENT_RANGE, range);
            response
        }
    };
    describe(&mut response, &generation, form, packed, encoded);
    Ok(response)
}

/// The headers that each answer about a generation has.
fn describe(
    response: &mut Response,
    generation: &Generation,
    form: &FeedForm,
    packed: bool,
    encoded: bool,
) {
    set(response, ETAG, form.etag.clone());
    let modified = httpdate::fmt_http_date(generation.modified);
    set(response, LAST_MODIFIED, modified);
    // Fetchers may keep it and must ask whether it is still the newest.
    set(response, CACHE_CONTROL, "no-cache".to_owned());
    if !packed {
        set(response, VARY, "accept-encoding".to_owned());
    }
    if response.status() == StatusCode::NOT_MODIFIED {
        return;
    }
    set(response, ACCEPT_RANGES, "bytes".to_owned());
    let content_type = match packed {
        true => "application/gzip".to_owned(),
        false => generation.content_type.clone(),
    };
    set(response, CONTENT_TYPE, content_type);
    if encoded {
        set(response, CONTENT_ENCODING, "gzip".to_owned());
    }
}

fn set(response: &mut Response, name: HeaderName, value: String) {
    if let Ok(value) = HeaderValue::from_str(&value) {
        response.headers_mut().insert(name, value);
    }
}

fn empty(status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

// -- who
// ------------------------------------------------------------------------------------------------

/// Whether the feed may be fetched with these headers.
fn authorize(access: &FeedAccess, private: bool, headers: &HeaderMap) -> Result<(), Problem> {
    let FeedAccess::Basic { user, password } = access else {
        return match (access, private) {
            (FeedAccess::Open, _) => Ok(()),
            // A page in a browser on this machine must not read it under a name of its own.
            (_, true) => local_host(headers),
            (_, false) => Err(Problem::new(
                StatusCode::FORBIDDEN,
                "feed-not-served",
                "this feed is served on this machine only, because its configuration does not say who may fetch it (`serve`)",
            )),
        };
    };
    let given = headers.get(AUTHORIZATION).and_then(|value| {
        let (scheme, rest) = value.as_bytes().split_at_checked(6)?;
        let basic = scheme.eq_ignore_ascii_case(b"basic ");
        basic.then(|| BASE64.decode(rest.trim_ascii()).ok())?
    });
    // Digests are compared, so that neither a length nor the first difference shows.
    let digest = |text: &[u8]| -> [u8; 32] { Sha256::digest(text).into() };
    let expected = [user.as_bytes(), b":", password].concat();
    let same = |given: Vec<u8>| bool::from(digest(&given).ct_eq(&digest(&expected)));
    if given.is_some_and(same) {
        return Ok(());
    }
    let detail = "this feed needs its user and password (basic authentication)";
    let problem = Problem::new(StatusCode::UNAUTHORIZED, "feed-credentials-needed", detail);
    Err(problem.challenge(r#"Basic realm="weir feeds", charset="UTF-8""#))
}

/// Whether a client wants a packed form: it names gzip, at least as much as no coding.
pub(super) fn prefers_gzip(headers: &HeaderMap) -> bool {
    let (mut gzip, mut identity, mut any) = (None, None, None);
    for value in headers.get_all(ACCEPT_ENCODING) {
        for part in value.to_str().unwrap_or_default().split(',') {
            let mut parts = part.split(';');
            let coding = parts.next().unwrap_or_default().trim().to_ascii_lowercase();
            let quality = parts.find_map(|it| it.trim().strip_prefix("q=")?.trim().parse().ok());
            let quality: f32 = quality.unwrap_or(1.0);
            match coding.as_str() {
                "gzip" | "x-gzip" => gzip = Some(quality),
                "identity" => identity = Some(quality),
                "*" => any = Some(quality),
                _ => {}
            }
        }
    }
    let gzip = gzip.or(any).unwrap_or(0.0);
    gzip > 0.0 && gzip >= identity.unwrap_or(0.0)
}

// -- what
// ------------------------------------------------------------------------------------------------

/// The answer to a request that may fetch.
#[derive(Debug, PartialEq)]
enum Answer {
    Whole,
    Part { first: u64, length: u64 },
    NotModified,
    PreconditionFailed,
    Unsatisfiable,
}

/// RFC 9110, 13.2.2 and 14.2.
fn decide(method: &Method, headers: &HeaderMap, form: &FeedForm, modified: SystemTime) -> Answer {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    // The times of HTTP have whole seconds.
    let seconds = |time: SystemTime| time.duration_since(UNIX_EPOCH).map_or(0, |it| it.as_secs());
    let modified = seconds(modified);
    let date = |name| {
        let value = httpdate::parse_http_date(text(name)?).ok()?;
        Some(seconds(value))
    };
    let lists = |name, weak: bool| {
        let mut all = headers.get_all(name).iter();
        all.any(|value| {
            value
                .to_str()
                .is_ok_and(|list| matches(list, &form.etag, weak))
        })
    };
    if headers.contains_key(IF_MATCH) {
        if !lists(IF_MATCH, false) {
            return Answer::PreconditionFailed;
        }
    } else if date(IF_UNMODIFIED_SINCE).is_some_and(|since| modified > since) {
        return Answer::PreconditionFailed;
    }
    if headers.contains_key(IF_NONE_MATCH) {
        if lists(IF_NONE_MATCH, true) {
            return Answer::NotModified;
        }
    } else if date(IF_MODIFIED_SINCE).is_some_and(|since| modified <= since) {
        return Answer::NotModified;
    }
    let Some(range) = text(RANGE).filter(|_| method == Method::GET) else {
        return Answer::Whole;
    };
    if let Some(condition) = headers.get(IF_RANGE) {
        let condition = condition.to_str().unwrap_or_default().trim();
        let same = match condition.starts_with(['"', 'W']) && condition.contains('"') {
            true => condition == form.etag,
            false => httpdate::parse_http_date(condition).is_ok_and(|at| seconds(at) == modified),
        };
        if !same {
            return Answer::Whole;
        }
    }
    part(range, form.length)
}

/// Whether a list of entity tags has this one.
fn matches(list: &str, etag: &str, weak: bool) -> bool {
    list.split(',').map(str::trim).any(|tag| {
        tag == "*" || tag == etag || weak && tag.strip_prefix("W/").is_some_and(|tag| tag == etag)
    })
}

/// The range that a request asks for. One that is malformed, of another unit, or of several parts is
/// ignored.
fn part(range: &str, length: u64) -> Answer {
    let (unit, spec) = range.split_once('=').unwrap_or_default();
    let number = |text: &str| match text.bytes().all(|byte| byte.is_ascii_digit()) {
        true if !text.is_empty() => Some(text.parse::<u64>().unwrap_or(u64::MAX)),
        _ => None,
    };
    let bounds = spec.trim().split_once('-');
    let Some((first, last)) = bounds.filter(|_| unit.trim().eq_ignore_ascii_case("bytes")) else {
        return Answer::Whole;
    };
    let (first, last) = match (number(first.trim()), number(last.trim())) {
        (None, Some(0)) => return Answer::Unsatisfiable,
        (None, Some(count)) if first.trim().is_empty() => {
            if length == 0 {
                return Answer::Unsatisfiable;
            }
            (length.saturating_sub(count), length - 1)
        }
        (Some(first), None) if last.trim().is_empty() => (first, u64::MAX),
        (Some(first), Some(last)) if first <= last => (first, last),
        _ => return Answer::Whole,
    };
    if first >= length {
        return Answer::Unsatisfiable;
    }
    let last = last.min(length - 1);
    Answer::Part {
        first,
        length: last - first + 1,
    }
}

// -- the body
// ------------------------------------------------------------------------------------------------

fn body(
    method: &Method,
    form: &FeedForm,
    first: u64,
    length: u64,
    status: StatusCode,
) -> Result<Response, Problem> {
    let body = if method == Method::HEAD {
        Body::empty()
    } else {
        let Ok(place) = READERS.clone().try_acquire_owned() else {
            let detail =
                format!("{READERS_MAX} downloads of feeds are in progress; ask again later");
            return Err(Problem::busy(detail, Duration::from_secs(30)));
        };
        Body::new(Pieces {
            file: form.file.clone(),
            at: first,
            left: length,
            taken: 0,
            began: Instant::now(),
            reading: None,
            _place: place,
        })
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    set(&mut response, CONTENT_LENGTH, length.to_string());
    Ok(response)
}

/// A part of a file, read piece by piece as its reader takes it. An error ends the connection, so that the
/// reader sees that the file is not whole.
struct Pieces {
    file: Arc<std::fs::File>,
    at: u64,
    left: u64,
    taken: u64,
    began: Instant,
    reading: Option<JoinHandle<std::io::Result<Bytes>>>,
    _place: OwnedSemaphorePermit,
}

impl Pieces {
    fn is_too_slow(&self) -> bool {
        let time = self.began.elapsed();
        time > SLOW_AFTER && self.taken < BYTES_PER_SECOND_MIN * time.as_secs()
    }
}

impl HttpBody for Pieces {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        if self.is_too_slow() {
            let error = std::io::Error::other("the reader of a feed is too slow");
            return Poll::Ready(Some(Err(error)));
        }
        if self.reading.is_none() {
            let (file, at, length) = (self.file.clone(), self.at, self.left.min(PIECE_BYTES));
            self.reading = Some(tokio::task::spawn_blocking(move || {
                let mut piece = vec![0; length as usize];
                file.read_exact_at(&mut piece, at)?;
                Ok(piece.into())
            }));
        }
        let Some(reading) = self.reading.as_mut() else {
            return Poll::Ready(None);
        };
        let read = ready!(Pin::new(reading).poll(cx)).map_err(std::io::Error::other);
        self.reading = None;
        Poll::Ready(Some(read.flatten().map(|piece: Bytes| {
            let length = piece.len() as u64;
            self.at += length;
            self.left -= length.min(self.left);
            self.taken += length;
            Frame::data(piece)
        })))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

#[cfg(test)]
mod tests;
