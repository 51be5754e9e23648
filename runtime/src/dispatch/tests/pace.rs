//! The pace that targets teach: requests at the same time, hints, costs, and what is left of all that
//! after an outage or a restart.

use super::*;
use crate::targets::{Cost, Delivery, DeliveryId, Hints, Item};

/// Answers after some milliseconds, which may change.
fn slow(millis: &Arc<AtomicUsize>) -> impl Fn(&Seen) -> Reply + Send + Sync + 'static {
    let millis = millis.clone();
    move |_| {
        let took = Duration::from_millis(millis.load(Ordering::SeqCst) as u64);
        Reply::After(took, Box::new(Reply::Status(200)))
    }
}

/// A database behind a shop was busy. Eight requests at a time went on, each ten times as long, and the
/// shop's own customers waited.
#[tokio::test(start_paused = true)]
async fn a_target_that_becomes_slow_gets_fewer_requests_at_once_and_later_as_many_as_before() {
    let millis = Arc::new(AtomicUsize::new(50));
    let knobs = Knobs {
        concurrency: 9,
        ..Knobs::default()
    };
    let story = Story::begin(knobs, slow(&millis)).await;
    for number in 0..5_000 {
        story.set(&format!("e{number}"), "price", "1");
    }
    let in_flight = || story.channel.status().target.bears_in_flight;
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(in_flight(), None, "all of them");
    let attempts = story.script.seen().len();
    assert!(attempts >= 1_440, "{attempts} at 160 a second");
    millis.store(500, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_secs(12)).await;
    assert_eq!(in_flight(), Some(3), "two, and the one for urgent work");

    // A later handle starts with what this one learned.
    let target = story.channel.setup().target.clone();
    let later = TargetHandle::open(
        target.options().clone(),
        Knobs::default().breaker,
        target.clock(),
        fastrand::Rng::with_seed(1),
        target.memory().as_deref(),
        None,
        opening(),
    );
    let later = later.expect("a target").status().bears_in_flight;
    assert_eq!(later, Some(3));

    millis.store(50, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(in_flight(), None);
    let before = story.script.seen().len();
    tokio::time::sleep(Duration::from_secs(5)).await;
    let attempts = story.script.seen().len() - before;
    assert!(attempts >= 720, "{attempts} at 160 a second");
    story.channel.stop(Duration::from_millis(100)).await;
}

/// A shop took 50 requests a second, was away for a minute, and was met by all that had waited; what it
/// took then was found only after minutes.
#[tokio::test(start_paused = true)]
async fn a_target_that_is_back_gets_what_it_bore_before_and_no_more() {
    let (bucket, away) = (
        Mutex::new((5.0_f64, None)),
        Arc::new(AtomicBool::new(false)),
    );
    let is_away = away.clone();
    let script = move |seen: &Seen| {
        let mut bucket = lock(&bucket);
        let passed = bucket.1.map_or(Duration::ZERO, |at| {
            seen.now.duration_since(at).unwrap_or_default()
        });
        let tokens = (bucket.0 + passed.as_secs_f64() * 50.0).min(5.0);
        let takes = tokens >= 1.0 && !is_away.load(Ordering::SeqCst);
        *bucket = (tokens - f64::from(u8::from(takes)), Some(seen.now));
        let status = if takes { 200 } else { 503 };
        Reply::After(Duration::from_millis(10), Box::new(Reply::Status(status)))
    };
    let knobs = Knobs {
        breaker: breaker::Options {
            cap: Duration::from_secs(5),
            ..Knobs::default().breaker
        },
        ..Knobs::default()
    };
    let story = Story::begin(knobs, script).await;
    for number in 0..4_000 {
        story.set(&format!("e{number}"), "price", "1");
    }
    tokio::time::sleep(Duration::from_secs(30)).await;
    away.store(true, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_ne!(story.channel.status().state, status::State::Flowing);
    let before = story.script.seen().len();
    away.store(false, Ordering::SeqCst);
    story
        .until_within(Duration::from_secs(6), "back", |story| {
            story.channel.status().state == status::State::Flowing
        })
        .await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let first = story.script.seen().len() - before;
    assert!(first <= 55, "{first} in the first second");
    tokio::time::sleep(Duration::from_secs(4)).await;
    let delivered = || {
        let counters = story.channel.counters();
        counters.count(status::DeliveryResult::Delivered)
    };
    let before = delivered();
    tokio::time::sleep(Duration::from_secs(20)).await;
    let rate = (delivered() - before) as f64 / 20.0;
    assert!(rate >= 42.0, "{rate} of 50 a second");
    story.channel.stop(Duration::from_millis(100)).await;
}

/// Ten instances were asked to wait for the same ten seconds, and all came back in the same moment.
#[tokio::test(start_paused = true)]
async fn a_wait_is_kept_to_and_a_little_more_each_time_another_one() {
    let number = AtomicUsize::new(0);
    let knobs = Knobs {
        concurrency: 1,
        ..Knobs::default()
    };
    let story = Story::begin(knobs, move |seen| {
        let waits = number.fetch_add(1, Ordering::SeqCst) < 20;
        let hints = waits.then_some(Duration::from_secs(10)).into();
        let outcomes = vec![Outcome::Delivered; seen.items.len()];
        Reply::Told(Delivery { outcomes, hints })
    })
    .await;
    for number in 0..21 {
        story.set(&format!("e{number}"), "price", "1");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    story.quiet_within(Duration::from_secs(300)).await;
    let seen = story.script.seen();
    let waits: Vec<f64> = seen
        .windows(2)
        .map(|pair| {
            let waited = pair[1].now.duration_since(pair[0].now);
            waited.expect("in order").as_secs_f64()
        })
        .collect();
    assert!(
        waits.iter().all(|wait| *wait >= 10.0 && *wait < 11.1),
        "{waits:?}"
    );
    let (least, most) = waits
        .iter()
        .fold((f64::MAX, 0.0_f64), |(least, most), wait| {
            (least.min(*wait), most.max(*wait))
        });
    assert!(most - least > 0.5, "{waits:?}");
    story.end().await;
}

/// An answer said that ten requests a second are allowed. The next ones came as fast as ever, until the
/// quota of the hour was used up.
#[tokio::test(start_paused = true)]
async fn a_rate_that_an_answer_announces_is_kept_to() {
    let story = Story::begin(Knobs::default(), |seen| {
        let told = Delivery {
            outcomes: vec![Outcome::Delivered; seen.items.len()],
            hints: Hints {
                rate: Some(10.0),
                ..Hints::default()
            },
        };
        Reply::After(Duration::from_millis(5), Box::new(Reply::Told(told)))
    })
    .await;
    for number in 0..100 {
        story.set(&format!("e{number}"), "price", "1");
    }
    let began = tokio::time::Instant::now();
    story.quiet_within(Duration::from_secs(20)).await;
    let took = began.elapsed().as_secs_f64();
    assert!((9.0..11.0).contains(&took), "100 at 10/s took {took} s");
    story.end().await;
}

/// An API counted the items of its batches, and Weir its requests: a full batch was ten times too much,
/// and a single change waited for nothing.
#[tokio::test(start_paused = true)]
async fn a_rate_in_items_counts_what_is_in_the_requests() {
    let knobs = Knobs {
        rate: Some(100.0),
        cost: Cost::Items,
        options: Options {
            batch: 50,
            ..options()
        },
        ..Knobs::default()
    };
    let story = Story::begin(knobs, fine).await;
    for number in 0..500 {
        story.set(&format!("many{number}"), "price", "1");
    }
    story.quiet_within(Duration::from_secs(60)).await;
    for number in 0..100 {
        story.set(&format!("few{number}"), "price", "1");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    story.quiet_within(Duration::from_secs(60)).await;
    let seen = story.script.seen();
    let sizes: Vec<usize> = seen.iter().map(|seen| seen.items.len()).collect();
    assert!(sizes.contains(&50) && sizes.contains(&1), "{sizes:?}");
    // No stretch of three seconds has more than its share and one batch.
    for (at, first) in seen.iter().enumerate() {
        let soon = seen[at..].iter().take_while(|later| {
            let passed = later.now.duration_since(first.now).unwrap_or_default();
            passed < Duration::from_secs(3)
        });
        let items: usize = soon.map(|seen| seen.items.len()).sum();
        assert!(items <= 300 + 50 + 10, "{items} items in 3 s: {sizes:?}");
    }
    let took = seen[seen.len() - 1].now.duration_since(seen[0].now);
    let took = took.expect("in order").as_secs_f64();
    assert!(
        (5.0..9.0).contains(&took),
        "600 items at 100/s took {took} s"
    );
    story.end().await;
}

/// A channel may send a hundred entities in a request, but they were so large that each had its own. Of
/// a shop that could not process half of them, a thousand were tried again in each second.
#[tokio::test(start_paused = true)]
async fn retries_are_bounded_in_requests_also_where_requests_do_not_fill() {
    let knobs = Knobs {
        options: Options {
            batch: 100,
            batch_bytes: 300,
            ..options()
        },
        ..Knobs::default()
    };
    let story = Story::begin(knobs, |seen| {
        let outcomes = seen
            .items
            .iter()
            .map(|item| match item.key.starts_with("bad") {
                true => Outcome::Retry {
                    reason: "answered 500".into(),
                    maybe_applied: true,
                },
                false => Outcome::Delivered,
            });
        let reply = Reply::Each(outcomes.collect());
        Reply::After(Duration::from_millis(2), Box::new(reply))
    })
    .await;
    for number in 0..1_000 {
        story.set(&format!("good{number}"), "price", "1");
        story.set(&format!("bad{number}"), "price", "1");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let attempts = story.script.seen().len();
    let sizes = story
        .script
        .seen()
        .iter()
        .map(|seen| seen.items.len())
        .max();
    assert_eq!(sizes, Some(1));
    // 1.2 for each entity, and ten in each of 20 seconds and the one before.
    assert!(attempts <= 2_400 + 210, "{attempts} attempts at 2,000");
    tokio::time::sleep(Duration::from_secs(20)).await;
    let later = story.script.seen().len() - attempts;
    assert!((150..=310).contains(&later), "{later} retries in 20 s");
    story.channel.stop(Duration::from_millis(100)).await;
}

/// A search engine took a part of each request and rejected the rest, because its queue was full. When it
/// rejected a whole one, it counted as silent since the last request that it had taken entirely.
#[tokio::test(start_paused = true)]
async fn a_target_that_takes_a_part_of_each_request_is_not_silent() {
    let script = Script::new(|seen| {
        let throttled = Outcome::Throttled {
            reason: "rejected".into(),
            after: None,
        };
        let mut outcomes = vec![throttled; seen.items.len()];
        if outcomes.len() > 1 {
            outcomes[0] = Outcome::Delivered;
        }
        Reply::After(Duration::from_secs(1), Box::new(Reply::Each(outcomes)))
    });
    let knobs = Knobs {
        breaker: breaker::Options {
            failures_max: 1,
            ..Knobs::default().breaker
        },
        ..Knobs::default()
    };
    let target = setup(&script, knobs).target;
    let item = |number: u64| {
        let key = format!("e{number}");
        Item {
            id: DeliveryId(u128::from(number) + 1),
            entity: id(&key),
            state: number,
            sequence: Sequence(1),
            key: key.into(),
            rendering: None,
            plugin: None,
        }
    };
    for number in 0..5 {
        let mut permit = target.clone().permit(false).await.expect("a permit");
        let items = [item(2 * number), item(2 * number + 1)];
        let attempted = permit.attempt(&items, Form::Batch, Sequence(1)).await;
        assert!(attempted.is_some());
    }
    let mut permit = target.clone().permit(false).await.expect("a permit");
    let attempted = permit.attempt(&[item(100)], Form::Batch, Sequence(1)).await;
    assert!(attempted.is_some());
    assert_eq!(target.status().state, breaker::State::Flowing);
}

/// One channel got a permit and had nothing to send any more. Another one, which waited for its turn,
/// slept on for the ten seconds that it had been told.
#[tokio::test(start_paused = true)]
async fn a_turn_that_is_given_back_wakes_the_one_who_waits() {
    let knobs = Knobs {
        concurrency: 4,
        rate: Some(0.1),
        ..Knobs::default()
    };
    let target = setup(&Script::new(fine), knobs).target;
    let permit = target.clone().permit(false).await;
    assert!(permit.is_some());
    let waiting = tokio::spawn(target.permit(false));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!waiting.is_finished(), "one in ten seconds");
    drop(permit);
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert!(waiting.is_finished());
}

/// The rate of an account was kept for the first of its shops. After a restart that shop was gone from
/// the configuration, and the others began at full speed.
#[tokio::test]
async fn a_shared_pace_is_remembered_for_the_pace_and_not_for_a_target() {
    let options = |pace: Option<&str>| {
        let script = Script::new(fine);
        let mut options = setup(&script, Knobs::default()).target.options().clone();
        options.pace = pace.map(Arc::from);
        options
    };
    let memory = [&90.0_f64.to_le_bytes()[..], &0_u64.to_le_bytes(), &[2, 0]].concat();
    let quota = Quota::new(&options(Some("account")), Some(&memory));
    assert_eq!(quota.memory(), Some(memory.clone()));
    let open = |options: targets::Options, quota| {
        let clock = Clock::starting_at(START);
        let dice = fastrand::Rng::with_seed(1);
        let breaker = Knobs::default().breaker;
        TargetHandle::open(options, breaker, clock, dice, None, quota, opening()).expect("a target")
    };
    let shared = open(options(Some("account")), Some(quota));
    assert_eq!(shared.memory(), None, "the pace remembers it");
    let status = shared.status();
    assert_eq!(status.bears_per_second.map(f64::round), Some(81.0));
    assert_eq!(status.bears_in_flight, Some(3));
    assert_eq!(open(options(None), None).status().bears_in_flight, None);
}
