//! Events given again from quarantine, to the plugins and rules of now.
//!
//! An event leaves the quarantine only after what it leads to is durable; one that fails again
//! stays, with the new reason. It keeps the sequence it had on arrival, so that it loses against
//! facets changed since.

use std::sync::Arc;

use serde::Serialize;

use super::source::{Done, Source, Trouble};
use super::{ChangeCounts, EventCounts, Rejection};
use crate::model::{Event, Sequence};
use crate::plugin::EventVerdict;
use crate::store::{self, Commit, QuarantinedEvent, Verdict};

/// Events taken out at once; each may be as large as a body may be.
const PIECE: usize = 32;

/// Which events to give again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    /// All that are there now.
    All,
    /// These, by the sequence they had on arrival.
    These(Vec<Sequence>),
}

/// What became of events given again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Redriven {
    /// By what became of them; `quarantined` are those that failed again and stay.
    pub events: EventCounts,
    /// Their changes.
    pub changes: ChangeCounts,
    /// Named, but not in quarantine.
    pub missing: u64,
}

impl Source {
    /// Gives events again from quarantine, oldest first; answers when all is durable.
    ///
    /// # Errors
    /// `Busy`, `NoRoom`, `Unavailable` as for requests: what was done until then is done, the other
    /// events stay in quarantine.
    pub async fn redrive(&self, selection: Selection) -> Result<Redriven, Rejection> {
        let (mut redriven, shelf) = (Redriven::default(), self.store.shelf(&self.options.name));
        match selection {
            Selection::All => {
                // Events that come while this runs are not taken: it ends.
                let last = *self.store.watermark().borrow();
                let mut after = None;
                loop {
                    let mut piece = shelf.list(after, PIECE).map_err(unavailable)?;
                    piece.retain(|event| event.sequence <= last);
                    let Some(newest) = piece.last() else {
                        return Ok(redriven);
                    };
                    after = Some(newest.sequence);
                    self.redrive_piece(piece, &mut redriven).await?;
                }
            }
            Selection::These(mut sequences) => {
                sequences.sort_unstable();
                sequences.dedup();
                for chunk in sequences.chunks(PIECE) {
                    let mut piece = Vec::with_capacity(chunk.len());
                    for sequence in chunk {
                        piece.extend(shelf.get(*sequence).map_err(unavailable)?);
                    }
                    redriven.missing += (chunk.len() - piece.len()) as u64;
                    self.redrive_piece(piece, &mut redriven).await?;
                }
                Ok(redriven)
            }
        }
    }

    async fn redrive_piece(
        &self,
        piece: Vec<QuarantinedEvent>,
        redriven: &mut Redriven,
    ) -> Result<(), Rejection> {
        let sequences: Vec<Sequence> = piece.iter().map(|entry| entry.sequence).collect();
        let lanes: Vec<_> = piece.iter().map(|entry| entry.event.lane).collect();
        let events: Arc<Vec<Event>> =
            Arc::new(piece.into_iter().map(|entry| entry.event.event).collect());
        if events.is_empty() {
            return Ok(());
        }
        let verdicts = match &self.chain {
            Some(chain) => chain.map(Arc::clone(&events)).await,
            None => vec![EventVerdict::Passed; events.len()],
        };
        let mut verdicts = verdicts.into_iter();
        let commits = events
            .iter()
            .zip(&sequences)
            .zip(&lanes)
            .map(|((event, sequence), lane)| {
                // The source may have had a mapper when the event came, so its data may be
                // anything.
                let effect = self.effect(event, verdicts.next(), *lane, false);
                // Without an identity: that one is remembered since the event's arrival.
                Commit {
                    source: self.options.name.clone(),
                    identity: None,
                    arrival: Some(*sequence),
                    effect,
                }
            });
        let commits: Vec<Commit> = commits.collect();
        let done = self.commit(&events, commits, |at| lanes[at]).await;
        let leaving = settled(&done, &sequences);
        let shelf = self.store.shelf(&self.options.name);
        shelf.remove(&leaving).await.map_err(unavailable)?;
        self.activity.taken(
            EventCounts {
                quarantined: 0,
                ..done.events
            },
            done.changes,
        );
        redriven.add(&done);
        match done.trouble {
            None => Ok(()),
            Some(trouble) => Err(trouble.rejection(super::Answer {
                events: redriven.events,
                changes: redriven.changes,
                ..Default::default()
            })),
        }
    }
}

impl Redriven {
    fn add(&mut self, done: &Done) {
        self.events.accepted += done.events.accepted;
        self.events.filtered += done.events.filtered;
        self.events.quarantined += done.events.quarantined;
        self.events.repeated += done.events.repeated;
        self.changes.committed += done.changes.committed;
        self.changes.unchanged += done.changes.unchanged;
        self.changes.stale += done.changes.stale;
    }
}

/// Which events leave the quarantine: those with a lasting result elsewhere. One that was set aside
/// again under a new number leaves its old one.
fn settled(done: &Done, sequences: &[Sequence]) -> Vec<Sequence> {
    let leaves = |at: usize, sequence: Sequence| match done.verdicts.get(&at) {
        Some(Verdict::Accepted { .. } | Verdict::Filtered | Verdict::Repeated) => true,
        Some(Verdict::Quarantined(kept)) => *kept != sequence,
        Some(Verdict::NoRoom(_)) | None => false,
    };
    sequences
        .iter()
        .enumerate()
        .filter(|(at, sequence)| leaves(*at, **sequence))
        .map(|(_, sequence)| *sequence)
        .collect()
}

fn unavailable(error: store::Error) -> Rejection {
    Trouble::from(error).rejection(super::Answer::default())
}
