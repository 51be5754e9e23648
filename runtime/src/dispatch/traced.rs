//! The spans of a channel's requests to its target: one of each attempt.
//!
//! An attempt has a trace of its own, whose id its target gets. It is recorded if it contains an event whose
//! span is recorded, or by chance. It has links to the spans of the events that it contains.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::Setup;
use super::handle::Permit;
use crate::happenings::Hash;
use crate::model::{Sequence, Trace, patterns_meet};
use crate::targets::{Item, Outcome};
use crate::traces::{Kind, Merged, Nanos, Span, Traces};

/// A send whose attempts are recorded.
pub(crate) struct Sending {
    traces: Arc<Traces>,
    channel: Arc<str>,
    target: Arc<str>,
    merged: Vec<Merged>,
}

/// One attempt, as far as a span tells of it.
pub(crate) struct Attempted {
    pub(crate) trace: Trace,
    pub(crate) began: SystemTime,
    pub(crate) took: Duration,
}

impl Sending {
    /// Decides whether the attempts that are made with a permit are recorded; `None` if they are not. Of
    /// each entity come the sequences up to which the channel had settled it and is settling it now.
    pub(crate) fn begin(
        setup: &Setup,
        permit: &mut Permit,
        entities: impl Iterator<Item = (Hash, Sequence, Sequence)>,
    ) -> Option<Sending> {
        let traces = &setup.traces;
        if !traces.is_on() {
            return None;
        }
        let patterns = &setup.options.facets;
        let sees = |facet: &str| patterns.iter().any(|pattern| patterns_meet(pattern, facet));
        let merged = traces.merged(entities, sees);
        permit.sampled = !merged.is_empty() || traces.picks();
        permit.sampled.then(|| Sending {
            traces: traces.clone(),
            channel: setup.options.name.clone(),
            target: setup.options.target.clone(),
            merged,
        })
    }

    /// Ends the span of an attempt at these items.
    pub(crate) fn sent(&self, attempted: &Attempted, items: &[Item], outcomes: &[Outcome]) {
        let start = Nanos::of(attempted.began);
        let end = Nanos(start.0 + attempted.took.as_nanos() as u64);
        let name = format!("send {}", self.channel);
        let span = Span::new(attempted.trace, None, Kind::Client, name, start, end).with([
            ("messaging.system", "weir".into()),
            ("messaging.operation.name", "send".into()),
            ("messaging.operation.type", "send".into()),
            ("messaging.destination.name", (&*self.channel).into()),
            ("weir.target", (&*self.target).into()),
        ]);
        let mut span = match items {
            [item] => span.with([
                ("messaging.message.id", item.id.to_string().as_str().into()),
                ("weir.entity.type", (&*item.entity.entity_type).into()),
                ("weir.entity.key", (&*item.entity.key).into()),
                ("weir.sequence", item.sequence.0.into()),
            ]),
            items => span.with([("messaging.batch.message_count", (items.len() as u64).into())]),
        };
        let mut failures = outcomes.iter().filter_map(failure);
        if let Some((word, reason)) = failures.next() {
            let failed = 1 + failures.count() as u64;
            span = span
                .with([("weir.entities.failed", failed.into())])
                .failed(word, reason);
        }
        let hashes: Vec<Hash> = items.iter().map(|item| Hash::of(&item.entity)).collect();
        let merged = self.merged.iter();
        span.merged = merged
            .filter(|merged| hashes.contains(&merged.entity()))
            .cloned()
            .collect();
        self.traces.finished(span);
    }
}

/// A word for an outcome that is no delivery, and its reason.
fn failure(outcome: &Outcome) -> Option<(&'static str, &str)> {
    Some(match outcome {
        Outcome::Delivered | Outcome::Repeat { .. } => return None,
        Outcome::Retry { reason, .. } => ("retry", reason),
        Outcome::Throttled { reason, .. } => ("throttled", reason),
        Outcome::Refused { reason, .. } => ("refused", reason),
        Outcome::Trip { reason } => ("trip", reason),
        Outcome::Forgot { reason } => ("forgot", reason),
        Outcome::Ahead { reason, .. } => ("ahead", reason),
        Outcome::Pause { reason } => ("gone", reason),
        Outcome::Split { reason, .. } => ("split", reason),
    })
}
