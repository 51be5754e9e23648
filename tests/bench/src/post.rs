//! The load generator: connections that post a request, wait for its response, and post the next.
//!
//! It runs on one thread of its own, so that its processor time can be separated from Weir's, and
//! uses plain HTTP/1.1 over loopback. Any response other than a `202` for all events ends it with
//! an error, so that only accepted events are measured.

use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::clock;
use weir::inside::server::views::Accepted;

/// Maximum time for a response; a later one ends the measurement.
const PATIENCE: Duration = Duration::from_secs(60);
/// Default number of connections that post at the same time.
pub(super) const CONNECTIONS: usize = 4;
/// The media type of changes, one per line.
pub(super) const NDJSON: &str = "application/x-ndjson";

/// A request to be filled in. Its body is empty at first.
pub(super) struct Request {
    /// The source that it is sent to.
    pub(super) source: &'static str,
    /// Media type of the body.
    pub(super) content_type: &'static str,
    /// The lane of its changes; `None` for the facet's own.
    pub(super) lane: Option<&'static str>,
    /// Events in the body.
    pub(super) events: u64,
    /// The events.
    pub(super) body: Vec<u8>,
}

/// The result of a load.
pub(super) struct Tally {
    pub(super) requests: u64,
    pub(super) events: u64,
    /// Total bytes of the bodies.
    pub(super) bytes: u64,
    pub(super) committed: u64,
    pub(super) unchanged: u64,
    pub(super) stale: u64,
    /// Times from before sending a request until its response was read, in microseconds.
    pub(super) latency: Histogram<u64>,
    /// When the first request was sent.
    pub(super) started: Instant,
    /// Time from the first request to the last response.
    pub(super) wall: Duration,
    /// Processor time of the generator.
    pub(super) cpu: Duration,
}

impl Tally {
    fn new() -> Tally {
        let latency =
            Histogram::new_with_bounds(1, 60_000_000, 3).expect("these bounds are in order");
        let (started, wall, cpu) = (Instant::now(), Duration::ZERO, Duration::ZERO);
        Tally {
            requests: 0,
            events: 0,
            bytes: 0,
            committed: 0,
            unchanged: 0,
            stale: 0,
            latency,
            started,
            wall,
            cpu,
        }
    }

    fn add(&mut self, other: &Tally) {
        self.requests += other.requests;
        self.events += other.events;
        self.bytes += other.bytes;
        self.committed += other.committed;
        self.unchanged += other.unchanged;
        self.stale += other.stale;
        self.latency.add(&other.latency).expect("the same bounds");
    }

    fn note(&mut self, accepted: &Accepted, bytes: usize, took: Duration) {
        self.latency
            .saturating_record(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
        self.requests += 1;
        self.events += accepted.events.accepted;
        self.bytes += bytes as u64;
        self.committed += accepted.changes.committed;
        self.unchanged += accepted.changes.unchanged;
        self.stale += accepted.changes.stale;
    }

    /// Events per second.
    pub(super) fn rate(&self) -> f64 {
        self.events as f64 / self.wall.as_secs_f64().max(1e-6)
    }
}

/// Posts the requests that `write` fills in, on a new thread with a number of connections, and
/// waits until it ends. `write` gets the number of the request, counted over all connections, and
/// the number of its connection. It returns false when there is nothing more to post.
///
/// # Errors
/// The first response that is not a `202` for all events.
pub(super) fn post<W>(to: SocketAddr, connections: usize, write: W) -> Result<Tally, String>
where
    W: Fn(usize, usize, &mut Request) -> bool + Send + Sync + 'static,
{
    let generator = std::thread::Builder::new()
        .name("generator".into())
        .spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(text)?;
            let mut tally = runtime.block_on(all(to, connections.max(1), Arc::new(write)))?;
            tally.cpu = clock::thread_cpu();
            Ok(tally)
        });
    generator
        .map_err(text)?
        .join()
        .map_err(|_| "the load generator panicked".to_owned())?
}

async fn all<W>(to: SocketAddr, connections: usize, write: Arc<W>) -> Result<Tally, String>
where
    W: Fn(usize, usize, &mut Request) -> bool + Send + Sync + 'static,
{
    let (next, mut tally, mut open) = (Arc::new(AtomicUsize::new(0)), Tally::new(), JoinSet::new());
    for number in 0..connections {
        let (write, next) = (write.clone(), next.clone());
        open.spawn(async move {
            let (mut connection, mut tally) = (Connection::open(to).await?, Tally::new());
            let mut request = Request {
                source: "",
                content_type: NDJSON,
                lane: None,
                events: 0,
                body: Vec::new(),
            };
            loop {
                request.body.clear();
                if !write(next.fetch_add(1, Ordering::Relaxed), number, &mut request) {
                    return Ok::<_, String>(tally);
                }
                let sent = Instant::now();
                let accepted = connection.post(&request).await?;
                tally.note(&accepted, request.body.len(), sent.elapsed());
            }
        });
    }
    while let Some(done) = open.join_next().await {
        tally.add(&done.map_err(text)??);
    }
    tally.wall = tally.started.elapsed();
    Ok(tally)
}

/// A connection that is kept alive.
pub(super) struct Connection {
    stream: TcpStream,
    request: Vec<u8>,
    answer: Vec<u8>,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// The system's error, as a sentence.
    pub(super) async fn open(to: SocketAddr) -> Result<Connection, String> {
        let stream = TcpStream::connect(to).await.map_err(text)?;
        stream.set_nodelay(true).map_err(text)?;
        Ok(Connection {
            stream,
            request: Vec::new(),
            answer: Vec::new(),
        })
    }

    /// Posts a request and reads its response.
    ///
    /// # Errors
    /// The response, if it is not a `202` for all events.
    pub(super) async fn post(&mut self, request: &Request) -> Result<Accepted, String> {
        let Request {
            source,
            content_type,
            lane,
            events,
            body,
        } = request;
        let lane = lane.map(|lane| format!("?lane={lane}")).unwrap_or_default();
        let length = body.len();
        let head = format!(
            "POST /v1/sources/{source}/events{lane} HTTP/1.1\r\nhost: bench\r\ncontent-type: {content_type}\r\ncontent-length: {length}\r\n\r\n"
        );
        self.request.clear();
        self.request.extend_from_slice(head.as_bytes());
        self.request.extend_from_slice(body);
        let body = self.exchange("202").await?;
        let accepted: Accepted = serde_json::from_slice(&self.answer[body]).map_err(text)?;
        if accepted.events.accepted != *events {
            return Err(format!(
                "not all {events} events of {source} were accepted: {accepted:?}"
            ));
        }
        Ok(accepted)
    }

    /// Reads what this route responds.
    ///
    /// # Errors
    /// The response, if it is not a `200`.
    pub(super) async fn get(&mut self, route: &str) -> Result<&[u8], String> {
        self.request = format!("GET {route} HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n").into_bytes();
        let body = self.exchange("200").await?;
        Ok(&self.answer[body])
    }

    /// Sends the bytes in `request` and reads the response into `answer`, where its body is returned. It must
    /// have this status, and a length.
    async fn exchange(&mut self, status: &str) -> Result<Range<usize>, String> {
        let exchanged = tokio::time::timeout(PATIENCE, self.exchange_in_time(status)).await;
        exchanged.map_err(|_| format!("no answer within {} s", PATIENCE.as_secs()))?
    }

    async fn exchange_in_time(&mut self, status: &str) -> Result<Range<usize>, String> {
        self.stream.write_all(&self.request).await.map_err(text)?;
        let answer = &mut self.answer;
        answer.clear();
        loop {
            if self.stream.read_buf(answer).await.map_err(text)? == 0 {
                return Err(text(io::ErrorKind::UnexpectedEof));
            }
            let Some(end) = memchr::memmem::find(answer, b"\r\n\r\n") else {
                continue;
            };
            let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
            let length = head.lines().find_map(|line| {
                line.strip_prefix("content-length:")?
                    .trim()
                    .parse::<usize>()
                    .ok()
            });
            let body = end + 4..end + 4 + length.ok_or("an answer without a length")?;
            while answer.len() < body.end {
                if self.stream.read_buf(answer).await.map_err(text)? == 0 {
                    return Err(text(io::ErrorKind::UnexpectedEof));
                }
            }
            if !head.starts_with(&format!("http/1.1 {status}")) {
                return Err(format!(
                    "answered {}: {}",
                    head.lines().next().unwrap_or_default(),
                    String::from_utf8_lossy(&answer[body])
                ));
            }
            return Ok(body);
        }
    }
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
