//! The load generator: connections that send a request, await its answer, and send the next.
//!
//! It lives on one thread of its own, so that its processor time can be told from Weir's, and speaks plain HTTP/1.1 over loopback.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::clock;
use super::events::{Products, System};
use crate::server::views::Accepted;

/// An answer that does not come within this ends the measurement.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where to send what.
pub(super) struct Load {
    pub(super) address: SocketAddr,
    pub(super) products: Products,
    pub(super) connections: usize,
    /// Events in a request.
    pub(super) batch: usize,
    /// Numbers events, so that versions rise over all phases.
    pub(super) numbers: AtomicU64,
}

/// What to send.
#[derive(Clone, Copy)]
pub(super) enum Work {
    /// Each product once by each system.
    Each,
    /// Drawn products, for so long.
    Drawn(Duration),
}

/// What came of it.
pub(super) struct Tally {
    pub(super) requests: u64,
    pub(super) events: u64,
    /// Of the bodies.
    pub(super) bytes: u64,
    pub(super) committed: u64,
    pub(super) unchanged: u64,
    pub(super) stale: u64,
    /// From before a request was sent to after its answer was read, in microseconds.
    pub(super) latency: Histogram<u64>,
    /// Of the first request to the last answer.
    pub(super) wall: Duration,
    /// Processor time of the generator.
    pub(super) cpu: Duration,
}

impl Tally {
    fn new() -> Tally {
        let latency = Histogram::new_with_bounds(1, 60_000_000, 3).expect("these bounds are in order");
        let (wall, cpu) = (Duration::ZERO, Duration::ZERO);
        Tally { requests: 0, events: 0, bytes: 0, committed: 0, unchanged: 0, stale: 0, latency, wall, cpu }
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
}

impl Load {
    /// Sends on a new thread and waits for it.
    ///
    /// # Errors
    /// What the server answered other than that all was taken.
    pub(super) fn send(self: &Arc<Load>, work: Work) -> Result<Tally, String> {
        let load = self.clone();
        let generator = std::thread::Builder::new().name("generator".into()).spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(text)?;
            let mut tally = runtime.block_on(load.all(work))?;
            tally.cpu = clock::of_thread();
            Ok(tally)
        });
        generator.map_err(text)?.join().map_err(|_| "the load generator panicked".to_owned())?
    }

    async fn all(self: Arc<Load>, work: Work) -> Result<Tally, String> {
        let (next, started) = (Arc::new(AtomicUsize::new(0)), Instant::now());
        let mut connections = JoinSet::new();
        for number in 0..self.connections {
            let (load, next) = (self.clone(), next.clone());
            connections.spawn(async move { load.connection(number, work, &next, started).await });
        }
        let mut tally = Tally::new();
        while let Some(done) = connections.join_next().await {
            tally.add(&done.map_err(text)??);
        }
        tally.wall = started.elapsed();
        Ok(tally)
    }

    /// One connection's requests. `next` counts what is handed out of the work, in requests.
    async fn connection(&self, number: usize, work: Work, next: &AtomicUsize, started: Instant) -> Result<Tally, String> {
        let mut stream = TcpStream::connect(self.address).await.map_err(text)?;
        stream.set_nodelay(true).map_err(text)?;
        let (mut tally, mut body, mut request, mut answer) = (Tally::new(), Vec::new(), Vec::new(), Vec::new());
        loop {
            let turn = next.fetch_add(1, Ordering::Relaxed);
            // Connections start with different systems and take them in turn.
            let system = System::ALL[match work {
                Work::Each => turn % 3,
                Work::Drawn(_) => (turn + number) % 3,
            }];
            let first = match work {
                Work::Each => turn / 3 * self.batch,
                Work::Drawn(_) => turn * self.batch,
            };
            let events = match work {
                Work::Each if first >= self.products.count() => return Ok(tally),
                Work::Each => self.batch.min(self.products.count() - first),
                Work::Drawn(time) if started.elapsed() >= time => return Ok(tally),
                Work::Drawn(_) => self.batch,
            };
            let key = |n: usize| match work {
                Work::Each => self.products.key(n),
                Work::Drawn(_) => self.products.drawn(n),
            };
            body.clear();
            system.write((first..first + events).map(key), &self.numbers, &mut body);
            request.clear();
            let head = format!(
                "POST /v1/sources/{}/events HTTP/1.1\r\nhost: bench\r\ncontent-type: {}\r\ncontent-length: {}\r\n\r\n",
                system.name(),
                system.content_type(self.batch > 1),
                body.len()
            );
            request.extend_from_slice(head.as_bytes());
            request.extend_from_slice(&body);
            let sent = Instant::now();
            let accepted = tokio::time::timeout(PATIENCE, exchange(&mut stream, &request, &mut answer)).await;
            let accepted = accepted.map_err(|_| format!("no answer within {} s", PATIENCE.as_secs()))??;
            let micros = u64::try_from(sent.elapsed().as_micros()).unwrap_or(u64::MAX);
            tally.latency.saturating_record(micros);
            if accepted.events.accepted != events as u64 {
                return Err(format!("of {events} events of {} not all were taken: {accepted:?}", system.name()));
            }
            tally.requests += 1;
            tally.events += events as u64;
            tally.bytes += body.len() as u64;
            tally.committed += accepted.changes.committed;
            tally.unchanged += accepted.changes.unchanged;
            tally.stale += accepted.changes.stale;
        }
    }
}

/// Sends a request and reads its answer, which has a length.
async fn exchange(stream: &mut TcpStream, request: &[u8], answer: &mut Vec<u8>) -> Result<Accepted, String> {
    stream.write_all(request).await.map_err(text)?;
    answer.clear();
    loop {
        if stream.read_buf(answer).await.map_err(text)? == 0 {
            return Err(text(io::ErrorKind::UnexpectedEof));
        }
        let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse::<usize>().ok());
        let body = end + 4..end + 4 + length.ok_or("an answer without a length")?;
        while answer.len() < body.end {
            if stream.read_buf(answer).await.map_err(text)? == 0 {
                return Err(text(io::ErrorKind::UnexpectedEof));
            }
        }
        let body = &answer[body];
        if !head.starts_with("http/1.1 202") {
            return Err(format!("answered {}: {}", head.lines().next().unwrap_or_default(), String::from_utf8_lossy(body)));
        }
        return serde_json::from_slice(body).map_err(text);
    }
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
