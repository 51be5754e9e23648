//! Channels and targets that have another name now, and all that is kept by their names.
//!
//! A target has the name of its channel if it is inline, and that of its row if its table has `for_each`, so it
//! is renamed with them. By its name the store keeps how far it had come, what it bears, its credentials, the
//! sequences that it may overwrite and what its kind remembers; its folder has files of its own. Without these
//! a target that has lost deliveries would not be noticed, and a feed would be made from nothing. With a channel that
//! is forgotten they go.

use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::apply::Live;
use super::memories::{note_of_latencies, notes_to_rename};
use super::{Inner, blocking};
use crate::plan::Plan;
use crate::store;
use crate::targets::{Opening, feed};

impl Inner {
    /// The folder for the files of a target.
    pub(super) fn folder_of(&self, target: &str) -> PathBuf {
        self.folder.join(super::TARGETS).join(target)
    }

    /// Gives what is kept by the former name of a target its new one. One that is in use under the former name
    /// is let go of first: it writes nothing more into its folder, and what it is sent is sent again.
    ///
    /// # Errors
    /// The store's, or that of a target that cannot be used under its new name; then nothing was changed.
    pub(super) async fn rename_targets(&self, old: &Live, plan: &Plan) -> Result<(), store::Error> {
        let renamed = plan.renamed_targets.iter();
        let new = renamed.filter(|(name, _)| !old.targets.contains_key(*name));
        for (name, _) in new.clone() {
            let folder = self.folder.join("nowhere");
            let opened = plan.targets[name].kind.open(&Opening::empty(folder));
            opened.map_err(|why| store::Error::Unavailable(format!("target {name}: {why}")))?;
        }
        for (name, was) in new {
            // A target of the new name is remembered: whoever had the former one did not become it.
            if !notes_to_rename(&*self.store, name, was)?.is_empty() {
                continue;
            }
            let (from, to) = (self.folder_of(was), self.folder_of(name));
            let moved = blocking(move || {
                feed::let_go(&from);
                move_folder(&from, &to)
            });
            if let Err(error) = moved.await {
                tracing::warn!(
                    target_name = &**name,
                    was = &**was,
                    %error,
                    "the files of a target that has another name now could not be moved; everything is sent to it again"
                );
            }
            let notes = notes_to_rename(&*self.store, was, name)?;
            if !notes.is_empty() {
                self.store.rename_notes(&notes).await?;
            }
        }
        Ok(())
    }

    /// Forgets what is kept by the name of a target that was inline in a channel, which was forgotten; nothing if
    /// there is a target of this name.
    ///
    /// # Errors
    /// The store's.
    pub(super) async fn forget_target(&self, name: &str) -> Result<(), store::Error> {
        if self.live.load().targets.contains_key(name) {
            return Ok(());
        }
        for (note, _) in notes_to_rename(&*self.store, name, name)? {
            self.store.set_note(&note, None).await?;
        }
        let folder = self.folder_of(name);
        let removed = blocking(move || {
            feed::let_go(&folder);
            std::fs::remove_dir_all(folder)
        })
        .await;
        match removed {
            Err(error) if error.kind() != ErrorKind::NotFound => tracing::warn!(
                target_name = name,
                %error,
                "the files of a target that was forgotten could not be removed"
            ),
            _ => {}
        }
        Ok(())
    }

    /// Gives channels their new names, and what is kept by them.
    ///
    /// # Errors
    /// The store's.
    pub(super) async fn rename_channels(
        &self,
        old: &Live,
        plan: &Plan,
    ) -> Result<(), store::Error> {
        for channel in plan.channels.values() {
            let (name, was) = (&channel.options.name, &channel.options.was);
            if let Some(was) = was.as_ref().filter(|_| !old.channels.contains_key(name))
                && self.store.rename(was, name).await?
            {
                self.rename_latencies(old, was, name).await?;
            }
        }
        Ok(())
    }

    /// A channel that ran until now knows newer latencies than the store.
    async fn rename_latencies(
        &self,
        old: &Live,
        was: &str,
        name: &str,
    ) -> Result<(), store::Error> {
        let before = note_of_latencies(was);
        let running = old.channels.get(was);
        let latencies = match running.and_then(|channel| channel.latency_memory()) {
            Some(latencies) => Some(latencies),
            None => self.store.note(&before)?,
        };
        self.store
            .set_note(&note_of_latencies(name), latencies)
            .await?;
        self.store.set_note(&before, None).await
    }
}

/// Gives a folder another name, unless there is none or one of the new name.
///
/// # Errors
/// It cannot be moved, or there is one of the new name.
fn move_folder(from: &Path, to: &Path) -> std::io::Result<()> {
    if !from.exists() {
        return Ok(());
    }
    if to.exists() {
        let why = format!("there is already a folder {}", to.display());
        return Err(std::io::Error::new(ErrorKind::AlreadyExists, why));
    }
    std::fs::rename(from, to)?;
    match to.parent() {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}
