//! Buckets of object stores as targets: an object for each entity.
//!
//! An object has its sequence, its digest and its key as metadata. A write is one request, unconditional
//! and tried once; `dispatch` tries again, with the newest state. A request without an answer may still be
//! carried out after its successor, so an object about which one was unanswered is looked at before the next
//! write, and once more after a while, until it is what it should be; which objects these are is handed on as
//! the mark, to the target of a new configuration and to the next start. The first writes after a start look
//! as well: they find a store that is ahead of Weir. What an answer means is in `meaning`.

mod carrier;
#[cfg(feature = "gcp")]
mod google;
mod meaning;
mod place;
mod store;
mod upload;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use tokio::task::JoinSet;
use tokio::time::Instant;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

pub use self::place::{AccountProof, Auth, Checksum, Cloud, Place};
pub(crate) use self::store::{Condition, Object, Store, Stored};
use super::http;
use super::names::{Named, Template};
use super::{
    Attempt, BoxFuture, Delivery, Form, Held, Item, Mark, Nature, Opening, Outcome, Page, Target,
    Unusable,
};
use crate::model::Sequence;
use crate::sync::lock;

/// The requests in flight unless configured: each object is one.
pub const CONCURRENCY: usize = 32;
/// The least time between two writes of one object, where the store asks for it.
pub const SPACING: Duration = Duration::from_secs(1);
/// The usual timeout.
pub const TIMEOUT: Duration = Duration::from_secs(30);
/// Writes after a start that look first.
const LOOKS: u32 = 16;
/// Objects with an unanswered request that are remembered. With more, every write looks first.
const UNANSWERED_MAX: usize = 10_000;
/// Objects whose last write is remembered, where writes need a distance.
const WRITTEN_MAX: usize = 16_384;
/// Names in a page of a list; no store returns more.
const PAGE: usize = 1_000;
/// Objects that a drift check looks at at the same time.
const LOOKS_IN_FLIGHT: usize = 16;
/// A key with more bytes than this, encoded, is not written into the metadata: S3 allows 2 KB in all.
const KEY_BYTES_MAX: usize = 1_536;
/// The content type of a rendering that has none.
const JSON: &str = "application/json";

/// A bucket as configured.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// The bucket.
    pub place: Place,
    /// The names of its objects.
    pub name: Template,
    /// Whether each write looks first and is made only if nothing has changed since.
    pub precondition: bool,
    /// The least time between two writes of one object.
    pub spacing: Duration,
}

impl Options {
    /// Where the objects are: two targets of the same place overwrite each other's.
    pub fn place(&self) -> String {
        format!("bucket {} {}", self.place.shown(), self.name.as_str())
    }
}

/// A bucket that is ready to deliver.
pub struct Bucket {
    inner: Arc<Inner>,
    place: u64,
}

struct Inner {
    options: Options,
    store: Store,
    /// How many of the next writes look first.
    looks: AtomicU32,
    /// Objects with a request that had no answer, by the hash of their names: since when.
    unanswered: Mutex<HashMap<u64, Instant>>,
    /// When objects were written, by the hash of their names.
    written: Mutex<HashMap<u64, Instant>>,
}

impl Bucket {
    /// Prepares a bucket without opening a connection.
    ///
    /// # Errors
    /// See [`Store::open`].
    pub fn open(options: &Options, opening: &Opening) -> Result<Bucket, Unusable> {
        let mut place = options.place();
        if options.name.slashes() {
            // Keys with a slash have other names then.
            place.push_str(" folders");
        }
        Ok(Bucket {
            place: xxh3_64(place.as_bytes()),
            inner: Arc::new(Inner {
                store: Store::open(&options.place, opening.memory.clone())?,
                options: options.clone(),
                looks: AtomicU32::new(LOOKS),
                unanswered: Mutex::default(),
                written: Mutex::default(),
            }),
        })
    }
}

impl Inner {
    /// The name of an item's object.
    fn name(&self, item: &Item) -> Result<String, String> {
        let most = Cloud::NAME_BYTES_MAX;
        self.options
            .name
            .name(&item.entity.entity_type, &item.key, most, most)
    }

    /// See [`Place::late`].
    fn late(&self) -> Duration {
        self.options.place.late()
    }

    async fn deliver(&self, item: &Item, attempt: &Attempt<'_>) -> Outcome {
        let name = match self.name(item) {
            Ok(name) => name,
            // It cannot be there.
            Err(_) if item.rendering.is_none() => return Outcome::Delivered,
            Err(reason) => {
                return Outcome::Refused {
                    reason,
                    after_tries: false,
                };
            }
        };
        let hash = xxh3_64(name.as_bytes());
        let (unanswered, full) = {
            let unanswered = lock(&self.unanswered);
            let full = unanswered.len() >= UNANSWERED_MAX;
            (unanswered.get(&hash).copied(), full)
        };
        let takes_look = |looks: u32| looks.checked_sub(1);
        let first = self
            .looks
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, takes_look)
            .is_ok();
        let precondition = self.options.precondition;
        let mut condition = Condition::Any;
        let mut is_there = None;
        if precondition || first || unanswered.is_some() || full {
            match self.store.look(&name).await {
                Ok(stored) => {
                    if let Some(stored) = &stored
                        && let Some(outcome) = self.guard(stored, item, attempt)
                    {
                        return self.settled(hash, unanswered, outcome);
                    }
                    if precondition && item.rendering.is_some() {
                        condition = match stored.as_ref().map(Stored::condition) {
                            None => Condition::Nothing,
                            Some(Some(condition)) => condition,
                            Some(None) => {
                                return Outcome::Trip {
                                    reason: "the store names no ETag of an object, so that no write can depend on it: leave precondition out".to_owned(),
                                };
                            }
                        };
                    }
                    is_there = Some(self.is_there(stored.as_ref(), item));
                }
                // Whoever may only write can still write. The answer to a look has no body that says what is
                // wrong, and that to a write has.
                Err(Outcome::Trip { .. } | Outcome::Refused { .. }) if !precondition => {}
                Err(outcome) => return outcome,
            }
        }
        // It is as it should be, and a request that might change that was answered or is long over.
        let over = unanswered.is_none_or(|since| since.elapsed() >= self.late());
        if is_there == Some(true) && over {
            lock(&self.unanswered).remove(&hash);
            return Outcome::Delivered;
        }
        let outcome = match is_there {
            Some(true) => Outcome::Delivered,
            _ => {
                self.keep_distance(hash).await;
                let mut sending = Sending {
                    inner: self,
                    name: hash,
                    is_over: false,
                };
                let outcome = self.write(&name, item, condition).await;
                sending.is_over = true;
                outcome
            }
        };
        self.settled(hash, unanswered, outcome)
    }

    /// What follows from what is there, if it is not that the item is written.
    fn guard(&self, stored: &Stored, item: &Item, attempt: &Attempt<'_>) -> Option<Outcome> {
        let [sequence, ..] = self.options.place.cloud.metadata_names();
        let sequence: u64 = stored.value(sequence)?.parse().ok()?;
        let foreign =
            |foreign: super::Foreign| (foreign.first.0..=foreign.last.0).contains(&sequence);
        if sequence <= item.sequence.0 || attempt.foreign.is_some_and(foreign) {
            return None;
        }
        Some(match sequence <= attempt.head.0 {
            // A newer state of ours is there.
            true => Outcome::Delivered,
            false => Outcome::Ahead {
                reason: format!(
                    "the object of {} has the sequence {sequence}, and Weir has given out none after {}",
                    item.key, attempt.head.0
                ),
                sequence: Sequence(sequence),
            },
        })
    }

    /// Whether exactly what the item says is there.
    fn is_there(&self, stored: Option<&Stored>, item: &Item) -> bool {
        match (stored, &item.rendering) {
            // That nothing is there may also mean that there is no bucket, which a look does not tell: the
            // answer to a deletion does.
            (Some(stored), Some(_)) => {
                let [sequence, digest, _] = self.options.place.cloud.metadata_names();
                stored.value(sequence) == Some(&item.sequence.0.to_string())
                    && stored.value(digest) == digest_of(item).as_deref()
            }
            _ => false,
        }
    }

    async fn write(&self, name: &str, item: &Item, condition: Condition) -> Outcome {
        let Some(rendering) = &item.rendering else {
            return self.store.delete(name).await;
        };
        let content_type = rendering.content_type.as_deref().unwrap_or(JSON);
        // `object_store` would make no request, and would not say that it is for this object alone.
        if !content_type
            .bytes()
            .all(|byte| (b' '..=b'~').contains(&byte))
        {
            return Outcome::Refused {
                reason: format!(
                    "its renderer gives it a content type that no header can hold: {content_type:?}"
                ),
                after_tries: false,
            };
        }
        let Some(digest) = digest_of(item) else {
            return Outcome::Delivered;
        };
        let [of_sequence, of_digest, of_key] = self.options.place.cloud.metadata_names();
        let mut metadata = vec![
            (of_sequence, item.sequence.0.to_string()),
            (of_digest, digest),
        ];
        if let Some(key) = written_key(&item.key) {
            metadata.push((of_key, key));
        }
        let object = Object {
            name: name.to_owned(),
            content_type: content_type.to_owned(),
            metadata,
            condition,
        };
        let body = Bytes::copy_from_slice(rendering.body.as_bytes());
        self.store.put(object, body).await
    }

    /// Remembers whether a request was unanswered, and has what is uncertain repeated.
    fn settled(&self, name: u64, unanswered: Option<Instant>, outcome: Outcome) -> Outcome {
        match (&outcome, unanswered) {
            (
                Outcome::Retry {
                    maybe_applied: true,
                    ..
                },
                _,
            ) => {
                self.note_unanswered(name);
                outcome
            }
            (Outcome::Delivered, Some(since)) => {
                let left = self.late().saturating_sub(since.elapsed());
                if left.is_zero() {
                    lock(&self.unanswered).remove(&name);
                    return outcome;
                }
                Outcome::Repeat {
                    reason: format!(
                        "written; an earlier request had no answer and may still be carried out, so the object is looked at again after {} s",
                        left.as_secs_f32().ceil()
                    ),
                    after: left,
                }
            }
            _ => outcome,
        }
    }

    /// Remembers that a request for an object had no answer.
    fn note_unanswered(&self, name: u64) {
        let late = self.late();
        let mut unanswered = lock(&self.unanswered);
        if unanswered.len() >= UNANSWERED_MAX {
            // A request that is long over changes nothing any more.
            unanswered.retain(|_, since| since.elapsed() < late);
        }
        if unanswered.len() < UNANSWERED_MAX || unanswered.contains_key(&name) {
            unanswered.insert(name, Instant::now());
        }
    }

    /// Waits until an object may be written again.
    async fn keep_distance(&self, name: u64) {
        let spacing = self.options.spacing;
        if spacing.is_zero() {
            return;
        }
        let until = {
            let mut written = lock(&self.written);
            let now = Instant::now();
            if written.len() >= WRITTEN_MAX {
                written.retain(|_, at| *at + spacing > now);
            }
            let next = written
                .get(&name)
                .map_or(now, |at| (*at + spacing).max(now));
            if written.len() < WRITTEN_MAX {
                written.insert(name, next);
            }
            next
        };
        tokio::time::sleep_until(until).await;
    }

    async fn compare(&self, item: &Item) -> Held {
        let name = match self.name(item) {
            Ok(name) => name,
            // It cannot be there.
            Err(_) if item.rendering.is_none() => return Held::Same,
            Err(reason) => return Held::Unknown(reason),
        };
        let stored = match self.store.look(&name).await {
            Ok(stored) => stored,
            Err(outcome) => return Held::Unknown(http::reason(outcome)),
        };
        let [of_sequence, of_digest, _] = self.options.place.cloud.metadata_names();
        match (stored, &item.rendering) {
            (None, None) => Held::Same,
            (None, Some(_)) => Held::Missing,
            (Some(_), None) => Held::Extra,
            (Some(stored), Some(rendering)) => {
                let bytes = rendering.body.as_bytes().len() as u64;
                let digest = digest_of(item);
                if stored.value(of_digest) == digest.as_deref() && stored.bytes == bytes {
                    return Held::Same;
                }
                let sequence = stored.value(of_sequence);
                match sequence.and_then(|sequence| sequence.parse().ok()) {
                    Some(sequence) if sequence < item.sequence.0 => Held::Older(Sequence(sequence)),
                    _ if stored.bytes != bytes => Held::Different(vec!["size".to_owned()]),
                    _ => Held::Different(vec![of_digest.to_owned()]),
                }
            }
        }
    }

    async fn keys(&self, after: Option<&str>) -> Result<Page, String> {
        let template = &self.options.name;
        let listed = self.store.list(template.prefix(), after, PAGE).await;
        let listed = listed.map_err(http::reason)?;
        let [_, _, of_key] = self.options.place.cloud.metadata_names();
        let mut keys = Vec::with_capacity(listed.names.len());
        for name in listed.names {
            match template.key(&name) {
                Some(Named::Key(key)) => keys.push(key),
                Some(Named::Hash) => {
                    let stored = self.store.look(&name).await.map_err(http::reason)?;
                    let key = stored.as_ref().and_then(|stored| stored.value(of_key));
                    keys.extend(key.and_then(read_key));
                }
                None => {}
            }
        }
        Ok(Page {
            keys,
            next: listed.next,
        })
    }

    /// Looks at the bucket: the connection, the rights, the clock.
    async fn check(&self) -> Result<Vec<String>, String> {
        let checked = self.store.check(self.options.name.prefix()).await?;
        let may_not_list = (!checked.may_list).then(|| {
            "these credentials may not list the bucket (s3:ListBucket): deliveries can work all the same, but a drift check does not find what should not be there".to_owned()
        });
        Ok(checked.skew.into_iter().chain(may_not_list).collect())
    }
}

/// A write under way. One that is given up before its answer may be carried out all the same.
struct Sending<'a> {
    inner: &'a Inner,
    /// The hash of the object's name.
    name: u64,
    is_over: bool,
}

impl Drop for Sending<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            self.inner.note_unanswered(self.name);
        }
    }
}

/// Before a key that is written in Base64.
const BASE64: &str = "base64:";

/// A key as metadata, which is ASCII: with `%` and two digits for other bytes or, if that is too long, in
/// Base64. `None` if it is too long for metadata.
fn written_key(key: &str) -> Option<String> {
    let encoded = percent_encoding::utf8_percent_encode(key, http::ENCODED).to_string();
    let fits = |text: &String| (1..=KEY_BYTES_MAX).contains(&text.len());
    if fits(&encoded) {
        return Some(encoded);
    }
    Some(format!("{BASE64}{}", STANDARD.encode(key))).filter(fits)
}

/// A key as it was before it was metadata.
fn read_key(written: &str) -> Option<String> {
    match written.strip_prefix(BASE64) {
        Some(encoded) => String::from_utf8(STANDARD.decode(encoded).ok()?).ok(),
        None => {
            let decoded = percent_encoding::percent_decode_str(written);
            Some(decoded.decode_utf8().ok()?.into_owned())
        }
    }
}

/// The digest of an item's rendering: of its content and of the type of its content.
fn digest_of(item: &Item) -> Option<String> {
    let rendering = item.rendering.as_ref()?;
    let content_type = rendering.content_type.as_deref().unwrap_or(JSON);
    let seed = xxh3_64(content_type.as_bytes());
    let digest = xxh3_64_with_seed(rendering.body.as_bytes(), seed);
    Some(format!("{digest:016x}"))
}

impl Target for Bucket {
    fn nature(&self) -> Nature {
        Nature {
            keyed: true,
            batch_max: 1,
            deletes_alone: false,
            compares: true,
        }
    }

    fn place(&self) -> u64 {
        self.place
    }

    fn check(&self) -> BoxFuture<'_, Result<Vec<String>, String>> {
        Box::pin(self.inner.check())
    }

    fn deliver<'a>(&'a self, attempt: Attempt<'a>) -> BoxFuture<'a, Delivery> {
        debug_assert_eq!(attempt.form, Form::Single);
        Box::pin(async move {
            let mut outcomes = Vec::with_capacity(attempt.items.len());
            for item in attempt.items {
                outcomes.push(self.inner.deliver(item, &attempt).await);
            }
            outcomes.into()
        })
    }

    /// The objects about which a request is unanswered.
    fn mark(&self) -> Option<Vec<u8>> {
        let late = self.inner.late();
        // A request that is long over changes nothing any more.
        let mut names: Vec<u64> = lock(&self.inner.unanswered)
            .iter()
            .filter(|(_, since)| since.elapsed() < late)
            .map(|(name, _)| *name)
            .collect();
        names.sort_unstable();
        Some(names.into_iter().flat_map(u64::to_le_bytes).collect())
    }

    fn take_mark(&self, mark: Mark) {
        let mut unanswered = lock(&self.inner.unanswered);
        for name in mark.bytes.chunks_exact(8).take(UNANSWERED_MAX) {
            if let Ok(name) = name.try_into() {
                unanswered.insert(u64::from_le_bytes(name), Instant::now());
            }
        }
    }

    fn start_over(&self) {
        self.inner.looks.store(LOOKS, Ordering::Relaxed);
    }

    fn compare<'a>(&'a self, items: &'a [Item]) -> BoxFuture<'a, Result<Vec<Held>, String>> {
        Box::pin(async move {
            let mut found: Vec<Option<Held>> = vec![None; items.len()];
            let mut looking = JoinSet::new();
            let mut left = items.iter().enumerate();
            loop {
                while looking.len() < LOOKS_IN_FLIGHT
                    && let Some((at, item)) = left.next()
                {
                    let (inner, item) = (self.inner.clone(), item.clone());
                    looking.spawn(async move { (at, inner.compare(&item).await) });
                }
                match looking.join_next().await {
                    Some(Ok((at, held))) => found[at] = Some(held),
                    Some(Err(error)) => return Err(error.to_string()),
                    None => break,
                }
            }
            let unknown = || Held::Unknown("it was not looked at".to_owned());
            Ok(found
                .into_iter()
                .map(|held| held.unwrap_or_else(unknown))
                .collect())
        })
    }

    fn keys<'a>(&'a self, after: Option<&'a str>) -> BoxFuture<'a, Result<Page, String>> {
        Box::pin(self.inner.keys(after))
    }
}

#[cfg(test)]
pub(super) mod fake;
#[cfg(test)]
pub(super) mod tests;
