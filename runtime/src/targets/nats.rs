//! NATS as a target: each entity is the newest message of a subject of its own, in a JetStream stream or a
//! key-value bucket. Or, without JetStream, a message that nobody keeps.
//!
//! A stream takes a message only if it still holds the one that Weir expects under the subject
//! (`Nats-Expected-Last-Subject-Sequence`), so that a message that comes late replaces nothing newer, and an
//! acknowledgement that was lost does not store a state twice. If the stream holds another one, its headers say
//! which state that is, and `broker` judges it. Only a complete acknowledgement is a delivery; what the
//! stream or the account does not allow trips the target and refuses no entity.
//!
//! A deletion is a message too, a tombstone: purging the subject would tell consumers nothing, and would take
//! the guard away.

mod answer;
mod check;
mod connection;
mod drift;
mod name;
mod options;
mod stream;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_nats::header::{self, HeaderMap, HeaderName, HeaderValue};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use quick_cache::sync::Cache;
use tokio::time::Instant;
use xxhash_rust::xxh3::xxh3_64;

use self::answer::Answer;
use self::connection::{Connection, Silence, away, trip};
pub use self::name::{Alphabet, Template};
pub use self::options::{Auth, Form, Options, Server};
use self::stream::{Reached, Stream};
use super::broker::{self, Limits, Verdict};
use super::http::Tls;
use super::{
    Attempt, BoxFuture, Delivery, Held, Item, Mark, Nature, Outcome, Page, Target, Unusable,
};
use crate::sync::lock;

/// The entities and the bytes of an attempt at most, unless a channel says otherwise. All of its messages are
/// in flight together.
pub const BATCH: (usize, usize) = (2_000, 4 * 1024 * 1024);
/// How long an attempt may take, unless configured.
pub const TIMEOUT: Duration = Duration::from_secs(10);
/// The sequences of messages that are remembered: about 3 MB. A message of another entity costs a question.
const REMEMBERED: usize = 65_536;
/// How often a message is sent again because somebody else wrote the same subject in between.
const ROUNDS: usize = 5;
/// How long acknowledgements are waited for after the server has not permitted one of the messages. It answers
/// those that it permits at once, and those that it does not never.
const AFTER_DENIAL: Duration = Duration::from_millis(500);

/// NATS, ready to deliver.
pub struct Nats {
    options: Options,
    place: u64,
    /// The connection that is used, with the stream behind it.
    session: tokio::sync::Mutex<Option<Arc<Session>>>,
    /// The server of the latest connection.
    server: AtomicUsize,
    /// The sequence of the newest message of a subject in the stream, by the digest of the subject.
    newest: Cache<u64, u64>,
    /// Whether a subject that is not among them had a message, the last time. Then the next is read first.
    holds_others: AtomicBool,
    /// Something does not fit what is known of the stream: look at it before anything else is sent.
    doubt: AtomicBool,
    reached: Mutex<Option<Reached>>,
}

/// A connection, and the stream behind it.
struct Session {
    connection: Connection,
    /// `None` for core NATS.
    stream: Option<Stream>,
}

impl Nats {
    /// Prepares NATS without opening a connection.
    ///
    /// # Errors
    /// Certificates or credentials that cannot be used.
    pub fn open(options: &Options) -> Result<Nats, Unusable> {
        if options.tls != Tls::default() {
            super::http::transport::client_config(&options.tls, "NATS")?;
        }
        Ok(Nats {
            place: xxh3_64(options.place().as_bytes()),
            options: options.clone(),
            session: tokio::sync::Mutex::default(),
            server: AtomicUsize::new(0),
            newest: Cache::new(REMEMBERED),
            holds_others: AtomicBool::new(false),
            doubt: AtomicBool::new(false),
            reached: Mutex::default(),
        })
    }

    /// The session that is there, or a new one.
    ///
    /// # Errors
    /// The outcome of an attempt without one: nothing was sent.
    async fn session(&self) -> Result<Arc<Session>, Outcome> {
        let mut current = self.session.lock().await;
        let doubt = self.doubt.load(Ordering::Relaxed);
        if let Some(session) = &*current
            && !session.connection.has_ended()
            && session.connection.denied().is_none()
            && !doubt
        {
            return Ok(session.clone());
        }
        // It cannot be used again: whatever it has not sent yet is not sent any more.
        *current = None;
        let session = Arc::new(self.connect().await?);
        if let (Some(stream), Some(reached)) = (&session.stream, &*lock(&self.reached))
            && let Some(reason) = reached.is_lost_by(stream)
        {
            return Err(Outcome::Forgot { reason });
        }
        self.doubt.store(false, Ordering::Relaxed);
        *current = Some(session.clone());
        Ok(session)
    }

    async fn connect(&self) -> Result<Session, Outcome> {
        let first = self.server.load(Ordering::Relaxed);
        let connection = Connection::open(&self.options, first).await?;
        self.server.store(connection.place, Ordering::Relaxed);
        let stream = match self.options.is_core() {
            true => None,
            false => Some(permitted(&connection, Stream::look(&connection, &self.options)).await?),
        };
        Ok(Session { connection, stream })
    }

    /// Gives a session up, so that the next attempt has another one.
    async fn leave(&self, session: &Arc<Session>) {
        let mut current = self.session.lock().await;
        if current.as_ref().is_some_and(|it| Arc::ptr_eq(it, session)) {
            *current = None;
        }
    }

    async fn attempt(&self, attempt: Attempt<'_>) -> Delivery {
        let timeout = self.options.timeout;
        let until = Instant::now() + timeout;
        let all = |outcome: Outcome| vec![outcome; attempt.items.len()];
        let session = match tokio::time::timeout_at(until, self.session()).await {
            Ok(Ok(session)) => session,
            Ok(Err(outcome)) => return all(outcome).into(),
            Err(_) => {
                let reason = format!("NATS was not ready within {timeout:?}");
                return all(away(reason)).into();
            }
        };
        let outcomes = match &session.stream {
            Some(stream) => self.publish(&session, stream, attempt, until).await,
            None => self.announce(&session, attempt, until).await,
        };
        outcomes.into()
    }

    /// Publishes the items of an attempt all together, and waits for their acknowledgements.
    async fn publish(
        &self,
        session: &Arc<Session>,
        stream: &Stream,
        attempt: Attempt<'_>,
        until: Instant,
    ) -> Vec<Outcome> {
        let connection = &session.connection;
        let publishing = Publishing {
            nats: self,
            connection,
            stream,
            limits: attempt.into(),
        };
        let publishing = &publishing;
        let mut outcomes = vec![None; attempt.items.len()];
        let mut open: FuturesUnordered<_> = attempt
            .items
            .iter()
            .enumerate()
            .map(|(at, item)| async move { (at, publishing.settle(item).await) })
            .collect();
        let mut denial = std::pin::pin!(connection.is_denied());
        let mut denied: Option<String> = None;
        let deadline = tokio::time::sleep_until(until);
        let mut deadline = std::pin::pin!(deadline);
        loop {
            tokio::select! {
                settled = open.next() => match settled {
                    Some((at, outcome)) => outcomes[at] = Some(outcome),
                    None => break,
                },
                text = &mut denial, if denied.is_none() => {
                    denied = Some(text);
                    deadline.as_mut().reset(until.min(Instant::now() + AFTER_DENIAL));
                }
                () = &mut deadline => break,
            }
        }
        drop(open);
        let left = outcomes.iter().any(Option::is_none);
        let lost = |outcome: &Option<Outcome>| {
            matches!(
                outcome,
                Some(Outcome::Retry {
                    maybe_applied: true,
                    ..
                })
            )
        };
        if left || denied.is_some() || outcomes.iter().any(lost) {
            // Whatever is still queued there has been given up.
            self.leave(session).await;
        }
        let timeout = self.options.timeout;
        let open = match denied {
            Some(text) => trip(format!("{}: {text}", connection.server)),
            None => Outcome::Retry {
                reason: format!("no acknowledgement within {timeout:?}"),
                maybe_applied: true,
            },
        };
        let settled = |outcome: Option<Outcome>| outcome.unwrap_or_else(|| open.clone());
        outcomes.into_iter().map(settled).collect()
    }

    /// Publishes the items of an attempt without JetStream. The server says that it has read them, and nobody
    /// says that anybody has them.
    async fn announce(
        &self,
        session: &Arc<Session>,
        attempt: Attempt<'_>,
        until: Instant,
    ) -> Vec<Outcome> {
        let connection = &session.connection;
        let mut outcomes = vec![None; attempt.items.len()];
        let announcing = async {
            for (at, item) in attempt.items.iter().enumerate() {
                let (subject, headers, payload) = self.message(item);
                match too_long(&headers, &payload, connection.payload_max) {
                    Some(refused) => outcomes[at] = Some(refused),
                    None => connection.publish(subject, headers, payload).await?,
                }
            }
            connection.echo().await
        };
        let ended = tokio::select! {
            ended = tokio::time::timeout_at(until, announcing) => ended,
            text = connection.is_denied() => {
                self.leave(session).await;
                let outcome = trip(format!("{}: {text}", connection.server));
                return vec![outcome; attempt.items.len()];
            }
        };
        let rest = match (ended, connection.denied()) {
            (_, Some(text)) => trip(format!("{}: {text}", connection.server)),
            (Ok(Ok(())), None) => Outcome::Delivered,
            (ended, None) => {
                self.leave(session).await;
                let reason = match ended {
                    Ok(ended) => ended.err().unwrap_or_default(),
                    Err(_) => format!("no answer within {:?}", self.options.timeout),
                };
                Outcome::Retry {
                    reason,
                    maybe_applied: true,
                }
            }
        };
        let settled = |outcome: Option<Outcome>| outcome.unwrap_or_else(|| rest.clone());
        outcomes.into_iter().map(settled).collect()
    }

    /// The subject, the headers and the body of an item.
    fn message(&self, item: &Item) -> (String, HeaderMap, Bytes) {
        let mut headers = HeaderMap::new();
        for (name, value) in broker::headers(item) {
            insert(&mut headers, name, &value);
        }
        if item.rendering.is_none() && matches!(self.options.form, Form::Bucket { .. }) {
            insert(&mut headers, "KV-Operation", "DEL");
        }
        let body = Bytes::copy_from_slice(broker::body(item));
        (self.options.subject(item), headers, body)
    }
}

fn insert(headers: &mut HeaderMap, name: &'static str, value: &str) {
    if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), value.parse::<HeaderValue>()) {
        headers.insert(name, value);
    }
}

/// The refusal of a message that the server would end the connection for.
fn too_long(headers: &HeaderMap, payload: &Bytes, most: usize) -> Option<Outcome> {
    let bytes = stream::header_bytes(headers) + payload.len();
    (bytes > most).then(|| Outcome::Refused {
        reason: format!(
            "the message has {bytes} bytes with its headers, and the server takes {most} (max_payload)"
        ),
        after_tries: false,
    })
}

/// Waits for something, unless the server does not permit it: then there would never be an answer.
async fn permitted<T>(
    connection: &Connection,
    asking: impl Future<Output = Result<T, Outcome>>,
) -> Result<T, Outcome> {
    tokio::select! {
        answer = asking => answer,
        text = connection.is_denied() => Err(trip(format!("{}: {text}", connection.server))),
    }
}

/// An attempt at a stream.
struct Publishing<'a> {
    nats: &'a Nats,
    connection: &'a Connection,
    stream: &'a Stream,
    limits: Limits,
}

impl Publishing<'_> {
    /// Publishes an item, unless the stream holds it or a newer state.
    async fn settle(&self, item: &Item) -> Outcome {
        let (subject, headers, payload) = self.nats.message(item);
        let id = xxh3_64(subject.as_bytes());
        let known = self.nats.newest.get(&id);
        let mut expected = known.unwrap_or(0);
        let mut read = known.is_none() && self.nats.holds_others.load(Ordering::Relaxed);
        let mut with_id = true;
        for _ in 0..ROUNDS {
            if read {
                match self.read(item, &subject, id).await {
                    Ok(found) => expected = found,
                    Err(outcome) => return outcome,
                }
            }
            let mut headers = headers.clone();
            headers.insert(
                header::NATS_EXPECTED_LAST_SUBJECT_SEQUENCE,
                HeaderValue::from(expected),
            );
            headers.insert(header::NATS_EXPECTED_STREAM, self.stream.name.as_str());
            if with_id {
                headers.insert(header::NATS_MESSAGE_ID, item.id.to_string());
            }
            if let Some(refused) = too_long(&headers, &payload, self.connection.payload_max) {
                return refused;
            }
            // An acknowledgement of what is sent from here on has a higher sequence than this one.
            let before = self.last();
            let answer = self
                .connection
                .ask(subject.clone(), Some(headers), payload.clone());
            let answer = match answer.await {
                Ok(message) => serde_json::from_slice::<Answer>(&message.payload),
                Err(Silence::NoResponders) => {
                    self.nats.doubt.store(true, Ordering::Relaxed);
                    let name = &self.stream.name;
                    return away(format!("the stream {name:?} is gone, or has no leader now"));
                }
                Err(Silence::Lost(reason)) => {
                    return Outcome::Retry {
                        reason: format!(
                            "the connection to {} ended: {reason}",
                            self.connection.server
                        ),
                        maybe_applied: true,
                    };
                }
            };
            match answer {
                Ok(Answer {
                    error: None,
                    duplicate,
                    seq,
                }) if seq > 0 => {
                    if duplicate && seq != expected {
                        // It was stored once, and is not there any more.
                        with_id = false;
                        continue;
                    }
                    if !duplicate && seq <= before {
                        // Another stream of this name acknowledges, and has stored it.
                        self.nats.doubt.store(true, Ordering::Relaxed);
                        return Outcome::Retry {
                            reason: format!(
                                "the stream {:?} acknowledged with sequence {seq} after {before}",
                                self.stream.name
                            ),
                            maybe_applied: true,
                        };
                    }
                    self.nats.newest.insert(id, seq);
                    self.reach(seq);
                    return Outcome::Delivered;
                }
                Ok(Answer {
                    error: Some(problem),
                    ..
                }) if problem.is_wrong_sequence() => {
                    read = true;
                    if known.is_none() {
                        self.nats.holds_others.store(true, Ordering::Relaxed);
                    }
                }
                Ok(Answer {
                    error: Some(problem),
                    ..
                }) => return problem.outcome(),
                _ => {
                    return Outcome::Retry {
                        reason: "the acknowledgement cannot be read".to_owned(),
                        maybe_applied: true,
                    };
                }
            }
        }
        Outcome::Retry {
            reason: format!("somebody else writes {subject} all the time"),
            maybe_applied: false,
        }
    }

    /// Reads the message that the item would replace, and returns its sequence in the stream.
    async fn read(&self, item: &Item, subject: &str, id: u64) -> Result<u64, Outcome> {
        match self.stream.newest(self.connection, subject).await? {
            None => {
                if self.nats.newest.remove(&id).is_some() {
                    // A message that was acknowledged is gone, with its stream perhaps.
                    self.nats.doubt.store(true, Ordering::Relaxed);
                }
                self.nats.holds_others.store(false, Ordering::Relaxed);
                Ok(0)
            }
            Some(stored) => match broker::judge(&stored.state, item, self.limits) {
                Verdict::Write => Ok(stored.at),
                Verdict::Settled(outcome) => {
                    if outcome == Outcome::Delivered {
                        self.nats.newest.insert(id, stored.at);
                        self.reach(stored.at);
                    }
                    Err(outcome)
                }
            },
        }
    }

    /// The highest sequence that this stream has acknowledged.
    fn last(&self) -> u64 {
        match &*lock(&self.nats.reached) {
            Some(reached) if reached.is_in(self.stream) => reached.last(),
            _ => 0,
        }
    }

    fn reach(&self, sequence: u64) {
        let mut reached = lock(&self.nats.reached);
        let last = match &*reached {
            Some(before) if before.is_in(self.stream) => before.last(),
            _ => 0,
        };
        if sequence > last {
            *reached = Some(Reached::at(self.stream, sequence));
        }
    }
}

impl Target for Nats {
    fn nature(&self) -> Nature {
        Nature {
            keyed: true,
            batch_max: usize::MAX,
            deletes_alone: false,
            compares: true,
        }
    }

    fn place(&self) -> u64 {
        self.place
    }

    fn check(&self) -> BoxFuture<'_, Result<Vec<String>, String>> {
        Box::pin(check::check(&self.options))
    }

    fn deliver<'a>(&'a self, attempt: Attempt<'a>) -> BoxFuture<'a, Delivery> {
        Box::pin(self.attempt(attempt))
    }

    fn mark(&self) -> Option<Vec<u8>> {
        let reached = lock(&self.reached);
        let reached = reached.as_ref()?;
        serde_json::to_vec(reached).ok()
    }

    fn take_mark(&self, mark: Mark) {
        // One that is not exact is a lower bound, which is all that is asked of it.
        if let Ok(reached) = serde_json::from_slice(&mark.bytes) {
            *lock(&self.reached) = Some(reached);
        }
    }

    fn start_over(&self) {
        *lock(&self.reached) = None;
        self.newest.clear();
        self.doubt.store(true, Ordering::Relaxed);
    }

    fn compare<'a>(&'a self, items: &'a [Item]) -> BoxFuture<'a, Result<Vec<Held>, String>> {
        Box::pin(drift::compare(self, items))
    }

    fn keys<'a>(&'a self, after: Option<&'a str>) -> BoxFuture<'a, Result<Page, String>> {
        Box::pin(drift::keys(self, after))
    }
}

#[cfg(test)]
mod tests;
