//! Targets that take so many requests and no more.

use super::*;
use crate::targets::Delivery;

/// A shop answered 429 and asked Weir to wait for a second. It was treated as down, and afterwards
/// got everything at full speed again.
#[tokio::test(start_paused = true)]
async fn retry_after_is_honoured_for_the_whole_target_and_trips_nothing() {
    let throttled = Reply::All(Outcome::Throttled {
        reason: "answered 429".into(),
        after: Some(Duration::from_secs(1)),
    });
    let story = Story::begin(Knobs::default(), trouble::in_turn(vec![throttled])).await;
    story.set("a", "price", "1");
    story
        .until("asked to wait", |story| story.script.seen().len() == 1)
        .await;
    story.set("b", "price", "1");
    story.set_in(Lane::Urgent, "c", "price", "1");
    story.quiet().await;
    assert_eq!(story.channel.status().state, status::State::Flowing);
    let seen = story.script.seen();
    let waited = seen[1].now.duration_since(seen[0].now).expect("later");
    assert!(waited >= Duration::from_secs(1), "{waited:?}");
    let mut last: Vec<String> = story.seen();
    last.sort();
    assert_eq!(last, ["a=1", "a=1", "b=1", "c=1"]);
    story.end().await;
}

/// An API takes a request and says with the same answer that nothing is left of its quota: the next
/// request was sent at once, and refused.
#[tokio::test(start_paused = true)]
async fn an_answer_that_asks_for_a_wait_delivers_and_the_next_request_waits() {
    let first = AtomicBool::new(true);
    let story = Story::begin(Knobs::default(), move |seen| {
        Reply::Told(Delivery {
            outcomes: vec![Outcome::Delivered; seen.items.len()],
            hints: first
                .swap(false, Ordering::SeqCst)
                .then_some(Duration::from_secs(7))
                .into(),
        })
    })
    .await;
    story.set("a", "price", "1");
    story
        .until("sent", |story| story.script.seen().len() == 1)
        .await;
    story.set("b", "price", "1");
    story.quiet().await;
    let seen = story.script.seen();
    let waited = seen[1].now.duration_since(seen[0].now).expect("later");
    assert!(
        waited >= Duration::from_secs(7) && waited < Duration::from_secs(9),
        "{waited:?}"
    );
    assert_eq!(story.channel.status().state, status::State::Flowing);
    story.end().await;
}

/// A target that takes 50 requests a second and answers 429 beyond it, a poisonous entity that it
/// always answers so, and more to send than it takes.
#[tokio::test(start_paused = true)]
async fn a_target_with_a_limit_is_used_to_its_limit_and_one_entity_does_not_slow_it() {
    let bucket = Mutex::new((10.0_f64, None));
    let script = move |seen: &Seen| {
        let throttled = Reply::Status(429);
        if &*seen.items[0].key == "poison" {
            return throttled;
        }
        let mut bucket = lock(&bucket);
        let passed = bucket.1.map_or(0.0, |at| {
            seen.now
                .duration_since(at)
                .unwrap_or_default()
                .as_secs_f64()
        });
        let tokens = (bucket.0 + passed * 50.0).min(10.0);
        let reply = if tokens >= 1.0 {
            Reply::Status(200)
        } else {
            throttled
        };
        *bucket = (tokens - f64::from(u8::from(tokens >= 1.0)), Some(seen.now));
        Reply::After(Duration::from_millis(10), Box::new(reply))
    };
    let knobs = Knobs {
        options: Options {
            retry: retry::Options {
                first: Duration::from_secs(1),
                cap: Duration::from_secs(60),
                ..options().retry
            },
            ..options()
        },
        ..Knobs::default()
    };
    let story = Story::begin(knobs, script).await;
    story.set("poison", "price", "1");
    for number in 0..4_000 {
        story.set(&format!("e{number}"), "price", "1");
    }
    let progress = || {
        let delivered = story
            .channel
            .counters()
            .count(status::DeliveryResult::Delivered);
        let bears = story.channel.status().target.bears_per_second;
        (delivered, story.script.seen().len(), bears)
    };
    let mut course = Vec::new();
    for _ in 0..12 {
        tokio::time::sleep(Duration::from_secs(5)).await;
        course.push(progress());
    }
    let rate = (course[11].0 - course[3].0) as f64 / 40.0;
    assert!(rate >= 45.0, "{rate:.1} of 50 a second: {course:?}");
    let (delivered, attempts, _) = course[11];
    assert!(attempts < 4_000, "{attempts} attempts at {delivered}");
    let bears = story.channel.status().target.bears_per_second;
    assert!(
        bears.is_some_and(|rate| (35.0..80.0).contains(&rate)),
        "{bears:?}"
    );

    // A later handle starts with what this one learned.
    let memory = story.channel.setup().target.memory().expect("it learned");
    let kind = story.channel.setup().target.options().clone();
    let clock = story.channel.setup().target.clock();
    let dice = fastrand::Rng::with_seed(1);
    let later = TargetHandle::open(
        kind,
        Knobs::default().breaker,
        clock,
        dice,
        Some(&memory),
        None,
        opening(),
    );
    let later = later.expect("a target").status().bears_per_second;
    assert_eq!(later.map(f64::round), bears.map(f64::round));
    story.channel.stop(Duration::from_millis(100)).await;
}

/// A shop that had nothing to take for an hour got eight products at once, and asked for fewer. It
/// counted as silent for the whole hour, and was tripped.
#[tokio::test(start_paused = true)]
async fn a_burst_after_a_quiet_hour_trips_nothing() {
    let mut replies = vec![Reply::Status(200)];
    replies.extend(vec![Reply::Status(429); 8]);
    let story = Story::begin(Knobs::default(), trouble::in_turn(replies)).await;
    story.set("first", "price", "1");
    story.quiet().await;
    tokio::time::sleep(Duration::from_secs(3600)).await;
    for number in 0..8 {
        story.set(&format!("e{number}"), "price", "1");
    }
    story.quiet().await;
    assert_eq!(story.script.seen().len(), 1 + 8 + 8);
    let target = story.channel.status().target;
    assert_eq!(target.since, START, "it never tripped");
    story.end().await;
}

/// A target that answered 429 to everything was asked more and more slowly, for minutes, before it
/// showed as down.
#[tokio::test(start_paused = true)]
async fn a_target_that_accepts_nothing_for_long_trips() {
    let story = Story::begin(Knobs::default(), |_: &Seen| Reply::Status(429)).await;
    for number in 0..100 {
        story.set(&format!("e{number}"), "price", "1");
    }
    story
        .until_within(Duration::from_secs(20), "tripped", |story| {
            story.channel.status().state == status::State::Tripped
        })
        .await;
    // Probes are few anyway. If each of them halved the rate, the pace would keep the next one back for
    // longer than the breaker does.
    let bears = || story.channel.status().target.bears_per_second;
    let (at_trip, attempts) = (bears(), story.script.seen().len());
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert!(story.script.seen().len() > attempts, "it was probed");
    assert!(bears() >= at_trip, "{:?} after {at_trip:?}", bears());
    story.end().await;
}

/// 18 shops shared one quota of an account. Each had its own rate here, so that together they asked for
/// far too much, and each slowed down for the others' sake.
#[tokio::test(start_paused = true)]
async fn targets_of_one_pace_share_its_rate_its_slots_and_what_it_was_taught() {
    let knobs = |place| Knobs {
        place,
        concurrency: 2,
        rate: Some(10.0),
        ..Knobs::default()
    };
    let script =
        Script::new(|_| Reply::After(Duration::from_millis(10), Box::new(Reply::Status(200))));
    let one = Story::on(Arc::default(), script.clone(), knobs(1)).await;
    let handle = one.channel.setup().target.clone();
    let mut setup = setup(&script, knobs(2));
    setup.target = TargetHandle::open(
        setup.target.options().clone(),
        Knobs::default().breaker,
        handle.clock(),
        fastrand::Rng::with_seed(3),
        None,
        Some(handle.quota().clone()),
        opening(),
    )
    .expect("a target");
    let two = Story::with(Arc::default(), script.clone(), setup).await;
    for number in 0..20 {
        one.set(&format!("a{number}"), "price", "1");
        two.set(&format!("b{number}"), "price", "1");
    }
    one.quiet().await;
    two.quiet().await;
    let seen = script.seen();
    let (first, last) = (seen[0].now, seen[seen.len() - 1].now);
    let took = last.duration_since(first).expect("later").as_secs_f64();
    assert_eq!(seen.len(), 40);
    assert!(
        (3.7..5.0).contains(&took),
        "40 requests at 10/s took {took} s"
    );
    assert!(script.most_at_once() <= 2);
    two.end().await;
    one.end().await;
}

/// A channel whose bulk lane opens two hours after the story has begun.
pub(super) fn bulk_waits() -> Knobs {
    let zone = jiff::tz::TimeZone::UTC;
    let millis = i64::try_from(START.0).expect("a time");
    let begun = jiff::Timestamp::from_millisecond(millis).expect("a moment");
    let begun = begun.to_zoned(zone.clone()).time();
    let later = begun.wrapping_add(jiff::Span::new().hours(2));
    let span = hours::Span {
        from: later,
        to: begun,
    };
    Knobs {
        options: Options {
            hours: Some(Hours {
                zone,
                lanes: [None, None, Some(span)],
            }),
            ..options()
        },
        ..Knobs::default()
    }
}

/// A nightly load went out in the middle of the day, because it came late.
#[tokio::test(start_paused = true)]
async fn a_lane_waits_for_its_hours_and_the_others_do_not() {
    let store: Arc<Memory> = Arc::default();
    commit(&store, Lane::Bulk, "first", "price", Some("1"));
    let story = Story::on(store, Script::new(fine), bulk_waits()).await;
    // The sweep of a new channel does not wait.
    story.quiet().await;
    story.set_in(Lane::Bulk, "slow", "price", "1");
    story.set("fast", "price", "1");
    story
        .until("the normal lane is sent", |story| story.seen().len() == 2)
        .await;
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(story.seen(), ["first=1", "fast=1"]);
    let status = story.channel.status();
    assert!(
        status.reason.starts_with("bulk waits for its hours"),
        "{status:?}"
    );
    tokio::time::sleep(Duration::from_secs(3700)).await;
    assert_eq!(story.seen(), ["first=1", "fast=1", "slow=1"]);
    assert_eq!(story.channel.status().reason, "");
    story.end().await;
}

/// A nightly load had brought new products. After a restart in the middle of the day they went out: the
/// sweep, which passes what is new, met them.
#[tokio::test(start_paused = true)]
async fn new_entities_of_a_lane_wait_for_its_hours_after_a_restart_too() {
    let story = Story::begin(bulk_waits(), fine).await;
    story.set("first", "price", "1");
    story.quiet().await;
    story.set_in(Lane::Bulk, "slow", "price", "1");
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (store, script) = (story.store.clone(), story.script.clone());
    story.end().await;
    let story = Story::on(store, script, bulk_waits()).await;
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(story.seen(), ["first=1"]);
    tokio::time::sleep(Duration::from_secs(3700)).await;
    assert_eq!(story.seen(), ["first=1", "slow=1"]);
    story.end().await;
}

/// A target tripped while nothing but a lane that waited for its hours had something for it. When they
/// began, nobody looked.
#[tokio::test(start_paused = true)]
async fn a_tripped_target_is_probed_when_the_hours_of_a_lane_begin() {
    let story = Story::begin(bulk_waits(), fine).await;
    story.set_in(Lane::Bulk, "slow", "price", "1");
    tokio::time::sleep(Duration::from_secs(1)).await;
    story.channel.setup().target.trip("it answered 401");
    tokio::time::sleep(Duration::from_secs(7300)).await;
    assert_eq!(story.seen(), ["slow=1"]);
    assert_eq!(story.channel.status().state, status::State::Flowing);
    story.end().await;
}

/// A target tripped while deletions went to it one by one. Each of the others waited for its turn first,
/// and took it from other targets of the pace, though none was sent.
#[tokio::test(start_paused = true)]
async fn deletions_that_go_alone_do_not_wait_for_a_target_that_has_tripped() {
    let nature = Nature {
        deletes_alone: true,
        compares: false,
        ..Knobs::default().nature
    };
    let knobs = Knobs {
        nature,
        options: Options {
            batch: 100,
            ..options()
        },
        rate: Some(1.0),
        ..Knobs::default()
    };
    let story = Story::begin(knobs, |seen| match seen.items[0].rendering {
        Some(_) => Reply::Status(200),
        None => Reply::All(Outcome::Trip {
            reason: "answered 401".into(),
        }),
    })
    .await;
    for number in 0..50 {
        story.set(&format!("e{number}"), "price", "1");
    }
    story.quiet_within(Duration::from_secs(60)).await;
    for number in 0..50 {
        story.delete(&format!("e{number}"));
    }
    story
        .until("tripped", |story| {
            story.channel.status().state == status::State::Tripped
        })
        .await;
    // One is the probe.
    story
        .until_within(Duration::from_secs(5), "given back", |story| {
            story.channel.status().owed.in_flight <= 1
        })
        .await;
    story.end().await;
}
