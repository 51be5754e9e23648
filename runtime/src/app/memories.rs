//! Keeps what targets have taught over restarts: the rate that each bears, or that of the pace that
//! several share; and the credentials that they have replaced.
//!
//! A rate changes all the time while a target is at its limit, and losing the last seconds of it costs
//! little, so it is saved now and then and at a stop. Credentials are saved at each call: after a crash
//! before that, somebody must log in again.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::Inner;

/// How often it is saved.
pub(super) const MEMORIES_EVERY: Duration = Duration::from_secs(10);

/// The name of the store's note with the memory of a target.
pub(super) fn note_of(target: &str) -> String {
    format!("target {target}")
}

/// The name of the store's note with the memory of a pace.
pub(super) fn note_of_pace(pace: &str) -> String {
    format!("pace {pace}")
}

/// The name of the store's note with the credentials that a target has replaced.
pub(super) fn note_of_credentials(target: &str) -> String {
    format!("credentials {target}")
}

/// What was saved in each note, and when.
#[derive(Default)]
pub(super) struct Memories {
    saved: BTreeMap<String, Option<Vec<u8>>>,
    at: Option<Instant>,
}

impl Memories {
    /// Saves what has changed: credentials at once, rates unless it was done within the time `every`.
    pub(super) async fn save(&mut self, inner: &Inner, every: Duration) {
        let targets = &inner.live.load_full().targets;
        let credentials = targets
            .iter()
            .map(|(name, target)| (note_of_credentials(name), target.credentials()));
        self.write(inner, credentials).await;
        if self.at.is_some_and(|at| at.elapsed() < every) {
            return;
        }
        self.at = Some(Instant::now());
        let of_paces = targets.values().filter_map(|target| {
            let pace = target.options().pace.as_deref()?;
            Some((note_of_pace(pace), target.quota().memory()))
        });
        let of_targets = targets
            .iter()
            .map(|(name, target)| (note_of(name), target.memory()));
        self.write(inner, of_paces.chain(of_targets)).await;
    }

    async fn write(
        &mut self,
        inner: &Inner,
        notes: impl Iterator<Item = (String, Option<Vec<u8>>)>,
    ) {
        for (note, memory) in notes {
            let saved = match self.saved.get(&note) {
                Some(saved) => saved.clone(),
                // The note of an earlier process may be worth nothing any more.
                None => inner.store.note(&note).unwrap_or_default(),
            };
            if saved == memory {
                self.saved.insert(note, memory);
                continue;
            }
            match inner.store.set_note(&note, memory.clone()).await {
                Ok(()) => drop(self.saved.insert(note, memory)),
                // The positions cannot be saved either, which is reported.
                Err(_) => return,
            }
        }
    }
}
