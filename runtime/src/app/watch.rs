//! Files that change are read again: the configuration, what it includes, and the components.
//!
//! Folders are watched, not files, because editors and builds replace files. A burst of changes
//! leads to one reload, and a file that is half written is refused like any other that is wrong;
//! the next change of it leads to the next try. A file that was renamed into its place is whole, so
//! it is read almost at once.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::event::{Event, EventKind, ModifyKind, RenameMode};
use notify::{RecursiveMode, Watcher};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::Inner;

/// How long it must be quiet after a write before a file is read.
const SETTLE: Duration = Duration::from_millis(200);
/// How long after files were renamed into place: enough for those that come together.
const SETTLE_RENAMED: Duration = Duration::from_millis(20);
/// A file that is written without end is read all the same after so long.
const SETTLE_MAX: Duration = Duration::from_secs(2);

/// Watches until Weir stops.
pub(super) fn watch(inner: Arc<Inner>) {
    let (changed, mut changes) = mpsc::unbounded_channel::<Duration>();
    let looked_at = inner.clone();
    let heard = move |event: notify::Result<Event>| {
        let Ok(event) = event else { return };
        if event.kind.is_access() {
            return;
        }
        let (files, folders) = watched(&looked_at);
        if event.paths.iter().any(|path| {
            files.contains(path) || path.parent().is_some_and(|folder| folders.contains(folder))
        }) {
            // Nobody listens any more when Weir stops.
            let _ = changed.send(settle(&event.kind));
        }
    };
    let mut watcher = match notify::recommended_watcher(heard) {
        Ok(watcher) => watcher,
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
                if let Err(error) = watcher.watch(folder, RecursiveMode::NonRecursive) {
                    tracing::warn!(folder = %folder.display(), %error, "the folder cannot be watched");
                }
            }
            for folder in folders.difference(&wanted) {
                // A folder that is gone is not watched any more in any case.
                let _ = watcher.unwatch(folder);
            }
            folders = wanted;
            tokio::select! {
                quiet = quiet(&mut changes) => if !quiet { return },
                () = inner.stopping.cancelled() => return,
            }
            inner.reload().await;
        }
    });
}

/// How long a change of that kind must settle.
fn settle(kind: &EventKind) -> Duration {
    match kind {
        EventKind::Modify(ModifyKind::Name(RenameMode::To | RenameMode::Both)) => SETTLE_RENAMED,
        _ => SETTLE,
    }
}

/// Waits for a change and until it and those that follow have settled. False: there will be none.
async fn quiet(changes: &mut mpsc::UnboundedReceiver<Duration>) -> bool {
    let Some(first) = changes.recv().await else {
        return false;
    };
    let mut burst = Burst::begin(Instant::now(), first);
    while let Ok(next) = tokio::time::timeout_at(burst.due(), changes.recv()).await {
        let Some(next) = next else { return false };
        burst.goes_on(Instant::now(), next);
    }
    true
}

/// Changes that lead to one reload.
struct Burst {
    began: Instant,
    settled: Instant,
}

impl Burst {
    fn begin(now: Instant, settle: Duration) -> Burst {
        Burst {
            began: now,
            settled: now + settle,
        }
    }

    /// A rename does not cut short what is still being written.
    fn goes_on(&mut self, now: Instant, settle: Duration) {
        self.settled = self.settled.max(now + settle);
    }

    /// When to read the files unless there are more changes.
    fn due(&self) -> Instant {
        self.settled.min(self.began + SETTLE_MAX)
    }
}

/// Files whose change matters, and folders in which any does.
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

/// The path as the system reports it; the folder counts where the file is being replaced.
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

    /// When files are read after changes that come so many milliseconds after the begin and must
    /// settle for so long, in milliseconds.
    fn read_after(changes: &[(u64, Duration)]) -> u128 {
        let began = Instant::now();
        let mut burst = Burst::begin(began, changes[0].1);
        for (after, settle) in &changes[1..] {
            burst.goes_on(began + Duration::from_millis(*after), *settle);
        }
        burst.due().duration_since(began).as_millis()
    }

    #[test]
    fn what_is_renamed_into_place_is_read_at_once_and_what_is_written_when_it_is_quiet() {
        assert_eq!(read_after(&[(0, SETTLE_RENAMED)]), 20);
        assert_eq!(read_after(&[(0, SETTLE)]), 200);
        assert_eq!(
            read_after(&[(0, SETTLE), (50, SETTLE_RENAMED)]),
            200,
            "a rename does not cut short what is still being written"
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
