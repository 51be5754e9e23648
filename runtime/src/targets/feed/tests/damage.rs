//! Files that were lost, damaged, or are of another time than the store: the feed says that it has forgotten,
//! and shows the last generation until everything is there again. And files that cannot be written.

use std::fs;

use super::*;

/// A feed with a published generation and a change since, as a killed process leaves it, and its mark.
async fn killed() -> (tempfile::TempDir, Mark) {
    let (folder, feed) = begin();
    puts(&feed, 0..1_000, 1, 1).await;
    published(&feed).await;
    feed.walked(false);
    puts(&feed, 0..10, 2, 2).await;
    let mark = marked(&feed, false);
    drop(feed);
    (folder, mark)
}

/// Opens it again; delivers one change.
async fn again(folder: &Path, mark: Option<Mark>) -> (Feed, Vec<Outcome>) {
    let feed = open(folder, &options());
    if let Some(mark) = mark {
        feed.take_mark(mark);
    }
    let outcomes = deliver(&feed, &[item("new", 5, Some(5))]).await;
    (feed, outcomes)
}

#[track_caller]
fn is_forgotten(outcomes: &[Outcome], words: &str) {
    assert!(
        matches!(&outcomes[0], Outcome::Forgot { reason } if reason.contains(words)),
        "{outcomes:?}"
    );
}

fn file(folder: &Path, prefix: &str) -> PathBuf {
    let files = fs::read_dir(folder).expect("a folder").flatten();
    let mut files: Vec<_> = files
        .map(|it| it.path())
        .filter(|it| {
            it.file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with(prefix))
        })
        .collect();
    files.sort();
    files.pop().unwrap_or_else(|| panic!("no {prefix}"))
}

#[tokio::test]
async fn a_killed_process_loses_nothing_that_was_acknowledged() {
    let (folder, mark) = killed().await;
    let (feed, outcomes) = again(folder.path(), Some(mark)).await;
    assert_eq!(outcomes, [Outcome::Delivered]);
    assert_eq!(feed.published().expect("it is served").records, 1_000);
    let all = published(&feed).await;
    let mut expected = expected(10..1_000, 1);
    expected.extend(self::expected(0..10, 2));
    expected.insert("new".into(), 5);
    assert_eq!(records(&content(&all)), expected);
}

#[tokio::test]
async fn a_torn_end_of_the_log_is_cut_if_nobody_relied_on_it() {
    let (folder, mark) = killed().await;
    let log = file(folder.path(), "log.");
    let whole = fs::read(&log).expect("the log");
    fs::write(&log, [&whole[..], &whole[..20]].concat()).expect("written");
    let (_feed, outcomes) = again(folder.path(), Some(mark.clone())).await;
    assert_eq!(outcomes, [Outcome::Delivered]);
    drop(_feed);
    // A part that was acknowledged is missing.
    fs::write(&log, &whole[..whole.len() - 5]).expect("written");
    let (_feed, outcomes) = again(folder.path(), Some(mark)).await;
    is_forgotten(&outcomes, "lack what was acknowledged");
}

#[tokio::test]
async fn damaged_files_are_forgotten_and_the_last_generation_stays_until_all_is_there_again() {
    for (prefix, words) in [
        ("log.", "lack what was acknowledged"),
        ("index.", "are damaged"),
        ("manifest", "damaged"),
    ] {
        let (folder, mark) = killed().await;
        let path = file(folder.path(), prefix);
        let mut bytes = fs::read(&path).expect("a file");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&path, bytes).expect("written");
        let (feed, outcomes) = again(folder.path(), Some(mark)).await;
        is_forgotten(&outcomes, words);
        assert!(
            feed.forgot().is_some_and(|why| why.contains(words)),
            "{prefix}"
        );
        // All channels owe everything, and send it.
        feed.start_over();
        assert_eq!((feed.mark(), feed.forgot()), (None, None));
        puts(&feed, 0..900, 7, 7).await;
        if prefix != "manifest" {
            assert_eq!(feed.published().expect("the last one stays").records, 1_000);
        }
        let new = published(&feed).await;
        assert_eq!(records(&content(&new)), expected(0..900, 7), "{prefix}");
    }
}

// The file of a feed is its base as well: a changed byte in it would be served for ever.
#[tokio::test]
async fn a_damaged_generation_is_noticed_when_the_next_one_is_built() {
    let (folder, mark) = killed().await;
    let path = file(folder.path(), "generation.");
    let path = path.with_extension("").with_extension(
        path.file_stem()
            .and_then(|it| it.to_str())
            .and_then(|it| it.split('.').nth(1))
            .unwrap_or_default(),
    );
    let mut bytes = fs::read(&path).expect("the generation");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, bytes).expect("written");
    let (feed, outcomes) = again(folder.path(), Some(mark)).await;
    assert_eq!(outcomes, [Outcome::Delivered]);
    feed.walked(true);
    let why = until("noticed", || feed.forgot()).await;
    assert!(why.contains("differs from what was written"), "{why}");
    // The same content as before the damage: the damaged file is not taken for it.
    feed.start_over();
    puts(&feed, 0..1_000, 7, 1).await;
    let mended = published(&feed).await;
    assert_eq!(records(&content(&mended)), expected(0..1_000, 1));
}

// Nobody else writes there, but a disk that is full makes Weir open its files again while a generation is built,
// and what is in no manifest is removed then.
#[tokio::test]
async fn a_generation_whose_files_are_gone_does_not_replace_the_last_one() {
    let (folder, feed) = begin();
    puts(&feed, 0..100, 1, 1).await;
    let first = published(&feed).await;
    feed.walked(false);
    puts(&feed, 0..1, 2, 2).await;
    let shared = feed.shared.clone();
    let built = tokio::task::spawn_blocking(move || {
        let (header, footer) = (shared.writer.header(), shared.writer.footer());
        let wanted = disk::Wanted {
            header: &header,
            footer: &footer,
            content_type: "text/csv",
            shrink_max: 0.2,
            complete: &true.into(),
            now: 1,
        };
        let gone = |_: &manifest::Generation| -> std::io::Result<fn()> {
            Err(std::io::ErrorKind::NotFound.into())
        };
        shared.disk.build(&wanted, gone).map(drop)
    });
    let built = built.await.expect("it ends");
    assert!(
        matches!(&built, Err(Trouble::Failed(why)) if why.contains("cannot be opened")),
        "{built:?}"
    );
    let mark = marked(&feed, false);
    drop(feed);
    let (feed, outcomes) = again(folder.path(), Some(mark)).await;
    assert_eq!(outcomes, [Outcome::Delivered]);
    let still = feed.published().expect("it is served");
    assert_eq!(content(&still), content(&first));
    assert_eq!(published(&feed).await.records, 101);
}

#[tokio::test]
async fn a_packed_form_that_is_gone_is_made_again() {
    let (folder, mark) = killed().await;
    let packed = file(folder.path(), "generation.");
    assert!(packed.extension().is_some_and(|it| it == "gz"));
    fs::remove_file(packed).expect("removed");
    let feed = open(folder.path(), &options());
    feed.take_mark(mark);
    feed.walked(true);
    let why = until("noticed", || feed.forgot()).await;
    assert!(why.contains("are damaged"), "{why}");
    feed.start_over();
    puts(&feed, 0..1_000, 7, 1).await;
    assert_eq!(
        records(&content(&*published(&feed).await)),
        expected(0..1_000, 1)
    );
}

#[tokio::test]
async fn files_that_are_gone_are_forgotten_also_while_it_runs() {
    let (folder, mark) = killed().await;
    fs::remove_dir_all(folder.path()).expect("removed");
    let (feed, outcomes) = again(folder.path(), Some(mark)).await;
    is_forgotten(&outcomes, "are gone");
    feed.start_over();
    puts(&feed, 0..10, 6, 6).await;
    published(&feed).await;
    fs::remove_dir_all(folder.path()).expect("removed");
    let outcomes = deliver(&feed, &[item("x", 7, Some(7))]).await;
    is_forgotten(&outcomes, "is gone or was replaced");
}

#[tokio::test]
async fn a_store_from_an_earlier_copy_is_noticed_beside_newer_files() {
    let (folder, feed) = begin();
    puts(&feed, 0..10, 1, 1).await;
    let exact = marked(&feed, true);
    let later = SystemTime::now() + Duration::from_secs(5);
    deliver_at(&feed, &[item("later", 2, Some(2))], 1_000, later).await;
    let inexact = marked(&feed, false);
    drop(feed);
    let (feed, outcomes) = again(folder.path(), Some(exact)).await;
    is_forgotten(&outcomes, "newer than the store");
    drop(feed);
    // Some seconds without a mark are those of a kill.
    let (feed, outcomes) = again(folder.path(), Some(inexact.clone())).await;
    assert_eq!(outcomes, [Outcome::Delivered]);
    let later = SystemTime::now() + Duration::from_secs(3_600);
    deliver_at(&feed, &[item("much later", 6, Some(2))], 1_000, later).await;
    drop(feed);
    let (feed, outcomes) = again(folder.path(), Some(inexact)).await;
    is_forgotten(&outcomes, "newer than the store");
    drop(feed);
    // A store that knows nothing of them.
    let (_feed, outcomes) = again(folder.path(), None).await;
    is_forgotten(&outcomes, "the store knows nothing of");
}

#[tokio::test]
async fn states_that_are_newer_than_the_store_are_forgotten_unless_it_has_jumped_over_them() {
    let (folder, feed) = begin();
    puts(&feed, 0..1, 900, 1).await;
    let now = SystemTime::now();
    // One that began earlier and comes later knows an older head.
    let late = [item("late", 10, Some(1))];
    assert_eq!(
        deliver_at(&feed, &late, 10, now).await,
        [Outcome::Delivered]
    );
    let mark = marked(&feed, false);
    drop(feed);
    let feed = open(folder.path(), &options());
    feed.take_mark(mark);
    let items = [item("a", 10, Some(1))];
    let outcomes = deliver_at(&feed, &items, 10, now).await;
    is_forgotten(&outcomes, "sequence 900");
    let attempt = Attempt {
        now,
        head: Sequence(10),
        foreign: Some(crate::targets::Foreign {
            first: Sequence(11),
            last: Sequence(1_000),
        }),
        ..sample::attempt(&items)
    };
    assert_eq!(feed.deliver(attempt).await.outcomes, [Outcome::Delivered]);
}

#[tokio::test]
async fn a_build_that_cannot_be_written_leaves_the_last_generation_and_is_tried_again() {
    let (folder, feed) = begin();
    puts(&feed, 0..100, 1, 1).await;
    let first = published(&feed).await;
    feed.walked(false);
    // A folder where a file has to be: whatever number is next.
    let next: Vec<_> = (0..60)
        .map(|number| folder.path().join(format!("generation.{number}")))
        .filter(|path| !path.exists())
        .collect();
    next.iter()
        .for_each(|path| fs::create_dir(path).expect("a folder"));
    puts(&feed, 0..10, 2, 2).await;
    feed.walked(true);
    let why = until("a reason", || feed.status().reason).await;
    assert!(
        why.contains("the next generation cannot be written"),
        "{why}"
    );
    let still = feed.published().expect("the last one");
    assert_eq!(still.plain.digest, first.plain.digest);
    assert_eq!(
        deliver(&feed, &[item("x", 3, Some(3))]).await,
        [Outcome::Delivered]
    );
    next.iter().for_each(|path| drop(fs::remove_dir(path)));
    let second = published(&feed).await;
    assert_eq!(second.records, 101);
}

/// The drift check: what the feed holds beside what it should hold.
#[tokio::test]
async fn differences_are_found_and_keys_are_listed_page_by_page() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("out.csv");
    let with_path = Options {
        path: Some(path.clone()),
        ..options()
    };
    let feed = open(&folder.path().join("own"), &with_path);
    puts(&feed, 0..2_500, 5, 1).await;
    published(&feed).await;
    feed.walked(false);
    puts(&feed, 7..8, 6, 7).await;
    deletes(&feed, 8..9, 6).await;
    puts(&feed, 9_000..9_001, 6, 1).await;
    let items = [
        item(&name(0), 5, Some(1)),
        item(&name(1), 9, Some(2)),
        item(&name(2), 5, Some(2)),
        item(&name(3), 5, None),
        item("none", 5, Some(1)),
        item("none", 5, None),
        item(&name(7), 6, Some(7)),
        item(&name(8), 6, None),
    ];
    let held = feed.compare(&items).await.expect("it can be read");
    let expected = [
        Held::Same,
        Held::Older(Sequence(5)),
        Held::Different(Vec::new()),
        Held::Extra,
        Held::Missing,
        Held::Same,
        Held::Same,
        Held::Same,
    ];
    assert_eq!(held, expected);
    let (mut keys, mut after) = (Vec::new(), None);
    loop {
        let page = feed.keys(after.as_deref()).await.expect("it can be read");
        assert!(page.keys.len() <= 1_000);
        keys.extend(page.keys);
        match page.next {
            Some(next) => after = Some(next),
            None => break,
        }
    }
    let expected: Vec<String> = (0..2_500)
        .filter(|it| *it != 8)
        .chain([9_000])
        .map(name)
        .collect();
    assert_eq!(keys, expected);
    // More deletions in a row than a page is made of.
    let gone: Vec<Item> = (20_000..25_000)
        .map(|key| item(&name(key), 7, None))
        .collect();
    deliver(&feed, &gone).await;
    puts(&feed, 30_000..30_001, 7, 1).await;
    let (mut last, mut after) = (None, Some(name(19_999)));
    while let Some(from) = after {
        let page = feed.keys(Some(&from)).await.expect("it can be read");
        last = page.keys.last().cloned().or(last);
        after = page.next;
    }
    assert_eq!(last, Some(name(30_000)));
    // Somebody has changed the file at the path.
    let mut text = fs::read_to_string(&path).expect("the file");
    text = text.replacen("k000000,1", "k000000,9", 1);
    fs::write(&path, text).expect("written");
    let held = feed.compare(&items[..1]).await.expect("it can be read");
    assert_eq!(held, [Held::Different(vec!["the file at path".into()])]);
    let held = feed
        .compare(&[item(&name(5), 5, Some(1))])
        .await
        .expect("it can be read");
    assert_eq!(held, [Held::Same], "the others are as they were");
    fs::remove_file(&path).expect("removed");
    assert!(feed.compare(&items[..1]).await.is_err());
}
