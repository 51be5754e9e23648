//! Runs each case of `cases` natively: entities as a channel sees them, and whether they pass.

use in_stock::{passes, Settings};
use weir_plugin::{Entity, Facet};

#[path = "../../cases.rs"]
mod cases;

use cases::case;

#[test]
fn each_case_becomes_what_is_expected() {
    let cases = cases::all();
    for case in &cases {
        let actual = cases::verdict(passes(&case.entity, &settings()));
        assert_eq!(actual, case.expected, "{}: {actual:#}", case.name);
    }
    assert!(cases.len() >= 5, "only {} cases were found", cases.len());
}

#[test]
fn the_minimum_counts_over_all_locations_together() {
    let case = case("in-two-places");
    for (minimum, verdict) in [(-5, true), (0, true), (7, true), (8, false)] {
        assert_eq!(
            passes(
                &case.entity,
                &Settings {
                    minimum,
                    ..Settings::default()
                }
            ),
            Ok(verdict),
            "{minimum}"
        );
    }
}

#[test]
fn only_named_locations_count() {
    let case = case("in-two-places");
    for (locations, verdict) in [
        (r#"["berlin"]"#, true),
        (r#"["lyon"]"#, true),
        (r#"["oslo"]"#, false),
        (r#"["berlin", "oslo"]"#, true),
    ] {
        let settings = Settings::parse(&format!(r#"{{"minimum": 3, "locations": {locations}}}"#))
            .expect("settings");
        assert_eq!(passes(&case.entity, &settings), Ok(verdict), "{locations}");
    }
}

#[test]
fn an_entity_without_known_stock_can_pass() {
    let lenient = Settings::parse(r#"{"unknown": "pass"}"#).expect("settings");
    assert_eq!(passes(&case("never-stocked").entity, &lenient), Ok(true));
    assert_eq!(passes(&case("sold-out").entity, &lenient), Ok(false));
}

#[test]
fn a_stock_in_another_form_fails() {
    for value in [
        "12",
        "{}",
        r#"{"available": "12"}"#,
        r#"{"available": 1.5}"#,
        r#"{"available": null}"#,
    ] {
        let entity = Entity {
            facets: vec![Facet::new("stock.berlin", value)],
            ..Entity::default()
        };
        let failure = passes(&entity, &settings()).expect_err(value);
        assert_eq!(failure.code, "wrong-facet", "{value}");
        assert!(
            failure.message.contains("stock.berlin"),
            "{}",
            failure.message
        );
    }
}

#[test]
fn the_columns_of_a_row_are_ignored() {
    let settings = Settings::parse(r#"{"site": "de", "url": "http://shop-de:8080", "minimum": 2}"#)
        .expect("settings");
    assert_eq!(settings.minimum, 2);
    for (json, named) in [
        (r#"{"minimum": "2"}"#, "\"2\""),
        (r#"{"locations": []}"#, "locations is empty"),
        (r#"{"unknown": "keep"}"#, "keep"),
    ] {
        let error = Settings::parse(json).expect_err(json);
        assert!(error.contains(named), "{error}");
    }
}

fn settings() -> Settings {
    Settings::parse(&cases::settings()).expect("the settings of the cases")
}
