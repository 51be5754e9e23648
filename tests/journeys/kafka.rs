//! Kafka from outside, against the library's mock of a cluster.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::mocking::MockCluster;
use rdkafka::{Offset, TopicPartitionList};
use serde_json::{Value, json};

use crate::support::{Stage, change, eventually, within};

const CATALOG: &str = r#"
[entities.product]
facets.content = { owner = "pim" }
[sources.pim]
[targets.bus]
kind = "kafka"
brokers = ["{broker}"]
topic = "catalog"
timeout = "5s"
[channels.bus]
entity = "product"
facets = ["content"]
target = "bus"
retry = { first = "20ms", cap = "200ms" }
"#;

fn contents(content: i32) -> Vec<Value> {
    (0..200)
        .map(|number| change(&format!("p{number}"), "content", json!(content)))
        .collect()
}

/// The newest content of each product in the topic.
fn newest(broker: &str) -> BTreeMap<String, Value> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", broker)
        .set("group.id", "reader")
        .create()
        .expect("a consumer");
    let mut list = TopicPartitionList::new();
    list.add_partition_offset("catalog", 0, Offset::Beginning)
        .expect("an offset");
    consumer.assign(&list).expect("it reads");
    let ends = consumer.fetch_watermarks("catalog", 0, Duration::from_secs(10));
    let (_, end) = ends.expect("its end");
    let (mut newest, mut next) = (BTreeMap::new(), 0);
    while next < end {
        let read = || consumer.poll(Duration::from_millis(100))?.ok();
        let message = eventually("a record", read);
        let text =
            |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.expect("bytes")).into_owned();
        let value: Value = serde_json::from_str(&text(message.payload())).expect("JSON");
        newest.insert(text(message.key()), value["facets"]["content"].clone());
        next = message.offset() + 1;
    }
    newest
}

// A broker was being restarted when Weir was told to stop. Weir waited for it until it was killed, and nobody knew
// what had been sent.
#[test]
fn a_stop_does_not_wait_for_a_broker_that_is_away_and_nothing_is_lost() {
    let cluster = MockCluster::new(1).expect("a cluster");
    cluster.create_topic("catalog", 1, 1).expect("a topic");
    let broker = cluster.bootstrap_servers();
    let mut stage = Stage::with(&CATALOG.replace("{broker}", &broker));
    stage.takes("pim", &contents(1));
    stage.settles("bus");
    cluster.broker_down(1).expect("it is down");
    stage.takes("pim", &contents(2));
    eventually("records wait for the broker", || {
        let channel = stage.channel("bus");
        (channel["in_flight"] != 0 || channel["parked"] != 0).then_some(())
    });
    let took = stage.stop();
    assert!(took < Duration::from_secs(10), "it took {took:?}");
    cluster.broker_up(1).expect("it is up");
    stage.start();
    let expected = (0..200).map(|number| (format!("p{number}"), json!(2)));
    let expected: BTreeMap<_, _> = expected.collect();
    within(
        Duration::from_secs(60),
        "the topic has the newest of all",
        || (newest(&broker) == expected).then_some(()),
    );
    stage.settles("bus");
    assert_eq!(stage.refused("bus"), Vec::<Value>::new());
}
