//! The files of a feed: what was acknowledged, and the last complete generation.
//!
//! A change is in the log before it is acknowledged, and in memory. When memory is full, or a generation is
//! built, the changes in memory become a sorted run and the log begins anew. A generation is the base and
//! all runs, merged in the order of the keys; it becomes the next base. The manifest says which files are in
//! use, so a crash at any point leaves the last complete generation and loses no acknowledged change.
//!
//! What is damaged, gone, or of another time than the store is reported as forgotten; what cannot be written
//! is tried again.

mod build;
mod open;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

pub(super) use self::build::{Built, Wanted};
use super::super::Foreign;
use super::frames::{self, Entry};
use super::manifest::{Generation, Manifest, log_name, run_name, sync_folder};
use super::merge::Merge;
use super::sorted::{Base, Cursor, Run, RunWriter};
use crate::failpoint;
use crate::sync::lock;

/// Bytes of changes in memory, and what an entry takes there beside its key and record.
const MEMORY_BYTES_MAX: usize = 64 << 20;
const ENTRY_BYTES: usize = 96;
/// Runs that are merged into one when there are more: while no generation is built, or the next one is held.
const RUNS_MAX: usize = 32;
/// How much later than its mark the log of a Weir that was killed may end, in milliseconds.
const BEHIND_MAX: u64 = 60_000;

/// What is wrong with the files.
#[derive(Debug)]
pub(super) enum Trouble {
    /// They are not what was acknowledged; everything is owed again.
    Forgot(String),
    /// They cannot be written or read now.
    Failed(String),
}

fn failed(what: &str) -> impl FnOnce(io::Error) -> Trouble {
    let what = what.to_owned();
    move |error| Trouble::Failed(format!("{what}: {error}"))
}

/// What an error means that comes while the files are read: most are damage, which only new files mend. What
/// the process lacks, such as memory or a right, passes.
pub(super) fn forgot(error: io::Error) -> Trouble {
    match error.kind() {
        ErrorKind::PermissionDenied
        | ErrorKind::OutOfMemory
        | ErrorKind::Interrupted
        | ErrorKind::ResourceBusy => {
            Trouble::Failed(format!("the files of the feed cannot be read: {error}"))
        }
        _ => Trouble::Forgot(format!("the files of the feed are damaged: {error}")),
    }
}

/// How far the files had come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) epoch: String,
    pub(super) log: u64,
    pub(super) bytes: u64,
    /// When the last change was acknowledged, in milliseconds since 1970.
    pub(super) time: u64,
}

impl Position {
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let Position {
            epoch,
            log,
            bytes,
            time,
        } = self;
        format!("{epoch} {log} {bytes} {time}").into_bytes()
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Position> {
        let mut parts = std::str::from_utf8(bytes).ok()?.split(' ');
        Some(Position {
            epoch: parts.next()?.to_owned(),
            log: parts.next()?.parse().ok()?,
            bytes: parts.next()?.parse().ok()?,
            time: parts.next()?.parse().ok()?,
        })
    }
}

/// A change to keep: the key, the sequence, and the record; `None` deletes it.
pub(super) struct Change {
    pub(super) key: Box<[u8]>,
    pub(super) sequence: u64,
    pub(super) record: Option<Box<[u8]>>,
}

/// The sequence of a change, and its record.
type State = (u64, Option<Box<[u8]>>);

/// Changes in memory.
#[derive(Default)]
struct Delta {
    entries: BTreeMap<Box<[u8]>, State>,
    bytes: usize,
}

impl Delta {
    /// Adds a change, unless a newer one is there.
    fn add(&mut self, change: Change) {
        let size = |key: &[u8], record: Option<&[u8]>| {
            key.len() + record.map_or(0, <[u8]>::len) + ENTRY_BYTES
        };
        let Change {
            key,
            sequence,
            record,
        } = change;
        if let Some((there, before)) = self.entries.get(&key) {
            if *there > sequence {
                return;
            }
            self.bytes -= size(&key, before.as_deref());
        }
        self.bytes += size(&key, record.as_deref());
        self.entries.insert(key, (sequence, record));
    }

    fn get(&self, key: &[u8]) -> Option<Entry> {
        let (sequence, record) = self.entries.get(key)?;
        Some(Entry {
            key: key.into(),
            sequence: *sequence,
            time: 0,
            record: record.clone(),
        })
    }
}

/// The files that are written.
struct Io {
    manifest: Manifest,
    log: File,
    /// The inode of the log.
    inode: u64,
    position: u64,
    /// The log cannot be trusted behind a failed write: its changes go to a run first.
    broken: bool,
    newest: u64,
    newest_time: u64,
    /// The newest sequence that was there when the files were opened.
    found: u64,
}

/// What lookups need.
#[derive(Default)]
struct Memory {
    delta: Delta,
    /// The changes that are being written as a run.
    frozen: Option<Arc<Delta>>,
    /// Oldest first.
    runs: Vec<Arc<Run>>,
    base: Option<Arc<Base>>,
}

/// Keys, and the key after which there may be more.
pub(super) type KeyPage = (Vec<Box<[u8]>>, Option<Box<[u8]>>);

/// The files of a feed.
pub(super) struct Disk {
    folder: PathBuf,
    place: u64,
    /// `None` until they are needed, and after an error that leaves it open what they hold.
    io: Mutex<Option<Io>>,
    memory: Mutex<Memory>,
    /// The position that the store knows, or that of the last delivery.
    mark: Mutex<Option<(Position, bool)>>,
    /// One build at a time.
    building: Mutex<()>,
    /// They are opened once more after an error: what was written before may not be on the disk, though it
    /// can be read.
    reopens: AtomicBool,
    /// Everything is owed again: what is there is removed first.
    fresh: AtomicBool,
    /// Another one has taken the files over.
    retired: AtomicBool,
}

impl Disk {
    pub(super) fn new(folder: PathBuf, place: u64) -> Disk {
        Disk {
            folder,
            place,
            io: Mutex::default(),
            memory: Mutex::default(),
            mark: Mutex::default(),
            building: Mutex::default(),
            reopens: AtomicBool::new(false),
            fresh: AtomicBool::new(false),
            retired: AtomicBool::new(false),
        }
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// How far they are; `None` before the first delivery.
    pub(super) fn mark(&self) -> Option<Position> {
        lock(&self.mark).as_ref().map(|(mark, _)| mark.clone())
    }

    pub(super) fn take_mark(&self, mark: Position, exact: bool) {
        *lock(&self.mark) = Some((mark, exact));
    }

    /// Forgets everything but the visible generation, before the next use.
    pub(super) fn start_over(&self) {
        self.fresh.store(true, Ordering::SeqCst);
        *lock(&self.mark) = None;
    }

    /// Lets another one have the files: returns when nothing is being written any more.
    pub(super) fn retire(&self) {
        self.retired.store(true, Ordering::SeqCst);
        drop(lock(&self.building));
        *lock(&self.io) = None;
    }

    fn is_retired(&self) -> bool {
        self.retired.load(Ordering::SeqCst)
    }

    /// Opens the files, unless they are open. Blocking.
    ///
    /// # Errors
    /// See [`Trouble`].
    pub(super) fn ensure(&self) -> Result<(), Trouble> {
        self.opened(&mut lock(&self.io)).map(|_| ())
    }

    /// Makes changes durable, all or none. Blocking.
    ///
    /// # Errors
    /// See [`Trouble`].
    pub(super) fn add(
        &self,
        changes: Vec<Change>,
        now: u64,
        head: u64,
        foreign: Option<Foreign>,
    ) -> Result<(), Trouble> {
        let mut guard = lock(&self.io);
        let io = self.opened(&mut guard)?;
        let is_foreign =
            |newest: u64| foreign.is_some_and(|it| (it.first.0..=it.last.0).contains(&newest));
        // Not what was added since: another delivery may have begun later and come first.
        if io.found > head && !is_foreign(io.found) {
            return Err(Trouble::Forgot(format!(
                "the feed holds sequence {}, and the store has given out {head} at most: the store is older than the feed's files",
                io.found
            )));
        }
        let log = self.folder.join(log_name(io.manifest.log));
        if !fs::metadata(&log).is_ok_and(|it| it.ino() == io.inode) {
            let why = format!("{} is gone or was replaced", log.display());
            return Err(Trouble::Forgot(why));
        }
        let is_full = io.broken || lock(&self.memory).delta.bytes >= MEMORY_BYTES_MAX;
        if is_full && let Err(trouble) = self.spill(io).and_then(|()| self.compact(io)) {
            return self.after(&mut guard, trouble);
        }
        let time = io.newest_time.max(now);
        let bytes = changes
            .iter()
            .map(|it| frames::length(&it.key, it.record.as_deref()));
        let mut frames = Vec::with_capacity(bytes.sum());
        for change in &changes {
            let (key, record) = (&change.key, change.record.as_deref());
            frames::write(key, change.sequence, time, record, &mut frames);
        }
        let written = io.log.write_all_at(&frames, io.position);
        failpoint::pass("feed.appended");
        if let Err(error) = written.and_then(|()| io.log.sync_data()) {
            io.broken = true;
            return Err(failed("the log of the feed cannot be written")(error));
        }
        io.position += frames.len() as u64;
        io.newest_time = time;
        io.newest = changes
            .iter()
            .map(|it| it.sequence)
            .fold(io.newest, u64::max);
        let mut memory = lock(&self.memory);
        changes
            .into_iter()
            .for_each(|change| memory.delta.add(change));
        drop(memory);
        self.note_mark(io);
        Ok(())
    }

    /// Writes the changes in memory as a run now, and merges the runs if there are too many.
    ///
    /// # Errors
    /// See [`Trouble`].
    pub(super) fn spill_now(&self) -> Result<(), Trouble> {
        let mut guard = lock(&self.io);
        let io = self.opened(&mut guard)?;
        match self.spill(io).and_then(|()| self.compact(io)) {
            Ok(()) => Ok(()),
            Err(trouble) => self.after(&mut guard, trouble),
        }
    }

    fn note_mark(&self, io: &Io) {
        let position = Position {
            epoch: io.manifest.epoch.clone(),
            log: io.manifest.log,
            bytes: io.position,
            time: io.newest_time,
        };
        *lock(&self.mark) = Some((position, false));
    }

    /// After a failed change of the manifest it is open which one is on the disk: it is read again.
    fn after<T>(&self, guard: &mut Option<Io>, trouble: Trouble) -> Result<T, Trouble> {
        *guard = None;
        self.reopens.store(true, Ordering::SeqCst);
        Err(trouble)
    }

    /// Writes the changes in memory as a run, and begins a new log. After an error the files must be
    /// opened again.
    fn spill(&self, io: &mut Io) -> Result<(), Trouble> {
        let frozen = {
            let mut memory = lock(&self.memory);
            let frozen = Arc::new(std::mem::take(&mut memory.delta));
            memory.frozen = Some(frozen.clone());
            frozen
        };
        if frozen.entries.is_empty() && !io.broken {
            lock(&self.memory).frozen = None;
            return Ok(());
        }
        let mut manifest = io.manifest.clone();
        let write = |manifest: &mut Manifest| {
            let mut run = RunWriter::create(&self.folder, manifest.number())?;
            for (key, (sequence, record)) in &frozen.entries {
                run.add(key, *sequence, record.as_deref())?;
            }
            let run = run.finish()?;
            manifest.runs.push(run.number);
            manifest.log = manifest.number();
            (manifest.newest, manifest.newest_time) = (io.newest, io.newest_time);
            let log = File::create_new(self.folder.join(log_name(manifest.log)));
            let log = log.or_else(|_| File::create(self.folder.join(log_name(manifest.log))))?;
            log.sync_all()?;
            sync_folder(&self.folder)?;
            manifest.write(&self.folder)?;
            Ok((run, log))
        };
        let (run, log) =
            write(&mut manifest).map_err(failed("the changes of the feed cannot be written"))?;
        let before = io.manifest.log;
        io.inode = log.metadata().map_err(failed("the log"))?.ino();
        (io.manifest, io.log, io.position, io.broken) = (manifest, log, 0, false);
        let mut memory = lock(&self.memory);
        memory.runs.push(Arc::new(run));
        memory.frozen = None;
        drop(memory);
        self.note_mark(io);
        // What stays behind is removed when the files are opened again.
        let _ = fs::remove_file(self.folder.join(log_name(before)));
        Ok(())
    }

    /// Merges the runs into one if there are too many, unless a build reads them.
    fn compact(&self, io: &mut Io) -> Result<(), Trouble> {
        let Ok(_building) = self.building.try_lock() else {
            return Ok(());
        };
        let runs = lock(&self.memory).runs.clone();
        if runs.len() <= RUNS_MAX {
            return Ok(());
        }
        let mut manifest = io.manifest.clone();
        let cursors = runs.iter().map(|run| run.cursor(None)).collect();
        let mut merge = Merge::new(cursors).map_err(forgot)?;
        let cannot = || failed("the changes of the feed cannot be merged");
        let number = manifest.number();
        let mut merged = RunWriter::create(&self.folder, number).map_err(cannot())?;
        while let Some(entry) = merge.next().map_err(forgot)? {
            merged
                .add(&entry.key, entry.sequence, entry.record.as_deref())
                .map_err(cannot())?;
        }
        let merged = merged.finish().map_err(cannot())?;
        manifest.runs = vec![merged.number];
        manifest.write(&self.folder).map_err(cannot())?;
        io.manifest = manifest;
        lock(&self.memory).runs = vec![Arc::new(merged)];
        for run in runs {
            let _ = fs::remove_file(self.folder.join(run_name(run.number)));
        }
        Ok(())
    }

    /// The number of changes that are in no generation yet, at most.
    pub(super) fn unpublished(&self) -> u64 {
        let memory = lock(&self.memory);
        let frozen = memory.frozen.as_ref().map_or(0, |it| it.entries.len());
        let runs: u64 = memory.runs.iter().map(|run| run.entries).sum();
        runs + (memory.delta.entries.len() + frozen) as u64
    }

    /// The change of a key that is in no generation yet. Reads the disk, for a few kilobytes a run.
    pub(super) fn change(&self, key: &[u8]) -> io::Result<Option<Entry>> {
        let memory = lock(&self.memory);
        let frozen = memory.frozen.as_ref();
        let there = memory.delta.get(key);
        if let Some(entry) = there.or_else(|| frozen.and_then(|it| it.get(key))) {
            return Ok(Some(entry));
        }
        let runs = memory.runs.clone();
        drop(memory);
        let mut newest: Option<Entry> = None;
        for run in runs.iter().rev() {
            if let Some(entry) = run.get(key)?
                && newest
                    .as_ref()
                    .is_none_or(|it| it.sequence < entry.sequence)
            {
                newest = Some(entry);
            }
        }
        Ok(newest)
    }

    pub(super) fn base(&self) -> Option<Arc<Base>> {
        lock(&self.memory).base.clone()
    }

    /// Up to `limit` keys that are greater than `after`, as the next generation would have them, and the key
    /// after which there may be more. It need not be among them: between two of them many may be deleted.
    pub(super) fn keys(&self, after: Option<&[u8]>, limit: usize) -> io::Result<KeyPage> {
        use std::ops::Bound;
        let (mut cursors, mut horizon) = (Vec::new(), None);
        {
            let memory = lock(&self.memory);
            let base = memory.base.as_ref();
            cursors.extend(base.map(|base| base.keys(after)));
            cursors.extend(memory.runs.iter().map(|run| run.cursor(after)));
            for delta in memory.frozen.as_deref().into_iter().chain([&memory.delta]) {
                let from = after.map_or(Bound::Unbounded, Bound::Excluded);
                let range = delta.entries.range::<[u8], _>((from, Bound::Unbounded));
                let entries: Vec<_> = range
                    .take(4 * limit)
                    .map(|(key, (sequence, record))| Entry {
                        key: key.clone(),
                        sequence: *sequence,
                        time: 0,
                        record: record.as_ref().map(|_| Box::default()),
                    })
                    .collect();
                if entries.len() == 4 * limit {
                    let last = entries.last().map(|it| it.key.clone());
                    horizon = [horizon, last].into_iter().flatten().min();
                }
                cursors.push(Cursor::of_memory(entries));
            }
        }
        let (mut merge, mut keys) = (Merge::new(cursors)?, Vec::new());
        while let Some(entry) = merge.next()? {
            if horizon.as_ref().is_some_and(|horizon| entry.key > *horizon) {
                return Ok((keys, horizon));
            }
            if entry.record.is_some() {
                keys.push(entry.key);
            }
            if keys.len() == limit {
                let last = keys.last().cloned();
                return Ok((keys, last));
            }
        }
        // All that the cursors have was read; a piece of memory may go on behind its last key.
        Ok((keys, horizon))
    }

    /// The generation that is served, without opening anything else. It is read from the manifest.
    pub(super) fn visible(&self) -> Option<Generation> {
        if let Some(io) = lock(&self.io).as_ref() {
            return io.manifest.visible.clone();
        }
        Manifest::read(&self.folder).ok().flatten()?.visible
    }
}
