//! No older state replaces a newer one, and no state is stored twice.

use super::*;
use crate::targets::proxy::{Proxy, Way};

/// The body and the sequence of the newest message of a subject.
async fn newest(stream: &js::Stream, subject: &str) -> (String, String) {
    let message = stream
        .direct_get_last_for_subject(subject)
        .await
        .expect("a message");
    let header = message.headers.get("weir-sequence");
    let sequence = header.map_or("", |value| value.as_str()).to_owned();
    (
        String::from_utf8_lossy(&message.payload).into_owned(),
        sequence,
    )
}

#[tokio::test]
async fn an_older_state_does_not_replace_a_newer_one_of_this_weir() {
    let Some(bus) = Bus::start("the guard of a stream") else {
        return;
    };
    let stream = stream(&bus, newest_only()).await;
    // Two of them, as before and after a restart.
    let (before, after) = (nats(bus.port(), subjects()), nats(bus.port(), subjects()));
    delivers(&before, &[item("a", 20, Some("new"))]).await;
    delivers(&after, &[item("a", 10, Some("old"))]).await;
    let held = ("new".to_owned(), "20".to_owned());
    assert_eq!(newest(&stream, "catalog.product.a").await, held);
    // The newer one goes on from what the other has written.
    delivers(&after, &[item("a", 30, Some("newer"))]).await;
    delivers(&before, &[item("a", 40, None)]).await;
    delivers(&after, &[item("a", 35, Some("late"))]).await;
    let held = (String::new(), "40".to_owned());
    assert_eq!(newest(&stream, "catalog.product.a").await, held);
}

#[tokio::test]
async fn what_somebody_else_has_written_is_replaced() {
    let Some(bus) = Bus::start("messages of somebody else") else {
        return;
    };
    let stream = stream(&bus, newest_only()).await;
    let js = admin(&bus).await;
    let nats = nats(bus.port(), subjects());
    delivers(&nats, &[item("a", 1, Some("1"))]).await;
    for key in ["a", "b"] {
        let subject = format!("catalog.product.{key}");
        let sent = js.publish(subject, "by hand".into()).await.expect("sent");
        sent.await.expect("stored");
    }
    delivers(&nats, &[item("a", 2, Some("2")), item("b", 3, Some("3"))]).await;
    assert_eq!(newest(&stream, "catalog.product.a").await.0, "2");
    assert_eq!(newest(&stream, "catalog.product.b").await.0, "3");
}

#[tokio::test]
async fn a_state_that_this_weir_has_never_given_out_is_said_and_overwritten_only_when_allowed() {
    let Some(bus) = Bus::start("a stream that is ahead") else {
        return;
    };
    let stream = stream(&bus, newest_only()).await;
    let other = nats(bus.port(), subjects());
    let far = Sequence(HEAD + 50);
    let mut items = [item("a", far.0, Some("other"))];
    let ahead = Attempt {
        head: far,
        ..attempt(&items)
    };
    assert_eq!(other.deliver(ahead).await.outcomes, [Outcome::Delivered]);

    let nats = nats(bus.port(), subjects());
    items[0] = item("a", 5, Some("ours"));
    let outcomes = deliver(&nats, &items).await;
    assert!(
        matches!(&outcomes[..], [Outcome::Ahead { sequence, .. }] if *sequence == far),
        "{outcomes:?}"
    );
    assert_eq!(newest(&stream, "catalog.product.a").await.0, "other");
    let allowed = Attempt {
        foreign: Some(Foreign {
            first: Sequence(HEAD + 1),
            last: Sequence(HEAD + 100),
        }),
        ..attempt(&items)
    };
    assert_eq!(nats.deliver(allowed).await.outcomes, [Outcome::Delivered]);
    assert_eq!(newest(&stream, "catalog.product.a").await.0, "ours");
}

// A proxy between the two forgot answers. Each state was stored twice, and consumers counted changes that
// had not been made.
#[tokio::test]
async fn an_acknowledgement_that_is_lost_does_not_store_a_state_twice() {
    let Some(bus) = Bus::start("lost acknowledgements") else {
        return;
    };
    let config = js::Config {
        max_messages_per_subject: -1,
        ..newest_only()
    };
    let mut stream = stream(&bus, config).await;
    let proxy = Proxy::before(bus.port());
    let nats = Nats::open(&Options {
        timeout: Duration::from_secs(2),
        ..options(proxy.port(), subjects())
    })
    .expect("it opens");
    let items = |sequence: u64| -> Vec<Item> {
        (0..50)
            .map(|number| item(&format!("e{number}"), sequence + number, Some("{}")))
            .collect()
    };
    delivers(&nats, &items(100)).await;
    proxy.is(Way::NoAnswers);
    for outcome in deliver(&nats, &items(200)).await {
        assert_eq!(word(outcome).0, "unknown");
    }
    assert!(proxy.lost() > 0);
    proxy.is(Way::Open);
    delivers(&nats, &items(200)).await;
    delivers(&nats, &items(300)).await;
    let info = stream.info().await.expect("an answer");
    assert_eq!(info.state.messages, 150, "three states of 50 entities");
}

// Somebody purged a subject to see it filled again. The server remembered the message's id for two minutes,
// said "duplicate", and the subject stayed empty.
#[tokio::test]
async fn what_was_purged_is_stored_again_although_its_id_is_known() {
    let Some(bus) = Bus::start("a purge within the window of ids") else {
        return;
    };
    let stream = stream(&bus, newest_only()).await;
    let nats = nats(bus.port(), subjects());
    delivers(&nats, &[item("a", 7, Some("1"))]).await;
    stream.purge().await.expect("it is purged");
    delivers(&nats, &[item("a", 7, Some("1"))]).await;
    assert_eq!(newest(&stream, "catalog.product.a").await.0, "1");
}

/// The way to the server is closed for a while, with messages on it. They may come late, and replace nothing.
#[tokio::test]
async fn messages_that_come_late_replace_nothing() {
    let Some(bus) = Bus::start("late messages") else {
        return;
    };
    let stream = stream(&bus, newest_only()).await;
    let proxy = Proxy::before(bus.port());
    let by_proxy = Nats::open(&Options {
        timeout: Duration::from_secs(2),
        ..options(proxy.port(), subjects())
    })
    .expect("it opens");
    delivers(&by_proxy, &[item("a", 1, Some("1"))]).await;
    proxy.is(Way::Held);
    let (word, _) = outcome(&by_proxy, item("a", 2, Some("2"))).await;
    assert_eq!(word, "unknown");
    // Another way is open, as after a failover.
    let direct = nats(bus.port(), subjects());
    delivers(&direct, &[item("a", 3, Some("3"))]).await;
    proxy.is(Way::Open);
    delivers(&by_proxy, &[item("b", 4, Some("4"))]).await;
    let held = ("3".to_owned(), "3".to_owned());
    assert_eq!(newest(&stream, "catalog.product.a").await, held);
}
