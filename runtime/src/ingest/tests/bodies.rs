//! Bodies as senders write them: encodings, forms, and bodies that cannot be read.

use super::*;
use crate::ingest::charset::Charset;

/// A source whose events are JSON objects with a key and a value, written by a mapper as stock.
fn mapped(store: &Arc<Memory>, options: Options) -> Source {
    let chain = chain(|event| {
        let read = |name: &str| {
            let object: serde_json::Value = serde_json::from_str(text(event)).ok()?;
            Some(object[name].as_str()?.to_owned())
        };
        let Some((key, stock)) = read("key").zip(read("stock")) else {
            return Some(failed("stock@1", Failure::new("no-json", "it is no JSON")));
        };
        if stock == "broken" {
            return Some(failed("stock@1", Failure::new("broken", "it is broken")));
        }
        Some(EventVerdict::Changes(vec![Change {
            entity_type: "product".into(),
            key,
            facet: "stock".into(),
            value: Some(serde_json::Value::from(stock).to_string().into()),
            version: None,
            lane: None,
        }]))
    });
    source_of(options, store.clone(), chain)
}

/// A source that keeps bodies that it cannot read.
fn keeping(split: split::Split) -> Options {
    Options {
        split,
        unreadable: true,
        ..options()
    }
}

fn csv() -> split::Split {
    split::Split::Csv(split::Dialect::default())
}

fn items(pointer: &str) -> split::Split {
    split::Split::Json(pointer.to_owned())
}

fn stock(store: &Memory, key: &str) -> Option<String> {
    value(store, key, "stock")
}

fn kept(store: &Memory) -> Vec<store::QuarantinedEvent> {
    store.shelf("erp-conditions").list(None, 99).unwrap()
}

// An ERP exported in Windows-1252 to a source that expected UTF-8. It took the 400 for an answer, and the next
// export came a month later.
#[tokio::test]
async fn a_body_that_cannot_be_read_is_kept_until_the_setting_is_right() {
    let store = memory();
    let wrong = mapped(&store, keeping(csv()));
    let body: &[u8] = b"key,stock,Gr\xf6\xdfe\n1,10,gro\xdf\n2,20,klein\n";
    for count in [1, 2] {
        let answer = post(&wrong, "text/csv", body).await.unwrap();
        assert_eq!(answer.events.quarantined, 1, "{answer:?}");
        assert_eq!(answer.problems[0].code, "invalid-utf-8");
        let kept = kept(&store);
        assert_eq!((kept.len(), kept[0].count), (1, count));
        assert!(kept[0].event.unread && kept[0].event.whole);
        assert_eq!(kept[0].event.event.data.as_bytes(), body);
    }
    let shown = beginning(&kept(&store)[0].event.event, None).unwrap();
    assert!(shown.starts_with("key,stock,Größe\n"), "{shown}");

    // Nothing was changed, so it stays as it is.
    let place = quarantined(&*store);
    let still = wrong.redrive(place.clone()).await.unwrap();
    assert_eq!((still.events.quarantined, still.events.accepted), (1, 0));
    assert_eq!(still.failures[0].sequence, place[0]);
    assert_eq!(quarantined(&*store), place);
    assert_eq!(kept(&store)[0].count, 2);

    let right = Options {
        encoding: Charset::of_label("windows-1252"),
        ..keeping(csv())
    };
    let right = mapped(&store, right);
    let redriven = right.redrive(place).await.unwrap();
    assert_eq!(
        (redriven.events.accepted, redriven.changes.committed),
        (2, 2)
    );
    assert_eq!(quarantined(&*store), []);
    assert_eq!(stock(&store, "1").as_deref(), Some(r#""10""#));
    assert_eq!(stock(&store, "2").as_deref(), Some(r#""20""#));
    let counts = right.activity().counts();
    assert_eq!((counts.events.accepted, counts.events.quarantined), (2, 0));
    assert_eq!(wrong.activity().counts().malformed, 0);
}

// The events of a kept body are older than what has come since, and as old as each other: the last of them about a
// facet is the one that counts.
#[tokio::test]
async fn a_kept_body_has_its_place_in_time_and_its_events_their_order() {
    let store = memory();
    let wrong = mapped(&store, keeping(items("/rows")));
    let row = |key: &str, stock: &str| format!(r#"{{"key":"{key}","stock":"{stock}"}}"#);
    let rows = [
        row("1", "10"),
        row("2", "20"),
        row("1", "12"),
        row("1", "broken"),
        row("1", "11"),
    ];
    let body = format!(r#"{{"items":[{},7]}}"#, rows.join(","));
    let answer = post(&wrong, "application/json", body).await.unwrap();
    assert_eq!(answer.events.quarantined, 1);
    let place = quarantined(&*store);
    let right = mapped(&store, keeping(items("/items")));
    let newer = format!(r#"{{"items":[{}]}}"#, row("2", "99"));
    post(&right, "application/json", newer).await.unwrap();

    let redriven = right.redrive(place.clone()).await.unwrap();
    assert_eq!(
        (redriven.events.accepted, redriven.events.quarantined),
        (4, 2),
        "{redriven:?}"
    );
    assert_eq!(redriven.changes.stale, 1);
    assert_eq!(stock(&store, "1").as_deref(), Some(r#""11""#));
    assert_eq!(stock(&store, "2").as_deref(), Some(r#""99""#));
    // What failed has a place of its own, and remembers when it arrived.
    let parts = kept(&store);
    let seen: Vec<_> = parts
        .iter()
        .map(|kept| {
            (
                kept.event.failure.code.as_str(),
                kept.event.arrived,
                kept.event.whole,
            )
        })
        .collect();
    let since = Some(place[0]);
    assert_eq!(seen, [("broken", since, false), ("no-json", since, false)]);
    let again = right.redrive(quarantined(&*store)).await.unwrap();
    assert_eq!(again.events.quarantined, 2);
    assert_eq!(kept(&store)[0].event.arrived, since);
}

// Whoever redrove two prices of one product got the older one: it was written last, so the newer one counted as
// overtaken.
#[tokio::test]
async fn of_events_that_are_redriven_together_the_newest_counts() {
    let store = memory();
    let failing = chain(|_| Some(failed("erp@1", Failure::new("old", "a bug"))));
    let broken = source(store.clone(), failing);
    for value in ["10", "12", "11"] {
        post(&broken, NDJSON, change("1", "stock", value))
            .await
            .unwrap();
    }
    let mended = source(store.clone(), None);
    let redriven = mended.redrive(quarantined(&*store)).await.unwrap();
    assert_eq!((redriven.changes.committed, redriven.changes.stale), (3, 0));
    assert_eq!(stock(&store, "1").as_deref(), Some("11"));
    assert_eq!(mended.quarantined(), 0);
}

#[tokio::test]
async fn every_body_that_cannot_be_read_is_rejected_or_kept_as_configured() {
    let packed = {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(&vec![b' '; 300_000]).unwrap();
        encoder.finish().unwrap()
    };
    /// Headers, body, status, and words of the message.
    type Case<'a> = (&'a [(&'a str, &'a str)], &'a [u8], u16, &'a str);
    let cases: [Case<'_>; 8] = [
        (
            &[("content-type", "application/json")],
            b"{\"a\":",
            400,
            "invalid-json",
        ),
        (
            &[("content-type", "application/json")],
            b"{\"a\":\"\xff\"}",
            400,
            "invalid-utf-8",
        ),
        (&[], b"", 400, "empty-body"),
        (
            &[("content-type", "multipart/form-data; boundary=x")],
            b"--x--",
            415,
            "unsupported-media-type",
        ),
        (
            &[("content-type", "text/plain; charset=cp437")],
            b"a",
            415,
            "unsupported-media-type",
        ),
        (
            &[("content-encoding", "zstd")],
            b"\x28\xb5\x2f\xfd",
            415,
            "unsupported-media-type",
        ),
        (
            &[("content-encoding", "gzip")],
            b"\x1f\x8b\x08",
            400,
            "invalid-gzip",
        ),
        (&[("content-encoding", "gzip")], &packed, 413, "too-large"),
    ];
    for (headers, body, status, code) in cases {
        let store = memory();
        let sent = |options: Options| {
            let source = mapped(&store, options);
            let incoming = Incoming {
                headers: Headers::from_iter(headers.iter().copied()),
                ..incoming("", body.to_vec())
            };
            async move { source.accept(incoming).await }
        };
        let rejected = sent(options()).await.unwrap_err();
        let answer = (http::status(&rejected).as_u16(), rejected.code());
        assert_eq!(answer, (status, code), "{rejected}");
        assert_eq!(quarantined(&*store), []);
        let answer = sent(keeping(split::Split::Whole)).await.unwrap();
        assert_eq!(answer.events.quarantined, 1, "{code}");
        assert_eq!(answer.problems[0].code, code);
        let kept = kept(&store).remove(0).event;
        assert_eq!((kept.event.data.as_bytes(), kept.whole), (body, true));
        let is_packed = headers.iter().any(|(name, _)| *name == "content-encoding");
        let says_so = kept
            .event
            .attributes
            .iter()
            .any(|(name, _)| name == "content-encoding");
        assert_eq!(is_packed, says_so, "{code}");
    }
}

// A limit that is raised later lets a kept body in, and the quarantine has a limit too.
#[tokio::test]
async fn what_is_kept_is_bounded_and_a_packed_body_is_unpacked_when_it_is_redriven() {
    let store = memory();
    let lines = |body_bytes_max| Options {
        body_bytes_max,
        ..keeping(split::Split::Lines)
    };
    let row = format!("{{\"key\":\"1\",\"stock\":\"7\"}}{}\n", " ".repeat(3000));
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(row.as_bytes()).unwrap();
    let packed = encoder.finish().unwrap();
    let small = mapped(&store, lines(2000));
    let packed = Incoming {
        headers: Headers::from_iter([("content-encoding", "gzip"), ("content-type", "text/plain")]),
        ..incoming("", packed)
    };
    let answer = small.accept(packed).await.unwrap();
    assert_eq!(answer.problems[0].code, "too-large");
    let redriven = mapped(&store, lines(9000))
        .redrive(quarantined(&*store))
        .await;
    assert_eq!(redriven.unwrap().events.accepted, 1);
    assert_eq!(stock(&store, "1").as_deref(), Some(r#""7""#));

    let source = mapped(&store, keeping(split::Split::Whole));
    for number in 0..3 {
        let body = format!("{{{number}");
        let answer = post(&source, "application/json", body).await.unwrap();
        assert_eq!(answer.events.quarantined, 1);
    }
    let full = post(&source, "application/json", "{").await.unwrap_err();
    assert!(matches!(full, Rejection::QuarantineFull { .. }), "{full}");
    // Whoever is not verified leaves nothing here.
    let token = crate::signature::Secret(b"a secret of the sender".to_vec());
    let options = Options {
        verify: verify::Options::Bearer {
            tokens: vec![token],
        },
        ..keeping(split::Split::Whole)
    };
    let store = memory();
    let refused = post(&mapped(&store, options), "application/json", "{").await;
    assert!(matches!(refused, Err(Rejection::NotVerified(_))));
    assert_eq!(quarantined(&*store), []);
}

// Of a file none of whose lines could be understood nothing was kept.
#[tokio::test]
async fn items_none_of_which_can_be_read_are_kept_one_by_one() {
    let store = memory();
    let source = mapped(&store, keeping(split::Split::Lines));
    let answer = post(&source, NDJSON, "{\n[\n").await.unwrap();
    assert_eq!(answer.events.quarantined, 2);
    assert!(
        kept(&store)
            .iter()
            .all(|kept| kept.event.unread && !kept.event.whole)
    );
}

// A part of an export in Windows-1252 was kept, the lines with umlauts. They are read by the encoding that the
// source has now; what was decoded before it was kept is not decoded twice.
#[tokio::test]
async fn unread_items_are_read_again_in_the_encoding_of_now() {
    let store = memory();
    let source = |encoding: Option<&str>| {
        let options = Options {
            encoding: encoding.and_then(Charset::of_label),
            ..keeping(csv())
        };
        mapped(&store, options)
    };
    let body: &[u8] = b"key,stock\n1,a\n2,gro\xdf\n";
    let answer = post(&source(None), "text/csv", body).await.unwrap();
    assert_eq!((answer.events.accepted, answer.events.quarantined), (1, 1));
    let latin = source(Some("windows-1252"));
    let answer = post(&latin, "text/csv", b"key,stock\n1,b\n3;gro\xdf\n".to_vec())
        .await
        .unwrap();
    assert_eq!((answer.events.accepted, answer.events.quarantined), (1, 1));
    let redriven = latin.redrive(quarantined(&*store)).await.unwrap();
    assert_eq!(
        (redriven.events.accepted, redriven.events.quarantined),
        (1, 1)
    );
    assert_eq!(stock(&store, "2").as_deref(), Some(r#""groß""#));
    let left = kept(&store).remove(0).event;
    assert_eq!(text(&left.event), "key,stock\n3;groß\n");
    assert_eq!(left.failure.code, "invalid-csv");
}

/// What a mapper gets of a body, with its media type.
fn given(options: &Options, headers: &[(&str, &str)], body: &[u8]) -> Vec<String> {
    let headers = Headers::from_iter(headers.iter().copied());
    let body = Bytes::copy_from_slice(body);
    match envelope::open(options, false, &headers, body, &memory_for_one()) {
        Ok(opened) => opened
            .events
            .iter()
            .map(|event| {
                let kind = event.content_type.as_deref().unwrap_or("-");
                let names = [event.event_type.as_str(), event.id.as_str()].join(" ");
                format!("{}|{kind}|{}", names.trim(), text(event))
            })
            .collect(),
        Err(rejection) => vec![format!("{}: {rejection}", rejection.code())],
    }
}

#[test]
fn text_in_another_encoding_reaches_the_mapper_as_utf_8_and_says_so() {
    let latin = |content_type: &str, body: &[u8]| {
        given(&options(), &[("content-type", content_type)], body)
    };
    assert_eq!(
        latin(
            "text/xml; charset=iso-8859-1",
            b"<?xml version='1.0' encoding='ISO-8859-1'?><a>\xf6</a>"
        ),
        ["|text/xml; charset=utf-8|<?xml version='1.0' encoding='UTF-8'?><a>ö</a>"]
    );
    assert_eq!(
        latin(
            "application/xml",
            b"<?xml version='1.0' encoding='ISO-8859-1'?><a>\xf6</a>"
        ),
        ["|application/xml; charset=utf-8|<?xml version='1.0' encoding='UTF-8'?><a>ö</a>"]
    );
    assert_eq!(
        latin("text/plain", b"\xff\xfea\0\xf6\0"),
        ["|text/plain; charset=utf-8|aö"]
    );
    // JSON is UTF-8, whatever is said about it.
    for content_type in [
        "application/json; charset=iso-8859-1",
        "application/vnd.shop+json",
    ] {
        let seen = latin(content_type, b"[\"\xf6\"]");
        assert!(seen[0].starts_with("invalid-utf-8: "), "{seen:?}");
    }
    let cp850 = Options {
        encoding: Charset::of_label("cp850"),
        ..options()
    };
    let edi = given(
        &cp850,
        &[("content-type", "application/edifact")],
        b"UNA:+.? 'NAD+T\x81r'",
    );
    assert_eq!(
        edi,
        ["|application/edifact; charset=utf-8|UNA:+.? 'NAD+Tür'"]
    );
    let event = [
        ("ce-specversion", "1.0"),
        ("ce-id", "7"),
        ("ce-source", "/erp"),
        ("ce-type", "door"),
        ("content-type", "text/plain; charset=windows-1252"),
    ];
    assert_eq!(
        given(&options(), &event, b"T\xfcr"),
        ["door 7|text/plain; charset=utf-8|Tür"]
    );
    let lines = Options {
        split: split::Split::Lines,
        ..cp850.clone()
    };
    assert_eq!(
        given(
            &lines,
            &[("content-type", "text/plain")],
            b"T\x81r\r\n\r\nOma\n\x1a"
        ),
        [
            "|text/plain; charset=utf-8|Tür",
            "|text/plain; charset=utf-8|Oma"
        ]
    );
    let elements = Options {
        split: split::Split::Xml("i".into()),
        ..cp850
    };
    assert_eq!(
        given(
            &elements,
            &[("content-type", "text/xml")],
            b"<a><i>T\x81r</i><i/></a>"
        ),
        ["|application/xml|<i>Tür</i>", "|application/xml|<i/>"]
    );
}

#[test]
fn a_form_is_the_event_that_it_contains() {
    const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");
    let github = Options {
        naming: verify::presets::named("github").expect("a preset").naming,
        ..options()
    };
    let delivery = [
        FORM,
        ("x-github-event", "push"),
        ("x-github-delivery", "7f3a"),
    ];
    assert_eq!(
        given(
            &github,
            &delivery,
            b"a=b&payload=%7B%22ref%22%3A%22main+1%22%7D"
        ),
        [r#"push 7f3a|application/json|{"ref":"main 1"}"#]
    );
    assert_eq!(
        given(&options(), &[FORM], b"From=%2B49151&Body=Hallo+Welt"),
        [r#"|application/json|{"Body":"Hallo Welt","From":"+49151"}"#]
    );
    // `curl -d` says that JSON is a form.
    assert_eq!(
        given(&options(), &[FORM], br#"{"a":1}"#),
        [r#"|application/x-www-form-urlencoded|{"a":1}"#]
    );
    let named = Options {
        form: form::Form::Field("events".into()),
        split: items(""),
        ..options()
    };
    assert_eq!(
        given(&named, &[FORM], b"events=%5B1%2C%7B%22a%22%3A2%7D%5D"),
        ["|application/json|1", r#"|application/json|{"a":2}"#]
    );
    let event = b"payload=%7B%22specversion%22%3A%221.0%22%2C%22id%22%3A%221%22%2C%22source%22%3A%22s%22%2C%22type%22%3A%22t%22%2C%22data%22%3A7%7D";
    assert_eq!(
        given(&options(), &[FORM], event),
        ["t 1|application/json|7"]
    );
    let raw = Options {
        form: form::Form::Raw,
        ..options()
    };
    assert_eq!(
        given(&raw, &[FORM], b"a=%20"),
        ["|application/x-www-form-urlencoded|a=%20"]
    );
}

// A large export must not be in memory twice because it is not UTF-8.
#[test]
fn a_large_csv_is_decoded_while_it_is_cut() {
    let mut body = b"key;Gr\xf6\xdfe\n".to_vec();
    // Records that are no events take little: the memory is that of the body.
    body.extend(b"\n".repeat(4 << 20));
    body.extend(b"1;gro\xdf\n");
    let options = Options {
        split: split::Split::Csv(split::Dialect {
            delimiter: Some(b';'),
            quote: None,
        }),
        encoding: Charset::of_label("windows-1252"),
        ..options()
    };
    let memory = Budget::new(body.len() as u64 + 100_000).reservation("erp");
    memory.grow_to(body.len() as u64).unwrap();
    let opened = envelope::open(&options, false, &Headers::default(), body.into(), &memory);
    let opened = opened.unwrap();
    assert_eq!(text(&opened.events[0]), r#"{"key":"1","Größe":"groß"}"#);
    // An XML document is: its memory is asked for.
    let document = [&b"<a>"[..], &b"\xf6".repeat(100_000), b"</a>"].concat();
    let options = Options {
        split: split::Split::Xml("a".into()),
        ..options
    };
    let small = Budget::new(document.len() as u64 + 100_000).reservation("erp");
    small.grow_to(document.len() as u64).unwrap();
    let refused = envelope::open(
        &options,
        false,
        &Headers::default(),
        document.into(),
        &small,
    );
    assert!(
        matches!(refused, Err(Rejection::TooLarge { .. })),
        "{refused:?}"
    );
}
