//! Reloads when a file changes: the configuration, the files it includes or refers to, the
//! components, and each link on the way to one of them. The files of a configuration that was rejected
//! are watched too, because any of them may be where its mistake is mended.
//!
//! Folders are watched instead of files, because editors and builds replace files, and mounted
//! ConfigMaps and releases replace links. A burst of changes leads to one reload. A half-written file
//! is rejected like any other wrong file, and its next change leads to the next reload. A file that is
//! renamed into place is complete, so it is read almost at once.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use notify::event::{Event, EventKind, ModifyKind, RenameMode};
use notify::{RecursiveMode, Watcher};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::Inner;
use crate::files;
use crate::plan::Named;

/// How long a file must be quiet after a write before it is read.
const SETTLE: Duration = Duration::from_millis(200);
/// The same after a rename into place: long enough for several files that are renamed together.
const SETTLE_RENAMED: Duration = Duration::from_millis(20);
/// How much earlier a file system may say that a file changed.
const TIMES_ARE_ROUNDED_BY: Duration = Duration::from_millis(10);
/// Maximum delay; a file that is written without pause is read after this time.
const SETTLE_MAX: Duration = Duration::from_secs(2);

/// Watches until Weir stops. If the system cannot watch files, logs an error and returns.
pub(super) fn watch(inner: Arc<Inner>) {
    let (changed, mut changes) = mpsc::unbounded_channel::<Duration>();
    let watched = Arc::new(ArcSwap::from_pointee(Watched::default()));
    let known = watched.clone();
    let on_event = move |event: notify::Result<Event>| {
        let Ok(event) = event else { return };
        if known.load().is_touched(&event) {
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
    tokio::spawn({
        let inner = inner.clone();
        async move {
            while quiet(&mut changes).await && !inner.stopping.is_cancelled() {
                inner.ask_for_reload();
            }
        }
    });
    tokio::spawn(async move {
        let mut reads = inner.read.subscribe();
        loop {
            let (named, began) = {
                let read = reads.borrow_and_update();
                let in_use = inner.live.load().plan.named();
                (both(in_use, &read.named), read.began)
            };
            let wanted = tokio::task::spawn_blocking(move || Watched::new(&named));
            // Weir is stopping.
            let Ok(wanted) = wanted.await else { return };
            let (known, wanted) = (watched.load_full(), Arc::new(wanted));
            let folders = &known.folders;
            // A folder that was replaced has to be watched anew: the system watches the old one.
            let differs = |known: &Folders, at: &PathBuf, id| known.get(at) != Some(id);
            for (folder, id) in folders {
                if differs(&wanted.folders, folder, id) {
                    // An error here means that the folder is gone, and then it is not watched anyway.
                    let _ = watcher.unwatch(folder);
                }
            }
            for (folder, id) in &wanted.folders {
                if differs(folders, folder, id)
                    && let Err(error) = watcher.watch(folder, RecursiveMode::NonRecursive)
                {
                    tracing::warn!(folder = %folder.display(), %error, "cannot watch this folder; after a change in it, reload with SIGHUP or POST /v1/reload");
                }
            }
            watched.store(wanted.clone());
            let late = tokio::task::spawn_blocking(move || wanted.missed(&known, began));
            let Ok(late) = late.await else { return };
            if late {
                inner.ask_for_reload();
            }
            tokio::select! {
                changed = reads.changed() => if changed.is_err() { return },
                () = inner.stopping.cancelled() => return,
            }
        }
    });
}

/// What the configuration in use and the one that was read last name.
fn both(mut in_use: Named, read: &Named) -> Named {
    in_use.files.extend(read.files.iter().cloned());
    in_use.folders.extend(read.folders.iter().cloned());
    in_use
}

/// Folders, each with its device and inode.
type Folders = BTreeMap<PathBuf, (u64, u64)>;

/// What is watched.
#[derive(Default, PartialEq)]
struct Watched {
    /// The files and links whose change matters.
    entries: BTreeSet<PathBuf>,
    /// The folders in which the change of any file matters.
    included: BTreeSet<PathBuf>,
    /// The folders of all these.
    folders: Folders,
}

impl Watched {
    /// Finds out what to watch for these files and folders. Blocking.
    fn new(named: &Named) -> Watched {
        let (files, included) = (&named.files, &named.folders);
        let trails = files.iter().chain(included).map(|path| files::trail(path));
        let mut entries: BTreeSet<PathBuf> = trails.flatten().flatten().collect();
        let included: BTreeSet<PathBuf> = included
            .iter()
            .filter_map(|folder| folder.canonicalize().ok())
            .collect();
        // A folder whose files are included is watched itself; that something was opened in it is no
        // change of it.
        entries.retain(|entry| !included.contains(entry));
        let folders = entries.iter().filter_map(|entry| entry.parent());
        let identified = |folder: &Path| {
            let metadata = folder.metadata().ok()?;
            Some((folder.to_owned(), (metadata.dev(), metadata.ino())))
        };
        let folders = folders
            .chain(included.iter().map(PathBuf::as_path))
            .filter_map(identified)
            .collect();
        Watched {
            entries,
            included,
            folders,
        }
    }

    /// Whether something may have changed after it was read at this time, and before this was watched
    /// instead of what was watched until then. Blocking.
    fn missed(&self, before: &Watched, read: SystemTime) -> bool {
        self != before && self.changed_since(read)
    }

    /// Whether a file or link was put in its place or changed, or a file was put into a folder or taken
    /// out of it whose files are included, after this time, or shortly before: file systems round times
    /// down. Blocking.
    fn changed_since(&self, time: SystemTime) -> bool {
        let since = time - TIMES_ARE_ROUNDED_BY;
        self.entries.iter().chain(&self.included).any(|entry| {
            entry.symlink_metadata().is_ok_and(|metadata| {
                let seconds = u64::try_from(metadata.ctime()).unwrap_or(0);
                let nanoseconds = u32::try_from(metadata.ctime_nsec()).unwrap_or(0);
                UNIX_EPOCH + Duration::new(seconds, nanoseconds) > since
            })
        })
    }

    /// Whether an event is a change of something that is watched.
    fn is_touched(&self, event: &Event) -> bool {
        let replaced = matches!(
            event.kind,
            EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(_))
        );
        let touched = |path: &PathBuf| {
            self.entries.contains(path)
                || path
                    .parent()
                    .is_some_and(|folder| self.included.contains(folder))
                || replaced && self.folders.contains_key(path)
        };
        !event.kind.is_access() && event.paths.iter().any(touched)
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn named(files: &[PathBuf], folders: &[PathBuf]) -> Named {
        Named {
            files: files.iter().cloned().collect(),
            folders: folders.iter().cloned().collect(),
        }
    }

    // A file that a new configuration named in a folder that was watched anyway, and that changed before
    // it was watched itself, was not read again. The same for a new file in an included folder.
    #[test]
    fn what_changed_before_it_was_watched_is_missed_wherever_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir(at("conf.d")).unwrap();
        std::fs::write(at("weir.toml"), "").unwrap();
        let old = Watched::new(&named(&[at("weir.toml")], &[]));
        let read = SystemTime::now() + Duration::from_secs(60);
        std::fs::write(at("token"), "").unwrap();
        let new = Watched::new(&named(&[at("weir.toml"), at("token")], &[]));
        let earlier = SystemTime::now() - Duration::from_secs(60);
        assert!(new.missed(&old, earlier), "changed after it was read");
        assert!(!new.missed(&old, read), "and before");
        assert!(!new.missed(&new, earlier), "it was watched");
        let included = Watched::new(&named(&[], &[at("conf.d")]));
        assert!(included.missed(&Watched::default(), earlier));
        assert!(!included.missed(&Watched::default(), read));
    }

    #[test]
    fn the_files_of_a_rejected_configuration_are_watched_beside_those_in_use() {
        let [a, b, c] = ["/a", "/b", "/c"].map(PathBuf::from);
        let watched = both(named(&[a.clone(), b.clone()], &[]), &named(&[b, c], &[a]));
        assert_eq!((watched.files.len(), watched.folders.len()), (3, 1));
    }

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
