//! A search engine of one index, as far as `_bulk` of Elasticsearch goes: it counts documents and accepts
//! them all. It may take its time for each document, as an engine with one worker does.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::listening::Listening;

/// An engine that listens until this is dropped.
pub(super) struct Bulk {
    pub(super) address: SocketAddr,
    shared: Arc<Shared>,
    _listening: Listening,
}

struct Shared {
    /// For each document.
    takes: Duration,
    /// When its worker has done what it was given.
    free_at: Mutex<Instant>,
    requests: AtomicU64,
    documents: AtomicU64,
    bytes: AtomicU64,
    at_once: AtomicU64,
    most_at_once: AtomicU64,
}

/// What an engine has got and answered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Got {
    pub(super) requests: u64,
    pub(super) documents: u64,
    pub(super) bytes: u64,
    /// The most requests that it had at the same time.
    pub(super) most_at_once: u64,
}

impl Bulk {
    /// Listens on loopback, on its own thread. Each document takes the worker this long.
    ///
    /// # Errors
    /// The system provides no address or no thread.
    pub(super) fn start(takes: Duration) -> io::Result<Bulk> {
        let shared = Arc::new(Shared {
            takes,
            free_at: Mutex::new(Instant::now()),
            requests: AtomicU64::new(0),
            documents: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            at_once: AtomicU64::new(0),
            most_at_once: AtomicU64::new(0),
        });
        let serving = shared.clone();
        let listening = Listening::start("engine", move |stream| {
            let shared = serving.clone();
            async move {
                // A connection that breaks is its client's business.
                let _ = answer(stream, shared).await;
            }
        })?;
        Ok(Bulk {
            address: listening.address,
            shared,
            _listening: listening,
        })
    }

    pub(super) fn got(&self) -> Got {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Got {
            requests: of(&self.shared.requests),
            documents: of(&self.shared.documents),
            bytes: of(&self.shared.bytes),
            most_at_once: of(&self.shared.most_at_once),
        }
    }
}

/// Answers the requests of a connection until it ends.
async fn answer(stream: TcpStream, shared: Arc<Shared>) -> io::Result<()> {
    let _ = stream.set_nodelay(true);
    let mut stream = BufReader::with_capacity(256 * 1024, stream);
    let (mut line, mut body, mut reply) = (String::new(), Vec::new(), Vec::new());
    loop {
        let (mut length, mut looks) = (0, None);
        loop {
            line.clear();
            if stream.read_line(&mut line).await? == 0 {
                return Ok(());
            }
            looks.get_or_insert_with(|| line.starts_with("GET "));
            let line = line.trim_end().to_ascii_lowercase();
            if let Some(text) = line.strip_prefix("content-length:") {
                length = text.trim().parse().map_err(io::Error::other)?;
            }
            if line.is_empty() {
                break;
            }
        }
        body.resize(length, 0);
        stream.read_exact(&mut body).await?;
        reply.clear();
        if looks == Some(true) {
            reply.extend_from_slice(br#"{"products-1":{"aliases":{"products":{}}}}"#);
        } else {
            shared.take(&body, &mut reply).await;
        }
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", reply.len());
        let stream = stream.get_mut();
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(&reply).await?;
    }
}

impl Shared {
    /// Takes the documents of a request, each with the line of its action.
    async fn take(&self, body: &[u8], reply: &mut Vec<u8>) {
        let at_once = self.at_once.fetch_add(1, Ordering::Relaxed) + 1;
        self.most_at_once.fetch_max(at_once, Ordering::Relaxed);
        let documents = memchr::memchr_iter(b'\n', body).count() as u64 / 2;
        let done = {
            let mut free_at = self.free_at.lock().unwrap_or_else(PoisonError::into_inner);
            *free_at = (*free_at).max(Instant::now()) + self.takes * documents as u32;
            *free_at
        };
        if !self.takes.is_zero() {
            tokio::time::sleep_until(done).await;
        }
        reply.extend_from_slice(br#"{"errors":false,"items":["#);
        for number in 0..documents {
            if number > 0 {
                reply.push(b',');
            }
            reply.extend_from_slice(br#"{"index":{"status":201}}"#);
        }
        reply.extend_from_slice(b"]}");
        self.at_once.fetch_sub(1, Ordering::Relaxed);
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(body.len() as u64, Ordering::Relaxed);
        // Last, because the measurement ends with it.
        self.documents.fetch_add(documents, Ordering::Release);
    }
}
