//! What an answer teaches: the breaker, the pace, the gate of the slots, and the length of requests; and what
//! the log says of it.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::super::breaker::{Breaker, JITTER, State, Subject, Throttling};
use super::super::lock;
use super::super::pace::{Answered, Charge};
use super::TargetHandle;
use crate::model::{PartsDigest, Timestamp, Trace};
use crate::targets::{Hints, Item, Outcome};

/// A target that has accepted nothing while requests waited for it for this long, and answers that
/// it gets too many requests, is in trouble.
const SILENT_MAX: Duration = Duration::from_secs(3);

/// The longest wait that all requests keep to because of a hint in an answer.
const HINT_MAX: Duration = Duration::from_secs(60);

impl TargetHandle {
    /// Remembers which batches the target takes, and which are too long.
    pub(super) fn note_size(&self, items: &[Item], outcomes: &[Outcome]) {
        let bytes = items.iter().map(Item::bytes_in_batch).sum();
        let mut size = lock(&self.request_size);
        match outcomes.first() {
            Some(Outcome::Split { too_long: true, .. }) => size.refused(bytes),
            Some(Outcome::Delivered | Outcome::Repeat { .. }) => size.accepted(bytes),
            _ => {}
        }
    }

    /// Remembers how long attempts take, the latest ones above all.
    pub(super) fn note_duration(&self, took: Duration) {
        let (mean, took) = (
            self.attempt_micros.load(Ordering::Relaxed),
            took.as_micros() as u64,
        );
        let mean = if mean == 0 {
            took
        } else {
            (7 * mean + took) / 8
        };
        self.attempt_micros.store(mean.max(1), Ordering::Relaxed);
    }

    /// Reports the outcome of an attempt to the breaker, to the pace and to the gate of the slots.
    pub(super) fn judge(&self, items: &[Item], outcomes: &[Outcome], hints: &Hints, made: Made) {
        let Made { probe, sent, trace } = made;
        let (now, mut breaker) = (self.clock.now(), self.breaker());
        let before = Before::of(&breaker);
        let done =
            |outcome: &Outcome| matches!(outcome, Outcome::Delivered | Outcome::Repeat { .. });
        let delivered = outcomes.iter().any(done);
        if delivered {
            breaker.delivered(now, probe);
        }
        // A failure counts once per request, a refusal once per entity.
        let (mut failure, mut throttled) = (None, None);
        for (item, outcome) in items.iter().zip(outcomes) {
            match outcome {
                Outcome::Refused { reason, .. } if !delivered => {
                    breaker.refused(now, probe, subject(item), reason, self.chance())
                }
                Outcome::Trip { reason } | Outcome::Pause { reason } => {
                    breaker.trip(now, probe, reason, None, self.chance())
                }
                Outcome::Forgot { reason } => {
                    breaker.trip(now, probe, reason, None, self.chance());
                    lock(&self.forgot).get_or_insert_with(|| reason.clone());
                }
                Outcome::Ahead { reason, sequence } => {
                    breaker.trip(now, probe, reason, None, self.chance());
                    self.ahead.fetch_max(sequence.0, Ordering::Relaxed);
                }
                Outcome::Retry { reason, .. } if !delivered => {
                    failure.get_or_insert((item, reason));
                }
                Outcome::Throttled { reason, after } => {
                    throttled.get_or_insert((item, reason, *after));
                }
                // The target read the batch and responded, so it is alive.
                Outcome::Split { .. } if probe => breaker.delivered(now, probe),
                _ => {}
            }
        }
        if let Some((item, reason)) = failure {
            let first = breaker.failed(now, probe, subject(item), reason, self.chance());
            if first && !probe {
                let now = self.clock.elapsed();
                self.quota.learn(|gate| gate.failed(now, sent));
            }
        }
        let ahead = match breaker.state() {
            State::Flowing => self.ahead.swap(0, Ordering::Relaxed),
            _ => 0,
        };
        if before.state == State::Probing && breaker.state() == State::Flowing {
            self.pace().back(self.clock.elapsed());
            self.quota.sooner().notify_waiters();
        }
        let accepted = outcomes.iter().filter(|outcome| is_accepted(outcome));
        let accepted = accepted.count();
        if accepted > 0 {
            self.note_accepted(items, accepted, sent);
        }
        if let Some((item, reason, after)) = throttled {
            let throttling = Throttling {
                reason,
                after,
                silent: !delivered && self.pace().silent_for(self.clock.elapsed()) > SILENT_MAX,
            };
            let chance = self.chance();
            let probe = probe && !delivered;
            let first = breaker.throttled(now, probe, subject(item), &throttling, chance);
            // Where points are told, they are the limit. A probe is alone, so it cannot be one too
            // many, and how often there is one is the breaker's business.
            let falls = first && !probe && hints.points.is_none();
            self.slow_down(reason, after, falls.then_some(sent));
        }
        if breaker.state() != before.state {
            self.log_change(&before, &breaker, Some(trace));
            self.changed.send_replace(());
        }
        if ahead > 0 {
            tracing::info!(
                target_name = &*self.options.name,
                sequence = ahead,
                "the target takes deliveries again and counts as ahead of Weir no longer; only what its channels owe is sent. \
                 What somebody else has written over earlier deliveries stays until the entity changes: \
                 `weir channel drift CHANNEL` finds it, and with `--repair` it is sent again"
            );
        }
    }

    /// The target processed so many of the items of a request, which counts as that part of it.
    fn note_accepted(&self, items: &[Item], accepted: usize, sent: Duration) {
        let now = self.clock.elapsed();
        let share = accepted as f64 / items.len() as f64;
        self.pace()
            .accepted(now, self.options.cost.of(items) * share);
        let answered = Answered {
            sent,
            bytes: items.iter().map(Item::bytes_in_batch).sum(),
            full: self.quota.general.available_permits() == 0,
        };
        self.quota.learn(|gate| gate.accepted(now, answered));
    }

    /// Keeps to what an answer says about the pace, whatever its outcomes are. After [`HINT_MAX`] the
    /// next answer says whether the target still asks for a wait.
    pub(super) fn heed(&self, hints: &Hints, charge: Charge) {
        let (now, jitter) = (self.clock.elapsed(), self.jitter());
        let mut pace = self.pace();
        if let Some(wait) = hints.wait {
            pace.wait_until(now, now + wait.min(HINT_MAX).mul_f64(jitter));
        }
        if let Some(rate) = hints.rate {
            pace.announced(now, rate);
        }
        match &hints.points {
            Some(told) => pace.points(now, told, charge),
            None => pace.no_points(charge),
        }
        drop(pace);
        if hints.points.is_some() {
            self.quota.sooner().notify_waiters();
        }
    }

    /// A factor by which a wait is prolonged.
    fn jitter(&self) -> f64 {
        1.0 + JITTER * self.chance()
    }

    /// The target asked for fewer requests. `sent` is when the request that it refused was sent, if
    /// the rate must fall.
    fn slow_down(&self, reason: &str, after: Option<Duration>, sent: Option<Duration>) {
        let (now, jitter) = (self.clock.elapsed(), self.jitter());
        let mut pace = self.pace();
        if let Some(after) = after {
            // A longer wait is the breaker's, of this target alone: others may share the pace.
            pace.wait_until(now, now + after.min(HINT_MAX).mul_f64(jitter));
        }
        let first = pace.bearable().is_none();
        if let Some(sent) = sent {
            pace.fall(now, sent, after.is_some());
        }
        drop(pace);
        if let Some(per_second) = self.bears_per_second().filter(|_| first) {
            tracing::info!(
                target_name = &*self.options.name,
                per_second = per_second.round(),
                cost = self.options.cost.word(),
                reason,
                "the target refuses requests because there are too many; Weir keeps to the rate that it accepts"
            );
        }
    }

    /// Logs once when the target trips and once when it is back, however many probes fail in
    /// between. `attempt` is the one that decided it.
    pub(super) fn log_change(&self, before: &Before, breaker: &Breaker, attempt: Option<Trace>) {
        let (name, reason) = (&*self.options.name, breaker.reason());
        let trace = || attempt.map(Trace::trace_hex);
        let span = || attempt.map(Trace::span_hex);
        match (before.state, breaker.state()) {
            (State::Flowing, State::Tripped { .. }) => tracing::warn!(
                target_name = name,
                reason,
                trace = trace(),
                span = span(),
                "target tripped; nothing is sent to it until a probe succeeds"
            ),
            (State::Probing, State::Flowing) => tracing::info!(
                target_name = name,
                tripped_seconds = self.clock.now().0.saturating_sub(before.since.0) / 1000,
                failed_probes = before.failed_probes,
                "target is back; deliveries resume"
            ),
            (State::Probing, State::Tripped { .. }) => tracing::debug!(
                target_name = name,
                reason,
                trace = trace(),
                span = span(),
                "a probe of the target failed"
            ),
            _ => {}
        }
    }
}

/// An attempt that was made.
pub(super) struct Made {
    /// Whether it was a probe.
    pub(super) probe: bool,
    /// When its request was sent.
    pub(super) sent: Duration,
    pub(super) trace: Trace,
}

/// The breaker before an outcome, for the log.
pub(super) struct Before {
    state: State,
    since: Timestamp,
    failed_probes: u32,
}

impl Before {
    pub(super) fn of(breaker: &Breaker) -> Before {
        Before {
            state: breaker.state(),
            since: breaker.since(),
            failed_probes: breaker.failed_probes(),
        }
    }
}

/// Whether the target processed the request.
fn is_accepted(outcome: &Outcome) -> bool {
    matches!(
        outcome,
        Outcome::Delivered
            | Outcome::Repeat { .. }
            | Outcome::Refused { .. }
            | Outcome::Split { .. }
    )
}

/// The entity of an item and its state, for the breaker.
fn subject(item: &Item) -> Subject {
    let mut entity = PartsDigest::new();
    entity
        .part(&*item.entity.entity_type)
        .part(&*item.entity.key);
    Subject {
        entity: entity.digest64(),
        state: item.state,
    }
}
