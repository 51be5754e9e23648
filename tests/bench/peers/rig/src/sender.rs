//! Posting a batch until it is acknowledged. A request that fails is repeated as it is, because that is what
//! a sender does.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use bytes::Bytes;
use reqwest::{Client, StatusCode};

/// Maximum time for an acknowledgement.
const PATIENCE: Duration = Duration::from_secs(50);
/// Pause before a request is repeated.
const PAUSE: Duration = Duration::from_millis(20);

/// What all connections of a load post with.
pub struct Sender {
    client: Client,
    /// After this moment no request is repeated.
    end: Instant,
    retried: AtomicU64,
    bytes: AtomicU64,
}

impl Sender {
    /// A sender with no open connections, which keeps up to `connections` of them.
    ///
    /// # Errors
    /// The HTTP client cannot be made.
    pub fn new(connections: usize, end: Instant) -> Result<Sender, String> {
        let client = Client::builder()
            .pool_max_idle_per_host(connections)
            .timeout(PATIENCE)
            .no_proxy()
            .build()
            .map_err(|error| error.to_string())?;
        Ok(Sender {
            client,
            end,
            retried: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
        })
    }

    /// Posts NDJSON until it is acknowledged; false if it was not in time.
    ///
    /// # Errors
    /// The system refused it as wrong.
    pub async fn post(&self, url: &str, body: String) -> Result<bool, String> {
        let body = Bytes::from(body);
        loop {
            let request = self
                .client
                .post(url)
                .header("content-type", "application/x-ndjson")
                .body(body.clone());
            // The connection is free for the next batch only after the whole answer was read.
            if let Ok(answer) = request.send().await {
                let status = answer.status();
                let text = answer.text().await;
                if status == StatusCode::BAD_REQUEST {
                    return Err(format!(
                        "the system refused a batch: {}",
                        text.unwrap_or_default()
                    ));
                }
                if status.is_success() && text.is_ok() {
                    self.bytes.fetch_add(body.len() as u64, Relaxed);
                    return Ok(true);
                }
            }
            self.retried.fetch_add(1, Relaxed);
            if Instant::now() > self.end {
                return Ok(false);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Whether it is too late to begin a request.
    pub fn is_over(&self) -> bool {
        Instant::now() > self.end
    }

    /// Requests that failed and were repeated.
    pub fn retried(&self) -> u64 {
        self.retried.load(Relaxed)
    }

    /// Bytes that were acknowledged.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Relaxed)
    }
}
