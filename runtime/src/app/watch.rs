//! Reloads when a file changes: the configuration, the files it includes, and the components.
//!
//! Folders are watched instead of files, because editors and builds replace files. A burst of
//! changes leads to one reload. A half-written file is rejected like any other wrong file, and its
//! next change leads to the next reload. A file that is renamed into place is complete, so it is
//! read almost at once.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::event::{Event, EventKind, ModifyKind, RenameMode};
use notify::{RecursiveMode, Watcher};
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

use super::Inner;

/// How long a file must be quiet after a write before it is read.
const SETTLE: Duration = Duration::from_millis(200);
/// The same after a rename into place: long enough for several files that are renamed together.
const SETTLE_RENAMED: Duration = Duration::from_millis(20);
/// Maximum delay; a file that is written without pause is read after this time.
const SETTLE_MAX: Duration = Duration::from_secs(2);

/// Watches until Weir stops. If the system cannot watch files, logs an error and returns.
pub(super) fn watch(inner: Arc<Inner>) {
    let (changed, mut changes) = mpsc::unbounded_channel::<Duration>();
    let watched_by = inner.clone();
    let on_event = move |event: notify::Result<Event>| {
        let Ok(event) = event else { return };
        if event.kind.is_access() {
            return;
        }
        let (files, folders) = watched(&watched_by);
        if event.paths.iter().any(|path| {
            files.contains(path) || path.parent().is_some_and(|folder| folders.contains(folder))
        }) {
            // The receiver is gone when Weir stops.
            let _ = changed.send(settle(&event.kind));
        }
    };
    let mut watcher = match notify::recommended_watcher(on_event) {
        Ok(watcher) => watcher,
        Err(error) => {
            tracing::error!(%error, "cannot watch files for changes; to reload, use SIGHUP or POST /v1/reload");
            return;
        }
    };
    // A reload may wait for a compiler; the next change leads to the next reload meanwhile.
    let reloaded = Arc::new(Notify::new());
    tokio::spawn({
        let (inner, reloaded) = (inner.clone(), reloaded.clone());
        async move {
            while quiet(&mut changes).await && !inner.stopping.is_cancelled() {
                let (inner, reloaded) = (inner.clone(), reloaded.clone());
                tokio::spawn(async move {
                    inner.reload().await;
                    reloaded.notify_one();
                });
            }
        }
    });
    tokio::spawn(async move {
        let mut folders = BTreeSet::new();
        loop {
            let wanted = folders_of(&inner);
            for folder in wanted.difference(&folders) {
                if let Err(error) = watcher.watch(folder, RecursiveMode::NonRecursive) {
                    tracing::warn!(folder = %folder.display(), %error, "cannot watch this folder; after a change in it, reload with SIGHUP or POST /v1/reload");
                }
            }
            for folder in folders.difference(&wanted) {
                // An error here means that the folder is gone, and then it is not watched anyway.
                let _ = watcher.unwatch(folder);
            }
            folders = wanted;
            tokio::select! {
                () = reloaded.notified() => {}
                () = inner.stopping.cancelled() => return,
            }
        }
    });
}

/// How long a change of this kind must settle before the files are read.
fn settle(kind: &EventKind) -> Duration {
    match kind {
        EventKind::Modify(ModifyKind::Name(RenameMode::To | RenameMode::Both)) => SETTLE_RENAMED,
        _ => SETTLE,
    }
}

/// Waits for a change, and then until it and those that follow have settled. Returns false if the
/// watcher has ended.
async fn quiet(changes: &mut mpsc::UnboundedReceiver<Duration>) -> bool {
    let Some(first) = changes.recv().await else {
        return false;
    };
    let mut burst = Burst::start(Instant::now(), first);
    while let Ok(next) = tokio::time::timeout_at(burst.due(), changes.recv()).await {
        let Some(next) = next else { return false };
        burst.add(Instant::now(), next);
    }
    true
}

/// Changes that together lead to one reload.
struct Burst {
    began: Instant,
    settled: Instant,
}

impl Burst {
    fn start(now: Instant, settle: Duration) -> Burst {
        Burst {
            began: now,
            settled: now + settle,
        }
    }

    /// Adds a change. A rename does not shorten the wait for a file that is still being written.
    fn add(&mut self, now: Instant, settle: Duration) {
        self.settled = self.settled.max(now + settle);
    }

    /// When to read the files, if no further change arrives.
    fn due(&self) -> Instant {
        self.settled.min(self.began + SETTLE_MAX)
    }
}

/// The files whose change matters, and the folders in which the change of any file does.
fn watched(inner: &Inner) -> (BTreeSet<PathBuf>, BTreeSet<PathBuf>) {
    let plan = inner.live.load().plan.clone();
    let files = plan
        .files
        .iter()
        .chain(plan.plugins.values().map(|plugin| &plugin.path))
        .chain(&inner.files);
    (
        files.map(|file| real(file)).collect(),
        plan.folders.iter().map(|folder| real(folder)).collect(),
    )
}

fn folders_of(inner: &Inner) -> BTreeSet<PathBuf> {
    let (files, mut folders) = watched(inner);
    folders.extend(
        files
            .iter()
            .filter_map(|file| file.parent().map(Path::to_owned)),
    );
    folders
}

/// The path as the system reports it. If the file does not exist because it is being replaced, the
/// path is made from its folder.
fn real(path: &Path) -> PathBuf {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    match (path.canonicalize(), folder.canonicalize(), path.file_name()) {
        (Ok(path), _, _) if path.is_dir() => path,
        (_, Ok(folder), Some(name)) => folder.join(name),
        _ => path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns when files are read, given the arrival and the settle time of each change. Times are
    /// in milliseconds after the first change.
    fn read_after(changes: &[(u64, Duration)]) -> u128 {
        let began = Instant::now();
        let mut burst = Burst::start(began, changes[0].1);
        for (after, settle) in &changes[1..] {
            burst.add(began + Duration::from_millis(*after), *settle);
        }
        burst.due().duration_since(began).as_millis()
    }

    #[test]
    fn a_renamed_file_is_read_at_once_and_a_written_one_once_it_is_quiet() {
        assert_eq!(read_after(&[(0, SETTLE_RENAMED)]), 20);
        assert_eq!(read_after(&[(0, SETTLE)]), 200);
        assert_eq!(
            read_after(&[(0, SETTLE), (50, SETTLE_RENAMED)]),
            200,
            "a rename does not shorten the wait for a file that is still being written"
        );
        assert_eq!(read_after(&[(0, SETTLE_RENAMED), (10, SETTLE)]), 210);
        let written: Vec<(u64, Duration)> = (0..100).map(|piece| (piece * 100, SETTLE)).collect();
        assert_eq!(
            read_after(&written),
            2000,
            "a file that is written without end"
        );
    }

    #[test]
    fn only_a_rename_into_place_is_known_to_be_whole() {
        assert_eq!(
            settle(&EventKind::Modify(ModifyKind::Name(RenameMode::To))),
            SETTLE_RENAMED
        );
        assert_eq!(
            settle(&EventKind::Modify(ModifyKind::Name(RenameMode::From))),
            SETTLE
        );
        assert_eq!(
            settle(&EventKind::Create(notify::event::CreateKind::File)),
            SETTLE
        );
    }
}
