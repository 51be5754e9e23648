//! The producer: sends records and waits for what the broker says of each.
//!
//! Records of an attempt are in flight together; the library puts them into batches. The broker knows a repeated
//! batch by its number (`enable.idempotence`), so that a lost answer stores nothing twice as long as the
//! producer lives. Only the report of a record ends its attempt: nobody can take a record back. A
//! producer with a fatal error is replaced, and so is one after records that are unknown.
//!
//! A report that a record timed out hides the reason: it comes as an event beside it, and the latest one is kept.

mod answer;
mod check;

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::future_producer::{Delivery as Report, DeliveryFuture};
use rdkafka::producer::{FutureProducer, FutureRecord, Producer, PurgeConfig};
use xxhash_rust::xxh3::xxh3_64;

use super::{Compression, Mechanism, Options, Partitioner};
use crate::sync::lock;
use crate::targets::broker;
use crate::targets::http::connect;
use crate::targets::{Attempt, BoxFuture, Delivery, Item, Mark, Nature, Outcome, Target, Unusable};

/// How much longer than its timeout a report is waited for.
const GRACE: Duration = Duration::from_secs(5);
/// How long records wait for others of their batch, milliseconds. Those of an attempt are there at once.
const LINGER: &str = "5";
/// The most records and kilobytes that wait for a broker.
const QUEUED: (&str, &str) = ("100000", "65536");
/// An event that is older has nothing to do with a report.
const RECENT: Duration = Duration::from_secs(60);
/// The most partitions whose ends are remembered.
const ENDS_MAX: usize = 10_000;
/// The most records that are sent once more one after another to see which one spoiled their batch. Of more,
/// halves are sent: each record alone takes a round trip.
const SINGLY_MAX: usize = 100;
/// The longest record that the library takes, bytes. The broker has the last word: its topic may take less.
const RECORD_BYTES_MAX: &str = "10000000";

/// Kafka, ready to deliver.
pub(super) struct Kafka {
    options: Options,
    config: ClientConfig,
    place: u64,
    producer: tokio::sync::Mutex<Option<Sending>>,
    /// The end of each partition, by topic, after the latest record that was acknowledged.
    ends: Arc<Mutex<Ends>>,
}

/// The offset after the latest acknowledged record of each partition, by topic.
type Ends = BTreeMap<String, BTreeMap<i32, i64>>;

#[derive(Clone)]
struct Sending {
    producer: Arc<EndsApart>,
    events: Events,
    /// An attempt was given up, and with it what the producer had not sent: it is not used again.
    given_up: Arc<AtomicBool>,
}

/// A producer that ends on a thread of its own: its end waits for the library, up to half a second.
struct EndsApart(Option<FutureProducer<Events>>);

impl Deref for EndsApart {
    type Target = FutureProducer<Events>;

    fn deref(&self) -> &FutureProducer<Events> {
        self.0.as_ref().expect("it is taken only at its end")
    }
}

impl Drop for EndsApart {
    fn drop(&mut self) {
        let producer = self.0.take();
        let thread = std::thread::Builder::new().name("kafka-end".to_owned());
        // Without a thread it ends here.
        let _ = thread.spawn(move || drop(producer));
    }
}

/// Records of an attempt whose reports have not all come. If the attempt is given up, what of them was not sent
/// yet must not be sent later: a newer state of the entity may have been sent by another producer since.
struct Unfinished(Option<Sending>);

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(sending) = self.0.take() {
            sending.given_up.store(true, Ordering::Relaxed);
            // Also what is in flight, or the library would try it again.
            let all = PurgeConfig::default().queue().inflight();
            sending.producer.purge(all.non_blocking());
        }
    }
}

/// What the library says beside the reports.
#[derive(Clone, Default)]
struct Events {
    latest: Arc<Mutex<Option<(Code, String, Instant)>>>,
}

impl ClientContext for Events {
    fn log(&self, _: RDKafkaLogLevel, _: &str, _: &str) {}

    fn error(&self, error: KafkaError, reason: &str) {
        self.note(error.rdkafka_error_code().unwrap_or(Code::Fail), reason);
    }
}

impl Events {
    fn note(&self, code: Code, reason: &str) {
        let mut latest = lock(&self.latest);
        // That no broker is there follows from what was said of each of them before.
        let says_more = latest
            .as_ref()
            .is_some_and(|(_, _, at)| at.elapsed() < RECENT);
        if code != Code::AllBrokersDown || !says_more {
            *latest = Some((code, reason.to_owned(), Instant::now()));
        }
    }

    fn recent(&self) -> Option<(Code, String)> {
        let latest = lock(&self.latest);
        let (code, reason, at) = latest.as_ref()?;
        (at.elapsed() < RECENT).then(|| (*code, reason.clone()))
    }
}

impl Kafka {
    /// Prepares a producer without a connection.
    ///
    /// # Errors
    /// The library does not take these options.
    pub(super) fn open(options: &Options) -> Result<Kafka, Unusable> {
        let config = config(options);
        config.create_native_config().map_err(|error| {
            Unusable(format!(
                "the Kafka client does not take the options: {}",
                shown(&error)
            ))
        })?;
        Ok(Kafka {
            place: xxh3_64(options.place().as_bytes()),
            options: options.clone(),
            config,
            producer: tokio::sync::Mutex::default(),
            ends: Arc::default(),
        })
    }

    /// The producer that is there, or a new one.
    ///
    /// # Errors
    /// The outcome of an attempt without one: nothing was sent.
    async fn sending(&self) -> Result<Sending, Outcome> {
        let mut current = self.producer.lock().await;
        if let Some(sending) = &*current
            && !sending.given_up.load(Ordering::Relaxed)
        {
            return Ok(sending.clone());
        }
        *current = None;
        self.allowed()
            .await
            .map_err(|reason| Outcome::Trip { reason })?;
        let events = Events::default();
        let producer: FutureProducer<Events> = self
            .config
            .create_with_context(events.clone())
            .map_err(|error| Outcome::Trip {
                reason: format!("the Kafka client cannot be used: {}", shown(&error)),
            })?;
        let sending = Sending {
            producer: Arc::new(EndsApart(Some(producer))),
            events,
            given_up: Arc::default(),
        };
        if let Some(reason) = self.has_forgotten(&sending).await? {
            return Err(Outcome::Forgot { reason });
        }
        *current = Some(sending.clone());
        Ok(sending)
    }

    /// Whether the configured brokers may be connected to. The library resolves names itself, and connects to
    /// those that brokers name.
    async fn allowed(&self) -> Result<(), String> {
        let timeout = self.options.timeout;
        tokio::time::timeout(timeout, self.resolved())
            .await
            .unwrap_or_else(|_| {
                Err(format!(
                    "the names of the brokers were not resolved within {timeout:?}"
                ))
            })
    }

    async fn resolved(&self) -> Result<(), String> {
        let mut last = Ok(());
        for (host, port) in &self.options.brokers {
            match connect::addresses(host, *port, self.options.egress).await {
                Ok(_) => last = Ok(()),
                Err(denied @ connect::ConnectError::Denied { .. }) => {
                    return Err(denied.to_string());
                }
                Err(error) if self.options.brokers.len() == 1 => last = Err(error.to_string()),
                Err(_) => {}
            }
        }
        last
    }

    /// What shows that a partition ends before what it acknowledged; `None` if nothing does. If there are more
    /// than can be asked in half the timeout, the others are not asked.
    async fn has_forgotten(&self, sending: &Sending) -> Result<Option<String>, Outcome> {
        let ends = lock(&self.ends).clone();
        if ends.is_empty() {
            return Ok(None);
        }
        let (sending, timeout) = (sending.clone(), self.options.timeout / 2);
        let asked = tokio::task::spawn_blocking(move || {
            let (until, mut any) = (Instant::now() + timeout, false);
            for (topic, partitions) in ends {
                for (partition, end) in partitions {
                    let left = until.saturating_duration_since(Instant::now());
                    if any && left.is_zero() {
                        return Ok(None);
                    }
                    let client = sending.producer.client();
                    match client.fetch_watermarks(&topic, partition, left) {
                        Ok((_, found)) if found < end => {
                            return Ok(Some(format!(
                                "partition {partition} of the topic {topic:?} ends at offset {found}, and has acknowledged {end}: the topic was made anew, or a broker has lost its last records"
                            )));
                        }
                        Ok(_) => any = true,
                        // The library says so too while a partition has no leader.
                        Err(error)
                            if error.rdkafka_error_code() == Some(Code::UnknownPartition)
                                && sending.lacks(&topic, partition, left) =>
                        {
                            return Ok(Some(format!(
                                "the topic {topic:?} has no partition {partition} any more, which has acknowledged records: it was made anew"
                            )));
                        }
                        Err(_) if any && Instant::now() >= until => return Ok(None),
                        Err(error) => {
                            sending.ask_why(&topic);
                            return Err(sending.outcome(&error, &topic, false));
                        }
                    }
                }
            }
            Ok(None)
        });
        asked.await.unwrap_or_else(|_| {
            Err(Outcome::Retry {
                reason: "the ends of partitions could not be read".to_owned(),
                maybe_applied: false,
            })
        })
    }

    async fn attempt(&self, attempt: Attempt<'_>) -> Delivery {
        let items = attempt.items;
        let sending = match self.sending().await {
            Ok(sending) => sending,
            Err(outcome) => return vec![outcome; items.len()].into(),
        };
        let until = tokio::time::Instant::now() + self.options.timeout + GRACE;
        // A record that is sent from here on comes after all that these acknowledged.
        let before = lock(&self.ends).clone();
        let mut unfinished = Unfinished(Some(sending.clone()));
        let sent: Vec<_> = items.iter().map(|item| self.send(&sending, item)).collect();
        let mut outcomes = Vec::with_capacity(items.len());
        for (item, sent) in items.iter().zip(sent) {
            outcomes.push(self.settle(&sending, item, sent, &before, until).await);
        }
        // A batch of records fails as a whole for one of them. Each alone shows which.
        let spoiled = |outcome: &Outcome| matches!(outcome, Outcome::Split { .. });
        let count = outcomes.iter().filter(|outcome| spoiled(outcome)).count();
        if (1..=SINGLY_MAX).contains(&count) {
            for (item, outcome) in items.iter().zip(&mut outcomes) {
                if spoiled(outcome) {
                    let sent = self.send(&sending, item);
                    *outcome = match self.settle(&sending, item, sent, &before, until).await {
                        Outcome::Split { reason, .. } => Outcome::Refused {
                            reason,
                            after_tries: false,
                        },
                        outcome => outcome,
                    };
                }
            }
        }
        unfinished.0 = None;
        let fatal = sending.producer.client().fatal_error();
        if let Some((_, reason)) = &fatal {
            tracing::warn!("the Kafka producer was replaced: {reason}");
        }
        // A producer remembers for minutes what a topic does not allow. And after a record that timed out on
        // its way it asks for another number, which not every broker gives it.
        let broken = |outcome: &Outcome| {
            matches!(
                outcome,
                Outcome::Trip { .. }
                    | Outcome::Retry {
                        maybe_applied: true,
                        ..
                    }
            )
        };
        if fatal.is_some() || outcomes.iter().any(broken) {
            self.replace(&sending).await;
        }
        outcomes.into()
    }

    /// Gives a producer up, so that the next attempt has another one.
    async fn replace(&self, sending: &Sending) {
        let mut current = self.producer.lock().await;
        let same = |it: &Sending| Arc::ptr_eq(&it.events.latest, &sending.events.latest);
        if current.as_ref().is_some_and(same) {
            *current = None;
        }
    }

    fn send(&self, sending: &Sending, item: &Item) -> Result<DeliveryFuture, KafkaError> {
        let entity_type = &item.entity.entity_type;
        let topic = self.options.topic.fill(entity_type, &item.key);
        let key = self.options.key.fill(entity_type, &item.key);
        let headers = broker::headers(item);
        let headers = headers.iter().fold(
            OwnedHeaders::new_with_capacity(headers.len()),
            |headers, (key, value)| {
                let value = Some(value.as_str());
                headers.insert(Header { key, value })
            },
        );
        let mut record = FutureRecord::to(&topic).key(&key).headers(headers);
        if item.rendering.is_some() {
            record = record.payload(broker::body(item));
        }
        let sent = sending.producer.send_result(record);
        sent.map_err(|(error, _)| error)
    }

    async fn settle(
        &self,
        sending: &Sending,
        item: &Item,
        sent: Result<DeliveryFuture, KafkaError>,
        before: &Ends,
        until: tokio::time::Instant,
    ) -> Outcome {
        let topic = self.options.topic.fill(&item.entity.entity_type, &item.key);
        let report = match sent {
            // Nothing was sent, and the record alone is why.
            Err(KafkaError::MessageProduction(Code::MessageSizeTooLarge)) => {
                return Outcome::Refused {
                    reason: format!(
                        "the record has {} bytes without its headers, and Weir sends at most {RECORD_BYTES_MAX} to Kafka",
                        broker::body(item).len()
                    ),
                    after_tries: false,
                };
            }
            Err(KafkaError::MessageProduction(Code::QueueFull)) => {
                return Outcome::Throttled {
                    reason: "too many records wait for the broker".to_owned(),
                    after: None,
                };
            }
            Err(error) => return sending.outcome(&error, &topic, false),
            Ok(report) => tokio::time::timeout_at(until, report).await,
        };
        match report {
            Ok(Ok(Ok(report))) => self.reach(topic, &report, before),
            Ok(Ok(Err((error, _)))) => {
                if error.rdkafka_error_code() == Some(Code::MessageTimedOut) {
                    let (asking, topic) = (sending.clone(), topic.clone());
                    // If it cannot be asked, the outcome has no more to say.
                    let _ = tokio::task::spawn_blocking(move || asking.ask_why(&topic)).await;
                }
                sending.outcome(&error, &topic, true)
            }
            Ok(Err(_)) | Err(_) => {
                self.replace(sending).await;
                Outcome::Retry {
                    reason: "the Kafka client does not say what became of the record".to_owned(),
                    maybe_applied: true,
                }
            }
        }
    }

    /// Remembers where a partition ends, and returns the outcome of an acknowledged record. `before` are the ends
    /// when it was sent: a lower offset shows that the topic was made anew under the producer. A broker that knew a
    /// repeated batch may tell no offset.
    fn reach(&self, topic: String, report: &Report, before: &Ends) -> Outcome {
        if report.offset < 0 {
            return Outcome::Delivered;
        }
        let partition = report.partition;
        let end = before.get(&topic).and_then(|ends| ends.get(&partition));
        if let Some(end) = end.filter(|end| report.offset < **end) {
            return Outcome::Forgot {
                reason: format!(
                    "partition {partition} of the topic {topic:?} acknowledged offset {} after {end}: the topic was made anew, or a broker has lost its last records",
                    report.offset
                ),
            };
        }
        let mut ends = lock(&self.ends);
        let known: usize = ends.values().map(BTreeMap::len).sum();
        let partitions = ends.entry(topic).or_default();
        match partitions.get_mut(&report.partition) {
            Some(end) => *end = (*end).max(report.offset + 1),
            None if known < ENDS_MAX => {
                partitions.insert(report.partition, report.offset + 1);
            }
            None => {}
        }
        Outcome::Delivered
    }
}

impl Sending {
    /// Whether a topic is there without this partition.
    fn lacks(&self, topic: &str, partition: i32, timeout: Duration) -> bool {
        let metadata = self.producer.client().fetch_metadata(Some(topic), timeout);
        metadata.is_ok_and(|metadata| {
            metadata.topics().iter().any(|found| {
                found.name() == topic
                    && found.error().is_none()
                    && !found.partitions().is_empty()
                    && found.partitions().iter().all(|it| it.id() != partition)
            })
        })
    }
}

/// An error as users see it: without the value of an option, which may be a secret.
fn shown(error: &KafkaError) -> String {
    match error {
        KafkaError::ClientConfig(_, why, option, _) => format!("{option}: {why}"),
        other => other.to_string(),
    }
}

/// The options of the library.
fn config(options: &Options) -> ClientConfig {
    let timeout = options.timeout.as_millis().to_string();
    let partitioner = match options.partitioner {
        Partitioner::Murmur2 => "murmur2_random",
        Partitioner::ConsistentRandom => "consistent_random",
    };
    let compression = match options.compression {
        Compression::None => "none",
        Compression::Gzip => "gzip",
        Compression::Snappy => "snappy",
        Compression::Lz4 => "lz4",
    };
    let protocol = match (&options.tls, &options.auth) {
        (None, None) => "plaintext",
        (None, Some(_)) => "sasl_plaintext",
        (Some(_), None) => "ssl",
        (Some(_), Some(_)) => "sasl_ssl",
    };
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", options.bootstrap())
        .set("client.id", "weir")
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("partitioner", partitioner)
        .set("compression.type", compression)
        .set("message.timeout.ms", &timeout)
        .set("allow.auto.create.topics", "false")
        .set("socket.keepalive.enable", "true")
        .set("linger.ms", LINGER)
        .set("queue.buffering.max.messages", QUEUED.0)
        .set("queue.buffering.max.kbytes", QUEUED.1)
        .set("message.max.bytes", RECORD_BYTES_MAX)
        .set("security.protocol", protocol)
        .set_log_level(RDKafkaLogLevel::Emerg);
    if let Some(sasl) = &options.auth {
        let mechanism = Mechanism::WORDS
            .iter()
            .find(|(_, mechanism)| *mechanism == sasl.mechanism);
        config
            .set(
                "sasl.mechanism",
                mechanism.map_or("PLAIN", |(word, _)| word),
            )
            .set("sasl.username", &sasl.user)
            .set("sasl.password", String::from_utf8_lossy(&sasl.password.0));
    }
    if let Some(tls) = &options.tls {
        let text = |pem: &[u8]| String::from_utf8_lossy(pem).into_owned();
        match &tls.ca {
            Some(ca) => config.set("ssl.ca.pem", text(ca)),
            // Where this system has its roots.
            None => config.set("ssl.ca.location", "probe"),
        };
        if let Some((certificate, key)) = &tls.identity {
            config
                .set("ssl.certificate.pem", text(certificate))
                .set("ssl.key.pem", text(&key.0));
        }
    }
    config
}

impl Target for Kafka {
    fn nature(&self) -> Nature {
        Nature {
            keyed: true,
            batch_max: usize::MAX,
            deletes_alone: false,
            compares: false,
        }
    }

    fn place(&self) -> u64 {
        self.place
    }

    fn check(&self) -> BoxFuture<'_, Result<Vec<String>, String>> {
        Box::pin(self.look())
    }

    fn deliver<'a>(&'a self, attempt: Attempt<'a>) -> BoxFuture<'a, Delivery> {
        Box::pin(self.attempt(attempt))
    }

    fn mark(&self) -> Option<Vec<u8>> {
        let ends = lock(&self.ends);
        (!ends.is_empty())
            .then(|| serde_json::to_vec(&*ends).ok())
            .flatten()
    }

    fn take_mark(&self, mark: Mark) {
        // One that is not exact is a lower bound, which is all that is asked of it.
        if let Ok(ends) = serde_json::from_slice(&mark.bytes) {
            *lock(&self.ends) = ends;
        }
    }

    fn start_over(&self) {
        lock(&self.ends).clear();
    }
}

#[cfg(test)]
mod tests;
