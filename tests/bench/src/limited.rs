//! A target with a limit: a token bucket, and an answer for requests beyond it. Its limit, the time that
//! it takes for an answer, and another client that uses it can change meanwhile.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::listening::Listening;

/// Points that a request costs at a shop that counts them.
const POINTS: f64 = 10.0;

/// How the target answers.
#[derive(Clone, Copy)]
pub(super) enum Dialect {
    /// 204, and this status with its headers for a request beyond the limit.
    Status(&'static str),
    /// 200 always, as Shopify answers: with the points that are left, and an error for a request beyond
    /// the limit.
    Points,
}

/// A target that listens until this is dropped.
pub(super) struct Limited {
    pub(super) address: SocketAddr,
    shared: Arc<Shared>,
    _listening: Listening,
}

struct Shared {
    bucket: Mutex<Bucket>,
    dialect: Dialect,
    delay_micros: AtomicU64,
    accepted: AtomicU64,
    refused: AtomicU64,
}

impl Shared {
    fn bucket(&self) -> MutexGuard<'_, Bucket> {
        self.bucket.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Bucket {
    /// Requests per second.
    rate: f64,
    /// Requests per second of another client.
    others: f64,
    tokens: f64,
    at: Instant,
}

impl Bucket {
    /// Whether one more request is accepted now.
    fn accepts(&mut self) -> bool {
        let now = Instant::now();
        let more = now.duration_since(self.at).as_secs_f64() * (self.rate - self.others);
        self.tokens = (self.tokens + more).clamp(0.0, self.most());
        self.at = now;
        if self.tokens < 1.0 {
            return false;
        }
        self.tokens -= 1.0;
        true
    }

    /// It holds a fifth of a second's worth.
    fn most(&self) -> f64 {
        1.0 + self.rate / 5.0
    }

    fn reply(&self, dialect: Dialect, accepts: bool) -> Vec<u8> {
        let points = match dialect {
            Dialect::Status(_) if accepts => return b"HTTP/1.1 204 No Content\r\n\r\n".to_vec(),
            Dialect::Status(refusal) => {
                return format!("HTTP/1.1 {refusal}\r\nContent-Length: 0\r\n\r\n").into_bytes();
            }
            Dialect::Points => json!({
                "requestedQueryCost": POINTS,
                "actualQueryCost": accepts.then_some(POINTS),
                "throttleStatus": {
                    "maximumAvailable": POINTS * self.most(),
                    "currentlyAvailable": (POINTS * self.tokens).floor(),
                    "restoreRate": POINTS * self.rate,
                },
            }),
        };
        let body = if accepts {
            json!({
                "data": { "productSet": { "product": { "id": "1" }, "userErrors": [] } },
                "extensions": { "cost": points },
            })
        } else {
            json!({
                "errors": [{ "message": "Throttled", "extensions": { "code": "THROTTLED" } }],
                "extensions": { "cost": points },
            })
        };
        let (head, body) = (
            "HTTP/1.1 200 OK\r\nContent-Type: application/json",
            body.to_string(),
        );
        format!("{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
    }
}

impl Limited {
    /// Listens on loopback, on its own thread, with a limit of `rate` requests per second.
    ///
    /// # Errors
    /// The system provides no address or no thread.
    pub(super) fn start(rate: f64, dialect: Dialect) -> io::Result<Limited> {
        let shared = Arc::new(Shared {
            bucket: Mutex::new(Bucket {
                rate,
                others: 0.0,
                tokens: 0.0,
                at: Instant::now(),
            }),
            dialect,
            delay_micros: AtomicU64::new(0),
            accepted: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        });
        let serving = shared.clone();
        let listening = Listening::start("limited", move |stream| {
            let shared = serving.clone();
            async move {
                // A connection that breaks is its client's business.
                let _ = answer(stream, shared).await;
            }
        })?;
        Ok(Limited {
            address: listening.address,
            shared,
            _listening: listening,
        })
    }

    /// Changes the limit, of which another client uses `others`.
    pub(super) fn limit(&self, rate: f64, others: f64) {
        let mut bucket = self.shared.bucket();
        (bucket.rate, bucket.others) = (rate, others);
    }

    /// Changes the time that an answer takes.
    pub(super) fn delay(&self, delay: Duration) {
        let micros = delay.as_micros() as u64;
        self.shared.delay_micros.store(micros, Ordering::Relaxed);
    }

    /// Requests accepted and refused so far.
    pub(super) fn counts(&self) -> (u64, u64) {
        (
            self.shared.accepted.load(Ordering::Relaxed),
            self.shared.refused.load(Ordering::Relaxed),
        )
    }
}

/// Answers the requests of a connection until it ends.
async fn answer(stream: TcpStream, shared: Arc<Shared>) -> io::Result<()> {
    let _ = stream.set_nodelay(true);
    let mut stream = BufReader::new(stream);
    let (mut line, mut body) = (String::new(), Vec::new());
    loop {
        let mut length = 0;
        loop {
            line.clear();
            if stream.read_line(&mut line).await? == 0 {
                return Ok(());
            }
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
        let delay = Duration::from_micros(shared.delay_micros.load(Ordering::Relaxed));
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        let (accepts, reply) = {
            let mut bucket = shared.bucket();
            let accepts = bucket.accepts();
            (accepts, bucket.reply(shared.dialect, accepts))
        };
        let count = if accepts {
            &shared.accepted
        } else {
            &shared.refused
        };
        count.fetch_add(1, Ordering::Relaxed);
        stream.get_mut().write_all(&reply).await?;
    }
}
