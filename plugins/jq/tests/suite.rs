//! jq's own tests, run by this implementation with its prelude. Which of them come out otherwise is listed in
//! `suite/otherwise.txt`, each with its reason; a test fails if the list is wrong in either direction.
//!
//! The tests of jq are no part of this repository: `tests/parts/install` fetches them.

// Each test uses only some of their functions.
#[allow(dead_code)]
#[path = "suite/cases.rs"]
mod cases;
#[allow(dead_code)]
#[path = "../../../tests/support/parts.rs"]
mod parts;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc;
use std::time::Duration;

use cases::{Case, Cases};
use jq::{json, Program, Val};
use weir_plugin::Result;

/// The files, each with the number of its cases that must come out as in jq.
const FILES: [(&str, usize); 4] = [
    ("jq.test", 432),
    ("onig.test", 38),
    ("base64.test", 6),
    ("uri.test", 14),
];
/// The reasons, in the words of the list's head.
const REASONS: [&str; 10] = [
    "wording",
    "missing",
    "numbers",
    "json",
    "syntax",
    "modules",
    "functions",
    "patterns",
    "encodings",
    "limits",
];
/// Some cases build values of 10,000 levels. In WebAssembly the stack ends earlier, and by name.
const STACK_BYTES: usize = 1 << 30;
/// For a case that does not end. No case takes a second.
const PATIENCE: Duration = Duration::from_secs(300);

/// Runs a case. The error says what differs.
fn run(case: &Case) -> Result<(), String> {
    let program = match Program::compile(&case.program, &[]) {
        Ok(_) if case.refused => return Err("it compiles".to_owned()),
        Err(_) if case.refused => return Ok(()),
        Ok(program) => program,
        Err(why) => return Err(format!("it does not compile: {why}")),
    };
    let read = |text: &str| json::read(text).map_err(|why| format!("{text} is not JSON: {why}"));
    let mut outputs = program.run(read(&case.input)?, |_| Val::Null);
    for expected in &case.outputs {
        let output = match outputs.next() {
            None => return Err(format!("nothing instead of {expected}")),
            Some(Err(error)) => return Err(format!("{} instead of {expected}", error.message)),
            Some(Ok(output)) => output,
        };
        // As it leaves a plugin.
        let written = json::write(&output).map_err(|why| format!("no JSON: {why}"))?;
        if read(&written)? != read(expected)? {
            return Err(format!("{} instead of {expected}", jq::shown(&output)));
        }
    }
    // An error at the end is no output, in jq's runner too.
    match outputs.next() {
        Some(Ok(more)) => Err(format!("also {}", jq::shown(&more))),
        Some(Err(_)) | None => Ok(()),
    }
}

/// Which cases come out otherwise, with what differs.
fn otherwise(cases: Vec<Case>) -> BTreeMap<usize, (String, String)> {
    let (reports, results) = mpsc::channel();
    let all = cases.clone();
    let worker = std::thread::Builder::new().stack_size(STACK_BYTES);
    let worker = worker.spawn(move || {
        for case in cases {
            if reports.send(run(&case)).is_err() {
                break;
            }
        }
    });
    let worker = worker.expect("a thread");
    let mut otherwise = BTreeMap::new();
    for case in all {
        let result = results.recv_timeout(PATIENCE);
        let result = result.unwrap_or_else(|_| panic!("{} ended the test", case.program));
        if let Err(why) = result {
            otherwise.insert(case.line, (case.program, why));
        }
    }
    worker.join().expect("the cases ran");
    otherwise
}

/// The list: file, line, reason, program.
fn list() -> Vec<(&'static str, usize, &'static str, &'static str)> {
    let lines = include_str!("suite/otherwise.txt").lines();
    let entries = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    let parsed = entries.map(|line| {
        let mut words = line.splitn(3, ' ');
        let (Some(place), Some(reason), Some(program)) = (words.next(), words.next(), words.next())
        else {
            panic!("{line}: it is FILE:LINE REASON PROGRAM");
        };
        let (file, number) = place.split_once(':').expect("FILE:LINE");
        (
            file,
            number.parse().expect("a line number"),
            reason,
            program,
        )
    });
    parsed.collect()
}

#[test]
fn the_tests_of_jq_come_out_as_listed() {
    let list = list();
    for (file, line, reason, _) in &list {
        assert!(REASONS.contains(reason), "{file}:{line}: {reason}");
    }
    let (mut wrong, mut passed) = (String::new(), Vec::new());
    for (file, _) in FILES {
        let Some(text) = parts::text(&format!("jq/{file}"), "what comes out otherwise than in jq")
        else {
            return;
        };
        let (run_here, elsewhere): (Vec<Case>, Vec<Case>) =
            Cases::of(&text).partition(|case| !case.takes_gigabytes());
        let count = run_here.len() + elsewhere.len();
        let mut actual = otherwise(run_here);
        let unlimited = elsewhere
            .into_iter()
            .map(|case| (case.line, (case.program, "it takes gigabytes".to_owned())));
        actual.extend(unlimited);

        let listed: BTreeMap<usize, &str> = list
            .iter()
            .filter(|(of, ..)| *of == file)
            .map(|(_, line, _, program)| (*line, *program))
            .collect();
        let lines: BTreeSet<usize> = actual.keys().chain(listed.keys()).copied().collect();
        for line in lines {
            wrong += &match (actual.get(&line), listed.get(&line)) {
                (Some((program, _)), Some(listed)) if program == listed => continue,
                (Some((program, why)), _) => {
                    format!("not in the list: {file}:{line} REASON {program}\n    {why}\n")
                }
                (None, _) => format!("in the list, but as in jq: {file}:{line}\n"),
            };
        }
        passed.push((file, count - actual.len()));
    }
    assert!(wrong.is_empty(), "{wrong}{passed:?}");
    assert_eq!(passed, FILES);
}
