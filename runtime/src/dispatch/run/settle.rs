//! What comes back from preparations and sends, and how it is settled: with the store, the schedule
//! and the counters.

use std::time::Duration;

use tokio::task::{Id, JoinError};
use tokio::time::Instant;

use super::super::flight::{Conclusion, Decision, Ready, Sent, conclude, decide};
use super::super::prepare::Prepared;
use super::super::retry::Waiting;
use super::super::status::Ending;
use super::{Done, Run};
use crate::model::{Ordinal, Sequence, Timestamp};
use crate::store::{Finish, Outcome};

/// The number of entities, of which the guard against mass withdrawal takes a share, is asked for
/// again after so many milliseconds.
const HOLDING_MS: u64 = 1000;

impl Run {
    pub(super) fn settle(&mut self, done: Result<(Id, Done), JoinError>) {
        match done {
            Ok((id, Done::Prepared(prepared))) => {
                self.jobs.remove(&id);
                let ends = prepared
                    .into_iter()
                    .filter_map(|prepared| self.decided(prepared))
                    .collect();
                self.finish(ends);
            }
            Ok((id, Done::Sent(sent))) => {
                self.jobs.remove(&id);
                let ends = sent
                    .into_iter()
                    .filter_map(|(ready, sent)| self.concluded(&ready, sent))
                    .collect();
                self.finish(ends);
            }
            Err(error) => {
                let Some(job) = self.jobs.remove(&error.id()) else {
                    return;
                };
                let (now, panicked) = (self.clock.now(), error.is_panic());
                if panicked {
                    tracing::error!(channel = %self.setup.options.name, %error, "a preparation or a delivery panicked; its entities are tried again");
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

    /// A panic counts as an attempt, so that it is not repeated in a tight loop.
    fn park_lost(&mut self, ordinal: Ordinal) -> Option<Finish> {
        let attempts = self.flights.get(&ordinal)?.attempts.saturating_add(1);
        let wait = self.setup.options.retry.wait(attempts, fastrand::f64());
        self.park(ordinal, attempts, wait, true)
    }

    fn decided(&mut self, prepared: Prepared) -> Option<Finish> {
        let ordinal = prepared.taken.ordinal;
        let flight = self.flights.get_mut(&ordinal)?;
        let (track, revision, released) = (flight.track, prepared.revision, flight.released);
        flight.revision = revision;
        match decide(
            &self.setup.options,
            self.setup.target.by_key(),
            prepared,
            flight.tried.as_ref(),
        ) {
            Decision::End(outcome) => Some(self.end(ordinal, revision, outcome)),
            Decision::Later(why) => {
                let attempts = flight.attempts;
                self.shared.errors().keep(ordinal, why.into());
                self.park(ordinal, attempts, self.setup.options.retry.first, false)
            }
            Decision::Send(ready)
                if ready.rendering.is_none() && !released && !self.may_withdraw() =>
            {
                self.held.insert(ordinal);
                Some(self.end(ordinal, revision, Outcome::Held))
            }
            Decision::Send(ready) => {
                let withdraws = ready.rendering.is_none();
                if let Some(flight) = self.flights.get_mut(&ordinal) {
                    // What the guard has let pass once is not counted again when it is retried.
                    flight.released |= withdraws;
                    // From here on it may be there under that key, however the attempt is lost.
                    flight.tried = Some(ready.tried.clone());
                }
                self.ready_since[track].get_or_insert_with(Instant::now);
                self.ready[track].push_back(*ready);
                None
            }
        }
    }

    fn may_withdraw(&mut self) -> bool {
        let now = self.clock.now();
        // Counting costs the store a look at all that waits, and a share is not so exact.
        if self.holding.is_none_or(|(_, at)| now.0 - at.0 > HOLDING_MS) {
            self.holding = Some((self.store.owed(self.id).holding, now));
        }
        let holding = self.holding.map_or(0, |(holding, _)| holding);
        self.guard
            .admits(&self.setup.options.withdraw_max, holding, now)
    }

    fn concluded(&mut self, ready: &Ready, sent: Sent) -> Option<Finish> {
        let ordinal = ready.prepared.taken.ordinal;
        let attempts = self.flights.get(&ordinal)?.attempts;
        match conclude(&self.setup.options, ready, attempts, sent, fastrand::f64()) {
            Conclusion::Done(outcome) => Some(self.end(ordinal, ready.prepared.revision, outcome)),
            Conclusion::Park {
                attempts,
                wait,
                reason,
                failed,
            } => {
                if let Some(reason) = reason {
                    self.shared.errors().keep(ordinal, reason.into());
                }
                self.park(ordinal, attempts, wait, failed)
            }
            Conclusion::Pause { attempts, reason } => {
                self.shared.errors().keep(ordinal, reason.clone().into());
                // If it cannot be remembered it is paused all the same until the next start.
                let _ = self.set_paused(true, &reason);
                self.park(ordinal, attempts, Duration::ZERO, false)
            }
        }
    }

    fn end(&self, ordinal: Ordinal, revision: Sequence, outcome: Outcome) -> Finish {
        self.shared.counters.add(match &outcome {
            Outcome::Delivered { .. } => Ending::Delivered,
            Outcome::Withdrawn => Ending::Withdrawn,
            Outcome::Suppressed => Ending::Suppressed,
            Outcome::Withheld(_) => Ending::Withheld,
            Outcome::Counted => Ending::Counted,
            Outcome::Parked { .. } => Ending::Parked,
            Outcome::Held => Ending::Held,
            Outcome::Refused(_) => Ending::Refused,
        });
        self.shared.errors().clear(ordinal);
        Finish {
            ordinal,
            revision,
            outcome,
        }
    }

    fn park(
        &mut self,
        ordinal: Ordinal,
        attempts: u8,
        wait: Duration,
        failed: bool,
    ) -> Option<Finish> {
        let flight = self.flights.get_mut(&ordinal)?;
        let due = Timestamp(self.clock.now().0.saturating_add(wait.as_millis() as u64));
        let (revision, released, tried) = (flight.revision, flight.released, flight.tried.take());
        self.schedule.park(
            ordinal,
            Waiting {
                due,
                failed,
                released,
                tried,
            },
        );
        self.shared.counters.add(Ending::Parked);
        Some(Finish {
            ordinal,
            revision,
            outcome: Outcome::Parked { attempts },
        })
    }

    /// Settles with the store; what changed meanwhile is next.
    pub(super) fn finish(&mut self, ends: Vec<Finish>) {
        if ends.is_empty() {
            return;
        }
        let mut again = Vec::new();
        self.store.finish(self.id, &ends, &mut again);
        for end in &ends {
            if let Some(flight) = self.flights.remove(&end.ordinal) {
                self.in_track[flight.track] -= 1;
            }
        }
        for taken in again {
            self.accept(taken, false, None, true);
        }
    }
}
