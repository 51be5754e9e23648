//! Runs each case of `cases` natively: webhooks as a shop system sends them, and the expected
//! result.

use oms_stock::{changes, Settings};
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
    assert!(cases.len() >= 6, "only {} cases were found", cases.len());
}

#[test]
fn an_unknown_location_can_be_skipped() {
    let skipping =
        Settings::parse(r#"{"locations": {"1": "lager"}, "unknown": "skip"}"#).expect("settings");
    assert_eq!(
        changes(&case("unknown-location").event, &skipping),
        Ok(vec![])
    );
}

#[test]
fn an_event_that_is_not_a_level_fails_with_its_reason() {
    for (data, code, named) in [
        ("", "broken-json", "EOF"),
        (
            r#"{"location_id": 24826418, "available": 1}"#,
            "missing-field",
            "inventory_item_id",
        ),
        (
            r#"{"inventory_item_id": 7, "available": 1}"#,
            "missing-field",
            "location_id",
        ),
        (
            r#"{"inventory_item_id": 7, "location_id": 24826418}"#,
            "missing-field",
            "available",
        ),
        (
            r#"{"inventory_item_id": 7, "location_id": 24826418, "available": "3"}"#,
            "broken-json",
            "\"3\"",
        ),
        (
            r#"{"inventory_item_id": 7, "location_id": 24826418, "available": 2.5}"#,
            "broken-json",
            "2.5",
        ),
        (
            r#"{"inventory_item_id": 7.5, "location_id": 24826418, "available": 2}"#,
            "broken-json",
            "a whole number",
        ),
        (
            r#"{"inventory_item_id": 7, "location_id": 24826418, "available": 2, "updated_at": "today"}"#,
            "not-a-time",
            "`today`",
        ),
    ] {
        let failure = changes(&Event::of(data), &settings()).expect_err(data);
        assert_eq!(failure.code, code, "{data}: {}", failure.message);
        assert!(
            failure.message.contains(named),
            "{data}: {}",
            failure.message
        );
    }
}

#[test]
fn an_error_names_the_wrong_setting() {
    for (json, named) in [
        (r#"{"locations": {"1": "berlin"}, "item": {}}"#, "item"),
        (r#"{}"#, "locations"),
        (r#"{"locations": {}}"#, "locations is empty"),
        (r#"{"locations": {"1": "Berlin Mitte"}}"#, "`Berlin Mitte`"),
        (
            r#"{"locations": {"1": "berlin"}, "unknown": "ignore"}"#,
            "ignore",
        ),
    ] {
        let error = Settings::parse(json).expect_err(json);
        assert!(error.contains(named), "{error}");
    }
}

fn settings() -> Settings {
    Settings::parse(&cases::settings()).expect("the settings of the cases")
}
