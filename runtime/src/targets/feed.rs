//! Feeds as targets: the whole state of a channel as one file that others fetch.
//!
//! A feed is the truth for whoever reads it: what is not in it is deleted there. So only complete
//! generations become visible, each as a whole. A delivery is acknowledged when the feed's own files have it;
//! the generation that holds it is built when the interval has passed, once the channel has met all of its
//! entities. A generation that has far fewer records than the last ones waits for an operator.
//!
//! The records are in the order of their keys and depend on renderings alone: the same state gives the same
//! bytes.

mod disk;
mod export;
mod format;
mod frames;
mod gzip;
mod manifest;
mod merge;
mod pick;
mod publish;
mod put;
mod sorted;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::{Notify, Semaphore};
use xxhash_rust::xxh3::xxh3_64;

use self::disk::{Change, Disk, Position, Trouble};
use self::format::Writer;
pub(crate) use self::format::is_name;
pub use self::format::{Delimited, Encoding, Field, Format, Quoting, Xml};
use self::publish::Publisher;
pub use self::publish::{Form, Published, Status};
use self::put::Putter;
pub use self::put::{Put, To};
use super::{
    Attempt, BoxFuture, Delivery, Held, Item, Mark, Nature, Opening, Outcome, Page, Target,
    Unusable,
};
use crate::model::Sequence;
use crate::signature::Secret;
use crate::sync::lock;

/// The items and the bytes of a delivery, unless a channel says otherwise. Each is one synced write.
pub const BATCH: (usize, usize) = (5_000, 8 * 1024 * 1024);
/// How long a delivery may wait for the disk.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Deliveries that use the disk at once. One that hangs there keeps its place, so that the attempts after it do
/// not use up the threads of the process.
const PLACES: usize = 2;
/// Keys of a page.
const PAGE: usize = 1_000;

/// A feed as configured.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// The format, with the options of that format.
    pub format: Format,
    /// The columns or elements, in order.
    pub fields: Vec<Field>,
    /// The time between two generations. Default 15 min.
    pub interval: Duration,
    /// The share of its records by which a generation may shrink without an operator, 0 to 1. Default 0.2.
    pub shrink_max: f64,
    /// A file that each generation is written to as well, with a packed one beside it.
    pub path: Option<PathBuf>,
    /// The object that each generation is put to as well, with a packed one beside it.
    pub to: Option<To>,
    /// Who may fetch it. `None`: programs on this machine, where no listener can be reached from others.
    pub serve: Option<Serve>,
}

/// Who may fetch a feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Serve {
    /// Anybody.
    Open,
    /// Whoever has these credentials.
    Basic {
        /// User name.
        user: String,
        /// Password.
        password: Secret,
    },
}

impl Options {
    /// Interval and share unless configured.
    pub const INTERVAL: Duration = Duration::from_secs(15 * 60);
    /// See [`Options::shrink_max`].
    pub const SHRINK_MAX: f64 = 0.2;

    /// What the files of a feed depend on. With another one, all records are made anew.
    fn place(&self) -> u64 {
        let writer = Writer::new(&self.format, &self.fields);
        xxh3_64(format!("feed {}", writer.description()).as_bytes())
    }
}

/// The feeds of this process by folder: one that a new configuration opens takes the files over from the
/// one before it.
static OPEN: LazyLock<Mutex<HashMap<PathBuf, Vec<Weak<Shared>>>>> = LazyLock::new(Mutex::default);

/// Lets go of the files in a folder: no feed of this process writes there any more when this returns. What
/// was published goes on being served. Blocking.
pub(crate) fn let_go(folder: &Path) {
    let feeds = lock(&OPEN).remove(folder).unwrap_or_default();
    for feed in feeds.iter().filter_map(Weak::upgrade) {
        feed.disk.retire();
        feed.publisher.stop_putting();
    }
}

/// A feed that is ready to be delivered to.
pub struct Feed {
    shared: Arc<Shared>,
}

/// What deliveries and builds share.
struct Shared {
    /// Whether the files were taken over from earlier feeds.
    has_files: Mutex<bool>,
    /// See [`PLACES`].
    places: Arc<Semaphore>,
    options: Options,
    writer: Writer,
    disk: Disk,
    publisher: Publisher,
}

impl Feed {
    /// Prepares a feed. What was published last can be fetched at once; nothing else is opened.
    ///
    /// # Errors
    /// The bucket cannot be used; see [`To`].
    pub fn open(options: &Options, opening: &Opening) -> Result<Feed, Unusable> {
        let disk = Disk::new(opening.folder.clone(), options.place());
        let to = options.to.as_ref();
        let to = to.map(|to| Putter::open(to, options, opening.memory.clone()));
        let shared = Arc::new(Shared {
            has_files: Mutex::default(),
            places: Arc::new(Semaphore::new(PLACES)),
            writer: Writer::new(&options.format, &options.fields),
            publisher: Publisher::new(&disk, to.transpose()?),
            options: options.clone(),
            disk,
        });
        let mut open = lock(&OPEN);
        open.retain(|_, feeds| {
            feeds.retain(|feed| feed.strong_count() > 0);
            !feeds.is_empty()
        });
        let feeds = open.entry(opening.folder.clone()).or_default();
        feeds.push(Arc::downgrade(&shared));
        Ok(Feed { shared })
    }

    /// What was published last; `None` before the first generation.
    pub fn published(&self) -> Option<Arc<Published>> {
        self.shared.publisher.published()
    }

    /// Who may fetch it.
    pub fn serve(&self) -> Option<&Serve> {
        self.shared.options.serve.as_ref()
    }

    /// The current status.
    pub fn status(&self) -> Status {
        self.shared.status()
    }

    /// Whether the newest state of a key is acknowledged and in no generation yet. Reads the disk, for a few
    /// kilobytes.
    pub fn is_unpublished(&self, key: &str) -> bool {
        let change = self.shared.disk.change(key.as_bytes());
        change.is_ok_and(|change| change.is_some())
    }

    /// Wakes `wake` once, when the next build of a generation has ended.
    pub fn wake_at_next(&self, wake: &Arc<Notify>) {
        self.shared.publisher.wake_at_next(wake);
    }

    /// What shows that the files are not what was acknowledged.
    pub(crate) fn forgot(&self) -> Option<String> {
        self.shared.publisher.forgot()
    }

    /// Says whether the channel has met all of its entities since it last had to meet all of them: only then
    /// is a generation built.
    pub fn walked(&self, complete: bool) {
        publish::walked(&self.shared, complete);
    }

    /// What [`Feed::walked`] said last. It is false again when the feed starts over.
    pub(crate) fn is_walked(&self) -> bool {
        self.shared.publisher.is_complete()
    }

    /// Publishes the generation that has shrunk too much, or is empty. Returns whether one waited for it.
    ///
    /// # Errors
    /// Why it cannot be saved, as a phrase for the operator.
    pub async fn confirm(&self) -> Result<bool, String> {
        if !self.shared.publisher.waits_for_operator() {
            return Ok(false);
        }
        let shared = self.shared.clone();
        let confirmed = tokio::task::spawn_blocking(move || shared.disk.confirm()).await;
        match confirmed {
            Ok(Ok(())) => {
                self.shared.publisher.build_now();
                Ok(true)
            }
            Ok(Err(Trouble::Failed(why) | Trouble::Forgot(why))) => Err(why),
            Err(error) => Err(error.to_string()),
        }
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.shared.publisher.stop();
        // One that was opened after it, and has not taken the files over yet, got its mark before the last
        // deliveries, and shows what was published then.
        let own = &self.shared;
        let open = lock(&OPEN);
        let feeds = open.get(own.disk.folder()).into_iter().flatten();
        let later = feeds.skip_while(|feed| !std::ptr::eq(feed.as_ptr(), Arc::as_ptr(own)));
        let later: Vec<_> = later.skip(1).filter_map(Weak::upgrade).collect();
        drop(open);
        for feed in later {
            feed.take_mark_of(own);
            // What cannot be opened is noticed when the files are used.
            let _ = feed.publisher.catch_up(&feed.disk);
        }
    }
}

/// Milliseconds since 1970.
fn millis(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

impl Shared {
    /// Takes the files over from the feeds that were opened before for the same folder. Blocking.
    fn take_over(self: &Arc<Self>) {
        // Whoever comes second waits until the first one has them.
        let mut has_files = lock(&self.has_files);
        if std::mem::replace(&mut *has_files, true) {
            return;
        }
        let earlier = {
            let mut open = lock(&OPEN);
            let Some(feeds) = open.get_mut(self.disk.folder()) else {
                return;
            };
            let own = |feed: &Weak<Shared>| std::ptr::eq(feed.as_ptr(), Arc::as_ptr(self));
            let at = feeds.iter().position(own).unwrap_or(0);
            feeds.drain(..at).collect::<Vec<_>>()
        };
        for feed in earlier.iter().filter_map(Weak::upgrade) {
            feed.disk.retire();
            feed.publisher.stop_putting();
            self.take_mark_of(&feed);
        }
        // One of them may have published since this one was opened.
        let _ = self.publisher.catch_up(&self.disk);
    }

    /// Takes the mark of the feed that had the files before.
    fn take_mark_of(&self, earlier: &Shared) {
        let same = earlier.options.place() == self.options.place();
        if let Some(mark) = earlier.disk.mark().filter(|_| same) {
            self.disk.take_mark(mark, true);
        }
    }

    /// Keeps the states of items. Blocking.
    fn keep(self: &Arc<Self>, attempt: Attempt<'_>) -> Vec<Outcome> {
        self.take_over();
        let mut outcomes = Vec::with_capacity(attempt.items.len());
        let (mut changes, mut dropped) = (Vec::with_capacity(attempt.items.len()), 0);
        for item in attempt.items {
            let record = match &item.rendering {
                None => Ok(None),
                Some(rendering) => self.writer.record(&rendering.body).map(Some),
            };
            let record = match record {
                Err(reason) => {
                    outcomes.push(Outcome::Refused {
                        reason,
                        after_tries: false,
                    });
                    continue;
                }
                Ok(record) => record,
            };
            dropped += record.as_ref().map_or(0, |(_, dropped)| *dropped);
            outcomes.push(Outcome::Delivered);
            changes.push(Change {
                key: item.key.as_bytes().into(),
                sequence: item.sequence.0,
                record: record.map(|(record, _)| record.into()),
            });
        }
        if changes.is_empty() {
            return outcomes;
        }
        let (now, head) = (millis(attempt.now), attempt.head.0);
        let trouble = self.disk.add(changes, now, head, attempt.foreign).err();
        self.publisher.kept(trouble.as_ref(), dropped);
        let Some(trouble) = trouble else {
            return outcomes;
        };
        let failed = |outcome: Outcome| match (outcome, &trouble) {
            (Outcome::Delivered, Trouble::Forgot(reason)) => Outcome::Forgot {
                reason: reason.clone(),
            },
            (Outcome::Delivered, Trouble::Failed(reason)) => Outcome::Trip {
                reason: reason.clone(),
            },
            (outcome, _) => outcome,
        };
        outcomes.into_iter().map(failed).collect()
    }

    /// Opens the files for a look. Blocking.
    fn opened(self: &Arc<Self>) -> Result<(), String> {
        self.take_over();
        self.disk.ensure().map_err(|trouble| match trouble {
            Trouble::Forgot(why) | Trouble::Failed(why) => why,
        })
    }

    /// Compares what is held with what should be. Blocking.
    fn compare(self: &Arc<Self>, items: &[Item]) -> Result<Vec<Held>, String> {
        self.opened()?;
        let base = self.disk.base();
        let outside = match (&self.options.path, &base) {
            (Some(path), Some(base)) => self.publisher.outside(path, base)?,
            _ => None,
        };
        let compared = items.iter().map(|item| {
            self.compare_one(item, base.as_deref(), outside.as_deref())
                .unwrap_or_else(|error| Held::Unknown(format!("the feed cannot be read: {error}")))
        });
        Ok(compared.collect())
    }

    fn compare_one(
        &self,
        item: &Item,
        base: Option<&sorted::Base>,
        outside: Option<&std::fs::File>,
    ) -> std::io::Result<Held> {
        let expected = match &item.rendering {
            None => None,
            Some(rendering) => match self.writer.record(&rendering.body) {
                Ok((record, _)) => Some(record),
                Err(reason) => return Ok(Held::Unknown(reason)),
            },
        };
        // What is in no generation yet will be in the next one.
        let key = item.key.as_bytes();
        let (sequence, held) = match self.disk.change(key)? {
            Some(change) => (change.sequence, change.record.map(Vec::from)),
            None => match base
                .map(|base| base.find(key).map(|found| (base, found)))
                .transpose()?
            {
                Some((base, Some((sequence, at, length)))) => {
                    let own = base.read(at, length)?;
                    let there = match outside {
                        None => own,
                        Some(file) => {
                            use std::os::unix::fs::FileExt;
                            let mut bytes = vec![0; own.len()];
                            match file.read_exact_at(&mut bytes, at) {
                                Ok(()) if bytes == own => own,
                                _ => return Ok(Held::Different(vec!["the file at path".into()])),
                            }
                        }
                    };
                    (sequence, Some(there))
                }
                _ => (0, None),
            },
        };
        Ok(match (expected, held) {
            (None, None) => Held::Same,
            (Some(_), None) => Held::Missing,
            (None, Some(_)) => Held::Extra,
            (Some(expected), Some(held)) if expected == held => Held::Same,
            (Some(_), Some(_)) if sequence < item.sequence.0 => Held::Older(Sequence(sequence)),
            (Some(_), Some(_)) => Held::Different(Vec::new()),
        })
    }
}

impl Target for Feed {
    fn nature(&self) -> Nature {
        Nature {
            keyed: true,
            batch_max: usize::MAX,
            deletes_alone: false,
            compares: true,
        }
    }

    fn place(&self) -> u64 {
        self.shared.options.place()
    }

    fn check(&self) -> BoxFuture<'_, Result<Vec<String>, String>> {
        let path = self.shared.options.path.clone();
        Box::pin(async move {
            if let Some(path) = path {
                let looked = tokio::task::spawn_blocking(move || export::check(&path)).await;
                looked.map_err(|error| error.to_string())??;
            }
            match self.shared.publisher.to() {
                Some(to) => to.check().await,
                None => Ok(Vec::new()),
            }
        })
    }

    fn deliver<'a>(&'a self, attempt: Attempt<'a>) -> BoxFuture<'a, Delivery> {
        let (shared, items) = (self.shared.clone(), attempt.items.to_vec());
        let count = items.len();
        let Attempt {
            form,
            trace,
            now,
            head,
            foreign,
            ..
        } = attempt;
        Box::pin(async move {
            let keeping = async move {
                let place = shared.places.clone().acquire_owned().await;
                let kept = tokio::task::spawn_blocking(move || {
                    let _place = place;
                    shared.keep(Attempt {
                        items: &items,
                        form,
                        trace,
                        now,
                        head,
                        foreign,
                    })
                });
                kept.await
            };
            let reason = match tokio::time::timeout(TIMEOUT, keeping).await {
                Ok(Ok(outcomes)) => return outcomes.into(),
                Ok(Err(error)) => format!("the delivery was cut short: {error}"),
                Err(_) => format!("the disk has not answered within {} s", TIMEOUT.as_secs()),
            };
            let outcome = Outcome::Retry {
                reason,
                maybe_applied: true,
            };
            vec![outcome; count].into()
        })
    }

    fn mark(&self) -> Option<Vec<u8>> {
        let mark = self.shared.disk.mark()?;
        Some(mark.to_bytes())
    }

    fn take_mark(&self, mark: Mark) {
        // One that cannot be read is that of nothing that is there.
        let position = Position::from_bytes(&mark.bytes).unwrap_or_default();
        self.shared.disk.take_mark(position, mark.exact);
    }

    fn start_over(&self) {
        self.walked(false);
        self.shared.disk.start_over();
        self.shared.publisher.started_over();
    }

    fn compare<'a>(&'a self, items: &'a [Item]) -> BoxFuture<'a, Result<Vec<Held>, String>> {
        let (shared, items) = (self.shared.clone(), items.to_vec());
        Box::pin(async move {
            let elsewhere = match self.shared.publisher.to() {
                Some(to) => to.differs().await?,
                None => false,
            };
            let compared = tokio::task::spawn_blocking(move || shared.compare(&items)).await;
            let mut compared = compared.map_err(|error| error.to_string())??;
            if elsewhere {
                let same = compared.iter_mut().filter(|held| **held == Held::Same);
                same.for_each(|held| *held = Held::Different(vec!["the objects at to".into()]));
            }
            Ok(compared)
        })
    }

    fn keys<'a>(&'a self, after: Option<&'a str>) -> BoxFuture<'a, Result<Page, String>> {
        let (shared, after) = (self.shared.clone(), after.map(str::to_owned));
        Box::pin(async move {
            let listed = tokio::task::spawn_blocking(move || {
                shared.opened()?;
                let listed = shared.disk.keys(after.as_deref().map(str::as_bytes), PAGE);
                listed.map_err(|error| format!("the feed cannot be read: {error}"))
            });
            let (keys, next) = listed.await.map_err(|error| error.to_string())??;
            let text = |key: Box<[u8]>| String::from_utf8_lossy(&key).into_owned();
            Ok(Page {
                keys: keys.into_iter().map(text).collect(),
                next: next.map(text),
            })
        })
    }

    fn feed(&self) -> Option<&Feed> {
        Some(self)
    }
}

#[cfg(test)]
mod tests;
