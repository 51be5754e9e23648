//! Entities as a channel sees them, and their pages: each `samples/NAME.json` with its `NAME.expected.json`.
//!
//! An expectation of null means that the product is not for this shop.

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{json, Value};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use storefront_page::{page, Entity, Facet, Failure, Settings};

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
    assert!(seen >= 6, "only {seen} samples were found");
}

#[test]
fn the_fields_of_a_page_have_an_order() {
    let sample = sample("lamp.json");
    let page = page(Entity { key: "4711", facets: &sample.facets() }, &settings()).expect("no failure").expect("a page");
    let places: Vec<_> = ["sku", "locale", "name", "description", "price", "available", "in_stock", "url"]
        .map(|field| page.find(&format!("\"{field}\":")))
        .into();
    assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{page}");
}

#[test]
fn a_price_list_by_name_goes_before_the_sites_own() {
    for (list, expected) in [("fr-retail", json!({"amount": "8.90", "currency": "EUR"})), ("de-outlet", Value::Null)] {
        let settings = Settings { price_list: Some(list.into()), ..settings() };
        assert_eq!(sample("lamp.json").outcome(&settings)["price"], expected, "{list}");
    }
}

#[test]
fn a_locale_without_a_name_is_not_for_the_shop() {
    for (locale, there) in [("de_DE", true), ("en_US", true), ("fr_FR", false), ("it_IT", false)] {
        let settings = Settings { locale: locale.into(), ..settings() };
        assert_eq!(!sample("lamp.json").outcome(&settings).is_null(), there, "{locale}");
    }
}

#[test]
fn an_amount_that_is_none_is_not_shown() {
    for amount in [r#""9,90""#, r#""""#, r#""1.2.3""#, r#""9.""#, "1e3", "null", "true", "[9]"] {
        let price = format!(r#"{{"amount": {amount}, "currency": "EUR"}}"#);
        let facets = [Facet { name: "content.de_DE", value: r#"{"name": "Lampe"}"# }, Facet { name: "price.de-retail", value: &price }];
        let failure = page(Entity { key: "4711", facets: &facets }, &settings()).expect_err(amount);
        assert_eq!(failure.code, "wrong-facet", "{amount}: {}", failure.message);
        assert!(failure.message.contains("price.de-retail of 4711"), "{}", failure.message);
    }
}

#[test]
fn settings_that_lack_something_are_refused() {
    for (json, named) in
        [(r#"{"site": "de"}"#, "locale"), (r#"{"locale": "de_DE"}"#, "neither price_list nor site"), ("", "settings of storefront-page")]
    {
        let error = Settings::parse(json).expect_err(json);
        assert!(error.contains(named), "{error}");
    }
}

impl Sample {
    fn outcome(&self, settings: &Settings) -> Value {
        match page(Entity { key: &self.key, facets: &self.facets() }, settings) {
            Ok(Some(page)) => serde_json::from_str(&page).expect("a page is JSON"),
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
