//! Tests of valid and malformed requests in every format.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use expect_test::{Expect, expect};
use proptest::prelude::*;

use super::cloudevent::header_value;
use super::*;
use crate::budget::Budget;
use crate::ingest::{form, http, naming, verify};

fn options(split: split::Split) -> Options {
    Options {
        name: "erp".into(),
        owner: "erp".into(),
        split,
        headers: vec!["x-sap-*".into(), "Traceparent".into()],
        naming: naming::Naming::default(),
        verify: verify::Options::None,
        handshake: None,
        quiet: None,
        body_bytes_max: 8 << 20,
        encoding: None,
        form: form::Form::default(),
        unreadable: false,
    }
}

fn headers(pairs: &[(&str, &[u8])]) -> Headers {
    pairs.iter().copied().collect()
}

fn opened(
    split: split::Split,
    all_json: bool,
    headers: &Headers,
    body: Bytes,
) -> Result<Opened, Rejection> {
    open(
        &options(split),
        all_json,
        headers,
        body,
        &Budget::new(256 << 20).reservation("erp"),
    )
}

/// The result of opening a request: one line for each event and each problem, or the rejection.
fn check_request(
    split: split::Split,
    all_json: bool,
    pairs: &[(&str, &[u8])],
    body: &[u8],
    expected: Expect,
) {
    expected.assert_eq(&shown(split, all_json, pairs, body));
}

fn shown(split: split::Split, all_json: bool, pairs: &[(&str, &[u8])], body: &[u8]) -> String {
    match opened(
        split,
        all_json,
        &headers(pairs),
        Bytes::copy_from_slice(body),
    ) {
        Ok(opened) => {
            let event = |(event, index): (&Event, &usize)| {
                let Event {
                    id,
                    origin,
                    event_type,
                    subject,
                    time,
                    content_type,
                    attributes,
                    trace: _,
                    data,
                } = event;
                let more = [subject, time]
                    .into_iter()
                    .flatten()
                    .map(|text| format!(" {text}"))
                    .collect::<String>();
                let kind = content_type.as_deref().unwrap_or("-");
                let named = attributes
                    .iter()
                    .map(|(name, value)| format!(" {name}={value}"))
                    .collect::<String>();
                let data = String::from_utf8_lossy(data.as_bytes());
                format!("{index}: [{id}|{origin}|{event_type}]{more}{named} {kind} {data}\n")
            };
            let unread = |unread: &Unread| {
                let Failure { code, message } = &unread.failure;
                format!("{}: {code} {message}\n", unread.index)
            };
            let events = opened.events.iter().zip(&opened.indexes).map(event);
            events
                .chain(opened.unread.iter().map(unread))
                .collect::<String>()
        }
        Err(rejection) => format!(
            "{} {}: {rejection}\n",
            http::status(&rejection).as_u16(),
            rejection.code()
        ),
    }
}

fn check(pairs: &[(&str, &[u8])], body: &[u8], expected: Expect) {
    check_request(split::Split::Whole, false, pairs, body, expected);
}

const REQUIRED: [(&str, &[u8]); 4] = [
    ("ce-specversion", b"1.0"),
    ("ce-id", b"1"),
    ("ce-source", b"/pim"),
    ("ce-type", b"updated"),
];

fn with<'a>(more: &[(&'a str, &'a [u8])]) -> Vec<(&'a str, &'a [u8])> {
    REQUIRED
        .iter()
        .filter(|(name, _)| !more.iter().any(|(other, _)| other == name))
        .chain(more)
        .copied()
        .collect()
}

fn attribute(written: &[u8]) -> Result<String, Failure> {
    header_value("ce-x", written)
}

#[test]
fn binary_mode_is_headers_and_a_body() {
    check(
        &with(&[
            ("content-type", b"application/json"),
            ("ce-subject", b"4711"),
            ("ce-time", b"2026-11-23T08:00:00Z"),
            ("ce-partitionkey", b"p"),
            ("ce-datacontenttype", b"text/plain"),
            ("x-sap-client", b"100"),
            ("authorization", b"Bearer secret"),
        ]),
        br#"{"price": 1.10}"#,
        expect![[r#"
            0: [1|/pim|updated] 4711 2026-11-23T08:00:00Z partitionkey=p x-sap-client=100 application/json {"price": 1.10}
        "#]],
    );
    check(
        &REQUIRED,
        b"",
        expect![[r#"
        0: [1|/pim|updated] - 
    "#]],
    );
}

// The awkward value from the specification: encoded, quoted as by older senders, and as the
// JavaScript library sends it.
#[test]
fn an_awkward_header_value_comes_through_in_each_spelling() {
    let plain = "Euro € 😀".to_owned();
    assert_eq!(
        attribute(b"Euro%20%E2%82%AC%20%F0%9F%98%80"),
        Ok(plain.clone())
    );
    assert_eq!(attribute("\"Euro € 😀\"".as_bytes()), Ok(plain.clone()));
    assert_eq!(attribute("Euro € 😀".as_bytes()), Ok(plain.clone()));
    // Old HTTP libraries write Latin-1, which was answered 400.
    assert_eq!(attribute(b"Caf\xe9 %41"), Ok("Café A".to_owned()));
    let encoded = percent_encoding::utf8_percent_encode(&plain, percent_encoding::NON_ALPHANUMERIC)
        .to_string();
    assert_eq!(attribute(encoded.as_bytes()), Ok(plain));
}

#[test]
fn percent_signs_are_decoded_once_and_quotes_are_taken_off() {
    assert_eq!(attribute(b"a%2520b").unwrap(), "a%20b", "one round");
    assert_eq!(
        attribute(br#""say \"hi\" \\ %41""#).unwrap(),
        r#"say "hi" \ A"#
    );
    assert_eq!(attribute(b"100%").unwrap(), "100%");
    assert_eq!(attribute(b"%zz").unwrap(), "%zz");
    assert_eq!(attribute(b"\"").unwrap(), "\"");
}

#[test]
fn overlong_and_broken_utf_8_and_control_characters_are_refused() {
    for bad in [
        b"%C0%A0".as_slice(),
        b"%E2%82",
        b"\x80",
        b"%ED%A0%80",
        b"a%00b",
        b"a%0Ab",
    ] {
        assert_eq!(
            attribute(bad).unwrap_err().code,
            "invalid-cloudevent",
            "{bad:?}"
        );
    }
    check(
        &with(&[("ce-subject", b"%C0%A0")]),
        b"",
        expect![[r#"
        400 invalid-cloudevent: `ce-subject` is not valid UTF-8 once its percent signs are decoded
    "#]],
    );
}

#[test]
fn a_cloudevent_says_which_attribute_is_missing() {
    check(
        &REQUIRED[..1],
        b"",
        expect![[r#"
        400 invalid-cloudevent: `ce-id` is missing; a CloudEvent needs it
    "#]],
    );
    check(
        &REQUIRED[1..],
        b"",
        expect![[r#"
        400 invalid-cloudevent: `ce-specversion` is missing; a CloudEvent needs it
    "#]],
    );
    check(
        &with(&[("ce-source", b"")]),
        b"",
        expect![[r#"
        400 invalid-cloudevent: `ce-source` is empty; a CloudEvent needs it
    "#]],
    );
    check(
        &with(&[("ce-specversion", b"0.3")]),
        b"",
        expect![[r#"
        400 invalid-cloudevent: `ce-specversion` is `0.3`; Weir understands 1.0
    "#]],
    );
    check(
        &with(&[("ce-subject", b"a"), ("ce-subject", b"b")]),
        b"",
        expect![[r#"
        400 invalid-cloudevent: `ce-subject` is there twice
    "#]],
    );
}

const STRUCTURED: (&str, &[u8]) = (
    "content-type",
    b"Application/CloudEvents+JSON; charset=UTF-8",
);

#[test]
fn structured_mode_keeps_the_data_as_it_was_written() {
    check(
        &[STRUCTURED, ("traceparent", b"00-1")],
        br#"{"specversion":"1.0","id":"1","source":"/pim","type":"t","Sequence":7,"sampled":true,"gone":null,"data":{"n": 1.10, "big":12345678901234567890}}"#,
        expect![[r#"
            0: [1|/pim|t] sequence=7 sampled=true traceparent=00-1 application/json {"n": 1.10, "big":12345678901234567890}
        "#]],
    );
}

#[test]
fn data_that_is_not_json_comes_as_a_string_or_as_base64() {
    let event = |rest: &str| {
        format!(r#"{{"specversion":"1.0","id":"1","source":"/pim","type":"t",{rest}}}"#)
            .into_bytes()
    };
    check(
        &[STRUCTURED],
        &event(r#""datacontenttype":"text/xml","data":"<a>\u00fc</a>""#),
        expect![[r#"
        0: [1|/pim|t] text/xml <a>ü</a>
    "#]],
    );
    check(
        &[STRUCTURED],
        &event(r#""datacontenttype":"text/xml","data_base64":"PGEvPg==""#),
        expect![[r#"
        0: [1|/pim|t] text/xml <a/>
    "#]],
    );
    check(
        &[STRUCTURED],
        &event(r#""data":"text""#),
        expect![[r#"
        0: [1|/pim|t] application/json "text"
    "#]],
    );
    check(
        &[STRUCTURED],
        &event(r#""data_base64":"e30""#),
        expect![[r#"
        400 invalid-cloudevent: `data_base64` is not base64: Invalid padding
    "#]],
    );
    check(
        &[STRUCTURED],
        &event(r#""data_base64":"ew==""#),
        expect![[r#"
        400 invalid-json: EOF while parsing an object at line 1 column 1
    "#]],
    );
    check(
        &[STRUCTURED],
        &event(r#""data":1,"data_base64":"""#),
        expect![[r#"
        400 invalid-cloudevent: `data` and `data_base64` exclude each other
    "#]],
    );
    check(
        &[STRUCTURED],
        &event(r#""data":1,"data":2"#),
        expect![[r#"
        400 invalid-cloudevent: `data` is there twice
    "#]],
    );
    check(
        &[STRUCTURED],
        &event(r#""id":"2","data":2"#),
        expect![[r#"
        400 invalid-cloudevent: `id` is there twice
    "#]],
    );
    check(
        &[STRUCTURED],
        &event(r#""trace":{}"#),
        expect![[r#"
        400 invalid-cloudevent: the attribute `trace` is a string, number or truth value, not a structure
    "#]],
    );
}

const BATCH: (&str, &[u8]) = ("content-type", b"application/cloudevents-batch+json");

#[test]
fn an_empty_batch_is_legal() {
    check(&[BATCH], b" [ ] ", expect![""]);
    check(
        &[("content-type", b"application/x-ndjson")],
        b"\n\n",
        expect![""],
    );
}

#[test]
fn one_bad_event_in_a_batch_is_its_own_problem() {
    let good = |id: u8| {
        format!(r#"{{"specversion":"1.0","id":"{id}","source":"s","type":"t","data":{id}}}"#)
    };
    let batch = format!(
        r#"[{},{{"specversion":"1.0","id":""}},{},7,{}]"#,
        good(1),
        "[".repeat(70) + &"]".repeat(70),
        good(2)
    );
    check(
        &[BATCH],
        batch.as_bytes(),
        expect![[r#"
        0: [1|s|t] application/json 1
        4: [2|s|t] application/json 2
        1: invalid-cloudevent `id` is empty; a CloudEvent needs it
        2: too-deep more than 64 brackets are open at line 1 column 65
        3: invalid-cloudevent a CloudEvent in structured mode is a JSON object
    "#]],
    );
}

#[test]
fn a_request_of_which_nothing_is_understood_is_malformed() {
    check(
        &[BATCH],
        b"[1, 2]",
        expect![[r#"
        400 invalid-cloudevent: none of the 2 events could be understood; the first: a CloudEvent in structured mode is a JSON object
    "#]],
    );
    check(
        &[BATCH],
        b"{}",
        expect![[r#"
        400 invalid-cloudevent: a batch is a JSON array of CloudEvents
    "#]],
    );
    check(
        &[BATCH],
        b"[{\n",
        expect![[r#"
        400 invalid-json: EOF while parsing an object at line 2 column 0
    "#]],
    );
    check(
        &[STRUCTURED],
        "[".repeat(100_000).as_bytes(),
        expect![[r#"
        400 too-deep: more than 64 brackets are open at line 1 column 65
    "#]],
    );
    check(
        &[STRUCTURED],
        b"{\"a\": \"\xff\"}",
        expect![[r#"
        400 invalid-utf-8: byte 7 (counted from 0) is not valid UTF-8; send the text as UTF-8
    "#]],
    );
    check(
        &[],
        b"",
        expect![[r#"
        400 empty-body: the body is empty; send an event
    "#]],
    );
}

#[test]
fn a_hundred_thousand_brackets_in_a_batch_do_not_recurse() {
    let brackets = "[".repeat(100_000);
    check(
        &[BATCH],
        brackets.as_bytes(),
        expect![[r#"
        400 invalid-json: EOF while parsing a list at line 1 column 100000
    "#]],
    );
    let closed = format!("{brackets}{}", "]".repeat(100_000));
    check(
        &[BATCH],
        closed.as_bytes(),
        expect![[r#"
        400 too-deep: more than 64 brackets are open at line 1 column 65
    "#]],
    );
}

#[test]
fn ndjson_goes_on_after_a_bad_line() {
    check(
        &[("content-type", b"application/x-ndjson; charset=utf-8")],
        b"{\"a\":1}\r\n\n{oops}\n[\xff]\n{\"a\":2}",
        expect![[r#"
        0: [||] application/json {"a":1}
        3: [||] application/json {"a":2}
        1: invalid-json key must be a string at line 1 column 2
        2: invalid-utf-8 in line 4: byte 1 (counted from 0) is not valid UTF-8; send the text as UTF-8
    "#]],
    );
}

// `application/jsonl` was taken for one document and answered 400 at the second line.
#[test]
fn lines_of_json_have_many_names() {
    for name in [
        "application/x-ndjson",
        "application/jsonl",
        "application/x-jsonlines",
        "Application/JSON-Lines; charset=utf-8",
    ] {
        let opened = opened(
            split::Split::Whole,
            true,
            &headers(&[("content-type", name.as_bytes())]),
            Bytes::from_static(b"1\n2"),
        );
        assert_eq!(opened.unwrap().events.len(), 2, "{name}");
    }
}

// The desk read a CloudEvent under `application/json` as one, the server as a plain body.
#[test]
fn json_with_a_specversion_is_a_cloudevent_whatever_it_is_declared_as() {
    let event =
        r#"{"id": "7", "specversion": "1.0", "source": "/pim", "type": "t", "data": {"a": 1.0}}"#;
    let read = expect![[r#"
        0: [7|/pim|t] application/json {"a": 1.0}
    "#]];
    for content_type in [
        "application/json",
        "text/json",
        "application/cloudevents+json",
    ] {
        read.assert_eq(&shown(
            split::Split::Whole,
            false,
            &[("content-type", content_type.as_bytes())],
            event.as_bytes(),
        ));
    }
    check_request(split::Split::Whole, true, &[], event.as_bytes(), read);
    check(
        &[("content-type", b"application/json")],
        format!("[{event}, {{\"specversion\": \"1.0\"}}]").as_bytes(),
        expect![[r#"
            0: [7|/pim|t] application/json {"a": 1.0}
            1: invalid-cloudevent `id` is missing; a CloudEvent needs it
        "#]],
    );
    check_request(
        split::Split::Json("/events".into()),
        false,
        &[("content-type", b"application/json")],
        format!("{{\"events\": [{event}, {{\"specversion\": \"1.0\"}}, {{\"specVersion\": 1}}]}}")
            .as_bytes(),
        expect![[r#"
            0: [7|/pim|t] application/json {"a": 1.0}
            2: [||] application/json {"specVersion": 1}
            1: invalid-cloudevent `id` is missing; a CloudEvent needs it
        "#]],
    );
    check(
        &[("content-type", b"application/json")],
        br#"{"specversion": "1.0", "id": "7"}"#,
        expect![[r#"
            400 invalid-cloudevent: `source` is missing; a CloudEvent needs it
        "#]],
    );
    // Not at the top, and not JSON by its own account.
    check(
        &[("content-type", b"application/json")],
        br#"{"is": {"specversion": "1.0"}}"#,
        expect![[r#"
            0: [||] application/json {"is": {"specversion": "1.0"}}
        "#]],
    );
    check(
        &[("content-type", b"text/plain")],
        event.as_bytes(),
        expect![[r#"
            0: [||] text/plain {"id": "7", "specversion": "1.0", "source": "/pim", "type": "t", "data": {"a": 1.0}}
        "#]],
    );
}

// A byte order mark passed under one content type and failed under another.
#[test]
fn a_byte_order_mark_is_taken_off_all_text() {
    for content_type in [
        "text/plain",
        "application/xml",
        "application/json",
        "application/edifact",
    ] {
        let opened = opened(
            split::Split::Whole,
            false,
            &headers(&[("content-type", content_type.as_bytes())]),
            Bytes::from_static(b"\xef\xbb\xbf[1]"),
        );
        let event = opened.unwrap().events.remove(0);
        assert_eq!(event.data, Payload::Text("[1]".into()), "{content_type}");
    }
    let of = |pairs: &[(&str, &[u8])], body: &[u8]| {
        let opened = opened(
            split::Split::Whole,
            false,
            &headers(pairs),
            body.to_vec().into(),
        );
        opened.unwrap().events.remove(0).data
    };
    let marked = "\u{feff}<a/>";
    assert_eq!(
        of(&REQUIRED, marked.as_bytes()),
        Payload::Text("<a/>".into())
    );
    for data in [
        format!(r#""datacontenttype":"application/xml","data":"{marked}""#),
        format!(
            r#""datacontenttype":"text/plain","data_base64":"{}""#,
            STANDARD.encode(marked)
        ),
    ] {
        let event = format!(r#"{{"specversion":"1.0","id":"1","source":"/a","type":"t",{data}}}"#);
        let read = of(&[STRUCTURED], event.as_bytes());
        assert_eq!(read, Payload::Text("<a/>".into()), "{data}");
    }
    let binary = b"\xef\xbb\xbf\xff";
    let kept = of(&[("content-type", b"application/octet-stream")], binary);
    assert_eq!(kept, Payload::Binary(binary.to_vec()), "bytes are not text");
}

#[test]
fn anything_else_is_one_event_as_it_is() {
    check(
        &[
            ("content-type", b"application/edifact"),
            ("x-sap-idoc", b"9"),
        ],
        b"UNA:+.? '\xff",
        expect![[r#"
        0: [||] x-sap-idoc=9 application/edifact UNA:+.? '�
    "#]],
    );
    check(
        &[],
        b"{not json",
        expect![[r#"
        0: [||] - {not json
    "#]],
    );
    check(
        &[("content-type", b"application/vnd.shop+json")],
        b"{not json",
        expect![[r#"
        400 invalid-json: key must be a string at line 1 column 2
    "#]],
    );
    check(
        &[("content-type", b"application/json")],
        b"\xef\xbb\xbf{}",
        expect![[r#"
        0: [||] application/json {}
    "#]],
    );
}

#[test]
fn without_a_mapper_everything_must_be_json_whatever_it_says() {
    let form: (&str, &[u8]) = ("content-type", b"application/x-www-form-urlencoded");
    check_request(
        split::Split::Whole,
        true,
        &[form],
        b"{\"a\":1}",
        expect![[r#"
        0: [||] application/x-www-form-urlencoded {"a":1}
    "#]],
    );
    check_request(
        split::Split::Whole,
        true,
        &[],
        b"<a/>",
        expect![[r#"
        400 invalid-json: expected value at line 1 column 1 (this source has no mapper, so its events are changes as JSON)
    "#]],
    );
    check_request(
        split::Split::Whole,
        true,
        &REQUIRED,
        b"",
        expect![[r#"
        400 invalid-json: EOF while parsing a value at line 1 column 0 (this source has no mapper, so its events are changes as JSON)
    "#]],
    );
}

#[test]
fn a_body_is_split_as_configured() {
    check_request(
        split::Split::Xml("I".into()),
        false,
        &[("content-type", b"text/xml")],
        b"<a><I>1</I><I/></a>",
        expect![[r#"
        0: [||] application/xml <I>1</I>
        1: [||] application/xml <I/>
    "#]],
    );
    check_request(
        split::Split::Json("/value".into()),
        false,
        &[],
        br#"{"value":[{"a":1.0}]}"#,
        expect![[r#"
        0: [||] application/json {"a":1.0}
    "#]],
    );
    check_request(
        split::Split::Lines,
        false,
        &[("content-type", b"text/plain")],
        b"a\nb\n",
        expect![[r#"
        0: [||] text/plain a
        1: [||] text/plain b
    "#]],
    );
}

#[test]
fn formats_nobody_speaks_here_are_unsupported() {
    check(
        &[("content-type", b"application/cloudevents+avro")],
        b"",
        expect![[r#"
        415 unsupported-media-type: `application/cloudevents+avro` is not understood; CloudEvents come as `application/cloudevents+json`, `application/cloudevents-batch+json` or with `ce-` headers
    "#]],
    );
    check(
        &[(
            "content-type",
            b"application/cloudevents+json; charset=utf-16",
        )],
        b"",
        expect![[r#"
        415 unsupported-media-type: JSON is sent as UTF-8, not as utf-16
    "#]],
    );
}

#[test]
fn more_events_than_a_request_may_have_are_too_large() {
    let body = "1\n".repeat(EVENTS_MAX + 1);
    check(
        &[("content-type", b"application/x-ndjson")],
        body.as_bytes(),
        expect![[r#"
        413 too-large: the request has more than 100000 events; send several smaller ones
    "#]],
    );
}

// A megabyte of column names with a kilobyte per record would make seven gigabytes of objects. So
// would a long header on each of a hundred thousand lines.
#[test]
fn what_repeats_in_each_event_is_weighed() {
    let names: Vec<String> = (0..1000).map(|n| format!("{n:0>1000}")).collect();
    let body = format!(
        "{}\n{}",
        names.join(","),
        format!("{}\n", ",".repeat(999)).repeat(1000)
    );
    check_request(
        split::Split::Csv(split::Dialect::default()),
        false,
        &[],
        body.as_bytes(),
        expect![[r#"
            413 too-large: the request has more than 33554432 bytes once it is cut into events; send several smaller ones
        "#]],
    );
    let long = [b'x'; 5000];
    let pairs: [(&str, &[u8]); 2] = [
        ("content-type", b"application/x-ndjson"),
        ("x-sap-long", &long),
    ];
    check(
        &pairs,
        "1\n".repeat(10_000).as_bytes(),
        expect![[r#"
        413 too-large: the request has more than 33554432 bytes once it is cut into events; send several smaller ones
    "#]],
    );
    let little = Budget::new(100_000).reservation("erp");
    let body = Bytes::from("1\n".repeat(1000));
    let full = open(
        &options(split::Split::Lines),
        false,
        &headers(&[]),
        body,
        &little,
    )
    .map(|opened| opened.events.len());
    assert!(
        matches!(full, Err(Rejection::TooLarge { limit: 100_000, .. })),
        "no request is larger than the whole budget"
    );
    let budget = Budget::new(100_000);
    let (other, little) = (budget.reservation("erp"), budget.reservation("erp"));
    other.grow_to(90_000).unwrap();
    let body = Bytes::from("1\n".repeat(100));
    let full = open(
        &options(split::Split::Lines),
        false,
        &headers(&[]),
        body,
        &little,
    );
    assert!(matches!(full, Err(Rejection::Overloaded { .. })));
}

#[test]
fn credentials_reach_plugins_only_by_their_full_name() {
    let sent = headers(&[
        ("authorization", b"a"),
        ("cookie", b"b"),
        ("x-a", b"c"),
        ("ce-id", b"d"),
    ]);
    assert_eq!(
        passed_on(&["*".into()], &sent),
        [("x-a".to_owned(), "c".to_owned())]
    );
    assert_eq!(
        passed_on(&["Cookie".into()], &sent),
        [("cookie".to_owned(), "b".to_owned())]
    );
}

fn any_split() -> impl Strategy<Value = split::Split> {
    prop_oneof![
        Just(split::Split::Whole),
        Just(split::Split::Lines),
        Just(split::Split::Csv(split::Dialect::default())),
        "(/[a-b~0-1]{0,2}){0,2}".prop_map(split::Split::Json),
        Just(split::Split::Xml("a".into())),
    ]
}

fn any_content_type() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        Just(b"application/cloudevents+json".to_vec()),
        Just(b"application/cloudevents-batch+json".to_vec()),
        Just(b"application/x-ndjson".to_vec()),
        Just(b"application/json".to_vec()),
        prop::collection::vec(prop_oneof![32..127u8, 128..=255u8], 0..40),
    ]
}

/// Random bytes, and text that is almost well-formed.
fn any_body() -> impl Strategy<Value = Vec<u8>> {
    let nearly = r#"[\[\]{}"',:<>&;/=a-c0-2\\u\n !\-?\u{feff}é😀]{0,80}"#;
    let event = r#"\{"specversion":"1.0","id":"[a-c%]{0,3}","source":"s","type":"t"(,"data(_base64)?":("[a-cA-Q=]{0,8}"|[0-9.e]{1,4}|\{\}))?\}"#;
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..200),
        nearly.prop_map(String::into_bytes),
        event.prop_map(String::into_bytes),
        prop::collection::vec(event, 0..4).prop_map(|events| format!("[{}]", events.join(",")).into_bytes()),
        r#"(<a( b='[&;#x0-9a]{0,5}')?>|</a>|<a/>|&amp;|&#[0-9]{1,7};|<!--|-->|<!\[CDATA\[|\]\]>|<\?x|\?>|é){0,12}"#
            .prop_map(String::into_bytes),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_bytes_and_no_headers_panic(
        split in any_split(),
        all_json: bool,
        content_type in any_content_type(),
        values in prop::collection::vec((0..8usize, prop::collection::vec(prop_oneof![32..127u8, 128..=255u8], 0..12)), 0..6),
        body in any_body(),
    ) {
        let names = ["ce-id", "ce-source", "ce-type", "ce-specversion", "ce-x", "x-sap-a", "content-encoding", "traceparent"];
        let mut pairs: Vec<(&str, &[u8])> = vec![("content-type", &content_type)];
        pairs.extend(values.iter().map(|(name, value)| (names[*name], value.as_slice())));
        match opened(split, all_json, &headers(&pairs), body.into()) {
            Ok(opened) => {
                prop_assert_eq!(opened.events.len(), opened.indexes.len());
                prop_assert!(opened.unread.is_empty() || !opened.events.is_empty());
                for event in &opened.events {
                    if all_json {
                        prop_assert!(serde_json::from_slice::<serde::de::IgnoredAny>(event.data.as_bytes()).is_ok());
                    }
                }
            }
            Err(rejection) => prop_assert!(http::status(&rejection).is_client_error() && !rejection.to_string().is_empty()),
        }
    }

    #[test]
    fn what_is_percent_encoded_comes_back(value in "\\PC{0,40}") {
        prop_assume!(!value.chars().any(char::is_control));
        let encoded = percent_encoding::utf8_percent_encode(&value, percent_encoding::NON_ALPHANUMERIC).to_string();
        prop_assert_eq!(attribute(encoded.as_bytes()), Ok(value));
    }
}
