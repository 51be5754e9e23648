//! A stream that does not hold any more what it acknowledged.

use super::*;

async fn made_anew(bus: &Bus) -> js::Stream {
    let js = admin(bus).await;
    js.delete_stream("CATALOG").await.expect("it is deleted");
    stream(bus, newest_only()).await
}

#[tokio::test]
async fn a_stream_that_was_made_anew_has_forgotten_also_for_who_was_connected() {
    let Some(bus) = Bus::start("a stream that was made anew") else {
        return;
    };
    stream(&bus, newest_only()).await;
    let nats = nats(bus.port(), subjects());
    let items: Vec<Item> = (0..10)
        .map(|number| item(&format!("e{number}"), number + 1, Some("{}")))
        .collect();
    delivers(&nats, &items).await;
    made_anew(&bus).await;
    // At the latest the second attempt notices: the first meets a stream that does not hold what it knows.
    let first = outcome(&nats, item("e1", 20, Some("2"))).await;
    assert_eq!(
        first.0, "unknown",
        "the new stream has stored it: {first:?}"
    );
    for _ in 0..2 {
        let (word, reason) = outcome(&nats, item("e1", 20, Some("2"))).await;
        assert_eq!(word, "forgot", "{reason}");
        assert!(reason.contains("made anew"), "{reason}");
    }
    nats.start_over();
    assert_eq!(nats.mark(), None);
    delivers(&nats, &items).await;
    assert!(nats.mark().is_some());
}

#[tokio::test]
async fn the_mark_of_an_earlier_start_tells_whether_the_stream_is_the_same() {
    let Some(mut bus) = Bus::start("the mark of a stream") else {
        return;
    };
    stream(&bus, newest_only()).await;
    let before = nats(bus.port(), subjects());
    assert_eq!(before.mark(), None);
    delivers(&before, &[item("a", 1, Some("1"))]).await;
    let mark = |exact| Mark {
        bytes: before.mark().expect("a mark"),
        exact,
    };

    // A restart of the server loses nothing.
    bus.kill();
    bus.restart();
    let same = nats(bus.port(), subjects());
    same.take_mark(mark(true));
    delivers(&same, &[item("a", 2, Some("2"))]).await;

    for exact in [true, false] {
        made_anew(&bus).await;
        let after = nats(bus.port(), subjects());
        after.take_mark(mark(exact));
        let (word, reason) = outcome(&after, item("a", 3, Some("3"))).await;
        assert_eq!(word, "forgot", "{reason}");
    }
}

// A stream was restored from the backup of the night. What it had acknowledged since counted as delivered.
#[tokio::test]
async fn a_stream_that_ends_before_what_it_acknowledged_has_forgotten() {
    let Some(bus) = Bus::start("a stream that was restored") else {
        return;
    };
    stream(&bus, newest_only()).await;
    let nats = nats(bus.port(), subjects());
    delivers(&nats, &[item("a", 1, Some("1"))]).await;
    let mark = nats.mark().expect("a mark");
    let mut later: serde_json::Value = serde_json::from_slice(&mark).expect("JSON");
    later["last"] = 40.into();
    let restored = super::nats(bus.port(), subjects());
    restored.take_mark(Mark {
        bytes: later.to_string().into_bytes(),
        exact: true,
    });
    let (word, reason) = outcome(&restored, item("a", 2, Some("2"))).await;
    assert_eq!(word, "forgot");
    assert!(reason.contains("ends at sequence 1"), "{reason}");
}
