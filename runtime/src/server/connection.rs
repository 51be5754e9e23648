//! The lifecycle of a connection; each of its steps is bounded in time and bytes.
//!
//! A connection waits for a request (`idle_time`), receives a head (`head_time`), is served (the
//! handler bounds the body), or writes a response (`write_time` without progress). A response without
//! an end lives as long as its client takes it, and ends at once when Weir stops. Every response
//! with an error is a problem, also those that the HTTP library makes itself.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{HOST, HeaderMap, TRANSFER_ENCODING};
use axum::http::{self, Extensions, StatusCode, Version};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use hyper::body::{Body as _, Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::crowd::Place;
use super::problem::{self, Problem};
use super::pulse::{Endless, Phase, Pulse};
use super::socket::Socket;
use super::wire::BodyLength;
use super::{Backend, Limits};
use crate::plan::Front;

/// Maximum length of a request's head, in bytes. It is checked between reads, so a head that arrives
/// in one piece may be somewhat longer.
pub(super) const HEAD_BYTES_MAX: usize = 64 << 10;
/// How long bytes that a client still sends after its response are read and discarded. Closing a
/// socket with unread bytes resets the connection, and the client may then lose the response that
/// gives the reason (413).
const LINGER: Duration = Duration::from_secs(10);
/// The same, if the client sends nothing.
const LINGER_SILENT: Duration = Duration::from_secs(2);

/// The client's end of a connection, in the extensions of its requests.
#[derive(Clone, Debug)]
pub(super) struct Client {
    address: IpAddr,
    /// Whether its connection has one of the places that are kept for the operator.
    pub(super) in_kept_place: bool,
    pulse: Option<Arc<Pulse>>,
}

impl Client {
    /// The client of a request.
    pub(super) fn of(extensions: &Extensions) -> Client {
        extensions.get().cloned().unwrap_or(Client {
            address: Ipv4Addr::UNSPECIFIED.into(),
            in_kept_place: false,
            pulse: None,
        })
    }

    /// The address that it connects from, or for which a trusted proxy asks.
    pub(super) fn address(&self) -> IpAddr {
        self.address
    }

    /// Says that the handler waits for the rest of the body, or no longer does.
    pub(super) fn is_sending(&self, sending: bool) {
        if let Some(pulse) = &self.pulse {
            pulse.set(if sending {
                Phase::Receiving
            } else {
                Phase::Serving
            });
        }
    }
}

/// Why a connection is not served any longer.
enum Ended {
    /// Its client has closed it, or has sent what is no request.
    Over(hyper::Result<()>),
    /// Weir stops, and no response is under way.
    Stopped,
    /// Another connection needs its place.
    Displaced,
    /// Its phase took too long.
    Overdue,
}

impl Ended {
    /// The reason in words, unless its client has closed it or Weir stops.
    fn reason(&self, phase: Phase) -> Option<String> {
        let reason = match (self, phase) {
            (Ended::Over(Ok(())) | Ended::Stopped, _) => return None,
            (Ended::Over(Err(error)), _) => return Some(error.to_string()),
            (Ended::Displaced, _) => "another connection needed its place",
            (Ended::Overdue, Phase::Idle) => "no further request has come in time",
            (Ended::Overdue, Phase::Head) => "the head of a request has not come in time",
            (Ended::Overdue, _) => "its client has not taken the response in time",
        };
        Some(reason.to_owned())
    }
}

/// Serves one connection until it is closed.
pub(super) async fn serve(
    stream: Socket,
    address: IpAddr,
    place: &Place,
    router: Router,
    backend: Arc<dyn Backend>,
    limits: &Limits,
    stopping: CancellationToken,
) {
    let pulse = place.pulse.clone();
    let client = Client {
        address,
        in_kept_place: place.kept,
        pulse: Some(pulse.clone()),
    };
    let io = TokioIo::new(Watched {
        stream,
        pulse: pulse.clone(),
        refused: None,
    });
    let beat = pulse.clone();
    let service = service_fn(move |mut request: Request<Incoming>| {
        beat.serving(body_length(&request));
        let mut client = client.clone();
        client.address = sender(address, request.headers(), &backend.front());
        request.extensions_mut().insert(client);
        let (router, beat) = (router.clone(), beat.clone());
        let answering: Pin<
            Box<dyn Future<Output = Result<http::Response<Told>, Infallible>> + Send>,
        > = Box::pin(async move {
            let response = answer(router, request).await;
            beat.answering(response.extensions().get::<Endless>().is_some());
            Ok(response.map(|body| Told { body, beat }))
        });
        answering
    });
    let mut connection = http1::Builder::new();
    let mut connection = connection
        .header_read_timeout(None)
        .max_buf_size(HEAD_BYTES_MAX)
        .pipeline_flush(false)
        .serve_connection(io, service);

    let mut alarm = pin!(sleep_until(pulse.due().unwrap_or_else(Instant::now)));
    let mut stop = pin!(stopping.cancelled());
    let mut closed = pin!(pulse.closed());
    let mut stop_told = false;
    let ended = poll_fn(|cx| {
        if let Poll::Ready(done) = connection.poll_without_shutdown(cx) {
            return Poll::Ready(Ended::Over(done));
        }
        if !stop_told && stop.as_mut().poll(cx).is_ready() {
            stop_told = true;
            if pulse.is_free_to_stop() {
                return Poll::Ready(Ended::Stopped);
            }
            Pin::new(&mut connection).graceful_shutdown();
            if let Poll::Ready(done) = connection.poll_without_shutdown(cx) {
                return Poll::Ready(Ended::Over(done));
            }
        }
        if closed.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Ended::Displaced);
        }
        let Some(due) = pulse.due() else {
            return Poll::Pending;
        };
        // With each request the time ends later. To move the alarm each time would cost more than that
        // it rings too early now and then.
        if due < alarm.deadline() {
            alarm.as_mut().reset(due);
        }
        while alarm.as_mut().poll(cx).is_ready() {
            if due <= Instant::now() {
                return Poll::Ready(Ended::Overdue);
            }
            alarm.as_mut().reset(due);
        }
        Poll::Pending
    })
    .await;

    if let Some(reason) = ended.reason(pulse.phase()) {
        tracing::debug!(client = %address, reason, "a connection was closed by Weir");
    }
    if matches!(ended, Ended::Over(_)) && !stopping.is_cancelled() {
        // Its place may be needed by another one also now.
        tokio::select! {
            () = finish(connection.into_parts().io.into_inner(), limits) => {}
            () = closed => {}
        }
    }
}

/// Sends a last response if the HTTP library wanted to refuse the request, and closes the socket
/// without losing a response that is on its way.
async fn finish(mut watched: Watched, limits: &Limits) {
    if let Some(status) = watched.refused {
        let response = written(&refusal(status));
        let writing = watched.stream.write_all(&response);
        if !matches!(timeout(limits.write_time, writing).await, Ok(Ok(()))) {
            return;
        }
    }
    linger(watched.stream, limits.body_bytes_max).await;
}

/// The address of a request's sender. Each proxy appends to `X-Forwarded-For` from whom it has the request, so the last
/// address that is not that of a trusted proxy is the sender's: what comes before it, anybody may have written.
fn sender(peer: IpAddr, headers: &HeaderMap, front: &Front) -> IpAddr {
    let mut sender = peer;
    if !front.trusts(peer) {
        return sender;
    }
    let forwarded = headers.get_all("x-forwarded-for").iter().rev();
    let forwarded = forwarded.filter_map(|value| value.to_str().ok());
    for hop in forwarded.flat_map(|value| value.rsplit(',')) {
        let Some(address) = hop_address(hop.trim()) else {
            return sender;
        };
        sender = address;
        if !front.trusts(address) {
            return sender;
        }
    }
    sender
}

/// Some proxies write the port as well.
fn hop_address(hop: &str) -> Option<IpAddr> {
    let bare = |text: &str| text.parse().ok();
    let with_port = || hop.parse::<SocketAddr>().ok().map(|it| it.ip());
    let bracketed = || bare(hop.strip_prefix('[')?.strip_suffix(']')?);
    bare(hop).or_else(with_port).or_else(bracketed)
}

/// The router's response; a panic affects only this request.
async fn answer(router: Router, request: Request<Incoming>) -> Response {
    if let Err(problem) = one_host(request.version(), request.headers()) {
        return problem.into_response();
    }
    let mut answering = pin!(router.oneshot(request));
    let caught =
        poll_fn(
            |cx| match catch_unwind(AssertUnwindSafe(|| answering.as_mut().poll(cx))) {
                Ok(poll) => poll.map(Ok),
                Err(panic) => Poll::Ready(Err(panic)),
            },
        );
    match caught.await {
        Ok(Ok(response)) => problem::ensure(response),
        Ok(Err(never)) => match never {},
        Err(panic) => {
            let message = panic
                .downcast_ref::<&str>()
                .copied()
                .or_else(|| panic.downcast_ref::<String>().map(String::as_str));
            Problem::internal(format!(
                "a handler panicked: {}",
                message.unwrap_or("without a message")
            ))
            .into_response()
        }
    }
}

/// RFC 9112, 3.2. A proxy in front that takes another of two hosts would check another one than the
/// one that is used here.
fn one_host(version: Version, headers: &HeaderMap) -> Result<(), Problem> {
    match headers.get_all(HOST).iter().count() {
        1 => Ok(()),
        0 if version < Version::HTTP_11 => Ok(()),
        count => {
            let detail =
                format!("a request has exactly one header `Host`, and this one has {count}");
            Err(Problem::bad_request("bad-host", detail).closing())
        }
    }
}

fn body_length(request: &Request<Incoming>) -> BodyLength {
    if request.headers().contains_key(TRANSFER_ENCODING) {
        return BodyLength::Chunked;
    }
    BodyLength::Exact(request.body().size_hint().lower())
}

/// The problem of a request that the HTTP library did not understand.
fn refusal(status: StatusCode) -> Problem {
    match status {
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => {
            let detail = format!(
                "the head of the request has more than {HEAD_BYTES_MAX} bytes or more than 100 \
                 headers; send fewer or shorter ones"
            );
            Problem::new(status, "head-too-large", detail).with("limit_bytes", HEAD_BYTES_MAX)
        }
        StatusCode::URI_TOO_LONG => {
            let detail = "the path and query of the request are too long; use shorter parameters";
            Problem::new(status, "uri-too-long", detail)
        }
        _ => {
            let detail = "the request is not valid HTTP/1.1: its first line or a header is \
                          malformed (is this TLS on a port without TLS?)";
            Problem::new(status, "malformed-request", detail)
        }
    }
}

/// A problem as the bytes of a last response.
pub(super) fn written(problem: &Problem) -> Vec<u8> {
    let (status, body) = (problem.status(), problem.body());
    let head = format!(
        "HTTP/1.1 {} {}\r\ncontent-type: {}\r\ncontent-length: {}\r\nconnection: close\r\ndate: {}\r\n\r\n",
        status.as_u16(),
        status.canonical_reason().unwrap_or_default(),
        problem::CONTENT_TYPE_PROBLEM,
        body.len(),
        httpdate::fmt_http_date(SystemTime::now()),
    );
    [head.into_bytes(), body].concat()
}

/// Closes our half of the connection, then reads and discards for a while, up to `bytes_max`.
pub(super) async fn linger(mut stream: Socket, bytes_max: u64) {
    if stream.shutdown().await.is_err() {
        return;
    }
    let discard = async {
        let mut waste = vec![0; 16 << 10];
        let mut left = bytes_max;
        while left > 0 {
            match timeout(LINGER_SILENT, stream.read(&mut waste)).await {
                Ok(Ok(read @ 1..)) => left = left.saturating_sub(read as u64),
                _ => return,
            }
        }
    };
    // Either the client has closed its half too, or its time or its bytes are used up.
    let _ = timeout(LINGER, discard).await;
}

/// The body of a response that tells the pulse when the HTTP library is done with it: that drops it
/// as soon as it has all of it.
struct Told {
    body: Body,
    beat: Arc<Pulse>,
}

impl hyper::body::Body for Told {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        self.beat.finished();
    }
}

/// A socket that reports its activity to its pulse.
struct Watched {
    stream: Socket,
    pulse: Arc<Pulse>,
    /// The status with which the HTTP library wanted to refuse a malformed request by itself.
    refused: Option<StatusCode>,
}

impl Watched {
    /// Whether these bytes are a response that the HTTP library makes by itself, without a body:
    /// nothing has been served that it could belong to. It is not sent.
    fn keeps_back(&mut self, bytes: &[u8]) -> bool {
        if self.refused.is_none() && !self.pulse.is_waiting() {
            return false;
        }
        let status = bytes
            .strip_prefix(b"HTTP/1.1 ")
            .or_else(|| bytes.strip_prefix(b"HTTP/1.0 "));
        let status = status.and_then(|rest| StatusCode::from_bytes(rest.get(..3)?).ok());
        self.refused = self.refused.or(status);
        self.refused.is_some()
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        let bytes = &buffer.filled()[before..];
        if !bytes.is_empty() {
            self.pulse.read(bytes);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.keeps_back(bytes) {
            return Poll::Ready(Ok(bytes.len()));
        }
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes))?;
        self.pulse.wrote(written);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.keeps_back(bytes.first().map_or(&[][..], |first| first)) {
            return Poll::Ready(Ok(bytes.iter().map(|piece| piece.len()).sum()));
        }
        let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, bytes))?;
        self.pulse.wrote(written);
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// hyper flushes when it has written everything, so the response is out.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        self.pulse.flushed();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Whoever adds addresses of their own to the front of the header must not choose who they are.
    #[test]
    fn a_trusted_proxy_names_the_sender_and_nobody_else_does() {
        let front = Front {
            trusted_proxies: vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()],
            ..Front::default()
        };
        let who = |peer: &str, forwarded: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in forwarded {
                headers.append("x-forwarded-for", value.parse().expect("a value"));
            }
            sender(peer.parse().unwrap(), &headers, &front).to_string()
        };
        assert_eq!(who("10.0.0.1", &["203.0.113.9"]), "203.0.113.9");
        assert_eq!(who("203.0.113.8", &["203.0.113.9"]), "203.0.113.8");
        assert_eq!(who("10.0.0.1", &[]), "10.0.0.1");
        assert_eq!(
            who("10.0.0.1", &["1.1.1.1, 203.0.113.9, 10.2.0.1"]),
            "203.0.113.9"
        );
        assert_eq!(
            who("10.0.0.1", &["1.1.1.1", "203.0.113.9", "10.2.0.1"]),
            "203.0.113.9"
        );
        assert_eq!(who("10.0.0.1", &["1.1.1.1, unknown, 10.2.0.1"]), "10.2.0.1");
        assert_eq!(who("::ffff:10.0.0.1", &["203.0.113.9:4711"]), "203.0.113.9");
        assert_eq!(who("fd00::1", &["[2001:db8::7]:80"]), "2001:db8::7");
        assert_eq!(who("fd00::1", &["[2001:db8::7]"]), "2001:db8::7");
    }

    #[test]
    fn a_request_has_one_host() {
        let check = |version, hosts: &[&str]| {
            let mut headers = HeaderMap::new();
            for host in hosts {
                headers.append(HOST, host.parse().expect("a value"));
            }
            one_host(version, &headers).is_ok()
        };
        assert!(check(Version::HTTP_11, &["a"]));
        assert!(!check(Version::HTTP_11, &[]));
        assert!(!check(Version::HTTP_11, &["a", "a"]));
        assert!(check(Version::HTTP_10, &[]));
        assert!(!check(Version::HTTP_10, &["a", "b"]));
    }
}
