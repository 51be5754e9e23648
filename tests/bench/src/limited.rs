//! A target with a limit: a token bucket, and an answer for requests beyond it.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

const ACCEPTED: &[u8] = b"HTTP/1.1 204 No Content\r\n\r\n";

/// A target that listens until this is dropped.
pub(super) struct Limited {
    pub(super) address: SocketAddr,
    shared: Arc<Shared>,
    _stop: oneshot::Sender<()>,
}

struct Shared {
    bucket: Mutex<Bucket>,
    refusal: Vec<u8>,
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
    tokens: f64,
    at: Instant,
}

impl Bucket {
    /// Whether one more request is accepted now. The bucket holds a fifth of a second's worth.
    fn accepts(&mut self) -> bool {
        let now = Instant::now();
        let more = now.duration_since(self.at).as_secs_f64() * self.rate;
        self.tokens = (self.tokens + more).min(1.0 + self.rate / 5.0);
        self.at = now;
        if self.tokens < 1.0 {
            return false;
        }
        self.tokens -= 1.0;
        true
    }
}

impl Limited {
    /// Listens on loopback, on its own thread. `refusal` is its answer to a request beyond the limit
    /// of `rate` requests per second: a status with its headers.
    ///
    /// # Errors
    /// The system provides no address or no thread.
    pub(super) fn start(rate: f64, refusal: &str) -> io::Result<Limited> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let (stop, stopped) = oneshot::channel::<()>();
        let shared = Arc::new(Shared {
            bucket: Mutex::new(Bucket {
                rate,
                tokens: 0.0,
                at: Instant::now(),
            }),
            refusal: format!("HTTP/1.1 {refusal}\r\nContent-Length: 0\r\n\r\n").into_bytes(),
            accepted: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        });
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let serving = shared.clone();
        std::thread::Builder::new()
            .name("limited".into())
            .spawn(move || {
                runtime.block_on(async move {
                    tokio::select! {
                        () = serve(listener, serving) => {}
                        _ = stopped => {}
                    }
                });
            })?;
        Ok(Limited {
            address,
            shared,
            _stop: stop,
        })
    }

    /// Changes the limit.
    pub(super) fn limit(&self, rate: f64) {
        self.shared.bucket().rate = rate;
    }

    /// Requests accepted and refused so far.
    pub(super) fn counts(&self) -> (u64, u64) {
        (
            self.shared.accepted.load(Ordering::Relaxed),
            self.shared.refused.load(Ordering::Relaxed),
        )
    }
}

async fn serve(listener: std::net::TcpListener, shared: Arc<Shared>) {
    let Ok(listener) = TcpListener::from_std(listener) else {
        return;
    };
    while let Ok((stream, _)) = listener.accept().await {
        // A connection that breaks is its client's business.
        tokio::spawn(answer(stream, shared.clone()));
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
        let accepts = shared.bucket().accepts();
        let (count, reply) = if accepts {
            (&shared.accepted, ACCEPTED)
        } else {
            (&shared.refused, &shared.refusal[..])
        };
        count.fetch_add(1, Ordering::Relaxed);
        stream.get_mut().write_all(reply).await?;
    }
}
