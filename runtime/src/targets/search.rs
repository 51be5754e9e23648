//! Search engines as targets: each entity is a document of an index.
//!
//! The status of an answer says little here: a batch is answered with 200 and fails item by item, or is
//! accepted and fails later. Each dialect has a file that knows its requests and judges its answers by
//! what they say: the *entity* is at fault (refused), there are too many requests (throttled), or the
//! *target* is in trouble (tripped), which never refuses an entity. The target looks for
//! its index before the first write and after trouble, and before each write that would create it; if
//! the index is gone, the target trips.

mod algolia;
mod compare;
mod document;
mod elasticsearch;
#[cfg(any(test, feature = "fuzz"))]
pub(super) mod fuzz;
mod id;
mod look;
mod meilisearch;
mod typesense;

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use serde_json::Value;
use xxhash_rust::xxh3::xxh3_64;

pub(crate) use self::id::{PREFIX_BYTES_MAX, is_prefix};
use self::look::Index;
use super::http::status::{self, Answer, Asked, uncertain};
use super::http::{self, Address, Client, Method, hints};
use super::{
    Attempt, BoxFuture, Delivery, Held, Item, Mark, Nature, Outcome, Page, Target, Unusable,
};
use crate::sync::lock;

/// The documents and the bytes of a request at most, unless a channel says otherwise. A request holds what
/// is ready when it starts, so these are reached only by a backlog.
pub const BATCH: (usize, usize) = (1_000, 5 * 1024 * 1024);

/// A search engine as configured.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Whose requests it understands.
    pub dialect: Dialect,
    /// The URL of the engine, without a path of its own.
    pub url: Address,
    /// The index (a collection, for Typesense).
    pub index: String,
    /// Written before each id, where several channels share an index.
    pub prefix: String,
    /// Whether documents have `weir_key`, `weir_sequence` and `weir_digest`.
    pub meta: bool,
    /// Credentials, timeout and connections.
    pub http: http::Options,
}

/// Whose requests a search engine understands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Elasticsearch 7 and later.
    Elasticsearch,
    /// OpenSearch.
    OpenSearch,
    /// Meilisearch.
    Meilisearch,
    /// Typesense.
    Typesense,
    /// Algolia.
    Algolia,
}

impl Dialect {
    /// All dialects, with their words in the configuration.
    pub const ALL: [(&str, Dialect); 5] = [
        ("elasticsearch", Dialect::Elasticsearch),
        ("opensearch", Dialect::OpenSearch),
        ("meilisearch", Dialect::Meilisearch),
        ("typesense", Dialect::Typesense),
        ("algolia", Dialect::Algolia),
    ];

    /// Its word in the configuration.
    pub fn word(self) -> &'static str {
        let found = Dialect::ALL.iter().find(|(_, dialect)| *dialect == self);
        found.map_or("", |(word, _)| word)
    }
}

impl Options {
    /// The timeout of a dialect, unless configured: a Typesense that is given up on goes on writing, and
    /// repeating the request makes it worse.
    pub fn timeout(dialect: Dialect) -> Duration {
        match dialect {
            Dialect::Typesense => Duration::from_secs(300),
            _ => Duration::from_secs(30),
        }
    }

    /// The requirements of a search engine.
    pub fn nature(&self) -> Nature {
        Nature {
            keyed: true,
            batch_max: usize::MAX,
            deletes_alone: false,
            compares: true,
        }
    }

    /// Where the documents are: two targets of the same place overwrite each other's.
    pub fn place(&self) -> String {
        let url = self.url.as_str().trim_end_matches('/');
        format!("search {url} {} {}", self.index, self.prefix)
    }
}

/// A search engine that is ready to deliver.
pub struct Search {
    engine: Engine,
    place: u64,
}

/// What all dialects need.
struct Engine {
    options: Options,
    client: Client,
    /// Where the engine is reached, without a slash at the end: the configured host first.
    hosts: Vec<String>,
    /// The place of the one that was reached last.
    host: AtomicUsize,
    /// What is known of the index; `None` before the first look, after trouble, and always for an index
    /// that a write would create.
    index: Mutex<Option<Index>>,
    /// By what the engine recognises the index, of the look before the latest delivery.
    mark: Mutex<Option<Vec<u8>>>,
    elasticsearch: elasticsearch::State,
}

impl Search {
    /// Prepares a search engine without opening a connection.
    ///
    /// # Errors
    /// See [`Client::open`].
    pub fn open(options: &Options) -> Result<Search, Unusable> {
        Ok(Search {
            // Another engine at the same URL holds nothing yet.
            place: xxh3_64(format!("{} {}", options.dialect.word(), options.place()).as_bytes()),
            engine: Engine {
                client: Client::open(&options.http, &options.url, &[])?,
                hosts: match options.dialect {
                    Dialect::Algolia => algolia::hosts(&options.url),
                    _ => vec![options.url.as_str().trim_end_matches('/').to_owned()],
                },
                host: AtomicUsize::new(0),
                options: options.clone(),
                index: Mutex::default(),
                mark: Mutex::default(),
                elasticsearch: elasticsearch::State::default(),
            },
        })
    }

    async fn attempt(&self, attempt: Attempt<'_>) -> Delivery {
        let engine = &self.engine;
        let known = *lock(&engine.index);
        let index = match known {
            Some(index) => index,
            None => match engine.look(attempt.now).await {
                Ok(index) => {
                    *lock(&engine.index) = (!engine.creates(index)).then_some(index);
                    index
                }
                Err(outcome) => {
                    // Nothing was written, whatever became of the look.
                    let outcome = match outcome {
                        Outcome::Retry { reason, .. } => Outcome::Retry {
                            reason,
                            maybe_applied: false,
                        },
                        other => other,
                    };
                    return vec![outcome; attempt.items.len()].into();
                }
            },
        };
        let delivery = match engine.options.dialect {
            Dialect::Elasticsearch | Dialect::OpenSearch => {
                elasticsearch::deliver(engine, index, attempt).await
            }
            Dialect::Meilisearch => meilisearch::deliver(engine, attempt).await,
            Dialect::Typesense => typesense::deliver(engine, attempt).await,
            Dialect::Algolia => algolia::deliver(engine, attempt).await,
        };
        let trouble = |outcome: &Outcome| {
            matches!(
                outcome,
                Outcome::Trip { .. } | Outcome::Retry { .. } | Outcome::Pause { .. }
            )
        };
        if delivery.outcomes.iter().any(trouble) {
            *lock(&engine.index) = None;
        }
        delivery
    }
}

impl Target for Search {
    fn nature(&self) -> Nature {
        self.engine.options.nature()
    }

    fn place(&self) -> u64 {
        self.place
    }

    fn credentials(&self) -> Option<Vec<u8>> {
        self.engine.client.credentials()
    }

    fn take_credentials(&self, kept: &[u8]) {
        self.engine.client.take_credentials(kept);
    }

    fn check(&self) -> BoxFuture<'_, Result<Vec<String>, String>> {
        Box::pin(async {
            let engine = &self.engine;
            // Where there are other hosts, the first need not be reached.
            if engine.hosts.len() == 1 {
                let untried = engine.client.reach(&engine.options.url).await?;
                // Whoever asks for the index needs a token, and this one would be used up.
                if !untried.is_empty() {
                    let why = untried.join("; ");
                    return Ok(vec![format!("the index was not looked at: {why}")]);
                }
            }
            let now = SystemTime::now();
            engine.look(now).await.map_err(http::reason)?;
            engine.inspect(now).await
        })
    }

    fn deliver<'a>(&'a self, attempt: Attempt<'a>) -> BoxFuture<'a, Delivery> {
        Box::pin(self.attempt(attempt))
    }

    fn mark(&self) -> Option<Vec<u8>> {
        lock(&self.engine.mark).clone()
    }

    fn take_mark(&self, mark: Mark) {
        *lock(&self.engine.mark) = Some(mark.bytes);
    }

    fn start_over(&self) {
        *lock(&self.engine.mark) = None;
    }

    fn compare<'a>(&'a self, items: &'a [Item]) -> BoxFuture<'a, Result<Vec<Held>, String>> {
        Box::pin(self.engine.compare(items))
    }

    fn keys<'a>(&'a self, after: Option<&'a str>) -> BoxFuture<'a, Result<Page, String>> {
        Box::pin(self.engine.keys(after))
    }
}

/// The documents of an attempt, and what there is to delete.
struct Written {
    /// The ids of all items, in order.
    ids: Vec<String>,
    /// One a line.
    documents: Vec<u8>,
    /// The places of the items whose documents these are.
    puts: Vec<usize>,
    /// The places of the items to delete.
    deletes: Vec<usize>,
    /// The outcomes of items that have no document.
    outcomes: Vec<Option<Outcome>>,
}

/// An answer of an engine.
struct Reply {
    status: u16,
    /// Why this is only the beginning of the answer; `None` if it is complete.
    cut: Option<String>,
    /// The body, if it is JSON.
    body: Option<Value>,
    /// The body, redacted, so that it may be quoted.
    text: Vec<u8>,
    /// How long the engine asks Weir to wait.
    wait: Option<Duration>,
}

impl Reply {
    fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The outcome of its status for each of `items` items.
    fn by_status(&self, items: usize) -> Vec<Outcome> {
        let asked = Asked {
            by_key: false,
            delete: false,
            items,
        };
        let answer = Answer {
            status: self.status,
            retry_after: self.wait,
            body: &self.text,
        };
        vec![status::meaning(asked, answer); items]
    }

    /// What it said, for users.
    fn described(&self) -> String {
        status::describe(self.status, &self.text)
    }

    /// A text in its body.
    fn str(&self, pointer: &str) -> &str {
        let body = self.body.as_ref();
        let value = body.and_then(|body| body.pointer(pointer));
        value.and_then(Value::as_str).unwrap_or_default()
    }

    /// The outcome of items of which the answer says nothing: if it was cut off because it is too long,
    /// fewer of them are sent at once.
    fn says_nothing(&self, why: String, items: usize) -> Outcome {
        match &self.cut {
            Some(reason) if items > 1 => again(reason, true),
            _ => uncertain(why),
        }
    }

    fn trip(&self) -> Outcome {
        Outcome::Trip {
            reason: self.described(),
        }
    }

    fn throttled(&self) -> Outcome {
        Outcome::Throttled {
            reason: self.described(),
            after: self.wait,
        }
    }
}

impl Engine {
    /// The id of an item.
    fn id(&self, item: &Item) -> String {
        id::of(&self.options.prefix, &item.key)
    }

    /// The ids of items, in order.
    fn ids(&self, items: &[Item]) -> Vec<String> {
        items.iter().map(|item| self.id(item)).collect()
    }

    /// Writes the documents of an attempt, one a line with its id, for the engines that take deletions in
    /// requests of their own.
    fn lines(&self, items: &[Item]) -> Written {
        let mut written = Written {
            ids: self.ids(items),
            documents: Vec::new(),
            puts: Vec::new(),
            deletes: Vec::new(),
            outcomes: vec![None; items.len()],
        };
        for (at, item) in items.iter().enumerate() {
            if item.rendering.is_none() {
                written.deletes.push(at);
                continue;
            }
            let from = written.documents.len();
            let id = Some(("id", written.ids[at].as_str()));
            match document::write(item, id, self.options.meta, &mut written.documents) {
                Ok(()) => {
                    written.documents.push(b'\n');
                    written.puts.push(at);
                }
                Err(reason) => {
                    written.documents.truncate(from);
                    written.outcomes[at] = Some(refused(reason));
                }
            }
        }
        written
    }

    /// Makes a request at a path of the engine. If a host cannot be reached, so that nothing was sent, the
    /// next one is tried.
    ///
    /// # Errors
    /// The outcome, if there is no answer.
    async fn ask(
        &self,
        method: Method,
        path: &str,
        mut body: Option<(&'static str, Vec<u8>)>,
        now: SystemTime,
    ) -> Result<Reply, Outcome> {
        let (hosts, first) = (self.hosts.len(), self.host.load(Ordering::Relaxed));
        let mut tries = (0..hosts).map(|next| (first + next) % hosts);
        let answered = loop {
            let host = tries.next().unwrap_or(0);
            let url = format!("{}{path}", self.hosts[host]);
            let left = tries.len() > 0;
            // A body has many megabytes, so the last host gets it and not a copy.
            let body = if left { body.clone() } else { body.take() };
            match self.client.send(method.clone(), &url, body).await {
                Err(Outcome::Trip { .. }) if left => {}
                answered => {
                    self.host.store(host, Ordering::Relaxed);
                    break answered?;
                }
            }
        };
        let status = answered.parts.status.as_u16();
        let wait = hints::wait(&hints::Hinting {
            status,
            headers: &answered.parts.headers,
            body: &answered.body,
            now,
        });
        // Whatever of the answer is quoted later is without our secrets, the token included.
        let text = self.client.redactor(&answered).redact(&answered.body);
        let text = text.into_owned();
        Ok(Reply {
            status,
            cut: answered.cut,
            body: serde_json::from_slice(&text).ok(),
            text,
            wait,
        })
    }
}

/// Whether an attempt with this outcome may have been applied.
fn is_uncertain(outcome: &Outcome) -> bool {
    matches!(
        outcome,
        Outcome::Retry {
            maybe_applied: true,
            ..
        }
    )
}

/// One outcome for each item that was sent, in its place among all items of the attempt. Those that were
/// not sent have theirs already.
fn placed(
    mut outcomes: Vec<Option<Outcome>>,
    sent: &[usize],
    of_sent: Vec<Outcome>,
) -> Vec<Outcome> {
    for (at, outcome) in sent.iter().zip(of_sent) {
        outcomes[*at] = Some(outcome);
    }
    outcomes
        .into_iter()
        .map(|outcome| {
            outcome.unwrap_or_else(|| uncertain("the response does not name this item".into()))
        })
        .collect()
}

fn refused(reason: String) -> Outcome {
    Outcome::Refused {
        reason,
        after_tries: false,
    }
}

fn again(reason: &str, too_long: bool) -> Outcome {
    Outcome::Split {
        reason: reason.to_owned(),
        too_long,
    }
}

#[cfg(test)]
mod tests;
