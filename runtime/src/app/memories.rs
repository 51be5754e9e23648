//! Keeps what targets have taught over restarts: the rate that each bears, or that of the pace that
//! several share; the credentials that they have replaced; how far they had come; and what each kind wants
//! to remember. And the latencies of channels.
//!
//! A rate changes all the time while a target is at its limit, and losing the last seconds of it costs
//! little, so it is saved now and then and at a stop. Credentials are saved at each call: after a crash
//! before that, somebody must log in again. Marks are saved before the pairs of their deliveries are, so
//! that a target which lost what is in a pair is behind its mark.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Inner;
use super::apply::Live;
use crate::model::Sequence;
use crate::store::{self, Store};
use crate::sync::lock;
use crate::targets::{BoxFuture, Foreign, Mark, Memory};

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

/// The name of the store's note with the latencies of a channel.
pub(super) fn note_of_latencies(channel: &str) -> String {
    format!("latencies {channel}")
}

/// The name of the store's note with the sequences that a target may overwrite.
fn note_of_foreign(target: &str) -> String {
    format!("foreign {target}")
}

/// The name of the store's note with the mark of a target.
pub(super) fn note_of_mark(target: &str) -> String {
    format!("mark {target}")
}

/// The name of the store's notes with what a kind of target remembers by names of its own.
fn notes_of_memory(target: &str) -> String {
    format!("memory {target} ")
}

/// The notes of a target that there are, each with the name that it has for a target of another name.
///
/// # Errors
/// The store cannot be read.
pub(super) fn notes_to_rename(
    store: &dyn Store,
    was: &str,
    name: &str,
) -> Result<Vec<(String, String)>, store::Error> {
    let mut found = Vec::new();
    for note in [note_of, note_of_credentials, note_of_foreign, note_of_mark] {
        if store.note(&note(was))?.is_some() {
            found.push((note(was), note(name)));
        }
    }
    let (before, after) = (notes_of_memory(was), notes_of_memory(name));
    for note in store.notes(&before)? {
        let own = note.strip_prefix(&before).unwrap_or_default();
        let renamed = format!("{after}{own}");
        found.push((note, renamed));
    }
    Ok(found)
}

/// The sequences that a target at this place may overwrite.
///
/// # Errors
/// The store cannot be read.
pub(super) fn foreign_of(
    store: &dyn Store,
    target: &str,
    place: u64,
) -> Result<Option<Foreign>, store::Error> {
    let note = store.note(&note_of_foreign(target))?.unwrap_or_default();
    let numbers = note.strip_prefix(&place.to_le_bytes()).unwrap_or_default();
    let number = |from: usize| {
        let bytes = numbers.get(from..from + 8)?;
        Some(Sequence(u64::from_le_bytes(bytes.try_into().ok()?)))
    };
    Ok(number(0)
        .zip(number(8))
        .map(|(first, last)| Foreign { first, last }))
}

/// Keeps the sequences that a target at this place may overwrite.
///
/// # Errors
/// The store cannot be written.
pub(super) async fn keep_foreign(
    store: &dyn Store,
    target: &str,
    place: u64,
    foreign: Foreign,
) -> Result<(), store::Error> {
    let numbers = [place, foreign.first.0, foreign.last.0];
    let note = numbers.map(u64::to_le_bytes).concat();
    store.set_note(&note_of_foreign(target), Some(note)).await
}

/// The mark that an earlier target of this name left behind at this place.
///
/// # Errors
/// The store cannot be read.
pub(super) fn mark_of(
    store: &dyn Store,
    target: &str,
    place: u64,
) -> Result<Option<Mark>, store::Error> {
    let note = store.note(&note_of_mark(target))?.unwrap_or_default();
    let Some((exact, rest)) = note.split_first() else {
        return Ok(None);
    };
    let bytes = rest.strip_prefix(&place.to_le_bytes());
    Ok(bytes.map(|bytes| Mark {
        bytes: bytes.to_vec(),
        exact: *exact == 1,
    }))
}

impl Inner {
    /// Lets no mark in the store be exact any more, before anything is delivered that it would not include: after a
    /// crash, the next start must not take it for one that does.
    ///
    /// # Errors
    /// The store cannot be read or written.
    pub(super) async fn marks_begin(&self, old: &Live, live: &Live) -> Result<(), store::Error> {
        for name in live.targets.keys() {
            let was = live.plan.renamed_targets.get(name);
            if [Some(name), was]
                .into_iter()
                .flatten()
                .any(|name| old.targets.contains_key(name))
            {
                continue;
            }
            let note = note_of_mark(name);
            let Some(found) = self.store.note(&note)? else {
                continue;
            };
            if found.first() == Some(&1) {
                let lower_bound = [&[0], &found[1..]].concat();
                self.store.set_note(&note, Some(lower_bound)).await?;
            }
            lock(&self.found_marks).entry(note).or_insert(found);
        }
        Ok(())
    }

    /// Keeps the marks of targets that others have replaced at the same place, once nothing is delivered to them
    /// any more: under their new names, and before the next beat does. Those that have replaced them may have none
    /// before their first delivery.
    ///
    /// # Errors
    /// The store cannot be written.
    pub(super) async fn keep_marks(&self, old: &Live, live: &Live) -> Result<(), store::Error> {
        for (name, target) in &live.targets {
            let was = || old.targets.get(live.plan.renamed_targets.get(name)?);
            let before = old.targets.get(name).or_else(was);
            let replaced = before.filter(|it| !Arc::ptr_eq(it, target));
            let replaced = replaced.filter(|it| it.place() == target.place());
            let mark = replaced.and_then(|it| target.mark().or_else(|| it.mark()));
            if let Some(mark) = mark {
                let note = [&[0], &target.place().to_le_bytes()[..], &mark].concat();
                let kept = self.store.set_note(&note_of_mark(name), Some(note));
                kept.await?;
            }
        }
        Ok(())
    }
}

/// The memory of a target in the store.
pub(super) struct TargetMemory {
    pub(super) store: Arc<dyn Store>,
    pub(super) target: Arc<str>,
}

impl TargetMemory {
    fn note(&self, name: &str) -> String {
        format!("{}{name}", notes_of_memory(&self.target))
    }
}

impl Memory for TargetMemory {
    fn recall(&self, name: &str) -> Result<Option<Vec<u8>>, String> {
        let note = self.store.note(&self.note(name));
        note.map_err(|error| error.to_string())
    }

    fn remember(
        &self,
        name: &str,
        value: Option<Vec<u8>>,
    ) -> BoxFuture<'static, Result<(), String>> {
        let saved = self.store.set_note(&self.note(name), value);
        Box::pin(async move { saved.await.map_err(|error| error.to_string()) })
    }
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

    /// Saves the latencies of all channels. Each that has changed costs a synced write.
    pub(super) async fn save_latencies(&mut self, inner: &Inner) {
        let channels = &inner.live.load_full().channels;
        let notes = channels.iter().filter_map(|(name, channel)| {
            let memory = channel.latency_memory()?;
            Some((note_of_latencies(name), Some(memory)))
        });
        self.write(inner, notes).await;
    }

    /// Saves the marks that have changed. Only after all channels have stopped are they `exact`.
    pub(super) async fn save_marks(&mut self, inner: &Inner, exact: bool) {
        let targets = &inner.live.load_full().targets;
        for (name, target) in targets {
            let Some(mark) = target.mark() else { continue };
            let at = [&target.place().to_le_bytes()[..], &mark].concat();
            let note = note_of_mark(name);
            let found = lock(&inner.found_marks).get(&note).cloned();
            // While nothing was delivered, a stop knows no more than the one before.
            let exact = match found.as_deref().and_then(<[u8]>::split_first) {
                Some((before, rest)) if *rest == at => exact && *before == 1,
                _ => exact,
            };
            let value = Some([&[u8::from(exact)], &at[..]].concat());
            self.write(inner, [(note, value)].into_iter()).await;
        }
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
