//! Files as targets: a file for each entity (`objects`), or lines that are appended to one (`lines`).
//!
//! What is acknowledged has been synced. One batch is written at a time, on a thread of its own, because a
//! disk may take long and a network file system may never answer: `deliver` returns within the timeout all
//! the same, and no later batch overtakes one that hangs.

mod folder;
mod index;
mod line;
mod lines;
mod objects;
mod walk;

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use rustix::io::Errno;
use tokio::sync::Mutex;
use xxhash_rust::xxh3::xxh3_64;

use self::folder::Folder;
use self::index::Index;
use self::lines::Lines;
use self::objects::Objects;
use self::walk::Walk;
use super::names::Template;
use super::{Attempt, BoxFuture, Delivery, Held, Item, Mark, Nature, Outcome, Page, Target};
use crate::model::Sequence;
use crate::sync::lock;

/// The usual timeout.
pub const TIMEOUT: Duration = Duration::from_secs(30);
/// How many times longer than a batch a drift check may read: a file of lines is read as a whole.
const LOOK_TIMEOUTS: u32 = 20;
/// Entities and bytes of a batch of objects, unless a channel says otherwise: files are synced one by one.
pub const BATCH_OBJECTS: (usize, usize) = (64, 8 * 1024 * 1024);
/// Entities and bytes of a batch of lines, unless a channel says otherwise: one sync for all of them.
pub const BATCH_LINES: (usize, usize) = (1_000, 4 * 1024 * 1024);
/// The longest name of a file in bytes: what eCryptfs leaves of the 255 of other file systems.
pub(super) const NAME_BYTES_MAX: usize = 143;
/// The longest path below the folder.
pub(super) const PATH_BYTES_MAX: usize = 1_024;

/// Files as configured.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// The folder, which must exist. Links in its own path are followed, and none below it.
    pub folder: PathBuf,
    /// What is written in it.
    pub form: Form,
    /// How long a batch may take.
    pub timeout: Duration,
}

/// What is written in a folder.
#[derive(Clone, Debug, PartialEq)]
pub enum Form {
    /// A file for each entity, with these names.
    Objects(Template),
    /// Lines that are appended to the file of this name.
    Lines {
        /// The name of the file.
        name: String,
        /// When a new file begins.
        rotate: Rotate,
    },
}

/// When a new file begins. The old one gets the time in its name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rotate {
    /// Before it has more bytes than this.
    pub bytes: Option<u64>,
    /// When it is older than this.
    pub every: Option<Duration>,
    /// How many old files are kept; `None` keeps all.
    pub keep: Option<usize>,
}

impl Options {
    /// Where the files are: two targets of the same place overwrite each other's.
    pub fn place(&self) -> String {
        let name = match &self.form {
            Form::Objects(template) => template.as_str(),
            Form::Lines { name, .. } => name,
        };
        format!("file {}", self.folder.join(name).display())
    }
}

/// Files that are ready to be written.
pub struct File {
    options: Options,
    place: u64,
    folder: Arc<Folder>,
    writer: Writer,
    /// Whoever writes at this place has it.
    turn: Arc<Mutex<()>>,
    /// What a drift check keeps between its pages.
    look: Arc<Mutex<Look>>,
}

/// The turns of all places. A target that a new configuration has replaced may still have a batch that waits
/// for its disk: what the new one writes must not be overwritten by it.
static TURNS: std::sync::Mutex<BTreeMap<u64, Weak<Mutex<()>>>> =
    std::sync::Mutex::new(BTreeMap::new());

/// The turn of a place, which all targets of this process share.
fn turn(place: u64) -> Arc<Mutex<()>> {
    let mut turns = lock(&TURNS);
    turns.retain(|_, turn| turn.strong_count() > 0);
    if let Some(turn) = turns.get(&place).and_then(Weak::upgrade) {
        return turn;
    }
    let turn = Arc::new(Mutex::new(()));
    turns.insert(place, Arc::downgrade(&turn));
    turn
}

/// Who writes. One batch at a time holds it.
enum Writer {
    Objects(Arc<Mutex<Objects>>, Shared),
    Lines(Arc<Mutex<Lines>>, Shared),
}

/// What is said of the writer without waiting for it.
type Shared = Arc<std::sync::Mutex<Said>>;

/// See [`Target::mark`].
#[derive(Default)]
pub(super) struct Said {
    /// How far it has come.
    pub(super) mark: Option<Vec<u8>>,
    /// How far an earlier one had come, as it was left behind.
    pub(super) before: Option<Vec<u8>>,
    /// All is owed again: what is there now is the beginning.
    pub(super) start_over: bool,
}

#[derive(Default)]
struct Look {
    index: Option<Index>,
    walk: Option<Walk>,
}

impl File {
    /// Prepares files without opening one.
    pub fn open(options: &Options) -> File {
        let folder = Arc::new(Folder::new(options.folder.clone()));
        let shared = Shared::default();
        let writer = match &options.form {
            Form::Objects(template) => {
                let objects = Objects::new(folder.clone(), template.clone(), shared.clone());
                Writer::Objects(Arc::new(Mutex::new(objects)), shared)
            }
            Form::Lines { name, rotate } => {
                let lines = Lines::new(folder.clone(), name.clone(), *rotate, shared.clone());
                Writer::Lines(Arc::new(Mutex::new(lines)), shared)
            }
        };
        let mut place = options.place();
        let turn = turn(xxh3_64(place.as_bytes()));
        if let Form::Objects(template) = &options.form
            && template.slashes()
        {
            // Keys with a slash have other names then.
            place.push_str(" folders");
        }
        File {
            place: xxh3_64(place.as_bytes()),
            options: options.clone(),
            folder,
            writer,
            turn,
            look: Arc::default(),
        }
    }

    fn shared(&self) -> &Shared {
        match &self.writer {
            Writer::Objects(_, shared) | Writer::Lines(_, shared) => shared,
        }
    }

    async fn write(&self, attempt: Attempt<'_>) -> Delivery {
        let items = attempt.items.to_vec();
        let count = items.len();
        let when = When {
            now: attempt.now,
            head: attempt.head,
            foreign: attempt.foreign,
        };
        let work = async {
            // The batch holds both until its thread ends, also if nobody waits for it any more.
            let turn = self.turn.clone().lock_owned().await;
            match &self.writer {
                Writer::Objects(objects, _) => {
                    let mut objects = objects.clone().lock_owned().await;
                    blocking(move || {
                        let _turn = turn;
                        objects.write(&items)
                    })
                    .await
                }
                Writer::Lines(lines, _) => {
                    let mut lines = lines.clone().lock_owned().await;
                    blocking(move || {
                        let _turn = turn;
                        lines.write(&items, when)
                    })
                    .await
                }
            }
        };
        let limit = self.options.timeout;
        let outcomes = match tokio::time::timeout(limit, work).await {
            Ok(Ok(outcomes)) => outcomes,
            Ok(Err(reason)) => vec![super::http::status::uncertain(reason); count],
            Err(_) => {
                let reason = format!(
                    "{} did not take the files within {limit:?}; the batch goes on when it does",
                    self.options.folder.display()
                );
                vec![super::http::status::uncertain(reason); count]
            }
        };
        outcomes.into()
    }

    /// Reads for a drift check, and not for ever.
    async fn read<T>(&self, work: impl Future<Output = Result<T, String>>) -> Result<T, String> {
        let limit = self.options.timeout * LOOK_TIMEOUTS;
        let read = tokio::time::timeout(limit, work).await;
        read.unwrap_or_else(|_| {
            Err(format!(
                "{} could not be read within {limit:?}; with a longer timeout there is more time",
                self.options.folder.display()
            ))
        })
    }
}

/// When a batch is written, and what has been given out.
#[derive(Clone, Copy)]
pub(super) struct When {
    pub(super) now: SystemTime,
    pub(super) head: Sequence,
    pub(super) foreign: Option<super::Foreign>,
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, String> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| format!("the files were not written: {error}"))
}

/// The outcome of an error of the file system: of the entity only what is its own.
pub(super) fn outcome(doing: &str, error: &io::Error) -> Outcome {
    let why = match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::NOSPC) => "the disk is full".to_owned(),
        Some(Errno::DQUOT) => "the quota is used up".to_owned(),
        Some(Errno::ROFS) => "the file system is mounted for reading only".to_owned(),
        Some(Errno::LOOP) => {
            "a link stands in its path, and links are not followed below the configured folder"
                .to_owned()
        }
        _ => error.to_string(),
    };
    let reason = format!("{doing}: {why}");
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::NAMETOOLONG) => Outcome::Refused {
            reason,
            after_tries: false,
        },
        // A folder stands where the file belongs.
        Some(Errno::ISDIR | Errno::NOTEMPTY | Errno::EXIST) => Outcome::Refused {
            reason,
            after_tries: true,
        },
        _ => Outcome::Trip { reason },
    }
}

impl Target for File {
    fn nature(&self) -> Nature {
        Nature {
            keyed: true,
            batch_max: match &self.options.form {
                Form::Objects(_) => 1_000,
                Form::Lines { .. } => 10_000,
            },
            deletes_alone: false,
            compares: false,
        }
    }

    fn place(&self) -> u64 {
        self.place
    }

    fn check(&self) -> BoxFuture<'_, Result<Vec<String>, String>> {
        Box::pin(async {
            let folder = self.folder.clone();
            let lines = match &self.options.form {
                Form::Lines { name, .. } => Some(name.clone()),
                Form::Objects(_) => None,
            };
            let limit = self.options.timeout;
            let check = blocking(move || folder.check(lines.as_deref()));
            tokio::time::timeout(limit, check)
                .await
                .unwrap_or_else(|_| Err(format!("the folder does not answer within {limit:?}")))?
        })
    }

    fn deliver<'a>(&'a self, attempt: Attempt<'a>) -> BoxFuture<'a, Delivery> {
        Box::pin(self.write(attempt))
    }

    fn mark(&self) -> Option<Vec<u8>> {
        lock(self.shared()).mark.clone()
    }

    fn take_mark(&self, mark: Mark) {
        // Whether Weir stopped by itself makes no difference: a file that has come further is as good.
        lock(self.shared()).before = Some(mark.bytes);
    }

    fn start_over(&self) {
        let mut said = lock(self.shared());
        *said = Said {
            start_over: true,
            ..Said::default()
        };
        drop(said);
        // Whoever reads now finds out by itself that the files are others.
        if let Ok(mut look) = self.look.try_lock() {
            *look = Look::default();
        }
    }

    fn compare<'a>(&'a self, items: &'a [Item]) -> BoxFuture<'a, Result<Vec<Held>, String>> {
        Box::pin(async move {
            let (folder, items) = (self.folder.clone(), items.to_vec());
            let form = self.options.form.clone();
            self.read(async {
                // One reads at a time, also if nobody waits for it any more.
                let mut look = self.look.clone().lock_owned().await;
                blocking(move || -> Result<Vec<Held>, String> {
                    match form {
                        Form::Objects(template) => {
                            let root = folder.open().map_err(|error| folder.said(&error))?;
                            let compared = items
                                .iter()
                                .map(|item| objects::compare(&folder, &root, &template, item));
                            Ok(compared.collect())
                        }
                        Form::Lines { name, .. } => {
                            let index = Index::current(look.index.take(), &folder, &name)?;
                            let held = items.iter().map(|item| index.compare(item)).collect();
                            look.index = Some(index);
                            Ok(held)
                        }
                    }
                })
                .await?
            })
            .await
        })
    }

    fn keys<'a>(&'a self, after: Option<&'a str>) -> BoxFuture<'a, Result<Page, String>> {
        Box::pin(async move {
            let folder = self.folder.clone();
            let form = self.options.form.clone();
            let after = match after.map(str::parse) {
                None => 0,
                Some(Ok(after)) => after,
                Some(Err(_)) => return Err("this is not the next page of a list".to_owned()),
            };
            self.read(async {
                let mut look = self.look.clone().lock_owned().await;
                blocking(move || -> Result<Page, String> {
                    match form {
                        Form::Objects(template) => {
                            let mut walk = Walk::at(look.walk.take(), &folder, &template, after)?;
                            let page = walk.page()?;
                            look.walk = page.next.is_some().then_some(walk);
                            Ok(page)
                        }
                        Form::Lines { name, .. } => {
                            let index = Index::current(look.index.take(), &folder, &name)?;
                            let page = index.page(&folder, after)?;
                            look.index = page.next.is_some().then_some(index);
                            Ok(page)
                        }
                    }
                })
                .await?
            })
            .await
        })
    }
}

#[cfg(test)]
mod tests;
