//! Events that come again: told apart by their ids, or by their content.

use super::*;

#[tokio::test]
async fn a_repeated_id_is_told_apart_by_the_sender_s_own_source() {
    let source = source(memory(), None);
    let event = |origin: &str| {
        format!(
            r#"{{"specversion":"1.0","id":"7","source":"{origin}","type":"t","data":{}}}"#,
            change("1", "stock", "1")
        )
    };
    let body = format!("[{},{},{}]", event("a"), event("a"), event("b"));
    check(&source, "application/cloudevents-batch+json", body, expect![[r#"
        202 {"events":{"accepted":2,"filtered":0,"quarantined":0,"repeated":1},"changes":{"committed":1,"unchanged":1,"stale":0},"problems":[],"sequence":1}
    "#]])
    .await;
}

// A sender takes the product's number as the id of its events. The second was gone, behind a 202.
#[tokio::test]
async fn an_id_used_for_something_else_quarantines_its_event_and_an_operator_may_apply_it() {
    let store = memory();
    let source = source(store.clone(), None);
    let event = |time: &str, stock: &str| {
        format!(
            r#"{{"specversion":"1.0","id":"sku-1","source":"/erp","type":"t","time":"{time}","data":{}}}"#,
            change("1", "stock", stock)
        )
    };
    let body = format!(
        "[{},{},{}]",
        event("2026-11-29T08:00:00Z", "1"),
        event("2026-11-29T08:01:00Z", "1"),
        event("2026-11-29T08:02:00Z", "2")
    );
    check(
        &source,
        "application/cloudevents-batch+json",
        body,
        expect![[r#"
            202 {"events":{"accepted":1,"filtered":0,"quarantined":1,"repeated":1},"changes":{"committed":1,"unchanged":0,"stale":0},"problems":[{"index":2,"code":"id-reused","detail":"an earlier event had the id `sku-1` and another content, so this one was not applied; the sender must give each event an id of its own, and the same only when it sends an event again"}],"sequence":2}
        "#]],
    )
    .await;
    assert_eq!(value(&*store, "1", "stock").as_deref(), Some("1"));
    let redriven = source.redrive(quarantined(&*store)).await.unwrap();
    assert_eq!(redriven.changes.committed, 1);
    assert_eq!(value(&*store, "1", "stock").as_deref(), Some("2"));
}

/// The response to a webhook with these headers.
async fn hook(source: &Source, headers: &[(&str, &str)], body: &str) -> EventCounts {
    let all = headers.iter().copied().chain([("content-type", JSON)]);
    let incoming = Incoming {
        headers: Headers::from_iter(all),
        ..incoming(JSON, body.to_owned())
    };
    source.accept(incoming).await.unwrap().events
}

// A sender's first attempt times out at its side, the price changes, and then the retry of the first
// attempt arrives. It brought the old price back, and each attempt at a bad event was kept again.
#[tokio::test]
async fn a_late_retry_of_a_webhook_takes_nothing_back() {
    let presets = [
        ("standard-webhooks", "webhook-id", ""),
        ("github", "x-github-delivery", "x-github-event"),
        ("shopify", "x-shopify-webhook-id", "x-shopify-topic"),
        ("shopify", "shopify-webhook-id", "shopify-topic"),
    ];
    for (preset, id, topic) in presets {
        let naming = preset_of(preset).naming;
        let store = memory();
        let options = Options {
            naming,
            ..options()
        };
        let source = source_of(options, store.clone(), None);
        let send = async |number: &str, facet: &str, value: &str| {
            let headers = [(id, number), (topic, "products/update")];
            hook(&source, &headers, &change("1", facet, value)).await
        };
        assert_eq!(send("a", "price.de", "10").await.accepted, 1);
        assert_eq!(send("b", "price.de", "12").await.accepted, 1);
        assert_eq!(send("a", "price.de", "10").await.repeated, 1);
        assert_eq!(value(&*store, "1", "price.de").as_deref(), Some("12"));
        assert_eq!(
            send("c", "price.de", "10").await.accepted,
            1,
            "the same body under another id is a change"
        );
        assert_eq!(value(&*store, "1", "price.de").as_deref(), Some("10"));

        assert_eq!(send("d", "content", "1").await.quarantined, 1);
        assert_eq!(send("d", "content", "1").await.repeated, 1);
        let kept = store.shelf("erp-conditions").list(None, 9).unwrap();
        let event = &kept[0].event.event;
        let topic = if topic.is_empty() {
            ""
        } else {
            "products/update"
        };
        assert_eq!(
            (kept.len(), event.id.as_str(), event.event_type.as_str()),
            (1, "d", topic)
        );
    }
}

// Without an id in the request nothing says that 10 came before: a signature of the body is none.
#[tokio::test]
async fn ten_twelve_ten_without_ids_are_three_changes_and_an_id_in_the_body_is_an_id() {
    let store = memory();
    let plain = source(store.clone(), None);
    for price in ["10", "12", "10"] {
        let events = hook(&plain, &[], &change("1", "price.de", price)).await;
        assert_eq!(events.accepted, 1);
    }
    assert_eq!(value(&*store, "1", "price.de").as_deref(), Some("10"));
    let named = Options {
        naming: naming::Naming {
            id: Some(naming::IdFrom::Pointer("/nr".into())),
            event_type: Vec::new(),
        },
        ..options()
    };
    let mapped = source_of(
        named,
        store,
        chain(|_| Some(EventVerdict::Changes(Vec::new()))),
    );
    for (body, repeated) in [(r#"{"nr":1}"#, 0), (r#"{"nr":2}"#, 0), (r#"{"nr":1}"#, 1)] {
        assert_eq!(hook(&mapped, &[], body).await.repeated, repeated, "{body}");
    }
}

// The first attempt was taken in part, as far as the store had room, and is sent again as a whole.
#[tokio::test]
async fn each_line_of_a_webhook_has_an_identity_of_its_own() {
    let store = memory();
    let options = Options {
        naming: preset_of("standard-webhooks").naming,
        ..options()
    };
    let source = source_of(options, store.clone(), None);
    let send = async |body: String| {
        let headers = [("content-type", NDJSON), ("webhook-id", "m")];
        let incoming = Incoming {
            headers: Headers::from_iter(headers),
            ..incoming(NDJSON, body)
        };
        source.accept(incoming).await.unwrap().events
    };
    let first = [
        change("1", "stock", "1"),
        "oops".into(),
        change("2", "stock", "2"),
    ];
    let events = send(first[..2].join("\n")).await;
    assert_eq!((events.accepted, events.quarantined), (1, 1));
    let events = send(first.join("\n")).await;
    assert_eq!(
        (events.accepted, events.repeated, events.quarantined),
        (1, 1, 1)
    );
    let kept = store.shelf("erp-conditions").list(None, 9).unwrap();
    assert_eq!((kept.len(), kept[0].count), (1, 2));
    assert_eq!(kept[0].event.event.id, "m/1");

    // The id comes again with something else, some of which cannot be read.
    let other = [change("1", "stock", "9"), "oops!".into()];
    let events = send(other.join("\n")).await;
    assert_eq!((events.accepted, events.quarantined), (0, 2));
    assert_eq!(value(&*store, "1", "stock").as_deref(), Some("1"));
}

// A file of bad rows arrives each night.
#[tokio::test]
async fn the_same_bad_rows_each_night_are_kept_once_and_counted() {
    let store = memory();
    let source = source(store.clone(), None);
    let body = ["{}", "oops", &change("1", "stock", "1")].join("\n");
    for night in 1..=4 {
        let answer = post(&source, NDJSON, body.clone()).await.unwrap();
        assert_eq!(answer.events.quarantined, 2, "night {night}");
    }
    let kept = store.shelf("erp-conditions").list(None, 9).unwrap();
    let counts: Vec<u64> = kept.iter().map(|kept| kept.count).collect();
    assert_eq!((counts, source.quarantined()), (vec![4, 4], 2));
}
