//! Runs each case of `cases` natively: entities as a channel sees them, and their pages.
//!
//! An expectation of null means that the product is not for this shop.

use serde_json::{json, Value};
use storefront_page::{page, Settings};
use weir_plugin::{Entity, Facet, Payload};

#[path = "../../cases.rs"]
mod cases;

use cases::case;

#[test]
fn each_case_becomes_what_is_expected() {
    let cases = cases::all();
    for case in &cases {
        let actual = cases::rendering(page(&case.entity, &settings()));
        assert_eq!(actual, case.expected, "{}: {actual:#}", case.name);
    }
    assert!(cases.len() >= 6, "only {} cases were found", cases.len());
}

#[test]
fn the_fields_of_a_page_have_an_order() {
    let page = page(&case("lamp").entity, &settings())
        .expect("no failure")
        .expect("a page");
    let Payload::Text(page) = page.body else {
        panic!("a page of bytes")
    };
    let places: Vec<_> = [
        "sku",
        "locale",
        "name",
        "description",
        "price",
        "available",
        "in_stock",
        "url",
    ]
    .map(|field| page.find(&format!("\"{field}\":")))
    .into();
    assert!(
        places.iter().all(Option::is_some) && places.is_sorted(),
        "{page}"
    );
}

#[test]
fn a_configured_price_list_replaces_the_one_of_the_site() {
    for (list, expected) in [
        ("fr-retail", json!({"amount": "8.90", "currency": "EUR"})),
        ("de-outlet", Value::Null),
    ] {
        let settings = Settings {
            price_list: Some(list.into()),
            ..settings()
        };
        assert_eq!(
            cases::rendering(page(&case("lamp").entity, &settings))["body"]["price"],
            expected,
            "{list}"
        );
    }
}

// A price of 1 December was published on 23 November, and nothing changed when its day came.
#[test]
fn a_price_is_not_shown_before_its_day_or_after_its_last() {
    let december = r#"{"amount": "9.90", "currency": "EUR", "from": "2026-12-01"}"#;
    let sale = r#"{"amount": "7.90", "currency": "EUR", "until": "2026-11-30",
        "later": [{"amount": "9.90", "currency": "EUR", "from": "2026-12-01"}]}"#;
    for (facet, expected) in [
        (
            december,
            json!([{"amount": "9.90", "currency": "EUR", "from": "2026-12-01"}]),
        ),
        (
            sale,
            json!([
                {"amount": "7.90", "currency": "EUR", "until": "2026-11-30"},
                {"amount": "9.90", "currency": "EUR", "from": "2026-12-01"}
            ]),
        ),
    ] {
        let facets = vec![
            Facet::new("content.de_DE", r#"{"name": "Lampe"}"#),
            Facet::new("price.de-retail", facet),
        ];
        let entity = Entity {
            entity_type: "product".into(),
            key: "4711".into(),
            facets,
        };
        let page = cases::rendering(page(&entity, &settings()))["body"].clone();
        assert_eq!((&page["price"], &page["prices"]), (&Value::Null, &expected));
    }
    let french = Settings {
        price_list: Some("fr-retail".into()),
        ..settings()
    };
    let lamp = cases::rendering(page(&case("lamp").entity, &french))["body"].clone();
    assert_eq!(lamp.get("prices"), None, "{lamp}");
}

#[test]
fn a_locale_without_a_name_is_not_for_the_shop() {
    for (locale, there) in [
        ("de_DE", true),
        ("en_US", true),
        ("fr_FR", false),
        ("it_IT", false),
    ] {
        let settings = Settings {
            locale: locale.into(),
            ..settings()
        };
        assert_eq!(
            page(&case("lamp").entity, &settings).map(|page| page.is_some()),
            Ok(there),
            "{locale}"
        );
    }
}

#[test]
fn a_price_without_a_valid_amount_fails() {
    for amount in [
        r#""9,90""#,
        r#""""#,
        r#""1.2.3""#,
        r#""9.""#,
        "1e3",
        "null",
        "true",
        "[9]",
    ] {
        let price = format!(r#"{{"amount": {amount}, "currency": "EUR"}}"#);
        let facets = vec![
            Facet::new("content.de_DE", r#"{"name": "Lampe"}"#),
            Facet::new("price.de-retail", price),
        ];
        let entity = Entity {
            entity_type: "product".into(),
            key: "4711".into(),
            facets,
        };
        let failure = page(&entity, &settings()).expect_err(amount);
        assert_eq!(failure.code, "wrong-facet", "{amount}: {}", failure.message);
        assert!(
            failure.message.contains("price.de-retail of 4711"),
            "{}",
            failure.message
        );
    }
}

#[test]
fn incomplete_settings_are_rejected() {
    for (json, named) in [
        (r#"{"site": "de"}"#, "locale"),
        (r#"{"locale": "de_DE"}"#, "neither price_list nor site"),
        ("", "settings of storefront-page"),
    ] {
        let error = Settings::parse(json).expect_err(json);
        assert!(error.contains(named), "{error}");
    }
}

fn settings() -> Settings {
    Settings::parse(&cases::settings()).expect("the settings of the cases")
}
