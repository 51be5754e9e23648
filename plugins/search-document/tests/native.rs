//! Entities as a channel sees them, and their documents: each case of `cases`, natively.
//!
//! An expectation of null means that the product has no document.

use search_document::{document, Document, Entity, Facet, Failure, Settings};
use serde_json::{json, Value};
#[path = "../../cases.rs"]
mod cases;

use cases::{case, Case};

#[test]
fn each_case_becomes_what_is_expected() {
    let cases = cases::all();
    for case in &cases {
        let actual = outcome(case, &settings());
        assert_eq!(actual, case.expected, "{}: {actual:#}", case.name);
    }
    assert!(cases.len() >= 5, "only {} cases were found", cases.len());
}

#[test]
fn an_index_gets_the_fields_it_has() {
    let settings = Settings::parse(r#"{"index_fields": ["names", "in_stock"]}"#).expect("settings");
    let document = outcome(&case("lamp"), &settings);
    let fields: Vec<_> = document["body"].as_object().expect("an object").keys().collect();
    assert_eq!(fields, ["id", "in_stock", "names"]);
}

#[test]
fn a_field_that_no_document_has_is_named() {
    let error = Settings::parse(r#"{"index_fields": ["name"]}"#).expect_err("a wrong field");
    assert!(error.contains("`name`") && error.contains("`names`"), "{error}");
}

fn outcome(case: &Case, settings: &Settings) -> Value {
    match document(Entity { key: &case.key, facets: &facets(case) }, settings) {
        Ok(Some(Document { id, body })) => {
            json!({ "key": id, "content_type": "application/json", "body": serde_json::from_str::<Value>(&body).expect("a document is JSON") })
        }
        Ok(None) => Value::Null,
        Err(Failure { code, message }) => json!({ "code": code, "message": message }),
    }
}

fn facets(case: &Case) -> Vec<Facet<'_>> {
    case.facets.iter().map(|(name, value)| Facet { name, value }).collect()
}

fn settings() -> Settings {
    Settings::parse(&cases::settings()).expect("the settings of the cases")
}
