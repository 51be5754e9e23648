//! Plugins in TypeScript and Python: twins that pass the cases of a Rust plugin, mistakes that cost
//! one item, and the messages where something is missing.
//!
//! They need Node with npm, and Python with pip or venv. Without those, a test prints loudly that
//! it did not run; in CI it fails.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use weir::inside::author::toolchain::{self, Error};

use crate::support::weir::PROGRAM;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the repository")
        .to_owned()
}

fn weir(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(PROGRAM)
        .args(arguments)
        .current_dir(folder)
        .output()
        .expect("the program runs")
}

fn printed(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// Whether the folder's plugin can be built on this machine.
fn buildable(folder: &Path) -> bool {
    match toolchain::build(folder, &mut |step| eprintln!("{step}")) {
        Ok(_) => true,
        Err(Error::NoToolChain(why)) => {
            assert!(
                std::env::var_os("CI").is_none(),
                "{} cannot be tested: {why}",
                folder.display()
            );
            eprintln!(
                "\n*** NOTHING IS PROVEN OF {}: {why} ***\n",
                folder.display()
            );
            false
        }
        Err(error) => panic!("{}: {error}", folder.display()),
    }
}

/// Runs the component on the samples. Returns the output for each sample, and the report of the
/// run.
fn run(folder: &Path, component: &str, settings: &str, samples: &[&str]) -> (Vec<String>, Value) {
    let arguments = [
        &["plugin", "run", component, "--json", "--settings", settings],
        samples,
    ]
    .concat();
    let ran = weir(folder, &arguments);
    let report: Value =
        serde_json::from_slice(&ran.stdout).unwrap_or_else(|_| panic!("{}", printed(&ran)));
    let items = report["items"].as_array().expect("items");
    (
        items
            .iter()
            .map(|item| item["outputs"].to_string())
            .collect(),
        report,
    )
}

fn passes_the_cases_of_oms_stock(twin: &str) {
    let folder = repository().join("plugins").join(twin);
    if !buildable(&folder) {
        return;
    }
    let component = folder
        .join("dist")
        .join(format!("{}.wasm", twin.replace('-', "_")));
    let before = fs::read(&component).expect("a component");
    let began = Instant::now();
    let tested = weir(&folder, &["plugin", "test", "--json"]);
    eprintln!("{twin}: built and tested in {:.1?}", began.elapsed());
    let report: Value =
        serde_json::from_slice(&tested.stdout).unwrap_or_else(|_| panic!("{}", printed(&tested)));
    assert!(tested.status.success(), "{report:#}");
    let cases = fs::read_dir(repository().join("plugins/oms-stock/cases"))
        .expect("cases")
        .flatten()
        .filter(|entry| entry.path().is_dir());
    assert_eq!(
        report["cases"].as_array().map(Vec::len),
        Some(cases.count()),
        "{report:#}"
    );
    // The compilers produce different bytes each time, but a plugin that did not change must not
    // become another version.
    assert!(
        fs::read(&component).expect("a component") == before,
        "the same source produced another component"
    );
}

#[test]
fn a_plugin_in_typescript_passes_the_cases_of_its_rust_twin() {
    passes_the_cases_of_oms_stock("oms-stock-ts");
}

#[test]
fn a_plugin_in_python_passes_the_cases_of_its_rust_twin() {
    passes_the_cases_of_oms_stock("oms-stock-py");
}

/// The templates are what an author sees first. Those for Rust are built in `author`.
fn a_new_plugin_of_each_kind_passes(language: &str, lang: &str) {
    let folder = tempfile::tempdir().expect("a folder");
    for kind in ["mapper", "renderer", "event-filter", "entity-filter"] {
        let name = format!("my-{kind}");
        let arguments = ["plugin", "new", &name, "--lang", lang, "--kind", kind];
        let made = weir(folder.path(), &arguments);
        assert!(made.status.success(), "{}", printed(&made));
        let plugin = folder.path().join(&name);
        if !buildable(&plugin) {
            return;
        }
        let tested = weir(&plugin, &["plugin", "test", "--json"]);
        let report: Value = serde_json::from_slice(&tested.stdout)
            .unwrap_or_else(|_| panic!("{}", printed(&tested)));
        assert_eq!(
            (&report["passed"], &report["roles"]),
            (&json!(true), &json!([kind])),
            "{language}: {report:#}"
        );
        assert!(
            report["cases"].as_array().map(Vec::len) >= Some(2),
            "{language}: {report:#}"
        );
    }
}

#[test]
fn a_new_plugin_of_each_kind_in_typescript_builds_and_passes_at_once() {
    a_new_plugin_of_each_kind_passes("TypeScript", "ts");
}

#[test]
fn a_new_plugin_of_each_kind_in_python_builds_and_passes_at_once() {
    a_new_plugin_of_each_kind_passes("Python", "python");
}

/// A plugin that does what the event's type says, usually something bad.
fn troubled(language: &str, source: (&str, &str)) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let made = weir(
        folder.path(),
        &[
            "plugin", "new", "troubled", "--lang", language, "--kind", "mapper",
        ],
    );
    assert!(made.status.success(), "{}", printed(&made));
    fs::write(folder.path().join("troubled").join(source.0), source.1).expect("written");
    folder
}

/// Runs events of these types in one call, with `fine` between them, and compares the code and the
/// message of each.
fn each_mistake_costs_one_event(folder: &Path, mistakes: &[(&str, &str, &str)]) -> Value {
    let mut files = Vec::new();
    for (number, (event_type, ..)) in mistakes.iter().enumerate() {
        for event_type in [*event_type, "fine"] {
            let file = format!("{number}-{event_type}.json");
            let event = json!({ "specversion": "1.0", "id": "1", "source": "/t", "type": event_type, "time": "2026-11-23T10:00:00Z", "data": { "n": 9_007_199_254_740_993_u64 } });
            fs::write(folder.join(&file), event.to_string()).expect("written");
            files.push(file);
        }
    }
    let samples: Vec<&str> = files.iter().map(String::as_str).collect();
    let (outputs, report) = run(
        folder,
        "dist/troubled.wasm",
        r#"{"currency": "CHF"}"#,
        &samples,
    );
    for (pair, (event_type, code, message)) in outputs.chunks(2).zip(mistakes) {
        assert!(
            pair[0].contains(&format!("\"{code}\"")) && pair[0].contains(message),
            "{event_type}: {}\n{report:#}",
            pair[0]
        );
        let fine = r#""value":{"currency":"CHF","n":9007199254740993}"#;
        assert!(
            pair[1].contains(fine),
            "after {event_type}: {}\n{report:#}",
            pair[1]
        );
    }
    report
}

const TROUBLED_TS: &str = r#"
import { Change, type Event, Failure, type Infer, log, object, text } from "./weir";
export const settings = object({ currency: text });
type Settings = Infer<typeof settings>;
const lamp: any = null;
export function mapper(event: Event, settings: Settings): Change[] {
  const { n } = event.json();
  const change = (value: unknown) => [Change.facet("product", String(n), "f", value)];
  switch (event.type) {
    case "fine": log.info("fine", n); return change({ n, currency: settings.currency });
    case "declined": throw new Failure("missing-field", "no price");
    case "exception": return lamp.shade;
    case "clock": return change(Date.now());
    case "date": return change(new Date());
    case "chance": return change(Math.random());
    case "deep": { const down = (n: number): number => down(n + 1) + 1; return change(down(0)); }
    case "answer": return lamp;
    case "async": return (async () => [])() as any;
    case "version": return [Change.facet("product", "1", "f", 1).version(n)];
    case "half": return [Change.facet("product", "a\ud800b", "f", 1)];
    case "infinite": return change({ price: 1 / 0 });
    case "map": return change({ prices: new Map([["de", 1]]) });
    case "hole": return change([n, undefined]);
    case "never": return change({ since: new Date(NaN) });
    case "locale": return change((1234.5 as any)["toLocaleString"]("de-DE"));
    case "console": console.log("printed", n); return change("printed");
    default: return [];
  }
}
"#;

#[test]
fn a_mistake_in_typescript_costs_one_event_and_is_named_with_its_place() {
    let folder = troubled("ts", ("plugin.ts", TROUBLED_TS));
    let folder = folder.path().join("troubled");
    if !buildable(&folder) {
        return;
    }
    let report = each_mistake_costs_one_event(
        &folder,
        &[
            ("declined", "missing-field", "no price"),
            ("exception", "exception", "(plugin.ts:12)"),
            ("clock", "exception", "Date.now(): a plugin has no clock"),
            ("date", "exception", "new Date(): a plugin has no clock"),
            (
                "chance",
                "exception",
                "Math.random(): a plugin has no clock and no randomness",
            ),
            (
                "answer",
                "wrong-answer",
                "should return a list of changes, but returned null",
            ),
            ("async", "wrong-answer", "cannot be async"),
            (
                "version",
                "bad-version",
                "9007199254740993 cannot be passed on exactly",
            ),
            ("half", "wrong-answer", "half a character"),
            ("infinite", "not-json", "price is Infinity"),
            (
                "map",
                "not-json",
                "prices is a Map, which has no JSON form: write Object.fromEntries(map)",
            ),
            ("hole", "not-json", "[1] is undefined"),
            ("never", "not-json", "since is not a valid time"),
            (
                "locale",
                "exception",
                "toLocaleString: a plugin has no locales and no time zones",
            ),
            ("console", "value", "printed"),
        ],
    );
    for line in ["fine 9007199254740993", "printed 9007199254740993"] {
        assert!(report.to_string().contains(line), "{line}: {report:#}");
    }

    // The host stops recursion without end, and names it.
    fs::write(
        folder.join("deep.json"),
        json!({ "specversion": "1.0", "id": "1", "source": "/t", "type": "deep", "data": { "n": 1 } }).to_string(),
    )
    .expect("written");
    let (_, report) = run(
        &folder,
        "dist/troubled.wasm",
        r#"{"currency": "CHF"}"#,
        &["deep.json"],
    );
    assert_eq!(
        report["calls"][0]["fault"]["code"], "stack-limit",
        "{report:#}"
    );

    // Settings that are missing, of another type or unknown are named.
    for (settings, sentence) in [
        ("{}", "currency should be text, but is missing"),
        (r#"{"currency": 7}"#, "currency should be text, but is 7"),
        (
            r#"{"currency": "CHF", "curency": 1}"#,
            "unknown setting `curency`; known settings: currency",
        ),
    ] {
        let refused = weir(
            &folder,
            &[
                "plugin",
                "run",
                "dist/troubled.wasm",
                "0-declined.json",
                "--settings",
                settings,
            ],
        );
        assert!(
            !refused.status.success() && printed(&refused).contains(sentence),
            "{}",
            printed(&refused)
        );
    }

    // The output of the compiler comes first, and the component in dist stays.
    let good = fs::read(folder.join("dist/troubled.wasm")).expect("a component");
    for (from, to, sentence) in [
        (
            "return lamp.shade",
            "return settings.lamp",
            "Property 'lamp' does not exist",
        ),
        (
            "import { Change",
            "import { nothing } from \"not-there\"; import { Change",
            "not-there",
        ),
        (
            "export function mapper",
            "export function maper",
            "plugin.ts should export a function named",
        ),
        (
            "const lamp: any = null;",
            "const lamp: any = null; lamp.on();",
            "cannot be loaded outside of Node",
        ),
        (
            "return lamp.shade",
            "return change((1234.5).toLocaleString(\"de-DE\"))",
            "plugin.ts:12: toLocaleString: a plugin has no locales and no time zones",
        ),
        (
            "return lamp.shade",
            "return change(new Intl.NumberFormat(\"de\").format(n))",
            "plugin.ts:12: Intl.NumberFormat: a plugin has no locales",
        ),
        (
            "settings: Settings): Change[]",
            "settings: Settings, more: string): Change[]",
            "Target signature provides too few arguments. Expected 3 or more, but got 2",
        ),
    ] {
        fs::write(folder.join("plugin.ts"), TROUBLED_TS.replace(from, to)).expect("written");
        let refused = weir(&folder, &["plugin", "build"]);
        assert!(
            refused.status.code() == Some(1) && printed(&refused).contains(sentence),
            "{sentence}: {}",
            printed(&refused)
        );
        assert!(
            fs::read(folder.join("dist/troubled.wasm")).expect("a component") == good,
            "{sentence}"
        );
    }
}

const TROUBLED_PY: &str = r#"
import datetime
import locale
import os
import random
import sys
import time
import xml.dom.minidom

from weir import Change, Event, Failure, log, mapper, settings


@settings
class Settings:
    currency: str
    minimum: int = 1


def down(n):
    return down(n + 1)


@mapper
def transform(event: Event, settings: Settings) -> list[Change]:
    n = event.json()["n"]

    def change(value):
        return [Change.facet("product", str(n), "f", value)]

    match event.type:
        case "fine":
            print("fine", n)
            return change({"n": n, "currency": settings.currency})
        case "declined":
            raise Failure("missing-field", "no price")
        case "exception":
            return change({}["shade"])
        case "clock":
            return change(time.time())
        case "date":
            return change(datetime.datetime.now().isoformat())
        case "today":
            return change(datetime.date.today().isoformat())
        case "chance":
            return change(random.randint(1, 6))
        case "file":
            return change(open("/etc/hostname").read())
        case "directory":
            return change(os.listdir("/"))
        case "late":
            import colorsys

            return change(colorsys.__name__)
        case "deep":
            return change(down(0))
        case "answer":
            return None
        case "version":
            return [Change.facet("product", "1", "f", 1).version(-1)]
        case "half":
            return [Change.facet("product", "a\ud800b", "f", 1)]
        case "infinite":
            return change({"price": float("inf")})
        case "year":
            return change(time.strftime("%Y"))
        case "parsed":
            return change(datetime.datetime.strptime("23.11.2026", "%d.%m.%Y").isoformat())
        case "windows":
            return change(b"9,90 \x80".decode("cp1252"))
        case "document":
            return change(xml.dom.minidom.parseString("<price/>").documentElement.tagName)
        case "locale":
            return change(locale.setlocale(locale.LC_ALL, "de_DE.UTF-8"))
        case "end":
            sys.exit(3)
"#;

#[test]
fn a_mistake_in_python_costs_one_event_and_is_named_with_its_place() {
    let folder = troubled("py", ("plugin.py", TROUBLED_PY));
    let folder = folder.path().join("troubled");
    if !buildable(&folder) {
        return;
    }
    let report = each_mistake_costs_one_event(
        &folder,
        &[
            ("declined", "missing-field", "no price"),
            (
                "exception",
                "exception",
                "KeyError: 'shade' (plugin.py:37 in transform)",
            ),
            ("clock", "exception", "time.time: a plugin has no clock"),
            ("date", "exception", "datetime.now: a plugin has no clock"),
            ("today", "exception", "a plugin has no clock"),
            (
                "chance",
                "exception",
                "random.randint: a plugin has no randomness",
            ),
            ("file", "exception", "open: a plugin has no files"),
            (
                "directory",
                "exception",
                "os.listdir: a plugin has no files",
            ),
            (
                "late",
                "exception",
                "colorsys: a plugin has no files, so import it at the top of plugin.py",
            ),
            ("deep", "exception", "RecursionError"),
            (
                "answer",
                "wrong-answer",
                "should return a list of changes, but returned None",
            ),
            ("version", "bad-version", "-1 is not a whole number from 0"),
            ("half", "wrong-answer", "half a character"),
            (
                "infinite",
                "not-json",
                "f of 9007199254740993 cannot be written as JSON",
            ),
            ("year", "exception", "time.strftime: a plugin has no clock"),
            ("parsed", "value", "2026-11-23T00:00:00"),
            ("windows", "value", "9,90 €"),
            ("document", "value", "price"),
            ("locale", "exception", "a plugin has no locales"),
            (
                "end",
                "exception",
                "SystemExit: 3: a plugin is a function and cannot end its process",
            ),
        ],
    );
    assert!(
        report.to_string().contains("fine 9007199254740993"),
        "{report:#}"
    );

    let good = fs::read(folder.join("dist/troubled.wasm")).expect("a component");
    for (from, to, sentence) in [
        (
            "def transform(event",
            "def transform(event event",
            "SyntaxError",
        ),
        (
            "@mapper",
            "@staticmethod",
            "plugin.py should have a function marked",
        ),
        (
            "import random",
            "import randomly",
            "No module named 'randomly'",
        ),
        (
            "import random",
            "import socket",
            "plugin.py:5: import socket: a plugin has no network",
        ),
        (
            "event: Event, settings: Settings",
            "event: Event",
            "plugin.py:24: transform, marked @mapper, takes 1 argument, but is called with two: def transform(event, settings)",
        ),
        (
            "event: Event, settings: Settings",
            "event: Event, settings: Settings, *, lane",
            "needs lane by name, but is called with two",
        ),
        ("def transform", "async def transform", "is async, but"),
    ] {
        fs::write(folder.join("plugin.py"), TROUBLED_PY.replace(from, to)).expect("written");
        let refused = weir(&folder, &["plugin", "build"]);
        assert!(
            refused.status.code() == Some(1) && printed(&refused).contains(sentence),
            "{sentence}: {}",
            printed(&refused)
        );
        assert!(
            fs::read(folder.join("dist/troubled.wasm")).expect("a component") == good,
            "{sentence}"
        );
    }
}

#[test]
fn missing_node_or_python_is_reported_with_the_remedy() {
    let nowhere = tempfile::tempdir().expect("a folder");
    for (twin, sentence) in [
        ("oms-stock-ts", "install Node with npm"),
        ("oms-stock-py", "apt-get install python3 python3-venv"),
    ] {
        let folder = repository().join("plugins").join(twin);
        let mut command = Command::new(PROGRAM);
        command
            .args(["plugin", "build"])
            .arg(folder)
            .env("PATH", nowhere.path());
        let refused = command.output().expect("the program runs");
        assert!(
            refused.status.code() == Some(3) && printed(&refused).contains(sentence),
            "{}",
            printed(&refused)
        );
    }
}

/// Nothing is compiled twice: a build without a change ends before a compiler could have started.
#[test]
fn a_second_build_finds_that_nothing_changed() {
    let folder = repository().join("plugins/oms-stock-ts");
    if !buildable(&folder) {
        return;
    }
    let component = folder.join("dist/oms_stock_ts.wasm");
    let before = fs::metadata(&component)
        .and_then(|file| file.modified())
        .expect("a component");
    let built = weir(&folder, &["plugin", "build"]);
    assert!(
        built.status.success() && !printed(&built).contains("writing"),
        "{}",
        printed(&built)
    );
    let after = fs::metadata(&component)
        .and_then(|file| file.modified())
        .expect("a component");
    assert!(after.duration_since(before).expect("time rises") == Duration::ZERO);
}

/// Two plugins had the line `./shared` in their requirements, each with its own folder `shared`, and the second got the
/// packages of the first.
#[test]
fn packages_by_path_are_those_of_the_plugins_own_folder() {
    let folder = tempfile::tempdir().expect("a folder");
    for name in ["first", "second"] {
        let made = weir(
            folder.path(),
            &["plugin", "new", name, "--lang", "py", "--kind", "mapper"],
        );
        assert!(made.status.success(), "{}", printed(&made));
        let plugin = folder.path().join(name);
        let place = |file: &str, text: &str| {
            let file = plugin.join(file);
            fs::create_dir_all(file.parent().expect("a folder")).expect("made");
            fs::write(file, text).expect("written");
        };
        fs::remove_dir_all(plugin.join("cases")).expect("removed");
        place("requirements.txt", "./shared\n");
        let project = "[project]\nname = \"shared-list\"\nversion = \"1.0\"\n[tool.setuptools]\npy-modules = [\"shared_list\"]\n";
        place("shared/pyproject.toml", project);
        place("shared/shared_list.py", &format!("NAME = {name:?}\n"));
        place(
            "plugin.py",
            "import shared_list\nfrom weir import Change, Event, mapper\n\n\n@mapper\ndef transform(event: Event, settings) -> list[Change]:\n    return [Change.facet(\"product\", \"1\", \"f\", shared_list.NAME)]\n",
        );
        place("event.json", "{}");
        // From elsewhere: the path is relative to the plugin.
        if !buildable(&plugin) {
            return;
        }
        let component = format!("dist/{name}.wasm");
        let (outputs, report) = run(&plugin, &component, "{}", &["event.json"]);
        assert!(outputs[0].contains(name), "{report:#}");
    }
}
