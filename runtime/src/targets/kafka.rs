//! Kafka as a target: each entity is a key of a topic, whose newest record is what is true now, and a record
//! without a value deletes it.
//!
//! The client library is compiled only with the feature `kafka`, and its TLS only with `kafka-tls`. What is
//! configured is understood by every build, so that one without them can say what is missing.

#[cfg(feature = "kafka")]
mod producer;

use std::time::Duration;

use super::http::{Egress, Tls};
use super::{Target, Unusable};
use crate::signature::Secret;

/// The entities and the bytes of an attempt at most, unless a channel says otherwise.
pub const BATCH: (usize, usize) = (5_000, 8 * 1024 * 1024);
/// How long an attempt may take, unless configured. A broker that loses its leader has another one in some
/// seconds.
pub const TIMEOUT: Duration = Duration::from_secs(30);
/// Whether this build has Kafka at all.
pub const IS_THERE: bool = cfg!(feature = "kafka");
/// Whether this build has TLS and SCRAM for Kafka.
pub const HAS_TLS: bool = cfg!(feature = "kafka-tls");

/// Kafka as configured.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Hosts and ports of brokers that are asked first; they name the others.
    pub brokers: Vec<(String, u16)>,
    /// The topic, with `{entity}`.
    pub topic: Filled,
    /// The key of a record, with `{entity}` and `{key}`.
    pub key: Filled,
    /// Which partition a key belongs to.
    pub partitioner: Partitioner,
    /// How batches of records are compressed.
    pub compression: Compression,
    /// Credentials.
    pub auth: Option<Sasl>,
    /// Certificates; `None` without TLS.
    pub tls: Option<Tls>,
    /// Timeout of a whole attempt.
    pub timeout: Duration,
    /// The addresses that the brokers of the configuration may have.
    pub egress: Egress,
}

/// A text with `{entity}` and `{key}`, which are filled in as they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filled(pub String);

impl Filled {
    /// Whether it differs between types of entities.
    pub fn names_the_type(&self) -> bool {
        self.0.contains("{entity}")
    }

    #[cfg_attr(
        not(feature = "kafka"),
        expect(dead_code, reason = "only records are named")
    )]
    fn fill(&self, entity_type: &str, key: &str) -> String {
        // A key may have braces of its own, so the text is gone through once.
        let (mut filled, mut rest) = (String::new(), self.0.as_str());
        while let Some(open) = rest.find('{') {
            filled.push_str(&rest[..open]);
            rest = &rest[open..];
            let names = [("{entity}", entity_type), ("{key}", key)];
            let found = names
                .into_iter()
                .find_map(|(name, value)| Some((value, rest.strip_prefix(name)?)));
            match found {
                Some((value, after)) => {
                    filled.push_str(value);
                    rest = after;
                }
                None => {
                    filled.push('{');
                    rest = &rest[1..];
                }
            }
        }
        filled + rest
    }
}

/// Which partition a key belongs to. All who write a topic must agree, or two states of a key are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Partitioner {
    /// As clients in Java do it.
    Murmur2,
    /// As librdkafka does it unless configured (CRC32).
    ConsistentRandom,
}

impl Partitioner {
    /// The words of a configuration.
    pub const WORDS: [(&'static str, Partitioner); 2] = [
        ("murmur2", Partitioner::Murmur2),
        ("consistent_random", Partitioner::ConsistentRandom),
    ];
}

/// How batches of records are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// As gzip does it.
    Gzip,
    /// As snappy does it.
    Snappy,
    /// As lz4 does it.
    Lz4,
}

impl Compression {
    /// The words of a configuration.
    pub const WORDS: [(&'static str, Compression); 4] = [
        ("none", Compression::None),
        ("gzip", Compression::Gzip),
        ("snappy", Compression::Snappy),
        ("lz4", Compression::Lz4),
    ];
}

/// Credentials.
#[derive(Clone, Debug, PartialEq)]
pub struct Sasl {
    /// How they are shown to a broker.
    pub mechanism: Mechanism,
    /// The user.
    pub user: String,
    /// The password.
    pub password: Secret,
}

/// How credentials are shown to a broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    /// As they are.
    Plain,
    /// As a proof that is not the password.
    ScramSha256,
    /// The same, with longer sums.
    ScramSha512,
}

impl Mechanism {
    /// The words of a configuration.
    pub const WORDS: [(&'static str, Mechanism); 3] = [
        ("PLAIN", Mechanism::Plain),
        ("SCRAM-SHA-256", Mechanism::ScramSha256),
        ("SCRAM-SHA-512", Mechanism::ScramSha512),
    ];
}

impl Options {
    /// Where the records are: two targets of the same place replace each other's.
    pub fn place(&self) -> String {
        let brokers = self.bootstrap();
        format!("kafka {brokers} {} {}", self.topic.0, self.key.0)
    }

    fn bootstrap(&self) -> String {
        let brokers = self
            .brokers
            .iter()
            .map(|(host, port)| match host.contains(':') {
                true => format!("[{host}]:{port}"),
                false => format!("{host}:{port}"),
            });
        brokers.collect::<Vec<_>>().join(",")
    }
}

/// Prepares Kafka without opening a connection.
///
/// # Errors
/// This build has no Kafka, or the client library does not take these options.
#[cfg(feature = "kafka")]
pub fn open(options: &Options) -> Result<Box<dyn Target>, Unusable> {
    Ok(Box::new(producer::Kafka::open(options)?))
}

/// Says that this build has no Kafka.
///
/// # Errors
/// Always.
#[cfg(not(feature = "kafka"))]
pub fn open(options: &Options) -> Result<Box<dyn Target>, Unusable> {
    Err(Unusable(format!(
        "this build of Weir has no Kafka, so nothing can be delivered to {}; build one with `cargo build --release --features kafka`",
        options.bootstrap()
    )))
}
