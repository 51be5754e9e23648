//! When a generation is built and shown, and why not.
//!
//! One task a feed waits for the interval and builds on a thread for blocking work, one feed of the process
//! at a time. Whatever fails leaves the last generation as it is, and is tried again after the interval.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwapOption;
use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;
use xxhash_rust::xxh3::Xxh3;

use super::disk::{Built, Disk, Trouble, Wanted, forgot};
use super::manifest::{Generation, data_name, gzip_name};
use super::put::{Put, Putter};
use super::sorted::{Base, said};
use super::{Shared, export, millis};
use crate::sync::lock;

/// One build at a time in this process: each reads and writes the disk as fast as it can.
static TURN: Semaphore = Semaphore::const_new(1);

/// A generation that can be fetched.
#[derive(Debug)]
pub struct Published {
    /// Counts the generations of a feed whose contents differ.
    pub id: u64,
    /// Its records.
    pub records: u64,
    /// The newest sequence in it.
    pub sequence: u64,
    /// When it was built, in milliseconds since 1970.
    pub built: u64,
    /// When its content last changed, in milliseconds since 1970.
    pub modified: u64,
    /// The media type.
    pub content_type: String,
    /// The file as it is.
    pub plain: Form,
    /// The same, packed with gzip.
    pub gzip: Form,
}

/// A form of a generation.
#[derive(Debug)]
pub struct Form {
    /// Open, so that its bytes stay the same when the next generation takes its place.
    pub file: Arc<File>,
    /// Its length in bytes.
    pub length: u64,
    /// The digest of its bytes.
    pub digest: String,
}

/// The status of a feed, for users.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Status {
    /// Changes that are acknowledged and in no generation yet, at most.
    pub unpublished: u64,
    /// When the next generation is built, in milliseconds since 1970; `None` if nothing has changed, or if
    /// something has to happen first.
    pub next: Option<u64>,
    /// Why no generation is built, or why the last one is not shown; `None` if nothing is wrong.
    pub reason: Option<String>,
    /// The most records of a generation since an operator confirmed one, and those of the one that is held
    /// because it has far fewer.
    pub shrank: Option<(u64, u64)>,
    /// Whether the last generation still has to be written to the path.
    pub path_due: bool,
    /// What is in its bucket; `None` if it is put to none.
    pub to: Option<Put>,
    /// Characters that were dropped since the start, because the format cannot hold them.
    pub dropped: u64,
}

/// See the module.
pub(super) struct Publisher {
    published: ArcSwapOption<Published>,
    to: Option<Putter>,
    complete: AtomicBool,
    spawned: AtomicBool,
    stopped: AtomicBool,
    dropped: AtomicU64,
    wake: Arc<Notify>,
    /// Those who wait for the end of the next build.
    waiting: Mutex<Vec<Weak<Notify>>>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The files were opened, so it is known what is unpublished.
    looked: bool,
    /// When the last generation was built, as far as it is known.
    built: Option<Instant>,
    /// When it was last tried since the start.
    tried: Option<Instant>,
    /// An operator wants it now.
    at_once: bool,
    /// Why the last try failed.
    failed: Option<String>,
    /// Why the file at the path is not the last generation.
    path_failed: Option<String>,
    /// The file at the path has to be written.
    path_due: bool,
    shrank: Option<(u64, u64)>,
    /// It would be the first one, and empty.
    empty: bool,
    /// Something was delivered since that was found out.
    filled: bool,
    forgot: Option<String>,
    outside: Option<Outside>,
}

/// What was found out about the file at the path.
struct Outside {
    /// Inode, time in seconds and nanoseconds, length: what changes when it is written.
    about: (u64, i64, i64, u64),
    /// The digest of the generation with which it was compared, and whether it was the same.
    digest: String,
    same: bool,
}

impl Publisher {
    pub(super) fn new(disk: &Disk, to: Option<Putter>) -> Publisher {
        let publisher = Publisher {
            published: ArcSwapOption::empty(),
            to,
            complete: AtomicBool::new(false),
            spawned: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
            dropped: AtomicU64::new(0),
            wake: Arc::default(),
            waiting: Mutex::default(),
            state: Mutex::default(),
        };
        // A file that cannot be opened is noticed when the files are used.
        let _ = publisher.catch_up(disk);
        publisher
    }

    /// Shows the generation that the manifest names, if that is another one: an earlier feed of these files
    /// has published it since, or it was not certain that the manifest was written.
    pub(super) fn catch_up(&self, disk: &Disk) -> Result<(), Trouble> {
        let Some(generation) = disk.visible() else {
            return Ok(());
        };
        let shown = self.published().map(|it| (it.id, it.built));
        if shown == Some((generation.id, generation.built)) {
            return Ok(());
        }
        let since = millis(SystemTime::now()).saturating_sub(generation.built);
        lock(&self.state).built = Instant::now().checked_sub(Duration::from_millis(since));
        match self.opened(disk, &generation) {
            Ok(published) => {
                self.show(published);
                Ok(())
            }
            // Everything is owed again, so another generation will take its place.
            Err(_) if disk.base().is_none() => Ok(()),
            Err(error) => Err(forgot(error)),
        }
    }

    /// Whether the channel has met all of its entities.
    pub(super) fn is_complete(&self) -> bool {
        self.complete.load(Ordering::SeqCst)
    }

    pub(super) fn published(&self) -> Option<Arc<Published>> {
        self.published.load_full()
    }

    pub(super) fn waits_for_operator(&self) -> bool {
        let state = lock(&self.state);
        state.shrank.is_some() || state.empty
    }

    pub(super) fn build_now(&self) {
        lock(&self.state).at_once = true;
        self.wake.notify_one();
    }

    pub(super) fn to(&self) -> Option<&Putter> {
        self.to.as_ref()
    }

    /// Another one puts from now on what is published.
    pub(super) fn stop_putting(&self) {
        self.to.iter().for_each(Putter::stop);
    }

    pub(super) fn stop(&self) {
        self.stop_putting();
        self.stopped.store(true, Ordering::SeqCst);
        self.wake.notify_one();
    }

    pub(super) fn forgot(&self) -> Option<String> {
        lock(&self.state).forgot.clone()
    }

    pub(super) fn started_over(&self) {
        let mut state = lock(&self.state);
        state.forgot = None;
        state.tried = None;
        (state.shrank, state.empty, state.filled) = (None, false, false);
    }

    /// Notes what became of a delivery.
    pub(super) fn kept(&self, trouble: Option<&Trouble>, dropped: u64) {
        match trouble {
            None => {
                self.dropped.fetch_add(dropped, Ordering::Relaxed);
                lock(&self.state).filled = true;
                // Each one does: whether it is the first since a build is not known without a race with its
                // end, and a feed that nobody wakes would stay as it is.
                self.wake.notify_one();
            }
            Some(trouble) => self.note_forgotten(trouble),
        }
    }

    fn note_forgotten(&self, trouble: &Trouble) {
        if let Trouble::Forgot(why) = trouble {
            lock(&self.state).forgot = Some(why.clone());
        }
    }

    fn show(&self, published: Published) {
        let published = Arc::new(published);
        self.published.store(Some(published.clone()));
        if let Some(to) = &self.to {
            to.takes(published);
        }
    }

    /// A build has ended, and what it published is not unpublished any more.
    fn wake_waiting(&self) {
        let waiting = std::mem::take(&mut *lock(&self.waiting));
        let living = waiting.iter().filter_map(Weak::upgrade);
        living.for_each(|wake| wake.notify_one());
    }

    /// Wakes `wake` once, when the next build has ended.
    pub(super) fn wake_at_next(&self, wake: &Arc<Notify>) {
        let mut waiting = lock(&self.waiting);
        waiting.retain(|known| known.strong_count() > 0 && known.as_ptr() != Arc::as_ptr(wake));
        waiting.push(Arc::downgrade(wake));
    }

    /// Opens the files of a generation.
    fn opened(&self, disk: &Disk, generation: &Generation) -> io::Result<Published> {
        let form = |name: String, length, digest: &String| {
            let path = disk.folder().join(name);
            let file = File::open(&path).map_err(|error| said(&path, &error))?;
            Ok::<_, io::Error>(Form {
                file: Arc::new(file),
                length,
                digest: digest.clone(),
            })
        };
        Ok(Published {
            id: generation.id,
            records: generation.records,
            sequence: generation.sequence,
            built: generation.built,
            modified: generation.modified,
            content_type: generation.content_type.clone(),
            plain: form(
                data_name(generation.data),
                generation.bytes,
                &generation.digest,
            )?,
            gzip: form(
                gzip_name(generation.data),
                generation.gzip_bytes,
                &generation.gzip_digest,
            )?,
        })
    }

    /// The file at the path, if it is not the base: then the items in it are compared one by one.
    pub(super) fn outside(&self, path: &Path, base: &Base) -> Result<Option<Arc<File>>, String> {
        let cannot = |error: io::Error| format!("{} cannot be read: {error}", path.display());
        let file = File::open(path).map_err(cannot)?;
        let about = file.metadata().map_err(cannot)?;
        let known = (about.ino(), about.mtime(), about.mtime_nsec(), about.len());
        let digest = &base.generation.digest;
        let mut state = lock(&self.state);
        if let Some(outside) = &state.outside
            && (&outside.about, &outside.digest) == (&known, digest)
        {
            return Ok((!outside.same).then(|| Arc::new(file)));
        }
        drop(state);
        let same =
            about.len() == base.generation.bytes && digest_of(&file).map_err(cannot)? == *digest;
        state = lock(&self.state);
        state.outside = Some(Outside {
            about: known,
            digest: digest.clone(),
            same,
        });
        Ok((!same).then(|| Arc::new(file)))
    }
}

fn digest_of(mut file: &File) -> io::Result<String> {
    let (mut digest, mut piece) = (Xxh3::new(), vec![0; 256 << 10]);
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(format!("{:032x}", digest.digest128())),
            read => digest.update(&piece[..read]),
        }
    }
}

/// See [`super::Feed::walked`].
pub(super) fn walked(shared: &Arc<Shared>, complete: bool) {
    let publisher = &shared.publisher;
    let before = publisher.complete.swap(complete, Ordering::SeqCst);
    if complete
        && !publisher.spawned.load(Ordering::SeqCst)
        && let Ok(runtime) = tokio::runtime::Handle::try_current()
    {
        publisher.spawned.store(true, Ordering::SeqCst);
        runtime.spawn(run(Arc::downgrade(shared), publisher.wake.clone()));
        publisher.to.iter().for_each(Putter::starts);
    }
    if before != complete {
        publisher.wake.notify_one();
    }
}

/// Builds when it is due, until the feed is dropped.
async fn run(feed: Weak<Shared>, wake: Arc<Notify>) {
    loop {
        let due = match feed.upgrade() {
            Some(shared) if !shared.publisher.stopped.load(Ordering::SeqCst) => shared.due(),
            _ => return,
        };
        let waits = async {
            match due {
                Some(due) => tokio::time::sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = waits => {}
            () = wake.notified() => continue,
        }
        // It is never closed.
        let Ok(_turn) = TURN.acquire().await else {
            return;
        };
        if let Some(shared) = feed.upgrade() {
            let built = tokio::task::spawn_blocking(move || shared.publish()).await;
            if let Err(error) = built {
                tracing::error!(%error, "the build of a feed was cut short; it is tried again after the interval");
                if let Some(shared) = feed.upgrade() {
                    let mut state = lock(&shared.publisher.state);
                    (state.looked, state.at_once, state.tried) =
                        (true, false, Some(Instant::now()));
                    state.failed = Some(format!("the build was cut short: {error}"));
                }
            }
        }
    }
}

impl Shared {
    /// When something is to be done next.
    fn due(&self) -> Option<Instant> {
        if !self.publisher.complete.load(Ordering::SeqCst) {
            return None;
        }
        let (unpublished, has_base) = (self.disk.unpublished(), self.disk.base().is_some());
        let state = lock(&self.publisher.state);
        if state.forgot.is_some() {
            return None;
        }
        if !state.looked || state.at_once {
            return Some(Instant::now());
        }
        let first = !has_base && state.tried.is_none();
        let failed = state.failed.is_some();
        let path_due = state.path_due && state.path_failed.is_none() && !failed;
        if first || path_due {
            return Some(Instant::now());
        }
        if unpublished == 0 && has_base && !state.path_due && !failed {
            return None;
        }
        let last = state.built.max(state.tried);
        Some(last.map_or_else(Instant::now, |last| last + self.options.interval))
    }

    pub(super) fn status(&self) -> Status {
        let (unpublished, due) = (self.disk.unpublished(), self.due());
        let publisher = &self.publisher;
        let state = lock(&publisher.state);
        let complete = publisher.complete.load(Ordering::SeqCst);
        let shrank = state.shrank.map(|(most, records)| {
            let share = self.options.shrink_max * 100.0;
            format!(
                "the next generation has {records} records and there were {most}, which is more than {share:.0} % fewer; if that is right, `weir channel confirm` publishes it"
            )
        });
        let empty = (state.empty && !state.filled).then(|| {
            "the feed has no record yet; if that is right, `weir channel confirm` publishes an empty one".to_owned()
        });
        let incomplete = (!complete).then(|| {
            "the channel has not met all of its entities yet; the next generation is built then"
                .to_owned()
        });
        let of_path = state.path_failed.as_ref();
        let of_path = of_path.map(|why| format!("the file at its path is not up to date: {why}"));
        let reason = (state.forgot.clone())
            .or(incomplete)
            .or(shrank)
            .or(empty)
            .or(state.failed.clone())
            .or(of_path);
        let next = due.filter(|_| unpublished > 0 || state.path_due);
        let wall = |due: Instant| {
            let wait = due.saturating_duration_since(Instant::now());
            millis(SystemTime::now() + wait)
        };
        Status {
            unpublished,
            next: next.map(wall),
            reason,
            shrank: state.shrank,
            path_due: state.path_due,
            to: publisher.to.as_ref().map(Putter::status),
            dropped: publisher.dropped.load(Ordering::Relaxed),
        }
    }

    /// Builds the next generation and shows it, or does what comes before. Blocking.
    pub(super) fn publish(self: &Arc<Self>) {
        self.take_over();
        let publisher = &self.publisher;
        let opened = self.disk.ensure();
        if let Err(trouble) = opened.and_then(|()| publisher.catch_up(&self.disk)) {
            let mut state = lock(&publisher.state);
            // Whoever wants it at once gets it when the files can be opened.
            (state.looked, state.at_once, state.tried) = (true, false, Some(Instant::now()));
            self.note_failure(&mut state, trouble);
            return;
        }
        let looked = std::mem::replace(&mut lock(&publisher.state).looked, true);
        if !looked {
            self.look_at_path();
            return;
        }
        if !publisher.complete.load(Ordering::SeqCst) {
            return;
        }
        lock(&publisher.state).at_once = false;
        let (header, footer) = (self.writer.header(), self.writer.footer());
        let wanted = Wanted {
            header: &header,
            footer: &footer,
            content_type: &self.writer.content_type(),
            shrink_max: self.options.shrink_max,
            complete: &publisher.complete,
            now: millis(SystemTime::now()),
        };
        let built = self.disk.build(&wanted, |generation| {
            let published = publisher.opened(&self.disk, generation)?;
            Ok(move || {
                lock(&publisher.state).path_due = self.options.path.is_some();
                publisher.show(published);
            })
        });
        self.note(built);
        publisher.wake_waiting();
        self.write_path();
    }

    fn note(&self, built: Result<Built, Trouble>) {
        let folder = self.disk.folder().display();
        let mut state = lock(&self.publisher.state);
        state.tried = Some(Instant::now());
        let held_before = state.shrank.is_some();
        match built {
            Ok(built) => {
                if state.failed.take().is_some() {
                    tracing::info!(%folder, "generations of the feed are built again");
                }
                (state.shrank, state.empty, state.filled) = (None, false, false);
                match built {
                    Built::Published(generation) => {
                        state.built = state.tried;
                        let Generation {
                            id, records, bytes, ..
                        } = generation;
                        tracing::info!(%folder, id, records, bytes, "published a generation of the feed");
                    }
                    Built::Shrank { most, records } => {
                        state.shrank = Some((most, records));
                        if !held_before {
                            tracing::warn!(%folder, records, most, "the next generation of the feed has far fewer records and is held; if that is right, `weir channel confirm` publishes it");
                        }
                    }
                    Built::Empty => state.empty = true,
                    Built::Nothing => {}
                }
            }
            Err(trouble) => self.note_failure(&mut state, trouble),
        }
    }

    fn note_failure(&self, state: &mut State, trouble: Trouble) {
        let folder = self.disk.folder().display();
        match trouble {
            Trouble::Forgot(why) => state.forgot = Some(why),
            Trouble::Failed(why) => {
                if state.failed.is_none() {
                    tracing::warn!(%folder, why, "no generation of the feed can be built; the last one stays, and it is tried again after the interval");
                }
                state.failed = Some(why);
            }
        }
    }

    /// Whether the file at the path is what was published last: a crash may have come between the two.
    fn look_at_path(&self) {
        let (Some(path), Some(published)) = (&self.options.path, self.publisher.published()) else {
            return;
        };
        let same = File::open(path).and_then(|file| {
            let length = file.metadata()?.len();
            Ok(length == published.plain.length && digest_of(&file)? == published.plain.digest)
        });
        let packed = File::open(export::packed(path)).and_then(|file| {
            let length = file.metadata()?.len();
            Ok(length == published.gzip.length && digest_of(&file)? == published.gzip.digest)
        });
        let same = same.unwrap_or(false) && packed.unwrap_or(false);
        lock(&self.publisher.state).path_due = !same;
    }

    /// Writes the last generation to the path, if it is not there yet.
    fn write_path(&self) {
        let Some(path) = &self.options.path else {
            return;
        };
        if !lock(&self.publisher.state).path_due {
            return;
        }
        let Some(generation) = self.disk.visible() else {
            return;
        };
        let from = |name: String| self.disk.folder().join(name);
        let written = export::copy(&from(gzip_name(generation.data)), &export::packed(path))
            .and_then(|()| export::copy(&from(data_name(generation.data)), path));
        let mut state = lock(&self.publisher.state);
        state.path_due = written.is_err();
        let before = state.path_failed.take();
        state.path_failed = written.err().map(|error| {
            let why = format!("{}: {error}", path.display());
            if before.is_none() {
                tracing::warn!(
                    why,
                    "the feed cannot be written to its path; it is tried again after the interval"
                );
            }
            why
        });
    }
}

impl Published {
    /// When the content last changed.
    pub fn modified(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(self.modified)
    }
}
