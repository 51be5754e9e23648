//! Runs each case of `cases` natively: entities as a channel sees them, and their documents.  An
//! expectation of null means that the product has no document.

use search_document::{document, Settings};

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
    assert!(cases.len() >= 5, "only {} cases were found", cases.len());
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
