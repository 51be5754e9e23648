//! Tests of cases: reading them from a folder, embedding and reading them back, and judging
//! outputs.

use std::fs;
use std::path::Path;

use super::*;
use crate::model::{Change, EntityId, Payload, Rendering};

fn write(folder: &Path, files: &[(&str, &[u8])]) {
    for (name, content) in files {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(path, content).expect("written");
    }
}

fn cases(files: &[(&str, &[u8])]) -> Result<Vec<Case>, Error> {
    let folder = tempfile::tempdir().expect("a folder");
    write(folder.path(), files);
    read(folder.path())
}

fn event(data: Payload) -> Event {
    Event {
        id: String::new(),
        origin: String::new(),
        event_type: String::new(),
        subject: None,
        time: None,
        content_type: None,
        attributes: Vec::new(),
        trace: None,
        data,
    }
}

/// One case for each kind of input.
fn some() -> Vec<Case> {
    let files: [(&str, &[u8]); 13] = [
        ("settings.json", br#"{"currency": "EUR"}"#),
        (
            "a-cloudevent/event.json",
            br#"{"specversion":"1.0","id":"1","source":"/pim","type":"updated","shop":"de","data":{"price": 1.50}}"#,
        ),
        ("a-cloudevent/expected.json", b"[]"),
        ("a-body/body.xml", "<a>\u{e9}</a>".as_bytes()),
        ("a-body/envelope.json", br#"{"id": "7", "type": "MATMAS", "X-Sap-Client": 100}"#),
        ("a-body/expected.json", br#"{"code": "broken-xml"}"#),
        ("bytes/body.bin", b"\xff\x00\xfe"),
        ("bytes/settings.json", br#"{"currency": "USD"}"#),
        ("bytes/expected.json", b"true"),
        (
            "entity/entity.json",
            br#"{"type":"product","key":"4711","facets":{"stock.lyon":{"available":2},"base":{"n":18446744073709551615}}}"#,
        ),
        ("entity/expected.json", b"null"),
        ("open/event.json", b"[1, 2]"),
        (".hidden/notes.txt", b""),
    ];
    cases(&files).expect("cases")
}

#[test]
fn a_folder_of_cases_is_read_as_a_plugin_will_see_them() {
    let cases = some();
    let names: Vec<&str> = cases.iter().map(|case| case.name.as_str()).collect();
    assert_eq!(names, ["a-body", "a-cloudevent", "bytes", "entity", "open"]);
    let [body, cloudevent, bytes, entity, open] = &cases[..] else {
        panic!("five")
    };

    let Item::Event(given) = &body.item else {
        panic!("an event")
    };
    assert_eq!(
        (
            given.id.as_str(),
            given.event_type.as_str(),
            given.content_type.as_deref()
        ),
        ("7", "MATMAS", Some("application/xml"))
    );
    assert_eq!(
        given.attributes,
        [("x-sap-client".to_owned(), "100".to_owned())]
    );
    assert_eq!(given.data, Payload::Text("<a>é</a>".into()));

    let Item::Event(given) = &cloudevent.item else {
        panic!("an event")
    };
    assert_eq!(
        (given.origin.as_str(), given.attributes.len(), &given.data),
        ("/pim", 1, &Payload::Text(r#"{"price": 1.50}"#.into()))
    );
    assert_eq!(
        (cloudevent.settings.as_str(), bytes.settings.as_str()),
        (r#"{"currency": "EUR"}"#, r#"{"currency": "USD"}"#)
    );

    assert!(
        matches!(&bytes.item, Item::Event(Event { data: Payload::Binary(bytes), .. }) if bytes == b"\xff\x00\xfe")
    );
    let Item::Entity(view) = &entity.item else {
        panic!("an entity")
    };
    let facets: Vec<(&str, &str)> = view
        .facets
        .iter()
        .map(|(name, value)| (&**name, &**value))
        .collect();
    assert_eq!(
        facets,
        [
            ("base", r#"{"n":18446744073709551615}"#),
            ("stock.lyon", r#"{"available":2}"#)
        ]
    );
    assert_eq!(
        (open.expected.is_none(), body.expected.as_deref()),
        (true, Some(r#"{"code": "broken-xml"}"#))
    );
}

#[test]
fn what_is_wrong_in_a_folder_is_told_with_its_place() {
    let both: [(&str, &[u8]); 2] = [("x/event.json", b"{}"), ("x/body.xml", b"<a/>")];
    let envelope: [(&str, &[u8]); 2] = [("x/event.json", b"{}"), ("x/envelope.json", b"{}")];
    type Files<'a> = &'a [(&'a str, &'a [u8])];
    let wrong: [(Files, &str); 9] = [
        (
            &[("x/notes.txt", b"")],
            "x: it has no event.json, no body.EXT and no entity.json",
        ),
        (&both, "x: it has more than one of"),
        (&envelope, "envelope.json: event.json has its own envelope"),
        (&[("x/event.json", b"{")], "event.json: it is not JSON"),
        (
            &[("x/event.json", br#"{"specversion":"1.0","source":"/pim"}"#)],
            "event.json: `id` is missing",
        ),
        (
            &[("x/entity.json", br#"{"key":"1"}"#)],
            "entity.json: missing field `type`",
        ),
        (
            &[("x/body.xml", b"<a/>"), ("x/envelope.json", b"[]")],
            "envelope.json: it is not a JSON object",
        ),
        (
            &[("x/event.json", b"1"), ("x/settings.json", b"[]")],
            "settings.json: it is not a JSON object",
        ),
        (
            &[("x/event.json", b"1"), ("x/expected.json", b"tru")],
            "expected.json: it is not JSON",
        ),
    ];
    for (files, said) in wrong {
        let error = cases(files).expect_err(said).to_string();
        assert!(error.contains(said), "{error}");
    }
    assert_eq!(
        read(Path::new("/nowhere/at/all")).expect("no cases").len(),
        0
    );
}

#[test]
fn cases_travel_inside_the_component_and_come_out_as_they_were() {
    let cases = some();
    for text in [
        "(component)",
        "(module (func))",
        "(component (core module $m (memory 1)) (core instance (instantiate $m)))",
    ] {
        let bare = wat::parse_str(text).expect("Wasm");
        assert_eq!(embedded(&bare).expect("none"), []);
        let (full, counted) = embed(&bare, &cases).expect("embedded");
        assert_eq!(
            counted,
            Embedded {
                inside: 4,
                left_out: 0
            },
            "a case without an expected output is not embedded"
        );
        assert_eq!(embedded(&full).expect("cases"), cases[..4]);
        wasmparser::Validator::new_with_features(wasmparser::WasmFeatures::all())
            .validate_all(&full)
            .expect("still valid Wasm");

        let (again, _) = embed(&full, &cases).expect("embedded");
        assert_eq!(
            again, full,
            "they are replaced, and the same cases give the same bytes"
        );
        let (without, counted) = embed(&full, &[]).expect("embedded");
        assert_eq!((without, counted.inside), (bare, 0));
    }
}

#[test]
fn what_goes_beyond_the_room_in_a_component_is_left_out_and_counted() {
    let case = |name: &str, bytes: usize| Case {
        name: name.into(),
        settings: "{}".into(),
        item: Item::Event(event(Payload::Text("x".repeat(bytes)))),
        expected: Some("[]".into()),
    };
    let bare = wat::parse_str("(component)").expect("Wasm");
    let (full, counted) =
        embed(&bare, &[case("large", CASES_BYTES_MAX), case("small", 10)]).expect("embedded");
    assert_eq!(
        (counted, embedded(&full).expect("cases").len()),
        (
            Embedded {
                inside: 1,
                left_out: 1
            },
            1
        )
    );
    let many: Vec<Case> = (0..300).map(|n| case(&n.to_string(), 1)).collect();
    assert_eq!(
        embed(&bare, &many).expect("embedded").1,
        Embedded {
            inside: 256,
            left_out: 44
        }
    );
}

/// A component may come from anyone, so its section may hold anything.
#[test]
fn a_section_that_is_not_ours_is_refused_in_a_sentence() {
    let with = |content: &[&[u8]]| {
        let mut bytes = wat::parse_str("(component)").expect("Wasm");
        for data in content {
            wasm_encoder::ComponentSection::append_to_component(
                &wasm_encoder::CustomSection {
                    name: "weir:cases".into(),
                    data: (*data).into(),
                },
                &mut bytes,
            );
        }
        embedded(&bytes)
            .map(drop)
            .map_err(|error| error.to_string())
    };
    let large = format!("[{}]", " ".repeat(CASES_BYTES_MAX));
    for (content, said) in [
        (
            &[&b"half a"[..]][..],
            "weir:cases of the component: expected value",
        ),
        (&[b"[]", b"[]"], "the component has two of them"),
        (&[large.as_bytes()], "the limit is 1048576"),
        (
            &[br#"[{"name":"x","settings":{},"expected":1}]"#],
            "case x must have exactly one event or one entity",
        ),
    ] {
        let error = with(content).expect_err(said);
        assert!(error.contains(said), "{error}");
    }
    let mut cut = wat::parse_str("(component (core module))").expect("Wasm");
    cut.truncate(cut.len() - 1);
    assert!(
        embedded(&cut)
            .expect_err("cut")
            .to_string()
            .contains("it is not whole")
    );
    assert!(embed(&cut, &[]).is_err());
}

fn case(expected: &str) -> Case {
    Case {
        name: "x".into(),
        settings: "{}".into(),
        item: Item::Event(event(Payload::Text("{}".into()))),
        expected: Some(expected.into()),
    }
}

#[test]
fn an_output_is_judged_by_its_written_form() {
    let change = Change {
        entity_type: "product".into(),
        key: "4711".into(),
        facet: "price".into(),
        value: Some(r#"{"b":1.50,"a":"é"}"#.into()),
        version: Some(u64::MAX),
        lane: None,
    };
    let rendering = |body| {
        Output::Rendered(Some(Rendering {
            key: None,
            content_type: Some("text/html".into()),
            body,
        }))
    };
    let failed = Output::Failed(Failure::new("missing-field", "no price"));
    let changes = Output::Changes(vec![change]);
    for (expected, output) in [
        ("true", &Output::Accepted(true)),
        ("null", &Output::Rendered(None)),
        (
            r#"[{"type":"product","key":"4711","facet":"price","version":18446744073709551615,"value":{"a":"\u00e9","b":1.50}}]"#,
            &changes,
        ),
        (
            r#"{"content_type":"text/html","body":"<p>"}"#,
            &rendering(Payload::Text("<p>".into())),
        ),
        (
            r#"{"content_type":"text/html","body":{"a":1}}"#,
            &rendering(Payload::Text(r#"{"a":1}"#.into())),
        ),
        (
            r#"{"content_type":"text/html","body_base64":"/wA="}"#,
            &rendering(Payload::Binary(vec![255, 0])),
        ),
        (r#"{"code":"missing-field","message":"no price"}"#, &failed),
        (r#"{"code":"missing-field"}"#, &failed),
    ] {
        assert_eq!(case(expected).judge(output), Ok(()), "{expected}");
        assert_eq!(
            case(&written::to_json(output)).judge(output),
            Ok(()),
            "a blessed output is the expected one: {expected}"
        );
    }
    for (expected, output, said) in [
        (
            "true",
            &Output::Accepted(false),
            "case x: expected true, got false",
        ),
        (
            "[]",
            &failed,
            r#"case x: expected [], got { "code": "missing-field", "message": "no price" }"#,
        ),
        (
            r#"{"code":"other"}"#,
            &failed,
            r#"case x: at code expected "other", got "missing-field""#,
        ),
        (
            r#"{"code":"missing-field","message":"no name"}"#,
            &failed,
            r#"case x: at message expected "no name", got "no price""#,
        ),
    ] {
        assert_eq!(
            case(expected)
                .judge(output)
                .expect_err(expected)
                .to_string(),
            said
        );
    }
    assert_eq!(
        Case {
            expected: None,
            ..case("1")
        }
        .judge(&failed),
        Ok(()),
        "no expected output is written yet"
    );
}

#[test]
fn an_entity_and_its_key_come_through_whatever_they_hold() {
    let view = View {
        id: EntityId {
            entity_type: "product".into(),
            key: "\u{1f4a1}\"/\\\n".into(),
        },
        facets: vec![("a".into(), "[]".into())],
    };
    let case = Case {
        name: "é".into(),
        settings: "{}".into(),
        item: Item::Entity(view),
        expected: Some("null".into()),
    };
    let (full, _) = embed(
        &wat::parse_str("(component)").expect("Wasm"),
        std::slice::from_ref(&case),
    )
    .expect("embedded");
    assert_eq!(embedded(&full).expect("cases"), [case]);
}
