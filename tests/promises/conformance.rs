//! Tests that plugins in every language produce the same output from the same input.
//! `tests/conformance` has the cases, and for each language a plugin that returns everything it
//! receives.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use weir::inside::author::cases::{self, Case, Item, Output};
use weir::inside::author::harness::{Harness, Input};
use weir::inside::author::toolchain::{self, Error};
use weir::inside::model::{EntityId, Event, Payload, View};
use weir::inside::plugin::{Binary, Limits};

/// A large value of a facet, or a large body, in bytes.
const LARGE: usize = 4 << 20;
/// Items in one call, many times more than a running Weir passes in one.
const HUGE_BATCH: usize = 1000;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/conformance")
        .join(name)
}

/// The plugins of a kind, one per language. A language whose tool chain is not available here is
/// skipped, with a message.
fn plugins(kind: &str) -> Vec<(String, Harness)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder(kind))
        .expect("the folder")
        .flatten()
    {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name == "cases" {
            continue;
        }
        match toolchain::build(&entry.path(), &mut |step| eprintln!("{step}")) {
            Ok(built) => {
                let binary = Binary::read(&built.component).expect("a component");
                // Other guests than Rust's run an interpreter, on a machine that is busy with other
                // tests, so the limits are wide.
                let limits = Limits {
                    time: std::time::Duration::from_secs(20),
                    ..Limits::default()
                };
                found.push((
                    name.clone(),
                    Harness::load(&name, &binary, limits)
                        .unwrap_or_else(|fault| panic!("{name}: {fault}")),
                ));
            }
            Err(Error::NoToolChain(why)) if name != "rust" => {
                assert!(
                    std::env::var_os("CI").is_none(),
                    "nothing can be proven of {kind}/{name}: {why}"
                );
                eprintln!("\n*** NOTHING IS PROVEN OF {kind}/{name}: {why} ***\n");
            }
            Err(error) => panic!("{kind}/{name}: {error}"),
        }
    }
    assert!(found.iter().any(|(name, _)| name == "rust"));
    found
}

/// The output of the last role for each item; an item that a filter dropped is marked as dropped.
fn together(harness: &Harness, input: Input) -> Vec<Output> {
    let report = harness.run("{}", input).expect("it runs");
    let outputs: Vec<Vec<Output>> = report
        .calls
        .into_iter()
        .map(|call| {
            assert!(call.fault.is_none(), "{call:?}");
            call.outputs
        })
        .collect();
    let [filtered, made] = &outputs[..] else {
        panic!("a filter and a maker")
    };
    let pairs = filtered.iter().zip(made);
    pairs
        .map(|(filtered, made)| {
            if *filtered == Output::Accepted(true) {
                made.clone()
            } else {
                filtered.clone()
            }
        })
        .collect()
}

/// Values that a language cannot represent exactly, so that it fails instead of rounding: the
/// language, the case, and the code of the failure. JavaScript's numbers are doubles, and
/// componentize-qjs passes versions only as numbers.
const REFUSED: [(&str, &str, &str); 1] = [("typescript", "versions-beyond-doubles", "bad-version")];

/// The case with the output that is expected of this language.
fn in_language(language: &str, case: &Case) -> Case {
    match REFUSED
        .iter()
        .find(|(refusing, name, _)| *refusing == language && *name == case.name)
    {
        Some((.., code)) => Case {
            expected: Some(format!(r#"{{"code":"{code}"}}"#)),
            ..case.clone()
        },
        None => case.clone(),
    }
}

fn check(kind: &str, large: &[Case], input: fn(Vec<Item>) -> Input) {
    let all = cases::read(&folder(kind).join("cases")).unwrap_or_else(|error| panic!("{error}"));
    assert!(all.len() >= 9, "{} cases", all.len());
    for (language, harness) in plugins(kind) {
        let cases: Vec<Case> = all
            .iter()
            .map(|case| in_language(&language, case))
            .collect();
        for case in cases.iter().chain(large) {
            let run = harness
                .run_case(case)
                .unwrap_or_else(|fault| panic!("{language}: {fault}"));
            case.judge(&run.output)
                .unwrap_or_else(|difference| panic!("{language}, alone: {difference}"));
            assert!(
                !run.fault,
                "{language}: a failure is the plugin's own word, case {}",
                case.name
            );
        }
        let twice: Vec<&Case> = cases.iter().chain(&cases).collect();
        for (case, output) in twice.iter().zip(
            harness
                .run_in_turn(twice.iter().copied())
                .expect("they run"),
        ) {
            case.judge(&output)
                .unwrap_or_else(|difference| panic!("{language}, in turn: {difference}"));
        }
        // Successes, failures and drops are mixed, and each result must be at its position.
        let many: Vec<&Case> = cases
            .iter()
            .filter(|case| case.name != "many" && case.name != "tell-512-facets")
            .cycle()
            .take(HUGE_BATCH)
            .collect();
        let outputs = together(
            &harness,
            input(many.iter().map(|case| case.item.clone()).collect()),
        );
        assert_eq!(outputs.len(), HUGE_BATCH, "{language}");
        for (case, output) in many.iter().zip(&outputs) {
            case.judge(output).unwrap_or_else(|difference| {
                panic!("{language}, {HUGE_BATCH} in a call: {difference}")
            });
        }
        assert_eq!(
            together(&harness, input(Vec::new())),
            [],
            "{language}: nothing in, nothing out"
        );
        eprintln!(
            "conformance of {kind}/{language}: {} cases",
            cases.len() + large.len()
        );
    }
}

fn events(items: Vec<Item>) -> Input {
    let event = |item| {
        if let Item::Event(event) = item {
            event
        } else {
            panic!("an event")
        }
    };
    Input::Events(items.into_iter().map(event).collect())
}

fn entities(items: Vec<Item>) -> Input {
    let view = |item| {
        if let Item::Entity(view) = item {
            view
        } else {
            panic!("an entity")
        }
    };
    Input::Entities(items.into_iter().map(view).collect())
}

fn large_event(event_type: &str, data: Payload, expected: String) -> Case {
    let event = Event {
        id: "large".into(),
        origin: "/conformance".into(),
        event_type: event_type.into(),
        subject: None,
        time: None,
        content_type: None,
        attributes: Vec::new(),
        trace: None,
        data,
    };
    Case {
        name: format!("large-{event_type}"),
        settings: "{}".into(),
        item: Item::Event(event),
        expected: Some(expected),
    }
}

#[test]
fn plugins_of_sources_are_given_the_same_in_every_language() {
    // Two bytes per letter, so that a count of letters differs from a count of bytes.
    let text = "ü".repeat(LARGE / 2);
    let echoed = format!(r#"[{{"type":"echo","key":"echo","facet":"data","value":"{text}"}}]"#);
    let bytes = vec![0xff; LARGE];
    let large = [
        large_event("echo", Payload::Text(text), echoed),
        large_event("none", Payload::Binary(bytes.clone()), "[]".into()),
        large_event(
            "fail",
            Payload::Text(format!(
                r#"{{"code":"large","message":"{}"}}"#,
                "x".repeat(100_000)
            )),
            r#"{"code":"large"}"#.into(),
        ),
    ];
    check("source", &large, events);
}

#[test]
fn plugins_of_channels_are_given_the_same_in_every_language() {
    let text = format!("\"{}\"", "ü".repeat(LARGE / 2));
    let facets = vec![(Arc::from("text"), Arc::from(text.as_str()))];
    let view = View {
        id: EntityId {
            entity_type: "product".into(),
            key: "k".repeat(1024).into(),
        },
        facets,
    };
    let expected = Some(format!(r#"{{"content_type":"text/plain","body":{text}}}"#));
    let large = [Case {
        name: "large-text".into(),
        settings: "{}".into(),
        item: Item::Entity(view),
        expected,
    }];
    check("channel", &large, entities);
}
