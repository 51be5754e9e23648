//! A target with the limits that its channels share: slots for requests in flight, a rate, and the
//! breaker.
//!
//! An attempt needs a [`Permit`], and the outcome of each attempt reaches the breaker, whatever the
//! channel does with it. If there are two or more slots, one is reserved for urgent work. Time and
//! chance come from outside.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::Instant;

use super::breaker::{self, Admission, Breaker, State, Subject};
use super::clock::Clock;
use super::lock;
use super::pace::RateLimiter;
use crate::model::{PartsDigest, Timestamp};
use crate::targets::{Attempt, Form, Item, Nature, Options, Outcome, Target, Trace, Unusable};

/// A target, its limits and its breaker, shared by the channels that deliver to it.
pub struct TargetHandle {
    options: Options,
    target: Box<dyn Target>,
    nature: Nature,
    clock: Clock,
    dice: Mutex<fastrand::Rng>,
    breaker: Mutex<Breaker>,
    rate: Option<Mutex<RateLimiter>>,
    general: Arc<Semaphore>,
    urgent: Option<Arc<Semaphore>>,
    changed: watch::Sender<()>,
}

/// The status of a target, for users.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetStatus {
    /// Flowing, tripped or probing.
    pub state: State,
    /// When it entered this state.
    pub since: Timestamp,
    /// Why it does not flow; empty if it flows.
    pub reason: String,
}

impl TargetHandle {
    /// Prepares a target without opening a connection. The clock must be the one that all targets
    /// share. The dice spread the waits and generate trace ids.
    ///
    /// # Errors
    /// See [`Unusable`].
    pub fn open(
        options: Options,
        breaker: breaker::Options,
        clock: Clock,
        dice: fastrand::Rng,
    ) -> Result<Arc<TargetHandle>, Unusable> {
        let target = options.kind.open()?;
        let (general, urgent) = match options.concurrency.clamp(1, 1024) {
            1 => (1, None),
            slots => (slots - 1, Some(Arc::new(Semaphore::new(1)))),
        };
        Ok(Arc::new(TargetHandle {
            nature: target.nature(),
            target,
            breaker: Mutex::new(Breaker::new(breaker, clock.now())),
            clock,
            dice: Mutex::new(dice),
            rate: options.rate.map(|rate| Mutex::new(RateLimiter::new(rate))),
            general: Arc::new(Semaphore::new(general)),
            urgent,
            changed: watch::Sender::new(()),
            options,
        }))
    }

    /// The options it was opened with.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// The current status.
    pub fn status(&self) -> TargetStatus {
        let breaker = self.breaker();
        TargetStatus {
            state: breaker.state(),
            since: breaker.since(),
            reason: breaker.reason().to_owned(),
        }
    }

    /// See [`Target::place`].
    pub fn place(&self) -> u64 {
        self.target.place()
    }

    /// The target's requirements for deliveries.
    pub(crate) fn nature(&self) -> Nature {
        self.nature
    }

    /// The clock that all targets share.
    pub(crate) fn clock(&self) -> Clock {
        self.clock
    }

    /// Forks the dice for a channel, so that it does not have to share these.
    pub(crate) fn fork_dice(&self) -> fastrand::Rng {
        lock(&self.dice).fork()
    }

    /// Whether attempts may be made.
    pub(crate) fn admits(&self) -> Admission {
        self.breaker().admits(self.clock.now())
    }

    /// Returns a receiver that is notified when [`TargetHandle::admits`] may have changed.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Trips the breaker for a reason that no single attempt shows.
    pub(crate) fn trip(&self, reason: &str) {
        let mut breaker = self.breaker();
        let before = breaker.state();
        breaker.trip(self.clock.now(), false, reason, None, self.chance());
        self.log_change(before, &breaker);
        drop(breaker);
        self.changed.send_replace(());
    }

    /// Waits for a slot. Returns `None` if the breaker admits no attempt when the slot is free.
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
        lock(&self.breaker)
    }

    fn chance(&self) -> f64 {
        lock(&self.dice).f64()
    }

    /// Reports the outcome of an attempt to the breaker.
    fn judge(&self, items: &[Item], outcomes: &[Outcome], probe: bool) {
        let (now, mut breaker) = (self.clock.now(), self.breaker());
        let before = breaker.state();
        let delivered = outcomes.contains(&Outcome::Delivered);
        if delivered {
            breaker.delivered(now, probe);
        }
        // A failure counts once per request, a refusal once per entity.
        let mut failure = None;
        for (item, outcome) in items.iter().zip(outcomes) {
            match outcome {
                Outcome::Refused { reason, .. } if !delivered => {
                    breaker.refused(now, probe, subject(item), reason, self.chance())
                }
                Outcome::Trip { reason } | Outcome::Pause { reason } => {
                    breaker.trip(now, probe, reason, None, self.chance())
                }
                Outcome::Retry { reason, after, .. } if !delivered => {
                    failure.get_or_insert((item, reason, *after));
                }
                // The target read the batch and responded, so it is alive.
                Outcome::Split { .. } if probe => breaker.delivered(now, probe),
                _ => {}
            }
        }
        if let Some((item, reason, after)) = failure {
            breaker.failed(now, probe, subject(item), reason, after, self.chance());
        }
        if breaker.state() != before {
            self.log_change(before, &breaker);
            self.changed.send_replace(());
        }
    }

    /// Logs once when the target trips and once when it is back, however many probes fail in
    /// between.
    fn log_change(&self, before: State, breaker: &Breaker) {
        let (name, reason) = (&*self.options.name, breaker.reason());
        match (before, breaker.state()) {
            (State::Flowing, State::Tripped { .. }) => tracing::warn!(
                target_name = name,
                reason,
                "target tripped; nothing is sent to it until a probe succeeds"
            ),
            (State::Probing, State::Flowing) => {
                tracing::info!(target_name = name, "target is back; deliveries resume")
            }
            (State::Probing, State::Tripped { .. }) => {
                tracing::debug!(target_name = name, reason, "a probe of the target failed")
            }
            _ => {}
        }
    }
}

/// The entity and delivery of an item, for the breaker.
fn subject(item: &Item) -> Subject {
    let mut entity = PartsDigest::new();
    entity
        .part(&*item.entity.entity_type)
        .part(&*item.entity.key);
    Subject {
        entity: entity.digest64(),
        // Half of an id is as unique as is needed here.
        delivery: item.id.0 as u64,
    }
}

/// The permission to make attempts: a slot and the breaker's admission.
pub(crate) struct Permit {
    handle: Arc<TargetHandle>,
    /// Whether the attempt is a probe.
    pub(crate) probe: bool,
    /// A probe whose outcome is not known yet.
    pending: bool,
    _slot: OwnedSemaphorePermit,
}

impl Permit {
    /// Makes one attempt, after waiting for the rate limit. Returns `None` if the target has
    /// tripped meanwhile.
    pub(crate) async fn attempt(
        &mut self,
        items: &[Item],
        form: Form,
    ) -> Option<(Vec<Outcome>, Duration)> {
        if let Some(rate) = &self.handle.rate {
            let wait = lock(rate).wait(self.handle.clock.elapsed());
            tokio::time::sleep(wait).await;
        }
        // A successful probe has made the target flow again; after a failed one no further attempt
        // is allowed.
        if !self.pending && self.handle.breaker().state() != State::Flowing {
            return None;
        }
        let trace = {
            let mut dice = lock(&self.handle.dice);
            Trace {
                trace: dice.u128(1..),
                span: dice.u64(1..),
            }
        };
        let began = Instant::now();
        let attempt = Attempt {
            items,
            form,
            trace,
            now: self.handle.clock.wall(),
        };
        let mut outcomes = self.handle.target.deliver(attempt).await;
        outcomes.resize_with(items.len(), || Outcome::Retry {
            reason: "the target's response does not mention this item".into(),
            after: None,
            maybe_applied: true,
        });
        self.handle
            .judge(items, &outcomes, std::mem::take(&mut self.pending));
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
