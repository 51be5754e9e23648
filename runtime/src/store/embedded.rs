//! The embedded store: sled holds the truth, and the change index is its working memory.
//!
//! A commit is answered after `apply_batch`, `flush` **and** `sync_data` on sled's own file:
//! `flush` alone does not survive a power cut (measured: 17 of 40 lost data). Only then does the
//! watermark rise, and readers go no further than the watermark. One thread does all the writing:
//! the commits of a source in the order of the calls, those of several sources by turns. A failed sync is never retried: the store reports the failure and
//! accepts nothing more.

mod backup;
mod commits;
mod entity;
#[cfg(feature = "fuzz")]
#[doc(hidden)]
pub mod fuzz;
mod identities;
mod inbox;
mod leftovers;
mod open;
mod pairs;
mod quarantine;
mod queue;
mod read;
mod readings;
mod rescue;
mod sums;
mod witness;
mod writer;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, RwLock};
use std::thread::JoinHandle;

use tokio::sync::{oneshot, watch};

use super::{
    BackedUp, Commit, Error, Figures, Joined, Limits, ListQuery, NotTaken, Pending, Queue, Receipt,
    Remembered, Shelf, Standing, Store, Subscription, keys, record,
};
use crate::index::Index;
use crate::model::{Entity, EntityId, Ordinal, Sequence, Timestamp};
use crate::sync::{lock, unpoisoned};
pub use backup::{remove_unfinished, restore};
use commits::Commits;
use inbox::{Inbox, Refusal, Work};
use quarantine::SourceShelf;
use queue::ChannelQueue;
use readings::Readings;
pub use rescue::{MISSING, rescue};
use writer::Writer;

/// Entities looked at per lock of the index while listing: the writer waits for 2 ms at most.
const LIST_CHUNK: usize = 2_000;

/// The options of the embedded store.
#[derive(Clone)]
pub struct Options {
    /// Its directory; created if missing.
    pub path: PathBuf,
    /// sled's cache, in bytes; it should hold the live data.
    pub cache_bytes: u64,
    /// Approximate size, in bytes, of the cache of decoded entities that all channels share.
    pub readings_bytes: u64,
    /// Free disk space, in bytes, below which the store accepts nothing, because sled does not
    /// survive a full disk.
    pub disk_reserve_bytes: u64,
    /// The number of entities by which a sweep may run ahead of the last save; after a crash, their
    /// copies at the target are unknown.
    pub sweep_ahead: u64,
    /// As [`super::Options::sequence_min`].
    pub sequence_min: u64,
    /// The clock.
    pub now: fn() -> Timestamp,
    /// Makes writes to sled's file durable: `File::sync_data`, or a test's substitute.
    pub sync: fn(&File) -> std::io::Result<()>,
    /// As [`super::Options::on_failure`].
    pub on_failure: fn(&Error),
}

impl Options {
    /// The options that a server uses.
    pub fn new(path: &Path) -> Options {
        Options {
            path: path.to_owned(),
            cache_bytes: 1024 * 1024 * 1024,
            readings_bytes: 64 * 1024 * 1024,
            disk_reserve_bytes: 64 * 1024 * 1024,
            sweep_ahead: 16_384,
            sequence_min: 0,
            now: || Timestamp(jiff::Timestamp::now().as_millisecond().max(0) as u64),
            sync: File::sync_data,
            on_failure: |_| {},
        }
    }
}

/// The embedded store.
pub struct Embedded {
    shared: Arc<Shared>,
    writer: Mutex<Option<Running>>,
}

/// The running writer thread.
struct Running {
    thread: JoinHandle<()>,
    /// Closed when the writer has ended.
    ended: oneshot::Receiver<()>,
}

/// Shared by the writer and the readers.
struct Shared {
    options: Options,
    db: sled::Db,
    /// What waits for the writer.
    inbox: Inbox,
    index: Mutex<Index>,
    /// The names that records use, for readers, which should not wait for the index. A reader holds
    /// it while it reads a record and looks up its names: the number of a name that went with the
    /// record's last change is given to another name only after that.
    names: RwLock<Vec<Option<Arc<str>>>>,
    /// Head of the synced sequence.
    watermark: watch::Sender<Sequence>,
    limits: Mutex<Limits>,
    /// What is known of the quarantine of each source, by the number of the source's name.
    quarantine: Mutex<BTreeMap<u32, quarantine::Known>>,
    failed: AtomicBool,
    failure: Mutex<Option<Error>>,
    commits: Commits,
    readings: Readings,
}

impl Shared {
    fn index(&self) -> MutexGuard<'_, Index> {
        // A panic while the index is locked leaves it half changed; the writer then fails the
        // store, and readers may finish.
        lock(&self.index)
    }

    /// Shows new names to the readers, before the records that use them are written. A name that is
    /// gone is shown until its number is given out again, because a reader may have a record of
    /// before.
    fn show_names(&self, changed: Vec<(u32, Option<Arc<str>>)>) {
        let changed: Vec<(u32, Arc<str>)> = changed
            .into_iter()
            .filter_map(|(number, name)| Some((number, name?)))
            .collect();
        if changed.is_empty() {
            return;
        }
        let mut names = unpoisoned(self.names.write());
        for (number, name) in changed {
            if names.len() <= number as usize {
                names.resize(number as usize + 1, None);
            }
            names[number as usize] = Some(name);
        }
    }

    fn durable(&self) -> u64 {
        self.watermark.borrow().0
    }

    /// Marks the store as failed: it accepts nothing from now on.
    fn fail(&self, error: &Error) {
        if !self.failed.swap(true, Ordering::SeqCst) {
            *lock(&self.failure) = Some(error.clone());
            (self.options.on_failure)(error);
        }
    }

    /// Checks that the disk has the reserve free, because sled does not survive a full disk.
    fn has_disk(&self) -> Result<(), Error> {
        let free = open::disk_free(&self.options.path);
        if free >= self.options.disk_reserve_bytes {
            return Ok(());
        }
        let (free, reserve) = (
            free / 1024 / 1024,
            self.options.disk_reserve_bytes / 1024 / 1024,
        );
        Err(Error::Unavailable(format!(
            "the disk has {free} MiB left, and Weir keeps {reserve} MiB free; free some space, and Weir resumes by itself"
        )))
    }

    fn check(&self) -> Result<(), Error> {
        if !self.failed.load(Ordering::SeqCst) {
            return Ok(());
        }
        let failure = lock(&self.failure).clone();
        Err(failure.unwrap_or_else(|| Error::Unavailable("it has failed".into())))
    }

    /// Runs `work` on the writer thread, between turns of commits, in the order of the calls.
    fn on_writer<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&mut Writer) -> Result<T, Error> + Send + 'static,
    ) -> Pending<T> {
        self.queue(work, |inbox, work| inbox.work(work))
    }

    fn queue<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&mut Writer) -> Result<T, Error> + Send + 'static,
        queue: impl FnOnce(&Inbox, Work) -> bool,
    ) -> Pending<T> {
        let (answer, end) = oneshot::channel();
        let work = Box::new(move |writer: &mut Writer| {
            let _ = answer.send(work(writer)); // the caller may have gone
        });
        let queued = match queue(&self.inbox, work) {
            true => Ok(()),
            false => Err(self.closed()),
        };
        let shared = self.clone();
        Pending::new(async move {
            queued?;
            end.await.unwrap_or_else(|_| Err(shared.closed()))
        })
    }

    /// The reason why the writer no longer answers.
    fn closed(&self) -> Error {
        let closed = Error::Unavailable("it is closed".into());
        self.check().err().unwrap_or(closed)
    }
}

impl Embedded {
    /// Opens the store, or creates one.
    ///
    /// # Errors
    /// `Unavailable` with a sentence that says what to do: another process uses the store, the
    /// directory cannot be written, or its format is another one. `Damaged` when the files differ
    /// from what was written.
    pub fn open(options: Options) -> Result<Embedded, Error> {
        let (opened, index, loaded) = open::safely(&options.path, || {
            let opened = open::open(&options)?;
            let mut index = Index::default();
            let loaded = open::load(&opened.db, &mut index, opened.witness.seen().batch)?;
            Ok((opened, index, loaded))
        })?;
        let shared = Arc::new(Shared {
            db: opened.db,
            inbox: Inbox::default(),
            watermark: watch::Sender::new(Sequence(index.sequence)),
            names: RwLock::new(index.names.all().collect()),
            index: Mutex::new(index),
            limits: Mutex::new(Limits {
                quarantine_max: 100_000,
                forget_ms: 30 * 24 * 3_600_000,
                entities_max: Vec::new(),
            }),
            quarantine: Mutex::new(loaded.quarantine),
            failed: AtomicBool::new(false),
            failure: Mutex::new(None),
            commits: Commits::default(),
            readings: Readings::new(options.readings_bytes),
            options,
        });
        let writer = Writer::new(
            shared.clone(),
            (opened.file, opened.witness),
            loaded.logs,
            loaded.identities,
            loaded.sums,
        );
        let (ends, ended) = oneshot::channel::<()>();
        let thread = std::thread::Builder::new()
            .name("weir-writer".into())
            .spawn(move || {
                let _closed_at_the_end = ends;
                writer.run();
            })
            .map_err(|error| {
                Error::Unavailable(format!("the writer thread cannot be started: {error}"))
            })?;
        let store = Embedded {
            shared,
            writer: Mutex::new(Some(Running { thread, ended })),
        };
        store.shared.on_writer(Writer::begin).wait()?;
        Ok(store)
    }

    /// Discards everything that is not on disk and loads again, as a kill and a restart would; for
    /// tests.
    ///
    /// # Errors
    /// As [`Embedded::open`].
    pub fn crash(&self) -> Result<(), Error> {
        self.shared.on_writer(Writer::crash).wait()
    }

    /// Removes everything; for tests.
    ///
    /// # Errors
    /// `Unavailable` when the files cannot be removed.
    pub fn erase(&self) -> Result<(), Error> {
        self.shared.on_writer(Writer::erase).wait()
    }

    /// The number of synced batches.
    pub fn commits(&self) -> u64 {
        self.shared.commits.total()
    }
}

impl Store for Embedded {
    fn limit(&self, limits: Limits) {
        *lock(&self.shared.limits) = limits;
    }

    fn commit(&self, events: Vec<Commit>) -> Result<Receipt, NotTaken> {
        if let Err(error) = self.shared.check() {
            return Err(NotTaken { error, events });
        }
        let (answer, receipt) = oneshot::channel();
        match self.shared.inbox.commit(events, answer) {
            Ok(()) => Ok(receipt),
            Err((refusal, events)) => {
                let error = match refusal {
                    Refusal::Full { waiting } => Error::Busy { waiting },
                    Refusal::Closed => self.shared.closed(),
                };
                Err(NotTaken { error, events })
            }
        }
    }

    fn watermark(&self) -> watch::Receiver<Sequence> {
        self.shared.watermark.subscribe()
    }

    fn find(&self, id: &EntityId) -> Option<Ordinal> {
        self.shared.index().find(id).map(Ordinal)
    }

    fn read_within(
        &self,
        ordinals: &[Ordinal],
        bytes_max: usize,
    ) -> Result<Vec<Option<Arc<Entity>>>, Error> {
        self.shared.read(ordinals, bytes_max)
    }

    /// The order of the keys is made first, if nobody has listed lately. The index is unlocked between
    /// chunks.
    fn list(&self, query: &ListQuery<'_>) -> Vec<(Ordinal, EntityId)> {
        let owed = match query
            .owed
            .map(|name| self.shared.index().channel_named(name))
        {
            Some(None) => return Vec::new(),
            owed => owed.flatten(),
        };
        while !self.shared.index().make_order(LIST_CHUNK) {}
        let mut found = Vec::new();
        let mut after = query.after.map(Arc::<str>::from);
        loop {
            let index = self.shared.index();
            let mut looked_at = 0;
            let keys = index.in_order(query.entity_type, query.prefix, after.as_deref());
            let mut last = None;
            for (key, ordinal) in keys.take(LIST_CHUNK) {
                (looked_at, last) = (looked_at + 1, Some(key.clone()));
                if owed.is_none_or(|channel| index.owes(channel, ordinal))
                    && let Some(entry) = index.entry(ordinal)
                {
                    found.push((Ordinal(ordinal), entry.id.clone()));
                    if found.len() == query.limit {
                        return found;
                    }
                }
            }
            if looked_at < LIST_CHUNK {
                return found;
            }
            after = last;
        }
    }

    fn join(&self, name: &str, subscription: &Subscription) -> Pending<(Arc<dyn Queue>, Joined)> {
        let (name, subscription) = (name.to_owned(), subscription.clone());
        let joined = (self.shared).on_writer(move |writer| writer.join(&name, subscription));
        let shared = self.shared.clone();
        Pending::new(async move {
            let (channel, joined) = joined.await?;
            let queue: Arc<dyn Queue> = Arc::new(ChannelQueue { shared, channel });
            Ok((queue, joined))
        })
    }

    fn remembered(&self) -> Vec<Remembered> {
        let index = self.shared.index();
        let remembered = |channel: &crate::index::Channel| Remembered {
            name: channel.name.clone(),
            live: channel.live,
            holding: channel.holding(),
        };
        index
            .channels()
            .map(|(_, channel)| remembered(channel))
            .collect()
    }

    fn retired_standings(&self, ordinal: Ordinal) -> Vec<(String, Standing)> {
        let index = self.shared.index();
        let retired = index.channels().filter(|(_, channel)| !channel.live);
        retired
            .filter_map(|(id, channel)| {
                Some((channel.name.clone(), index.standing(id, ordinal.0)?))
            })
            .collect()
    }

    fn retire(&self, name: &str) -> Pending<()> {
        let name = name.to_owned();
        self.shared.on_writer(move |writer| writer.retire(&name))
    }

    fn doubt_retired(&self, target: u64) -> Pending<()> {
        self.shared
            .on_writer(move |writer| writer.doubt_retired(target))
    }

    fn forget(&self, name: &str) -> Pending<bool> {
        let name = name.to_owned();
        (self.shared).on_writer(move |writer| writer.forget_channel(&name))
    }

    fn rename(&self, old: &str, new: &str) -> Pending<bool> {
        let (old, new) = (old.to_owned(), new.to_owned());
        (self.shared).on_writer(move |writer| writer.rename(&old, &new))
    }

    fn save(&self, now: Timestamp) -> Pending<()> {
        self.shared.on_writer(move |writer| {
            writer.save_all()?;
            writer.forget(now)
        })
    }

    fn reset_versions(&self, owner: &str) -> Pending<u64> {
        let owner: Arc<str> = owner.into();
        let shared = self.shared.clone();
        let piece = move |from: u32| {
            let owner = owner.clone();
            shared.on_writer(move |writer| writer.reset_versions(&owner, from))
        };
        let mut reset = piece(0);
        Pending::new(async move {
            let mut total = 0;
            loop {
                let (count, next) = reset.await?;
                total += count;
                match next {
                    Some(next) => reset = piece(next),
                    None => return Ok(total),
                }
            }
        })
    }

    fn jump(&self, sequence: Sequence) -> Pending<Sequence> {
        self.shared.on_writer(move |writer| writer.jump(sequence))
    }

    fn note(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        let note = self.shared.db.get(keys::note(name));
        note.map(|note| note.map(|note| note.to_vec()))
            .map_err(|error| Error::Damaged(error.to_string()))
    }

    fn set_note(&self, name: &str, note: Option<Vec<u8>>) -> Pending<()> {
        let key = keys::note(name);
        self.shared
            .on_writer(move |writer| writer.set_note(key, note))
    }

    fn notes(&self, prefix: &str) -> Result<Vec<String>, Error> {
        let damaged = |error: sled::Error| Error::Damaged(error.to_string());
        let rows = self.shared.db.scan_prefix(keys::note(prefix));
        let name = |key: Result<sled::IVec, sled::Error>| {
            let key = key.map_err(damaged)?;
            let name = key.strip_prefix(keys::NOTE).unwrap_or_default();
            Ok(String::from_utf8_lossy(name).into_owned())
        };
        rows.keys().map(name).collect()
    }

    fn rename_notes(&self, names: &[(String, String)]) -> Pending<()> {
        let keys = |(old, new): &(String, String)| (keys::note(old), keys::note(new));
        let names: Vec<_> = names.iter().map(keys).collect();
        self.shared
            .on_writer(move |writer| writer.rename_notes(&names))
    }

    fn shelf(&self, source: &str) -> Arc<dyn Shelf> {
        Arc::new(SourceShelf {
            shared: self.shared.clone(),
            source: source.into(),
        })
    }

    fn backup(&self, file: &Path) -> Pending<BackedUp> {
        let ((answer, end), file) = (oneshot::channel(), file.to_owned());
        let queued = (self.shared.inbox).work(Box::new(|writer| writer.back_up(file, answer)));
        let shared = self.shared.clone();
        Pending::new(async move {
            let ended = if queued { end.await.ok() } else { None };
            ended.unwrap_or_else(|| Err(shared.closed()))
        })
    }

    fn ready(&self) -> Result<(), Error> {
        self.shared.check()?;
        self.shared.has_disk()
    }

    fn figures(&self) -> Figures {
        // Unlock the index before asking the disk: the writer waits for it.
        let (entities, names) = {
            let index = self.shared.index();
            (index.total(), index.names.count() as u64)
        };
        Figures {
            entities,
            bytes: open::size_on_disk(&self.shared.options.path),
            disk_free: open::disk_free(&self.shared.options.path),
            sequence: Sequence(self.shared.durable()),
            names,
            commit_seconds: self.shared.commits.seconds(),
        }
    }

    fn close(&self) -> Pending<()> {
        let saved = (self.shared).queue(Writer::save_all, |inbox, work| inbox.close(Some(work)));
        let writer = lock(&self.writer).take();
        Pending::new(async move {
            let saved = saved.await;
            if let Some(writer) = writer {
                // Neither result is news: a panic of the writer was reported as the store's
                // failure.
                let _ = writer.ended.await;
                let _ = writer.thread.join();
            }
            saved
        })
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.shared.inbox.close(None);
        if let Some(writer) = lock(&self.writer).take() {
            let _ = writer.thread.join();
        }
    }
}
