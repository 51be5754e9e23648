//! The plain bridge: what a team writes first. Each event goes to each target, first in, first out.
//!
//! `POST /events` takes NDJSON and answers 202 when the events are in the log: on disk and synced
//! (`--folder`), or in memory (`--memory`). Every target reads the log from a position of its own and gets
//! each event as it was sent, in a request of its own, up to `--concurrency` at a time. A delivery that
//! fails is repeated with the same payload until it succeeds, and what came later waits behind it. Nothing
//! is merged, so a product that changed ten times is delivered ten times to each target.
//!
//! After a crash the synced bridge repeats at most what was delivered since a position was last written.
//! `GET /stats` says what was accepted, delivered, repeated and still waits.

mod log;
mod positions;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use axum::Json;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use reqwest::Client;
use serde::Serialize;
use serde::de::IgnoredAny;

use self::log::{Appended, Log};
use self::positions::Positions;
use crate::events::lines;

/// Most bytes of a request.
const BODY_BYTES_MAX: usize = 64 << 20;
/// Bytes that a target reads from the log at a time: bounds the memory of each target.
const READ_BYTES: usize = 256 << 10;
/// How often the positions of the targets are written. After a crash, what was delivered since is repeated.
const POSITIONS_EVERY: Duration = Duration::from_millis(500);

/// Arguments of `peers-rig bridge`.
#[derive(Clone, Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("durability").required(true).args(["folder", "memory"])))]
pub struct Options {
    /// Address to listen on, for example 127.0.0.1:8090
    #[arg(long, value_name = "ADDRESS")]
    listen: SocketAddr,
    /// URL of a target; repeat it for each
    #[arg(long = "target", value_name = "URL", required = true)]
    targets: Vec<String>,
    /// Folder for the log and the positions: a 202 means synced
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
    /// Keep the events in memory: a 202 means received, and a crash loses what waits
    #[arg(long)]
    memory: bool,
    /// Deliveries in flight to each target. With 1 each target gets the events in their order; with more
    /// they can overtake each other
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=1_024))]
    concurrency: u64,
    /// Maximum time of a delivery, in milliseconds
    #[arg(long, value_name = "N", default_value_t = 15_000)]
    timeout_ms: u64,
    /// Wait before a failed delivery is repeated, in milliseconds; it doubles with each failure
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    retry_ms: u64,
    /// Longest such wait, in milliseconds
    #[arg(long, value_name = "N", default_value_t = 60_000)]
    retry_ms_max: u64,
    /// Most MiB that wait for the slowest target; a request beyond it is answered 503
    #[arg(long, value_name = "N", default_value_t = 4_096)]
    backlog_mib_max: u64,
}

/// A target and what happened with it. Only its own task writes here.
struct Target {
    url: String,
    /// Position behind the last event up to which all are delivered.
    position: AtomicU64,
    delivered: AtomicU64,
    repeated: AtomicU64,
}

struct Bridge {
    options: Options,
    log: Log,
    client: Client,
    targets: Vec<Target>,
    accepted: AtomicU64,
}

/// What `GET /stats` returns.
#[derive(Serialize)]
struct Stats {
    /// Events since the start.
    accepted: u64,
    targets: Vec<TargetStats>,
}

#[derive(Serialize)]
struct TargetStats {
    url: String,
    /// Deliveries since the start that the target took.
    delivered: u64,
    /// Deliveries since the start that failed and were repeated.
    repeated: u64,
    /// Bytes of the log that still wait, those in flight included.
    waiting_bytes: u64,
}

/// Serves until it is stopped.
///
/// # Errors
/// The address or the folder cannot be opened, or the log is damaged.
pub async fn run(options: Options) -> Result<(), String> {
    let address = options.listen;
    let listener = tokio::net::TcpListener::bind(address)
        .await
        .map_err(|error| format!("{address} could not be opened: {error}"))?;
    let bridge = Bridge::open(options)?;
    tokio::spawn(bridge.clone().deliver());
    axum::serve(listener, bridge.router())
        .await
        .map_err(|error| format!("the bridge stopped: {error}"))
}

impl Bridge {
    fn open(options: Options) -> Result<Arc<Bridge>, String> {
        let positions = match &options.folder {
            Some(folder) => Positions::read(folder)?,
            None => Positions::default(),
        };
        let backlog = options.backlog_mib_max << 20;
        let log = match &options.folder {
            Some(folder) => Log::open(folder, backlog)?,
            None => Log::in_memory(backlog),
        };
        let (start, end) = (log.start(), log.end());
        let target = |url: &String| Target {
            url: url.clone(),
            // A new target gets what is still there; a position is never behind the end, because it is
            // written after the event.
            position: AtomicU64::new(positions.get(url).unwrap_or(start).clamp(start, end)),
            delivered: AtomicU64::new(0),
            repeated: AtomicU64::new(0),
        };
        let client = Client::builder()
            .timeout(Duration::from_millis(options.timeout_ms))
            .pool_max_idle_per_host(options.targets.len() * options.concurrency as usize)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()
            .map_err(|error| error.to_string())?;
        Ok(Arc::new(Bridge {
            targets: options.targets.iter().map(target).collect(),
            accepted: AtomicU64::new(0),
            client,
            log,
            options,
        }))
    }

    fn router(self: &Arc<Bridge>) -> Router {
        Router::new()
            .route("/events", post(accept))
            .route("/health", get(|| async { "ok" }))
            .route(
                "/stats",
                get(|State(bridge): State<Arc<Bridge>>| async move { Json(bridge.stats()) }),
            )
            .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
            .with_state(self.clone())
    }

    fn stats(&self) -> Stats {
        let end = self.log.end();
        let target = |target: &Target| TargetStats {
            url: target.url.clone(),
            delivered: target.delivered.load(Relaxed),
            repeated: target.repeated.load(Relaxed),
            waiting_bytes: end.saturating_sub(target.position.load(Relaxed)),
        };
        Stats {
            accepted: self.accepted.load(Relaxed),
            targets: self.targets.iter().map(target).collect(),
        }
    }

    /// Delivers to all targets, and forgets what all of them have.
    async fn deliver(self: Arc<Bridge>) {
        for number in 0..self.targets.len() {
            tokio::spawn(self.clone().deliver_to(number));
        }
        let mut every = tokio::time::interval(POSITIONS_EVERY);
        let mut written = Vec::new();
        loop {
            every.tick().await;
            let positions: Vec<u64> = self
                .targets
                .iter()
                .map(|target| target.position.load(Relaxed))
                .collect();
            if positions == written {
                continue;
            }
            if let Some(folder) = &self.options.folder {
                let urls = self.targets.iter().map(|target| target.url.clone());
                let rows = Positions::from_iter(urls.zip(positions.iter().copied()));
                if let Err(message) = rows.write(folder) {
                    eprintln!(
                        "peers-rig: {message}; deliveries since then are repeated after a restart"
                    );
                    continue;
                }
            }
            // Only what is written as delivered may go: a restart reads the log from there.
            if let Some(first) = positions.iter().min() {
                self.log.forget(*first);
            }
            written = positions;
        }
    }

    /// Delivers to one target, up to `concurrency` events at a time, and advances its position in their
    /// order.
    async fn deliver_to(self: Arc<Bridge>, number: usize) {
        let target = &self.targets[number];
        let events = self.events(target.position.load(Relaxed));
        let mut done = events
            .map(|(payload, next)| {
                let bridge = &self;
                async move {
                    bridge.deliver_event(target, payload).await;
                    next
                }
            })
            .buffered(self.options.concurrency as usize);
        while let Some(next) = done.next().await {
            target.position.store(next, Relaxed);
        }
    }

    /// All events from a position on, each with the position behind it. Waits at the end of the log.
    fn events(self: &Arc<Bridge>, from: u64) -> BoxStream<'static, (Bytes, u64)> {
        let bridge = self.clone();
        let end = self.log.watch();
        let chunks = stream::unfold((bridge, end, from), |(bridge, mut end, from)| async move {
            // The log lives as long as the bridge, so its end cannot go away before.
            end.wait_for(|end| *end > from).await.ok()?;
            let chunk = bridge.log.read(from, READ_BYTES);
            let next = chunk.last().map_or(from, |(_, next)| *next);
            Some((stream::iter(chunk), (bridge, end, next)))
        });
        chunks.flatten().boxed()
    }

    /// Delivers one event, however often it takes.
    async fn deliver_event(&self, target: &Target, payload: Bytes) {
        let mut wait = Duration::from_millis(self.options.retry_ms);
        loop {
            let request = self
                .client
                .post(&target.url)
                .header("content-type", "application/json")
                .body(payload.clone());
            if let Ok(answer) = request.send().await {
                let success = answer.status().is_success();
                // Without reading it, the connection could not be used again.
                if answer.bytes().await.is_ok() && success {
                    target.delivered.fetch_add(1, Relaxed);
                    return;
                }
            }
            target.repeated.fetch_add(1, Relaxed);
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(Duration::from_millis(self.options.retry_ms_max));
        }
    }
}

/// Takes a batch: 202 when all of it is in the log, and none of it otherwise.
async fn accept(State(bridge): State<Arc<Bridge>>, body: Bytes) -> Response {
    let events = lines(&body);
    for (number, event) in events.iter().enumerate() {
        if let Err(error) = serde_json::from_slice::<IgnoredAny>(event) {
            let message = format!("line {} is not JSON: {error}\n", number + 1);
            return (StatusCode::BAD_REQUEST, message).into_response();
        }
    }
    let count = events.len() as u64;
    match bridge.log.append(events).await {
        Appended::Done => {
            bridge.accepted.fetch_add(count, Relaxed);
            StatusCode::ACCEPTED.into_response()
        }
        Appended::Full => {
            let seconds = [(header::RETRY_AFTER, "1")];
            let message = "a target is too far behind; send it again later\n";
            (StatusCode::SERVICE_UNAVAILABLE, seconds, message).into_response()
        }
    }
}

#[cfg(test)]
mod tests;
