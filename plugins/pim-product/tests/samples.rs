//! What a PIM sends, as it sends it, and what must become of it: each `samples/NAME.json` with its `NAME.expected.json`.
//!
//! A sample is the event's type and time and, under `data`, what the PIM sends. The expectation is the array of changes in
//! the form Weir itself takes, or the failure.

use pim_product::{changes, Event, Failure, Settings, ENTITY_TYPE};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{json, Value};
use std::fs;
use std::path::{Path, PathBuf};

#[derive(Deserialize)]
struct Sample {
    event_type: String,
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
    assert!(seen >= 7, "only {seen} samples were found");
}

#[test]
fn numbers_stay_as_they_were_written() {
    let changes = changes(sample("product-updated.json").event(), &settings()).expect("changes");
    let value = changes[0].value.as_deref().expect("a value");
    assert!(value.contains(r#""bulbs":1.50"#), "{value}");
}

#[test]
fn another_channel_of_the_pim_gives_other_texts() {
    let printed = Settings::parse(r#"{"locales": ["de_DE"], "scope": "print"}"#).expect("settings");
    let changes = changes(sample("product-updated.json").event(), &printed).expect("changes");
    let value: Value = serde_json::from_str(changes[0].value.as_deref().expect("a value")).expect("JSON");
    assert_eq!(value["description"], "Esche, Messing.");
}

#[test]
fn without_a_channel_only_values_of_no_channel_count() {
    let unscoped = Settings::parse(r#"{"locales": ["de_DE"]}"#).expect("settings");
    let changes = changes(sample("product-updated.json").event(), &unscoped).expect("changes");
    let value: Value = serde_json::from_str(changes[0].value.as_deref().expect("a value")).expect("JSON");
    assert_eq!(value["description"], Value::Null);
    assert_eq!(value["name"], "Tischleuchte „Fjord“");
}

#[test]
fn what_is_no_product_fails_with_its_reason() {
    for (data, code) in [
        ("", "broken-json"),
        ("[]", "broken-json"),
        (r#"{"identifier": "1", "values": {"name": "Fjord"}}"#, "broken-json"),
        (r#"{"identifier": "1", "values": {}, "updated": "yesterday"}"#, "not-a-time"),
        (r#"{"identifier": "1", "values": {}, "updated": "2026-11-23T08:14:41"}"#, "not-a-time"),
        (r#"{"identifier": 4711, "values": {}}"#, "broken-json"),
    ] {
        let failure = changes(Event { event_type: "x", time: None, data }, &settings()).expect_err(data);
        assert_eq!(failure.code, code, "{data}: {}", failure.message);
    }
}

#[test]
fn a_setting_nobody_knows_is_named() {
    for (json, named) in [
        (r#"{"locales": ["de_DE"], "scopes": "web"}"#, "scopes"),
        (r#"{}"#, "locales"),
        (r#"{"locales": []}"#, "locales is empty"),
        (r#"{"locales": ["de DE"]}"#, "`de DE`"),
        (r#"{"locales": ["de_DE"], "attributes": {"family_name": "family"}}"#, "`family_name`"),
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
        Event { event_type: &self.event_type, time: self.time.as_deref(), data: self.data.get() }
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
