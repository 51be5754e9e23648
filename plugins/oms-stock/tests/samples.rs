//! What a shop system sends, as it sends it, and what must become of it: each `samples/NAME.json` with its `NAME.expected.json`.
//!
//! A sample is the webhook's topic and time and, under `data`, its body. The expectation is the array of changes in the form
//! Weir itself takes, or the failure.

use oms_stock::{changes, Event, Failure, Settings, ENTITY_TYPE};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{json, Value};
use std::fs;
use std::path::{Path, PathBuf};

#[derive(Deserialize)]
struct Sample {
    topic: Option<String>,
    time: Option<String>,
    data: Box<RawValue>,
}

#[test]
fn each_sample_becomes_what_is_expected() {
    let mut seen = 0;
    for entry in fs::read_dir(samples()).expect("the folder of samples") {
        let expected = entry.expect("a file").path();
        let Some(name) = expected.to_str().and_then(|path| path.strip_suffix(".expected.json")) else { continue };
        let sample = read(&format!("{name}.json"));
        let expected: Value = serde_json::from_str(&fs::read_to_string(&expected).expect("a text")).expect("JSON");
        let actual = outcome(sample.event(), &settings());
        assert_eq!(actual, expected, "{name}: {actual:#}");
        seen += 1;
    }
    assert!(seen >= 6, "only {seen} samples were found");
}

#[test]
fn a_location_nobody_named_can_be_skipped() {
    let skipping = Settings::parse(r#"{"locations": {"1": "lager"}, "unknown": "skip"}"#).expect("settings");
    assert_eq!(changes(sample("unknown-location.json").event(), &skipping), Ok(vec![]));
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

impl Sample {
    fn event(&self) -> Event<'_> {
        Event { topic: self.topic.as_deref(), time: self.time.as_deref(), data: self.data.get() }
    }
}

fn settings() -> Settings {
    Settings::parse(&fs::read_to_string(samples().join("settings.json")).expect("a text")).expect("the samples' settings")
}

fn sample(name: &str) -> Sample {
    read(samples().join(name).to_str().expect("a path in UTF-8"))
}

fn read(path: &str) -> Sample {
    serde_json::from_str(&fs::read_to_string(path).expect(path)).expect(path)
}

fn samples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("samples")
}
