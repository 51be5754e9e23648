//! Runs each case of `cases` natively: events as a PIM sends them, and the expected result.

use pim_product::{changes, Settings};
use serde_json::Value;
use weir_plugin::Event;

#[path = "../../cases.rs"]
mod cases;

use cases::case;

#[test]
fn each_case_becomes_what_is_expected() {
    let cases = cases::all();
    for case in &cases {
        let actual = cases::changes(changes(&case.event, &settings()));
        assert_eq!(actual, case.expected, "{}: {actual:#}", case.name);
    }
    assert!(cases.len() >= 7, "only {} cases were found", cases.len());
}

#[test]
fn numbers_stay_as_they_were_written() {
    let changes = changes(&case("product-updated").event, &settings()).expect("changes");
    let value = changes[0].value.as_deref().expect("a value");
    assert!(value.contains(r#""bulbs":1.50"#), "{value}");
}

#[test]
fn another_channel_of_the_pim_gives_other_texts() {
    let printed = Settings::parse(r#"{"locales": ["de_DE"], "scope": "print"}"#).expect("settings");
    let changes = changes(&case("product-updated").event, &printed).expect("changes");
    let value: Value =
        serde_json::from_str(changes[0].value.as_deref().expect("a value")).expect("JSON");
    assert_eq!(value["description"], "Esche, Messing.");
}

#[test]
fn without_a_channel_only_values_of_no_channel_count() {
    let unscoped = Settings::parse(r#"{"locales": ["de_DE"]}"#).expect("settings");
    let changes = changes(&case("product-updated").event, &unscoped).expect("changes");
    let value: Value =
        serde_json::from_str(changes[0].value.as_deref().expect("a value")).expect("JSON");
    assert_eq!(value["description"], Value::Null);
    assert_eq!(value["name"], "Tischleuchte „Fjord“");
}

#[test]
fn an_event_that_is_not_a_product_fails_with_its_reason() {
    for (data, code) in [
        ("", "broken-json"),
        ("[]", "broken-json"),
        (
            r#"{"identifier": "1", "values": {"name": "Fjord"}}"#,
            "broken-json",
        ),
        (
            r#"{"identifier": "1", "values": {}, "updated": "yesterday"}"#,
            "not-a-time",
        ),
        (
            r#"{"identifier": "1", "values": {}, "updated": "2026-11-23T08:14:41"}"#,
            "not-a-time",
        ),
        (r#"{"identifier": 4711, "values": {}}"#, "broken-json"),
    ] {
        let failure = changes(
            &Event {
                event_type: "x".into(),
                ..Event::of(data)
            },
            &settings(),
        )
        .expect_err(data);
        assert_eq!(failure.code, code, "{data}: {}", failure.message);
    }
}

#[test]
fn an_error_names_the_wrong_setting() {
    for (json, named) in [
        (r#"{"locales": ["de_DE"], "scopes": "web"}"#, "scopes"),
        (r#"{}"#, "locales"),
        (r#"{"locales": []}"#, "locales is empty"),
        (r#"{"locales": ["de DE"]}"#, "`de DE`"),
        (
            r#"{"locales": ["de_DE"], "attributes": {"family_name": "family"}}"#,
            "`family_name`",
        ),
    ] {
        let error = Settings::parse(json).expect_err(json);
        assert!(error.contains(named), "{error}");
    }
}

fn settings() -> Settings {
    Settings::parse(&cases::settings()).expect("the settings of the cases")
}
