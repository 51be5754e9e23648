//! Takes entities that must be delivered, as many as the target takes soon: parked ones that are
//! due, then those that a walk meets. Gives them back when the target does not flow.

use std::time::Duration;

use tokio::time::Instant;

use super::super::flight::REFUSED;
use super::super::prepare::RENDER_MAX;
use super::super::retry::{Waiting, together};
use super::super::turns::TRACKS;
use super::record::Recorded;
use super::{Flight, Run};
use crate::model::{Lane, Ordinal, Timestamp, Track};
use crate::store::{self, Ending, Lease, Settlement, Walked};

/// How often it is looked whether entities that wait for a change have changed.
const CHANGES_LOOK: Duration = Duration::from_millis(200);
/// How often it is looked whether the hours of a lane have begun.
const HOURS_LOOK: Duration = Duration::from_secs(10);
/// How often refused entities are looked at, and how many of them each time.
const REFUSED_LOOK: Duration = Duration::from_secs(1);
const REFUSED_PAGE: usize = 512;
/// How many of them wait for another attempt at the same time. They wait for the retry budget, and
/// too many that wait for it would stop the channel.
const REFUSED_WAITING_MAX: usize = 100;

/// How many more entities of each track a probe is chosen from, after refusals, and how many there are at
/// most in all.
const PROBED_FROM: usize = 1024;
const PROBED_FROM_MAX: usize = 8 * PROBED_FROM;

/// The smallest share of prepared entities that is assumed to need sending.
const SENT_SHARE_MIN: f64 = 1.0 / 128.0;

impl Run {
    /// The number of entities that each track may have on the way to a request, before it starts: as
    /// many as fit into the requests that can start soon, and into one at least. More are rendered
    /// ahead only while most of them turn out to need no sending.
    pub(super) fn ahead(&self) -> usize {
        if !self.setup.options.deliver {
            return self.room_max();
        }
        let requests = self.setup.target.soon().max(1);
        let sent = requests.saturating_mul(self.batch());
        let share = self.sent_share.max(SENT_SHARE_MIN);
        ((sent as f64 / share) as usize).min(self.room_max())
    }

    /// How many more entities a track may take.
    fn room(&self, track: usize, ahead: usize) -> usize {
        ahead
            .saturating_sub(self.waiting(track))
            .min(self.room_max().saturating_sub(self.in_track[track]))
    }

    /// The entities of a track for which no request has started yet.
    pub(super) fn waiting(&self, track: usize) -> usize {
        self.taken[track].len() + self.preparing[track] + self.ready[track].len()
    }

    pub(super) fn has_room(&self) -> bool {
        let waiting: usize = (0..TRACKS).map(|track| self.waiting(track)).sum();
        waiting < TRACKS * self.ahead() && self.flights.len() < TRACKS * self.room_max()
    }

    /// Takes parked entities that are due; those that failed only within the retry budget.
    pub(super) fn take_due(&mut self, most: usize) {
        let now = self.clock.now();
        for _ in 0..most {
            if !self.has_room() {
                return;
            }
            let Some((ordinal, waiting)) = self
                .schedule
                .first()
                .filter(|(_, waiting)| waiting.due <= now)
            else {
                return;
            };
            let mut waiting = waiting.clone();
            if !waiting.failed {
                self.retry(ordinal);
                continue;
            }
            match self.budget.take(now) {
                Ok(taken) => {
                    self.retry(ordinal);
                    if let Some(flight) = self.flights.get_mut(&ordinal) {
                        flight.retry = Some(taken);
                    }
                }
                Err(wait) => {
                    let due = Timestamp(now.0 + wait.as_millis() as u64);
                    waiting.due = together(due, self.batch());
                    self.schedule.park(ordinal, waiting);
                }
            }
        }
        self.unfinished = true;
    }

    fn retry(&mut self, ordinal: Ordinal) -> bool {
        let Some(waiting) = self.schedule.remove(ordinal) else {
            return false;
        };
        let Some(taken) = self.queue.retry(ordinal) else {
            return false;
        };
        self.schedule.park(ordinal, waiting);
        self.accept(taken, false);
        true
    }

    /// Any track may have something.
    pub(super) fn walk_everything(&mut self) {
        self.more.fill(true);
        self.only_new = self.queue.owed().sweep == 0;
    }

    /// Walks the tracks by their shares, as long as each has room.
    pub(super) fn walk(&mut self, most: usize) {
        let parked_max = self.setup.parked_max;
        if self.schedule.failed() >= parked_max {
            if !self.overfull {
                self.overfull = true;
                self.setup
                    .target
                    .trip(&format!("{parked_max} entities are waiting for a retry"));
            }
            return;
        }
        // Resume only at 90% of the limit; otherwise each new failure would trip the target again.
        self.overfull &= self.schedule.failed() > parked_max / 10 * 9;
        if self.overfull {
            return;
        }
        let ahead = self.ahead();
        let (mut taken, mut steps) = (0, 0);
        loop {
            self.let_lanes_meet_new_entities();
            let open =
                std::array::from_fn(|track| self.may_walk(track) && self.room(track, ahead) > 0);
            let Some(track) = self.walking.pick(open) else {
                break;
            };
            if taken >= most || steps >= most {
                self.unfinished = true;
                return;
            }
            let met = self.meet(track, self.room(track, ahead).min(RENDER_MAX));
            taken += met.len();
            steps += 1;
            for met in met {
                self.accept(met, false);
            }
        }
        if self.newer && self.flights.is_empty() && self.more == [false; TRACKS] {
            (self.newer, self.more[TRACKS - 1], self.unfinished) = (false, true, true);
        }
    }

    /// The sweep passes new entities only when all other work is done. If it met them first, they would
    /// have to wait at the share of bulk, and their changes would not count as such.
    fn let_lanes_meet_new_entities(&mut self) {
        let [lanes @ .., sweep] = &mut self.more;
        if self.only_new && *sweep && lanes.contains(&true) {
            (*sweep, self.newer) = (false, true);
        }
    }

    /// Takes one entity to probe the target with. Entities that failed come last: a target that cannot
    /// process them would look dead for as long as they are the ones that ask.
    pub(super) fn take_one(&mut self) {
        if (0..TRACKS).any(|track| self.waiting(track) > 0) {
            return;
        }
        if self.setup.target.doubts_entities() {
            self.look_further();
        }
        while let Some(ordinal) = self.schedule.any_that_did_not_fail(&mut self.dice) {
            if self.retry(ordinal) {
                return;
            }
        }
        let walks = self.schedule.failed() < self.setup.parked_max;
        for track in (0..TRACKS).filter(|_| walks) {
            if self.may_walk(track)
                && let Some(met) = self.meet(track, 1).pop()
            {
                return self.accept(met, false);
            }
        }
        while let Some(first) = self.schedule.first().map(|(ordinal, _)| ordinal) {
            if self.retry(first) {
                return;
            }
        }
        self.unfinished = walks && (0..TRACKS).any(|track| self.may_walk(track));
    }

    /// Sets aside more of what the channel owes, for the next probe to be chosen from: if the target has
    /// refused many in a row, the next ones in line are probably as bad.
    fn look_further(&mut self) {
        let now = self.clock.now();
        for track in 0..TRACKS {
            let room = PROBED_FROM_MAX.saturating_sub(self.schedule.untried());
            if room == 0 || !self.may_walk(track) {
                continue;
            }
            let met = self.meet(track, room.min(PROBED_FROM));
            let ordinals: Vec<_> = met.iter().map(|lease| lease.ordinal).collect();
            for lease in met {
                self.accept(lease, false);
            }
            self.taken[track].clear();
            let ends = ordinals.into_iter();
            let ends = ends.filter_map(|ordinal| self.park_untried(ordinal, now));
            let ends = ends.collect();
            self.finish(ends);
        }
    }

    /// Takes entities that the target answered with 409 or 422 as soon as they have changed.
    pub(super) fn look_for_changes(&mut self) {
        if !self.changed || !self.schedule.awaits_changes() || self.looks_at > Instant::now() {
            return;
        }
        self.changed = false;
        self.looks_at = Instant::now() + CHANGES_LOOK;
        let now = self.clock.now();
        for (ordinal, _) in self.queue.changed(&self.schedule.awaiting_change()) {
            self.schedule.hurry(ordinal, now);
        }
    }

    /// Tries entities once more that the target refused long enough ago, within the retry budget. It
    /// looks at some of them each time, and goes on where it stopped.
    pub(super) fn look_at_refused(&mut self) {
        if self.refused_look.is_none_or(|at| at > Instant::now()) {
            return;
        }
        let after = self.setup.options.retry.refused;
        self.refused_look = Some(Instant::now() + REFUSED_LOOK.min(after));
        let room = REFUSED_WAITING_MAX.saturating_sub(self.schedule.once_more());
        if room == 0 {
            return;
        }
        let page = self.queue.refused(self.refused_after, REFUSED_PAGE);
        let whole = self.refused_after.is_none() && page.is_empty();
        self.refused_look = self.refused_look.filter(|_| !whole);
        let last = page.last().map(|refused| refused.ordinal);
        self.refused_after = last.filter(|_| page.len() == REFUSED_PAGE);
        let now = self.clock.stamp();
        let due: Vec<_> = page
            .iter()
            .filter(|refused| refused.failure.code == REFUSED)
            .filter(|refused| now.0.saturating_sub(refused.time.0) as u128 >= after.as_millis())
            .map(|refused| refused.ordinal)
            .take(room)
            .collect();
        if due.len() == room {
            self.refused_after = due.last().copied();
        }
        for parked in self.queue.redrive(&due) {
            let waiting = Waiting {
                due: self.clock.now(),
                failed: true,
                once_more: true,
                ..Waiting::default()
            };
            self.schedule.park(parked.ordinal, waiting);
            self.shared.counters.refused_tried();
        }
    }

    fn may_walk(&self, track: usize) -> bool {
        let open = match Track::ALL[track] {
            Track::Lane(lane) => self.is_open(lane),
            Track::Sweep => self.reserving.is_none(),
        };
        self.more[track] && open
    }

    /// Whether a lane may be sent at this time of the day.
    fn is_open(&self, lane: Lane) -> bool {
        let hours = self.setup.options.hours.as_ref();
        hours.is_none_or(|hours| hours.open(lane, self.clock.stamp()))
    }

    /// Whether a lane that may have something to send waits for its hours.
    fn waits_for_hours(&self) -> bool {
        let waits = |lane: &Lane| self.more[lane.index()] && !self.is_open(*lane);
        self.setup.options.hours.is_some() && Lane::ALL.iter().any(waits)
    }

    /// When it is looked again whether such a lane may be sent.
    pub(super) fn hours_at(&self) -> Option<Instant> {
        self.waits_for_hours().then(|| Instant::now() + HOURS_LOOK)
    }

    /// Walks a track and returns up to `limit` entities that must be delivered.
    fn meet(&mut self, track: usize, limit: usize) -> Vec<Lease> {
        let mut met = Vec::new();
        // Only new entities are left for the sweep. Those of a lane that waits for its hours would be
        // sent before them.
        if Track::ALL[track] == Track::Sweep
            && self.waits_for_hours()
            && self.queue.owed().sweep == 0
        {
            (self.more[track], self.newer) = (false, true);
            return met;
        }
        let walked = self.queue.walk(Track::ALL[track], limit, &mut met);
        self.more[track] = !matches!(walked, Walked::End | Walked::Waits(_));
        self.only_new |= Track::ALL[track] == Track::Sweep && walked == Walked::End;
        self.quiet_at[track] = match walked {
            // The store goes by the wall clock, which may have been set back. It knows times to the
            // millisecond, so wait one more.
            Walked::Waits(until) => {
                let wait = until.0.saturating_sub(self.clock.stamp().0) + 1;
                Some(Instant::now() + Duration::from_millis(wait))
            }
            _ => None,
        };
        // The sweep sets aside what it met in the bulk lane, and only a walk of that tells until when.
        if Track::ALL[track] == Track::Sweep && self.setup.options.debounce.is_some() {
            self.more[Lane::Bulk.index()] = true;
        }
        if walked == Walked::Reserve {
            self.reserving = Some(self.queue.save());
        }
        met
    }

    /// If the store cannot save, the sweep stops; the store itself reports the failure.
    pub(super) fn reserved(&mut self, reserved: Result<(), store::Error>) {
        self.reserving = None;
        self.more[TRACKS - 1] &= reserved.is_ok();
    }

    /// Puts a leased entity in flight. If it waited for its turn, it keeps its release and its previous
    /// attempt.
    pub(super) fn accept(&mut self, taken: Lease, first: bool) {
        let (ordinal, track) = (taken.ordinal, taken.track.index());
        self.concerned = true;
        self.held.remove(&ordinal);
        let waited = self.schedule.remove(ordinal).unwrap_or_default();
        let flight = Flight {
            track,
            attempts: if waited.once_more {
                self.setup.options.retry.attempts.saturating_sub(1)
            } else {
                taken.attempts
            },
            revision: taken.revision,
            released: waited.released,
            tried: waited.tried,
            once_more: waited.once_more,
            new_change: false,
            retry: None,
            reread: false,
            bytes: 0,
            needs: 0,
            recorded: Recorded {
                met: self.stamp,
                ..Recorded::default()
            },
        };
        let before = self.flights.insert(ordinal, flight);
        debug_assert!(before.is_none(), "one flight an entity at a time");
        self.in_track[track] += 1;
        if first {
            self.taken[track].push_front(taken);
        } else {
            self.taken[track].push_back(taken);
        }
    }

    /// Parks all entities that were taken and not attempted, because the target does not flow. They
    /// are due at `until`.
    pub(super) fn give_back(&mut self, until: Option<Timestamp>) {
        self.hand_back_permits();
        let mut ends = Vec::new();
        for track in 0..TRACKS {
            let taken = self.taken[track].drain(..).map(|taken| taken.ordinal);
            let ready = self.ready[track]
                .drain(..)
                .map(|ready| ready.prepared.taken.ordinal);
            ends.extend(taken.chain(ready));
            self.ready_since[track] = None;
        }
        let due = until.unwrap_or_else(|| self.clock.now());
        let ends = ends
            .into_iter()
            .filter_map(|ordinal| self.park_untried(ordinal, due))
            .collect();
        self.finish(ends);
    }

    /// Parks an entity for which no attempt was made, or whose attempt had no known result.
    pub(super) fn park_untried(&mut self, ordinal: Ordinal, due: Timestamp) -> Option<Settlement> {
        let flight = self.flights.get_mut(&ordinal)?;
        let waiting = Waiting {
            due,
            failed: false,
            released: flight.released,
            tried: flight.tried.take(),
            once_more: flight.once_more,
            ..Waiting::default()
        };
        let (revision, attempts) = (flight.revision, flight.attempts);
        self.schedule.park(ordinal, waiting);
        Some(Settlement {
            ordinal,
            revision,
            ending: Ending::Parked { attempts },
        })
    }
}
