//! `weir plugin test`: runs the cases of a plugin and prints the verdicts.

use std::path::PathBuf;

use clap::Args;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use similar::{ChangeTag, TextDiff};

use super::super::client::pretty;
use super::super::table::plain;
use super::super::{CommandResult, Failure};
use super::report::grouped;
use super::{build_failure, fault_failure, name};
use crate::author::cases::written::to_json;
use crate::author::cases::{self, Difference, Output, spread};
use crate::author::suite::{self, Blessing, Judged, Results, Variance, Verdict};
use crate::author::toolchain;

/// Lines of a difference that are shown.
const LINES_MAX: usize = 60;
/// Characters of an output that are quoted in a sentence.
const QUOTED_CHARS_MAX: usize = 160;

/// Arguments of `weir plugin test`.
#[derive(Clone, Debug, Args)]
pub struct TestArgs {
    /// The plugin's folder, which is built first and has its cases in cases/NAME; or a component,
    /// which has its cases inside
    #[arg(default_value = ".", value_name = "FOLDER|COMPONENT")]
    plugin: PathBuf,
    /// Use the cases of this folder instead
    #[arg(long, value_name = "FOLDER")]
    cases: Option<PathBuf>,
    /// Run only cases whose name contains this
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Write the actual output into expected.json of each case that differs or has none yet
    #[arg(long)]
    bless: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Builds, runs, blesses and prints.
pub(super) fn run(args: &TestArgs, out: &mut String) -> CommandResult {
    let mut results = test(args)?;
    let mut blessing = Blessing::default();
    if args.bless {
        let folder = args
            .cases
            .clone()
            .unwrap_or_else(|| args.plugin.join("cases"));
        if !folder.is_dir() {
            return Err(Failure::Usage(
                "the cases are inside the component; --bless needs their folder: --cases FOLDER"
                    .into(),
            ));
        }
        blessing = results.bless(&folder).map_err(|(path, error)| {
            Failure::Unreachable(format!("cannot write {}: {error}", path.display()))
        })?;
        if !blessing.written.is_empty() {
            // The component carries its cases, so it is another one now.
            results = test(args)?;
        }
    }
    if results.cases.is_empty() {
        return Err(Failure::Failed(nothing_to_test(args)));
    }
    out.push_str(&if args.json {
        to_json_text(&results, &blessing)
    } else {
        to_text(&results, &blessing)
    });
    Ok(results.all_pass())
}

fn nothing_to_test(args: &TestArgs) -> String {
    match &args.only {
        Some(only) => format!("no case has `{only}` in its name"),
        None => {
            "there are no cases: create a folder cases/NAME with the input (event.json, body.EXT or entity.json), then run \
                 `weir plugin test --bless` and check what it wrote into expected.json"
                .to_owned()
        }
    }
}

fn test(args: &TestArgs) -> Result<Results, Failure> {
    let (component, cases) = if args.plugin.is_dir() {
        let built = toolchain::build(&args.plugin, &mut |step| eprintln!("{step}"))
            .map_err(build_failure)?;
        let cases = args.cases.clone();
        let cases = cases.unwrap_or_else(|| args.plugin.join("cases"));
        (built.component, Some(cases))
    } else {
        (args.plugin.clone(), args.cases.clone())
    };
    let binary = super::component(&component)?;
    let cases = match cases {
        Some(folder) => cases::read(&folder),
        None => cases::embedded(binary.bytes()),
    };
    let mut cases = cases.map_err(|error| Failure::Failed(error.to_string()))?;
    cases.retain(|case| {
        args.only
            .as_deref()
            .is_none_or(|only| case.name.contains(only))
    });
    suite::run(&name(&component), &binary, cases).map_err(fault_failure)
}

/// The counts, in one phrase.
pub(super) fn summary(results: &Results) -> String {
    let passed = results.count(|verdict| matches!(verdict, Verdict::Passes));
    let open = results.count(|verdict| matches!(verdict, Verdict::Open));
    let cases = results.cases.len();
    let failed = cases - passed - open;
    let open = if open > 0 {
        format!(", {open} without an expected output")
    } else {
        String::new()
    };
    format!(
        "{cases} case{}: {passed} passed, {failed} failed{open}",
        if cases == 1 { "" } else { "s" }
    )
}

/// One line per case, followed by what is wrong with it.
pub(super) fn to_text(results: &Results, blessing: &Blessing) -> String {
    let roles: Vec<&str> = results.roles.iter().map(|role| role.name()).collect();
    let width = results
        .cases
        .iter()
        .map(|judged| judged.case.name.chars().count())
        .max()
        .unwrap_or_default();
    let mut text = format!("{}: {}\n", plain(&results.plugin), roles.join(", "));
    for judged in &results.cases {
        let name = plain(&judged.case.name);
        match &judged.verdict {
            Verdict::Passes => text.push_str(&format!(
                "  pass  {name:width$}  {:>10} fuel\n",
                grouped(judged.run.fuel)
            )),
            Verdict::Open => {
                text.push_str(&format!(
                    "  OPEN  {name}: no output is expected yet; the actual output is\n"
                ));
                let lines: Vec<String> = spread(&to_json(&judged.run.output))
                    .lines()
                    .map(str::to_owned)
                    .collect();
                push_lines(&lines, &mut text);
            }
            Verdict::NotDeterministic(variance) => {
                text.push_str(&format!("  FAIL  {name}: {}\n", plain(&describe(variance))))
            }
            Verdict::Differs(difference) => {
                text.push_str(&format!("  FAIL  {name}: {}\n", plain(&difference.first)));
                push_lines(&lines_of(difference), &mut text);
            }
        }
        if !matches!(judged.verdict, Verdict::Passes) {
            for line in &judged.run.log {
                text.push_str(&format!(
                    "        log {}: {}\n",
                    line.level.name(),
                    plain(&line.message)
                ));
            }
        }
    }
    for name in &blessing.written {
        text.push_str(&format!(
            "blessed {}: check its expected.json now\n",
            plain(name)
        ));
    }
    for (name, code) in &blessing.mistakes {
        text.push_str(&format!(
            "not blessed {}: its output is the mistake `{}`; correct the plugin, or write expected.json by hand\n",
            plain(name),
            plain(code)
        ));
    }
    text.push_str(&format!(
        "{}; each ran twice in fresh instances and twice in one with the others\n",
        summary(results)
    ));
    if !results.all_pass() {
        text.push_str("`weir plugin test --bless` writes the actual output into expected.json\n");
    }
    text.push_str(&format!("sha256 {}\n", results.sha256));
    text
}

/// How the runs of a case differ, in a sentence.
fn describe(variance: &Variance) -> String {
    match variance {
        Variance::Output(second) => format!(
            "not deterministic: a second fresh instance returned {}",
            quoted(second)
        ),
        Variance::Fuel(first, second) => format!(
            "not deterministic: two fresh instances used {} and {} fuel",
            grouped(*first),
            grouped(*second)
        ),
        Variance::Leak(output) => format!(
            "leaks state between calls: after other cases in the same instance it returned {}",
            quoted(output)
        ),
    }
}

fn quoted(output: &Output) -> String {
    let text = to_json(output);
    match text.char_indices().nth(QUOTED_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

fn to_json_text(results: &Results, blessing: &Blessing) -> String {
    pretty(&ResultsJson {
        plugin: &results.plugin,
        sha256: &results.sha256,
        roles: results.roles.iter().map(|role| role.name()).collect(),
        passed: results.all_pass(),
        cases: results.cases.iter().map(CaseJson::from).collect(),
        blessed: &blessing.written,
        not_blessed: blessing.mistakes.iter().map(|(name, _)| &**name).collect(),
    })
}

#[derive(serde::Serialize)]
struct ResultsJson<'a> {
    plugin: &'a str,
    sha256: &'a str,
    roles: Vec<&'static str>,
    passed: bool,
    cases: Vec<CaseJson<'a>>,
    blessed: &'a [String],
    not_blessed: Vec<&'a str>,
}

#[derive(serde::Serialize)]
struct CaseJson<'a> {
    name: &'a str,
    /// `passed`, `failed` or `open`.
    verdict: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
    output: Option<Box<RawValue>>,
    fuel: u64,
    memory_bytes: usize,
    log: Vec<Value>,
}

impl<'a> From<&'a Judged> for CaseJson<'a> {
    fn from(judged: &'a Judged) -> CaseJson<'a> {
        let (verdict, why) = match &judged.verdict {
            Verdict::Passes => ("passed", None),
            Verdict::Open => ("open", None),
            Verdict::Differs(difference) => ("failed", Some(difference.first.clone())),
            Verdict::NotDeterministic(variance) => ("failed", Some(describe(variance))),
        };
        let log = judged
            .run
            .log
            .iter()
            .map(|line| json!({ "level": line.level.name(), "message": line.message }));
        // Raw, so that numbers stay as they were written.
        let output = serde_json::from_str::<Box<RawValue>>(&to_json(&judged.run.output)).ok();
        CaseJson {
            name: &judged.case.name,
            verdict,
            why,
            output,
            fuel: judged.run.fuel,
            memory_bytes: judged.run.memory_peak,
            log: log.collect(),
        }
    }
}

/// A difference line by line: missing lines with a minus, unexpected ones with a plus.
fn lines_of(difference: &Difference) -> Vec<String> {
    let diff = TextDiff::from_lines(&difference.expected, &difference.actual);
    let mut lines = Vec::new();
    for (number, group) in diff.grouped_ops(3).iter().enumerate() {
        if number > 0 {
            lines.push("  …".to_owned());
        }
        for change in group.iter().flat_map(|op| diff.iter_changes(op)) {
            let sign = match change.tag() {
                ChangeTag::Delete => "- ",
                ChangeTag::Insert => "+ ",
                ChangeTag::Equal => "  ",
            };
            lines.push(format!("{sign}{}", change.value().trim_end_matches('\n')));
        }
    }
    lines
}

fn push_lines(lines: &[String], text: &mut String) {
    for line in lines.iter().take(LINES_MAX) {
        text.push_str(&format!("        {}\n", plain(line)));
    }
    if lines.len() > LINES_MAX {
        text.push_str(&format!(
            "        … and {} more lines\n",
            lines.len() - LINES_MAX
        ));
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::plugin::tests::guests::{CONFIGURE, MAPPER, PRELUDE, module};

    /// A mapper that fails on events whose type begins with `f`, with this code of at most 16 letters.
    fn failing_with(code: &str) -> Vec<u8> {
        let prelude = PRELUDE
            .replace("\"missing-field\"", &format!("{code:?}"))
            .replace("(i32.const 13))", &format!("(i32.const {}))", code.len()));
        module("mapper-plugin", &[&prelude, CONFIGURE, MAPPER].concat())
    }

    fn bless(component: &Path, cases: &Path, json: bool) -> (bool, String) {
        let args = TestArgs {
            plugin: component.to_owned(),
            cases: Some(cases.to_owned()),
            only: None,
            bless: true,
            json,
        };
        let mut out = String::new();
        let passed = run(&args, &mut out).unwrap_or_else(|failure| panic!("{failure}"));
        (passed, out)
    }

    // `--bless` wrote `exception` into expected.json and printed `pass`, so the component carried its
    // bug as what is expected of it.
    #[test]
    fn a_mistake_of_the_plugin_is_never_blessed() {
        for code in ["exception", "wrong-answer"] {
            let folder = tempfile::tempdir().expect("a folder");
            let component = folder.path().join("plugin.wasm");
            fs::write(&component, failing_with(code)).expect("written");
            let cases = folder.path().join("cases");
            let case = |name: &str, kind: &str, expected: Option<&str>| {
                let case = cases.join(name);
                fs::create_dir_all(&case).expect("made");
                let event = json!({"specversion": "1.0", "id": "1", "source": "/pim", "type": kind, "data": 1});
                fs::write(case.join("event.json"), event.to_string()).expect("written");
                if let Some(expected) = expected {
                    fs::write(case.join("expected.json"), expected).expect("written");
                }
            };
            let expected =
                |name: &str| fs::read_to_string(cases.join(name).join("expected.json")).ok();
            case("good", "b", None);
            case("fails", "f", None);
            case("fails-now", "f", Some("[]\n"));
            case("traps", "t", None);

            let (passed, out) = bless(&component, &cases, false);
            assert!(!passed, "{out}");
            for said in [
                "blessed good: check its expected.json now\n".to_owned(),
                format!(
                    "\nnot blessed fails: its output is the mistake `{code}`; correct the plugin"
                ),
                format!("\nnot blessed fails-now: its output is the mistake `{code}`;"),
                "\nnot blessed traps: its output is the mistake `trap`;".to_owned(),
                "4 cases: 1 passed, 1 failed, 2 without an expected output".to_owned(),
            ] {
                assert!(out.contains(&said), "{said:?} is not in {out}");
            }
            assert!(expected("good").is_some_and(|text| text.contains("\"base\"")));
            assert_eq!(
                (expected("fails"), expected("fails-now"), expected("traps")),
                (None, Some("[]\n".to_owned()), None)
            );
            let (_, out) = bless(&component, &cases, true);
            let told: Value = serde_json::from_str(&out).expect("JSON");
            assert_eq!(
                (&told["passed"], &told["blessed"], &told["not_blessed"]),
                (
                    &json!(false),
                    &json!([]),
                    &json!(["fails", "fails-now", "traps"])
                )
            );
        }
        // What a plugin declines by its own rules is an expectation like any other.
        let folder = tempfile::tempdir().expect("a folder");
        let component = folder.path().join("plugin.wasm");
        fs::write(&component, failing_with("no-price")).expect("written");
        let case = folder.path().join("cases/declined");
        fs::create_dir_all(&case).expect("made");
        fs::write(
            case.join("event.json"),
            r#"{"specversion": "1.0", "id": "1", "source": "/pim", "type": "f", "data": 1}"#,
        )
        .expect("written");
        let (passed, out) = bless(&component, &folder.path().join("cases"), false);
        assert!(passed && out.contains("blessed declined"), "{out}");
    }
}
