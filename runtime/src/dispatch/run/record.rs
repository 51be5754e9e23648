//! Records what happens to entities, for those who look at one of them: when the channel met it, rendered
//! it and sent it, and how that ended. What was sent is kept for a while, without a copy.

use super::super::flight::Ready;
use super::super::status::DeliveryResult;
use super::Run;
use crate::happenings::{Happening, Hash, What};
use crate::model::{Ordinal, Sequence, Timestamp};

/// What is recorded of a flight when it ends.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Recorded {
    /// Known once it is read.
    pub(super) entity: Option<Hash>,
    pub(super) met: Timestamp,
    pub(super) rendered: Option<Timestamp>,
    /// The id of the trace of its last attempt; 0 before the first.
    pub(super) trace: u128,
}

impl Run {
    /// Reads the clock, once for all that is recorded in a turn.
    pub(super) fn read_clock(&mut self) {
        self.stamp = self.clock.stamp();
    }

    /// An attempt at these entities begins.
    pub(super) fn record_sent(&mut self, part: &[Ready], trace: u128) {
        if self.setup.recorder.is_none() {
            return;
        }
        self.read_clock();
        for ready in part {
            let Some(flight) = self.flights.get_mut(&ready.prepared.taken.ordinal) else {
                continue;
            };
            flight.recorded.trace = trace;
            self.happened
                .extend(flight.recorded.entity.map(|entity| Happening {
                    entity,
                    time: self.stamp,
                    sequence: ready.prepared.revision,
                    trace,
                    what: What::Sent,
                }));
        }
        self.flush_happened();
    }

    /// A flight ends.
    pub(super) fn record_end(
        &mut self,
        ordinal: Ordinal,
        revision: Sequence,
        result: DeliveryResult,
    ) {
        let flight = self.flights.get(&ordinal);
        let Some((recorded, entity)) = flight.and_then(|flight| {
            let recorded = flight.recorded;
            Some((recorded, recorded.entity?))
        }) else {
            return;
        };
        let ago = |time: Timestamp| {
            let millis = self.stamp.0.saturating_sub(time.0);
            u32::try_from(millis).unwrap_or(u32::MAX)
        };
        self.happened.push(Happening {
            entity,
            time: self.stamp,
            sequence: revision,
            trace: recorded.trace,
            what: What::Ended {
                result: result.name(),
                met_ms: ago(recorded.met),
                rendered_ms: recorded.rendered.map(ago),
            },
        });
    }

    /// The target has acknowledged this.
    pub(super) fn keep_body(&mut self, ready: &Ready) {
        let flight = self.flights.get(&ready.prepared.taken.ordinal);
        if let Some(entity) = flight.and_then(|flight| flight.recorded.entity) {
            self.arrived.push((entity, ready.rendering.clone()));
        }
    }

    pub(super) fn flush_happened(&mut self) {
        let Some(recorder) = &self.setup.recorder else {
            return;
        };
        if !self.happened.is_empty() {
            recorder.record(self.happened.drain(..));
        }
        if !self.arrived.is_empty() {
            recorder.keep(self.arrived.drain(..));
        }
    }
}
