//! Reads a request and says what would become of its events, without taking it: for people who try an event
//! out.
//!
//! Nothing is counted or kept. The sender's proof is looked at, and its result is reported: who asks here is an
//! operator, and need not have the sender's secret.

use super::envelope::{Opened, Unread};
use super::{Incoming, Rejection, Source, verify};
use crate::budget::Reservation;
use crate::model::{Event, Failure, Lane};
use crate::plugin::EventVerdict;
use crate::store::{Effect, FacetChange};

/// A request that was read and not taken.
#[derive(Debug)]
pub struct Looked {
    /// Whether its sender would be verified.
    pub sender: Result<(), verify::NotVerified>,
    /// Its events.
    pub events: Vec<Event>,
    /// For each event its index in the request, counting the items that could not be read.
    pub indexes: Vec<usize>,
    /// The items that would be quarantined, because they cannot be read as events.
    pub unread: Vec<Unread>,
    /// The memory that the request holds.
    pub memory: Reservation,
}

/// What would become of an event.
#[derive(Clone, Debug)]
pub enum Prospect {
    /// These changes would be passed to the store.
    Changes(Vec<FacetChange>),
    /// It would be dropped.
    Filtered,
    /// It would be quarantined for this reason, because of this plugin if it is one.
    Quarantined(Failure, Option<String>),
}

impl Source {
    /// Reads a request.
    ///
    /// # Errors
    /// As [`Source::accept`], except that a sender that cannot be verified is no error here.
    pub async fn look_at(&self, incoming: Incoming) -> Result<Looked, Rejection> {
        self.fits(&incoming)?;
        let (headers, body, now) = (&incoming.headers, &incoming.body, incoming.now);
        let sender = verify::verify(&self.options().verify, headers, body, now);
        let (opened, memory) = self.open(incoming).await?;
        let Opened {
            events,
            indexes,
            unread,
        } = opened;
        Ok(Looked {
            sender,
            events,
            indexes,
            unread,
            memory,
        })
    }

    /// What would become of an event of such a request, with this verdict of the chain; `lane` is that of the
    /// request.
    pub fn prospect(&self, event: &Event, verdict: EventVerdict, lane: Option<Lane>) -> Prospect {
        match self.effect(event, Some(verdict), lane, !self.is_mapped()) {
            Effect::Changes(changes) => Prospect::Changes(changes),
            Effect::Filtered => Prospect::Filtered,
            Effect::Quarantine(kept) => Prospect::Quarantined(kept.failure, kept.plugin),
        }
    }
}
