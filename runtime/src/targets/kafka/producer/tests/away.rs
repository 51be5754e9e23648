//! A leader, a topic or a name that is away: it is waited for, and nothing is lost, refused or sent late.

use super::*;

fn quick(cluster: &Cluster) -> Kafka {
    let options = Options {
        timeout: Duration::from_secs(1),
        ..options(&cluster.bootstrap_servers())
    };
    Kafka::open(&options).expect("it opens")
}

fn state(sequence: u64) -> Item {
    item("lamp", sequence, Some("{}"))
}

/// Tries a state while something is wrong. The attempt must end soon, as one of these words, for this reason.
#[track_caller]
fn is(outcomes: &[Outcome], expected: &str, said: &str) {
    let reason = match &outcomes[0] {
        Outcome::Retry { reason, .. } | Outcome::Trip { reason } => reason,
        other => panic!("{other:?}"),
    };
    assert_eq!(word(&outcomes[0]), expected, "{reason}");
    assert!(reason.contains(said), "{said:?} in {reason:?}");
}

/// Delivers a state as soon as it can be.
async fn takes(kafka: &Kafka, state: Item) {
    let there =
        async { while words(kafka, std::slice::from_ref(&state)).await != ["delivered"] {} };
    let there = tokio::time::timeout(Duration::from_secs(30), there).await;
    there.expect("it goes on");
}

// A partition had no leader for a minute. What was tried meanwhile came after the newest state, when there was
// one again, and the channel had only said that a message timed out.
#[tokio::test]
async fn a_partition_without_a_leader_is_waited_for_and_ends_with_the_newest_state() {
    let cluster = cluster(1);
    let kafka = quick(&cluster);
    takes(&kafka, state(1)).await;
    // The mock itself does not bear a partition that has none.
    let not_leader = Answer::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION;
    cluster.request_errors(RDKafkaApiKey::Produce, &[not_leader; 1_000]);
    let none = Answer::RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE;
    cluster.topic_error(TOPIC, none).expect("there is none");
    // After the first, a new producer asks for the end of the partition before it sends anything.
    for (sequence, expected) in [(2, "unknown"), (3, "retry"), (4, "retry")] {
        let began = Instant::now();
        let outcomes = deliver(&kafka, &[state(sequence)]).await;
        assert!(began.elapsed() < Duration::from_secs(10), "it always ends");
        is(
            &outcomes,
            expected,
            "the topic \"catalog\": LeaderNotAvailable",
        );
    }
    cluster.clear_request_errors(RDKafkaApiKey::Produce);
    let fine = Answer::RD_KAFKA_RESP_ERR_NO_ERROR;
    cluster.topic_error(TOPIC, fine).expect("there is one");
    takes(&kafka, state(5)).await;
    let kept = records(&cluster.bootstrap_servers(), 1).await;
    let kept = kept.iter().map(|record| &*record.headers["weir-sequence"]);
    assert_eq!(kept.collect::<Vec<_>>(), ["1", "5"]);
}

// A topic was deleted by mistake. Each attempt timed out, and nobody was told why.
#[tokio::test]
async fn a_topic_that_is_gone_trips_until_it_is_there_again() {
    let cluster = cluster(1);
    let kafka = quick(&cluster);
    takes(&kafka, state(1)).await;
    let gone = Answer::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;
    cluster.topic_error(TOPIC, gone).expect("it is gone");
    cluster.request_errors(RDKafkaApiKey::Produce, &[gone; 1_000]);
    for _ in 0..2 {
        let outcomes = deliver(&kafka, &[state(2)]).await;
        is(&outcomes, "trip", "the topic \"catalog\"");
    }
    cluster.clear_request_errors(RDKafkaApiKey::Produce);
    let fine = Answer::RD_KAFKA_RESP_ERR_NO_ERROR;
    cluster.topic_error(TOPIC, fine).expect("it is back");
    takes(&kafka, state(2)).await;
}

// Two of three replicas were away: the broker took nothing, and it was not the fault of an entity.
#[tokio::test]
async fn too_few_replicas_are_waited_for() {
    let cluster = cluster(1);
    let kafka = quick(&cluster);
    takes(&kafka, state(1)).await;
    let few = Answer::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS;
    cluster.request_errors(RDKafkaApiKey::Produce, &[few; 1_000]);
    let outcomes = deliver(&kafka, &[state(2)]).await;
    is(&outcomes, "unknown", "did not acknowledge in time");
    cluster.clear_request_errors(RDKafkaApiKey::Produce);
    takes(&kafka, state(2)).await;
}

#[tokio::test]
async fn a_name_that_no_broker_has_trips() {
    let kafka = Kafka::open(&options("broker.invalid:9092")).expect("it opens");
    let outcomes = deliver(&kafka, &[state(1)]).await;
    assert!(
        matches!(&outcomes[0], Outcome::Trip { reason } if reason.contains("broker.invalid")),
        "{outcomes:?}"
    );
}

// A broker was away, and more records waited for it than the library keeps. Those were nobody's fault, and the
// target was not told to be slower but given up.
#[tokio::test]
async fn a_full_queue_slows_the_channel_down_and_loses_nothing() {
    let cluster = cluster(1);
    let mut kafka = quick(&cluster);
    let most = 10;
    kafka
        .config
        .set("queue.buffering.max.messages", most.to_string());
    cluster.broker_down(1).expect("it is down");
    let all = items(0..50);
    let found = words(&kafka, &all).await;
    let throttled = found.iter().filter(|word| **word == "throttled").count();
    assert_eq!(throttled, all.len() - most, "{found:?}");
    assert!(found.iter().all(|word| *word != "refused"), "{found:?}");
    cluster.broker_up(1).expect("it is up");
    let mut left: Vec<Item> = all.clone();
    let takes_all = async {
        while !left.is_empty() {
            let found = words(&kafka, &left).await;
            let kept = |word: &&str| *word != "delivered";
            let pairs = std::mem::take(&mut left).into_iter().zip(&found);
            left = pairs
                .filter(|(_, word)| kept(word))
                .map(|(item, _)| item)
                .collect();
        }
    };
    let took = tokio::time::timeout(Duration::from_secs(30), takes_all).await;
    took.expect("it goes on");
    let kept = records(&cluster.bootstrap_servers(), 1).await;
    let keys: std::collections::BTreeSet<_> = kept.iter().map(|record| &record.key).collect();
    assert_eq!(keys.len(), all.len());
}
