//! Keeps what targets have taught over restarts: the rate that each bears.
//!
//! It changes all the time while a target is at its limit, and losing the last seconds of it costs
//! little, so it is saved now and then and at a stop.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Inner;

/// How often it is saved.
pub(super) const MEMORIES_EVERY: Duration = Duration::from_secs(10);

/// The name of the store's note with the memory of a target.
pub(super) fn note_of(target: &str) -> String {
    format!("target {target}")
}

/// What was saved of each target, and when.
#[derive(Default)]
pub(super) struct Memories {
    saved: BTreeMap<Arc<str>, Option<Vec<u8>>>,
    at: Option<Instant>,
}

impl Memories {
    /// Saves what has changed, unless it was done within the time `every`.
    pub(super) async fn save(&mut self, inner: &Inner, every: Duration) {
        if self.at.is_some_and(|at| at.elapsed() < every) {
            return;
        }
        self.at = Some(Instant::now());
        for (name, target) in &inner.live.load_full().targets {
            let memory = target.memory();
            // A target that remembers nothing after a start left no note that is worth anything.
            if self.saved.get(name).cloned().flatten() == memory {
                continue;
            }
            let saved = inner.store.set_note(&note_of(name), memory.clone()).await;
            match saved {
                Ok(()) => drop(self.saved.insert(name.clone(), memory)),
                // The positions cannot be saved either, which is reported.
                Err(_) => return,
            }
        }
    }
}
