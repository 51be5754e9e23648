//! The last generation in a bucket: the plain file, and the packed one beside it as a file of its own.
//!
//! A task of its own puts what is published, so a bucket that is away delays no generation. An object appears
//! when the store has the whole of it. What is there already is not put again. A request without an answer
//! may still be carried out after its successor, so the objects are looked at once more when that is over;
//! after a start too, because the last request of the process before is unknown.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::Instant;
use xxhash_rust::xxh3::xxh3_64;

use super::publish::Published;
use super::{Form, Options, millis};
use crate::sync::lock;
use crate::targets::bucket::{Condition, Object, Place, SPACING, Store, Stored};
use crate::targets::{Memory, Outcome, Unusable, http};

/// The object that each generation is put to as well.
#[derive(Clone, Debug, PartialEq)]
pub struct To {
    /// Its bucket.
    pub place: Place,
    /// Its name. The packed form has `.gz` behind it.
    pub name: String,
}

impl To {
    /// The names of the packed object and of the plain one.
    pub fn names(&self) -> [String; 2] {
        [format!("{}.gz", self.name), self.name.clone()]
    }
}

/// What is in the bucket, for users.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Put {
    /// The generation that was put last; `None` if it is not known yet.
    pub generation: Option<u64>,
    /// When it was put or, after a start, found there, in milliseconds since 1970.
    pub at: Option<u64>,
    /// Why the last generation is not there; `None` if nothing is wrong.
    pub reason: Option<String>,
}

/// Puts generations into a bucket until it is stopped.
pub(super) struct Putter {
    inner: Arc<Inner>,
    task: Mutex<Option<AbortHandle>>,
}

struct Inner {
    to: To,
    store: Store,
    /// The wait after a failure.
    pause: Duration,
    /// The least time between two writes of one object.
    spacing: Duration,
    state: Mutex<State>,
    wake: Notify,
}

#[derive(Default)]
struct State {
    newest: Option<Arc<Published>>,
    put: Put,
    /// The digests of the objects that were put and acknowledged, in the order of [`To::names`], unless another
    /// request may have overwritten them.
    acknowledged: [Option<String>; 2],
}

impl Putter {
    /// Prepares the bucket without opening a connection.
    ///
    /// # Errors
    /// See [`Store::open`].
    pub(super) fn open(
        to: &To,
        options: &Options,
        memory: Arc<dyn Memory>,
    ) -> Result<Putter, Unusable> {
        let spacing = match to.place.is_slow_for_one_object() {
            true => SPACING,
            false => Duration::ZERO,
        };
        let inner = Inner {
            store: Store::open(&to.place, memory)?,
            to: to.clone(),
            // A feed of a day does not wait for a day because the bucket was away for a minute.
            pause: options.interval.min(Options::INTERVAL),
            spacing,
            state: Mutex::default(),
            wake: Notify::new(),
        };
        Ok(Putter {
            inner: Arc::new(inner),
            task: Mutex::default(),
        })
    }

    /// Takes the generation that is to be in the bucket. It may be one that is there already.
    pub(super) fn takes(&self, generation: Arc<Published>) {
        lock(&self.inner.state).newest = Some(generation);
        self.inner.wake.notify_one();
    }

    /// Begins to put, on the runtime of the caller.
    pub(super) fn starts(&self) {
        let task = tokio::spawn(run(self.inner.clone()));
        *lock(&self.task) = Some(task.abort_handle());
    }

    /// Gives up. The parts of an unfinished upload are removed.
    pub(super) fn stop(&self) {
        if let Some(task) = lock(&self.task).take() {
            task.abort();
        }
    }

    pub(super) fn status(&self) -> Put {
        lock(&self.inner.state).put.clone()
    }

    /// Whether the bucket does not hold what was put there. Changes nothing.
    ///
    /// # Errors
    /// Why the bucket cannot be asked, as a phrase for the operator.
    pub(super) async fn differs(&self) -> Result<bool, String> {
        let inner = &*self.inner;
        let newest = {
            let state = lock(&inner.state);
            let put = |it: &&Arc<Published>| state.put.generation == Some(it.id);
            state.newest.as_ref().filter(put).cloned()
        };
        // One that is not there yet is owed, which the status says.
        let Some(newest) = newest else {
            return Ok(false);
        };
        for (name, form, content_type) in inner.forms(&newest) {
            match inner.store.look(&name).await {
                Ok(stored) if inner.is_there(stored.as_ref(), form, content_type) => {}
                Ok(_) => return Ok(true),
                // Whoever may only write cannot tell.
                Err(Outcome::Trip { .. } | Outcome::Refused { .. }) => return Ok(false),
                Err(outcome) => return Err(http::reason(outcome)),
            }
        }
        Ok(false)
    }

    /// Looks at the bucket: the connection, the rights, the clock.
    ///
    /// # Errors
    /// What is wrong, as a phrase for the operator.
    pub(super) async fn check(&self) -> Result<Vec<String>, String> {
        let checked = self.inner.store.check(&self.inner.to.name).await;
        let checked =
            checked.map_err(|why| format!("the feed cannot be put to its bucket: {why}"))?;
        let may_not_list = (!checked.may_list).then(|| {
            "these credentials may not list the bucket (s3:ListBucket), so whether the feed can be put there is seen when it is".to_owned()
        });
        Ok(checked.skew.into_iter().chain(may_not_list).collect())
    }
}

impl Drop for Putter {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Puts whatever is newest, until it is aborted.
async fn run(inner: Arc<Inner>) {
    let late = inner.to.place.late();
    let mut unanswered = Some(Instant::now());
    let (mut again, mut earliest) = (None, Instant::now());
    loop {
        let later = async {
            match again {
                Some(again) => tokio::time::sleep_until(again).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = later => {}
            () = inner.wake.notified() => {}
        }
        tokio::time::sleep_until(earliest).await;
        let Some(newest) = lock(&inner.state).newest.clone() else {
            continue;
        };
        if unanswered.is_some_and(|since: Instant| since.elapsed() >= late) {
            unanswered = None;
            lock(&inner.state).acknowledged = Default::default();
        }
        let put = inner.put(&newest).await;
        let now = Instant::now();
        match &put {
            Ok(_) => {
                earliest = now + inner.spacing;
                again = unanswered.map(|since| since + late);
            }
            Err(outcome) => {
                let asked = match outcome {
                    Outcome::Throttled { after, .. } => after.unwrap_or_default(),
                    _ => Duration::ZERO,
                };
                earliest = now + inner.pause.max(asked);
                again = Some(earliest);
                if matches!(
                    outcome,
                    Outcome::Retry {
                        maybe_applied: true,
                        ..
                    }
                ) {
                    unanswered = Some(now);
                }
            }
        }
        inner.note(&newest, put);
    }
}

impl Inner {
    /// The objects of a generation: name, form and media type.
    fn forms<'a>(&self, generation: &'a Published) -> [(String, &'a Form, &'a str); 2] {
        let [packed, plain] = self.to.names();
        [
            (packed, &generation.gzip, "application/gzip"),
            (plain, &generation.plain, &generation.content_type),
        ]
    }

    fn is_there(&self, stored: Option<&Stored>, form: &Form, content_type: &str) -> bool {
        let [_, of_digest, _] = self.to.place.cloud.metadata_names();
        stored.is_some_and(|stored| {
            stored.bytes == form.length
                && stored.value(of_digest) == Some(&digest(form, content_type))
        })
    }

    /// Puts what is not there yet. Returns whether that was anything.
    async fn put(&self, generation: &Published) -> Result<bool, Outcome> {
        let mut anything = false;
        let [of_sequence, of_digest, _] = self.to.place.cloud.metadata_names();
        for (at, (name, form, content_type)) in self.forms(generation).into_iter().enumerate() {
            let digest = digest(form, content_type);
            match self.store.look(&name).await {
                Ok(stored) if self.is_there(stored.as_ref(), form, content_type) => continue,
                Ok(_) => {}
                // Whoever may only write can still write. The answer to a look has no body that says what is
                // wrong, and that to a write has.
                Err(Outcome::Trip { .. } | Outcome::Refused { .. }) => {
                    if lock(&self.state).acknowledged[at].as_ref() == Some(&digest) {
                        continue;
                    }
                }
                Err(outcome) => return Err(outcome),
            }
            let object = Object {
                name,
                content_type: content_type.to_owned(),
                metadata: vec![
                    (of_sequence, generation.sequence.to_string()),
                    (of_digest, digest.clone()),
                ],
                condition: Condition::Any,
            };
            lock(&self.state).acknowledged[at] = None;
            let put = self.store.put_file(object, form.file.clone(), form.length);
            match put.await {
                Outcome::Delivered => lock(&self.state).acknowledged[at] = Some(digest),
                outcome => return Err(outcome),
            }
            anything = true;
        }
        Ok(anything)
    }

    fn note(&self, generation: &Published, put: Result<bool, Outcome>) {
        let (object, id) = (&*self.to.name, generation.id);
        let mut state = lock(&self.state);
        match put {
            Ok(anything) => {
                if anything || state.put.generation != Some(id) {
                    state.put.at = Some(millis(SystemTime::now()));
                }
                state.put.generation = Some(id);
                if state.put.reason.take().is_some() {
                    tracing::info!(object, id, "the feed is put to its bucket again");
                }
            }
            Err(outcome) => {
                let why = http::reason(outcome);
                if state.put.reason.is_none() {
                    let seconds = self.pause.as_secs_f32();
                    tracing::warn!(
                        object,
                        id,
                        why,
                        "the feed cannot be put to its bucket; it is served all the same, and put again after {seconds} s"
                    );
                }
                state.put.reason = Some(why);
            }
        }
    }
}

/// The digest of an object: of its bytes and of the type of its content.
fn digest(form: &Form, content_type: &str) -> String {
    format!("{}-{:016x}", form.digest, xxh3_64(content_type.as_bytes()))
}
