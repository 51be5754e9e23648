//! Runs each case of `cases` natively: IDocs as SAP sends them, and the expected result.
//!
//! The expectation is the list of changes, in the form that Weir accepts, or the failure.

use erp_product::{changes, Kind, Settings};
use weir_plugin::Error;

#[path = "../../cases.rs"]
mod cases;

#[test]
fn each_case_becomes_what_is_expected() {
    let cases = cases::all();
    for case in &cases {
        let actual = cases::changes(
            case.event
                .text()
                .and_then(|document| changes(document, &settings())),
        );
        assert_eq!(actual, case.expected, "{}: {actual:#}", case.name);
    }
    assert!(cases.len() >= 9, "only {} cases were found", cases.len());
}

#[test]
fn one_kind_leaves_the_other_alone() {
    let conditions = Settings {
        kind: Some(Kind::Conditions),
        ..settings()
    };
    let materials = Settings {
        kind: Some(Kind::Materials),
        ..settings()
    };
    assert_eq!(changes(&sample("material"), &conditions), Ok(vec![]));
    assert_eq!(
        changes(&sample("price-of-one-list"), &materials),
        Ok(vec![])
    );
    assert_eq!(
        changes(&sample("price-of-one-list"), &conditions)
            .expect("a price")
            .len(),
        1
    );
    assert_eq!(
        changes(&sample("material"), &materials)
            .expect("a material")
            .len(),
        1
    );
}

#[test]
fn an_unknown_price_list_can_be_skipped() {
    let skipping = Settings::parse(r#"{"unknown": "skip"}"#).expect("settings");
    assert_eq!(
        changes(&sample("unknown-price-list"), &skipping),
        Ok(vec![])
    );
}

#[test]
fn without_a_currency_anywhere_the_event_fails() {
    let settings = Settings {
        currency: None,
        ..settings()
    };
    let Error { code, message } =
        changes(&sample("night-run"), &settings).expect_err("no currency");
    assert_eq!(code, "missing-field");
    assert!(
        message.contains("SCREW-M6X40") && message.contains("KONWA"),
        "{message}"
    );
}

#[test]
fn a_document_that_is_cut_off_anywhere_fails() {
    let whole = sample("night-run");
    let end = whole.trim_end().len();
    for cut in (0..end)
        .step_by(7)
        .chain([end - 1])
        .filter(|cut| whole.is_char_boundary(*cut))
    {
        assert!(changes(&whole[..cut], &settings()).is_err(), "cut at {cut}");
    }
}

#[test]
fn an_error_names_the_wrong_setting() {
    for (json, named) in [
        (r#"{"price_list": {}}"#, "price_list"),
        (r#"{"kind": "ORDERS"}"#, "ORDERS"),
        (r#"{"kind": "COND_A"}"#, "price_lists is empty"),
        (r#"{"price_lists": {"1000": "de"}}"#, "`1000`"),
        (
            r#"{"price_lists": {"1000/10/01": "de retail"}}"#,
            "`de retail`",
        ),
        ("", "settings of erp-product"),
    ] {
        let error = Settings::parse(json).expect_err(json);
        assert!(error.contains(named), "{error}");
    }
}

fn settings() -> Settings {
    Settings::parse(&cases::settings()).expect("the settings of the cases")
}

fn sample(name: &str) -> String {
    cases::case(name).event.text().expect("a text").to_owned()
}
