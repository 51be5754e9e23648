//! Entities as a channel sees them, and their documents: each `samples/NAME.json` with its `NAME.expected.json`.
//!
//! An expectation of null means that the product has no document.

use search_document::{document, Document, Entity, Facet, Failure, Settings};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{json, Value};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// An entity, in the form in which a channel without a renderer delivers it.
#[derive(Deserialize)]
struct Sample {
    key: String,
    facets: BTreeMap<String, Box<RawValue>>,
}

#[test]
fn each_sample_becomes_what_is_expected() {
    let mut seen = 0;
    for entry in fs::read_dir(samples()).expect("the folder of samples") {
        let path = entry.expect("a file").path();
        let Some(name) = path.to_str().and_then(|path| path.strip_suffix(".expected.json")) else { continue };
        let expected: Value = serde_json::from_str(&fs::read_to_string(&path).expect("a text")).expect("JSON");
        let actual = read(Path::new(&format!("{name}.json"))).outcome(&settings());
        assert_eq!(actual, expected, "{name}: {actual:#}");
        seen += 1;
    }
    assert!(seen >= 5, "only {seen} samples were found");
}

#[test]
fn an_index_gets_the_fields_it_has() {
    let settings = Settings::parse(r#"{"index_fields": ["names", "in_stock"]}"#).expect("settings");
    let document = sample("lamp.json").outcome(&settings);
    let fields: Vec<_> = document["body"].as_object().expect("an object").keys().collect();
    assert_eq!(fields, ["id", "in_stock", "names"]);
}

#[test]
fn a_field_that_no_document_has_is_named() {
    let error = Settings::parse(r#"{"index_fields": ["name"]}"#).expect_err("a wrong field");
    assert!(error.contains("`name`") && error.contains("`names`"), "{error}");
}

impl Sample {
    fn outcome(&self, settings: &Settings) -> Value {
        match document(Entity { key: &self.key, facets: &self.facets() }, settings) {
            Ok(Some(Document { id, body })) => {
                json!({ "key": id, "body": serde_json::from_str::<Value>(&body).expect("a document is JSON") })
            }
            Ok(None) => Value::Null,
            Err(Failure { code, message }) => json!({ "code": code, "message": message }),
        }
    }

    fn facets(&self) -> Vec<Facet<'_>> {
        self.facets.iter().map(|(name, value)| Facet { name, value: value.get() }).collect()
    }
}

fn read(path: &Path) -> Sample {
    serde_json::from_str(&fs::read_to_string(path).expect("a text")).expect("an entity")
}

fn sample(name: &str) -> Sample {
    read(&samples().join(name))
}

fn settings() -> Settings {
    Settings::parse(&fs::read_to_string(samples().join("settings.json")).expect("a text")).expect("the samples' settings")
}

fn samples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("samples")
}
