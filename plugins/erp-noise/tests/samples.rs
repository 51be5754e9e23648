//! What SAP sends, as it sends it, and the verdict: each `samples/NAME.xml` with its `NAME.expected.json`.

use erp_noise::{accepts, Failure, Settings};
use serde_json::{json, Value};
use std::fs;
use std::path::{Path, PathBuf};

#[test]
fn each_sample_gets_its_verdict() {
    let mut seen = 0;
    for entry in fs::read_dir(samples()).expect("the folder of samples") {
        let path = entry.expect("a sample").path();
        if path.extension().is_some_and(|extension| extension == "xml") {
            let expected = fs::read_to_string(path.with_extension("expected.json")).expect("an expectation beside the sample");
            let expected: Value = serde_json::from_str(&expected).expect("JSON");
            let actual = match accepts(&fs::read_to_string(&path).expect("a text"), &settings()) {
                Ok(verdict) => verdict.into(),
                Err(Failure { code, message }) => json!({ "code": code, "message": message }),
            };
            assert_eq!(actual, expected, "{}", path.display());
            seen += 1;
        }
    }
    assert!(seen >= 7, "only {seen} samples were found");
}

#[test]
fn without_settings_only_tests_and_status_reports_are_noise() {
    let settings = Settings::parse("{}").expect("settings");
    for (name, verdict) in
        [("price.xml", true), ("order.xml", true), ("from-the-sandbox.xml", true), ("test.xml", false), ("status-report.xml", false)]
    {
        assert_eq!(accepts(&sample(name), &settings), Ok(verdict), "{name}");
    }
}

#[test]
fn a_status_report_passes_for_whoever_lists_it() {
    let settings = Settings::parse(r#"{"message_types": ["STATUS"]}"#).expect("settings");
    assert_eq!(accepts(&sample("status-report.xml"), &settings), Ok(true));
}

#[test]
fn nothing_behind_the_control_record_is_read() {
    let whole = sample("price.xml");
    let end = whole.find("</EDI_DC40>").expect("a control record") + "</EDI_DC40>".len();
    assert_eq!(accepts(&format!("{}<<<", &whole[..end]), &settings()), Ok(true));
    for cut in 0..end {
        assert!(accepts(&whole[..cut], &settings()).is_err(), "cut at {cut}");
    }
}

#[test]
fn a_setting_nobody_knows_is_named() {
    for (json, named) in [
        (r#"{"message_type": ["COND_A"]}"#, "message_type"),
        (r#"{"message_types": []}"#, "message_types is empty"),
        ("[", "settings of erp-noise"),
    ] {
        let error = Settings::parse(json).expect_err(json);
        assert!(error.contains(named), "{error}");
    }
}

fn settings() -> Settings {
    Settings::parse(&sample("settings.json")).expect("the samples' settings")
}

fn sample(name: &str) -> String {
    fs::read_to_string(samples().join(name)).expect(name)
}

fn samples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("samples")
}
