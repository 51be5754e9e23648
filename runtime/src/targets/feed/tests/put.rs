//! Feeds that are put into a bucket: what is there, when, and what a bucket in trouble costs.

use super::*;
use crate::targets::bucket::Place;
use crate::targets::bucket::fake::{Fake, Fault, error};
use crate::targets::bucket::tests::{Remembered, place};
use crate::targets::fixture::Reply;

const PLAIN: &str = "feeds/all.csv";
const PACKED: &str = "feeds/all.csv.gz";

fn to(url: &str) -> Options {
    // No request ends too early on a busy machine.
    to_within(url, Duration::from_secs(20))
}

fn to_within(url: &str, timeout: Duration) -> Options {
    Options {
        to: Some(To {
            place: Place {
                timeout,
                ..place(url)
            },
            name: PLAIN.to_owned(),
        }),
        ..options()
    }
}

/// A feed that is put into this store.
fn feed_in(folder: &Path, fake: &Fake) -> Feed {
    open(folder, &to(&fake.url()))
}

fn put(feed: &Feed) -> Put {
    feed.status().to.expect("it is put somewhere")
}

/// Waits until this generation is in the bucket, and returns its plain object.
async fn is_put(feed: &Feed, fake: &Fake, generation: &Published) -> String {
    until("the generation is in the bucket", || {
        let put = put(feed);
        (put.generation == Some(generation.id) && put.reason.is_none()).then_some(())
    })
    .await;
    fake.body(PLAIN).expect("an object")
}

async fn fails(feed: &Feed, words: &str) {
    until(words, || {
        let reason = put(feed).reason?;
        reason.contains(words).then_some(())
    })
    .await;
}

#[tokio::test]
async fn each_generation_is_put_as_a_whole_with_a_packed_one_beside_it() {
    let fake = Fake::start().await;
    let folder = tempfile::tempdir().expect("a folder");
    let feed = feed_in(folder.path(), &fake);
    assert_eq!(put(&feed), Put::default());
    puts(&feed, 0..100, 1, 1).await;
    let first = published(&feed).await;
    assert_eq!(is_put(&feed, &fake, &first).await, content(&first));
    assert!(put(&feed).at.is_some());
    let (plain, packed) =
        fake.with(|state| (state.objects[PLAIN].clone(), state.objects[PACKED].clone()));
    assert_eq!(packed.body, bytes(&first.gzip));
    assert_eq!(plain.headers["content-type"], "text/csv; charset=utf-8");
    assert_eq!(packed.headers["content-type"], "application/gzip");
    // Or it is unpacked twice.
    let asked = fake.fixture.asked();
    assert!(
        asked
            .iter()
            .all(|it| !it.headers.contains_key("content-encoding"))
    );

    // The same bytes, built again: nothing is written.
    assert_eq!(fake.with(|state| state.writes), 2);
    let looked = fake.with(|state| state.looked);
    puts(&feed, 0..1, 2, 1).await;
    let again = published(&feed).await;
    assert_eq!(again.id, first.id);
    until("it is looked at", || {
        (fake.with(|state| state.looked) >= looked + 2).then_some(())
    })
    .await;
    assert_eq!(fake.with(|state| state.writes), 2);

    puts(&feed, 0..1, 3, 7).await;
    let second = published(&feed).await;
    assert_eq!(is_put(&feed, &fake, &second).await, content(&second));
    assert_eq!(fake.with(|state| state.writes), 4);

    // After a restart it is found there.
    let mark = marked(&feed, true);
    drop(feed);
    let feed = feed_in(folder.path(), &fake);
    feed.take_mark(mark);
    feed.walked(true);
    assert_eq!(is_put(&feed, &fake, &second).await, content(&second));
    assert_eq!(fake.with(|state| state.writes), 4);
}

#[tokio::test]
async fn a_bucket_in_trouble_is_tried_again_and_holds_no_generation_back() {
    let fake = Fake::start().await;
    let folder = tempfile::tempdir().expect("a folder");
    let feed = feed_in(folder.path(), &fake);
    for (sequence, (status, code, words)) in (1..).zip([
        (403, "AccessDenied", "allows no such request"),
        (404, "NoSuchBucket", "there is no such bucket"),
        (
            403,
            "RequestTimeTooSkewed",
            "correct the clock of this machine",
        ),
        (400, "ExpiredToken", "the credentials have expired"),
        (503, "SlowDown", "SlowDown"),
        (500, "InternalError", "InternalError"),
    ]) {
        fake.with(|state| {
            state.faults.clear();
            state.faults.extend(vec![Fault::Error(status, code); 1_000]);
        });
        puts(&feed, 0..50, sequence, sequence).await;
        // It is published here all the same.
        let published = published(&feed).await;
        assert_eq!(records(&content(&published)), expected(0..50, sequence));
        fails(&feed, words).await;
        assert_eq!(feed.status().reason, None, "{code}");
        fake.with(|state| state.faults.clear());
        assert_eq!(is_put(&feed, &fake, &published).await, content(&published));
    }
}

#[tokio::test]
async fn a_bucket_that_is_away_gets_the_newest_generation_when_it_is_back() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
    let listener = listener.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    drop(listener);
    let folder = tempfile::tempdir().expect("a folder");
    let feed = open(folder.path(), &to(&url));
    for sequence in 1..4 {
        puts(&feed, 0..50, sequence, sequence).await;
        let published = published(&feed).await;
        assert_eq!(records(&content(&published)), expected(0..50, sequence));
        fails(&feed, "").await;
    }
    let last = feed.published().expect("a generation");
    let address = url.trim_start_matches("http://");
    let fake = Fake::listening(
        tokio::net::TcpListener::bind(address)
            .await
            .expect("the port"),
    );
    assert_eq!(is_put(&feed, &fake, &last).await, content(&last));
    assert_eq!(fake.with(|state| state.writes), 2, "only the newest one");
}

// A proxy held a request until its successor was there, and the bucket had the feed of the day before until the
// next change.
#[tokio::test]
async fn a_write_that_arrives_after_its_successor_is_noticed_and_undone() {
    let fake = Fake::start().await;
    let folder = tempfile::tempdir().expect("a folder");
    // Twice as long it is expected that the store still carries a request out.
    let options = to_within(&fake.url(), Duration::from_secs(2));
    let feed = open(folder.path(), &options);
    puts(&feed, 0..50, 1, 1).await;
    let first = published(&feed).await;
    is_put(&feed, &fake, &first).await;
    fake.with(|state| state.faults.push_back(Fault::Held));
    puts(&feed, 0..50, 2, 2).await;
    let second = published(&feed).await;
    fails(&feed, "").await;
    puts(&feed, 0..50, 3, 3).await;
    let third = published(&feed).await;
    assert_ne!(third.id, second.id);
    let whole = content(&third);
    until("the third is there", || {
        (fake.body(PLAIN).as_ref() == Some(&whole)).then_some(())
    })
    .await;
    is_put(&feed, &fake, &third).await;
    fake.release();
    let undone = || {
        let packed = fake.with(|state| state.objects[PACKED].body.clone());
        (packed == bytes(&third.gzip)).then_some(())
    };
    assert_eq!(undone(), None, "the second has replaced the third");
    until("it is written once more", undone).await;
}

#[tokio::test]
async fn a_large_feed_goes_in_parts_and_is_seen_when_it_is_whole() {
    let fake = Fake::start().await;
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(Remembered::default());
    let opening = Opening {
        memory: memory.clone(),
        ..Opening::empty(folder.path().to_owned())
    };
    let options = Options {
        format: Format::Ndjson,
        fields: Vec::new(),
        ..to(&fake.url())
    };
    let feed = Feed::open(&options, &opening).expect("it opens");
    fake.with(|state| {
        // A part that fails, and a success with an error in it.
        state.faults.push_back(Fault::Error(503, "SlowDown"));
        state.completions.push_back(error(200, "InternalError"));
        state.completions.push_back(Reply::Half(200));
    });
    // Packed it is short, so that only the plain one goes in parts.
    let padding = "x".repeat(50_000);
    let items: Vec<Item> = (0..360)
        .map(|number| {
            let body = format!("{{\"key\":{number},\"padding\":{padding:?}}}");
            sample::item(&name(number), 1, Some(&body))
        })
        .collect();
    let outcomes = deliver(&feed, &items).await;
    assert!(outcomes.iter().all(|it| *it == Outcome::Delivered));
    let published = published(&feed).await;
    assert!(published.plain.length > 17 << 20);
    until("it is in the bucket", || {
        let put = put(&feed);
        if let Some(seen) = fake.with(|state| state.objects.get(PLAIN).cloned()) {
            assert_eq!(
                seen.body.len() as u64,
                published.plain.length,
                "it is whole"
            );
        }
        (put.generation == Some(published.id)).then_some(())
    })
    .await;
    let kept = fake.with(|state| state.objects[PLAIN].body.clone());
    assert!(
        kept == bytes(&published.plain),
        "the bytes are those of the feed"
    );
    until("no part is left", || {
        fake.with(|state| state.uploads.is_empty()).then_some(())
    })
    .await;
}

// A reload closed the feed in the middle of an upload, and its parts stayed and were paid for.
#[tokio::test]
async fn an_upload_that_is_given_up_leaves_no_parts() {
    let fake = Fake::start().await;
    let folder = tempfile::tempdir().expect("a folder");
    let feed = open(
        folder.path(),
        &Options {
            format: Format::Ndjson,
            fields: Vec::new(),
            ..to(&fake.url())
        },
    );
    fake.with(|state| state.completions.push_back(Reply::Hang));
    let padding = "x".repeat(50_000);
    let items: Vec<Item> = (0..360)
        .map(|number| {
            sample::item(
                &name(number),
                1,
                Some(&format!("{{\"padding\":{padding:?}}}")),
            )
        })
        .collect();
    deliver(&feed, &items).await;
    published(&feed).await;
    until("it is asked to be completed", || {
        fake.with(|state| state.completions.is_empty())
            .then_some(())
    })
    .await;
    drop(feed);
    until("it is aborted", || {
        fake.with(|state| state.uploads.is_empty()).then_some(())
    })
    .await;
    assert_eq!(fake.body(PLAIN), None);
}

#[tokio::test]
async fn whoever_may_only_write_writes() {
    let fake = Fake::start().await;
    let folder = tempfile::tempdir().expect("a folder");
    fake.with(|state| state.looks = Some(Reply::Status(403)));
    let options = to_within(&fake.url(), Duration::from_secs(2));
    let feed = open(folder.path(), &options);
    puts(&feed, 0..50, 1, 1).await;
    let first = published(&feed).await;
    assert_eq!(is_put(&feed, &fake, &first).await, content(&first));
    // A request of an earlier process might still have come, so it is written once more, and then no more.
    until("it is certain", || {
        fake.with(|state| (state.writes == 4).then_some(()))
    })
    .await;
    let looked = fake.with(|state| state.looked);
    puts(&feed, 0..1, 2, 1).await;
    published(&feed).await;
    until("it is looked at", || {
        (fake.with(|state| state.looked) >= looked + 2).then_some(())
    })
    .await;
    assert_eq!(fake.with(|state| state.writes), 4);
    let held = feed.compare(&[item(&name(3), 1, Some(1))]).await;
    assert_eq!(held, Ok(vec![Held::Same]));
}

#[tokio::test]
async fn an_object_that_is_gone_is_drift_and_is_put_again_with_the_next_generation() {
    let fake = Fake::start().await;
    let folder = tempfile::tempdir().expect("a folder");
    let feed = feed_in(folder.path(), &fake);
    puts(&feed, 0..50, 1, 1).await;
    let first = published(&feed).await;
    is_put(&feed, &fake, &first).await;
    let one = [item(&name(3), 1, Some(1))];
    assert_eq!(feed.compare(&one).await, Ok(vec![Held::Same]));
    fake.with(|state| state.objects.remove(PACKED));
    let differs = Held::Different(vec!["the objects at to".into()]);
    assert_eq!(feed.compare(&one).await, Ok(vec![differs]));
    // As a repair does.
    deliver(&feed, &one).await;
    until("it is there again", || {
        fake.with(|state| state.objects.contains_key(PACKED))
            .then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_check_looks_at_the_bucket() {
    let fake = Fake::start().await;
    let folder = tempfile::tempdir().expect("a folder");
    assert_eq!(feed_in(folder.path(), &fake).check().await, Ok(vec![]));
    for (status, code, words) in [
        (403, "AccessDenied", "may not list the bucket"),
        (404, "NoSuchBucket", "there is no such bucket"),
        (403, "RequestTimeTooSkewed", "correct the clock"),
    ] {
        let fixture = crate::targets::fixture::Fixture::start(move |_| error(status, code)).await;
        let checked = open(folder.path(), &to(&fixture.url(""))).check().await;
        let said = checked.map_or_else(|wrong| wrong, |warned| warned.join(" "));
        assert!(said.contains(words), "{code}: {said}");
    }
}
