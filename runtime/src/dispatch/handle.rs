//! A target with what its channels share: slots for requests in flight, a rate, and the breaker.
//!
//! An attempt is made only with a [`Permit`], and each attempt's outcome reaches the breaker, so
//! that a channel cannot forget to tell. One slot is kept for urgent work where there are two or
//! more.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::Instant;

use super::breaker::{self, Admission, Breaker, State};
use super::pace::Pace;
use crate::model::Timestamp;
use crate::target::{Item, Options, Outcome, Target, Trace};

/// Time that never runs backwards: the wall clock at the start, and what has passed since.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    wall: Timestamp,
    since: Instant,
}

impl Clock {
    /// From now on.
    pub(crate) fn start() -> Clock {
        let wall = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        Clock {
            wall: Timestamp(wall.as_millis() as u64),
            since: Instant::now(),
        }
    }

    /// Now.
    pub(crate) fn now(&self) -> Timestamp {
        Timestamp(self.wall.0 + self.since.elapsed().as_millis() as u64)
    }

    /// When that time has surely come.
    pub(crate) fn instant(&self, time: Timestamp) -> Instant {
        self.since + Duration::from_millis(time.0.saturating_sub(self.wall.0))
    }
}

/// A target, its limits and its breaker, shared by the channels that deliver there.
pub struct TargetHandle {
    options: Options,
    target: Target,
    clock: Clock,
    breaker: Mutex<Breaker>,
    pace: Option<Mutex<Pace>>,
    general: Arc<Semaphore>,
    urgent: Option<Arc<Semaphore>>,
    changed: watch::Sender<()>,
}

/// How a target stands, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetStatus {
    /// Flowing, tripped or probing.
    pub state: State,
    /// Since when.
    pub since: Timestamp,
    /// Why it does not flow; empty if it does.
    pub reason: String,
}

impl TargetHandle {
    /// Prepares a target; connects to nobody yet.
    ///
    /// # Errors
    /// A sentence for the operator.
    pub fn open(options: Options) -> Result<Arc<TargetHandle>, String> {
        TargetHandle::with_breaker(options, breaker::Options::default())
    }

    /// The same with a breaker of one's own making.
    ///
    /// # Errors
    /// A sentence for the operator.
    pub fn with_breaker(
        options: Options,
        breaker: breaker::Options,
    ) -> Result<Arc<TargetHandle>, String> {
        let (target, clock) = (Target::open(&options.kind)?, Clock::start());
        let (general, urgent) = match options.concurrency.clamp(1, 1024) {
            1 => (1, None),
            slots => (slots - 1, Some(Arc::new(Semaphore::new(1)))),
        };
        Ok(Arc::new(TargetHandle {
            target,
            breaker: Mutex::new(Breaker::new(breaker, clock.now())),
            clock,
            pace: options.rate.map(|rate| Mutex::new(Pace::new(rate))),
            general: Arc::new(Semaphore::new(general)),
            urgent,
            changed: watch::Sender::new(()),
            options,
        }))
    }

    /// What it was made from.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// How it stands.
    pub fn status(&self) -> TargetStatus {
        let breaker = self.breaker();
        TargetStatus {
            state: breaker.state(),
            since: breaker.since(),
            reason: breaker.reason().to_owned(),
        }
    }

    /// Whether another key is another thing there.
    pub(crate) fn by_key(&self) -> bool {
        self.target.by_key()
    }

    /// Whether attempts may be made.
    pub(crate) fn admits(&self) -> Admission {
        self.breaker().admits(self.clock.now())
    }

    /// Tells when that may have changed.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Trips for a reason that no single attempt shows.
    pub(crate) fn trip(&self, reason: &str) {
        self.breaker()
            .trip(self.clock.now(), false, reason, None, fastrand::f64());
        self.changed.send_replace(());
    }

    /// Waits for a slot; none if the target does not flow by then, or flows no more.
    pub(crate) async fn permit(self: &Arc<Self>, urgent: bool) -> Option<Permit> {
        let slot = match &self.urgent {
            Some(kept) if urgent => tokio::select! {
                biased;
                slot = self.general.clone().acquire_owned() => slot,
                slot = kept.clone().acquire_owned() => slot,
            },
            _ => self.general.clone().acquire_owned().await,
        };
        let slot = slot.expect("slots are never closed");
        let mut breaker = self.breaker();
        let probe = match breaker.admits(self.clock.now()) {
            Admission::Flowing => false,
            Admission::Probe => true,
            Admission::Wait(_) => return None,
        };
        if probe {
            breaker.begin_probe();
        }
        drop(breaker);
        Some(Permit {
            handle: self.clone(),
            probe,
            pending: probe,
            _slot: slot,
        })
    }

    fn breaker(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the breaker what came of an attempt.
    fn judge(&self, outcomes: &[Outcome], probe: bool) {
        let (now, mut breaker) = (self.clock.now(), self.breaker());
        let before = breaker.state();
        let delivered = outcomes.contains(&Outcome::Delivered);
        if delivered {
            breaker.delivered(now, probe);
        }
        // A failure counts once a request, a refusal once an entity.
        let mut failure = None;
        for outcome in outcomes {
            match outcome {
                Outcome::Refused { reason, .. } if !delivered => {
                    breaker.refused(now, probe, reason, fastrand::f64())
                }
                Outcome::Trip { reason } | Outcome::Pause { reason } => {
                    breaker.trip(now, probe, reason, None, fastrand::f64())
                }
                Outcome::Retry { reason, after, .. } if !delivered => {
                    failure = Some((reason, *after))
                }
                // The target read the batch and answered: alive.
                Outcome::Split { .. } if probe => breaker.delivered(now, probe),
                _ => {}
            }
        }
        if let Some((reason, after)) = failure {
            breaker.failed(now, probe, reason, after, fastrand::f64());
        }
        if breaker.state() != before {
            tracing::info!(target_name = %self.options.name, state = ?breaker.state(), reason = breaker.reason(), "the target changed its state");
            self.changed.send_replace(());
        }
    }
}

/// The right to make attempts: a slot, and the breaker's consent.
pub(crate) struct Permit {
    handle: Arc<TargetHandle>,
    /// Whether the attempt is a probe.
    pub(crate) probe: bool,
    /// A probe that has not brought an answer yet.
    pending: bool,
    _slot: OwnedSemaphorePermit,
}

impl Permit {
    /// Makes one attempt at the target's pace; none if the target has tripped meanwhile.
    pub(crate) async fn attempt(
        &mut self,
        items: &[Item],
        batched: bool,
    ) -> Option<(Vec<Outcome>, Duration)> {
        if let Some(pace) = &self.handle.pace {
            let wait = pace
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .wait(self.handle.clock.since.elapsed());
            tokio::time::sleep(wait).await;
        }
        // A probe that went well has made the target flow; one that did not has ended the right to
        // go on.
        if !self.pending && self.handle.breaker().state() != State::Flowing {
            return None;
        }
        let trace = Trace {
            trace: fastrand::u128(1..),
            span: fastrand::u64(1..),
        };
        let began = Instant::now();
        let mut outcomes = self
            .handle
            .target
            .deliver(items, batched, trace, SystemTime::now())
            .await;
        outcomes.resize(
            items.len(),
            Outcome::Retry {
                reason: "the target said nothing of it".into(),
                after: None,
                maybe_applied: true,
            },
        );
        self.handle
            .judge(&outcomes, std::mem::take(&mut self.pending));
        Some((outcomes, began.elapsed()))
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.pending {
            self.handle.breaker().abandon_probe(self.handle.clock.now());
            self.handle.changed.send_replace(());
        }
    }
}
