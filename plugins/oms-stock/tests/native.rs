//! What a shop system sends, as it sends it, and what must become of it: each case of `cases`, natively.

use oms_stock::{changes, Event, Failure, Settings, ENTITY_TYPE};
use serde_json::{json, Value};

#[path = "../../cases.rs"]
mod cases;

use cases::{case, Case};

#[test]
fn each_case_becomes_what_is_expected() {
    let cases = cases::all();
    for case in &cases {
        let actual = outcome(event(case), &settings());
        assert_eq!(actual, case.expected, "{}: {actual:#}", case.name);
    }
    assert!(cases.len() >= 6, "only {} cases were found", cases.len());
}

#[test]
fn a_location_nobody_named_can_be_skipped() {
    let skipping = Settings::parse(r#"{"locations": {"1": "lager"}, "unknown": "skip"}"#).expect("settings");
    assert_eq!(changes(event(&case("unknown-location")), &skipping), Ok(vec![]));
}

#[test]
fn what_is_no_level_fails_with_its_reason() {
    for (data, code, named) in [
        ("", "broken-json", "EOF"),
        (r#"{"location_id": 24826418, "available": 1}"#, "missing-field", "inventory_item_id"),
        (r#"{"inventory_item_id": 7, "available": 1}"#, "missing-field", "location_id"),
        (r#"{"inventory_item_id": 7, "location_id": 24826418}"#, "missing-field", "available"),
        (r#"{"inventory_item_id": 7, "location_id": 24826418, "available": "3"}"#, "broken-json", "\"3\""),
        (r#"{"inventory_item_id": 7, "location_id": 24826418, "available": 2.5}"#, "broken-json", "2.5"),
        (r#"{"inventory_item_id": 7.5, "location_id": 24826418, "available": 2}"#, "broken-json", "a whole number"),
        (r#"{"inventory_item_id": 7, "location_id": 24826418, "available": 2, "updated_at": "today"}"#, "not-a-time", "`today`"),
    ] {
        let failure = changes(Event { topic: None, time: None, data }, &settings()).expect_err(data);
        assert_eq!(failure.code, code, "{data}: {}", failure.message);
        assert!(failure.message.contains(named), "{data}: {}", failure.message);
    }
}

#[test]
fn a_setting_nobody_knows_is_named() {
    for (json, named) in [
        (r#"{"locations": {"1": "berlin"}, "item": {}}"#, "item"),
        (r#"{}"#, "locations"),
        (r#"{"locations": {}}"#, "locations is empty"),
        (r#"{"locations": {"1": "Berlin Mitte"}}"#, "`Berlin Mitte`"),
        (r#"{"locations": {"1": "berlin"}, "unknown": "ignore"}"#, "ignore"),
    ] {
        let error = Settings::parse(json).expect_err(json);
        assert!(error.contains(named), "{error}");
    }
}

fn outcome(event: Event<'_>, settings: &Settings) -> Value {
    match changes(event, settings) {
        Err(Failure { code, message }) => json!({ "code": code, "message": message }),
        Ok(changes) => changes
            .into_iter()
            .map(|change| {
                let mut json = json!({ "type": ENTITY_TYPE, "key": change.key, "facet": change.facet });
                match change.value {
                    Some(value) => json["value"] = serde_json::from_str(&value).expect("a value is JSON"),
                    None => json["deleted"] = true.into(),
                }
                if let Some(version) = change.version {
                    json["version"] = version.into();
                }
                json
            })
            .collect(),
    }
}

fn event(case: &Case) -> Event<'_> {
    let attribute = |name: &str| case.envelope.get(name).map(String::as_str);
    Event { topic: attribute("x-shopify-topic"), time: attribute("time"), data: &case.data }
}

fn settings() -> Settings {
    Settings::parse(&cases::settings()).expect("the settings of the cases")
}
