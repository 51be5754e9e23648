//! A request is mapped and committed in stretches, so that it holds bounded memory however many
//! changes its events become.
//!
//! While one stretch is being written, the next is mapped. A stretch ends where the memory for its
//! results is used up; what a plugin gave beyond that is dropped, and those events are mapped again
//! when there is room. A request waits [`WAIT`] for room; then it is answered with what was taken.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::named::{self, Named};
use super::source::{Arriving, Done, Source, Trouble, event_bytes};
use super::tapped::Tapped;
use crate::budget::Reservation;
use crate::model::{Event, Lane};
use crate::plugin::{EventVerdict, Room};
use crate::store::{Commit, Effect};
use crate::traces::{self, Nanos};

/// The most events of a stretch: as many as may wait for the writer at a time.
const EVENTS_MAX: usize = 4096;
/// The most bytes of a stretch's events. A single larger event is a stretch of its own.
const EVENTS_BYTES_MAX: u64 = 8 << 20;
/// The most bytes of changes that a stretch's events may become; a single event's may be more.
const RESULTS_BYTES_MAX: u64 = 32 << 20;
/// The memory of a change or a quarantined event in addition to its bytes.
const OVERHEAD_BYTES: u64 = 256;
/// How long a request waits for memory.
const WAIT: Duration = Duration::from_secs(10);
/// How often it looks again, though nothing may have been returned.
const LOOK: Duration = Duration::from_millis(50);

/// Events of a request, as commits.
struct Stretch {
    range: Range<usize>,
    commits: Vec<Commit>,
    /// The memory that it holds until it is durable.
    bytes: u64,
    /// It ends where the room for its results was used up.
    full: bool,
    tapped: Option<Tapped>,
    /// When it began to be mapped.
    started: Nanos,
}

impl Stretch {
    /// The most events of the next stretch, if this one had at most this many: as many as there was
    /// room for, so that little is made in vain.
    fn next_most(&self, most: usize) -> usize {
        if self.full {
            self.range.len().max(1)
        } else {
            (2 * most).min(EVENTS_MAX)
        }
    }
}

impl Source {
    /// Maps, checks and commits the events of a request; returns when all of them are durable, or
    /// the store takes no more.
    pub(super) async fn take_all(
        &self,
        events: &Arc<Vec<Event>>,
        lane: Option<Lane>,
        memory: &Arc<Reservation>,
        mut named: Option<&mut Named>,
    ) -> Done {
        let (mut total, mut most) = (Done::default(), EVENTS_MAX);
        let mut next = self.decide(events, 0, most, lane, memory).await;
        let mut from = 0;
        loop {
            let decided = match next {
                Some(stretch) => Ok(stretch),
                None => {
                    self.decide_when_free(events, from, most, lane, memory)
                        .await
                }
            };
            let stretch = match decided {
                Ok(stretch) => stretch,
                Err(trouble) => {
                    total.note(trouble);
                    return total;
                }
            };
            most = stretch.next_most(most);
            let Stretch {
                range,
                commits,
                bytes,
                tapped,
                started,
                ..
            } = stretch;
            self.note_written(&commits);
            let undecided = named.as_ref().map(|_| named::of(&commits));
            from = range.end;
            let (done, following) = tokio::join!(
                self.commit(&events[range.clone()], commits, |_| lane, started),
                self.decide(events, from, most, lane, memory)
            );
            memory.shrink(bytes);
            if let Some(tapped) = tapped {
                tapped.tell(&events[range.clone()], &done);
            }
            if let (Some(named), Some(undecided)) = (&mut named, undecided) {
                let head = self.head(&done);
                named.add(undecided, &done.verdicts, head);
            }
            total.add(done, range.start);
            if from == events.len() || total.is_stopped() {
                return total;
            }
            next = following;
        }
    }

    /// Decides the next stretch as soon as there is memory for it; nothing of the request is being
    /// written meanwhile.
    async fn decide_when_free(
        &self,
        events: &Arc<Vec<Event>>,
        from: usize,
        most: usize,
        lane: Option<Lane>,
        memory: &Arc<Reservation>,
    ) -> Result<Stretch, Trouble> {
        let deadline = Instant::now() + WAIT;
        loop {
            let look = (Instant::now() + LOOK).min(deadline);
            memory.returned(look).await;
            if let Some(stretch) = self.decide(events, from, most, lane, memory).await {
                return Ok(stretch);
            }
            if Instant::now() >= deadline {
                return Err(Trouble::Overloaded);
            }
        }
    }

    /// Runs the events from here on through the chain and turns each into a commit, as many as there
    /// is memory for at the moment; `None` if there is not enough for one.
    async fn decide(
        &self,
        events: &Arc<Vec<Event>>,
        from: usize,
        most: usize,
        lane: Option<Lane>,
        memory: &Arc<Reservation>,
    ) -> Option<Stretch> {
        let (range, copies) = next_range(events, from, most);
        let started = traces::now();
        // Each event may be copied: into a change, or because it is quarantined.
        memory.grow(copies).ok()?;
        let room = Room::new(memory.clone(), RESULTS_BYTES_MAX);
        let mut tapped = self.tapped(Some(&room));
        let verdicts = match &self.chain {
            Some(chain) if !range.is_empty() => {
                chain.map(events.clone(), range.clone(), &room).await
            }
            _ => vec![EventVerdict::Passed; range.len()],
        };
        let held = copies + room.taken();
        let range = if room.was_full() {
            from..from + verdicts.len()
        } else {
            range
        };
        if room.was_full() && range.is_empty() {
            memory.shrink(held);
            return None;
        }
        let arriving = |_| Arriving {
            lane,
            arrival: None,
        };
        let commits = self
            .commits(&events[range.clone()], verdicts, arriving, tapped.as_mut())
            .await;
        let bytes = commits.iter().map(commit_bytes).sum::<u64>().min(held);
        memory.shrink(held - bytes);
        Some(Stretch {
            range,
            commits,
            bytes,
            full: room.was_full(),
            tapped,
            started,
        })
    }
}

/// The next events that make a stretch, `most` of them, and the memory of one copy of them.
fn next_range(events: &[Event], from: usize, most: usize) -> (Range<usize>, u64) {
    let (mut end, mut bytes) = (from, 0);
    for event in events[from..].iter().take(most) {
        let more = event_bytes(event) + OVERHEAD_BYTES;
        if end > from && bytes + more > EVENTS_BYTES_MAX {
            break;
        }
        (end, bytes) = (end + 1, bytes + more);
    }
    (from..end, bytes)
}

/// The approximate memory of a commit.
fn commit_bytes(commit: &Commit) -> u64 {
    match &commit.effect {
        Effect::Filtered => 0,
        Effect::Changes(changes) => {
            let value = |value: &Option<Arc<str>>| value.as_ref().map_or(0, |text| text.len());
            let bytes = changes.iter().map(|change| value(&change.value) as u64);
            bytes.map(|bytes| bytes + OVERHEAD_BYTES).sum()
        }
        Effect::Quarantine(quarantined) => event_bytes(&quarantined.event) + OVERHEAD_BYTES,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(bytes: usize) -> Event {
        Event::plain(None, crate::model::Payload::Text("x".repeat(bytes)))
    }

    #[test]
    fn a_stretch_ends_at_its_number_of_events_or_bytes() {
        let small: Vec<Event> = (0..5000).map(|_| event(1)).collect();
        assert_eq!(next_range(&small, 0, EVENTS_MAX).0, 0..4096);
        assert_eq!(next_range(&small, 4096, EVENTS_MAX).0, 4096..5000);
        assert_eq!(next_range(&small, 10, 7).0, 10..17);
        let large: Vec<Event> = [3, 3, 3, 9, 1].map(|mib| event(mib << 20)).into();
        assert_eq!(next_range(&large, 0, EVENTS_MAX).0, 0..2);
        assert_eq!(next_range(&large, 2, EVENTS_MAX).0, 2..3);
        assert_eq!(next_range(&large, 3, EVENTS_MAX).0, 3..4, "alone");
        assert_eq!(next_range(&[], 0, EVENTS_MAX), (0..0, 0));
    }
}
