//! The cases of pim-product, of which the program must make the same.

#[path = "../../../../../plugins/cases.rs"]
mod cases;

use std::path::Path;

#[test]
fn each_case_of_the_rust_plugin_becomes_the_same() {
    let folder =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../../plugins/pim-product/cases");
    let settings = std::fs::read_to_string(folder.join("settings.json")).expect("settings");
    let settings = jq_pim::settings(&settings).expect("settings");
    let cases = cases::all_in(&folder);
    for case in &cases {
        let actual = cases::changes(jq_pim::changes(&case.event, &settings));
        assert_eq!(actual, case.expected, "{}: {actual:#}", case.name);
    }
    assert!(cases.len() >= 7, "only {} cases were found", cases.len());
}
