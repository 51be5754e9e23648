//! `weir check`: prints every complaint at once, with file, line, column and what would be right.
//!
//! It reads the files itself; loading components is passed in, so that this command and a start
//! apply the same checks. So is the question what channels leave behind ([`left_behind`]).

pub(super) mod connect;
pub(super) mod left_behind;

use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::json;

use super::table::plain;
use crate::config::cursor::Environment;
use crate::exit;
use crate::plan::{Cause, Complaint, Plan, ReadOptions, read, render};

use self::left_behind::LeftBehind;

/// Reads `files` and prints the complaints; if there are none, `load` reports those about the
/// components, and `look` what channels leave behind.
pub fn check(
    files: &[PathBuf],
    without_secrets: bool,
    json: bool,
    load: impl FnOnce(&Plan) -> Loaded,
    look: impl FnOnce(&Plan) -> LeftBehind,
) -> ExitCode {
    let environment = |name: &str| std::env::var(name).ok();
    let report = report(files, &environment, without_secrets, json, load, look);
    // A reader that closes the pipe early has seen enough; the exit code still counts.
    super::print(&report.text);
    ExitCode::from(report.code)
}

/// What was found beyond the files, in components and at targets.
#[derive(Clone, Debug, Default)]
pub struct Loaded {
    /// What keeps a start or deliveries from succeeding.
    pub complaints: Vec<Complaint>,
    /// What works now and will probably fail later.
    pub warnings: Vec<Complaint>,
}

/// The result of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The exit code: 0 without complaints, 1 with complaints, 3 if a file cannot be opened.
    pub code: u8,
    /// The output.
    pub text: String,
}

/// The output and exit code of [`check`].
pub fn report(
    files: &[PathBuf],
    environment: Environment<'_>,
    without_secrets: bool,
    json: bool,
    load: impl FnOnce(&Plan) -> Loaded,
    look: impl FnOnce(&Plan) -> LeftBehind,
) -> Report {
    let (plan, complaints, mut warnings) = match read(
        files,
        environment,
        ReadOptions {
            secrets: !without_secrets,
        },
    ) {
        Ok((plan, mut warnings)) => {
            let loaded = load(&plan);
            warnings.extend(loaded.warnings);
            (Some(plan), loaded.complaints, warnings)
        }
        Err(complaints) => (None, complaints, Vec::new()),
    };
    let found = plan.as_ref().map(look).unwrap_or_default();
    warnings.extend(found.warnings);
    let not_checked = found.not_checked.as_deref();
    let code = match complaints.as_slice() {
        [] => 0,
        all if all
            .iter()
            .any(|complaint| complaint.cause == Cause::Unreadable) =>
        {
            exit::UNREACHABLE
        }
        _ => exit::FAILED,
    };
    let text = if json {
        to_json(&complaints, &warnings, not_checked)
    } else {
        to_text(plan.as_ref(), &complaints, &warnings, not_checked)
    };
    Report { code, text }
}

fn to_json(complaints: &[Complaint], warnings: &[Complaint], not_checked: Option<&str>) -> String {
    let list = |complaints: &[Complaint]| {
        complaints
            .iter()
            .map(Complaint::to_json)
            .collect::<Vec<_>>()
    };
    format!(
        "{:#}\n",
        json!({"ok": complaints.is_empty(), "complaints": list(complaints), "warnings": list(warnings), "not_checked": not_checked})
    )
}

fn to_text(
    plan: Option<&Plan>,
    complaints: &[Complaint],
    warnings: &[Complaint],
    not_checked: Option<&str>,
) -> String {
    let mut text = render(complaints);
    if !warnings.is_empty() {
        let space = if text.is_empty() { "" } else { "\n" };
        text.push_str(&format!("{space}Warnings:\n{}", render(warnings)));
    }
    let conclusion = match (plan, complaints.len()) {
        (Some(plan), 0) => format!(
            "The configuration is valid: {}, {}, {}, {}.",
            counted(plan.sources.len(), "source"),
            counted(plan.plugins.len(), "plugin"),
            counted(plan.channels.len(), "channel"),
            counted(plan.targets.len(), "target"),
        ),
        (_, count) => format!("{}.", counted(count, "complaint")),
    };
    let space = if text.is_empty() { "" } else { "\n" };
    let not_checked = not_checked.map(|why| plain(why) + "\n");
    format!(
        "{text}{space}{conclusion}\n{}",
        not_checked.unwrap_or_default()
    )
}

fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, load: impl FnOnce(&Plan) -> Loaded, json: bool) -> Report {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("weir.toml");
        std::fs::write(&file, text).expect("written");
        let look = |_: &Plan| LeftBehind::default();
        let report = report(&[file], &|_| None, false, json, load, look);
        Report {
            text: report
                .text
                .replace(&format!("{}/", folder.path().display()), ""),
            ..report
        }
    }

    #[test]
    fn a_right_file_is_fine() {
        let report = check("config_version = 1\n", |_| Loaded::default(), false);
        assert_eq!(
            (report.code, &*report.text),
            (
                0,
                "The configuration is valid: 0 sources, 0 plugins, 0 channels, 0 targets.\n"
            )
        );
    }

    #[test]
    fn complaints_are_printed_with_their_line() {
        let report = check(
            "config_version = 1\n[sever]\nlisten = \"127.0.0.1:1\"\n",
            |_| Loaded::default(),
            false,
        );
        let text = "weir.toml:2:2: sever: there is no such key; did you mean \"server\"?\n  2 | [sever]\n    |  ^\n\n1 complaint.\n";
        assert_eq!((report.code, &*report.text), (1, text));
    }

    #[test]
    fn complaints_about_components_have_a_place_in_the_file() {
        let complain = |plan: &Plan| Loaded {
            complaints: vec![plan.complaint("sources.erp.plugins[0]", "it wants WASI", None)],
            ..Loaded::default()
        };
        let report = check("config_version = 1\n[sources.erp]\n", complain, true);
        let json: serde_json::Value = serde_json::from_str(&report.text).expect("JSON");
        assert_eq!((report.code, &json["ok"]), (1, &json!(false)));
        let complaint = &json["complaints"][0];
        assert_eq!(
            (&complaint["line"], &complaint["column"], &complaint["path"]),
            (&json!(2), &json!(10), &json!("sources.erp.plugins[0]"))
        );
        assert_eq!(json["warnings"][0]["path"], json!("sources.erp"));
    }

    #[test]
    fn it_is_said_what_could_not_be_checked_and_that_is_no_failure() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("weir.toml");
        std::fs::write(&file, "config_version = 1\n").expect("written");
        let look = |_: &Plan| LeftBehind {
            warnings: Vec::new(),
            not_checked: Some("Not checked: nobody answers".to_owned()),
        };
        let report = |json| {
            report(
                std::slice::from_ref(&file),
                &|_| None,
                false,
                json,
                |_| Loaded::default(),
                look,
            )
        };
        let text = "The configuration is valid: 0 sources, 0 plugins, 0 channels, 0 targets.\nNot checked: nobody answers\n";
        assert_eq!((report(false).code, &*report(false).text), (0, text));
        let json: serde_json::Value = serde_json::from_str(&report(true).text).expect("JSON");
        assert_eq!(json["not_checked"], "Not checked: nobody answers");
    }

    #[test]
    fn a_file_that_cannot_be_opened_has_a_code_of_its_own() {
        let report = report(
            &["/nowhere/weir.toml".into()],
            &|_| None,
            false,
            false,
            |_| Loaded::default(),
            |_| panic!("there is no plan"),
        );
        assert_eq!(report.code, 3);
        assert!(
            report
                .text
                .starts_with("/nowhere/weir.toml: this file cannot be read: "),
            "{}",
            report.text
        );
    }
}
