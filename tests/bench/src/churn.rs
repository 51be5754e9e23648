//! Posts changes of randomly drawn products without end to a Weir that may be killed meanwhile, and
//! keeps a ledger of what it accepted.
//!
//! Each change has a rising number. For each product the ledger has the highest number sent and the
//! highest accepted. Whatever a crash did, at the end each target must hold a number between the
//! two, and all targets the same one.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::api::Api;
use crate::post::{Connection, NDJSON, Request};
use crate::recorder::Held;
use crate::report::Report;
use weir::inside::cli::Failure;

/// Delay between two attempts to connect to a Weir that is down.
const AGAIN: Duration = Duration::from_millis(10);

/// One kind of change, posted on a connection of its own.
#[derive(Clone, Copy)]
pub(super) struct Kind {
    pub(super) source: &'static str,
    pub(super) lane: Option<&'static str>,
    /// Changes per request.
    pub(super) batch: usize,
    /// Interval between two requests; zero means as fast as they are accepted.
    pub(super) every: Duration,
    /// Whether the targets are compared by the numbers of this kind at the end.
    pub(super) marked: bool,
    /// Writes one change of a product with its number.
    pub(super) write: fn(&mut Vec<u8>, usize, u32),
}

/// A running load of changes, until it is stopped.
pub(super) struct Churn {
    ledger: Arc<Ledger>,
    thread: JoinHandle<Result<(), String>>,
}

/// The ledger of changes that were sent and accepted.
pub(super) struct Ledger {
    over: AtomicBool,
    address: Mutex<SocketAddr>,
    next: AtomicU32,
    /// The highest number of each product; initially that of the first load.
    sent: Vec<AtomicU32>,
    accepted: Vec<AtomicU32>,
    events: AtomicU64,
    /// Requests that were not answered, or not with a yes.
    broken: AtomicU64,
}

/// The result of comparing the targets with the ledger.
pub(super) struct Compared {
    /// Pairs that hold a number lower than the accepted one, or one that was never sent.
    pub(super) wrong: u64,
    /// Products that differ between targets.
    pub(super) different: u64,
    /// One wrong product, and how it is wrong.
    pub(super) example: Option<(usize, String)>,
}

impl Compared {
    /// Adds the result to a report, and prints Weir's view of a wrong product, if there is one.
    pub(super) fn report(&self, api: &Api, report: &mut Report) {
        report.exactly("pairs_older_than_accepted_or_never_sent", self.wrong, 0);
        report.exactly("products_that_differ_between_targets", self.different, 0);
        if let Some((product, what)) = &self.example {
            report.figure(
                "for_example",
                format!(
                    "product {product}: {what}; Weir reports {}",
                    api.entity(*product)
                ),
            );
        }
    }
}

impl Churn {
    /// Starts to post to the Weir at this address, whose products were loaded with number 1, with a
    /// connection for each of `kinds`.
    pub(super) fn begin(
        address: SocketAddr,
        products: usize,
        kinds: Vec<Kind>,
    ) -> Result<Churn, Failure> {
        let ones = || {
            std::iter::repeat_with(|| AtomicU32::new(1))
                .take(products)
                .collect()
        };
        let ledger = Arc::new(Ledger {
            over: AtomicBool::new(false),
            address: Mutex::new(address),
            next: AtomicU32::new(2),
            sent: ones(),
            accepted: ones(),
            events: AtomicU64::new(0),
            broken: AtomicU64::new(0),
        });
        let posting = ledger.clone();
        let thread = std::thread::Builder::new()
            .name("generator".into())
            .spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .map_err(|error| error.to_string())?;
                runtime.block_on(async {
                    let mut open = tokio::task::JoinSet::new();
                    for (number, kind) in kinds.into_iter().enumerate() {
                        let posting = posting.clone();
                        open.spawn(async move {
                            posting
                                .connection(kind, fastrand::Rng::with_seed(number as u64))
                                .await
                        });
                    }
                    while let Some(done) = open.join_next().await {
                        done.map_err(|error| error.to_string())?;
                    }
                    Ok(())
                })
            });
        let thread = thread.map_err(|error| {
            Failure::Unreachable(format!("cannot start the load generator: {error}"))
        })?;
        Ok(Churn { ledger, thread })
    }

    /// Sets the new address of Weir after a restart.
    pub(super) fn move_to(&self, address: SocketAddr) {
        *self
            .ledger
            .address
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = address;
    }

    /// Changes accepted so far.
    pub(super) fn events(&self) -> u64 {
        self.ledger.events.load(Ordering::Relaxed)
    }

    /// Stops posting, once the requests in progress have their response.
    pub(super) fn end(self) -> Result<Arc<Ledger>, Failure> {
        self.ledger.over.store(true, Ordering::SeqCst);
        let ended = self
            .thread
            .join()
            .map_err(|_| Failure::Failed("the load generator panicked".to_owned()))?;
        ended.map_err(Failure::Failed)?;
        Ok(self.ledger)
    }
}

impl Ledger {
    /// Changes accepted, and requests that were not answered, or not with a yes.
    pub(super) fn counts(&self) -> (u64, u64) {
        (
            self.events.load(Ordering::Relaxed),
            self.broken.load(Ordering::Relaxed),
        )
    }

    /// Compares each product at each target with the ledger; call this when nothing is owed any
    /// more.
    pub(super) fn compare(&self, held: &Held) -> Compared {
        let (mut wrong, mut different, mut example) = (0, 0, None);
        for (product, (sent, accepted)) in self.sent.iter().zip(&self.accepted).enumerate() {
            let allowed = accepted.load(Ordering::Relaxed)..=sent.load(Ordering::Relaxed);
            let first = held.mark(0, product);
            let marks = (0..held.targets()).map(|target| held.mark(target, product));
            let bad = marks.clone().filter(|mark| !allowed.contains(mark)).count() as u64;
            let differ = marks.clone().any(|mark| mark != first);
            wrong += bad;
            different += u64::from(differ);
            if bad > 0 || differ {
                example.get_or_insert_with(|| {
                    (
                        product,
                        format!(
                            "accepted {allowed:?} sent, held {:?}",
                            marks.collect::<Vec<_>>()
                        ),
                    )
                });
            }
        }
        Compared {
            wrong,
            different,
            example,
        }
    }

    async fn connection(&self, kind: Kind, mut chance: fastrand::Rng) {
        let mut request = Request {
            source: kind.source,
            content_type: NDJSON,
            lane: kind.lane,
            events: 0,
            body: Vec::new(),
        };
        let mut beat = tokio::time::interval(kind.every.max(Duration::from_micros(1)));
        beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while !self.over.load(Ordering::SeqCst) {
            let address = *self.address.lock().unwrap_or_else(PoisonError::into_inner);
            let Ok(mut connection) = Connection::open(address).await else {
                tokio::time::sleep(AGAIN).await;
                continue;
            };
            while !self.over.load(Ordering::SeqCst) {
                if !kind.every.is_zero() {
                    beat.tick().await;
                }
                let written = self.write(kind, &mut chance, &mut request);
                if connection.post(&request).await.is_err() {
                    self.broken.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(AGAIN).await;
                    break;
                }
                self.events.fetch_add(request.events, Ordering::Relaxed);
                for (product, number) in written {
                    self.accepted[product].fetch_max(number, Ordering::SeqCst);
                }
            }
        }
    }

    /// Writes the next request. Returns the entries to record if it is accepted.
    fn write(
        &self,
        kind: Kind,
        chance: &mut fastrand::Rng,
        request: &mut Request,
    ) -> Vec<(usize, u32)> {
        request.body.clear();
        request.events = kind.batch as u64;
        let mut written = Vec::with_capacity(kind.batch);
        for _ in 0..kind.batch {
            let (product, number) = (
                chance.usize(..self.sent.len()),
                self.next.fetch_add(1, Ordering::SeqCst),
            );
            (kind.write)(&mut request.body, product, number);
            if kind.marked {
                self.sent[product].fetch_max(number, Ordering::SeqCst);
                written.push((product, number));
            }
        }
        written
    }
}
