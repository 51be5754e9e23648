//! A day with bursts: each event has its time, and is posted late rather than not at all.
//!
//! The load is open. A connection posts what has become due in each beat; when the system is slow, the beats
//! that were missed follow without a pause, each with its own time, so that a slow answer neither lowers the
//! rate nor hides the waiting. A third into the day every product changes once, on connections of their own,
//! each of which waits for the acknowledgement before it posts the next batch.
//!
//! The states of a product are sent in order: each belongs to one connection, and while a batch of the change
//! of every product is open, the steady load leaves its products out.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::sleep_until;

use crate::events::{Due, Format, State};
use crate::load::write_expected;
use crate::now_ms;
use crate::sender::Sender;

/// The interval at which each connection posts.
const BEAT: Duration = Duration::from_millis(40);

/// Arguments of `peers-rig day`.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Where the events are posted
    url: String,
    /// Where the change of every product is posted, if that is another URL
    #[arg(long, value_name = "URL")]
    full_change_url: Option<String>,
    /// Products that the events are about
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(2..=50_000_000))]
    keys: u32,
    /// Length of the day
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// Events of a second outside of bursts
    #[arg(long, value_name = "N", default_value_t = 3_000, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    per_second: u64,
    /// How many times as many there are in a burst
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=1_000))]
    burst: u64,
    /// A burst ends each so many seconds
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    burst_every: u64,
    /// And lasts so many seconds
    #[arg(long, value_name = "N", default_value_t = 5)]
    burst_lasts: u64,
    /// Connections of the steady load, and of the change of every product
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1_024))]
    connections: u32,
    /// Events of a request of the change of every product
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    batch: u32,
    /// Size of an event
    #[arg(long, value_name = "N", default_value_t = 730)]
    bytes: usize,
    /// Seconds after the end of the day when what is still late is given up
    #[arg(long, value_name = "N", default_value_t = 60)]
    give_up: u64,
    /// File for the newest acknowledged state of each product, for the sink's `/check`
    #[arg(long, value_name = "FILE")]
    expected: Option<PathBuf>,
    /// File for all acknowledged events, for the sink's `/day`
    #[arg(long, value_name = "FILE")]
    events: Option<PathBuf>,
}

/// How many events are due when.
#[derive(Clone, Copy)]
struct Shape {
    day: Duration,
    per_second: u64,
    burst: u64,
    burst_every: Duration,
    burst_lasts: Duration,
    connections: u32,
}

/// The products of a connection: each `connections`-th, beginning with its number.
struct Part {
    number: u32,
    connections: u32,
    /// How many they are.
    count: u32,
    /// Those in the open batch of the change of every product, which the steady load leaves out. It holds the
    /// lock while a request of its own is open.
    changing: Mutex<Range<u32>>,
}

/// What all connections share.
struct Day {
    options: Options,
    shape: Shape,
    sender: Sender,
    started: Instant,
    started_ms: u64,
    /// Number of the next event.
    seq: AtomicU32,
}

/// What a connection has done.
struct Sent {
    events: Vec<Due>,
    requests: u64,
    /// Requests that were acknowledged after the next one should have been posted.
    late: u64,
    /// Times from when a request was due to its acknowledgement, in microseconds.
    latency: Histogram<u64>,
}

/// Sends, and prints the result as a line of JSON.
///
/// # Errors
/// There are fewer than two products for each connection, the system refused a request as wrong, or a file
/// cannot be written.
pub async fn run(options: Options) -> Result<(), String> {
    let (began, connections) = (Instant::now(), options.connections);
    let (expected, file) = (options.expected.clone(), options.events.clone());
    let day = Day::begin(options)?;
    let (steady, full_change) = day.clone().post_all().await?;
    let seconds = began.elapsed().as_secs_f64();
    let all = || steady.events.iter().chain(&full_change.events);
    let mut newest = BTreeMap::new();
    for Due { state, .. } in all() {
        let seq = newest.entry(state.key).or_insert(0);
        *seq = state.seq.max(*seq);
    }
    if let Some(file) = &expected {
        write_expected(file, &newest)?;
    }
    if let Some(file) = &file {
        let lines: String = all().map(Due::line).collect();
        std::fs::write(file, lines)
            .map_err(|error| format!("{} could not be written: {error}", file.display()))?;
    }
    let events = all().count() as u64;
    let planned = day.shape.events_until(day.shape.day) + u64::from(day.options.keys);
    let quantile = |quantile| steady.latency.value_at_quantile(quantile) as f64 / 1_000.0;
    let result = serde_json::json!({
        "events": events,
        "keys": newest.len(),
        "started_ms": day.started_ms,
        "day_end_ms": day.started_ms + day.shape.day.as_millis() as u64,
        "seconds": seconds,
        "events_per_s": events as f64 / seconds,
        "bytes_per_event": day.sender.bytes() / events.max(1),
        "ack_ms_p50": quantile(0.5),
        "ack_ms_p99": quantile(0.99),
        "retried": day.sender.retried(),
        "steady_requests": steady.requests,
        "late": steady.late,
        "not_sent": planned - events,
        "full_change": full_change.events.len(),
        "connections": connections,
    });
    println!("{result}");
    Ok(())
}

impl Day {
    fn begin(options: Options) -> Result<Arc<Day>, String> {
        // While one of them is in the change of every product, the steady load takes another.
        if options.keys / options.connections < 2 {
            return Err("there have to be two products for each connection".to_owned());
        }
        let shape = Shape {
            day: Duration::from_secs(options.seconds),
            per_second: options.per_second,
            burst: options.burst,
            burst_every: Duration::from_secs(options.burst_every),
            burst_lasts: Duration::from_secs(options.burst_lasts.min(options.burst_every)),
            connections: options.connections,
        };
        let started = Instant::now();
        let end = started + shape.day + Duration::from_secs(options.give_up);
        Ok(Arc::new(Day {
            sender: Sender::new(2 * options.connections as usize, end)?,
            shape,
            started,
            started_ms: now_ms(),
            seq: AtomicU32::new(1),
            options,
        }))
    }

    /// Sends the steady load, and the change of every product beside it.
    async fn post_all(self: Arc<Day>) -> Result<(Sent, Sent), String> {
        let (mut steady, mut full_change) = (JoinSet::new(), JoinSet::new());
        for number in 0..self.shape.connections {
            let part = Arc::new(Part::new(self.options.keys, self.shape.connections, number));
            steady.spawn(self.clone().post_steady(part.clone()));
            full_change.spawn(self.clone().change_every(part));
        }
        Ok((sum(steady).await?, sum(full_change).await?))
    }

    /// Sends a connection's share of the steady load.
    async fn post_steady(self: Arc<Day>, part: Arc<Part>) -> Result<Sent, String> {
        let (mut sent, mut before) = (Sent::new(), 0);
        let mut random = fastrand::Rng::with_seed(u64::from(part.number));
        for beat in 0.. {
            let due = self.shape.beat(part.number, beat);
            let until = self.shape.share(part.number, due);
            let events = until - before;
            before = until;
            sleep_until((self.started + due).into()).await;
            if events > 0 {
                let changing = part.changing.lock().await;
                let keys = (0..events).map(|_| part.draw(&mut random, &changing));
                let events = self.events(keys, self.started_ms + due.as_millis() as u64, false);
                if !self.post(&self.options.url, &events).await? {
                    break;
                }
                drop(changing);
                let wait = self.started.elapsed().saturating_sub(due);
                sent.latency.saturating_record(wait.as_micros() as u64);
                sent.late += u64::from(wait > BEAT);
                sent.requests += 1;
                sent.events.extend(events);
            }
            if due == self.shape.day {
                break;
            }
        }
        Ok(sent)
    }

    /// Changes every product of a connection once, in batches.
    async fn change_every(self: Arc<Day>, part: Arc<Part>) -> Result<Sent, String> {
        let url = self.options.full_change_url.as_ref();
        let url = url.unwrap_or(&self.options.url);
        let mut sent = Sent::new();
        sleep_until((self.started + self.shape.day / 3).into()).await;
        // The steady load needs products to draw from meanwhile.
        let batch = self.options.batch.min(part.count / 2);
        for first in (0..part.count).step_by(batch as usize) {
            let slots = first..part.count.min(first + batch);
            // Waits for the open request of the steady load, which may have these products.
            *part.changing.lock().await = slots.clone();
            let events = self.events(slots.map(|slot| part.key(slot)), now_ms(), true);
            if !self.post(url, &events).await? {
                break;
            }
            sent.requests += 1;
            sent.events.extend(events);
        }
        *part.changing.lock().await = 0..0;
        Ok(sent)
    }

    /// New states of these products.
    fn events(&self, keys: impl Iterator<Item = u32>, ms: u64, full_change: bool) -> Vec<Due> {
        let event = |key| {
            let seq = self.seq.fetch_add(1, Relaxed);
            let state = State { key, seq };
            Due {
                state,
                ms,
                full_change,
            }
        };
        keys.map(event).collect()
    }

    /// Posts until they are acknowledged; false if the day is given up.
    async fn post(&self, url: &str, events: &[Due]) -> Result<bool, String> {
        if self.sender.is_over() {
            return Ok(false);
        }
        let write = |event: &Due| Format::Plain.write(event.state, self.options.bytes);
        let body = events.iter().map(write).collect::<Vec<_>>().join("\n");
        self.sender.post(url, body).await
    }
}

async fn sum(mut connections: JoinSet<Result<Sent, String>>) -> Result<Sent, String> {
    let mut total = Sent::new();
    while let Some(sent) = connections.join_next().await {
        let sent = sent.map_err(|error| error.to_string())??;
        total.events.extend(sent.events);
        total.requests += sent.requests;
        total.late += sent.late;
        total.latency += sent.latency;
    }
    Ok(total)
}

impl Shape {
    /// The time of a connection's beat. Connections take turns within an interval, and the last beat of each
    /// is the end of the day.
    fn beat(&self, connection: u32, beat: u32) -> Duration {
        let turn = BEAT * connection / self.connections;
        (BEAT * (beat + 1) + turn).min(self.day)
    }

    /// Events of the steady load that are due by a time. Bursts are at the end of each interval.
    fn events_until(&self, time: Duration) -> u64 {
        let (time, every) = (time.as_micros(), self.burst_every.as_micros());
        let lasts = self.burst_lasts.as_micros();
        let bursts = time / every * lasts + (time % every + lasts).saturating_sub(every);
        let weighted = time + bursts * u128::from(self.burst - 1);
        (weighted * u128::from(self.per_second) / 1_000_000) as u64
    }

    /// How many of them a connection sends. The shares of all connections make up the whole.
    fn share(&self, connection: u32, time: Duration) -> u64 {
        let connections = u64::from(self.connections);
        (self.events_until(time) + u64::from(connection)) / connections
    }
}

impl Part {
    fn new(keys: u32, connections: u32, number: u32) -> Part {
        Part {
            number,
            connections,
            count: keys / connections + u32::from(number < keys % connections),
            changing: Mutex::new(0..0),
        }
    }

    fn key(&self, slot: u32) -> u32 {
        slot * self.connections + self.number
    }

    /// Any of its products that is not changing, each as likely as the others.
    fn draw(&self, random: &mut fastrand::Rng, changing: &Range<u32>) -> u32 {
        let slot = random.u32(0..self.count - changing.len() as u32);
        let behind = slot >= changing.start;
        self.key(slot + if behind { changing.len() as u32 } else { 0 })
    }
}

impl Sent {
    fn new() -> Sent {
        let latency =
            Histogram::new_with_bounds(1, 3_600_000_000, 3).expect("these bounds are in order");
        Sent {
            events: Vec::new(),
            requests: 0,
            late: 0,
            latency,
        }
    }
}

#[cfg(test)]
mod tests;
