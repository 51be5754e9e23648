//! Keeps what targets have taught over restarts: the rate that each bears, or that of the pace that
//! several share.
//!
//! It changes all the time while a target is at its limit, and losing the last seconds of it costs
//! little, so it is saved now and then and at a stop.

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

/// What was saved in each note, and when.
#[derive(Default)]
pub(super) struct Memories {
    saved: BTreeMap<String, Option<Vec<u8>>>,
    at: Option<Instant>,
}

impl Memories {
    /// Saves what has changed, unless it was done within the time `every`.
    pub(super) async fn save(&mut self, inner: &Inner, every: Duration) {
        if self.at.is_some_and(|at| at.elapsed() < every) {
            return;
        }
        self.at = Some(Instant::now());
        let targets = &inner.live.load_full().targets;
        let of_paces = targets.values().filter_map(|target| {
            let pace = target.options().pace.as_deref()?;
            Some((note_of_pace(pace), target.quota().memory()))
        });
        let of_targets = targets
            .iter()
            .map(|(name, target)| (note_of(name), target.memory()));
        for (note, memory) in of_paces.chain(of_targets) {
            // What remembers nothing after a start left no note that is worth anything.
            if self.saved.get(&note).cloned().flatten() == memory {
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
