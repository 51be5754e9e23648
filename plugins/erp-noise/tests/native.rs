//! Runs each case of `cases` natively: IDocs as SAP sends them, and whether they pass.

use erp_noise::{accepts, Settings};

#[path = "../../cases.rs"]
mod cases;

#[test]
fn each_case_gets_its_verdict() {
    let cases = cases::all();
    for case in &cases {
        let actual = cases::verdict(
            case.event
                .text()
                .and_then(|document| accepts(document, &settings())),
        );
        assert_eq!(actual, case.expected, "{}: {actual:#}", case.name);
    }
    assert!(cases.len() >= 7, "only {} cases were found", cases.len());
}

#[test]
fn without_settings_only_tests_and_status_reports_are_noise() {
    let settings = Settings::parse("{}").expect("settings");
    for (name, verdict) in [
        ("price", true),
        ("order", true),
        ("from-the-sandbox", true),
        ("test", false),
        ("status-report", false),
    ] {
        assert_eq!(accepts(&sample(name), &settings), Ok(verdict), "{name}");
    }
}

#[test]
fn a_status_report_passes_if_it_is_listed() {
    let settings = Settings::parse(r#"{"message_types": ["STATUS"]}"#).expect("settings");
    assert_eq!(accepts(&sample("status-report"), &settings), Ok(true));
}

#[test]
fn nothing_after_the_control_record_is_read() {
    let whole = sample("price");
    let end = whole.find("</EDI_DC40>").expect("a control record") + "</EDI_DC40>".len();
    assert_eq!(
        accepts(&format!("{}<<<", &whole[..end]), &settings()),
        Ok(true)
    );
    for cut in 0..end {
        assert!(accepts(&whole[..cut], &settings()).is_err(), "cut at {cut}");
    }
}

#[test]
fn an_error_names_the_wrong_setting() {
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
    Settings::parse(&cases::settings()).expect("the settings of the cases")
}

fn sample(name: &str) -> String {
    cases::case(name).event.text().expect("a text").to_owned()
}
