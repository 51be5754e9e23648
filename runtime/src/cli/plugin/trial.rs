//! `weir plugin test`: each case of a plugin, run and judged.
//!
//! A case runs twice, each time in an instance of its own, and twice more in one instance with all
//! the others. A plugin is the same function every time or it is wrong: replay, suppression and
//! reuse of instances rest on that.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use similar::{ChangeTag, TextDiff};

use super::super::client::pretty;
use super::super::table::plain;
use super::super::{Failure, Outcome};
use super::{name, no, not_built, read, told};
use crate::plugin::cases::written::to_json;
use crate::plugin::cases::{self, Case, Difference, spread};
use crate::plugin::desk::{Desk, Output, Trial};
use crate::plugin::{Limits, Role, toolchain};

/// Of a difference no more lines are shown.
const LINES_MAX: usize = 60;

/// Arguments of `weir plugin test`.
#[derive(Clone, Debug, Args)]
pub struct TestArgs {
    /// The plugin's folder, which is built first and has its cases in cases/NAME; or a component,
    /// which has its cases inside
    #[arg(default_value = ".", value_name = "FOLDER|COMPONENT")]
    plugin: PathBuf,
    /// Take the cases of this folder instead
    #[arg(long, value_name = "FOLDER")]
    cases: Option<PathBuf>,
    /// Only cases whose name has this in it
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Write what the plugin gives into expected.json, where something else is expected or nothing
    /// yet
    #[arg(long)]
    bless: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// All cases of one component, tried.
pub(super) struct Tested {
    plugin: String,
    sha256: String,
    roles: Vec<Role>,
    pub(super) cases: Vec<Judged>,
}

/// A case that was tried.
pub(super) struct Judged {
    case: Case,
    trial: Trial,
    verdict: Verdict,
}

enum Verdict {
    Passes,
    Differs(Difference),
    /// Nothing is expected yet.
    Open,
    /// It gave something else when it was run again; a sentence.
    Unsteady(String),
}

/// Builds, tries, blesses, tells.
pub(super) fn run(args: &TestArgs, out: &mut String) -> Outcome {
    let mut tested = test(args)?;
    let mut blessed = Vec::new();
    if args.bless {
        let folder = args
            .cases
            .clone()
            .unwrap_or_else(|| args.plugin.join("cases"));
        if !folder.is_dir() {
            return Err(Failure::Usage(
                "the cases are inside the component; --bless needs their folder, by --cases FOLDER"
                    .into(),
            ));
        }
        blessed = bless(&tested.cases, &folder)?;
        if !blessed.is_empty() {
            // The component carries its cases, so it is another one now.
            tested = test(args)?;
        }
    }
    if tested.cases.is_empty() {
        return Err(Failure::No(nothing_to_test(args)));
    }
    out.push_str(&if args.json {
        tested.to_machines(&blessed)
    } else {
        tested.to_people(&blessed)
    });
    Ok(tested.all_pass())
}

fn nothing_to_test(args: &TestArgs) -> String {
    match &args.only {
        Some(only) => format!("no case has `{only}` in its name"),
        None => {
            "there are no cases: make a folder cases/NAME with what the plugin is given (event.json, body.EXT or entity.json), then run \
                 `weir plugin test --bless` and read what it wrote into expected.json"
                .to_owned()
        }
    }
}

fn test(args: &TestArgs) -> Result<Tested, Failure> {
    let (component, cases) = if args.plugin.is_dir() {
        let built =
            toolchain::build(&args.plugin, &mut |step| eprintln!("{step}")).map_err(not_built)?;
        (
            built.component,
            args.cases
                .clone()
                .unwrap_or_else(|| args.plugin.join("cases")),
        )
    } else {
        (args.plugin.clone(), args.cases.clone().unwrap_or_default())
    };
    let bytes = read(&component)?;
    let inside = cases.as_os_str().is_empty();
    let cases = if inside {
        cases::embedded(&bytes)
    } else {
        cases::read(&cases)
    };
    let mut cases = cases.map_err(|error| Failure::No(error.to_string()))?;
    cases.retain(|case| {
        args.only
            .as_deref()
            .is_none_or(|only| case.name.contains(only))
    });
    tried(&name(&component), &bytes, cases)
}

/// Runs cases on a component.
pub(super) fn tried(name: &str, bytes: &[u8], cases: Vec<Case>) -> Result<Tested, Failure> {
    let desk = Desk::load(name, bytes, Limits::default()).map_err(no)?;
    let mut judged = Vec::new();
    for case in cases {
        let (trial, again) = (
            desk.try_case(&case).map_err(no)?,
            desk.try_case(&case).map_err(no)?,
        );
        let verdict = match (case.judge(&trial.output), unsteady(&trial, &again)) {
            (_, Some(why)) => Verdict::Unsteady(why),
            (Err(difference), None) => Verdict::Differs(difference),
            (Ok(()), None) if case.expected.is_none() => Verdict::Open,
            (Ok(()), None) => Verdict::Passes,
        };
        judged.push(Judged {
            case,
            trial,
            verdict,
        });
    }
    // Cases with the same settings share an instance, and come around twice.
    let mut order: Vec<usize> = (0..judged.len()).collect();
    order.sort_by(|one, other| {
        judged[*one]
            .case
            .settings
            .cmp(&judged[*other].case.settings)
    });
    let round: Vec<usize> = order
        .chunk_by(|one, other| judged[*one].case.settings == judged[*other].case.settings)
        .flat_map(|same| [same, same].concat())
        .collect();
    let outputs = desk
        .try_in_turn(round.iter().map(|&at| &judged[at].case))
        .map_err(no)?;
    for (at, output) in round.into_iter().zip(outputs) {
        let of = &mut judged[at];
        if output != of.trial.output && !matches!(of.verdict, Verdict::Unsteady(_)) {
            of.verdict = Verdict::Unsteady(format!(
                "it remembers: after other cases in the same instance it gave {}",
                brief(&output)
            ));
        }
    }
    Ok(Tested {
        plugin: desk.label().to_owned(),
        sha256: desk.sha256().to_owned(),
        roles: desk.roles().to_vec(),
        cases: judged,
    })
}

/// How two runs in new instances differ.
fn unsteady(one: &Trial, other: &Trial) -> Option<String> {
    if one.output != other.output {
        return Some(format!(
            "it is not the same function twice: a second new instance gave {}",
            brief(&other.output)
        ));
    }
    // How far a call gets within a limit of time depends on the machine.
    if one.fuel != other.fuel && !one.fault {
        let (one, other) = (told::grouped(one.fuel), told::grouped(other.fuel));
        return Some(format!(
            "it is not the same function twice: two new instances burnt {one} and {other} of fuel"
        ));
    }
    None
}

fn brief(output: &Output) -> String {
    let text = to_json(output);
    match text.char_indices().nth(160) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// Writes what was given as what is expected. A fault is nothing to expect.
fn bless(judged: &[Judged], folder: &Path) -> Result<Vec<String>, Failure> {
    let mut blessed = Vec::new();
    for Judged {
        case,
        trial,
        verdict,
    } in judged
    {
        if trial.fault || !matches!(verdict, Verdict::Differs(_) | Verdict::Open) {
            continue;
        }
        let path = folder.join(&case.name).join("expected.json");
        let written = fs::write(&path, format!("{}\n", spread(&to_json(&trial.output))));
        written.map_err(|error| {
            Failure::Unreachable(format!("cannot write {}: {error}", path.display()))
        })?;
        blessed.push(case.name.clone());
    }
    Ok(blessed)
}

impl Tested {
    /// Whether each case gives what is expected, every time.
    pub(super) fn all_pass(&self) -> bool {
        self.cases
            .iter()
            .all(|judged| matches!(judged.verdict, Verdict::Passes))
    }

    fn count(&self, of: fn(&Verdict) -> bool) -> usize {
        self.cases
            .iter()
            .filter(|judged| of(&judged.verdict))
            .count()
    }

    /// One sentence of it all.
    pub(super) fn summary(&self) -> String {
        let passed = self.count(|verdict| matches!(verdict, Verdict::Passes));
        let open = self.count(|verdict| matches!(verdict, Verdict::Open));
        let failed = self.cases.len() - passed - open;
        let open = if open > 0 {
            format!(", {open} with nothing expected yet")
        } else {
            String::new()
        };
        let cases = self.cases.len();
        format!(
            "{cases} case{}: {passed} passed, {failed} failed{open}",
            if cases == 1 { "" } else { "s" }
        )
    }

    /// A line a case, and what is wrong beneath it.
    pub(super) fn to_people(&self, blessed: &[String]) -> String {
        let roles: Vec<&str> = self.roles.iter().map(|role| role.name()).collect();
        let width = self
            .cases
            .iter()
            .map(|judged| judged.case.name.chars().count())
            .max()
            .unwrap_or_default();
        let mut text = format!("{}: {}\n", plain(&self.plugin), roles.join(", "));
        for judged in &self.cases {
            let name = plain(&judged.case.name);
            match &judged.verdict {
                Verdict::Passes => text.push_str(&format!(
                    "  pass  {name:width$}  {:>10} fuel\n",
                    told::grouped(judged.trial.fuel)
                )),
                Verdict::Open => {
                    text.push_str(&format!(
                        "  OPEN  {name}: nothing is expected yet; it gives\n"
                    ));
                    let lines: Vec<String> = spread(&to_json(&judged.trial.output))
                        .lines()
                        .map(str::to_owned)
                        .collect();
                    shown(&lines, &mut text);
                }
                Verdict::Unsteady(why) => {
                    text.push_str(&format!("  FAIL  {name}: {}\n", plain(why)))
                }
                Verdict::Differs(difference) => {
                    text.push_str(&format!("  FAIL  {name}: {}\n", plain(&difference.first)));
                    shown(&lines_of(difference), &mut text);
                }
            }
            if !matches!(judged.verdict, Verdict::Passes) {
                for line in &judged.trial.log {
                    text.push_str(&format!(
                        "        log {}: {}\n",
                        told::level(line.level),
                        plain(&line.message)
                    ));
                }
            }
        }
        for name in blessed {
            text.push_str(&format!(
                "blessed {}: read what is in its expected.json now\n",
                plain(name)
            ));
        }
        text.push_str(&format!(
            "{}; each ran twice in new instances and twice in one with the others\n",
            self.summary()
        ));
        if !self.all_pass() {
            text.push_str(
                "`weir plugin test --bless` writes what the plugin gives into expected.json\n",
            );
        }
        text.push_str(&format!("sha256 {}\n", self.sha256));
        text
    }

    fn to_machines(&self, blessed: &[String]) -> String {
        pretty(&TestedJson {
            plugin: &self.plugin,
            sha256: &self.sha256,
            roles: self.roles.iter().map(|role| role.name()).collect(),
            passed: self.all_pass(),
            cases: self.cases.iter().map(CaseJson::of).collect(),
            blessed,
        })
    }
}

#[derive(serde::Serialize)]
struct TestedJson<'a> {
    plugin: &'a str,
    sha256: &'a str,
    roles: Vec<&'static str>,
    passed: bool,
    cases: Vec<CaseJson<'a>>,
    blessed: &'a [String],
}

#[derive(serde::Serialize)]
struct CaseJson<'a> {
    name: &'a str,
    /// `passed`, `failed` or `open`.
    verdict: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<&'a str>,
    output: Option<Box<RawValue>>,
    fuel: u64,
    memory_bytes: usize,
    log: Vec<Value>,
}

impl<'a> CaseJson<'a> {
    fn of(judged: &'a Judged) -> CaseJson<'a> {
        let (verdict, why) = match &judged.verdict {
            Verdict::Passes => ("passed", None),
            Verdict::Open => ("open", None),
            Verdict::Differs(difference) => ("failed", Some(&difference.first)),
            Verdict::Unsteady(why) => ("failed", Some(why)),
        };
        let log = judged
            .trial
            .log
            .iter()
            .map(|line| json!({ "level": told::level(line.level), "message": line.message }));
        // Raw, so that numbers stay as they were written.
        let output = serde_json::from_str::<Box<RawValue>>(&to_json(&judged.trial.output)).ok();
        CaseJson {
            name: &judged.case.name,
            verdict,
            why: why.map(String::as_str),
            output,
            fuel: judged.trial.fuel,
            memory_bytes: judged.trial.memory_peak,
            log: log.collect(),
        }
    }
}

/// A difference line by line: what is missing with a minus, what is too much with a plus.
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

fn shown(lines: &[String], text: &mut String) {
    for line in lines.iter().take(LINES_MAX) {
        text.push_str(&format!("        {}\n", plain(line)));
    }
    if lines.len() > LINES_MAX {
        text.push_str(&format!(
            "        … and {} lines more\n",
            lines.len() - LINES_MAX
        ));
    }
}
