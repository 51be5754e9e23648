//! `weir check`: every complaint at once, with file, line, column and what would be right.
//!
//! Reading the files is done here; loading components is handed in, so that this command and a
//! start judge alike.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::json;

use crate::config::cursor::Environment;
use crate::plan::{Cause, Complaint, Plan, ReadOptions, read, render};

/// Exit code: the configuration is right.
const FINE: u8 = 0;
/// Exit code: there are complaints.
const WRONG: u8 = 1;
/// Exit code: a file cannot be opened.
const UNREADABLE: u8 = 3;

/// Reads `files` and prints what is wrong; where nothing is, `load` says what is wrong with the
/// components.
pub fn check(
    files: &[PathBuf],
    without_secrets: bool,
    json: bool,
    load: impl FnOnce(&Plan) -> Vec<Complaint>,
) -> ExitCode {
    let environment = |name: &str| std::env::var(name).ok();
    let report = report(files, &environment, without_secrets, json, load);
    // Who closes the pipe early has seen enough; the exit code still tells.
    let _ = std::io::stdout().lock().write_all(report.text.as_bytes());
    ExitCode::from(report.code)
}

/// What a check came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The exit code: 0 fine, 1 there are complaints, 3 a file cannot be opened.
    pub code: u8,
    /// What to print.
    pub text: String,
}

/// What [`check`] prints and answers.
pub fn report(
    files: &[PathBuf],
    environment: Environment<'_>,
    without_secrets: bool,
    json: bool,
    load: impl FnOnce(&Plan) -> Vec<Complaint>,
) -> Report {
    let (plan, complaints, warnings) = match read(
        files,
        environment,
        ReadOptions {
            secrets: !without_secrets,
        },
    ) {
        Ok((plan, warnings)) => {
            let complaints = load(&plan);
            (Some(plan), complaints, warnings)
        }
        Err(complaints) => (None, complaints, Vec::new()),
    };
    let code = match complaints.as_slice() {
        [] => FINE,
        all if all
            .iter()
            .any(|complaint| complaint.cause == Cause::Unreadable) =>
        {
            UNREADABLE
        }
        _ => WRONG,
    };
    let text = if json {
        for_machines(&complaints, &warnings)
    } else {
        for_people(plan.as_ref(), &complaints, &warnings)
    };
    Report { code, text }
}

fn for_machines(complaints: &[Complaint], warnings: &[Complaint]) -> String {
    let list = |complaints: &[Complaint]| {
        complaints
            .iter()
            .map(Complaint::to_json)
            .collect::<Vec<_>>()
    };
    format!(
        "{:#}\n",
        json!({"ok": complaints.is_empty(), "complaints": list(complaints), "warnings": list(warnings)})
    )
}

fn for_people(plan: Option<&Plan>, complaints: &[Complaint], warnings: &[Complaint]) -> String {
    let mut text = render(complaints);
    if !warnings.is_empty() {
        let space = if text.is_empty() { "" } else { "\n" };
        text.push_str(&format!(
            "{space}Right, and odd all the same:\n{}",
            render(warnings)
        ));
    }
    let conclusion = match (plan, complaints.len()) {
        (Some(plan), 0) => format!(
            "The configuration is right: {}, {}, {}, {}.",
            counted(plan.sources.len(), "source"),
            counted(plan.plugins.len(), "plugin"),
            counted(plan.channels.len(), "channel"),
            counted(plan.targets.len(), "target"),
        ),
        (_, count) => format!("{}.", counted(count, "complaint")),
    };
    let space = if text.is_empty() { "" } else { "\n" };
    format!("{text}{space}{conclusion}\n")
}

fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, load: impl FnOnce(&Plan) -> Vec<Complaint>, json: bool) -> Report {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("weir.toml");
        std::fs::write(&file, text).expect("written");
        let report = report(&[file], &|_| None, false, json, load);
        Report {
            text: report
                .text
                .replace(&format!("{}/", folder.path().display()), ""),
            ..report
        }
    }

    #[test]
    fn a_right_file_is_fine() {
        let report = check("config_version = 1\n", |_| Vec::new(), false);
        assert_eq!(
            (report.code, &*report.text),
            (
                0,
                "The configuration is right: 0 sources, 0 plugins, 0 channels, 0 targets.\n"
            )
        );
    }

    #[test]
    fn complaints_are_printed_with_their_line() {
        let report = check(
            "config_version = 1\n[sever]\nlisten = \"127.0.0.1:1\"\n",
            |_| Vec::new(),
            false,
        );
        let text = "weir.toml:2:2: sever: there is no such key; did you mean \"server\"?\n  2 | [sever]\n    |  ^\n\n1 complaint.\n";
        assert_eq!((report.code, &*report.text), (1, text));
    }

    #[test]
    fn what_loading_complains_of_stands_where_the_file_names_it() {
        let complain =
            |plan: &Plan| vec![plan.complaint("sources.erp.plugins[0]", "it wants WASI", None)];
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
    fn a_file_that_cannot_be_opened_has_a_code_of_its_own() {
        let report = report(
            &["/nowhere/weir.toml".into()],
            &|_| None,
            false,
            false,
            |_| Vec::new(),
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
