//! Permits: what an attempt at a target needs, and the attempt itself.

use std::sync::Arc;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::super::breaker::State;
use super::super::lock;
use super::super::pace::Charge;
use super::super::traced::Attempted;
use super::TargetHandle;
use super::judge::Made;
use crate::model::{Sequence, Trace};
use crate::targets::{Attempt, Delivery, Form, Item, Nature, Outcome};

/// The permission to make attempts: a slot, the pace and the breaker's admission.
pub(crate) struct Permit {
    handle: Arc<TargetHandle>,
    /// Whether it was asked for urgent work.
    pub(crate) urgent: bool,
    /// Whether the attempt is a probe.
    pub(crate) probe: bool,
    /// The id of the trace of all its attempts.
    pub(crate) trace: u128,
    /// Whether they are recorded, as their target learns. While nobody decides it, they may be.
    pub(crate) sampled: bool,
    /// A probe whose outcome is not known yet.
    pending: bool,
    /// What a request was charged that the pace lets start and that has not been made yet.
    charge: Option<Charge>,
    slot: Option<OwnedSemaphorePermit>,
}

impl Permit {
    /// A permit for requests of this class, of which the first has been charged.
    pub(super) fn new(
        handle: Arc<TargetHandle>,
        urgent: bool,
        probe: bool,
        charge: Charge,
        slot: OwnedSemaphorePermit,
    ) -> Permit {
        let trace = lock(&handle.dice).u128(1..);
        Permit {
            handle,
            urgent,
            probe,
            trace,
            sampled: true,
            pending: probe,
            charge: Some(charge),
            slot: Some(slot),
        }
    }

    /// See [`TargetHandle::nature`].
    pub(crate) fn nature(&self) -> Nature {
        self.handle.nature
    }

    /// Charges the pace for a request that is no attempt.
    pub(crate) fn spend(&mut self, items: &[Item]) {
        if let Some(charge) = self.charge.take() {
            let handle = &self.handle;
            handle.pace().charge(charge, handle.options.cost.of(items));
        }
    }

    /// Makes one attempt. An attempt after the first, for example at the second half of a batch,
    /// waits for the pace. Returns `None` if the target has tripped meanwhile.
    pub(crate) async fn attempt(
        &mut self,
        items: &[Item],
        form: Form,
        head: Sequence,
    ) -> Option<(Vec<Outcome>, Attempted)> {
        // A successful probe has made the target flow again; after a failed one no further attempt
        // is allowed, and none waits for the pace.
        if !self.is_admitted() {
            return None;
        }
        let charge = match self.charge {
            Some(charge) => charge,
            None => {
                let charge = self.handle.keep_pace(self.urgent).await;
                self.charge = Some(charge);
                if !self.is_admitted() {
                    return None;
                }
                charge
            }
        };
        self.charge = None;
        let cost = self.handle.options.cost.of(items);
        self.handle.pace().charge(charge, cost);
        let trace = Trace {
            trace: self.trace,
            span: lock(&self.handle.dice).u64(1..),
            sampled: self.sampled,
        };
        let wall = self.handle.clock.wall();
        let (began, sent) = (Instant::now(), self.handle.clock.elapsed());
        let attempt = Attempt {
            items,
            form,
            trace,
            now: wall,
            head,
            foreign: self.handle.foreign(),
        };
        let under_way = UnderWay::begin(&self.handle);
        let Delivery {
            mut outcomes,
            hints,
        } = self.handle.target.deliver(attempt).await;
        self.handle.heed(&hints, charge);
        drop(under_way);
        outcomes.resize_with(items.len(), || Outcome::Retry {
            reason: "the target's response does not mention this item".into(),
            maybe_applied: true,
        });
        let took = began.elapsed();
        self.handle.note_duration(took);
        if form == Form::Batch {
            self.handle.note_size(items, &outcomes);
        }
        let probe = std::mem::take(&mut self.pending);
        let made = Made { probe, sent, trace };
        self.handle.judge(items, &outcomes, &hints, made);
        let attempted = Attempted {
            trace,
            began: wall,
            took,
        };
        Some((outcomes, attempted))
    }

    /// Whether the breaker still admits an attempt.
    fn is_admitted(&self) -> bool {
        let flows = self.pending || self.handle.breaker().state() == State::Flowing;
        flows && self.handle.forgot().is_none()
    }
}

/// Counts a request as unanswered while it lasts, also if it is aborted.
struct UnderWay<'a>(&'a TargetHandle);

impl UnderWay<'_> {
    fn begin(handle: &TargetHandle) -> UnderWay<'_> {
        handle.pace().sent(handle.clock.elapsed());
        UnderWay(handle)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.pace().answered(self.0.clock.elapsed());
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(charge) = self.charge {
            self.handle.pace().give_back(charge);
            self.handle.quota.sooner().notify_waiters();
        }
        if let Some(slot) = self.slot.take() {
            self.handle.quota.give_back(slot);
        }
        if self.pending {
            self.handle.breaker().abandon_probe(self.handle.clock.now());
            self.handle.changed.send_replace(());
        }
    }
}
