//! Entities as a channel sees them, and the verdict: each `samples/NAME.json` with its `NAME.expected.json`.

use in_stock::{passes, Facet, Failure, Settings};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{json, Value};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// An entity, in the form in which a channel without a renderer delivers it.
#[derive(Deserialize)]
struct Sample {
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
fn the_minimum_counts_over_all_locations_together() {
    let sample = sample("in-two-places.json");
    for (minimum, verdict) in [(-5, true), (0, true), (7, true), (8, false)] {
        assert_eq!(passes(&sample.facets(), &Settings { minimum, ..Settings::default() }), Ok(verdict), "{minimum}");
    }
}

#[test]
fn only_named_locations_count() {
    let sample = sample("in-two-places.json");
    for (locations, verdict) in [(r#"["berlin"]"#, true), (r#"["lyon"]"#, true), (r#"["oslo"]"#, false), (r#"["berlin", "oslo"]"#, true)] {
        let settings = Settings::parse(&format!(r#"{{"minimum": 3, "locations": {locations}}}"#)).expect("settings");
        assert_eq!(passes(&sample.facets(), &settings), Ok(verdict), "{locations}");
    }
}

#[test]
fn what_is_unknown_can_pass() {
    let lenient = Settings::parse(r#"{"unknown": "pass"}"#).expect("settings");
    assert_eq!(passes(&sample("never-stocked.json").facets(), &lenient), Ok(true));
    assert_eq!(passes(&sample("sold-out.json").facets(), &lenient), Ok(false));
}

#[test]
fn a_stock_in_another_form_fails() {
    for value in ["12", "{}", r#"{"available": "12"}"#, r#"{"available": 1.5}"#, r#"{"available": null}"#] {
        let failure = passes(&[Facet { name: "stock.berlin", value }], &settings()).expect_err(value);
        assert_eq!(failure.code, "wrong-facet", "{value}");
        assert!(failure.message.contains("stock.berlin"), "{}", failure.message);
    }
}

#[test]
fn the_columns_of_a_row_are_no_settings_of_ours() {
    let settings = Settings::parse(r#"{"site": "de", "url": "http://shop-de:8080", "minimum": 2}"#).expect("settings");
    assert_eq!(settings.minimum, 2);
    for (json, named) in
        [(r#"{"minimum": "2"}"#, "\"2\""), (r#"{"locations": []}"#, "locations is empty"), (r#"{"unknown": "keep"}"#, "keep")]
    {
        let error = Settings::parse(json).expect_err(json);
        assert!(error.contains(named), "{error}");
    }
}

impl Sample {
    fn outcome(&self, settings: &Settings) -> Value {
        match passes(&self.facets(), settings) {
            Ok(verdict) => verdict.into(),
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
