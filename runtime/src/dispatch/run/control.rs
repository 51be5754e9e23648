//! The commands to a channel: pause, sweep, confirm, redrive, replace, stop.
//!
//! A command that would change the meaning of a delivery in flight first waits until none is in
//! flight.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::super::Setup;
use super::super::retry::Waiting;
use super::super::turns::{TRACKS, WeightedRoundRobin};
use super::Run;
use crate::failpoint;
use crate::model::{Ordinal, Timestamp};
use crate::store::{self, Joined, Parked, Pending};
use crate::sync::lock;

/// How long a change of configuration or a resync waits for requests in flight before it aborts
/// them.
const DRAIN_MAX: Duration = Duration::from_secs(5);

/// A command to a channel. Its sender receives the result.
pub(crate) enum Control {
    Pause(bool, oneshot::Sender<Result<(), store::Error>>),
    Resweep {
        lost: bool,
        done: oneshot::Sender<Result<(), store::Error>>,
    },
    Confirm(oneshot::Sender<usize>),
    Redrive(Vec<Ordinal>, oneshot::Sender<usize>),
    Resend(Vec<Ordinal>, oneshot::Sender<usize>),
    Replace(Box<Setup>, oneshot::Sender<Result<Joined, store::Error>>),
    Stop(Duration),
}

impl Run {
    // Sending a result fails only if the caller no longer waits for it, which is no reason to stop.
    pub(super) async fn control(&mut self, control: Control) {
        // While a command is awaited, nothing is sent, and others may use the target.
        self.hand_back_permits();
        match control {
            Control::Pause(paused, done) => {
                drop(done.send(self.set_paused(paused, "paused by an operator").await))
            }
            Control::Resweep { lost, done } => drop(done.send(self.resweep(lost).await)),
            Control::Confirm(done) => drop(done.send(self.confirm())),
            Control::Redrive(ordinals, done) => {
                let parked = self.queue.redrive(&ordinals);
                let _ = done.send(self.retry_at_once(&parked));
            }
            Control::Resend(ordinals, done) => {
                let parked = self.queue.resend(&ordinals);
                let _ = done.send(self.retry_at_once(&parked));
            }
            Control::Replace(setup, done) => drop(done.send(self.replace(*setup).await)),
            Control::Stop(_) => unreachable!("the loop ends with it"),
        }
    }

    pub(super) fn set_paused(&mut self, paused: bool, reason: &str) -> Pending<()> {
        self.paused = paused;
        *self.shared.paused() = paused.then(|| reason.to_owned());
        self.queue.set_paused(paused)
    }

    /// Starts a sweep over all entities. If the target has lost its data, all flights end first,
    /// because a delivery from before the loss would otherwise count as delivered.
    async fn resweep(&mut self, lost: bool) -> Result<(), store::Error> {
        if lost {
            self.drain(DRAIN_MAX).await;
        }
        self.walks_again();
        self.queue.resweep(lost).await?;
        self.walk_everything();
        Ok(())
    }

    fn confirm(&mut self) -> usize {
        let now = self.clock.now();
        let held = std::mem::take(&mut self.held);
        for ordinal in &held {
            self.schedule.park(
                *ordinal,
                Waiting {
                    due: now,
                    released: true,
                    ..Waiting::default()
                },
            );
        }
        held.len()
    }

    fn retry_at_once(&mut self, parked: &[Parked]) -> usize {
        for parked in parked {
            self.schedule.park(
                parked.ordinal,
                Waiting {
                    due: self.clock.now(),
                    ..Waiting::default()
                },
            );
        }
        parked.len()
    }

    async fn replace(&mut self, setup: Setup) -> Result<Joined, store::Error> {
        self.drain(DRAIN_MAX).await;
        self.walks_again();
        let changes = self.queue.changes();
        let (queue, joined) = (self.store)
            .join(&setup.options.name, &setup.subscription)
            .await?;
        lock(&self.shared.changes).resubscribed(changes, queue.changes());
        if joined.swept {
            self.there_before = *self.watermark.borrow();
        }
        failpoint::pass("dispatch.swapping");
        let shares = WeightedRoundRobin::new(setup.shares);
        (self.walking, self.rendering, self.sending) = (shares.clone(), shares.clone(), shares);
        self.target_changes = setup.target.changes();
        self.clock = setup.target.clock();
        self.setup = Arc::new(setup);
        self.walks_again();
        self.shared.setup.store(self.setup.clone());
        self.queue = queue;
        self.shared.queue.store(Arc::new(self.queue.clone()));
        self.walk_everything();
        self.overfull = false;
        self.reschedule(&joined.parked);
        self.shared.waiters.wake_all();
        Ok(joined)
    }

    /// Rebuilds the schedule from the parked entities in the store, with the waits spread so that
    /// not all are due at once.
    pub(super) fn reschedule(&mut self, parked: &[Parked]) {
        self.schedule.clear();
        self.held = parked
            .iter()
            .filter(|parked| parked.held)
            .map(|parked| parked.ordinal)
            .collect();
        let now = self.clock.now();
        for parked in parked.iter().filter(|parked| !parked.held) {
            let failed = parked.attempts > 0;
            let wait = if failed {
                self.setup
                    .options
                    .retry
                    .wait(parked.attempts, self.dice.f64())
            } else {
                Duration::ZERO
            };
            let due = Timestamp(now.0.saturating_add(wait.as_millis() as u64));
            self.schedule.park(
                parked.ordinal,
                Waiting {
                    due,
                    failed,
                    ..Waiting::default()
                },
            );
        }
    }

    /// Ends all flights: waits up to `within` for requests, aborts the others, which the target may
    /// have applied, and parks what was not sent.
    pub(super) async fn drain(&mut self, within: Duration) {
        let deadline = Instant::now() + within;
        loop {
            self.give_back(None);
            // Preparations may be aborted: nothing is lost with a rendering.
            let Ok(Some(done)) =
                tokio::time::timeout_at(deadline, self.tasks.join_next_with_id()).await
            else {
                break;
            };
            self.settle(done);
        }
        self.tasks.abort_all();
        while let Some(done) = self.tasks.join_next_with_id().await {
            self.settle(done);
            self.give_back(None);
        }
        self.give_back(None);
        debug_assert!(
            self.flights.is_empty() && self.in_track == [0; TRACKS],
            "each flight has ended"
        );
    }
}
