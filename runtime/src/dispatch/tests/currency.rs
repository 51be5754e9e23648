//! A delivery carries the entity as it is when its request starts, however long it waited for a slot
//! or for the rate; and nothing urgent waits behind what was chosen before it.

use std::time::SystemTime;

use super::*;

/// The limits of a slow target, with the longest time that one request takes its turn.
fn slow() -> [(Knobs, Duration, &'static str); 3] {
    let second = Duration::from_secs(1);
    [
        (
            Knobs {
                concurrency: 8,
                ..Knobs::default()
            },
            second,
            "one second a request",
        ),
        (
            Knobs {
                concurrency: 1,
                ..Knobs::default()
            },
            second,
            "one at a time",
        ),
        (
            Knobs {
                concurrency: 8,
                rate: Some(1.0),
                ..Knobs::default()
            },
            Duration::from_millis(1),
            "one a second",
        ),
    ]
}

fn after(wait: Duration) -> impl Fn(&Seen) -> Reply + Send + Sync + 'static {
    move |_| Reply::After(wait, Box::new(Reply::Status(200)))
}

/// 2,000 products changed, and before a shop that takes one a second had them, all changed again.
/// 64 of the old values, rendered long before, were sent after the new ones were known.
#[tokio::test(start_paused = true)]
async fn a_value_that_changed_before_its_request_started_is_not_sent() {
    for (knobs, wait, limits) in slow() {
        let story = Story::begin(knobs, after(wait)).await;
        for number in 0..100 {
            story.set(&format!("e{number}"), "price", "1");
        }
        tokio::time::sleep(Duration::from_millis(3_500)).await;
        for number in 0..100 {
            story.set(&format!("e{number}"), "price", "2");
        }
        let changed = story.channel.setup().target.clock().wall();
        tokio::time::sleep(Duration::from_secs(120)).await;
        let old: Vec<_> = story
            .script
            .seen()
            .into_iter()
            .filter(|seen| seen.now > changed && !lines(seen)[0].ends_with("=2"))
            .collect();
        assert_eq!(old.len(), 0, "{limits}: {old:?}");
        assert!(story.seen().iter().any(|line| line.ends_with("=1")));
        story.quiet_within(Duration::from_secs(60)).await;
        story.end().await;
    }
}

/// A price that changes ten times a second was 25 s old when it was sent.
#[tokio::test(start_paused = true)]
async fn an_entity_that_changes_all_the_time_is_sent_as_it_is_and_does_not_starve() {
    for (knobs, wait, limits) in slow() {
        let story = Story::begin(knobs, after(wait)).await;
        let began = SystemTime::UNIX_EPOCH + Duration::from_millis(START.0);
        for number in 0..300 {
            story.set("hot", "price", &number.to_string());
            story.set(&format!("e{number}"), "price", "1");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let sent = story.script.seen();
        let hot: Vec<_> = sent
            .iter()
            .filter(|seen| &*seen.items[0].key == "hot")
            .collect();
        assert!(hot.len() >= 2, "{limits}: sent {} times", hot.len());
        for seen in hot {
            let value: u64 = lines(seen)[0]["hot=".len()..].parse().expect("a number");
            let now = seen.now.duration_since(began).expect("later").as_millis() as u64;
            let age = now.saturating_sub(100 * (value + 1));
            assert!(age <= 10, "{limits}: {value} is {age} ms old at {now} ms");
        }
        story.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_urgent_change_is_in_the_next_request() {
    for (knobs, wait, limits) in slow() {
        let story = Story::begin(knobs, after(wait)).await;
        for number in 0..40 {
            story.set(&format!("e{number}"), "price", "1");
        }
        tokio::time::sleep(Duration::from_millis(2_500)).await;
        let before = story.script.seen().len();
        story.set_in(Lane::Urgent, "hot", "price", "1");
        story
            .until("it is sent", |story| story.seen().contains(&"hot=1".into()))
            .await;
        let place = story.seen()[before..]
            .iter()
            .position(|line| line == "hot=1");
        assert_eq!(place, Some(0), "{limits}: {:?}", story.seen());
        story.end().await;
    }
}

/// Nine events in `batch = 100` made four requests: one for each lane, and one more.
#[tokio::test(start_paused = true)]
async fn what_is_there_when_a_request_starts_goes_in_it() {
    let knobs = |rate| Knobs {
        options: Options {
            batch: 100,
            ..options()
        },
        rate,
        ..Knobs::default()
    };
    let story = Story::begin(knobs(None), fine).await;
    for (number, lane) in [Lane::Urgent, Lane::Normal, Lane::Bulk]
        .into_iter()
        .cycle()
        .take(9)
        .enumerate()
    {
        story.set_in(lane, &format!("e{number}"), "price", "1");
    }
    story.quiet().await;
    assert_eq!(story.script.seen().len(), 1, "{:?}", story.seen());
    assert_eq!(story.seen().len(), 9);
    story.end().await;

    let story = Story::begin(knobs(Some(1.0)), fine).await;
    for number in 0..9 {
        story.set(&format!("e{number}"), "price", "1");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    story.quiet().await;
    let sizes: Vec<_> = story
        .script
        .seen()
        .iter()
        .map(|seen| seen.items.len())
        .collect();
    assert_eq!(sizes, [1, 8], "the first at once, the rest a second later");
    story.end().await;
}

/// A plugin that drops almost everything must not be called for one entity at a time, because one
/// request at a time is possible.
#[tokio::test(start_paused = true)]
async fn what_needs_no_sending_is_rendered_in_large_pieces_at_any_rate() {
    let calls = Arc::new(AtomicUsize::new(0));
    struct Counted(Arc<AtomicUsize>);
    impl Render for Counted {
        fn render<'a>(
            &'a self,
            views: Arc<Vec<View>>,
            _: Priority,
            _: &'a Arc<Room>,
        ) -> BoxFuture<'a, Vec<EntityVerdict>> {
            self.0.fetch_add(1, Ordering::SeqCst);
            Box::pin(async move { views.iter().map(|_| EntityVerdict::Filtered(0)).collect() })
        }

        fn label(&self) -> Arc<str> {
            "counted".into()
        }
    }
    let knobs = Knobs {
        rate: Some(1.0),
        chain: Some(Arc::new(Counted(calls.clone()))),
        ..Knobs::default()
    };
    let story = Story::begin(knobs, fine).await;
    for number in 0..2_000 {
        story.set(&format!("e{number}"), "price", "1");
    }
    let began = tokio::time::Instant::now();
    story.quiet().await;
    assert!(began.elapsed() < Duration::from_secs(1));
    let calls = calls.load(Ordering::SeqCst);
    assert!(calls < 60, "{calls} calls for 2,000 entities");
    story.end().await;
}

/// A price changed and changed back while its request waited for a slot, so that nothing had to be
/// sent. The slot stayed empty for 100 ms, though another price was there.
#[tokio::test(start_paused = true)]
async fn a_slot_whose_entity_needs_no_request_is_used_for_the_next_one_at_once() {
    let second = Duration::from_secs(1);
    let script = move |seen: &Seen| match lines(seen)[0].as_str() {
        "slow=1" => Reply::After(second, Box::new(Reply::Status(200))),
        _ => Reply::Status(200),
    };
    let knobs = Knobs {
        concurrency: 1,
        ..Knobs::default()
    };
    let story = Story::begin(knobs, script).await;
    story.set("back", "price", "1");
    story.quiet().await;
    story.set("slow", "price", "1");
    let ms = Duration::from_millis;
    tokio::time::sleep(ms(100)).await;
    let sent = story.script.seen().last().expect("the slow one").now;
    story.set("back", "price", "2");
    tokio::time::sleep(ms(100)).await;
    story.set("next", "price", "1");
    tokio::time::sleep(ms(100)).await;
    story.set("back", "price", "1");
    story.quiet().await;
    assert_eq!(story.seen(), ["back=1", "slow=1", "next=1"]);
    let next = story.script.seen().last().expect("the next one").now;
    let idle = next
        .duration_since(sent + second)
        .expect("after the slow one");
    assert!(idle <= ms(10), "the slot was empty for {idle:?}");
    story.end().await;
}
