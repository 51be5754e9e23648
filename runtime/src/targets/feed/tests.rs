//! Feeds on disk: what is published, what survives, and what is noticed.

mod damage;
mod full;
mod put;

use std::collections::BTreeMap;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use super::*;
use crate::model::{Payload, Rendering};
use crate::targets::sample;

/// Longer than any story needs.
const PATIENCE: Duration = Duration::from_secs(60);

fn options() -> Options {
    Options {
        format: Format::Csv(Delimited::csv()),
        fields: ["key", "price"]
            .map(|name| Field {
                name: name.to_owned(),
                pointer: format!("/{name}"),
            })
            .into(),
        interval: Duration::from_millis(20),
        shrink_max: 0.2,
        path: None,
        to: None,
        serve: None,
    }
}

fn open(folder: &Path, options: &Options) -> Feed {
    Feed::open(options, &Opening::empty(folder.to_owned())).expect("it opens")
}

/// A feed, and a folder that goes with it.
fn begin() -> (tempfile::TempDir, Feed) {
    let folder = tempfile::tempdir().expect("a folder");
    let feed = open(folder.path(), &options());
    (folder, feed)
}

fn item(key: &str, sequence: u64, price: Option<u64>) -> Item {
    let body = price.map(|price| format!("{{\"key\":{key:?},\"price\":{price}}}"));
    sample::item(key, sequence, body.as_deref())
}

async fn deliver_at(feed: &Feed, items: &[Item], head: u64, now: SystemTime) -> Vec<Outcome> {
    let attempt = Attempt {
        now,
        head: Sequence(head),
        ..sample::attempt(items)
    };
    feed.deliver(attempt).await.outcomes
}

async fn deliver(feed: &Feed, items: &[Item]) -> Vec<Outcome> {
    deliver_at(feed, items, 1_000_000, SystemTime::now()).await
}

async fn puts(feed: &Feed, keys: std::ops::Range<u64>, sequence: u64, price: u64) {
    let items: Vec<Item> = keys
        .map(|key| item(&name(key), sequence, Some(price)))
        .collect();
    for items in items.chunks(1_000) {
        let outcomes = deliver(feed, items).await;
        assert!(
            outcomes.iter().all(|it| *it == Outcome::Delivered),
            "{:?}",
            outcomes[0]
        );
    }
}

async fn deletes(feed: &Feed, keys: std::ops::Range<u64>, sequence: u64) {
    let items: Vec<Item> = keys.map(|key| item(&name(key), sequence, None)).collect();
    let outcomes = deliver(feed, &items).await;
    assert!(outcomes.iter().all(|it| *it == Outcome::Delivered));
}

fn name(number: u64) -> String {
    format!("k{number:06}")
}

async fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(began.elapsed() < PATIENCE, "not: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn bytes(form: &Form) -> Vec<u8> {
    let mut bytes = vec![0; form.length as usize];
    form.file.read_exact_at(&mut bytes, 0).expect("whole");
    bytes
}

/// The plain file, after a look at the packed one and at both digests.
fn content(published: &Published) -> String {
    let (plain, packed) = (bytes(&published.plain), bytes(&published.gzip));
    let mut unpacked = Vec::new();
    // It reads one member, as wget and curl do, which takes the first of several for the whole file.
    let mut reader = flate2::read::GzDecoder::new(&packed[..]);
    reader.read_to_end(&mut unpacked).expect("gzip");
    assert!(unpacked == plain, "both forms hold the same");
    let digest = |bytes| format!("{:032x}", xxhash_rust::xxh3::xxh3_128(bytes));
    assert_eq!(digest(&plain), published.plain.digest);
    assert_eq!(digest(&packed), published.gzip.digest);
    String::from_utf8(plain).expect("UTF-8")
}

/// The records of a feed: keys with prices.
fn records(content: &str) -> BTreeMap<String, u64> {
    let mut lines = content.split_terminator("\r\n");
    assert_eq!(lines.next(), Some("key,price"));
    let lines: Vec<(String, u64)> = lines
        .map(|line| line.split_once(',').expect("two columns"))
        .map(|(key, price)| (key.to_owned(), price.parse().expect("a number")))
        .collect();
    assert!(lines.is_sorted(), "in the order of the keys");
    let count = lines.len();
    let records: BTreeMap<_, _> = lines.into_iter().collect();
    assert_eq!(records.len(), count, "each key once");
    records
}

fn expected(keys: impl IntoIterator<Item = u64>, price: u64) -> BTreeMap<String, u64> {
    keys.into_iter().map(|key| (name(key), price)).collect()
}

/// Waits until everything is published, and returns it.
async fn published(feed: &Feed) -> Arc<Published> {
    feed.walked(true);
    until("published", || {
        let status = feed.status();
        let done = status.unpublished == 0 && !status.path_due && status.reason.is_none();
        feed.published().filter(|_| done)
    })
    .await
}

fn marked(feed: &Feed, exact: bool) -> Mark {
    Mark {
        bytes: feed.mark().expect("a mark"),
        exact,
    }
}

#[tokio::test]
async fn a_generation_has_the_newest_state_of_everything_in_order() {
    let (_folder, feed) = begin();
    puts(&feed, 0..3_000, 1, 1).await;
    puts(&feed, 1_000..1_100, 2, 2).await;
    deletes(&feed, 0..10, 3).await;
    // An older one that comes late.
    puts(&feed, 0..1, 2, 7).await;
    assert!(
        feed.published().is_none(),
        "nothing is shown before everything was met"
    );
    let first = published(&feed).await;
    let mut expected = expected(10..3_000, 1);
    expected.extend(self::expected(1_000..1_100, 2));
    assert_eq!(records(&content(&first)), expected);
    assert_eq!((first.records, first.sequence), (2_990, 3));

    deletes(&feed, 2_999..3_000, 4).await;
    puts(&feed, 5_000..5_001, 5, 5).await;
    let second = published(&feed).await;
    expected.remove(&name(2_999));
    expected.insert(name(5_000), 5);
    assert_eq!(records(&content(&second)), expected);
    assert_eq!(second.id, first.id + 1);
    assert_eq!(first.records, 2_990, "a download of the first one goes on");
    assert_eq!(content(&first).lines().count(), 2_991);
}

#[tokio::test]
async fn nothing_is_published_while_the_channel_has_not_met_everything() {
    let (_folder, feed) = begin();
    puts(&feed, 0..100, 1, 1).await;
    published(&feed).await;
    feed.walked(false);
    puts(&feed, 0..50, 2, 2).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    let held = feed.published().expect("the last one stays");
    assert_eq!(records(&content(&held)), expected(0..100, 1));
    let reason = feed.status().reason.expect("a reason");
    assert!(reason.contains("not met all"), "{reason}");
    let whole = published(&feed).await;
    assert_eq!(records(&content(&whole))[&name(0)], 2);
}

// A new ETag for an equal file made receivers read two million products each quarter of an hour.
#[tokio::test]
async fn the_same_state_has_the_same_bytes_and_keeps_its_validators() {
    let (_folder, feed) = begin();
    puts(&feed, 0..2_000, 1, 1).await;
    let first = published(&feed).await;
    puts(&feed, 0..2_000, 2, 1).await;
    let second = published(&feed).await;
    assert_eq!(
        (
            second.id,
            &second.plain.digest,
            &second.gzip.digest,
            second.modified
        ),
        (
            first.id,
            &first.plain.digest,
            &first.gzip.digest,
            first.modified
        )
    );
    let (_other, other) = begin();
    for key in (0..2_000).rev() {
        if key % 500 == 0 {
            puts(&other, key..key + 500, 9, 1).await;
        }
    }
    let other = published(&other).await;
    assert_eq!(other.plain.digest, first.plain.digest);
    assert_eq!(other.gzip.digest, first.gzip.digest);
}

#[tokio::test]
async fn the_next_generation_waits_for_the_interval_and_says_until_when() {
    let folder = tempfile::tempdir().expect("a folder");
    let slow = Options {
        interval: Duration::from_secs(3_600),
        ..options()
    };
    let feed = open(folder.path(), &slow);
    puts(&feed, 0..10, 1, 1).await;
    published(&feed).await;
    puts(&feed, 0..1, 2, 2).await;
    let status = feed.status();
    let next = status.next.expect("a time");
    let wait = next.saturating_sub(millis(SystemTime::now()));
    assert!((3_500_000..=3_600_000).contains(&wait), "{wait}");
    assert_eq!((status.unpublished, status.reason), (1, None));
    assert!(feed.is_unpublished(&name(0)) && !feed.is_unpublished(&name(1)));
    // Also after a restart.
    let mark = marked(&feed, false);
    drop(feed);
    let feed = open(folder.path(), &slow);
    feed.take_mark(mark);
    assert!(feed.published().is_some(), "it is served at once");
    feed.walked(true);
    let next = until("looked", || {
        feed.status().next.filter(|_| feed.is_unpublished(&name(0)))
    })
    .await;
    let wait = next.saturating_sub(millis(SystemTime::now()));
    assert!((3_400_000..=3_600_000).contains(&wait), "{wait}");
}

#[tokio::test]
async fn a_generation_that_shrank_waits_for_an_operator() {
    let (folder, feed) = begin();
    puts(&feed, 0..1_000, 1, 1).await;
    published(&feed).await;
    // 15 % at a time: what counts is the most since a confirmation.
    deletes(&feed, 0..150, 2).await;
    published(&feed).await;
    assert!(!feed.confirm().await.expect("it can"), "nothing is held");
    deletes(&feed, 150..300, 3).await;
    let held = until("held", || feed.status().shrank).await;
    assert_eq!(held, (1_000, 700));
    let reason = feed.status().reason.expect("a reason");
    assert!(
        reason.contains("700 records and there were 1000"),
        "{reason}"
    );
    assert_eq!(feed.published().expect("the last one").records, 850);
    // A restart does not publish it.
    let mark = marked(&feed, false);
    drop(feed);
    let feed = open(folder.path(), &options());
    feed.take_mark(mark);
    feed.walked(true);
    until("held again", || feed.status().shrank).await;
    assert_eq!(feed.published().expect("the last one").records, 850);
    assert!(feed.confirm().await.expect("it is kept"));
    let confirmed = published(&feed).await;
    assert_eq!(records(&content(&confirmed)), expected(300..1_000, 1));
    assert_eq!(feed.status().shrank, None);
}

#[tokio::test]
async fn an_empty_first_generation_waits_for_an_operator() {
    let (_folder, feed) = begin();
    feed.walked(true);
    until("held", || {
        feed.status()
            .reason
            .filter(|it| it.contains("no record yet"))
    })
    .await;
    assert!(feed.published().is_none());
    assert!(feed.confirm().await.expect("it is kept"));
    let empty = until("published", || feed.published()).await;
    assert_eq!(content(&empty), "key,price\r\n");
}

// The state of a feed said for a quarter of an hour that it had no record, though some had been delivered.
#[tokio::test]
async fn a_feed_that_was_empty_says_when_what_was_delivered_since_is_published() {
    let folder = tempfile::tempdir().expect("a folder");
    let slow = Options {
        interval: Duration::from_secs(3_600),
        ..options()
    };
    let feed = open(folder.path(), &slow);
    feed.walked(true);
    until("empty", || {
        let reason = feed.status().reason;
        reason.filter(|it| it.contains("no record yet"))
    })
    .await;
    puts(&feed, 0..10, 1, 1).await;
    let status = feed.status();
    assert_eq!((status.unpublished, status.reason), (10, None));
    assert!(status.next.is_some());
    assert!(feed.confirm().await.expect("it is kept"), "or at once");
    let first = until("published", || feed.published()).await;
    assert_eq!(records(&content(&first)), expected(0..10, 1));
}

#[tokio::test]
async fn what_the_format_cannot_hold_is_refused_alone() {
    let (_folder, feed) = begin();
    let mut wrong = item("b", 1, Some(1));
    wrong.rendering = Some(Arc::new(Rendering {
        key: None,
        content_type: None,
        body: Payload::Text("<xml/>".into()),
    }));
    let outcomes = deliver(
        &feed,
        &[item("a", 1, Some(1)), wrong, item("c", 1, Some(1))],
    )
    .await;
    assert!(matches!(&outcomes[1], Outcome::Refused { reason, .. } if reason.contains("not JSON")));
    assert_eq!(
        (&outcomes[0], &outcomes[2]),
        (&Outcome::Delivered, &Outcome::Delivered)
    );
    assert_eq!(published(&feed).await.records, 2);
}

/// More than memory holds: runs are written and merged.
#[tokio::test]
async fn changes_beyond_memory_become_runs_and_are_all_published() {
    let (folder, feed) = begin();
    let long = "x".repeat(60_000);
    for round in 0..3_u64 {
        for keys in (0..600).step_by(100) {
            let items: Vec<Item> = (keys..keys + 100)
                .map(|key| {
                    let mut item = item(&name(key), 1 + round, Some(round));
                    let body = format!(
                        "{{\"key\":{:?},\"price\":{round},\"x\":{long:?}}}",
                        name(key)
                    );
                    item.rendering = Some(Arc::new(Rendering {
                        key: None,
                        content_type: None,
                        body: Payload::Text(body),
                    }));
                    item
                })
                .collect();
            deliver(&feed, &items).await;
        }
    }
    // The records are short, so the runs of this test are written by hand.
    for round in 3..40 {
        let shared = feed.shared.clone();
        let spilled = tokio::task::spawn_blocking(move || shared.disk.spill_now()).await;
        spilled.expect("it ends").expect("it can");
        puts(&feed, 0..600, 1 + round, round).await;
    }
    let runs = std::fs::read_dir(folder.path())
        .expect("a folder")
        .flatten();
    let runs = runs.filter(|it| it.file_name().to_string_lossy().starts_with("run."));
    assert!(runs.count() <= 33, "they are merged when there are many");
    let all = published(&feed).await;
    assert_eq!(records(&content(&all)), expected(0..600, 39));
}

// A generation that was held for a week left a run, and an open file, each quarter of an hour.
#[tokio::test]
async fn runs_are_merged_also_while_a_generation_is_held() {
    let folder = tempfile::tempdir().expect("a folder");
    let slow = Options {
        interval: Duration::from_secs(3_600),
        ..options()
    };
    let feed = open(folder.path(), &slow);
    puts(&feed, 0..100, 1, 1).await;
    published(&feed).await;
    deletes(&feed, 0..50, 2).await;
    for round in 0..40_u64 {
        puts(&feed, 60..61, 3 + round, round).await;
        let shared = feed.shared.clone();
        let built = tokio::task::spawn_blocking(move || shared.publish());
        built.await.expect("it ends");
        assert_eq!(feed.status().shrank, Some((100, 50)));
    }
    let files = std::fs::read_dir(folder.path())
        .expect("a folder")
        .flatten();
    let runs = files.filter(|it| it.file_name().to_string_lossy().starts_with("run."));
    assert!(runs.count() <= 33, "they are merged when there are many");
    assert!(feed.confirm().await.expect("it is kept"));
    let mut expected = expected(50..100, 1);
    expected.insert(name(60), 39);
    assert_eq!(records(&content(&*published(&feed).await)), expected);
}

#[tokio::test]
async fn blocks_that_have_not_changed_are_not_packed_again() {
    let (folder, feed) = begin();
    puts(&feed, 0..50_000, 1, 1).await;
    let first = published(&feed).await;
    puts(&feed, 20_000..20_001, 2, 2).await;
    let second = published(&feed).await;
    content(&second);
    // Without the checksum and the length at the end.
    let blocks = |form: &Form| {
        let mut bytes = bytes(form);
        bytes.truncate(bytes.len().saturating_sub(8));
        bytes
    };
    let (before, after) = (blocks(&first.gzip), blocks(&second.gzip));
    let same = before
        .iter()
        .zip(&after)
        .take_while(|(a, b)| a == b)
        .count();
    let tail = before.iter().rev().zip(after.iter().rev());
    let tail = tail.take_while(|(a, b)| a == b).count();
    let changed = before.len().saturating_sub(same + tail);
    assert!(changed * 10 < before.len(), "{changed} of {}", before.len());
    drop(folder);
}

#[tokio::test]
async fn each_generation_is_at_the_path_as_a_whole() {
    let folder = tempfile::tempdir().expect("a folder");
    let outside = folder.path().join("out");
    let path = outside.join("feed.csv");
    let options = Options {
        path: Some(path.clone()),
        ..options()
    };
    let feed = open(&folder.path().join("own"), &options);
    puts(&feed, 0..100, 1, 1).await;
    feed.walked(true);
    let reason = until("a reason", || feed.status().reason).await;
    assert!(reason.contains("its path is not up to date"), "{reason}");
    assert!(feed.published().is_some(), "it is served all the same");
    assert!(
        feed.check()
            .await
            .expect_err("no folder")
            .contains("create the folder")
    );
    std::fs::create_dir(&outside).expect("a folder");
    let first = published(&feed).await;
    let read = || std::fs::read_to_string(&path).expect("the file");
    assert_eq!(read(), content(&first));
    assert_eq!(
        std::fs::read(outside.join("feed.csv.gz")).expect("packed"),
        bytes(&first.gzip)
    );
    puts(&feed, 0..1, 2, 2).await;
    let second = published(&feed).await;
    until("written", || (read() == content(&second)).then_some(())).await;
    assert_eq!(
        std::fs::read_dir(&outside).expect("a folder").count(),
        2,
        "nothing is left behind"
    );
    assert_eq!(feed.check().await, Ok(Vec::new()));
    // A file that was taken away is written again at the next start.
    std::fs::remove_file(&path).expect("removed");
    let mark = marked(&feed, false);
    drop(feed);
    let feed = open(&folder.path().join("own"), &options);
    feed.take_mark(mark);
    feed.walked(true);
    until("written again", || path.exists().then_some(())).await;
}

// The old one published after the new configuration was read, and the new one served the generation before it.
#[tokio::test]
async fn what_the_old_one_published_last_is_served_by_the_new_one() {
    let (folder, feed) = begin();
    puts(&feed, 0..100, 1, 1).await;
    published(&feed).await;
    let other = Options {
        interval: Duration::from_millis(30),
        ..options()
    };
    let (second, third) = (open(folder.path(), &other), open(folder.path(), &other));
    puts(&feed, 0..1, 2, 2).await;
    let newest = published(&feed).await;
    feed.walked(false);
    // By taking the files over, and when the old one ends.
    third.take_mark(marked(&feed, true));
    assert_eq!(
        deliver(&third, &[item(&name(1), 3, Some(3))]).await,
        [Outcome::Delivered]
    );
    assert_eq!(third.published().expect("it is served").id, newest.id);
    drop((third, feed, second));
    let (folder, feed) = begin();
    puts(&feed, 0..100, 1, 1).await;
    published(&feed).await;
    let second = open(folder.path(), &other);
    puts(&feed, 0..1, 2, 2).await;
    let newest = published(&feed).await;
    drop(feed);
    assert_eq!(second.published().expect("it is served").id, newest.id);
}

// With two contents in one second, or a clock that was set back, a fetcher was told that nothing had changed.
#[tokio::test]
async fn a_later_content_has_a_later_second() {
    let (_folder, feed) = begin();
    let mut before = 0;
    for price in 1..4 {
        puts(&feed, 0..10, price, price).await;
        let modified = published(&feed).await.modified / 1000;
        assert!(modified > before, "{modified} after {before}");
        before = modified;
    }
}

#[tokio::test]
async fn a_new_configuration_takes_the_files_over_and_keeps_what_is_served() {
    let (folder, feed) = begin();
    puts(&feed, 0..100, 1, 1).await;
    published(&feed).await;
    // Another interval: the same files.
    let other = Options {
        interval: Duration::from_millis(30),
        ..options()
    };
    let second = open(folder.path(), &other);
    assert_eq!(second.place(), feed.place());
    second.take_mark(marked(&feed, true));
    assert_eq!(second.published().expect("it is served").records, 100);
    puts(&second, 0..1, 2, 2).await;
    let refused = deliver(&feed, &[item("late", 3, Some(3))]).await;
    assert!(matches!(&refused[0], Outcome::Trip { .. }), "{refused:?}");
    assert_eq!(published(&second).await.records, 100);
    // Another format: everything is owed again, and the old file stays until then.
    let xml = Options {
        format: Format::Ndjson,
        fields: Vec::new(),
        ..options()
    };
    let third = open(folder.path(), &xml);
    assert_ne!(third.place(), second.place());
    puts(&third, 0..50, 4, 4).await;
    let old = third.published().expect("it is served");
    assert!(old.content_type.starts_with("text/csv") && content(&old).starts_with("key,"));
    puts(&third, 50..100, 4, 4).await;
    third.walked(true);
    let new = until("published", || {
        third
            .published()
            .filter(|it| it.content_type == "application/x-ndjson")
    })
    .await;
    assert_eq!(content(&new).lines().count(), 100);
}
