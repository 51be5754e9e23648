//! The writer's work for the quarantine: it sets events aside, each once, and removes them.

use std::sync::Arc;

use super::{Staged, Writer};
use crate::index::Index;
use crate::model::{Sequence, Timestamp};
use crate::store::embedded::quarantine::{self, Heading};
use crate::store::embedded::sums::Rows;
use crate::store::{Error, NoRoom, Quarantined, Verdict, keys};
use crate::sync::lock;

/// An event to quarantine.
pub(super) struct SetAside {
    pub(super) source: Arc<str>,
    /// For a redriven event: its place in quarantine, if it has one.
    pub(super) place: Option<Option<Sequence>>,
    pub(super) id: Option<u128>,
    pub(super) event: Quarantined,
}

impl Writer {
    pub(super) fn set_aside(
        &self,
        index: &mut Index,
        most: u64,
        aside: SetAside,
        now: Timestamp,
        staged: &mut Staged,
    ) -> Verdict {
        let number = index.names.keep_name(&aside.source);
        let mut sources = lock(&self.shared.quarantine);
        let known = sources.entry(number).or_default();
        let content = aside.event.content();
        let alike = known.find(content);
        let redriven = aside
            .place
            .flatten()
            .and_then(|at| Some((at, self.heading(number, at, staged)?)));
        let (sequence, heading) = match (redriven, alike) {
            // It failed again, and stays where it is.
            (Some((sequence, before)), _) => {
                known.leave(&before, sequence);
                (sequence, before)
            }
            // It failed again, and arrived once more in the meantime.
            (None, Some(sequence)) if aside.place.is_some() => {
                return Verdict::Quarantined(sequence);
            }
            (None, Some(before)) => {
                let mut heading = self.heading(number, before, staged).unwrap_or_default();
                heading.count += 1;
                heading.id = aside.id;
                staged.set_aside(number, before, None);
                (Sequence(index.bump(now)), heading)
            }
            (None, None) if known.events >= most => return Verdict::NoRoom(NoRoom::Quarantine),
            (None, None) => {
                known.events += 1;
                let heading = Heading {
                    first: Some(now),
                    id: aside.id,
                    ..Heading::default()
                };
                (Sequence(index.bump(now)), heading)
            }
        };
        let heading = Heading {
            content: Some(content),
            ..heading
        };
        known.keep(content, sequence);
        if let Some(sentence) = known.report(most) {
            tracing::warn!(source = %aside.source, events = known.events, most, "{sentence}");
        }
        let text = quarantine::Row::encode(&heading, aside.event, now);
        staged.set_aside(number, sequence, Some(text));
        Verdict::Quarantined(sequence)
    }

    /// The heading of a quarantined event as it will be once everything staged is written; `None` if
    /// there is no such event.
    fn heading(&self, source: u32, sequence: Sequence, staged: &Staged) -> Option<Heading> {
        let here = |(number, at, _): &&(u32, Sequence, _)| (*number, *at) == (source, sequence);
        if let Some((_, _, text)) = staged.aside.iter().rev().find(here) {
            return text.as_deref().map(Heading::read);
        }
        let key = keys::quarantine(source, sequence.0, 0);
        let row = self.shared.db.get(key).ok().flatten()?;
        Some(Heading::read(&row))
    }

    /// Removes events from quarantine; with `forget`, their identities go too.
    pub(in crate::store::embedded) fn unquarantine(
        &mut self,
        source: &str,
        sequences: &[Sequence],
        forget: bool,
    ) -> Result<usize, Error> {
        let Some(number) = self.index().names.find(source) else {
            return Ok(0);
        };
        let (shared, mut rows) = (self.shared.clone(), Rows::default());
        let most = lock(&shared.limits).quarantine_max;
        let (mut gone, mut forgotten) = (Vec::new(), Vec::new());
        for sequence in sequences {
            let Some(heading) = self.heading(number, *sequence, &Staged::default()) else {
                continue;
            };
            quarantine::write(&shared.db, number, *sequence, None, &mut rows)?;
            if let Some(id) = heading.id.filter(|_| forget) {
                forgotten.push(self.identities.forget(id));
            }
            gone.push((*sequence, heading));
        }
        self.identities.write(forgotten, &mut rows);
        let written = self.make_durable(rows);
        self.or_fail(written)?;
        if let Some(known) = lock(&self.shared.quarantine).get_mut(&number) {
            known.events = known.events.saturating_sub(gone.len() as u64);
            for (sequence, heading) in &gone {
                known.leave(heading, *sequence);
            }
            known.report(most);
        }
        Ok(gone.len())
    }
}
