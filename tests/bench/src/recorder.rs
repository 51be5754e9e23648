//! The targets, in this process. They accept every delivery immediately and record what each target
//! holds of each product.
//!
//! A single thread serves all of them. It reads HTTP/1.1 itself and extracts only what it needs:
//! the key of each item of a batch, and from its content the **mark**, a number that rises with
//! each change of that product. It shares the machine with the code under measurement, so it does
//! not parse JSON. Items that do not look as expected are counted as strange, and the benchmarks
//! fail if there are any.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use memchr::memmem::{self, Finder};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::clock::round;
use crate::events::FIRST_KEY;
use crate::listening::Listening;

/// Length of a bucket in the record of deliveries over time.
const BUCKET: Duration = Duration::from_millis(100);
/// Number of buckets: two hours. Later deliveries are counted in the last one.
const BUCKETS: usize = 72_000;
/// Maximum length of a request's head, and of a batch's body.
const HEAD_BYTES_MAX: usize = 64 << 10;
const BODY_BYTES_MAX: usize = 256 << 20;
const ANSWER: &[u8] = b"HTTP/1.1 204 No Content\r\n\r\n";

/// Targets that listen until this is dropped. Target `n` is at `/n`.
pub(super) struct Recorder {
    pub(super) address: SocketAddr,
    held: Arc<Held>,
    _listening: Listening,
}

/// The contents of all targets.
pub(super) struct Held {
    targets: usize,
    products: usize,
    /// The text before the mark, for example `"available":`. `None`: items are only counted.
    mark: Option<Finder<'static>>,
    began: Instant,
    /// By target, then by product: the mark that it holds; 0 if nothing.
    marks: Vec<AtomicU32>,
    /// By product: the mark that all targets must reach.
    goals: Vec<AtomicU32>,
    /// Pairs of target and product that have reached their goal since it was set.
    reached: AtomicU64,
    /// When the last of them reached it, in microseconds since `began`.
    reached_at: AtomicU64,
    delivered: Vec<AtomicU64>,
    requests: AtomicU64,
    bytes: AtomicU64,
    /// Items with the same mark as the target held.
    repeated: AtomicU64,
    /// Items with a lower mark than the target held.
    older: AtomicU64,
    /// Items or requests that were not understood.
    strange: AtomicU64,
    over_time: Vec<AtomicU32>,
    /// By product: the amount of the awaited price; 0 if none.
    watched: Vec<AtomicU32>,
    probes: Mutex<HashMap<u32, Probe>>,
    arrivals: Mutex<Vec<(&'static str, Duration)>>,
}

/// A price that is awaited at some targets.
struct Probe {
    sent: Instant,
    /// A set of bits, one for each target that does not have it yet.
    missing: u64,
    /// The lane in which it was posted.
    lane: &'static str,
}

impl Recorder {
    /// Listens on loopback, on its own thread, for a number of targets and products. `mark` is the
    /// text before the mark; without one, items are only counted, and `products` may be 0.
    ///
    /// # Errors
    /// The system provides no address or no thread.
    pub(super) fn start(
        targets: usize,
        products: usize,
        mark: Option<&'static str>,
    ) -> std::io::Result<Recorder> {
        let held = Arc::new(Held::new(targets, products, mark));
        let taking = held.clone();
        let listening = Listening::start("recorder", move |stream| {
            let held = taking.clone();
            async move {
                // Weir retries after a broken connection; a request that is not understood voids the
                // measurement.
                if let Err(NotUnderstood) = connection(stream, &held).await {
                    held.strange.fetch_add(1, Ordering::Relaxed);
                }
            }
        })?;
        Ok(Recorder {
            address: listening.address,
            held,
            _listening: listening,
        })
    }

    /// The contents of its targets.
    pub(super) fn held(&self) -> &Held {
        &self.held
    }
}

impl Held {
    fn new(targets: usize, products: usize, mark: Option<&'static str>) -> Held {
        let numbers = |count: usize| {
            std::iter::repeat_with(AtomicU32::default)
                .take(count)
                .collect()
        };
        Held {
            targets,
            products,
            mark: mark.map(Finder::new),
            began: Instant::now(),
            marks: numbers(targets * products),
            goals: numbers(products),
            reached: AtomicU64::new(0),
            reached_at: AtomicU64::new(0),
            delivered: std::iter::repeat_with(AtomicU64::default)
                .take(targets)
                .collect(),
            requests: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            repeated: AtomicU64::new(0),
            older: AtomicU64::new(0),
            strange: AtomicU64::new(0),
            over_time: numbers(BUCKETS),
            watched: numbers(products),
            probes: Mutex::default(),
            arrivals: Mutex::default(),
        }
    }

    /// Number of targets.
    pub(super) fn targets(&self) -> usize {
        self.targets
    }

    /// Items received by all targets so far.
    pub(super) fn delivered(&self) -> u64 {
        self.delivered
            .iter()
            .map(|count| count.load(Ordering::Relaxed))
            .sum()
    }

    /// Requests so far, and bytes of their bodies.
    pub(super) fn requests(&self) -> (u64, u64) {
        (
            self.requests.load(Ordering::Relaxed),
            self.bytes.load(Ordering::Relaxed),
        )
    }

    /// Repeated items: their mark equals the one that the target held.
    pub(super) fn repeated(&self) -> u64 {
        self.repeated.load(Ordering::Relaxed)
    }

    /// Outdated items: their mark is lower than the one that the target held.
    pub(super) fn older(&self) -> u64 {
        self.older.load(Ordering::Relaxed)
    }

    /// Items or requests that were not understood; a measurement with any is void.
    pub(super) fn strange(&self) -> u64 {
        self.strange.load(Ordering::Relaxed)
    }

    /// Memory of this recorder, in MiB, which is not Weir's.
    pub(super) fn memory_mib(&self) -> f64 {
        let numbers =
            self.marks.len() + self.goals.len() + self.watched.len() + self.over_time.len();
        round(4.0 * numbers as f64 / f64::from(1 << 20), 1)
    }

    /// The mark that a target holds of a product.
    pub(super) fn mark(&self, target: usize, product: usize) -> u32 {
        self.marks[target * self.products + product].load(Ordering::Relaxed)
    }

    /// Sets the mark that every target must reach for each product. Call this while nothing is
    /// being delivered.
    pub(super) fn expect(&self, goal: impl Fn(usize) -> u32) {
        let there = |product: usize, goal: u32| {
            (0..self.targets)
                .filter(|target| self.mark(*target, product) == goal)
                .count() as u64
        };
        let mut reached = 0;
        for (product, place) in self.goals.iter().enumerate() {
            let goal = goal(product);
            place.store(goal, Ordering::Relaxed);
            reached += there(product, goal);
        }
        self.reached.store(reached, Ordering::Relaxed);
    }

    /// Pairs of target and product that have reached their goal, as counted on arrival.
    pub(super) fn reached(&self) -> u64 {
        self.reached.load(Ordering::Relaxed)
    }

    /// Number of all pairs.
    pub(super) fn pairs(&self) -> u64 {
        (self.targets * self.products) as u64
    }

    /// Pairs that do not hold their goal, checked one by one.
    pub(super) fn missing(&self) -> u64 {
        let wrong = |target: usize| {
            (0..self.products)
                .filter(move |product| {
                    self.mark(target, *product) != self.goals[*product].load(Ordering::Relaxed)
                })
                .count()
        };
        (0..self.targets).map(|target| wrong(target) as u64).sum()
    }

    /// When the last pair reached its goal.
    pub(super) fn reached_at(&self) -> Instant {
        self.began + Duration::from_micros(self.reached_at.load(Ordering::Relaxed))
    }

    /// Maximum number of items that all targets received within one second since `from`.
    pub(super) fn best_second(&self, from: Instant) -> u64 {
        let first =
            (from.saturating_duration_since(self.began).as_millis() / BUCKET.as_millis()) as usize;
        let counts: Vec<u64> = self
            .over_time
            .iter()
            .skip(first)
            .map(|count| count.load(Ordering::Relaxed).into())
            .collect();
        counts
            .windows(10)
            .map(|second| second.iter().sum())
            .max()
            .unwrap_or_default()
    }

    /// Starts to watch for a price of a product at the targets whose bits are set. Returns false,
    /// and does nothing, if another price of it is still being watched.
    pub(super) fn watch(
        &self,
        product: usize,
        amount: u32,
        targets: u64,
        lane: &'static str,
    ) -> bool {
        let mut probes = lock(&self.probes);
        if self.watched[product].load(Ordering::Relaxed) != 0 {
            return false;
        }
        probes.insert(
            product as u32,
            Probe {
                sent: Instant::now(),
                missing: targets,
                lane,
            },
        );
        self.watched[product].store(amount, Ordering::Relaxed);
        true
    }

    /// Prices of a lane that have not arrived everywhere.
    pub(super) fn watching(&self, lane: &str) -> usize {
        let probes = lock(&self.probes);
        probes.values().filter(|probe| probe.lane == lane).count()
    }

    /// Items received by all targets since `from`.
    pub(super) fn delivered_since(&self, from: Instant) -> u64 {
        let first =
            (from.saturating_duration_since(self.began).as_millis() / BUCKET.as_millis()) as usize;
        self.over_time
            .iter()
            .skip(first)
            .map(|count| u64::from(count.load(Ordering::Relaxed)))
            .sum()
    }

    /// The delay of each watched price of a lane to each of its targets.
    pub(super) fn arrivals(&self, lane: &str) -> Vec<Duration> {
        let arrivals = lock(&self.arrivals);
        let of_lane = arrivals.iter().filter(|(known, _)| *known == lane);
        of_lane.map(|(_, wait)| *wait).collect()
    }

    /// Handles a request to a target, whose body is a batch from Weir: an array of `{"id", "type",
    /// "key", "sequence", "deleted", "content"}`.
    fn take(&self, target: usize, body: &[u8]) {
        const AFTER_KEY: &[u8] = br#"","sequence":"#;
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(body.len() as u64, Ordering::Relaxed);
        let now = Instant::now();
        let (mut items, mut found) = (0, memmem::find_iter(body, AFTER_KEY).peekable());
        while let Some(at) = found.next() {
            let end = found.peek().copied().unwrap_or(body.len());
            let understood = self.item(
                target,
                key(&body[..at]),
                &body[at + AFTER_KEY.len()..end],
                now,
            );
            self.strange
                .fetch_add(u64::from(!understood), Ordering::Relaxed);
            items += 1;
        }
        // Each item starts with this, and nothing inside a content does.
        if items == 0 || memmem::find_iter(body, br#"{"id":"weir_"#).count() != items {
            self.strange.fetch_add(1, Ordering::Relaxed);
        }
        self.delivered[target].fetch_add(items as u64, Ordering::Relaxed);
        let bucket = (now.duration_since(self.began).as_millis() / BUCKET.as_millis()) as usize;
        self.over_time[bucket.min(BUCKETS - 1)].fetch_add(items as u32, Ordering::Relaxed);
    }

    /// One item: the part of its envelope after the key, and its content.
    fn item(&self, target: usize, key: Option<u64>, rest: &[u8], now: Instant) -> bool {
        let Some(finder) = &self.mark else {
            return key.is_some();
        };
        let product = key
            .and_then(|key| usize::try_from(key.checked_sub(FIRST_KEY)?).ok())
            .filter(|product| *product < self.products);
        let mark = finder
            .find(rest)
            .and_then(|at| number(&rest[at + finder.needle().len()..]));
        let (Some(product), Some(mark)) = (product, mark) else {
            return false;
        };
        // No race: only this thread writes.
        let place = &self.marks[target * self.products + product];
        let before = place.load(Ordering::Relaxed);
        if mark == before {
            self.repeated.fetch_add(1, Ordering::Relaxed);
        } else {
            place.store(mark, Ordering::Relaxed);
            self.older
                .fetch_add(u64::from(mark < before), Ordering::Relaxed);
            let goal = self.goals[product].load(Ordering::Relaxed);
            if mark == goal {
                self.reached_at.store(
                    now.duration_since(self.began).as_micros() as u64,
                    Ordering::Relaxed,
                );
                self.reached.fetch_add(1, Ordering::Release);
            } else if before == goal {
                self.reached.fetch_sub(1, Ordering::Release);
            }
        }
        let watched = self.watched[product].load(Ordering::Relaxed);
        if watched != 0 && price(rest) == Some(watched) {
            self.arrived(target, product, now);
        }
        true
    }

    fn arrived(&self, target: usize, product: usize, now: Instant) {
        let mut probes = lock(&self.probes);
        let Some(probe) = probes.get_mut(&(product as u32)) else {
            return;
        };
        if probe.missing & (1 << target) == 0 {
            return;
        }
        probe.missing &= !(1 << target);
        lock(&self.arrivals).push((probe.lane, now.saturating_duration_since(probe.sent)));
        if probe.missing == 0 {
            probes.remove(&(product as u32));
            self.watched[product].store(0, Ordering::Relaxed);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The key at the end of the text before `","sequence":`.
fn key(before: &[u8]) -> Option<u64> {
    let start = before.iter().rposition(|byte| *byte == b'"')? + 1;
    before[..start]
        .ends_with(br#""key":""#)
        .then(|| number(&before[start..]))
        .flatten()
        .map(u64::from)
}

/// The whole number at the start.
fn number(text: &[u8]) -> Option<u32> {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    std::str::from_utf8(&text[..digits]).ok()?.parse().ok()
}

/// The whole part of the first amount in a content.
fn price(content: &[u8]) -> Option<u32> {
    const AMOUNT: &[u8] = br#""amount":""#;
    memmem::find(content, AMOUNT).and_then(|at| number(&content[at + AMOUNT.len()..]))
}

struct NotUnderstood;

/// Reads requests one after the other, each with a length.
async fn connection(mut stream: TcpStream, held: &Held) -> Result<(), NotUnderstood> {
    let _ = stream.set_nodelay(true);
    let mut read = Vec::with_capacity(256 << 10);
    loop {
        let head = loop {
            if let Some(end) = memmem::find(&read, b"\r\n\r\n") {
                break end + 4;
            }
            if read.len() > HEAD_BYTES_MAX {
                return Err(NotUnderstood);
            }
            if !matches!(stream.read_buf(&mut read).await, Ok(1..)) {
                return Ok(());
            }
        };
        let (target, length) = understand(&read[..head]).ok_or(NotUnderstood)?;
        if target >= held.targets || length > BODY_BYTES_MAX {
            return Err(NotUnderstood);
        }
        read.reserve((head + length).saturating_sub(read.len()));
        while read.len() < head + length {
            if !matches!(stream.read_buf(&mut read).await, Ok(1..)) {
                return Ok(());
            }
        }
        held.take(target, &read[head..head + length]);
        read.drain(..head + length);
        if stream.write_all(ANSWER).await.is_err() {
            return Ok(());
        }
    }
}

/// The target, and the length of the body, of a request.
fn understand(head: &[u8]) -> Option<(usize, usize)> {
    let head = std::str::from_utf8(head).ok()?;
    let mut lines = head.split("\r\n");
    let target = lines
        .next()?
        .strip_prefix("POST /")?
        .split(' ')
        .next()?
        .parse()
        .ok()?;
    let length = lines.find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.trim().parse().ok())
            .flatten()
    });
    Some((target, length?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BATCH: &str = concat!(
        r#"[{"id":"weir_1","type":"product","key":"1000001","sequence":7,"deleted":false,"content":{"sku":"1000001","available":3}},"#,
        r#"{"id":"weir_2","type":"product","key":"1000000","sequence":9,"deleted":false,"content":{"price":{"amount":"42.90"},"available":2}}]"#
    );

    #[test]
    fn what_each_target_holds_is_known() {
        let held = Held::new(2, 2, Some("\"available\":"));
        held.expect(|product| [2, 3][product]);
        held.take(1, BATCH.as_bytes());
        assert_eq!(
            (held.mark(1, 0), held.mark(1, 1), held.mark(0, 0)),
            (2, 3, 0)
        );
        assert_eq!(
            (
                held.reached(),
                held.missing(),
                held.delivered(),
                held.repeated()
            ),
            (2, 2, 2, 0)
        );
        held.take(1, BATCH.as_bytes());
        assert_eq!(
            (
                held.reached(),
                held.delivered(),
                held.repeated(),
                held.strange()
            ),
            (2, 4, 2, 0)
        );
        held.expect(|_| 4);
        held.take(
            1,
            BATCH
                .replace("\"available\":3", "\"available\":1")
                .as_bytes(),
        );
        assert_eq!((held.reached(), held.missing(), held.older()), (0, 4, 1));
    }

    #[test]
    fn what_is_not_understood_is_told() {
        let held = Held::new(1, 2, Some("\"available\":"));
        for (n, strange) in [
            "[]",
            &BATCH.replace("1000001\",\"seq", "2000001\",\"seq"),
            &BATCH.replace("available", "sold"),
            &BATCH[20..],
        ]
        .into_iter()
        .enumerate()
        {
            let before = held.strange();
            held.take(0, strange.as_bytes());
            assert!(held.strange() > before, "{n}: {strange}");
        }
    }

    #[test]
    fn a_watched_price_is_timed_to_each_of_its_targets() {
        let held = Held::new(3, 2, Some("\"available\":"));
        assert!(held.watch(0, 42, 0b110, "urgent"));
        assert!(
            !held.watch(0, 43, 0b001, "urgent"),
            "one price of a product at a time"
        );
        held.take(0, BATCH.as_bytes());
        assert_eq!(
            (held.watching("urgent"), held.arrivals("urgent").len()),
            (1, 0),
            "the first target does not show that price list"
        );
        held.take(1, BATCH.as_bytes());
        held.take(1, BATCH.as_bytes());
        assert_eq!(
            (held.watching("urgent"), held.arrivals("urgent").len()),
            (1, 1)
        );
        held.take(2, BATCH.as_bytes());
        assert_eq!(
            (held.watching("urgent"), held.arrivals("urgent").len()),
            (0, 2)
        );
    }
}
