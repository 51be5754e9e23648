//! The shape of the code, checked: who may use whom, every file says what it is for, no dead file,
//! no ignored test, and nothing of the place where it was written.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Which rooms each room may use; `ARCHITECTURE.md` draws it. `cli` and `app` stand above all
/// others.
const MAY_USE: [(&str, &[&str]); 17] = [
    ("exit", &[]),
    ("sync", &[]),
    ("failpoint", &[]),
    ("model", &[]),
    ("signature", &[]),
    ("metrics", &[]),
    ("index", &["model"]),
    ("store", &["failpoint", "index", "model"]),
    ("plugin", &["model", "sync"]),
    ("author", &["model", "plugin"]),
    ("target", &["model", "signature"]),
    (
        "ingest",
        &["index", "model", "plugin", "signature", "store"],
    ),
    (
        "dispatch",
        &["exit", "failpoint", "model", "plugin", "store", "target"],
    ),
    ("config", &[]),
    (
        "plan",
        &[
            "config",
            "dispatch",
            "ingest",
            "model",
            "plugin",
            "signature",
            "target",
        ],
    ),
    ("server", &["failpoint", "metrics", "model", "plan"]),
    (
        "app",
        &[
            "author",
            "dispatch",
            "exit",
            "failpoint",
            "index",
            "ingest",
            "metrics",
            "model",
            "plan",
            "plugin",
            "server",
            "store",
            "sync",
            "target",
        ],
    ),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the crate is in a folder of the repository")
        .to_owned()
}

/// Files below a folder with that extension, builds left out.
fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("it can be listed").flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        if path.is_dir() && name != "target" && name != ".git" && name != "dist" {
            found.extend(files(&path, extension));
        } else if path.extension().is_some_and(|ending| ending == extension) {
            found.push(path);
        }
    }
    found
}

fn sources() -> Vec<(PathBuf, String)> {
    let all = ["runtime", "plugins", "tests"]
        .iter()
        .flat_map(|folder| files(&root().join(folder), "rs"));
    all.map(|path| (path.clone(), fs::read_to_string(&path).expect("it is text")))
        .collect()
}

fn shown(path: &Path) -> String {
    path.strip_prefix(root())
        .unwrap_or(path)
        .display()
        .to_string()
}

/// The code without its inline tests, whose world may be wider.
fn production(text: &str) -> &str {
    text.split("#[cfg(test)]\nmod tests {")
        .next()
        .unwrap_or(text)
}

#[test]
fn each_room_uses_only_the_rooms_below_it() {
    let allowed: BTreeMap<&str, &[&str]> = MAY_USE.into_iter().collect();
    let rooms = root().join("runtime/src");
    let mut wrong = Vec::new();
    for (path, text) in sources()
        .into_iter()
        .filter(|(path, _)| path.starts_with(&rooms))
    {
        let inside = path.strip_prefix(&rooms).expect("it is inside").to_owned();
        let is_test = inside.iter().any(|part| part == "tests")
            || inside.ends_with("tests.rs")
            || inside.ends_with("fixture.rs");
        let room = inside
            .iter()
            .next()
            .and_then(|first| first.to_str())
            .unwrap_or_default()
            .trim_end_matches(".rs")
            .to_owned();
        let Some(may_use) = allowed
            .get(room.as_str())
            .filter(|_| !is_test && !inside.ends_with("fake.rs"))
        else {
            continue;
        };
        let used: BTreeSet<&str> = production(&text)
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"))
            .flat_map(|line| line.split("crate::").skip(1))
            .map(|rest| {
                rest.split(|c: char| !c.is_alphanumeric() && c != '_')
                    .next()
                    .unwrap_or_default()
            })
            .filter(|used| *used != room && (allowed.contains_key(used) || *used == "cli"))
            .collect();
        wrong.extend(
            used.into_iter()
                .filter(|used| !may_use.contains(used))
                .map(|used| format!("{} uses {used}", shown(&path))),
        );
    }
    assert!(
        wrong.is_empty(),
        "these go against the table:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn every_file_opens_with_its_promise() {
    let silent: Vec<String> = sources()
        .iter()
        .filter(|(_, text)| !text.starts_with("//! "))
        .map(|(path, _)| shown(path))
        .collect();
    assert!(
        silent.is_empty(),
        "these do not say what they are for:\n{}",
        silent.join("\n")
    );
}

#[test]
fn no_file_is_dead_and_no_test_is_ignored() {
    let sources = sources();
    // Put together here, so that this file does not find itself.
    let unfinished = [
        ["#[ign", "ore"],
        ["todo", "!("],
        ["unimpl", "emented!("],
        ["dbg", "!("],
    ]
    .map(|parts| parts.concat());
    let mut wrong = Vec::new();
    for (path, text) in &sources {
        let stem = path
            .file_stem()
            .and_then(|stem| stem.to_str())
            .unwrap_or_default();
        let named = |(_, other): &(PathBuf, String)| {
            other.lines().any(|line| {
                line.trim_end().ends_with(&format!("mod {stem};"))
                    || line.contains(&format!("/{stem}.rs\""))
            })
        };
        let is_root = matches!(stem, "lib" | "main" | "tidy")
            || path
                .parent()
                .is_some_and(|folder| folder.ends_with("tests"));
        if !is_root && !sources.iter().any(named) {
            wrong.push(format!("{} is compiled by nobody", shown(path)));
        }
        wrong.extend(
            unfinished
                .iter()
                .filter(|word| text.contains(*word))
                .map(|word| format!("{} has {word}", shown(path))),
        );
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn nothing_tells_where_it_was_written() {
    let folders = ["work", "farm", "root"].map(|folder| format!("/{folder}/"));
    let hosts = ["crates", "pypi", "npmjs"]
        .iter()
        .zip(["io", "org", "org"])
        .map(|(name, end)| format!("{name}.{end}"));
    let words: Vec<String> = folders.into_iter().chain(hosts).collect();
    let mut wrong = Vec::new();
    for extension in ["rs", "md", "toml", "wit", "json", "py", "sh"] {
        for path in files(&root(), extension) {
            let text = fs::read_to_string(&path).expect("it is text");
            let found = words.iter().filter(|word| text.contains(word.as_str()));
            wrong.extend(found.map(|word| format!("{} names {word}", shown(&path))));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
