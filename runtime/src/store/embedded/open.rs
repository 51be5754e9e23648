//! Opens the store: reports problems in a sentence that says what to do, rebuilds the index from
//! the records, and checks that all rows that were written are there and unchanged.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Once};
use std::time::{Duration, Instant};

use super::identities::Identities;
use super::pairs::{self, PairLog};
use super::sums::{Rows, Sums, batch};
use super::witness::{self, Seen, Witness};
use super::{Options, leftovers, quarantine, record};
use crate::index::{Channel, ChannelId, Clock, Index, Meta};
use crate::model::{EntityId, Timestamp};
use crate::store::{Error, keys};

/// How long to wait for a store that another process or thread still holds.
const LOCK_WAIT: Duration = Duration::from_secs(2);
/// Free disk that opening needs: sled starts a segment and writes a snapshot of its page table.
const OPENING_BYTES: u64 = 16 * 1024 * 1024;
/// What to do about a damaged store.
const REMEDIES: &str = "Move the directory aside and restore it from a copy; or start with \
     `weir run --set-aside-damaged`, which keeps what can be read, names the entities that may be \
     missing, and has each channel send everything again; or start with an empty one. What is missing \
     then is lost until its sources send it again";
/// The format of the rows. A store of any other format is rejected.
const FORMAT: &str = "weir 2";

/// sled, opened, with the files next to it.
pub(super) struct Opened {
    pub(super) db: sled::Db,
    /// Our own handle on sled's file, to sync it: its `flush` does not.
    pub(super) file: File,
    pub(super) witness: Witness,
}

/// The state that is loaded in addition to the index.
pub(super) struct Loaded {
    pub(super) quarantine: BTreeMap<u32, quarantine::Known>,
    pub(super) logs: BTreeMap<ChannelId, PairLog>,
    pub(super) identities: Identities,
    /// The sums of all rows.
    pub(super) sums: Sums,
}

fn unavailable(path: &Path, what: impl std::fmt::Display) -> Error {
    Error::Unavailable(format!("{}: {what}", path.display()))
}

/// Opens sled. Call this within [`safely`], because sled may panic.
pub(super) fn open(options: &Options) -> Result<Opened, Error> {
    let path = &options.path;
    std::fs::create_dir_all(path)
        .map_err(|error| unavailable(path, format!("the directory cannot be created: {error}")))?;
    has_disk_for(options, 0)?;
    let witness = Witness::open(path)
        .map_err(|error| unavailable(path, format!("the file {}: {error}", witness::NAME)))?;
    if !page_cache_is_true(options, witness.seen()) {
        drop_page_cache(path);
    }
    let db = sled_at(options, witness.seen().batch > 0)?;
    let file = File::options().read(true).write(true).open(path.join("db"));
    let file = file.map_err(|error| {
        unavailable(
            path,
            format!("sled's file cannot be opened for syncing: {error}"),
        )
    })?;
    let io = |error: sled::Error| unavailable(path, error);
    let seen = witness.seen().batch;
    match db.get(keys::FORMAT).map_err(io)? {
        None if db.is_empty() && seen == 0 => {
            let mut rows = Rows::default();
            rows.swap(keys::FORMAT.to_vec(), None, Some(FORMAT.into()));
            db.apply_batch(batch(rows.seal(&mut Sums::default())))
                .map_err(io)?;
            db.flush().map_err(io)?;
            file.sync_data().map_err(|error| unavailable(path, error))?;
            sync_directories(path).map_err(|error| unavailable(path, error))?;
        }
        None if db.is_empty() => return Err(lost(0, seen)),
        Some(format) if format == FORMAT.as_bytes() => {}
        found => {
            let found = found.map_or("no format mark".into(), |mark| {
                String::from_utf8_lossy(&mark).into_owned()
            });
            return Err(unavailable(
                path,
                format!(
                    "the store has another format ({found:?}); this version of Weir reads {FORMAT:?}"
                ),
            ));
        }
    }
    Ok(Opened { db, file, witness })
}

/// Opens sled, and nothing more. `witnessed` says whether a witness knows the end of its log.
pub(super) fn sled_at(options: &Options, witnessed: bool) -> Result<sled::Db, Error> {
    let path = &options.path;
    let config = sled::Config::new()
        .path(path)
        .segment_size(4 * 1024 * 1024)
        .cache_capacity(options.cache_bytes)
        .flush_every_ms(Some(500))
        .mode(sled::Mode::LowSpace);
    match open_when_free(path, &config, witnessed) {
        Ok(Ok(db)) => Ok(db),
        Ok(Err(error)) if is_locked(&error) => Err(unavailable(
            path,
            "another process uses this store; stop it, or give this one another [store] path",
        )),
        Ok(Err(sled::Error::Corruption { .. })) | Err(_) => {
            Err(damaged("sled cannot open the existing files"))
        }
        Ok(Err(error)) => Err(unavailable(
            path,
            format!("the store cannot be opened: {error}"),
        )),
    }
}

/// Opens and loads as [`guarded`] does. Adds to `Damaged` what to do.
pub(super) fn safely<T>(path: &Path, work: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    match guarded(work) {
        Err(Error::Damaged(what)) => Err(Error::Damaged(format!(
            "{}: {what}. {REMEDIES}",
            path.display()
        ))),
        other => other,
    }
}

/// Opens and loads, and turns a panic into an error, because sled panics on some kinds of damage.
pub(super) fn guarded<T>(work: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    silence_sled();
    OPENING.fetch_add(1, Ordering::SeqCst);
    let done = catch_unwind(AssertUnwindSafe(|| quietly(work)));
    OPENING.fetch_sub(1, Ordering::SeqCst);
    done.unwrap_or_else(|_| Err(damaged("sled cannot read the existing files")))
}

/// Runs `work` on this thread without printing its panics; the caller reports them.
fn quietly<T>(work: impl FnOnce() -> T) -> T {
    struct Before(bool);
    impl Drop for Before {
        fn drop(&mut self) {
            OPENS.set(self.0);
        }
    }
    let _before = Before(OPENS.replace(true));
    work()
}

/// The number of stores being opened.
static OPENING: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// Whether this thread is opening a store.
    static OPENS: Cell<bool> = const { Cell::new(false) };
}

/// Silences sled's panics while a store is being opened, because our own sentence reports them. All
/// other panics are printed as before.
fn silence_sled() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let tell = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let of_sled = || {
                std::thread::current()
                    .name()
                    .is_some_and(|name| name.starts_with("sled"))
            };
            if !OPENS.get() && (OPENING.load(Ordering::SeqCst) == 0 || !of_sled()) {
                tell(panic);
            }
        }));
    });
}

/// Opens sled. Waits a moment if it is still held, by a process that is ending or by sled's own
/// threads after a close.
fn open_when_free(
    path: &Path,
    config: &sled::Config,
    witnessed: bool,
) -> std::thread::Result<sled::Result<sled::Db>> {
    let begun = Instant::now();
    loop {
        let waits = begun.elapsed() < LOCK_WAIT;
        match leftovers::clear(path, witnessed) {
            Err(error) => return Ok(Err(error.into())),
            Ok(false) if waits => {
                std::thread::sleep(Duration::from_millis(20));
                continue;
            }
            Ok(_) => {}
        }
        let opened = catch_unwind(AssertUnwindSafe(|| config.open()));
        match &opened {
            Ok(Err(error)) if is_locked(error) && waits => {
                std::thread::sleep(Duration::from_millis(20))
            }
            _ => return opened,
        }
    }
}

fn is_locked(error: &sled::Error) -> bool {
    error.to_string().contains("lock")
}

/// Refuses to open on a full disk. sled writes while it opens, and a write that fails in the middle
/// leaves files that the next start must clean up; a start that cannot succeed changes nothing.
/// `more` is what the caller is about to write beside the store, in bytes.
pub(super) fn has_disk_for(options: &Options, more: u64) -> Result<(), Error> {
    let needed = OPENING_BYTES.min(options.disk_reserve_bytes) + more;
    let free = disk_free(&options.path);
    if free >= needed {
        return Ok(());
    }
    let (free, needed) = (free / 1024 / 1024, needed / 1024 / 1024);
    Err(unavailable(
        &options.path,
        format!(
            "the disk has {free} MiB left, and opening needs {needed} MiB; free some space and start again"
        ),
    ))
}

/// Whether the page cache agrees with the disk. A failed sync may leave pages in the cache that are
/// not on disk but count as written. If an earlier process saw the failure, it has marked it in the
/// witness; a failure that no process has seen yet makes this sync fail.
fn page_cache_is_true(options: &Options, seen: Seen) -> bool {
    let synced = match File::options()
        .read(true)
        .write(true)
        .open(options.path.join("db"))
    {
        Ok(file) => (options.sync)(&file),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    };
    !seen.failed && synced.is_ok()
}

/// Drops the cached pages of the store, so that it is read from the disk.
fn drop_page_cache(path: &Path) {
    for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
        if let Ok(file) = File::open(entry.path()) {
            // This is advice to the kernel: if it is ignored, only this precaution is lost.
            let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed);
        }
    }
}

pub(super) fn sync_directories(path: &Path) -> std::io::Result<()> {
    File::open(path)?.sync_all()?;
    path.parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .map_or(Ok(()), |parent| File::open(parent)?.sync_all())
}

/// Total size, in bytes, of all files of the store.
pub(super) fn size_on_disk(path: &Path) -> u64 {
    let files = std::fs::read_dir(path).into_iter().flatten().flatten();
    files
        .filter_map(|entry| entry.metadata().ok())
        .filter(|metadata| metadata.is_file())
        .map(|metadata| metadata.len())
        .sum()
}

/// Bytes free for this process on the disk of the store.
pub(super) fn disk_free(path: &Path) -> u64 {
    rustix::fs::statvfs(path).map_or(u64::MAX, |figures| {
        figures.f_bavail.saturating_mul(figures.f_frsize)
    })
}

fn damaged(what: &str) -> Error {
    Error::Damaged(what.into())
}

fn unreadable(what: &str) -> Error {
    Error::Damaged(format!("{what} cannot be read"))
}

/// The error of a store whose last batch is older than one that was synced.
fn lost(batch: u64, seen: u64) -> Error {
    Error::Damaged(format!(
        "accepted changes are missing: it ends with write {batch}, but according to the file `{}`, write {seen} was synced. To continue without \
         them, remove that file",
        witness::NAME
    ))
}

/// All rows with this prefix; each one read is counted in `found`.
pub(super) fn rows<'a>(
    db: &sled::Db,
    prefix: &[u8],
    found: &'a mut Sums,
) -> impl Iterator<Item = Result<(sled::IVec, sled::IVec), Error>> + use<'a> {
    db.scan_prefix(prefix).map(|row| {
        let (key, value) = row.map_err(|error| Error::Damaged(format!("sled reports: {error}")))?;
        found.add(&key, &value);
        Ok((key, value))
    })
}

fn number(db: &sled::Db, key: &[u8]) -> Result<u64, Error> {
    let row = db
        .get(key)
        .map_err(|error| Error::Damaged(error.to_string()))?;
    row.map_or(Ok(0), |row| {
        row.as_ref()
            .try_into()
            .map(u64::from_le_bytes)
            .map_err(|_| unreadable("a number of the store"))
    })
}

/// The number of ordinals given out so far, including those of forgotten entities. All ordinals in
/// use are below it.
fn given_out(db: &sled::Db) -> Result<u32, Error> {
    let forgotten = u32::try_from(number(db, keys::ORDINALS)?)
        .map_err(|_| unreadable("how many entities there were"))?;
    let last = db
        .scan_prefix(keys::ENTITIES)
        .next_back()
        .transpose()
        .map_err(|error| Error::Damaged(format!("sled reports: {error}")))?;
    Ok(last
        .map_or(0, |(key, _)| ordinal_of(&key).saturating_add(1))
        .max(forgotten))
}

fn ordinal_of(key: &[u8]) -> u32 {
    u32::from_be_bytes(keys::number_at(key, 1))
}

/// Fills an empty index from the rows. The rows must agree with the sums, and the last batch must
/// not be older than `seen`.
pub(super) fn load(db: &sled::Db, index: &mut Index, seen: u64) -> Result<Loaded, Error> {
    let sums = match db
        .get(keys::SUMS)
        .map_err(|error| Error::Damaged(error.to_string()))?
    {
        Some(row) => Sums::decode(&row).ok_or_else(|| unreadable("the row of sums"))?,
        None => Sums::default(),
    };
    if sums.batch < seen {
        return Err(lost(sums.batch, seen));
    }
    let given_out = given_out(db)?;
    // Entities are half of the rows; pairs and the rest are read in parallel.
    let (entities, beside) = std::thread::scope(|scope| {
        let beside = scope.spawn(|| quietly(|| load_beside(db, given_out)));
        let entities = load_entities(db, index);
        (
            entities,
            beside.join().unwrap_or_else(|panic| resume_unwind(panic)),
        )
    });
    let (
        mut found,
        Beside {
            channels,
            quarantine,
            identities,
            found: found_beside,
        },
    ) = (entities?, beside?);
    found.include(&found_beside);
    index.give_out(given_out);
    quarantine
        .keys()
        .for_each(|source| index.names.keep(*source));
    index.names.free_unused();
    index.rebuild_lanes();
    let mut logs = BTreeMap::new();
    for (id, (channel, log)) in channels {
        index.put_channel(id, channel);
        logs.insert(id, log);
    }
    index.distrust();
    match sums.differs_from(&found) {
        Some(why) => Err(Error::Damaged(why)),
        None => Ok(Loaded {
            quarantine,
            logs,
            identities,
            sums,
        }),
    }
}

/// The rows that are read in parallel to the entities.
struct Beside {
    channels: BTreeMap<ChannelId, (Channel, PairLog)>,
    quarantine: BTreeMap<u32, quarantine::Known>,
    identities: Identities,
    found: Sums,
}

fn load_beside(db: &sled::Db, given_out: u32) -> Result<Beside, Error> {
    let mut found = Sums::default();
    let channels = pairs::load(db, given_out, &mut found)?;
    let quarantine = quarantine::load(db, &mut found)?;
    let identities = Identities::load(db, &mut found)?;
    Ok(Beside {
        channels,
        quarantine,
        identities,
        found,
    })
}

/// Loads figures, names and entities; returns the sums of their rows.
fn load_entities(db: &sled::Db, index: &mut Index) -> Result<Sums, Error> {
    let mut found = Sums::default();
    rows(db, keys::FIGURES, &mut found).try_for_each(|row| row.map(|_| ()))?;
    for row in rows(db, keys::NAMES, &mut found) {
        let (key, name) = row?;
        let name = std::str::from_utf8(&name).map_err(|_| unreadable("a name"))?;
        let number = u32::from_be_bytes(keys::number_at(&key, 1));
        index
            .names
            .restore(number, Arc::from(name))
            .ok_or_else(|| unreadable("a name"))?;
    }
    index.sequence = number(db, keys::CEILING)?;
    if let Some(marks) = db
        .get(keys::CLOCK)
        .map_err(|error| Error::Damaged(error.to_string()))?
    {
        let word = |bytes: &[u8]| u64::from_le_bytes(keys::number_at(bytes, 0));
        index.clock = Clock::with(
            marks
                .chunks_exact(16)
                .map(|mark| (word(mark), Timestamp(word(&mark[8..]))))
                .collect(),
        );
    }
    for row in rows(db, keys::ENTITIES, &mut found) {
        let (key, bytes) = row?;
        let ordinal = ordinal_of(&key);
        let record = record::decode(&bytes)
            .ok_or_else(|| unreadable(&format!("the record of entity number {ordinal}")))?;
        let entity_type = index
            .names
            .name(record.entity_type)
            .cloned()
            .ok_or_else(|| unreadable("the type of an entity"))?;
        index.names.keep(record.entity_type);
        let facets: Vec<Meta> = record.facets.iter().map(|row| row.meta).collect();
        index.restore(
            ordinal,
            EntityId {
                entity_type,
                key: record.key.into(),
            },
            facets,
        );
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::super::Embedded;
    use super::*;
    use crate::index::Subscription;
    use crate::store::Store;

    fn fails(_: &File) -> std::io::Result<()> {
        Err(std::io::Error::other("the disk does not answer"))
    }

    #[test]
    fn the_page_cache_is_believed_until_a_sync_has_failed() {
        let folder = tempfile::tempdir().unwrap();
        let options = Options::new(folder.path());
        let failing = Options {
            sync: fails,
            ..options.clone()
        };
        let seen = || Witness::open(folder.path()).unwrap().seen();
        assert!(
            page_cache_is_true(&options, seen()),
            "an empty folder leaves nothing to doubt"
        );

        let shop = Subscription {
            entity_type: "product".into(),
            facets: vec!["content".into()],
            shape: 1,
            shape_label: String::new(),
            target: 1,
            debounce: None,
        };
        Embedded::open(options.clone())
            .unwrap()
            .join("shop", &shop)
            .wait()
            .unwrap();
        assert!(page_cache_is_true(&options, seen()));
        assert!(
            !page_cache_is_true(&failing, seen()),
            "a failure that no process has seen yet"
        );

        assert!(
            Embedded::open(failing).is_err(),
            "opening saves the channels it doubts, and the sync fails"
        );
        assert!(
            !page_cache_is_true(&options, seen()),
            "an earlier process saw a failure"
        );
        drop(Embedded::open(options.clone()).unwrap());
        assert!(
            page_cache_is_true(&options, seen()),
            "what was read from the disk and synced can be trusted again"
        );
    }
}
