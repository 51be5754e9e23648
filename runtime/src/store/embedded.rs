//! The embedded store: sled holds what is true, the change index is its working memory.
//!
//! A commit is answered after `apply_batch`, `flush` **and** `sync_data` on sled's own file:
//! `flush` alone does not survive a power cut (measured: 17 of 40 lost data). Only then the
//! watermark rises, and readers go no further than the watermark. All writing happens on one
//! thread, in order; a sync that fails is never retried: the store is finished and says so.

mod aside;
mod commits;
mod entity;
#[cfg(feature = "fuzz")]
#[doc(hidden)]
pub mod fuzz;
mod identities;
mod open;
mod pairs;
mod readings;
mod sums;
mod witness;
mod writer;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, mpsc};
use std::thread::JoinHandle;

use tokio::sync::{oneshot, watch};
use xxhash_rust::xxh3::xxh3_64;

use super::record::{self, Value};
use super::{
    ChannelId, Commit, Error, Figures, Finish, Joined, Limits, Owed, Parked, QuarantinedEvent,
    Receipt, Refused, Standing, Store, Subscription, Taken, keys,
};
use crate::index::{Index, Walked};
use crate::model::{Entity, EntityId, Facet, Ordinal, Sequence, Timestamp, Track};
use commits::Commits;
use readings::{Mark, Readings};
use writer::{Request, Writer};

/// Events that may wait to be written before new ones are refused as busy; at 40,000 a second half
/// a second's worth.
const WAITING_MAX: usize = 20_000;
/// Reads of an entity whose record changed while its long values were being read.
const READ_TRIES: usize = 8;
/// Entities looked at under one hold of the index while listing.
const LIST_CHUNK: usize = 20_000;

/// How the store is set up.
#[derive(Clone)]
pub struct Options {
    /// Its directory; made if it is not there.
    pub path: PathBuf,
    /// sled's cache, in bytes; it should hold the live data.
    pub cache_bytes: u64,
    /// Entities that were read lately are kept decoded, for all channels, in about so many bytes.
    pub readings_bytes: u64,
    /// Free disk below which nothing is accepted, in bytes: sled does not survive a full disk.
    pub disk_reserve_bytes: u64,
    /// How far a sweep may run ahead of what is saved, in entities: what is doubted after a crash.
    pub sweep_ahead: u64,
    /// The time.
    pub now: fn() -> Timestamp,
    /// Makes what was written to sled's file durable; `File::sync_data`, or what a test puts in its
    /// place.
    pub sync: fn(&File) -> std::io::Result<()>,
    /// Called once when the store has failed for good, for example to end the process. Commits that
    /// wait are answered first.
    pub on_failure: fn(&Error),
}

impl Options {
    /// What a server uses.
    pub fn new(path: &Path) -> Options {
        Options {
            path: path.to_owned(),
            cache_bytes: 1024 * 1024 * 1024,
            readings_bytes: 64 * 1024 * 1024,
            disk_reserve_bytes: 64 * 1024 * 1024,
            sweep_ahead: 16_384,
            now: || Timestamp(jiff::Timestamp::now().as_millisecond().max(0) as u64),
            sync: File::sync_data,
            on_failure: |_| {},
        }
    }
}

/// The embedded store.
pub struct Embedded {
    shared: Arc<Shared>,
    requests: Mutex<Option<mpsc::Sender<Request>>>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

/// What the writer and the readers share.
struct Shared {
    options: Options,
    db: sled::Db,
    index: Mutex<Index>,
    /// The dictionary as far as records use it, for readers: they should not wait for the index.
    names: RwLock<Vec<Arc<str>>>,
    /// Head of the sequence that is synced.
    watermark: watch::Sender<Sequence>,
    limits: Mutex<Limits>,
    /// Quarantined events by the number of their source's name.
    quarantine: Mutex<BTreeMap<u32, u64>>,
    waiting: AtomicUsize,
    failed: AtomicBool,
    failure: Mutex<Option<Error>>,
    commits: Commits,
    readings: Readings,
}

impl Shared {
    fn index(&self) -> MutexGuard<'_, Index> {
        // A panic while the index is held leaves it half changed; the writer then fails the store,
        // and readers may finish.
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn durable(&self) -> u64 {
        self.watermark.borrow().0
    }

    /// The store is finished: nothing is accepted any more.
    fn fail(&self, error: &Error) {
        if !self.failed.swap(true, Ordering::SeqCst) {
            *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.clone());
            (self.options.on_failure)(error);
        }
    }

    /// sled does not survive a full disk, so a reserve is left to it.
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
            "the disk has {free} MiB left and {reserve} MiB are kept free; free some, it goes on by itself"
        )))
    }

    fn check(&self) -> Result<(), Error> {
        if !self.failed.load(Ordering::SeqCst) {
            return Ok(());
        }
        let failure = self
            .failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        Err(failure.unwrap_or_else(|| Error::Unavailable("it has failed".into())))
    }
}

impl Embedded {
    /// Opens the store, or makes one.
    ///
    /// # Errors
    /// `Unavailable` with a sentence that says what to do: another process has it, the directory
    /// cannot be written, it is of another format. `Damaged` when what is there is not what was
    /// written.
    pub fn open(options: Options) -> Result<Embedded, Error> {
        let (opened, index, loaded) = open::safely(&options.path, || {
            let opened = open::open(&options)?;
            let mut index = Index::default();
            let loaded = open::load(&opened.db, &mut index, opened.witness.seen().batch)?;
            Ok((opened, index, loaded))
        })?;
        let shared = Arc::new(Shared {
            db: opened.db,
            watermark: watch::Sender::new(Sequence(index.sequence)),
            names: RwLock::new(index.names.all().to_vec()),
            index: Mutex::new(index),
            limits: Mutex::new(Limits {
                quarantine_max: 100_000,
                forget_ms: 30 * 24 * 3_600_000,
                entities_max: Vec::new(),
            }),
            quarantine: Mutex::new(loaded.quarantine),
            waiting: AtomicUsize::new(0),
            failed: AtomicBool::new(false),
            failure: Mutex::new(None),
            commits: Commits::default(),
            readings: Readings::new(options.readings_bytes),
            options,
        });
        let (requests, inbox) = mpsc::channel();
        let writer = Writer::new(
            shared.clone(),
            (opened.file, opened.witness),
            loaded.logs,
            loaded.identities,
            loaded.sums,
        );
        let thread = std::thread::Builder::new()
            .name("weir-writer".into())
            .spawn(move || writer.run(&inbox));
        let thread = thread
            .map_err(|error| Error::Unavailable(format!("no thread for the writer: {error}")))?;
        let store = Embedded {
            shared,
            requests: Mutex::new(Some(requests)),
            writer: Mutex::new(Some(thread)),
        };
        store.on_writer(Writer::save_all_channels)?;
        Ok(store)
    }

    /// Loses all that is not on disk and loads again, as a kill and a start would; for tests.
    ///
    /// # Errors
    /// As [`Embedded::open`].
    pub fn crash(&self) -> Result<(), Error> {
        self.on_writer(Writer::crash)
    }

    /// Removes everything; for tests.
    ///
    /// # Errors
    /// `Unavailable` when the disk does not obey.
    pub fn erase(&self) -> Result<(), Error> {
        self.on_writer(Writer::erase)
    }

    /// How many synced batches there have been.
    pub fn commits(&self) -> u64 {
        self.shared.commits.total()
    }

    /// Has something done on the writer's thread, between commits, and waits for it.
    fn on_writer<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Writer) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let (answer, result) = mpsc::channel();
        let work = Box::new(move |writer: &mut Writer| {
            let _ = answer.send(work(writer)); // whoever asked may have gone
        });
        self.send(Request::Work(work))?;
        result.recv().unwrap_or_else(|_| {
            self.shared
                .check()
                .and(Err(Error::Unavailable("it is closed".into())))
        })
    }

    fn send(&self, request: Request) -> Result<(), Error> {
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        let sent = requests
            .as_ref()
            .is_some_and(|requests| requests.send(request).is_ok());
        if sent {
            Ok(())
        } else {
            self.shared
                .check()
                .and(Err(Error::Unavailable("it is closed".into())))
        }
    }

    /// Reads the record of an entity, and keeps the reading for others.
    fn read_one(&self, ordinal: Ordinal) -> Result<Option<Arc<Entity>>, Error> {
        let damaged = || {
            Error::Damaged(format!(
                "the record of entity number {} cannot be read",
                ordinal.0
            ))
        };
        for _ in 0..READ_TRIES {
            let bytes = self
                .shared
                .db
                .get(keys::entity(ordinal.0))
                .map_err(|error| of_sled(ordinal, &error))?;
            let Some(bytes) = bytes else { return Ok(None) };
            let record = record::decode(&bytes).ok_or_else(damaged)?;
            // Long values are in rows of their own and sled has no snapshots: a missing one means
            // that the record has changed.
            let Some(values) = self.values(ordinal, &record)? else {
                continue;
            };
            let mark = Mark::of(record.facets.iter().map(|row| &row.meta));
            let names = self
                .shared
                .names
                .read()
                .unwrap_or_else(PoisonError::into_inner);
            let name = |number: u32| names.get(number as usize).cloned().ok_or_else(damaged);
            let mut facets = Vec::with_capacity(record.facets.len());
            for (row, value) in record.facets.iter().zip(values) {
                let (name, owner, meta) = (
                    name(row.meta.name.into())?,
                    name(row.meta.owner.into())?,
                    row.meta,
                );
                facets.push(Facet {
                    name,
                    owner,
                    version: meta.version(),
                    sequence: Sequence(meta.sequence),
                    time: row.time,
                    value,
                });
            }
            facets.sort_by(|a, b| a.name.cmp(&b.name));
            let id = EntityId {
                entity_type: name(record.entity_type)?,
                key: record.key.into(),
            };
            let entity = Arc::new(Entity { id, facets });
            self.shared.readings.put(ordinal.0, mark, &entity);
            return Ok(Some(entity));
        }
        Err(damaged())
    }

    /// The values of a record in the order of its facets; none if a part of one is gone.
    fn values(
        &self,
        ordinal: Ordinal,
        record: &record::Record<'_>,
    ) -> Result<Option<Vec<Option<Arc<str>>>>, Error> {
        let mut values = Vec::with_capacity(record.facets.len());
        for row in &record.facets {
            let text = match &row.value {
                Value::Deleted => None,
                Value::New(value) => Some(value.clone()),
                Value::Here(bytes) => Some(Arc::from(text(bytes)?)),
                Value::Parts(parts, len, hash) => {
                    let mut whole = Vec::with_capacity(*len as usize);
                    for part in 0..*parts {
                        let key = keys::part(ordinal.0, row.meta.sequence, part);
                        let part = self
                            .shared
                            .db
                            .get(key)
                            .map_err(|error| of_sled(ordinal, &error))?;
                        let Some(part) = part else { return Ok(None) };
                        whole.extend_from_slice(&part);
                    }
                    if xxh3_64(&whole) != *hash {
                        return Err(Error::Damaged(format!(
                            "a long value of entity number {} is not what was written",
                            ordinal.0
                        )));
                    }
                    Some(Arc::from(text(&whole)?))
                }
            };
            values.push(text);
        }
        Ok(Some(values))
    }
}

fn of_sled(ordinal: Ordinal, error: &sled::Error) -> Error {
    Error::Damaged(format!(
        "entity number {} cannot be read: sled says: {error}",
        ordinal.0
    ))
}

fn text(bytes: &[u8]) -> Result<&str, Error> {
    std::str::from_utf8(bytes).map_err(|_| Error::Damaged("a value is not text".into()))
}

impl Store for Embedded {
    fn limit(&self, limits: Limits) {
        *self
            .shared
            .limits
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = limits;
    }

    fn commit(&self, events: Vec<Commit>) -> Result<Receipt, Error> {
        self.shared.check()?;
        let waiting = self.shared.waiting.load(Ordering::Relaxed);
        if waiting + events.len() > WAITING_MAX && waiting > 0 {
            return Err(Error::Busy { waiting });
        }
        let (answer, receipt) = oneshot::channel();
        self.shared
            .waiting
            .fetch_add(events.len(), Ordering::Relaxed);
        self.send(Request::Commit(events, answer))?;
        Ok(receipt)
    }

    fn watermark(&self) -> watch::Receiver<Sequence> {
        self.shared.watermark.subscribe()
    }

    fn time_of(&self, sequence: Sequence) -> Timestamp {
        self.shared.index().clock.time_of(sequence.0)
    }

    fn find(&self, id: &EntityId) -> Option<Ordinal> {
        self.shared.index().find(id).map(Ordinal)
    }

    fn read(&self, ordinals: &[Ordinal]) -> Result<Vec<Option<Arc<Entity>>>, Error> {
        let marks: Vec<Option<Mark>> = {
            let index = self.shared.index();
            ordinals
                .iter()
                .map(|ordinal| {
                    index
                        .entry(ordinal.0)
                        .map(|entry| Mark::of(entry.facets.iter()))
                })
                .collect()
        };
        let read = |(ordinal, mark): (&Ordinal, Option<Mark>)| match mark
            .and_then(|mark| self.shared.readings.get(ordinal.0, mark))
        {
            Some(entity) => Ok(Some(entity)),
            None => self.read_one(*ordinal),
        };
        ordinals.iter().zip(marks).map(read).collect()
    }

    /// There is no order by key in memory, so a page looks at every entity and keeps the smallest
    /// keys; the index is let go in between.
    fn list(
        &self,
        entity_type: &str,
        prefix: &str,
        after: Option<&str>,
        owed: Option<ChannelId>,
        limit: usize,
    ) -> Vec<(Ordinal, EntityId)> {
        let mut smallest: BTreeMap<Arc<str>, (u32, EntityId)> = BTreeMap::new();
        let mut next = 1;
        loop {
            let index = self.shared.index();
            let mut looked_at = 0;
            for (ordinal, entry) in index.entries_from(next).take(LIST_CHUNK) {
                (looked_at, next) = (looked_at + 1, ordinal + 1);
                let key = &entry.id.key;
                let fits = *entry.id.entity_type == *entity_type
                    && key.starts_with(prefix)
                    && after.is_none_or(|after| **key > *after);
                let small = smallest.len() < limit
                    || smallest.last_key_value().is_some_and(|last| key < last.0);
                if fits && small && owed.is_none_or(|channel| index.owes(channel, ordinal)) {
                    smallest.insert(key.clone(), (ordinal, entry.id.clone()));
                    if smallest.len() > limit {
                        smallest.pop_last();
                    }
                }
            }
            if looked_at < LIST_CHUNK {
                return smallest
                    .into_values()
                    .map(|(ordinal, id)| (Ordinal(ordinal), id))
                    .collect();
            }
        }
    }

    fn join(&self, name: &str, subscription: &Subscription) -> Result<Joined, Error> {
        let (name, subscription) = (name.to_owned(), subscription.clone());
        self.on_writer(move |writer| writer.join(&name, subscription))
    }

    fn channels(&self) -> Vec<(ChannelId, String, bool)> {
        self.shared
            .index()
            .channels()
            .map(|(id, channel)| (id, channel.name.clone(), channel.live))
            .collect()
    }

    fn retire(&self, channel: ChannelId) -> Result<(), Error> {
        self.on_writer(move |writer| {
            if let Some(channel) = writer.index().channel_mut(channel) {
                debug_assert!(
                    channel.is_quiet(),
                    "a channel retires when its flights have ended"
                );
                channel.live = false;
            }
            writer.save(channel)
        })
    }

    fn forget_channel(&self, channel: ChannelId) -> Result<bool, Error> {
        self.on_writer(move |writer| writer.forget_channel(channel))
    }

    fn rename(&self, old: &str, new: &str) -> Result<bool, Error> {
        let (old, new) = (old.to_owned(), new.to_owned());
        self.on_writer(move |writer| writer.rename(&old, &new))
    }

    fn set_paused(&self, channel: ChannelId, paused: bool) -> Result<(), Error> {
        self.on_writer(move |writer| {
            if let Some(channel) = writer.index().channel_mut(channel) {
                channel.paused = paused;
            }
            writer.save(channel)
        })
    }

    fn resweep(&self, channel: ChannelId, lost: bool) -> Result<(), Error> {
        self.on_writer(move |writer| writer.resweep(channel, lost))
    }

    fn walk(&self, channel: ChannelId, track: Track, limit: usize, taken: &mut Vec<Taken>) -> bool {
        let most = taken.len() + limit;
        loop {
            let (limit, watermark) = (most - taken.len(), self.shared.durable());
            let walked = self
                .shared
                .index()
                .walk(channel, track, limit, watermark, taken);
            match walked {
                Walked::End => return false,
                Walked::More => return true,
                // A store that cannot save does not sweep on; the failure itself is told by the
                // writer.
                Walked::Reserve => {
                    if self.on_writer(move |writer| writer.save(channel)).is_err() {
                        return false;
                    }
                }
            }
        }
    }

    fn retry(&self, channel: ChannelId, ordinal: Ordinal) -> Option<Taken> {
        let watermark = self.shared.durable();
        self.shared.index().retry(channel, ordinal.0, watermark)
    }

    fn attempt(&self, channel: ChannelId, ordinals: &[Ordinal]) {
        self.shared.index().attempt(channel, ordinals);
    }

    fn finish(&self, channel: ChannelId, ends: &[Finish], again: &mut Vec<Taken>) {
        let (watermark, now) = (self.shared.durable(), (self.shared.options.now)());
        self.shared
            .index()
            .finish(channel, ends, watermark, now, again);
    }

    fn save(&self, now: Timestamp) -> Result<(), Error> {
        self.on_writer(move |writer| {
            writer.save_all()?;
            writer.forget(now)
        })
    }

    fn owed(&self, channel: ChannelId) -> Owed {
        self.shared.index().owed(channel)
    }

    fn standing(&self, channel: ChannelId, ordinal: Ordinal) -> Option<Standing> {
        self.shared.index().standing(channel, ordinal.0)
    }

    fn refused(
        &self,
        id: ChannelId,
        after: Option<Ordinal>,
        limit: usize,
    ) -> Result<Vec<Refused>, Error> {
        let index = self.shared.index();
        let Some(channel) = index.channel(id) else {
            return Ok(Vec::new());
        };
        let after = after.map_or(0, |ordinal| ordinal.0);
        let refused = channel
            .refused(after)
            .filter_map(|(ordinal, (failure, time))| {
                let id = index.entry(ordinal)?.id.clone();
                let revision = Sequence(channel.pair(ordinal).revision());
                Some(Refused {
                    ordinal: Ordinal(ordinal),
                    id,
                    failure: failure.clone(),
                    revision,
                    time: *time,
                })
            });
        Ok(refused.take(limit).collect())
    }

    fn redrive(&self, channel: ChannelId, ordinals: &[Ordinal]) -> Vec<Parked> {
        self.shared.index().redrive(channel, ordinals)
    }

    fn drop_refused(&self, channel: ChannelId, ordinals: &[Ordinal]) -> Result<usize, Error> {
        let dropped = self.shared.index().drop_refused(channel, ordinals);
        self.on_writer(move |writer| writer.save(channel))?;
        Ok(dropped)
    }

    fn quarantined(
        &self,
        source: &str,
        after: Option<Sequence>,
        limit: usize,
    ) -> Result<Vec<QuarantinedEvent>, Error> {
        let Some(number) = self.shared.index().names.find(source) else {
            return Ok(Vec::new());
        };
        aside::quarantined(&self.shared.db, number, after, limit)
    }

    fn quarantine_count(&self, source: &str) -> u64 {
        let Some(number) = self.shared.index().names.find(source) else {
            return 0;
        };
        self.shared
            .quarantine
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&number)
            .copied()
            .unwrap_or(0)
    }

    fn unquarantine(&self, source: &str, sequences: &[Sequence]) -> Result<usize, Error> {
        let (source, sequences) = (source.to_owned(), sequences.to_vec());
        self.on_writer(move |writer| writer.unquarantine(&source, &sequences))
    }

    fn ready(&self) -> Result<(), Error> {
        self.shared.check()?;
        self.shared.has_disk()
    }

    fn figures(&self) -> Figures {
        // The index is let go before the disk is asked: the writer waits for it.
        let entities = self.shared.index().total();
        Figures {
            entities,
            bytes: open::size_on_disk(&self.shared.options.path),
            disk_free: open::disk_free(&self.shared.options.path),
            sequence: Sequence(self.shared.durable()),
            commit_seconds: self.shared.commits.seconds(),
        }
    }

    fn close(&self) -> Result<(), Error> {
        let saved = self.on_writer(Writer::save_all);
        self.requests
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(writer) = self
            .writer
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
        {
            // The writer ends when the last request is done; a panic of it has been told as a
            // failure.
            let _ = writer.join();
        }
        saved
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.requests
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(writer) = self
            .writer
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
        {
            let _ = writer.join();
        }
    }
}
