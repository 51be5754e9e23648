//! Redriving a body that was kept whole, because it could not be read.
//!
//! It is read by the settings of now. Its events are committed in their order, with the place in time of the body;
//! those that fail, and items that cannot be read, get places in quarantine of their own. The body leaves when all
//! of that is durable. If Weir ends before, it is redriven once more: what it has written is then older than the
//! body's place in time allows, or the same, and what it has set aside is recognised.

use std::sync::Arc;

use super::{PIECE_BYTES_MAX, RESULTS_BYTES_MAX, Redriven};
use crate::ingest::envelope::Opened;
use crate::ingest::source::{Arriving, Done, Source, Trouble, event_bytes};
use crate::ingest::tapped::Tapped;
use crate::ingest::traced::own_trace;
use crate::ingest::{Rejection, unreadable};
use crate::model::{Arrival, Event, Redrive, Sequence};
use crate::plugin::{EventVerdict, Room};
use crate::store::{Commit, Effect, Quarantined, QuarantinedEvent};
use crate::traces;

/// The most events of a body that are mapped at once.
const EVENTS_MAX: usize = 512;

impl Source {
    /// Redrives a body; returns when all results are durable.
    pub(super) async fn redrive_body(
        &self,
        kept: QuarantinedEvent,
        redrive: &Redrive,
        redriven: &mut Redriven,
    ) -> Result<(), Rejection> {
        let (place, kept) = (kept.sequence, kept.event);
        let (options, all_json) = (self.options.clone(), self.chain.is_none());
        let event = kept.event.clone();
        let reading = move || unreadable::open_again(&options, all_json, &event);
        let opened = tokio::task::spawn_blocking(reading).await;
        let opened =
            opened.map_err(|error| redriven.ended_by(Trouble::Unavailable(error.to_string())))?;
        let opened = match opened {
            Ok(opened) => opened,
            Err(failure) => {
                let still = Quarantined { failure, ..kept };
                return self.keep_body(place, still, redrive, redriven).await;
            }
        };
        // A part has no place of its own yet.
        let arriving = Arriving {
            lane: kept.lane,
            arrival: Some(Arrival {
                sequence: place,
                place: None,
                redrive: redrive.clone(),
            }),
        };
        let Opened {
            mut events, unread, ..
        } = opened;
        for event in &mut events {
            event.trace = own_trace(event);
        }
        let events = Arc::new(events);
        let mut from = 0;
        while from < events.len() {
            from += self
                .redrive_parts(&events, from, &arriving, redriven)
                .await?;
        }
        let unread: Vec<Commit> = unread
            .into_iter()
            .map(|item| self.keep_unread(item, arriving.clone()))
            .collect();
        let mut tapped = self.tapped(None).map(Tapped::of_redriven);
        if let Some(tapped) = &mut tapped {
            tapped.choose_unread(0, &unread);
        }
        let done = self
            .commit(&[], unread, |_| arriving.lane, traces::now())
            .await;
        if let Some(tapped) = tapped {
            tapped.tell(&[], &done);
        }
        self.note_parts(done, &[], redriven)?;
        let shelf = self.store.shelf(&self.options.name);
        let removed = shelf.remove(&[place]).await;
        removed.map_err(|error| redriven.ended_by(error.into()))?;
        Ok(())
    }

    /// Redrives the next events of a body; returns how many these are.
    async fn redrive_parts(
        &self,
        events: &Arc<Vec<Event>>,
        from: usize,
        arriving: &Arriving,
        redriven: &mut Redriven,
    ) -> Result<usize, Rejection> {
        let mut bytes = 0;
        let next = events[from..].iter().take(EVENTS_MAX).take_while(|event| {
            let is_first = bytes == 0;
            bytes += event_bytes(event).max(1);
            is_first || bytes <= PIECE_BYTES_MAX
        });
        let range = from..from + next.count();
        let started = traces::now();
        let room = Room::apart(RESULTS_BYTES_MAX, true);
        let mut tapped = self.tapped(Some(&room)).map(Tapped::of_redriven);
        let verdicts = match &self.chain {
            Some(chain) => chain.map(events.clone(), range.clone(), &room).await,
            None => vec![EventVerdict::Passed; range.len()],
        };
        // For one result at least there is always room.
        let run = if room.was_full() {
            verdicts.len()
        } else {
            range.len()
        };
        let events = &events[from..from + run];
        let commits = self
            .commits(events, verdicts, |_| arriving.clone(), tapped.as_mut())
            .await;
        let done = self
            .commit(events, commits, |_| arriving.lane, started)
            .await;
        if let Some(tapped) = tapped {
            tapped.tell(events, &done);
        }
        self.note_parts(done, events, redriven)?;
        Ok(run)
    }

    /// Counts results of parts of a body, of which none may be missing.
    fn note_parts(
        &self,
        done: Done,
        events: &[Event],
        redriven: &mut Redriven,
    ) -> Result<(), Rejection> {
        let ids = events.iter().map(|event| event.id.clone()).collect();
        redriven.add(&done, ids);
        // The body was counted as one event.
        self.activity.taken(done.events, done.changes);
        match done.trouble {
            None => Ok(()),
            Some(trouble) => Err(redriven.ended_by(trouble)),
        }
    }

    /// Keeps a body that still cannot be read, with the new reason.
    async fn keep_body(
        &self,
        place: Sequence,
        still: Quarantined,
        redrive: &Redrive,
        redriven: &mut Redriven,
    ) -> Result<(), Rejection> {
        let lane = still.lane;
        let arrival = Arrival {
            sequence: place,
            place: Some(place),
            redrive: redrive.clone(),
        };
        let commit = Commit {
            source: self.options.name.clone(),
            identity: None,
            arrival: Some(arrival),
            effect: Effect::Quarantine(Box::new(still)),
        };
        let done = self
            .commit(&[], vec![commit], |_| lane, traces::now())
            .await;
        redriven.add(&done, Vec::new());
        match done.trouble {
            None => Ok(()),
            Some(trouble) => Err(redriven.ended_by(trouble)),
        }
    }
}
