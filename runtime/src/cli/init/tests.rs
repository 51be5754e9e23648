//! Tests of what `weir init` writes, asks and refuses.

use std::collections::BTreeSet;

use super::*;

fn init_in(folder: &Path, from: Option<&str>) -> Result<String, Failure> {
    let args = InitArgs {
        folder: folder.to_owned(),
        from: from.map(str::to_owned),
    };
    let mut out = String::new();
    init(&args, &mut out).map(|_| out)
}

/// All files below a folder, by their paths in it.
fn files(folder: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut open = vec![folder.to_owned()];
    while let Some(next) = open.pop() {
        for entry in std::fs::read_dir(next).expect("a folder").flatten() {
            match entry.path() {
                path if path.is_dir() => open.push(path),
                path => {
                    let inside = path.strip_prefix(folder).expect("it is below");
                    found.insert(inside.display().to_string());
                }
            }
        }
    }
    found
}

#[test]
fn what_is_written_is_the_example_and_passes_its_own_check() {
    for example in &EXAMPLES {
        let folder = tempfile::tempdir().expect("a folder");
        let place = folder.path().join("a new one");
        write_all(example, &place).unwrap_or_else(|failure| panic!("{failure}"));
        let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
        let original = repository.join(example.name);
        // What running the example in the repository leaves there is no part of it.
        let mut expected = files(&original);
        expected.retain(|file| !file.starts_with("data/") && file != "README.md");
        assert_eq!(files(&place), expected, "{}", example.name);
        for (name, content) in example.files {
            let written = std::fs::read_to_string(place.join(name)).expect("a text");
            assert_eq!((written.as_str(), name), (*content, name));
            assert!(!content.contains("../"), "{name} leads out of its folder");
        }
        let read = crate::app::read_plan(&[place.join("weir.toml")]);
        let (plan, _) = read.unwrap_or_else(|wrong| panic!("{}: {wrong:?}", example.name));
        let used = plan.plugins.values().filter_map(|plugin| plugin.builtin);
        assert_eq!(
            used.collect::<BTreeSet<_>>(),
            example.plugins.iter().copied().collect(),
            "{}",
            example.name
        );
    }
}

#[test]
fn nothing_is_written_over_and_then_nothing_is_written_at_all() {
    let folder = tempfile::tempdir().expect("a folder");
    // A link that leads nowhere: writing through it would make a file elsewhere.
    let link = folder.path().join("receiver.py");
    std::os::unix::fs::symlink(folder.path().join("elsewhere"), &link).expect("a link");
    let refused = init_in(folder.path(), Some("first-webhook")).expect_err("it is there");
    assert_eq!(refused.code(), 1);
    assert!(
        refused
            .to_string()
            .contains("receiver.py; name another folder"),
        "{refused}"
    );
    assert_eq!(files(folder.path()), ["receiver.py".to_owned()].into());
    std::fs::remove_file(link).expect("removed");

    let said = init_in(folder.path(), Some("first-webhook")).expect("written");
    assert!(said.contains("weir run "), "{said}");
    let edited = "# mine\n";
    std::fs::write(folder.path().join("weir.toml"), edited).expect("edited");
    let refused = init_in(folder.path(), Some("no-code"));
    assert!(refused.is_err());
    let kept = std::fs::read_to_string(folder.path().join("weir.toml")).expect("there");
    assert_eq!(kept, edited);
}

#[test]
fn a_folder_in_which_nothing_can_be_made_keeps_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    // In place of the folder of the events there is a file.
    std::fs::write(folder.path().join("events"), "").expect("a file");
    let refused = init_in(folder.path(), Some("first-webhook")).expect_err("it cannot");
    assert_eq!(refused.code(), 3, "{refused}");
    assert_eq!(files(folder.path()), ["events".to_owned()].into());
}

#[test]
fn the_last_words_are_commands_for_a_shell() {
    let [first, _] = &EXAMPLES;
    let here = last_words(first, Path::new("."));
    assert!(here.starts_with("Written here: weir.toml, receiver.py, events/content.json"));
    assert!(
        here.contains("\n    weir run                     # Weir\n"),
        "{here}"
    );
    let there = last_words(first, Path::new("my shop"));
    assert!(there.contains("\n    cd 'my shop' && weir run "), "{there}");
    assert!(
        there.contains("\n    cd 'my shop'\n    weir send pim"),
        "{there}"
    );
}

#[test]
fn a_terminal_is_asked_until_the_answer_is_an_example() {
    for (answers, chosen) in [
        ("\n", "first-webhook"),
        ("2\n", "no-code"),
        ("0\n9\nfirst\nno-code\n", "no-code"),
    ] {
        let mut screen = Vec::new();
        let example = asked(&mut answers.as_bytes(), &mut screen).expect("an example");
        assert_eq!(example.name, chosen);
        let screen = String::from_utf8(screen).expect("text");
        assert!(
            screen.contains("  1  first-webhook  two systems"),
            "{screen}"
        );
    }
    let closed = asked(&mut &b""[..], &mut Vec::new());
    assert_eq!(closed.err().map(|failure| failure.code()), Some(1));
}

// The tests have no terminal, at least on a machine of theirs; where they have one, it would be asked.
#[test]
fn nobody_is_asked_without_a_terminal() {
    if io::stdin().is_terminal() && io::stderr().is_terminal() {
        return eprintln!("NOT RUN: there is a terminal");
    }
    let folder = tempfile::tempdir().expect("a folder");
    let refused = init_in(folder.path(), None).expect_err("nobody can be asked");
    assert_eq!(refused.code(), 2);
    assert!(
        refused
            .to_string()
            .contains("weir init --from first-webhook|no-code"),
        "{refused}"
    );
    let misspelt = init_in(folder.path(), Some("first-webhok")).expect_err("no such example");
    assert_eq!(
        misspelt.to_string(),
        "there is no example \"first-webhok\"; did you mean \"first-webhook\"?"
    );
    assert!(files(folder.path()).is_empty());
}
