//! Events and items that are redriven from quarantine.

use super::*;

// An export of three lines, the second cut off. It was in no count and kept nowhere, behind a 202
// that its sender looked at no further.
#[tokio::test]
async fn a_line_that_cannot_be_read_is_kept_as_its_bytes_until_it_is_redriven_or_dropped() {
    let store = memory();
    let plain = source(store.clone(), None);
    let body = [
        change("1", "stock", "1").as_bytes(),
        br#"{"type":"product","key":"2","fac"#,
        b"\"\xff\"",
    ]
    .join(&b'\n');
    let answer = post(&plain, NDJSON, body).await.unwrap();
    assert_eq!((answer.events.accepted, answer.events.quarantined), (1, 2));
    let kept = store.shelf("erp-conditions").list(None, 9).unwrap();
    assert!(kept.iter().all(|kept| kept.event.unread));
    assert_eq!(
        kept[0].event.event.data.as_bytes(),
        br#"{"type":"product","key":"2","fac"#
    );
    assert_eq!(
        kept[1].event.event.data,
        Payload::Binary(b"\"\xff\"".to_vec())
    );

    // Nothing was fixed: both stay under their numbers.
    let redriven = plain.redrive(quarantined(&*store)).await.unwrap();
    assert_eq!(redriven.events.quarantined, 2);
    let still = store.shelf("erp-conditions").list(None, 9).unwrap();
    assert_eq!(
        still.iter().map(|kept| kept.sequence).collect::<Vec<_>>(),
        kept.iter().map(|kept| kept.sequence).collect::<Vec<_>>()
    );
    assert!(still[0].event.unread && still[0].event.failure.code == "invalid-json");
}

// The source takes plain lines, and its mapper was configured only after the first file had come.
#[tokio::test]
async fn lines_that_were_not_understood_without_a_mapper_are_redriven_with_it() {
    let store = memory();
    let lines = |chain| {
        let options = Options {
            split: split::Split::Lines,
            ..options()
        };
        source_of(options, store.clone(), chain)
    };
    let body = [change("1", "stock", "1"), "4711;12".into()].join("\n");
    let answer = post(&lines(None), "text/plain", body).await.unwrap();
    assert_eq!((answer.events.accepted, answer.events.quarantined), (1, 1));
    let mapped = lines(chain(|event| {
        let (key, stock) = text(event).split_once(';')?;
        Some(EventVerdict::Changes(vec![Change {
            entity_type: "product".into(),
            key: key.into(),
            facet: "stock".into(),
            value: Some(stock.into()),
            version: None,
            lane: None,
        }]))
    }));
    let redriven = mapped.redrive(quarantined(&*store)).await.unwrap();
    assert_eq!(redriven.events.accepted, 1);
    assert_eq!(value(&*store, "4711", "stock").as_deref(), Some("12"));
    assert_eq!(mapped.quarantined(), 0);
}

// Every kind of item comes back from quarantine as what it was: a CloudEvent of a batch that lacked
// its id, and a record of CSV together with the names of its columns.
#[tokio::test]
async fn an_unread_item_keeps_what_it_takes_to_read_it_again() {
    let store = memory();
    let source = source_of(
        Options {
            split: split::Split::Csv(split::Dialect::default()),
            headers: vec!["x-*".into()],
            ..options()
        },
        store.clone(),
        chain(|_| Some(EventVerdict::Changes(Vec::new()))),
    );
    let batch =
        r#"[{"specversion":"1.0","id":"1","source":"/a","type":"t"},{"specversion":"1.0"}]"#;
    let csv = "sku,name\n\n1,Lamp\n2\n";
    for (content_type, body) in [
        ("application/cloudevents-batch+json", batch),
        ("text/csv", csv),
    ] {
        let headers = [("content-type", content_type), ("x-client", "100")];
        let incoming = Incoming {
            headers: Headers::from_iter(headers),
            ..incoming(content_type, body)
        };
        let answer = source.accept(incoming).await.unwrap();
        assert_eq!((answer.events.filtered, answer.events.quarantined), (1, 1));
    }
    let kept = store.shelf("erp-conditions").list(None, 9).unwrap();
    let seen: Vec<_> = kept
        .iter()
        .map(|kept| {
            let event = &kept.event.event;
            (event.content_type.as_deref().unwrap(), text(event))
        })
        .collect();
    assert_eq!(
        seen,
        [
            ("application/cloudevents+json", r#"{"specversion":"1.0"}"#),
            ("text/csv; header=present", "sku,name\n2\n"),
        ]
    );
    let again = |content_type: &str, data: &str| {
        let mut item = kept[0].event.event.clone();
        item.content_type = Some(content_type.into());
        item.data = Payload::Text(data.into());
        envelope::read_again(&options(), false, &item).unwrap()
    };
    let whole = r#"{"specversion":"1.0","id":"2","source":"/a","type":"t"}"#;
    let event = again("application/cloudevents+json", whole);
    assert_eq!(
        (event.id.as_str(), event.attributes.as_slice()),
        ("2", &[("x-client".to_owned(), "100".to_owned())][..])
    );
    let event = again("text/csv; header=present", "sku,name\n2,Bowl\n");
    assert_eq!(text(&event), r#"{"sku":"2","name":"Bowl"}"#);
    let redriven = source.redrive(quarantined(&*store)).await.unwrap();
    assert_eq!(redriven.events.quarantined, 2);
}

// An operator repairs the mapper and redrives the events. Those that can be written now leave the
// quarantine, those that fail again stay with the new reason, and none overwrites a newer change.
#[tokio::test]
async fn events_given_again_go_through_the_plugins_of_now() {
    let store = memory();
    let failing = chain(|_| Some(failed("erp@1", Failure::new("old", "a bug"))));
    let body = [
        change("1", "stock", "1"),
        change("2", "stock", "1"),
        change("1", "content", "1"),
    ]
    .join("\n");
    post(&source(store.clone(), failing), NDJSON, body)
        .await
        .unwrap();
    post(
        &source(store.clone(), None),
        NDJSON,
        change("1", "stock", "9"),
    )
    .await
    .unwrap();

    let mended = source(store.clone(), None);
    let redriven = mended
        .redrive(vec![Sequence(2), Sequence(99)])
        .await
        .unwrap();
    assert_eq!(
        (
            redriven.events.accepted,
            redriven.changes.committed,
            redriven.missing
        ),
        (1, 1, 1)
    );
    let redriven = mended.redrive(quarantined(&*store)).await.unwrap();
    assert_eq!(
        (
            redriven.events.accepted,
            redriven.changes.stale,
            redriven.events.quarantined
        ),
        (1, 1, 1)
    );
    assert_eq!(value(&*store, "1", "stock").as_deref(), Some("9"));
    assert_eq!(value(&*store, "2", "stock").as_deref(), Some("1"));
    let left = store.shelf("erp-conditions").list(None, 9).unwrap();
    assert_eq!(left.len(), 1);
    assert_eq!(
        (left[0].sequence, left[0].event.failure.code.as_str()),
        (Sequence(3), "foreign"),
        "same place, new reason"
    );
}

// The source had a mapper, so its events were not checked to be JSON; then the mapper was removed.
#[tokio::test]
async fn an_event_from_a_mapper_s_time_is_checked_when_it_is_given_again() {
    let store = memory();
    let failing = source(
        store.clone(),
        chain(|_| Some(failed("erp@1", Failure::new("old", "a bug")))),
    );
    let deep = format!(
        r#"{{"type":"product","key":"1","facet":"stock","value":{}1{}}}"#,
        "[".repeat(50_000),
        "]".repeat(50_000)
    );
    assert_eq!(
        post(&failing, "text/plain", "<a/>")
            .await
            .unwrap()
            .events
            .quarantined,
        1
    );
    assert_eq!(
        post(&failing, "text/plain", deep.into_bytes())
            .await
            .unwrap()
            .events
            .quarantined,
        1
    );
    let redriven = source(store.clone(), None)
        .redrive(quarantined(&*store))
        .await
        .unwrap();
    assert_eq!(
        redriven.events,
        EventCounts {
            quarantined: 2,
            ..Default::default()
        }
    );
    let left = store.shelf("erp-conditions").list(None, 9).unwrap();
    assert_eq!(
        left.iter()
            .map(|left| left.event.failure.code.as_str())
            .collect::<Vec<_>>(),
        ["invalid-json", "too-deep"]
    );
}

// The changes of two events were durable when the disk became full. The answer to the redrive was
// that nothing had been taken.
#[tokio::test]
async fn a_redrive_that_ends_early_tells_what_it_has_done() {
    let store = memory();
    let failing = chain(|_| Some(failed("erp@1", Failure::new("old", "a bug"))));
    let body = [change("1", "stock", "1"), change("2", "stock", "1")].join("\n");
    let quarantines = source(store.clone(), failing);
    post(&quarantines, NDJSON, body).await.unwrap();
    let full = Arc::new(Failing {
        inner: store.clone(),
        after: AtomicUsize::new(usize::MAX),
        error: store::Error::Busy { waiting: 1 },
    });
    let ended = source(full, None).redrive(quarantined(&*store)).await;
    let rejection = ended.expect_err("nothing can leave the quarantine");
    let taken = rejection.taken().expect("counts");
    assert_eq!((taken.events.accepted, taken.changes.committed), (2, 2));
    assert_eq!(value(&*store, "2", "stock").as_deref(), Some("1"));
}
