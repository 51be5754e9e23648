//! Runs each case of `cases` natively: entities as a channel sees them, and their documents. An
//! expectation of null means that the product has no document.

use search_document::{document, Settings};
use serde_json::json;
use weir_plugin::{Entity, Facet};

#[path = "../../cases.rs"]
mod cases;

use cases::case;

#[test]
fn each_case_becomes_what_is_expected() {
    let cases = cases::all();
    for case in &cases {
        let actual = cases::rendering(document(&case.entity, &settings()));
        assert_eq!(actual, case.expected, "{}: {actual:#}", case.name);
    }
    assert!(cases.len() >= 7, "only {} cases were found", cases.len());
}

#[test]
fn a_document_has_only_the_fields_of_the_index() {
    let settings = Settings::parse(r#"{"index_fields": ["names", "in_stock"]}"#).expect("settings");
    let document = cases::rendering(document(&case("lamp").entity, &settings));
    let fields: Vec<_> = document["body"]
        .as_object()
        .expect("an object")
        .keys()
        .collect();
    assert_eq!(fields, ["id", "in_stock", "names"]);
}

// A price of 1 December was in the index on 23 November, and nothing changed when its day came.
#[test]
fn a_price_with_days_is_only_among_the_dated_ones() {
    let fields = |fields: &str| {
        let settings =
            Settings::parse(&format!(r#"{{"index_fields": {fields}}}"#)).expect("settings");
        cases::rendering(document(&case("december-price").entity, &settings))["body"].clone()
    };
    let december =
        json!({"de-retail": [{"amount": "9.90", "currency": "EUR", "from": "2026-12-01"}]});
    assert_eq!(
        fields(r#"["prices", "dated_prices"]"#),
        json!({"id": "product-4711", "prices": {}, "dated_prices": december})
    );
    // An index whose fields are fixed does not get one that it was not configured for.
    assert_eq!(
        fields(r#"["prices"]"#),
        json!({"id": "product-4711", "prices": {}})
    );
}

#[test]
fn a_later_price_without_a_valid_amount_fails() {
    let facets = vec![
        Facet::new("content.de_DE", r#"{"name": "Lampe"}"#),
        Facet::new(
            "price.de-retail",
            r#"{"amount": "9.90", "later": [{"amount": "7,90", "from": "2026-12-01"}]}"#,
        ),
    ];
    let entity = Entity {
        entity_type: "product".into(),
        key: "4711".into(),
        facets,
    };
    let failure = document(&entity, &settings()).expect_err("no decimal number");
    assert!(
        failure.code == "wrong-facet" && failure.message.contains("\"7,90\""),
        "{failure:?}"
    );
}

#[test]
fn an_error_names_an_unknown_field() {
    let error = Settings::parse(r#"{"index_fields": ["name"]}"#).expect_err("a wrong field");
    assert!(
        error.contains("index_fields[0]")
            && error.contains("but is \"name\"")
            && error.contains(" names "),
        "{error}"
    );
}

fn settings() -> Settings {
    Settings::parse(&cases::settings()).expect("the settings of the cases")
}
