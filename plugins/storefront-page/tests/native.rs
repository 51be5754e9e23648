//! Entities as a channel sees them, and their pages: each case of `cases`, natively.
//!
//! An expectation of null means that the product is not for this shop.

use serde_json::{json, Value};
#[path = "../../cases.rs"]
mod cases;

use cases::{case, Case};
use storefront_page::{page, Entity, Facet, Failure, Settings};

#[test]
fn each_case_becomes_what_is_expected() {
    let cases = cases::all();
    for case in &cases {
        let actual = outcome(case, &settings());
        assert_eq!(actual, case.expected, "{}: {actual:#}", case.name);
    }
    assert!(cases.len() >= 6, "only {} cases were found", cases.len());
}

#[test]
fn the_fields_of_a_page_have_an_order() {
    let case = case("lamp");
    let page = page(Entity { key: "4711", facets: &facets(&case) }, &settings()).expect("no failure").expect("a page");
    let places: Vec<_> = ["sku", "locale", "name", "description", "price", "available", "in_stock", "url"]
        .map(|field| page.find(&format!("\"{field}\":")))
        .into();
    assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{page}");
}

#[test]
fn a_price_list_by_name_goes_before_the_sites_own() {
    for (list, expected) in [("fr-retail", json!({"amount": "8.90", "currency": "EUR"})), ("de-outlet", Value::Null)] {
        let settings = Settings { price_list: Some(list.into()), ..settings() };
        assert_eq!(outcome(&case("lamp"), &settings)["body"]["price"], expected, "{list}");
    }
}

#[test]
fn a_locale_without_a_name_is_not_for_the_shop() {
    for (locale, there) in [("de_DE", true), ("en_US", true), ("fr_FR", false), ("it_IT", false)] {
        let settings = Settings { locale: locale.into(), ..settings() };
        assert_eq!(!outcome(&case("lamp"), &settings).is_null(), there, "{locale}");
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

fn outcome(case: &Case, settings: &Settings) -> Value {
    match page(Entity { key: &case.key, facets: &facets(case) }, settings) {
        Ok(Some(page)) => {
            json!({ "content_type": "application/json", "body": serde_json::from_str::<Value>(&page).expect("a page is JSON") })
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
