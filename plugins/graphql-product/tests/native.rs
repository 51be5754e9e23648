//! Runs each case of `cases` natively: entities as a channel sees them, and their variables. An
//! expectation of null means that the product is not for this shop.

use graphql_product::{variables, Settings};

#[path = "../../cases.rs"]
mod cases;

#[test]
fn each_case_becomes_what_is_expected() {
    let settings: Settings =
        weir_plugin::settings("graphql-product", &cases::settings()).expect("settings");
    let cases = cases::all();
    for case in &cases {
        let actual = cases::rendering(variables(&case.entity, &settings));
        assert_eq!(actual, case.expected, "{}: {actual:#}", case.name);
    }
    assert!(cases.len() >= 5, "only {} cases were found", cases.len());
}
