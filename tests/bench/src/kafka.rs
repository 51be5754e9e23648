//! `weir-bench kafka`: how fast Weir delivers to Kafka, beside librdkafka alone: 500,000 documents go to a topic
//! from a channel that was paused, and then as many to another topic from a bare producer of the same library, with
//! the same settings, the same headers and as many in flight.
//!
//! The broker is librdkafka's mock, on a thread of this process: it knows repeated batches, as a real one does, and
//! costs less than any, so that the ratio shows what Weir adds to the library. It keeps only the newest 5 MB of a
//! partition.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rdkafka::config::{ClientConfig, FromClientConfigAndContext};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{Message, OwnedHeaders, OwnedMessage};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{ClientContext, Offset, TopicPartitionList};
use serde_json::json;

use crate::clock::{Phase, round};
use crate::documents;
use crate::progress::Progress;
use crate::report::Report;
use crate::{FullArgs, unreachable};
use weir::inside::cli::{CommandResult, Failure};

/// Documents at full size.
const DOCUMENTS: f64 = 500_000.0;
/// The topics, and how many partitions each has.
const BY_WEIR: &str = "weir";
const BARE: &str = "bare";
const PARTITIONS: i32 = 4;
/// Records of the bare producer in flight: what two requests of a channel hold, unless configured. Of the three that
/// a target takes at the same time, one is kept for urgent work.
const IN_FLIGHT: usize = 10_000;
/// The longest that all documents may take, and one answer of the broker.
const PATIENCE: Duration = Duration::from_secs(900);
const ANSWER: Duration = Duration::from_secs(30);

pub(super) fn run(args: &FullArgs, out: &mut String) -> CommandResult {
    let mut report = Report::new("kafka", args.scale);
    let documents = args.scaled(DOCUMENTS);
    report.figure("documents", documents);
    let broker = MockCluster::new(1).map_err(|error| unreachable("no broker", error))?;
    for topic in [BY_WEIR, BARE] {
        let made = broker.create_topic(topic, PARTITIONS, 1);
        made.map_err(|error| unreachable("no topic", error))?;
    }
    let brokers = broker.bootstrap_servers();

    let target = json!({ "kind": "kafka", "brokers": [brokers], "topic": BY_WEIR, "key": "{key}" });
    let stage = documents::owing(args, &target, documents)?;
    let (phase, progress) = (Phase::start(), Progress::begin("kafka", documents as u64));
    let began = Instant::now();
    stage.api().operate("resume")?;
    loop {
        let delivered = stage.api().counted("delivered")?;
        progress.mark().at(delivered);
        if delivered >= documents as u64 {
            break;
        }
        if began.elapsed() > PATIENCE {
            return Err(Failure::Failed("the deliveries take too long".into()));
        }
        // Each look costs the processor a millisecond.
        std::thread::sleep(Duration::from_millis(20));
    }
    let by_weir = documents as f64 / began.elapsed().as_secs_f64();
    drop(progress);
    report.usage("by_weir", &phase.end(Duration::ZERO));
    let delivered = stage.api().wait_until_idle()?;
    stage.stop();

    let reader = Reader::of(&brokers)?;
    let like = reader.newest(BY_WEIR)?;
    let phase = Phase::start();
    let bare = publish(&brokers, &like, documents)?;
    report.usage("bare", &phase.end(Duration::ZERO));
    report.figure("documents_per_second", round(by_weir, 0));
    report.figure("documents_per_second_of_the_library_alone", round(bare, 0));
    report.at_least("ratio", by_weir / bare, 0.7);
    report.exactly("delivered", delivered, documents as u64);
    for topic in [BY_WEIR, BARE] {
        let records = reader.records(topic)?;
        report.exactly(&format!("records_of_{topic}"), records, documents as u64);
    }
    report.end(args.common.json, out)
}

/// The settings of the target, `runtime/src/targets/kafka/producer.rs`.
fn settings(brokers: &str) -> ClientConfig {
    let mut settings = ClientConfig::new();
    for (name, value) in [
        ("bootstrap.servers", brokers),
        ("enable.idempotence", "true"),
        ("acks", "all"),
        ("partitioner", "murmur2_random"),
        ("compression.type", "none"),
        ("message.timeout.ms", "30000"),
        ("socket.keepalive.enable", "true"),
        ("linger.ms", "5"),
        ("queue.buffering.max.messages", "100000"),
        ("queue.buffering.max.kbytes", "65536"),
        ("message.max.bytes", "10000000"),
    ] {
        settings.set(name, value);
    }
    settings
}

/// Counts the records whose reports have come, and those that failed.
#[derive(Default)]
struct Reports {
    delivered: AtomicUsize,
    failed: AtomicUsize,
}

impl ClientContext for Reports {}

impl ProducerContext for Reports {
    type DeliveryOpaque = ();

    fn delivery(&self, report: &DeliveryResult<'_>, (): ()) {
        let count = if report.is_ok() {
            &self.delivered
        } else {
            &self.failed
        };
        count.fetch_add(1, Ordering::Relaxed);
    }
}

/// Sends as many records as Weir did, like its own. Returns the records per second.
fn publish(brokers: &str, like: &OwnedMessage, documents: usize) -> Result<f64, Failure> {
    let producer: BaseProducer<Reports> =
        BaseProducer::from_config_and_context(&settings(brokers), Reports::default())
            .map_err(failed)?;
    let reports = producer.context();
    let done =
        || reports.delivered.load(Ordering::Relaxed) + reports.failed.load(Ordering::Relaxed);
    let payload = like.payload().unwrap_or_default();
    let headers = like.headers().cloned().unwrap_or_else(OwnedHeaders::new);
    let began = Instant::now();
    for number in 0..documents {
        let key = format!("{number:07}");
        let mut record = BaseRecord::to(BARE)
            .key(&key)
            .payload(payload)
            .headers(headers.clone());
        while number - done() >= IN_FLIGHT {
            producer.poll(Duration::from_millis(1));
        }
        loop {
            match producer.send(record) {
                Ok(()) => break,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), again)) => {
                    producer.poll(Duration::from_millis(1));
                    record = again;
                }
                Err((error, _)) => return Err(failed(error)),
            }
        }
    }
    producer.flush(PATIENCE).map_err(failed)?;
    let took = began.elapsed().as_secs_f64();
    match reports.failed.load(Ordering::Relaxed) {
        0 => Ok(documents as f64 / took),
        failed => Err(Failure::Failed(format!(
            "{failed} records of the bare producer failed"
        ))),
    }
}

/// Whoever looks at what the broker has.
struct Reader(BaseConsumer);

impl Reader {
    fn of(brokers: &str) -> Result<Reader, Failure> {
        let consumer = ClientConfig::new()
            .set("bootstrap.servers", brokers)
            .set("group.id", "reader")
            .create();
        consumer.map(Reader).map_err(failed)
    }

    /// The records that a topic has got.
    fn records(&self, topic: &str) -> Result<u64, Failure> {
        let ends = (0..PARTITIONS).map(|partition| {
            let ends = self.0.fetch_watermarks(topic, partition, ANSWER);
            ends.map(|(_, end)| end as u64).map_err(failed)
        });
        ends.sum()
    }

    /// The newest record of the first partition of a topic that has one.
    fn newest(&self, topic: &str) -> Result<OwnedMessage, Failure> {
        for partition in 0..PARTITIONS {
            let ends = self.0.fetch_watermarks(topic, partition, ANSWER);
            let (_, end) = ends.map_err(failed)?;
            if end == 0 {
                continue;
            }
            let mut at = TopicPartitionList::new();
            at.add_partition_offset(topic, partition, Offset::Offset(end - 1))
                .map_err(failed)?;
            self.0.assign(&at).map_err(failed)?;
            if let Some(record) = self.0.poll(ANSWER) {
                return record.map(|record| record.detach()).map_err(failed);
            }
        }
        Err(Failure::Failed(format!(
            "the topic {topic:?} has no record"
        )))
    }
}

fn failed(error: KafkaError) -> Failure {
    Failure::Failed(format!("Kafka: {error}"))
}
