//! The shape of the code, checked: which room may use which, where HTTP, sled and Wasm are known, a promise
//! at the top of each file, no dead file, no unfinished code, nothing of the place where it was written.
//!
//! Each check is a function over a [`Tree`] that returns what is wrong. It must find nothing in the
//! repository, and it must find a violation that a test plants in each room: a check that does not see a
//! room would be worse than none.

mod tree;
mod uses;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use self::tree::Tree;

/// The folder of the runtime's code.
const SRC: &str = "runtime/src";

/// Small rooms that any other may use, and that use no room themselves.
const LOW: [&str; 5] = ["exit", "failpoint", "files", "plain", "sync"];

/// Which other rooms each room may use; `ARCHITECTURE.md` draws it. `cli` stands above all others.
const MAY_USE: [(&str, &[&str]); 25] = [
    ("exit", &[]),
    ("failpoint", &[]),
    ("files", &[]),
    ("plain", &[]),
    ("sync", &[]),
    ("budget", &[]),
    ("model", &[]),
    ("signature", &[]),
    ("metrics", &[]),
    ("tap", &["model"]),
    ("happenings", &["model", "tap"]),
    ("traces", &["happenings", "model"]),
    ("index", &["model"]),
    ("store", &["index", "model"]),
    ("plugin", &["budget", "model"]),
    ("author", &["model", "plugin"]),
    ("targets", &["model", "signature"]),
    ("notify", &["model", "targets"]),
    (
        "ingest",
        &[
            "budget",
            "happenings",
            "index",
            "model",
            "plugin",
            "signature",
            "store",
            "tap",
            "traces",
        ],
    ),
    (
        "dispatch",
        &[
            "happenings",
            "model",
            "plugin",
            "store",
            "tap",
            "targets",
            "traces",
        ],
    ),
    ("config", &[]),
    (
        "plan",
        &[
            "config",
            "dispatch",
            "happenings",
            "ingest",
            "model",
            "notify",
            "plugin",
            "signature",
            "store",
            "targets",
        ],
    ),
    ("server", &["budget", "metrics", "model", "plan", "tap"]),
    (
        "app",
        &[
            "author",
            "budget",
            "dispatch",
            "happenings",
            "index",
            "ingest",
            "metrics",
            "model",
            "notify",
            "plan",
            "plugin",
            "server",
            "store",
            "tap",
            "targets",
            "traces",
        ],
    ),
    (
        "cli",
        &[
            "app",
            "author",
            "budget",
            "config",
            "dispatch",
            "index",
            "ingest",
            "metrics",
            "model",
            "notify",
            "plan",
            "plugin",
            "server",
            "signature",
            "store",
            "tap",
            "targets",
        ],
    ),
];

/// Which files may name a crate that stands for something outside of Weir, as beginnings of their paths
/// below the runtime's code. Another transport, engine or store then has one place to go.
const KNOWN_BY: [(&[&str], &[&str]); 7] = [
    (
        &["axum", "hyper", "hyper_rustls", "hyper_util"],
        &[
            "cli",
            "ingest/http",
            "server",
            "targets/http",
            "targets/webhook",
        ],
    ),
    (&["async_nats"], &["targets/nats"]),
    (&["rdkafka"], &["targets/kafka"]),
    (&["sled"], &["store/embedded"]),
    (
        &["tokio_postgres", "tokio_postgres_rustls"],
        &["targets/postgres"],
    ),
    (&["wasmtime"], &["plugin"]),
    (
        &["wasmparser", "wasm_encoder", "wit_component"],
        &["author", "plugin"],
    ),
];

/// The room of a file of the runtime: the first part of its path.
fn room(inside: &Path) -> String {
    let first = inside.iter().next().unwrap_or_default();
    first.to_string_lossy().trim_end_matches(".rs").to_owned()
}

/// Whether a file is compiled only into tests and into searches for bytes that Weir cannot stand, whose
/// world may be wider.
fn is_test(inside: &Path) -> bool {
    let helper = [
        "tests.rs",
        "fixture.rs",
        "fake.rs",
        "scripted.rs",
        "fuzz.rs",
    ];
    inside.iter().any(|part| part == "tests") || helper.iter().any(|name| inside.ends_with(name))
}

/// The runtime's production files, by their paths below `src`.
fn production(tree: &Tree) -> impl Iterator<Item = (&Path, &str)> {
    let inside = |(path, text)| Some((Path::strip_prefix(path, SRC).ok()?, text));
    tree.sources()
        .filter_map(inside)
        .filter(|(inside, _)| !is_test(inside))
}

fn uses_against_the_table(tree: &Tree) -> Vec<String> {
    let allowed: BTreeMap<&str, &[&str]> = MAY_USE.into_iter().collect();
    let mut seen = BTreeSet::new();
    let mut wrong = Vec::new();
    for (inside, text) in production(tree) {
        let room = room(inside);
        // The roots of the crate, and the list of what its tests may use.
        if ["lib", "main", "inside"].contains(&room.as_str()) {
            continue;
        }
        let Some(may_use) = allowed.get(room.as_str()) else {
            wrong.push(format!("{} is in no room of the table", inside.display()));
            continue;
        };
        let used = uses::named(inside, text).rooms;
        let used = used
            .iter()
            .filter(|used| **used != room && allowed.contains_key(used.as_str()));
        wrong.extend(
            used.filter(|used| !may_use.contains(&used.as_str()) && !LOW.contains(&used.as_str()))
                .map(|used| format!("{} uses {used}", inside.display())),
        );
        seen.insert(room);
    }
    let unseen = allowed.keys().filter(|room| !seen.contains(**room));
    wrong.extend(unseen.map(|room| format!("no file of the room {room} was seen")));
    wrong
}

fn crates_outside_their_room(tree: &Tree) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut seen = BTreeSet::new();
    for (inside, text) in production(tree) {
        let roots = uses::named(inside, text).roots;
        for (crates, places) in KNOWN_BY {
            for known in crates.iter().filter(|known| roots.contains(**known)) {
                seen.insert(*known);
                let path = inside.with_extension("");
                let is_there = |place: &&str| path.to_string_lossy().starts_with(*place);
                if !places.iter().any(is_there) {
                    wrong.push(format!("{} knows {known}", inside.display()));
                }
            }
        }
    }
    // A crate that nobody names any more has no line in the table.
    let all = KNOWN_BY.iter().flat_map(|(crates, _)| *crates);
    wrong.extend(
        all.filter(|known| !seen.contains(**known))
            .map(|known| format!("nobody knows {known}")),
    );
    wrong
}

fn silent_files(tree: &Tree) -> Vec<String> {
    let silent = tree.sources().filter(|(_, text)| !text.starts_with("//! "));
    silent
        .map(|(path, _)| format!("{} does not say what it is for", path.display()))
        .collect()
}

fn dead_files_and_unfinished_code(tree: &Tree) -> Vec<String> {
    let compiled: BTreeSet<PathBuf> = tree.compiled();
    let dead = tree.sources().filter(|(path, _)| !compiled.contains(*path));
    let mut wrong: Vec<String> = dead
        .map(|(path, _)| format!("{} is compiled by nobody", path.display()))
        .collect();
    // Put together here, so that this file does not find itself.
    let words = [
        ["#[ign", "ore"],
        ["todo", "!("],
        ["unimpl", "emented!("],
        ["dbg", "!("],
    ];
    let words = words.map(|parts| parts.concat());
    for (path, text) in tree.sources() {
        let found = words.iter().filter(|word| text.contains(*word));
        wrong.extend(found.map(|word| format!("{} has {word}", path.display())));
    }
    wrong
}

fn traces_of_a_place(tree: &Tree) -> Vec<String> {
    let folders = ["work", "farm", "root"].map(|folder| format!("/{folder}/"));
    let hosts = ["crates", "pypi", "npmjs"]
        .iter()
        .zip(["io", "org", "org"])
        .map(|(name, end)| format!("{name}.{end}"));
    let words: Vec<String> = folders.into_iter().chain(hosts).collect();
    let mut wrong = Vec::new();
    for (path, text) in tree.files() {
        let found = words.iter().filter(|word| text.contains(word.as_str()));
        wrong.extend(found.map(|word| format!("{} names {word}", path.display())));
    }
    wrong
}

/// `target` is what cargo, ignore files and search tools take for a build: a file there is easily lost.
fn folders_called_target(tree: &Tree) -> Vec<String> {
    let there = tree.files().filter(|(path, _)| {
        path.parent()
            .is_some_and(|folder| folder.iter().any(|part| part == "target"))
    });
    there
        .map(|(path, _)| format!("{} is in a folder called target", path.display()))
        .collect()
}

/// Operators read the log, not the program: a value is a word or a number there, never `Some(…)`.
fn debug_output_in_the_log(tree: &Tree) -> Vec<String> {
    let logs = |(inside, text)| (inside, uses::named(inside, text).debug_logs);
    production(tree)
        .map(logs)
        .flat_map(|(inside, logs): (&Path, _)| {
            let wrong = move |log| format!("{} logs Debug output: {log}", inside.display());
            logs.into_iter().map(wrong)
        })
        .collect()
}

/// A check, and a word for it.
type Check = (&'static str, fn(&Tree) -> Vec<String>);

const CHECKS: [Check; 7] = [
    ("who may use whom", uses_against_the_table),
    ("one room for each thing outside", crates_outside_their_room),
    ("each file opens with its promise", silent_files),
    (
        "no dead file, nothing unfinished",
        dead_files_and_unfinished_code,
    ),
    (
        "nothing of the place where it was written",
        traces_of_a_place,
    ),
    ("no folder called target", folders_called_target),
    ("no Debug output in the log", debug_output_in_the_log),
];

#[test]
fn the_repository_has_its_shape() {
    let tree = Tree::read();
    let mut report = String::new();
    for (what, check) in CHECKS {
        for wrong in check(&tree) {
            report += &format!("{what}: {wrong}\n");
        }
    }
    assert!(report.is_empty(), "\n{report}");
}

/// Expects that a check says exactly this much more about a planted tree than about the real one.
fn notices(check: fn(&Tree) -> Vec<String>, tree: &Tree, planted: &Tree, expected: &str) {
    let before: BTreeSet<String> = check(tree).into_iter().collect();
    let found: Vec<String> = check(planted)
        .into_iter()
        .filter(|wrong| !before.contains(wrong))
        .collect();
    assert!(
        found.iter().any(|wrong| wrong.contains(expected)),
        "expected {expected:?} in {found:?}"
    );
}

/// A production file of each room with its path, and a tree of these files alone, so that hundreds of
/// plantings are quick.
fn rooms() -> (Tree, Vec<(String, PathBuf)>) {
    let tree = Tree::read();
    let mut found: BTreeMap<String, PathBuf> = BTreeMap::new();
    for (inside, _) in production(&tree) {
        found
            .entry(room(inside))
            .or_insert_with(|| Path::new(SRC).join(inside));
    }
    found.retain(|room, _| MAY_USE.iter().any(|(known, _)| known == room));
    assert_eq!(found.len(), MAY_USE.len(), "a file of each room: {found:?}");
    let few = |few: Tree, path: &PathBuf| {
        few.with(&path.to_string_lossy(), tree.text(path).unwrap_or_default())
    };
    (
        found.values().fold(Tree::default(), few),
        found.into_iter().collect(),
    )
}

// A whole room was once called like cargo's folder for builds, so the check passed it over, and a brace
// behind `crate::` hid what was used.
#[test]
fn a_use_against_the_table_is_noticed_in_each_room_however_it_is_written() {
    let (tree, rooms) = rooms();
    for (room, path) in rooms {
        let forbidden = if room == "cli" { continue } else { "cli" };
        let module = path
            .strip_prefix(SRC)
            .expect("it is inside")
            .with_extension("");
        let up = "super::".repeat(module.iter().count());
        for line in [
            format!("use crate::{forbidden}::Anything;"),
            format!("use crate::{{model, {forbidden}}};"),
            format!("use crate::{{model::Lane, {forbidden}::{{Anything, Other as Third}}}};"),
            format!("use {up}{forbidden}::Anything;"),
            format!("fn planted() {{ crate::{forbidden}::anything(); }}"),
            format!("fn planted() {{ assert!(crate::{forbidden}::anything()); }}"),
            format!("fn planted() -> Vec<crate::{forbidden}::Anything> {{ Vec::new() }}"),
        ] {
            let planted = tree.with_line(&path, &line);
            notices(
                uses_against_the_table,
                &tree,
                &planted,
                &format!("uses {forbidden}"),
            );
        }
        let planted = tree.with_line(
            &path,
            "#[cfg(test)]\nmod tests { use crate::cli::Anything; }",
        );
        assert_eq!(
            uses_against_the_table(&planted),
            uses_against_the_table(&tree),
            "tests see more"
        );
    }
    let planted = tree.with("runtime/src/attic/json.rs", "//! Nothing.\n");
    notices(uses_against_the_table, &tree, &planted, "is in no room");
}

#[test]
fn a_room_that_was_not_seen_is_noticed() {
    let tree = Tree::read();
    let mut without = Tree::default();
    for (path, text) in tree.files().filter(|(path, _)| {
        !path.starts_with("runtime/src/targets") && *path != Path::new("runtime/src/targets.rs")
    }) {
        without = without.with(&path.to_string_lossy(), text);
    }
    notices(
        uses_against_the_table,
        &tree,
        &without,
        "no file of the room targets",
    );
}

#[test]
fn each_other_violation_is_noticed_in_each_room() {
    let (tree, rooms) = rooms();
    for (room, path) in rooms {
        let place = |name: &str| format!("{SRC}/{room}/{name}");
        // `json` is a module elsewhere, and `planted` is none.
        for orphan in ["json2.rs", "planted.rs", "deeper/json.rs"] {
            let planted = tree.with(&place(orphan), "//! Nothing.\n");
            notices(
                dead_files_and_unfinished_code,
                &tree,
                &planted,
                "is compiled by nobody",
            );
        }
        let planted = tree.with(&place("planted.rs"), "// Nothing.\n");
        notices(silent_files, &tree, &planted, "does not say what it is for");
        for word in ["#[ign~ore]", "todo~!()", "dbg~!(1)"] {
            let line = format!("// {word}").replace('~', "");
            let planted = tree.with_line(&path, &line);
            notices(
                dead_files_and_unfinished_code,
                &tree,
                &planted,
                &path.to_string_lossy(),
            );
        }
        let planted = tree.with_line(&path, &"// as in /~work/main".replace('~', ""));
        notices(traces_of_a_place, &tree, &planted, &path.to_string_lossy());
        let planted = tree.with(&place("target/search.rs"), "//! Nothing.\n");
        notices(
            folders_called_target,
            &tree,
            &planted,
            "is in a folder called target",
        );
        for log in [
            "tracing::warn!(?error, \"no\");",
            "tracing::info!(channel = ?name, \"no\");",
            "tracing::error!(\"no {error:?}\");",
            "tracing::debug!(\"no {:#?}\", error);",
        ] {
            let planted = tree.with_line(&path, &format!("fn planted() {{ {log} }}"));
            notices(
                debug_output_in_the_log,
                &tree,
                &planted,
                "logs Debug output",
            );
        }
        let fine = "fn planted() { tracing::warn!(%error, seconds = read()?, \"done?\"); }";
        let planted = tree.with_line(&path, fine);
        assert_eq!(
            debug_output_in_the_log(&planted),
            debug_output_in_the_log(&tree)
        );
        for (crates, places) in KNOWN_BY {
            if !places.iter().any(|place| place.starts_with(room.as_str())) {
                let planted = tree.with_line(&path, &format!("use {}::Anything;", crates[0]));
                notices(
                    crates_outside_their_room,
                    &tree,
                    &planted,
                    &format!("knows {}", crates[0]),
                );
            }
        }
    }
}
