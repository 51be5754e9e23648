//! Redriving events from quarantine through the present plugins and rules.
//!
//! An item that could not be read as an event is read again first, and so is a body that was kept whole
//! ([`body`]).
//!
//! An event leaves the quarantine only after its result is durable; one that fails again stays,
//! with the new reason. It keeps the sequence that it got on arrival, so that facets changed since
//! then are not overwritten.

mod body;

use std::collections::VecDeque;
use std::sync::Arc;

use super::source::{Arriving, Done, Source, Trouble, event_bytes};
use super::tapped::Tapped;
use super::traced::own_trace;
use super::{ChangeCounts, EventCounts, Rejection, envelope};
use crate::model::{Arrival, Event, Failure, Redrive, Sequence};
use crate::plugin::{EventVerdict, Room};
use crate::store::{Commit, Effect, Quarantined, QuarantinedEvent, Verdict};
use crate::traces;

/// The most events read at once.
const PIECE: usize = 32;
/// The most bytes of events read at once; a single larger one is read alone.
const PIECE_BYTES_MAX: u64 = 4 << 20;
/// The most bytes of changes that the events read at once may become; a single event's may be more.
const RESULTS_BYTES_MAX: u64 = 16 << 20;

/// The most events that failed again of which it is said why.
pub const FAILURES_MAX: usize = 100;

/// The result of redriven events.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Redriven {
    /// Events by result; `quarantined` are those that failed again and stay.
    pub events: EventCounts,
    /// Their changes by result.
    pub changes: ChangeCounts,
    /// Requested, but not in quarantine.
    pub missing: u64,
    /// Some of those that failed again, at most [`FAILURES_MAX`].
    pub failures: Vec<FailedAgain>,
}

/// A redriven event that failed again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedAgain {
    /// Under which it is in quarantine now.
    pub sequence: Sequence,
    /// Its id; empty if it has none.
    pub id: String,
    /// The new reason.
    pub failure: Failure,
}

impl Source {
    /// Redrives the events that had these sequences on arrival, oldest first; returns when all
    /// results are durable.
    ///
    /// # Errors
    /// `Busy`, `NoRoom`, `Unavailable` as for requests, with the counts of what was done: that is
    /// durable, the other events stay in quarantine.
    pub async fn redrive(&self, mut sequences: Vec<Sequence>) -> Result<Redriven, Rejection> {
        sequences.sort_unstable();
        sequences.dedup();
        let (mut redriven, redrive) = (Redriven::default(), Redrive::default());
        let mut left = VecDeque::from(sequences);
        while !left.is_empty() {
            let piece = self.read_piece(&mut left, &mut redriven)?;
            let not_run = match piece {
                Piece::Body(kept) => {
                    self.redrive_body(*kept, &redrive, &mut redriven).await?;
                    continue;
                }
                Piece::Events(piece) => self.redrive_piece(piece, &redrive, &mut redriven).await?,
            };
            not_run.into_iter().rev().for_each(|it| left.push_front(it));
        }
        Ok(redriven)
    }

    /// Reads the next events, at most [`PIECE_BYTES_MAX`] unless the first is larger; or the next body.
    fn read_piece(
        &self,
        left: &mut VecDeque<Sequence>,
        redriven: &mut Redriven,
    ) -> Result<Piece, Rejection> {
        let shelf = self.store.shelf(&self.options.name);
        let (mut piece, mut bytes) = (Vec::new(), 0);
        while piece.len() < PIECE && bytes < PIECE_BYTES_MAX {
            let Some(sequence) = left.pop_front() else {
                break;
            };
            match shelf
                .get(sequence)
                .map_err(|error| redriven.ended_by(error.into()))?
            {
                None => redriven.missing += 1,
                Some(kept) if kept.event.whole && piece.is_empty() => {
                    return Ok(Piece::Body(Box::new(kept)));
                }
                Some(kept) if kept.event.whole => {
                    left.push_front(sequence);
                    break;
                }
                Some(kept) => {
                    bytes += event_bytes(&kept.event.event);
                    piece.push(kept);
                }
            }
        }
        Ok(Piece::Events(piece))
    }

    /// Returns the events for whose changes there was no room; they stay where they are.
    async fn redrive_piece(
        &self,
        piece: Vec<QuarantinedEvent>,
        redrive: &Redrive,
        redriven: &mut Redriven,
    ) -> Result<Vec<Sequence>, Rejection> {
        let Reread {
            events,
            mut sequences,
            mut arriving,
            unread,
        } = self.read_again(piece, redrive);
        if sequences.is_empty() {
            return Ok(Vec::new());
        }
        let (count, events) = (events.len(), Arc::new(events));
        let started = traces::now();
        let room = Room::apart(RESULTS_BYTES_MAX, true);
        let mut tapped = self.tapped(Some(&room)).map(Tapped::of_redriven);
        let verdicts = match &self.chain {
            Some(chain) if count > 0 => chain.map(events.clone(), 0..count, &room).await,
            _ => vec![EventVerdict::Passed; count],
        };
        // For one result at least there is always room.
        let run = if room.was_full() {
            verdicts.len()
        } else {
            count
        };
        let not_run = sequences.drain(run..count).collect();
        arriving.drain(run..count);
        let events = &events[..run];
        let mut commits = self
            .commits(events, verdicts, |at| arriving[at].clone(), tapped.as_mut())
            .await;
        if let Some(tapped) = &mut tapped {
            tapped.choose_unread(run, &unread);
        }
        let ids = events.iter().map(|event| event.id.clone());
        let ids: Vec<String> = ids.chain(unread.iter().map(|_| String::new())).collect();
        commits.extend(unread);
        let done = self
            .commit(events, commits, |at| arriving[at].lane, started)
            .await;
        if let Some(tapped) = tapped {
            tapped.tell(events, &done);
        }
        let leaving = settled(&done, &sequences);
        redriven.add(&done, ids);
        // Those that failed again have been counted on arrival.
        let counted = EventCounts {
            quarantined: 0,
            ..done.events
        };
        self.activity.taken(counted, done.changes);
        let shelf = self.store.shelf(&self.options.name);
        let removed = shelf.remove(&leaving).await;
        removed.map_err(|error| redriven.ended_by(error.into()))?;
        match done.trouble {
            None => Ok(not_run),
            Some(trouble) => Err(redriven.ended_by(trouble)),
        }
    }
}

/// What is redriven at once.
enum Piece {
    Events(Vec<QuarantinedEvent>),
    Body(Box<QuarantinedEvent>),
}

/// Events from quarantine, ready to be mapped. `sequences` and `arriving` first have those of `events`
/// and then those of `unread`.
#[derive(Default)]
struct Reread {
    events: Vec<Event>,
    sequences: Vec<Sequence>,
    arriving: Vec<Arriving>,
    /// The commits that keep items that still cannot be read, with the new reason.
    unread: Vec<Commit>,
}

impl Source {
    fn read_again(&self, piece: Vec<QuarantinedEvent>, redrive: &Redrive) -> Reread {
        let (mut reread, mut still) = (Reread::default(), Vec::new());
        for QuarantinedEvent {
            sequence,
            event: mut kept,
            ..
        } in piece
        {
            if kept.unread {
                match envelope::read_again(&self.options, self.chain.is_none(), &kept.event) {
                    Ok(event) => kept.event = event,
                    Err(failure) => {
                        kept.failure = failure;
                        still.push((sequence, kept));
                        continue;
                    }
                }
            }
            kept.event.trace = own_trace(&kept.event);
            reread.arriving.push(arriving(sequence, &kept, redrive));
            reread.events.push(kept.event);
            reread.sequences.push(sequence);
        }
        for (sequence, kept) in still {
            let arriving = arriving(sequence, &kept, redrive);
            reread.sequences.push(sequence);
            reread.unread.push(Commit {
                source: self.options.name.clone(),
                identity: None,
                arrival: arriving.arrival.clone(),
                effect: Effect::Quarantine(Box::new(kept)),
            });
            reread.arriving.push(arriving);
        }
        reread
    }
}

/// How an event in quarantine, at this place, has arrived.
fn arriving(place: Sequence, kept: &Quarantined, redrive: &Redrive) -> Arriving {
    Arriving {
        lane: kept.lane,
        arrival: Some(Arrival {
            sequence: kept.arrived.unwrap_or(place),
            place: Some(place),
            redrive: redrive.clone(),
        }),
    }
}

impl Redriven {
    /// The rejection that ends a redrive which has come this far.
    fn ended_by(&self, trouble: Trouble) -> Rejection {
        trouble.rejection(super::Summary {
            events: self.events,
            changes: self.changes,
            ..Default::default()
        })
    }

    /// Adds the results of events with these ids.
    fn add(&mut self, done: &Done, mut ids: Vec<String>) {
        self.events.add(done.events);
        self.changes.add(done.changes);
        let room = FAILURES_MAX.saturating_sub(self.failures.len());
        for (at, failure) in done.problems.iter().take(room) {
            if let Some(Verdict::Quarantined(sequence)) = done.verdicts.get(at) {
                self.failures.push(FailedAgain {
                    sequence: *sequence,
                    id: ids.get_mut(*at).map(std::mem::take).unwrap_or_default(),
                    failure: failure.clone(),
                });
            }
        }
    }
}

/// The events that leave the quarantine: those with a durable result elsewhere. One that was
/// quarantined again under a new number leaves its old place.
fn settled(done: &Done, sequences: &[Sequence]) -> Vec<Sequence> {
    let leaves = |at: usize, sequence: Sequence| match done.verdicts.get(&at) {
        Some(Verdict::Accepted { .. } | Verdict::Filtered | Verdict::Repeated) => true,
        Some(Verdict::Quarantined(kept)) => *kept != sequence,
        Some(Verdict::Reused | Verdict::NoRoom(_)) | None => false,
    };
    sequences
        .iter()
        .enumerate()
        .filter(|(at, sequence)| leaves(*at, **sequence))
        .map(|(_, sequence)| *sequence)
        .collect()
}
