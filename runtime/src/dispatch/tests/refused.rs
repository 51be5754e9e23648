//! Entities that a target refuses: how often they are tried, and when again.

use super::*;

/// A variant was refused for good after five attempts in seven seconds, because its parent came
/// later. Neither the parent nor a newer variant changed anything.
#[tokio::test(start_paused = true)]
async fn a_child_before_its_parent_is_tried_until_the_attempts_are_used_up_and_later_at_times() {
    for status in [409, 422] {
        let parent = Arc::new(AtomicBool::new(false));
        let there = parent.clone();
        let script = move |_: &Seen| {
            Reply::Status(if there.load(Ordering::SeqCst) {
                200
            } else {
                status
            })
        };
        let story = Story::begin(Knobs::default(), script).await;
        let clock = story.keep_time();
        story.set("a", "price", "1");
        story
            .until("refused", |story| story.channel.status().owed.refused == 1)
            .await;
        assert_eq!(story.seen().len(), 6, "retry.attempts");
        // Once more each hour, and then it is refused again.
        for hour in 1..3 {
            tokio::time::sleep(Duration::from_secs(3605)).await;
            assert_eq!(story.seen().len(), 6 + hour, "{status}");
            assert_eq!(story.standing("a"), Standing::Refused);
        }
        assert_eq!(story.channel.counters().refused_tried_count(), 2);
        parent.store(true, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_secs(3605)).await;
        assert_eq!(story.standing("a"), Standing::Delivered);
        clock.abort();
        story.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_newer_state_of_a_child_without_its_parent_is_tried_at_once() {
    let script = |seen: &Seen| Reply::Status(if lines(seen) == ["a=2"] { 200 } else { 422 });
    let hour = Duration::from_secs(3600);
    let knobs = Knobs {
        options: Options {
            retry: retry::Options {
                first: hour,
                cap: hour,
                ..options().retry
            },
            ..options()
        },
        ..Knobs::default()
    };
    let story = Story::begin(knobs, script).await;
    story.set("a", "price", "1");
    story
        .until("parked", |story| story.channel.status().owed.parked == 1)
        .await;
    story.set("a", "stock", "1");
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(story.seen().len(), 1, "a facet of others changes nothing");
    story.set("a", "price", "2");
    story.quiet().await;
    assert_eq!(story.seen(), ["a=1", "a=2"]);
    story.end().await;
}

/// Thirty refused products were tried again each hour of a quiet night. Twenty refusals in a row
/// must not make the shop count as down, because all of them are known.
#[tokio::test(start_paused = true)]
async fn refused_entities_that_are_tried_again_trip_nothing() {
    let script = |seen: &Seen| {
        let bad = seen.items[0].key.starts_with("bad");
        Reply::Status(if bad { 400 } else { 200 })
    };
    let story = Story::begin(Knobs::default(), script).await;
    let clock = story.keep_time();
    for number in 0..30 {
        story.set(&format!("bad{number}"), "price", "1");
        story.set(&format!("good{number}"), "price", "1");
    }
    story.quiet().await;
    tokio::time::sleep(Duration::from_secs(3700)).await;
    assert_eq!(story.channel.counters().refused_tried_count(), 30);
    assert_eq!(story.channel.status().state, status::State::Flowing);
    clock.abort();
    story.end().await;
}

/// A shop had refused 600 products in one night. An hour later all were due at once, and waited for
/// the retry budget as if they had just failed: that was too many, so the shop was tripped, and its
/// good products waited too.
#[tokio::test(start_paused = true)]
async fn many_refused_entities_that_are_due_at_once_stop_nothing() {
    let script = |seen: &Seen| {
        let bad = seen.items[0].key.starts_with("bad");
        Reply::Status(if bad { 400 } else { 200 })
    };
    let knobs = Knobs {
        parked_max: 200,
        ..Knobs::default()
    };
    let story = Story::begin(knobs, script).await;
    let clock = story.keep_time();
    for number in 0..600 {
        story.set(&format!("bad{number}"), "price", "1");
        story.set(&format!("good{number}"), "price", "1");
    }
    story.quiet_within(Duration::from_secs(60)).await;
    assert_eq!(story.channel.status().owed.refused, 600);
    tokio::time::sleep(Duration::from_secs(3600)).await;
    for second in 0..90 {
        let key = format!("good{second}");
        story.set(&key, "price", "2");
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(story.standing(&key), Standing::Delivered, "{second} s");
        let status = story.channel.status();
        assert_eq!(status.state, status::State::Flowing, "{second} s");
        assert!(status.owed.parked <= 110, "{}", status.owed.parked);
    }
    assert_eq!(
        story.channel.counters().refused_tried_count(),
        600,
        "each was tried once more"
    );
    clock.abort();
    story.end().await;
}

/// The breaker as it is by default: a refused probe may wait for a minute.
fn with_the_default_breaker(batch: usize) -> Knobs {
    Knobs {
        options: Options { batch, ..options() },
        breaker: breaker::Options::default(),
        ..Knobs::default()
    }
}

/// 200 rows in a row had a value that the database could not read. After twenty the target tripped, each
/// probe took the next bad row, and thousands of good rows waited for an hour. A webhook that refuses entities
/// one by one did the same.
#[tokio::test(start_paused = true)]
async fn entities_that_are_refused_in_a_row_hold_up_no_others() {
    for (batch, status) in [(1, 400), (1, 422), (64, 400), (1_200, 400)] {
        let script = move |seen: &Seen| {
            let bad = seen.items.iter().any(|item| item.key.starts_with("bad"));
            Reply::Status(if bad { status } else { 200 })
        };
        let story = Story::forgetful(with_the_default_breaker(batch), script).await;
        story.channel.pause().await.expect("it runs");
        for number in 0..200 {
            story.set(&format!("bad{number}"), "price", "1");
        }
        for number in 0..1_000 {
            story.set(&format!("good{number}"), "price", "1");
        }
        story.channel.resume().await.expect("it runs");
        let delivered = |story: &Story| {
            let counters = story.channel.counters();
            counters.count(status::DeliveryResult::Delivered) == 1_000
        };
        let most = Duration::from_secs(5);
        let what = format!("all good ones delivered: {batch}, {status}");
        story.until_within(most, &what, delivered).await;
        let refused = |story: &Story| story.channel.status().owed.refused == 200;
        let most = Duration::from_secs(3600);
        story
            .until_within(most, "all bad ones refused", refused)
            .await;
        story.end().await;
    }
}

/// If each row is refused, the renderer or the table is wrong, and not the rows. A catalogue of 1.5 million
/// must not be refused for it.
#[tokio::test(start_paused = true)]
async fn a_target_that_refuses_everything_trips_before_much_is_refused() {
    for batch in [1, 64, 1_000] {
        let story = Story::forgetful(with_the_default_breaker(batch), |_| Reply::Status(400)).await;
        for number in 0..1_000 {
            story.set(&format!("e{number}"), "price", "1");
        }
        tokio::time::sleep(Duration::from_secs(300)).await;
        let status = story.channel.status();
        assert_ne!(status.state, status::State::Flowing, "{batch}");
        let refused = status.owed.refused;
        assert!((20..100).contains(&refused), "{batch}: {refused} refused");
        story.end().await;
    }
}
