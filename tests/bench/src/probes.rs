//! Prices that are posted one at a time while something else is going on, each of a product drawn at random,
//! and watched until they have arrived at each target that shows them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::api::PATIENCE;
use crate::catalogue;
use crate::clock::round;
use crate::post::{Connection, NDJSON, Request};
use crate::recorder::Recorder;
use weir::inside::cli::Failure;

/// Interval between two prices of a lane.
const EVERY: Duration = Duration::from_millis(100);
/// The first amount of a watched price, higher than all prices of the first load.
const AMOUNT: u32 = 1_000_000;

/// A running load of prices in one lane, until it is stopped.
pub(super) struct Probes {
    lane: &'static str,
    recorder: Arc<Recorder>,
    over: Arc<AtomicBool>,
    thread: JoinHandle<Result<usize, String>>,
}

/// The prices of one lane, when all have arrived.
pub(super) struct Arrived {
    pub(super) posted: usize,
    /// Sorted.
    waits: Vec<Duration>,
}

impl Arrived {
    /// The number of arrivals: each price arrives at several targets.
    pub(super) fn count(&self) -> usize {
        self.waits.len()
    }

    /// The wait in milliseconds that this share of the arrivals did not exceed.
    pub(super) fn ms(&self, share: f64) -> f64 {
        let most = self.waits.len().max(1);
        let index = ((self.waits.len() as f64 * share).ceil() as usize).clamp(1, most) - 1;
        let wait = self.waits.get(index).copied().unwrap_or_default();
        round(wait.as_secs_f64() * 1e3, 2)
    }
}

impl Probes {
    /// Starts to post prices in this lane. `numbers` is shared by all loads of a measurement, so that each
    /// price has an amount and a version of its own.
    pub(super) fn begin(
        to: SocketAddr,
        recorder: &Arc<Recorder>,
        products: usize,
        lane: &'static str,
        numbers: &Arc<AtomicU32>,
    ) -> Probes {
        let over = Arc::new(AtomicBool::new(false));
        let (until, held, numbers) = (over.clone(), recorder.clone(), numbers.clone());
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(|error| error.to_string())?;
            runtime.block_on(post(to, &held, products, lane, &numbers, &until))
        });
        Probes {
            lane,
            recorder: recorder.clone(),
            over,
            thread,
        }
    }

    /// Stops posting, and waits until each price has arrived at each target that shows it.
    ///
    /// # Errors
    /// A price was not accepted, or some have not arrived after [`PATIENCE`].
    pub(super) fn end(self) -> Result<Arrived, Failure> {
        self.over.store(true, Ordering::Relaxed);
        let posted = self
            .thread
            .join()
            .map_err(|_| Failure::Failed("the thread of the prices panicked".to_owned()))?;
        let posted = posted
            .map_err(|error| Failure::Failed(format!("a price was not accepted: {error}")))?;
        let (held, until) = (self.recorder.held(), Instant::now() + PATIENCE);
        while held.watching(self.lane) > 0 {
            if Instant::now() > until {
                return Err(Failure::Failed(format!(
                    "of {posted} prices in lane {} {} have not arrived everywhere",
                    self.lane,
                    held.watching(self.lane)
                )));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let mut waits = held.arrivals(self.lane);
        waits.sort_unstable();
        Ok(Arrived { posted, waits })
    }
}

async fn post(
    to: SocketAddr,
    recorder: &Recorder,
    products: usize,
    lane: &'static str,
    numbers: &AtomicU32,
    over: &AtomicBool,
) -> Result<usize, String> {
    let mut connection = Connection::open(to).await?;
    // Lanes with the same seed would draw the same products: one would nearly always find that the other still
    // watches its product, and its connection would be idle until Weir closes it.
    let seed = lane
        .bytes()
        .fold(42, |seed: u64, byte| seed * 31 + u64::from(byte));
    let mut chance = fastrand::Rng::with_seed(seed);
    let (mut posted, began) = (0, Instant::now());
    let mut answered = began;
    let mut beat = tokio::time::interval(EVERY);
    // The delay is measured from the latest time at which the price should have been posted. Otherwise
    // a slow response would hide the delay of the prices after it (coordinated omission).
    beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while !over.load(Ordering::Relaxed) {
        beat.tick().await;
        let (product, list) = (chance.usize(..products), chance.usize(..catalogue::lists()));
        let number = numbers.fetch_add(1, Ordering::Relaxed);
        let (amount, version) = (AMOUNT + number, 2 + number);
        let targets = catalogue::shows(list);
        if !recorder.held().watch(product, amount, targets, lane) {
            continue;
        }
        let mut request = Request {
            source: "erp",
            content_type: NDJSON,
            lane: Some(lane),
            events: 1,
            body: Vec::new(),
        };
        catalogue::price(list, product, amount, version, &mut request.body);
        let sent = Instant::now();
        connection.post(&request).await.map_err(|error| {
            format!(
                "{error}; it was the {}th in lane {lane}, sent after {:.1} s, {:.3} s after the answer before it, \
                 and failed {:.3} s later",
                posted + 1,
                (sent - began).as_secs_f64(),
                (sent - answered).as_secs_f64(),
                sent.elapsed().as_secs_f64(),
            )
        })?;
        (posted, answered) = (posted + 1, Instant::now());
    }
    Ok(posted)
}
