//! Clients that read streams without an end, as consoles and `weir tap` do, and count what they get.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use crate::unreachable;
use weir::inside::cli::Failure;

/// The stream of the console.
pub(super) const CONSOLE: &str = "/v1/stream";

/// Clients that read until this is dropped, on a thread of their own.
pub(super) struct Readers {
    got: Arc<Got>,
    count: u64,
    _stop: oneshot::Sender<()>,
}

#[derive(Default)]
struct Got {
    bytes: AtomicU64,
    /// Clients whose stream has begun, and those whose stream has ended.
    begun: AtomicU64,
    ended: AtomicU64,
}

impl Readers {
    /// Starts a client for each of these routes.
    ///
    /// # Errors
    /// The system provides no thread.
    pub(super) fn start(to: SocketAddr, routes: Vec<String>) -> Result<Readers, Failure> {
        let (got, (stop, stopped)) = (Arc::new(Got::default()), oneshot::channel::<()>());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| unreachable("no readers", error))?;
        let (counts, count) = (got.clone(), routes.len() as u64);
        let thread = std::thread::Builder::new().name("reader".into());
        let started = thread.spawn(move || {
            runtime.block_on(async move {
                let mut reading = JoinSet::new();
                for route in routes {
                    reading.spawn(read(to, route, counts.clone()));
                }
                // Whether it was told or dropped, they end here.
                let _ = stopped.await;
            });
        });
        started.map_err(|error| unreachable("no readers", error))?;
        Ok(Readers {
            got,
            count,
            _stop: stop,
        })
    }

    /// The bytes that all of them have got.
    pub(super) fn bytes(&self) -> u64 {
        self.got.bytes.load(Ordering::Relaxed)
    }

    /// Checks that all clients are reading.
    ///
    /// # Errors
    /// Some have no stream, or not any more.
    pub(super) fn check(&self) -> Result<(), Failure> {
        let [begun, ended] =
            [&self.got.begun, &self.got.ended].map(|it| it.load(Ordering::Relaxed));
        match (begun, ended) {
            (begun, 0) if begun == self.count => Ok(()),
            _ => Err(Failure::Failed(format!(
                "of {} readers of streams {begun} got theirs, and it ended for {ended}",
                self.count
            ))),
        }
    }
}

async fn read(to: SocketAddr, route: String, got: Arc<Got>) {
    let request = format!("GET {route} HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n");
    let mut buffer = Vec::with_capacity(64 << 10);
    let Ok(mut stream) = TcpStream::connect(to).await else {
        return;
    };
    let mut begun = false;
    if stream.write_all(request.as_bytes()).await.is_ok() {
        while let Ok(more @ 1..) = stream.read_buf(&mut buffer).await {
            got.bytes.fetch_add(more as u64, Ordering::Relaxed);
            if !begun && !buffer.starts_with(b"HTTP/1.1 200") {
                break;
            }
            got.begun.fetch_add(u64::from(!begun), Ordering::Relaxed);
            begun = true;
            buffer.clear();
        }
    }
    got.ended.fetch_add(1, Ordering::Relaxed);
}
