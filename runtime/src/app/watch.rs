//! Files that change are read again: the configuration, what it includes, and the components.
//!
//! Folders are watched, not files, because editors and builds replace files. A burst of changes leads to one reload, and a file that is
//! half written is refused like any other that is wrong; the next change of it leads to the next try.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::RecursiveMode;
use notify_debouncer_full::{DebounceEventResult, new_debouncer};
use tokio::sync::mpsc;

use super::Inner;

/// How long it must be quiet before a change is read.
const SETTLE: Duration = Duration::from_millis(200);

/// Watches until Weir stops.
pub(super) fn watch(inner: Arc<Inner>) {
    let (changed, mut changes) = mpsc::channel::<()>(1);
    let looked_at = inner.clone();
    let heard = move |events: DebounceEventResult| {
        let Ok(events) = events else { return };
        let touched = events.iter().filter(|event| !event.kind.is_access()).flat_map(|event| &event.paths);
        let (files, folders) = watched(&looked_at);
        if touched.into_iter().any(|path| files.contains(path) || path.parent().is_some_and(|folder| folders.contains(folder))) {
            // If a reload is due already, it will see this change too.
            let _ = changed.try_send(());
        }
    };
    let mut debouncer = match new_debouncer(SETTLE, None, heard) {
        Ok(debouncer) => debouncer,
        Err(error) => {
            tracing::error!(%error, "files are not watched; use SIGHUP or POST /v1/reload");
            return;
        }
    };
    tokio::spawn(async move {
        let mut folders = BTreeSet::new();
        loop {
            let wanted = folders_of(&inner);
            for folder in wanted.difference(&folders) {
                if let Err(error) = debouncer.watch(folder, RecursiveMode::NonRecursive) {
                    tracing::warn!(folder = %folder.display(), %error, "the folder cannot be watched");
                }
            }
            for folder in folders.difference(&wanted) {
                // A folder that is gone is not watched any more in any case.
                let _ = debouncer.unwatch(folder);
            }
            folders = wanted;
            tokio::select! {
                change = changes.recv() => if change.is_none() { return },
                () = inner.stopping.cancelled() => return,
            }
            inner.reload().await;
        }
    });
}

/// Files whose change matters, and folders in which any does.
fn watched(inner: &Inner) -> (BTreeSet<PathBuf>, BTreeSet<PathBuf>) {
    let plan = inner.live.load().plan.clone();
    let files = plan.files.iter().chain(plan.plugins.values().map(|plugin| &plugin.path)).chain(&inner.files);
    (files.map(|file| real(file)).collect(), plan.folders.iter().map(|folder| real(folder)).collect())
}

fn folders_of(inner: &Inner) -> BTreeSet<PathBuf> {
    let (files, mut folders) = watched(inner);
    folders.extend(files.iter().filter_map(|file| file.parent().map(Path::to_owned)));
    folders
}

/// The path as the system reports it; the folder counts where the file is being replaced.
fn real(path: &Path) -> PathBuf {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match (path.canonicalize(), folder.canonicalize(), path.file_name()) {
        (Ok(path), _, _) if path.is_dir() => path,
        (_, Ok(folder), Some(name)) => folder.join(name),
        _ => path.to_owned(),
    }
}
