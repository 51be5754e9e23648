//! The behaviour of a channel when the target or a plugin fails.

use super::*;

/// Responds with these outcomes in turn, then with success.
pub(super) fn in_turn(replies: Vec<Reply>) -> impl Fn(&Seen) -> Reply + Send + Sync + 'static {
    let number = AtomicUsize::new(0);
    move |_| {
        replies
            .get(number.fetch_add(1, Ordering::SeqCst))
            .cloned()
            .unwrap_or(Reply::Status(200))
    }
}

#[tokio::test(start_paused = true)]
async fn what_fails_is_tried_again_under_the_same_id_until_it_arrives() {
    for reply in [
        Reply::Status(500),
        Reply::Status(302),
        Reply::uncertain(),
        Reply::After(Duration::from_millis(300), Box::new(Reply::uncertain())),
        Reply::Status(418),
        Reply::Each(Vec::new()),
    ] {
        let story = Story::begin(Knobs::default(), in_turn(vec![reply.clone()])).await;
        story.set("a", "price", "1");
        story.quiet().await;
        let seen = story.script.seen();
        assert_eq!(story.seen(), ["a=1", "a=1"], "{reply:?}");
        assert_eq!(seen[0].items[0].id, seen[1].items[0].id, "{reply:?}");
        assert_eq!(
            story
                .channel
                .counters()
                .count(status::DeliveryResult::Parked),
            1,
            "{reply:?}"
        );
        assert_eq!(
            story.channel.last_error(story.ordinal("a")),
            None,
            "all is well again"
        );
        story.end().await;
    }
}

// Deletions that an earlier request may undo are made once more. A search engine that had only such ones
// to take counted as down after five, and everything waited.
#[tokio::test(start_paused = true)]
async fn what_must_be_done_once_more_is_no_failure() {
    let known: Mutex<Vec<EntityId>> = Mutex::default();
    let script = move |seen: &Seen| {
        let (entity, mut known) = (&seen.items[0].entity, known.lock().unwrap());
        if known.contains(entity) {
            return Reply::Status(200);
        }
        known.push(entity.clone());
        Reply::All(Outcome::Repeat {
            reason: "deleted, for now".into(),
            after: Duration::from_secs(75),
        })
    };
    let story = Story::begin(Knobs::default(), script).await;
    for number in 0..40 {
        story.set(&format!("lamp{number}"), "price", "1");
    }
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(story.seen().len(), 40, "each was done once");
    assert_eq!(story.channel.status().state, status::State::Flowing);
    story.set("lamp7", "price", "2");
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(story.seen()[40..], ["lamp7=2"], "it has changed meanwhile");
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(story.seen().len(), 80);
    assert_eq!(story.channel.status().owed.total(), 0);
    story.end().await;
}

// Two products that a shop could not process were its only probes after a quiet moment: it counted as
// down for as long as they failed, and all others waited, until somebody restarted Weir.
#[tokio::test(start_paused = true)]
async fn entities_that_a_target_cannot_process_stop_no_others() {
    for (poisons, good) in [(2, 40), (8, 40), (40, 3)] {
        let script = |seen: &Seen| {
            let poison = seen.items[0].entity.key.starts_with("poison");
            Reply::Status(if poison { 500 } else { 200 })
        };
        let story = Story::begin(Knobs::default(), script).await;
        for number in 0..poisons {
            story.set(&format!("poison{number}"), "price", "1");
        }
        for number in 0..good {
            tokio::time::sleep(Duration::from_millis(100)).await;
            story.set(&format!("good{number}"), "price", "1");
        }
        story
            .until("all good ones are delivered", |story| {
                (0..good).all(|n| story.standing(&format!("good{n}")) == Standing::Delivered)
            })
            .await;
        // The retries of the others continue, and say nothing new about the target.
        tokio::time::sleep(Duration::from_secs(30)).await;
        let state = story.channel.status().state;
        assert!(
            good < poisons || state == status::State::Flowing,
            "{state:?}"
        );
        story.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_target_that_fails_for_some_keys_for_ever_gets_all_others() {
    for seed in 0..20 {
        let mut dice = fastrand::Rng::with_seed(seed);
        let share = dice.f64() * 0.6;
        let bad: Vec<bool> = (0..60).map(|_| dice.f64() < share).collect();
        let fails = bad.clone();
        let script = move |seen: &Seen| {
            let number: usize = seen.items[0].entity.key[1..].parse().expect("a number");
            Reply::Status(if fails[number] { 500 } else { 200 })
        };
        let story = Story::begin(Knobs::default(), script).await;
        for _ in 0..200 {
            story.set(
                &format!("e{}", dice.usize(..60)),
                "price",
                &dice.u32(..).to_string(),
            );
            tokio::time::sleep(Duration::from_millis(dice.u64(..30))).await;
        }
        for number in 0..60 {
            story.set(&format!("e{number}"), "price", "1");
        }
        story
            .until("all others are delivered", |story| {
                let mut numbers = (0..60).filter(|n| !bad[*n]);
                numbers.all(|n| story.standing(&format!("e{n}")) == Standing::Delivered)
            })
            .await;
        story.end().await;
    }
}

// A target was down for an hour. Each time that it was probed, the log said that no delivery failed any more:
// the only one that had failed was on its way, and nothing else had failed for ten seconds.
#[tokio::test(start_paused = true)]
async fn deliveries_are_well_again_when_they_arrive_and_not_while_one_is_tried() {
    for failures_max in [1, 5] {
        let (log, _ends) = Log::begin();
        let broken = Arc::new(AtomicBool::new(true));
        let switch = broken.clone();
        let script = move |_: &Seen| match switch.load(Ordering::SeqCst) {
            true => Reply::After(Duration::from_secs(15), Box::new(Reply::Status(500))),
            false => Reply::Status(200),
        };
        let knobs = Knobs {
            breaker: breaker::Options {
                first: Duration::from_secs(30),
                cap: Duration::from_secs(30),
                failures_max,
                ..breaker::Options::default()
            },
            ..Knobs::default()
        };
        let story = Story::begin(knobs, script).await;
        story.set("a", "price", "1");
        let minutes = Duration::from_secs(10 * 60);
        story
            .until_within(minutes, "tried", |story| story.seen().len() == 5)
            .await;
        assert_eq!(log.count("deliveries of this channel fail"), 1);
        assert_eq!(log.count("no delivery of this channel fails any more"), 0);
        broken.store(false, Ordering::SeqCst);
        story
            .until_within(minutes, "well again", |_| {
                log.count("no delivery of this channel fails any more") == 1
            })
            .await;
        assert_eq!(story.standing("a"), Standing::Delivered);
        story.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_retry_carries_the_newest_state() {
    let broken = Arc::new(AtomicBool::new(true));
    let switch = broken.clone();
    let script = move |_: &Seen| {
        Reply::Status(if switch.load(Ordering::SeqCst) {
            500
        } else {
            200
        })
    };
    let story = Story::begin(Knobs::default(), script).await;
    story.set("a", "price", "1");
    story
        .until("parked", |story| story.channel.status().owed.parked == 1)
        .await;
    let error = story
        .channel
        .last_error(story.ordinal("a"))
        .expect("an error");
    assert_eq!(&*error, "answered 500");
    story.set("a", "price", "2");
    broken.store(false, Ordering::SeqCst);
    story.quiet().await;
    assert_eq!(story.seen().last().map(String::as_str), Some("a=2"));
    assert!(
        story.seen()[..story.seen().len() - 1]
            .iter()
            .all(|line| line == "a=1" || line == "a=2")
    );
    story.end().await;
}

/// A request timed out, although the target had applied it. Then the value returned to what had
/// been delivered before: the target seems to hold it already, but does not.
#[tokio::test(start_paused = true)]
async fn an_old_value_is_sent_again_after_a_timeout_that_was_applied() {
    let held: Arc<Mutex<BTreeMap<String, String>>> = Arc::default();
    let shop = held.clone();
    let script = move |seen: &Seen| {
        for line in lines(seen) {
            let (key, price) = line.split_once('=').expect("a price");
            lock(&shop).insert(key.to_owned(), price.to_owned());
            if price == "2" {
                return Reply::After(Duration::from_millis(100), Box::new(Reply::uncertain()));
            }
        }
        Reply::Status(200)
    };
    let slow_retry = retry::Options {
        first: Duration::from_millis(400),
        ..options().retry
    };
    let knobs = Knobs {
        options: Options {
            retry: slow_retry,
            ..options()
        },
        ..Knobs::default()
    };
    let story = Story::begin(knobs, script).await;
    story.set("a", "price", "1");
    story.quiet().await;
    story.set("a", "price", "2");
    story
        .until("the timeout", |story| story.seen().len() == 2)
        .await;
    story.set("a", "price", "1");
    story.quiet().await;
    assert_eq!(story.seen().last().map(String::as_str), Some("a=1"));
    assert_eq!(lock(&held)["a"], "1", "the target holds the newest state");
    story.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_batch_with_one_culprit_is_halved_until_it_is_alone() {
    let script = |seen: &Seen| {
        let bad = seen.items.iter().any(|item| &*item.key == "bad");
        Reply::Status(if bad { 400 } else { 200 })
    };
    let story = Story::begin(
        Knobs {
            options: Options {
                batch: 16,
                ..options()
            },
            ..Knobs::default()
        },
        script,
    )
    .await;
    story.channel.pause().await.expect("it runs");
    for number in 0..15 {
        story.set(&format!("e{number}"), "price", "1");
    }
    story.set("bad", "price", "1");
    story.channel.resume().await.expect("it runs");
    story.quiet().await;
    assert_eq!(story.standing("bad"), Standing::Refused);
    assert!((0..15).all(|number| story.standing(&format!("e{number}")) == Standing::Delivered));
    assert!(
        story.script.seen().len() <= 12,
        "{} requests",
        story.script.seen().len()
    );
    assert_eq!(story.channel.status().state, status::State::Flowing);

    let refused = story.channel.queue().refused(None, 10);
    assert_eq!(
        (
            refused.len(),
            refused[0].failure.code.as_str(),
            refused[0].failure.message.as_str()
        ),
        (1, "refused", "answered 400")
    );
    assert_eq!(
        story
            .channel
            .redrive(vec![refused[0].ordinal])
            .await
            .expect("it runs"),
        1
    );
    story.quiet().await;
    assert_eq!(
        story.standing("bad"),
        Standing::Refused,
        "a redrive tries again"
    );
    story.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_target_that_says_401_or_404_is_not_asked_for_each_entity() {
    for status in [401, 403, 404, 405] {
        let open = Arc::new(AtomicBool::new(false));
        let switch = open.clone();
        let script = move |_: &Seen| {
            Reply::Status(if switch.load(Ordering::SeqCst) {
                200
            } else {
                status
            })
        };
        let story = Story::begin(
            Knobs {
                concurrency: 2,
                ..Knobs::default()
            },
            script,
        )
        .await;
        for number in 0..100 {
            story.set(&format!("e{number}"), "price", "1");
        }
        story
            .until("tripped", |story| {
                story.channel.status().state == status::State::Tripped
            })
            .await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(
            story.script.seen().len() < 15,
            "{status}: {} requests",
            story.script.seen().len()
        );
        assert_eq!(
            story.channel.status().owed.refused,
            0,
            "{status}: the trouble is the target's"
        );
        open.store(true, Ordering::SeqCst);
        story.quiet().await;
        assert!(
            (0..100).all(|n| story.standing(&format!("e{n}")) == Standing::Delivered),
            "{status}"
        );
        story.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn gone_pauses_the_channel_and_it_stays_paused() {
    let story = Story::begin(Knobs::default(), in_turn(vec![Reply::Status(410)])).await;
    story.set("a", "price", "1");
    story
        .until("paused", |story| {
            story.channel.status().state == status::State::Paused
        })
        .await;
    assert_eq!(story.channel.status().reason, "answered 410");
    tokio::time::sleep(Duration::from_millis(150)).await;
    assert_eq!(story.seen().len(), 1);
    let paused = |store: &Memory, setup: &Setup| {
        store
            .join("storefront", &setup.subscription)
            .wait()
            .expect("it joins")
            .1
            .paused
    };
    assert!(
        paused(&story.store, &story.channel.setup()),
        "over a restart too"
    );
    story.channel.resume().await.expect("it runs");
    story.quiet().await;
    assert_eq!(story.seen(), ["a=1", "a=1"]);
    story.end().await;
}

/// A price list was wrong and every price was zero: a filter on the price would have emptied the
/// shop.
#[tokio::test(start_paused = true)]
async fn a_filter_fed_zeros_does_not_empty_the_shop() {
    let chain = Chain("for-sale", |view: &View| match price(view) {
        "0" => EntityVerdict::Filtered(0),
        _ => EntityVerdict::Passed,
    });
    let max = WithdrawMax {
        share: 0.02,
        per: Duration::from_secs(3600),
        min: 10,
    };
    let knobs = Knobs {
        chain: Some(Arc::new(chain)),
        options: Options {
            withdraw_max: max,
            ..options()
        },
        ..Knobs::default()
    };
    let story = Story::begin(knobs, fine).await;
    for number in 0..100 {
        story.set(&format!("e{number}"), "price", "7");
    }
    story.quiet().await;
    for number in 0..100 {
        story.set(&format!("e{number}"), "price", "0");
    }
    story.set("new", "price", "8");
    let gone = |story: &Story| {
        story
            .seen()
            .iter()
            .filter(|line| line.ends_with(" gone"))
            .count()
    };
    story
        .until("the rest is held", |story| {
            story.channel.status().owed.held == 90
        })
        .await;
    story
        .until("what is always let through is gone", |story| {
            gone(story) == 10
        })
        .await;
    story
        .until("others flow", |story| {
            story.seen().contains(&"new=8".to_owned())
        })
        .await;
    assert_eq!(gone(&story), 10);
    assert_eq!(
        story.channel.counters().count(status::DeliveryResult::Held),
        90
    );

    for number in 0..20 {
        story.set(&format!("e{number}"), "price", "9");
    }
    let mended = |story: &Story| {
        (0..20).all(|n| {
            matches!(
                story.standing(&format!("e{n}")),
                Standing::Delivered | Standing::Suppressed
            )
        })
    };
    story.until("what was repaired is not held", mended).await;
    let held = story.channel.status().owed.held;
    assert!(held <= 80, "{held} are held");
    assert_eq!(story.channel.confirm().await.expect("it runs") as u64, held);
    story.quiet().await;
    assert!(
        (20..100).all(|n| story.standing(&format!("e{n}")) == Standing::Withdrawn),
        "a confirmation releases them"
    );
    story.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_hanging_target_does_not_hold_up_a_stop_and_nothing_is_lost() {
    let store = Arc::new(Memory::default());
    let hanging = Script::new(|_| Reply::Hang);
    let story = Story::on(store.clone(), hanging, Knobs::default()).await;
    for number in 0..50 {
        story.set(&format!("e{number}"), "price", "1");
    }
    story
        .until("requests are out", |story| !story.seen().is_empty())
        .await;
    let queue = story.channel.queue();
    story.end().await;
    let owed = queue.owed();
    assert!(owed.parked >= 3, "what was in flight is parked: {owed:?}");
    assert!(owed.parked + owed.lanes.iter().sum::<u64>() >= 50);
    store.save(Timestamp(0)).await.expect("it saves");

    let story = Story::on(store, Script::new(fine), Knobs::default()).await;
    story.quiet().await;
    let mut seen = story.seen();
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 50, "all arrive after the next start");
    story.end().await;
}

#[tokio::test(start_paused = true)]
async fn too_many_parked_entities_stop_first_attempts() {
    let never = breaker::Options {
        failures_max: u32::MAX,
        ..Knobs::default().breaker
    };
    let open = Arc::new(AtomicBool::new(false));
    let switch = open.clone();
    let script = move |_: &Seen| {
        Reply::Status(if switch.load(Ordering::SeqCst) {
            200
        } else {
            500
        })
    };
    let knobs = Knobs {
        breaker: never,
        parked_max: 20,
        ..Knobs::default()
    };
    let story = Story::begin(knobs, script).await;
    for number in 0..500 {
        story.set(&format!("e{number}"), "price", "1");
    }
    story
        .until("tripped", |story| {
            story.channel.status().state == status::State::Tripped
        })
        .await;
    assert_eq!(
        story.channel.status().reason,
        "20 entities are waiting for a retry"
    );
    tokio::time::sleep(Duration::from_millis(200)).await;
    let keys: std::collections::HashSet<String> = story.seen().into_iter().collect();
    // Only those that were in flight when the limit was reached.
    assert!(keys.len() < 250, "{} entities were tried", keys.len());
    open.store(true, Ordering::SeqCst);
    story
        .until("all delivered", |story| {
            let owed = story.channel.status().owed;
            owed.parked == 0 && owed.lanes == [0; 3] && owed.in_flight == 0
        })
        .await;
    story.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_plugin_that_panics_in_the_host_costs_only_its_turn() {
    let first = AtomicBool::new(true);
    let chain = Chain("panics", move |_: &View| {
        assert!(!first.swap(false, Ordering::SeqCst), "once");
        EntityVerdict::Passed
    });
    let story = Story::begin(
        Knobs {
            chain: Some(Arc::new(chain)),
            ..Knobs::default()
        },
        fine,
    )
    .await;
    story.set("a", "price", "1");
    story.quiet().await;
    assert_eq!(story.seen(), ["a=1"]);
    story.end().await;
}

/// A loop that waited for a time in the past turned as fast as it could, and starved everything
/// else on its core.
#[tokio::test(start_paused = true)]
async fn a_channel_that_waits_does_not_spin() {
    for batch in [1, 10] {
        let knobs = Knobs {
            options: Options { batch, ..options() },
            ..Knobs::default()
        };
        let story = Story::begin(knobs, |_| Reply::Hang).await;
        for number in 0..100 {
            story.set(&format!("e{number}"), "price", "1");
        }
        story
            .until("requests are out", |story| story.seen().len() >= 3)
            .await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        let before = story.channel.counters().turns();
        tokio::time::sleep(Duration::from_millis(200)).await;
        let turns = story.channel.counters().turns() - before;
        assert!(turns < 20, "{turns} turns in 200 ms with nothing to do");
        story.end().await;
    }
}

/// With a hundred channels, waking each of them for each commit costs more than the commit.
#[tokio::test(start_paused = true)]
async fn a_channel_that_commits_do_not_concern_looks_up_now_and_then() {
    let story = Story::begin(Knobs::default(), fine).await;
    story.set("a", "stock", "1");
    tokio::time::sleep(Duration::from_millis(100)).await;
    let (before, begun) = (
        story.channel.counters().turns(),
        tokio::time::Instant::now(),
    );
    for number in 0..300 {
        story.set("a", "stock", &number.to_string());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let (turns, passed) = (story.channel.counters().turns() - before, begun.elapsed());
    // It turns a few times for each check; if each commit woke it, it would turn 300 times.
    let most = 4 * (passed.as_millis() as u64 / 40 + 1);
    assert!(
        turns <= most.min(290),
        "{turns} turns in {passed:?} for commits of others, {most} are enough"
    );
    story.set("a", "price", "1");
    story.quiet().await;
    assert_eq!(story.seen(), ["a=1"], "it rests, but misses nothing");
    story.end().await;
}
