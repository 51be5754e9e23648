//! Settles the results of preparations and sends: with the store, the schedule and the counters.

use std::time::Duration;

use tokio::task::{Id, JoinError};
use tokio::time::Instant;

use super::super::flight::{Conclusion, Decision, Ready, Sent, conclude, decide};
use super::super::prepare::{Content, Preparation, Prepared};
use super::super::retry::{Made, Waiting, together};
use super::super::status::DeliveryResult as Counted;
use super::super::turns::TRACKS;
use super::{Done, Flight, Gate, Job, Run};
use crate::happenings::Hash;
use crate::model::{EntityId, Lane, Ordinal, Sequence, Timestamp, Trace, Track};
use crate::store::{Ending, Lease, Settlement};
use crate::sync::lock;

/// How long, in milliseconds, the number of entities that the target holds is reused. The guard
/// against mass withdrawal computes its limit from it.
const HOLDING_MS: u64 = 1000;

impl Run {
    pub(super) fn settle(&mut self, done: Result<(Id, Done), JoinError>) {
        self.read_clock();
        match done {
            Ok((id, Done::Prepared(preparation))) => {
                self.job_ended(id);
                self.assume(&preparation);
                let Preparation {
                    prepared,
                    rest,
                    needs,
                } = preparation;
                let larger = rest.first().zip(needs);
                if let Some((taken, needs)) = larger
                    && let Some(flight) = self.flights.get_mut(&taken.ordinal)
                {
                    flight.needs = needs;
                }
                for taken in rest.into_iter().rev() {
                    self.hold(taken.ordinal, 0);
                    self.taken[taken.track.index()].push_front(taken);
                }
                let count = prepared.len().max(1);
                let ends: Vec<_> = prepared
                    .into_iter()
                    .filter_map(|prepared| self.decided(prepared))
                    .collect();
                let sent = (count - ends.len().min(count)) as f64 / count as f64;
                self.sent_share = (self.sent_share + sent) / 2.0;
                self.finish(ends);
            }
            Ok((id, Done::Sent(sent, requests))) => {
                self.job_ended(id);
                self.count_retries(&sent, requests);
                let ends = sent
                    .into_iter()
                    .filter_map(|(ready, sent)| self.concluded(&ready, sent))
                    .collect();
                self.count_latencies();
                self.finish(ends);
            }
            Err(error) => {
                let Some(job) = self.job_ended(error.id()) else {
                    return;
                };
                let (now, panicked) = (self.clock.now(), error.is_panic());
                if panicked {
                    tracing::error!(channel = %self.setup.options.name, %error, "a preparation or a delivery panicked; its entities will be retried");
                }
                let mut park = |ordinal| {
                    if panicked {
                        self.park_lost(ordinal)
                    } else {
                        self.park_untried(ordinal, now)
                    }
                };
                let ends = job.members.into_iter().filter_map(&mut park).collect();
                self.finish(ends);
            }
        }
    }

    /// Settles the retry budget with the requests that were made for these entities.
    fn count_retries(&mut self, sent: &[(Ready, Sent)], requests: usize) {
        let flights = || {
            sent.iter()
                .filter_map(|(ready, _)| self.flights.get(&ready.prepared.taken.ordinal))
        };
        let made = Made {
            requests,
            entities: sent.len(),
            first: flights()
                .filter(|flight| flight.attempts == 0 && flight.retry.is_none())
                .count(),
            retries: flights().filter(|flight| flight.retry.is_some()).count(),
            taken: flights().filter_map(|flight| flight.retry).sum(),
        };
        self.shared.counters.retry(made.retries);
        self.budget.settle(made);
    }

    /// Assumes that the next entities need as much as the largest of these, or somewhat less than the
    /// last ones.
    fn assume(&mut self, preparation: &Preparation) {
        let bytes = |prepared: &Prepared| match &prepared.content {
            Content::There { rendering, .. } => {
                prepared.bytes + 2 * rendering.body.as_bytes().len()
            }
            _ => prepared.bytes,
        };
        let sizes = preparation.prepared.iter().map(bytes);
        let largest = sizes.chain(preparation.needs).max().unwrap_or(0);
        self.assumed_bytes = largest.max(self.assumed_bytes / 4).max(1024);
    }

    fn job_ended(&mut self, id: Id) -> Option<Job> {
        let job = self.jobs.remove(&id)?;
        if job.prepares {
            self.preparations -= 1;
            self.preparing[job.track] -= job.members.len();
        }
        Some(job)
    }

    /// Parks an entity whose task panicked. The panic counts as an attempt, so that it does not
    /// recur in a tight loop.
    fn park_lost(&mut self, ordinal: Ordinal) -> Option<Settlement> {
        let attempts = self.flights.get(&ordinal)?.attempts.saturating_add(1);
        let wait = self.setup.options.retry.wait(attempts, self.dice.f64());
        self.park(ordinal, attempts, wait, true, false)
    }

    fn decided(&mut self, prepared: Prepared) -> Option<Settlement> {
        let told = self.worth_telling(&prepared);
        let end = self.decide(prepared);
        if let (Some((taps, prepared)), Some(end)) = (told, &end) {
            self.tell(&taps, &prepared, end, &[]);
        }
        end
    }

    fn decide(&mut self, prepared: Prepared) -> Option<Settlement> {
        let ordinal = prepared.taken.ordinal;
        let flight = self.flights.get_mut(&ordinal)?;
        let (track, revision) = (flight.track, prepared.revision);
        let (released, reread) = (flight.released, flight.reread);
        flight.revision = revision;
        if self.setup.recorder.is_some() {
            flight.recorded.entity = prepared.id.as_ref().map(Hash::of);
            flight.recorded.rendered = Some(self.stamp);
        }
        let owes = prepared.taken.owed_since > Sequence(0);
        flight.new_change = owes && prepared.newest > self.began;
        let id = prepared.id.clone();
        match decide(
            &self.setup.options,
            self.setup.target.nature().keyed,
            prepared,
            flight.tried.as_ref(),
        ) {
            Decision::End(ending) => {
                if let Ending::Refused(failure) = &ending {
                    self.note_trouble(id.as_ref(), &failure.message, true, None);
                }
                Some(self.end(ordinal, revision, ending))
            }
            Decision::Later(why) => {
                let attempts = flight.attempts;
                let now = self.clock.now();
                self.shared.errors().keep(ordinal, why.into(), now);
                self.park(
                    ordinal,
                    attempts,
                    self.setup.options.retry.first,
                    false,
                    false,
                )
            }
            Decision::Send(ready)
                if ready.first_deletes > 0
                    && !released
                    && !self.may_delete(ready.first_deletes) =>
            {
                self.held.insert(ordinal);
                Some(self.end(ordinal, revision, Ending::Held))
            }
            Decision::Send(ready) => {
                if let Some(flight) = self.flights.get_mut(&ordinal) {
                    // Deletes that the guard has admitted are not counted again when they are
                    // retried.
                    flight.released |= ready.first_deletes > 0;
                }
                self.hold(ordinal, ready.bytes());
                self.ready_since[track].get_or_insert_with(Instant::now);
                // What was read again has had its turn already.
                if reread {
                    self.ready[track].push_front(*ready);
                } else {
                    self.ready[track].push_back(*ready);
                }
                None
            }
        }
    }

    /// Logs once when deliveries begin to fail, with the first entity and its error.
    fn note_trouble(
        &mut self,
        id: Option<&EntityId>,
        reason: &str,
        refused: bool,
        attempt: Option<Trace>,
    ) {
        let channel = &self.setup.options.name;
        let trace = || attempt.map(Trace::trace_hex);
        let span = || attempt.map(Trace::span_hex);
        if self.trouble.note(self.clock.now(), refused) {
            tracing::warn!(
                %channel,
                entity = id.map(tracing::field::display),
                reason,
                trace = trace(),
                span = span(),
                "deliveries of this channel fail; others are not logged until they are well again, see `weir channel list` and `weir refused list`"
            );
        } else {
            tracing::debug!(
                %channel,
                entity = id.map(tracing::field::display),
                reason,
                refused,
                trace = trace(),
                span = span(),
                "a delivery failed"
            );
        }
    }

    /// When the end of the trouble is due; `None` while it may still turn out that it goes on, because
    /// something that failed waits for its retry or is in flight, or the target is only being probed.
    pub(super) fn calm_at(&self) -> Option<Instant> {
        let ends = self.trouble.ends_at()?;
        let is_retry = |flight: &Flight| flight.attempts > 0 || flight.retry.is_some();
        let may_fail = self.schedule.failed() > 0
            || self.gate() != Gate::Open
            || self.flights.values().any(is_retry);
        (!may_fail).then(|| self.clock.instant(ends) + Duration::from_millis(1))
    }

    /// Logs once when deliveries are well again, with what happened meanwhile.
    pub(super) fn report_calm(&mut self) {
        if self.calm_at().is_none() {
            return;
        }
        let now = self.clock.now();
        if let Some(ended) = self.trouble.end(now) {
            tracing::info!(
                channel = %self.setup.options.name,
                seconds = ended.seconds,
                failed_attempts = ended.failed,
                refused_entities = ended.refused,
                "no delivery of this channel fails any more"
            );
        }
    }

    /// Whether the guard against mass withdrawal admits this many deletes.
    fn may_delete(&mut self, deletes: u64) -> bool {
        let now = self.clock.now();
        // Counting makes the store go through everything that waits, and the share need not be
        // exact.
        if self
            .holding
            .is_none_or(|(_, at)| now.0.saturating_sub(at.0) > HOLDING_MS)
        {
            self.holding = Some((self.queue.owed().holding, now));
        }
        let holding = self.holding.map_or(0, |(holding, _)| holding);
        let max = &self.setup.options.withdraw_max;
        let admits = self.guard.admits(max, holding, deletes, now);
        if admits {
            self.queue.set_withdrawals(self.guard.counts());
        }
        admits
    }

    fn concluded(&mut self, ready: &Ready, mut sent: Sent) -> Option<Settlement> {
        let requests = std::mem::take(&mut sent.requests);
        let end = self.conclude(ready, sent);
        if let (false, Some(end)) = (requests.is_empty(), &end)
            && let Some(taps) = self.taps()
        {
            self.tell(&taps, &ready.prepared, end, &requests);
        }
        end
    }

    fn conclude(&mut self, ready: &Ready, sent: Sent) -> Option<Settlement> {
        let ordinal = ready.prepared.taken.ordinal;
        let attempts = self.flights.get(&ordinal)?.attempts;
        let (chance, attempt) = (self.dice.f64(), sent.attempt);
        let conclusion = conclude(&self.setup.options, ready, attempts, sent, chance);
        match &conclusion {
            Conclusion::Done(Ending::Refused(failure)) => {
                self.note_trouble(Some(&ready.id), &failure.message, true, attempt)
            }
            Conclusion::Park {
                reason: Some(reason),
                failed: true,
                ..
            } => self.note_trouble(Some(&ready.id), reason, false, attempt),
            _ => {}
        }
        match conclusion {
            Conclusion::Done(ending) => {
                let arrived = matches!(ending, Ending::Delivered { .. } | Ending::Withdrawn);
                let prepared = &ready.prepared;
                if arrived {
                    self.keep_body(ready);
                }
                if arrived
                    && prepared.taken.owed_since > self.there_before
                    && let Some(lane) = self.lane_of(&prepared.taken)
                {
                    self.delivered.push((lane, prepared.owed_at));
                }
                Some(self.end(ordinal, prepared.revision, ending))
            }
            Conclusion::Park {
                attempts,
                wait,
                reason,
                failed,
                awaits_change,
            } => {
                if let Some(reason) = reason {
                    let now = self.clock.now();
                    self.shared.errors().keep(ordinal, reason.into(), now);
                }
                self.park(ordinal, attempts, wait, failed, awaits_change)
            }
            Conclusion::Pause { attempts, reason } => {
                let now = self.clock.now();
                self.shared
                    .errors()
                    .keep(ordinal, reason.clone().into(), now);
                // If the store cannot save the pause, it still lasts until the next start.
                drop(self.set_paused(true, &reason));
                self.park(ordinal, attempts, Duration::ZERO, false, false)
            }
        }
    }

    /// The lane of the change that was owed: a sweep may meet an entity before its lane does.
    fn lane_of(&self, taken: &Lease) -> Option<Lane> {
        match taken.track {
            Track::Lane(lane) => Some(lane),
            Track::Sweep => self.queue.standing(taken.ordinal)?.lane,
        }
    }

    /// Counts how long the changes took that have just been delivered.
    fn count_latencies(&mut self) {
        if self.delivered.is_empty() {
            return;
        }
        let moment = self.clock.moment();
        let mut latencies = lock(&self.shared.latencies);
        for (lane, committed) in self.delivered.drain(..) {
            latencies.count(lane, committed, moment);
        }
    }

    fn end(&mut self, ordinal: Ordinal, revision: Sequence, ending: Ending) -> Settlement {
        let counted = Counted::of(&ending);
        // What is held or parked is still owed.
        let settles = !matches!(counted, Counted::Held | Counted::Parked);
        let flight = self.flights.get(&ordinal);
        let change = settles && flight.is_some_and(|flight| flight.new_change);
        self.shared.counters.add(counted, change);
        self.record_end(ordinal, revision, counted);
        let mut errors = self.shared.errors();
        errors.clear(ordinal);
        if let Ending::Refused(failure) = &ending {
            self.refused_look.get_or_insert_with(Instant::now);
            errors.note(failure.to_string().into(), self.clock.now());
        }
        Settlement {
            ordinal,
            revision,
            ending,
        }
    }

    fn park(
        &mut self,
        ordinal: Ordinal,
        attempts: u8,
        wait: Duration,
        failed: bool,
        awaits_change: bool,
    ) -> Option<Settlement> {
        let due = Timestamp(self.clock.now().0.saturating_add(wait.as_millis() as u64));
        let due = match failed {
            true => together(due, self.batch()),
            false => due,
        };
        let flight = self.flights.get_mut(&ordinal)?;
        let (revision, released, tried) = (flight.revision, flight.released, flight.tried.take());
        let once_more = flight.once_more;
        self.schedule.park(
            ordinal,
            Waiting {
                due,
                failed,
                released,
                tried,
                awaits_change,
                once_more,
            },
        );
        self.shared.counters.add(Counted::Parked, false);
        self.record_end(ordinal, revision, Counted::Parked);
        Some(Settlement {
            ordinal,
            revision,
            ending: Ending::Parked { attempts },
        })
    }

    /// Settles flights with the store. Entities that changed meanwhile are taken again, ahead of
    /// the others.
    pub(super) fn finish(&mut self, ends: Vec<Settlement>) {
        if ends.is_empty() {
            return;
        }
        self.flush_happened();
        let mut again = Vec::new();
        self.queue.settle(&ends, &mut again);
        let settled = ends.iter().map(|end| end.ordinal);
        self.shared.waiters.wake(settled);
        // What changed meanwhile may have been set aside to be quiet. Only a walk tells until when.
        if self.setup.options.debounce.is_some() {
            self.more[..TRACKS - 1].fill(true);
        }
        if !self.permits.is_empty() {
            let ended: Vec<_> = ends.iter().map(|end| end.ordinal).collect();
            self.release_permits(&ended);
        }
        for end in &ends {
            if let Some(flight) = self.flights.remove(&end.ordinal) {
                self.in_track[flight.track] -= 1;
                self.bytes -= flight.bytes;
                self.rereads -= usize::from(flight.reread);
            }
        }
        for taken in again {
            self.accept(taken, true);
        }
    }
}
