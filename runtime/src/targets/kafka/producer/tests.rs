//! Kafka against the library's mock of a cluster, which answers with the codes that it is given, and against
//! a broker that knows repeated batches (`tansu`).

mod away;
#[cfg(feature = "kafka-tls")]
mod secure;
mod tansu;

use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers, Message};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::{RDKafkaApiKey, RDKafkaConfRes, RDKafkaRespErr as Answer};
use rdkafka::{Offset, TopicPartitionList};

use super::super::Filled;
use super::*;
use crate::targets::http::Egress;
use crate::targets::sample::{attempt, item};

const TOPIC: &str = "catalog";

type Cluster = MockCluster<'static, DefaultProducerContext>;

fn cluster(partitions: i32) -> Cluster {
    let cluster = MockCluster::new(1).expect("a cluster");
    let made = cluster.create_topic(TOPIC, partitions, 1);
    made.expect("a topic");
    cluster
}

fn options(brokers: &str) -> Options {
    let broker = |text: &str| {
        let (host, port) = text.rsplit_once(':').expect("a port");
        (host.to_owned(), port.parse().expect("a port"))
    };
    Options {
        brokers: brokers.split(',').map(broker).collect(),
        topic: Filled(TOPIC.into()),
        key: Filled("{key}".into()),
        partitioner: Partitioner::Murmur2,
        compression: Compression::None,
        auth: None,
        tls: None,
        timeout: Duration::from_secs(5),
        egress: Egress::Private,
    }
}

fn kafka(cluster: &Cluster) -> Kafka {
    Kafka::open(&options(&cluster.bootstrap_servers())).expect("it opens")
}

fn items(numbers: std::ops::Range<u64>) -> Vec<Item> {
    numbers
        .map(|number| item(&format!("e{number}"), number, Some("{}")))
        .collect()
}

async fn deliver(kafka: &Kafka, items: &[Item]) -> Vec<Outcome> {
    let delivery = kafka.deliver(attempt(items)).await;
    assert_eq!(delivery.outcomes.len(), items.len());
    delivery.outcomes
}

fn word(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Delivered => "delivered",
        Outcome::Refused { .. } => "refused",
        Outcome::Throttled { .. } => "throttled",
        Outcome::Trip { .. } => "trip",
        Outcome::Forgot { .. } => "forgot",
        Outcome::Retry {
            maybe_applied: true,
            ..
        } => "unknown",
        Outcome::Retry { .. } => "retry",
        other => panic!("{other:?}"),
    }
}

async fn words(kafka: &Kafka, items: &[Item]) -> Vec<&'static str> {
    deliver(kafka, items).await.iter().map(word).collect()
}

/// A record as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Record {
    partition: i32,
    key: String,
    value: Option<String>,
    headers: BTreeMap<String, String>,
}

/// All records of the topic.
async fn records(brokers: &str, partitions: i32) -> Vec<Record> {
    let brokers = brokers.to_owned();
    let read = tokio::task::spawn_blocking(move || {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", &brokers)
            .set("group.id", "reader")
            .create()
            .expect("a consumer");
        let (mut list, mut count) = (TopicPartitionList::new(), 0);
        for partition in 0..partitions {
            let ends = consumer.fetch_watermarks(TOPIC, partition, Duration::from_secs(10));
            let (low, high) = ends.expect("its ends");
            count += high - low;
            let offset = Offset::Beginning;
            list.add_partition_offset(TOPIC, partition, offset)
                .expect("an offset");
        }
        consumer.assign(&list).expect("it reads");
        let (mut records, began) = (Vec::new(), Instant::now());
        while (records.len() as i64) < count {
            assert!(
                began.elapsed() < Duration::from_secs(20),
                "{}",
                records.len()
            );
            let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) else {
                continue;
            };
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let headers = message.headers().map(|headers| {
                let pair = |header: Header<'_, &[u8]>| {
                    (
                        header.key.to_owned(),
                        text(header.value.unwrap_or_default()),
                    )
                };
                headers.iter().map(pair).collect()
            });
            records.push(Record {
                partition: message.partition(),
                key: text(message.key().unwrap_or_default()),
                value: message.payload().map(text),
                headers: headers.unwrap_or_default(),
            });
        }
        records
    });
    read.await.expect("it ends")
}

// Partitions as Java's clients compute them, from the tests of the hash there.
#[tokio::test]
async fn a_record_says_what_it_is_and_lies_where_clients_in_java_look_for_it() {
    let java: [(&str, i32); 6] = [
        ("21", -973_932_308),
        ("foobar", -790_332_482),
        ("a-little-bit-long-string", -985_981_536),
        ("a-little-bit-longer-string", -1_486_304_829),
        (
            "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8",
            -58_897_971,
        ),
        ("abc", 479_470_107),
    ];
    let cluster = cluster(7);
    let kafka = kafka(&cluster);
    let mut all: Vec<Item> = java
        .iter()
        .zip(1..)
        .map(|((key, _), sequence)| item(key, sequence, Some("{}")))
        .collect();
    all.push(item("gone", 9, None));
    assert_eq!(words(&kafka, &all).await, ["delivered"; 7]);
    let records = records(&cluster.bootstrap_servers(), 7).await;
    assert_eq!(records.len(), 7);
    for (key, hash) in java {
        let record = records.iter().find(|record| record.key == key);
        let record = record.expect("a record");
        assert_eq!(record.partition, (hash & 0x7fff_ffff) % 7, "{key}");
        assert_eq!(record.value.as_deref(), Some("{}"));
        let header = |name: &str| record.headers.get(name).map(String::as_str);
        assert_eq!(header("weir-key"), Some(key));
        assert_eq!(header("content-type"), Some("application/json"));
    }
    let gone = records.iter().find(|record| record.key == "gone");
    let gone = gone.expect("a tombstone");
    assert_eq!(
        (&gone.value, &*gone.headers["weir-deleted"]),
        (&None, "true")
    );
    assert_eq!(gone.headers["weir-sequence"], "9");
}

#[tokio::test]
async fn an_answer_speaks_of_the_entity_the_pace_or_the_target() {
    for (answer, expected) in [
        (Answer::RD_KAFKA_RESP_ERR_POLICY_VIOLATION, "throttled"),
        (
            Answer::RD_KAFKA_RESP_ERR_THROTTLING_QUOTA_EXCEEDED,
            "throttled",
        ),
        (Answer::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED, "trip"),
        (
            Answer::RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED,
            "trip",
        ),
        (Answer::RD_KAFKA_RESP_ERR_INVALID_RECORD, "refused"),
        (Answer::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE, "refused"),
    ] {
        let cluster = cluster(1);
        let kafka = kafka(&cluster);
        // Once for the attempt, and once for the record alone.
        cluster.request_errors(RDKafkaApiKey::Produce, &[answer, answer]);
        let found = words(&kafka, &items(1..2)).await;
        assert_eq!(found, [expected], "{answer:?}");
        cluster.clear_request_errors(RDKafkaApiKey::Produce);
        assert_eq!(
            words(&kafka, &items(1..2)).await,
            ["delivered"],
            "{answer:?}"
        );
    }
}

// One record was too long, the broker refused its batch, and a hundred products were sent again for ever.
#[tokio::test]
async fn a_batch_that_fails_for_one_record_costs_only_that_one() {
    let cluster = cluster(1);
    let kafka = kafka(&cluster);
    assert_eq!(words(&kafka, &items(0..1)).await, ["delivered"]);
    // The batch, and then the first record alone.
    let answer = Answer::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE;
    cluster.request_errors(RDKafkaApiKey::Produce, &[answer, answer]);
    let found = words(&kafka, &items(1..11)).await;
    let refused = found.iter().filter(|word| **word == "refused").count();
    let delivered = found.iter().filter(|word| **word == "delivered").count();
    assert_eq!((refused, delivered), (1, 9), "{found:?}");
}

#[tokio::test]
async fn a_producer_with_a_fatal_error_is_replaced() {
    let cluster = cluster(1);
    let kafka = kafka(&cluster);
    assert_eq!(words(&kafka, &items(0..1)).await, ["delivered"]);
    let answer = Answer::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER;
    cluster.request_errors(RDKafkaApiKey::Produce, &[answer]);
    let first = words(&kafka, &items(1..2)).await;
    assert_ne!(first, ["refused"]);
    assert_eq!(
        words(&kafka, &items(1..2)).await,
        ["delivered"],
        "{first:?}"
    );
}

#[tokio::test]
async fn a_broker_that_is_not_there_says_why_and_an_address_that_is_denied_trips() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let nobody = Options {
        timeout: Duration::from_secs(1),
        ..options(&format!("127.0.0.1:{port}"))
    };
    let public = Kafka::open(&Options {
        egress: Egress::Public,
        ..nobody.clone()
    })
    .expect("it opens");
    let outcomes = deliver(&public, &items(0..1)).await;
    assert!(
        matches!(&outcomes[0], Outcome::Trip { reason } if reason.contains("not allowed")),
        "{outcomes:?}"
    );
    drop(listener);
    let kafka = Kafka::open(&nobody).expect("it opens");
    let outcomes = deliver(&kafka, &items(0..1)).await;
    assert!(
        matches!(&outcomes[0], Outcome::Retry { reason, .. } if reason.contains("refused")),
        "{outcomes:?}"
    );
    assert!(kafka.check().await.is_err());
}

#[tokio::test]
async fn a_partition_that_ends_before_what_it_acknowledged_has_forgotten() {
    let before = cluster(1);
    let earlier = kafka(&before);
    assert_eq!(earlier.mark(), None);
    assert_eq!(words(&earlier, &items(0..5)).await, ["delivered"; 5]);
    let mark = || Mark {
        bytes: earlier.mark().expect("a mark"),
        exact: false,
    };
    let same = kafka(&before);
    same.take_mark(mark());
    assert_eq!(words(&same, &items(5..6)).await, ["delivered"]);

    let anew = cluster(1);
    let later = kafka(&anew);
    later.take_mark(mark());
    let outcomes = deliver(&later, &items(6..7)).await;
    assert!(
        matches!(&outcomes[0], Outcome::Forgot { reason } if reason.contains("ends at offset 0")),
        "{outcomes:?}"
    );
    later.start_over();
    assert_eq!(later.mark(), None);
    assert_eq!(words(&later, &items(6..7)).await, ["delivered"]);
}

#[test]
fn an_option_that_the_library_does_not_take_is_named_without_its_value() {
    let text = |text: &str| text.to_owned();
    let error = KafkaError::ClientConfig(
        RDKafkaConfRes::RD_KAFKA_CONF_INVALID,
        text("not supported in this build"),
        text("ssl.key.pem"),
        text("hidden-word"),
    );
    assert_eq!(shown(&error), "ssl.key.pem: not supported in this build");
}

// A topic was deleted and made anew while the producer was connected. It went on with the new one, and what
// had not changed since was never sent to it.
#[tokio::test]
async fn a_topic_that_was_made_anew_under_the_producer_has_forgotten() {
    let cluster = cluster(1);
    let kafka = kafka(&cluster);
    assert_eq!(words(&kafka, &items(0..2)).await, ["delivered"; 2]);
    // As if the topic before had been longer.
    kafka.take_mark(Mark {
        bytes: br#"{"catalog":{"0":40}}"#.to_vec(),
        exact: true,
    });
    let outcomes = deliver(&kafka, &items(2..3)).await;
    assert!(
        matches!(&outcomes[0], Outcome::Forgot { reason } if reason.contains("offset 2 after 40")),
        "{outcomes:?}"
    );
    kafka.start_over();
    assert_eq!(words(&kafka, &items(2..3)).await, ["delivered"]);
}

// A channel was reloaded while the broker was away. Its attempt was given up, and its record was sent half a minute
// later, after a newer one.
#[tokio::test]
async fn what_was_given_up_is_not_sent_later() {
    let cluster = cluster(1);
    let kafka = kafka(&cluster);
    assert_eq!(words(&kafka, &items(0..1)).await, ["delivered"]);
    cluster.broker_down(1).expect("it is down");
    let away = items(1..2);
    let given_up = tokio::time::timeout(Duration::from_millis(500), deliver(&kafka, &away)).await;
    assert!(given_up.is_err(), "{given_up:?}");
    cluster.broker_up(1).expect("it is up");
    let back = async { while words(&kafka, &items(2..3)).await != ["delivered"] {} };
    let back = tokio::time::timeout(Duration::from_secs(30), back).await;
    back.expect("it goes on");
    let kept = records(&cluster.bootstrap_servers(), 1).await;
    assert!(kept.iter().all(|record| record.key != "e1"), "{kept:?}");
}

#[tokio::test]
async fn a_topic_that_was_made_anew_with_fewer_partitions_has_forgotten() {
    let cluster = cluster(1);
    let kafka = kafka(&cluster);
    kafka.take_mark(Mark {
        bytes: br#"{"catalog":{"3":5}}"#.to_vec(),
        exact: true,
    });
    let outcomes = deliver(&kafka, &items(0..1)).await;
    assert!(
        matches!(&outcomes[0], Outcome::Forgot { reason } if reason.contains("no partition 3")),
        "{outcomes:?}"
    );
}

// More records were spoiled by one than could be sent singly within the timeout, and all were unknown each time.
#[tokio::test]
async fn a_large_batch_that_fails_for_one_record_is_left_to_be_halved() {
    let cluster = cluster(1);
    let kafka = kafka(&cluster);
    assert_eq!(words(&kafka, &items(0..1)).await, ["delivered"]);
    let answer = Answer::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE;
    // They may have been put into several batches.
    cluster.request_errors(RDKafkaApiKey::Produce, &[answer; 200]);
    let outcomes = deliver(&kafka, &items(1..500)).await;
    cluster.clear_request_errors(RDKafkaApiKey::Produce);
    let split = |outcome: &Outcome| matches!(outcome, Outcome::Split { .. });
    assert!(outcomes.iter().all(split), "{:?}", outcomes[0]);
    assert_eq!(words(&kafka, &items(1..500)).await, ["delivered"; 499]);
}
