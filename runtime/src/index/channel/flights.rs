//! The flights of a channel: an entity is met and taken, and its flight ends.

use super::quiet::Met;
use super::{Channel, Flight, Known, REFUSAL_BYTES_MAX};
use crate::index::{Ending, Entry, Holds, Lease, Parked, Settlement, State};
use crate::model::{Failure, Lane, Ordinal, Sequence, Track};

impl Channel {
    pub(super) fn start(
        &mut self,
        ordinal: u32,
        entry: &Entry,
        known: Known<'_>,
        track: Track,
        places: Vec<(Track, u64)>,
        revision: u64,
    ) -> Lease {
        let pair = self.pair(ordinal);
        let owed_since = self.owed_since(ordinal, entry, known, &places).unwrap_or(0);
        self.waiting.remove(ordinal);
        self.flights.insert(
            ordinal,
            Flight {
                shape: self.shape,
                places,
                met: false,
                urgent: false,
                owed_since,
            },
        );
        // A change that is decided but not yet durable may wait at the place met here, without a
        // place of its own.
        let newest = self.newest(entry, known.names);
        Lease {
            ordinal: Ordinal(ordinal),
            revision: Sequence(revision.max(newest)),
            holds: pair.holds(),
            was_absent: pair.state().is_absent(),
            target_key: self.target_keys.get(&ordinal).cloned(),
            settled: Sequence(pair.revision()),
            attempts: self
                .parked
                .get(&ordinal)
                .map_or(0, |parked| parked.attempts),
            track,
            owed_since: Sequence(owed_since),
            owed_at: known.clock.time_of(owed_since),
        }
    }

    /// Handles one place of a lane, or one entity of the sweep.
    pub(super) fn meet(
        &mut self,
        ordinal: u32,
        entry: &Entry,
        known: Known<'_>,
        track: Track,
        place: u64,
        revision: u64,
    ) -> Met {
        let (before, urgent) = (self.read[track.index()], is_urgent(track));
        self.read[track.index()] = place;
        if let Some(flight) = self.flights.get_mut(&ordinal) {
            flight.places.push((track, place));
            flight.met = true;
            flight.urgent |= urgent;
            return Met::Passed;
        }
        let pair = self.pair(ordinal);
        let right_type = entry.id.entity_type == self.subscription.entity_type;
        let reshaped = right_type && track == Track::Sweep && self.is_reshaped(pair);
        let owed = reshaped || self.newest(entry, known.names) > pair.revision();
        let parked = self.parked.get(&ordinal).copied();
        if !owed || parked.is_some_and(|parked| !parked.held) {
            return Met::Passed;
        }
        if !urgent && self.waiting.contains(ordinal) {
            self.hurry(ordinal, track);
            return Met::Passed;
        }
        let places = vec![(track, place)];
        if !urgent
            && parked.is_none()
            && let Some(wait) = self.must_wait(ordinal, entry, known, &places)
        {
            if !self.has_room_to_wait(track) {
                self.read[track.index()] = before;
                return Met::Full;
            }
            self.set_aside(ordinal, track, wait);
            return Met::Passed;
        }
        Met::Taken(self.start(ordinal, entry, known, track, places, revision))
    }

    pub(super) fn finish(
        &mut self,
        end: &Settlement,
        entry: &Entry,
        known: Known<'_>,
        revision: u64,
    ) -> Option<Lease> {
        let ordinal = end.ordinal.0;
        let flight = self.flights.remove(&ordinal)?;
        let mut pair = self.pair(ordinal);
        self.refusals.remove(&ordinal);
        let mut waits = None;
        let state = match &end.ending {
            Ending::Delivered { digest, target_key } => {
                pair = pair.holding(Holds::Rendering(*digest));
                match target_key {
                    Some(key) => {
                        self.has_target_keys = true;
                        self.target_keys.insert(ordinal, key.clone())
                    }
                    None => self.target_keys.remove(&ordinal),
                };
                State::Delivered
            }
            Ending::Withdrawn => {
                pair = pair.holding(Holds::Nothing);
                self.target_keys.remove(&ordinal);
                State::Withdrawn
            }
            Ending::Suppressed => State::Suppressed,
            Ending::Withheld(by) => State::Withheld(*by),
            Ending::Counted => State::Counted,
            Ending::Refused(failure) => {
                self.has_refusals = true;
                self.refusals
                    .insert(ordinal, (shortened(failure), known.now));
                State::Refused
            }
            Ending::Parked { attempts } => {
                waits = Some(Parked {
                    ordinal: end.ordinal,
                    attempts: *attempts,
                    held: false,
                });
                State::Parked(*attempts)
            }
            Ending::Held => {
                waits = Some(Parked {
                    ordinal: end.ordinal,
                    attempts: 0,
                    held: true,
                });
                State::Held
            }
        };
        pair = pair.in_state(state);
        if waits.is_none() {
            pair = pair.settled(end.revision.0, flight.shape);
        }
        self.change(ordinal, |_| pair);
        self.parked_since.remove(&ordinal);
        match waits {
            Some(waits) => {
                if flight.owed_since > 0 {
                    self.parked_since.insert(ordinal, flight.owed_since);
                }
                self.parked_at.entry(ordinal).or_insert(known.now);
                self.parked.insert(ordinal, waits);
            }
            None => {
                self.parked_at.remove(&ordinal);
                self.parked.remove(&ordinal);
            }
        }
        let owes = flight.shape != self.shape || self.newest(entry, known.names) > pair.revision();
        if waits.is_none() && flight.met && owes {
            let track = flight.places.last().map_or(Track::Sweep, |place| place.0);
            if !flight.urgent
                && let Some(wait) = self.must_wait(ordinal, entry, known, &flight.places)
            {
                // Not in the lane of the last place: a bulk change may have come after a normal one.
                let track = self
                    .subscribed(entry, known.names)
                    .filter(|meta| meta.sequence > pair.revision() && meta.lane != Lane::Urgent)
                    .map(|meta| meta.lane)
                    .min()
                    .map_or(track, Track::Lane);
                self.set_aside(ordinal, track, wait);
                return None;
            }
            return Some(self.start(ordinal, entry, known, track, flight.places, revision));
        }
        None
    }
}

fn is_urgent(track: Track) -> bool {
    track == Track::Lane(Lane::Urgent)
}

fn shortened(failure: &Failure) -> Failure {
    let mut end = failure.message.len().min(REFUSAL_BYTES_MAX);
    while !failure.message.is_char_boundary(end) {
        end -= 1;
    }
    Failure {
        code: failure.code.clone(),
        message: failure.message[..end].to_owned(),
    }
}
