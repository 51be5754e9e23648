//! Files: what is there after a batch and after a crash, and what others do to them.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::*;
use crate::targets::Foreign;
use crate::targets::sample::{attempt, item};

fn objects(folder: &Path, template: &str) -> File {
    File::open(&Options {
        folder: folder.to_owned(),
        form: Form::Objects(Template::parse(template, false).expect("a template")),
        timeout: Duration::from_secs(10),
    })
}

fn lines_with(folder: &Path, rotate: Rotate) -> File {
    File::open(&Options {
        folder: folder.to_owned(),
        form: Form::Lines {
            name: "all.ndjson".into(),
            rotate,
        },
        timeout: Duration::from_secs(10),
    })
}

fn lines(folder: &Path) -> File {
    lines_with(folder, Rotate::default())
}

async fn deliver_at(
    file: &File,
    items: &[Item],
    now: SystemTime,
    head: u64,
    foreign: Option<Foreign>,
) -> Vec<Outcome> {
    let attempt = Attempt {
        now,
        head: Sequence(head),
        foreign,
        ..attempt(items)
    };
    file.deliver(attempt).await.outcomes
}

async fn deliver(file: &File, items: &[Item]) -> Vec<Outcome> {
    deliver_at(file, items, SystemTime::now(), 1_000, None).await
}

/// Delivers, and all of it must be taken.
async fn takes(file: &File, items: &[Item]) {
    assert_eq!(
        deliver(file, items).await,
        vec![Outcome::Delivered; items.len()]
    );
}

#[track_caller]
fn says(outcome: &Outcome, expected: &str) {
    let text = format!("{outcome:?}");
    assert!(text.contains(expected), "{text}");
}

/// The lines of a file; each must be JSON.
#[track_caller]
fn read(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).expect("a file");
    assert!(text.is_empty() || text.ends_with('\n'), "{text:?}");
    let line = |line: &str| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line:?}"));
    text.lines().map(line).collect()
}

fn sequences(path: &Path) -> Vec<u64> {
    let sequence = |line: Value| line["sequence"].as_u64().expect("a sequence");
    read(path).into_iter().map(sequence).collect()
}

/// All files of a folder by name, but for those that are Weir's own.
fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("a folder");
    let name = |entry: io::Result<std::fs::DirEntry>| {
        entry
            .expect("an entry")
            .file_name()
            .into_string()
            .expect("text")
    };
    let mut names: Vec<String> = entries
        .map(name)
        .filter(|name| name != ".weir-folder")
        .collect();
    names.sort_unstable();
    names
}

#[tokio::test]
async fn each_entity_has_a_file_whatever_its_key_is() {
    let root = tempfile::tempdir().expect("a folder");
    let out = root.path().join("out");
    std::fs::create_dir(&out).expect("a folder");
    let file = objects(&out, "{entity}/{key}.json");
    let long = "ä".repeat(200);
    let keys = [
        "../../x", "/etc/x", "a\0b", ".", "..", "", "A", "a", "a/b", "ä", &long,
    ];
    let items: Vec<Item> = keys.iter().map(|key| item(key, 1, Some(key))).collect();
    takes(&file, &items).await;
    assert_eq!(names(root.path()), ["out"]);
    assert_eq!(names(&out), ["product"]);
    let mut held: Vec<String> = names(&out.join("product"))
        .iter()
        .map(|name| std::fs::read_to_string(out.join("product").join(name)).expect("a file"))
        .collect();
    held.sort_unstable();
    let mut expected: Vec<String> = keys.iter().map(|key| (*key).to_owned()).collect();
    expected.sort_unstable();
    assert_eq!(held, expected);

    let deleted: Vec<Item> = keys.iter().map(|key| item(key, 2, None)).collect();
    takes(&file, &deleted).await;
    takes(&file, &deleted).await;
    assert_eq!(names(&out.join("product")), [""; 0]);
}

// Whoever may write into the export folder put a link there, and Weir wrote over /etc.
#[tokio::test]
async fn no_link_below_the_folder_is_followed() {
    let root = tempfile::tempdir().expect("a folder");
    let (out, elsewhere) = (root.path().join("out"), root.path().join("elsewhere"));
    std::fs::create_dir(&out).expect("a folder");
    std::fs::create_dir(&elsewhere).expect("a folder");
    std::os::unix::fs::symlink(&elsewhere, out.join("product")).expect("a link");
    let file = objects(&out, "{entity}/{key}.json");
    let outcome = &deliver(&file, &[item("a", 1, Some("x"))]).await[0];
    says(outcome, "Trip");
    says(outcome, "links are not followed");
    assert_eq!(names(&elsewhere), [""; 0]);

    // A link in the place of a file is replaced, and what it leads to stays.
    std::fs::write(elsewhere.join("passwd"), "root").expect("a file");
    let file = objects(&out, "{key}.json");
    std::os::unix::fs::symlink(elsewhere.join("passwd"), out.join("a.json")).expect("a link");
    takes(&file, &[item("a", 1, Some("x"))]).await;
    let kept = std::fs::read_to_string(elsewhere.join("passwd")).expect("a file");
    assert_eq!(kept, "root");
    let found = out.join("a.json").symlink_metadata().expect("a file");
    assert!(found.is_file());

    // The same of a file of lines.
    std::os::unix::fs::symlink(elsewhere.join("passwd"), out.join("all.ndjson")).expect("a link");
    says(
        &deliver(&lines(&out), &[item("a", 1, Some("1"))]).await[0],
        "Trip",
    );
    let kept = std::fs::read_to_string(elsewhere.join("passwd")).expect("a file");
    assert_eq!(kept, "root");
}

#[tokio::test]
async fn one_file_that_cannot_be_written_costs_no_other_one() {
    let root = tempfile::tempdir().expect("a folder");
    let file = objects(root.path(), "{key}");
    std::fs::create_dir(root.path().join("b")).expect("a folder");
    let items = ["a", "b", "c"].map(|key| item(key, 1, Some("x")));
    let outcomes = deliver(&file, &items).await;
    assert_eq!(outcomes[0], Outcome::Delivered);
    says(&outcomes[1], "Refused");
    assert_eq!(outcomes[2], Outcome::Delivered);
    assert_eq!(names(root.path()), ["a", "b", "c"]);
}

// One product with the key "a" and another with "a/b" stopped the export of all others.
#[tokio::test]
async fn a_key_below_the_file_of_another_one_costs_no_other_one() {
    let root = tempfile::tempdir().expect("a folder");
    let file = File::open(&Options {
        form: Form::Objects(Template::parse("{key}", true).expect("a template")),
        ..objects(root.path(), "{key}").options
    });
    takes(&file, &[item("a", 1, Some("x"))]).await;
    let below = item("a/b", 2, Some("x"));
    let outcomes = deliver(&file, &[below.clone(), item("c", 2, Some("x"))]).await;
    says(&outcomes[0], "after_tries: true");
    assert_eq!(outcomes[1], Outcome::Delivered);
    let absent = item("a/b", 3, None);
    assert_eq!(
        file.compare(&[below.clone(), absent.clone()]).await,
        Ok(vec![Held::Missing, Held::Same])
    );
    // There is nothing to remove, also the other way round.
    takes(&file, &[absent, item("a", 4, None)]).await;
    takes(&file, &[below, item("a", 5, None)]).await;
    assert_eq!(
        file.compare(&[item("a", 5, None)]).await,
        Ok(vec![Held::Same])
    );
    assert_eq!(all_keys(&file).await, ["a/b", "c"]);
    // A key that can have no file has none to remove.
    says(
        &deliver(&file, &[item("a//b", 6, Some("x"))]).await[0],
        "Refused",
    );
    takes(&file, &[item("a//b", 7, None)]).await;
}

// A key went from one product to another in one batch, whose files are written at the same time.
#[tokio::test]
async fn items_of_one_key_are_written_in_their_order() {
    let root = tempfile::tempdir().expect("a folder");
    let file = objects(root.path(), "{key}");
    let (put, delete) = (item("k", 1, Some("new")), item("k", 2, None));
    for _ in 0..5 {
        takes(&file, &[put.clone(), delete.clone()]).await;
        assert_eq!(names(root.path()), [""; 0]);
        takes(&file, &[delete.clone(), put.clone()]).await;
        assert_eq!(names(root.path()), ["k"]);
    }
}

// An export folder was a mount that was missing after a reboot; the empty folder below it was filled, and
// nobody saw it.
#[tokio::test]
async fn a_folder_that_is_missing_emptied_or_another_one_is_noticed() {
    let root = tempfile::tempdir().expect("a folder");
    let out = root.path().join("out");
    let file = objects(&out, "{key}");
    says(&deliver(&file, &[item("a", 1, Some("x"))]).await[0], "Trip");
    assert!(!out.exists());
    std::fs::create_dir(&out).expect("a folder");
    takes(&file, &[item("a", 1, Some("x"))]).await;
    let mark = file.mark().expect("a mark");

    std::fs::remove_dir_all(&out).expect("it is removed");
    std::fs::create_dir(&out).expect("a folder");
    let again = objects(&out, "{key}");
    again.take_mark(Mark {
        bytes: mark,
        exact: false,
    });
    for file in [&file, &again] {
        says(
            &deliver(file, &[item("b", 2, Some("x"))]).await[0],
            "Forgot",
        );
        assert_eq!(names(&out), [""; 0]);
        file.start_over();
        takes(file, &[item("b", 2, Some("x"))]).await;
        std::fs::remove_file(out.join("b")).expect("it is removed");
        let _ = std::fs::remove_file(out.join(".weir-folder"));
    }
}

#[tokio::test]
async fn a_line_has_type_key_sequence_and_content_and_no_break_inside() {
    let root = tempfile::tempdir().expect("a folder");
    let file = lines(root.path());
    let items = [
        item("a\n\"1\",\"sequence\":9", 7, Some("{\n  \"price\": 1\r\n}")),
        item("b", 8, None),
        Item {
            plugin: Some("page@1".into()),
            ..item("c", 9, Some("no JSON"))
        },
    ];
    takes(&file, &items).await;
    let expected = [
        json!({"type": "product", "key": "a\n\"1\",\"sequence\":9", "sequence": 7, "deleted": false, "content": {"price": 1}}),
        json!({"type": "product", "key": "b", "sequence": 8, "deleted": true}),
        json!({"type": "product", "key": "c", "sequence": 9, "deleted": false, "content": "no JSON"}),
    ];
    assert_eq!(read(&root.path().join("all.ndjson")), expected);
}

#[tokio::test]
async fn after_a_crash_only_a_torn_last_line_is_cut_and_no_whole_one() {
    let root = tempfile::tempdir().expect("a folder");
    let path = root.path().join("all.ndjson");
    let first = lines(root.path());
    takes(&first, &[item("a", 1, Some("1")), item("b", 2, Some("1"))]).await;
    let mark = first.mark().expect("a mark");
    takes(&first, &[item("c", 3, Some("1"))]).await;
    drop(first);
    let mut bytes = std::fs::read(&path).expect("a file");
    bytes.extend_from_slice(b"{\"type\":\"product\",\"key\":\"d\",\"sequ");
    std::fs::write(&path, &bytes).expect("it is written");

    // The mark is older than the file, as after a crash.
    let again = lines(root.path());
    again.take_mark(Mark {
        bytes: mark,
        exact: false,
    });
    takes(&again, &[item("d", 4, Some("1"))]).await;
    assert_eq!(sequences(&path), [1, 2, 3, 4]);
}

#[tokio::test]
async fn a_file_that_has_become_shorter_has_forgotten_what_it_acknowledged() {
    let root = tempfile::tempdir().expect("a folder");
    let path = root.path().join("all.ndjson");
    let file = lines(root.path());
    takes(&file, &[item("a", 1, Some("1")), item("b", 2, Some("1"))]).await;
    let mark = file.mark().expect("a mark");
    let cut = std::fs::OpenOptions::new()
        .write(true)
        .open(&path)
        .expect("a file");
    cut.set_len(10).expect("it is cut");

    let again = lines(root.path());
    again.take_mark(Mark {
        bytes: mark,
        exact: true,
    });
    for file in [&file, &again] {
        for _ in 0..2 {
            says(
                &deliver(file, &[item("c", 3, Some("1"))]).await[0],
                "Forgot",
            );
        }
    }
    assert_eq!(path.metadata().expect("a file").len(), 10);
    again.start_over();
    takes(&again, &[item("a", 1, Some("1")), item("c", 3, Some("1"))]).await;
    assert_eq!(sequences(&path), [1, 3]);
}

#[tokio::test]
async fn a_file_that_is_renamed_or_removed_meanwhile_is_followed_by_a_new_one() {
    let root = tempfile::tempdir().expect("a folder");
    let path = root.path().join("all.ndjson");
    let file = lines(root.path());
    takes(&file, &[item("a", 1, Some("1"))]).await;
    let old = root.path().join("all.ndjson.1");
    std::fs::rename(&path, &old).expect("it is renamed");
    takes(&file, &[item("b", 2, Some("1"))]).await;
    assert_eq!((sequences(&old), sequences(&path)), (vec![1], vec![2]));

    std::fs::remove_file(&path).expect("it is removed");
    takes(&file, &[item("c", 3, Some("1"))]).await;
    assert_eq!(sequences(&path), [3]);

    // Another program has put a file of its own there.
    std::fs::remove_file(&path).expect("it is removed");
    std::fs::write(&path, "theirs").expect("a file");
    takes(&file, &[item("d", 4, Some("1"))]).await;
    assert_eq!(sequences(&path), [4]);
}

#[tokio::test]
async fn a_new_file_begins_when_one_is_full_or_old_and_the_last_ones_are_kept() {
    let root = tempfile::tempdir().expect("a folder");
    let now = SystemTime::now();
    let file = lines_with(
        root.path(),
        Rotate {
            bytes: Some(200),
            every: None,
            keep: Some(2),
        },
    );
    for sequence in 1..=10 {
        let items = [item("a", sequence, Some("{\"price\":1}"))];
        let outcomes = deliver_at(&file, &items, now, 1_000, None).await;
        assert_eq!(outcomes, [Outcome::Delivered]);
    }
    let found = names(root.path());
    assert_eq!(found.len(), 3, "{found:?}");
    let kept: Vec<u64> = found[..2]
        .iter()
        .chain(&found[2..])
        .flat_map(|name| sequences(&root.path().join(name)))
        .collect();
    assert_eq!(kept, [5, 6, 7, 8, 9, 10], "{found:?}");
    for name in &found {
        let bytes = root.path().join(name).metadata().expect("a file").len();
        assert!(bytes <= 200, "{name}: {bytes}");
    }

    let root = tempfile::tempdir().expect("a folder");
    let day = Duration::from_secs(86_400);
    let file = lines_with(
        root.path(),
        Rotate {
            every: Some(day),
            ..Rotate::default()
        },
    );
    for (later, files) in [(Duration::ZERO, 1), (day / 2, 1), (day * 2, 2)] {
        let items = [item("a", 1, Some("1"))];
        let outcomes = deliver_at(&file, &items, now + later, 1_000, None).await;
        assert_eq!(outcomes, [Outcome::Delivered]);
        assert_eq!(names(root.path()).len(), files);
    }
}

#[tokio::test]
async fn a_file_that_is_ahead_of_weir_is_appended_to_only_on_request() {
    let root = tempfile::tempdir().expect("a folder");
    takes(&lines(root.path()), &[item("a", 900, Some("1"))]).await;
    let file = lines(root.path());
    let now = SystemTime::now();
    let items = [item("a", 400, Some("2"))];
    let outcomes = deliver_at(&file, &items, now, 500, None).await;
    assert!(
        matches!(
            outcomes[0],
            Outcome::Ahead {
                sequence: Sequence(900),
                ..
            }
        ),
        "{outcomes:?}"
    );
    let foreign = Foreign {
        first: Sequence(501),
        last: Sequence(1_000),
    };
    // A new file would hide it.
    let full = lines_with(
        root.path(),
        Rotate {
            bytes: Some(1),
            ..Rotate::default()
        },
    );
    let outcomes = deliver_at(&full, &items, now, 500, None).await;
    assert!(matches!(outcomes[0], Outcome::Ahead { .. }), "{outcomes:?}");
    let outcomes = deliver_at(&file, &items, now, 500, Some(foreign)).await;
    assert_eq!(outcomes, [Outcome::Delivered]);
    assert_eq!(sequences(&root.path().join("all.ndjson")), [900, 400]);
}

#[tokio::test]
async fn what_is_no_regular_file_is_not_written_to() {
    let root = tempfile::tempdir().expect("a folder");
    let path = root.path().join("all.ndjson");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &path,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .expect("a pipe");
    let file = lines(root.path());
    says(&deliver(&file, &[item("a", 1, Some("1"))]).await[0], "Trip");
    assert!(
        file.check()
            .await
            .expect_err("it is wrong")
            .contains("no regular file")
    );
}

#[tokio::test]
async fn a_batch_that_hangs_is_given_up_on_and_never_overtaken() {
    let root = tempfile::tempdir().expect("a folder");
    let mut file = File::open(&Options {
        timeout: Duration::from_millis(50),
        ..lines(root.path()).options
    });
    let Writer::Lines(writer, _) = &file.writer else {
        panic!("lines")
    };
    let hanging = writer.clone().lock_owned().await;
    let outcomes = deliver(&file, &[item("a", 1, Some("1"))]).await;
    says(&outcomes[0], "maybe_applied: true");
    drop(hanging);
    file.options.timeout = TIMEOUT;
    takes(&file, &[item("a", 2, Some("1"))]).await;
    assert_eq!(sequences(&root.path().join("all.ndjson")), [2]);

    // A new configuration has replaced the target meanwhile.
    let hanging = file.turn.clone().lock_owned().await;
    let mut next = File::open(&Options {
        timeout: Duration::from_millis(50),
        ..file.options.clone()
    });
    drop(file);
    let outcomes = deliver(&next, &[item("a", 3, Some("1"))]).await;
    says(&outcomes[0], "maybe_applied: true");
    drop(hanging);
    next.options.timeout = TIMEOUT;
    takes(&next, &[item("a", 4, Some("1"))]).await;
    assert_eq!(sequences(&root.path().join("all.ndjson")), [2, 4]);
}

// A drift check read a file on a disk that did not answer, and nothing else could start over.
#[tokio::test]
async fn a_drift_check_that_hangs_is_given_up_on_and_nothing_waits_for_it() {
    let root = tempfile::tempdir().expect("a folder");
    let mut file = File::open(&Options {
        timeout: Duration::from_millis(10),
        ..lines(root.path()).options
    });
    let hanging = file.look.clone().lock_owned().await;
    let items = [item("a", 1, Some("1"))];
    let wrong = file.compare(&items).await.expect_err("it hangs");
    assert!(wrong.contains("could not be read within"), "{wrong}");
    let wrong = file.keys(None).await.expect_err("it hangs");
    assert!(wrong.contains("could not be read within"), "{wrong}");
    file.start_over();
    drop(hanging);
    file.options.timeout = TIMEOUT;
    assert_eq!(file.compare(&items).await, Ok(vec![Held::Missing]));
}

/// A small disk. `None` if this user may mount none.
struct Small(PathBuf);

impl Small {
    fn mount(folder: &Path) -> Option<Small> {
        let at = folder.join("small");
        std::fs::create_dir(&at).expect("a folder");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=1m", "none"])
            .arg(&at)
            .output()
            .is_ok_and(|output| output.status.success());
        if !mounted {
            eprintln!("NOT RUN: no root here; files on a full disk were not tested");
        }
        mounted.then_some(Small(at))
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

#[tokio::test]
async fn a_full_disk_trips_the_target_and_leaves_what_was_there_as_it_was() {
    let root = tempfile::tempdir().expect("a folder");
    let Some(small) = Small::mount(root.path()) else {
        return;
    };
    let whole = objects(&small.0, "{key}");
    let appended = lines(&small.0);
    takes(&whole, &[item("a", 1, Some("old"))]).await;
    takes(&appended, &[item("a", 1, Some("1"))]).await;
    let large = "x".repeat(2 << 20);
    for file in [&whole, &appended] {
        let outcome = &deliver(file, &[item("a", 2, Some(&large))]).await[0];
        says(outcome, "Trip");
        says(outcome, "the disk is full");
    }
    assert_eq!(
        std::fs::read_to_string(small.0.join("a")).expect("a file"),
        "old"
    );
    assert_eq!(names(&small.0), ["a", "all.ndjson"]);
    // There is room again, because what was half written is gone.
    let bytes = small.0.join("all.ndjson").metadata().expect("a file").len();
    assert!(bytes < 100, "{bytes}");
    takes(&whole, &[item("a", 3, Some("new"))]).await;
    takes(&appended, &[item("a", 3, Some("1"))]).await;
    assert_eq!(sequences(&small.0.join("all.ndjson")), [1, 3]);
}

fn drifted() -> (Vec<Item>, Vec<Held>) {
    [
        (item("same", 5, Some("{\"price\":1}")), Held::Same),
        (
            item("other", 5, Some("{\"price\":2}")),
            Held::Different(vec![]),
        ),
        (item("extra", 6, None), Held::Extra),
        (item("gone", 5, Some("{\"price\":1}")), Held::Missing),
        (item("never", 5, None), Held::Same),
    ]
    .into_iter()
    .unzip()
}

async fn all_keys(file: &File) -> Vec<String> {
    let (mut keys, mut after) = (Vec::new(), None);
    loop {
        let page = file.keys(after.as_deref()).await.expect("a page");
        keys.extend(page.keys);
        after = page.next;
        if after.is_none() {
            keys.sort_unstable();
            return keys;
        }
    }
}

#[tokio::test]
async fn drift_of_files_is_found_and_all_keys_are_listed() {
    let root = tempfile::tempdir().expect("a folder");
    let file = objects(root.path(), "{entity}/{key}.json");
    let keys = ["same", "other", "extra", "gone"];
    takes(&file, &keys.map(|key| item(key, 5, Some("{\"price\":1}")))).await;
    let within = root.path().join("product");
    std::fs::remove_file(within.join("gone.json")).expect("it is removed");
    std::fs::write(within.join("not ours.json"), "").expect("a file");
    std::fs::create_dir(within.join("deep")).expect("a folder");
    std::fs::write(within.join("deep/a.json"), "").expect("a file");
    let (items, mut expected) = drifted();
    expected[1] = Held::Different(vec!["content".into()]);
    assert_eq!(file.compare(&items).await, Ok(expected));
    assert_eq!(all_keys(&file).await, ["extra", "other", "same"]);

    let many: Vec<String> = (0..12_000).map(|number| format!("k{number:05}")).collect();
    for key in &many {
        std::fs::write(within.join(format!("{key}.json")), "").expect("a file");
    }
    let listed = all_keys(&file).await;
    assert_eq!(listed.len(), many.len() + 3);
    // The second page is found again without the first.
    let second = file.keys(Some("5000")).await.expect("a page");
    assert_eq!(second.next.as_deref(), Some("10000"));
}

#[tokio::test]
async fn drift_of_lines_is_found_in_old_files_too_and_all_keys_are_listed() {
    let root = tempfile::tempdir().expect("a folder");
    let file = lines_with(
        root.path(),
        Rotate {
            bytes: Some(300),
            ..Rotate::default()
        },
    );
    for key in ["same", "other", "extra", "gone", "older"] {
        takes(&file, &[item(key, 4, Some("{\"price\":0}"))]).await;
        takes(&file, &[item(key, 5, Some("{\"price\":1}"))]).await;
    }
    takes(&file, &[item("gone", 6, None)]).await;
    assert!(names(root.path()).len() > 2);
    let (mut items, mut expected) = drifted();
    expected[1] = Held::Different(vec!["/content".into()]);
    items.push(item("older", 9, Some("{\"price\":9}")));
    expected.push(Held::Older(Sequence(5)));
    assert_eq!(file.compare(&items).await, Ok(expected));
    assert_eq!(all_keys(&file).await, ["extra", "older", "other", "same"]);

    // What was appended meanwhile is read, and nothing else again.
    takes(&file, &[item("gone", 7, Some("{\"price\":1}"))]).await;
    let found = file
        .compare(&[item("gone", 7, Some("{\"price\":1}"))])
        .await;
    assert_eq!(found, Ok(vec![Held::Same]));

    let many: Vec<Item> = (0..12_000)
        .map(|number| item(&format!("k{number}"), 8, Some("1")))
        .collect();
    takes(&file, &many).await;
    let keys: BTreeMap<String, ()> = all_keys(&file)
        .await
        .into_iter()
        .map(|key| (key, ()))
        .collect();
    assert_eq!(keys.len(), many.len() + 5);
}

// A file was emptied and had grown again: a drift check went on where it had stopped, in the middle of a line.
#[tokio::test]
async fn a_file_that_was_cut_between_two_looks_is_read_anew() {
    let root = tempfile::tempdir().expect("a folder");
    let (writer, reader) = (lines(root.path()), lines(root.path()));
    let before = [item("a", 1, Some("1")), item("b", 2, Some("1"))];
    takes(&writer, &before).await;
    let same = vec![Held::Same, Held::Same];
    assert_eq!(reader.compare(&before).await, Ok(same));
    std::fs::write(root.path().join("all.ndjson"), "").expect("it is emptied");
    writer.start_over();
    let newer = item("a", 3, Some("2"));
    takes(&writer, std::slice::from_ref(&newer)).await;
    let more: Vec<Item> = (4..20)
        .map(|sequence| item("c", sequence, Some("1")))
        .collect();
    takes(&writer, &more).await;
    let [_, gone] = before;
    assert_eq!(
        reader.compare(&[newer, gone]).await,
        Ok(vec![Held::Same, Held::Missing])
    );
}

#[tokio::test]
async fn a_check_says_whether_files_can_be_written() {
    let root = tempfile::tempdir().expect("a folder");
    assert_eq!(objects(root.path(), "{key}").check().await, Ok(vec![]));
    assert_eq!(lines(root.path()).check().await, Ok(vec![]));
    assert_eq!(names(root.path()), [""; 0]);
    let missing = objects(&root.path().join("no"), "{key}").check().await;
    assert!(missing.expect_err("it is wrong").contains("create it"));
    // Root may write everywhere but in /proc.
    let refused = objects(Path::new("/proc"), "{key}").check().await;
    assert!(
        refused
            .expect_err("it is wrong")
            .contains("no file can be written")
    );
}
