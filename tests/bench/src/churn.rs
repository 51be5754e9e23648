//! Changes of products drawn at random, posted without end to a Weir that may be killed meanwhile;
//! and the ledger of what it accepted.
//!
//! Each change has a number that rises. The ledger knows for each product the highest number that
//! was sent and the highest that was accepted; so whatever a crash did, each target must in the end
//! hold one between the two, and all targets the same.

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

/// Between two tries to connect to a Weir that is not there.
const AGAIN: Duration = Duration::from_millis(10);

/// One kind of change, posted on a connection of its own.
#[derive(Clone, Copy)]
pub(super) struct Kind {
    pub(super) source: &'static str,
    pub(super) lane: Option<&'static str>,
    /// Changes in a request.
    pub(super) batch: usize,
    /// Between two requests; zero: as fast as they are taken.
    pub(super) every: Duration,
    /// Whether its numbers are what targets are asked for in the end.
    pub(super) marked: bool,
    /// Writes one change of a product with its number.
    pub(super) write: fn(&mut Vec<u8>, usize, u32),
}

/// Changes that are being posted, until they are told to end.
pub(super) struct Churn {
    ledger: Arc<Ledger>,
    thread: JoinHandle<Result<(), String>>,
}

/// What was sent and accepted.
pub(super) struct Ledger {
    over: AtomicBool,
    address: Mutex<SocketAddr>,
    next: AtomicU32,
    /// By product: highest numbers; at the beginning that of the first load.
    sent: Vec<AtomicU32>,
    accepted: Vec<AtomicU32>,
    events: AtomicU64,
    /// Requests that were not answered, or not with a yes.
    broken: AtomicU64,
}

/// What targets hold against what was accepted.
pub(super) struct Compared {
    /// Pairs that hold something older than was accepted, or never sent.
    pub(super) wrong: u64,
    /// Products that are not the same at all targets.
    pub(super) different: u64,
    /// One of them and what is wrong with it.
    pub(super) example: Option<(usize, String)>,
}

impl Compared {
    /// Says it in a report; with how Weir sees a product that is wrong, if one is.
    pub(super) fn report(&self, api: &Api, report: &mut Report) {
        report.exactly("pairs_older_than_accepted_or_never_sent", self.wrong, 0);
        report.exactly("products_that_differ_between_targets", self.different, 0);
        if let Some((product, what)) = &self.example {
            report.figure(
                "for_example",
                format!(
                    "product {product}: {what}; Weir says {}",
                    api.entity(*product)
                ),
            );
        }
    }
}

impl Churn {
    /// Begins to post to that Weir, whose products were loaded with number 1; a connection for each
    /// of `kinds`.
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
        let thread =
            thread.map_err(|error| Failure::Unreachable(format!("no generator: {error}")))?;
        Ok(Churn { ledger, thread })
    }

    /// Weir is somewhere else from now on.
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

    /// No more are posted, once those under way are answered.
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

    /// Looks at each product at each target once all has come to rest.
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

    /// The next request. Answers what is to be noted as accepted if it is.
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
