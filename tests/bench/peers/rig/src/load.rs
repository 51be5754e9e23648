//! The load: connections that post a batch of events, wait for the acknowledgement, and post the next.
//!
//! Each product is sent once, then products are drawn, some far more often than others. A product belongs
//! to one connection, so that its states are sent in order; whatever arrives in another order was reordered
//! by the system.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::events::{Format, State};
use crate::now_ms;
use crate::sender::Sender;

/// For so long after the end of the load a request is still repeated.
const GRACE: Duration = Duration::from_secs(20);

/// Arguments of `peers-rig load`.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Where the batches are posted
    url: String,
    /// Events to send
    #[arg(long, value_name = "N", default_value_t = 60_000)]
    events: u64,
    /// Products that they are about
    #[arg(long, value_name = "N", default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..=50_000_000))]
    keys: u32,
    /// Events of a request
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    batch: u64,
    /// Connections that send at the same time
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1_024))]
    connections: u32,
    /// Size of a plain event
    #[arg(long, value_name = "N", default_value_t = 730)]
    bytes: usize,
    /// Form of the events
    #[arg(long, value_enum, default_value_t = Format::Plain)]
    format: Format,
    /// Begin no request later than this many seconds after the first
    #[arg(long, value_name = "N", default_value_t = 3_600)]
    seconds: u64,
    /// File for the newest acknowledged state of each product, for the sink's `/check`
    #[arg(long, value_name = "FILE")]
    expected: Option<PathBuf>,
}

/// What all connections share.
struct Common {
    options: Options,
    sender: Sender,
    started: Instant,
    /// Events that no request has taken yet.
    left: AtomicU64,
    /// Number of the next event.
    seq: AtomicU32,
}

/// What a connection has done.
struct Sent {
    events: u64,
    /// The newest acknowledged state of each of its products.
    newest: BTreeMap<u32, u32>,
    /// Times from a request to its acknowledgement, repetitions included, in microseconds.
    latency: Histogram<u64>,
}

/// Sends, and prints the result as a line of JSON.
///
/// # Errors
/// The system refused a request as wrong, or the file for the states cannot be written.
pub async fn run(options: Options) -> Result<(), String> {
    let (started, started_ms) = (Instant::now(), now_ms());
    let end = started + Duration::from_secs(options.seconds) + GRACE;
    let common = Arc::new(Common {
        left: AtomicU64::new(options.events),
        seq: AtomicU32::new(1),
        sender: Sender::new(options.connections as usize, end)?,
        started,
        options,
    });
    let connections: Vec<_> = (0..common.options.connections)
        .map(|number| tokio::spawn(connection(common.clone(), number)))
        .collect();
    let mut total = Sent::new();
    for connection in connections {
        let sent = connection.await.map_err(|error| error.to_string())??;
        total.events += sent.events;
        total.newest.extend(sent.newest);
        total.latency += sent.latency;
    }
    let seconds = common.started.elapsed().as_secs_f64();
    if let Some(file) = &common.options.expected {
        write_expected(file, &total.newest)?;
    }
    let quantile = |quantile| total.latency.value_at_quantile(quantile) as f64 / 1_000.0;
    let result = serde_json::json!({
        "events": total.events,
        "keys": total.newest.len(),
        "started_ms": started_ms,
        "seconds": seconds,
        "events_per_s": total.events as f64 / seconds,
        "bytes_per_event": common.sender.bytes() / total.events.max(1),
        "ack_ms_p50": quantile(0.5),
        "ack_ms_p99": quantile(0.99),
        "retried": common.sender.retried(),
    });
    println!("{result}");
    Ok(())
}

/// Writes the newest acknowledged state of each product for the sink's `/check`.
///
/// # Errors
/// The file cannot be written.
pub fn write_expected(file: &Path, newest: &BTreeMap<u32, u32>) -> Result<(), String> {
    let line = |(key, seq): (&u32, &u32)| format!("{key} {seq}\n");
    let text: String = newest.iter().map(line).collect();
    std::fs::write(file, text)
        .map_err(|error| format!("{} could not be written: {error}", file.display()))
}

/// Sends batches until there are no more events, or until the time is over.
async fn connection(common: Arc<Common>, number: u32) -> Result<Sent, String> {
    let options = &common.options;
    let time = Duration::from_secs(options.seconds);
    let mut draws = Draws::new(options.keys, options.connections, number);
    let mut sent = Sent::new();
    if draws.count == 0 {
        return Ok(sent);
    }
    while common.started.elapsed() < time {
        let take = |left: u64| (left > 0).then(|| left.saturating_sub(options.batch));
        let Ok(before) = common.left.fetch_update(Relaxed, Relaxed, take) else {
            break;
        };
        let events = before.min(options.batch);
        let states: Vec<State> = (0..events)
            .filter_map(|_| {
                let key = draws.next()?;
                let seq = common.seq.fetch_add(1, Relaxed);
                Some(State { key, seq })
            })
            .collect();
        let write = |state: &State| options.format.write(*state, options.bytes);
        let body = states.iter().map(write).collect::<Vec<_>>().join("\n");
        let began = Instant::now();
        if !common.sender.post(&options.url, body).await? {
            break;
        }
        let micros = began.elapsed().as_micros() as u64;
        sent.latency.saturating_record(micros);
        sent.events += states.len() as u64;
        sent.newest
            .extend(states.iter().map(|state| (state.key, state.seq)));
    }
    Ok(sent)
}

impl Sent {
    fn new() -> Sent {
        let latency =
            Histogram::new_with_bounds(1, 600_000_000, 3).expect("these bounds are in order");
        Sent {
            events: 0,
            newest: BTreeMap::new(),
            latency,
        }
    }
}

/// The products of a connection: each one once, then drawn so that the first tenth gets 46 % of the events.
struct Draws {
    random: fastrand::Rng,
    connections: u32,
    number: u32,
    /// Products of this connection.
    count: u32,
    next: u32,
}

impl Draws {
    fn new(keys: u32, connections: u32, number: u32) -> Draws {
        let count = keys / connections + u32::from(number < keys % connections);
        Draws {
            random: fastrand::Rng::with_seed(u64::from(number)),
            connections,
            number,
            count,
            next: 0,
        }
    }
}

impl Iterator for Draws {
    type Item = u32;

    /// `None` if there are fewer products than connections, and this one has none.
    fn next(&mut self) -> Option<u32> {
        let slot = if self.next < self.count {
            self.next
        } else {
            let drawn = (f64::from(self.count) * self.random.f64().powi(3)) as u32;
            drawn.min(self.count.checked_sub(1)?)
        };
        self.next = self.next.saturating_add(1);
        Some(slot * self.connections + self.number)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_product_belongs_to_one_connection_and_each_is_sent_before_any_is_drawn() {
        let mut all = BTreeSet::new();
        for number in 0..8 {
            let count = Draws::new(1_003, 8, number).count as usize;
            let first: BTreeSet<u32> = Draws::new(1_003, 8, number).take(count).collect();
            assert_eq!(first.len(), count);
            let more = Draws::new(1_003, 8, number).take(5_000);
            assert!(more.into_iter().all(|key| first.contains(&key)));
            assert!(first.iter().all(|key| all.insert(*key)));
        }
        assert_eq!(all, (0..1_003).collect());
        assert_eq!(Draws::new(3, 8, 7).next(), None);
    }

    #[test]
    fn few_products_get_many_events() {
        let draws: Vec<u32> = Draws::new(1_000, 1, 0).skip(1_000).take(100_000).collect();
        let few = draws.iter().filter(|key| **key < 100).count();
        assert!((44_000..49_000).contains(&few), "{few}");
    }
}
